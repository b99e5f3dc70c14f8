"""Losses and distances per model, other kinds and widths of scores: against the bandwidth of memory and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import _encode

Array = npt.NDArray[Any]
MODELS = 100


def draw(size: Callable[[str], int], classes: int, dtype: str = "float32") -> Array:
    """Return valid scores (M, N, C)."""
    samples = max(16, size("LOSS_BYTES") // (4 * MODELS * classes))
    scores = np.random.default_rng(10).random((MODELS, samples, classes), dtype=np.float32) + np.float32(0.1)
    scores /= scores.sum(axis=2, keepdims=True)
    return scores.astype(dtype)


@pytest.mark.parametrize(
    ("what", "classes"),
    [(what, C) for C in (2, 10) for what in ("log_loss", "cross_entropy", "total_variation")]
    + [("delta_ambiguity", 2)],
)
def bench_losses(
    what: str,
    classes: int,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    scores = draw(size, classes)
    target = scores[0].astype(np.float64)
    target /= target.sum(axis=1, keepdims=True)
    y, few = target.argmax(axis=1), scores[: MODELS // 10]
    at = np.arange(len(y))
    subjects: dict[str, Callable[[], object]] = {
        "log_loss": lambda: rc.log_loss(scores, y, threads=1),
        "cross_entropy": lambda: rc.cross_entropy(scores, target, threads=1),
        "total_variation": lambda: rc.total_variation(scores, target, threads=1),
        "delta_ambiguity": lambda: rc.delta_ambiguity(scores, target, 0.1, threads=1),
    }
    naive: dict[str, Callable[[], object]] = {
        "log_loss": lambda: -np.log(few[:, at, y].astype(np.float64)).mean(axis=1),
        "cross_entropy": lambda: -(target * np.log(few.astype(np.float64))).sum(axis=2).mean(axis=1),
        "total_variation": lambda: 0.5 * np.abs(few - target).sum(axis=2).mean(axis=1),
        "delta_ambiguity": lambda: (np.abs(few - target) >= 0.1).any(axis=(0, 2)).mean(),
    }
    flat = scores.reshape(-1)
    seen = race(subjects[what], rounds=5, memory=lambda: read_memory(flat, 1), numpy=naive[what])
    report(f"rc.{what} C={classes}, 1 thread", seen.over("subject", "memory"), "of bandwidth")
    report("  over NumPy", seen.over("subject", "numpy", len(scores) / len(few)), "times")


@pytest.mark.parametrize("how", ["float16", "float64", "log_proba", "logits"])
@pytest.mark.parametrize("classes", [2, 10])
def bench_kinds(
    classes: int, how: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    """The score pass of what is not a float32 probability, to the time it takes for float32 of as many scores."""
    scores = draw(size, classes)
    plain = rc.Predictions.from_array(scores)
    if how.startswith("float"):
        other = rc.Predictions.from_array(scores.astype(how), renormalize=True)
    else:
        other = rc.Predictions.from_array(np.log(scores), kind=how, renormalize=how == "log_proba")
    seen = race(
        lambda: rc.profile(other, metrics="pass", threads=1),
        rounds=5,
        plain=lambda: rc.profile(plain, metrics="pass", threads=1),
    )
    report(f"score pass of {how}, C={classes}, 1 thread, to float32", 1 / seen.over("subject", "plain"), "of its time")


def bench_distance_of_doubles(
    size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    plain = draw(size, 10)
    scores = rc.Predictions.from_array(plain.astype(np.float64), renormalize=True)
    target = np.full(plain.shape[1:], 0.1)
    seen = race(
        lambda: rc.total_variation(scores, target, threads=1),
        rounds=5,
        plain=lambda: rc.total_variation(plain, target, threads=1),
    )
    report("rc.total_variation C=10, 1 thread, float64 to float32", 1 / seen.over("subject", "plain"), "of its time")


def bench_log_and_exp(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    x = np.random.default_rng(11).random(min(1_000_000, size("LOSS_BYTES") // 8)) + 1e-3
    seen = race(lambda: _encode.log_exp(x), numpy=lambda: (np.log(x), np.exp(x)))
    report("log and exp of doubles, the same bits everywhere, over NumPy's", seen.over("subject", "numpy"), "times")
