"""Scores to decisions and labels to bit planes against the bandwidth of memory. No targets of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import _encode

Array = npt.NDArray[Any]


@pytest.mark.parametrize("classes", [2, 10, 100])
def bench_decide(
    classes: int,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    models = 200
    samples = size("SCORE_BYTES") // (8 * models * classes)
    scores = np.random.default_rng(2).random((models, samples, classes), dtype=np.float32)
    scores /= scores.sum(axis=2, keepdims=True)
    flat = scores.reshape(-1)
    seen = race(lambda: rc.decide(scores, threads=1), memory=lambda: read_memory(flat, 1))
    report(f"rc.decide C={classes}, float32, 1 thread", seen.over("subject", "memory"), "of bandwidth")


@pytest.mark.parametrize("classes", [2, 10, 256])
def bench_planes(
    classes: int,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    models, samples = size("PAIR_MODELS"), size("PAIR_SAMPLES")
    labels = np.random.default_rng(2).integers(0, classes, (models, samples), dtype=np.uint8)
    planes = np.zeros((models, _encode.group_count(samples), _encode.plane_count(classes), 8), dtype=np.uint64)
    flat = labels.reshape(-1).view(np.float32)
    with np.errstate(invalid="ignore"):
        seen = race(lambda: _encode.encode(labels, planes), memory=lambda: read_memory(flat, 1))
    report(f"bit planes C={classes} from uint8 labels, 1 thread", seen.over("subject", "memory"), "of bandwidth")
