"""Pairwise disagreement against the popcount peak of each instruction set and against SciPy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core import _decisions, _encode

Array = npt.NDArray[Any]
#: 512-bit steps of one call of the peak: about 15 ms.
STEPS = {"avx512": 20_000_000, "avx2": 4_000_000, "base": 2_000_000}


def draw(models: int, samples: int, classes: int) -> Array:
    return np.random.default_rng(3).integers(0, classes, (models, samples), dtype=np.uint8)


def encode(labels: Array, classes: int) -> Array:
    shape = (len(labels), _encode.group_count(labels.shape[1]), _encode.plane_count(classes), 8)
    planes = np.empty(shape, dtype=np.uint64)
    _encode.encode(labels, planes)
    return planes


@pytest.mark.parametrize("instruction_set", ["avx512", "avx2", "base"], indirect=True)
@pytest.mark.parametrize("classes", [2, 10])
def bench_pair_kernel(
    classes: int,
    instruction_set: str,
    size: Callable[[str], int],
    race: Callable[..., Any],
    report: Callable[..., None],
) -> None:
    share = {"avx512": 1, "avx2": 4, "base": 8}[instruction_set]  # slower ones get fewer models
    models, samples = size("PAIR_MODELS") // share, size("PAIR_SAMPLES")
    planes = encode(draw(models, samples, classes), classes)
    half = models // 2
    counts = np.zeros((half, half), dtype=np.int64)
    steps = STEPS[instruction_set]
    seen = race(
        lambda: _decisions.pair_counts(planes[:half], planes[half : 2 * half], counts),
        peak=lambda: _decisions.popcount_peak(steps),
    )
    pairs = half * half * samples
    peak = steps * 512 / seen.seconds["peak"]
    rate = pairs / seen.seconds["subject"]
    name = f"pair kernel C={classes}, {instruction_set}"
    if classes == 2:
        report(name, rate / peak, "of popcount peak", 0.6)
        report(f"  popcount peak, {instruction_set}", peak / 1e9, "1e9 bits/s")
    target = 90.0 if classes == 10 and instruction_set == "avx512" else None
    report(name, rate / 1e9, "1e9 pairs*N/s", target)


@pytest.mark.parametrize("classes", [2, 10])
def bench_pairwise_disagreement(
    classes: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    models, samples = size("PAIR_MODELS"), size("PAIR_SAMPLES")
    labels, steps = draw(models, samples, classes), STEPS[rc.isa_active()]
    seen = race(lambda: rc.pairwise_disagreement(labels, threads=1), peak=lambda: _decisions.popcount_peak(steps))
    pairs = models * (models - 1) / 2 * samples
    rate = pairs / seen.seconds["subject"]
    name = f"rc.pairwise_disagreement C={classes}, labels to shares"
    if classes == 2:
        report(name, rate / (steps * 512 / seen.seconds["peak"]), "of popcount peak", 0.6)
    avx512 = rc.isa_active() == "avx512"
    report(name, rate / 1e9, "1e9 pairs*N/s", 90.0 if classes == 10 and avx512 else None)


@pytest.mark.parametrize("classes", [2, 10])
def bench_pairwise_threads(
    classes: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    labels, steps = draw(size("PAIR_MODELS"), size("PAIR_SAMPLES"), classes), 4 * STEPS[rc.isa_active()]

    def peak(threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_decisions.popcount_peak, [steps] * threads))

    seen = race(
        lambda: rc.pairwise_disagreement(labels, threads=1),
        threads=2,
        two=lambda: rc.pairwise_disagreement(labels, threads=2),
        peak=lambda: peak(1),
        two_peaks=lambda: peak(2),
    )
    name = f"rc.pairwise_disagreement C={classes}, 2 threads over 1"
    report(name, seen.over("two", "subject"), "times", 1.8)
    report("  popcount peak, 2 threads over 1", seen.over("two_peaks", "peak", 2), "times")


@pytest.mark.parametrize("classes", [2, 10])
def bench_pairwise_against_scipy(
    classes: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    distance = pytest.importorskip("scipy.spatial.distance", reason="scipy, the anchor, is not installed")
    labels = draw(size("PAIR_MODELS"), size("PAIR_SAMPLES"), classes)
    few = labels[: len(labels) // 8, : labels.shape[1] // 4]  # pdist is measured by the pair and sample
    runners = {"uint8": lambda: distance.pdist(few, metric="hamming")}
    if classes == 2:
        flags = few.astype(bool)
        runners["bool"] = lambda: distance.pdist(flags, metric="hamming")
    seen = race(lambda: rc.pairwise_disagreement(labels, threads=1), rounds=3, **runners)
    work = len(labels) * (len(labels) - 1) * labels.shape[1] / (len(few) * (len(few) - 1) * few.shape[1])
    for kind in runners:
        name = f"rc.pairwise_disagreement C={classes}, 1 thread, over SciPy pdist of {kind}"
        report(name, seen.over("subject", kind, work), "times", 200 if classes == 2 else None)  # four planes
