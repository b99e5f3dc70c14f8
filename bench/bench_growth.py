"""How cost grows: the time with twice the models, samples or classes over the time before, in the same run.

2 is linear and 4 is quadratic. Less than 2 means that something which does not grow takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bench_capacity
import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]
DOUBLED = ("M", "N", "C")


def shapes(
    size: Callable[[str], int], bytes_each: int, doubled: str
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (M, N, C) of GROWTH_BYTES / 2, and the same with one of them doubled: GROWTH_BYTES. C is 8 before."""
    models, classes = 256, 8
    samples = max(32, size("GROWTH_BYTES") // (2 * bytes_each * models * (classes if bytes_each == 4 else 1)))
    before = (models, samples, classes)
    after = tuple(n * (2 if name == doubled else 1) for name, n in zip(DOUBLED, before, strict=True))
    return before, (after[0], after[1], after[2])


def draw_labels(models: int, samples: int, classes: int) -> Array:
    rng = np.random.default_rng(15)
    truth = rng.integers(0, classes, samples, dtype=np.uint8)
    labels = rng.integers(0, classes, (models, samples), dtype=np.uint8)
    return np.where(rng.random((models, samples)) < 0.1, labels, truth)


def of_scores(how: Callable[[Array], object], shape: tuple[int, int, int]) -> Callable[[], object]:
    scores = bench_capacity.softmax_scores(*shape)
    return lambda: how(scores)


def of_labels(how: Callable[[Array, Array], object], shape: tuple[int, int, int]) -> Callable[[], object]:
    labels = draw_labels(*shape)
    truth = labels[0].copy()
    return lambda: how(labels, truth)


def of_losses(shape: tuple[int, int, int]) -> Callable[[], object]:
    labels = draw_labels(*shape)
    truth = labels[0].copy()
    losses = (labels != truth).mean(axis=1)
    return lambda: rc.epsilon_curves(labels, losses, truth, pairwise=False, threads=1)


SUBJECTS: dict[str, tuple[int, Callable[[tuple[int, int, int]], Callable[[], object]]]] = {
    "rc.profile pass": (4, lambda s: of_scores(lambda x: rc.profile(x, metrics="pass", threads=1), s)),
    "rc.rashomon_capacity": (4, lambda s: of_scores(lambda x: rc.rashomon_capacity(x, threads=1), s)),
    "rc.pairwise_disagreement": (1, lambda s: of_labels(lambda x, _: rc.pairwise_disagreement(x, threads=1), s)),
    "rc.ambiguity": (1, lambda s: of_labels(lambda x, r: rc.ambiguity(x, r, threads=1), s)),
    "rc.epsilon_curves": (1, of_losses),
    "rc.votes": (1, lambda s: of_labels(lambda x, _: rc.votes(x, int(x.max()) + 1, threads=1), s)),
}


@pytest.mark.parametrize("doubled", DOUBLED)
@pytest.mark.parametrize("what", list(SUBJECTS))
def bench_growth(
    what: str, doubled: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    bytes_each, make = SUBJECTS[what]
    before, after = shapes(size, bytes_each, doubled)
    small, large = make(before), make(after)
    seen = race(large, rounds=min(size("ROUNDS"), 7), small=small)
    growth = seen.seconds["subject"] / seen.seconds["small"]
    name = f"{what}, {doubled} from {dict(zip(DOUBLED, before, strict=True))[doubled]} doubled"
    report(name, growth, "per doubling")
