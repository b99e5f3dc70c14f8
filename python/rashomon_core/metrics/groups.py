"""Group metrics of thousands of models at once: confusion counts, rates, fairness over the set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.results import FAIRNESS, GroupRates
from rashomon_core.vectors import Groups, as_decisions, as_groups, as_label_view, as_weights

from .decisions import with_classes
from .visit import Request, Visit, settle_classes, visit

__all__ = ["fairness_over_set", "group_rates"]

Array = npt.NDArray[Any]
#: The only threshold that is applied without being asked for: the four-fifths rule.
DEFAULT_THRESHOLDS = {"demographic_parity_ratio": 0.8}


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
    return GroupRates(
        cells.reshape(M, len(groups.names), C if has_labels else 1, C), groups.names, positive, has_labels
    )


def fairness_over_set(
    rates: GroupRates, target: GroupRates | None = None, thresholds: float | dict[str, float] | None = None
) -> dict[str, Any]:
    """Summarise each fairness metric over the models: target's value, min, median, max, shares at a threshold.

    Parameters
    ----------
    rates : GroupRates of the models;  target : GroupRates of the target (one model), optional
    thresholds : float, or dict by metric name such as "demographic_parity_ratio", optional
        A difference keeps a threshold when it is at most that, a ratio when it is at least that. Default only 0.8 for
        the demographic parity ratio. ``share_breaking``: members that break it where the target keeps it;
        ``share_meeting``: members that keep it where the target breaks it; null where that does not apply.
    """
    summary: dict[str, Any] = {}
    for metric, needed in FAIRNESS.items():
        if needed != ("selection_rate",) and not rates.has_labels:
            continue
        for form in ("difference", "ratio"):
            name = f"{metric}_{form}"
            values = getattr(rates, form)(metric)
            own = None if target is None else float(getattr(target, form)(metric)[0])
            summary[name] = _spread(values, own, _threshold(name, thresholds), form)
            if np.isnan(values).any():
                summary[name]["undefined_groups"] = list(rates.undefined_groups(metric))
    summary["groups"] = list(rates.groups)
    return summary


def _threshold(name: str, thresholds: float | dict[str, float] | None) -> float | None:
    if isinstance(thresholds, dict):
        return thresholds.get(name, DEFAULT_THRESHOLDS.get(name))
    if thresholds is not None and name.endswith("_ratio"):
        return float(thresholds)
    return DEFAULT_THRESHOLDS.get(name)


def _spread(values: Array, own: float | None, threshold: float | None, form: str) -> dict[str, Any]:
    defined = values[~np.isnan(values)]
    entry: dict[str, Any] = {
        "target": None if own is None or np.isnan(own) else own,
        "min": None,
        "median": None,
        "max": None,
        "threshold": threshold,
        "share_breaking": None,
        "share_meeting": None,
        "undefined": int(len(values) - len(defined)),
    }
    if len(defined) == 0:
        entry["reason"] = "a group's rate has an empty denominator in every model"
        return entry
    entry.update(min=float(defined.min()), median=float(np.median(defined)), max=float(defined.max()))
    if threshold is not None and entry["target"] is not None:
        keeps = defined <= threshold if form == "difference" else defined >= threshold
        target_keeps = own <= threshold if form == "difference" else own >= threshold  # type: ignore[operator]
        if target_keeps:
            entry["share_breaking"] = float(np.count_nonzero(~keeps) / len(defined))
        else:
            entry["share_meeting"] = float(np.count_nonzero(keeps) / len(defined))
    return entry
