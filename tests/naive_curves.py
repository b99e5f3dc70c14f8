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
