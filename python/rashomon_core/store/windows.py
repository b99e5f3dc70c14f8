"""Windows: stretches of a file that are read where the system keeps them, without a copy.

A page of a mapping counts as resident memory of the process from its first touch until it is given back. So a
window is never left to grow by itself: exactly the runs of one block are brought in, by calls that report a failing
disk or a shortened file as an error instead of a signal, and all of it is given back with the block, or with those
that follow it as long as all of them together have room.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _files

__all__ = ["Window", "Windows", "read_ahead", "resident", "supported"]

Array = npt.NDArray[Any]
#: Bytes of one request to read ahead: what every system grants in one call.
AHEAD = 128 << 10
#: What the system may keep as one piece of a file: the first touch of a byte of it brings all of it in.
HUGE = 2 << 20
#: Most that windows bring in together: more would save next to nothing.
SHARED = 512 << 20
#: The offset of what begins with its mapping.
START = np.zeros(1, dtype=np.int64)
_DONTNEED, _POPULATE_READ = 4, 22


def _can_populate() -> bool:
    """Tell whether pages of a mapping can be brought in by one call that reports what goes wrong (Linux 5.14)."""
    if sys.platform != "linux":
        return False
    page = mmap.mmap(-1, mmap.PAGESIZE)
    return _advise(_address(page), START, mmap.PAGESIZE, _POPULATE_READ) == 0


def _address(pages: mmap.mmap) -> int:
    return int(np.frombuffer(pages, dtype=np.uint8).ctypes.data)


def _advise(address: int, offsets: Array, length: int, advice: int) -> int:
    return _files.advise(address, offsets, length, mmap.PAGESIZE, advice)


_populates = _can_populate()


def supported() -> bool:
    """Tell whether this system can map a file under control."""
    return _populates


def resident(offsets: Array, length: int) -> int:
    """Return the bytes that become resident at most when runs of one length at ascending offsets are brought in."""
    return len(_units(offsets, length)) * HUGE


def _units(offsets: Array, length: int) -> Array:
    """Return the numbers of the pieces of :data:`HUGE` bytes that runs at ascending offsets have a part of."""
    first, last = offsets // HUGE, (offsets + (length - 1)) // HUGE
    most = int((last - first).max())
    if most:
        first = np.minimum(first[:, None] + np.arange(most + 1), last[:, None]).reshape(-1)
    found: Array = first[np.append(True, first[1:] != first[:-1])]
    return found


class _Mapping:
    """A file mapped as a whole, and the units of it that windows have brought in; given back with the last of them."""

    def __init__(self, fd: int) -> None:
        self.pages = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.address = _address(self.pages)
        self._here = np.zeros(-(-len(self.pages) // HUGE), dtype=bool)
        self._windows = 0
        #: All was given back: a window would start anew.
        self.over = False

    def join(self, units: Array, room: int) -> bool:
        """Count one more window, if all that is here then has at most ``room`` bytes."""
        if self.over or np.count_nonzero(self._here) + np.count_nonzero(~self._here[units]) > room // HUGE:
            return False
        self._here[units] = True
        self._windows += 1
        return True

    def leave(self) -> None:
        """Count one window less."""
        self._windows -= 1
        if not self._windows:
            self.over = True
            _advise(self.address, START, len(self.pages), _DONTNEED)


class Windows:
    """The windows of one file.

    What the system keeps as one piece is brought in as one piece, and is larger than the run of one tile. So windows of
    neighbouring tiles, also of several threads, share a mapping as long as all of it has room: each piece is brought in
    once, not with each tile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: weakref.ref[_Mapping] | None = None  # it ends with its windows

    def open(self, fd: int, offsets: Array, length: int, room: int, before: Window | None) -> Window | None:
        """Return the runs of one length at ascending offsets, all brought in, or None where they have no room.

        Parameters
        ----------
        room : int
            Bytes that a window may bring in, and all windows that share a mapping.
        before : Window, optional
            The window that this one takes the place of; it is given back first, unless there is no room for a new one.

        Raises
        ------
        OSError, ValueError
            The file is shorter than that, or its disk fails: a positioned read will say where.
        """
        units, stop = _units(offsets, length), int(offsets[-1]) + length
        if len(units) * HUGE > room:
            return None
        if before is not None and before.lock is not self._lock:  # of another file
            before.release()
        with self._lock:  # nobody ever counts for two mappings
            mapping = None if self._last is None else self._last()
            if mapping is not None and (stop > len(mapping.pages) or not mapping.join(units, min(room, SHARED))):
                mapping = None
            if before is not None:
                before.leave()
        if mapping is None:
            mapping = _Mapping(fd)
            if stop > len(mapping.pages):
                raise ValueError("the file is too short")
            with self._lock:
                mapping.join(units, room)
                self._last = weakref.ref(mapping)
        return Window(mapping, self._lock, offsets, length)


class Window:
    """Runs of a file, all brought in. See :meth:`Windows.open`."""

    def __init__(self, mapping: _Mapping, lock: threading.Lock, offsets: Array, length: int) -> None:
        self.lock = lock
        self._mapping, self._start, self._open = mapping, int(offsets[0]), True
        code = _advise(mapping.address, offsets, length, _POPULATE_READ)
        if code:
            self.release()
            raise OSError(code, os.strerror(code))

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...]) -> Array:
        """Return numbers of the window, from its first byte on; it stays readable as long as the array lives."""
        found: Array = np.ndarray(shape, dtype, buffer=self._mapping.pages, offset=self._start, strides=strides)
        return found

    def release(self) -> None:
        """Give the pages back with the last window that shares them; arrays remain valid and would bring them in again.

        A window that was released is left as it is.
        """
        with self.lock:
            self.leave()

    def leave(self) -> None:
        """Do so for who has the lock."""
        if self._open:
            self._open = False
            self._mapping.leave()


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
