"""One pass over scores (``metrics="pass"``) against the bandwidth of memory and against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive_numpy
import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]
#: Columns: how much of the bandwidth is the target.
SHARE = {1: 0.7, 2: 0.7, 10: 0.6}
#: Samples by layout and columns. Models follow from the size in bytes.
SAMPLES = {
    "even": {1: 200_000, 2: 100_000, 10: 40_000},
    "odd": {1: 200_003, 2: 100_003, 10: 40_007},
    "power of two": {1: 262_144, 2: 131_072, 10: 65_536},  # rows of all models fall on the same cache sets
}


@pytest.fixture(scope="module")
def memory(size: Callable[[str], int]) -> Array:
    return np.ones(size("SCORE_BYTES") // 4, dtype=np.float32)


def fill(memory: Array, samples: int, columns: int) -> Array:
    """Return valid scores (M, N) or (M, N, C) in ``memory``; a model is a window of one long random row."""
    rng = np.random.default_rng(7)
    long = rng.random((2 * samples, columns), dtype=np.float32)
    if columns > 1:
        long /= long.sum(axis=1, keepdims=True)
    models = memory.size // (samples * columns)
    scores = memory[: models * samples * columns].reshape(models, samples, columns)
    for k, start in enumerate(rng.integers(0, samples, models)):
        scores[k] = long[start : start + samples]
    return scores[:, :, 0] if columns == 1 else scores


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", list(SAMPLES))
@pytest.mark.parametrize("columns", [2, 1, 10])
def bench_pass(
    memory: Array,
    columns: int,
    layout: str,
    threads: int,
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    scores = fill(memory, SAMPLES[layout][columns], columns)
    flat = scores.reshape(-1)
    reference = np.random.default_rng(1).integers(0, max(2, columns), scores.shape[1])
    seen = race(
        lambda: rc.profile(scores, reference=reference, metrics="pass", threads=threads),
        threads=threads,
        memory=lambda: read_memory(flat, threads),
    )
    name = (
        f"score pass {'(M, N)' if columns == 1 else f'C={columns}'}, N {layout}, {threads} thread{'s'[: threads > 1]}"
    )
    report(name, seen.over("subject", "memory"), "of bandwidth", SHARE[columns])
    if layout == "even":
        report(f"  plain max, {threads} threads", flat.nbytes / 1e9 / seen.seconds["memory"], "GB/s")


@pytest.mark.parametrize("columns", [2, 1, 10])
def bench_pass_against_numpy(
    memory: Array, columns: int, race: Callable[..., Any], report: Callable[..., None]
) -> None:
    scores = fill(memory, SAMPLES["even"][columns], columns)
    reference = np.random.default_rng(1).integers(0, max(2, columns), scores.shape[1])
    few = scores[: max(1, len(scores) // 5)]  # NumPy gets a part of the models and is measured by the byte
    seen = race(
        lambda: rc.profile(scores, reference=reference, metrics="pass", threads=1),
        rounds=3,
        numpy=lambda: naive_numpy.score_pass(few, reference),
    )
    name = f"score pass {'(M, N)' if columns == 1 else f'C={columns}'}, 1 thread, over NumPy"
    report(name, seen.over("subject", "numpy", len(scores) / len(few)), "times", 8)


@pytest.mark.parametrize("instruction_set", ["avx2", "base"], indirect=True)
@pytest.mark.parametrize("columns", [2, 10])
def bench_pass_by_instruction_set(
    memory: Array,
    columns: int,
    instruction_set: str,
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    scores = fill(memory, SAMPLES["even"][columns], columns)
    flat = scores.reshape(-1)
    reference = np.zeros(scores.shape[1], dtype=np.int64)
    seen = race(
        lambda: rc.profile(scores, reference=reference, metrics="pass", threads=1),
        rounds=5,
        memory=lambda: read_memory(flat, 1),
    )
    report(f"score pass C={columns}, 1 thread, {instruction_set}", seen.over("subject", "memory"), "of bandwidth")
