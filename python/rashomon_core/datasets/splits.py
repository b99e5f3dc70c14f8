"""Disjoint parts of a data set, with rows that belong together on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError

__all__ = ["group_split"]

Array = npt.NDArray[Any]


def group_split(
    rows: int | Sequence[Any] | Array, fractions: Sequence[float], seed: int | np.random.SeedSequence, *, y: Any = None
) -> tuple[Array, ...]:
    """Split rows at random into disjoint parts.

    Parameters
    ----------
    rows : int, or (N,) array
        How many rows there are; or one value for each row, and rows of one value are never parted. A missing value
        (None, NaN) belongs to no other row.
    fractions : sequence of float
        Size of each part, each above 0, at most 1 in sum; what they leave is in no part.
    seed : int or SeedSequence
    y : (N,) labels, optional
        Stratify: every part gets near its share of each class. A group counts as its most frequent class.

    Returns
    -------
    tuple of (n_k,) int64
        Row numbers, ascending. Without groups sizes are exact to one row, with groups to the largest group.

    Raises
    ------
    UsageError
        For fractions that are no such sizes.
    InvalidInputError
        When y has another length, or a part would be empty.

    Notes
    -----
    Units (rows or groups) are laid on a line and cut at the fractions. Stratified, each class is spread evenly over
    the line from a random start, so that any cut takes near its share of it. O(N log N).

    Examples
    --------
    >>> from rashomon_core.datasets import group_split
    >>> train, test = group_split(["a", "a", "b", "b", "c", "c"], (2 / 3, 1 / 3), seed=0)
    >>> len(train), len(test), sorted([*train, *test]) == list(range(6))
    (4, 2, True)
    """
    sizes = np.asarray(list(fractions), dtype=np.float64)
    if sizes.ndim != 1 or not len(sizes) or not (sizes > 0).all() or sizes.sum() > 1 + 1e-9:
        raise UsageError(f"fractions are {list(fractions)} and must be above 0 and at most 1 in sum")
    unit = np.arange(rows) if isinstance(rows, (int, np.integer)) else _units(rows)
    n, rng = len(unit), np.random.default_rng(seed)
    weight = np.bincount(unit) if n else np.empty(0, dtype=np.int64)
    order = rng.permutation(len(weight))
    if y is not None:
        labels = np.unique(np.asarray(y), return_inverse=True)[1].reshape(-1)
        if len(labels) != n:
            raise InvalidInputError(f"{len(labels)} labels for {n} rows", fix="give one label for each row")
        order = order[np.argsort(_places(_majority(unit, labels)[order], weight[order], rng), kind="stable")]
    middle = np.cumsum(weight[order]) - weight[order] / 2
    cuts = np.floor(np.cumsum(sizes) * n + 0.5 + 1e-9)
    part = np.empty(len(weight), dtype=np.int64)
    part[order] = np.searchsorted(cuts, middle, side="right")
    found = part[unit]
    out = tuple(np.flatnonzero(found == k) for k in range(len(sizes)))
    for k, chosen in enumerate(out):
        if not len(chosen):
            raise InvalidInputError(f"part {k} of the split is empty: {n} rows, {len(weight)} groups")
    return out


def _units(values: Any) -> Array:
    """Number of the group of each row; missing values are groups of their own."""
    numbers: dict[Any, int] = {}
    out = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(np.asarray(values, dtype=object).tolist()):
        gone = value is None or value != value
        out[row] = numbers.setdefault(("missing", row) if gone else ("value", value), len(numbers))
    return out


def _majority(unit: Array, labels: Array) -> Array:
    """Most frequent class of each unit, ties to the lowest."""
    pairs, counts = np.unique(np.stack([unit, labels]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = np.unique(pairs[0][order], return_index=True)[1]
    return np.asarray(pairs[1][order][first])


def _places(classes: Array, weight: Array, rng: np.random.Generator) -> Array:
    """Place of each unit on the line from 0 to 1: those of one class evenly spread from a random start."""
    places = np.empty(len(classes))
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        middle = np.cumsum(weight[own]) - weight[own] / 2
        places[own] = (middle / weight[own].sum() + rng.random()) % 1.0
    return places
