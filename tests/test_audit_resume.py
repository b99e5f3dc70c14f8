"""Runs that are killed go on and end in the same bytes; Ctrl-C says how; the command's exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_data import contents, small_config
from typer.testing import CliRunner

from rashomon_core.cli import app

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
COMMAND = [sys.executable, "-m", "rashomon_core.cli", "audit"]


def run(*arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    texts = [str(a) for a in arguments]
    return subprocess.run([*COMMAND, *texts], capture_output=True, text=True, timeout=timeout, check=False)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def finished(folder: Path) -> int:
    return len(list((folder / "work").glob("*.npy")))


def stop_when(folder: Path, config: Path, reached: Callable[[Path], bool], number: int, workers: int) -> str:
    """Start a run, send a signal once a stage is reached, and return what it had said by then."""
    process = subprocess.Popen(
        [*COMMAND, "--config", str(config), "--run", str(folder), "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not reached(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode in (-number, 130)
    return error


@POSIX
@pytest.mark.slow
def test_a_run_killed_three_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    config = small_config(tmp_path, strategy="entropy")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run("--config", config, "--run", whole, "--quiet").returncode == 0
    expected = contents(whole)
    tasks = sum(name.startswith("work") and name.endswith(".npy") for name in expected)
    stages: list[Callable[[Path], bool]] = [
        lambda folder: lines(folder / "ledger.jsonl") > 25,  # in the middle of asking
        lambda folder: finished(folder) >= 5,  # in the middle of training
        lambda folder: finished(folder) == tasks,  # when tensors are put together
    ]
    for k, (reached, workers) in enumerate(zip(stages, (2, 1, 2), strict=True)):
        stop_when(killed, config, reached, signal.SIGKILL, workers)
        assert not (killed / "result.json").exists(), f"stage {k} came too late"
    done = run("--config", config, "--run", killed, "--json")
    assert done.returncode == 0, done.stderr
    assert contents(killed) == expected
    assert json.loads(done.stdout) == json.loads(expected["result.json"])


@POSIX
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    config, folder = small_config(tmp_path), tmp_path / "run"
    error = stop_when(folder, config, lambda f: finished(f) >= 3, signal.SIGINT, 2)
    assert f"kept in {folder}" in error.replace("\n", "")
    assert "interrupted" in error
    kept = finished(folder)
    assert kept >= 3
    assert run("--config", config, "--run", folder, "--no-report", "--quiet").returncode == 0


CASES = (
    (["--budget", "0"], 2, "budget=0"),
    (["--budget", "2"], 5, "fewer than the 2 classes"),
    (["--budget", "100000"], 5, "different inputs"),
    (["--data", "none.csv", "--label", "y"], 3, "none.csv"),
    (["--data", "arests"], 2, "arests"),
    (["--data", "people.csv"], 2, "--label"),
    (["--strategy", "natual"], 2, "did you mean 'natural'"),
    (["--target", "nomodule:thing"], 2, "cannot be imported"),
    (["--defence", "nois:.1"], 2, "did you mean 'noise'"),
    (["--exploration", "dropout:rate=.1"], 2, "did you mean 'rates'"),
    (["--exploration", "dropout:rates=.1,1.5"], 2, "rates=[0.1, 1.5]"),
    (["--fail-above", "nothing=1"], 2, "--fail-above"),
)


def test_exit_codes_and_messages(tmp_path: Path) -> None:
    runner, config = CliRunner(), small_config(tmp_path)
    for k, (arguments, code, text) in enumerate(CASES):
        done = runner.invoke(app, ["audit", "--config", str(config), "--run", str(tmp_path / f"run{k}"), *arguments])
        assert (done.exit_code, text in done.stderr, done.stdout) == (code, True, ""), (arguments, done)
    config.write_text('{"epsilonn": 1}')
    done = runner.invoke(app, ["audit", "--config", str(config)])
    assert done.exit_code == 2
    assert "did you mean 'epsilon'" in done.stderr


def test_the_page_fits_eighty_columns_and_a_threshold_can_fail(tmp_path: Path) -> None:
    config, folder = small_config(tmp_path), tmp_path / "run"
    done = run("--config", config, "--run", folder, "--no-report", "--fail-above", "ambiguity.value=0")
    assert done.returncode == 1, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "surrogates are in the Rashomon set" in done.stdout
    assert "natural agreement" in done.stdout
    again = run("--config", config, "--run", folder, "--no-report", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["audit"]["configuration"]["budget"] == [40, 80]


def test_a_model_of_the_user_by_name(tmp_path: Path) -> None:
    config = small_config(tmp_path, target={"python": "mymodel:old"})
    (tmp_path / "mymodel.py").write_text("def old(X):\n    return (X['age'] > 45).to_numpy().astype(int)\n")
    done = subprocess.run(
        [*COMMAND, "--config", str(config), "--run", "run", "--no-report", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audit"]["target"]["name"] == "old"
