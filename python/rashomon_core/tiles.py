"""Splits work by a memory budget and runs it.

The only file that makes threads, shows progress and handles Ctrl-C. Work is a list of independent tasks; results are
merged in the order of the list, so that nothing depends on which thread was faster.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .buffers import Scratch, SpillArray
from .errors import UsageError
from .predictions import Predictions

__all__ = [
    "BLOCK",
    "Plan",
    "ReadAhead",
    "Scratch",
    "SpillArray",
    "default_memory",
    "default_threads",
    "no_interrupts",
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
#: Runs of one model that are worth looking at the accumulators again: a call, or a file opened, costs that much.
LONG_RUN = 64 << 10
#: Shortest run of one model that is mapped instead of read: below it faults cost as much as a copy.
WINDOW_RUN = 128 << 10
#: Tiles of a plan whose windows are looked at: what they bring in repeats along the file.
LOOKED_AT = 32
#: Models of a block below which longer runs are not worth a second look at the accumulators.
WINDOW_MODELS = 16
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


_reporter: Callable[[str, int, int, int], None] | None = None
_pools = itertools.count()


def progress(label: str, done: int, total: int, nbytes: int = 0) -> None:
    """Tell the progress bar that is shown, if one is; ``nbytes`` were read so far (0: reading is not the work)."""
    if _reporter is not None:
        _reporter(label, done, total, nbytes)


def progress_is_shown() -> bool:
    """Whether anybody is told by :func:`progress`: work elsewhere need not send how far it is."""
    return _reporter is not None


def run(
    tasks: Sequence[T],
    work: Callable[[T, Scratch], R],
    merge: Callable[[T, R], None] | None = None,
    *,
    threads: int,
    label: str = "",
    nbytes: Callable[[T], int] | None = None,
) -> None:
    """Do all tasks on some threads, this one among them, and merge their results here in the order of the tasks.

    ``nbytes``: what a task reads, for the progress bar. Kernels release the GIL. An exception stops the rest and is
    raised; of several, the one of the earliest task. Ctrl-C stops after the tasks at hand.
    """
    total, count = len(tasks), 0
    progress(label, 0, total)
    crew = _Crew(tasks, work, ahead=2 * threads)
    with crew.helped_by(min(threads, total) - 1):
        for i, task in enumerate(tasks):
            result = crew.result(i)
            if merge is not None:
                merge(task, result)
            count += 0 if nbytes is None else nbytes(task)
            progress(label, i + 1, total, count)


@contextlib.contextmanager
def no_interrupts() -> Iterator[None]:
    """Put Ctrl-C and an end by SIGTERM off to the end of the block, which is short.

    A thread that is started then may wait forever, and one that is waited for counts as ended while it runs.
    """
    own: dict[signal.Signals, Callable[..., Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                own[number] = handler
    caught: list[Any] = []
    try:
        for number in own:
            signal.signal(number, lambda *what: caught.append(what))
        yield
    finally:
        for number in own:
            signal.signal(number, own[number])
    for what in caught[:1]:
        own[signal.Signals(what[0])](*what)


class _Crew(Generic[T, R]):
    """Threads that take tasks in their order, at most ``ahead`` before the first whose result was not asked for.

    The thread that asks works too while its result is not there: with as many threads as processors, one that only
    waited would have to push another from a processor to be told. They speak through queues: Ctrl-C in the middle of
    a condition of Python would leave its lock taken, and everyone waiting for it.
    """

    def __init__(self, tasks: Sequence[T], work: Callable[[T, Scratch], R], ahead: int) -> None:
        self.tasks, self.work, self.ahead = tasks, work, ahead
        self.scratch = Scratch()
        self.count = 0  # tasks that were offered
        self.offers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()
        self.found: dict[int, tuple[R | None, BaseException | None]] = {}
        self.failed = len(tasks)  # what comes behind a task that failed is not begun
        self.stopped = False

    @contextlib.contextmanager
    def helped_by(self, threads: int) -> Iterator[None]:
        """Have more threads work for the block; they have ended after it."""
        prefix = f"rashomon-core-{next(_pools)}_"
        try:
            if threads > 0:
                with no_interrupts():
                    for k in range(threads):
                        threading.Thread(target=self._help, name=f"{prefix}{k}").start()
            yield
        finally:
            try:
                self._end(prefix, threads)
            finally:
                self.scratch.hold(None)

    def _end(self, prefix: str, threads: int) -> None:
        """Wait for the threads, also when Ctrl-C comes right then, or came while one was started."""
        interrupted: BaseException | None = None
        while True:
            try:
                with no_interrupts():
                    self.stopped = True
                    for _ in range(threads):
                        self.offers.put(None)
                    for thread in threading.enumerate():
                        if thread.name.startswith(prefix):
                            with contextlib.suppress(RuntimeError):  # another signal came before it was started
                                thread.join()
                break
            except BaseException as raised:  # Ctrl-C, or what the handler of another signal raises
                interrupted = raised
        if interrupted is not None:
            raise interrupted

    def result(self, i: int) -> R:
        """Return what task i gave, or raise what it raised; to be called for one after the other."""
        while self.count < min(len(self.tasks), i + self.ahead):
            self.offers.put(self.count)
            self.count += 1
        while i not in self.found:
            while not self.done.empty():
                self._take_in()
            if i not in self.found:
                try:
                    k = self.offers.get_nowait()
                except queue.Empty:  # another is at it
                    self._take_in()
                else:
                    assert k is not None
                    self._do(k, self.scratch)
        value, error = self.found.pop(i)
        if error is not None:
            try:
                raise error
            finally:
                del error  # it knows this frame
        return value  # type: ignore[return-value]

    def _take_in(self) -> None:
        k, value, error = self.done.get()
        self.found[k] = value, error

    def _do(self, k: int, scratch: Scratch) -> None:
        value: R | None = None
        error: BaseException | None = None
        try:
            if k < self.failed:
                value = self.work(self.tasks[k], scratch)
        except BaseException as raised:
            if scratch is self.scratch and not isinstance(raised, Exception):
                raise  # Ctrl-C
            error, self.failed = raised, min(self.failed, k)
        self.done.put((k, value, error))

    def _help(self) -> None:
        scratch = Scratch()
        try:
            while (k := self.offers.get()) is not None and not self.stopped:
                self._do(k, scratch)
        finally:
            scratch.hold(None)


@contextlib.contextmanager
def show_progress(enabled: bool | None = None, *, after: float = 1.0) -> Iterator[None]:
    """Draw a progress bar on stderr for work inside that takes longer than ``after`` seconds.

    It says what part is done, how fast bytes are read and the time left, on one line of 80 columns.
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
    begun: dict[str, tuple[float, int]] = {}

    def report(label: str, done: int, total: int, nbytes: int) -> None:
        nonlocal bar
        if done == 0 or label not in begun:
            begun[label] = time.monotonic(), nbytes
        if bar is None:
            if time.monotonic() - started < after:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.start()
        if label not in current:
            current[label] = bar.add_task(label or "working", total=total, rate="")
        first, earlier = begun[label]
        rate = (nbytes - earlier) / max(time.monotonic() - first, 1e-9)
        bar.update(current[label], completed=done, total=total, rate=_rate(rate) if nbytes else "")

    before, _reporter = _reporter, report
    try:
        yield
    finally:
        _reporter = before
        if bar is not None:
            bar.stop()


def _rate(speed: float) -> str:
    return f"{speed / 1e9:.2f} GB/s" if speed >= 1e9 else f"{speed / 1e6:.3g} MB/s"


# --- planning ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a tensor is visited: tiles of samples, each read in blocks of models."""

    tiles: tuple[tuple[int, int], ...]
    models: int  # models of a block
    #: Blocks may be windows of the file.
    windows: bool = False
    #: Bytes that a window may bring in; blocks that would bring in more are copied.
    room: int = 0
    #: A window holds at most this many samples, from a multiple of them on; 0: any.
    along: int = 0

    @property
    def samples(self) -> int:
        """Samples of the largest tile."""
        return max(stop - start for start, stop in self.tiles)

    def pieces(self, task: tuple[int, int]) -> list[slice]:
        """Cut a tile where one window cannot hold it, in whole groups: one group around each such place."""
        first, last = task
        points = {first, last}
        if self.along:
            for b in range((first // self.along + 1) * self.along, last, self.along):
                points |= {b // GROUP * GROUP, min(last, math.ceil(b / GROUP) * GROUP)}
        return [slice(a, b) for a, b in itertools.pairwise(sorted(points))]


def plan(
    predictions: Predictions,
    *,
    threads: int,
    memory: int,
    per_sample: int,
    unit: int = GROUP,
    whole: bool = False,
    pieces: bool = False,
) -> Plan:
    """Choose tiles so that all workers together stay within ``memory``.

    Parameters
    ----------
    per_sample : int
        Bytes that a worker keeps for each sample of its tile, next to the scores it reads.
    unit : int
        Tiles are whole multiples of this many samples.
    whole : bool
        Blocks of all models are worth more than long runs.
    pieces : bool
        The caller reads tiles in :meth:`Plan.pieces`.
    """
    M, N = predictions.n_models, predictions.n_samples
    width = predictions.columns * predictions.dtype.itemsize
    decoding = int(getattr(predictions.source, "decoding", 0))
    share = max(memory // threads - decoding, memory // threads // 4, 1)
    in_place = _kernel_ready(predictions)
    if not in_place:
        found = _plan_windows(predictions, share, threads, per_sample, unit, whole, pieces)
        if found is not None:
            return found
    shortest = unit * max(1, math.ceil(PAGE / (unit * width)))
    # samples: as many as fit the share with all models, at least a page of each, at most a tile's worth
    per_model = 0 if in_place else width
    fit = share // max(1, per_sample + per_model * M)
    largest = max(TILE_BYTES // (width * M), 1)
    samples = max(shortest, min(fit, largest) // unit * unit)
    chunks: tuple[int, int] | None = getattr(predictions.source, "chunks", None)
    gridded = chunks is not None and 1 < chunks[1] < N
    if in_place or not (decoding or gridded):  # enough tiles for all threads
        even = max(math.ceil(N / (4 * threads)), 0 if in_place else math.ceil(LONG_RUN / width))
        samples = min(samples, max(shortest, math.ceil(even / unit) * unit))
    if chunks is not None and chunks[1] < N and samples > chunks[1]:
        samples = max(shortest, samples // chunks[1] * chunks[1] // unit * unit)
    elif (
        decoding and chunks is not None and samples < chunks[1]
    ):  # a tile that is shorter than a chunk would have it decoded again
        wide = math.ceil(min(chunks[1], N) / unit) * unit
        if wide * (per_sample + min(chunks[0], M) * width) <= share:
            samples = wide
    samples = min(samples, math.ceil(N / unit) * unit)
    if not (in_place or whole or decoding or gridded) and samples * width < LONG_RUN:
        longer = min(math.ceil(LONG_RUN / (width * unit)), math.ceil(N / unit)) * unit  # fewer models at a time
        fit = (share - per_sample * longer) // (longer * width)
        if per_sample * longer <= share // 2 and fit >= min(M, WINDOW_MODELS):
            samples = longer
    models = M
    if not in_place:
        room = max(share - per_sample * samples, share // 4)
        models = min(M, max(1, room // (samples * width)))
        if chunks is not None and chunks[0] < models:
            models = models // chunks[0] * chunks[0]
    return Plan(tuple((i, min(i + samples, N)) for i in range(0, N, samples)), models)


def _plan_windows(
    predictions: Predictions, share: int, threads: int, per_sample: int, unit: int, whole: bool, pieces: bool
) -> Plan | None:
    """Choose tiles whose blocks are windows of the file, or return None where runs would be too short for that."""
    extents = getattr(predictions.source, "windows", None)
    if extents is None:
        return None
    M, N = predictions.n_models, predictions.n_samples
    width = predictions.columns * predictions.dtype.itemsize
    across, along = min(extents[0], M), min(extents[1], N)  # models and samples that one window can hold
    cut = along if along < N else 0
    if (whole and across < M) or (cut and (not pieces or along < 4 * GROUP or along * width < WINDOW_RUN)):
        return None
    if cut:
        share -= GROUP * width * across  # what lies across two windows is copied
    aim = min(math.ceil(2 * WINDOW_RUN / (width * unit)) * unit, math.ceil(along / unit) * unit)
    even = max(aim, math.ceil(N / (4 * threads * unit)) * unit)  # enough tiles for all threads
    models, samples = across, min(along, max(TILE_BYTES // (width * across), aim), even)
    if cut and even >= along and along * width * across <= 2 * TILE_BYTES:
        samples = along  # a window of one run: all of a chunk
    while True:  # smaller until everything fits; what a window takes depends on where its runs lie
        tiles = _equal_parts(N, along, samples, unit)
        longest = max(b - a for a, b in tiles)
        room = share - per_sample * longest
        some = tiles[:: -(-len(tiles) // LOOKED_AT)]
        taken = max(predictions.source.resident(slice(0, models), slice(*tile)) for tile in some)  # type: ignore[attr-defined]
        if taken <= room:
            return Plan(tiles, models, True, room, cut)
        if samples > aim:
            samples = max(aim, min(samples - unit, int(samples * 0.8) // unit * unit))
            continue
        models = min(models - 1, int(models * max(room, 0) / taken))
        if whole or models < min(across, WINDOW_MODELS) or per_sample * aim > share // 2:
            return None


def _equal_parts(n: int, along: int, samples: int, unit: int) -> tuple[tuple[int, int], ...]:
    """Cut n samples into tiles: equal parts of the ``along`` that a window can hold, moved to whole units."""
    parts = math.ceil(along / samples)
    starts = sorted({(i + along * k // parts) // unit * unit for i in range(0, n, along) for k in range(parts)})
    starts = [i for i in starts if i < n]
    return tuple(zip(starts, [*starts[1:], n], strict=True))


def plan_whole(predictions: Predictions, *, threads: int, memory: int, per_sample: int) -> Plan:
    """Choose tiles that hold all models of their samples, for work that needs them together.

    As many samples as fit the memory; at least a page of each model where that fits, else at least one sample.
    """
    M, N = predictions.n_models, predictions.n_samples
    width = predictions.columns * predictions.dtype.itemsize
    in_place = _kernel_ready(predictions)
    decoding = int(getattr(predictions.source, "decoding", 0))
    share = max(memory // threads - decoding, memory // threads // 4)
    fit = share // (per_sample + (0 if in_place else width * M))
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


def read_block(
    predictions: Predictions, models: slice, samples: slice, scratch: Scratch, cut: Plan | None = None
) -> Array:
    """Return a block that a kernel can read: a view where that is possible, else repacked once into scratch.

    It is valid until the next one is read with the same scratch. ``cut``: the plan that it is part of, which says
    whether it may be a window of the file.
    """
    source = predictions.source
    if cut is not None and cut.windows and samples.stop - samples.start > GROUP:
        found = source.window(models, samples, cut.room, scratch.window)  # type: ignore[attr-defined]
        scratch.hold(None if found is None else found[1])
        if found is not None and _ready(found[0]):
            return np.asarray(found[0])
    scratch.hold(None)
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


class ReadAhead:
    """Asks for the block that a worker will want next while it computes on the last one.

    The bytes wait in the page cache of the system, not in the memory of the process, so nothing is added to the
    budget; what is decoded (packed chunks) is decoded by the worker that wants it.
    """

    def __init__(self, predictions: Predictions, cut: Plan, threads: int) -> None:
        self._ask = None if predictions.source.in_memory else getattr(predictions.source, "ahead", None)
        self._cut, self._models = cut, predictions.n_models
        self._next = dict(zip(cut.tiles, cut.tiles[threads:], strict=False))

    def __call__(self, task: tuple[int, int], m0: int) -> None:
        """Ask for the block that follows models ``m0 ..`` of a tile."""
        following: tuple[int, int] | None = task
        m0 += self._cut.models
        if m0 >= self._models:
            m0, following = 0, self._next.get(task)
        if self._ask is not None and following is not None:
            self._ask(slice(m0, min(m0 + self._cut.models, self._models)), slice(*following))
