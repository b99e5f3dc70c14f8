"""Matrices that are written block by block, in any order and from several threads: .npy and .zarr, all or nothing."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import MissingDependencyError, OutputError, UsageError

from .files import as_bytes, write_all
from .saving import _NewFile, _sync_folder, _writing

__all__ = ["Blocks", "writing_matrix"]

Array = npt.NDArray[Any]


class Blocks(Protocol):
    """What takes ``blocks[rows, columns] = values``."""

    def __setitem__(self, place: tuple[slice, slice], values: Array) -> None:
        """Write a block."""
        ...


class _NpyBlocks:
    def __init__(self, fd: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.fd, self.width, self.dtype = fd, shape[1], dtype
        header = io.BytesIO()
        facts: dict[str, Any] = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, facts)
        self.base = header.tell()
        write_all(fd, memoryview(header.getvalue()), 0)
        os.ftruncate(fd, self.base + shape[0] * shape[1] * dtype.itemsize)

    def __setitem__(self, place: tuple[slice, slice], values: Array) -> None:
        rows, columns = place
        block = np.ascontiguousarray(values, dtype=self.dtype)
        item = self.dtype.itemsize
        if columns.stop - columns.start == self.width:
            write_all(self.fd, as_bytes(block), self.base + rows.start * self.width * item)
            return
        for k in range(len(block)):
            write_all(self.fd, as_bytes(block[k]), self.base + ((rows.start + k) * self.width + columns.start) * item)


@contextlib.contextmanager
def writing_matrix(
    path: str | os.PathLike[str],
) -> Iterator[Callable[[tuple[int, int], np.dtype[Any], int], Blocks]]:
    """Give what makes the matrix of a shape, dtype and block; it takes its name when the block ends without an error.

    Blocks that start at multiples of the block size are written to .zarr as chunks.

    Raises
    ------
    OutputError
        The folder is missing, full or not writable; a .zarr of this name is there.
    """
    name = os.fspath(path).rstrip("/\\")
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".npy":
        with _writing(name):
            new = _NewFile(name)
            try:
                fd = new.open()
                yield lambda shape, dtype, block: _NpyBlocks(fd, shape, dtype)
                new.complete()
                new.publish()
            finally:
                new.discard()
            _sync_folder(new.folder)
    elif suffix == ".zarr":
        yield from _zarr(name)
    else:
        raise UsageError(f"{name}: a matrix is written as .npy or .zarr. Fix: name it so")


def _zarr(name: str) -> Iterator[Callable[[tuple[int, int], np.dtype[Any], int], Blocks]]:
    try:
        import zarr
    except ImportError:
        raise MissingDependencyError("zarr", "writing .zarr", "io") from None
    if os.path.exists(name):
        raise OutputError(f"{name}: exists already. Fix: remove it, or choose another name")
    folder = os.path.dirname(os.path.abspath(name))
    temporary = os.path.join(folder, f".{os.path.basename(name)}.{secrets.token_hex(8)}.tmp")

    def begin(shape: tuple[int, int], dtype: np.dtype[Any], block: int) -> Any:
        chunks = (min(block, shape[0]), min(block, shape[1]))
        return zarr.create_array(temporary, shape=shape, chunks=chunks, dtype=dtype)

    with _writing(name):
        try:
            os.mkdir(temporary)
            yield begin
            os.rename(temporary, name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(folder)
