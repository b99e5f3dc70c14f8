"""A cluster on one machine: two worker processes against one, and what the scheduler costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import pieces
from rashomon_core.cluster import local_cluster

library = pytest.importorskip("distributed", reason="distributed is not installed")
zarr = pytest.importorskip("zarr", reason="zarr is not installed")

Array = npt.NDArray[Any]
CHUNK, CLASSES = 400, 10  # models of a chunk; with 4,096 samples it has 65.5 MB


def write_chunks(path: Path, total: int, models: int = CHUNK) -> int:
    """Write valid float32 scores in chunks of 4,096 samples, without compression; return the bytes."""
    rows, columns = models // CHUNK, max(4, total // (models * 4096 * CLASSES * 4))
    rng = np.random.default_rng(4)
    scores = rng.random((CHUNK, 4096, CLASSES), dtype=np.float32)
    scores /= scores.sum(axis=2, keepdims=True)
    shape = (rows * CHUNK, columns * 4096, CLASSES)
    array = zarr.create_array(path, shape=shape, chunks=scores.shape, dtype="f4", compressors=None)
    for j in range(columns):
        for i in range(rows):
            at = slice(CHUNK * i, CHUNK * (i + 1)), slice(4096 * j, 4096 * (j + 1))
            array[at] = np.roll(scores, (i, j), axis=(0, 1))
    return int(scores.nbytes * rows * columns)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[int, Any]]:
    """A cluster of one worker process and one of two."""
    with contextlib.ExitStack() as stack:
        made = {}
        for n in (1, 2):
            cluster = stack.enter_context(local_cluster(n))
            made[n] = stack.enter_context(library.Client(cluster, set_as_default=False, direct_to_workers=True))
            made[n].wait_for_workers(n)
        yield made


def tasks(path: Path, metrics: str, part: int = 0, parts: int = 1) -> tuple[pieces.Common, list[Any]]:
    """Do the tasks of the cluster, or every so manieth of them, one after the other in this process."""
    view = rc.open_predictions(path)
    job = pieces.Job.of(view, pieces.Opening(str(path), ()), memory=512_000_000)
    empty = rc.MultiplicityAccumulator(
        *view.shape[:2],
        view.n_classes,
        kind=view.kind,
        metrics=metrics,
        pairs=metrics == "all",
        model_ids=view.model_ids,
    )
    plan = pieces.plan_tasks(view.shape, 4, pieces.whole_chunks(view), threads=parts, together=metrics != "pass")
    return pieces.Common(job, empty), [pieces.measure_piece(job, empty, None, *x) for x in plan[part::parts]]


def in_turn(path: Path, metrics: str) -> dict[str, Any]:
    """Measure in this process, by the tasks of the cluster."""
    common, states = tasks(path, metrics)
    while len(states) > 1:
        states = [pieces.merge_states(common, states[i : i + 8]) for i in range(0, len(states), 8)]
    whole: rc.MultiplicityAccumulator = common.shared
    return whole.absorb(*states[0]).results(threads=1)


def seconds(path: Path, metrics: str, part: int, parts: int) -> float:
    """Return how long this process takes for its tasks, which it keeps to itself."""
    began = time.perf_counter()
    tasks(path, metrics, part, parts)
    return time.perf_counter() - began


@pytest.fixture(scope="module")
def plain() -> Iterator[ProcessPoolExecutor]:
    """Two processes that know of nobody."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize(
    ("metrics", "models", "part"),
    [("all", 400, 0.5), ("pass", 400, 1), ("pass", 400, 2.5), ("pass", 4000, 2.5), ("rashomon_capacity", 400, 0.5)],
    ids=str,
)
def bench_workers(
    metrics: str,
    models: int,
    part: float,
    clients: dict[int, Any],
    plain: ProcessPoolExecutor,
    tmp_path: Path,
    race: Callable[..., Any],
    size: Callable[[str], int],
    report: Callable[..., None],
) -> None:
    path = tmp_path / "x.zarr"
    total = write_chunks(path, int(part * size("CLUSTER_BYTES")), models)

    def by(n: int) -> dict[str, Any]:
        found = rc.profile_distributed(path, scheduler=clients[n], metrics=metrics, keep_arrays=False)
        return found.results()

    assert by(2) == by(1) == in_turn(path, metrics)
    used: dict[int, list[float]] = {1: [], 2: []}

    def noted(n: int) -> None:
        before = processor(clients[n])
        by(n)
        used[n].append(max(b - a for a, b in zip(before, processor(clients[n]), strict=True)))

    alone: list[float] = []

    def serial() -> None:
        before = time.process_time()
        in_turn(path, metrics)
        alone.append(time.process_time() - before)

    def apart() -> None:
        list(plain.map(seconds, [path] * 2, [metrics] * 2, range(2), [2] * 2))

    def lone() -> None:
        plain.submit(seconds, path, metrics, 0, 1).result()

    rounds = size("CLUSTER_ROUNDS")
    others = {"one": lambda: noted(1), "serial": serial, "apart": apart, "lone": lone}
    seen = race(lambda: noted(2), rounds=rounds, threads=2, **others)
    one, two, work = (np.array(x[-rounds:]) for x in (used[1], used[2], alone))
    label = f"measure {metrics}, {total / 1e9:.1f} GB of Zarr, {models} models, C={CLASSES}"
    if len(os.sched_getaffinity(0)) >= 2:
        report(f"{label}: two worker processes", seen.over("subject", "one"), "x one", 1.6)
        report("  by processor time: one worker / the busier of two", one / two, "x")
        report("  the tasks alone, by two processes that know of nobody", seen.over("apart", "lone"), "x one")
        report("  of what those gain", seen.over("subject", "one") / seen.over("apart", "lone"), "times")
    cost = 100 * (seen.seconds["one"] / seen.seconds["serial"] - 1)
    report(f"{label}: one worker process at chunks of 65.5 MB", cost, "% beyond the work", 5, at_most=True)
    report("  by processor time of the worker", 100 * (one / work - 1), "% beyond the work")
    report("  the work alone", total / 1e9 / seen.seconds["serial"], "GB/s")
    report("  the work alone, by processor time", total / 1e9 / work, "GB/s")
    shutil.rmtree(path)  # the next one finds the memory of the machine empty


def processor(client: Any) -> list[float]:
    """Return the processor seconds of the workers, in the order of their addresses."""
    return [float(seconds) for _, seconds in sorted(client.run(time.process_time).items())]
