"""A pass over scores by its definition: a problem, what a pass gives back to the last bit, and a pass to hold to it.

A pass is a fixed sequence of additions, so its results are known to the last bit: `Expected` writes that sequence
down in numpy. Instruction sets, blocks of models, pieces of samples and strides must not change a bit of it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import strategies
from kernels import assert_same_bits, on_each_isa, to_planes, to_words
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _encode, _scores

Array = NDArray[Any]
LOSSES = _scores.LOSSES


def fold(lanes: Array) -> Array:
    """Eight lanes (the last axis) in the one fixed order."""
    l = np.moveaxis(lanes, -1, 0)
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))


def in_order(x: Array, axis: int = -1) -> Array:
    """Sum over one axis, one after the other from 0 (accumulate() adds in order, sum() does not)."""
    return 0.0 + np.add.accumulate(x, axis=axis).take(-1, axis=axis)


def lane_sum(x: Array, length: int) -> Array:
    """Sums over runs of `length` (a multiple of 8) of the last axis: (..., runs)."""
    runs = -(-x.shape[-1] // length)
    padded = np.zeros((*x.shape[:-1], runs * length))
    padded[..., : x.shape[-1]] = x
    return fold(in_order(padded.reshape(*x.shape[:-1], runs, length // 8, 8), axis=-2))


def block_totals(x: Array, w: Array | None) -> Array:
    """Totals over blocks of 4,096 samples (the last axis); a weight of 0 adds nothing, whatever x."""
    if w is not None:
        with np.errstate(invalid="ignore"):
            x = np.where(w == 0, 0.0, w * x)
    return lane_sum(x, 4096)


def log(x: Array) -> Array:
    return _encode.log_exp(np.ascontiguousarray(x, dtype=np.float64).ravel())[0].reshape(x.shape)


def exp(x: Array) -> Array:
    return _encode.log_exp(np.ascontiguousarray(x, dtype=np.float64).ravel())[1].reshape(x.shape)


# ----------------------------------------------------------------------------------------------------
# A problem, and what a pass over it has to give


@dataclass(frozen=True)
class Problem:
    scores: Array  # (M, N, C), or (M, N) = P(class 1) or labels; C-contiguous
    columns: int
    n_classes: int
    kind: str
    renormalize: bool
    threshold: float | None
    references: Array  # (R, N)
    keep: Array | None  # (R, N) flags: the masks
    weights: Array | None  # (N,)
    y: Array  # (N,)
    target: Array  # (N, max(2, C)) probabilities
    ddof: int

    @property
    def plain(self) -> bool:
        return self.kind == "proba" and not self.renormalize

    @property
    def single(self) -> bool:
        return self.plain and self.scores.dtype != np.float64

    @property
    def tolerance(self) -> float:
        # Logs in half precision no longer sum to 1 within 1e-3.
        loose = self.kind == "log_proba" and self.scores.dtype == np.float16
        return 0.05 if loose else strategies.ROW_TOLERANCE.get(self.scores.dtype.name, 0.0)


@dataclass(frozen=True)
class Wanted:
    ranges: str  # "none", "sums" or "variance"
    decisions: bool
    votes: bool
    planes: bool
    references: bool
    losses: tuple[str, ...]


EVERYTHING = Wanted("sums", True, True, True, True, LOSSES)


def make_problem(
    seed: int,
    m: int,
    n: int,
    columns: int,
    dtype: str,
    *,
    kind: str = "proba",
    renormalize: bool = False,
    threshold: float | None = None,
    how: str = "mixed",
    weighted: bool = True,
    masked: bool = True,
    ddof: int = 0,
    n_classes: int = 0,
) -> Problem:
    rng = np.random.default_rng(seed)
    c = n_classes if columns == 0 else max(2, columns)
    proba: Array
    if columns == 0:
        scores = strategies.make_labels(seed, m, n, c, "near").astype(dtype)
    elif columns == 1:
        binary = strategies.BINARY_KINDS[seed % len(strategies.BINARY_KINDS)]
        proba = strategies.make_binary_scores(seed, m, n, binary, "float64")
    else:
        proba = strategies.make_rows(rng, how, m, n, columns)
    if columns > 0 and kind == "proba":
        scores = proba.astype(dtype)
        scores[(scores == 0) & (rng.random(scores.shape) < 0.1)] = -0.0
        if renormalize and columns > 1:
            scores *= scores.dtype.type(3)
    elif kind == "log_proba" and columns > 0:
        with np.errstate(divide="ignore"):
            scores = np.minimum(np.log(proba), 0).astype(dtype)
    elif columns > 0:
        scores = (rng.normal(size=proba.shape) * rng.choice([0.1, 4.0, 400.0])).astype(dtype)
    return Problem(
        scores=scores,
        columns=columns,
        n_classes=c,
        kind="labels" if columns == 0 else kind,
        renormalize=renormalize,
        threshold=threshold if columns in (1, 2) else None,
        references=strategies.make_labels(seed + 1, 2, n, c, "uniform"),
        keep=rng.random((2, n)) < 0.7 if masked else None,
        weights=rng.exponential(size=n) * (rng.random(n) < 0.8) if weighted else None,
        y=rng.integers(0, c, n).astype(np.int32),
        target=strategies.make_rows(rng, "mixed", 1, n, max(2, columns))[0],
        ddof=ddof,
    )


class Expected:
    """What a pass gives, by its definition and in the order of its additions."""

    def __init__(self, p: Problem) -> None:
        m, n = p.scores.shape[:2]
        self.probs = self._probabilities(p) if p.columns else p.scores
        self.decisions = self._decide(p)
        self.planes = to_planes(self.decisions, p.n_classes)
        self.votes = np.zeros((n, p.n_classes), dtype=np.int32)
        for row in self.decisions:
            self.votes[np.arange(n), row] += 1
        differ = self.decisions != p.references[:, None]
        if p.keep is not None:
            differ &= p.keep[:, None]
        self.mismatches = differ.sum(axis=-1)
        self.unions = to_words(differ.any(axis=1))
        self.mismatch_totals = None if p.weights is None else block_totals(differ.astype(np.float64), p.weights)
        if p.columns == 0:
            return
        self.lo, self.hi, self.shift = self.probs.min(axis=0), self.probs.max(axis=0), self.probs[0]
        d = self.probs.astype(np.float64) - self.shift.astype(np.float64)
        self.s1, self.s2 = in_order(d, axis=0), in_order(d * d, axis=0)
        with np.errstate(invalid="ignore"):
            self.variance = np.maximum(self.s2 - self.s1 * self.s1 / m, 0.0) / np.float64(m - p.ddof)
        rows = self.probs.astype(np.float64)
        if p.columns == 1:
            rows = np.stack([1.0 - rows, rows], axis=-1)
        log_loss = -log(np.take_along_axis(rows, p.y[None, :, None].astype(np.int64), axis=-1)[..., 0])
        tv = 0.5 * in_order(np.abs(rows - p.target))
        with np.errstate(invalid="ignore"):
            ce = -in_order(np.where(p.target == 0, 0.0, p.target * log(rows)))
        self.losses = np.stack([block_totals(x, p.weights) for x in (log_loss, tv, ce)])

    @staticmethod
    def _probabilities(p: Problem) -> Array:
        if p.single:
            return p.scores.astype(np.float32)
        x = p.scores.astype(np.float64)
        if p.plain:
            return x
        if p.columns == 1:
            if p.kind == "proba":
                return x
            e = exp(-np.abs(x) if p.kind == "logits" else x)
            return np.where(x > 0, 1.0, e) / (1.0 + e) if p.kind == "logits" else e
        if p.kind == "logits" or (p.kind == "log_proba" and p.renormalize):
            x = x - x.max(axis=-1, keepdims=True)
        if p.kind != "proba":
            x = exp(x)
        if p.kind == "log_proba" and not p.renormalize:
            return x
        return x / lane_sum(x, -(-p.columns // 8) * 8)

    def _decide(self, p: Problem) -> Array:
        if p.columns == 0:
            return p.scores.astype(np.int64)
        if p.threshold is not None:
            p1 = self.probs[..., 1] if p.columns == 2 else self.probs
            return (p1.astype(np.float64) >= p.threshold).astype(np.int64)
        if p.columns == 1:
            zero = p.kind == "logits"
            return (p.scores > 0 if zero else self.probs > 0.5).astype(np.int64)
        return p.scores.argmax(axis=-1)


def run_pass(p: Problem, want: Wanted, steps: list[tuple[int, int, int, int]], scores: Array) -> dict[str, Array]:
    """Feed a pass (first model, end, first sample, end) after another; every output that was asked for."""
    m, n = p.scores.shape[:2]
    groups, blocks = _encode.group_count(n), -(-n // 4096)
    out: dict[str, Array] = {}
    inputs: dict[str, Array] = {}
    if want.ranges != "none":
        folded = np.float32 if p.single else np.float64
        shape = p.scores.shape
        out |= {name: np.full(shape[1:], np.nan, dtype=folded) for name in ("lo", "hi", "shift")}
        out |= {name: np.full(shape[1:], np.nan) for name in ("s1", "s2")}
        if want.ranges == "variance":
            out["variance"] = np.full(shape[1:], np.nan)
            if len({step[:2] for step in steps}) == 1:  # all models at once: nothing to keep between blocks
                for name in ("shift", "s1", "s2"):
                    del out[name]
    if want.votes:
        out["votes"] = np.zeros((p.n_classes, n) if p.n_classes <= 64 else (n, p.n_classes), dtype=np.int32)
    if want.planes:
        room = np.full((m, groups + 1, _encode.plane_count(p.n_classes), 8), 2**64 - 1, dtype=np.uint64)
        out["planes"] = room[:, :groups]
    if want.decisions:
        out["decisions"] = np.full((m, n), 9, dtype=np.uint8 if p.n_classes <= 256 else np.uint16)
    if want.references:
        inputs["references"] = to_planes(p.references, p.n_classes)
        out["mismatches"] = np.zeros((2, m), dtype=np.int64)
        out["unions"] = np.zeros((2, groups, 8), dtype=np.uint64)
        if p.keep is not None:
            inputs["masks"] = to_words(p.keep)
    if p.weights is not None and (want.references or want.losses):
        inputs["weights"] = np.zeros(groups * 512)
        inputs["weights"][:n] = p.weights
        if want.references:
            out["mismatch_lanes"] = np.zeros((2, m, 8))
            out["mismatch_totals"] = np.full((2, m, blocks), np.nan)
    if want.losses:
        inputs |= {"y": p.y, "target": p.target}
        out["loss_lanes"] = np.zeros((3, m, 8))
        out["loss_totals"] = np.full((3, m, blocks), np.nan)
    tile = _scores.TilePass(
        n_samples=n,
        columns=p.columns,
        n_classes=p.n_classes,
        n_models=m,
        kind=p.kind,
        renormalize=p.renormalize,
        tolerance=p.tolerance,
        threshold=p.threshold,
        single=p.single,
        ddof=p.ddof,
        losses=want.losses,
        **out,
        **inputs,
    )
    for m0, m1, n0, n1 in steps:
        assert tile.update(scores[m0:m1, n0:n1], m0, n0)
    if want.ranges == "variance":
        out = {name: array for name, array in out.items() if name not in ("shift", "s1", "s2")}
    if want.planes:
        assert (room[:, groups:] == 2**64 - 1).all()
    return {name: np.ascontiguousarray(array) for name, array in out.items() if "lanes" not in name}


def check(out: dict[str, Array], want: Wanted, p: Problem, e: Expected) -> None:
    for name, got in out.items():
        if name == "loss_totals":
            for k, loss in enumerate(LOSSES):
                assert_array_equal(got[k], e.losses[k] if loss in want.losses else 0.0)
        elif name == "votes":
            assert_array_equal(got, e.votes.T if p.n_classes <= 64 else e.votes)
        else:
            assert_array_equal(got, getattr(e, name), err_msg=name)


def laid_out(scores: Array, layout: str) -> Array:
    """Same scores with each model's samples contiguous, at another distance between models."""
    if layout == "backwards":
        return np.ascontiguousarray(scores[::-1])[::-1]
    if layout == "apart":
        room = np.full((len(scores), scores.shape[1] + 3, *scores.shape[2:]), 99, dtype=scores.dtype)
        room[:, :-3] = scores
        return room[:, :-3]
    return scores


def steps_of(model_cuts: list[int], sample_cuts: list[int], samples_first: bool) -> list[tuple[int, int, int, int]]:
    models, samples = list(itertools.pairwise(model_cuts)), list(itertools.pairwise(sample_cuts))
    if samples_first:
        return [(*a, *b) for a in models for b in samples]
    return [(*a, *b) for b in samples for a in models]


def check_everywhere(p: Problem, want: Wanted, cuts: list[list[tuple[int, int, int, int]]], layout: str) -> None:
    """Every instruction set, every way to cut the work: what is expected, and the same bits."""
    m, n = p.scores.shape[:2]
    scores, e = laid_out(p.scores, layout), Expected(p)
    first = None
    for steps in ([(0, m, 0, n)], *cuts):
        for out in on_each_isa(lambda s=steps: run_pass(p, want, s, scores)):
            check(out, want, p, e)
            first = first or out
            assert out.keys() == first.keys()
            for name, array in out.items():
                assert_same_bits(array, first[name])
