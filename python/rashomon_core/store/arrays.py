"""Containers of arrays: .npy, .npz, .safetensors, .zarr, HDF5 and .pt, each as named readers.

Nothing is ever unpickled: object arrays are refused by their header, and torch files go through
``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError

from .chunks import zarr_reader
from .files import RawFile, open_descriptor
from .raw import (
    SCRATCH,
    MemoryReader,
    RawReader,
    Reader,
    SlicedReader,
    bfloat16_to_float32,
    c_strides,
)
from .spool import SPOOL_MEMORY, temporary_file

__all__ = ["CONTAINERS", "Entry", "choose", "entries", "is_zarr", "load", "natural_key", "npy_reader"]

Array = npt.NDArray[Any]
#: Bytes of nearly every header of a .npy file.
HEADER = 128
#: One lock for HDF5: the library under h5py is serial, and a thread that waits here holds no other lock.
_HDF5_LOCK = threading.Lock()
_SAFETENSORS = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One named array of a container; ``open`` makes its reader."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], Reader]
    #: True for bfloat16, whose numbers are handed out as float32 but carry 8 bits.
    bfloat16: bool = False


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which "m2" stands before "m10"."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), p) if p.isdigit() and p.isascii() else (1, 0, p) for p in parts)


def is_zarr(path: str) -> bool:
    """Tell whether a folder is a zarr array or group."""
    marks = ("zarr.json", ".zarray", ".zgroup")
    return path.lower().rstrip("/\\").endswith(".zarr") or any(os.path.exists(os.path.join(path, m)) for m in marks)


def choose(found: Sequence[Entry], key: str | None, path: str) -> Entry:
    """Return the array that ``key`` names, or the only one."""
    if not found:
        raise InvalidInputError("the file holds no arrays", file=path, fix="write the predictions into it")
    names = _listing(found)
    if key is not None:
        for entry in found:
            if entry.name == key or entry.name == key.strip("/"):
                return entry
        raise InvalidInputError(
            f"no array named {key!r}; there are {names}",
            file=path,
            fix="pass one of these as key (--key NAME)",
        )
    if len(found) > 1:
        raise InvalidInputError(
            f"several arrays and no key: {names}",
            file=path,
            fix="pass key=NAME (--key NAME), or key_per_model=True (--key-per-model) if each is one model",
        )
    return found[0]


def _listing(found: Sequence[Entry]) -> str:
    names = [f"{e.name!r} {e.shape} {e.dtype}" for e in found[:12]]
    return ", ".join(names) + (f" and {len(found) - 12} more" if len(found) > 12 else "")


# --- .npy ---------------------------------------------------------------------------------------------------


def npy_header(stream: IO[bytes], size: int, path: str) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Read the header of a .npy stream of ``size`` bytes: dtype, shape, Fortran order, data offset."""
    if size == 0:
        raise InvalidInputError("the file is empty", file=path, fix="write it again with numpy.save")
    start = stream.read(6)
    if start != b"\x93NUMPY":
        what = (
            "a pickled file, and nothing is ever unpickled" if start[:1] == b"\x80" else "not a .npy file (wrong magic)"
        )
        raise InvalidInputError(what, file=path, fix="write a plain array with numpy.save")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream, max_header_size=1 << 16)
    except (ValueError, KeyError, EOFError, TypeError, SyntaxError, RecursionError) as error:
        raise InvalidInputError(
            f"the header of the .npy file cannot be read ({error})",
            file=path,
            fix="write it again with numpy.save",
        ) from None
    if any(n < 0 for n in shape):
        raise InvalidInputError(f"the header states the shape {shape}", file=path, fix="write it again with numpy.save")
    if dtype.hasobject:
        raise InvalidInputError(
            f"an array of Python objects, shape {shape}, is a pickle, and nothing is ever unpickled",
            file=path,
            fix="convert it first, for example array.astype(np.float32), and save it again",
        )
    offset, needed = stream.tell(), math.prod(shape) * dtype.itemsize
    if size - offset < needed:
        raise InvalidInputError(
            f"the file is truncated: shape {shape} {dtype} needs {needed} bytes, {size - offset} are there",
            file=path,
            fix="copy or write the file again",
        )
    return dtype, tuple(shape), bool(fortran), offset


def npy_strides(shape: Sequence[int], itemsize: int, fortran: bool) -> tuple[int, ...]:
    """Byte strides of the numbers of a .npy file."""
    return tuple(reversed(c_strides(shape[::-1], itemsize))) if fortran else c_strides(shape, itemsize)


def npy_reader(path: str, *, keep_open: bool = True, known: dict[bytes, Any] | None = None) -> RawReader:
    """Return a reader of a .npy file, any order and byte order.

    ``known``: headers that were read before, by their bytes and the size of the file; of equal files one is parsed.
    """
    fd = open_descriptor(path)
    with io.BufferedReader(io.FileIO(fd, "rb"), HEADER) as stream:
        size = os.fstat(fd).st_size
        key = stream.peek(HEADER)[:HEADER] + b"%d" % size
        found = None if known is None else known.get(key)
        if found is None:
            found = npy_header(stream, size, path)
            if known is not None and found[3] <= HEADER:
                known[key] = found
    dtype, shape, fortran, offset = found
    file = RawFile(path, keep_open=keep_open)
    return RawReader(file, offset, dtype, shape, npy_strides(shape, dtype.itemsize, fortran))


# --- .npz ---------------------------------------------------------------------------------------------------


def _npz(path: str) -> list[Entry]:
    file = RawFile(path)
    if file.size == 0:
        raise InvalidInputError("the file is empty", file=path, fix="write it again with numpy.savez")
    found = []
    with _damaged(path, "numpy.savez"), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename[: -len(".npy")]
            with archive.open(info) as member:
                dtype, shape, fortran, offset = npy_header(member, info.file_size, f"{path}[{name}]")
            strides = npy_strides(shape, dtype.itemsize, fortran)
            found.append(Entry(name, shape, dtype, _npz_opener(file, info, offset, dtype, shape, strides)))
    return found


def _npz_opener(
    file: RawFile,
    info: zipfile.ZipInfo,
    offset: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Callable[[], Reader]:
    def open_stored() -> Reader:
        return RawReader(file, _zip_data(file, info) + offset, dtype, shape, strides)

    def open_packed() -> Reader:
        """Unpack once (packed numbers have no middle to read from), small in memory, large into a file."""
        small = info.file_size <= SPOOL_MEMORY
        target = bytearray() if small else temporary_file(file.path)
        with (
            _damaged(file.path, "numpy.savez"),
            zipfile.ZipFile(file.path) as archive,
            archive.open(info) as member,
        ):
            at = 0
            while piece := member.read(SCRATCH):
                if isinstance(target, bytearray):
                    target += piece
                else:
                    target.write(memoryview(piece), at)
                at += len(piece)
        if isinstance(target, bytearray):
            return MemoryReader(np.ndarray(shape, dtype=dtype, buffer=target, offset=offset, strides=strides))
        return RawReader(target, offset, dtype, shape, strides)

    return open_stored if info.compress_type == zipfile.ZIP_STORED else open_packed


def _zip_data(file: RawFile, info: zipfile.ZipInfo) -> int:
    """Offset of the bytes of a stored member: they follow its own header, which alone knows its length."""
    head = bytearray(30)
    file.readinto(memoryview(head), info.header_offset)
    return info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")


#: What a header with the wrong kind of JSON inside raises.
_SHAPELESS = (KeyError, TypeError, AttributeError)


@contextlib.contextmanager
def _damaged(path: str, writer: str) -> Iterator[None]:
    try:
        yield
    except InvalidInputError:
        raise
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        *_SHAPELESS,
    ) as error:
        text = str(error).split("\n")[0]
        raise InvalidInputError(
            f"the file is truncated or damaged ({text})", file=path, fix=f"write it again with {writer}"
        ) from None


# --- .safetensors -------------------------------------------------------------------------------------------


def _safetensors(path: str) -> list[Entry]:
    """Read the header ourselves: the library maps the whole file, and mapped pages count as our memory."""
    file = RawFile(path)
    size = file.size
    if size == 0:
        raise InvalidInputError("the file is empty", file=path, fix="write it again with safetensors")
    with _damaged(path, "safetensors"):
        head = bytearray(8)
        file.readinto(memoryview(head), 0)
        length = int.from_bytes(head, "little")
        if length > min(size - 8, 100 << 20):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        text = bytearray(length)
        file.readinto(memoryview(text), 8)
        header = json.loads(text)
        found = []
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            kind, shape = str(facts["dtype"]), tuple(int(n) for n in facts["shape"])
            begin, end = (int(n) for n in facts["data_offsets"])
            if kind not in _SAFETENSORS:
                raise ValueError(f"tensor {name!r} has the dtype {kind}")
            dtype = np.dtype(_SAFETENSORS[kind])
            if end - begin != math.prod(shape) * dtype.itemsize or 8 + length + end > size or begin < 0:
                raise ValueError(f"tensor {name!r} does not fit into the file")
            brain = kind == "BF16"
            shown = np.dtype(np.float32) if brain else dtype
            opener = partial(RawReader, file, 8 + length + begin, dtype, shape, bfloat16=brain)
            found.append(Entry(name, shape, shown, opener, brain))
    return sorted(found, key=lambda e: natural_key(e.name))


# --- zarr and HDF5 ------------------------------------------------------------------------------------------


def _zarr(path: str) -> list[Entry]:
    try:
        import zarr
    except ImportError:
        raise MissingDependencyError("zarr", "reading .zarr", "io") from None
    if not os.path.exists(path):
        raise InvalidInputError("the file does not exist", file=path, fix="check the path")
    try:
        root = zarr.open(path, mode="r")
        arrays = [("data", root)] if isinstance(root, zarr.Array) else sorted(_zarr_members(root, zarr))
        return [Entry(name, tuple(a.shape), np.dtype(a.dtype), partial(zarr_reader, a, path)) for name, a in arrays]
    except Exception as error:  # the library raises many unrelated types for a damaged store
        raise InvalidInputError(
            f"not a readable zarr store ({error})", file=path, fix="write it again with zarr"
        ) from None


def _zarr_members(group: Any, zarr: Any) -> list[tuple[str, Any]]:
    return [(name, a) for name, a in group.members(max_depth=None) if isinstance(a, zarr.Array)]


class _Hdf5File:
    """An open HDF5 file, closed when the last reader of it goes."""

    def __init__(self, path: str) -> None:
        try:
            import h5py
        except ImportError:
            raise MissingDependencyError("h5py", "reading HDF5", "io") from None
        os.close(open_descriptor(path))
        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            text = str(error).split("\n")[0]
            raise InvalidInputError(
                f"not a readable HDF5 file ({text})", file=path, fix="write it again with h5py"
            ) from None
        self.datasets: list[tuple[str, Any]] = []
        self.file.visititems(
            lambda name, item: self.datasets.append((name, item)) if isinstance(item, h5py.Dataset) else None
        )
        weakref.finalize(self, self.file.close)


class _Hdf5Reader(SlicedReader):
    """A dataset; it keeps its file open."""

    def __init__(self, owner: _Hdf5File, dataset: Any, path: str) -> None:
        super().__init__(dataset, path, _HDF5_LOCK)
        self.owner = owner


def _hdf5(path: str) -> list[Entry]:
    owner = _Hdf5File(path)
    return [
        Entry(name, tuple(d.shape or ()), np.dtype(d.dtype), partial(_Hdf5Reader, owner, d, path))
        for name, d in owner.datasets
    ]


# --- .pt ----------------------------------------------------------------------------------------------------


def _torch(path: str) -> list[Entry]:
    try:
        import torch
    except ImportError:
        raise MissingDependencyError("torch", "reading .pt", "torch") from None
    if RawFile(path).size == 0:
        raise InvalidInputError("the file is empty", file=path, fix="write it again with torch.save")
    mapped = zipfile.is_zipfile(path)  # files in the format from before torch 1.6 cannot be mapped
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (
        Exception
    ) as error:  # UnpicklingError, RuntimeError, EOFError, ...: all mean that these are not plain tensors
        text = str(error).split("\n")[0][:200]
        raise InvalidInputError(
            f"not a file of plain tensors ({text})",
            file=path,
            fix="save the tensor itself: torch.save(tensor, path); nothing else is ever unpickled",
        ) from None
    tensors = loaded if isinstance(loaded, dict) else {"data": loaded}
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor) or value.is_sparse or value.is_quantized:
            raise InvalidInputError(
                f"entry {name!r} is {type(value).__name__}, not a dense tensor",
                file=path,
                fix="save one tensor or a flat dict of tensors",
            )
    offsets = _torch_offsets(path, list(tensors.values())) if mapped else None
    found = []
    for name, tensor in tensors.items():
        brain = tensor.dtype == torch.bfloat16
        kind = (
            np.uint16 if brain else getattr(np, str(tensor.dtype).removeprefix("torch.").replace("bool", "bool_"), None)
        )
        if kind is None:
            raise InvalidInputError(
                f"tensor {name!r} has the dtype {tensor.dtype}", file=path, fix="convert it to float32"
            )
        dtype, shape = np.dtype(kind), tuple(tensor.shape)
        shown = np.dtype(np.float32) if brain else dtype
        found.append(Entry(str(name), shape, shown, _torch_opener(path, tensor, dtype, brain, offsets), brain))
    return found


def _torch_offsets(path: str, tensors: Sequence[Any]) -> dict[int, int] | None:
    """Match the storages in the mapping with the members of the zip file; None if they do not match exactly.

    Storages lie in the mapping as their members lie in the file, so equal distances and equal sizes say which
    is which. Reading the file by offset keeps the pages of the mapping out of our resident memory.
    """
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    file = RawFile(path)
    with zipfile.ZipFile(path) as archive:
        names = (i for i in archive.infolist() if re.search(r"(^|/)data/\d+$", i.filename) and i.file_size)
        members = sorted((_zip_data(file, i), i.file_size) for i in names if i.compress_type == zipfile.ZIP_STORED)
    present = sorted(item for item in storages.items() if item[1])
    if len(members) != len(present) or not members:
        return None
    shift = present[0][0] - members[0][0]
    if any((address - shift, size) != member for (address, size), member in zip(present, members, strict=True)):
        return None
    return {address: address - shift for address, _ in present}


def _torch_opener(
    path: str, tensor: Any, dtype: np.dtype[Any], brain: bool, offsets: dict[int, int] | None
) -> Callable[[], Reader]:
    def open_tensor() -> Reader:
        start = None if offsets is None else offsets.get(tensor.untyped_storage().data_ptr())
        if start is not None:
            strides = [s * dtype.itemsize for s in tensor.stride()]
            begin = start + tensor.storage_offset() * dtype.itemsize
            return RawReader(RawFile(path), begin, dtype, tuple(tensor.shape), strides, bfloat16=brain)
        if brain:
            import torch

            bits: Array = tensor.contiguous().view(torch.int16).numpy().view(np.uint16)
            return MemoryReader(bfloat16_to_float32(bits))
        return MemoryReader(tensor.detach().numpy())

    return open_tensor


CONTAINERS: dict[str, Callable[[str], list[Entry]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".zarr": _zarr,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".hdf": _hdf5,
    ".he5": _hdf5,
    ".pt": _torch,
    ".pth": _torch,
}


def entries(path: str, suffix: str) -> list[Entry]:
    """List the arrays of a container file."""
    if suffix not in CONTAINERS:
        raise UsageError(f"{path}: {suffix} is not a container")
    return CONTAINERS[suffix](path)


def load(reader: Reader) -> Array:
    """Read a whole array (vectors only: predictions are read in blocks)."""
    out = np.empty(reader.shape, dtype=reader.dtype.newbyteorder("="))
    reader.read_into(tuple((0, n) for n in reader.shape), out)
    return out
