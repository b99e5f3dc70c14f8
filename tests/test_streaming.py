"""Measuring from disk: windows and copies give the bytes of memory, each byte is read once, gaps are found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streaming_data import numbers, scores, write

import rashomon_core as rc
from rashomon_core import tiles
from rashomon_core.store import arrays, windows

Array = NDArray[Any]
mapped = pytest.mark.skipif(not windows.supported(), reason="this system maps no files under control")


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Map runs of a kilobyte already, and count the windows."""
    opened: list[int] = []
    make = windows.Window.__init__

    def counted(self: Any, mapping: Any, lock: Any, offsets: Array, length: int) -> None:
        opened.append(len(offsets))
        make(self, mapping, lock, offsets, length)

    monkeypatch.setattr(windows.Window, "__init__", counted)
    monkeypatch.setattr(tiles, "WINDOW_RUN", 1 << 10)
    monkeypatch.setattr(windows, "HUGE", 1 << 12)
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 20)
    return opened


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metrics", ["pass", "all"])
@pytest.mark.parametrize("form", ["npy", "zarr3", "zarr2", "zarr-whole", "zarr-packed", "zarr-odd", "zarr-crumbs"])
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
    plan = tiles.Plan(((0, 8192), (8192, 20_001)), 3, True, 0, along)
    for first, last in plan.tiles:
        found = plan.pieces((first, last))
        assert [p.start for p in found] + [last] == [first, *(p.stop for p in found)]
        assert all(p.start % 512 == 0 for p in found)
        for piece in found:
            across = along and any(piece.start < b < piece.stop for b in range(0, 20_001, along))
            assert not across or piece.stop - piece.start <= 512


def test_a_chunk_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, scores(5, 9000, 2), "zarr3")
    chunk = sorted(p for p in Path(path).rglob("*") if p.is_file() and p.name != "zarr.json")[1]
    with open(chunk, "ab") as file:
        file.write(bytes(8))
    with pytest.raises(rc.InvalidInputError, match="has 120008 bytes, and 120000 are") as raised:
        rc.open_predictions(path)
    assert str(chunk) in str(raised.value)


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


# --- resuming ---------------------------------------------------------------------------------------------------


class Counted:
    """Raise after so many finished tiles, as a kill would stop them; counts tiles over readings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
        from rashomon_core.store import readings

        self.added = 0
        add = readings._Reading.add

        def counted(kept: Any, rows: slice, parts: Any, sums: Any) -> None:
            if self.added == stop:
                raise KeyboardInterrupt
            add(kept, rows, parts, sums)
            self.added += 1

        monkeypatch.setattr(readings._Reading, "add", counted)


CASES: dict[str, dict[str, Any]] = {
    "all": {"metrics": "all"},
    "all-2": {"metrics": "all", "threads": 2},
    "arrays": {"metrics": "all", "keep": True, "size": 4, "bootstrap": 20},
    "weights": {"metrics": "all", "weighted": True},
    "epsilon": {"metrics": "all", "epsilon": 0.05, "selection": 0.4},
}


def measure(view: Any, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    options = dict(options)
    rng = np.random.default_rng(5)
    N, C = view.n_samples, view.n_classes
    y, target = rng.integers(0, C, (2, N))
    groups, w = rng.integers(0, 3, N), rng.random(N)
    weights = w if options.pop("weighted", False) else None
    given = {"keep_arrays": options.pop("keep", False), "memory": "2MB", "threads": 1, **options, **more}
    return rc.profile(view, target=target, y=y, groups=groups, sample_weight=weights, **given).results()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("case", list(CASES))
def test_a_resumed_measurement_gives_the_bytes_of_one_that_was_not_stopped(
    case: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    path = write(tmp_path, scores(12, 30_000, classes), "npy")
    view, options = rc.open_predictions(path), CASES[case]
    expected = measure(view, options)
    everything = Counted(monkeypatch, -1)
    kept = rc.Checkpoint(tmp_path / "all", every=0.0)
    assert measure(view, options, checkpoint=kept) == expected
    kept.remove()
    assert not (tmp_path / "all").exists()
    total = everything.added
    assert total >= 4  # the stops below differ
    for stop in (1, total // 2, total - 1):
        folder = tmp_path / f"state{stop}"
        with monkeypatch.context() as patched:
            Counted(patched, stop)
            with pytest.raises(KeyboardInterrupt):
                measure(view, options, checkpoint=rc.Checkpoint(folder, every=1e9))
        again = Counted(monkeypatch, -1)
        kept = rc.Checkpoint(folder)
        # the second half may have other threads and another budget
        assert measure(view, options, checkpoint=kept, threads=2, memory="3MB") == expected
        assert kept.resumed
        assert again.added < total


def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path, scores(12, 30_000, 3), "npy")
    np.save(tmp_path / "y.npy", np.random.default_rng(0).integers(0, 3, 30_000))
    code = """
        import os, signal, sys
        from rashomon_core import tiles
        from rashomon_core.store import readings
        tiles.TILE_BYTES = 1 << 18
        stop, add = int(sys.argv.pop(1)), readings._Reading.add
        def counted(kept, rows, parts, sums, done=[0]):
            add(kept, rows, parts, sums)
            kept.keep() if done[0] % 2 else None  # a block behind the state is half of a kill
            done[0] += 1
            if done[0] == stop:
                kept._stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        readings._Reading.add = counted
        from rashomon_core.cli import main
        main()
    """
    state = tmp_path / "state"
    args = ["measure", path, "--labels", str(tmp_path / "y.npy"), "--json", "--memory", "2MB", "--threads", "1"]

    def command(stop: int, *more: str) -> subprocess.CompletedProcess[str]:
        full = [sys.executable, "-c", textwrap.dedent(code), str(stop), *args, *more]
        return subprocess.run(full, capture_output=True, text=True, check=False, timeout=120)

    expected = json.loads(command(0).stdout)["results"]
    for stop in (1, 5):  # killed twice
        done = command(stop, "--resume", str(state))
        assert done.returncode == -9, done.stderr
    assert sorted(p.name for p in state.iterdir()) == ["reading-0.blocks", "state.npz"]
    done = command(0, "--resume", str(state))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"] == expected
    assert not state.exists()


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str = "npy", stop: int = 4) -> tuple[str, Path]:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    path, state = write(tmp_path, scores(12, 30_000, 2), form), tmp_path / "state"
    with monkeypatch.context() as patched:
        Counted(patched, stop)
        with pytest.raises(KeyboardInterrupt):
            measure(rc.open_predictions(path), {}, metrics="pass", checkpoint=rc.Checkpoint(state))
    return path, state


def test_a_checkpoint_of_another_measurement_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = stopped(tmp_path, monkeypatch)
    view = rc.open_predictions(path)
    for options, said in (
        ({"metrics": "all"}, r"metrics is \['fidelity'.*, the checkpoint has \['fidelity'"),
        ({"metrics": "pass", "threshold": 0.3}, r"threshold is 0\.3, the checkpoint has None"),
        ({"metrics": "pass", "weighted": True}, r"weights is '\w+', the checkpoint has None"),
    ):
        with pytest.raises(rc.UsageError, match=rf"another measurement: {said}.*Fix: give the same"):
            measure(view, options, checkpoint=rc.Checkpoint(state))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(rc.UsageError, match=r"predictions is .*other.*; shape is \[12, 29000, 2\]"):
        measure(
            rc.open_predictions(write(other, scores(12, 29_000, 2), "npy")),
            {"metrics": "pass"},
            checkpoint=rc.Checkpoint(state),
        )
    os.utime(path, (1, 1))
    with pytest.raises(rc.UsageError, match=r"has changed since the checkpoint .the same size, another time"):
        measure(view, {"metrics": "pass"}, checkpoint=rc.Checkpoint(state))
    with pytest.raises(rc.UsageError, match="read from disk"):
        measure(rc.Predictions.from_array(scores(3, 10, 2)), {}, checkpoint=rc.Checkpoint(tmp_path / "new"))


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("reading-0.blocks", "shorter", "the checkpoint is damaged: "),
        ("reading-0.blocks", "changed", "samples 0 to .* are not what was written"),
        ("state.npz", "shorter", "damaged or no checkpoint"),
        ("state.npz", "changed", "damaged or no checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    name: str, damage: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = stopped(tmp_path, monkeypatch)
    data = bytearray((state / name).read_bytes())
    if damage == "shorter":
        data = data[: len(data) // 2]
    else:
        data[200] ^= 1
    (state / name).write_bytes(data)
    with pytest.raises(rc.InvalidInputError, match=said):
        measure(rc.open_predictions(path), {"metrics": "pass"}, checkpoint=rc.Checkpoint(state))


def test_a_folder_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(rc.OutputError, match="holds no checkpoint"):
        rc.Checkpoint(tmp_path)
    with pytest.raises(rc.OutputError, match="a file has this name"):
        rc.Checkpoint(tmp_path / "file")


@pytest.mark.parametrize("form", ["zarr2", "zarr-packed"])
def test_nan_in_the_last_chunk_keeps_what_was_done(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    full, state = scores(12, 30_000, 2), tmp_path / "state"
    path = write(tmp_path, full, form)
    args = ["measure", path, "--metrics", "pass", "--memory", "8MB", "--json", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["rashomon-core", *args])
    z = zarr.open(path, mode="r+")
    z[7, 29_999, 1] = np.nan

    def command(*more: str) -> tuple[int, str, str]:
        from rashomon_core.cli import main

        monkeypatch.setattr(sys, "argv", ["rashomon-core", *args, *more])
        with pytest.raises(SystemExit) as left:
            main()
        out = capsys.readouterr()
        return int(left.value.code or 0), out.out, out.err

    code, _, err = command("--resume", str(state))
    assert code == 3
    assert "at model 7, sample 29999" in err
    assert f"kept in {state}: " in err
    assert "the same command goes on from there" in err
    z[7, 29_999, 1] = full[7, 29_999, 1]  # mended: only the last chunk of some models has another time
    again = Counted(monkeypatch, -1)
    code, out, err = command("--resume", str(state))
    assert code == 0, err
    assert 1 <= again.added <= 3
    assert not state.exists()
    assert json.loads(out)["results"] == json.loads(command()[1])["results"]


def test_a_budget_that_reads_in_another_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    view = rc.open_predictions(write(tmp_path, scores(400, 3000, 3), "npy"))
    options = {"metrics": ["rashomon_capacity", "score_variance"]}
    with monkeypatch.context() as patched:
        Counted(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            measure(view, options, memory="1MB", checkpoint=rc.Checkpoint(tmp_path / "state"))
    with pytest.raises(rc.UsageError, match=r"at once now\. Fix: give the same --memory"):
        measure(view, options, memory="100MB", checkpoint=rc.Checkpoint(tmp_path / "state"))
    kept = rc.Checkpoint(tmp_path / "state")
    assert measure(view, options, memory="1MB", checkpoint=kept) == measure(view, options)


# --- what is read -----------------------------------------------------------------------------------------------


def read_so_far() -> int:
    """Return the bytes that this process has read by calls."""
    with open("/proc/self/io", encoding="ascii") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("rchar"))


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="Linux counts what a process reads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", ["folder", "zarr2", "zarr-packed"])
def test_each_byte_is_read_once_per_pass(
    form: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 19)
    full = scores(15, 40_960, 2)
    if form == "folder":
        path = str(tmp_path / "models")
        os.mkdir(path)
        for k, model in enumerate(full):
            np.save(f"{path}/m{k}.npy", model)
        stored = full.nbytes
    else:
        path = write(tmp_path, full, form)
        stored = sum(p.stat().st_size for p in Path(path).rglob("*") if p.is_file() and p.name[0] in "0123456789")
    view = rc.open_predictions(path)
    rc.profile(view, metrics="pass", threads=threads, memory="8MB")  # what is imported late
    before = read_so_far()
    rc.profile(view, metrics="pass", threads=threads, memory="8MB")
    assert stored <= read_so_far() - before <= 1.002 * stored + 65_536


def test_a_folder_of_many_files_opens_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = scores(300, 5000, 2)
    for k in range(300):
        np.save(tmp_path / f"m{k}.npy", full[k])
    parsed = []
    header = arrays.npy_header
    monkeypatch.setattr(arrays, "npy_header", lambda *given: parsed.append(1) or header(*given))  # type: ignore[func-returns-value]
    before = read_so_far() if os.path.exists("/proc/self/io") else 0
    view = rc.open_predictions(tmp_path)
    if before:
        assert read_so_far() - before < 300 * 512 + 65_536
    assert len(parsed) == 1
    assert view.model_ids == tuple(f"m{k}" for k in range(300))  # natural order
    expected = numbers(rc.Predictions.from_array(full, model_ids=view.model_ids), metrics="pass")
    open_now = len(os.listdir("/proc/self/fd")) if before else 0
    assert numbers(view, metrics="pass", threads=2) == expected
    if before:
        assert len(os.listdir("/proc/self/fd")) <= open_now + 2
    os.truncate(tmp_path / "m7.npy", 20_000)
    with pytest.raises(rc.InvalidInputError, match=r"m7\.npy: the file is truncated"):
        rc.open_predictions(tmp_path)
    np.save(tmp_path / "m7.npy", full[7, :4000])
    with pytest.raises(rc.InvalidInputError, match=r"4000 samples, .*m0\.npy' has 5000"):
        rc.open_predictions(tmp_path)


def test_what_others_put_into_the_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = stopped(tmp_path, monkeypatch)
    (state / "result.json").write_text("{}")
    kept = rc.Checkpoint(state)
    measure(rc.open_predictions(path), {}, metrics="pass", checkpoint=kept)
    kept.remove()
    assert [p.name for p in state.iterdir()] == ["result.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_processes_do_not_share_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = stopped(tmp_path, monkeypatch)
    before = {p.name: p.read_bytes() for p in state.iterdir()}
    code = """
        import fcntl, sys
        with open(sys.argv[1], "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            print("mine", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(state / "reading-0.blocks")]
    view = rc.open_predictions(path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(rc.UsageError, match="another process measures with this checkpoint"):
            measure(view, {}, metrics="pass", checkpoint=rc.Checkpoint(state))
        assert {p.name: p.read_bytes() for p in state.iterdir()} == before
        other.communicate("")
    assert measure(view, {}, metrics="pass", checkpoint=rc.Checkpoint(state)) == measure(view, {}, metrics="pass")


def test_another_array_of_a_file_is_another_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    first = scores(12, 30_000, 2)
    np.savez(tmp_path / "p.npz", a=first, b=first[:, ::-1])
    path, state = str(tmp_path / "p.npz"), tmp_path / "state"

    def interrupted(view: rc.Predictions) -> None:
        shutil.rmtree(state, ignore_errors=True)
        with monkeypatch.context() as patched:
            Counted(patched, 4)
            with pytest.raises(KeyboardInterrupt):
                measure(view, {}, metrics="pass", checkpoint=rc.Checkpoint(state))

    a, b = (rc.open_predictions(path, key=key) for key in "ab")
    interrupted(a)
    with pytest.raises(rc.UsageError, match="key is 'b', the checkpoint has 'a'"):
        measure(b, {}, metrics="pass", checkpoint=rc.Checkpoint(state))
    assert measure(a, {}, metrics="pass", checkpoint=rc.Checkpoint(state)) == measure(a, {}, metrics="pass")
    interrupted(a.take(samples=np.arange(20_000)))
    with pytest.raises(rc.UsageError, match=r"taken is \['\w+'\], the checkpoint has \['\w+'\]"):
        measure(a.take(samples=np.arange(10_000, 30_000)), {}, metrics="pass", checkpoint=rc.Checkpoint(state))


def test_a_loss_that_was_changed_is_refused_where_it_chooses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 18)
    view = rc.open_predictions(write(tmp_path, scores(12, 30_000, 2), "npy"))
    y = np.random.default_rng(0).integers(0, 2, 30_000)

    def measured(sign: float, **options: Any) -> dict[str, Any]:
        def own(row: Array, label: int) -> Any:
            return 1.0 + sign * row[label]

        loss = rc.sample_loss(own, name="own")
        chosen: dict[str, Any] = {"loss": loss, "epsilon": 1e-4, "selection": 0.5}
        return rc.profile(view, y=y, metrics="pass", memory="2MB", **chosen, **options).results()

    least, most = measured(-1.0), measured(1.0)
    assert least["set"]["size"] == most["set"]["size"]  # the sums of one fit the other
    assert least["score_variance"] != most["score_variance"] or least["set"] != most["set"]
    state = tmp_path / "state"
    with monkeypatch.context() as patched:
        Counted(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            measured(-1.0, checkpoint=rc.Checkpoint(state))
    with pytest.raises(rc.UsageError, match=r"the members of the set are not those of the checkpoint\. Fix: give"):
        measured(1.0, checkpoint=rc.Checkpoint(state))
    assert measured(-1.0, checkpoint=rc.Checkpoint(state)) == least
