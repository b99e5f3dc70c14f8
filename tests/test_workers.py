"""Worker processes: order, errors, the death of a parent, inner threads, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import worker_tasks

from rashomon_core.errors import RashomonError
from rashomon_core.workers import run_tasks

HERE = str(Path(__file__).parent)
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def start(code: str) -> subprocess.Popen[str]:
    text = f"import sys; sys.path.insert(0, {HERE!r})\nimport worker_tasks\n" + textwrap.dedent(code)
    text = text.replace("run_tasks(", "__import__('rashomon_core.workers').workers.run_tasks(")
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert run_tasks(worker_tasks.add, 100, list(range(9)), workers=workers) == list(range(100, 109))
    assert run_tasks(worker_tasks.add, 100, [], workers=workers) == []


def test_several_processes_work() -> None:
    found = run_tasks(worker_tasks.slow_pid, 0.05, list(range(8)), workers=2)
    assert [k for k, _ in found] == list(range(8))
    pids = {pid for _, pid in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_the_earliest_item_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match=r"^item 3$"):
        run_tasks(worker_tasks.fail, {3, 4}, list(range(9)), workers=workers)


def test_errors_that_do_not_pickle_are_told() -> None:
    with pytest.raises(RashomonError, match="Odd: 0 and 2"):
        run_tasks(worker_tasks.odd, None, [0, 1], workers=2)


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(RashomonError, match="ended in the middle of a task"):
        run_tasks(worker_tasks.die, 2, list(range(6)), workers=2)


def test_what_tasks_print_does_not_disturb(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tasks(worker_tasks.loud, None, [1, 2, 3], workers=2) == [1, 2, 3]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("on descriptor 1") == 3


def test_what_does_not_pickle_is_worked_out_here() -> None:
    found = run_tasks(worker_tasks.slow_pid, 0.0, [lambda: 0], workers=2)
    assert found[0][1] == os.getpid()  # one item needs one process
    shared = type("Local", (), {"__add__": lambda self, other: other})()
    with pytest.warns(UserWarning, match="add: one process does all the work"):
        assert run_tasks(worker_tasks.add, shared, [1, 2], workers=2) == [1, 2]  # type: ignore[comparison-overlap]


def test_items_that_do_not_pickle_are_worked_out_here() -> None:
    with pytest.warns(UserWarning, match="naming: one process does all the work"):
        found = run_tasks(worker_tasks.slow_pid, 0.0, [lambda: 0, lambda: 1], workers=2, label="naming")
    assert {pid for _, pid in found} == {os.getpid()}


def test_results_that_cannot_be_read_are_errors() -> None:
    with pytest.raises(RashomonError, match=r"the result of item [01] cannot be read"):
        run_tasks(worker_tasks.only_there, None, [0, 1], workers=2)


def test_the_number_of_workers_changes_no_byte() -> None:
    alone, two = (run_tasks(worker_tasks.product, None, [1, 2], workers=w) for w in (1, 2))
    assert alone == two


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {HERE!r})\nimport worker_tasks\n"
        "from rashomon_core.workers import run_tasks\n"
        "print(run_tasks(worker_tasks.add, 1, [1, 2, 3], workers=2))\n"
        "class Own(int): pass\n"
        "print(run_tasks(worker_tasks.add, 1, [Own(1), Own(2)], workers=2))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[2, 3, 4]\n[2, 3]\n"
    assert done.stderr.count("Warning") == 1  # for the class of the script
    assert "one process does all the work" in done.stderr


@POSIX
def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    parent = start(f"run_tasks(worker_tasks.touch, {str(tmp_path)!r}, list(range(200)), workers=2)")
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=30)
    time.sleep(0.6)  # the tasks at hand end, or do not
    count = len(list(tmp_path.iterdir()))
    time.sleep(0.6)
    assert len(list(tmp_path.iterdir())) == count < 200


@POSIX
def test_ctrl_c_stops_parent_and_workers(tmp_path: Path) -> None:
    parent = start(
        f"""
        try:
            run_tasks(worker_tasks.touch, {str(tmp_path)!r}, list(range(200)), workers=2)
        except KeyboardInterrupt:
            print("stopped", flush=True)
        """
    )
    deadline = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    out, err = parent.communicate(timeout=30)
    assert (out, err) == ("stopped\n", "")
    count = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == count < 200
