"""Public metrics of scores against the oracle, on every instruction set and under every limit.

Ranges are exact. Means of logarithms agree with the oracle (math.log, summed without rounding) to 1e-11 relative and
1e-11 absolute, which leaves room for sums of a few thousand terms of both signs; variances to 1e-12 absolute.
"""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, bits, everywhere, streamed

import rashomon_core as rc

Array = NDArray[Any]
few = settings(max_examples=12)
LOGS = {"rtol": 1e-11, "atol": 1e-11}
SQUARES = {"rtol": 1e-9, "atol": 1e-12}


def sizes(max_scores: int = 5000, binary: bool | None = None) -> st.SearchStrategy[strategies.ScoreProblem]:
    return strategies.score_problems(binary=binary, max_samples=600, max_scores=max_scores)


# ----------------------------------------------------------------------------------------------------
# Ranges and variances


@few
@given(problem=sizes())
def test_viable_prediction_range(isa: str, problem: strategies.ScoreProblem) -> None:
    ranges = everywhere(rc.viable_prediction_range, problem.scores)
    assert ranges.shape == (problem.scores.shape[1], problem.n_classes, 2)
    assert_array_equal(ranges, naive.viable_prediction_range(problem.scores))


@few
@given(problem=sizes(), ddof=st.integers(0, 2))
def test_score_variance(isa: str, problem: strategies.ScoreProblem, ddof: int) -> None:
    variance = everywhere(rc.score_variance, problem.scores, ddof=ddof)
    assert variance.dtype == np.float64
    expected = naive.score_variance(problem.scores, ddof)
    assert_allclose(variance, expected, **SQUARES)
    assert not (variance < 0).any()
    if problem.scores.ndim == 3:
        same = (problem.scores == problem.scores[:1]).all(axis=0) & ~np.isnan(expected)
        assert not variance[same].any()


@few
@given(logits=strategies.logit_tensors(max_samples=200, max_scores=4000))
def test_logits_are_softmaxed_in_double(isa: str, logits: Array) -> None:
    view = rc.Predictions.from_array(logits, kind="logits")
    p = naive.probabilities(logits, "logits")
    assert_allclose(rc.viable_prediction_range(view), naive.viable_prediction_range(p), rtol=1e-12, atol=1e-15)
    assert_allclose(rc.score_variance(view), naive.score_variance(p), **SQUARES)
    expected = rc.viable_prediction_range(streamed(logits, kind="logits"), memory=SMALL, threads=2)
    assert bits(rc.viable_prediction_range(view)) == bits(expected)


@few
@given(logs=strategies.log_proba_tensors(max_samples=200, max_scores=4000), data=st.data())
def test_log_probabilities(isa: str, logs: Array, data: st.DataObject) -> None:
    view = rc.Predictions.from_array(logs, kind="log_proba")
    p = naive.probabilities(logs, "log_proba")
    y = data.draw(strategies.label_vectors(p.shape[1], p.shape[2]))
    assert_allclose(rc.viable_prediction_range(view), naive.viable_prediction_range(p), rtol=1e-12, atol=1e-15)
    assert_allclose(rc.log_loss(view, y), naive.log_loss(p, y), **LOGS)


# ----------------------------------------------------------------------------------------------------
# Losses


@few
@given(problem=sizes())
def test_log_loss(isa: str, problem: strategies.ScoreProblem) -> None:
    p, y, w = problem.scores, problem.y, problem.weights
    assert_allclose(everywhere(rc.log_loss, p, y, sample_weight=w), naive.log_loss(p, y, w), **LOGS)


@few
@given(problem=sizes())
def test_distances_to_a_target(isa: str, problem: strategies.ScoreProblem) -> None:
    p, t, w = problem.scores, problem.target_scores, problem.weights
    tv = everywhere(rc.total_variation, p, t, sample_weight=w)
    assert_allclose(tv, naive.total_variation(p, t, w), **LOGS)
    ce = everywhere(rc.cross_entropy, p, t, sample_weight=w)
    assert_allclose(ce, naive.cross_entropy(p, t, w), **LOGS)
    kl = everywhere(rc.kl_divergence, p, t, sample_weight=w)
    assert_allclose(kl, naive.kl_divergence(p, t, w), **LOGS)


@few
@given(problem=sizes(max_scores=2500))
def test_a_target_of_labels_is_one_hot(isa: str, problem: strategies.ScoreProblem) -> None:
    p, y, w = problem.scores, problem.y, problem.weights
    one_hot = np.eye(problem.n_classes)[y.astype(np.int64)]
    assert_allclose(rc.cross_entropy(p, y, sample_weight=w), naive.log_loss(p, y, w), **LOGS)
    assert bits(rc.cross_entropy(p, y, sample_weight=w)) == bits(rc.cross_entropy(p, one_hot, sample_weight=w))
    expected = naive.total_variation(p if p.ndim == 3 else naive._rows(p), one_hot, w)
    assert_allclose(rc.total_variation(p, y, sample_weight=w), expected, **LOGS)


@few
@given(problem=sizes(binary=True), delta=st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 0.1]))
def test_delta_metrics(isa: str, problem: strategies.ScoreProblem, delta: float) -> None:
    p, r, w = problem.scores, problem.target_scores, problem.weights
    close = {"rel": 0, "abs": 1e-12 if w is not None else 0.0}
    both = np.stack([1 - p.astype(np.float64), p.astype(np.float64)], axis=-1)
    for scores in (p, both):
        value = everywhere(rc.delta_ambiguity, scores, r, delta, sample_weight=w)
        assert value == pytest.approx(naive.delta_ambiguity(p, r, delta, w), **close)
        value = everywhere(rc.delta_discrepancy, scores, r, delta, sample_weight=w)
        assert value == pytest.approx(naive.delta_discrepancy(p, r, delta, w), **close)


# ----------------------------------------------------------------------------------------------------
# Sizes and determinism


@pytest.mark.parametrize("n_classes", [2, 3, 40])
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_many_tiles_give_the_same_bits(isa: str, n_classes: int, dtype: str) -> None:
    # With 1 MB the tiles hold some of the models only, and the samples are two or three blocks.
    scores = strategies.make_scores(n_classes, 24, 9011 if n_classes < 10 else 4200, n_classes, "near", dtype)
    rng = np.random.default_rng(1)
    n = scores.shape[1]
    y, w, t = rng.integers(0, n_classes, n), rng.exponential(size=n), scores[3]
    ranges = everywhere(rc.viable_prediction_range, scores)
    assert_array_equal(ranges[..., 0], scores.min(axis=0))
    assert_array_equal(ranges[..., 1], scores.max(axis=0))
    wide = scores.astype(np.float64)
    assert_allclose(everywhere(rc.score_variance, scores), wide.var(axis=0), rtol=1e-7, atol=1e-16)
    own = -np.log(wide[:, np.arange(n), y])
    for weights in (None, w):
        losses = everywhere(rc.log_loss, scores, y, sample_weight=weights)
        assert_allclose(losses, np.average(own, axis=1, weights=weights), rtol=1e-11)
    tv = everywhere(rc.total_variation, scores, t, sample_weight=w)
    expected = 0.5 * np.average(np.abs(wide - wide[3]).sum(axis=2), axis=1, weights=w)
    assert_allclose(tv, expected, rtol=1e-11, atol=1e-15)


def test_all_instruction_sets_give_the_same_bits() -> None:
    scores = strategies.make_scores(4, 9, 5001, 7, "mixed", "float32")
    rng = np.random.default_rng(2)
    y, w, t = rng.integers(0, 7, 5001), rng.exponential(size=5001), scores[2].astype(np.float64)
    calls = [
        lambda: rc.viable_prediction_range(scores),
        lambda: rc.score_variance(scores, ddof=1),
        lambda: rc.log_loss(scores, y, sample_weight=w),
        lambda: rc.kl_divergence(scores, t, sample_weight=w),
        lambda: rc.total_variation(scores, t),
        lambda: rc.fidelity(rc.Predictions.from_array(scores), y, sample_weight=w),
    ]
    before = rc.isa_active()
    seen = []
    try:
        for name in rc.isa_available():
            rc.isa_select(name)
            seen.append([bits(call()) for call in calls])
    finally:
        rc.isa_select(before)
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_layouts_give_the_same_bits(layout: str, dtype: str) -> None:
    scores = strategies.make_scores(4, 5, 700, 3, "dirichlet", dtype)
    y, t = np.arange(700) % 3, strategies.make_scores(5, 1, 700, 3, "dirichlet", "float64")[0]
    held = strategies.apply_layout(scores, layout)
    for call in (
        rc.viable_prediction_range,
        rc.score_variance,
        lambda x: rc.log_loss(x, y),
        lambda x: rc.kl_divergence(x, t),
    ):
        assert bits(call(held)) == bits(call(scores))


def test_frames_and_tensors_are_arrays() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    scores = strategies.make_binary_scores(4, 3, 70, "uniform", "float32")
    y = np.arange(70) % 2
    expected = bits(rc.log_loss(scores, y))
    columns = {f"s{i}": scores[:, i] for i in range(70)}
    assert bits(rc.log_loss(pd.DataFrame(columns), pd.Series(y))) == expected
    assert bits(rc.log_loss(pl.DataFrame(columns), pl.Series(y))) == expected
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(scores).requires_grad_()
    assert bits(rc.log_loss(tensor, torch.from_numpy(y))) == expected
    assert bits(rc.score_variance(tensor)) == bits(rc.score_variance(scores))


# ----------------------------------------------------------------------------------------------------
# Ends


def test_one_model_and_one_sample(isa: str) -> None:
    p = np.array([[[0.25, 0.75]]])
    assert rc.viable_prediction_range(p).tolist() == [[[0.25, 0.25], [0.75, 0.75]]]
    assert rc.score_variance(p).tolist() == [[0.0, 0.0]]
    assert np.isnan(rc.score_variance(p, ddof=1)).all()
    assert rc.kl_divergence(p, p[0]).tolist() == [0.0]
    assert rc.total_variation(p, p[0]).tolist() == [0.0]
    with pytest.raises(rc.UsageError, match="ddof"):
        rc.score_variance(p, ddof=-1)


@few
@given(seed=strategies.seeds(), dtype=strategies.score_dtypes(), models=st.integers(2, 300))
def test_identical_models_have_exactly_no_variance(isa: str, seed: int, dtype: str, models: int) -> None:
    scores = strategies.make_scores(seed, models, 5, 4, "dirichlet", dtype, identical=True)
    for ddof in (0, 1):
        assert not rc.score_variance(scores, ddof=ddof).any()
    assert not rc.score_variance(scores[:, :, 1], ddof=1).any()
    ranges = rc.viable_prediction_range(scores)
    assert_array_equal(ranges[..., 0], ranges[..., 1])


def test_impossible_labels_are_infinitely_bad(isa: str) -> None:
    p = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
    assert rc.log_loss(p, [1, 0])[0] == np.inf
    assert rc.log_loss(p, [1, 0])[1] == pytest.approx(np.log(2))
    assert rc.log_loss(p, [1, 0], sample_weight=[0, 1])[0] == pytest.approx(np.log(2))  # and not 0 * inf
    t = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert rc.kl_divergence(p, t).tolist() == [np.inf, 0.0]
    assert rc.kl_divergence(p[1:], p[0]).tolist() == [0.5]  # 0 log 0 = 0


def test_bad_scores_are_named() -> None:
    good = np.full((2, 3, 2), 0.5)
    for value, what in ((np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (-0.1, "negative"), (0.7, "sums to")):
        bad = good.copy()
        bad[1, 2, 0] = value
        for call in (
            rc.viable_prediction_range,
            rc.score_variance,
            rc.decide,
            lambda x: rc.log_loss(x, [0, 1, 0]),
            lambda x: rc.delta_ambiguity(x, [0.5, 0.5, 0.5], 0.1),
            lambda x: rc.fidelity(rc.Predictions.from_array(x), [0, 1, 0]),
        ):
            with pytest.raises(rc.InvalidInputError, match=what) as caught:
                call(bad)
            assert "model 1, sample 2" in str(caught.value)
            assert "Fix:" in str(caught.value)


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3, 17])
def test_row_sums_at_the_tolerance(dtype: str, n_classes: int) -> None:
    """Whatever is refused is explained, and by the same rule everywhere."""
    allowed = strategies.ROW_TOLERANCE[dtype]
    rng = np.random.default_rng(n_classes)
    refused = 0
    for factor in 1 + allowed * np.concatenate([rng.uniform(0.9, 1.1, 30), -rng.uniform(0.9, 1.1, 30)]):
        row = (rng.dirichlet(np.ones(n_classes)) * factor).astype(dtype)
        total = np.sum(row.astype(np.float64))
        view = rc.Predictions.from_array(row[None, None])
        if abs(total - 1) <= allowed:
            view.validate()
            rc.decide(row[None, None])
        else:
            refused += 1
            with pytest.raises(rc.InvalidInputError, match="sums to"):
                view.validate()
            with pytest.raises(rc.InvalidInputError, match="sums to"):
                rc.decide(row[None, None])
    assert 0 < refused < 60


def test_renormalised_rows_are_divided_in_double(isa: str) -> None:
    raw = np.random.default_rng(0).exponential(size=(4, 50, 3)).astype(np.float32)
    view = rc.Predictions.from_array(raw, renormalize=True)
    p = raw.astype(np.float64) / raw.astype(np.float64).sum(axis=2, keepdims=True)
    y = np.arange(50) % 3
    assert_allclose(rc.viable_prediction_range(view), naive.viable_prediction_range(p), rtol=1e-14)
    assert_allclose(rc.log_loss(view, y), naive.log_loss(p, y), **LOGS)
    assert_allclose(rc.cross_entropy(view, view.take([1])), naive.cross_entropy(p, p[1]), **LOGS)


@pytest.mark.parametrize("kind", ["logits", "log_proba"])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_target_of_any_kind(isa: str, kind: Any, columns: int) -> None:
    rng = np.random.default_rng(columns)
    raw = rng.normal(size=(3, 40, columns))
    if kind == "log_proba":
        raw = np.log(rng.uniform(0.1, 0.9, (3, 40, 1)) if columns == 1 else rng.dirichlet(np.ones(3), (3, 40)))
    raw = raw[:, :, 0] if columns == 1 else raw
    view = rc.Predictions.from_array(raw, kind=kind)
    p = naive.probabilities(raw, kind)
    for call, oracle in ((rc.cross_entropy, naive.cross_entropy), (rc.total_variation, naive.total_variation)):
        assert_allclose(call(view, view.take([1])), oracle(p, p[1]), **LOGS)
    assert_allclose(rc.kl_divergence(view, view.take([1]))[1], 0, atol=1e-15)


def test_labels_are_no_scores() -> None:
    for call in (rc.viable_prediction_range, rc.score_variance, lambda x: rc.log_loss(x, [0, 1])):
        with pytest.raises(rc.InvalidInputError, match="floats"):
            call([[0, 1]])
        with pytest.raises(rc.InvalidInputError, match="labels"):
            call(rc.Predictions.from_array([[0, 1]]))
    with pytest.raises(rc.UsageError, match="two classes"):
        rc.delta_ambiguity(np.full((1, 1, 3), 1 / 3), [[0.2, 0.3, 0.5]], 0.1)
    for delta in (-0.1, np.nan):
        with pytest.raises(rc.UsageError, match="delta"):
            rc.delta_discrepancy(np.array([[0.5]]), [0.5], delta)


# ----------------------------------------------------------------------------------------------------
# Second opinions


@pytest.mark.parametrize("n_classes", [2, 3, 12])
@pytest.mark.parametrize("weighted", [False, True])
def test_sklearn_agrees_on_log_loss(isa: str, n_classes: int, weighted: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    scores = strategies.make_scores(n_classes, 4, 900, n_classes, "dirichlet", "float64")
    y = np.random.default_rng(3).integers(0, n_classes, 900)
    w = np.random.default_rng(4).exponential(size=900) if weighted else None
    expected = [sklearn.log_loss(y, p, labels=range(n_classes), sample_weight=w) for p in scores]
    assert_allclose(rc.log_loss(scores, y, sample_weight=w), expected, rtol=1e-11)


def test_scipy_agrees_on_divergence(isa: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    scores = strategies.make_scores(1, 4, 300, 5, "dirichlet", "float64")
    expected = stats.entropy(scores[[0]], scores, base=2, axis=2).mean(axis=1)
    assert_allclose(rc.kl_divergence(scores, scores[0]), expected, **LOGS)
