"""Losses of the user's own, compiled by Numba, against the built-in log loss and against the same calls in Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]
#: Columns: how many times the time of the built-in log loss is the target.
LIMIT = {1: 6, 2: 6, 10: 2}
SAMPLES = {1: 200_000, 2: 100_000, 10: 40_000}
#: Samples of the loop in Python, of one model.
FEW = 4000


@rc.sample_loss
def own_log_loss(scores: Array, label: int) -> float:
    return -math.log(scores[label]) if scores[label] > 0 else math.inf


@rc.sample_loss
def own_brier(scores: Array, label: int) -> float:
    total = 0.0
    for c in range(len(scores)):
        total += (scores[c] - (c == label)) ** 2
    return total


def fill(columns: int, models: int) -> tuple[Array, Array]:
    """Return scores (M, N) or (M, N, C), a model a window of one long random row, and labels."""
    samples, rng = SAMPLES[columns], np.random.default_rng(7)
    long = rng.random((2 * samples, columns), dtype=np.float32)
    if columns > 1:
        long /= long.sum(axis=1, keepdims=True)
    scores = np.empty((models, samples, columns), dtype=np.float32)
    for k, start in enumerate(rng.integers(0, samples, models)):
        scores[k] = long[start : start + samples]
    labels = rng.integers(0, max(2, columns), samples)
    return (scores[:, :, 0] if columns == 1 else scores), labels


def in_python(loss: rc.SampleLoss, scores: Array, labels: Array) -> float:
    """Return the mean loss of the first samples of the first model: each row widened and given to the function."""
    total = 0.0
    for i in range(FEW):
        row = scores[0, i].astype(np.float64)
        total += loss(np.array([1.0 - row, row]) if scores.ndim == 2 else row, int(labels[i]))
    return total / FEW


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("columns", [2, 1, 10])
def bench_user_loss(
    columns: int, threads: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    scores, labels = fill(columns, max(1, size("JIT_BYTES") // (4 * columns * SAMPLES[columns])))
    own_log_loss.over(scores[:1], labels)  # compiles
    own_brier.over(scores[:1], labels)

    seen = race(
        lambda: own_log_loss.over(scores, labels, threads=threads),
        threads=threads,
        built_in=lambda: rc.log_loss(scores, labels, threads=threads),
        brier=lambda: own_brier.over(scores, labels, threads=threads),
        python=lambda: in_python(own_log_loss, scores, labels),
        python_brier=lambda: in_python(own_brier, scores, labels),
    )
    shape = "(M, N)" if columns == 1 else f"C={columns}"
    name = f"{{}} {shape}, {threads} thread{'s'[: threads > 1]}"
    share = scores.shape[0] * scores.shape[1] / FEW
    slower = 1 / seen.over("subject", "built_in")
    report(name.format("own log loss,"), slower, "of built-in", LIMIT[columns], at_most=True)
    report("  over the same calls in Python", seen.over("subject", "python", share), "times", 50)
    report(name.format("own Brier score,"), 1 / seen.over("brier", "built_in"), "of built-in log")
    report("  over the same calls in Python", seen.over("brier", "python_brier", share), "times", 50)
    values = seen.seconds["subject"] / (scores.shape[0] * scores.shape[1]) * 1e9
    report("  a call of the compiled log loss, all included", values, "ns")
