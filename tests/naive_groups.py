"""Rates and fairness of groups, fairness over a set, multiplicity inside groups, the slow, obvious way.

NumPy and naive.py only; conventions as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import naive
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# ----------------------------------------------------------------------------------------------------
# Of one model

RATES = ("selection_rate", "tpr", "fpr", "tnr", "fnr", "ppv", "npv", "accuracy")

# Fairness metric -> the rates whose worst gap (ratio) it is.
FAIRNESS: dict[str, tuple[str, ...]] = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("tpr",),
    "predictive_equality": ("fpr",),
    "equalized_odds": ("tpr", "fpr"),
    "predictive_parity": ("ppv",),
    "conditional_use_accuracy_equality": ("ppv", "npv"),
    "accuracy": ("accuracy",),
}


def group_codes(groups: ArrayLike) -> tuple[list[int], list[tuple[object, ...]]]:
    """Code each sample's group, and name the codes; several columns (N, G) cross into intersectional groups.

    The groups are those that occur, in sorted order; a name is the tuple of its columns' values.
    """
    array = np.asarray(groups)
    if array.ndim == 1:
        array = array[:, None]
    names = [tuple(row) for row in array.tolist()]
    distinct = sorted(set(names))
    return [distinct.index(name) for name in names], distinct


def group_confusion(labels: ArrayLike, y: ArrayLike, groups: ArrayLike, n_classes: int) -> Ints:
    """Count the samples of group g with true class c that model k calls c', (M, G, C_true, C_pred)."""
    d, truth = np.asarray(labels).tolist(), np.asarray(y).tolist()
    codes, names = group_codes(groups)
    out = np.zeros((len(d), len(names), n_classes, n_classes), dtype=np.int64)
    for k, row in enumerate(d):
        for i, label in enumerate(row):
            out[k, codes[i], int(truth[i]), int(label)] += 1
    return out


def _ratio(numerator: float, denominator: float) -> float:
    """Undefined is NaN, never 0."""
    return numerator / denominator if denominator > 0 else math.nan


def group_rates(
    labels: ArrayLike,
    y: ArrayLike | None,
    groups: ArrayLike,
    positive: int = 1,
    w: ArrayLike | None = None,
) -> dict[str, Floats]:
    """Rates of the class `positive` against the rest, {rate: (M, G)}; without y only the selection rate.

    "accuracy" is the share of samples put on the right side of positive / not positive: with two classes it
    is the accuracy; with more see `group_accuracy` for the share of right labels.
    """
    d = np.asarray(labels).tolist()
    truth = None if y is None else np.asarray(y).tolist()
    codes, names = group_codes(groups)
    weights = [1] * len(codes) if w is None else np.asarray(w).tolist()
    rates = RATES if truth is not None else RATES[:1]
    out = {rate: np.full((len(d), len(names)), math.nan) for rate in rates}
    for k, row in enumerate(d):
        for g in range(len(names)):
            members = [i for i in range(len(codes)) if codes[i] == g]
            everyone = math.fsum(weights[i] for i in members)
            selected = math.fsum(weights[i] for i in members if row[i] == positive)
            out["selection_rate"][k, g] = _ratio(selected, everyone)
            if truth is None:
                continue
            tp = math.fsum(weights[i] for i in members if row[i] == positive and truth[i] == positive)
            fn = math.fsum(weights[i] for i in members if row[i] != positive and truth[i] == positive)
            fp = math.fsum(weights[i] for i in members if row[i] == positive and truth[i] != positive)
            tn = math.fsum(weights[i] for i in members if row[i] != positive and truth[i] != positive)
            out["tpr"][k, g] = _ratio(tp, tp + fn)
            out["fpr"][k, g] = _ratio(fp, fp + tn)
            out["tnr"][k, g] = _ratio(tn, fp + tn)
            out["fnr"][k, g] = _ratio(fn, tp + fn)
            out["ppv"][k, g] = _ratio(tp, tp + fp)
            out["npv"][k, g] = _ratio(tn, tn + fn)
            out["accuracy"][k, g] = _ratio(tp + tn, everyone)
    return out


def group_accuracy(labels: ArrayLike, y: ArrayLike, groups: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Share of right labels inside each group, any number of classes, (M, G)."""
    d, truth = np.asarray(labels).tolist(), np.asarray(y).tolist()
    codes, names = group_codes(groups)
    weights = [1] * len(codes) if w is None else np.asarray(w).tolist()
    out = np.full((len(d), len(names)), math.nan)
    for k, row in enumerate(d):
        for g in range(len(names)):
            members = [i for i in range(len(codes)) if codes[i] == g]
            right = math.fsum(weights[i] for i in members if row[i] == truth[i])
            out[k, g] = _ratio(right, math.fsum(weights[i] for i in members))
    return out


def gap(rates: list[float], skip_undefined: bool = False) -> float:
    """Max - min over groups; NaN when a group is undefined (skip_undefined: when all are)."""
    defined = [rate for rate in rates if not math.isnan(rate)]
    if not defined or (len(defined) < len(rates) and not skip_undefined):
        return math.nan
    return max(defined) - min(defined)


def ratio(rates: list[float], skip_undefined: bool = False) -> float:
    """Min / max over groups; 0/0 is NaN; NaN when a group is undefined (skip_undefined: when all are)."""
    defined = [rate for rate in rates if not math.isnan(rate)]
    if not defined or (len(defined) < len(rates) and not skip_undefined):
        return math.nan
    return _ratio(min(defined), max(defined))


def _fairness(
    labels: ArrayLike,
    y: ArrayLike | None,
    groups: ArrayLike,
    name: str,
    n_classes: int,
    positive: int,
    skip_undefined: bool,
    w: ArrayLike | None,
    over_groups: Callable[[list[float], bool], float],
    worst: Callable[[list[float]], float],
) -> Floats:
    models = len(np.asarray(labels))
    if name == "accuracy" and n_classes > 2:
        # The share of right labels: a class against the rest would hide which wrong class was said.
        assert y is not None
        by_class = [{"accuracy": group_accuracy(labels, y, groups, w)}]
    else:
        # Two classes: the positive one only. More: each against the rest.
        classes = [positive] if n_classes == 2 else list(range(n_classes))
        by_class = [group_rates(labels, y, groups, c, w) for c in classes]
    out = np.zeros(models)
    for k in range(models):
        values = [over_groups(rates[rate][k].tolist(), skip_undefined) for rates in by_class for rate in FAIRNESS[name]]
        # Python's max and min would drop a NaN or keep it, depending on its place.
        out[k] = math.nan if any(math.isnan(value) for value in values) else worst(values)
    return out


def fairness_difference(
    labels: ArrayLike,
    y: ArrayLike | None,
    groups: ArrayLike,
    name: str,
    n_classes: int = 2,
    positive: int = 1,
    skip_undefined: bool = False,
    w: ArrayLike | None = None,
) -> Floats:
    """Largest gap of the metric's rates, (M,); C > 2: the max over one class against the rest (accuracy: plain)."""
    return _fairness(labels, y, groups, name, n_classes, positive, skip_undefined, w, gap, max)


def fairness_ratio(
    labels: ArrayLike,
    y: ArrayLike | None,
    groups: ArrayLike,
    name: str,
    n_classes: int = 2,
    positive: int = 1,
    skip_undefined: bool = False,
    w: ArrayLike | None = None,
) -> Floats:
    """Smallest ratio of the metric's rates, (M,); C > 2: the min over one class against the rest (accuracy: plain)."""
    return _fairness(labels, y, groups, name, n_classes, positive, skip_undefined, w, ratio, min)


# ----------------------------------------------------------------------------------------------------
# Over a set, and inside groups


def spread(values: ArrayLike) -> dict[str, float]:
    """Min, quantiles and max of one number per model, undefined ones left out.

    A quantile is the smallest value that a share p of the models do not exceed; the median is NumPy's.
    """
    defined = sorted(v for v in np.asarray(values, dtype=np.float64).tolist() if not math.isnan(v))
    out = {"min": defined[0], "median": float(np.median(defined)), "max": defined[-1]}
    for name, p in (("p5", 0.05), ("p25", 0.25), ("p75", 0.75), ("p95", 0.95)):
        out[name] = next(v for v in defined if sum(x <= v for x in defined) / len(defined) >= p)
    return out


def shares(values: ArrayLike, own: float, threshold: float, form: str) -> tuple[float | None, float | None]:
    """Share that breaks a threshold the target keeps, share that keeps one it breaks; None where it does not apply."""
    defined = [v for v in np.asarray(values, dtype=np.float64).tolist() if not math.isnan(v)]
    if math.isnan(own) or not defined:
        return None, None
    kept = [v <= threshold if form == "difference" else v >= threshold for v in [own, *defined]]
    if kept[0]:
        return kept[1:].count(False) / len(defined), None
    return None, kept[1:].count(True) / len(defined)


def per_sample(labels: ArrayLike, probs: ArrayLike | None, reference: ArrayLike | None, ddof: int) -> dict[str, Floats]:
    """What is averaged inside groups, but for the capacities: one number per sample, by metric."""
    M = len(np.asarray(labels))
    out = {"pairwise_ambiguity": (naive.viable_decisions(labels) > 1).astype(np.float64)}
    if reference is not None:
        out["ambiguity"] = naive.ambiguous_samples(labels, reference).astype(np.float64)
    if ddof < M:
        out["disagreement_rate"] = naive.disagreement_rate(labels, ddof)
    if probs is not None:
        ranges = naive.viable_prediction_range(probs)
        out["viable_prediction_range"] = np.array(
            [math.fsum(high - low for low, high in sample) / len(sample) for sample in ranges.tolist()]
        )
    return out


def mean_inside(values: Floats | None, groups: ArrayLike, name: object, w: ArrayLike | None = None) -> float:
    """Mean over the samples of one group; NaN without samples or weight, or without values."""
    rows = [i for i, g in enumerate(np.asarray(groups).tolist()) if g == name]
    weights = [1.0] * len(np.asarray(groups)) if w is None else np.asarray(w).tolist()
    if values is None or math.fsum(weights[i] for i in rows) == 0:
        return math.nan
    return naive.mean([float(values[i]) for i in rows], [weights[i] for i in rows])
