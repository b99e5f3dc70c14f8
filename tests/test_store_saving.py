"""store: writing is all or nothing, block by block."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_store import count_bytes, labels, scores

from rashomon_core import store
from rashomon_core.errors import InvalidInputError, OutputError, UsageError
from rashomon_core.predictions import Kind, Predictions
from rashomon_core.store import saving


@pytest.fixture(params=["unnamed", "named"])
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing: a file without a name until it is complete, and a hidden temporary file."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no unnamed files")
    return str(request.param)


class Failing:
    """A source that fails in the middle."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.shape: tuple[int, ...] = (40, 100)
        self.dtype: np.dtype[Any] = np.dtype("f4")
        self.in_memory = False
        self.path: str | None = None

    def read(self, models: slice, samples: slice, out: Any = None) -> Any:
        if models.start >= 20:
            raise self.error
        out[...] = 0.5
        return out


@pytest.mark.parametrize(
    "full", [scores(dtype="f2"), scores(), scores(c=None, dtype=">f8"), labels(dtype=">i2"), labels()]
)
@pytest.mark.parametrize("size", [1, 100, 4000, 1 << 24])
def test_round_trip(tmp_path: Path, full: Any, size: int, temporary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SAVE_BYTES", size)
    kind: Kind = "labels" if full.dtype.kind in "iu" else "proba"
    ids = [f"s{j}" for j in range(53)]
    for k, layout in enumerate((full, np.asfortranarray(full), full[:, ::-1][:, ::-1])):
        path = store.save_predictions(layout, tmp_path / f"p{k}", kind=kind, sample_ids=ids)
        assert path == tmp_path / f"p{k}.npy"
        found = store.open_predictions(path)
        np.testing.assert_array_equal(found.to_array(), full)
        assert (found.sample_ids, found.kind, found.dtype) == (tuple(ids), kind, full.dtype.newbyteorder("="))
        again = store.save_predictions(found, tmp_path / "again.npy")
        assert again.read_bytes() == path.read_bytes()
        np.testing.assert_array_equal(np.load(path), full)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{n}.{e}" for n in ("p0", "p1", "p2", "again") for e in ("npy", "json")
    )


@pytest.mark.parametrize("axes", ["samples,models,classes", "classes,samples,models"])
def test_converting_another_order(tmp_path: Path, axes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SAVE_BYTES", 500)
    full = scores(m=9, n=101, c=2)
    np.save(
        tmp_path / "p.npy",
        full.transpose([("models", "samples", "classes").index(a) for a in axes.split(",")]),
    )
    path = store.save_predictions(store.open_predictions(tmp_path / "p.npy", axes=axes), tmp_path / "q.npy")
    found = store.open_predictions(path)
    np.testing.assert_array_equal(found.to_array(), full)
    assert found.axes == ("models", "samples", "classes")


def test_everything_about_the_predictions_is_kept(tmp_path: Path) -> None:
    given = Predictions.from_array(scores(c=3, dtype="f8"), class_names="abc", model_ids=range(7), renormalize=True)
    found = store.open_predictions(store.save_predictions(given, tmp_path / "p.npy"))
    for name in (
        "kind",
        "n_classes",
        "class_names",
        "model_ids",
        "sample_ids",
        "renormalize",
        "row_tolerance",
        "axes",
    ):
        assert getattr(found, name) == getattr(given, name), name
    text = "model_id,sample_id,p0,p1,p2\nm,1,0.33,0.33,0.33\n"
    (tmp_path / "t.csv").write_text(text)
    given = store.open_predictions(tmp_path / "t.csv")
    found = store.open_predictions(store.save_predictions(given, tmp_path / "t.npy"))
    assert found.row_tolerance == given.row_tolerance == pytest.approx(0.015)
    found.validate()


def test_onto_itself(tmp_path: Path) -> None:
    full = scores()
    store.save_predictions(full, tmp_path / "p.npy", kind="logits")
    found = store.open_predictions(tmp_path / "p.npy")
    store.save_predictions(found, tmp_path / "p.npy")
    np.testing.assert_array_equal(store.open_predictions(tmp_path / "p.npy").to_array(), full)
    np.testing.assert_array_equal(found.to_array(), full)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_in_the_middle_leaves_the_old_files(
    tmp_path: Path, error: BaseException, existing: bool, temporary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SAVE_BYTES", 400)
    if existing:
        store.save_predictions(labels(), tmp_path / "p.npy")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    given = Predictions.from_source(Failing(error))
    wanted = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted) as caught:
        store.save_predictions(given, tmp_path / "p.npy")
    if wanted is OutputError:
        assert "is full" in str(caught.value)
        assert str(tmp_path) in str(caught.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "I/O error")])
def test_a_failure_at_the_end_leaves_the_old_files(
    tmp_path: Path,
    existing: bool,
    call: str,
    error: BaseException,
    temporary: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The n-th fsync, link or rename fails, for each n: old or new pair, never a mixture, no other file."""
    for n in range(6):
        folder = tmp_path / str(n)
        folder.mkdir()
        if existing:
            store.save_predictions(labels(), folder / "p.npy")
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        count = iter(range(100))
        plain = getattr(os, call)

        def failing(*args: Any, plain: Any = plain, count: Any = count, n: int = n, **kw: Any) -> Any:
            if next(count) == n:
                raise error
            return plain(*args, **kw)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                store.save_predictions(scores(), folder / "p.npy")
            except (OutputError, KeyboardInterrupt):
                done = False
            else:
                done = True
        after = {p.name: p.read_bytes() for p in folder.iterdir()}
        if done or set(after) - set(before):
            assert set(after) == {"p.npy", "p.json"}
            np.testing.assert_array_equal(store.open_predictions(folder / "p.npy").to_array(), scores())
        elif after != before:  # the interrupt came after both renames
            np.testing.assert_array_equal(store.open_predictions(folder / "p.npy").to_array(), scores())


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system has no unnamed files")
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import numpy as np
from rashomon_core import store
from rashomon_core.predictions import Kind, Predictions
from rashomon_core.store import saving
saving.SAVE_BYTES = 400
class Source:
    shape, dtype, in_memory, path = (40, 100), np.dtype("f4"), False, None
    def read(self, models, samples, out=None):
        if models.start >= 20:
            os.kill(os.getpid(), signal.SIGKILL)
        out[...] = 0.5
        return out
store.save_predictions(Predictions.from_source(Source()), sys.argv[1])
"""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.npy")],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SAVE_BYTES", 1 << 18)
    full = scores(m=50, n=20_000, c=2)  # 8 MB
    np.save(tmp_path / "p.npy", full)
    np.save(tmp_path / "q.npy", full.transpose(1, 0, 2))
    for name, axes in (("p.npy", None), ("q.npy", "samples,models,classes")):
        found = store.open_predictions(tmp_path / name, axes=axes)
        store.save_predictions(found, tmp_path / "warm.npy")
        tracemalloc.start()
        store.save_predictions(found, tmp_path / "out.npy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), full)


def test_each_byte_of_the_source_is_read_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turning (samples, models) into (models, samples) must not read the file once per block."""
    monkeypatch.setattr(saving, "SAVE_BYTES", 1 << 18)
    full = scores(m=50, n=20_000, c=2)
    np.save(tmp_path / "q.npy", full.transpose(1, 0, 2))
    found = store.open_predictions(tmp_path / "q.npy", axes="samples,models,classes")
    read: list[int] = []
    count_bytes(monkeypatch, read)
    store.save_predictions(found, tmp_path / "out.npy")
    assert full.nbytes <= sum(read) <= 1.01 * full.nbytes


def test_output_folders(tmp_path: Path) -> None:
    for write in (
        lambda p: store.save_predictions(labels(), p),
        lambda p: store.write_text_atomic(p, "x"),
        lambda p: store.write_json_atomic(p, {}),
    ):
        with pytest.raises(OutputError, match=r"none' does not exist\. Fix: create it"):
            write(tmp_path / "none" / "p.npy")
        (tmp_path / "folder.npy").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="a folder has this name"):
            write(tmp_path / "folder.npy")
    with pytest.raises(UsageError, match=r"\.npy with a \.json beside it"):
        store.save_predictions(labels(), tmp_path / "p.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match=r"closed' is not writable.*Fix: check its permissions"):
        store.save_predictions(labels(), tmp_path / "closed" / "p.npy")


def test_a_folder_that_refuses(tmp_path: Path, temporary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for root too: opening fails as it does in a folder without write permission."""
    plain = os.open

    def refusing(path: Any, flags: int, *args: Any, **kw: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path, flags, *args, **kw)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(OutputError, match=r"is not writable \(Permission denied\)\. Fix: check its permissions"):
        store.save_predictions(labels(), tmp_path / "p.npy")
    assert list(tmp_path.iterdir()) == []


def test_overwrite(tmp_path: Path) -> None:
    store.save_predictions(labels(), tmp_path / "p.npy")
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        store.save_predictions(labels(), tmp_path / "p.npy", overwrite=False)
    os.unlink(tmp_path / "p.npy")
    with pytest.raises(OutputError, match="exists already"):
        store.save_predictions(labels(), tmp_path / "p.npy", overwrite=False)
    with pytest.raises(UsageError, match="describes itself"):
        store.save_predictions(Predictions.from_array(labels()), tmp_path / "p.npy", kind="labels")


def test_permissions_follow_the_umask(tmp_path: Path, temporary: str) -> None:
    old = os.umask(0o027)
    try:
        store.save_predictions(labels(), tmp_path / "p.npy")
        store.write_text_atomic(tmp_path / "t.txt", "x")
    finally:
        os.umask(old)
    if sys.platform != "win32":
        assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o640}


def test_text_and_json(tmp_path: Path, temporary: str) -> None:
    store.write_json_atomic(tmp_path / "r.json", {"é": [1, None]})
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == {"é": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_json_atomic(tmp_path / "r.json", {"a": float("nan")})
    store.write_text_atomic(tmp_path / "t.txt", "one\n")
    store.write_text_atomic(tmp_path / "t.txt", "")
    assert (tmp_path / "t.txt").read_bytes() == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "t.txt"]


def test_describe_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.save_predictions(scores(), tmp_path / "p.npy")
    facts = store.describe_input(path, predictions=store.open_predictions(path))
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["size"] == path.stat().st_size
    assert facts["mtime"].endswith("Z")
    assert (facts["axes"], facts["kind"]) == (["models", "samples", "classes"], "proba")
    assert (facts["dtype"], facts["shape"]) == ("float32", [7, 53, 3])
    assert store.describe_input(path, predictions=np.zeros(3))["shape"] == [3]
    json.dumps(facts)
    monkeypatch.setattr(saving, "HASH_BYTES", 10)
    assert store.describe_input(path)["sha256"] is None
    assert store.describe_input(path, checksum=True)["sha256"] == facts["sha256"]
    with pytest.raises(InvalidInputError, match=r"none\.npy: the file cannot be read.*Fix"):
        store.describe_input(tmp_path / "none.npy")


def test_describe_a_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for k in range(3):
            np.save(tmp_path / folder / f"{k}.npy", np.full(5, k))
    first, second = store.describe_input(tmp_path / "a"), store.describe_input(tmp_path / "b")
    assert first["sha256"] == second["sha256"] == store.describe_input(str(tmp_path / "a" / "*.npy"))["sha256"]
    assert first["size"] == 3 * (tmp_path / "a" / "0.npy").stat().st_size
    np.save(tmp_path / "b" / "1.npy", np.full(5, 9))
    assert store.describe_input(tmp_path / "b")["sha256"] != first["sha256"]
