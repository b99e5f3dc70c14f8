"""The Rashomon set: who is a member, how sure that is, and how to compare sets of different size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions
from rashomon_core.errors import UsageError
from rashomon_core.tiles import SpillArray
from rashomon_core.vectors import as_label_view, as_losses, as_weights

from .decisions import with_reference
from .sums import total
from .visit import Request, visit

__all__ = [
    "pattern_count",
    "rashomon_mask",
    "selection_noise",
    "size_matched_ambiguity",
    "size_matched_max",
    "size_matched_pairwise_ambiguity",
]

Array = npt.NDArray[Any]


def rashomon_mask(
    loss: object,
    epsilon: float,
    *,
    reference: int | None = None,
    reference_loss: float | None = None,
    relative: bool = False,
    n: int | None = None,
) -> Array:
    """Return which models are in the Rashomon set: loss at most the reference's plus epsilon.

    Parameters
    ----------
    loss : (M,) array-like
        One loss per model, +inf allowed; with ``n``, counts of errors among n samples.
    epsilon : float
        >= 0. L(k) <= L(ref) + epsilon; relative: L(k) <= (1 + epsilon) L(ref).
    reference : int, optional
        Index of the reference model; default the best one.
    reference_loss : float, optional
        The reference's loss itself, in place of a model.
    n : int, optional
        Number of samples of count-valued losses. Counts are compared as counts,
        errors_k - errors_ref <= floor(epsilon n + 1e-9), so that members exactly on the boundary do not fall to
        rounding; other losses are compared with 4 ulp.

    Returns
    -------
    (M,) bool

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.rashomon_mask([0.1, 0.2, 0.3], 0.1)
    array([ True,  True, False])
    >>> rc.rashomon_mask([10, 13, 14], 0.03, n=100)
    array([ True,  True, False])
    """
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise UsageError(f"epsilon={epsilon} must be finite and not negative")
    values = as_losses(loss)
    base = base_loss(values, reference, reference_loss)
    keys, limits = limits_of(values, np.array([epsilon], dtype=np.float64), base, relative=relative, n=n)
    return np.asarray(keys <= limits[0])


def base_loss(values: Array, reference: int | None, reference_loss: float | None) -> Any:
    """Return the loss that epsilon is added to: the best one, a model's, or a stated one."""
    if reference is not None and reference_loss is not None:
        raise UsageError("reference and reference_loss exclude each other")
    if reference is not None and not 0 <= reference < len(values):
        raise UsageError(f"reference model {reference} is not one of 0..{len(values) - 1}")
    if reference_loss is not None:
        if not reference_loss == reference_loss:
            raise UsageError("reference_loss is NaN")
        return reference_loss
    return values.min() if reference is None else values[reference]


def limits_of(
    values: Array, epsilons: Array, base: Any, *, relative: bool = False, n: int | None = None
) -> tuple[Array, Array]:
    """Return (M,) keys and (E,) limits: model k is in the set of an epsilon when its key is at most the limit."""
    if n is not None:
        return values - base, np.floor(epsilons * float(base if relative else n) + 1e-9)
    limits = float(base) * (1 + epsilons) if relative else float(base) + epsilons
    finite = np.isfinite(limits)
    return values, np.where(finite, limits + 4 * np.spacing(np.abs(np.where(finite, limits, 0.0))), limits)


def selection_noise(planes: SpillArray, target: Array, target_decisions: Array, reference: int, errors: Array) -> float:
    """Return the median over the models of the paired noise of a loss difference to the reference model.

    sqrt(b + c - (b - c)^2 / n) / n from the discordant counts b, c of a model against the reference on the selection
    split: samples that one of them gets right and the other does not.

    Parameters
    ----------
    planes : (M, G, P, 8) decisions;  target : (G, P, 8) planes of the target's answers
    target_decisions : (N,);  reference : index of the reference model;  errors : (M,) int64 mismatches with the target
    """
    M, G = planes.shape[:2]
    n = len(target_decisions)
    own = planes.read(slice(reference, reference + 1))[0]
    wrong = np.bitwise_or.reduce(own ^ target, axis=1)  # samples the reference gets wrong
    right = ~wrong  # bits behind the last sample never differ
    worse = np.zeros(M, dtype=np.int64)
    step = max(1, (1 << 24) // max(1, G * planes.shape[2] * 64))
    for k in range(0, M, step):
        block = planes.read(slice(k, min(k + step, M)))
        _decisions.versus(block, np.ascontiguousarray(target), worse[k : k + step], mask=np.ascontiguousarray(right))
    both = errors - worse
    better = errors[reference] - both
    b, c = worse.astype(np.float64), better.astype(np.float64)
    others = np.arange(M) != reference
    if not others.any():
        return 0.0
    return float(np.median(np.sqrt(np.maximum(b + c - (b - c) ** 2 / n, 0.0))[others]) / n)


def pattern_count(planes: SpillArray, members: Array | None = None) -> tuple[int, int | None]:
    """Return the numbers of distinct decision vectors among all models and among the members."""
    import hashlib

    digests = []
    for k in range(planes.shape[0]):
        digests.append(hashlib.blake2b(planes.read(slice(k, k + 1)).tobytes(), digest_size=16).digest())
    chosen = None if members is None else len({d for d, m in zip(digests, members, strict=True) if m})
    return len(set(digests)), chosen


# --- size-matched values ----------------------------------------------------------------------------------------


def none_of(marked: Array, M: int, m: int) -> Array:
    """Return C(M - a, m) / C(M, m) for integers a: the chance that a random m-subset has none of a marked models."""
    return none_by_count(M, m)[marked]


def none_by_count(M: int, m: int) -> Array:
    """Return :func:`none_of` for a = 0..M."""
    if not 1 <= m <= M:
        raise UsageError(f"size {m} is not between 1 and the {M} models")
    a = np.arange(M + 1, dtype=np.float64)
    chance = np.ones(M + 1)
    for j in range(m):
        chance *= np.maximum(M - a - j, 0.0) / (M - j)
    return chance


def histogram(marked: Array, M: int, weights: Array | None = None) -> Array:
    """Return how many samples (or what weight) have a = 0..M marked models, (M + 1,) float64."""
    return np.bincount(marked, weights=weights, minlength=M + 1).astype(np.float64)


def expected_share(marked: Array, chance_of_none: Array) -> float:
    """Return the mean of 1 - chance over samples, from their :func:`histogram`."""
    return float((marked * (1.0 - chance_of_none)).sum() / marked.sum())


def size_matched_ambiguity(
    labels: object,
    reference: object,
    size: int,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the expected ambiguity of a random subset of ``size`` models, in closed form.

    mean_i [1 - C(M - a_i, m) / C(M, m)], a_i the models that differ from the reference on i.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.size_matched_ambiguity([[0, 1], [0, 0]], [0, 1], 1)
    0.25
    """
    view = as_label_view(labels)
    view, decisions = with_reference(view, reference, "reference")
    found = visit(view, Request(agree=decisions), threads=threads, memory=memory)
    assert found.agree is not None
    return matched_mean(none_of(view.n_models - found.agree, view.n_models, size), sample_weight)


def matched_mean(chance_of_none: Array, sample_weight: object = None) -> float:
    """Return the (weighted) mean of 1 - chance."""
    w = as_weights(sample_weight, len(chance_of_none))
    return total(1.0 - chance_of_none, w) / (len(chance_of_none) if w is None else total(w))


def size_matched_pairwise_ambiguity(
    labels: object,
    size: int,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the expected pairwise ambiguity of a random subset of ``size`` models, in closed form.

    mean_i [1 - sum_c C(v_ic, m) / C(M, m)], v the votes.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.size_matched_pairwise_ambiguity([[0, 1], [0, 0], [0, 0]], 2).__round__(6)
    0.333333
    """
    view = as_label_view(labels)
    found = visit(view, Request(votes=True), threads=threads, memory=memory)
    assert found.votes is not None
    M = view.n_models
    chance = none_of(M - found.votes, M, size).sum(axis=1)
    return matched_mean(chance, sample_weight)


def size_matched_max(values: object, size: int) -> float:
    """Return the expected maximum of ``values`` (M,) over a random subset of ``size`` models, in closed form.

    sum_j x_(j) C(M - 1 - j, m - 1) / C(M, m) with x sorted descending.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.size_matched_max([1.0, 0.0], 1)
    0.5
    """
    x = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    chance = none_by_count(len(x), size)
    return float(np.dot(x, chance[:-1] - chance[1:]))
