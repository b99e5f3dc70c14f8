"""Measuring from disk: windows and copies give the bytes of memory, each byte is read once, gaps are found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core import tiles
from rashomon_core.store import windows

Array = NDArray[Any]
mapped = pytest.mark.skipif(not windows.supported(), reason="this system maps no files under control")


def scores(models: int, samples: int, classes: int, dtype: str = "float32") -> Array:
    rng = np.random.default_rng(3)
    raw = rng.random((models, samples, classes)) ** 3 + 1e-3
    found: Array = (raw / raw.sum(axis=2, keepdims=True)).astype(dtype)
    return found


def numbers(view: Any, **options: Any) -> dict[str, Any]:
    N, C = view.n_samples, view.n_classes
    rng = np.random.default_rng(5)
    y, target = rng.integers(0, C, (2, N))
    groups = rng.integers(0, 3, N)
    return rc.profile(view, target=target, y=y, groups=groups, memory="8MB", keep_arrays=False, **options).results()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Map runs of a kilobyte already, and count the windows."""
    opened: list[int] = []
    make = windows.Window.__init__

    def counted(self: Any, fd: int, start: int, stop: int, runs: Any, *, huge: bool = False) -> None:
        opened.append(len(runs))
        make(self, fd, start, stop, runs, huge=huge)

    monkeypatch.setattr(windows.Window, "__init__", counted)
    monkeypatch.setattr(tiles, "WINDOW_RUN", 1 << 10)
    monkeypatch.setattr(tiles, "WINDOW_EDGE", 1 << 12)
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 20)
    return opened


def write(path: Path, array: Array, form: str) -> str:
    if form == "npy":
        np.save(path / "p.npy", array)
        return str(path / "p.npy")
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    version, packed, models, samples = {
        "zarr3": (3, None, len(array), 3000),
        "zarr2": (2, None, 5, 4096),
        "zarr-whole": (3, None, 4, array.shape[1]),
        "zarr-packed": (3, "auto", 6, 2048),
        "zarr-crumbs": (3, None, 3, 100),
    }[form]
    z = zarr.create_array(
        path / "p.zarr",
        shape=array.shape,
        chunks=(models, samples, *array.shape[2:]),
        dtype=array.dtype,
        compressors=packed,
        zarr_format=version,
    )
    z[:] = array
    return str(path / "p.zarr")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metrics", ["pass", "all"])
@pytest.mark.parametrize("form", ["npy", "zarr3", "zarr2", "zarr-whole", "zarr-packed", "zarr-crumbs"])
def test_streamed_results_are_those_of_memory(
    form: str, metrics: str, classes: int, tmp_path: Path, small_windows: list[int]
) -> None:
    full = scores(12, 21_000, classes)
    expected = numbers(rc.Predictions.from_array(full), metrics=metrics, threads=1)
    path = write(tmp_path, full, form)
    for threads in (1, 2):
        assert numbers(rc.open_predictions(path), metrics=metrics, threads=threads) == expected
    plain = form in ("npy", "zarr3") or (form.startswith("zarr") and form in ("zarr2", "zarr-whole") and classes == 2)
    if windows.supported() and plain:
        assert len(small_windows) > 2


@mapped
def test_a_shortened_file_is_an_error_and_no_signal(tmp_path: Path, small_windows: list[int]) -> None:
    path = write(tmp_path, scores(12, 21_000, 2), "npy")
    view = rc.open_predictions(path)
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(rc.InvalidInputError, match="bytes too early"):
        numbers(view, metrics="pass")


@pytest.mark.parametrize("along", [0, 512, 700, 4096, 5000])
def test_pieces_cover_a_tile_in_whole_groups(along: int) -> None:
    plan = tiles.Plan(((0, 8192), (8192, 20_001)), 3, True, False, along)
    for first, last in plan.tiles:
        found = plan.pieces((first, last))
        assert [p.start for p in found] + [last] == [first, *(p.stop for p in found)]
        assert all(p.start % 512 == 0 for p in found)
        for piece in found:
            across = along and any(piece.start < b < piece.stop for b in range(0, 20_001, along))
            assert not across or piece.stop - piece.start <= 512


def test_scores_with_missing_chunks_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, scores(5, 9000, 2), "zarr3")
    chunks = sorted(p for p in Path(path).rglob("*") if p.is_file() and p.name != "zarr.json")
    chunks[1].unlink()
    with pytest.raises(rc.InvalidInputError, match=r"1 of 3 chunks are not stored: c/0/1/0\. .*Fix: write them again"):
        rc.open_predictions(path)
    for chunk in (chunks[0], chunks[2]):
        chunk.unlink()
    with pytest.raises(rc.InvalidInputError, match="3 of 3 chunks"):
        rc.open_predictions(path)


def test_labels_of_chunks_that_are_not_stored_are_the_fill_value(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    labels = np.zeros((2, 40), dtype=np.uint8)
    labels[1] = np.arange(40) % 3
    zarr.create_array(tmp_path / "p.zarr", data=labels, chunks=(1, 40))  # zarr writes no chunk of zeros
    view = rc.open_predictions(tmp_path / "p.zarr")
    assert np.array_equal(view.to_array(), labels)
