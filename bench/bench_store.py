"""Opening and reading files against plain reading of the same bytes; the score pass of a file against that of an array.

The page cache is warm: what is measured is this library, not a disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc

Array = npt.NDArray[Any]
MODELS, CLASSES = 40, 4
FORMATS = (".npy", ".npz", "folder", ".safetensors", ".zarr", ".parquet")


@pytest.fixture(scope="module")
def scores(size: Callable[[str], int]) -> Array:
    samples = max(16, size("STORE_BYTES") // (4 * MODELS * CLASSES))
    made = np.random.default_rng(14).random((MODELS, samples, CLASSES), dtype=np.float32)
    made /= made.sum(axis=2, keepdims=True)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards: pytest would keep hundreds of megabytes of each test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(scores: Array, how: str, folder: Path) -> tuple[Path, Callable[[], object]]:
    """Write scores in a format; return the path, and what the format's own library needs to read all of it."""
    path = folder / f"preds{how}" if how.startswith(".") else folder / how
    if how == ".npy":
        rc.save_predictions(scores, path)
        return path, lambda: np.load(path)
    if how == ".npz":
        np.savez(path, scores=scores)
        return path, lambda: np.load(path)["scores"]
    if how == "folder":
        path.mkdir()
        for k, model in enumerate(scores):
            np.save(path / f"model{k}.npy", model)
        return path, lambda: [np.load(path / f"model{k}.npy") for k in range(len(scores))]
    if how == ".safetensors":
        library = pytest.importorskip("safetensors.numpy", reason="safetensors, the anchor, is not installed")
        library.save_file({"scores": scores}, path)
        return path, lambda: library.load_file(path)
    if how == ".zarr":
        zarr = pytest.importorskip("zarr", reason="zarr, the anchor, is not installed")
        chunks = (len(scores), max(1, scores.shape[1] // 8), scores.shape[2])
        array = zarr.create_array(store=str(path), shape=scores.shape, chunks=chunks, dtype="float32", compressors=None)
        array[:] = scores
        return path, lambda: zarr.open_array(str(path), mode="r")[:]
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, the anchor, is not installed")
    pyarrow = pytest.importorskip("pyarrow")
    rows = np.ascontiguousarray(scores[:, :, 1])  # one column a model: P(class 1)
    columns = {"sample_id": np.arange(rows.shape[1])} | {f"m{k}": row for k, row in enumerate(rows)}
    parquet.write_table(pyarrow.table(columns), path)
    return path, lambda: parquet.read_table(path)


@pytest.mark.parametrize("how", FORMATS)
def bench_reading(how: str, scores: Array, folder: Path, race: Callable[..., Any], report: Callable[..., None]) -> None:
    path, library = write(scores, how, folder)
    found = rc.open_predictions(path).to_array()
    assert np.array_equal(found, scores[:, :, 1] if how == ".parquet" else scores)
    flat = folder / "bytes"
    found.tofile(flat)
    seen = race(
        lambda: rc.open_predictions(path).to_array(),
        rounds=5,
        plain=lambda: np.fromfile(flat, dtype=np.uint8),
        library=library,
    )
    report(f"open and read all of {how}, over its own library", seen.over("subject", "library"), "times")
    report("  over plain reading of as many bytes", seen.over("subject", "plain"), "of reading")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", FORMATS[:-1])
def bench_pass_of_a_file(
    how: str, threads: int, scores: Array, folder: Path, race: Callable[..., Any], report: Callable[..., None]
) -> None:
    path, _ = write(scores, how, folder)
    seen = race(
        lambda: rc.profile(rc.open_predictions(path), metrics="pass", threads=threads),
        rounds=5,
        threads=threads,
        memory=lambda: rc.profile(scores, metrics="pass", threads=threads),
    )
    name = f"score pass of {how}, {threads} thread{'s'[: threads > 1]}, over that of an array"
    report(name, seen.over("subject", "memory"), "times", 0.8)
