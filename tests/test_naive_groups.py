"""The oracle of groups, held to closed forms, to fairlearn and to scikit-learn."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import naive
import naive_groups
import numpy as np
import pytest
import strategies
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from test_naive import quick, small_labels

small_binary = strategies.label_problems(max_models=5, max_samples=70, max_classes=2)


def test_group_codes() -> None:
    assert naive_groups.group_codes(["b", "a", "b"]) == ([1, 0, 1], [("a",), ("b",)])
    crossed = np.array([["f", "x"], ["m", "y"], ["f", "y"], ["f", "x"]])
    assert naive_groups.group_codes(crossed) == ([0, 2, 1, 0], [("f", "x"), ("f", "y"), ("m", "y")])


@quick
@given(small_labels)
def test_group_confusion_is_sklearns(problem: strategies.LabelProblem) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, y = problem.labels.astype(np.int64), problem.y.astype(np.int64)
    confusion = naive_groups.group_confusion(problem.labels, problem.y, problem.groups, problem.n_classes)
    codes, names = naive_groups.group_codes(problem.groups)
    for k, g in itertools.product(range(len(labels)), range(len(names))):
        inside = np.array(codes) == g
        theirs = metrics.confusion_matrix(y[inside], labels[k][inside], labels=range(problem.n_classes))
        assert_array_equal(confusion[k, g], theirs)
    assert confusion.sum() == labels.size


@quick
@given(small_labels)
def test_rates_are_the_quotients_of_the_confusion_counts(problem: strategies.LabelProblem) -> None:
    confusion = naive_groups.group_confusion(problem.labels, problem.y, problem.groups, problem.n_classes)
    with np.errstate(invalid="ignore"):
        for c in range(problem.n_classes):
            rates = naive_groups.group_rates(problem.labels, problem.y, problem.groups, positive=c)
            everyone, tp = confusion.sum(axis=(2, 3)), confusion[:, :, c, c]
            true, called = confusion[:, :, c].sum(axis=2), confusion[:, :, :, c].sum(axis=2)
            tn = everyone - true - called + tp
            assert_array_equal(rates["selection_rate"], called / everyone)
            assert_array_equal(rates["tpr"], tp / true)
            assert_array_equal(rates["fnr"], (true - tp) / true)
            assert_array_equal(rates["fpr"], (called - tp) / (everyone - true))
            assert_array_equal(rates["tnr"], tn / (everyone - true))
            assert_array_equal(rates["ppv"], tp / called)
            assert_array_equal(rates["npv"], tn / (everyone - called))
            assert_array_equal(rates["accuracy"], (tp + tn) / everyone)
        right = np.trace(confusion, axis1=2, axis2=3)
        assert_array_equal(naive_groups.group_accuracy(problem.labels, problem.y, problem.groups), right / everyone)
    assert list(naive_groups.group_rates(problem.labels, None, problem.groups)) == ["selection_rate"]


@quick
@given(small_binary)
def test_integer_weights_are_repeated_samples(problem: strategies.LabelProblem) -> None:
    counts = np.random.default_rng(0).integers(0, 3, len(problem.y))
    counts[0] = 1
    labels, y, groups = (
        np.repeat(problem.labels, counts, axis=1),
        np.repeat(problem.y, counts),
        np.repeat(problem.groups, counts, axis=0),
    )
    weighted = naive_groups.group_rates(problem.labels, problem.y, problem.groups, w=counts)
    # A group that has only weight 0 is there, and undefined; in the repeated data it is not there.
    names, left = naive_groups.group_codes(problem.groups)[1], naive_groups.group_codes(groups)[1]
    kept = [g for g, name in enumerate(names) if name in left]
    for rate, values in naive_groups.group_rates(labels, y, groups).items():
        assert_array_equal(weighted[rate][:, kept], values)
        assert np.isnan(np.delete(weighted[rate], kept, axis=1)).all()
    assert naive.pairwise_ambiguity(problem.labels, counts) == naive.pairwise_ambiguity(labels)
    assert_array_equal(naive.zero_one_loss(problem.labels, problem.y, counts), naive.zero_one_loss(labels, y))


def fairness_problem(seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels of 4 models, y, groups and weights with every rate defined in every group."""
    rng = np.random.default_rng(seed)
    labels, y = rng.integers(0, classes, (4, 300)), rng.integers(0, classes, 300)
    return labels, y, np.array(["a", "b", "c"])[rng.integers(0, 3, 300)], rng.exponential(size=300)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_fairness_metrics_are_fairlearns(seed: int, weighted: bool) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, y, groups, weights = fairness_problem(seed)
    w = weights if weighted else None

    def frame(function: object, row: np.ndarray) -> Any:
        return fairlearn.MetricFrame(
            metrics=function,
            y_true=y,
            y_pred=row,
            sensitive_features=groups,
            sample_params={"sample_weight": w},
        )

    rates = naive_groups.group_rates(labels, y, groups, w=w)
    for k, row in enumerate(labels):
        options = {"sensitive_features": groups, "sample_weight": w}
        for name in ("demographic_parity", "equal_opportunity", "equalized_odds"):
            for form, function in [
                ("difference", naive_groups.fairness_difference),
                ("ratio", naive_groups.fairness_ratio),
            ]:
                theirs = getattr(fairlearn, f"{name}_{form}")(y, row, **options)
                assert_allclose(function(labels, y, groups, name, w=w)[k], theirs, rtol=1e-12)
        for name, rate, function in [
            ("predictive_equality", "fpr", fairlearn.false_positive_rate),
            ("predictive_parity", "ppv", sklearn.precision_score),
            ("accuracy", "accuracy", sklearn.accuracy_score),
        ]:
            theirs = frame(function, row)
            assert_allclose(rates[rate][k], theirs.by_group.to_numpy(), rtol=1e-12)
            ours = naive_groups.fairness_difference(labels, y, groups, name, w=w)[k]
            assert_allclose(ours, theirs.difference(), rtol=1e-12)
            ours = naive_groups.fairness_ratio(labels, y, groups, name, w=w)[k]
            assert_allclose(ours, theirs.ratio(), rtol=1e-12)
        for rate, function in [
            ("selection_rate", fairlearn.selection_rate),
            ("tpr", fairlearn.true_positive_rate),
            ("tnr", fairlearn.true_negative_rate),
            ("fnr", fairlearn.false_negative_rate),
        ]:
            assert_allclose(rates[rate][k], frame(function, row).by_group.to_numpy(), rtol=1e-12)
        gaps = np.ptp(rates["ppv"][k]), np.ptp(rates["npv"][k])
        ours = naive_groups.fairness_difference(labels, y, groups, "conditional_use_accuracy_equality", w=w)[k]
        assert ours == max(gaps)


def test_positive_class_may_be_zero() -> None:
    labels, y, groups, w = fairness_problem(7)
    flipped = naive_groups.group_rates(1 - labels, 1 - y, groups, positive=0, w=w)
    for rate, values in naive_groups.group_rates(labels, y, groups, w=w).items():
        assert_array_equal(flipped[rate], values)


def test_undefined_rates_are_nan_where_fairlearn_says_zero() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    # Nobody of group b is positive: its TPR has an empty denominator.
    labels, y, groups = [[1, 0, 1, 0]], [1, 1, 0, 0], ["a", "a", "b", "b"]
    rates = naive_groups.group_rates(labels, y, groups)
    assert rates["tpr"][0, 0] == 0.5
    assert math.isnan(rates["tpr"][0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = fairlearn.equal_opportunity_difference(y, labels[0], sensitive_features=groups)
    assert theirs == 0.5
    assert np.isnan(naive_groups.fairness_difference(labels, y, groups, "equal_opportunity")).all()
    assert np.isnan(naive_groups.fairness_difference(labels, y, groups, "equalized_odds")).all()
    skipped = naive_groups.fairness_difference(labels, y, groups, "equal_opportunity", skip_undefined=True)
    assert skipped.tolist() == [0]


def test_ratio_of_nothing_to_nothing_is_nan() -> None:
    groups = ["a", "a", "b", "b"]
    assert np.isnan(naive_groups.fairness_ratio([[0, 0, 0, 0]], None, groups, "demographic_parity")).all()
    assert naive_groups.fairness_ratio([[0, 0, 0, 1]], None, groups, "demographic_parity").tolist() == [0]
    assert naive_groups.fairness_ratio([[1, 0, 1, 1]], None, groups, "demographic_parity").tolist() == [0.5]
    assert naive_groups.fairness_difference([[0, 0, 0, 0]], None, groups, "demographic_parity").tolist() == [0]


def test_gap_and_ratio_of_undefined_groups() -> None:
    assert math.isnan(naive_groups.gap([0.2, math.nan]))
    assert naive_groups.gap([0.25, math.nan, 0.75], skip_undefined=True) == 0.5
    assert naive_groups.ratio([0.25, math.nan, 0.5], skip_undefined=True) == 0.5
    assert math.isnan(naive_groups.gap([math.nan], skip_undefined=True))
    assert math.isnan(naive_groups.ratio([0.0, 0.0], skip_undefined=True))


def test_more_than_two_classes_take_the_worst_class() -> None:
    labels, y, groups, _ = fairness_problem(11, classes=4)
    for name in naive_groups.FAIRNESS.keys() - {"accuracy"}:
        one_vs_rest = [
            (
                naive_groups.fairness_difference(labels == c, y == c, groups, name),
                naive_groups.fairness_ratio(labels == c, y == c, groups, name),
            )
            for c in range(4)
        ]
        ours = naive_groups.fairness_difference(labels, y, groups, name, n_classes=4)
        assert_array_equal(ours, np.max([d for d, _ in one_vs_rest], axis=0))
        ours = naive_groups.fairness_ratio(labels, y, groups, name, n_classes=4)
        assert_array_equal(ours, np.min([r for _, r in one_vs_rest], axis=0))


def test_accuracy_of_more_than_two_classes_is_the_plain_one() -> None:
    labels, y, groups, w = fairness_problem(11, classes=4)
    rates = naive_groups.group_accuracy(labels, y, groups, w)
    ours = naive_groups.fairness_difference(labels, y, groups, "accuracy", n_classes=4, w=w)
    assert_array_equal(ours, rates.max(axis=1) - rates.min(axis=1))
    ours = naive_groups.fairness_ratio(labels, y, groups, "accuracy", n_classes=4, w=w)
    assert_array_equal(ours, rates.min(axis=1) / rates.max(axis=1))
