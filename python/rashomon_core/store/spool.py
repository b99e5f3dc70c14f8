"""Tensors converted from text: numbers on their way, in memory or in an unnamed temporary file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, OutputError

from .files import RawFile, as_bytes
from .raw import SCRATCH, MemoryReader, RawReader, Reader

__all__ = ["SPOOL_MEMORY", "Spool", "temporary_file"]

Array = npt.NDArray[Any]
#: Tensors converted from text stay in memory up to this many bytes; larger ones go to an unlinked file.
SPOOL_MEMORY = 16 << 20


class Spool:
    """Numbers written in any order and read back in blocks.

    Up to ``SPOOL_MEMORY`` bytes they stay in memory, beyond that they go to an unnamed file in the folder for
    temporary files (``TMPDIR``), which the system removes when the last user closes it, a crash included.
    """

    def __init__(self, shape: Sequence[int], dtype: npt.DTypeLike, path: str) -> None:
        self.shape, self.dtype, self.path = tuple(shape), np.dtype(dtype), path
        self.size = math.prod(self.shape)
        self._array: Array | None = None
        if self.size * self.dtype.itemsize <= SPOOL_MEMORY:
            self._array = np.zeros(self.size, dtype=self.dtype)
        else:
            self._file = temporary_file(path)

    def write(self, start: int, values: Array, path: str | None = None) -> None:
        """Store ``values`` (flattened), which come from ``path``, from element ``start`` on."""
        if not np.can_cast(values.dtype, self.dtype, "safe"):
            raise InvalidInputError(
                f"{values.dtype} values after {self.dtype} values",
                file=path or self.path,
                fix="store all models in one dtype",
            )
        data = np.ascontiguousarray(values, dtype=self.dtype).reshape(-1)
        if self._array is not None:
            self._array[start : start + data.size] = data
            return
        with _Spooling(self.path):
            self._file.write(as_bytes(data), start * self.dtype.itemsize)

    def remap(self, table: Array) -> None:
        """Replace every element v by ``table[v]`` (same dtype), in place."""
        if self._array is not None:
            self._array[:] = table[self._array]
            return
        reader = RawReader(self._file, 0, self.dtype, (self.size,))
        step = SCRATCH // self.dtype.itemsize
        for start in range(0, self.size, step):
            stop = min(self.size, start + step)
            block = np.empty(stop - start, dtype=self.dtype)
            reader.read_into(((start, stop),), block)
            self.write(start, table[block])

    def reader(self) -> Reader:
        """Return a reader of what was written."""
        if self._array is not None:
            return MemoryReader(self._array.reshape(self.shape))
        with _Spooling(self.path):
            if self._file.size < self.size * self.dtype.itemsize:
                raise InvalidInputError("fewer values than the table promised", file=self.path)
        return RawReader(self._file, 0, self.dtype, self.shape)


def temporary_file(path: str) -> RawFile:
    """Return an unnamed temporary file for numbers converted from ``path``."""
    with _Spooling(path), tempfile.TemporaryFile(prefix="rashomon-core-") as stream:
        return RawFile(path, fd=os.dup(stream.fileno()))


class _Spooling:
    """Turns an OSError while writing temporary numbers into an OutputError that says where and what to do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"{self.path}: no room for its numbers in the folder for temporary files "
                f"{tempfile.gettempdir()!r} ({error.strerror}). Fix: free space there or set TMPDIR"
            ) from None
