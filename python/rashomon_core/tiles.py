"""Splits work by a memory budget and runs it.

The only file that makes threads, shows progress and handles Ctrl-C. Work is a list of independent tasks; results are
merged in the order of the list, so that nothing depends on which thread was faster.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .predictions import Predictions

__all__ = [
    "BLOCK",
    "Plan",
    "Scratch",
    "SpillArray",
    "default_memory",
    "default_threads",
    "parse_memory",
    "parse_threads",
    "plan",
    "plan_whole",
    "read_block",
    "run",
    "show_progress",
]

Array = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")

#: Samples per block of a float sum; tiles of sums are whole blocks.
BLOCK = 4096
#: Samples per group of bit planes; all other tiles are whole groups.
GROUP = 512
#: Largest tile: small enough to stop soon after Ctrl-C, large enough that Python does not matter.
TILE_BYTES = 1 << 26
#: Shortest run of one model that is read from a file: a page, so that no page is read twice.
PAGE = 4096
#: Planes and per-sample columns may take this part of the budget in memory; beyond it they spill.
KEPT_PART = 0.25


# --- limits -----------------------------------------------------------------------------------------------------


def parse_memory(value: int | str | None) -> int:
    """Return a number of bytes from 512, "512MB", "1.5GiB" or None (the default).

    Examples
    --------
    >>> from rashomon_core.tiles import parse_memory
    >>> parse_memory("2GB"), parse_memory("1.5MiB")
    (2000000000, 1572864)
    """
    if value is None:
        return default_memory()
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", value.lower())
        if match is None:
            raise UsageError(f"memory {value!r} is not a size. Fix: for example 2GB or 512MiB")
        power = " kmgt".index(match[2] or " ")
        value = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if value < 1_000_000:
        raise UsageError(f"a memory budget of {value} bytes is too small. Fix: at least 1MB")
    return int(value)


def default_memory() -> int:
    """Return a quarter of the memory that is available now, cgroup limits included."""
    available = 4 << 30
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as f:
        fields = dict(line.split(":", 1) for line in f)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as f:
            available = min(available, int(f.read()))
    return max(available // 4, 64_000_000)


def parse_threads(value: int | None) -> int:
    """Return a number of threads: the given one, or the default."""
    if value is None:
        return default_threads()
    if value < 1:
        raise UsageError(f"{value} threads. Fix: at least 1")
    return int(value)


def default_threads() -> int:
    """Return ``RASHOMON_CORE_THREADS``, else the processors this process may use (affinity, cgroup quota)."""
    stated = os.environ.get("RASHOMON_CORE_THREADS")
    if stated:
        try:
            return parse_threads(int(stated))
        except ValueError:
            raise UsageError(f"RASHOMON_CORE_THREADS={stated!r} is not a number of threads") from None
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max", encoding="ascii") as f:
        quota, period = f.read().split()
        count = min(count, max(1, math.ceil(int(quota) / int(period))))
    return count


# --- running ----------------------------------------------------------------------------------------------------


class Scratch:
    """Buffers of one worker, reused from task to task."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

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


_reporter: Callable[[str, int, int], None] | None = None
_pools = itertools.count()


def progress(label: str, done: int, total: int) -> None:
    """Tell the progress bar that is shown, if one is."""
    if _reporter is not None:
        _reporter(label, done, total)


def run(
    tasks: Sequence[T],
    work: Callable[[T, Scratch], R],
    merge: Callable[[T, R], None] | None = None,
    *,
    threads: int,
    label: str = "",
) -> None:
    """Do all tasks on a pool of threads and merge their results in the order of the tasks.

    Kernels release the GIL. An exception stops the rest and is raised; of several, the one of the earliest task.
    Ctrl-C stops after the tasks at hand.
    """
    total = len(tasks)
    report = _reporter
    if report is not None:
        report(label, 0, total)
    if threads == 1 or total <= 1:
        scratch = Scratch()
        for i, task in enumerate(tasks):
            result = work(task, scratch)
            if merge is not None:
                merge(task, result)
            if report is not None:
                report(label, i + 1, total)
        return
    local = threading.local()
    stop = threading.Event()

    def call(task: T) -> R | None:
        if stop.is_set():
            return None
        if not hasattr(local, "scratch"):
            local.scratch = Scratch()
        return work(task, local.scratch)

    waiting: deque[tuple[T, Future[R | None]]] = deque()
    prefix = f"rashomon-core-{next(_pools)}"
    pool = ThreadPoolExecutor(max_workers=min(threads, total), thread_name_prefix=prefix)
    try:
        done = started = 0
        while True:
            while len(waiting) < 2 * threads and started < total:
                waiting.append((tasks[started], pool.submit(call, tasks[started])))
                started += 1
            if not waiting:
                break
            task, future = waiting.popleft()
            value = future.result()
            if merge is not None:
                merge(task, value)  # type: ignore[arg-type]
            done += 1
            if report is not None:
                report(label, done, total)
    finally:
        stop.set()
        _join(pool, prefix)


def _join(pool: ThreadPoolExecutor, prefix: str) -> None:
    """Wait for the threads of a pool, also when Ctrl-C comes right then, or came while the pool started a thread."""
    interrupted = False
    while True:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
            for thread in threading.enumerate():  # one that was started and not yet noted
                if thread.name.startswith(f"{prefix}_"):
                    thread.join()
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def show_progress(enabled: bool | None = None, *, after: float = 1.0) -> Iterator[None]:
    """Draw a progress bar on stderr for work inside that takes longer than ``after`` seconds.

    ``enabled`` None: only when stderr is a terminal.
    """
    global _reporter
    if enabled is None:
        enabled = sys.stderr.isatty()
    if not enabled:
        yield
        return
    started = time.monotonic()
    bar: Any = None
    current: dict[str, Any] = {}

    def report(label: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            if time.monotonic() - started < after:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.start()
        if label not in current:
            current[label] = bar.add_task(label or "working", total=total)
        bar.update(current[label], completed=done, total=total)

    before, _reporter = _reporter, report
    try:
        yield
    finally:
        _reporter = before
        if bar is not None:
            bar.stop()


# --- planning ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a tensor is visited: tiles of samples, each read in blocks of models."""

    tiles: tuple[tuple[int, int], ...]
    models: int  # models of a block

    @property
    def samples(self) -> int:
        """Samples of the largest tile."""
        return max(stop - start for start, stop in self.tiles)


def plan(predictions: Predictions, *, threads: int, memory: int, per_sample: int, unit: int = GROUP) -> Plan:
    """Choose tiles so that all workers together stay within ``memory``.

    Parameters
    ----------
    per_sample : int
        Bytes that a worker keeps for each sample of its tile, next to the scores it reads.
    unit : int
        Tiles are whole multiples of this many samples.
    """
    M, N = predictions.n_models, predictions.n_samples
    width = predictions.columns * predictions.dtype.itemsize
    share = max(memory // threads, 1)
    in_place = _kernel_ready(predictions)
    shortest = unit * max(1, math.ceil(PAGE / (unit * width)))
    # samples: as many as fit the share with all models, at least a page of each, at most a tile's worth
    per_model = 0 if in_place else width
    fit = share // max(1, per_sample + per_model * M)
    largest = max(TILE_BYTES // (width * M), 1)
    samples = max(shortest, min(fit, largest) // unit * unit)
    if in_place:  # enough tiles for all threads
        even = math.ceil(N / (4 * threads))
        samples = min(samples, max(shortest, math.ceil(even / unit) * unit))
    chunks = getattr(predictions.source, "chunks", None)
    if chunks is not None and chunks[1] < N and samples > chunks[1]:
        samples = max(shortest, samples // chunks[1] * chunks[1] // unit * unit)
    samples = min(samples, math.ceil(N / unit) * unit)
    models = M
    if not in_place:
        room = max(share - per_sample * samples, share // 4)
        models = min(M, max(1, room // (samples * width)))
        if chunks is not None and chunks[0] < models:
            models = models // chunks[0] * chunks[0]
    return Plan(tuple((i, min(i + samples, N)) for i in range(0, N, samples)), models)


def plan_whole(predictions: Predictions, *, threads: int, memory: int, per_sample: int) -> Plan:
    """Choose tiles that hold all models of their samples, for work that needs them together.

    As many samples as fit the memory; at least a page of each model where that fits, else at least one sample.
    """
    M, N = predictions.n_models, predictions.n_samples
    width = predictions.columns * predictions.dtype.itemsize
    in_place = _kernel_ready(predictions)
    fit = memory // threads // (per_sample + (0 if in_place else width * M))
    samples = max(1, min(fit, max(TILE_BYTES // (width * M), 1), math.ceil(N / (4 * threads))))
    if not in_place and samples * width < PAGE:
        samples = max(1, min(fit, math.ceil(PAGE / width)))
    return Plan(tuple((i, min(i + samples, N)) for i in range(0, N, samples)), M)


def _kernel_ready(predictions: Predictions) -> bool:
    """Whether blocks can go to a kernel as they lie in memory."""
    array = getattr(predictions.source, "array", None)
    if not predictions.source.in_memory or array is None:
        return False
    return _ready(array[:1])


def _ready(block: Array) -> bool:
    itemsize = block.dtype.itemsize
    inner = itemsize
    for size, stride in zip(block.shape[:0:-1], block.strides[:0:-1], strict=True):
        if size != 1 and stride != inner:
            return False
        inner *= size
    return block.dtype.isnative and block.flags.aligned and block.strides[0] % itemsize == 0


def read_block(predictions: Predictions, models: slice, samples: slice, scratch: Scratch) -> Array:
    """Return a block that a kernel can read: a view where that is possible, else repacked once into scratch."""
    source = predictions.source
    shape = (models.stop - models.start, samples.stop - samples.start, *source.shape[2:])
    dtype = source.dtype.newbyteorder("=")
    if source.in_memory:
        block = source.read(models, samples)
        if _ready(block):
            return block
        out = scratch.array("block", shape, dtype)
        np.copyto(out, block)
        return out
    return source.read(models, samples, scratch.array("block", shape, dtype))


# --- arrays beyond the budget -----------------------------------------------------------------------------------


class SpillArray:
    """An array in memory, or in an unlinked temporary file when it would not fit the budget.

    The first two axes are written and read in ranges. Files are read and written with pread and pwrite, so their
    pages never count as memory of the process, and vanish with it.
    """

    _file: Any = None

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, spill: bool = False, odd: bool = False) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._item = math.prod(shape[2:]) * self.dtype.itemsize
        self._memory: Array | None = None
        if spill:
            self._file = tempfile.TemporaryFile(prefix="rashomon-core-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)  # a memory map of it has its own handle
            self._file.truncate(math.prod(shape) * self.dtype.itemsize)
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
            step = max(1, TILE_BYTES // 4 // max(1, len(order) * self._item))
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
