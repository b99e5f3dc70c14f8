"""Results by group: rates of models in groups, and multiplicity inside them. Nothing but reading off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .vectors import Column

__all__ = ["FAIRNESS", "MULTIPLICITY", "RATES", "GroupMultiplicity", "GroupRates", "collapsed", "gap_of"]

Array = npt.NDArray[Any]

#: Rates per (model, group).
RATES = ("selection_rate", "tpr", "fpr", "tnr", "fnr", "ppv", "npv", "accuracy")
#: Fairness metrics and the rates they come from; several rates: the worst of them.
FAIRNESS: Mapping[str, tuple[str, ...]] = {
    "demographic_parity": ("selection_rate",),
    "equal_opportunity": ("tpr",),
    "predictive_equality": ("fpr",),
    "equalized_odds": ("tpr", "fpr"),
    "predictive_parity": ("ppv",),
    "conditional_use_accuracy_equality": ("ppv", "npv"),
    "accuracy": ("accuracy",),
}
#: What is measured inside each group, and its number in the document: shares of samples, or means over them.
MULTIPLICITY: Mapping[str, str] = {
    "ambiguity": "value",
    "pairwise_ambiguity": "value",
    "disagreement_rate": "mean",
    "viable_prediction_range": "mean",
    "rashomon_capacity": "mean",
}


@dataclass(frozen=True)
class GroupRates:
    """Confusion counts of every model in every group, and the rates read off them.

    Attributes
    ----------
    counts : (M, G, C, C) int64, or float64 with weights; (M, G, 1, C) without true labels
        Samples by true label (axis 2) and decision (axis 3).
    groups : tuple of str
        Names of the G groups.
    positive : int
        The class that rates are about when C = 2.
    has_labels : bool
        Whether true labels were given; without them only the selection rate is defined.
    sizes : (G,) int64 or None
        Samples in each group, whatever their weights.
    parts : tuple of Column
        The columns that were crossed: see :meth:`column`; () for one column.
    """

    counts: Array
    groups: tuple[str, ...]
    positive: int
    has_labels: bool
    sizes: Array | None = None
    parts: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that were crossed."""
        return tuple(part.name for part in self.parts)

    def column(self, name: str) -> GroupRates:
        """Return the same of one of the crossed columns alone: its groups' counts are sums, nothing is read again."""
        part = part_of(self.parts, name)
        sizes = None if self.sizes is None else collapsed(self.sizes, part)
        return GroupRates(collapsed(self.counts, part, 1), part.names, self.positive, self.has_labels, sizes)

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.counts.shape[3])

    def rate(self, name: str, cls: int | None = None) -> Array:
        """Return one rate of one class against the rest, (M, G) float64; an empty denominator gives NaN.

        ``name``: one of selection_rate, tpr, fpr, tnr, fnr, ppv, npv, accuracy; ``cls`` defaults to ``positive``.
        Accuracy with more than two classes is the plain share of right decisions unless ``cls`` is given.
        """
        if name not in RATES:
            raise UsageError(f"rate {name!r} is not one of {', '.join(RATES)}")
        if cls is not None and not 0 <= cls < self.n_classes:
            raise UsageError(f"class {cls} is not one of 0..{self.n_classes - 1}")
        if name != "selection_rate" and not self.has_labels:
            raise UsageError(f"{name} needs true labels. Fix: give y= (--labels FILE)")
        # Everything is added up, nothing subtracted: a difference of weights would leave rounding errors where a
        # denominator is 0. Of counts or weights top and rest, top / (top + rest) is never above 1.
        n = self.counts
        if name == "accuracy" and cls is None:
            right = np.trace(n, axis1=2, axis2=3)
            return _share(right, np.where(np.eye(self.n_classes, dtype=bool), 0, n).sum(axis=(2, 3)))
        c = self.positive if cls is None else cls
        others = np.arange(self.n_classes) != c
        if name == "selection_rate":
            return _share(n[:, :, :, c].sum(axis=2), n[:, :, :, others].sum(axis=(2, 3)))
        tp, fn = n[:, :, c, c], n[:, :, c, others].sum(axis=2)
        fp, tn = n[:, :, others, c].sum(axis=2), n[:, :, others][..., others].sum(axis=(2, 3))
        top, rest = {
            "tpr": (tp, fn),
            "fnr": (fn, tp),
            "fpr": (fp, tn),
            "tnr": (tn, fp),
            "ppv": (tp, fp),
            "npv": (tn, fn),
            "accuracy": (tp + tn, fp + fn),
        }[name]
        return _share(top, rest)

    def __getattr__(self, name: str) -> Array:
        """Return a rate by its name: ``rates.tpr``."""
        if name in RATES:
            return self.rate(name)
        raise AttributeError(name)

    def difference(self, metric: str, *, skip_undefined: bool = False) -> Array:
        """Return a fairness difference of every model, (M,) float64: largest minus smallest rate over groups.

        ``metric``: a key of :data:`FAIRNESS`. Several rates: the largest gap. C > 2: the largest over classes, each
        against the rest (accuracy: the plain one). An undefined group rate gives NaN unless ``skip_undefined``.
        """
        return self._compare(metric, skip_undefined, ratio=False)

    def ratio(self, metric: str, *, skip_undefined: bool = False) -> Array:
        """Return a fairness ratio of every model, (M,) float64: smallest over largest rate; 0/0 is NaN."""
        return self._compare(metric, skip_undefined, ratio=True)

    def undefined_groups(self, metric: str) -> tuple[str, ...]:
        """Name the groups in which a rate of ``metric`` is undefined for some model."""
        gone = np.zeros(len(self.groups), dtype=bool)
        for rates in self._rates(metric):
            gone |= np.isnan(rates).any(axis=0)
        return tuple(g for g, missing in zip(self.groups, gone, strict=True) if missing)

    def behind(
        self, metric: str, model: int = 0, *, ratio: bool = False, skip_undefined: bool = False
    ) -> dict[str, Any] | None:
        """Return which rate and which two groups make a model's gap (or ratio); None where it is undefined.

        {"rate", "class" (None: the positive one, or plain accuracy), "smallest": {"group", "value"}, "largest": the
        same}. Of several worst rates or groups the first.
        """
        named, one = self.rates_behind(metric), replace(self, counts=self.counts[model : model + 1])
        rates = [one.rate(name, c) for name, c in named]
        gaps = np.array([gap_of(r, skip_undefined, ratio=ratio)[0] for r in rates])
        if np.isnan(gaps).any():
            return None
        worst = int(np.argmin(gaps) if ratio else np.argmax(gaps))
        (name, cls), own = named[worst], rates[worst][0]
        low, high = int(np.nanargmin(own)), int(np.nanargmax(own))
        return {
            "rate": name,
            "class": cls,
            "smallest": {"group": self.groups[low], "value": float(own[low])},
            "largest": {"group": self.groups[high], "value": float(own[high])},
        }

    def rates_behind(self, metric: str) -> list[tuple[str, int | None]]:
        """Return the rates whose worst gap a metric is, each with its class (None: the positive one, or plain)."""
        if metric not in FAIRNESS:
            raise UsageError(f"fairness metric {metric!r} is not one of {', '.join(FAIRNESS)}")
        if self.n_classes == 2 or metric == "accuracy":
            return [(name, None) for name in FAIRNESS[metric]]
        return [(name, c) for c in range(self.n_classes) for name in FAIRNESS[metric]]

    def _rates(self, metric: str) -> list[Array]:
        return [self.rate(name, c) for name, c in self.rates_behind(metric)]

    def _compare(self, metric: str, skip_undefined: bool, *, ratio: bool) -> Array:
        stacked = np.stack([gap_of(rates, skip_undefined, ratio=ratio) for rates in self._rates(metric)])
        result: Array = stacked.min(axis=0) if ratio else stacked.max(axis=0)
        return result  # NaN in any part stays NaN

    def to_dataframe(self) -> Any:
        """Return one row per (model, group) with all defined rates; needs pandas."""
        import pandas as pd

        M, G = self.counts.shape[:2]
        names = RATES if self.has_labels else RATES[:1]
        index = pd.MultiIndex.from_product([range(M), self.groups], names=["model", "group"])
        return pd.DataFrame({name: self.rate(name).reshape(M * G) for name in names}, index=index)


def part_of(parts: tuple[Column, ...], name: str) -> Column:
    """Return a crossed column by its name."""
    for part in parts:
        if part.name == name:
            return part
    known = ", ".join(part.name for part in parts) or "none: there is one column only"
    raise UsageError(f"column {name!r} is not one of the crossed columns ({known})")


def collapsed(values: Array, part: Column, axis: int = 0) -> Array:
    """Add up what belongs to crossed groups (along ``axis``) into the groups of one column, in their order."""
    moved = np.moveaxis(values, axis, 0)
    result = np.zeros((len(part.names), *moved.shape[1:]), dtype=values.dtype)
    for g, at in enumerate(part.of.tolist()):
        result[at] += moved[g]
    return np.ascontiguousarray(np.moveaxis(result, 0, axis))


def gap_of(rates: Array, skip_undefined: bool, *, ratio: bool) -> Array:
    """Return largest - smallest, or smallest / largest, of rates (M, G) over the groups."""
    low, high = (
        np.where(np.isnan(rates), np.inf, rates).min(axis=1),
        np.where(np.isnan(rates), -np.inf, rates).max(axis=1),
    )
    part = _divide(low, high) if ratio else high - low
    gone = np.isnan(rates).all(axis=1) if skip_undefined else np.isnan(rates).any(axis=1)
    return np.where(gone, np.nan, part)


def _share(top: Array, rest: Array) -> Array:
    return _divide(top, top + rest)


def _divide(top: Array, bottom: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Array = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)
    return result


@dataclass(frozen=True, eq=False)
class GroupMultiplicity:
    """How far models differ inside each group: who bears the arbitrariness.

    Attributes
    ----------
    groups : tuple of str
        Names of the G groups.
    sizes : (G,) int64
        Samples in each group.
    weights : (G,) float64, or None
        Their weights, where samples are weighted.
    sums : dict of (G,) float64
        Per name of :data:`MULTIPLICITY` the (weighted) sum over the group's samples.
    counts : dict of (G,) int64
        Ambiguous samples in each group, by "ambiguity" and "pairwise_ambiguity".
    reasons : dict of str
        Why a name has no values.
    parts : tuple of Column
        The columns that were crossed: see :meth:`column`; () for one column.
    """

    groups: tuple[str, ...]
    sizes: Array
    weights: Array | None
    sums: dict[str, Array]
    counts: dict[str, Array]
    reasons: dict[str, str]
    parts: tuple[Column, ...] = ()

    def value(self, name: str) -> Array:
        """Return one metric inside each group, (G,) float64; NaN for a group without samples (or weight)."""
        if name not in MULTIPLICITY:
            raise UsageError(f"{name!r} is not one of {', '.join(MULTIPLICITY)}")
        if name not in self.sums:
            return np.full(len(self.groups), np.nan)
        return _divide(self.sums[name], self._scale)

    def __getattr__(self, name: str) -> Array:
        """Return a metric by its name: ``found.disagreement_rate``."""
        if name in MULTIPLICITY:
            return self.value(name)
        raise AttributeError(name)

    @property
    def _scale(self) -> Array:
        return self.sizes.astype(np.float64) if self.weights is None else self.weights

    @property
    def share(self) -> Array:
        """Each group's share of the samples (or of their weight), (G,) float64."""
        scale = self._scale
        result: Array = scale / scale.sum()
        return result

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that were crossed."""
        return tuple(part.name for part in self.parts)

    def column(self, name: str) -> GroupMultiplicity:
        """Return the same of one of the crossed columns alone."""
        part = part_of(self.parts, name)
        return GroupMultiplicity(
            part.names,
            collapsed(self.sizes, part),
            None if self.weights is None else collapsed(self.weights, part),
            {key: collapsed(x, part) for key, x in self.sums.items()},
            {key: collapsed(x, part) for key, x in self.counts.items()},
            self.reasons,
        )

    def difference(self, name: str, *, skip_undefined: bool = False) -> float:
        """Return largest - smallest value over the groups; NaN with an undefined group unless ``skip_undefined``."""
        return float(gap_of(self.value(name)[None], skip_undefined, ratio=False)[0])

    def ratio(self, name: str, *, skip_undefined: bool = False) -> float:
        """Return smallest / largest value over the groups; 0/0 is NaN."""
        return float(gap_of(self.value(name)[None], skip_undefined, ratio=True)[0])

    def to_dict(self, *, skip_undefined: bool = False) -> dict[str, Any]:
        """Return {"groups": values by group, "gaps": difference and ratio by metric}; null has a reason."""
        share, values = self.share, {name: self.value(name) for name in MULTIPLICITY}
        groups: dict[str, Any] = {}
        for g, group in enumerate(self.groups):
            entry: dict[str, Any] = {"n": int(self.sizes[g]), "share": float(share[g])}
            if self.weights is not None:
                entry["weight"] = float(self.weights[g])
            for name, key in MULTIPLICITY.items():
                value = float(values[name][g])
                if math.isnan(value):
                    empty = "no samples" if self.sizes[g] == 0 else "all sample weights are 0"
                    entry[name] = {"value": None, "reason": self.reasons.get(name, empty)}
                    continue
                entry[name] = {key: value}
                if name in self.counts:
                    entry[name]["count"] = int(self.counts[name][g])
            groups[group] = entry
        return {"groups": groups, "gaps": {name: self._gaps(name, skip_undefined) for name in MULTIPLICITY}}

    def _gaps(self, name: str, skip_undefined: bool) -> dict[str, Any]:
        values = self.value(name)
        gone = np.isnan(values)
        entry: dict[str, Any] = {"difference": None, "ratio": None, "smallest": None, "largest": None}
        if name in self.reasons or gone.all():
            return {**entry, "reason": self.reasons.get(name, "no group has samples")}
        if gone.any():
            entry["undefined_groups"] = [g for g, missing in zip(self.groups, gone, strict=True) if missing]
            if not skip_undefined:
                return {**entry, "reason": "a group has no samples"}
        ratio = self.ratio(name, skip_undefined=skip_undefined)
        entry.update(
            difference=self.difference(name, skip_undefined=skip_undefined),
            ratio=None if math.isnan(ratio) else ratio,
            smallest=self.groups[int(np.nanargmin(values))],
            largest=self.groups[int(np.nanargmax(values))],
        )
        if math.isnan(ratio):
            entry["reason"] = "0 in every group: no ratio"
        return entry

    def to_dataframe(self) -> Any:
        """Return one row per group: n, share and every metric; needs pandas."""
        import pandas as pd

        columns = {"n": self.sizes, "share": self.share, **{name: self.value(name) for name in MULTIPLICITY}}
        return pd.DataFrame(columns, index=pd.Index(self.groups, name="group"))
