"""The streaming pass over scores: its values against the oracle, its bits against its definition (pass_oracle.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import on_each_isa, to_words
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pass_oracle import (
    EVERYTHING,
    LOSSES,
    Expected,
    Problem,
    Wanted,
    check_everywhere,
    make_problem,
    run_pass,
    steps_of,
)

from rashomon_core import _encode, _scores

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=40)
COLUMNS = (*range(34), 100, 300)  # 0: labels
EVERY_DTYPE = (0, 1, 2, 3, 4, 5, 8, 17, 33)
SOME_COLUMNS = (0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 10, 16, 17, 25, 32, 33, 49, 65, 100, 300)


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
