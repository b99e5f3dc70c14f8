"""Slow, obvious curves: for every set the metric of its members, for every replicate the metric of the drawn samples.

Like naive.py it imports nothing of the package under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def members_by_epsilon(
    loss: ArrayLike, epsilons: list[float], reference: int | None, **options: Any
) -> list[list[int]]:
    """Models of the set of every epsilon."""
    masks = [naive.rashomon_mask(loss, epsilon, reference, **options) for epsilon in epsilons]
    return [np.flatnonzero(mask).tolist() for mask in masks]


def curve(sets: list[list[int]], metric: Callable[[list[int]], float]) -> list[float]:
    """Value of every set; NaN for an empty one."""
    return [metric(members) if members else float("nan") for members in sets]


def mean_width(probs: ArrayLike, w: ArrayLike | None = None) -> list[float]:
    """Mean width of the viable prediction range of each class."""
    ranges = naive.viable_prediction_range(probs)
    return [naive.mean((ranges[:, c, 1] - ranges[:, c, 0]).tolist(), w) for c in range(ranges.shape[1])]


def fairness_range(values: ArrayLike) -> tuple[float, float, int]:
    """Smallest and largest defined value (NaN if there is none), and how many are not defined."""
    defined = [v for v in np.asarray(values).tolist() if v == v]
    if not defined:
        return float("nan"), float("nan"), len(np.asarray(values))
    return min(defined), max(defined), len(np.asarray(values)) - len(defined)


# ----------------------------------------------------------------------------------------------------
# Replicates


def drawn_counts(n: int, seed: int, replicate: int, replicates: int) -> Array:
    """How often each of n samples is drawn: replicate r has the r-th child of the seed for itself."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(replicates)[replicate])
    counts = np.zeros(n, dtype=np.int64)
    for i in rng.integers(0, n, n, dtype=np.uint32).tolist():
        counts[i] += 1
    return counts


def percentile_interval(values: list[float], level: float) -> tuple[float, float] | None:
    """Ends of the interval: the smallest values that (1 - level) / 2 and (1 + level) / 2 of the defined ones reach."""
    defined = sorted(v for v in values if v == v)
    if not defined:
        return None
    ends = []
    for p in (round((1 - level) / 2, 12), 1 - round((1 - level) / 2, 12)):
        ends.append(next(v for rank, v in enumerate(defined, 1) if rank / len(defined) >= p or rank == len(defined)))
    return ends[0], ends[1]
