"""Multiplicity inside each group: who bears the arbitrariness of the choice of a model.

Per-sample results (ambiguous or not, disagreement rate, width of the range, capacity) are averaged inside each group,
wherever they are kept: they are read in pieces, never gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError
from rashomon_core.group_results import MULTIPLICITY, GroupMultiplicity
from rashomon_core.inputs import check_inputs
from rashomon_core.tiles import BLOCK
from rashomon_core.vectors import Groups, as_reference

from .channel import CapacityRule
from .decisions import rate_from_squares
from .sums import CHUNK
from .visit import NO_REFERENCE, Reference, Request, Visit, squares_of, visit, width_of

__all__ = ["multiplicity_by_group", "multiplicity_of"]

Array = npt.NDArray[Any]
NOT_SCORES = "the predictions are labels, not scores"
ONE_MODEL = "one model and ddof=1"


def sums_by_group(read: Callable[[slice], Array], groups: Groups, weights: Array | None = None) -> Array:
    """Return the (weighted) sum of per-sample values inside each group, (G,) float64.

    Blocks of 4,096 samples from sample 0, in order inside a block and block by block: the same bits wherever the
    values are kept. Sums of integers are exact. O(N + G N / 4096).
    """
    codes, G = groups.codes, len(groups.names)
    result = np.zeros(G)
    step = BLOCK * max(1, min(CHUNK // BLOCK, CHUNK // G))
    for start in range(0, len(codes), step):
        rows = slice(start, min(start + step, len(codes)))
        values = np.asarray(read(rows), dtype=np.float64)
        if weights is not None:
            values = values * weights[rows]
        keys = np.arange(len(values)) // BLOCK * G + codes[rows]
        blocks = -(-len(values) // BLOCK)
        for part in np.bincount(keys, weights=values, minlength=blocks * G).reshape(blocks, G):
            result += part
    return result


def readers(found: Visit, n_models: int, ddof: int) -> dict[str, Callable[[slice], Array]]:
    """Return, by metric, what reads the per-sample values that are averaged inside groups."""
    read: dict[str, Callable[[slice], Array]] = {}
    if "reference" in found.unions:
        flags = found.unions["reference"]
        read["ambiguity"] = lambda rows: flags[rows]
    if found.vote_squares is not None:
        read["pairwise_ambiguity"] = lambda rows: squares_of(found, rows) != n_models**2
        if ddof < n_models:
            read["disagreement_rate"] = lambda rows: rate_from_squares(squares_of(found, rows), n_models, ddof)
    low, solver = found.low, found.capacity
    if low is not None:

        def width(rows: slice) -> Array:
            total = np.zeros(rows.stop - rows.start)
            for c in range(low.shape[0]):
                total += width_of(found, c, rows.start, rows.stop)
            return total / low.shape[0]

        read["viable_prediction_range"] = width
    if solver is not None:
        read["rashomon_capacity"] = lambda rows: solver.bits(rows.start, rows.stop)
    return read


def multiplicity_of(
    found: Visit,
    groups: Groups,
    weights: Array | None,
    n_models: int,
    *,
    ddof: int = 0,
    reasons: dict[str, str] | None = None,
) -> GroupMultiplicity:
    """Return what a visit found, inside each group; ``reasons``: why it did not look for something."""
    n = len(groups.codes)
    read, absent = readers(found, n_models, ddof), dict(reasons or {})
    if found.vote_squares is not None and ddof >= n_models:
        absent["disagreement_rate"] = ONE_MODEL
    wanted = {name: at for name, at in read.items() if name not in absent}
    counts: dict[str, Array] = {
        name: sums_by_group(wanted[name], groups).astype(np.int64)
        for name in ("ambiguity", "pairwise_ambiguity")
        if name in wanted
    }
    sums = {
        name: counts[name].astype(np.float64)
        if weights is None and name in counts
        else sums_by_group(at, groups, weights)
        for name, at in wanted.items()
    }
    ones = np.ones(min(n, CHUNK))
    scale = None if weights is None else sums_by_group(lambda rows: ones[: rows.stop - rows.start], groups, weights)
    absent = {name: absent.get(name, "not measured") for name in MULTIPLICITY if name not in sums}
    return GroupMultiplicity(groups.names, groups.sizes, scale, sums, counts, absent, groups.parts)


def multiplicity_by_group(
    predictions: object,
    groups: object,
    *,
    target: object = None,
    y: object = None,
    reference: object = None,
    ddof: int = 0,
    capacity_tol: float = 1e-6,
    threshold: float | None = None,
    missing: str = "refuse",
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> GroupMultiplicity:
    """Return ambiguity, disagreement, prediction ranges and Rashomon Capacity inside each group.

    Parameters
    ----------
    predictions : Predictions, or (M, N) integers, or (M, N, C) or (M, N) floats
        Decisions, or scores; with decisions alone ranges and capacity are undefined.
    groups : (N,) or (N, k) array-like, DataFrame or mapping
        Several columns are crossed; ``found.column(name)`` is one of them alone.
    target, y, reference : as in :func:`rashomon_core.profile`
        What ambiguity compares with: by default the target; without a reference ambiguity is undefined.
    ddof : {0, 1}
        Of the disagreement rate.
    capacity_tol : float
        Bits.
    threshold : float, optional
        Two classes: decide 1 where P(class 1) >= threshold.
    missing : {"refuse", "group"}

    Returns
    -------
    GroupMultiplicity
        Per group the share of samples that are ambiguous against the reference and pairwise, the mean disagreement
        rate, the mean width of the viable prediction range (over the classes too: with two it is the width of P(class
        1)) and the mean capacity in bits; ``.difference(name)`` and ``.ratio(name)`` over the groups.

    Raises
    ------
    InvalidInputError, UsageError
        Bad predictions or groups; another number of samples; a reference that does not exist.

    Notes
    -----
    Each mean over all samples is the mean of the groups' values weighted by their shares. A group without samples (or
    weight) is NaN. Identical models give exactly 0. One reading of the predictions; the same bits for any threads and
    memory. Compare Marx, Calmon, Ustun (2020); Hsu and Calmon (2022); Cooper et al. (2024), who measure it overall.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> found = rc.multiplicity_by_group([[0, 1, 1, 0], [0, 1, 0, 1]], ["a", "a", "b", "b"])
    >>> found.groups, found.pairwise_ambiguity.tolist(), found.difference("disagreement_rate")
    (('a', 'b'), [0.0, 1.0], 0.5)
    """
    if ddof not in (0, 1):
        raise UsageError(f"ddof={ddof}. Fix: 0 or 1")
    rule = CapacityRule(capacity_tol)
    inputs = check_inputs(predictions, target, y, groups, missing, sample_weight, threshold)
    view, named = inputs.view, inputs.groups
    if named is None:
        raise UsageError("multiplicity_by_group needs groups")
    scores = view.kind != "labels"
    if threshold is not None and not (scores and view.n_classes == 2):
        raise UsageError("a threshold is for scores of two classes")
    _, model, decisions = as_reference(reference, view, inputs.target, inputs.y)
    limits: dict[str, Any] = {"threads": threads, "memory": memory}
    if model is not None:
        alone = visit(view.take([model]), Request(decisions=True, threshold=threshold), **limits)
        assert alone.decisions is not None
        decisions = alone.decisions[0]
    found = visit(
        view,
        Request(
            ranges=scores,
            vote_sums=True,
            references=[] if decisions is None else [Reference("reference", decisions, union=True)],
            capacity=rule if scores else None,
            weights=inputs.weights,
            threshold=threshold,
            spill=True,
        ),
        **limits,
    )
    reasons = {} if scores else dict.fromkeys(("viable_prediction_range", "rashomon_capacity"), NOT_SCORES)
    if decisions is None:
        reasons["ambiguity"] = NO_REFERENCE
    return multiplicity_of(found, named, inputs.weights, view.n_models, ddof=ddof, reasons=reasons)
