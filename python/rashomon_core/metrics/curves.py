"""Metrics of every Rashomon set at once: models sorted by loss, each curve a running union, maximum or sum.

The set of an epsilon is a prefix of the models in the order of their losses (ties in the order of the models), so
one walk over the bit planes gives all sets: a sample is ambiguous from the first model on that differs from the
reference, and two members differ on it from the first model on that differs from the best one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions, _encode, _sums
from rashomon_core.curve_results import EpsilonCurves
from rashomon_core.errors import UsageError
from rashomon_core.group_results import FAIRNESS
from rashomon_core.inputs import Inputs, check_inputs
from rashomon_core.predictions import Predictions
from rashomon_core.tiles import (
    BLOCK,
    GROUP,
    KEPT_PART,
    Scratch,
    SpillArray,
    parse_memory,
    parse_threads,
    plan,
    read_block,
    run,
)
from rashomon_core.vectors import Groups, as_decisions, as_losses, as_reference

from . import sets
from .channel import CapacityRule
from .decisions import with_classes
from .groups import cell_count, group_rates, rates_of
from .pairs import farthest_by_rank
from .planes import encode_vector
from .sums import total
from .visit import NO_REFERENCE, Reference, Request, visit

__all__ = ["CurvePlan", "curve_inputs", "decisions_of", "epsilon_curves", "epsilon_curves_of", "growth"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CurvePlan:
    """What :func:`epsilon_curves_of` needs besides inputs: checked losses, their base and what to compute."""

    losses: Array
    base: Any
    relative: bool = False
    n: int | None = None
    epsilons: Array | None = None
    most: int | None = None
    pairwise: bool = True
    ranges: bool = True
    fairness: bool = True
    capacity_at: Array | None = None
    capacity: CapacityRule = field(default_factory=CapacityRule)
    positive: int = 1
    threshold: float | None = None


def epsilon_curves(
    predictions: object,
    loss: object,
    reference: object = None,
    *,
    epsilons: object = None,
    target: object = None,
    y: object = None,
    groups: object = None,
    positive: int = 1,
    missing: str = "refuse",
    reference_loss: float | None = None,
    relative: bool = False,
    n: int | None = None,
    sample_weight: object = None,
    threshold: float | None = None,
    pairwise: bool = True,
    capacity_at: object = None,
    capacity_tol: float = 1e-6,
    threads: int | None = None,
    memory: int | str | None = None,
) -> EpsilonCurves:
    """Return the metrics of the Rashomon set at every epsilon, from one walk over the models sorted by loss.

    Parameters
    ----------
    predictions : Predictions, or (M, N) integers, or (M, N, C) or (M, N) floats
        Labels, or scores; scores also give prediction ranges and capacity.
    loss : (M,) array-like
        One loss per model, +inf allowed (never a member), NaN not; with ``n`` counts of errors among n samples, as in
        :func:`rashomon_core.rashomon_mask`, whose boundaries hold here too. Take it from other samples than these.
    reference : "target", "labels", a model id or index, or (N,) array, optional
        What ambiguity and discrepancy compare with, the same for every epsilon; default the target if given, else
        none. A model is also the one whose loss epsilon is added to; else that is the best model.
    epsilons : (E,) array-like or int, optional
        Ascending, finite, >= 0. Default: every epsilon at which the set grows; a whole number: that many of these
        at most, evenly spread over them, with the first and the last.
    target : (N,) integers, (N,) or (N, C) floats, optional
        For ``reference`` and for the target's own fairness.
    y, groups : optional
        True labels and protected groups: smallest and largest value of each fairness metric over the members.
    reference_loss : float, optional
        Loss that epsilon is added to, in place of a model's.
    relative : bool
        L(k) <= (1 + epsilon) L(ref).
    pairwise : bool
        False leaves out pairwise discrepancy, the only curve that compares all pairs of models.
    capacity_at : (P,) array-like, optional
        Epsilons, ascending, whose sets get their Rashomon Capacity: one reading and solution for each.
    positive, missing, sample_weight, threshold, capacity_tol, threads, memory : see :func:`rashomon_core.profile`

    Returns
    -------
    EpsilonCurves
        Each point is what the function of that metric returns for the members. With the reference held fixed
        ambiguity, discrepancy, their pairwise forms, ranges and capacity never fall as epsilon grows.

    Raises
    ------
    InvalidInputError, UsageError
        Losses that are NaN or not one per model; epsilons that are negative or not ascending.

    Notes
    -----
    O(M N C log(M) / 512) steps of 512 samples up to 48 classes; beyond, O(M N log(M) / 512) and one step for each
    decision unlike the best model's; O(M N) with weights; O(M^2 N / 512) for pairwise discrepancy; ranges read the
    scores once more.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> c = rc.epsilon_curves([[0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 1, 0]], [0.1, 0.2, 0.4], [0, 1, 1, 0])
    >>> c.epsilons.round(6).tolist(), c.set_size.tolist(), c.ambiguity.tolist()
    ([0.0, 0.1, 0.3], [1, 2, 3], [0.0, 0.25, 0.5])
    >>> c.pairwise_discrepancy.tolist()
    [0.0, 0.25, 0.5]
    """
    inputs, facts = curve_inputs(predictions, reference, target, y, groups, missing, sample_weight, threshold)
    view = inputs.view
    if not 0 <= positive < view.n_classes:
        raise UsageError(f"positive={positive} is not one of the classes 0..{view.n_classes - 1}")
    values = as_losses(loss, view.n_models)
    base = sets.base_loss(values, facts[1] if reference_loss is None else None, reference_loss)
    most, points = (int(epsilons), None) if isinstance(epsilons, (int, np.integer)) else (None, epsilons)
    if most is not None and (most < 1 or isinstance(epsilons, bool)):
        raise UsageError(f"epsilons={epsilons}. Fix: at least 1, or the epsilons themselves")
    planned = CurvePlan(
        losses=values,
        base=base,
        relative=relative,
        n=n,
        epsilons=None if points is None else _ascending(points, "epsilons"),
        most=most,
        pairwise=pairwise,
        capacity_at=None if capacity_at is None else _ascending(capacity_at, "capacity_at"),
        capacity=CapacityRule(tol=capacity_tol),
        positive=positive,
        threshold=threshold,
    )
    return epsilon_curves_of(inputs, facts, planned, threads=parse_threads(threads), memory=parse_memory(memory))


def curve_inputs(
    predictions: object,
    reference: object,
    target: object,
    y: object,
    groups: object,
    missing: str,
    sample_weight: object,
    threshold: float | None,
) -> tuple[Inputs, tuple[str | None, int | None, Array | None]]:
    """Return checked inputs and reference; of labels without a stated number of classes a reference may name more."""
    view = predictions if isinstance(predictions, Predictions) else Predictions.from_array(predictions)
    open_labels = view.kind == "labels" and view.declared_classes is None
    if threshold is not None and view.n_classes != 2:
        raise UsageError(f"a threshold is for two classes, and there are {view.n_classes}")
    if threshold is not None and view.kind == "labels":
        raise UsageError("a threshold is for scores, and these predictions are labels")
    inputs = check_inputs(view, target, y, groups, missing, sample_weight, threshold)
    view = inputs.view
    if open_labels and reference is not None and not isinstance(reference, (int, np.integer, str)):
        raw = as_decisions(reference, view.n_samples, None, "reference", view.class_names)
        inputs = replace(inputs, view=with_classes(view, max(view.n_classes, int(raw.max()) + 1)))
    return inputs, as_reference(reference, inputs.view, inputs.target, inputs.y)


def decisions_of(
    view: Predictions, reference: tuple[str | None, int | None, Array | None], threshold: float | None, memory: int
) -> Array | None:
    """Return the (N,) decisions of a reference; those of a model are read."""
    if reference[1] is None:
        return reference[2]
    own = visit(view.take([reference[1]]), Request(decisions=True, threshold=threshold), threads=1, memory=memory)
    assert own.decisions is not None
    result: Array = own.decisions[0]
    return result


def _ascending(values: object, name: str) -> Array:
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise UsageError(f"{name} must be one or more numbers, got shape {array.shape} of {array.dtype}")
    array = array.astype(np.float64)
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise UsageError(f"{name}[{i}]={array[i]} must be finite and not negative")
    falls = np.flatnonzero(np.diff(array) <= 0)
    if len(falls):
        i = int(falls[0])
        raise UsageError(f"{name} must ascend: [{i + 1}]={array[i + 1]} follows {array[i]}. Fix: sort, each one once")
    return array


def growth(losses: Array, base: Any, *, relative: bool = False, n: int | None = None) -> Array:
    """Return every epsilon at which the set grows, ascending; 0 first if the set has members there."""
    if not np.isfinite(float(base)):  # every model, whatever epsilon is
        return np.zeros(1)
    over = losses.astype(np.float64) - float(base)
    if relative:
        over = np.divide(over, float(base), out=np.where(over <= 0, 0.0, np.inf), where=float(base) > 0)
    elif n is not None:
        over /= n
    over = np.maximum(over, 0.0)
    places = np.flatnonzero(np.isfinite(over))
    places = places[np.argsort(over[places], kind="stable")]
    if len(places) == 0:
        return np.zeros(1)
    points = over[places]
    while True:  # a difference may have been rounded down past its own model
        keys, limits = sets.limits_of(losses[places], points, base, relative=relative, n=n)
        short = keys > limits
        if not short.any():
            break
        points = np.where(short, np.nextafter(points, np.inf), points)
    points = np.unique(points)
    keys, limits = sets.limits_of(losses, points, base, relative=relative, n=n)
    sizes = np.searchsorted(np.sort(keys), limits, side="right")
    return points[np.unique(sizes, return_index=True)[1]]


def _thinned(points: Array, most: int | None) -> Array:
    if most is None or len(points) <= most:
        return points
    return points[np.unique(np.rint(np.linspace(0, len(points) - 1, most)).astype(np.int64))]


def epsilon_curves_of(
    part: Inputs,
    reference: tuple[str | None, int | None, Array | None],
    planned: CurvePlan,
    *,
    threads: int,
    memory: int,
) -> EpsilonCurves:
    """Return the curves of checked inputs; ``reference`` as :func:`rashomon_core.vectors.as_reference` gives it."""
    view, w, losses, base = part.view, part.weights, planned.losses, planned.base
    M, N, C = view.n_models, view.n_samples, view.n_classes
    if planned.relative and float(base) < 0:
        raise UsageError(f"relative: the reference loss {float(base):g} is negative, and (1 + epsilon) times it falls")
    points = planned.epsilons
    if points is None:
        points = _thinned(growth(losses, base, relative=planned.relative, n=planned.n), planned.most)
    keys, limits = sets.limits_of(losses, points, base, relative=planned.relative, n=planned.n)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    sizes = np.searchsorted(keys[order], limits, side="right").astype(np.int64)
    walked = _Walk(part, reference, planned, order, threads, memory)
    at = walked.at(sizes)
    scores = view.kind != "labels"
    reasons = {
        "ambiguity": NO_REFERENCE,
        "discrepancy": NO_REFERENCE,
        "pairwise_discrepancy": "pairwise=False",
        "prediction_range": "not asked for" if scores else "the predictions are labels, not scores",
        "fairness": "no groups" if part.groups is None else "not asked for",
        "capacity": "no epsilons were chosen for it" if scores else "the predictions are labels, not scores",
    }
    widths = capacity = None
    if scores and planned.ranges:
        widths = _widths(view, order, sizes, w, threads, memory)
    if planned.capacity_at is not None:
        if not scores:
            raise UsageError("capacity_at needs scores, and these predictions are labels")
        capacity = _capacities(part, order, keys, planned, threads, memory)
    return EpsilonCurves(
        epsilons=points,
        set_size=sizes,
        models=M,
        samples=N,
        base=float(base) / (planned.n or 1),
        relative=planned.relative,
        reference=reference[0],
        order=order,
        prediction_range=None if widths is None else np.repeat(widths, C if widths.shape[1] == 1 else 1, axis=1),
        capacity=capacity,
        reasons=reasons,
        **at,
    )


class _Walk:
    """One walk over the bit planes of the models in the order of their losses; values by size of the set."""

    def __init__(
        self,
        part: Inputs,
        reference: tuple[str | None, int | None, Array | None],
        planned: CurvePlan,
        order: Array,
        threads: int,
        memory: int,
    ) -> None:
        view, w, self.order = part.view, part.weights, order
        self.M, self.N, self.threads, self.memory = view.n_models, view.n_samples, threads, memory
        self.w, self.scale = w, float(self.N) if w is None else total(w)
        decisions = decisions_of(view, reference, planned.threshold, memory)
        groups = part.groups if planned.fairness else None
        found = visit(
            view,
            Request(
                planes=True,
                references=[] if decisions is None else [Reference("reference", decisions)],
                weights=w,
                threshold=planned.threshold,
                cells=None if groups is None else groups.codes,
                cell_labels=part.y if groups is not None else None,
                n_cells=0 if groups is None else cell_count(groups, part.y, view.n_classes),
            ),
            threads=threads,
            memory=memory,
            label="curves",
        )
        assert found.planes is not None
        planes = found.planes
        self.differing = None
        if decisions is not None:
            counts = found.mismatches if w is None else found.mismatch_weights
            self.differing = counts["reference"][order]
        self._planes(planes, view.n_classes, decisions)
        self.reach = None
        if planned.pairwise:
            places = np.empty(self.M, dtype=np.int64)
            places[order] = np.arange(self.M)
            self.reach = farthest_by_rank(planes, places, threads=threads, memory=memory, weights=w)
        self.fairness = None
        if found.cells is not None and groups is not None:
            self.fairness = self._fairness(part, groups, found.cells, planned)

    def _planes(self, planes: SpillArray, n_classes: int, decisions: Array | None) -> None:
        """Find where each sample becomes ambiguous, and how often each model differs from those before it."""
        M, G, P = planes.shape[:3]
        best = int(self.order[0])
        against = [planes.read(slice(best, best + 1))[0]]
        if decisions is not None:
            against.append(encode_vector(decisions, n_classes))
        against = [np.ascontiguousarray(x) for x in against]
        self.ranks = np.empty((len(against), G * GROUP), dtype=np.int32)
        exact = self.w is None
        weights = np.zeros(G * GROUP)
        weights[: self.N] = 1.0 if self.w is None else self.w
        per = BLOCK // GROUP
        step = -(-G // (4 * self.threads * per)) * per
        if not planes.in_memory:
            room = int(self.memory // self.threads * KEPT_PART) // (M * P * 64)
            step = max(per, min(step, room // per * per))
        spans = [slice(g, min(g + step, G)) for g in range(0, G, step)]
        same = np.zeros(M, dtype=np.int64)
        apart = np.zeros(M)

        def work(part: slice, scratch: Scratch) -> Array:
            block = planes.read(slice(0, M), part)
            rows = slice(part.start * GROUP, part.stop * GROUP)
            for reference, ranks in zip(against, self.ranks, strict=True):
                _decisions.first_differing(block, self.order, reference[part], ranks[rows])
            if exact:
                counts = np.zeros(M, dtype=np.int64)
                _decisions.tally(block, self.order, n_classes, counts)
                return counts
            sums = np.zeros((-(-(part.stop - part.start) // per), M))
            _decisions.tally_weights(block, self.order, n_classes, weights[rows], sums)
            return sums

        def merge(part: slice, found: Array) -> None:
            nonlocal same, apart
            if exact:
                same += found
            else:
                for block in found:
                    apart = apart + block

        run(spans, work, merge, threads=self.threads, label="walking the models")
        before = np.arange(M)
        # all models agree on the bits behind the last sample
        self.apart = before * (G * GROUP) - same if exact else apart

    def _fairness(self, part: Inputs, groups: Groups, cells: Array, planned: CurvePlan) -> dict[str, Any]:
        rates = rates_of(cells[self.order], groups, part.y is not None, planned.positive)
        own = None
        if part.target is not None:
            own = group_rates(
                part.target.decisions[None],
                part.y,
                groups,
                n_classes=part.view.n_classes,
                positive=planned.positive,
                sample_weight=part.weights,
                threads=self.threads,
                memory=self.memory,
            )
        found: dict[str, Any] = {}
        for metric, needed in FAIRNESS.items():
            if needed != ("selection_rate",) and part.y is None:
                continue
            for form in ("difference", "ratio"):
                values = getattr(rates, form)(metric)
                found[f"{metric}_{form}"] = {
                    "min": np.fmin.accumulate(values),
                    "max": np.fmax.accumulate(values),
                    "undefined": np.cumsum(np.isnan(values)),
                    "target": None if own is None else float(getattr(own, form)(metric)[0]),
                }
        return found

    def at(self, sizes: Array) -> dict[str, Any]:
        """Return the curves at these sizes of the set."""
        last = np.maximum(sizes - 1, 0)

        def members(values: Array) -> Array:
            return np.where(sizes > 0, values[last], np.nan)

        shares = [self._below(ranks) for ranks in self.ranks]
        scale = self.N if self.w is None else self.scale  # counts over counts are exact as integers
        pairs = np.array(
            [
                np.nan if m == 0 else 0.0 if m == 1 else 2 * apart / (m * (m - 1) * scale)
                for m, apart in zip(sizes.tolist(), np.cumsum(self.apart)[last].tolist(), strict=True)
            ]
        )
        fairness = None
        if self.fairness is not None:
            fairness = {
                name: {
                    "min": members(entry["min"]),
                    "max": members(entry["max"]),
                    "undefined": np.where(sizes > 0, entry["undefined"][last], 0),
                    "target": entry["target"],
                }
                for name, entry in self.fairness.items()
            }
        return {
            "ambiguity": None if len(shares) == 1 else members(shares[1]),
            "discrepancy": None
            if self.differing is None
            else members(np.maximum.accumulate(self.differing) / self.scale),
            "pairwise_ambiguity": members(shares[0]),
            "pairwise_disagreement": pairs,
            "pairwise_discrepancy": None
            if self.reach is None
            else members(np.maximum.accumulate(self.reach) / self.scale),
            "fairness": fairness,
        }

    def _below(self, ranks: Array) -> Array:
        """Return the share of samples whose rank is at most m - 1, for m = 1..M."""
        ranks = ranks[: self.N]
        if self.w is None:
            return np.asarray(np.cumsum(np.bincount(ranks, minlength=self.M + 1))[:-1] / self.N)
        sums = np.cumsum(np.bincount(ranks, weights=self.w, minlength=self.M + 1))
        return np.asarray(sums[:-1] / sums[-1])


def _widths(view: Predictions, order: Array, sizes: Array, w: Array | None, threads: int, memory: int) -> Array:
    """Return the mean width of the scores of the first m models, by column, (E, columns)."""
    columns = view.columns
    kept = np.unique(sizes[sizes > 0])
    plain = view.kind == "proba" and not view.renormalize
    folded = np.float32 if plain and view.dtype.itemsize < 8 else np.float64
    cut = plan(view, threads=threads, memory=memory, per_sample=40 * columns + 16, unit=BLOCK)
    sums = np.zeros((len(kept), columns))

    def work(task: tuple[int, int], scratch: Scratch) -> Array:
        rows = slice(*task)
        own = None if w is None else w[rows]
        shape = (rows.stop - rows.start, columns)
        low, high = scratch.array("low", shape, folded), scratch.array("high", shape, folded)
        parts, done = [], 0
        for m in kept.tolist():
            for k in order[done:m].tolist():
                block = read_block(view, slice(k, k + 1), rows, scratch, cut)
                scores: Any = block if plain else _encode.probabilities(block, view.kind, view.renormalize)
                scores = scores.reshape(shape)
                if done == 0 and k == order[0]:
                    low[...] = high[...] = scores
                else:
                    np.minimum(low, scores, out=low)
                    np.maximum(high, scores, out=high)
            done = m
            parts.append(_sums.block_totals(high.astype(np.float64) - low, own))
        return np.stack(parts, axis=1)

    def merge(task: tuple[int, int], totals: Array) -> None:
        nonlocal sums
        for block in totals:
            sums = sums + block

    if len(kept):
        run(cut.tiles, work, merge, threads=threads, label="ranges")
    means = np.full((len(sizes), columns), np.nan)
    some = sizes > 0
    means[some] = sums[np.searchsorted(kept, sizes[some])] / (view.n_samples if w is None else total(w))
    return means


def _capacities(
    part: Inputs, order: Array, keys: Array, planned: CurvePlan, threads: int, memory: int
) -> dict[str, Array]:
    """Return the mean capacity, its bounds and how many samples are uncertified, at the chosen epsilons."""
    view, w, chosen = part.view, part.weights, planned.capacity_at
    assert chosen is not None
    _, limits = sets.limits_of(planned.losses, chosen, planned.base, relative=planned.relative, n=planned.n)
    sizes = np.searchsorted(keys[order], limits, side="right").astype(np.int64)
    known: dict[int, tuple[float, float, float, int]] = {0: (np.nan, np.nan, np.nan, 0)}
    scale = view.n_samples if w is None else total(w)
    for m in sizes.tolist():
        if m in known:
            continue
        members = view.take(np.sort(order[:m]))
        request = Request(ranges=planned.capacity.closed_form(members), capacity=planned.capacity)
        solver = visit(members, request, threads=threads, memory=memory, label="capacity").capacity
        assert solver is not None
        lower, upper = solver.bounds.array()
        mean, low, high = (total(x, w) / scale for x in (solver.bits(0, view.n_samples), lower, upper))
        known[m] = (mean, low, high, view.n_samples - solver.status_counts()["certified"])
    means, lowers, uppers, uncertified = (np.array(x) for x in zip(*(known[m] for m in sizes.tolist()), strict=True))
    return {
        "epsilons": chosen,
        "set_size": sizes,
        "mean": means,
        "lower": lowers,
        "upper": uppers,
        "uncertified": uncertified.astype(np.int64),
    }
