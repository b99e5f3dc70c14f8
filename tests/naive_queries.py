"""Slow, obvious versions of what strategies compute, in plain loops over Python numbers. Imports numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def entropy(row: list[float]) -> float:
    return -sum(p * math.log2(p) for p in row if p > 0)


def margin(row: list[float]) -> float:
    """Second largest minus largest."""
    first, second = sorted(row, reverse=True)[:2]
    return second - first


def confidence(row: list[float]) -> float:
    return 1 - max(row)


def mean_over_members(probas: ArrayLike, i: int) -> list[float]:
    p = np.asarray(probas, dtype=float).tolist()
    return [sum(member[i][c] for member in p) / len(p) for c in range(len(p[0][0]))]


def vote_entropy(probas: ArrayLike, i: int) -> float:
    p = np.asarray(probas, dtype=float).tolist()
    votes = [member[i].index(max(member[i])) for member in p]
    return entropy([votes.count(c) / len(votes) for c in range(len(p[0][0]))])


def divergence(probas: ArrayLike, i: int) -> float:
    """Mean KL of the members against their mean, in bits."""
    p = np.asarray(probas, dtype=float).tolist()
    mean = mean_over_members(probas, i)
    total = 0.0
    for member in p:
        total += sum(a * math.log2(a / b) for a, b in zip(member[i], mean, strict=True) if a > 0)
    return total / len(p)


def top(scores: list[float], rows: list[int], n: int) -> list[int]:
    """The n rows with the largest scores, one after another, each time the lowest row among the best."""
    left = dict(zip(rows, scores, strict=True))
    chosen = []
    for _ in range(n):
        largest = max(left.values())
        row = min(r for r, s in left.items() if s == largest)
        chosen.append(row)
        del left[row]
    return chosen


def k_center(points: ArrayLike, centres: ArrayLike, allowed: list[int], n: int) -> list[int]:
    """Farthest first: all distances anew for each choice."""
    x = np.asarray(points, dtype=float).tolist()
    taken: list[Any] = np.asarray(centres, dtype=float).tolist()
    chosen: list[int] = []
    for _ in range(n):
        left = [i for i in allowed if i not in chosen]
        gaps = [min(sum((a - b) ** 2 for a, b in zip(x[i], c, strict=True)) for c in taken) for i in left]
        chosen.append(left[gaps.index(max(gaps))])
        taken.append(x[chosen[-1]])
    return chosen


def derivative(
    predict: Callable[[NDArray[np.float64]], NDArray[np.float64]], x: list[float], label: int, j: int, h: float
) -> float:
    up, down = list(x), list(x)
    up[j] += h
    down[j] -= h
    return float(predict(np.array([up]))[0, label] - predict(np.array([down]))[0, label]) / (2 * h)


def bandit(
    clusters: int,
    draws: list[int],
    answers: ArrayLike,
    guesses: ArrayLike,
    rewards: tuple[str, ...],
    window: int | None,
) -> list[float]:
    """Preferences after all draws: every running mean is taken anew from the whole history."""
    y = np.asarray(answers, dtype=float).tolist()
    f = np.asarray(guesses, dtype=float).tolist()
    preferences = [0.0] * clusters
    past: list[float] = []
    for t, z in enumerate(draws):
        n_classes = len(y[t])
        earlier = y[:t] if window is None else y[max(0, t - window) : t]
        mean = [sum(row[c] for row in earlier) / len(earlier) if earlier else 1 / n_classes for c in range(n_classes)]
        parts = []
        if "certainty" in rewards:
            first, second = sorted(y[t], reverse=True)[:2]
            parts.append(first - second)
        if "diversity" in rewards:
            parts.append(sum(max(0.0, y[t][c] - mean[c]) for c in range(n_classes)))
        if "loss" in rewards:
            parts.append(1 - math.exp(sum(y[t][c] * math.log(f[t][c]) for c in range(n_classes) if y[t][c] > 0)))
        reward = sum(parts) / len(parts)
        seen = past if window is None else past[max(0, t - window) :]
        if seen:
            gain = (reward - sum(seen) / len(seen)) / draws[: t + 1].count(z)
            total = sum(math.exp(h) for h in preferences)
            policy = [math.exp(h) / total for h in preferences]
            preferences = [h + gain * ((1 - policy[u]) if u == z else -policy[u]) for u, h in enumerate(preferences)]
        past.append(reward)
    return preferences
