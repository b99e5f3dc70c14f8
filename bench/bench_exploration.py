"""Exploration: dropout against a forward pass per mask, metrics of the tensor against making it, linear sets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core.exploration import DropoutExplorer, Goal, LinearSet, explore

Array = npt.NDArray[Any]
INPUTS, WIDTH, BATCH = 100, 1000, 100


def network() -> Any:
    """Return the dense network of the published experiments on tables: 1 x 1000 ReLU, two classes."""
    torch = pytest.importorskip("torch", reason="torch, the anchor, is not installed")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(INPUTS, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 2)).eval()


def published(net: Any, X: Array, masks: list[Array]) -> Array:
    """Predict as published: a whole pass through a DataLoader (batch 100) for each model, here one mask a model.

    On one thread: batches of 100 gain nothing from a second, and lose seconds to it on a machine that is shared.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.as_tensor(X)), batch_size=BATCH)
    scores = []
    with torch.no_grad():
        for mask in masks:
            factor = torch.as_tensor(mask)
            handle = net[1].register_forward_hook(lambda _, __, out, factor=factor: out * factor)
            scores.append(np.concatenate([torch.softmax(net(batch), dim=1).numpy() for (batch,) in loader]))
            handle.remove()
    torch.set_num_threads(threads)
    return np.stack(scores)


def whole(net: Any, X: Array, masks: list[Array]) -> Array:
    """Predict with one forward pass over all samples for each model: the loop without the DataLoader."""
    import torch

    batch, scores, threads = torch.as_tensor(X), [], torch.get_num_threads()
    torch.set_num_threads(1 if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else threads)
    with torch.no_grad():
        for mask in masks:
            factor = torch.as_tensor(mask)
            handle = net[1].register_forward_hook(lambda _, __, out, factor=factor: out * factor)
            scores.append(torch.softmax(net(batch), dim=1).numpy())
            handle.remove()
    torch.set_num_threads(threads)
    return np.stack(scores)


def bench_dropout(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    # With OPENBLAS_NUM_THREADS=1 all runs on one thread, and RASHOMON_BENCH_CLOCK=cpu counts processor time.
    threads = 1 if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else 2
    net = network()
    samples, models = size("DROPOUT_SAMPLES"), size("DROPOUT_MODELS")
    X = np.random.default_rng(1).standard_normal((samples, INPUTS)).astype(np.float32)
    explorer = DropoutExplorer(net, rates=np.linspace(0.01, 0.2, 20).tolist(), models_per_rate=max(1, models // 20))
    models = explorer.n_models
    few = max(4, min(models, size("DROPOUT_LOOP")))
    chosen = np.linspace(0, models - 1, few).astype(int)
    masks = [explorer.factors(int(k))["2"] for k in chosen]
    P = explorer.predict_proba(X)
    error = float(np.abs(whole(net, X, masks[:8]) - P[chosen[:8]]).max())
    assert error <= 1e-5
    flat = explorer.predict_proba(X, positive_only=True)
    seen = race(
        lambda: explorer.predict_proba(X, threads=threads),
        rounds=min(size("ROUNDS"), 3),
        threads=threads,
        published=lambda: published(net, X, masks),
        whole=lambda: whole(net, X, masks[: few // 4]),
        positive=lambda: explorer.predict_proba(X, positive_only=True, threads=threads),
        metrics_pass=lambda: rc.profile(P, metrics="pass", threads=threads),
        metrics_all=lambda: rc.profile(P, metrics="all", threads=threads),
        positive_pass=lambda: rc.profile(flat, metrics="pass", threads=threads),
        positive_all=lambda: rc.profile(flat, metrics="all", threads=threads),
    )
    seconds = seen.seconds
    name = f"dropout, {models} masks x {samples} samples, over a DataLoader pass a mask"
    report(name, seen.over("subject", "published", models / few), "times", 100)
    report("  P(class 1) alone", seen.over("positive", "published", models / few), "times", 100)
    report("  over one whole batch a mask", seen.over("subject", "whole", models / (few // 4)), "times")
    report("  largest difference from the loop", [1e6 * error], "1e-6", 10, at_most=True)
    report("  seconds of the exploration", seconds["subject"], "s")
    report("  seconds of the loop that was run", seconds["published"], "s")
    for made, part, what in (("subject", "metrics", "(M, N, 2)"), ("positive", "positive", "(M, N)")):
        for names in ("pass", "all"):
            share = 100 * seconds[f"{part}_{names}"] / seconds[made]
            report(f"  rc.profile '{names}' of {what}, of its exploration", share, "%", 5, at_most=True)


def bench_linear_set(size: Callable[[str], int], race: Callable[..., Any], report: Callable[..., None]) -> None:
    pytest.importorskip("cvxpy", reason="cvxpy, the anchor, is not installed")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 10))
    y = (X @ rng.normal(size=10) + rng.logistic(size=500) > 0).astype(int)
    newton = LinearSet(X, y, epsilon=0.01, l2=1e-3)
    conic = LinearSet(X, y, epsilon=0.01, l2=1e-3, method="cvxpy")
    a, b = newton.range(X[:20], keep=False), conic.range(X[:2], keep=False)
    assert np.abs(a.low[:2] - b.low).max() < 1e-3
    seen = race(
        lambda: newton.range(X[:20], keep=False), rounds=min(size("ROUNDS"), 3), conic=lambda: conic.range(X[:2])
    )
    report("prediction ranges of 500 x 10 logistic regressions, over cvxpy", seen.over("subject", "conic", 10), "times")
    report("  one row", 1e3 * seen.seconds["subject"] / 20, "ms")
    report("  largest gap between range and certificate", [1e9 * a.max_gap], "1e-9 logits")
    large = rng.normal(size=(10_000, 50))
    answers = (large @ rng.normal(size=50) + rng.logistic(size=10_000) > 0).astype(int)
    wide = LinearSet(large, answers, epsilon=0.01, l2=1e-3)
    start = time.perf_counter()
    found = wide.range(large[:5])
    report("  one row of 10,000 x 50", [1e3 * (time.perf_counter() - start) / 5], "ms")
    assert (found.status == "certified").all()


def bench_weight_perturbation(race: Callable[..., Any], report: Callable[..., None]) -> None:
    """How much of the exact range weight perturbation reaches, on a model whose exact range is known."""
    torch = pytest.importorskip("torch", reason="torch, the anchor, is not installed")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)).astype(np.float32)
    y = (X @ rng.normal(size=5) + rng.logistic(size=300) > 0).astype(int)
    torch.set_num_threads(1)
    exact = LinearSet(X, y, epsilon=0.02)
    ranges = exact.range(X[:10])
    module = torch.nn.Linear(5, 1)
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(exact.optimum.coef_))
        module.bias.copy_(torch.as_tensor(exact.optimum.intercept_))
    goals = [Goal.sample(X[i], label) for i in range(10) for label in (0, 1)]
    middle = exact.optimum.decision_function(X[:10])
    ends = np.stack([ranges.low - middle, ranges.high - middle], axis=1)

    def reach(adaptive: bool) -> Array:
        found = explore(module, X, y, goals=goals, epsilon=0.02, adaptive=adaptive)
        logits = [p.module(torch.as_tensor(g.X)).item() for p, g in zip(found, goals, strict=True)]
        return (np.reshape(logits, (10, 2)) - middle[:, None]) / ends

    seen = race(lambda: reach(True), rounds=2, fixed=lambda: reach(False))
    report("weight perturbation, share of the exact range reached", reach(True).ravel(), "of 1")
    report("  with the published rule", reach(False).ravel(), "of 1")
    report("  one goal", 1e3 * seen.seconds["subject"] / len(goals), "ms")
