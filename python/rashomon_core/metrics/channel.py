"""Channel capacity of samples: how blocks of scores reach the solver, and where its bounds are kept.

For every sample the M score vectors are the rows of a channel. Two classes have a closed form that needs only the
two extreme rows, which the score pass finds on its way; everything else goes through ``_capacity.solve``.
"""

from __future__ import annotations

import contextlib
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _capacity, _encode
from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.resuming import Column, Keeper, of_array, of_spilled, run_kept
from rashomon_core.tiles import ReadAhead, Scratch, SpillArray, plan_whole, read_block

__all__ = [
    "METHODS",
    "STATUS",
    "CapacityRule",
    "ChannelSolver",
    "bounds_of_ends",
    "bounds_of_ranges",
    "merged_ends",
]

Array = npt.NDArray[Any]
METHODS, STATUS = _capacity.METHODS, _capacity.STATUS
#: Full scans of the active-set method, and rounds of Blahut-Arimoto, when max_iter is not given; FALLBACK: rounds
#: after the scans of "auto".
SCANS, ROUNDS, FALLBACK = 100, 100_000, 10_000
#: Bytes of scores that are converted or solved at a time.
CHUNK_BYTES = 1 << 23
#: Samples of a look at the bounds.
GAP_SAMPLES = 1 << 18
#: Samples that are solved without a look at Ctrl-C.
CHUNK_SAMPLES = 256


@dataclass(frozen=True)
class CapacityRule:
    """How capacities are solved; checked. ``tol`` is in bits."""

    tol: float = 1e-6
    method: str = "auto"
    max_iter: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not (isinstance(self.tol, (int, float, np.number)) and math.isfinite(self.tol) and self.tol >= 0):
            raise UsageError(f"tol={self.tol!r} must be a finite number of bits, not negative. Fix: for example 1e-6")
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.max_iter is not None and (
            isinstance(self.max_iter, bool) or not isinstance(self.max_iter, (int, np.integer)) or self.max_iter < 1
        ):
            raise UsageError(f"max_iter={self.max_iter!r} must be a whole number of at least 1")

    def closed_form(self, view: Predictions) -> bool:
        """Whether two extreme rows settle the samples of ``view``."""
        return view.n_classes == 2 and self.method == "auto"

    def closed_status(self, gap: Array) -> Array:
        """Return the status codes of capacities in closed form, from upper - lower."""
        return np.where(gap <= self.tol, 0, STATUS.index("precision_limit"))

    def limits(self) -> dict[str, Any]:
        """Return the arguments of ``_capacity.solve``."""
        given = self.max_iter
        if self.method == "blahut_arimoto":
            scans, rounds = 0, given or ROUNDS
        else:
            scans, rounds = given or SCANS, FALLBACK if self.method == "auto" and given is None else 0
        return {"tol": float(self.tol), "method": self.method, "max_scans": scans, "max_rounds": rounds}


def _by_share(s0: Array, s1: Array) -> tuple[Array, Array, Array]:
    """Return keys for ``np.lexsort``: by the share of class 1, then by its mass, then by less of class 0."""
    wide0, wide1 = s0.astype(np.float64), s1.astype(np.float64)
    return -wide0, wide1, wide1 / (wide0 + wide1)


def merged_ends(left: Array, right: Array) -> Array:
    """Return the ends (S, 4) of the models of both: whatever the order of merges, the same rows."""
    parts = []
    for place, most in ((slice(0, 2), False), (slice(2, 4), True)):
        a, b = left[:, place], right[:, place]
        ahead = np.zeros(len(a), dtype=bool)  # whether b's row comes later in the order
        for x, y in zip(_by_share(a[:, 0], a[:, 1]), _by_share(b[:, 0], b[:, 1]), strict=True):
            ahead = np.where(x == y, ahead, x < y)
        parts.append(np.where((ahead if most else ~ahead)[:, None], b, a))
    return np.concatenate(parts, axis=1)


def bounds_of_ends(ends: Array) -> tuple[Array, Array]:
    """Return lower and upper bounds of the capacities of two classes from the ends of all models."""
    lower, upper, weight = np.empty((3, len(ends)))
    a0, a1, b0, b1 = np.ascontiguousarray(ends.T, dtype=np.float64)
    _capacity.pairs(a0, a1, b0, b1, lower, upper, weight)
    return lower, upper


def bounds_of_ranges(low: Array, high: Array) -> tuple[Array, Array]:
    """Return the same from the smallest and largest P(class 1), (S, 1) each."""
    lower, upper = np.empty((2, len(low)))
    _capacity.ranges(np.ascontiguousarray(low), np.ascontiguousarray(high), None, lower, upper)
    return lower, upper


class ChannelSolver:
    """Bounds of every sample of ``view``, filled tile by tile in any order.

    ``bounds``: (2, N) lower and upper, in memory or spilled. ``scans``, ``steps`` and ``status``: (N,); the first two
    are views of a single 0 for the closed form, and all three when bounds are spilled: then only the counts are kept,
    unless ``marks`` asks for them by sample.
    """

    def __init__(self, view: Predictions, rule: CapacityRule, *, spill: bool = False, marks: bool = False) -> None:
        N = view.n_samples
        self.view, self.rule = view, rule
        self.bounds = SpillArray((2, N), np.float64, spill=spill)
        shape = (1,) if rule.closed_form(view) or (spill and not marks) else (N,)
        self.scans, self.steps = (np.broadcast_to(np.zeros(shape, dtype=np.int32), (N,)) for _ in range(2))
        self.status = np.zeros(N, dtype=np.uint8)
        self._counts = np.zeros(len(STATUS), dtype=np.int64)
        self._lock: Any = threading.Lock() if spill else contextlib.nullcontext()
        if spill and not marks:
            self.status = np.broadcast_to(self.status[:1], (N,))
        if shape == (N,):
            self.scans, self.steps = self.scans.copy(), self.steps.copy()

    def bits(self, start: int, stop: int) -> Array:
        """Return the middles of the intervals of samples start..stop."""
        part = self.bounds.read(slice(0, 2), slice(start, stop))
        middle: Array = (part[0] + part[1]) / 2
        return middle

    def gap(self) -> float:
        """Return the largest upper - lower."""
        largest = 0.0
        for i in range(0, self.view.n_samples, GAP_SAMPLES):
            part = self.bounds.read(slice(0, 2), slice(i, min(i + GAP_SAMPLES, self.view.n_samples)))
            largest = max(largest, float((part[1] - part[0]).max()))
        return largest

    def status_counts(self) -> dict[str, int]:
        """Return the number of samples of each status."""
        counts = np.bincount(self.status, minlength=len(STATUS)) if self.status.flags.writeable else self._counts
        return {name: int(n) for name, n in zip(STATUS, counts, strict=True)}

    def _mark(self, at: slice | None, codes: Array) -> None:
        """Keep the states of samples ``at``, or count them."""
        if self.status.flags.writeable:
            if at is not None:
                self.status[at] = codes
        else:
            with self._lock:
                self._counts += np.bincount(codes, minlength=len(STATUS))

    def _put(self, rows: slice, lower: Array, upper: Array) -> None:
        self.bounds.put(np.stack([lower, upper]), slice(0, 2), rows)

    # -- two classes

    def extremes(self, low: Array, high: Array, gaps: Array | None, rows: slice, scores: Array | None = None) -> None:
        """Take in the smallest and largest scores (S, columns) of a tile of two classes.

        ``gaps`` (S, 2): the largest of s_0 - s_1 and of s_1 - s_0 over the models. Where it is what the extremes of
        both classes give, one row holds both of them, and that row has the extreme P(class 1) whatever the sums of
        the rows; elsewhere (rows that rounding ordered differently in both classes) the sample is solved from its rows,
        which are read again unless ``scores`` (M, S, columns) are the tile's.
        """
        if self.bounds.in_memory:
            lower, upper = self.bounds.array()[:, rows]
            apart = _capacity.ranges(low, high, gaps, lower, upper)
        else:
            both = np.empty((2, len(low)))
            lower, upper = both
            apart = _capacity.ranges(low, high, gaps, lower, upper)
            self.bounds.commit(both, slice(0, 2), rows)
        gap = upper - lower
        codes = self.rule.closed_status(gap) if gap.max() > self.rule.tol else np.zeros(len(gap), dtype=np.uint8)
        if self.status.flags.writeable:
            self.status[rows] = codes
        else:
            self._mark(None, np.delete(codes, apart))
        for i in apart.tolist():
            self.sample(rows.start + i, None if scores is None else scores[:, i : i + 1])

    def ends(self, low: Array, high: Array, gaps: Array | None, rows: slice, scores: Array | None = None) -> Array:
        """Return (S, 4) of a tile of two classes: the rows with the least and the most of class 1; see :func:`merged`.

        Parameters as in :meth:`extremes`, which need not have all models.
        """
        assert gaps is not None
        result: Array = np.stack([high[:, 0], low[:, 1], low[:, 0], high[:, 1]], axis=1)
        unused = np.empty((2, len(low)))
        for i in _capacity.ranges(low, high, gaps, *unused).tolist():
            part = self._rows(rows.start + i, None if scores is None else scores[:, i : i + 1])[:, 0]
            order = np.lexsort(_by_share(part[:, 0], part[:, 1]))
            result[i] = [*part[order[0]], *part[order[-1]]]
        return result

    # -- all classes

    def checks(self) -> bool:
        """Whether :meth:`block` can check values as it reads them."""
        view = self.view
        return (
            view.kind == "proba" and not view.renormalize and len(view.source.shape) == 3 and view.dtype.itemsize <= 4
        )

    def block(self, scores: Array, rows: slice, scratch: Scratch, *, unchecked: bool = False) -> None:
        """Solve a block (M, S, C) or (M, S) of scores of all models, checked by the pass unless ``unchecked``."""
        M, S = scores.shape[:2]
        C = self.view.n_classes
        plain = self.view.kind == "proba" and not self.view.renormalize and scores.ndim == 3
        ready = plain and scores.dtype.itemsize >= 4
        step = CHUNK_SAMPLES if ready else max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // (8 * M * C)))
        step = min(step, S)
        work = scratch.array("capacity", (_capacity.work_bytes(M, C, step),), np.uint8)
        out = scratch.array("capacities", (step,), _capacity.RESULT)
        for i in range(0, S, step):
            part = scores[:, i : i + step]
            n = part.shape[1]
            probs = part if ready else self._converted(part)
            off = self.view.row_tolerance if unchecked else -1.0
            if _capacity.solve(probs, out[:n], work, **self.rule.limits(), rows_off=off) >= 0:
                self._check(part)
                _capacity.solve(probs, out[:n], work, **self.rule.limits())
            at = slice(rows.start + i, rows.start + i + n)
            self._keep(at, out[:n])

    def _check(self, block: Array) -> None:
        """Check every row (m, n, C) as the pass does; raise the error of the first bad one in (model, sample) order."""
        view = self.view
        for part in block:
            if _encode.first_bad_row(np.ascontiguousarray(part), view.kind, view.row_tolerance, view.renormalize) >= 0:
                view.validate()
                raise InvalidInputError("bad values in the predictions", file=view.path)

    def _keep(self, at: slice, out: Array) -> None:
        self._put(at, out["lower"], out["upper"])
        self._mark(at, out["status"])
        if self.scans.flags.writeable:
            self.scans[at], self.steps[at] = out["scans"], out["steps"]

    def _converted(self, part: Array) -> Array:
        """Return probabilities (M, n, C) in float32 or float64 that the solver can read."""
        view = self.view
        if view.kind == "proba" and not view.renormalize and part.ndim == 3:
            return np.ascontiguousarray(part, dtype=np.float32 if part.dtype.itemsize < 4 else part.dtype)
        scores: Array = _encode.probabilities(part, view.kind, view.renormalize)
        if scores.shape[2] == 1:
            scores = np.concatenate([1.0 - scores, scores], axis=2)
        return scores

    def _rows(self, i: int, scores: Array | None) -> Array:
        """Return the probabilities (M, 1, C) of sample i, from its ``scores`` (M, 1, columns) if they are at hand."""
        if scores is None:
            scores = self.view.source.read(slice(0, self.view.n_models), slice(i, i + 1))
        scores = np.ascontiguousarray(scores)
        return self._converted(scores.astype(scores.dtype.newbyteorder("="), copy=False))

    def sample(self, i: int, scores: Array | None = None) -> tuple[Array, Array]:
        """Solve sample i from its rows and keep its bounds; return the models that carry weight, and their weights."""
        models, weights, out = self.solved(i, scores)
        self._keep(slice(i, i + 1), out)
        return models, weights

    def solved(self, i: int, scores: Array | None = None) -> tuple[Array, Array, Array]:
        """Solve sample i from its rows; return models, their weights, and (1,) of ``_capacity.RESULT``."""
        view, scores = self.view, self._rows(i, scores)
        weights, out = np.zeros(view.n_models), np.zeros(1, _capacity.RESULT)
        if self.rule.closed_form(view):
            rows = scores[:, 0].astype(np.float64)
            shares = rows[:, 1] / rows.sum(axis=1)
            a, b = int(shares.argmin()), int(shares.argmax())
            if shares[a] == shares[b]:  # rows may still differ by less than their shares can say
                b = int((rows != rows[a]).any(axis=1).argmax()) if (rows != rows[a]).any() else a
            lower, upper, weight = np.empty(1), np.empty(1), np.empty(1)
            _capacity.pairs(rows[a, :1], rows[a, 1:], rows[b, :1], rows[b, 1:], lower, upper, weight)
            out["lower"], out["upper"], out["status"] = lower, upper, self.rule.closed_status(upper - lower)
            weights[b] = 1.0 - weight[0]
            weights[a] += weight[0]
            models = np.flatnonzero(weights)
            return models, weights[models], out
        work = np.empty(_capacity.work_bytes(view.n_models, scores.shape[2], 1), dtype=np.uint8)
        _capacity.solve(scores, out, work, **self.rule.limits(), weights=weights)
        models = np.flatnonzero(weights)
        return models, weights[models], out

    def columns(self) -> list[Column]:
        """Return what is kept of each sample."""
        kept: dict[str, Array] = {"status": self.status, "scans": self.scans, "steps": self.steps}
        return [
            of_spilled("bounds", self.bounds),
            *(of_array(name, a) for name, a in kept.items() if a.flags.writeable),
        ]

    def read(self, *, threads: int, memory: int, checkpoint: Keeper | None = None) -> None:
        """Solve all samples in a reading of its own; values must have been checked."""
        cut = plan_whole(self.view, threads=threads, memory=memory, per_sample=64)

        ahead = ReadAhead(self.view, cut, threads)
        width = self.view.nbytes // self.view.n_samples

        def work(task: tuple[int, int], scratch: Scratch) -> None:
            rows = slice(*task)
            block = read_block(self.view, slice(0, cut.models), rows, scratch, cut)
            ahead(task, 0)
            self.block(block, rows, scratch)

        run_kept(
            cut.tiles,
            work,
            None,
            None if checkpoint is None else checkpoint.reading("capacity"),
            self.columns(),
            {},
            threads=threads,
            label="capacity",
            nbytes=lambda task: (task[1] - task[0]) * width,
        )
