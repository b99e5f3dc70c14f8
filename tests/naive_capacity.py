"""Channel capacity the slow, obvious way: the oracle of Rashomon Capacity, NumPy only.

Like naive.py it imports nothing of the package under test. Rows are the score vectors of M models for one sample, C
classes; every number is in bits; 0 log 0 = 0. Rows are divided by their sum in float64 before anything else, so a
number here is within about 1e-14 of what exact arithmetic would give.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def normalised(P: ArrayLike) -> Floats:
    """Rows (..., C) in float64, divided by their sums."""
    rows = np.asarray(P).astype(np.float64)
    totals: Floats = rows.sum(axis=-1, keepdims=True)
    return rows / totals


def classes_of(probs: ArrayLike) -> Floats:
    """Score tensor (M, N, C) in float64, not normalised; (M, N) floats are P(class 1)."""
    scores = np.asarray(probs).astype(np.float64)
    return np.stack([1.0 - scores, scores], axis=-1) if scores.ndim == 2 else scores


def divergences(rows: Floats, q: Floats) -> Floats:
    """D(s_k || q) of each row; infinite where q misses a class of the row."""
    ratio = np.divide(rows, q, where=(rows > 0) & (q > 0), out=np.ones_like(rows))
    found: Floats = (rows * np.log2(ratio)).sum(axis=1)
    found[(rows[:, q == 0] > 0).any(axis=1)] = math.inf
    return found


def bounds(rows: ArrayLike, p: ArrayLike) -> tuple[float, float]:
    """Bounds that any input distribution p gives: I(p; S) <= capacity <= max_k D(s_k || q), q = sum_k p_k s_k."""
    s = normalised(rows)
    weights = np.asarray(p, dtype=np.float64)
    d = divergences(s, weights @ s)
    carried = weights > 0
    return max(0.0, float((weights[carried] * d[carried]).sum())), max(0.0, float(d.max()))


def blahut_arimoto(rows: ArrayLike, tol: float = 1e-6, max_rounds: int = 20_000) -> tuple[float, float, Floats, int]:
    """Blahut-Arimoto until upper - lower <= tol: (lower, upper, p, rounds).

    A round is q = sum_k p_k s_k, d_k = D(s_k || q), p_k <- p_k 2^d_k / sum (Blahut 1972, Arimoto 1972). Out of rounds
    it returns the best bounds so far: they are valid wherever it stops.
    """
    s = normalised(rows)
    logs = np.log2(s, where=s > 0, out=np.zeros_like(s))
    negative_entropy = (s * logs).sum(axis=1)
    p = np.full(len(s), 1 / len(s))
    lower, upper, best, rounds = 0.0, math.inf, p, 0
    while rounds < max_rounds:
        rounds += 1
        q = p @ s
        d = negative_entropy - s @ np.log2(q, where=q > 0, out=np.zeros_like(q))
        now = float(p @ d)
        if now >= lower:
            lower, best = now, p
        upper = min(upper, max(float(d.max()), 0.0))
        if upper - lower <= tol:
            break
        p = p * np.exp2(d - d.max())
        p = p / p.sum()
    return lower, max(upper, lower), best, rounds


def published_stop(rows: ArrayLike) -> tuple[float, int]:
    """Capacity as published code reports it: (bits, rounds).

    Blahut-Arimoto from equal weights that stops when the mean squared change of p is below 1e-12, or after 1000
    rounds, and returns I(p; S): no certificate, and looser the more rows there are, because p is smaller then.
    """
    s = normalised(rows)
    logs = np.log2(s, where=s > 0, out=np.zeros_like(s))
    p = np.full(len(s), 1 / len(s))
    rounds, change = 0, math.inf
    while rounds < 1000 and change >= 1e-12:
        rounds += 1
        q = p @ s
        d = (s * logs).sum(axis=1) - s @ np.log2(q, where=q > 0, out=np.zeros_like(q))
        new = p * np.exp2(d)
        new /= new.sum()
        change = float(np.mean((new - p) ** 2))
        p = new
    return bounds(s, p)[0], rounds


def _entropy(p: float) -> float:
    """Entropy of (1 - p, p) in nats."""
    return -math.fsum(x * math.log(x) for x in (p, 1 - p) if x > 0)


def binary_capacity(scores: ArrayLike) -> float:
    """Capacity of rows (1 - p, p): the closed form of the smallest and the largest p = P(class 1).

    With a < b and H in nats, log(q1 / q0) = (H(a) - H(b)) / (b - a) and the capacity is D(a || q) = D(b || q). For a
    and b so close that the quotient is noise, the other end of the scale: (b - a)^2 / (8 m (1 - m)), m = (a + b) / 2,
    which is right up to a factor of 1 + O((b - a)^2 / (m (1 - m))^2).
    """
    p = np.asarray(scores).astype(np.float64)
    a, b = float(p.min()), float(p.max())
    if a == b:
        return 0.0
    m = (a + b) / 2
    if b - a < 1e-5 * min(m, 1 - m):
        return (b - a) ** 2 / (8 * m * (1 - m)) / math.log(2)
    ratio = (_entropy(a) - _entropy(b)) / (b - a)
    # log(1 + e^ratio) - H(a) - a ratio = D(a || q) with q1 = e^ratio / (1 + e^ratio)
    softplus = max(ratio, 0.0) + math.log1p(math.exp(-abs(ratio)))
    return max(0.0, (softplus - _entropy(a) - a * ratio) / math.log(2))


def joint_rows(probs: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Rows (M, N * C) of the channel whose capacity is the joint capacity: w_i s_kic / sum w, samples side by side."""
    s = normalised(classes_of(probs))
    weights = np.ones(s.shape[1]) if w is None else np.asarray(w, dtype=np.float64)
    return (s * (weights / weights.sum())[None, :, None]).reshape(len(s), -1)


def joint_capacity(
    probs: ArrayLike, w: ArrayLike | None = None, tol: float = 1e-6, max_rounds: int = 20_000
) -> tuple[float, float]:
    """(lower, upper) of max_p mean_i I(p; S_i): one p for all samples."""
    lower, upper, _, _ = blahut_arimoto(joint_rows(probs, w), tol, max_rounds)
    return lower, upper
