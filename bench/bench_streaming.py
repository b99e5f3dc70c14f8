"""Measuring from disk beside measuring the same array in memory.

The page cache is warm: this is what the library costs, not the disk. A cold cache is measured by measure_big.py.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rashomon_core as rc

#: Files that are held to 80 % of memory; packed chunks are only reported.
FORMS = {"npy": 0.8, "zarr": 0.8, "zarr, packed": None}
CHUNK = 64_000_000


def write(path: Path, form: str, array: Any) -> Path:
    if form == "npy":
        np.save(path / "p.npy", array)
        return path / "p.npy"
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    samples = max(1, CHUNK // (array.shape[0] * array.shape[2] * 4))
    z = zarr.create_array(
        path / "p.zarr",
        shape=array.shape,
        chunks=(array.shape[0], min(samples, array.shape[1]), array.shape[2]),
        dtype="f4",
        compressors="auto" if "packed" in form else None,
    )
    z[:] = array
    return path / "p.zarr"


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("metrics", ["pass", "all"])
def bench_streaming(
    metrics: str,
    threads: int,
    classes: int,
    form: str,
    race: Callable[..., Any],
    size: Callable[[str], int],
    report: Callable[..., None],
    tmp_path: Path,
) -> None:
    models, memory = size("STREAM_MODELS"), size("STREAM_MEMORY")
    nbytes = size("STREAM_BYTES") // (1 if metrics == "pass" else 10)
    samples = nbytes // (4 * models * classes)
    rng = np.random.default_rng(0)
    array = rng.random((models, samples, classes), dtype=np.float32) ** 3 + np.float32(1e-6)
    array /= array.sum(axis=2, keepdims=True)
    target = rng.integers(0, classes, samples)
    path = write(tmp_path, form, array)

    def measure(view: rc.Predictions) -> None:
        rc.profile(view, target=target, metrics=metrics, memory=memory, threads=threads, keep_arrays=False)

    view = rc.open_predictions(path)
    seen = race(
        lambda: measure(view),
        threads=threads,
        rounds=size("ROUNDS") if metrics == "pass" else 3,
        memory=lambda: measure(rc.Predictions.from_array(array)),
    )
    name = f"{metrics}, C={classes}, threads={threads}, .{form}"
    report(f"{name}: speed of the same array in memory", seen.over("subject", "memory"), "x", FORMS[form])
    report(f"{name}: throughput", nbytes / 1e9 / seen.seconds["subject"], "GB/s")


def bench_many_files(benchmark: Any, size: Callable[[str], int], report: Callable[..., None], tmp_path: Path) -> None:
    """Open and read a folder of one small .npy for each model."""
    models, samples = size("STREAM_FILES"), 1000
    one = np.full((samples, 2), 0.5, dtype=np.float32)
    for k in range(models):
        np.save(tmp_path / f"m{k}.npy", one)
    seconds: dict[str, float] = {}

    def both() -> None:
        start = time.perf_counter()
        view = rc.open_predictions(tmp_path)
        seconds["open"] = time.perf_counter() - start
        rc.profile(view, metrics="pass", memory=size("STREAM_MEMORY"), keep_arrays=False)
        seconds["pass"] = time.perf_counter() - start - seconds["open"]

    benchmark.pedantic(both, rounds=1)
    report(f"{models} files of one model: opened", seconds["open"], "s", None)
    report(f"{models} files of one model, {os.cpu_count()} threads: pass", seconds["pass"], "s", None)
    shutil.rmtree(tmp_path)
