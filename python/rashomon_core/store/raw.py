"""Blocks of arrays that lie on disk, read without keeping more than the block in memory.

Files are read with positioned reads, straight into the caller's array wherever the bytes on disk are in the order
that the caller wants; blocks of floats with long runs can be had without that copy, as a window of the file
(``windows``) whose pages are counted like any other memory and given back with the block.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError
from rashomon_core.predictions import ArraySource, Source

from .files import RawFile
from .windows import Window, Windows, read_ahead, resident, supported

__all__ = [
    "MemoryReader",
    "RawReader",
    "Reader",
    "ReaderSource",
    "Region",
    "SlicedReader",
    "StackReader",
    "bfloat16_to_float32",
    "make_source",
]

Array = npt.NDArray[Any]
#: Half-open ranges, one per axis of a reader.
Region = tuple[tuple[int, int], ...]

#: Bytes of scratch per thread for blocks that must be reordered, widened or converted.
SCRATCH = 1 << 20
#: Short runs closer together than this are read in one call: a call costs about as much as copying so many
#: bytes.
GAP = 16 << 10
#: Runs at least this long are read one by one, whatever the gap between them.
LONG_RUN = 64 << 10
#: Bytes that one slice of a chunked container may take.
SLICE_BYTES = 4 << 20

_LOCAL = threading.local()
_UNSIGNED: dict[int, type[np.generic]] = {2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}


def bfloat16_to_float32(bits: Array) -> Array:
    """Widen bfloat16 bit patterns (uint16) to float32: the same sign, exponent and leading mantissa bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


# --- readers: an n-dimensional array somewhere, in the order of its own axes --------------------------------


class Reader(Protocol):
    """An array on disk. ``read_into`` fills ``out`` (any strides, native bytes) with a region of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: Natural size of a block along each axis (storage chunks), or None when any block reads well.
    chunks: tuple[int, ...] | None

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out``, whose shape is that of the region."""
        ...


class MemoryReader:
    """An array that is in memory already."""

    chunks: tuple[int, ...] | None = None

    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype

    def read_into(self, region: Region, out: Array) -> None:
        """Copy a region."""
        out[...] = self.array[tuple(slice(a, b) for a, b in region)]


class RawReader:
    """Plain numbers in a file at fixed byte strides.

    Parameters
    ----------
    file : RawFile
        Where they are.
    offset : int
        Byte of element (0, ..., 0).
    dtype : dtype
        As stored, big-endian included. With ``bfloat16`` it must be uint16, and float32 is handed out.
    shape : tuple of int
        Extents.
    strides : tuple of int, optional
        Bytes between neighbours along each axis; C order by default.
    """

    def __init__(
        self,
        file: RawFile,
        offset: int,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        strides: Sequence[int] | None = None,
        *,
        bfloat16: bool = False,
    ) -> None:
        self.file, self.offset, self.raw_dtype = file, offset, dtype
        self.bfloat16 = bfloat16
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if bfloat16 else dtype
        self.shape: tuple[int, ...] = tuple(shape)
        self.strides = tuple(strides) if strides is not None else c_strides(shape, dtype.itemsize)
        # slowest axis first: in this order the bytes of a region lie one behind the other
        self.order = sorted(range(len(self.shape)), key=lambda k: (-self.strides[k], k))
        self._windows = Windows()
        #: Extents of a region, its runs counted from its first byte, and their length.
        self._alike: tuple[tuple[int, ...], Array, int] = (), np.zeros(1, dtype=np.int64), 0
        self.chunks: tuple[int, ...] | None = None
        if len(self.shape) > 1:
            self.chunks = tuple(1 if k == self.order[0] else n for k, n in enumerate(self.shape))

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a region."""
        strides = [self.strides[k] for k in self.order]
        extents = [region[k][1] - region[k][0] for k in self.order]
        if 0 in extents:
            return
        position = self.offset + sum(region[k][0] * self.strides[k] for k in self.order)
        target = out.transpose(self.order)
        # Grow the span that one call reads, from the fastest axis outwards, while its parts touch or nearly
        # touch.
        span, axis, dense = self.raw_dtype.itemsize, len(extents), True
        while axis:
            extent, stride = extents[axis - 1], strides[axis - 1]
            if extent > 1:
                gap = stride - span
                if gap and (gap > GAP or span >= LONG_RUN):
                    break
                dense &= gap == 0
                span += (extent - 1) * stride
            axis -= 1
        plain = not self.bfloat16 and out.dtype == self.raw_dtype.newbyteorder("=")
        with self.file.descriptor() as fd:
            if dense and plain and target[(0,) * axis].flags.c_contiguous:
                self._copy(target, axis, position + _places(extents[:axis], strides[:axis]), fd)
                return
            for index in product(*map(range, extents[:axis])):
                at = position + sum(i * s for i, s in zip(index, strides[:axis], strict=True))
                self._gather(target[(*index, Ellipsis)], at, strides[axis:], fd)  # type: ignore[arg-type]

    def _copy(self, target: Array, axis: int, offsets: Array, fd: int) -> None:
        """Read a run of bytes to each of the parts of ``target`` along its first axes."""
        length = target[(0,) * axis].nbytes
        places = target.ctypes.data + _places(target.shape[:axis], target.strides[:axis])
        self.file.read_runs(offsets, length, places, fd)
        if not self.raw_dtype.isnative:
            target.byteswap(inplace=True)

    def runs(self, region: Region) -> tuple[Array, int]:
        """Return the ascending offsets of the runs of a region and their length; those without a gap are one."""
        extents = tuple(b - a for a, b in region)
        alike = self._alike  # most blocks of a file are
        if alike[0] != extents:
            alike = self._alike = extents, *self._runs_of(extents)
        start = self.offset + sum(a * stride for (a, _), stride in zip(region, self.strides, strict=True))
        return alike[1] + start, alike[2]

    def _runs_of(self, extents: tuple[int, ...]) -> tuple[Array, int]:
        strides, counts = ([values[k] for k in self.order] for values in (self.strides, extents))
        span, axis = self.raw_dtype.itemsize, len(counts)
        while axis and (counts[axis - 1] == 1 or strides[axis - 1] == span):
            span *= counts[axis - 1]
            axis -= 1
        return _places(counts[:axis], strides[:axis]), span

    def resident(self, region: Region) -> int:
        """Return the bytes that a window of a region takes at most."""
        return resident(*self.runs(region))

    def window(self, region: Region, room: int, before: Window | None) -> tuple[Array, Window] | None:
        """Return a region where the system keeps it, in the place of another, or None where it takes a copy."""
        try:
            with self.file.descriptor() as fd:
                found = self._windows.open(fd, *self.runs(region), room, before)
        except (OSError, ValueError):
            return None
        if found is None:
            return None
        return found.array(tuple(b - a for a, b in region), self.raw_dtype, self.strides), found

    def ahead(self, region: Region) -> None:
        """Ask the system for the bytes of a region before they are needed."""
        with contextlib.suppress(InvalidInputError), self.file.descriptor() as fd:
            read_ahead(fd, *self.runs(region))

    def _gather(self, block: Array, position: int, strides: list[int], fd: int) -> None:
        """Read spans of at most ``SCRATCH`` bytes and copy the wanted elements out of them."""
        spans = [(n - 1) * s for n, s in zip(block.shape, strides, strict=True)]
        span = sum(spans) + self.raw_dtype.itemsize
        if span > SCRATCH:
            axis = int(np.argmax(spans))
            step = max(1, (SCRATCH - span + spans[axis]) // strides[axis])
            for start in range(0, block.shape[axis], step):
                part = block[(slice(None),) * axis + (slice(start, start + step),)]
                self._gather(part, position + start * strides[axis], strides, fd)
            return
        scratch = _scratch()[:span]
        self.file.readinto(scratch, position, fd)
        found: Array = np.ndarray(block.shape, dtype=self.raw_dtype, buffer=scratch, strides=strides)
        _assign(block, bfloat16_to_float32(found) if self.bfloat16 else found)

    def collapse(self, axes: Sequence[int]) -> RawReader | None:
        """Return a reader with neighbouring ``axes`` merged, or None if the strides forbid it."""
        for a, b in pairwise(axes):
            if self.strides[a] != self.strides[b] * self.shape[b] and self.shape[a] > 1:
                return None
        keep = [k for k in range(len(self.shape)) if k not in axes[:-1]]
        count = math.prod(self.shape[k] for k in axes)
        shape = [count if k == axes[-1] else self.shape[k] for k in keep]
        strides = [self.strides[k] for k in keep]
        return RawReader(self.file, self.offset, self.raw_dtype, shape, strides, bfloat16=self.bfloat16)


def _places(extents: Sequence[int], strides: Sequence[int]) -> Array:
    """Return where the elements of an array of these extents lie, in bytes from the first, in C order."""
    places = np.zeros(1, dtype=np.int64)
    for n, stride in zip(extents, strides, strict=True):
        places = (places[:, None] + np.arange(n) * stride).reshape(-1)
    return places


def c_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Byte strides of a C-ordered array."""
    strides, step = [], itemsize
    for extent in reversed(shape):
        strides.append(step)
        step *= max(1, extent)
    return tuple(reversed(strides))


def _scratch() -> memoryview:
    buffer: bytearray | None = getattr(_LOCAL, "buffer", None)
    if buffer is None:
        buffer = _LOCAL.buffer = bytearray(SCRATCH)
    return memoryview(buffer)


def _assign(target: Array, source: Array) -> None:
    """Copy; a short last axis that is contiguous on both sides moves as one wide element."""
    if target.ndim > 1 and target.dtype == source.dtype:
        size, width = target.dtype.itemsize, target.shape[-1] * target.dtype.itemsize
        wide = _UNSIGNED.get(width)
        if wide is not None and target.shape[-1] > 1 and target.strides[-1] == source.strides[-1] == size:
            target, source = target.view(wide)[..., 0], source.view(wide)[..., 0]
    target[...] = source


class SlicedReader:
    """A container with its own slicing (zarr arrays, HDF5 datasets), read in steps that follow its chunks."""

    decoding = 0

    def __init__(self, array: Any, path: str, lock: threading.Lock | None = None) -> None:
        self.array, self.path, self.lock = array, path, lock
        self.shape: tuple[int, ...] = tuple(int(n) for n in array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        chunks = getattr(array, "chunks", None)
        self.chunks: tuple[int, ...] | None = tuple(int(n) for n in chunks) if chunks else None

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a region, at most about ``SLICE_BYTES`` or one chunk at a time."""
        step = list(self.chunks or (1,) * len(self.shape))
        for k in reversed(range(len(step))):  # grow the fastest axes first, in whole chunks
            extent = region[k][1] - region[k][0]
            room = SLICE_BYTES // max(1, math.prod(step) * self.dtype.itemsize)
            step[k] *= max(1, min(room, -(-extent // step[k])))
        for piece in product(*(_aligned(a, b, s) for (a, b), s in zip(region, step, strict=True))):
            where = tuple(slice(a - r[0], b - r[0]) for (a, b), r in zip(piece, region, strict=True))
            out[where] = self._slice(tuple(slice(a, b) for a, b in piece))

    def _slice(self, key: tuple[slice, ...]) -> Any:
        try:
            if self.lock is None:
                return self.array[key]
            with self.lock:
                return self.array[key]
        except (OSError, RuntimeError, ValueError) as error:
            raise InvalidInputError(
                f"a block could not be read ({error})",
                file=self.path,
                fix="the file may be damaged; write it again",
            ) from None


def _aligned(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


class StackReader:
    """Equal arrays, one per model, read as one array with a first axis of models."""

    def __init__(self, parts: Sequence[Reader], dtype: np.dtype[Any]) -> None:
        self.parts = parts
        self.shape: tuple[int, ...] = (len(parts), *parts[0].shape)
        self.dtype = dtype
        chunks = parts[0].chunks
        self.chunks: tuple[int, ...] | None = (1, *(chunks or parts[0].shape))

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out``, model by model."""
        for row, part in enumerate(self.parts[region[0][0] : region[0][1]]):
            part.read_into(region[1:], out[row])

    def file_samples(self, axis: int) -> list[tuple[str, int]]:
        """Return the files of all models: each holds samples from the first on."""
        return [(p.file.path, 0) for p in self.parts if isinstance(p, RawReader)]

    def ahead(self, region: Region) -> None:
        """Ask for the bytes of a region of each model."""
        for part in self.parts[region[0][0] : region[0][1]]:
            if isinstance(part, RawReader):
                part.ahead(region[1:])


# --- the source that predictions are read through -----------------------------------------------------------


class ReaderSource:
    """A reader with named axes, handed out as (models, samples[, classes]).

    ``chunks`` (models, samples) is the natural size of a block, or None: blocks that follow it touch every
    byte of the file once.
    """

    in_memory = False

    def __init__(self, reader: Reader, axes: Sequence[str], path: str | None, key: str | None = None) -> None:
        model_axes = [k for k, name in enumerate(axes) if name not in ("samples", "classes")]
        if len(model_axes) > 1 and isinstance(reader, RawReader):
            merged = reader.collapse(model_axes)
            if merged is not None:
                reader = merged
                axes = [name for k, name in enumerate(axes) if k not in model_axes[:-1]]
                model_axes = [k for k, name in enumerate(axes) if name not in ("samples", "classes")]
        self._reader, self._models, self._samples = reader, model_axes, list(axes).index("samples")
        self._classes = list(axes).index("classes") if "classes" in axes else None
        self._grid = tuple(reader.shape[k] for k in model_axes)
        self.path, self.key = path, key
        self.dtype: np.dtype[Any] = reader.dtype
        tail = () if self._classes is None else (reader.shape[self._classes],)
        self.shape: tuple[int, ...] = (math.prod(self._grid), reader.shape[self._samples], *tail)
        self.chunks: tuple[int, int] | None = None
        #: Bytes beside a block while it is decoded.
        self.decoding = int(getattr(reader, "decoding", 0))
        if reader.chunks is not None:
            self.chunks = (reader.chunks[model_axes[-1]] if model_axes else 1, reader.chunks[self._samples])

    @property
    def windows(self) -> tuple[int, int] | None:
        """Models and samples of the largest block that a kernel can read without a copy; None: there is none."""
        reader, order = self._reader, self._order()
        if len(self._models) != 1 or self.dtype.kind != "f" or not (self.dtype.isnative and supported()):
            return None
        if isinstance(reader, RawReader):
            size = self.dtype.itemsize
            packed = c_strides([reader.shape[k] for k in order], size)[1:] == tuple(
                reader.strides[k] for k in order[1:]
            )
            aligned = reader.offset % size == 0 and reader.strides[order[0]] % size == 0
            return (self.shape[0], self.shape[1]) if packed and aligned and not reader.bfloat16 else None
        return self.chunks if hasattr(reader, "window") and order == sorted(order) else None

    def _order(self) -> list[int]:
        """Axes of the reader: models, samples, classes."""
        return [*self._models, self._samples, *([] if self._classes is None else [self._classes])]

    def resident(self, models: slice, samples: slice) -> int:
        """Return the bytes that a window takes at most: the system brings in more than what was asked for."""
        taken: int = self._reader.resident(self._region(models, samples))  # type: ignore[attr-defined]
        return taken

    def window(
        self, models: slice, samples: slice, room: int, before: Window | None = None
    ) -> tuple[Array, Window] | None:
        """Return a block where the system keeps it, and what gives its memory back; or None.

        ``room``: bytes that it may bring in. ``before``: the window that it takes the place of, which is given back.
        """
        found = self._reader.window(self._region(models, samples), room, before)  # type: ignore[attr-defined]
        if found is None:
            if before is not None:
                before.release()
            return None
        return found[0].transpose(self._order()), found[1]

    def ahead(self, models: slice, samples: slice) -> None:
        """Ask for a block that will be read soon; returns at once."""
        if hasattr(self._reader, "ahead") and len(self._models) == 1:
            self._reader.ahead(self._region(models, samples))

    def files(self) -> list[tuple[str, int]]:
        """Return the files with the first sample of each; none where the reader cannot tell."""
        found = getattr(self._reader, "file_samples", None)
        return [] if found is None else list(found(self._samples))

    def _region(self, models: slice, samples: slice) -> Region:
        """Return the region of a block of an array with one axis of models."""
        region = [(0, n) for n in self._reader.shape]
        region[self._models[0]] = models.indices(self.shape[0])[:2]
        region[self._samples] = samples.indices(self.shape[1])[:2]
        return tuple(region)

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        """Fill and return a block; see :class:`rashomon_core.predictions.Source`."""
        first, last, _ = models.indices(self.shape[0])
        start, stop, _ = samples.indices(self.shape[1])
        shape = (max(0, last - first), max(0, stop - start), *self.shape[2:])
        native = self.dtype.newbyteorder("=")
        if out is None:
            out = np.empty(shape, dtype=native)
        elif out.shape != shape or out.dtype != native:
            raise ValueError(f"out must be {native} of shape {shape}, got {out.dtype} of shape {out.shape}")
        if 0 in shape:
            return out
        inner = self._grid[-1] if self._grid else 1
        at = first
        while at < last:  # models are flattened over several axes: one read per run along the last of them
            row, column = divmod(at, inner)
            count = min(last - at, inner - column)
            region = [(0, 0)] * len(self._reader.shape)
            for k, i in zip(self._models[:-1], np.unravel_index(row, self._grid[:-1] or (1,)), strict=False):
                region[k] = (int(i), int(i) + 1)
            present = {self._samples: 1}
            if self._models:
                region[self._models[-1]] = (column, column + count)
                present[self._models[-1]] = 0
            region[self._samples] = (start, stop)
            if self._classes is not None:
                region[self._classes] = (0, self.shape[2])
                present[self._classes] = 2
            block = out[at - first : at - first + count]
            if not self._models:
                block = block[0]
                present = {k: v - 1 for k, v in present.items()}
            block = block.transpose([present[k] for k in sorted(present)])
            lone = tuple(k for k in range(len(region)) if k not in present)
            self._reader.read_into(tuple(region), np.expand_dims(block, lone) if lone else block)
            at += count
        return out


def make_source(reader: Reader, axes: Sequence[str], path: str | None, key: str | None = None) -> Source:
    """Return the source of a reader; arrays in memory are handed out as views."""
    if isinstance(reader, MemoryReader) and reader.array.size:  # empty ones are refused by their shape alone
        from rashomon_core.predictions import canonical_view

        return ArraySource(canonical_view(reader.array, axes), path)
    return ReaderSource(reader, axes, path, key)
