"""Group rates of many models against one numpy.bincount a model and against fairlearn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import naive_numpy
import numpy as np
import pytest

import rashomon_core as rc


@pytest.mark.parametrize("threads", [1, 2])
def bench_group_rates(
    threads: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    rng = np.random.default_rng(5)
    models, samples = size("GROUP_MODELS"), size("GROUP_SAMPLES")
    labels = rng.integers(0, 2, (models, samples), dtype=np.uint8)
    y, groups = rng.integers(0, 2, samples), rng.integers(0, 4, samples)
    few = labels[: max(1, models // 5)]
    assert np.array_equal(
        rc.group_rates(few, y, groups).counts.reshape(len(few), 4, 2, 2), naive_numpy.cell_counts(few, y, groups)
    )
    seen = race(
        lambda: rc.group_rates(labels, y, groups, threads=threads),
        threads=threads,
        bincount=lambda: naive_numpy.cell_counts(few, y, groups),
    )
    scale = models / len(few)
    name = f"rc.group_rates {models} x {samples} x 4 groups, {threads} thread{'s'[: threads > 1]}"
    report(f"{name}, over bincount", seen.over("subject", "bincount", scale), "times", 10)
    report("  one model", 1e6 * seen.seconds["subject"] / models, "us")
    report("  one model, bincount", 1e6 * seen.seconds["bincount"] / len(few), "us")


def bench_group_rates_against_fairlearn(
    size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn, the anchor, is not installed")
    rng = np.random.default_rng(5)
    models, samples = size("GROUP_MODELS"), size("GROUP_SAMPLES")
    labels = rng.integers(0, 2, (models, samples), dtype=np.uint8)
    y, groups = rng.integers(0, 2, samples), rng.integers(0, 4, samples)
    metrics = {
        "selection_rate": fairlearn.selection_rate,
        "tpr": fairlearn.true_positive_rate,
        "fpr": fairlearn.false_positive_rate,
    }

    def frame() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ = fairlearn.MetricFrame(metrics=metrics, y_true=y, y_pred=labels[0], sensitive_features=groups).by_group

    seen = race(lambda: rc.group_rates(labels, y, groups, threads=1), rounds=3, fairlearn=frame)
    report("rc.group_rates, 1 thread, over fairlearn", seen.over("subject", "fairlearn", models), "times")


@pytest.mark.parametrize("count", [4, 1000])
def bench_multiplicity_by_group(
    count: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    """Inside groups costs what one reading costs, and a few passes over vectors."""
    rng = np.random.default_rng(5)
    models, samples = size("GROUP_MODELS"), size("GROUP_SAMPLES")
    labels = rng.integers(0, 2, (models, samples), dtype=np.uint8)
    groups = rng.integers(0, count, samples)
    seen = race(
        lambda: rc.multiplicity_by_group(labels, groups, threads=1),
        reading=lambda: rc.disagreement_rate(labels, threads=1),
    )
    name = f"rc.multiplicity_by_group {models} x {samples} x {count} groups, 1 thread"
    report(f"{name}, over rc.disagreement_rate", 1 / seen.over("subject", "reading"), "times", 2, at_most=True)


def bench_fairness_over_set(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    rng = np.random.default_rng(5)
    models, samples = size("GROUP_MODELS"), size("GROUP_SAMPLES")
    labels = rng.integers(0, 2, (models, samples), dtype=np.uint8)
    y, groups = rng.integers(0, 2, samples), rng.integers(0, 4, samples)
    rates = rc.group_rates(labels, y, groups)
    seen = race(lambda: rc.fairness_over_set(rates), counting=lambda: rc.group_rates(labels, y, groups, threads=1))
    report(
        f"rc.fairness_over_set {models} models, over rc.group_rates of {samples} samples, 1 thread",
        1 / seen.over("subject", "counting"), "times", 1, at_most=True,
    )  # fmt: skip
