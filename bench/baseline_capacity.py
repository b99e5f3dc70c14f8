"""Channel capacity as a textbook has it, in NumPy and float64: the anchor of bench_capacity.py.

Blahut-Arimoto with the posterior spelt out: Q(k|c) = p_k s_kc / q_c, then p_k <- exp sum_c s_kc log Q(k|c), normalised.
Published code stops when p hardly changes, which certifies nothing; the certified stop closes the bounds instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Published stop: mean squared change of p, rounds.
CHANGE, ROUNDS = 1e-12, 1000


@dataclass(frozen=True)
class Found:
    """Bits as the stop returns them, the bounds at its last round, and how many rounds it took."""

    bits: float
    lower: float
    upper: float
    rounds: int


def _update(p: Array, rows: Array) -> tuple[Array, Array]:
    """Return the next p and the divergences (nats) of the rows from the mixture of this one."""
    joint = p[:, None] * rows
    posterior = joint / joint.sum(axis=0)
    logs = np.log(posterior, where=posterior > 0, out=np.zeros_like(posterior))
    exponent = (rows * logs).sum(axis=1)
    new = np.exp(exponent)
    return new / new.sum(), exponent


def published(scores: Array) -> Found:
    """Capacity of rows (M, C) with the published stop: uniform start, then until p changes by less than CHANGE."""
    rows, p = _start(scores)
    rounds, change = 0, np.inf
    while rounds < ROUNDS and change >= CHANGE:
        new, _ = _update(p, rows)
        change = float(np.mean((new - p) ** 2))
        p, rounds = new, rounds + 1
    lower, upper = bounds(rows, p)
    return Found(lower, lower, upper, rounds)


def certified(scores: Array, tol: float = 1e-6, max_rounds: int = 1_000_000) -> Found:
    """Capacity of rows (M, C) with upper - lower <= tol bits, from bounds that each round gives anyway."""
    rows, p = _start(scores)
    entropy = (rows * np.log(rows, where=rows > 0, out=np.zeros_like(rows))).sum(axis=1)
    lower, upper, rounds = 0.0, np.inf, 0
    while rounds < max_rounds and upper - lower > tol:
        q = p @ rows
        divergence = (entropy - rows @ np.log(q, where=q > 0, out=np.zeros_like(q))) / np.log(2)
        lower = max(lower, float(p @ divergence))
        upper = min(upper, float(divergence.max()))
        p = p * np.exp2(divergence - divergence.max())
        p /= p.sum()
        rounds += 1
    return Found((lower + upper) / 2, lower, upper, rounds)


def bounds(rows: Array, p: Array) -> tuple[float, float]:
    """Return I(p; S) and max_k D(s_k || q) in bits."""
    q = p @ rows
    used = rows > 0
    ratio = np.divide(rows, q, where=used, out=np.ones_like(rows))
    divergence = (rows * np.log2(ratio)).sum(axis=1)
    return float(p @ divergence), float(divergence.max())


def _start(scores: Array) -> tuple[Array, Array]:
    rows = scores.astype(np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    rows = rows[:, rows.any(axis=0)]
    return rows, np.full(len(rows), 1 / len(rows))
