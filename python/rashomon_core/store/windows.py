"""Windows: stretches of a file that are read where the system keeps them, without a copy.

A page of a mapping counts as resident memory of the process from its first touch until it is given back. So a
window is never left to grow by itself: exactly the runs of one block are brought in, by one call each that reports
a failing disk or a shortened file as an error instead of a signal, and all of it is given back with the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Window", "read_ahead", "supported"]

Array = npt.NDArray[Any]
#: Bytes of one request to read ahead: what every system grants in one call.
AHEAD = 128 << 10
HUGE = 2 << 20
_DONTNEED, _NOHUGEPAGE, _POPULATE_READ = 4, 15, 22


def _find_madvise() -> Any:
    """Return the C function, called without the lock of the interpreter, or None where it cannot do what we need."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) < 8:
        return None
    try:
        found = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = np.frombuffer(page, dtype=np.uint8).ctypes.data
    return found if found(address, mmap.PAGESIZE, _POPULATE_READ) == 0 else None  # Linux 5.14


_madvise = _find_madvise()


def supported() -> bool:
    """Tell whether this system can map a file under control."""
    return _madvise is not None


class Window:
    """The bytes ``start .. stop`` of a file, of which ``runs`` (offset, length) are brought in.

    ``huge``: bytes that may be brought in as whole huge pages, which saves most faults; runs begin and end in some.

    Raises
    ------
    OSError, ValueError
        The file is shorter than that, or its disk fails: a positioned read will say where.
    """

    def __init__(self, fd: int, start: int, stop: int, runs: Sequence[tuple[int, int]], *, huge: int = 0) -> None:
        base = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._pages = mmap.mmap(fd, stop - base, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=base)
        self._address = np.frombuffer(self._pages, dtype=np.uint8).ctypes.data
        self._start, self._length = start - base, stop - base
        whole = sum(-(-(at + length) // HUGE) * HUGE - at // HUGE * HUGE for at, length in runs)
        if len(runs) > 1 and min(whole, self._length) > huge:  # around short runs they are more than was asked for
            _madvise(self._address, self._length, _NOHUGEPAGE)
        for offset, length in runs:
            first = (offset - base) // mmap.PAGESIZE * mmap.PAGESIZE
            if _madvise(self._address + first, offset - base + length - first, _POPULATE_READ):
                code = ctypes.get_errno()
                self.release()
                raise OSError(code, os.strerror(code))

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...]) -> Array:
        """Return numbers of the window, from its first byte on; it stays readable as long as the array lives."""
        found: Array = np.ndarray(shape, dtype, buffer=self._pages, offset=self._start, strides=strides)
        return found

    def release(self) -> None:
        """Give the pages back; arrays remain valid and would bring them in again."""
        _madvise(self._address, self._length, _DONTNEED)


def _is_here(fd: int, at: int) -> bool:
    """Tell whether a byte of a file can be had without waiting for the disk."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


def read_ahead(fd: int, runs: Sequence[tuple[int, int]]) -> None:
    """Ask the system to read the bytes of ``runs`` (offset, length) while we do something else."""
    if not hasattr(os, "posix_fadvise") or not runs:
        return
    ends = (runs[0][0], runs[len(runs) // 2][0], runs[-1][0] + runs[-1][1] - 1)
    if all(_is_here(fd, at) for at in ends):
        return
    with contextlib.suppress(OSError):  # advice
        for offset, length in runs:
            for at in range(offset, offset + length, AHEAD):
                os.posix_fadvise(fd, at, min(AHEAD, offset + length - at), os.POSIX_FADV_WILLNEED)
