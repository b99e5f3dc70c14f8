"""Retraining: 200 small networks by worker processes against a plain torch loop with one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rashomon_core.audit.tasks import Item, Job, work
from rashomon_core.exploration.retraining import plan_retraining
from rashomon_core.extraction.answers import Answers
from rashomon_core.workers import run_tasks

Array = npt.NDArray[Any]
ROWS, INPUTS, HIDDEN, EPOCHS, BATCH, LR = 1000, 20, 32, 30, 64, 0.003


def plain(X: Array, y: Array, test: Array, models: int) -> Array:
    """Train the same networks one after another: shuffled mini-batches, Adam, cross-entropy; predict the test rows."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    x, t, rows = (torch.as_tensor(a, dtype=d) for a, d in ((X, torch.float32), (y, torch.int64), (test, torch.float32)))
    scores = []
    for seed in range(models):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 2))
        optimizer = torch.optim.Adam(net.parameters(), lr=LR)
        for _ in range(EPOCHS):
            order = torch.randperm(ROWS)
            for start in range(0, ROWS, BATCH):
                part = order[start : start + BATCH]
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(x[part]), t[part]).backward()
                optimizer.step()
        with torch.no_grad():
            scores.append(torch.softmax(net(rows), dim=1).numpy())
    torch.set_num_threads(before)
    return np.stack(scores)


def bench_retraining(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    pytest.importorskip("torch", reason="torch, the anchor, is not installed")
    models = size("RETRAINED")
    rng = np.random.default_rng(0)
    X, test = rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(500, INPUTS))
    y = (np.sin(X[:, 0]) + X[:, 1] * X[:, 2] > 0).astype(np.int64)
    recipe = {"family": "torch_mlp", "hidden": [HIDDEN], "epochs": EPOCHS, "lr": LR, "batch": BATCH}
    plan = plan_retraining([recipe], seeds=models)
    items = [Item(candidate.id, "retraining", ROWS, candidate) for candidate in plan]

    def ours(workers: int, count: int) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "work").mkdir()
            answers = Answers.of_labels(y, 2)
            none = answers.take(slice(0, 0))
            job = Job(folder, 0, 2, X, answers, {ROWS: ROWS}, test, {ROWS: 0}, none, np.zeros(0, dtype=np.int64))
            run_tasks(work, job, items[:count], workers=workers)
            return np.stack([np.load(Path(folder) / "work" / f"{item.name}.npy")[0] for item in items[:count]])

    few = max(2, models // 4)
    two = ours(2, models)
    loop = plain(X, y, test, few)
    assert abs((two.argmax(axis=2) == loop[:1].argmax(axis=2)).mean() - 0.85) < 0.15  # the same kind of network
    assert np.array_equal(two[:few], ours(1, few))
    rounds = min(size("ROUNDS"), 3)
    seen = race(lambda: ours(2, models), rounds=rounds, threads=2, plain=lambda: plain(X, y, test, models))
    name = f"retraining {models} networks, two workers, over a plain torch loop"
    report(name, seen.over("subject", "plain"), "times", 1.7)
    report("  seconds of the plain loop", seen.seconds["plain"], "s")
    report("  seconds of ours, two interpreters and imports included", seen.seconds["subject"], "s")
