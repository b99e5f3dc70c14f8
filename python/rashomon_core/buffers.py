"""Memory that is reused: scratch of a worker, and arrays that lie in a file when they would not fit the budget."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Scratch", "SpillArray"]

Array = npt.NDArray[Any]
#: Bytes that are moved at a time when rows change places.
MOVED = 1 << 24


class Scratch:
    """Buffers of one worker, reused from task to task."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        #: The window of a file that the last block is in.
        self.window: Any = None

    def hold(self, window: Any) -> None:
        """Keep a window of a file until the next block is read, or the worker is done; None gives back the last."""
        if self.window is not None:
            self.window.release()
        self.window = window

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, *, zero: bool = False) -> Array:
        """Return an array with undefined content (or zeros) under a name; asking again reuses its memory."""
        kind = np.dtype(dtype)
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.dtype != kind or buffer.size < size:
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = np.empty(size, dtype=kind)
        array = buffer[:size].reshape(shape)
        if zero:
            array.fill(0)
        return array


class SpillArray:
    """An array in memory, or in an unlinked temporary file when it would not fit the budget.

    The first two axes are written and read in ranges. Files are read and written with pread and pwrite, so their
    pages never count as memory of the process, and vanish with it.
    """

    _file: Any = None

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        spill: bool = False,
        odd: bool = False,
        turned: bool = False,
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._item = math.prod(shape[2:]) * self.dtype.itemsize
        self._memory: Array | None = None
        if spill:
            self._file = tempfile.TemporaryFile(prefix="rashomon-core-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)  # a memory map of it has its own handle
            self._file.truncate(math.prod(shape) * self.dtype.itemsize)
        elif turned:  # in memory the second axis comes first
            self._memory = np.empty((shape[1], shape[0], *shape[2:]), self.dtype).swapaxes(0, 1)
        else:
            # an odd distance between rows: rows at distances of powers of two compete for the same cache sets
            self._memory = (
                np.empty((shape[0], shape[1] | 1, *shape[2:]), self.dtype)[:, : shape[1]]
                if odd
                else np.empty(shape, self.dtype)
            )

    @classmethod
    def of(cls, array: Array) -> SpillArray:
        """Return an array that is there already as one that would be in memory."""
        made = cls((0, 0), array.dtype)
        made.shape, made._item, made._memory = array.shape, math.prod(array.shape[2:]) * array.dtype.itemsize, array
        return made

    def __del__(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    @property
    def in_memory(self) -> bool:
        """False for a temporary file."""
        return self._memory is not None

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def place(self, rows: slice, columns: slice, scratch: Scratch, name: str) -> Array:
        """Return where to write ``[rows, columns]``: a view of the array, or scratch to hand to :meth:`commit`."""
        if self._memory is not None:
            return self._memory[rows, columns]
        shape = (rows.stop - rows.start, columns.stop - columns.start, *self.shape[2:])
        return scratch.array(name, shape, self.dtype)

    def commit(self, block: Array, rows: slice, columns: slice) -> None:
        """Keep what was written to :meth:`place`."""
        if self._memory is not None:
            return
        if columns.stop - columns.start == self.shape[1]:
            self._write(_bytes(block), rows.start * self.shape[1] * self._item)
            return
        for k, row in enumerate(range(rows.start, rows.stop)):
            self._write(_bytes(block[k]), (row * self.shape[1] + columns.start) * self._item)

    def put(self, block: Array, rows: slice, columns: slice) -> None:
        """Write a block that lies elsewhere."""
        if self._memory is not None:
            self._memory[rows, columns] = block
        else:
            self.commit(np.ascontiguousarray(block), rows, columns)

    def read(self, rows: slice, columns: slice | None = None) -> Array:
        """Return ``[rows, columns]``: a view of memory, or a new array read from the file."""
        columns = slice(0, self.shape[1]) if columns is None else columns
        if self._memory is not None:
            return self._memory[rows, columns]
        count, width = rows.stop - rows.start, columns.stop - columns.start
        out = np.empty((count, width, *self.shape[2:]), dtype=self.dtype)
        if width == self.shape[1]:
            self._read(_bytes(out), rows.start * self.shape[1] * self._item)
        else:
            for k, row in enumerate(range(rows.start, rows.stop)):
                self._read(_bytes(out[k]), (row * self.shape[1] + columns.start) * self._item)
        return out

    def gather(self, rows: Array, columns: slice, scratch: Scratch, name: str) -> Array:
        """Return ``[rows, columns]`` of the rows with these numbers, in scratch."""
        width = columns.stop - columns.start
        out = scratch.array(name, (len(rows), width | 1, *self.shape[2:]), self.dtype)[:, :width]  # odd, as above
        for k, row in enumerate(rows.tolist()):
            out[k] = self.read(slice(row, row + 1), columns)[0]
        return out

    def reorder(self, order: Array) -> None:
        """Put row ``order[k]`` at place k, for all k, in place."""
        columns = slice(0, self.shape[1])
        if self._memory is not None:
            step = max(1, MOVED // max(1, len(order) * self._item))
            for at in range(0, self.shape[1], step):
                columns = slice(at, min(at + step, self.shape[1]))
                self._memory[:, columns] = self._memory[order, columns]
            return
        left = np.ones(len(order), dtype=bool)
        for start in range(len(order)):  # cycle by cycle: one row is kept
            if not left[start]:
                continue
            first, place = self.read(slice(start, start + 1)), start
            while left[place]:
                left[place] = False
                source = int(order[place])
                row = first if source == start else self.read(slice(source, source + 1))
                self.commit(row, slice(place, place + 1), columns)
                place = source

    def array(self) -> Array:
        """Return the whole array; a spilled one as a memory map of its file."""
        if self._memory is not None:
            return self._memory
        return np.memmap(self._file, dtype=self.dtype, mode="r+", shape=self.shape)

    def _write(self, data: memoryview, offset: int) -> None:
        while len(data):
            done = _pwrite(self._file, data, offset)
            data, offset = data[done:], offset + done

    def _read(self, data: memoryview, offset: int) -> None:
        while len(data):
            done = _pread(self._file, data, offset)
            if done == 0:
                raise OSError("a temporary file ended early")
            data, offset = data[done:], offset + done


def _bytes(block: Array) -> memoryview:
    return memoryview(block.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


_seek_lock = threading.Lock()


def _pwrite(file: Any, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), data, offset)
    with _seek_lock:  # no positioned writes on this platform
        file.seek(offset)
        return int(file.write(data))


def _pread(file: Any, data: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [data], offset)
    with _seek_lock:
        file.seek(offset)
        return int(file.readinto(data))
