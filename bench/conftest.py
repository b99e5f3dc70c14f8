"""What the benches share: sizes, races between a subject and its anchors, and the table of ratios.

A number of seconds says little about code on a machine that does other things too. So every bench runs its subject
and its anchors (the bandwidth of the memory, the peak of an instruction set, another library) in turn, round after
round, and reports the median over the rounds of their ratio.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import _scores

Array = npt.NDArray[Any]

#: Sizes by name; ``RASHOMON_BENCH_<NAME>`` overrides each. ROUNDS: rounds of every race.
SIZES = {
    "ROUNDS": 11,
    "PAIR_MODELS": 2000,
    "PAIR_SAMPLES": 65_536,
    "SCORE_BYTES": 840_000_000,
    "CAPACITY_BYTES": 40_000_000,
    "LABEL_MODELS": 500,
    "LABEL_SAMPLES": 100_000,
    "LOSS_BYTES": 80_000_000,
    "STORE_BYTES": 200_000_000,
    "GROWTH_BYTES": 80_000_000,
    "GROUP_MODELS": 1000,
    "GROUP_SAMPLES": 100_000,
    "BOOTSTRAP_MODELS": 200,
    "BOOTSTRAP_SAMPLES": 20_000,
    "BOOTSTRAP_REPLICATES": 1000,
    "CURVE_MODELS": 1000,
    "CURVE_SAMPLES": 100_000,
    "JIT_BYTES": 160_000_000,
    "DROPOUT_MODELS": 2000,
    "DROPOUT_SAMPLES": 12_000,
    "DROPOUT_LOOP": 90,
    "RETRAINED": 200,
    "CLUSTER_BYTES": 4_000_000_000,
    "CLUSTER_ROUNDS": 7,
    "COMMAND_MEMORY": 128_000_000,
    "COMMAND_FACTOR": 16,
    "STREAM_BYTES": 840_000_000,
    "STREAM_MODELS": 100,
    "STREAM_MEMORY": 1_000_000_000,
    "STREAM_FILES": 10_000,
    "STARTS": 15,
    "REPORT_MODELS": 1000,
    "REPORT_SAMPLES": 5000,
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a ratio (or another number), its target and the middle half of its rounds."""

    name: str
    value: float
    unit: str
    target: float | None
    at_most: bool
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """HOLDS, MISSED by how much, or nothing where there is no target."""
        if self.target is None:
            return ""
        if self.value <= self.target if self.at_most else self.value >= self.target:
            return "HOLDS"
        return f"MISSED by {abs(self.value - self.target) / self.target:.1%}"


@dataclass(frozen=True)
class Race:
    """Seconds of every round: the subject's and the anchors'."""

    seconds: dict[str, Array]

    def over(self, name: str, anchor: str, scale: float = 1.0) -> Array:
        """Return how many times as fast as ``anchor`` ``name`` was, in each round; ``scale``: work of name / anchor."""
        return scale * self.seconds[anchor] / self.seconds[name]


#: Processes that wanted to run in the minute before this one began.
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
ROWS: pytest.StashKey[list[tuple[str, Row]]] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    if hasattr(config.option, "benchmark_autosave"):  # ratios and rounds go to .benchmarks/ as JSON
        config.option.benchmark_autosave = config.option.benchmark_autosave or (
            "" if config.option.benchmark_json else "run"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # the name of somebody's computer says nothing about speed


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Note what compare.py has to know: the machine, the libraries, the sizes."""
    versions = {"Python": platform.python_version(), "rashomon-core": rc.__version__}
    for name in ("NumPy", "SciPy", "scikit-learn", "fairlearn", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name.lower())
    output_json["facts"] = {
        "processor": _processor(),
        "instruction_set": rc.isa_active(),
        "cores": os.cpu_count() or 1,
        "architecture": platform.machine(),
        "system": platform.system(),
        "versions": versions,
        "sizes": {name: size_of(name) for name in SIZES},
        "changed_sizes": [name for name, usual in SIZES.items() if size_of(name) != usual],
        "clock": os.environ.get("RASHOMON_BENCH_CLOCK", "wall"),
        "load": LOAD,
    }


def size_of(name: str) -> int:
    """Return a size: the environment's, or the usual one."""
    return int(float(os.environ.get(f"RASHOMON_BENCH_{name}", SIZES[name])))


@pytest.fixture(scope="session")
def size() -> Callable[[str], int]:
    """Return a size by name."""
    return size_of


@pytest.fixture
def race(benchmark: Any, size: Callable[[str], int]) -> Callable[..., Race]:
    """Run the subject under pytest-benchmark, and before each round the other runners once.

    ``RASHOMON_BENCH_CLOCK=cpu`` takes the processor time of this process instead of the time on the wall where
    everything runs on one thread: for machines that others use too (what they do to caches and memory remains).
    """
    by_cpu = os.environ.get("RASHOMON_BENCH_CLOCK", "wall") == "cpu"

    def run(
        subject: Callable[[], object],
        rounds: int | None = None,
        threads: int = 1,
        **others: Callable[[], object],
    ) -> Race:
        clock = time.process_time if by_cpu and threads == 1 else time.perf_counter
        seconds: dict[str, list[float]] = {name: [] for name in ("subject", *others)}

        def timed(name: str, runner: Callable[[], object]) -> None:
            start = clock()
            runner()
            seconds[name].append(clock() - start)

        def before() -> None:
            for name, runner in others.items():
                timed(name, runner)

        benchmark.pedantic(
            timed,
            args=("subject", subject),
            setup=before,
            rounds=rounds or size("ROUNDS"),
            warmup_rounds=1,
            iterations=1,
        )
        first = 1 if len(seconds["subject"]) > 1 else 0  # the warm-up
        return Race({name: np.array(values[first:]) for name, values in seconds.items()})

    return run


@pytest.fixture
def report(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note a number for the table and for the JSON (``extra_info``)."""
    rows: list[dict[str, Any]] = []
    benchmark.extra_info["ratios"] = rows
    benchmark.extra_info["instruction_set"] = rc.isa_active()

    def add(name: str, values: npt.ArrayLike, unit: str, target: float | None = None, *, at_most: bool = False) -> None:
        low, middle, high = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75]).tolist()
        row = Row(name, middle, unit, target, at_most, low, high)
        rows.append({**asdict(row), "verdict": row.verdict})
        request.config.stash[ROWS].append((request.node.path.stem, row))

    return add


@pytest.fixture(scope="session")
def read_memory() -> Callable[[Array, int], float]:
    """Return the anchor of everything that streams: the largest of a float32 array, by a number of threads."""

    def read(flat: Array, threads: int) -> float:
        if threads == 1:
            return float(_scores.read_peak(flat))
        parts = np.array_split(flat, threads)
        with ThreadPoolExecutor(threads) as pool:
            return max(pool.map(_scores.read_peak, parts))

    return read


@pytest.fixture
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run with the instruction set of the parameter; skip where the processor lacks it."""
    if request.param not in rc.isa_available():
        pytest.skip(f"this processor has no {request.param}")
    before = rc.isa_active()
    rc.isa_select(request.param)
    yield request.param
    rc.isa_select(before)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("ratios: median over rounds (middle half)")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    processors = os.cpu_count() or 1
    write(
        f"{_processor()}, {processors} processors, instruction set {rc.isa_active()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )
    if os.environ.get("RASHOMON_BENCH_CLOCK", "wall") == "cpu":
        write("one thread: processor time; several threads and processes: time on the wall")
    if load > processors + 0.5:
        write(f"OTHER WORK RUNS HERE (load {load:.1f}): rates are too low and two threads are not two processors")
    width = max(len(row.name) for _, row in rows)
    last = None
    for stem, row in rows:
        if stem != last:
            write(stem, bold=True)
            last = stem
        goal = "" if row.target is None else f"{'<=' if row.at_most else '>='} {_digits(row.target)}"
        middle = "" if row.low == row.high else f"({_digits(row.low)} .. {_digits(row.high)})"
        line = f"  {row.name:<{width}}  {_digits(row.value):>8} {row.unit:<16} {middle:<22} {goal:>10}  {row.verdict}"
        write(line.rstrip(), red=row.verdict.startswith("MISSED"), green=row.verdict == "HOLDS")
    missed = sum(row.verdict.startswith("MISSED") for _, row in rows)
    judged = sum(bool(row.verdict) for _, row in rows)
    write(f"{judged - missed} of {judged} targets hold")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
