"""Curves over sizes, sets of many classes and with weights, joint capacity: against one call of their parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bench_capacity
import numpy as np
import pytest

import rashomon_core as rc


def draw(size: Callable[[str], int], classes: int) -> tuple[Any, Any, Any]:
    """Return labels that mostly follow the truth, the truth, and losses."""
    rng = np.random.default_rng(12)
    models, samples = size("LABEL_MODELS"), size("LABEL_SAMPLES")
    truth = rng.integers(0, classes, samples, dtype=np.uint8)
    labels = rng.integers(0, classes, (models, samples), dtype=np.uint8)
    labels = np.where(rng.random((models, samples)) < 0.1, labels, truth)
    return labels, truth, (labels != truth).mean(axis=1)


def bench_size_curves(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    labels, truth, _ = draw(size, 2)
    seen = race(
        lambda: rc.size_curves(labels, truth, threads=1),
        rounds=5,
        ambiguity=lambda: rc.ambiguity(labels, truth, threads=1),
    )
    report("rc.size_curves, all sizes, to one rc.ambiguity", 1 / seen.over("subject", "ambiguity"), "of its time")


@pytest.mark.parametrize("what", ["100 classes", "weights"])
def bench_curves_of_more(
    what: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    labels, truth, losses = draw(size, 100 if what == "100 classes" else 2)
    weights = np.random.default_rng(13).random(len(truth)) if what == "weights" else None
    seen = race(
        lambda: rc.epsilon_curves(labels, losses, truth, pairwise=False, sample_weight=weights, threads=1),
        rounds=3,
        ambiguity=lambda: rc.ambiguity(labels, truth, sample_weight=weights, threads=1),
    )
    report(f"rc.epsilon_curves, {what}, to one rc.ambiguity", 1 / seen.over("subject", "ambiguity"), "of its time")


def bench_joint_capacity(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    scores = bench_capacity.softmax_scores(100, max(50, size("CAPACITY_BYTES") // 80_000), 10)
    seen = race(
        lambda: rc.joint_capacity(scores, on_uncertified="ignore", threads=1),
        rounds=3,
        each=lambda: rc.rashomon_capacity(scores, threads=1),
    )
    report("rc.joint_capacity of 100 models, to rc.rashomon_capacity", 1 / seen.over("subject", "each"), "of its time")
