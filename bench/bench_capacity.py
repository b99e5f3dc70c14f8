"""Rashomon Capacity against textbook Blahut-Arimoto, against one reading of the scores, and by shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import baseline_capacity
import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core.profiling import PASS

Array = npt.NDArray[Any]
#: Rows of the table: what the rows are like, M, C.
SHAPES = [
    ("softmax", 1000, 3),
    ("softmax", 1000, 32),
    ("softmax", 100, 10),
    ("softmax", 1000, 10),
    ("softmax", 10_000, 10),
    ("softmax", 1000, 100),
    ("softmax", 1000, 1000),
    ("Dirichlet(1)", 1000, 10),
    ("Dirichlet(.1)", 1000, 10),
    ("nearly flat", 1000, 10),
    ("nearly one-hot", 1000, 10),
]


def softmax_scores(models: int, samples: int, classes: int, noise: float = 0.3, sharp: float = 1.0) -> Array:
    """Return float32 scores (M, N, C): softmax of a base logit per sample plus noise of each model."""
    rng = np.random.default_rng(11)
    base = sharp * rng.standard_normal((samples, classes), dtype=np.float32)
    scores = np.empty((models, samples, classes), dtype=np.float32)
    for out in scores:
        rng.standard_normal(dtype=np.float32, out=out)
        out *= noise
        out += base
        np.exp(out, out=out)
        out /= out.sum(axis=1, keepdims=True)
    return scores


def make(how: str, models: int, samples: int, classes: int) -> Array:
    """Return float32 scores of a row of the table."""
    if how == "softmax":
        return softmax_scores(models, samples, classes)
    if how == "nearly one-hot":
        return softmax_scores(models, samples, classes, noise=10.0, sharp=10.0)
    alpha = {"Dirichlet(1)": 1.0, "Dirichlet(.1)": 0.1, "nearly flat": 1e4}[how]
    rows = np.random.default_rng(12).dirichlet(np.full(classes, alpha), size=(models, samples))
    return rows.astype(np.float32)


def seconds(runner: Callable[[], object]) -> float:
    """Time one run."""
    start = time.perf_counter()
    runner()
    return time.perf_counter() - start


# ----------------------------------------------------------------------------------------------------
# Two classes: inside the score pass


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("models", [200, 1000])
def bench_two_classes_in_the_pass(
    columns: int, models: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    samples = size("SCORE_BYTES") // (4 * models * columns)
    rng = np.random.default_rng(3)
    p = np.empty((models, samples), dtype=np.float32)
    base = rng.random(samples, dtype=np.float32) * 0.8 + 0.1
    long = rng.random(2 * samples, dtype=np.float32) * 0.1 - 0.05
    for row, start in zip(p, rng.integers(0, samples, models), strict=True):
        np.add(base, long[start : start + samples], out=row)
    scores = p if columns == 1 else np.stack([1 - p, p], axis=-1)
    del p
    reference = rng.integers(0, 2, samples)
    view = rc.Predictions.from_array(scores)
    seen = race(
        lambda: rc.profile(view, reference=reference, metrics=[*PASS, "rashomon_capacity"], threads=1),
        rounds=7,
        plain=lambda: rc.profile(view, reference=reference, metrics="pass", threads=1),
    )
    shape = "(M, N)" if columns == 1 else "C=2"
    name = f"capacity in the pass, {shape}, M={models}, over the pass without"
    report(name, seen.seconds["subject"] / seen.seconds["plain"], "of its time", 1.3, at_most=True)
    report("  one sample more", 1e9 * (seen.seconds["subject"] - seen.seconds["plain"]) / samples, "ns")


# ----------------------------------------------------------------------------------------------------
# Ten classes: a large tensor


def bench_ten_classes(
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
    read_memory: Callable[[Array, int], float],
) -> None:
    models, classes, few = 1000, 10, 40  # rounds differ by a third from sample to sample: the mean of 5 is off by 15 %
    samples = size("SCORE_BYTES") // (4 * models * classes)
    scores = softmax_scores(models, samples, classes)
    flat = scores.reshape(-1)
    chosen = np.linspace(0, samples - 1, few).astype(int).tolist()
    rows = [np.ascontiguousarray(scores[:, i]) for i in chosen]
    result: Any = None

    def subject() -> None:
        nonlocal result
        result = rc.rashomon_capacity(scores, threads=1)

    seen = race(
        subject,
        rounds=3,
        memory=lambda: read_memory(flat, 1),
        published=lambda: [baseline_capacity.published(x) for x in rows],
    )
    assert result.certified.all()
    name = f"rashomon_capacity C=10, M={models}, 1 thread"
    report(f"{name}, over the published stop", seen.over("subject", "published", samples / few), "times", 3000)
    slower = seen.seconds["subject"] / seen.seconds["memory"]
    report(f"{name}, over reading once", slower, "of its time", 10, at_most=True)
    report("  one sample", 1e6 * seen.seconds["subject"] / samples, "us")
    report("  one sample, published stop", 1e6 * seen.seconds["published"] / few, "us")
    report("  scans, mean", [result.iterations.mean()], "")
    report("  Newton steps, mean", [result.newton.mean()], "")
    report("  largest gap", [1e6 * result.max_gap], "1e-6 bits")
    wrong = [abs(baseline_capacity.published(x).bits - result.bits[i]) for i, x in zip(chosen, rows, strict=True)]
    report("  published stop, error", [1e6 * max(wrong)], "1e-6 bits")


# ----------------------------------------------------------------------------------------------------
# By shape


@pytest.mark.parametrize(("how", "models", "classes"), SHAPES)
def bench_shapes(
    how: str,
    models: int,
    classes: int,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
) -> None:
    samples = max(4, min(2000, size("CAPACITY_BYTES") // (4 * models * classes)))
    scores = make(how, models, samples, classes)
    few = 3 if models * classes <= 10_000 else 1
    rows = [np.ascontiguousarray(scores[:, i]) for i in range(few)]
    start = time.perf_counter()
    found, stop = [baseline_capacity.published(x) for x in rows], "published stop"
    if min(x.rounds for x in found) < 100:  # it gave up at once: nothing to compare with
        few = 1
        start = time.perf_counter()
        found, stop = [baseline_capacity.certified(rows[0])], "certified stop"
    anchor = (time.perf_counter() - start) / few
    result: Any = None

    def subject() -> None:
        nonlocal result
        result = rc.rashomon_capacity(scores, threads=1)

    seen = race(subject, rounds=3)
    assert result.certified.all()
    each = seen.seconds["subject"] / samples
    name = f"{how}, M={models}, C={classes}"
    report(f"{name}, over the {stop}", anchor / each, "times", 1000 if classes >= 100 else None)
    report("  one sample", 1e6 * each, "us")
    report("  scans", [result.iterations.mean()], "")
    report("  Newton steps", [result.newton.mean()], "")
    report(f"  NumPy, {stop}", [1e6 * anchor], f"us, {max(x.rounds for x in found)} rounds")
    if models * classes <= 100_000:
        slow = seconds(
            lambda: rc.rashomon_capacity(scores[:, :1], method="blahut_arimoto", on_uncertified="ignore", threads=1)
        )
        report("  compiled blahut_arimoto", [1e6 * slow], "us")


def bench_growth_with_models(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    samples = max(16, size("CAPACITY_BYTES") // (4 * 10_000 * 10))
    large = softmax_scores(10_000, samples, 10)
    small = np.ascontiguousarray(large[:1000])
    seen = race(
        lambda: rc.rashomon_capacity(large, threads=1),
        rounds=5,
        small=lambda: rc.rashomon_capacity(small, threads=1),
    )
    grown = seen.seconds["subject"] / seen.seconds["small"] / 10
    report("C=10, growth from M=1000 to 10,000 over linear", grown, "of linear", 1, at_most=True)


@pytest.mark.parametrize("classes", [2, 10])
def bench_doubles(
    classes: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    """Scores in double: the same solver, twice the bytes."""
    plain = softmax_scores(200, max(64, size("CAPACITY_BYTES") // (800 * classes)), classes)
    scores = rc.Predictions.from_array(plain.astype(np.float64), renormalize=True)
    seen = race(
        lambda: rc.rashomon_capacity(scores, threads=1),
        rounds=5,
        plain=lambda: rc.rashomon_capacity(plain, threads=1),
    )
    name = f"rashomon_capacity C={classes}, M=200, 1 thread, float64 to float32"
    report(name, 1 / seen.over("subject", "plain"), "of its time")
