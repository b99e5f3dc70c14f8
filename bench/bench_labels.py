"""Labels against a reference, votes and weights: against the bandwidth of memory, NumPy, and the unweighted form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]


def draw(size: Callable[[str], int], classes: int, dtype: str = "uint8") -> tuple[Array, Array]:
    """Return labels (M, N) that mostly follow a target, and the target."""
    rng = np.random.default_rng(8)
    models, samples = size("LABEL_MODELS"), size("LABEL_SAMPLES")
    truth = rng.integers(0, classes, samples, dtype=np.uint8)
    labels = rng.integers(0, classes, (models, samples), dtype=np.uint8)
    return np.where(rng.random((models, samples)) < 0.1, labels, truth).astype(dtype), truth


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
@pytest.mark.parametrize("what", ["fidelity", "ambiguity", "votes"])
@pytest.mark.parametrize("classes", [2, 10])
def bench_one_reading(
    classes: int,
    what: str,
    dtype: str,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    labels, truth = draw(size, classes, dtype)
    few = labels[: max(1, len(labels) // 10)]
    subjects: dict[str, Callable[[], object]] = {
        "fidelity": lambda: rc.fidelity(labels, truth, threads=1),
        "ambiguity": lambda: rc.ambiguity(labels, truth, threads=1),
        "votes": lambda: rc.votes(labels, classes, threads=1),
    }
    naive: dict[str, Callable[[], object]] = {
        "fidelity": lambda: (few == truth).mean(axis=1),
        "ambiguity": lambda: (few != truth).any(axis=0).mean(),
        "votes": lambda: [np.count_nonzero(few == c, axis=0) for c in range(classes)],
    }
    flat = labels.reshape(-1).view(np.uint8)
    flat = flat[: flat.size // 4 * 4].view(np.float32)
    with np.errstate(invalid="ignore"):
        seen = race(subjects[what], memory=lambda: read_memory(flat, 1), numpy=naive[what])
    name = f"rc.{what} C={classes}, {dtype} labels, 1 thread"
    report(name, seen.over("subject", "memory"), "of bandwidth")
    report("  over NumPy", seen.over("subject", "numpy", len(labels) / len(few)), "times")


def bench_wide_labels(
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    """More than 256 classes: words instead of bytes."""
    labels, truth = draw(size, 2, "uint16")
    labels *= 700
    wide = truth.astype(np.uint16) * 700
    flat = labels.reshape(-1)
    flat = flat[: flat.size // 2 * 2].view(np.float32)
    with np.errstate(invalid="ignore"):
        seen = race(lambda: rc.fidelity(labels, wide, threads=1), memory=lambda: read_memory(flat, 1))
    report("rc.fidelity C=701, uint16 labels, 1 thread", seen.over("subject", "memory"), "of bandwidth")


@pytest.mark.parametrize("what", ["fidelity", "pairwise_disagreement"])
def bench_weights(what: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    labels, truth = draw(size, 2)
    weights = np.random.default_rng(9).random(labels.shape[1])
    if what == "fidelity":
        seen = race(
            lambda: rc.fidelity(labels, truth, sample_weight=weights, threads=1),
            plain=lambda: rc.fidelity(labels, truth, threads=1),
        )
    else:
        few = labels[:100]
        seen = race(
            lambda: rc.pairwise_disagreement(few, sample_weight=weights, threads=1),
            rounds=3,
            plain=lambda: rc.pairwise_disagreement(few, threads=1),
        )
    report(f"rc.{what} with weights, over without", 1 / seen.over("subject", "plain"), "of its time")
