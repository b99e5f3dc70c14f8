"""A second opinion: fairlearn on random and on real data, to 1e-12, for every metric that both have.

Where a rate has no denominator fairlearn says 0 and this library says undefined; the last tests show both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import naive_groups
import numpy as np
import pytest
import strategies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
fairlearn = pytest.importorskip("fairlearn.metrics")
sklearn_metrics = pytest.importorskip("sklearn.metrics")


def _npv(y: Array, d: Array, sample_weight: Array | None = None) -> float:
    return float(sklearn_metrics.precision_score(1 - y, 1 - d, sample_weight=sample_weight, zero_division=0))


#: Rates by our name, as functions that fairlearn takes.
RATES: dict[str, Callable[..., float]] = {
    "selection_rate": fairlearn.selection_rate,
    "tpr": fairlearn.true_positive_rate,
    "fpr": fairlearn.false_positive_rate,
    "tnr": fairlearn.true_negative_rate,
    "fnr": fairlearn.false_negative_rate,
    "ppv": lambda y, d, sample_weight=None: float(
        sklearn_metrics.precision_score(y, d, sample_weight=sample_weight, zero_division=0)
    ),
    "npv": _npv,
    "accuracy": sklearn_metrics.accuracy_score,
}
#: Fairness metrics by our name, and fairlearn's named functions of a difference and a ratio.
NAMED = {
    "demographic_parity": ("demographic_parity_difference", "demographic_parity_ratio"),
    "equal_opportunity": ("equal_opportunity_difference", "equal_opportunity_ratio"),
    "equalized_odds": ("equalized_odds_difference", "equalized_odds_ratio"),
}
#: The same that fairlearn derives from one rate, under other names.
DERIVED = {
    "demographic_parity": "selection_rate",
    "equal_opportunity": "true_positive_rate",
    "predictive_equality": "false_positive_rate",
    "accuracy": "accuracy_score",
}


def agree(rates: rc.GroupRates, labels: Array, y: Array, groups: Array, w: Array | None, *, named: bool = True) -> int:
    """Hold rates and gaps of every model to fairlearn's where all are defined; return how many numbers were held.

    Its functions of one metric are slow: ``named`` calls them for the first model, its frame gives the same numbers.
    """
    held = 0
    options = {"sensitive_features": groups, "sample_weight": w}
    for k, d in enumerate(labels):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = fairlearn.MetricFrame(
                metrics=RATES,
                y_true=y,
                y_pred=d,
                sensitive_features=groups,
                sample_params={name: {"sample_weight": w} for name in RATES},
            )
            by_group, differences, ratios = frame.by_group, frame.difference(), frame.ratio()
            for name in RATES:
                ours = rates.rate(name)[k]
                theirs = by_group[name].to_numpy(dtype=float)
                defined = ~np.isnan(ours)
                assert_allclose(ours[defined], theirs[defined], **CLOSE)
                held += int(defined.sum())
            for metric, needed in naive_groups.FAIRNESS.items():
                if any(np.isnan(rates.rate(name)[k]).any() for name in needed):
                    assert np.isnan(rates.difference(metric)[k])
                    assert np.isnan(rates.ratio(metric)[k])
                    continue
                wanted = {"difference": max(differences[name] for name in needed)}
                if all(rates.rate(name)[k].max() > 0 for name in needed):  # 0/0 is undefined
                    wanted["ratio"] = min(ratios[name] for name in needed)
                else:
                    assert np.isnan(rates.ratio(metric)[k])
                for form, theirs in wanted.items():
                    ours = getattr(rates, form)(metric)[k]
                    assert_allclose(ours, theirs, **CLOSE)
                    if named and k == 0 and metric in NAMED:
                        function = getattr(fairlearn, NAMED[metric][form == "ratio"])
                        assert_allclose(ours, function(y, d, **options), **CLOSE)
                    if named and k == 0 and metric in DERIVED:
                        function = getattr(fairlearn, f"{DERIVED[metric]}_{form}")
                        assert_allclose(ours, function(y, d, **options), **CLOSE)
                    held += 1
    return held


def fairness_agrees(rates: rc.GroupRates, d: Array, y: Array, groups: Array, w: Array | None) -> None:
    """The set's extremes are those of fairlearn's numbers, model by model."""
    found = rc.fairness_over_set(rates)
    for metric, names in NAMED.items():
        for form, name in zip(("difference", "ratio"), names, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"sensitive_features": groups, "sample_weight": w}
                theirs = np.array([getattr(fairlearn, name)(y, row, **options) for row in d])
            ours = getattr(rates, form)(metric)
            if np.isnan(ours).any():
                continue
            entry = found[f"{metric}_{form}"]
            wanted = theirs.min(), np.median(theirs), theirs.max()
            assert_allclose([entry["min"], entry["median"], entry["max"]], wanted, **CLOSE)
            assert_allclose(theirs[int(entry["argmin"])], theirs.min(), **CLOSE)
            assert_allclose(theirs[int(entry["argmax"])], theirs.max(), **CLOSE)


@settings(max_examples=8)
@given(seed=strategies.seeds(), n=st.integers(8, 300), count=st.integers(2, 6), weighted=st.booleans())
def test_random_data(seed: int, n: int, count: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, y = rng.integers(0, 2, (2, n)), rng.integers(0, 2, n)
    groups = np.array(["a", "b", "c", "d", "e", "f"])[rng.integers(0, count, n)]
    w = rng.exponential(size=n) if weighted else None
    assume(len(set(groups.tolist())) > 1)
    rates = rc.group_rates(labels, y, groups, sample_weight=w)
    assert agree(rates, labels, y, groups, w) > 0


@settings(max_examples=4)
@given(seed=strategies.seeds(), weighted=st.booleans())
def test_crossed_columns(seed: int, weighted: bool) -> None:
    """Several sensitive features are fairlearn's intersections; one column of ours is its single feature."""
    rng = np.random.default_rng(seed)
    n = 400
    labels, y = rng.integers(0, 2, (2, n)), rng.integers(0, 2, n)
    columns = np.stack([np.array(["f", "m"])[rng.integers(0, 2, n)], np.array(["x", "y", "z"])[rng.integers(0, 3, n)]])
    w = rng.exponential(size=n) if weighted else None
    rates = rc.group_rates(labels, y, columns.T, sample_weight=w)
    assert agree(rates, labels, y, columns.T, w) > 0
    for j, name in enumerate(rates.columns):
        assert agree(rates.column(name), labels, y, columns[j], w, named=False) > 0


@pytest.fixture(scope="module")
def adult() -> tuple[Array, Array, Any]:
    """Decisions of two models, labels and protected columns of every fourth test row of Adult."""
    pytest.importorskip("pandas")
    from rashomon_core.datasets.local import load_local, local_data_dir

    if local_data_dir() is None:
        pytest.skip("no folder of local data files")
    try:
        data = load_local("adult")
    except rc.InvalidInputError as error:
        pytest.skip(f"no Adult data: {error}")
    from sklearn.tree import DecisionTreeClassifier

    X = data.X.select_dtypes("number").to_numpy(dtype=float)
    train, test = slice(0, 6000), slice(32_561, None, 4)
    models = [DecisionTreeClassifier(max_depth=depth, random_state=depth) for depth in (3, 8)]
    decisions = np.stack([model.fit(X[train], data.y[train]).predict(X[test]) for model in models])
    return decisions, data.y[test], data.groups.iloc[test]


@pytest.mark.parametrize("weighted", [False, True])
def test_adult(adult: tuple[Array, Array, Any], weighted: bool) -> None:
    labels, y, frame = adult
    w = np.random.default_rng(0).exponential(size=len(y)) if weighted else None
    names = list(frame.columns)
    assert {"sex", "race"} <= set(names)
    crossed = rc.group_rates(labels, y, frame[["sex", "race"]], sample_weight=w)
    assert crossed.columns == ("sex", "race")
    for name, kinds in (("sex", 2), ("race", 5)):
        column = frame[name].to_numpy(dtype=str)
        rates = rc.group_rates(labels, y, column, sample_weight=w)
        assert rates.groups == crossed.column(name).groups
        assert len(rates.groups) == kinds
        assert_allclose(crossed.column(name).counts, rates.counts, rtol=1e-12, atol=0)
        assert agree(rates, labels, y, column, w) >= 2 * (8 * kinds + 4)
    both = frame[["sex", "race"]].to_numpy(dtype=str)
    assert agree(crossed, labels, y, both, w, named=False) >= 2 * 8 * 8
    sex = frame["sex"].to_numpy(dtype=str)
    fairness_agrees(crossed.column("sex"), labels, y, sex, w)


@pytest.mark.parametrize("weighted", [False, True])
def test_empty_denominators_are_0_there_and_undefined_here(weighted: bool) -> None:
    """Nobody of c is truly positive; nobody of b is decided positive; a has both."""
    y = np.array([1, 0, 1, 1, 0, 0, 0])
    d = np.array([1, 1, 0, 0, 0, 1, 0])
    groups = np.array(["a", "a", "a", "b", "b", "c", "c"])
    w = np.arange(1.0, 8.0) if weighted else None
    rates = rc.group_rates([d], y, groups, sample_weight=w)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = fairlearn.MetricFrame(
            metrics=RATES,
            y_true=y,
            y_pred=d,
            sensitive_features=groups,
            sample_params={name: {"sample_weight": w} for name in RATES},
        ).by_group
        gap = fairlearn.equal_opportunity_difference(y, d, sensitive_features=groups, sample_weight=w)
    for name, group in (("tpr", "c"), ("fnr", "c"), ("ppv", "b")):
        assert frame.loc[group, name] == 0
        assert np.isnan(rates.rate(name)[0, rates.groups.index(group)])
    assert gap == rates.tpr[0, 0]  # the largest rate less a rate that nobody has
    assert np.isnan(rates.difference("equal_opportunity")).all()
    entry = rc.fairness_over_set(rates)["equal_opportunity_difference"]
    assert entry["median"] is None
    assert entry["reason"] == "a group's rate has an empty denominator in every model"
    assert entry["undefined_groups"] == ["c"]
    skipped = rc.fairness_over_set(rates, skip_undefined=True)["equal_opportunity_difference"]
    assert skipped["max"] == rates.tpr[0, 0] - rates.tpr[0, 1]
    assert skipped["undefined_groups"] == ["c"]
    assert agree(rates, d[None], y, groups, w) > 0
