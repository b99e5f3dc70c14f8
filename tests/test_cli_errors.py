"""Bad input through the command: exit code 3, one line that names the place and the fix, nothing left on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import LINUX, N, document, files, probs, rng, run

__all__ = ["files", "probs", "rng"]  # fixtures


def _with(value: float, *, at: tuple[int, ...] = (1, 4, 2), row: bool = False) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        probs = np.full((3, 8, 4), 0.25, np.float32)
        probs[at] = value
        np.save(folder / "bad.npy", probs)
        return ["bad.npy"]

    return make


def _array(array: Any, *options: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        np.save(folder / "bad.npy", array, allow_pickle=True)
        return ["bad.npy", *options]

    return make


def _bytes(content: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        np.save(folder / "bad.npy", np.zeros((3, 8), np.int8))
        (folder / "bad.npy").write_bytes(content((folder / "bad.npy").read_bytes()))
        return ["bad.npy"]

    return make


def _npz(folder: Path) -> list[str]:
    np.savez(folder / "bad.npz", a=np.zeros((3, 8), int), b=np.zeros((3, 8), int))
    return ["bad.npz"]


def _models(*ids: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "bad").mkdir()
        for name, order in (("m1", "a b c"), *((f"m{k + 2}", i) for k, i in enumerate(ids))):
            (folder / "bad" / f"{name}.csv").write_text(
                "sample_id,label\n" + "".join(f"{i},1\n" for i in order.split())
            )
        return ["bad"]

    return make


def _beside(option: str, array: Any, *more: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        np.save(folder / "p.npy", np.zeros((3, 8), np.int8))
        np.save(folder / "bad.npy", array)
        return ["p.npy", option, "bad.npy", *more]

    return make


BAD: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "nan": (_with(np.nan), ["bad.npy", "NaN", "model 1", "sample 4", "class 2", "nan", "Fix:"]),
    "infinity": (_with(np.inf), ["bad.npy", "infinity", "model 1", "sample 4", "class 2", "inf", "Fix:"]),
    "negative": (_with(-0.5), ["bad.npy", "negative", "model 1", "sample 4", "-0.5", "--kind"]),
    "row sums": (_with(0.9), ["bad.npy", "sums to 1.6", "model 1", "sample 4", "0.9", "--renormalize"]),
    "label below 0": (_array([[0, 1], [1, -3]]), ["bad.npy", "model 1", "sample 1", "-3", "Fix:"]),
    "label above": (
        _array([[0, 1], [7, 1]], "--n-classes", "3"),
        ["bad.npy", "classes stated: 3", "model 1", "sample 0", "7", "--n-classes"],
    ),
    "objects": (_array(np.array([[0, None]], dtype=object)), ["bad.npy", "pickle", "Fix:"]),
    "strings": (_array(np.array([["a", "b"]])), ["bad.npy", "<U1", "Fix:"]),
    "truncated": (_bytes(lambda b: b[:-3]), ["bad.npy", "Fix:"]),
    "empty file": (_bytes(lambda b: b""), ["bad.npy", "empty", "Fix:"]),
    "no key": (_npz, ["bad.npz", "--key"]),
    "four axes": (_array(np.zeros((2, 2, 3, 4), np.float32)), ["bad.npy", "4 axes", "--axes"]),
    "zero models": (_array(np.zeros((0, 5), int)), ["bad.npy", "zero models", "Fix:"]),
    "zero samples": (_array(np.zeros((5, 0), int)), ["bad.npy", "zero samples", "Fix:"]),
    "missing file": (lambda folder: ["bad.npy"], ["bad.npy", "does not exist", "Fix:"]),
    "models: id missing": (_models("a b"), ["m2", "Fix:"]),
    "models: id twice": (_models("a b b"), ["m2", "'b'", "Fix:"]),
    "models: reordered": (_models("a c b"), ["m2", "Fix:"]),
    "models: other id": (_models("a b d"), ["m2", "'c'", "Fix:"]),
    "short target": (_beside("--target", np.zeros(7, int)), ["bad.npy", "7 target", "8 samples", "Fix:"]),
    "short labels": (_beside("--labels", np.zeros(9, int)), ["bad.npy", "9 labels", "8 samples", "Fix:"]),
    "short groups": (_beside("--groups", np.zeros(7, int)), ["bad.npy", "7 groups", "8 samples", "Fix:"]),
    "short weights": (_beside("--weights", np.ones(7)), ["bad.npy", "7 weights", "8 samples", "Fix:"]),
    "short reference": (_beside("--reference", np.zeros(7, int)), ["bad.npy", "8 samples", "Fix:"]),
    "short selection": (
        _beside("--selection", np.zeros(7, bool), "--epsilon", "1", "--target", "p.npy"),
        ["p.npy", "Fix:"],
    ),
    "losses": (_beside("--loss", np.zeros(4), "--epsilon", "1"), ["bad.npy", "4 loss", "3 models", "Fix:"]),
    "nan loss": (
        _beside("--loss", np.array([0, np.nan, 1]), "--epsilon", "1"),
        ["bad.npy", "NaN", "model 1"],
    ),
    "weights all 0": (_beside("--weights", np.zeros(8)), ["bad.npy", "all sample weights are zero", "Fix:"]),
    "weight below 0": (_beside("--weights", np.arange(8) - 1.0), ["bad.npy", "sample 0", "-1", "Fix:"]),
    "nan weight": (_beside("--weights", np.full(8, np.nan)), ["bad.npy", "sample 0", "nan", "Fix:"]),
    "missing group": (
        _beside("--groups", np.array(["f", "", "m", "f", "m", "f", "m", "f"])),
        ["bad.npy", "missing", "sample 1", "--missing group"],
    ),
    "label of y": (_beside("--labels", np.full(8, -1)), ["bad.npy", "sample 0", "-1", "Fix:"]),
    "target nan": (_beside("--target", np.full(8, np.nan)), ["bad.npy", "nan", "sample 0", "Fix:"]),
    "text labels": (_beside("--labels", np.array(["a"] * 8)), ["bad.npy", "text", "Fix:"]),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["pipe.npy", "pipe.csv", "pipe.h5", "pipe.parquet"])
@pytest.mark.parametrize("where", ["predictions", "labels"])
def test_a_named_pipe_is_refused_at_once(name: str, where: str, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.zeros((2, 5), dtype=np.uint8))
    pipe = tmp_path / name
    os.mkfifo(pipe)
    args = [str(pipe)] if where == "predictions" else [str(tmp_path / "p.npy"), "--labels", str(pipe)]
    done = subprocess.run(
        [sys.executable, "-m", "rashomon_core.cli", "measure", *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{pipe}: this is a named pipe, which cannot be read in parts" in done.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, fragments = BAD[name]
    monkeypatch.chdir(tmp_path)
    arguments = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("measure", *arguments, "--json", "--output", "out.json")
    assert result.exit_code == 3, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr
    assert sorted(tmp_path.rglob("*")) == before  # nothing partial


@pytest.mark.parametrize("name", [n for n in BAD if BAD[n][0].__qualname__.startswith(("_with", "_array"))])
def test_bad_predictions_are_not_converted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = BAD[name][0](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("convert", arguments[0], "out.npy", *arguments[1:])
    assert (result.exit_code, result.stdout) == (3, "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("role", "array"),
    [
        ("target", np.full(N, 9)),
        ("target", np.full((N, 3), np.nan)),
        ("labels", np.full(N, 9)),
        ("groups", np.array([""] * N)),
        ("weights", np.zeros(N)),
        ("reference", np.full(N, 9)),
        ("selection", np.full(N, 9)),
        ("loss", np.full(5, np.nan)),
    ],
)
def test_the_right_file_is_named(role: str, array: Any, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    good = {"target": "t.npy", "labels": "y.npy", "groups": "g.csv:sex", "weights": "w.npy", "reference": "t.npy"}
    np.save("s.npy", np.arange(N) % 2)
    np.save("l.npy", np.zeros(5))
    np.save("bad.npy", array)
    options = {**good, "selection": "s.npy", "loss": "l.npy", role: "bad.npy"}
    result = run("measure", "p.npy", "--epsilon", 1, *(x for k, v in options.items() for x in (f"--{k}", v)))
    assert result.exit_code == 3, result.stderr
    assert result.stderr.startswith("error: bad.npy: ")


def test_missing_group_values_may_be_a_group(files: Path) -> None:
    np.save(files / "g.npy", np.array(["f", ""] * (N // 2)))
    result = run("measure", files / "p.npy", "--groups", files / "g.npy", "--missing", "group", "--json")
    assert document(result)["results"]["fairness"]["groups"] == ["f", "missing"]


def test_outputs_that_cannot_be_written_are_found_first(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work started")

    monkeypatch.setattr("rashomon_core.store.open_predictions", never)
    bad = [files / "no" / "such" / "r.json", files]
    if LINUX:
        bad += [Path("/proc/r.json"), Path("/dev/null")]
    for path in bad:
        for arguments in (("measure", files / "p.npy"), ("inspect", files / "p.npy")):
            result = run(*arguments, "--output", path)
            assert result.exit_code == 3, result.stderr
            assert str(path) in result.stderr
            assert "Fix:" in result.stderr
    result = run("convert", files / "p.npy", files / "no" / "p.npy")
    assert result.exit_code == 3
    assert "does not exist" in result.stderr


def test_an_output_never_replaces_an_input(files: Path) -> None:
    before = (files / "p.npy").read_bytes()
    for name in ("p.npy", "p.json", "t.npy"):
        result = run("measure", files / "p.npy", "--target", files / "t.npy", "-o", files / name)
        assert result.exit_code == 2, name
    assert (files / "p.npy").read_bytes() == before
    assert not (files / "p.json").exists()
