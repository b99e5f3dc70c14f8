"""An accumulator fed chunk by chunk against one profile of the whole; the matrix of all pairs, written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rashomon_core as rc

MODELS = 60
#: Bytes of a chunk.
CHUNK = 64_000_000


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("threads", [1, 2])
def bench_accumulator(
    classes: int, threads: int, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]
) -> None:
    rng = np.random.default_rng(3)
    step = CHUNK // (MODELS * classes * 4) // 4096 * 4096
    samples = max(2, size("SCORE_BYTES") // CHUNK) * step
    scores = rng.random((MODELS, samples, classes), dtype=np.float32)
    scores /= scores.sum(axis=-1, keepdims=True)
    given: dict[str, Any] = {"metrics": "pass", "target": rng.integers(0, classes, samples)}

    def accumulate(models: int) -> rc.MultiplicityAccumulator:
        acc = rc.MultiplicityAccumulator(MODELS, samples, classes, kind="proba", **given)
        for i in range(0, samples, step):
            for m in range(0, MODELS, models):
                m_, n_ = slice(m, m + models), slice(i, i + step)
                acc.update(scores[m_, n_], models=m_, samples=n_, threads=threads)
        return acc

    acc = accumulate(MODELS)
    whole = rc.profile(scores, threads=threads, **given)
    assert acc.results() == whole.results()
    seen = race(
        lambda: accumulate(MODELS),
        threads=threads,
        profile=lambda: rc.profile(scores, threads=threads, **given),
        blocks=lambda: accumulate(MODELS // 3),
        merge=lambda: acc.fresh().merge(acc),
    )
    name = f"accumulator C={classes}, chunks of 64 MB, {threads} thread{'s'[: threads > 1]}"
    report(f"{name}, over rc.profile", seen.over("subject", "profile"), "times", 0.8)
    report("  a third of the models a chunk, over rc.profile", seen.over("blocks", "profile"), "times")
    report("  one merge of all of it", 1e3 * seen.seconds["merge"], "ms")
    report("  state", acc.nbytes / samples / classes, "bytes a sample and class")


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def bench_matrix_written(
    suffix: str, size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None], tmp_path: Path
) -> None:
    models, samples = size("PAIR_MODELS"), size("PAIR_SAMPLES")
    labels = np.random.default_rng(4).integers(0, 2, (models, samples), dtype=np.uint8)
    count = iter(range(1 << 30))
    seen = race(
        lambda: rc.pairwise_disagreement(labels, out=tmp_path / f"{next(count)}{suffix}", threads=1),
        rounds=5,
        memory=lambda: rc.pairwise_disagreement(labels, threads=1),
    )
    report(f"rc.pairwise_disagreement to {suffix}, over memory", seen.over("subject", "memory"), "times")
