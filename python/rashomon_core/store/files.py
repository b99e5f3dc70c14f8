"""Files that are read and written at stated offsets, by several threads at once."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _files
from rashomon_core.errors import InvalidInputError

__all__ = ["RawFile", "as_bytes", "open_descriptor", "require_seekable", "write_all"]

Array = npt.NDArray[Any]
#: Bytes that are read in one go, without looking whether Ctrl-C was pressed.
TOGETHER = 16 << 20
_SEEK_LOCK = threading.Lock()


def require_seekable(path: str) -> None:
    """Refuse a pipe or a device: opening one may wait for ever, and nothing can be read at a stated place of it."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a named pipe" if stat.S_ISFIFO(mode) else "no regular file"
        raise InvalidInputError(f"this is {what}, which cannot be read in parts", file=path, fix="write it to a file")


def open_descriptor(path: str) -> int:
    """Open ``path`` for reading; a failure becomes an error that names the file and the fix."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise InvalidInputError("the file does not exist", file=path, fix="check the path") from None
    except OSError as error:
        raise InvalidInputError(
            f"the file cannot be read ({error.strerror})", file=path, fix="check its permissions"
        ) from None


class RawFile:
    """A file that several threads read at stated offsets.

    Parameters
    ----------
    path : str
        Name for opening and for messages.
    fd : int, optional
        An open descriptor that this object owns from now on.
    keep_open : bool
        False opens the file anew for each read: a folder of 10,000 models must not hold 10,000 descriptors.
    """

    def __init__(self, path: str, *, fd: int | None = None, keep_open: bool = True) -> None:
        self.path = path
        self._fd: int | None = fd
        if fd is None and keep_open:
            self._fd = open_descriptor(path)
        if self._fd is not None:
            weakref.finalize(self, os.close, self._fd)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return os.fstat(self._fd).st_size if self._fd is not None else os.stat(self.path).st_size

    @contextlib.contextmanager
    def descriptor(self) -> Iterator[int]:
        """Lend a descriptor: the one that is kept open, or one for the moment."""
        if self._fd is not None:
            yield self._fd
            return
        fd = open_descriptor(self.path)
        try:
            yield fd
        finally:
            os.close(fd)

    def readinto(self, view: memoryview, offset: int, fd: int | None = None) -> None:
        """Fill ``view`` (bytes) from ``offset``; a short file is an error. ``fd``: a descriptor that was lent."""
        if fd is None:
            with self.descriptor() as fd:
                self.readinto(view, offset, fd)
            return
        done = 0
        while done < len(view):
            piece = view[done : done + TOGETHER]
            try:
                count = _pread(fd, piece, offset + done)
            except OSError as error:
                raise InvalidInputError(
                    f"reading failed at byte {offset + done} ({error.strerror})",
                    file=self.path,
                    fix="check the disk",
                ) from None
            if count == 0:
                size = os.fstat(fd).st_size
                raise InvalidInputError(
                    f"the file ends at byte {size}, {offset + len(view) - size} bytes too early",
                    file=self.path,
                    fix="the file was truncated after it was opened; write it again",
                )
            done += count

    def read_runs(self, offsets: Array, length: int, places: Array, fd: int) -> None:
        """Read runs of one length at ``offsets`` to addresses in memory; a short file is an error."""
        step = max(1, TOGETHER // length)
        for first in range(0, len(offsets), step):
            last = min(first + step, len(offsets))
            done = first
            if length <= TOGETHER:
                done += _files.read_runs(fd, offsets[first:last], length, places[first:last])
            for k in range(done, last):  # what could not be read in one go: this reads it, or says why
                view = memoryview((ctypes.c_char * length).from_address(int(places[k]))).cast("B")
                self.readinto(view, int(offsets[k]), fd)

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes at ``offset`` of an owned descriptor."""
        assert self._fd is not None
        write_all(self._fd, data, offset)


def _pread(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    with (
        _SEEK_LOCK,
        io.FileIO(fd, "rb", closefd=False) as stream,
    ):  # Windows: the offset belongs to the descriptor
        stream.seek(offset)
        return stream.readinto(view) or 0


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write every byte of ``data`` at ``offset``."""
    done = 0
    while done < len(data):
        piece = data[done : done + (1 << 30)]
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, piece, offset + done)
        else:
            with _SEEK_LOCK:
                os.lseek(fd, offset + done, os.SEEK_SET)
                done += os.write(fd, piece)


def as_bytes(array: Array) -> memoryview:
    """Return the memory of a C-contiguous array as bytes."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
