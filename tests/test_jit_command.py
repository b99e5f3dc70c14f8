"""Losses of the user on the command line: ``--loss module:function``, its numbers and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import document, run
from test_jit import own_brier, problem

import rashomon_core as rc
from rashomon_core import jit

pytest.importorskip("numba", reason="losses of the user's own need Numba, an optional library")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions, labels and a module of losses in the current directory, which no earlier test has imported."""
    scores, y = problem(21, 8, 600, 3, "float32")
    np.save(tmp_path / "p.npy", scores)
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "own_losses_here.py").write_text(
        "import rashomon_core as rc\n"
        "def brier(scores, label):\n    total = 0.0\n"
        "    for c in range(len(scores)):\n        total += (scores[c] - (c == label)) ** 2\n    return total\n"
        "decorated = rc.sample_loss(brier, name='b')\n"
        "def broken(scores, label):\n    return scores.loud()\n"
        "def undefined(scores, label):\n    return 0 * (scores[0] / 0)\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("own_losses_here", "own_broken_here", "own_garbled_here", "own_needy_here"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def measured(loss: str, *more: object) -> Any:
    return run("measure", "p.npy", "--labels", "y.npy", "--loss", loss, "--epsilon", 0.02, "--selection", 0.5, *more)


@pytest.mark.parametrize("function", ["brier", "decorated"])
def test_the_command_takes_a_function(folder: Path, function: str) -> None:
    found = document(measured(f"own_losses_here:{function}", "--json", "--curves", "--threads", 2))
    assert found["parameters"]["loss"] == found["results"]["set"]["loss"] == f"own_losses_here:{function}"
    scores, y = np.load("p.npy"), np.load("y.npy")
    same = rc.profile(scores, y=y, loss=own_brier, epsilon=0.02, selection=0.5)
    assert same.member_mask is not None
    assert found["results"]["set"]["size"] == same.member_mask.sum()
    text = measured("own_losses_here:brier")
    assert "loss own_losses_here:brier" in " ".join(text.stdout.split())


@pytest.mark.parametrize(
    ("loss", "code", "message"),
    [
        ("own_losses_here:briar", 2, "own_losses_here has no 'briar'; did you mean 'brier'?"),
        ("own_losses_here:number", 2, "a sample loss is a plain function of (scores, label)"),
        ("own_losses_here:broken", 2, "own_losses_here.py:9: the loss 'own_losses_here:broken' cannot be compiled"),
        ("own_losses_here:undefined", 3, "own_losses_here.py:10: the loss 'own_losses_here:undefined' returned nan"),
        ("no_such_module_here:f", 2, "there is no module 'no_such_module_here'"),
        ("no_such_package_here.losses:f", 2, "there is no module 'no_such_package_here'"),
        ("own_broken_here:f", 2, "own_broken_here fails with ZeroDivisionError: division by zero"),
        ("own_needy_here:f", 2, "own_needy_here fails with ModuleNotFoundError: No module named 'nowhere'"),
        ("own_garbled_here:f", 2, "own_garbled_here fails with SyntaxError"),
        ("losses.npy:f", 3, "losses.npy"),
        ("brier", 2, "neither fidelity, zero_one, log_loss, cross_entropy, module:function nor a file"),
    ],
)
def test_what_the_command_refuses(folder: Path, loss: str, code: int, message: str) -> None:
    (folder / "own_broken_here.py").write_text("x = 1\ny = x / 0\n")
    (folder / "own_garbled_here.py").write_text("def f(:\n")
    (folder / "own_needy_here.py").write_text("import nowhere\n")
    result = measured(loss, "--json")
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    if "fails with" in message:
        assert f"{loss.split(':')[0]}.py:{2 if 'broken' in loss else 1})" in result.stderr


def test_the_command_without_numba(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    result = measured("own_losses_here:brier")
    assert result.exit_code == 2
    assert "a loss of your own needs the library 'numba'" in result.stderr
    assert "pip install 'rashomon-core[jit]'" in result.stderr


def test_a_file_of_losses_stays_a_file(folder: Path) -> None:
    np.savez(folder / "l.npz", one=np.arange(8.0), two=np.arange(8.0)[::-1])
    found = document(measured("l.npz:two", "--json"))
    assert found["parameters"]["loss"] == "given"
    assert found["results"]["set"]["loss_reference"] == "7"


def test_specs() -> None:
    assert jit.find_loss("losses") is None
    assert jit.find_loss("a/b.py:f") is None
    assert jit.find_loss("a:b:c") is None
