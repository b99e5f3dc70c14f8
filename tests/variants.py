"""The same question asked under every limit: threads, memory budgets and ways of reading must not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
#: The smallest budget there is.
SMALL = "1MB"


class Streamed:
    """A source that is not in memory, like a file: every block is copied."""

    in_memory = False
    path = None

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        block = self.array[models, samples]
        if out is None:
            out = np.empty(block.shape, self.dtype.newbyteorder("="))
        np.copyto(out, block)
        return out


def streamed(array: Array, **options: Any) -> rc.Predictions:
    """Predictions that are read block by block."""
    return rc.Predictions.from_source(Streamed(array), **options)


def bits(result: object) -> tuple[object, ...]:
    """Everything that makes two results the same, NaN and the sign of zero included."""
    if isinstance(result, rc.GroupRates):
        return (bits(result.counts), result.groups, result.positive, result.has_labels)
    array = np.asarray(result)
    return (array.dtype, array.shape, array.tobytes())


def everywhere(function: Callable[..., Any], tensor: Array, *args: Any, **options: Any) -> Any:
    """Result of function(tensor, ...), after checking that no limit or way of reading changes a bit of it."""
    result = function(tensor, *args, threads=1, **options)
    expected = bits(result)
    variants = [
        (tensor, {"threads": 2}),
        (tensor, {"threads": 1, "memory": SMALL}),
        (tensor, {"threads": 2, "memory": SMALL}),
        (streamed(tensor), {"threads": 1, "memory": SMALL}),
        (streamed(tensor), {"threads": 2, "memory": 20_000_000}),
    ]
    for source, limits in variants:
        assert bits(function(source, *args, **limits, **options)) == expected, limits
    return result
