"""What metrics return: frozen dataclasses of arrays, counts, status and provenance.

No arithmetic of metrics here, only what can be read off: named columns, gaps of rates, JSON-ready dictionaries.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .group_results import FAIRNESS, GroupRates

__all__ = [
    "CAPACITY_STATUS",
    "CapacityResult",
    "ChannelCapacity",
    "JointCapacity",
    "Profile",
    "finite",
]

Array = npt.NDArray[Any]

#: States of a capacity, by code.
CAPACITY_STATUS = ("certified", "iteration_limit", "precision_limit")


def finite(value: float | None, reason: str = "undefined") -> dict[str, Any]:
    """Return {"value": v}, or {"value": None, "reason": ...} for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        infinite = value is not None and math.isinf(value)
        return {"value": None, "reason": "infinite" if infinite else reason}
    return {"value": float(value)}


@dataclass(frozen=True, eq=False)
class Profile:
    """Everything that :func:`rashomon_core.profile` measured.

    Attributes
    ----------
    parameters, resources : dict
        What was asked for; seconds, bytes, threads, memory, instruction set. JSON-ready.
    status : str
        "complete", or "selected_on_evaluation" when the set was chosen on the samples it is measured on.
    warnings : tuple of str
    model_ids : tuple of str
        The models that the metrics are over (the members of the set).
    member_mask : (M,) bool or None
        Which of all models are members; None without epsilon.
    arrays : dict of arrays
        What was kept, by name: "fidelity" (M,), "mismatches" (M,), "ambiguous_samples" (N,), "disagreement_rate" (N,),
        "low", "high", "score_variance" (N, C), "rashomon_capacity" (N,) with "rashomon_capacity_lower" and "_upper";
        with epsilon "loss" (M,), and "all_losses" of every explored model.
    """

    parameters: dict[str, Any]
    resources: dict[str, Any]
    status: str
    warnings: tuple[str, ...]
    model_ids: tuple[str, ...]
    member_mask: Array | None
    arrays: dict[str, Array]
    rates: GroupRates | None
    _results: dict[str, Any] = field(repr=False)

    def results(self) -> dict[str, Any]:
        """Return every metric as an object of plain numbers (see docs/design.md); no NaN, null has a reason.

        Quantiles over samples are computed when this is first called.
        """
        for name, value in self._results.items():
            if callable(value):
                self._results[name] = value()
        return copy.deepcopy(self._results)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle plain numbers, not what would compute them."""
        self.results()
        return self.__dict__

    def to_dict(self) -> dict[str, Any]:
        """Return parameters, results, status, warnings and resources as plain Python objects."""
        return {
            "parameters": self.parameters,
            "results": self.results(),
            "status": self.status,
            "warnings": list(self.warnings),
            "resources": self.resources,
        }

    def to_dataframe(self) -> Any:
        """Return one row per model with what is known of it; needs pandas."""
        import pandas as pd

        M = len(self.model_ids)
        columns = {k: v for k, v in self.arrays.items() if v.shape == (M,) and k in _MODEL_ARRAYS}
        frame = pd.DataFrame(columns, index=pd.Index(self.model_ids, name="model_id"))
        if self.rates is not None:
            for name in FAIRNESS if self.rates.has_labels else ("demographic_parity",):
                frame[f"{name}_difference"] = self.rates.difference(name)
        return frame


_MODEL_ARRAYS = (
    "fidelity",
    "loss",
    "mismatches",
    "log_loss",
    "cross_entropy",
    "total_variation",
    "kl_divergence",
)


class _Bounds:
    """Bits, bounds and status: what every capacity has."""

    lower: Any
    upper: Any

    @property
    def bits(self) -> Any:
        """Capacity in bits: the middle of the certified interval."""
        return (self.lower + self.upper) / 2

    @property
    def effective_classes(self) -> Any:
        """2^bits: as many equally likely, perfectly distinguishable answers would have this capacity."""
        return 2.0**self.bits

    @property
    def max_gap(self) -> float:
        """Largest upper - lower, in bits."""
        return float(np.max(self.upper - self.lower))


@dataclass(frozen=True, eq=False)
class CapacityResult(_Bounds):
    """Rashomon Capacity of every sample, with bounds that hold (:func:`rashomon_core.rashomon_capacity`).

    Attributes
    ----------
    lower, upper : (N,) float64
        Bits. The capacity of the rows, each divided by its sum, lies between them in exact arithmetic.
    iterations : (N,) int32
        Full scans over the models, or rounds of Blahut-Arimoto; 0 for the closed form of two classes.
    newton : (N,) int32
        Newton steps.
    status_codes : (N,) uint8
        Index into :data:`CAPACITY_STATUS`.
    tol : float
        Bits.
    method : str
    weights : (N,) float64 or None
        Sample weights of the summaries.
    """

    lower: Array
    upper: Array
    iterations: Array
    newton: Array
    status_codes: Array
    tol: float
    method: str
    weights: Array | None = None
    _solver: Any = field(default=None, repr=False)
    _summarise: Any = field(default=dict, repr=False)

    @property
    def status(self) -> Array:
        """(N,) texts: "certified", "iteration_limit" or "precision_limit" (tol is below the rounding allowance)."""
        return np.array(CAPACITY_STATUS)[self.status_codes]

    @property
    def certified(self) -> Array:
        """(N,) bool: upper - lower <= tol."""
        return np.asarray(self.status_codes == 0)

    @property
    def status_counts(self) -> dict[str, int]:
        """Samples by status."""
        counts = np.bincount(self.status_codes, minlength=len(CAPACITY_STATUS))
        return {name: int(n) for name, n in zip(CAPACITY_STATUS, counts, strict=True)}

    def support(self, i: int) -> tuple[Array, Array]:
        """Return the models that carry weight in the lower bound of sample i, and their weights, which sum to 1.

        They are not kept: the sample is read and solved again.
        """
        n = len(self.lower)
        if not -n <= i < n:
            raise IndexError(f"sample {i} of {n}")
        models, weights, _ = self._solver.solved(i % n)
        return models, weights

    def summary(self) -> dict[str, Any]:
        """Return mean, p50, p90, p95, p99 and max in bits, max_gap, status_counts, and the same of 2^bits."""
        return dict(self._summarise(self))

    def cdf(self) -> tuple[Array, Array]:
        """Return the sorted capacities in bits and the cumulative (weighted) share of samples at or below each."""
        order = np.argsort(self.bits, kind="stable")
        weights = np.ones(len(order)) if self.weights is None else self.weights
        shares = np.cumsum(weights[order])
        return self.bits[order], shares / shares[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary with tolerance and method as plain Python objects."""
        return {**self.summary(), "tol": self.tol, "method": self.method}

    def to_dataframe(self) -> Any:
        """Return one row per sample; needs pandas."""
        import pandas as pd

        columns = {"bits": self.bits, "lower": self.lower, "upper": self.upper, "status": self.status}
        return pd.DataFrame({**columns, "iterations": self.iterations, "newton": self.newton})


@dataclass(frozen=True, eq=False)
class ChannelCapacity(_Bounds):
    """Capacity of one channel (:func:`rashomon_core.channel_capacity`).

    Attributes
    ----------
    lower, upper : float
        Bits.
    iterations, newton : int
        Full scans over the rows (or rounds of Blahut-Arimoto), Newton steps.
    status : str
        "certified", "iteration_limit" or "precision_limit".
    weights : (M,) float64
        Input distribution whose mutual information is the lower bound.
    output : (C,) float64
        The mixture of the rows with these weights.
    """

    lower: float
    upper: float
    iterations: int
    newton: int
    status: str
    weights: Array
    output: Array


@dataclass(frozen=True, eq=False)
class JointCapacity(_Bounds):
    """Largest mean mutual information with one weight vector for all samples (:func:`rashomon_core.joint_capacity`).

    Attributes as in :class:`ChannelCapacity`; ``iterations`` are readings of the tensor.
    """

    lower: float
    upper: float
    iterations: int
    newton: int
    status: str
    weights: Array
