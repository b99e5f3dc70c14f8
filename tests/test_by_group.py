"""Multiplicity inside groups and fairness over a set, against the oracle; crossed columns; what is refused."""

from __future__ import annotations

import json
import math
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
from variants import SMALL, streamed

import rashomon_core as rc
from rashomon_core.group_results import MULTIPLICITY
from rashomon_core.metrics.by_group import sums_by_group
from rashomon_core.vectors import as_groups

Array = NDArray[Any]
few = settings(max_examples=12)
CLOSE = {"rtol": 1e-11, "atol": 1e-13}


def values_of(found: rc.GroupMultiplicity) -> list[bytes]:
    """Every bit of a result."""
    arrays = [found.sizes, found.share, *(found.value(name) for name in MULTIPLICITY), *found.counts.values()]
    return [np.asarray(x).tobytes() for x in arrays]


def plain(groups: Array) -> list[str]:
    """Names of the groups of one column, in order."""
    return [str(v) for v in np.unique(groups).tolist()]


# ----------------------------------------------------------------------------------------------------
# Multiplicity inside groups


@few
@given(
    problem=strategies.label_problems(max_models=5, max_samples=200, max_classes=5),
    ddof=st.sampled_from([0, 1]),
    referenced=st.booleans(),
)
def test_decisions_inside_groups(isa: str, problem: strategies.LabelProblem, ddof: int, referenced: bool) -> None:
    labels, w, g = problem.labels, problem.weights, problem.groups
    column = np.array(["/".join(map(str, row)) or "-" for row in (g if g.ndim == 2 else g[:, None]).tolist()])
    column = np.where(column == "", "-", column)
    reference = problem.reference if referenced else None
    view = rc.Predictions.from_array(labels, n_classes=problem.n_classes)
    found = rc.multiplicity_by_group(view, column, reference=reference, ddof=ddof, sample_weight=w)
    assert list(found.groups) == plain(column)
    samples = naive_groups.per_sample(labels, None, reference, ddof)
    for name in MULTIPLICITY:
        wanted = [naive_groups.mean_inside(samples.get(name), column, group, w) for group in found.groups]
        assert_allclose(found.value(name), wanted, **CLOSE)
        for form, over in (("difference", naive_groups.gap), ("ratio", naive_groups.ratio)):
            for skip in (False, True):
                ours = getattr(found, form)(name, skip_undefined=skip)
                assert_allclose(ours, over(wanted, skip), **CLOSE)
    assert_array_equal(found.sizes, [int((column == name).sum()) for name in found.groups])
    assert_allclose(found.share, [naive.share((column == name).tolist(), w) for name in found.groups], **CLOSE)
    json.dumps(found.to_dict(), allow_nan=False)


@few
@given(problem=strategies.score_problems(max_models=5, max_samples=200, max_classes=4))
def test_scores_inside_groups(isa: str, problem: Any) -> None:
    probs, w = problem.scores, problem.weights
    n = probs.shape[1]
    column = np.array(["a", "b", "c"])[np.arange(n) * 7 % 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rc.multiplicity_by_group(probs, column, sample_weight=w)
        bits = rc.rashomon_capacity(probs).bits
    samples = naive_groups.per_sample(naive.decide(probs), probs, None, 0) | {"rashomon_capacity": bits}
    for name in ("pairwise_ambiguity", "disagreement_rate", "viable_prediction_range", "rashomon_capacity"):
        wanted = [naive_groups.mean_inside(samples[name], column, group, w) for group in found.groups]
        assert_allclose(found.value(name), wanted, rtol=1e-9, atol=1e-12)
    assert np.isnan(found.ambiguity).all()
    assert "no reference" in found.to_dict()["groups"]["a"]["ambiguity"]["reason"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "binary", "classes"])
def test_same_bits_under_every_limit(isa: str, kind: str, weighted: bool) -> None:
    """Threads, budget, spilled arrays and ways of reading must not show."""
    n = 3 * 4096 + 71
    rng = np.random.default_rng(4)
    if kind == "labels":
        given_: Array = strategies.make_labels(1, 9, n, 3, "near").astype(np.uint8)
    elif kind == "binary":
        given_ = strategies.make_binary_scores(2, 9, n, "uniform", "float32")
    else:
        given_ = strategies.make_scores(3, 5, n, 3, "mixed", "float32")
    groups = {"a": rng.integers(0, 3, n), "b": rng.choice(["x", "y"], n)}
    options: dict[str, Any] = {
        "reference": rng.integers(0, 2, n),
        "sample_weight": rng.exponential(size=n) if weighted else None,
    }
    expected = values_of(rc.multiplicity_by_group(given_, groups, threads=1, **options))
    variants = [
        (given_, {"threads": 2}),
        (given_, {"threads": 2, "memory": SMALL}),
        (streamed(given_), {"threads": 1, "memory": SMALL}),
        (streamed(given_), {"threads": 2, "memory": 20_000_000}),
    ]
    for source, limits in variants:
        assert values_of(rc.multiplicity_by_group(source, groups, **limits, **options)) == expected
    texts = set()
    options["y"] = rng.integers(0, 2, n)
    for keep, limits in ((True, {"threads": 1}), (False, {"threads": 2, "memory": SMALL}), (False, {"threads": 1})):
        profile = rc.profile(given_, groups=groups, keep_arrays=keep, **limits, **options)
        found = profile.results()
        texts.add(json.dumps([found["groups"], found["fairness"]], allow_nan=False))
    assert len(texts) == 1
    whole = rc.multiplicity_by_group(given_, groups, threads=1, **options)
    assert found["groups"]["a x b"] == whole.to_dict()
    assert found["groups"]["a"] == whole.column("a").to_dict()


def test_sums_in_blocks(isa: str) -> None:
    """Few groups and many, over several pieces: within rounding of fsum, integers exactly."""
    n = 2 * (1 << 16) + 5001
    rng = np.random.default_rng(0)
    values, w = rng.exponential(size=n), rng.exponential(size=n)
    for count in (1, 3, 900, 50_000):
        groups = as_groups(rng.integers(0, count, n), n)
        found = sums_by_group(lambda rows: values[rows], groups, w)
        for g in range(0, len(groups.names), max(1, len(groups.names) // 5)):
            assert found[g] == pytest.approx(math.fsum((values * w)[groups.codes == g]), rel=1e-12)
        flags = sums_by_group(lambda rows: values[rows] > 1, groups)
        assert_array_equal(flags, np.bincount(groups.codes, weights=values > 1, minlength=len(groups.names)))


def test_means_of_groups_give_the_mean_of_all() -> None:
    rng = np.random.default_rng(1)
    scores, w = rng.dirichlet(np.ones(3), (6, 900)), rng.exponential(size=900)
    p = rc.profile(scores, target=rng.integers(0, 3, 900), groups=rng.integers(0, 5, 900), sample_weight=w)
    found = p.results()
    for name, key in MULTIPLICITY.items():
        inside = found["groups"]["groups"]["groups"].values()
        mean = math.fsum(entry["share"] * entry[name][key] for entry in inside)
        if name == "viable_prediction_range":
            widths = [c["mean"] for c in found[name]["classes"].values()]
            assert mean == pytest.approx(sum(widths) / 3, rel=1e-12)
        else:
            assert mean == pytest.approx(found[name][key], rel=1e-12)


def test_identical_models_bear_nothing(isa: str) -> None:
    row = np.random.default_rng(0).dirichlet(np.ones(3), 500).astype(np.float32)
    found = rc.multiplicity_by_group(np.stack([row] * 4), np.arange(500) % 3, reference=0)
    for name in MULTIPLICITY:
        assert found.value(name).tolist() == [0.0, 0.0, 0.0]
        gaps = found.to_dict()["gaps"][name]
        assert gaps["difference"] == 0
        assert gaps["ratio"] is None
        assert gaps["reason"] == "0 in every group: no ratio"


def test_one_model_and_empty_groups() -> None:
    labels, groups = np.array([[0, 1, 1, 0]]), ["a", "a", "b", "b"]
    found = rc.multiplicity_by_group(labels, groups, reference=[0, 0, 1, 1], ddof=1)
    assert found.ambiguity.tolist() == [0.5, 0.5]
    assert found.pairwise_ambiguity.tolist() == [0.0, 0.0]
    assert np.isnan(found.disagreement_rate).all()
    assert found.to_dict()["groups"]["a"]["disagreement_rate"]["reason"] == "one model and ddof=1"
    weighted = rc.multiplicity_by_group(labels, groups, sample_weight=[1, 2, 0, 0]).to_dict()
    entry = weighted["groups"]["b"]
    assert (entry["n"], entry["share"], entry["weight"]) == (2, 0.0, 0.0)
    assert entry["pairwise_ambiguity"] == {"value": None, "reason": "all sample weights are 0"}
    gaps = weighted["gaps"]["pairwise_ambiguity"]
    assert gaps["difference"] is None
    assert gaps["undefined_groups"] == ["b"]
    # a group that the evaluation split does not have
    p = rc.profile(
        np.array([[0, 1, 1, 0], [0, 1, 0, 1]]), target=[0, 1, 1, 0], groups=groups, epsilon=1.0,
        selection=[False, False, True, True],
    )  # fmt: skip
    entry = p.results()["groups"]["groups"]["groups"]["b"]
    assert entry["n"] == 0
    assert entry["ambiguity"] == {"value": None, "reason": "no samples"}
    assert p.results()["fairness"]["by_group"]["b"]["n"] == 0
    rate = p.results()["fairness"]["by_group"]["b"]["rates"]["selection_rate"]
    assert rate == {
        "target": None, "min": None, "median": None, "max": None, "undefined": 2, "reason": "no samples in the group",
    }  # fmt: skip


def test_frames_and_names() -> None:
    pytest.importorskip("pandas")
    found = rc.multiplicity_by_group([[0, 1, 1], [0, 0, 1]], ["a", "b", "b"], reference=0)
    frame = found.to_dataframe()
    assert frame.loc["b", "ambiguity"] == 0.5
    assert list(frame["n"]) == [1, 2]
    assert_array_equal(found.ambiguity, found.value("ambiguity"))
    with pytest.raises(rc.UsageError, match="'fidelity' is not one of ambiguity"):
        found.value("fidelity")
    with pytest.raises(AttributeError):
        _ = found.fidelity
    with pytest.raises(rc.UsageError, match="none: there is one column only"):
        found.column("sex")


def test_the_example_of_the_page() -> None:
    labels = [[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0]]
    found = rc.multiplicity_by_group(labels, ["1-3"] * 3 + ["4-6"] * 3, reference=[1, 1, 0, 0, 0, 0])
    assert found.ambiguity.tolist() == [1 / 3, 1.0]
    assert found.pairwise_ambiguity.tolist() == [1 / 3, 2 / 3]
    assert found.disagreement_rate == pytest.approx([4 / 27, 8 / 27], rel=1e-15)
    assert naive_groups.spread([0.5, 0.1, 0.4, 0.2]) == {
        "min": 0.1, "p5": 0.1, "p25": 0.1, "median": pytest.approx(0.3), "p75": 0.4, "p95": 0.5, "max": 0.5,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------
# Fairness over a set


@few
@given(problem=strategies.label_problems(max_models=7, max_samples=200, max_classes=4), skip=st.booleans())
def test_fairness_over_a_set(problem: strategies.LabelProblem, skip: bool) -> None:
    labels, y, C, w = problem.labels, problem.y, problem.n_classes, problem.weights
    column = np.arange(labels.shape[1]) % 3
    limits = {"demographic_parity_ratio": 0.8, "equalized_odds_difference": 0.1}
    options: dict[str, Any] = {"n_classes": C, "sample_weight": w}
    rates = rc.group_rates(labels, y, column, **options)
    target = rc.group_rates(problem.target[None], y, column, **options)
    ids = [f"m{k}" for k in range(len(labels))]
    found = rc.fairness_over_set(rates, target, limits, model_ids=ids, skip_undefined=skip)
    json.dumps(found, allow_nan=False)
    for metric in naive_groups.FAIRNESS:
        for form, oracle in (("difference", naive_groups.fairness_difference), ("ratio", naive_groups.fairness_ratio)):
            name = f"{metric}_{form}"
            entry = found[name]
            values = oracle(labels, y, column, metric, C, 1, skip, w)
            own = float(oracle(problem.target[None], y, column, metric, C, 1, skip, w)[0])
            defined = values[~np.isnan(values)]
            assert entry["undefined"] == len(values) - len(defined)
            assert entry["target"] == (None if math.isnan(own) else pytest.approx(own, abs=1e-12))
            assert (entry["pairs"]["target"] is None) == math.isnan(own)
            if not len(defined):
                assert entry["reason"]
                assert entry["argmin"] is entry["argmax"] is entry["p5"] is None
                continue
            wanted = naive_groups.spread(values)
            assert {key: entry[key] for key in wanted} == pytest.approx(wanted, abs=1e-12)
            assert values[ids.index(entry["argmin"])] == pytest.approx(defined.min(), abs=1e-12)
            assert values[ids.index(entry["argmax"])] == pytest.approx(defined.max(), abs=1e-12)
            if name in limits and min(abs(np.append(defined, own) - limits[name])) > 1e-9:
                shares = naive_groups.shares(values, own, limits[name], form)
                assert (entry["share_breaking"], entry["share_meeting"]) == shares


def test_who_is_behind_a_gap() -> None:
    # TPR: a 1, b 0.5, c 0.5; FPR: a 1, b 0, c 0. The FPR makes the larger gap; of b and c b comes first.
    y = np.array([1, 1, 0, 1, 1, 0, 1, 1, 0])
    d = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0])
    groups = list("aaabbbccc")
    rates = rc.group_rates([1 - d, d], y, groups)
    pair = rates.behind("equalized_odds", 1)
    assert pair == {
        "rate": "fpr",
        "class": None,
        "smallest": {"group": "b", "value": 0.0},
        "largest": {"group": "a", "value": 1.0},
    }
    twice = rc.group_rates([d, 1 - d, d], y, groups)
    found = rc.fairness_over_set(twice, rc.group_rates([d], y, groups), model_ids=["x", "y", "z"])
    entry = found["equalized_odds_difference"]
    assert (entry["argmin"], entry["argmax"]) == ("x", "x")  # the same gap: the first
    assert entry["pairs"]["argmin"] == pair
    entry = found["equal_opportunity_difference"]
    assert entry["pairs"]["argmax"]["smallest"] == {"group": "b", "value": 0.5}
    assert entry["pairs"]["target"]["largest"] == {"group": "a", "value": 1.0}
    # three classes: the class is named
    rates = rc.group_rates([[0, 0, 2, 2]], None, ["a", "a", "b", "b"], n_classes=3)
    assert rates.behind("demographic_parity")["class"] == 0  # type: ignore[index]
    assert rates.behind("demographic_parity", ratio=True) is None  # class 1: 0/0
    entry = rc.fairness_over_set(rates)["demographic_parity_ratio"]
    assert entry["reason"] == "0 in every group of every model: no ratio"


def test_crossed_columns_give_each_column(isa: str) -> None:
    rng = np.random.default_rng(3)
    n = 800
    labels, y = strategies.make_labels(1, 5, n, 2, "near"), rng.integers(0, 2, n)
    table = {"sex": rng.choice(["f", "m"], n), "age": rng.integers(0, 3, n) * 10, "old": rng.random(n) < 0.02}
    crossed = rc.group_rates(labels, y, table)
    assert crossed.columns == ("sex", "age", "old")
    assert len(crossed.groups) > 6
    for name, column in table.items():
        alone, own = rc.group_rates(labels, y, column), crossed.column(name)
        assert own.groups == alone.groups
        assert_array_equal(own.counts, alone.counts)
        assert_array_equal(own.sizes, alone.sizes)
    p = rc.profile(labels, y=y, groups=table, reference=0)
    found = p.results()
    assert list(found["fairness"]["by_column"]) == ["sex", "age", "old"]
    assert list(found["groups"]) == ["sex", "age", "old", "sex x age x old"]
    for name, column in table.items():
        one = rc.profile(labels, y=y, groups={name: column}, reference=0).results()
        assert found["fairness"]["by_column"][name] == one["fairness"]
        assert list(one["groups"]) == [name]
        for group, entry in one["groups"][name]["groups"].items():
            for metric, key in MULTIPLICITY.items():
                own = found["groups"][name]["groups"][group][metric]
                assert own.get("reason") == entry[metric].get("reason")
                assert own.get("count") == entry[metric].get("count")
                if "reason" not in own:
                    assert own[key] == pytest.approx(entry[metric][key], rel=1e-12)
    both = found["fairness"]
    assert both["by_group"]["sex=f, age=0, old=True"]["n"] == int(
        ((table["sex"] == "f") & (table["age"] == 0) & table["old"]).sum()
    )
    crossing = [
        f"sex={s}, age={a}, old={o}" for s, a, o in zip(*(table[c] for c in ("sex", "age", "old")), strict=True)
    ]
    one = rc.profile(labels, y=y, groups=crossing, reference=0).results()["fairness"]
    assert "by_column" not in one
    assert both["demographic_parity_difference"]["max"] == one["demographic_parity_difference"]["max"]


def test_small_cells_are_counted_and_undefined() -> None:
    """One person who is not truly positive: n = 1, no TPR, no gap of TPR unless it is left out."""
    labels = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 1, 1]])
    y, groups = np.array([1, 1, 1, 1, 0]), {"sex": ["f", "f", "m", "m", "m"], "old": [0, 0, 0, 0, 1]}
    found = rc.profile(labels, y=y, groups=groups).results()["fairness"]
    cell = found["by_group"]["sex=m, old=1"]
    assert cell["n"] == 1
    assert cell["rates"]["tpr"]["median"] is None
    assert cell["rates"]["tpr"]["reason"] == "no samples of the group are truly positive"
    assert cell["rates"]["fpr"] == {"target": None, "min": 0.0, "median": 0.5, "max": 1.0, "undefined": 0}
    gap = found["equal_opportunity_difference"]
    assert gap["median"] is None
    assert gap["undefined_groups"] == ["sex=m, old=1"]
    skipped = rc.profile(labels, y=y, groups=groups, skip_undefined=True).results()["fairness"]
    gap = skipped["equal_opportunity_difference"]
    assert (gap["min"], gap["max"], gap["undefined"]) == (0.5, 0.5, 0)
    assert gap["undefined_groups"] == ["sex=m, old=1"]
    assert gap["pairs"]["argmax"]["smallest"] == {"group": "sex=f, old=0", "value": 0.5}


# ----------------------------------------------------------------------------------------------------
# What is not what it should be


def test_groups_of_every_type() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    labels = [[0, 1, 1, 0], [0, 1, 1, 1]]
    for column in (
        ["b", "a", "a", "b"],
        [1, 0, 0, 1],
        [True, False, False, True],
        np.array([2.5, 1.5, 1.5, 2.5]),
        pd.Series(["b", "a", "a", "b"], dtype="category"),
        pd.Series(["b", "a", "a", "b"], dtype=pd.CategoricalDtype(["a", "never", "b"])),  # unused: no group
        pd.Series([True, False, False, True], dtype="boolean"),
        pd.Series([1, 0, 0, 1], dtype="Int64"),
        pl.Series(["b", "a", "a", "b"]),
        pl.Series(["b", "a", "a", "b"], dtype=pl.Categorical),
        pl.Series([True, False, False, True]),
        pd.DataFrame({"sex": ["b", "a", "a", "b"]}),
        pl.DataFrame({"sex": ["b", "a", "a", "b"]}),
    ):
        found = rc.multiplicity_by_group(labels, column)
        assert len(found.groups) == 2
        assert found.sizes.tolist() == [2, 2]
        assert found.pairwise_ambiguity.tolist() == [0.0, 0.5]
        rates = rc.group_rates(labels, None, column)
        assert rates.groups == found.groups
        assert rates.selection_rate.tolist() == [[1.0, 0.0], [1.0, 0.5]]


def test_bad_groups_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    labels = [[0, 1, 1], [0, 0, 1]]
    twice = pd.DataFrame([["a", "x"], ["b", "y"], ["b", "y"]], columns=["sex", "sex"])
    for groups, message in (
        (["a", "b"], r"groups has shape \(2,\) for 3 samples"),
        ({"sex": ["a", "b"]}, r"sex has shape \(2,\) for 3 samples"),
        (["a", None, "b"], "missing value at sample 1"),
        ([], r"shape \(0,\) for 3 samples"),
        ({}, "no columns"),
        (twice, "sex has shape"),
        ({1: ["a", "b", "b"], "1": ["x", "y", "y"]}, "two columns of the groups are named '1'"),
        ({"a": ["x, b=y", "x", "x"], "b": ["z", "y, b=z", "z"]}, "two crossed groups of the groups are named"),
    ):
        for function in (rc.multiplicity_by_group, lambda d, g: rc.group_rates(d, None, g)):
            with pytest.raises(rc.InvalidInputError, match=message):
                function(labels, groups)
        with pytest.raises(rc.InvalidInputError, match=message):
            rc.profile(np.array(labels), groups=groups)
    with pytest.raises(rc.InvalidInputError, match=r"y outside 0\.\.1 at sample 2: value 7"):
        rc.group_rates(labels, [0, 1, 7], ["a", "b", "b"], n_classes=2)
    with pytest.raises(rc.InvalidInputError, match=r"y has shape \(2,\) for 3 samples"):
        rc.group_rates(labels, [0, 1], ["a", "b", "b"])
    with pytest.raises(rc.UsageError, match="needs groups"):
        rc.multiplicity_by_group(labels, None)
    with pytest.raises(rc.UsageError, match="ddof=2"):
        rc.multiplicity_by_group(labels, ["a", "b", "b"], ddof=2)
    with pytest.raises(rc.UsageError, match="threshold is for scores of two classes"):
        rc.multiplicity_by_group(labels, ["a", "b", "b"], threshold=0.3)
    with pytest.raises(rc.UsageError, match="needs a target"):
        rc.multiplicity_by_group(labels, ["a", "b", "b"], reference="target")


def test_one_group_is_said() -> None:
    labels = np.array([[0, 1, 1], [0, 0, 1]])
    with pytest.warns(UserWarning, match="all samples have the value 'f' in sex: gaps over one group say nothing"):
        p = rc.profile(labels, groups={"sex": ["f", "f", "f"]})
    assert p.warnings == ("all samples have the value 'f' in sex: gaps over one group say nothing",)
    assert p.results()["fairness"]["demographic_parity_difference"]["max"] == 0
    with pytest.warns(UserWarning, match="'x' in b"):
        rc.profile(labels, groups={"a": [0, 1, 1], "b": ["x", "x", "x"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc.profile(labels, groups={"sex": ["f", "f", "f"]}, metrics="fidelity")


def test_bad_sets_are_refused() -> None:
    groups = ["a", "a", "b"]
    rates = rc.group_rates([[0, 1, 1], [0, 0, 1]], [0, 1, 1], groups)
    one = rc.group_rates([[0, 1, 1]], [0, 1, 1], groups)
    with pytest.raises(rc.UsageError, match="3 model_ids for 2 models"):
        rc.fairness_over_set(rates, model_ids=["a", "b", "c"])
    with pytest.raises(rc.UsageError, match="rates of 2 models"):
        rc.fairness_over_set(rates, rates)
    with pytest.raises(rc.UsageError, match="in 3 groups"):
        rc.fairness_over_set(rates, rc.group_rates([[0, 1, 1]], [0, 1, 1], ["a", "b", "c"]))
    none = rc.GroupRates(rates.counts[:0], rates.groups, 1, True)
    with pytest.raises(rc.InvalidInputError, match="the set is empty"):
        rc.fairness_over_set(none)
    with pytest.raises(rc.UsageError, match="'race' is not one of the crossed columns"):
        rates.column("race")
    alone = rc.fairness_over_set(one)["demographic_parity_difference"]
    assert alone["min"] == alone["p5"] == alone["median"] == alone["p95"] == alone["max"] == 0.5
    assert alone["argmin"] == alone["argmax"] == "0"
    with pytest.warns(rc.SelectedOnEvaluationWarning):
        empty = rc.profile(
            np.array([[0, 1, 1], [0, 0, 1]]), groups=groups, loss=[-1.0, -2.0], epsilon=0.1, relative=True
        ).results()
    assert empty["set"]["status"] == "empty"
    assert empty["groups"] == empty["fairness"] == {"value": None, "reason": "the set is empty"}
