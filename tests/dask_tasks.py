"""Chunks that the tests of the cluster make in its workers: importable, as tasks must be."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np


def scores(i: int, models: int, samples: int, classes: int) -> np.ndarray[Any, Any]:
    """Chunk i of a tensor: the same wherever it is made."""
    raw = np.random.default_rng(i).random((models, samples, classes), dtype=np.float32) + np.float32(0.01)
    return np.asarray(raw / raw.sum(axis=2, keepdims=True))


def gated(folder: str, gate: int, i: int, *shape: int) -> np.ndarray[Any, Any]:
    """Leave a note of who makes chunk i; chunk ``gate`` waits until the file "go" is there."""
    (Path(folder) / f"{i}-{os.getpid()}").touch()
    time.sleep(0.15)  # what waits behind the gate is taken over from a worker that seems to have .2 s to do
    deadline = time.monotonic() + 60
    while i == gate and not (Path(folder) / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody opened the gate")
        time.sleep(0.005)
    return scores(i, *shape)


def deadly(i: int, *shape: int) -> np.ndarray[Any, Any]:
    """End the worker."""
    os.kill(os.getpid(), signal.SIGKILL)
    return scores(i, *shape)


def poisoned(bad: int, i: int, *shape: int) -> np.ndarray[Any, Any]:
    """Chunk ``bad`` has a NaN in its last model and sample."""
    made = scores(i, *shape)
    if i == bad:
        made[-1, -1, 1] = np.nan
    return made


def bytes_sent(dask_worker: Any) -> int:
    """Bytes that a worker has sent to its peers and to clients."""
    return int(dask_worker.transfer_outgoing_bytes_total)


def our_tasks(dask_scheduler: Any) -> list[str]:
    """Tasks of measurements that the scheduler knows."""
    return [str(key) for key in dask_scheduler.tasks if "rashomon-core" in str(key)]
