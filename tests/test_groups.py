"""rc.group_rates against the oracle and fairlearn: confusion counts, rates, gaps, groups of every sort."""

from __future__ import annotations

import warnings
from typing import Any

import naive
import naive_groups
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, bits, everywhere, streamed

import rashomon_core as rc
from rashomon_core.vectors import as_groups

Array = NDArray[Any]
few = settings(max_examples=12)
#: Sums of weights, all added and never subtracted: relative to the value itself.
CLOSE = {"rtol": 1e-12, "atol": 0}


def named(groups: Array) -> Array:
    """Empty text counts as missing, and missing="group" names it so."""
    return np.where(groups == "", "missing", groups) if groups.dtype.kind == "U" else groups


def problems(max_classes: int = 6) -> st.SearchStrategy[strategies.LabelProblem]:
    return strategies.label_problems(max_models=4, max_samples=300, max_classes=max_classes)


# ----------------------------------------------------------------------------------------------------
# Counts and rates


@few
@given(problem=problems())
def test_confusion_counts(isa: str, problem: strategies.LabelProblem) -> None:
    labels, y, groups, C = problem.labels, problem.y, problem.groups, problem.n_classes
    rates = everywhere(rc.group_rates, labels, y, groups, n_classes=C, missing="group")
    expected = naive_groups.group_confusion(labels, y, named(groups), C)
    assert rates.counts.dtype == np.int64
    assert_array_equal(rates.counts, expected)
    assert rates.n_classes == C
    assert len(rates.groups) == expected.shape[1]
    without = everywhere(rc.group_rates, labels, None, groups, n_classes=C, missing="group")
    assert_array_equal(without.counts[:, :, 0], expected.sum(axis=2))


@few
@given(problem=problems())
def test_rates(isa: str, problem: strategies.LabelProblem) -> None:
    labels, y, groups, C, w = problem.labels, problem.y, problem.groups, problem.n_classes, problem.weights
    rates = everywhere(rc.group_rates, labels, y, groups, n_classes=C, missing="group", sample_weight=w)
    for c in range(C):
        expected = naive_groups.group_rates(labels, y, named(groups), c, w)
        for name in naive_groups.RATES:
            ours = rates.rate(name, c)
            assert_allclose(ours, expected[name], **CLOSE)  # NaN in the same places
            assert np.nanmax(ours, initial=0) <= 1
    assert_allclose(rates.accuracy, naive_groups.group_accuracy(labels, y, named(groups), w), **CLOSE)
    selected = rc.group_rates(labels, None, groups, n_classes=C, missing="group", sample_weight=w, positive=C - 1)
    expected = naive_groups.group_rates(labels, None, named(groups), C - 1, w)["selection_rate"]
    assert_allclose(selected.selection_rate, expected, **CLOSE)


@few
@given(problem=problems(), skip=st.booleans())
def test_fairness_metrics(isa: str, problem: strategies.LabelProblem, skip: bool) -> None:
    labels, y, groups, C, w = problem.labels, problem.y, problem.groups, problem.n_classes, problem.weights
    positive = 0 if C > 2 else 1
    rates = rc.group_rates(labels, y, groups, n_classes=C, missing="group", sample_weight=w, positive=positive)
    for name in naive_groups.FAIRNESS:
        for form, oracle in (("difference", naive_groups.fairness_difference), ("ratio", naive_groups.fairness_ratio)):
            ours = getattr(rates, form)(name, skip_undefined=skip)
            expected = oracle(labels, y, named(groups), name, C, positive, skip, w)
            assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 7, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_tiles_and_cells(isa: str, n_classes: int, weighted: bool) -> None:
    """Masks for few cells, histograms for many; several blocks of samples; the same bits under every limit."""
    n = 9_011
    labels = strategies.make_labels(1, 13, n, n_classes, "near").astype(np.uint16)
    rng = np.random.default_rng(2)
    y, g = rng.integers(0, n_classes, n), rng.integers(0, 3, n)
    w = rng.exponential(size=n) if weighted else None
    got = everywhere(rc.group_rates, labels, y, g, sample_weight=w, n_classes=n_classes).counts
    expected = np.zeros(got.shape)
    for k in (0, 6, 12):
        np.add.at(expected[k], (g, y, labels[k]), 1.0 if w is None else w)
        assert_allclose(got[k], expected[k], **CLOSE)


def test_weights_of_all_magnitudes(isa: str) -> None:
    """A rest of 1e-6 beside 1e6 is kept, and an empty denominator stays empty."""
    labels, y, groups = [[1, 1, 0, 1]], [1, 0, 1, 1], [0, 0, 0, 1]
    rates = rc.group_rates(labels, y, groups, sample_weight=[1e6, 1e-6, 1e6, 0.1])
    assert rates.fpr.tolist()[0][0] == 1.0
    assert np.isnan(rates.fpr[0, 1])
    assert rates.ppv[0, 0] == 1e6 / (1e6 + 1e-6)
    rng = np.random.default_rng(0)
    for n in range(1, 80):  # sums in another order may differ by an ulp: never a denominator
        w, said = rng.exponential(size=n), rng.integers(0, 3, (2, n))
        rates = rc.group_rates(said, np.ones(n, int), np.zeros(n, int), sample_weight=w, n_classes=3)
        assert np.isnan(rates.rate("fpr", 1)).all()
        assert np.isnan(rates.rate("tnr", 1)).all()
        assert np.isnan(rates.rate("tpr", 0)).all()
        y = rng.integers(0, 3, n)
        rates = rc.group_rates(np.ones((2, n), int), y, np.zeros(n, int), sample_weight=w, n_classes=3)
        assert rates.rate("selection_rate", 1).tolist() == [[1.0], [1.0]]
        assert np.isnan(rates.rate("npv", 1)).all()


# ----------------------------------------------------------------------------------------------------
# Groups


def test_missing_groups_are_refused_or_a_group() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    labels, y = [[0, 1, 1]], [0, 1, 0]
    columns = [
        ["a", None, "b"],
        ["a", "", "b"],
        np.array(["a", "nan", "b"]),
        np.array([1.0, np.nan, 2.0]),
        np.array([1, None, 2], dtype=object),
        np.array(["2020-01-01", "NaT", "2021-01-01"], dtype="datetime64[D]"),
        pd.Series(["a", None, "b"]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series([1, pd.NA, 2], dtype="Int64"),
        pd.Series([True, pd.NA, False], dtype="boolean"),
        pl.Series(["a", None, "b"]),
        pl.Series([1, None, 2]),
    ]
    for column in columns:
        with pytest.raises(rc.InvalidInputError, match="missing value at sample 1") as caught:
            rc.group_rates(labels, y, column)
        assert "missing='group'" in str(caught.value)
        rates = rc.group_rates(labels, y, column, missing="group")
        assert len(rates.groups) == 3
        place = rates.groups.index("missing")
        assert rates.counts[0, place].tolist() == [[0, 0], [0, 1]]
    with pytest.raises(rc.UsageError, match="missing"):
        rc.group_rates(labels, y, [0, 1, 0], missing="drop")
    with pytest.raises(rc.InvalidInputError, match="sex has a missing value at sample 2"):
        rc.group_rates(labels, y, {"race": ["x", "y", "z"], "sex": ["f", "m", None]})


def test_groups_of_many_samples_are_coded_in_pieces() -> None:
    n = 3 * (1 << 16) + 77
    rng = np.random.default_rng(5)
    few_, many = rng.integers(-3, 4, n), rng.integers(0, 70_000, n)
    late = np.where(np.arange(n) < n - 5, 1.5, np.nan)  # groups that only the last piece has
    late[n - 1] = -2.0
    for column, width in ((few_, 1), (few_ > 0, 1), (many, 4), (many.astype(np.uint16), 2), (few_.astype(str), 1)):
        found = as_groups(column, n)
        values, codes = np.unique(column, return_inverse=True)
        if column.dtype.kind == "U":
            values = np.array(sorted(values.tolist()))
        assert found.names == tuple(str(v) for v in values.tolist())
        assert found.codes.dtype.itemsize == width
        assert_array_equal(found.codes, codes)
    found = as_groups(late, n, missing="group")
    assert found.names == ("-2", "1.5", "missing")
    assert_array_equal(found.codes, np.where(np.isnan(late), 2, late > 0))
    with pytest.raises(rc.InvalidInputError, match=f"missing value at sample {n - 5}"):
        as_groups(late, n)
    with pytest.raises(rc.InvalidInputError, match=f"missing value at sample {n - 5}"):
        as_groups(np.where(np.isnan(late), "", "x"), n)
    crossed = as_groups({"a": few_, "b": few_ % 2 == 0}, n)
    pairs, codes = np.unique(few_ * 2 + (few_ % 2 == 0), return_inverse=True)
    assert len(crossed.names) == len(pairs) == 7
    assert_array_equal(crossed.codes, codes)


def test_names_of_groups() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")

    def names(groups: object) -> tuple[str, ...]:
        return rc.group_rates([[0, 1, 1]], None, groups).groups

    assert names([10, -2, 9]) == ("-2", "9", "10")
    assert names(np.array([10, -2, 9], dtype=object)) == names(np.array([10, -2, 9])) == ("-2", "9", "10")
    assert names([10.0, 0.5, 9.0]) == ("0.5", "9", "10")
    assert names([True, False, True]) == ("False", "True")
    assert names(["b", "a", "b"]) == ("a", "b")
    assert names(np.array([0.1, 2.0, 0.1])) == ("0.1", "2")
    assert names(np.array([0.1, 2.0, 0.1], dtype=np.float32)) == ("0.1", "2")
    assert names(np.array([1234567.0, 1234568.0, 1e300])) == ("1234567", "1234568", "1e+300")  # %g made one of two
    crossed = ("sex=f, race=1", "sex=m, race=1", "sex=m, race=2")
    table = {"sex": ["m", "f", "m"], "race": [1, 1, 2]}
    assert names(table) == names(pd.DataFrame(table)) == names(pl.DataFrame(table)) == crossed
    assert names(np.array([["m", "1"], ["f", "1"], ["m", "2"]])) == ("g0=f, g1=1", "g0=m, g1=1", "g0=m, g1=2")
    assert names([("m", 1), ("f", 1), ("m", 2)]) == ("g0=f, g1=1", "g0=m, g1=1", "g0=m, g1=2")
    assert names(np.array([[3], [1], [3]])) == ("1", "3")
    assert names(pd.Series(["b", "a", "b"], dtype="category", name="sex")) == ("a", "b")


def test_intersections_are_the_combinations_that_occur(isa: str) -> None:
    rng = np.random.default_rng(3)
    columns = np.stack([rng.integers(0, k, 2000) for k in (2, 5, 9)], axis=1)
    columns[columns[:, 0] == 1, 1] = 0
    labels = strategies.make_labels(1, 5, 2000, 2, "near")
    rates = everywhere(rc.group_rates, labels, labels[0], columns)
    codes, found = naive_groups.group_codes(columns)
    assert rates.groups == tuple(f"g0={a}, g1={b}, g2={c}" for a, b, c in found)
    assert len(found) == 5 * 9 + 9
    one = rc.group_rates(labels, labels[0], [str(c).zfill(2) for c in codes])
    assert_array_equal(rates.counts, one.counts)
    one = rc.group_rates(labels, labels[0], codes)  # a list of numbers is in the order of numbers
    assert_array_equal(rates.counts, one.counts)


def test_many_groups(isa: str) -> None:
    rng = np.random.default_rng(3)
    groups, labels = rng.integers(0, 3000, 5000), strategies.make_labels(1, 3, 5000, 2, "near")
    got = rc.group_rates(labels, labels[1], groups).counts
    assert got.sum() == 15_000
    assert_array_equal(got.sum(axis=(2, 3))[0], np.unique(groups, return_counts=True)[1])


def test_what_groups_are_not() -> None:
    labels, y = [[0, 1, 1]], [0, 1, 0]
    for bad in (np.zeros((3, 0)), {}, "abc", np.zeros((3, 1, 1)), [0, 1], {"sex": [0, 1]}):
        with pytest.raises(rc.InvalidInputError):
            rc.group_rates(labels, y, bad)


# ----------------------------------------------------------------------------------------------------
# Classes and kinds


def test_stated_classes_are_kept_to() -> None:
    with pytest.raises(rc.InvalidInputError, match="model 0, sample 1: value 2"):
        rc.group_rates([[0, 2]], [0, 1], [0, 0], n_classes=2)
    with pytest.raises(rc.InvalidInputError, match="y outside"):
        rc.group_rates([[0, 1]], [0, 2], [0, 0], n_classes=2)
    with pytest.raises(rc.InvalidInputError, match="3 classes were stated"):
        rc.group_rates(rc.Predictions.from_array(np.array([[0.5, 0.1]])), [0, 1], [0, 0], n_classes=3)
    with pytest.raises(rc.UsageError, match="positive=2"):
        rc.group_rates([[0, 1]], [0, 1], [0, 0], positive=2)
    rates = rc.group_rates([[0, 1]], [0, 4], [0, 0])
    assert rates.n_classes == 5
    for cls in (5, -1):
        with pytest.raises(rc.UsageError, match="class"):
            rates.rate("tpr", cls)
    with pytest.raises(rc.UsageError, match="rate"):
        rates.rate("recall")
    with pytest.raises(rc.UsageError, match="fairness metric"):
        rates.difference("parity")
    with pytest.raises(AttributeError):
        _ = rates.recall


def test_labels_are_needed_for_all_but_selection() -> None:
    rates = rc.group_rates([[0, 1]], None, [0, 1])
    assert rates.selection_rate.tolist() == [[0.0, 1.0]]
    assert rates.difference("demographic_parity").tolist() == [1.0]
    for name in ("tpr", "accuracy"):
        with pytest.raises(rc.UsageError, match="true labels"):
            rates.rate(name)
    assert list(rates.to_dataframe().columns) == ["selection_rate"]


def test_tables_too_large_for_the_budget_are_refused() -> None:
    labels = np.array([[0, 65_535]])
    with pytest.raises(rc.UsageError, match="GB"):
        rc.group_rates(labels, [0, 65_535], [0, 0], memory="2GB")
    rates = rc.group_rates(labels, None, [0, 1], positive=65_535)
    assert rates.counts.shape == (1, 2, 1, 65_536)
    assert rates.selection_rate.tolist() == [[0.0, 1.0]]


def test_scores_are_decided(isa: str) -> None:
    scores = strategies.make_scores(1, 4, 700, 3, "mixed", "float32")
    y, g = np.arange(700) % 3, np.arange(700) % 4
    expected = bits(rc.group_rates(naive.decide(scores), y, g, n_classes=3))
    for view in (rc.Predictions.from_array(scores), streamed(scores)):
        assert bits(rc.group_rates(view, y, g, memory=SMALL, threads=2)) == expected


def test_names_of_classes() -> None:
    view = rc.Predictions.from_array([[0, 1, 2]], class_names=["x", "y", "z"])
    assert bits(rc.group_rates(view, ["x", "z", "y"], [0, 0, 1])) == bits(rc.group_rates(view, [0, 2, 1], [0, 0, 1]))
    with pytest.raises(rc.InvalidInputError, match="unknown class at sample 1"):
        rc.group_rates(view, ["x", "q", "y"], [0, 0, 1])


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    labels, y, g = strategies.make_labels(1, 2, 50, 2, "uniform"), np.arange(50) % 2, np.arange(50) % 3
    got = rc.group_rates(*(torch.from_numpy(a) for a in (labels, y, g)))
    assert bits(got) == bits(rc.group_rates(labels, y, g))


def test_frame_of_rates() -> None:
    pytest.importorskip("pandas")
    rates = rc.group_rates([[1, 1, 0], [0, 1, 1]], [1, 0, 1], ["a", "a", "b"])
    frame = rates.to_dataframe()
    assert frame.loc[(0, "a"), "tpr"] == 1.0
    assert np.isnan(frame.loc[(1, "b"), "fpr"])
    assert frame.shape == (4, 8)


# ----------------------------------------------------------------------------------------------------
# Second opinion


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
def test_fairlearn_agrees_where_all_rates_are_defined(isa: str, weighted: bool, columns: int) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(columns)
    labels, y = rng.integers(0, 2, (2, 500)), rng.integers(0, 2, 500)
    groups = np.array(["a", "b", "c"])[rng.integers(0, 3, (500, columns))]
    w = rng.exponential(size=500) if weighted else None
    rates = rc.group_rates(labels, y, groups, sample_weight=w)
    by_rate = {
        "selection_rate": fairlearn.selection_rate,
        "tpr": fairlearn.true_positive_rate,
        "fpr": fairlearn.false_positive_rate,
        "tnr": fairlearn.true_negative_rate,
        "fnr": fairlearn.false_negative_rate,
        "ppv": sklearn.precision_score,
        "accuracy": sklearn.accuracy_score,
    }
    for k, row in enumerate(labels):
        options = {"sensitive_features": groups, "sample_weight": w}
        for name in ("demographic_parity", "equal_opportunity", "equalized_odds"):
            for form in ("difference", "ratio"):
                theirs = getattr(fairlearn, f"{name}_{form}")(y, row, **options)
                assert getattr(rates, form)(name)[k] == pytest.approx(theirs, rel=1e-12, abs=1e-15)
        params = {name: {"sample_weight": w} for name in by_rate}
        frame = fairlearn.MetricFrame(
            metrics=by_rate, y_true=y, y_pred=row, sensitive_features=groups, sample_params=params
        )
        for name in by_rate:
            assert_allclose(rates.rate(name)[k], frame.by_group[name].to_numpy(dtype=float), rtol=1e-12)
        for name, rate in (("predictive_equality", "fpr"), ("predictive_parity", "ppv"), ("accuracy", "accuracy")):
            assert rates.difference(name)[k] == pytest.approx(frame.difference()[rate], rel=1e-12)
            assert rates.ratio(name)[k] == pytest.approx(frame.ratio()[rate], rel=1e-12)


def test_fairlearn_says_0_where_a_rate_is_undefined() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    # Nobody of group b is positive, nobody of group a is chosen.
    labels, y, groups = [[0, 0, 1, 0]], [1, 1, 0, 0], ["a", "a", "b", "b"]
    rates = rc.group_rates(labels, y, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = fairlearn.MetricFrame(
            metrics=fairlearn.true_positive_rate, y_true=y, y_pred=labels[0], sensitive_features=groups
        )
        theirs = fairlearn.equal_opportunity_difference(y, labels[0], sensitive_features=groups)
    assert frame.by_group.tolist() == [0.0, 0.0]
    assert theirs == 0.0
    assert_array_equal(rates.tpr, [[0.0, np.nan]])
    assert_array_equal(rates.ppv, [[np.nan, 0.0]])
    assert np.isnan(rates.difference("equal_opportunity")).all()
    assert np.isnan(rates.difference("equalized_odds")).all()
    assert rates.difference("equal_opportunity", skip_undefined=True).tolist() == [0.0]
    assert rates.undefined_groups("equal_opportunity") == ("b",)
    assert rates.undefined_groups("demographic_parity") == ()


def test_ratio_of_nothing_to_nothing_is_nan() -> None:
    groups = ["a", "a", "b", "b"]
    assert np.isnan(rc.group_rates([[0, 0, 0, 0]], None, groups).ratio("demographic_parity")).all()
    assert rc.group_rates([[0, 0, 0, 1]], None, groups).ratio("demographic_parity").tolist() == [0.0]
    assert rc.group_rates([[1, 0, 1, 1]], None, groups).ratio("demographic_parity").tolist() == [0.5]


def test_sklearn_agrees_on_multi_class_counts(isa: str) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, y, groups = rng.integers(0, 5, (3, 900)), rng.integers(0, 5, 900), rng.integers(0, 3, 900)
    rates = rc.group_rates(labels, y, groups)
    for k in range(3):
        for g in range(3):
            inside = groups == g
            expected = sklearn.confusion_matrix(y[inside], labels[k][inside], labels=range(5))
            assert_array_equal(rates.counts[k, g], expected)
            recall = sklearn.recall_score(y[inside], labels[k][inside], average=None)
            assert_allclose([rates.rate("tpr", c)[k, g] for c in range(5)], recall, rtol=1e-12)
