"""Sums and shares of one number per sample, in one fixed order, however many samples are held at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _sums

__all__ = ["CHUNK", "count_of", "share", "total", "total_of"]

Array = npt.NDArray[Any]
#: Samples of a per-sample array that are summarised together; a multiple of the 4,096 of a block.
CHUNK = 1 << 16


def total(values: Array, weights: Array | None = None, start: float = 0.0) -> float:
    """Return the (weighted) sum over samples: blocks of 4,096, eight lanes, a fixed tree, blocks in order.

    ``start``: the sum of the blocks before, when values come in pieces.
    """
    result = start
    for part in _sums.block_totals(np.ascontiguousarray(values, dtype=np.float64), weights).tolist():
        result += part
    return result


def total_of(read: Callable[[slice], Array], n: int, weights: Array | None = None) -> float:
    """Return :func:`total` of n values that are made in pieces; the bits are the same."""
    result = 0.0
    for i in range(0, n, CHUNK):
        rows = slice(i, min(i + CHUNK, n))
        result = total(read(rows), None if weights is None else weights[rows], result)
    return result


def count_of(read: Callable[[slice], Array], n: int, weights: Array | None = None) -> float:
    """Return the number (exact) or weight of true flags that are made in pieces."""
    if weights is None:
        return sum(int(np.count_nonzero(read(slice(i, min(i + CHUNK, n))))) for i in range(0, n, CHUNK))
    return total_of(lambda rows: read(rows).astype(np.float64), n, weights)


def share(flags: Array, weights: Array | None = None) -> float:
    """Return the (weighted) share of true flags; without weights an exact count over N."""
    if weights is None:
        return int(np.count_nonzero(flags)) / len(flags)
    return count_of(lambda rows: flags[rows], len(flags), weights) / total(weights)
