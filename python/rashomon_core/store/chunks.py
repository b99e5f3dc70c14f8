"""Zarr arrays on disk, chunk by chunk: plain chunks are read as files, packed ones are decoded.

A chunk that is not packed is a plain array in a file, so any part of it can be read, or mapped, by itself. A packed
one has no middle to read from: it is decoded whole, and its file is asked for ahead of time. Where one common codec
packed it that codec is called; other arrays are read through the library, which took twice as long with zstd.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError

from .files import RawFile
from .raw import RawReader, Region, SlicedReader
from .windows import Window

__all__ = ["ChunkFiles", "ZarrReader", "zarr_reader"]

Array = npt.NDArray[Any]
#: Codecs of format 2 that give back bytes. Not any that is installed: one of them unpickles.
CODECS = ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd")
#: Names of chunks that a message lists.
NAMED = 3


def zarr_reader(array: Any, path: str) -> ChunkFiles | SlicedReader:
    """Return the reader of a zarr array; scores with chunks that are not stored are refused."""
    root = getattr(array.store, "root", None)
    if root is None:
        return SlicedReader(array, path)
    files = _ChunkNames(array, os.path.join(str(root), array.path))
    missing = files.missing()
    if missing and np.dtype(array.dtype).kind == "f":
        named = ", ".join(missing[:NAMED]) + (" and others" if len(missing) > NAMED else "")
        raise InvalidInputError(
            f"{len(missing)} of {files.count} chunks are not stored: {named}. They would read as the fill value "
            f"{array.fill_value}, which is no prediction",
            file=path,
            fix="write them again; an interrupted writer leaves such gaps. If they are to hold the fill value, "
            "write with config={'write_empty_chunks': True}",
        )
    plain = not missing and _plain(array)
    if plain:
        files.require_size(np.dtype(array.dtype).itemsize)
    return ChunkFiles(files, np.dtype(array.dtype), path) if plain else ZarrReader(array, path, files)


def _plain(array: Any) -> bool:
    """Whether a chunk's file holds its numbers and nothing else, in C order."""
    facts = array.metadata.to_dict()
    if np.dtype(array.dtype).hasobject or np.dtype(array.dtype).kind not in "biuf" or not array.chunks:
        return False
    if facts.get("zarr_format") == 2:
        return facts.get("compressor") is None and not facts.get("filters") and facts.get("order") == "C"
    codecs: list[dict[str, Any]] = list(facts.get("codecs") or [])
    return len(codecs) == 1 and _little(codecs[0], array)


def _little(codec: dict[str, Any], array: Any) -> bool:
    """Whether a codec stores the numbers as they are in memory here."""
    endian = (codec.get("configuration") or {}).get("endian", "little")
    plain = codec.get("name") == "bytes" and str(getattr(endian, "value", endian)) == "little"
    return plain and np.dtype(array.dtype).byteorder in "=|<" and sys.byteorder == "little"


def _codec(array: Any) -> Any:
    """Return what decodes a chunk's file to its numbers in C order, or None where that takes more than one step."""
    facts = array.metadata.to_dict()
    if np.dtype(array.dtype).kind not in "biuf" or not array.chunks:
        return None
    from numcodecs import Blosc, GZip, Zstd, get_codec

    if facts.get("zarr_format") == 2:
        simple = (facts.get("compressor") or {}).get("id") in CODECS and not facts.get("filters")
        return get_codec(dict(facts["compressor"])) if simple and facts.get("order") == "C" else None
    codecs: list[dict[str, Any]] = list(facts.get("codecs") or [])
    if len(codecs) != 2 or not _little(codecs[0], array):
        return None
    known = {"zstd": Zstd, "blosc": Blosc, "gzip": GZip}
    return known[codecs[1]["name"]]() if codecs[1].get("name") in known else None


def _said_size(codec: str, packed: memoryview) -> int | None:
    """Return the bytes that a buffer says it holds, where its codec says so at the start of it."""
    if codec == "blosc":
        return int.from_bytes(packed[4:8], "little") if len(packed) >= 8 else None
    if codec != "zstd" or len(packed) < 6 or bytes(packed[:4]) != b"\x28\xb5\x2f\xfd":
        return None
    # RFC 8878, 3.1.1.1: a byte of flags, the window (not of a single segment), the dictionary, the size
    flags = packed[4]
    single, kind = flags >> 5 & 1, flags >> 6
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[kind]
    if width == 0 or len(packed) < start + width:
        return None
    return int.from_bytes(packed[start : start + width], "little") + 256 * (kind == 1)


def _check_blosc(packed: memoryview, size: int) -> None:
    """Compare what a Blosc buffer says of its lengths (bytes 4 to 8 and 12 to 16) with what they are."""
    plain, stored = _said_size("blosc", packed) or 0, int.from_bytes(packed[12:16], "little")
    if stored != len(packed) or plain != size:
        raise ValueError(f"{len(packed):,} bytes that say {stored:,}, for {plain:,} bytes instead of {size:,}")


class _ChunkNames:
    """The files of a chunk grid: of whole shards where there are such."""

    def __init__(self, array: Any, folder: str) -> None:
        self.folder, self._name = folder, array.metadata.encode_chunk_key
        self.shape: tuple[int, ...] = tuple(int(n) for n in array.shape)
        self.size: tuple[int, ...] = tuple(
            int(n) for n in (getattr(array, "shards", None) or array.chunks or self.shape)
        )
        self.grid = tuple(-(-n // k) for n, k in zip(self.shape, self.size, strict=True))

    @property
    def count(self) -> int:
        """Chunks of the grid."""
        return int(np.prod(self.grid))

    def file(self, place: tuple[int, ...]) -> str:
        """Return the path of a chunk."""
        return os.path.join(self.folder, self._name(place))

    def missing(self) -> list[str]:
        """Return the names of the chunks that have no file."""
        return [self._name(c) for c in product(*map(range, self.grid)) if not os.path.exists(self.file(c))]

    def require_size(self, itemsize: int) -> None:
        """Refuse a plain chunk that holds more than the numbers of a chunk; a shorter one shows when it is read."""
        size = math.prod(self.size) * itemsize
        for place in product(*map(range, self.grid)):
            found = os.path.getsize(self.file(place))
            if found > size:
                raise InvalidInputError(
                    f"the chunk has {found} bytes, and {size} are what its array says",
                    file=self.file(place),
                    fix="the chunk belongs to another array, or was damaged; write the array again",
                )

    def samples(self, axis: int) -> list[tuple[str, int]]:
        """Return the files that are there, with the first sample of each, samples being an axis."""
        places = product(*map(range, self.grid))
        found = [(self.file(c), c[axis] * self.size[axis]) for c in places]
        return [*((path, first) for path, first in found if os.path.exists(path)), *self._facts()]

    def _facts(self) -> list[tuple[str, int]]:
        names = (os.path.join(self.folder, name) for name in ("zarr.json", ".zarray"))
        return [(name, 0) for name in names if os.path.exists(name)]

    def touched(self, region: Region) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
        """Yield each chunk of a region: its place, the part of it, and where that part lies in the region."""
        spans = [range(a // k, -(-b // k)) for (a, b), k in zip(region, self.size, strict=True)]
        for place in product(*spans):
            inside, target = [], []
            for i, (a, b), k in zip(place, region, self.size, strict=True):
                first, last = max(a, i * k), min(b, (i + 1) * k)
                inside.append((first - i * k, last - i * k))
                target.append((first - a, last - a))
            yield place, tuple(inside), tuple(target)


class ChunkFiles:
    """An array of plain chunk files; each is opened while it is read."""

    def __init__(self, files: _ChunkNames, dtype: np.dtype[Any], path: str) -> None:
        self.files, self.dtype, self.path = files, dtype, path
        self.shape: tuple[int, ...] = files.shape
        self.chunks: tuple[int, ...] | None = files.size

    def _part(self, place: tuple[int, ...], *, keep_open: bool = False) -> RawReader:
        # chunks at the end of an axis are stored in full
        return RawReader(RawFile(self.files.file(place), keep_open=keep_open), 0, self.dtype, self.files.size)

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a region, chunk by chunk."""
        for place, inside, target in self.files.touched(region):
            self._part(place, keep_open=True).read_into(inside, out[tuple(slice(a, b) for a, b in target)])

    def window(self, region: Region, room: int, before: Window | None) -> tuple[Array, Window] | None:
        """Return a region of one chunk where the system keeps it; None if it takes a copy."""
        found = list(self.files.touched(region))
        return None if len(found) != 1 else self._part(found[0][0]).window(found[0][1], room, before)

    def resident(self, region: Region) -> int:
        """Return the bytes that a window of a region of one chunk takes at most."""
        return sum(self._part(place).resident(inside) for place, inside, _ in self.files.touched(region))

    def file_samples(self, axis: int) -> list[tuple[str, int]]:
        """Return the chunk files with the first sample of each."""
        return self.files.samples(axis)

    def ahead(self, region: Region) -> None:
        """Ask the system for the bytes of a region."""
        for place, inside, _ in self.files.touched(region):
            self._part(place).ahead(inside)


class ZarrReader(SlicedReader):
    """An array whose chunks are decoded.

    Tiles are whole groups of samples, and chunks often are not, so two tiles may want a part of one chunk. Who comes
    first decodes it, and what it leaves is kept for who comes second: a chunk is decoded once in a pass.
    """

    def __init__(self, array: Any, path: str, files: _ChunkNames) -> None:
        super().__init__(array, path)
        self.files = files
        size = int(np.prod(self.chunks or (1,))) * self.dtype.itemsize
        #: Bytes beside the block while a chunk is decoded: its packed and its plain form, and what is kept of another.
        self.decoding = 3 * size
        self._most = 2 * size
        self._codec = None if files.size != self.chunks else _codec(array)
        self._left: dict[tuple[int, ...], list[tuple[int, int, Array]]] = {}  # axis, place, what nobody had yet
        self._locks: dict[tuple[int, ...], threading.Lock] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a region, chunk by chunk."""
        if self.files.size != self.chunks:  # shards: their chunks are decoded by themselves
            super().read_into(region, out)
            return
        # the last chunk first: the next tile's thread wants what this one leaves of it, and decodes its own meanwhile
        for place, inside, target in reversed(list(self.files.touched(region))):
            out[tuple(slice(a, b) for a, b in target)] = self._part(place, inside)

    def _part(self, place: tuple[int, ...], inside: Region) -> Any:
        """Return a part of a chunk."""
        starts = [i * k for i, k in zip(place, self.files.size, strict=True)]
        sizes = [min(k, n - a) for k, n, a in zip(self.files.size, self.shape, starts, strict=True)]
        cut = [k for k, (span, n) in enumerate(zip(inside, sizes, strict=True)) if span != (0, n)]
        if len(cut) != 1:
            return self._decoded(place, starts, inside)
        axis, (first, last) = cut[0], inside[cut[0]]
        with self._lock:
            own = self._locks.setdefault(place, threading.Lock())
        with own:
            with self._lock:
                pieces = self._left.pop(place, [])
            held = [p for p in pieces if p[0] == axis and p[1] <= first and last <= p[1] + p[2].shape[axis]]
            if held:
                pieces = [p for p in pieces if p is not held[0]]
                begin, array = held[0][1:]
            else:
                pieces, begin = [], 0
                array = self._decoded(place, starts, tuple((0, n) for n in sizes))
            part = array[(slice(None),) * axis + (slice(first - begin, last - begin),)]
            for a, b in ((0, first - begin), (last - begin, array.shape[axis])):
                if a < b:
                    pieces.append((axis, begin + a, array[(slice(None),) * axis + (slice(a, b),)].copy()))
            with self._lock:
                every = [*pieces, *(p for kept in self._left.values() for p in kept)]
                if pieces and sum(p[2].nbytes for p in every) <= self._most:
                    self._left[place] = pieces
        return part

    def _buffer(self, name: str, size: int) -> memoryview:
        """Return this thread's memory for a chunk: new pages each time take as long as decoding does."""
        own: Array | None = getattr(self._own, name, None)
        if own is None or len(own) < size:
            own = np.empty(size, np.uint8)
            setattr(self._own, name, own)
        return own.data[:size]

    def _decoded(self, place: tuple[int, ...], starts: list[int], inside: Region) -> Any:
        """Return a part of a chunk, valid until this thread wants another."""
        file = self.files.file(place)
        if self._codec is None or not os.path.exists(file):  # one that is not stored holds the fill value
            return self._slice(tuple(slice(s + a, s + b) for s, (a, b) in zip(starts, inside, strict=True)))
        stored = RawFile(file, keep_open=False)
        packed = self._buffer("packed", stored.size)
        stored.readinto(packed, 0)
        size = math.prod(self.files.size) * self.dtype.itemsize
        try:
            if self._codec.codec_id == "blosc":  # which believes what the first bytes say of the length
                _check_blosc(packed, size)
            if _said_size(self._codec.codec_id, packed) == size:
                plain = self._codec.decode(packed, self._buffer("plain", size))
            else:
                plain = self._codec.decode(packed)
            if len(plain) != size:
                raise ValueError(f"{len(plain):,} bytes instead of {size:,}")
        except (RuntimeError, ValueError, OSError, EOFError, TypeError, zlib.error) as error:
            raise InvalidInputError(
                f"the chunk cannot be decoded ({error})", file=file, fix="the file may be damaged; write it again"
            ) from None
        chunk = np.frombuffer(plain, self.dtype).reshape(self.files.size)
        return chunk[tuple(slice(a, b) for a, b in inside)]

    def file_samples(self, axis: int) -> list[tuple[str, int]]:
        """Return the chunk files with the first sample of each."""
        return self.files.samples(axis)

    def ahead(self, region: Region) -> None:
        """Ask the system for the files of a region."""
        for place, _, _ in self.files.touched(region):
            file = RawFile(self.files.file(place), keep_open=False)
            if os.path.exists(file.path):
                RawReader(file, 0, np.dtype(np.uint8), (file.size,)).ahead(((0, file.size),))
