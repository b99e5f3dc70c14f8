"""Metrics by the number of models: what a random subset of m of them is expected to show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.curve_results import SizeCurves
from rashomon_core.errors import UsageError
from rashomon_core.inputs import Inputs
from rashomon_core.tiles import parse_memory, parse_threads

from . import sets
from .curves import CurvePlan, curve_inputs, decisions_of, epsilon_curves_of
from .pairs import pair_matrix
from .sums import total
from .visit import NO_REFERENCE, Reference, Request, visit

__all__ = ["curve_objects", "size_curves", "size_curves_of"]

Array = npt.NDArray[Any]
#: Sizes that are chosen without being asked for.
SIZES = 40


def size_curves(
    predictions: object,
    reference: object = None,
    *,
    sizes: object = None,
    target: object = None,
    y: object = None,
    sample_weight: object = None,
    threshold: float | None = None,
    orders: int = 0,
    seed: int = 0,
    threads: int | None = None,
    memory: int | str | None = None,
) -> SizeCurves:
    """Return ambiguity and discrepancy as expected of a random subset of m of the models, for many m.

    The metrics grow with the number of models that were looked at: these curves say how far, and let sets of different
    size be compared at one size.

    Parameters
    ----------
    predictions : Predictions, or (M, N) integers, or (M, N, C) or (M, N) floats
    reference : as in :func:`rashomon_core.epsilon_curves`
    sizes : (S,) array-like of integers, optional
        Ascending, within 1..M. Default: all up to 40 models, else about 40 from 1 to M at equal ratios.
    orders : int
        Random orders of the models whose running maxima give pairwise discrepancy, the only one without a closed
        form; 0 leaves it out.
    seed : int
        Of these orders.
    target, y, sample_weight, threshold, threads, memory : see :func:`rashomon_core.profile`

    Returns
    -------
    SizeCurves
        At m = M the values of all models.

    Notes
    -----
    Closed forms of :func:`rashomon_core.size_matched_ambiguity` and its neighbours, from histograms of the votes:
    one reading, then O(M) a size.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> c = rc.size_curves([[0, 1], [0, 0]], [0, 1])
    >>> c.sizes.tolist(), c.ambiguity.tolist(), c.discrepancy.tolist(), c.pairwise_ambiguity.tolist()
    ([1, 2], [0.25, 0.5], [0.25, 0.5], [0.0, 0.5])
    """
    inputs, facts = curve_inputs(predictions, reference, target, y, None, "refuse", sample_weight, threshold)
    return size_curves_of(
        inputs,
        facts,
        sizes=sizes,
        orders=orders,
        seed=seed,
        threshold=threshold,
        threads=parse_threads(threads),
        memory=parse_memory(memory),
    )


def _sizes(sizes: object, M: int) -> Array:
    if sizes is None:
        if M <= SIZES:
            return np.arange(1, M + 1)
        return np.unique(np.rint(np.geomspace(1, M, SIZES)).astype(np.int64))
    array = np.atleast_1d(np.asarray(sizes))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise UsageError(f"sizes must be one or more whole numbers, got shape {array.shape} of {array.dtype}")
    array = array.astype(np.int64)
    if (np.diff(array) <= 0).any() or array[0] < 1 or array[-1] > M:
        raise UsageError(f"sizes must ascend within 1..{M} (the models), each one once")
    return array


def size_curves_of(
    part: Inputs,
    reference: tuple[str | None, int | None, Array | None],
    *,
    sizes: object = None,
    orders: int = 0,
    seed: int = 0,
    threshold: float | None = None,
    threads: int,
    memory: int,
) -> SizeCurves:
    """Return the curves of checked inputs."""
    view, w = part.view, part.weights
    M, N = view.n_models, view.n_samples
    chosen = _sizes(sizes, M)
    if orders < 0:
        raise UsageError(f"orders={orders}. Fix: a number of random orders, or 0")
    decisions = decisions_of(view, reference, threshold, memory)
    found = visit(
        view,
        Request(
            votes=True,
            agree=decisions,
            planes=orders > 0,
            references=[] if decisions is None else [Reference("reference", decisions)],
            weights=w,
            threshold=threshold,
        ),
        threads=threads,
        memory=memory,
        label="curves",
    )
    assert found.votes is not None
    scale = float(N) if w is None else total(w)
    tables = [sets.none_by_count(M, m) for m in chosen.tolist()]  # by how many models are marked

    def expected(missing: Array) -> Array:
        return np.array([sets.expected_share(missing, table) for table in tables])

    ambiguity = worst = None
    if decisions is not None:
        assert found.agree is not None
        ambiguity = expected(sets.histogram(M - found.agree, M, w))
        counts = found.mismatches["reference"] if w is None else found.mismatch_weights["reference"]
        worst = np.array([sets.size_matched_max(counts / scale, m) for m in chosen.tolist()])
    votes = sum(sets.histogram(M - found.votes[:, c], M, w) for c in range(found.votes.shape[1]))
    # in a subset without disagreement all models say the same: the chances of the classes add up
    shares = 1.0 - np.array([float((votes * table).sum()) for table in tables]) / scale
    pairs = None
    if orders:
        assert found.planes is not None
        matrix = np.empty((M, M))
        pair_matrix(found.planes, matrix, threads=threads, memory=memory, weights=w, scale=scale)
        rng = np.random.default_rng(seed)
        sums = np.zeros(M)
        for _ in range(orders):
            order = rng.permutation(M)
            shuffled = np.tril(matrix[np.ix_(order, order)])
            sums += np.maximum.accumulate(shuffled.max(axis=1))
        pairs = (sums / orders)[chosen - 1]
    return SizeCurves(
        sizes=chosen,
        models=M,
        samples=N,
        reference=reference[0],
        ambiguity=ambiguity,
        discrepancy=worst,
        pairwise_ambiguity=np.maximum(shares, 0.0),
        pairwise_discrepancy=pairs,
        orders=orders,
        reasons={
            "ambiguity": NO_REFERENCE,
            "discrepancy": NO_REFERENCE,
            "pairwise_discrepancy": "it has no closed form, and orders=0",
        },
    )


def curve_objects(
    inputs: Inputs,
    samples: Array | None,
    members: Array | None,
    reference: tuple[str | None, int | None, Array | None],
    planned: CurvePlan | None,
    *,
    threshold: float | None,
    threads: int,
    memory: int,
) -> dict[str, Any]:
    """Return the JSON objects of the curves of a profile, on some samples.

    ``epsilon_curves`` are of all models, ``size_curves`` of the members of the set; ``planned`` is None without a loss.
    """
    name, index, decisions = reference
    if decisions is not None and samples is not None:
        decisions = decisions[samples]
    every = inputs.on(samples)
    found: dict[str, Any] = {
        "epsilon_curves": {"value": None, "reason": "no epsilon: the metrics are over all models"},
        "size_curves": {"value": None, "reason": "the set is empty"},
    }
    if planned is not None:
        planned = replace(planned, threshold=threshold)
        curves = epsilon_curves_of(every, (name, index, decisions), planned, threads=threads, memory=memory)
        found["epsilon_curves"] = curves.to_dict()
    if members is None or members.any():
        decisions = decisions_of(every.view, (name, index, decisions), threshold, memory)
        part = inputs.on(samples, members)
        sized = size_curves_of(part, (name, None, decisions), threshold=threshold, threads=threads, memory=memory)
        found["size_curves"] = sized.to_dict()
    return found
