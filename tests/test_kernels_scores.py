"""The streaming pass over scores: its values against the oracle, its bits against its definition.

A pass is a fixed sequence of additions, so its results are known to the last bit: `Expected` writes that sequence
down in numpy. Instruction sets, blocks of models, pieces of samples and strides must not change a bit of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _cpu, _encode, _scores

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=40)
COLUMNS = (*range(34), 100, 300)  # 0: labels
EVERY_DTYPE = (0, 1, 2, 3, 4, 5, 8, 17, 33)
SOME_COLUMNS = (0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 10, 16, 17, 25, 32, 33, 49, 65, 100, 300)
LOSSES = _scores.LOSSES


def on_each_isa(run: Callable[[], Any]) -> list[Any]:
    """Run once on every instruction set of this machine."""
    before = _cpu.isa_active()
    results = []
    try:
        for name in _cpu.isa_available():
            _cpu.isa_select(name)
            results.append(run())
    finally:
        _cpu.isa_select(before)
    return results


def to_planes(decisions: Array, n_classes: int) -> NDArray[np.uint64]:
    """Bit planes (M, groups, P, 8); test_kernels_encode.py holds the encoder to its definition."""
    d = np.ascontiguousarray(decisions, dtype=np.uint8 if n_classes <= 256 else np.uint16)
    shape = (len(d), _encode.group_count(d.shape[1]), _encode.plane_count(n_classes), 8)
    out = np.empty(shape, dtype=np.uint64)
    _encode.encode(d, out)
    return out


def to_words(flags: Array) -> NDArray[np.uint64]:
    return np.ascontiguousarray(to_planes(flags, 2)[:, :, 0, :])


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


def assert_same_bits(got: Array, expected: Array) -> None:
    """Same numbers, signs of zero included; any NaN is a NaN."""
    assert got.dtype == expected.dtype
    if got.dtype.kind == "f":
        assert_array_equal(np.isnan(got), np.isnan(expected))
        got, expected = np.nan_to_num(got), np.nan_to_num(expected)
    assert got.tobytes() == expected.tobytes()


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


# ----------------------------------------------------------------------------------------------------
# The pass


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [(c, t) for c in COLUMNS for k, t in enumerate(strategies.FLOAT_DTYPES) if c in EVERY_DTYPE or c % 3 == k],
)
def test_pass_across_blocks_of_samples(columns: int, dtype: str) -> None:
    n, m = 4096 + 77, 2 if columns > 33 else 9
    label_type = {"float16": "uint8", "float32": "int16", "float64": "int64"}[dtype]
    p = make_problem(columns, m, n, columns, dtype if columns else label_type, n_classes=70)
    want = EVERYTHING if columns else replace(EVERYTHING, ranges="none", losses=())
    # Binary float scores go another way when nobody asks for decisions as numbers.
    want = replace(want, decisions=columns not in (1, 2))
    cuts = [steps_of([0, 1, m], [0, 512, 3072, n], columns % 2 == 0)]
    check_everywhere(p, want, cuts, "apart")


@settings(deadline=None, max_examples=120)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_pass_of_any_kind_cut_anyhow(data: st.DataObject, seed: int) -> None:
    draw = data.draw
    columns = draw(st.sampled_from(SOME_COLUMNS))
    m = draw(st.integers(1, 20))
    room = max(1, min(9000, 120_000 // (m * max(1, columns))))
    n = draw(
        st.sampled_from([x for x in strategies.BLOCK_SAMPLES if x <= room] or [room]) | strategies.sample_counts(room)
    )
    n_classes = draw(st.sampled_from([2, 3, 64, 65, 256, 257, 300]))
    p = make_problem(
        seed,
        m,
        n,
        columns,
        draw(strategies.score_dtypes() if columns else strategies.label_dtypes(n_classes)),
        kind=draw(st.sampled_from(["proba", "proba", "log_proba", "logits"])),
        renormalize=draw(st.booleans()),
        threshold=draw(st.none() | strategies.thresholds()),
        how=draw(st.sampled_from(strategies.ROW_KINDS)),
        weighted=draw(st.booleans()),
        masked=draw(st.booleans()),
        ddof=draw(st.integers(0, 1)),
        n_classes=n_classes,
    )
    scored = columns > 0
    want = Wanted(
        ranges=draw(st.sampled_from(["none", "sums", "variance"])) if scored else "none",
        decisions=draw(st.booleans()),
        votes=draw(st.booleans()),
        planes=draw(st.booleans()),
        references=draw(st.booleans()),
        losses=tuple(draw(st.sets(st.sampled_from(LOSSES)))) if scored else (),
    )
    model_cuts = sorted({0, m, *draw(st.lists(st.integers(0, m), max_size=3))})
    sample_cuts = sorted({0, n, *(512 * g for g in draw(st.lists(st.integers(0, (n - 1) // 512), max_size=3)))})
    cuts = [steps_of(model_cuts, sample_cuts, draw(st.booleans()))]
    check_everywhere(p, want, cuts, draw(st.sampled_from(["c", "apart", "backwards"])))


@pytest.mark.parametrize("columns", [17, 32, 33, 100])
def test_scores_alone_in_pieces_of_eight_samples(columns: int) -> None:
    m, n = 3, 4096 + 24
    p = make_problem(columns, m, n, columns, "float32")
    want = Wanted("sums", False, False, False, False, LOSSES)
    cuts = [steps_of([0, 2, m], [0, 8, 64, 1000, 4104, n], False), steps_of([0, m], [0, 4088, n], True)]
    check_everywhere(p, want, cuts, "c")


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 3, 10, 33])
@pytest.mark.parametrize("ddof", [0, 1])
def test_identical_models_vary_by_exactly_nothing(columns: int, dtype: str, ddof: int) -> None:
    m, n = 300, 70
    p = make_problem(3, 1, n, columns, dtype, kind="proba", ddof=ddof)
    # The same memory for every model: a stride of 0.
    same = np.broadcast_to(p.scores, (m, *p.scores.shape[1:]))
    p = replace(p, scores=same)
    want = Wanted("variance", False, True, False, True, ())
    for out in on_each_isa(lambda: run_pass(p, want, [(0, m, 0, n)], same)):
        assert_array_equal(out["variance"], 0.0)
        assert_array_equal(out["lo"], out["hi"])
        assert set(np.unique(out["votes"])) <= {0, m}


def test_variance_with_ddof_1_of_one_model_is_undefined() -> None:
    p = make_problem(4, 1, 20, 3, "float32", ddof=1)
    for out in on_each_isa(lambda: run_pass(p, Wanted("variance", *4 * [False], ()), [(0, 1, 0, 20)], p.scores)):
        assert np.isnan(out["variance"]).all()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
@pytest.mark.parametrize("threshold", [None, 0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1 / 3, np.nextafter(0.5, 1), 1e-300])
def test_threshold_is_exact_in_every_precision(columns: int, dtype: str, threshold: float | None) -> None:
    n = 200
    near = np.array(0.5 if threshold is None else threshold).astype(dtype)
    zero, one = np.array([0, 1], dtype=dtype)
    p1 = np.array([near, np.nextafter(near, zero), np.nextafter(near, one), zero, one, -zero] * n)[:n]
    scores = p1[None] if columns == 1 else np.stack([1 - p1, p1], axis=-1)[None]
    base = make_problem(1, 1, n, columns, dtype, threshold=threshold, masked=False)
    p = replace(base, scores=np.ascontiguousarray(scores))
    check_everywhere(p, replace(EVERYTHING, decisions=False), [], "c")
    check_everywhere(p, EVERYTHING, [], "c")
    for out in on_each_isa(lambda: run_pass(p, EVERYTHING, [(0, 1, 0, n)], p.scores)):
        assert_array_equal(out["decisions"], naive.decide(p.scores, threshold))


# ----------------------------------------------------------------------------------------------------
# Against the oracle


@quick
@given(
    problem=strategies.score_problems(max_samples=130, max_classes=20, max_scores=4000, any_layout=False),
    kind=st.sampled_from(["proba", "log_proba", "logits"]),
    ddof=st.integers(0, 1),
)
def test_pass_agrees_with_the_oracle(problem: strategies.ScoreProblem, kind: str, ddof: int) -> None:
    scores = problem.scores
    binary = scores.ndim == 2
    if kind != "proba":
        scores = scores.astype(np.float64)
        if not binary:
            scores /= scores.sum(axis=-1, keepdims=True)
        with np.errstate(divide="ignore"):
            scores = np.minimum(np.log(scores), 0)
        if kind == "logits":
            scores = np.maximum(scores, -800)
    m, n = scores.shape[:2]
    target = problem.target_scores.astype(np.float64)
    if binary:
        target = np.stack([1 - target, target], axis=-1)
    w = problem.weights
    p = Problem(
        scores=scores,
        columns=1 if binary else problem.n_classes,
        n_classes=problem.n_classes,
        kind=kind,
        renormalize=False,
        threshold=None,
        references=np.stack([problem.y, problem.y]),
        keep=None,
        weights=None if w is None else w.astype(np.float64),
        y=problem.y.astype(np.int32),
        target=target,
        ddof=ddof,
    )
    want = replace(EVERYTHING, ranges="variance")
    probs = naive.probabilities(scores, kind)
    if kind == "proba":
        decisions = naive.decide(scores)
    else:  # rounding may tie probabilities whose logs differ
        decisions = naive.decide(naive.probabilities(scores, kind) if binary and kind == "log_proba" else scores)
        if binary and kind == "logits":
            decisions = (scores > 0).astype(np.int64)
    ranges, variance = naive.viable_prediction_range(probs), naive.score_variance(probs, ddof)
    if binary:
        ranges, variance = ranges[:, 1], variance[:, 1]
    total = n if w is None else float(np.sum(w, dtype=np.float64))
    losses = [
        naive.log_loss(probs, problem.y, w),
        naive.total_variation(probs, target[:, 1] if binary else target, w),
        naive.cross_entropy(probs, target[:, 1] if binary else target, w),
    ]
    for out in on_each_isa(lambda: run_pass(p, want, [(0, m, 0, n)], p.scores)):
        assert_array_equal(out["decisions"], decisions)
        votes = out["votes"].T if problem.n_classes <= 64 else out["votes"]
        assert_array_equal(votes, naive.votes(decisions, problem.n_classes))
        assert_array_equal(out["mismatches"][0], (decisions != problem.y).sum(axis=1))
        assert_array_equal(out["unions"][1], to_words(naive.ambiguous_samples(decisions, problem.y)[None])[0])
        if w is not None:
            wrong = out["mismatch_totals"][0].sum(axis=-1) / total
            assert_allclose(wrong, naive.zero_one_loss(decisions, problem.y, w), rtol=1e-12, atol=1e-15)
        if p.plain:
            assert_array_equal(out["lo"], ranges[..., 0])
            assert_array_equal(out["hi"], ranges[..., 1])
        assert_allclose(out["lo"], ranges[..., 0], rtol=1e-12)
        assert_allclose(out["hi"], ranges[..., 1], rtol=1e-12)
        assert_allclose(out["variance"], variance, rtol=1e-9, atol=1e-14)
        # 1 - p is exact to 1e-16 only, and close to 1 its logarithm says so.
        loose = 1e-6 if binary and kind != "proba" else 1e-11
        for got, expected in zip(out["loss_totals"], losses, strict=True):
            assert_allclose(got.sum(axis=-1) / total, expected, rtol=loose, atol=1e-13)


@quick
@given(
    seed=st.integers(0, 10**6),
    columns=st.sampled_from(SOME_COLUMNS[1:]),
    dtype=strategies.score_dtypes(),
    kind=st.sampled_from(["proba", "log_proba", "logits"]),
    renormalize=st.booleans(),
)
def test_probabilities_of_a_block_are_those_of_the_pass(
    seed: int, columns: int, dtype: str, kind: str, renormalize: bool
) -> None:
    p = make_problem(seed, 2, 11, columns, dtype, kind=kind, renormalize=renormalize)
    expected = Expected(p).probs.astype(np.float64).reshape(2, 11, columns)
    for got in on_each_isa(lambda: _encode.probabilities(p.scores, kind, renormalize)):
        assert_array_equal(got, expected)


# ----------------------------------------------------------------------------------------------------
# Bad values


@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_a_bad_value_anywhere_is_refused(data: st.DataObject, seed: int) -> None:
    draw = data.draw
    columns = draw(st.sampled_from(SOME_COLUMNS[1:]))
    m = draw(st.integers(1, 10))
    n = draw(strategies.sample_counts(max(1, min(2200, 60_000 // (m * columns)))))
    kind = draw(st.sampled_from(["proba", "proba", "log_proba", "logits"]))
    renormalize = draw(st.booleans())
    p = make_problem(seed, m, n, columns, draw(strategies.score_dtypes()), kind=kind, renormalize=renormalize)
    scores = p.scores.reshape(m, n, columns).copy()
    values = {"proba": [np.nan, np.inf, -np.inf, -1e-4], "log_proba": [np.nan, np.inf], "logits": [np.nan, np.inf]}
    value = draw(st.sampled_from(values[kind]))
    at = tuple(draw(st.integers(0, size - 1) | st.just(size - 1)) for size in scores.shape)
    scores[at] = value
    scores = scores.reshape(p.scores.shape)
    asked = draw(st.sampled_from(["ranges", "votes", "nothing"]))

    def run() -> bool:
        folded = np.float32 if p.single else np.float64
        shape = scores.shape[1:]
        ranges = {"lo": np.empty(shape, folded), "hi": np.empty(shape, folded), "variance": np.empty(shape)}
        votes = np.zeros((p.n_classes, n) if p.n_classes <= 64 else (n, p.n_classes), dtype=np.int32)
        tile = _scores.TilePass(
            n_samples=n,
            columns=columns,
            n_classes=p.n_classes,
            n_models=m,
            kind=kind,
            renormalize=renormalize,
            tolerance=p.tolerance,
            single=p.single,
            votes=votes if asked == "votes" else None,
            **(ranges if asked == "ranges" else {}),
        )
        return tile.update(scores, 0, 0)

    assert not any(on_each_isa(run))


@pytest.mark.parametrize(("n_classes", "dtype"), [(2, "int8"), (3, "uint8"), (300, "int32"), (300, "uint16")])
@pytest.mark.parametrize("at", [(0, 0), (8, 1500), (3, 767), (9, 768)])
def test_a_bad_label_is_refused(n_classes: int, dtype: str, at: tuple[int, int]) -> None:
    labels = np.zeros((10, 1501), dtype=dtype)
    labels[at] = n_classes

    def run() -> bool:
        votes = np.zeros((2, 1501) if n_classes == 2 else (1501, n_classes), dtype=np.int32)
        votes = np.zeros((n_classes, 1501), dtype=np.int32) if n_classes <= 64 else votes
        tile = _scores.TilePass(n_samples=1501, columns=0, n_classes=n_classes, n_models=10, kind="labels", votes=votes)
        return tile.update(labels, 0, 0)

    assert not any(on_each_isa(run))


@pytest.mark.parametrize("tolerance", [0.0, 1e-7, 0.4, 0.5, 0.999999, 1.0, 1.5, 1e9])
def test_any_tolerance_of_row_sums(tolerance: float) -> None:
    # Text with no decimals allows sums off by 1 for two classes.
    n = 130
    for p1 in (0.0, 0.25, 0.5, 1.0):
        scores = np.full((1, n, 2), p1, dtype=np.float32)

        def run(scores: Array = scores) -> bool:
            lo, hi = np.empty((2, n, 2), dtype=np.float32)
            tile = _scores.TilePass(
                n_samples=n,
                columns=2,
                n_classes=2,
                n_models=1,
                tolerance=tolerance,
                lo=lo,
                hi=hi,
                variance=np.empty((n, 2)),
            )
            return tile.update(scores, 0, 0)

        assert set(on_each_isa(run)) == {abs(2 * p1 - 1) <= np.float32(tolerance)}


def test_ranges_in_blocks_of_models_need_somewhere_to_keep_sums() -> None:
    p = make_problem(1, 4, 20, 3, "float32")
    lo, hi = np.empty((2, 20, 3), dtype=np.float32)
    shape = {"n_samples": 20, "columns": 3, "n_classes": 3, "n_models": 4}
    with pytest.raises(ValueError, match="s1, s2 and shift"):
        _scores.TilePass(**shape, lo=lo, hi=hi)
    tile = _scores.TilePass(**shape, lo=lo, hi=hi, variance=np.empty((20, 3)))
    with pytest.raises(ValueError, match="s1, s2 and shift"):
        tile.update(p.scores[:2], 0, 0)
    with pytest.raises(ValueError, match="not contiguous"):
        _scores.TilePass(**shape, lo=lo[:, ::2], hi=hi, variance=np.empty((20, 3)))
