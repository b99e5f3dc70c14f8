"""Scores in files of several forms, and what a profile says of them: for tests of streaming and of packed chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]


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
        "zarr-odd": (3, "auto", len(array), 3000),
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
