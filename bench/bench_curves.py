"""All epsilon curves of decisions against one ambiguity, and with all pairs against one pairwise discrepancy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rashomon_core as rc


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
    report(f"{name}, to one rc.ambiguity", ratio, "times", 3 if classes == 2 else None, at_most=True)
    more = (seen.seconds["with_pairs"] - seen.seconds["subject"]) / seen.seconds["pairs"]
    report("  pairwise discrepancy added, to one call of it", more, "times", 1.1, at_most=True)
    report("  seconds", seen.seconds["subject"], "s")
