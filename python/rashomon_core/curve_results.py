"""Results of curves and of resampling; nothing but reading off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bootstrap", "EpsilonCurves", "Interval", "SizeCurves", "listed"]

Array = npt.NDArray[Any]


def listed(values: Array) -> list[Any]:
    """Return a list of plain numbers, None for what is not finite."""
    if values.dtype.kind in "biu":
        return list(values.tolist())
    return [x if np.isfinite(x) else None for x in values.tolist()]


def _absent(reason: str) -> dict[str, Any]:
    return {"value": None, "reason": reason}


@dataclass(frozen=True, eq=False)
class EpsilonCurves:
    """Metrics of the Rashomon set at every epsilon (:func:`rashomon_core.epsilon_curves`).

    Attributes
    ----------
    epsilons : (E,) float64, ascending
    set_size : (E,) int64
        Members. Where it is 0 every other curve is NaN.
    models, samples : int
        How many models were looked at, and on how many samples: the curves depend on both.
    base : float
        Loss that epsilon is added to (``relative``: that 1 + epsilon is multiplied with); of counts their share.
    relative : bool
    reference : str or None
        What ambiguity and discrepancy compare with.
    order : (M,) int64
        Models by loss, the best first: the set of size m is ``order[:m]``.
    ambiguity, discrepancy : (E,) float64 or None
        None without a reference.
    pairwise_ambiguity, pairwise_disagreement : (E,) float64
        The latter is the mean over pairs; both are 0 for one model.
    pairwise_discrepancy : (E,) float64 or None
        None with ``pairwise=False``.
    prediction_range : (E, C) float64 or None
        Mean width of the viable prediction range by class; None for labels.
    fairness : dict or None
        By metric name: "min" and "max" (E,) over the members where the metric is defined, "undefined" (E,) int64
        members where it is not, "target" its value for the target (NaN where undefined; None without a target).
    capacity : dict or None
        At the chosen epsilons: "epsilons" (P,), "set_size" (P,), "mean", "lower", "upper" (P,) bits (means over the
        samples of the capacity and of its bounds), "uncertified" (P,) int64 samples.
    reasons : dict
        Why a curve is None.
    """

    epsilons: Array
    set_size: Array
    models: int
    samples: int
    base: float
    relative: bool
    reference: str | None
    order: Array
    ambiguity: Array | None
    discrepancy: Array | None
    pairwise_ambiguity: Array
    pairwise_disagreement: Array
    pairwise_discrepancy: Array | None
    prediction_range: Array | None
    fairness: Mapping[str, Mapping[str, Any]] | None
    capacity: Mapping[str, Array] | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of epsilons."""
        return len(self.epsilons)

    @property
    def status(self) -> tuple[str, ...]:
        """By epsilon: "empty", "singleton" or "ok"."""
        return tuple("empty" if m == 0 else "singleton" if m == 1 else "ok" for m in self.set_size.tolist())

    def _curve(self, name: str) -> Any:
        values = getattr(self, name)
        if values is None:
            return _absent(self.reasons[name])
        return listed(values) if values.ndim == 1 else [listed(column) for column in values.T]

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers; a number that is not defined is None, a curve that is missing has a reason.

        ``prediction_range`` has a list for each class.
        """
        names = (
            "ambiguity",
            "discrepancy",
            "pairwise_ambiguity",
            "pairwise_disagreement",
            "pairwise_discrepancy",
            "prediction_range",
        )
        fairness: Any = _absent(self.reasons.get("fairness", "no groups"))
        if self.fairness is not None:
            fairness = {
                name: {
                    "min": listed(entry["min"]),
                    "max": listed(entry["max"]),
                    "undefined": listed(entry["undefined"]),
                    "target": None if entry["target"] is None else listed(np.array([entry["target"]]))[0],
                }
                for name, entry in self.fairness.items()
            }
        capacity: Any = _absent(self.reasons.get("capacity", "no epsilons were chosen for it"))
        if self.capacity is not None:
            capacity = {name: listed(values) for name, values in self.capacity.items()}
        return {
            "epsilons": listed(self.epsilons),
            "set_size": listed(self.set_size),
            "models": self.models,
            "samples": self.samples,
            "base": float(self.base) if np.isfinite(self.base) else None,
            "relative": self.relative,
            "reference": self.reference,
            **{name: self._curve(name) for name in names},
            "fairness": fairness,
            "capacity": capacity,
        }

    def to_dataframe(self) -> Any:
        """Return one row per epsilon; needs pandas."""
        import pandas as pd

        columns: dict[str, Any] = {"set_size": self.set_size, "status": self.status}
        for name in ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_disagreement", "pairwise_discrepancy"):
            if (values := getattr(self, name)) is not None:
                columns[name] = values
        if self.prediction_range is not None:
            columns |= {f"prediction_range_{c}": x for c, x in enumerate(self.prediction_range.T)}
        for name, entry in (self.fairness or {}).items():
            columns |= {f"{name}_min": entry["min"], f"{name}_max": entry["max"]}
        return pd.DataFrame(columns, index=pd.Index(self.epsilons, name="epsilon"))


@dataclass(frozen=True, eq=False)
class SizeCurves:
    """Metrics expected of a random subset of m models (:func:`rashomon_core.size_curves`).

    Attributes
    ----------
    sizes : (S,) int64, ascending
    models, samples : int
    reference : str or None
    ambiguity, discrepancy : (S,) float64 or None
        Exact expectations over all subsets; None without a reference.
    pairwise_ambiguity : (S,) float64
        Exact expectation.
    pairwise_discrepancy : (S,) float64 or None
        Mean over ``orders`` random orders of the models; it has no closed form. None with ``orders=0``.
    orders : int
    reasons : dict
        Why a curve is None.
    """

    sizes: Array
    models: int
    samples: int
    reference: str | None
    ambiguity: Array | None
    discrepancy: Array | None
    pairwise_ambiguity: Array
    pairwise_discrepancy: Array | None
    orders: int
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers; a curve that is missing has a reason."""
        names = ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_discrepancy")
        curves = {name: getattr(self, name) for name in names}
        return {
            "sizes": listed(self.sizes),
            "models": self.models,
            "samples": self.samples,
            "reference": self.reference,
            **{n: _absent(self.reasons[n]) if x is None else listed(x) for n, x in curves.items()},
            "orders": self.orders,
        }

    def to_dataframe(self) -> Any:
        """Return one row per size; needs pandas."""
        import pandas as pd

        names = ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_discrepancy")
        columns = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return pd.DataFrame(columns, index=pd.Index(self.sizes, name="size"))


@dataclass(frozen=True)
class Interval:
    """A number and its percentile interval over the replicates of a bootstrap.

    Attributes
    ----------
    value : float or None
        Of the samples themselves; None where it is undefined or infinite.
    low, high : float or None
        None with a ``reason``.
    level : float
    replicates : int
    undefined : int
        Replicates that have no value, and take no part.
    reason : str or None
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    replicates: int
    undefined: int = 0
    reason: str | None = None


class Bootstrap(Mapping[str, Interval]):
    """Intervals by the name of their number (:func:`rashomon_core.bootstrap`).

    ``replicates``, ``level`` and ``seed`` are what was asked for, ``profile`` what was measured: its ``results()`` hold
    the same intervals.
    """

    def __init__(
        self, intervals: Mapping[str, Interval], *, replicates: int, level: float, seed: int, profile: Any
    ) -> None:
        self._intervals = dict(intervals)
        self.replicates, self.level, self.seed, self.profile = replicates, level, seed, profile

    def __getitem__(self, name: str) -> Interval:
        return self._intervals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._intervals)

    def __len__(self) -> int:
        return len(self._intervals)

    def __repr__(self) -> str:
        return f"<Bootstrap of {len(self)} numbers, {self.replicates} replicates>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers by name."""
        return {name: asdict(item) for name, item in self.items()}

    def to_dataframe(self) -> Any:
        """Return one row per number; needs pandas."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.to_dict(), orient="index")
