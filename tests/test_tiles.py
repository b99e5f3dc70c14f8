"""tiles: sizes, plans within the budget, merging in order, exceptions, Ctrl-C, progress, arrays beyond the budget."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core import tiles

Array = NDArray[Any]


class FileLike:
    """A source that is not in memory."""

    in_memory, path = False, None

    def __init__(self, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...] | None = None) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        if chunks is not None:
            self.chunks = chunks

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        raise AssertionError("not read here")


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("rashomon-core")]


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (2_000_000, 2_000_000),
        (np.int64(5_000_000), 5_000_000),
        (3e6, 3_000_000),
        ("1MB", 10**6),
        ("1m", 10**6),
        ("1 MiB", 2**20),
        ("512MB", 512 * 10**6),
        ("1.5GiB", 3 * 2**29),
        (".5 g", 5 * 10**8),
        ("2.GB", 2 * 10**9),
        (" 2gb ", 2 * 10**9),
        ("1000KB", 10**6),
        ("1T", 10**12),
        ("1234567", 1234567),
        ("1234567b", 1234567),
    ],
)
def test_parse_memory(text: Any, size: int) -> None:
    assert tiles.parse_memory(text) == size
    assert type(tiles.parse_memory(text)) is int


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "2 GB 3", "1PB", "lots", "nan", "1.2.3MB"])
def test_parse_memory_refuses_text(text: str) -> None:
    with pytest.raises(rc.UsageError, match=r"is not a size\. Fix: for example 2GB"):
        tiles.parse_memory(text)


@pytest.mark.parametrize("size", [0, -1, 999_999, "999KB", "12"])
def test_parse_memory_refuses_crumbs(size: Any) -> None:
    with pytest.raises(rc.UsageError, match=r"too small\. Fix: at least 1MB"):
        tiles.parse_memory(size)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiles.parse_memory(None) == pytest.approx(tiles.default_memory(), rel=0.5)
    assert tiles.default_memory() >= 64_000_000
    monkeypatch.setenv("RASHOMON_CORE_THREADS", "3")
    assert tiles.default_threads() == tiles.parse_threads(None) == 3
    for bad in ("0", "-1", "many"):
        monkeypatch.setenv("RASHOMON_CORE_THREADS", bad)
        with pytest.raises(rc.UsageError, match="RASHOMON_CORE_THREADS="):
            tiles.default_threads()
    monkeypatch.setenv("RASHOMON_CORE_THREADS", "")
    assert 1 <= tiles.default_threads() <= (os.cpu_count() or 1)
    assert tiles.parse_threads(7) == 7
    with pytest.raises(rc.UsageError, match=r"0 threads\. Fix"):
        tiles.parse_threads(0)


# --- plans ------------------------------------------------------------------------------------------------------


@given(
    M=st.integers(1, 3000),
    N=st.integers(1, 3_000_000),
    C=st.sampled_from([None, 2, 10, 1000]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    threads=st.integers(1, 16),
    memory=st.sampled_from([10**6, 10**7, 10**8, 10**9]),
    per_sample=st.sampled_from([0, 64, 1000]),
    unit=st.sampled_from([512, 4096]),
    chunks=st.none() | st.tuples(st.integers(1, 100), st.integers(1, 100_000)),
)
def test_plan_covers_everything_within_the_budget(
    M: int, N: int, C: int | None, dtype: str, threads: int, memory: int, per_sample: int, unit: int, chunks: Any
) -> None:
    shape = (M, N) if C is None else (M, N, C)
    view = rc.Predictions.from_source(FileLike(shape, dtype, chunks))
    plan = tiles.plan(view, threads=threads, memory=memory, per_sample=per_sample, unit=unit)
    assert plan.tiles[0][0] == 0
    assert plan.tiles[-1][1] == N
    for (a, b), following in zip(plan.tiles, [*plan.tiles[1:], (N, N)], strict=True):
        assert a < b == following[0]
        assert a % unit == 0
    assert plan.samples == max(b - a for a, b in plan.tiles)
    assert 1 <= plan.models <= M
    width = (C or 1) * np.dtype(dtype).itemsize
    shortest = unit * max(1, -(-tiles.PAGE // (unit * width)))  # a page and a unit are the least that is read
    share = memory // threads
    scratch = plan.samples * (per_sample + plan.models * width)
    floor = shortest * (per_sample + width)
    assert scratch <= max(1.25 * share, floor + share // 4)


@pytest.mark.parametrize("threads", [1, 4])
def test_plan_of_arrays_feeds_every_thread_and_copies_nothing(threads: int) -> None:
    view = rc.Predictions.from_array(np.zeros((3, 100_000), dtype=np.uint8))
    plan = tiles.plan(view, threads=threads, memory=10**9, per_sample=64)
    assert len(plan.tiles) >= threads
    assert plan.models == 3


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_plan_of_blocks_that_are_copied_feeds_every_thread(threads: int) -> None:
    view = rc.Predictions.from_source(FileLike((40, 300_000, 4), "f4"))
    found = tiles.plan(view, threads=threads, memory=2_000_000_000, per_sample=100)
    assert len(found.tiles) > 3 * threads  # four, but for whole groups
    assert found.samples * 16 >= tiles.LONG_RUN


def test_plan_of_whole_samples_leaves_room_for_decoding() -> None:
    plain, packed = (FileLike((100, 50_000, 10), "f4") for _ in range(2))
    packed.decoding = 12_000_000  # type: ignore[attr-defined]
    for threads in (1, 2):
        sizes = [
            tiles.plan_whole(rc.Predictions.from_source(x), threads=threads, memory=40_000_000, per_sample=64).samples
            for x in (plain, packed)
        ]
        assert sizes[1] * (4000 + 64) <= 40_000_000 // threads - 12_000_000 < sizes[0] * (4000 + 64)


def test_plan_follows_chunks() -> None:
    view = rc.Predictions.from_source(FileLike((64, 100_000), "float32", (16, 1024)))
    plan = tiles.plan(view, threads=1, memory=10**7, per_sample=64)
    assert plan.samples % 1024 == 0


@pytest.mark.parametrize("layout", [*strategies.LAYOUTS, "backwards"])
@pytest.mark.parametrize("shape", [(4, 70), (4, 70, 3)])
def test_read_block(shape: tuple[int, ...], layout: str) -> None:
    plain = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    held = plain[::-1].copy()[::-1] if layout == "backwards" else strategies.apply_layout(plain, layout)
    view = rc.Predictions.from_array(held)
    scratch = tiles.Scratch()
    block = tiles.read_block(view, slice(1, 3), slice(5, 60), scratch)
    assert np.array_equal(block, plain[1:3, 5:60])
    assert block.dtype.isnative
    assert block[0].flags.c_contiguous
    assert block.flags.aligned
    assert np.may_share_memory(block, held) == (layout in ("c", "read_only", "backwards"))


def test_scratch_is_reused() -> None:
    scratch = tiles.Scratch()
    first = scratch.array("a", (10, 3), np.float64)
    first[:] = 7
    assert np.shares_memory(first, scratch.array("a", (5,), np.float64))
    assert not np.shares_memory(first, scratch.array("b", (5,), np.float64))
    assert scratch.array("a", (4,), np.float64, zero=True).tolist() == [0] * 4
    assert scratch.array("a", (100,), np.int32).dtype == np.int32
    assert scratch.array("a", (0,), np.int32).shape == (0,)


# --- running ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_run_merges_in_order(threads: int, count: int) -> None:
    merged: list[tuple[int, int]] = []

    def work(task: int, scratch: tiles.Scratch) -> int:
        time.sleep(0.002 * ((task * 7) % 3))
        return task * task

    tiles.run(range(count), work, lambda task, found: merged.append((task, found)), threads=threads)
    assert merged == [(i, i * i) for i in range(count)]
    tiles.run(range(count), work, threads=threads)
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_run_raises_the_earliest_exception(threads: int) -> None:
    merged: list[int] = []

    def work(task: int, scratch: tiles.Scratch) -> int:
        if task == 3:
            time.sleep(0.05)
            raise ValueError("third")
        if task > 3:
            raise KeyError(task)
        return task

    with pytest.raises(ValueError, match="third"):
        tiles.run(range(50), work, lambda task, found: merged.append(task), threads=threads)
    assert merged == [0, 1, 2]
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_exception_in_a_merge_stops_the_workers(threads: int, error: type[BaseException]) -> None:
    done: list[int] = []

    def work(task: int, scratch: tiles.Scratch) -> int:
        done.append(task)
        time.sleep(0.005)
        return task

    def merge(task: int, found: int) -> None:
        if task == 2:
            raise error

    with pytest.raises(error):
        tiles.run(range(1000), work, merge, threads=threads)
    assert workers() == []
    assert len(done) < 20


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c(threads: int) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def work(task: int, scratch: tiles.Scratch) -> int:
        if task == 5:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.01)
        return task

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tiles.run(range(10_000), work, threads=threads)
    assert time.monotonic() - started < 5
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_while_a_window_is_given_back(threads: int) -> None:
    class Held:
        def release(self) -> None:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt

    def work(task: int, scratch: tiles.Scratch) -> int:
        if scratch.window is None:
            scratch.hold(Held())
        time.sleep(0.002)
        return task

    with pytest.raises(KeyboardInterrupt):
        tiles.run(range(20), work, threads=threads)
    assert workers() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_windows_are_given_back_at_the_end(threads: int) -> None:
    given: list[int] = []

    class Held:
        def release(self) -> None:
            given.append(1)

    for fails in (False, True):
        held: list[Held] = []

        def work(task: int, scratch: tiles.Scratch, fails: bool = fails, held: list[Held] = held) -> int:
            held.append(Held())
            scratch.hold(held[-1])
            if fails and task == 10:
                raise ValueError("tenth")
            return task

        given.clear()
        with pytest.raises(ValueError, match="tenth") if fails else contextlib.nullcontext():
            tiles.run(range(20), work, threads=threads)
        assert len(given) == len(held) >= 11


def test_ctrl_c_in_a_profile_leaves_a_process_that_ends() -> None:
    code = """
        import os, signal, threading
        import numpy as np, rashomon_core as rc
        labels = np.random.default_rng(0).integers(0, 2, (600, 200_000), dtype=np.uint8)
        rc.profile(labels[:2, :10])  # everything is loaded: the signal comes in the middle of work
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                rc.profile(labels, threads=2)
        except KeyboardInterrupt:
            print("stopped", [t.name for t in threading.enumerate() if "rashomon" in t.name])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("stopped []\n", "")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
def test_ctrl_c_between_any_two_steps_leaves_no_thread_waiting() -> None:
    code = """
        import faulthandler, os, random, signal, sys, threading, time
        from rashomon_core import tiles
        draw = random.Random(4)
        faulthandler.dump_traceback_later(50, exit=True)
        wanted = threading.Semaphore(0)
        def interrupt():
            while True:
                wanted.acquire()
                time.sleep(draw.random() * 1e-3)
                os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        stopped = 0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            try:
                wanted.release()
                for _ in range(50):
                    tiles.run(range(5), lambda task, scratch: sum(range(20)), lambda task, found: None, threads=3)
                time.sleep(0.01)
            except KeyboardInterrupt:
                stopped += 1
            left = [thread for thread in threading.enumerate() if thread.name.startswith("rashomon-core")]
            assert left == [], left
        assert stopped > 100, stopped
        print("no thread is left")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "no thread is left\n"), done.stderr


# --- progress ---------------------------------------------------------------------------------------------------


def slow(seconds: float = 0.02, count: int = 10) -> None:
    tiles.run(range(count), lambda task, scratch: time.sleep(seconds), threads=1, label="dawdling")


def test_no_progress_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with tiles.show_progress(after=0.0):
        slow()
    assert capfd.readouterr() == ("", "")
    assert tiles._reporter is None


@pytest.mark.parametrize("enabled", [True, False])
def test_the_reporter_is_taken_back(enabled: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with tiles.show_progress(enabled, after=0.05):
            assert (tiles._reporter is not None) == enabled
            slow()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert capfd.readouterr().out == ""
    assert tiles._reporter is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize(("seconds", "drawn"), [(0.05, True), (0.001, False)])
def test_progress_on_a_terminal_only_for_slow_work(seconds: float, drawn: bool) -> None:
    import pty

    code = f"""
        import time
        from rashomon_core import tiles
        with tiles.show_progress(after=0.2):
            tiles.run(range(12), lambda task, scratch: time.sleep({seconds}), threads=1, label="dawdling")
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so at the end
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == b""
    assert (b"dawdling" in seen) == drawn
    if not drawn:
        assert seen == b""


# --- arrays beyond the budget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"spill": True}, {"turned": True}, {"odd": True}])
def test_spill_array_takes_blocks_from_elsewhere(how: dict[str, bool]) -> None:
    expected = np.random.default_rng(0).random((3, 1000))
    kept = tiles.SpillArray((3, 1000), np.float64, **how)
    for columns in (slice(0, 512), slice(512, 1000)):
        kept.put(np.asfortranarray(expected[:, columns]), slice(0, 3), columns)
    assert np.array_equal(kept.array(), expected)
    assert np.array_equal(kept.read(slice(1, 2), slice(500, 600)), expected[1:2, 500:600])
    assert kept.array().T.flags.c_contiguous == ("turned" in how)


@pytest.mark.parametrize("spill", [False, True])
@pytest.mark.parametrize("shape", [(7, 13), (7, 13, 3), (7, 13, 2, 8)])
def test_spill_array(shape: tuple[int, ...], spill: bool) -> None:
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 2**60, shape, dtype=np.uint64)
    kept = tiles.SpillArray(shape, np.uint64, spill=spill, odd=True)
    assert kept.in_memory != spill
    assert kept.nbytes == expected.nbytes
    scratch = tiles.Scratch()
    for rows in (slice(0, 3), slice(3, 7)):
        for columns in (slice(0, 5), slice(5, 13)) if rows.start else (slice(0, 13),):
            block = kept.place(rows, columns, scratch, "block")
            block[...] = expected[rows, columns]
            kept.commit(block, rows, columns)
    for rows, columns in (
        (slice(0, 7), None),
        (slice(2, 5), slice(3, 9)),
        (slice(6, 7), slice(0, 13)),
        (slice(1, 1), None),
    ):
        found = kept.read(rows, columns)
        assert np.array_equal(found, expected[rows, columns if columns is not None else slice(None)])
        assert all(row.flags.c_contiguous for row in found)  # what the kernels need
    assert np.array_equal(kept.array(), expected)


def test_a_spilled_array_leaves_no_file_and_no_warning(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = tiles.SpillArray((1000, 1000), np.float64, spill=True)
    assert list(tmp_path.iterdir()) == [] or sys.platform == "win32"
    kept.commit(np.ones((1000, 1000)), slice(0, 1000), slice(0, 1000))
    mapped = kept.array()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del kept
        gc.collect()
    assert mapped.sum() == 1_000_000
    del mapped
    assert list(tmp_path.iterdir()) == []


def test_a_spilled_array_without_positioned_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pwrite", "preadv"):
        monkeypatch.delattr(os, name, raising=False)
    test_spill_array((7, 13, 3), True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_progress_says_how_fast_and_how_long_in_80_columns() -> None:
    import pty
    import re

    code = """
        import time
        from rashomon_core import tiles
        with tiles.show_progress(after=0.1):
            work = lambda task, scratch: time.sleep(0.05)
            tiles.run(range(12), work, threads=1, label="measuring", nbytes=lambda task: 10**7)
            tiles.run(range(8), work, threads=1, label="comparing pairs")
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # Linux says so at the end
        while piece := os.read(ours, 65536):
            seen += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert any(re.search(r"measuring .* \d+% \d[\d.e+]* [MG]B/s \d:\d\d:\d\d$", line) for line in lines)
    assert any(re.search(r"comparing pairs .* \d+% +\d:\d\d:\d\d$", line) for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("speed", "said"), [(2.345e9, "2.35 GB/s"), (3.21e8, "321 MB/s"), (9.9e5, "0.99 MB/s")])
def test_rates(speed: float, said: str) -> None:
    assert tiles._rate(speed) == said
