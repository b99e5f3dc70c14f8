"""A cluster of two worker processes: the bits of a profile, what travels, and everything that can go wrong."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask_tasks
import numpy as np
import pytest
from test_cli import document, run

import rashomon_core as rc
from rashomon_core import cluster as clusters
from rashomon_core import distributed as module
from rashomon_core import pieces, tiles
from rashomon_core.errors import WorkerError

library = pytest.importorskip("distributed", reason="distributed is not installed (pip install 'rashomon-core[dask]')")
da = pytest.importorskip("dask.array", reason="dask is not installed (pip install 'rashomon-core[dask]')")

Array = np.ndarray[Any, Any]
LINUX = sys.platform == "linux"
M, N, C = 23, 3 * 4096 + 500, 3


def start(n: int) -> Any:
    import logging

    return library.LocalCluster(
        n_workers=n,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        memory_limit="700MB",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with start(2) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with library.Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(2, timeout=30)
        yield made


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    raw = rng.random((M, N, C), dtype=np.float32) ** 4 + np.float32(1e-3)
    return {
        "x": raw / raw.sum(axis=2, keepdims=True),
        "target": rng.integers(0, C, N),
        "y": rng.integers(0, C, N),
        "groups": rng.integers(0, 3, N),
        "sample_weight": rng.random(N),
    }


def nothing_left(client: Any) -> None:
    """Wait until the scheduler has none of our tasks: the one at hand ends, the others are dropped."""
    deadline = time.monotonic() + 20
    while tasks := client.run_on_scheduler(dask_tasks.our_tasks):
        assert time.monotonic() < deadline, tasks
        time.sleep(0.01)


def given_of(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names}


def made(function: Callable[..., Array], *first: object, chunks: int, shape: tuple[int, ...] = (20, 4096, 3)) -> Any:
    """Return a Dask array whose chunks come from ``function(*first, i, *shape)`` in the workers."""
    from dask.delayed import delayed

    task = delayed(function, pure=False)
    blocks = [da.from_delayed(task(*first, i, *shape), shape, np.float32) for i in range(chunks)]
    return da.concatenate(blocks, axis=1)


def whole(chunks: int, shape: tuple[int, ...] = (20, 4096, 3)) -> Array:
    return np.concatenate([dask_tasks.scores(i, *shape) for i in range(chunks)], axis=1)


# --- order, and how far it is ----------------------------------------------------------------------------------


def test_tasks_of_a_file_begin_in_their_order(client: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((400, 24 * 4096), dtype=np.float32))
    with library.get_task_stream(client) as stream:
        rc.profile_distributed(tmp_path / "x.npy", scheduler=client, metrics="pass", task_bytes=1 << 23)
    begun: dict[str, list[tuple[float, int]]] = {}
    for entry in stream.data:
        if "-piece-" in str(entry["key"]):
            first = min(step["start"] for step in entry["startstops"])
            begun.setdefault(entry["worker"], []).append((first, int(str(entry["key"]).split("-")[-1])))
    assert sum(map(len, begun.values())) > 10
    orders = [[k for _, k in sorted(each)] for each in begun.values()]
    # whoever is free takes the next; one that a worker had no time for so far may be stolen by another
    assert sum(k > after for order in orders for k, after in itertools.pairwise(order)) <= 2, orders


def test_leaves_tell_their_end_where_somebody_listens(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).random((40, 16 * 4096), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    before = set(client.get_events())
    rc.profile_distributed(tmp_path / "x.npy", scheduler=client, metrics="pass", task_bytes=1 << 20)
    assert not [topic for topic in set(client.get_events()) - before if "rashomon" in str(topic)]
    told: list[tuple[str, int, int, int]] = []
    monkeypatch.setattr(tiles, "_reporter", lambda *what: told.append(what))
    rc.profile_distributed(tmp_path / "x.npy", scheduler=client, metrics="pass", task_bytes=1 << 20)
    told = [what for what in told if what[0] == "measuring"]
    _, done, total, nbytes = told[-1]
    assert (done, nbytes) == (total, x.nbytes)
    assert total > 8
    assert [what[1] for what in told] == sorted(what[1] for what in told)


# --- the same bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dask", "zarr", "npy", "folder"])
def test_results_are_those_of_a_profile(how: str, client: Any, data: dict[str, Any], tmp_path: Path) -> None:
    x, some = data["x"], given_of(data, "target", "y", "groups")
    if how == "dask":
        source: Any = da.from_array(x, chunks=(M, 4096, C))
    elif how == "zarr":
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        zarr.create_array(tmp_path / "x.zarr", data=x, chunks=(5, 2048, C))
        source = tmp_path / "x.zarr"
    elif how == "npy":
        np.save(tmp_path / "x.npy", x)
        source = str(tmp_path / "x.npy")
    else:
        for k in range(M):
            np.save(tmp_path / f"m{k}.npy", x[k])
        source = tmp_path
    expected = rc.profile(x, **some)
    found = rc.profile_distributed(source, scheduler=client, **some)
    results = expected.results()
    if how == "folder":  # its models have names
        text = json.dumps(results)
        for k in reversed(range(M)):
            text = text.replace(f'"argmax": "{k}"', f'"argmax": "m{k}"').replace(
                f'"argmin": "{k}"', f'"argmin": "m{k}"'
            )
        results = json.loads(text)
        assert found.model_ids == tuple(f"m{k}" for k in range(M))
    same = ("ambiguity", "disagreement_rate", "viable_prediction_range", "score_variance", "rashomon_capacity")
    for name in (*same, "pairwise_ambiguity", "discrepancy", "shape", "set"):
        assert found.results()[name] == results[name], name
    if how != "folder":
        assert found.results() == results
    assert found.parameters == expected.parameters
    assert np.array_equal(found.arrays["low"], expected.arrays["low"])


@pytest.mark.parametrize("kind", ["labels", "binary", "logits"])
def test_other_kinds(kind: str, client: Any, data: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    some = given_of(data, "y", "groups", "sample_weight")
    options: dict[str, Any] = {}
    if kind == "labels":  # the number of classes is found on the cluster
        x: Array = rng.integers(0, 5, (M, N)).astype(np.uint8)
    elif kind == "binary":
        x, options = rng.random((M, N)), {"threshold": 0.3}
        some["y"] = some["y"] % 2
    else:
        x, options = rng.normal(size=(M, N, C)).astype(np.float32), {"kind": "logits", "ddof": 1}
    expected = rc.profile(
        rc.Predictions.from_array(x, kind=options.pop("kind", None)), reference="labels", size=4, **some, **options
    )
    options |= {"kind": "logits"} if kind == "logits" else {}
    source = da.from_array(x, chunks=(M, 8192, *x.shape[2:]))
    found = rc.profile_distributed(source, scheduler=client, reference="labels", size=4, **some, **options)
    assert found.results() == expected.results()


def test_a_table(client: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    labels = np.random.default_rng(1).integers(0, 3, (4, 600))
    frame = pandas.DataFrame({"sample_id": [f"s{i}" for i in range(600)], **{f"m{k}": labels[k] for k in range(4)}})
    frame.to_parquet(tmp_path / "p.parquet")
    found = rc.profile_distributed(tmp_path / "p.parquet", scheduler=client)
    assert found.results() == rc.profile(rc.open_predictions(tmp_path / "p.parquet")).results()
    assert found.model_ids == ("m0", "m1", "m2", "m3")


def close(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert set(a) == set(b)
        for name in a:
            close(a[name], b[name])
    elif isinstance(a, float):
        assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-14)
    else:
        assert a == b


def test_chunks_of_some_models_and_odd_samples(client: Any, data: dict[str, Any]) -> None:
    """Counts and ranges are the same bits whatever the chunks; variances and mean losses agree to rounding."""
    names = [
        name for name in module.metric_names("all") if not name.startswith("pairwise_d") and name[:8] != "rashomon"
    ]
    some = given_of(data, "target", "y", "groups")
    expected = rc.profile(data["x"], metrics=names, **some).results()
    source = da.from_array(data["x"], chunks=(7, 3000, 2))
    found = rc.profile_distributed(source, scheduler=client, metrics=names, **some).results()
    for name in names:
        if name in ("score_variance", "losses"):
            close(found[name], expected[name])
        else:
            assert found[name] == expected[name], name
    # what needs all models of a sample brings the chunks together
    found = rc.profile_distributed(source, scheduler=client, metrics="rashomon_capacity,pairwise_discrepancy").results()
    expected = rc.profile(data["x"], metrics="rashomon_capacity,pairwise_discrepancy").results()
    assert found == expected


def test_a_model_as_the_reference_and_other_axes(client: Any, data: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data["x"])
    expected = rc.profile(data["x"], reference="17", metrics="pass")
    found = rc.profile_distributed(str(tmp_path / "x.npy"), scheduler=client, reference="17", metrics="pass")
    assert found.results() == expected.results()
    assert found.parameters == expected.parameters
    turned = da.from_array(np.ascontiguousarray(data["x"].transpose(1, 2, 0)), chunks=(4096, C, M))
    found = rc.profile_distributed(
        turned, scheduler=client, axes="samples,classes,models", reference="17", metrics="pass"
    )
    assert found.results() == expected.results()


def test_what_is_not_measured_says_why(client: Any, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", M - 1)
    x = da.from_array(data["x"][:, :600], chunks=(M, 600, C))
    found = rc.profile_distributed(x, scheduler=client, metrics="pairwise_discrepancy,pairwise_disagreement").results()
    for name in ("pairwise_discrepancy", "pairwise_disagreement"):
        assert found[name]["value"] is None
        assert "more than 22 models" in found[name]["reason"]
    monkeypatch.setattr(module, "MOST_COMPARED", M)
    monkeypatch.setattr(module, "MOST_PAIR_WEIGHTS", 8 * M * M)
    w = data["sample_weight"][:600]
    one = rc.profile_distributed(x, scheduler=client, metrics="pairwise_discrepancy", sample_weight=w).results()
    assert one["pairwise_discrepancy"]["value"] is not None
    x, w = da.from_array(data["x"][:, :5000], chunks=(M, 5000, C)), data["sample_weight"][:5000]
    two = rc.profile_distributed(x, scheduler=client, metrics="pairwise_discrepancy", sample_weight=w).results()
    assert "block by block" in two["pairwise_discrepancy"]["reason"]
    with pytest.warns(UserWarning, match="gaps over one group"):
        rc.profile_distributed(x, scheduler=client, groups=np.zeros(5000), metrics="fairness")


# --- what travels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [3, module.KEPT])
def test_only_accumulators_travel(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    models, samples = 400, 16 * 4096
    rng = np.random.default_rng(5)
    np.save(tmp_path / "x.npy", rng.random((models, samples), dtype=np.float32))
    expected = rc.profile(rc.open_predictions(tmp_path / "x.npy"), metrics="pass").results()
    size = models * samples * 4

    def unread(*_: object, **__: object) -> None:
        raise AssertionError("the client reads predictions")

    monkeypatch.setattr("rashomon_core.store.raw.ReaderSource.read", unread)
    monkeypatch.setattr("rashomon_core.tiles.read_block", unread)
    before = client.run(dask_tasks.bytes_sent)
    sent: list[int] = []
    absorb = rc.MultiplicityAccumulator.absorb

    def noted(self: Any, header: Any, arrays: Any) -> Any:
        sent.append(len(pickle.dumps((header, arrays))))
        return absorb(self, header, arrays)

    monkeypatch.setattr(rc.MultiplicityAccumulator, "absorb", noted)
    monkeypatch.setattr(module, "KEPT", kept)
    found = rc.profile_distributed(tmp_path / "x.npy", scheduler=client, metrics="pass", task_bytes=1 << 23)
    after = client.run(dask_tasks.bytes_sent)
    assert found.results() == expected
    assert (1 if kept == 3 else 3) < len(sent) <= kept  # what is left of the tree
    assert sum(sent) < size / 40
    moved = sum(after[w] - before[w] for w in after)
    assert moved < size / 20


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_what_tasks_share_travels_once_or_with_them(
    most: int, client: Any, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    monkeypatch.setattr(pieces, "MOST_REPEATED", most)
    array = da.from_array(data["x"], chunks=(M, 4096, C))
    with library.get_task_stream(client) as stream:
        found = rc.profile_distributed(array, scheduler=client, metrics="pass")
    assert any("-shared-" in str(entry["key"]) for entry in stream.data) == (most == 0)
    assert found.results() == rc.profile(data["x"], metrics="pass").results()


# --- workers that die -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not LINUX, reason="SIGKILL")
def test_a_worker_is_killed_and_nothing_is_lost(client: Any, tmp_path: Path) -> None:
    chunks, gate = 24, 15
    source = made(dask_tasks.gated, str(tmp_path), gate, chunks=chunks)
    expected = rc.profile(whole(chunks)).results()
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # every other chunk is there: the worker at the gate holds states by now
            names = [path.name.split("-") for path in tmp_path.iterdir()]
            waiting = [int(pid) for i, pid in names if int(i) == gate]
            if waiting and len({i for i, _ in names}) == chunks:
                os.kill(waiting[0], signal.SIGKILL)
                killed.append(waiting[0])
                break
            time.sleep(0.005)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    found = rc.profile_distributed(source, scheduler=client)
    thread.join()
    assert killed
    makers = {int(path.name.split("-")[1]) for path in tmp_path.glob(f"{gate}-*")}
    assert len(makers) == 2  # again, by another
    assert found.results() == expected


@pytest.mark.skipif(not LINUX, reason="SIGKILL")
def test_a_worker_is_killed_when_its_results_are_about_to_be_fetched(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", whole(24))
    expected = rc.profile(rc.open_predictions(tmp_path / "x.npy")).results()
    gather, killed = client.gather, []

    def late(futures: list[Any]) -> Any:
        if not killed:
            pids = client.run(os.getpid)
            (holder, *_) = next(iter(client.who_has(futures).values()))
            killed.append(pids[holder])
            os.kill(pids[holder], signal.SIGKILL)
        return gather(futures)

    monkeypatch.setattr(client, "gather", late)
    found = rc.profile_distributed(tmp_path / "x.npy", scheduler=client, task_bytes=1 << 20)
    assert killed
    assert found.results() == expected
    client.wait_for_workers(2, timeout=30)


@pytest.mark.skipif(not LINUX, reason="SIGKILL")
def test_a_result_that_cannot_be_made_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        status = "finished"

        def add_done_callback(self, told: Callable[[Any], None]) -> None:
            told(self)

        def exception(self) -> Exception:
            return library.scheduler.KilledWorker("piece", None, 3)  # type: ignore[no-any-return]

    future = Gone()

    def late(futures: list[Any]) -> Any:
        future.status = "error"
        raise future.exception()

    monkeypatch.setattr(client, "gather", late)
    with pytest.raises(WorkerError, match="a task ended 4 workers"):
        clusters.Cluster(library, client)._collect([future], print, lambda: None)


@pytest.mark.skipif(not LINUX, reason="SIGKILL")
def test_a_task_that_ends_its_workers(cluster: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(WorkerError, match="a task ended 1 worker") as caught:
        rc.profile_distributed(made(dask_tasks.deadly, chunks=1), scheduler=client)
    assert "memory" in str(caught.value)
    client.wait_for_workers(2, timeout=30)


def test_no_worker_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PATIENCE", 0.5)
    monkeypatch.setattr(clusters, "WATCH", 0.1)
    with (
        start(0) as empty,
        pytest.raises(WorkerError, match="no worker is left"),
        pytest.warns(UserWarning, match="no workers"),
    ):
        rc.profile_distributed(made(dask_tasks.scores, chunks=2), scheduler=empty.scheduler_address)


# --- other trouble ----------------------------------------------------------------------------------------------


def test_nan_in_the_last_chunk(client: Any, tmp_path: Path) -> None:
    last = rf"model 19, sample {6 * 4096 - 1}, class 1: value nan"
    with pytest.raises(rc.InvalidInputError, match=last):
        rc.profile_distributed(made(dask_tasks.poisoned, 5, chunks=6), scheduler=client)
    x = whole(6)
    x[-1, -1, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(rc.InvalidInputError, match=rf"x\.npy.*{last}"):
        rc.profile_distributed(tmp_path / "x.npy", scheduler=client, task_bytes=1 << 20)
    nothing_left(client)


def test_a_zarr_with_missing_chunks(client: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    zarr.create_array(tmp_path / "x.zarr", data=whole(3), chunks=(10, 4096, 3))
    (tmp_path / "x.zarr" / "c" / "1" / "2" / "0").unlink()
    with pytest.raises(rc.InvalidInputError, match=r"1 of 6 chunks are not stored: c/1/2/0"):
        rc.profile_distributed(tmp_path / "x.zarr", scheduler=client)


def test_a_file_that_is_another_one_for_the_workers(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", whole(1))
    check = clusters.Cluster.check

    def replaced(self: Any) -> None:
        check(self)
        np.save(tmp_path / "x.npy", whole(1)[:-1])

    monkeypatch.setattr(clusters.Cluster, "check", replaced)
    with pytest.raises(
        rc.InvalidInputError, match=r"shape \(19, 4096, 3\) float32 on worker tcp://.*shared file system"
    ):
        rc.profile_distributed(tmp_path / "x.npy", scheduler=client)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(rc.InvalidInputError, match="does not exist"):
        rc.profile_distributed(tmp_path / "x.npy", scheduler=client)


def test_masked_values_are_refused(client: Any) -> None:
    hidden = da.ma.masked_where(np.arange(8) == 7, np.full(8, 0.5)).reshape(2, 4).rechunk((2, 2))
    with pytest.raises(rc.InvalidInputError, match=r"a chunk has masked values at models 0\.\.1, samples 2\.\.3"):
        rc.profile_distributed(hidden, scheduler=client)


def test_a_scheduler_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT", 1.0)
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32)[None])
    began = time.monotonic()
    with pytest.raises(rc.UsageError, match=r"tcp://127\.0\.0\.1:9 cannot be reached .*Fix"):
        rc.profile_distributed(tmp_path / "x.npy", scheduler="tcp://127.0.0.1:9")
    done = run("measure", tmp_path / "x.npy", "--scheduler", "tcp://127.0.0.1:9", "--json")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "cannot be reached" in done.stderr
    assert time.monotonic() - began < 10
    for wrong in ("here", "local:0", "local:two", "local:1000", "tcp:/x", "http://x:1", "tcp://x:65536", ""):
        done = run("measure", tmp_path / "x.npy", "--scheduler", wrong)
        assert done.exit_code == 2, wrong
        assert "is no address" in done.stderr
    with pytest.raises(rc.UsageError, match="neither a client nor an address"):
        rc.profile_distributed(tmp_path / "x.npy", scheduler=8786)


def test_a_worker_with_another_release(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc, "__version__", "0.0.1")
    with pytest.raises(rc.UsageError, match=r"has release .*the client has 0\.0\.1"):
        rc.profile_distributed(made(dask_tasks.scores, chunks=1), scheduler=client)


def test_interrupted(client: Any, tmp_path: Path) -> None:
    source = made(dask_tasks.gated, str(tmp_path), 3, chunks=6)

    def interrupt() -> None:
        while not list(tmp_path.glob("3-*")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            rc.profile_distributed(source, scheduler=client)
    finally:
        signal.signal(signal.SIGINT, before)
        (tmp_path / "go").touch()
        thread.join()
    nothing_left(client)
    found = rc.profile_distributed(made(dask_tasks.scores, chunks=2), scheduler=client)  # the cluster is as it was
    assert found.results() == rc.profile(whole(2)).results()


def test_a_closed_client(client: Any) -> None:
    client.close()
    with pytest.raises(rc.UsageError, match="client is closed"):
        rc.profile_distributed(da.zeros((2, 8)), scheduler=client)


def test_what_is_not_a_dask_array(client: Any) -> None:
    with pytest.raises(rc.UsageError, match=r"takes a path or a dask\.array, not nd"):
        rc.profile_distributed(np.eye(3), scheduler=client)
    x = da.from_array(np.eye(4)[None], chunks=(1, 2, 4))
    with pytest.raises(rc.InvalidInputError, match="compute_chunk_sizes"):
        rc.profile_distributed(x[:, x[0, :, 0] >= 0], scheduler=client)
    with pytest.raises(rc.UsageError, match="key is for files"):
        rc.profile_distributed(x, key="x", scheduler=client)
    with pytest.raises(rc.UsageError, match="one axis of models"):
        rc.profile_distributed(da.ones((2, 3, 4)), axes="seeds,models,samples", scheduler=client)
    lying = da.from_delayed(da.ones(1).to_delayed()[0], (3, 5), np.float64)
    with pytest.raises(rc.InvalidInputError, match=r"a chunk of shape \(1,\) where \(3, 5\)"):
        rc.profile_distributed(lying, scheduler=client)


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_gives_the_same_document(cluster: Any, client: Any, data: dict[str, Any], tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    zarr.create_array(tmp_path / "x.zarr", data=data["x"], chunks=(M, 4096, C))
    options: list[object] = []
    for name, option in (("target", "target"), ("y", "labels"), ("groups", "groups"), ("sample_weight", "weights")):
        np.save(tmp_path / f"{option}.npy", data[name])
        options += [f"--{option}", tmp_path / f"{option}.npy"]
    here = document(run("measure", tmp_path / "x.zarr", *options, "--json", "--size", 5))
    done = run(
        "measure", tmp_path / "x.zarr", *options, "--json", "--size", 5, "--scheduler", cluster.scheduler_address
    )
    there = document(done)
    assert done.stderr == ""
    for part in (here, there):
        del part["resources"]["seconds"], part["resources"]["memory"], part["resources"]["threads"]
    assert there == here
    done = run("measure", tmp_path / "x.zarr", "--scheduler", cluster.scheduler_address)
    assert done.exit_code == 0
    assert "ambiguity" in done.stdout.lower()


def test_the_command_refuses_what_a_cluster_does_not_measure(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32)[None])
    for options in (["--epsilon", "0"], ["--bootstrap", "9"], ["--curves"], ["--threads", "2"], ["--resume", "r"]):
        done = run("measure", tmp_path / "x.npy", "--scheduler", "local", *options)
        assert done.exit_code == 2
        assert f"{options[0]} and --scheduler do not go together" in done.stderr
