"""Fairness over a set and multiplicity inside groups, the slow, obvious way; NumPy and naive.py only."""

from __future__ import annotations

import math

import naive
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
