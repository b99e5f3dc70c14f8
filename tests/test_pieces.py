"""How predictions are cut into tasks of a cluster, and what needs no cluster."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import dask_tasks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import run

import rashomon_core as rc
from rashomon_core import pieces
from rashomon_core.errors import MissingDependencyError


@given(
    models=st.integers(1, 3000),
    samples=st.integers(1, 300_000),
    classes=st.sampled_from([2, 10]),
    chunks=st.none() | st.tuples(st.integers(1, 4000), st.sampled_from([100, 1000, 4096, 8192, 50_000, 10**6])),
    together=st.booleans(),
    threads=st.integers(1, 64),
)
def test_tasks_cover_everything_once(
    models: int, samples: int, classes: int, chunks: tuple[int, int] | None, together: bool, threads: int
) -> None:
    if chunks is not None:
        chunks = min(chunks[0], models), min(chunks[1], samples)
    tasks = pieces.plan_tasks((models, samples, classes), 4, chunks, together=together, threads=threads)
    assert sum((b - a) * (d - c) for (a, b), (c, d) in tasks) == models * samples
    starts = sorted({c for _, (c, _) in tasks})
    for (a, b), (c, d) in tasks:
        assert 0 <= a < b <= models
        assert 0 <= c < d <= samples
        assert d == samples or d in starts
        if together:
            assert (a, b) == (0, models)
        if chunks is not None and not together:  # whole chunks: each byte is read once
            assert c % chunks[1] == 0
            assert a % chunks[0] == 0
            assert d == samples or d % chunks[1] == 0
            assert b == models or b % chunks[0] == 0
    assert chunks is not None or all(c % 4096 == 0 for c in starts)


def test_tasks_of_small_chunks_are_grouped() -> None:
    tasks = pieces.plan_tasks((1000, 200_000, 10), 4, (50, 1024))
    assert {c % 4096 for _, (c, _) in tasks} == {0}
    assert max((b - a) * (d - c) * 40 for (a, b), (c, d) in tasks) <= 1.3e9
    tasks = pieces.plan_tasks((100, 2_000_000, 2), 4, (100, 4096))
    sizes = [(b - a) * (d - c) * 8 for (a, b), (c, d) in tasks[:-1]]
    assert all(5e7 < size <= pieces.TASK_BYTES for size in sizes)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_last_tasks_are_short(threads: int) -> None:
    tasks = pieces.plan_tasks((400, 150 * 4096, 10), 4, (400, 4096), threads=threads)
    sizes = [400 * (d - c) * 40 for _, (c, d) in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > pieces.TASK_BYTES * 0.8
    assert sizes[-threads] <= pieces.TASK_BYTES / 4  # when one thread is at its last, no other has long to go
    assert len(sizes) < 150 * 4096 * 16_000 / pieces.TASK_BYTES + 8 * threads


def test_what_is_not_decoded_is_cut_anywhere(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    x = dask_tasks.scores(0, 20, 3 * 4096, 3)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "models").mkdir()
    for k in range(20):
        np.save(tmp_path / "models" / f"m{k}.npy", x[k])
    zarr.create_array(tmp_path / "plain.zarr", data=x, chunks=x.shape, compressors=None)
    zarr.create_array(tmp_path / "packed.zarr", data=x, chunks=x.shape)
    zarr.create_array(tmp_path / "small.zarr", data=x, chunks=(5, 4096, 3))
    for name, expected in {"x.npy": None, "models": None, "plain.zarr": None, "packed.zarr": x.shape[:2]}.items():
        assert pieces.whole_chunks(rc.open_predictions(tmp_path / name)) == expected, name
    assert pieces.whole_chunks(rc.open_predictions(tmp_path / "small.zarr")) == (5, 4096)


def test_a_merge_leaves_what_it_merges_as_it_was() -> None:
    x = np.random.default_rng(0).dirichlet([1, 1, 1], (6, 8192)).astype(np.float32)
    empty = rc.MultiplicityAccumulator(6, 8192, 3, kind="proba", metrics="all", pairs=True, y=np.zeros(8192, int))
    halves = [slice(0, 4096), slice(4096, 8192)]
    states = [empty.fresh().update(x[:, h], samples=h).state() for h in halves]
    before = pickle.dumps(states)
    job = pieces.Job.of(rc.Predictions.from_array(x), None, memory=1 << 20)
    once, twice = (pieces.merge_states(pieces.Common(job, empty), states) for _ in range(2))
    assert pickle.dumps(states) == before
    assert pickle.dumps(once) == pickle.dumps(twice)


def test_dask_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32)[None])
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"'distributed', which is not installed.*rashomon-core\[dask\]"):
        rc.profile_distributed(tmp_path / "x.npy")
    done = run("measure", tmp_path / "x.npy", "--scheduler", "local")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'rashomon-core[dask]'" in done.stderr
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(MissingDependencyError, match="'dask'"):
        rc.profile_distributed(np.eye(3))
