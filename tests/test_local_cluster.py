"""Worker processes of our own on this machine: what they leave behind, which is nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_cli import document, run

import rashomon_core as rc
from rashomon_core import cluster as clusters

library = pytest.importorskip("distributed", reason="distributed is not installed (pip install 'rashomon-core[dask]')")


def test_local_workers_come_and_go(tmp_path: Path) -> None:
    x = np.random.default_rng(3).random((23, 3 * 4096 + 500), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    done = run(
        "measure", tmp_path / "x.npy", "--metrics", "pass", "--json", "--scheduler", "local:1", "--memory", "200MB"
    )
    found = document(done)
    assert done.stderr == ""
    assert found["resources"]["threads"] == 1
    assert found["results"] == rc.profile(x, metrics="pass").results()


def test_local_workers_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # what Dask leaves of a cluster before
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    before = dict(os.environ)
    with clusters.local_cluster(1) as cluster, library.Client(cluster, set_as_default=False) as client:
        (there,) = client.run(lambda: dict(os.environ)).values()
    assert int(there["MALLOC_TRIM_THRESHOLD_"]) == clusters.PLAIN[clusters.TRIM]
    assert there["OMP_NUM_THREADS"] == "2"
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_command_that_is_terminated_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with open(tmp_path / "p.npy", "wb") as file:  # 8 GB of zeros that take no room on the disk
        np.lib.format.write_array_header_1_0(file, {"descr": "|i1", "fortran_order": False, "shape": (2000, 4_000_000)})
        file.truncate(file.tell() + 2000 * 4_000_000)
    code = "from rashomon_core.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "measure", str(tmp_path / "p.npy"), "--n-classes", "2", "--scheduler", "local:2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob("rashomon-core-dask-*/dask-scratch-space/worker-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert err.splitlines()[-1] == "terminated"
    assert list((tmp_path / "tmp").glob("rashomon-core-*")) == []
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
