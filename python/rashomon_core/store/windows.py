"""Windows: stretches of a file that are read where the system keeps them, without a copy.

A page of a mapping counts as resident memory of the process from its first touch until it is given back. So a
window is never left to grow by itself: exactly the runs of one block are brought in, by calls that report a failing
disk or a shortened file as an error instead of a signal, and all of it is given back with the block.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _files

__all__ = ["Window", "read_ahead", "resident", "supported"]

Array = npt.NDArray[Any]
#: Bytes of one request to read ahead: what every system grants in one call.
AHEAD = 128 << 10
#: What the system may keep as one piece of a file: the first touch of a byte of it brings all of it in.
HUGE = 2 << 20
_DONTNEED, _POPULATE_READ = 4, 22


def _can_populate() -> bool:
    """Tell whether pages of a mapping can be brought in by one call that reports what goes wrong (Linux 5.14)."""
    if sys.platform != "linux":
        return False
    page = mmap.mmap(-1, mmap.PAGESIZE)
    return _advise(_address(page), 0, mmap.PAGESIZE, _POPULATE_READ) == 0


def _address(pages: mmap.mmap) -> int:
    return int(np.frombuffer(pages, dtype=np.uint8).ctypes.data)


def _advise(address: int, start: int, length: int, advice: int) -> int:
    return _files.advise(address, np.array([[start, length]], dtype=np.int64), advice)


_populates = _can_populate()


def supported() -> bool:
    """Tell whether this system can map a file under control."""
    return _populates


def resident(offsets: Array, length: int) -> int:
    """Return the bytes that become resident at most when runs of one length at ascending offsets are brought in."""
    first, last = offsets // HUGE, (offsets + length - 1) // HUGE
    shared = np.count_nonzero(first[1:] == last[:-1])
    return int((last - first + 1).sum() - shared) * HUGE


class Window:
    """Runs of a file of one length at ascending offsets, all brought in.

    Raises
    ------
    OSError, ValueError
        The file is shorter than that, or its disk fails: a positioned read will say where.
    """

    def __init__(self, fd: int, offsets: Array, length: int) -> None:
        start, stop = int(offsets[0]), int(offsets[-1]) + length
        base = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._pages = mmap.mmap(fd, stop - base, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=base)
        self._address = _address(self._pages)
        self._start, self._length = start - base, stop - base
        first = (offsets - base) // mmap.PAGESIZE * mmap.PAGESIZE
        code = _files.advise(self._address, np.stack([first, offsets - base + length - first], axis=1), _POPULATE_READ)
        if code:
            self.release()
            raise OSError(code, os.strerror(code))

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...]) -> Array:
        """Return numbers of the window, from its first byte on; it stays readable as long as the array lives."""
        found: Array = np.ndarray(shape, dtype, buffer=self._pages, offset=self._start, strides=strides)
        return found

    def release(self) -> None:
        """Give the pages back; arrays remain valid and would bring them in again."""
        _advise(self._address, 0, self._length, _DONTNEED)


def _is_here(fd: int, at: int) -> bool:
    """Tell whether a byte of a file can be had without waiting for the disk."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


def read_ahead(fd: int, offsets: Array, length: int) -> None:
    """Ask the system to read runs of one length while we do something else."""
    if not hasattr(os, "posix_fadvise") or not len(offsets):
        return
    ends = (offsets[0], offsets[len(offsets) // 2], offsets[-1] + length - 1)
    if all(_is_here(fd, int(at)) for at in ends):
        return
    with contextlib.suppress(OSError):  # advice
        for offset in offsets.tolist():
            for at in range(offset, offset + length, AHEAD):
                os.posix_fadvise(fd, at, min(AHEAD, offset + length - at), os.POSIX_FADV_WILLNEED)
