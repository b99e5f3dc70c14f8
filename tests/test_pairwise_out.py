"""The matrix of all pairs, written block by block: the same numbers, all or nothing, never whole in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]


def read(path: Path) -> Array:
    if path.suffix == ".npy":
        matrix: Array = np.load(path)
        return matrix
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    return np.asarray(zarr.open_array(str(path), mode="r")[:])


@given(data=st.data(), suffix=st.sampled_from([".npy", ".zarr"]), memory=st.sampled_from([None, "1MB"]))
def test_written_is_returned(data: st.DataObject, suffix: str, memory: str | None, tmp_path_factory: Any) -> None:
    problem = data.draw(strategies.label_problems(max_models=70, max_samples=700))
    labels, w = problem.labels, problem.weights
    out = tmp_path_factory.mktemp("out") / f"pairs{suffix}"
    assert rc.pairwise_disagreement(labels, out=out, sample_weight=w, memory=memory) == out
    found = read(out)
    assert found.dtype == np.float64
    assert np.array_equal(found, rc.pairwise_disagreement(labels, sample_weight=w))
    assert os.listdir(out.parent) == [out.name]
    if w is None:
        rc.pairwise_disagreement(labels, counts=True, out=out.parent / f"counts{suffix}", memory=memory, threads=2)
        counts = read(out.parent / f"counts{suffix}")
        assert counts.dtype == np.int64
        assert np.array_equal(counts, naive.pairwise_disagreement_counts(labels))


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_all_or_nothing(suffix: str, tmp_path: Path) -> None:
    scores = np.full((3, 600, 3), 1 / 3, dtype=np.float32)
    scores[2, 599, 1] = np.nan
    out = tmp_path / f"pairs{suffix}"
    with pytest.raises(rc.InvalidInputError, match="NaN or infinity in the scores at model 2, sample 599, class 1"):
        rc.pairwise_disagreement(rc.Predictions.from_array(scores), out=out)
    assert os.listdir(tmp_path) == []
    with pytest.raises(rc.OutputError, match="does not exist"):
        rc.pairwise_disagreement(np.eye(3, dtype=int), out=tmp_path / "none" / f"pairs{suffix}")


def test_names_that_are_taken_or_mean_nothing(tmp_path: Path) -> None:
    labels = np.eye(3, dtype=int)
    (tmp_path / "a.npy").write_text("old")
    rc.pairwise_disagreement(labels, out=tmp_path / "a.npy", counts=True)
    assert read(tmp_path / "a.npy").tolist() == [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(rc.OutputError, match=r"a\.zarr: exists already. Fix: remove it"):
        rc.pairwise_disagreement(labels, out=tmp_path / "a.zarr")
    with pytest.raises(rc.UsageError, match=r"written as \.npy or \.zarr"):
        rc.pairwise_disagreement(labels, out=tmp_path / "a.csv")
    with pytest.raises(rc.UsageError, match="no meaning with sample weights"):
        rc.pairwise_disagreement(labels, out=tmp_path / "b.npy", counts=True, sample_weight=[1, 1, 1])
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "a.zarr"]


PEAK = """
import sys, numpy as np, rashomon_core as rc
def peak():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1]) * 1024
view = rc.open_predictions(sys.argv[1], n_classes=2)
rc.pairwise_disagreement(view.take(range(50)), out=sys.argv[2], counts=True, memory="16MB", threads=2)
before = peak()
rc.pairwise_disagreement(view, out=sys.argv[2], counts=True, memory="16MB", threads=2)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_neither_matrix_nor_labels_are_held(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (4000, 10_000)).astype(np.uint8)
    np.save(tmp_path / "labels.npy", labels)  # 40 MB; their planes 5 MB, the matrix 128 MB
    code = [sys.executable, "-c", PEAK, str(tmp_path / "labels.npy"), str(tmp_path / "pairs.npy")]
    done = subprocess.run(code, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 24_000_000
    matrix = np.load(tmp_path / "pairs.npy", mmap_mode="r")
    rows = [0, 1, 1999, 3999]
    assert np.array_equal(matrix[rows][:, rows], naive.pairwise_disagreement_counts(labels[rows]))
    assert np.array_equal(matrix[7, :100], matrix[:100, 7])


def test_predictions_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    np.save(path, np.eye(3, dtype=np.uint8))
    with pytest.raises(rc.UsageError, match=r"p\.npy: these are the predictions\. Fix: choose another name"):
        rc.pairwise_disagreement(rc.open_predictions(path), out=path)
    assert np.array_equal(np.load(path), np.eye(3))
