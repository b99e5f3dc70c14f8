"""Two oracles of channel capacity that share nothing with the kernels: conic programs and 50-digit arithmetic.

`conic` maximises entropy(q) + sum_k p_k sum_c s_kc log s_kc over p in the simplex, q = sum_k p_k s_k, as an
exponential-cone program with two solvers. `exact` encloses the capacity of a channel of a few rows to 1e-25.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import naive_capacity
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
DIGITS = 50
#: The enclosure of `exact` is at most this wide, as a part of the capacity.
WIDTH = mp.mpf(10) ** -25


# ----------------------------------------------------------------------------------------------------
# Exponential cones


@dataclass(frozen=True)
class Conic:
    """Capacity in bits by a conic solver, and how far it may be off."""

    bits: float
    accuracy: float
    weights: Floats


def conic(P: ArrayLike) -> Conic:
    """Solve with Clarabel and with SCS.

    The accuracy is how far the two differ, or how wide the bounds are that the solver's own weights give, whichever is
    larger: two solvers that stop early at one place do not vouch for one another, and one alone can do with bounds.
    """
    import cvxpy as cp

    s = naive_capacity.normalised(P)
    s = s[:, s.any(axis=0)]
    h = (s * np.log(s, where=s > 0, out=np.zeros_like(s))).sum(axis=1)
    p, q = cp.Variable(len(s), nonneg=True), cp.Variable(s.shape[1])
    direct = cp.Problem(cp.Maximize(cp.sum(cp.entr(s.T @ p)) + h @ p), [cp.sum(p) == 1])
    split = cp.Problem(cp.Maximize(cp.sum(cp.entr(q)) + h @ p), [cp.sum(p) == 1, q == s.T @ p])

    def solve(problem: Any, solver: str, **options: float) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "solution may be inaccurate": what the accuracy is for
            problem.solve(solver=solver, **options)
        return float(problem.value) / math.log(2)

    first = solve(direct, cp.SCS, eps_abs=1e-8, eps_rel=1e-8, max_iters=20_000)
    bits, weights = first, p.value
    for problem, tol in ((direct, 1e-10), (split, 1e-10), (direct, 1e-8), (split, 1e-8)):
        try:  # Clarabel gives up now and then, and the same program written otherwise goes through
            bits = solve(problem, cp.CLARABEL, tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
            weights = p.value
            break
        except cp.error.SolverError:
            continue
    weights = np.maximum(weights, 0.0)
    weights /= weights.sum()
    lower, upper = naive_capacity.bounds(s, weights)
    return Conic(bits, max(abs(bits - first), upper - lower, 1e-9), weights)


# ----------------------------------------------------------------------------------------------------
# Fifty digits

Row = list[Any]


def digits_for(P: ArrayLike) -> int:
    """Digits with which the curvature along the shortest difference of two rows keeps DIGITS of its own."""
    given = np.asarray(P).astype(np.float64)
    differences = np.abs(given[:, None] - given[None])
    sizes = np.concatenate([given.ravel(), differences.ravel()])
    return DIGITS + 20 + 2 * math.ceil(-math.log10(sizes[sizes > 0].min(initial=1.0)))


def exact_rows(P: ArrayLike) -> list[Row]:
    """Raw rows, each divided by its sum at the working precision; (M,) floats are P(class 1)."""
    given = np.asarray(P).astype(np.float64)
    if given.ndim == 1:
        return [[1 - mp.mpf(x), mp.mpf(x)] for x in given.tolist()]
    rows = [[mp.mpf(x) for x in row] for row in given.tolist()]
    return [[x / mp.fsum(row) for x in row] for row in rows]


def exact(P: ArrayLike) -> tuple[Any, Any]:
    """(lower, upper) of a few rows with 50 digits, at most 1e-25 of the capacity apart.

    Some best p has affinely independent rows (Caratheodory). So each set of rows is tried: Newton for the stationary
    point of the information on the plane through those rows, which is unique as the information is strictly concave
    there, until one has no negative weight and its bounds over all rows meet.
    """
    with mp.workdps(digits_for(P)):
        rows = exact_rows(P)
        rows = [row for k, row in enumerate(rows) if row not in rows[:k]]
        if len(rows) == 1:
            return mp.mpf(0), mp.mpf(0)
        floats = np.array([[float(x) for x in row] for row in rows])
        p = naive_capacity.blahut_arimoto(floats, 1e-9, 300)[2]
        likely = tuple(int(k) for k in np.flatnonzero(p > 1e-3))
        largest = min(len(rows), len(rows[0]))
        sets = [s for n in range(2, largest + 1) for s in itertools.combinations(range(len(rows)), n)]
        for chosen in sorted(sets, key=lambda s: (s != likely, len(s))):
            weights = _stationary([rows[k] for k in chosen])
            if weights is None or min(weights) < -(mp.mpf(10) ** -40):
                continue
            kept = [max(w, mp.mpf(0)) for w in weights]
            total = mp.fsum(kept)
            lower, upper = _bounds(rows, dict(zip(chosen, [w / total for w in kept], strict=True)))
            if upper - lower <= WIDTH * upper:
                return max(min(lower, upper), mp.mpf(0)), max(lower, upper)
    raise ArithmeticError(f"no set of rows is optimal to {mp.nstr(WIDTH, 3)}: {floats.tolist()}")


def _mixture(rows: list[Row], weights: list[Any]) -> Row:
    return [mp.fsum(w * row[c] for w, row in zip(weights, rows, strict=True)) for c in range(len(rows[0]))]


def _divergence(row: Row, q: Row) -> Any:
    if any(x > 0 and y <= 0 for x, y in zip(row, q, strict=True)):
        return mp.inf
    return mp.fsum(x * mp.log(x / y) for x, y in zip(row, q, strict=True) if x > 0)


def _bounds(rows: list[Row], weights: dict[int, Any]) -> tuple[Any, Any]:
    """Bounds in bits of rows k with weights[k]."""
    q = _mixture([rows[k] for k in weights], list(weights.values()))
    lower = mp.fsum(w * _divergence(rows[k], q) for k, w in weights.items() if w > 0)
    upper = max(_divergence(row, q) for row in rows)
    return lower / mp.log(2), upper / mp.log(2)


def _stationary(rows: list[Row]) -> list[Any] | None:
    """Weights (of any sign, sum 1) whose mixture is equally far from all rows, or None where Newton finds none."""
    used = [c for c in range(len(rows[0])) if any(row[c] > 0 for row in rows)]
    rows = [[row[c] for c in used] for row in rows]
    n = len(rows)
    h = [mp.fsum(x * mp.log(x) for x in row if x > 0) for row in rows]

    def information(weights: list[Any]) -> Any:
        q = _mixture(rows, weights)
        if min(q) <= 0:
            return -mp.inf
        return mp.fsum(w * x for w, x in zip(weights, h, strict=True)) - mp.fsum(x * mp.log(x) for x in q)

    weights = [mp.mpf(1) / n] * n
    for _ in range(300):
        q = _mixture(rows, weights)
        d = [_divergence(row, q) for row in rows]
        system = mp.matrix(n + 1)
        for j, k in itertools.product(range(n), repeat=2):
            system[j, k] = mp.fsum(x * y / z for x, y, z in zip(rows[j], rows[k], q, strict=True))
        for k in range(n):
            system[k, n] = system[n, k] = mp.mpf(1)
        try:
            step = mp.lu_solve(system, mp.matrix([*d, mp.mpf(0)]))
        except ZeroDivisionError:  # rows that depend on one another
            return None
        gain = mp.fsum(step[k] * x for k, x in enumerate(d))
        size, now = mp.mpf(1), information(weights)
        if gain < now * mp.mpf(10) ** -(DIGITS - 5):  # the last step; steps converge quadratically
            return [w + step[k] for k, w in enumerate(weights)]
        while information([w + size * step[k] for k, w in enumerate(weights)]) < now + size * gain / 8:
            size /= 4
        weights = [w + size * step[k] for k, w in enumerate(weights)]
    return None
