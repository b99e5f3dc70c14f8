"""The oracle itself, held to closed forms, published figures and other libraries that compute the same."""

from __future__ import annotations

import ast
import itertools
import math
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

quick = settings(deadline=None, max_examples=30)
small_labels = strategies.label_problems(max_models=6, max_samples=70, max_classes=5)
small_scores = strategies.score_problems(max_models=5, max_samples=65, max_classes=6)


def weights_or_ones(w: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n) if w is None else w.astype(np.float64)


def class_rows(scores: np.ndarray, binary: bool) -> np.ndarray:
    """Rows over classes in float64; P(class 1) becomes (1 - p, p)."""
    wide = scores.astype(np.float64)
    return np.stack([1 - wide, wide], axis=-1) if binary else wide


@pytest.mark.parametrize("name", ["naive", "naive_groups"])
def test_oracle_imports_numpy_and_the_standard_library_only(name: str) -> None:
    tree = ast.parse(Path(naive.__file__).with_stem(name).read_text(encoding="utf-8"))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])
    assert modules - sys.stdlib_module_names - {"naive"} == {"numpy"}


# ----------------------------------------------------------------------------------------------------
# Shares and quantiles


def test_share_and_mean_by_hand() -> None:
    assert naive.share([True, False, True, True]) == 0.75
    assert naive.share([True, False, True], [1, 3, 0]) == 0.25
    assert naive.mean([1.0, 2.0, 6.0]) == 3.0
    assert naive.mean([1.0, 2.0, 6.0], [1, 1, 2]) == 3.75


def test_sample_of_weight_zero_takes_no_part_even_with_infinite_loss() -> None:
    assert naive.mean([1.0, math.inf], [2, 0]) == 1.0
    assert naive.mean([1.0, math.inf], [2, 1]) == math.inf


@quick
@given(st.data())
def test_weighted_quantile_is_numpys_inverted_cdf(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    values = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), dtype=float)
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    counts[data.draw(st.integers(0, n - 1))] += 1
    p = data.draw(st.sampled_from([0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]) | st.floats(0.01, 1))
    repeated = np.repeat(values, counts)
    assert naive.weighted_quantile(values, p, counts) == naive.weighted_quantile(repeated, p)
    assert naive.weighted_quantile(values, p, counts) == np.quantile(values, p, method="inverted_cdf", weights=counts)


def test_quantile_reaches_its_share_exactly() -> None:
    # 0.07 * 100 is 7.000000000000001: a rank rounded up from it would be the 8th value.
    assert naive.weighted_quantile(range(1, 101), 0.07) == 7
    assert [naive.weighted_quantile(range(1, 101), p) for p in (0, 0.5, 0.9, 0.95, 0.99, 1)] == [
        1,
        50,
        90,
        95,
        99,
        100,
    ]
    assert naive.weighted_quantile([5, 1, 3], 0, [1, 0, 1]) == 3
    assert naive.weighted_quantile([math.inf, 1.0, 2.0], 1.0) == math.inf


# ----------------------------------------------------------------------------------------------------
# Decisions


def test_decide_ties_and_thresholds() -> None:
    assert naive.decide([[[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.0, 0.0, 1.0]]]).tolist() == [[0, 1, 2]]
    assert naive.decide([[0.5, 0.5000001, 0.0, 1.0]]).tolist() == [[0, 1, 0, 1]]
    assert naive.decide([[0.5, 0.49, 0.0, 1.0]], threshold=0.5).tolist() == [[1, 0, 0, 1]]
    assert naive.decide([[[0.7, 0.3], [0.71, 0.29]]], threshold=0.3).tolist() == [[1, 0]]
    # float32(.7) is below the double .7: the comparison is in doubles.
    assert naive.decide(np.array([[0.7]], dtype=np.float32), threshold=0.7).tolist() == [[0]]
    assert naive.decide(np.array([[0.3]], dtype=np.float32), threshold=0.3).tolist() == [[1]]


@quick
@given(small_scores)
def test_decide_is_numpys_argmax(problem: strategies.ScoreProblem) -> None:
    scores = problem.scores
    expected = scores > 0.5 if scores.ndim == 2 else scores.argmax(axis=-1)
    assert_array_equal(naive.decide(scores), expected)


@quick
@given(strategies.logit_tensors(max_models=3, max_samples=20, max_classes=5))
def test_softmax_is_scipys(logits: np.ndarray) -> None:
    special = pytest.importorskip("scipy.special")
    wide, tiny = logits.astype(np.float64), sys.float_info.min  # scipy flushes subnormal numbers to 0
    assert_allclose(naive.softmax(logits), special.softmax(wide, axis=-1), rtol=1e-13, atol=tiny)
    assert_array_equal(naive.probabilities(logits, "logits"), naive.softmax(logits))
    log_odds = wide[..., 0]
    assert_allclose(naive.probabilities(log_odds, "logits"), special.expit(log_odds), rtol=1e-13, atol=tiny)


@quick
@given(strategies.log_proba_tensors(max_models=3, max_samples=20, max_classes=5))
def test_exp_of_logs_sums_to_one(logs: np.ndarray) -> None:
    probs = naive.probabilities(logs, "log_proba")
    assert_allclose(probs, np.exp(logs.astype(np.float64)), rtol=1e-15)
    assert np.abs(probs.sum(axis=-1) - 1).max() <= strategies.ROW_TOLERANCE[logs.dtype.name]


# ----------------------------------------------------------------------------------------------------
# From decisions


def test_decision_metrics_by_hand() -> None:
    labels = [[0, 1, 2, 0], [0, 1, 1, 1], [0, 2, 2, 1]]
    reference = [0, 1, 2, 2]
    assert naive.pairwise_disagreement_counts(labels).tolist() == [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    assert naive.pairwise_disagreement(labels, [1, 1, 0, 2])[0].tolist() == [0, 0.5, 0.75]
    assert naive.mean_pairwise_disagreement(labels) == 0.5
    assert naive.fidelity(labels, reference).tolist() == [0.75, 0.5, 0.5]
    assert naive.correct_fidelity(labels, reference, [0, 0, 2, 2]).tolist() == [0.5, 0.25, 0.5]
    assert naive.zero_one_loss(labels, reference).tolist() == [0.25, 0.5, 0.5]
    assert naive.ambiguous_samples(labels, reference).tolist() == [False, True, True, True]
    assert naive.ambiguity(labels, reference) == 0.75
    assert naive.ambiguity(labels, reference, [6, 1, 0, 1]) == 0.25
    assert naive.pairwise_ambiguity(labels) == 0.75
    assert naive.discrepancy(labels, reference) == 0.5
    assert naive.pairwise_discrepancy(labels) == 0.5
    assert naive.votes(labels, 3).tolist() == [[3, 0, 0], [0, 2, 1], [0, 1, 2], [1, 2, 0]]
    assert naive.viable_decisions(labels).tolist() == [1, 2, 2, 2]
    assert_allclose(naive.disagreement_rate(labels), [0, 4 / 9, 4 / 9, 4 / 9])
    assert_allclose(naive.self_consistency(labels), [1, 1 / 3, 1 / 3, 1 / 3])


@quick
@given(small_labels)
def test_pairwise_disagreement_is_scipys_hamming(problem: strategies.LabelProblem) -> None:
    distance = pytest.importorskip("scipy.spatial.distance")
    labels = problem.labels.astype(np.int64)
    n = labels.shape[1]
    assert_allclose(
        naive.pairwise_disagreement(labels, problem.weights),
        distance.cdist(labels, labels, "hamming", w=weights_or_ones(problem.weights, n)),
        rtol=1e-12,
        atol=1e-15,
    )
    counts = naive.pairwise_disagreement_counts(problem.labels)
    assert_array_equal(counts, np.rint(distance.cdist(labels, labels, "hamming") * n))
    assert_array_equal(counts / n, naive.pairwise_disagreement(problem.labels))


@quick
@given(small_labels)
def test_losses_are_sklearns(problem: strategies.LabelProblem) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    y, w = problem.y.astype(np.int64), problem.weights
    for row, loss, hit in zip(
        problem.labels.astype(np.int64),
        naive.zero_one_loss(problem.labels, problem.y, w),
        naive.fidelity(problem.labels, problem.y, w),
        strict=True,
    ):
        assert_allclose(loss, metrics.zero_one_loss(y, row, sample_weight=w), rtol=1e-12, atol=1e-15)
        assert_allclose(hit, metrics.accuracy_score(y, row, sample_weight=w), rtol=1e-12, atol=1e-15)


@quick
@given(small_labels)
def test_votes_and_disagreement_rate_are_the_formulas(problem: strategies.LabelProblem) -> None:
    labels = problem.labels
    models, samples = labels.shape
    v = naive.votes(labels, problem.n_classes)
    for i in range(samples):
        assert_array_equal(v[i], np.bincount(labels[:, i].astype(np.int64), minlength=problem.n_classes))
    with_replacement = 1 - ((v / models) ** 2).sum(axis=1)
    assert_allclose(naive.disagreement_rate(labels), with_replacement, atol=1e-14)
    assert_array_equal(naive.viable_decisions(labels), (v > 0).sum(axis=1))
    if models == 1:
        assert np.isnan(naive.disagreement_rate(labels, ddof=1)).all()
        assert np.isnan(naive.self_consistency(labels)).all()
    else:
        without = with_replacement * models / (models - 1)
        assert_allclose(naive.disagreement_rate(labels, ddof=1), without, atol=1e-14)
        assert_allclose(naive.self_consistency(labels), 1 - without, atol=1e-14)
        # Mean over samples of the rate = mean over pairs of the disagreement.
        assert_allclose(naive.mean_pairwise_disagreement(labels), without.mean(), atol=1e-14)


@quick
@given(small_labels)
def test_relations_between_decision_metrics(problem: strategies.LabelProblem) -> None:
    labels, r, w = problem.labels, problem.reference, problem.weights
    rounding = 1e-12
    matrix = naive.pairwise_disagreement(labels, w)
    assert_array_equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    for a, b, c in itertools.product(range(len(labels)), repeat=3):
        assert matrix[a, c] <= matrix[a, b] + matrix[b, c] + rounding
    ambiguity, pairwise = naive.ambiguity(labels, r, w), naive.pairwise_ambiguity(labels, w)
    assert pairwise <= ambiguity
    assert naive.pairwise_ambiguity(labels, w) == naive.ambiguity(labels, labels[0], w)
    discrepancy = naive.discrepancy(labels, r, w)
    assert discrepancy <= ambiguity
    assert naive.pairwise_discrepancy(labels, w) <= 2 * discrepancy + rounding
    # Adding a model never lowers them.
    assert naive.ambiguity(labels[:1], r, w) <= ambiguity
    assert naive.discrepancy(labels[:1], r, w) <= discrepancy
    assert (naive.correct_fidelity(labels, r, problem.y, w) <= naive.fidelity(labels, r, w)).all()


@pytest.mark.parametrize("models", [1, 2, 7])
def test_identical_models_are_zero_everywhere(models: int) -> None:
    labels = strategies.make_labels(3, models, 65, 5, "identical")
    assert naive.pairwise_ambiguity(labels) == naive.pairwise_discrepancy(labels) == 0
    assert naive.mean_pairwise_disagreement(labels) == 0
    assert not naive.pairwise_disagreement_counts(labels).any()
    assert not naive.disagreement_rate(labels).any()
    assert (naive.viable_decisions(labels) == 1).all()
    scores = strategies.make_scores(3, models, 65, 5, "dirichlet", "float64", identical=True)
    assert (np.ptp(naive.viable_prediction_range(scores), axis=-1) == 0).all()
    assert (naive.score_variance(scores) == 0).all()


def test_averages_of_class_indices_are_not_a_disagreement() -> None:
    # Published code takes 4 mu (1 - mu) with mu the mean class index.
    binary = np.array([[0], [1], [1], [0]])
    mu = binary.mean(axis=0)
    assert 4 * mu * (1 - mu) == 2 * naive.disagreement_rate(binary)
    shifted = binary + 1
    mu = shifted.mean(axis=0)
    assert 4 * mu * (1 - mu) == -3
    assert naive.disagreement_rate(shifted).tolist() == naive.disagreement_rate(binary).tolist() == [0.5]


@quick
@given(strategies.label_problems(max_models=6, max_samples=20, max_classes=4), st.data())
def test_size_matched_values_are_the_closed_forms(problem: strategies.LabelProblem, data: st.DataObject) -> None:
    labels, r, w = problem.labels, problem.reference, problem.weights
    models = len(labels)
    m = data.draw(st.integers(1, models))
    subsets = math.comb(models, m)
    differing = (labels.astype(np.int64) != r.astype(np.int64)).sum(axis=0)
    expected = [1 - math.comb(models - a, m) / subsets for a in differing.tolist()]
    assert_allclose(naive.size_matched_ambiguity(labels, r, m, w), np.average(expected, weights=w), atol=1e-12)
    v = naive.votes(labels, problem.n_classes).tolist()
    expected = [1 - sum(math.comb(count, m) for count in row) / subsets for row in v]
    assert_allclose(naive.size_matched_pairwise_ambiguity(labels, m, w), np.average(expected, weights=w), atol=1e-12)
    x = sorted(naive.fidelity(labels, r).tolist(), reverse=True)
    expected_max = sum(x[j] * math.comb(models - 1 - j, m - 1) / subsets for j in range(models))
    assert_allclose(naive.size_matched_max(x, m), expected_max, atol=1e-12)
    # All models are one subset.
    assert naive.size_matched_ambiguity(labels, r, models, w) == naive.ambiguity(labels, r, w)
    assert naive.size_matched_max(x, models) == max(x)


def test_size_matched_range() -> None:
    scores = np.array([[0.1], [0.4], [0.9]])
    # Pairs: .3, .8, .5.
    assert_allclose(naive.size_matched_range(scores, 2)[0], [1.6 / 3, 1.6 / 3])
    assert_allclose(naive.size_matched_range(scores, 3)[0], [0.8, 0.8])
    assert_allclose(naive.size_matched_range(scores, 1)[0], [0, 0], atol=1e-16)


# ----------------------------------------------------------------------------------------------------
# From scores


@quick
@given(small_scores)
def test_range_and_variance_are_numpys(problem: strategies.ScoreProblem) -> None:
    scores = class_rows(problem.scores, problem.scores.ndim == 2)
    result = naive.viable_prediction_range(problem.scores)
    assert_array_equal(result[..., 0], scores.min(axis=0))
    assert_array_equal(result[..., 1], scores.max(axis=0))
    assert_allclose(naive.score_variance(problem.scores), scores.var(axis=0), rtol=1e-9, atol=1e-30)
    if len(scores) > 1:
        unbiased = naive.score_variance(problem.scores, ddof=1)
        assert_allclose(unbiased, scores.var(axis=0, ddof=1), rtol=1e-9, atol=1e-30)
    else:
        assert np.isnan(naive.score_variance(problem.scores, ddof=1)).all()


def test_variance_of_a_thousand_identical_scores_is_exactly_zero() -> None:
    scores = np.full((1000, 1), 0.8)
    assert (naive.score_variance(scores) == 0).all()
    # The one-pass formula loses it.
    total, squares = sum(scores[:, 0]), sum(scores[:, 0] ** 2)
    assert squares / 1000 - (total / 1000) ** 2 != 0


@quick
@given(small_scores)
def test_losses_of_scores_are_scipys_terms(problem: strategies.ScoreProblem) -> None:
    special = pytest.importorskip("scipy.special")
    binary = problem.scores.ndim == 2
    model, target = class_rows(problem.scores, binary), class_rows(problem.target_scores, binary)
    samples = len(target)
    w = weights_or_ones(problem.weights, samples)
    # numpy's average makes NaN of 0 * inf.
    kept, w = w > 0, w[w > 0]
    of_label = model[:, np.arange(samples), problem.y.astype(np.int64)][:, kept]
    # rel_entr(t, s) = t log(t / s), entr(t) = -t log t; -log s of the label = rel_entr(1, s).
    log_losses = special.rel_entr(1.0, of_label)
    nats = special.rel_entr(target[None], model).sum(axis=-1)[:, kept]
    cross = nats + special.entr(target).sum(axis=-1)[kept]
    distances = 0.5 * np.abs(model - target).sum(axis=-1)[:, kept]
    for function, other, terms in [
        (naive.log_loss, problem.y, log_losses),
        (naive.kl_divergence, problem.target_scores, nats / math.log(2)),
        (naive.cross_entropy, problem.target_scores, cross),
        (naive.total_variation, problem.target_scores, distances),
    ]:
        ours = function(problem.scores, other, problem.weights)
        assert_allclose(ours, np.average(terms, axis=1, weights=w), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_and_cross_entropy_are_sklearns(classes: int, weighted: bool) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(classes)
    scores = strategies.make_scores(classes, 3, 200, classes, "dirichlet", "float64")
    target = strategies.make_scores(classes + 1, 1, 200, classes, "dirichlet", "float64")[0]
    y = rng.integers(0, classes, 200)
    w = rng.exponential(size=200) if weighted else None
    theirs = [metrics.log_loss(y, model, sample_weight=w, labels=range(classes)) for model in scores]
    assert_allclose(naive.log_loss(scores, y, w), theirs, rtol=1e-12)
    # Soft targets as C weighted rows (x, class j, weight t_j).
    rows_y = np.tile(np.arange(classes), 200)
    rows_w = (target * weights_or_ones(w, 200)[:, None]).ravel()
    theirs = [
        metrics.log_loss(rows_y, np.repeat(model, classes, axis=0), sample_weight=rows_w, labels=range(classes))
        for model in scores
    ]
    assert_allclose(naive.cross_entropy(scores, target, w), theirs, rtol=1e-12)
    # Against one-hot targets the cross-entropy is the log loss.
    assert_allclose(naive.cross_entropy(scores, np.eye(classes)[y], w), naive.log_loss(scores, y, w), rtol=1e-14)
    if classes == 2:
        assert_allclose(naive.log_loss(scores[..., 1], y, w), naive.log_loss(scores, y, w), rtol=1e-12)


def test_kl_by_hand_and_zero_rules() -> None:
    target, model = [[0.5, 0.5, 0.0]], [[[0.25, 0.5, 0.25]]]
    assert naive.kl_divergence(model, target).tolist() == [0.5]
    assert naive.total_variation(model, target).tolist() == [0.25]
    assert_allclose(naive.cross_entropy(model, target), [1.5 * math.log(2)])
    assert naive.kl_divergence([target], target).tolist() == [0]
    # The model says 0 where the target does not; the other way round is free.
    assert naive.kl_divergence([target], model[0]).tolist() == [math.inf]
    assert naive.cross_entropy([target], model[0]).tolist() == [math.inf]
    assert naive.total_variation([[[1.0, 0.0]]], [[0.0, 1.0]]).tolist() == [1]
    assert naive.log_loss([[[1.0, 0.0]], [[0.0, 1.0]]], [0]).tolist() == [0, math.inf]


def test_log_loss_is_a_mean_over_samples_and_not_of_batch_means() -> None:
    p = np.array([[0.9, 0.9, 0.9, 0.9, 0.1]])
    batches = [naive.log_loss(p[:, :4], [1] * 4)[0], naive.log_loss(p[:, 4:], [1])[0]]
    assert_allclose(naive.log_loss(p, [1] * 5)[0], -(4 * math.log(0.9) + math.log(0.1)) / 5, rtol=1e-14)
    assert np.mean(batches) > 2 * naive.log_loss(p, [1] * 5)[0]


def test_delta_metrics_count_the_boundary_in_both() -> None:
    scores, reference = [[0.5, 0.75, 0.25], [0.5, 0.5, 0.0]], [0.5, 0.5, 0.5]
    # Differences 0, .25, .25 and 0, 0, .5.
    assert naive.delta_ambiguity(scores, reference, 0.25) == 2 / 3
    assert naive.delta_discrepancy(scores, reference, 0.25) == 2 / 3
    assert naive.delta_ambiguity(scores, reference, 0.26) == 1 / 3
    assert naive.delta_discrepancy(scores, reference, 0.26) == 1 / 3
    assert naive.delta_ambiguity(scores, reference, 0.25, [2, 1, 1]) == 0.5
    assert naive.delta_ambiguity(scores, reference, 0) == naive.delta_discrepancy(scores, reference, 0) == 1


@quick
@given(strategies.label_problems(max_models=5, max_samples=65, n_classes=2))
def test_delta_metrics_of_decisions_are_ambiguity_and_discrepancy(problem: strategies.LabelProblem) -> None:
    labels, r, w = problem.labels, problem.reference, problem.weights
    scores, reference = labels.astype(np.float64), r.astype(np.float64)
    assert naive.delta_ambiguity(scores, reference, 1.0, w) == naive.ambiguity(labels, r, w)
    assert naive.delta_discrepancy(scores, reference, 0.5, w) == naive.discrepancy(labels, r, w)


# ----------------------------------------------------------------------------------------------------
# The set


@quick
@given(strategies.error_counts())
def test_count_valued_mask_is_exact_arithmetic(problem: strategies.ErrorCounts) -> None:
    from fractions import Fraction

    errors, n = problem.errors, problem.n
    mask = naive.rashomon_mask(errors, problem.epsilon, n=n)
    best = int(errors.min())
    for k, count in enumerate(errors.tolist()):
        excess, allowed = count - best, Fraction(problem.epsilon) * n
        # Within 1e-9 of the boundary a decimal epsilon means the boundary.
        assert mask[k] == (excess <= allowed + Fraction(1, 10**9)) or abs(excess - allowed) < Fraction(2, 10**9)
    assert mask[int(errors.argmin())]
    assert naive.rashomon_mask(errors, problem.epsilon, n=n, reference=int(errors.argmax())).all()


def test_exact_boundary_members_do_not_fall_to_rounding() -> None:
    lost_plain = lost_through_fidelity = boundary = 0
    for n in (30, 100, 391, 1000):
        for errors_ref, step in itertools.product(range(0, n // 3, 7), range(1, n // 10)):
            epsilon, errors = step / n, errors_ref + step
            boundary += 1
            assert naive.rashomon_mask([errors_ref, errors], epsilon, n=n).all()
            assert not naive.rashomon_mask([errors_ref, errors + 1], epsilon, n=n)[1]
            lost_plain += errors / n > errors_ref / n + epsilon
            lost_through_fidelity += 1 - (1 - errors / n) > 1 - (1 - errors_ref / n) + epsilon
            # Four ulp are enough for a loss that is a plain quotient.
            assert naive.rashomon_mask([errors_ref / n, errors / n], epsilon).all()
    assert 0 < lost_plain < lost_through_fidelity < boundary


def test_rashomon_mask_references() -> None:
    losses = [0.3, 0.1, 0.2, math.nan, math.inf]
    assert naive.rashomon_mask(losses, 0.1).tolist() == [False, True, True, False, False]
    assert naive.rashomon_mask(losses, 0.1, reference=2).tolist() == [True, True, True, False, False]
    assert naive.rashomon_mask(losses, 0.0, reference_loss=0.05).tolist() == [False] * 5
    assert naive.rashomon_mask(losses, 1.0, relative=True).tolist() == [False, True, True, False, False]
    assert naive.rashomon_mask(losses, 0.0, reference=4).tolist() == [True, True, True, False, True]
    assert naive.rashomon_mask([10, 11, 12], 0.1, relative=True, n=100).tolist() == [True, True, False]
    assert naive.rashomon_mask([10, 19, 21], 0.1, n=100).tolist() == [True, True, False]
    assert naive.rashomon_ratio([True, False, True, True]) == 0.75
    labels = [[0, 1], [0, 1], [1, 1], [0, 0]]
    assert naive.pattern_ratio(labels, [True, True, False, False]) == 1 / 3
    assert naive.pattern_ratio(labels, [False] * 4) == 0


@quick
@given(strategies.label_problems(max_models=5, max_samples=200, max_classes=3))
def test_paired_noise_is_the_standard_error_of_the_difference(problem: strategies.LabelProblem) -> None:
    labels, target = problem.labels.astype(np.int64), problem.target.astype(np.int64)
    n = len(target)
    wrong = (labels != target).astype(np.float64)
    expected = (wrong - wrong[0]).std(axis=1) / math.sqrt(n)
    assert_allclose(naive.paired_noise(problem.labels, problem.target, 0), expected, rtol=1e-9, atol=1e-12)
    f = naive.fidelity(problem.labels, problem.target)[0]
    assert_allclose(naive.unpaired_noise(f, n), wrong[0].std() / math.sqrt(n), rtol=1e-9, atol=1e-12)
