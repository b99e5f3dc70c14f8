"""Group metrics of thousands of models at once: confusion counts, rates, fairness over the set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.group_results import FAIRNESS, RATES, GroupRates, gap_of
from rashomon_core.predictions import Predictions
from rashomon_core.vectors import Groups, as_decisions, as_groups, as_label_view, as_weights

from .decisions import with_classes
from .summary import quantiles
from .visit import Request, Visit, settle_classes, visit

__all__ = ["fairness_over_set", "group_rates"]

Array = npt.NDArray[Any]
#: The only threshold that is applied without being asked for: the four-fifths rule.
DEFAULT_THRESHOLDS = {"demographic_parity_ratio": 0.8}
#: Quantiles over the models.
LEVELS = {"p5": 0.05, "p25": 0.25, "p75": 0.75, "p95": 0.95}
#: Whom a rate is about: why it is undefined.
DENOMINATORS = {
    "selection_rate": "in the group",
    "accuracy": "in the group",
    **dict.fromkeys(("tpr", "fnr"), "of the group are truly positive"),
    **dict.fromkeys(("fpr", "tnr"), "of the group are truly negative"),
    "ppv": "of the group are decided positive",
    "npv": "of the group are decided negative",
}


def group_rates(
    labels: object,
    y: object,
    groups: object,
    *,
    n_classes: int | None = None,
    positive: int = 1,
    missing: str = "refuse",
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> GroupRates:
    """Return confusion counts and rates of every model in every group.

    Parameters
    ----------
    labels : (M, N) array-like of integers, or Predictions (scores are decided)
    y : (N,) array-like of class indices, or None
        True labels; without them only selection rates are defined.
    groups : (N,) or (N, k) array-like, DataFrame or mapping
        Strings, integers, booleans or categories; several columns are crossed (intersectional groups).
    n_classes : int, optional
        Number of classes; default that of the predictions, or the largest label of ``labels`` and ``y`` plus 1.
    positive : int
        The class that rates are about when there are two.
    missing : {"refuse", "group"}
        Whether a missing group value is an error or a group of its own.

    Returns
    -------
    GroupRates
        Rates with an empty denominator are NaN, never 0; so is a gap or ratio with an undefined rate.

    Notes
    -----
    O(M N C G) bit operations in groups of 512 samples for few cells, O(M N) steps for many.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rates = rc.group_rates([[1, 1, 0, 0]], [1, 0, 1, 0], ["a", "a", "a", "b"])
    >>> rates.groups, rates.selection_rate.round(3).tolist()
    (('a', 'b'), [[0.667, 0.0]])
    >>> rates.tpr
    array([[0.5, nan]])
    """
    view = as_label_view(labels)
    n = view.n_samples
    if n_classes is not None:
        view = with_classes(view, n_classes)
    truth = None if y is None else as_decisions(y, n, view.declared_classes, "y", view.class_names)
    if view.declared_classes is not None and truth is not None:
        truth = as_decisions(truth, n, view.n_classes, "y")
    named = as_groups(groups, n, missing=missing)
    w = as_weights(sample_weight, n)

    def count(view: Predictions) -> Visit:
        request = Request(
            cells=named.codes, cell_labels=truth, n_cells=cell_count(named, truth, view.n_classes), weights=w
        )
        return visit(view, request, threads=threads, memory=memory)

    view, found = settle_classes(view, 0 if truth is None else int(truth.max()) + 1, count)
    if not 0 <= positive < view.n_classes:
        raise UsageError(f"positive={positive} is not one of the classes 0..{view.n_classes - 1}")
    assert found.cells is not None
    return rates_of(found.cells, named, truth is not None, positive)


def cell_count(groups: Groups, y: Array | None, n_classes: int) -> int:
    """Return the number of cells: of groups, or of groups and labels."""
    return len(groups.names) * (1 if y is None else n_classes)


def rates_of(cells: Array, groups: Groups, has_labels: bool, positive: int) -> GroupRates:
    """Return the rates from counts (M, cells, C)."""
    M, _, C = cells.shape
    counts = cells.reshape(M, len(groups.names), C if has_labels else 1, C)
    return GroupRates(counts, groups.names, positive, has_labels, groups.sizes, groups.parts)


def fairness_over_set(
    rates: GroupRates,
    target: GroupRates | None = None,
    thresholds: float | dict[str, float] | None = None,
    *,
    model_ids: Sequence[str] | None = None,
    skip_undefined: bool = False,
) -> dict[str, Any]:
    """Describe each fairness metric over the members of a set: one number per model, unweighted over models.

    Parameters
    ----------
    rates : GroupRates of the M models, from :func:`rashomon_core.group_rates`
    target : GroupRates of the target (one model), optional
    thresholds : float, or dict by metric name such as "demographic_parity_ratio", optional
        A difference keeps a threshold when it is at most that, a ratio when it is at least that. A number is the
        threshold of every ratio. Default only 0.8 for the demographic parity ratio (the four-fifths rule).
    model_ids : M texts, optional
        Names of the models; default "0", "1", ...
    skip_undefined : bool
        Take gaps over the groups whose rate is defined, and list the others; else one undefined rate makes the gap
        undefined.

    Returns
    -------
    dict
        JSON-ready. Per metric and form ("demographic_parity_difference", ...): ``target``; ``min``, ``p5``, ``p25``,
        ``median``, ``p75``, ``p95``, ``max`` over the models where it is defined; ``argmin``, ``argmax``: the models
        (ties: the first); ``pairs``: which rate and which two groups make the gap of the target, the argmin and the
        argmax; ``threshold``; ``share_breaking``: models that break it where the target keeps it; ``share_meeting``:
        models that keep it where the target breaks it; null where that does not apply; ``undefined``: models without
        a value. Then ``groups``: their names; ``by_group``: n, share, and for two classes each rate's target, min,
        median and max (else the accuracy's).

    Notes
    -----
    A quantile p is the smallest value that at least a share p of the models do not exceed: some model's value. The
    median of an even number of models is the middle between the two middle values. O(M G C) a rate.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rates = rc.group_rates([[1, 1, 0, 0], [1, 0, 1, 0]], None, ["a", "a", "b", "b"])
    >>> gap = rc.fairness_over_set(rates)["demographic_parity_difference"]
    >>> gap["min"], gap["max"], gap["argmax"], gap["pairs"]["argmax"]["smallest"]
    (0.0, 1.0, '0', {'group': 'b', 'value': 0.0})
    """
    M = len(rates.counts)
    ids = [str(k) for k in range(M)] if model_ids is None else [str(name) for name in model_ids]
    if len(ids) != M:
        raise UsageError(f"{len(ids)} model_ids for {M} models")
    if M == 0:
        raise InvalidInputError("the set is empty: there is no model to take rates of")
    if target is not None and (len(target.counts) != 1 or target.groups != rates.groups):
        raise UsageError(
            f"target has rates of {len(target.counts)} models in {len(target.groups)} groups. "
            f"Fix: those of one model in the {len(rates.groups)} groups of the models"
        )
    summary = _over_models(rates, target, thresholds, ids, skip_undefined)
    if rates.parts:  # several columns were crossed: each alone too
        summary["by_column"] = {
            name: _over_models(
                rates.column(name), None if target is None else target.column(name), thresholds, ids, skip_undefined
            )
            for name in rates.columns
        }
    return summary


class Gaps:
    """Gaps of every rate, each rate worked out once: with thousands of groups that is what takes the time."""

    def __init__(self, rates: GroupRates, skip: bool) -> None:
        self.rates, self.skip = rates, skip
        self._known: dict[tuple[str, int | None], tuple[Array, Array, Array]] = {}

    def _parts(self, metric: str) -> list[tuple[Array, Array, Array]]:
        """Return differences (M,), ratios (M,) and undefined groups (G,) of each rate of a metric."""
        named = self.rates.rates_behind(metric)
        for key in named:
            if key not in self._known:
                values = self.rates.rate(*key)
                low, high = (gap_of(values, self.skip, ratio=ratio) for ratio in (True, False))
                self._known[key] = (high, low, np.asarray(np.isnan(values).any(axis=0)))
        return [self._known[key] for key in named]

    def values(self, metric: str, *, ratio: bool) -> Array:
        """Return the metric of every model, as ``GroupRates.difference`` and ``ratio`` do."""
        stacked = np.stack([part[ratio] for part in self._parts(metric)])
        result: Array = stacked.min(axis=0) if ratio else stacked.max(axis=0)
        return result

    def undefined(self, metric: str) -> list[str]:
        """Name the groups in which a rate of the metric is undefined for some model."""
        gone = np.any([part[2] for part in self._parts(metric)], axis=0)
        return [g for g, missing in zip(self.rates.groups, gone, strict=True) if missing]


def _over_models(
    rates: GroupRates,
    target: GroupRates | None,
    thresholds: float | dict[str, float] | None,
    ids: Sequence[str],
    skip: bool,
) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    gaps = Gaps(rates, skip)
    for metric, needed in FAIRNESS.items():
        if needed != ("selection_rate",) and not rates.has_labels:
            continue
        undefined = gaps.undefined(metric)
        for form in ("difference", "ratio"):
            name, ratio = f"{metric}_{form}", form == "ratio"
            values = gaps.values(metric, ratio=ratio)
            own = None if target is None else float(getattr(target, form)(metric, skip_undefined=skip)[0])
            entry = _spread(values, own, threshold_of(name, thresholds), form)
            if entry["median"] is not None:
                places = {"argmin": int(np.nanargmin(values)), "argmax": int(np.nanargmax(values))}
                for key, k in places.items():
                    entry[key] = ids[k]
                    entry["pairs"][key] = rates.behind(metric, k, ratio=ratio, skip_undefined=skip)
            if entry["target"] is not None and target is not None:
                entry["pairs"]["target"] = target.behind(metric, ratio=ratio, skip_undefined=skip)
            if undefined and (skip or entry["undefined"]):
                entry["undefined_groups"] = undefined
            if entry["median"] is None and not undefined:
                entry["reason"] = "0 in every group of every model: no ratio"
            summary[name] = entry
    summary["groups"] = list(rates.groups)
    summary["by_group"] = _by_group(rates, target)
    return summary


def group_rate_names(rates: GroupRates) -> tuple[str, ...]:
    """Return the rates that are shown for each group: all of two classes, else accuracy."""
    if rates.n_classes == 2:
        return RATES if rates.has_labels else RATES[:1]
    return ("accuracy",) if rates.has_labels else ()


def _by_group(rates: GroupRates, target: GroupRates | None) -> dict[str, Any]:
    """Return the size of each group, and its rates over the models."""
    weight = rates.counts[0].sum(axis=(1, 2)).astype(np.float64)
    names = group_rate_names(rates)
    values = {name: rates.rate(name) for name in names}
    own = {name: None if target is None else target.rate(name)[0] for name in names}
    found: dict[str, Any] = {}
    for g, group in enumerate(rates.groups):
        entry: dict[str, Any] = {"n": None if rates.sizes is None else int(rates.sizes[g])}
        entry["share"] = float(weight[g] / weight.sum())
        entry["rates"] = {name: _rate(values[name][:, g], own[name], g, name) for name in names}
        found[group] = entry
    return found


def _rate(values: Array, own: Array | None, g: int, name: str) -> dict[str, Any]:
    defined = values[~np.isnan(values)]
    entry: dict[str, Any] = {
        "target": None if own is None or np.isnan(own[g]) else float(own[g]),
        "min": None,
        "median": None,
        "max": None,
        "undefined": int(len(values) - len(defined)),
    }
    if len(defined):
        entry.update(min=float(defined.min()), median=float(np.median(defined)), max=float(defined.max()))
    if entry["undefined"]:
        entry["reason"] = f"no samples {DENOMINATORS[name]}"
    return entry


def threshold_of(name: str, thresholds: float | dict[str, float] | None) -> float | None:
    """Return the threshold of a metric such as "demographic_parity_ratio", if it has one."""
    if isinstance(thresholds, dict):
        return thresholds.get(name, DEFAULT_THRESHOLDS.get(name))
    if thresholds is not None and name.endswith("_ratio"):
        return float(thresholds)
    return DEFAULT_THRESHOLDS.get(name)


def _spread(values: Array, own: float | None, threshold: float | None, form: str) -> dict[str, Any]:
    defined = values[~np.isnan(values)]
    entry: dict[str, Any] = {
        "target": None if own is None or np.isnan(own) else own,
        **dict.fromkeys(("min", "p5", "p25", "median", "p75", "p95", "max", "argmin", "argmax")),
        "pairs": {"target": None, "argmin": None, "argmax": None},
        "threshold": threshold,
        "share_breaking": None,
        "share_meeting": None,
        "undefined": int(len(values) - len(defined)),
    }
    if len(defined) == 0:
        entry["reason"] = "a group's rate has an empty denominator in every model"
        return entry
    entry.update(min=float(defined.min()), median=float(np.median(defined)), max=float(defined.max()))
    entry.update(zip(LEVELS, quantiles(defined, list(LEVELS.values())), strict=True))
    if threshold is not None and entry["target"] is not None:
        keeps = defined <= threshold if form == "difference" else defined >= threshold
        target_keeps = own <= threshold if form == "difference" else own >= threshold  # type: ignore[operator]
        if target_keeps:
            entry["share_breaking"] = float(np.count_nonzero(~keeps) / len(defined))
        else:
            entry["share_meeting"] = float(np.count_nonzero(keeps) / len(defined))
    return entry
