"""Metrics of decisions: who answers differently, how often, and on whom.

Notation: models k = 1..M, samples i = 1..N, decisions d[k, i], reference r[i]. Ties in scores go to the lowest
class. All counts are exact integers; shares are counts over N, or weighted sums over the sum of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.tiles import SpillArray, parse_memory, parse_threads
from rashomon_core.vectors import as_decisions, as_label_view, as_score_view, as_weights

from .pairs import farthest_pair
from .sums import count_of, share, total
from .visit import Reference, Request, settle_classes, visit

__all__ = [
    "ambiguity",
    "ambiguous_samples",
    "correct_fidelity",
    "decide",
    "decision_planes",
    "disagreement_rate",
    "discrepancy",
    "fidelity",
    "pairwise_ambiguity",
    "pairwise_discrepancy",
    "self_consistency",
    "viable_decisions",
    "votes",
]

Array = npt.NDArray[Any]


def decide(
    probs: object,
    *,
    threshold: float | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the decision of every model on every sample.

    Parameters
    ----------
    probs : (M, N, C) or (M, N) array-like of floats, or Predictions
        Scores; (M, N) is P(class 1).
    threshold : float, optional
        Binary scores only: 1 where P(class 1) >= threshold, compared exactly. Without it: the largest score, ties
        to the lowest class; for (M, N) scores 1 where P(class 1) > .5, which is the same rule.
    threads, memory : see :func:`rashomon_core.profile`

    Returns
    -------
    (M, N) uint8, or uint16 for more than 256 classes

    Raises
    ------
    InvalidInputError
        For NaN, infinity, negative probabilities and rows that do not sum to 1.

    Notes
    -----
    O(M N C), one pass.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.decide(np.array([[[0.2, 0.8], [0.5, 0.5]]]))
    array([[1, 0]], dtype=uint8)
    """
    view = as_score_view(probs)
    if threshold is not None and view.n_classes != 2:
        raise UsageError(f"a threshold is for two classes, and there are {view.n_classes}")
    found = visit(view, Request(decisions=True, threshold=threshold), threads=threads, memory=memory).decisions
    assert found is not None
    return found


def _view(labels: object) -> Predictions:
    return as_label_view(labels)


def _against(
    labels: object,
    reference: object,
    name: str,
    sample_weight: object,
    threads: int | None,
    memory: int | str | None,
    *,
    union: bool = False,
) -> tuple[Array, Array | None, Array | None, Predictions]:
    """Return mismatch counts (or weights) of every model, the union of mismatches, the weights, the view."""
    view = _view(labels)
    view, decisions = with_reference(view, reference, name)
    w = as_weights(sample_weight, view.n_samples)
    found = visit(
        view,
        Request(references=[Reference(name, decisions, union=union)], weights=w),
        threads=threads,
        memory=memory,
    )
    counts = found.mismatches[name] if w is None else found.mismatch_weights[name]
    return counts, found.unions.get(name), w, view


def with_reference(view: Predictions, reference: object, name: str) -> tuple[Predictions, Array]:
    """Return the view and (N,) reference decisions; without a declared number of classes it may bring further ones."""
    if view.kind == "labels" and view.declared_classes is None:
        raw = as_decisions(reference, view.n_samples, None, name, view.class_names)
        view = with_classes(view, max(view.n_classes, int(raw.max()) + 1))
    return view, as_decisions(reference, view.n_samples, view.n_classes, name, view.class_names)


def with_classes(view: Predictions, n_classes: int) -> Predictions:
    """Return the view with a stated number of classes, which scores must have."""
    return Predictions.from_source(
        view.source,
        kind=view.kind,
        n_classes=n_classes,
        model_ids=view.model_ids,
        sample_ids=view.sample_ids,
        class_names=view.class_names,
        renormalize=view.renormalize,
        row_tolerance=view.row_tolerance,
    )


def _shares(counts: Array, n: int, w: Array | None) -> Array:
    result: Array = counts / (n if w is None else total(w))
    return result


def fidelity(
    labels: object,
    target: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the share of samples on which each model answers like the target.

    Parameters
    ----------
    labels : (M, N) array-like of integers, or Predictions (scores are decided)
    target : (N,) array-like of class indices
    sample_weight : (N,) array-like, optional
        Finite, >= 0, not all 0.

    Returns
    -------
    (M,) float64

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.fidelity([[0, 1, 1, 0], [0, 1, 0, 1]], [0, 1, 1, 1])
    array([0.75, 0.75])
    """
    counts, _, w, view = _against(labels, target, "target", sample_weight, threads, memory)
    if w is None:
        return (view.n_samples - counts) / view.n_samples
    return 1.0 - _shares(counts, view.n_samples, w)


def correct_fidelity(
    labels: object,
    target: object,
    y: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the share of samples on which a model answers like the target and both are right; (M,) float64.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.correct_fidelity([[0, 1, 1, 0]], target=[0, 1, 1, 1], y=[0, 0, 1, 1])
    array([0.5])
    """
    view = _view(labels)
    truth = as_decisions(y, view.n_samples, view.declared_classes, "y", view.class_names)
    view, t = with_reference(view, target, "target")
    w = as_weights(sample_weight, view.n_samples)
    found = visit(view, Request(references=[Reference("t", t, truth)], weights=w), threads=threads, memory=memory)
    right = count_of(lambda rows: t[rows] == truth[rows], view.n_samples, w)
    if w is None:
        return (right - found.mismatches["t"]) / view.n_samples
    return (right - found.mismatch_weights["t"]) / total(w)


def discrepancy(
    labels: object,
    reference: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the largest share of samples on which one model differs from the reference.

    max_k share_i [d_ki != r_i] (Marx, Calmon and Ustun 2020).

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.discrepancy([[0, 1, 1, 0], [0, 1, 0, 0]], [0, 1, 1, 1])
    0.5
    """
    counts, _, w, view = _against(labels, reference, "reference", sample_weight, threads, memory)
    return float(_shares(counts, view.n_samples, w).max())


def ambiguous_samples(
    labels: object, reference: object, *, threads: int | None = None, memory: int | str | None = None
) -> Array:
    """Return which samples get another answer than the reference's from at least one model; (N,) bool.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.ambiguous_samples([[0, 1, 1], [0, 1, 0]], [0, 1, 1])
    array([False, False,  True])
    """
    _, union, _, _ = _against(labels, reference, "reference", None, threads, memory, union=True)
    assert union is not None
    return union


def ambiguity(
    labels: object,
    reference: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the share of samples on which at least one model differs from the reference.

    share_i [max_k d_ki != r_i] (Marx, Calmon and Ustun 2020). Grows with the number of models: report M with it.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.ambiguity([[0, 1, 1, 0], [0, 1, 0, 0]], [0, 1, 1, 1])
    0.5
    """
    w = as_weights(sample_weight, _view(labels).n_samples)
    return share(ambiguous_samples(labels, reference, threads=threads, memory=memory), w)


def pairwise_ambiguity(
    labels: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the share of samples on which at least two models differ; at most the ambiguity.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.pairwise_ambiguity([[0, 1, 1, 0], [0, 1, 0, 0]])
    0.25
    """
    view = _view(labels)
    w = as_weights(sample_weight, view.n_samples)
    found = visit(view, Request(viable=True), threads=threads, memory=memory)
    assert found.viable is not None
    return share(found.viable > 1, w)


def decision_planes(view: Predictions, threads: int | None, memory: int | str | None) -> SpillArray:
    """Return the bit planes of all decisions."""
    request = Request(planes=True)
    _, found = settle_classes(view, 0, lambda v: visit(v, request, threads=threads, memory=memory, label="reading"))
    assert found.planes is not None
    return found.planes


def pairwise_discrepancy(
    labels: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the largest share of samples on which two models differ; at most twice the discrepancy.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.pairwise_discrepancy([[0, 1, 1, 0], [0, 1, 0, 1]])
    0.5
    """
    view = _view(labels)
    w = as_weights(sample_weight, view.n_samples)
    planes = decision_planes(view, threads, memory)
    largest, _ = farthest_pair(planes, threads=parse_threads(threads), memory=parse_memory(memory), weights=w)
    return float(largest / (view.n_samples if w is None else total(w)))


def votes(
    labels: object,
    n_classes: int | None = None,
    *,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return how many models decide each class on each sample; (N, C) int64, rows sum to M.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.votes([[0, 1, 2], [0, 1, 1]], 3)
    array([[2, 0, 0],
           [0, 2, 0],
           [0, 1, 1]])
    """
    view = _view(labels)
    if n_classes is not None and view.declared_classes != n_classes:
        view = with_classes(view, n_classes)
    found = visit(view, Request(votes=True), threads=threads, memory=memory).votes
    assert found is not None
    return found


def rate_from_squares(squares: Array, n_models: int, ddof: int = 0) -> Array:
    """Return the disagreement rates from the sums of squared votes: (M^2 - sum v^2) / (M (M - ddof))."""
    if ddof not in (0, 1):
        raise UsageError(f"ddof={ddof}. Fix: 0 (two models drawn with replacement) or 1 (without)")
    if n_models == 1 and ddof == 1:
        return np.full(squares.shape, np.nan)
    return (n_models**2 - squares.astype(np.int64)) / float(n_models * (n_models - ddof))


def disagreement_rate(
    labels: object, *, ddof: int = 0, threads: int | None = None, memory: int | str | None = None
) -> Array:
    """Return for each sample the chance that two models drawn at random differ.

    1 - sum_c mu_ic^2 with mu the shares of votes (ddof 0: with replacement), times M / (M - 1) for ddof 1 (without).
    Half of the binary 4 mu (1 - mu) of published code; class indices are never averaged. M = 1: 0, and NaN for
    ddof 1.

    Returns
    -------
    (N,) float64

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.disagreement_rate([[0, 1], [0, 2]])
    array([0. , 0.5])
    """
    view = _view(labels)
    found = visit(view, Request(vote_sums=True), threads=threads, memory=memory)
    assert found.vote_squares is not None
    return rate_from_squares(found.vote_squares.array()[0], view.n_models, ddof)


def self_consistency(labels: object, *, threads: int | None = None, memory: int | str | None = None) -> Array:
    """Return 1 - disagreement rate with ddof 1 (Cooper et al. 2024); (N,) float64, NaN for one model.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.self_consistency([[0, 1], [0, 2]])
    array([1., 0.])
    """
    return 1.0 - disagreement_rate(labels, ddof=1, threads=threads, memory=memory)


def viable_decisions(labels: object, *, threads: int | None = None, memory: int | str | None = None) -> Array:
    """Return the number of different decisions each sample gets; (N,) int64.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.viable_decisions([[0, 1], [0, 2]])
    array([1, 2])
    """
    found = visit(_view(labels), Request(viable=True), threads=threads, memory=memory)
    assert found.viable is not None
    return found.viable.astype(np.int64)
