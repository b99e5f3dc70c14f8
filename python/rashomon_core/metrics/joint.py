"""Joint capacity: one weight vector over the models for all samples together.

max_p mean_i I(p; S_i) is the capacity of one channel with N C outputs, (sample, class), whose rows are w_i s_kic / W.
Many models may carry weight there, so the solver works on all of them: a reading of the tensor gives the divergence of
every model and the curvature between models, a quadratic program in the weights follows in memory, and the step is
taken as far as the next readings confirm it. Lower and upper bound come from the same reading. A channel with few
outputs, where one step changes the mixture by more than a quadratic can follow, goes whole to the solver of single
channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _capacity, _encode
from rashomon_core.errors import UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.results import JointCapacity
from rashomon_core.tiles import Scratch, parse_memory, parse_threads, read_block, run
from rashomon_core.vectors import as_score_view, as_weights

from .capacity import complain
from .channel import STATUS, CapacityRule
from .sums import total

__all__ = ["joint_capacity"]

Array = npt.NDArray[Any]
LN2 = math.log(2.0)
#: Scores of a block: sums are taken block by block in order, and blocks depend on the shape alone.
BLOCK_SCORES = 1 << 19
#: Up to this many outputs N C, and scores M N C, the stacked channel is solved in memory.
STACKED_OUTPUTS, STACKED_SCORES = 4096, 1 << 22
#: Readings of the tensor, when max_iter is not given.
READINGS = 200


def joint_capacity(
    probs: object,
    *,
    tol: float = 1e-6,
    max_iter: int | None = None,
    on_uncertified: str = "warn",
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> JointCapacity:
    """Return the largest (weighted) mean mutual information that one distribution over the models reaches, in bits.

    max_p mean_i I(p; S_i): at most the mean of the Rashomon Capacities, where every sample has weights of its own.

    Parameters
    ----------
    probs : (M, N, C) or (M, N) array-like of floats, or Predictions
    tol : float
        Bits: certified when upper - lower <= tol.
    max_iter : int, optional
        Limit of readings of the tensor (default 200; of scans, default 100, for a channel with few outputs).
    on_uncertified : {"warn", "raise", "ignore"}
    sample_weight : (N,) array-like, optional
        Weights of the mean over samples.
    threads, memory : see :func:`rashomon_core.profile`

    Returns
    -------
    JointCapacity
        ``.bits``, ``.lower``, ``.upper``, ``.iterations``, ``.newton``, ``.status``, ``.weights`` (M,).

    Notes
    -----
    A reading with curvature costs O(M^2 N C), one without O(M N C); M x M numbers are held. The same bits for any
    threads and memory.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> same = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]])
    >>> round(rc.joint_capacity(same).bits, 6)
    0.531004
    """
    rule = CapacityRule(tol, "auto", max_iter)
    complain(0, 0, "", on_uncertified, 0.0)
    view = as_score_view(probs)
    w = as_weights(sample_weight, view.n_samples)
    view.validate()
    if 8 * view.n_models**2 > parse_memory(memory):
        raise UsageError(
            f"joint capacity of {view.n_models} models holds {8 * view.n_models**2 / 1e9:.3g} GB. "
            "Fix: fewer models, or more memory"
        )
    joint = _Joint(view, w, rule, parse_threads(threads))
    outputs = view.n_samples * view.n_classes
    few = outputs <= STACKED_OUTPUTS and view.n_models * outputs <= STACKED_SCORES
    result = joint.stacked() if few else joint.solve()
    complain(int(result.status != "certified"), 1, result.status, on_uncertified, result.max_gap)
    return result


class _Joint:
    """The channel of all samples, read block by block."""

    def __init__(self, view: Predictions, weights: Array | None, rule: CapacityRule, threads: int) -> None:
        self.view, self.rule, self.threads = view, rule, threads
        M, N, C = view.n_models, view.n_samples, view.n_classes
        self.share = np.full(N, 1.0 / N) if weights is None else weights / total(weights)
        size = max(1, min(N, BLOCK_SCORES // (M * C)))
        self.blocks = [(i, min(i + size, N)) for i in range(0, N, size)]
        self.entropy: Array | None = None  # sum_i w_i sum_c s log s of every model, from the first reading
        self.readings = self.steps = 0
        # rounding in nats: sums over a block, then over blocks; logarithms of ratios as in csrc/capacity.h
        terms = 64 + size * C + len(self.blocks) + M
        self.allowance = 2.0**-53 * 2 * terms * (3 * math.log(max(C, 2)) + 4)

    def rows(self, task: tuple[int, int], scratch: Scratch) -> Array:
        """Return probabilities (M, n, C) in float64, rows summing to 1."""
        view = self.view
        block = read_block(view, slice(0, view.n_models), slice(*task), scratch)
        s: Array = _encode.probabilities(block, view.kind, view.renormalize)
        if s.shape[2] == 1:
            return np.concatenate([1.0 - s, s], axis=2)
        result: Array = s / s.sum(axis=2, keepdims=True)
        return result

    def read(self, p: Array, curvature: bool) -> tuple[Array, Array | None]:
        """Return D_k = sum_i w_i D(s_ki || q_i) in nats of every model, and G = sum_i w_i S_i diag(1/q_i) S_i'."""
        M = self.view.n_models
        first = self.entropy is None
        entropy, cross = np.zeros(M), np.zeros(M)
        G = np.zeros((M, M)) if curvature else None

        def work(task: tuple[int, int], scratch: Scratch) -> tuple[Array | None, Array, Array | None]:
            s = self.rows(task, scratch)
            share = np.repeat(self.share[slice(*task)], s.shape[2])
            flat = s.reshape(M, -1)
            q = p @ flat
            there = q > 0
            log_q = np.log(np.where(there, q, 1.0))
            part = flat @ (share * log_q)
            missing = ~there & (share > 0)
            if missing.any():  # a class that no model with weight predicts: +inf for those that do
                part[(flat[:, missing] > 0).any(axis=1)] = -np.inf
            own = None
            if first:
                own = (flat * np.log(np.where(flat > 0, flat, 1.0))) @ share
            g = None
            if curvature:
                scaled = flat * np.sqrt(np.where(there, share / np.where(there, q, 1.0), 0.0))
                g = scaled @ scaled.T
            return own, part, g

        def merge(task: tuple[int, int], found: tuple[Array | None, Array, Array | None]) -> None:
            nonlocal cross, entropy
            own, part, g = found
            cross = cross + part
            if own is not None:
                entropy = entropy + own
            if g is not None and G is not None:
                np.add(G, g, out=G)

        run(self.blocks, work, merge, threads=self.threads, label="joint capacity")
        self.readings += 1
        if self.entropy is None:
            self.entropy = entropy
        return self.entropy - cross, G

    def stacked(self) -> JointCapacity:
        """Solve the channel as one matrix (M, N C)."""
        M, N, C = self.view.n_models, self.view.n_samples, self.view.n_classes
        rows = self.rows((0, N), Scratch()) * self.share[None, :, None]
        rows = np.ascontiguousarray(rows.reshape(M, 1, N * C))
        weights, out = np.zeros(M), np.zeros(1, dtype=_capacity.RESULT)
        work = np.empty(_capacity.work_bytes(M, N * C, 1), dtype=np.uint8)
        _capacity.solve(rows, out, work, **self.rule.limits(), weights=weights)
        lower, upper, scans, steps, status, _ = out[0].tolist()
        upper = min(upper, math.log2(C) * (1 + 2.0**-50))
        return JointCapacity(lower, upper, scans, steps, STATUS[status], weights)

    def solve(self) -> JointCapacity:
        """Alternate readings and quadratic programs until the bounds meet."""
        M = self.view.n_models
        goal = max(self.rule.tol * LN2 - 2 * self.allowance, 4 * self.allowance)
        limit = self.rule.max_iter or READINGS
        p = best = np.full(M, 1.0 / M)
        lower, upper = 0.0, math.inf
        D, G = self.read(p, curvature=M > 1 and limit > 1)
        value = float(p @ D)
        while True:
            if value > lower or self.readings == 1:
                lower, best = max(value, 0.0), p
            upper = min(upper, float(D.max()))
            if upper - lower <= goal or self.readings >= limit or G is None:
                break
            step = quadratic_step(p, D - value, G) - p
            self.steps += 1
            scale, ahead, rise = 1.0, None, float(step @ np.where(step != 0, D, 0.0))
            while self.readings < limit:
                trial = np.maximum(p + scale * step, 0.0)
                trial /= trial.sum()
                found, curved = self.read(trial, curvature=scale == 1.0)
                found_value = float(trial @ np.where(trial > 0, found, 0.0))
                if np.isfinite(found).all() and found_value >= value - 1e-15:
                    ahead = trial, found, curved, found_value
                    break
                slope = float(step @ found) if np.isfinite(found).all() else -math.inf
                # beyond the top: where the slope, between the two ends, would be 0
                known = math.isfinite(slope) and slope < 0 < rise
                scale *= min(max(rise / (rise - slope), 0.1), 0.9) if known else 0.25
            if ahead is None:
                break
            moved = ahead[3] - value
            p, D, G, value = ahead
            if G is None and self.readings < limit:
                D, G = self.read(p, curvature=True)
            if moved <= 1e-16 and float(D.max()) - value > goal:  # rounding: one multiplicative round goes on
                p = p * np.exp(D - D.max())
                p /= p.sum()
                if self.readings >= limit:
                    break
                D, G = self.read(p, curvature=True)
                value = float(p @ D)
        done = upper - lower <= goal
        ceiling = math.log(min(M, self.view.n_classes)) * (1 + 2.0**-50)
        low = max(lower - self.allowance * (1 + lower), 0.0) / LN2
        high = min(upper + self.allowance * (1 + upper), ceiling) / LN2
        status = STATUS[0] if high - low <= self.rule.tol else STATUS[2] if done else STATUS[1]
        return JointCapacity(low, high, self.readings, self.steps, status, best)


def quadratic_step(p: Array, gradient: Array, G: Array) -> Array:
    """Return the weights that maximise g d - d G d / 2, d = w - p, over the simplex.

    By changes of whole blocks of the active set: weights below 0 leave, left-out models that would gain come back.
    """
    M = len(p)
    linear = gradient + G @ p
    ridge = 1e-11 * float(G.diagonal().max())
    inside = np.ones(M, dtype=bool)
    best, best_value = p, float(linear @ p - p @ G @ p / 2)
    for _ in range(50):
        index = np.flatnonzero(inside)
        A = G[np.ix_(index, index)] + ridge * np.eye(len(index))
        solved = np.linalg.solve(A, np.stack([linear[index], np.ones(len(index))], axis=1))
        price = (solved[:, 0].sum() - 1.0) / solved[:, 1].sum()
        w = np.zeros(M)
        w[index] = solved[:, 0] - price * solved[:, 1]
        feasible = np.maximum(w, 0.0)
        feasible /= feasible.sum()
        value = float(linear @ feasible - feasible @ G @ feasible / 2)
        if value > best_value:
            best, best_value = feasible, value
        negative = inside & (w < 0)
        gains = ~inside & (linear - G @ feasible - price > 1e-12)
        if not negative.any() and not gains.any():
            break
        inside = (inside & ~negative) | (gains & ~negative)
    return best
