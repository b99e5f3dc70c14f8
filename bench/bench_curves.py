"""Epsilon curves of decisions against one ambiguity; bootstrap intervals in seconds and against resampled labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("classes", [2, 10])
def bench_epsilon_curves(
    classes: int, threads: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    rng = np.random.default_rng(6)
    models, samples = size("CURVE_MODELS"), size("CURVE_SAMPLES")
    truth = rng.integers(0, classes, samples, dtype=np.uint8)
    labels = rng.integers(0, classes, (models, samples), dtype=np.uint8)
    labels = np.where(rng.random((models, samples)) < 0.1, labels, truth)
    losses = (labels != truth).mean(axis=1)
    seen = race(
        lambda: rc.epsilon_curves(labels, losses, truth, pairwise=False, threads=threads),
        threads=threads,
        ambiguity=lambda: rc.ambiguity(labels, truth, threads=threads),
        with_pairs=lambda: rc.epsilon_curves(labels, losses, truth, threads=threads),
        pairs=lambda: rc.pairwise_discrepancy(labels, threads=threads),
    )
    points = len(rc.epsilon_curves(labels, losses, truth, pairwise=False))
    name = f"rc.epsilon_curves C={classes}, {models} x {samples}, {points} sets, {threads} thread{'s'[: threads > 1]}"
    ratio = 1 / seen.over("subject", "ambiguity")
    report(f"{name}, to one rc.ambiguity", ratio, "times", 3, at_most=True)
    more = (seen.seconds["with_pairs"] - seen.seconds["subject"]) / seen.seconds["pairs"]
    report("  pairwise discrepancy added, to one call of it", more, "times", 1.1, at_most=True)
    report("  seconds", seen.seconds["subject"], "s")


def _problem(size: Callable[[str], int]) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    models, samples = size("BOOTSTRAP_MODELS"), size("BOOTSTRAP_SAMPLES")
    truth = rng.integers(0, 2, samples, dtype=np.uint8)
    return np.where(rng.random((models, samples)) < 0.05, 1 - truth, truth).astype(np.uint8), truth


def bench_bootstrap(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    """Ambiguity and discrepancy of resampled samples, against taking the samples and measuring again."""
    labels, truth = _problem(size)
    models, samples, replicates, few = *labels.shape, size("BOOTSTRAP_REPLICATES"), 20
    names = ["ambiguity", "discrepancy"]
    rng = np.random.default_rng(0)

    def again() -> None:
        for _ in range(few):
            rows = rng.integers(0, samples, samples)
            rc.profile(labels[:, rows], reference=truth[rows], metrics=names, threads=2)

    seen = race(
        lambda: rc.bootstrap(labels, reference=truth, metrics=names, replicates=replicates, threads=2),
        threads=2,
        again=again,
    )
    name = f"rc.bootstrap of ambiguity, discrepancy: {models} x {samples}, {replicates} replicates, 2 threads"
    report(name, seen.seconds["subject"], "s", 2, at_most=True)
    report("  over profiles of resampled labels", seen.over("subject", "again", replicates / few), "times")


@pytest.mark.parametrize("what", ["weighted", "pairwise_discrepancy", "fairness"])
def bench_bootstrap_of_more(
    what: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    labels, truth = _problem(size)
    rng = np.random.default_rng(0)
    replicates = size("BOOTSTRAP_REPLICATES")
    options: dict[str, Any] = {
        "weighted": {
            "metrics": ["ambiguity", "discrepancy"],
            "reference": truth,
            "sample_weight": rng.random(len(truth)),
        },
        "pairwise_discrepancy": {"metrics": ["pairwise_discrepancy"]},
        "fairness": {"metrics": ["fairness"], "y": truth, "groups": rng.integers(0, 4, len(truth))},
    }[what]
    seen = race(lambda: rc.bootstrap(labels, replicates=replicates, threads=2, **options), rounds=3, threads=2)
    report(f"rc.bootstrap, {what}, 2 threads", seen.seconds["subject"], "s")
