"""Bootstrap intervals: every replicate is the metric of the drawn samples, whatever threads and memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import naive
import naive_curves
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from variants import SMALL, streamed

import rashomon_core as rc
from rashomon_core import _encode, _sums
from rashomon_core.metrics.replicates import interval_of

Array = NDArray[Any]
few = settings(max_examples=8)
REPLICATES = 9
LEVEL = 0.6


def lookup(results: Mapping[str, Any], name: str) -> float:
    """Return a number of results by a name such as "fidelity.median"; NaN for null."""
    node: Any = results
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    node = node["value"] if isinstance(node, Mapping) else node
    return float("nan") if node is None else float(node)


def check(predictions: object, n: int, seed: int, weights: Array | None, **options: Any) -> rc.Bootstrap:
    """Compare every interval with profiles of the drawn samples; they take no part where they were not drawn."""
    options |= {"metrics": options.get("metrics", "all")}
    found = rc.bootstrap(
        predictions, replicates=REPLICATES, interval=LEVEL, seed=seed, sample_weight=weights, threads=1, **options
    )
    replicates: list[dict[str, Any] | None] = []
    for r in range(REPLICATES):
        w = naive_curves.drawn_counts(n, seed, r, REPLICATES) * (1.0 if weights is None else weights)
        drawn = rc.profile(predictions, sample_weight=w, threads=1, **options) if w.any() else None
        replicates.append(None if drawn is None else drawn.results())
    for name, interval in found.items():
        values = [float("nan") if drawn is None else lookup(drawn, name) for drawn in replicates]
        assert interval.replicates == REPLICATES
        assert interval.level == LEVEL
        if name.startswith("losses") and any(r and "infinite" in str(r["losses"]) for r in replicates):
            continue  # +inf is null in results: test_infinite_losses
        expected = naive_curves.percentile_interval(values, LEVEL)
        assert interval.undefined == sum(v != v for v in values), name
        if expected is None:
            assert (interval.low, interval.high) == (None, None)
            assert interval.reason is not None
        else:
            assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9, abs=1e-11), name
    return found


def everywhere(predictions: Array, **options: Any) -> None:
    """Threads, memory and ways of reading change nothing."""
    options = {"replicates": 40, **options}
    expected = repr(rc.bootstrap(predictions, threads=1, **options).to_dict())
    for source, limits in (
        (predictions, {"threads": 2}),
        (predictions, {"threads": 2, "memory": SMALL}),
        (streamed(predictions), {"threads": 1, "memory": SMALL}),
    ):
        assert repr(rc.bootstrap(source, **limits, **options).to_dict()) == expected, limits


# ----------------------------------------------------------------------------------------------------
# Against profiles of the drawn samples


@pytest.mark.filterwarnings("ignore:all samples have the value")  # draws of one group alone
@few
@given(problem=strategies.label_problems(max_samples=600, max_classes=6), seed=st.integers(0, 99))
def test_decisions_and_groups(isa: str, problem: strategies.LabelProblem, seed: int) -> None:
    labels = rc.Predictions.from_array(np.asarray(problem.labels), kind="labels", n_classes=problem.n_classes)
    found = check(
        labels,
        labels.n_samples,
        seed,
        None if problem.weights is None else problem.weights.astype(np.float64),
        target=problem.target,
        y=problem.y,
        groups=problem.groups,
        missing="group",
        reference=problem.reference,
    )
    expected = {"ambiguity", "discrepancy", "fidelity.median", "losses.zero_one.max", "losses.correct_fidelity.min"}
    assert expected | {"pairwise_ambiguity", "pairwise_disagreement.mean", "disagreement_rate.mean"} <= set(found)
    if labels.n_models > 1:
        assert found["pairwise_discrepancy"].value == found["pairwise_disagreement.max"].value
    assert {"fairness.equalized_odds_ratio.target", "fairness.accuracy_difference.p75"} <= set(found)
    assert {"disagreement_rate.p90", "disagreement_rate.max"} <= set(found)


@few
@given(
    scores=strategies.score_tensors(max_samples=200, max_classes=5, max_models=6, max_scores=3000),
    seed=st.integers(0, 99),
    weighted=st.booleans(),
)
def test_scores(isa: str, scores: Array, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    n, C = scores.shape[1:]
    target = rng.dirichlet(np.ones(C), n)
    found = check(
        scores,
        n,
        seed,
        rng.exponential(size=n) * (rng.random(n) < 0.9) + 1e-3 if weighted else None,
        target=target,
        y=rng.integers(0, C, n),
    )
    names = {"rashomon_capacity.mean", "rashomon_capacity.effective.mean", "viable_prediction_range.true_class.mean"}
    names |= {"rashomon_capacity.p50", "rashomon_capacity.effective.max", "viable_prediction_range.true_class.p99"}
    names |= {"losses.total_variation.max", "losses.kl_divergence.min", "losses.log_loss.median"}
    assert names | {f"score_variance.classes.{C - 1}.mean"} <= set(found)


@few
@given(scores=strategies.binary_scores(max_samples=200, max_models=5), seed=st.integers(0, 99))
def test_two_classes(isa: str, scores: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = scores.shape[1]
    found = check(scores, n, seed, None, target=rng.random(n), y=rng.integers(0, 2, n), threshold=0.25, ddof=1)
    assert {"viable_prediction_range.positive.mean", "viable_prediction_range.classes.0.mean"} <= set(found)


@pytest.mark.filterwarnings("ignore:all samples have the value")  # draws of one group alone
@few
@given(
    seed=st.integers(0, 99), classes=st.integers(2, 4), scores=st.booleans(), weighted=st.booleans(), skip=st.booleans()
)
def test_inside_groups_thresholds_and_sizes(
    isa: str, seed: int, classes: int, scores: bool, weighted: bool, skip: bool
) -> None:
    """Two crossed columns, a group that is called "interval", thresholds that replicates keep and break."""
    rng = np.random.default_rng(seed)
    n, M = 40, 5
    groups = {
        "sex": np.array(["interval", "intervals"])[rng.integers(0, 2, n)],
        "race": np.array(["value", "b", "c"])[rng.integers(0, 3, n)],
    }
    predictions = rng.dirichlet(np.ones(classes), (M, n)) if scores else rng.integers(0, classes, (M, n))
    found = check(
        predictions,
        n,
        seed,
        rng.exponential(size=n) if weighted else None,
        target=rng.integers(0, classes, n),
        y=rng.integers(0, classes, n),
        groups=groups,
        fairness_threshold={"demographic_parity_difference": 0.3, "accuracy_ratio": 0.6},
        skip_undefined=skip,
        size=3,
    )
    names = {"ambiguity.size_matched", "discrepancy.size_matched", "pairwise_ambiguity.size_matched"}
    names |= {"groups.sex.groups.interval.ambiguity", "groups.race.gaps.disagreement_rate.difference"}
    names |= {"groups.sex.groups.intervals.disagreement_rate.mean", "fairness.by_column.sex.accuracy_ratio.p5"}
    names |= {"fairness.demographic_parity_difference.share_breaking", "fairness.accuracy_ratio.share_meeting"}
    names |= {"fairness.by_column.race.by_group.value.rates.accuracy.median"}
    if scores:
        names |= {"groups.sex.groups.interval.rashomon_capacity.mean"}
    assert names <= set(found)


def test_members_are_not_chosen_again() -> None:
    rng = np.random.default_rng(2)
    target = rng.integers(0, 2, 300)
    labels = np.where(rng.random((12, 300)) < rng.uniform(0, 0.3, 12)[:, None], 1 - target, target)
    selection = np.arange(300) < 120
    options: dict[str, Any] = {"target": target, "epsilon": 0.1, "selection": selection}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rc.bootstrap(labels, replicates=50, **options)
    members, rest = found.profile.member_mask, ~selection
    assert members is not None
    assert 1 < members.sum() < 12
    same = rc.bootstrap(labels[members][:, rest], replicates=50, target=target[rest])
    for name in ("ambiguity", "discrepancy", "fidelity.median", "pairwise_disagreement.mean"):
        assert found[name] == same[name]


def test_the_same_bytes(isa: str) -> None:
    rng = np.random.default_rng(7)
    for weights in (None, rng.exponential(size=9000)):
        scores = rng.random((7, 9000)).astype(np.float32)
        options: dict[str, Any] = {
            "target": rng.random(9000),
            "y": rng.integers(0, 2, 9000),
            "groups": rng.integers(0, 3, 9000),
            "sample_weight": weights,
        }
        everywhere(scores, **options)
    labels = rng.integers(0, 5, (6, 9000))
    everywhere(labels, y=rng.integers(0, 5, 9000), groups=rng.integers(0, 3, 9000), reference=0)


def test_the_same_bytes_on_every_instruction_set() -> None:
    rng = np.random.default_rng(8)
    scores, y = rng.random((5, 5000)), rng.integers(0, 2, 5000)
    names = ["ambiguity", "discrepancy", "losses", "viable_prediction_range", "score_variance", "fidelity", "fairness"]
    options: dict[str, Any] = {"target": rng.random(5000), "y": y, "groups": y[::-1], "metrics": names}
    before, found = rc.isa_active(), []
    try:
        for name in rc.isa_available():
            rc.isa_select(name)
            found.append(repr(rc.bootstrap(scores, replicates=20, **options).to_dict()))
    finally:
        rc.isa_select(before)
    assert len(set(found)) == 1


def test_infinite_losses() -> None:
    scores = np.array([[[0.5, 0.5]] * 40, [[1.0, 0.0]] + [[0.5, 0.5]] * 39])
    y = np.ones(40, dtype=int)
    found = rc.bootstrap(scores, y=y, replicates=100, metrics=["losses"])
    drawn = [naive_curves.drawn_counts(40, 0, r, 100)[0] > 0 for r in range(100)]
    assert 0.4 < np.mean(drawn) < 0.9  # 1 - 1/e of the replicates hold the sample that loses everything
    least = found["losses.log_loss.min"]
    assert (least.value, least.low, least.high) == pytest.approx((np.log(2),) * 3, rel=1e-12)
    assert found["losses.log_loss.max"].low == pytest.approx(np.log(2))
    assert (found["losses.log_loss.max"].high, found["losses.log_loss.max"].reason) == (None, "infinite")
    assert found["losses.log_loss.max"].undefined == 0


def test_against_the_oracle() -> None:
    rng = np.random.default_rng(5)
    labels, reference = rng.integers(0, 3, (4, 50)), rng.integers(0, 3, 50)
    found = rc.bootstrap(labels, reference=reference, replicates=25, interval=0.9, seed=11)
    counts = [naive_curves.drawn_counts(50, 11, r, 25) for r in range(25)]
    oracle = {
        "ambiguity": lambda w: naive.ambiguity(labels, reference, w),
        "discrepancy": lambda w: naive.discrepancy(labels, reference, w),
        "pairwise_ambiguity": lambda w: naive.pairwise_ambiguity(labels, w),
        "pairwise_discrepancy": lambda w: naive.pairwise_discrepancy(labels, w),
        "pairwise_disagreement.mean": lambda w: naive.mean_pairwise_disagreement(labels, w),
    }
    for name, metric in oracle.items():
        expected = naive_curves.percentile_interval([metric(w) for w in counts], 0.9)
        assert (found[name].low, found[name].high) == pytest.approx(expected, abs=1e-12), name


def test_an_interval_covers() -> None:
    """The share of ambiguous samples is a mean: its interval is that of a binomial share."""
    labels = np.zeros((2, 2000), dtype=int)
    labels[1, :600] = 1
    found = rc.bootstrap(labels, reference=labels[0], replicates=2000, metrics=["ambiguity"])["ambiguity"]
    half = 1.96 * np.sqrt(0.3 * 0.7 / 2000)
    assert found.low == pytest.approx(0.3 - half, abs=0.1 * half)
    assert found.high == pytest.approx(0.3 + half, abs=0.1 * half)


# ----------------------------------------------------------------------------------------------------
# States and bad input


def test_undefined_replicates_are_counted() -> None:
    labels, groups = np.array([[0, 1] * 10, [1, 1] * 10]), ["a"] * 19 + ["b"]
    found = rc.bootstrap(labels, groups=groups, replicates=50, metrics=["fairness"])
    gap = found["fairness.demographic_parity_difference.max"]
    without = sum(naive_curves.drawn_counts(20, 0, r, 50)[19] == 0 for r in range(50))
    assert gap.undefined == without > 5
    weights = np.zeros(20)
    weights[0] = 1.0
    found = rc.bootstrap(labels, reference=labels[0], sample_weight=weights, replicates=50)
    without = sum(naive_curves.drawn_counts(20, 0, r, 50)[0] == 0 for r in range(50))
    assert found["ambiguity"].undefined == found["pairwise_disagreement.mean"].undefined == without > 5
    assert found["ambiguity"].low == found["ambiguity"].high == 1.0


def test_pairs_that_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rashomon_core.metrics.resampling.PAIR_BITS", 10.0)
    found = rc.bootstrap(np.eye(3, dtype=int), replicates=10)
    for name in ("pairwise_discrepancy", "pairwise_disagreement.max"):
        assert found[name].value is not None
        assert found[name].low is None
        assert "fewer replicates" in str(found[name].reason)
    assert found["pairwise_disagreement.mean"].low is not None


def test_sets_of_one_and_none() -> None:
    one = rc.bootstrap([[0, 1, 1]], reference=[0, 1, 0], replicates=10)
    assert one["ambiguity"].value == pytest.approx(1 / 3)
    assert (one["pairwise_discrepancy"].value, one["pairwise_discrepancy"].high) == (0.0, 0.0)
    single = rc.bootstrap([[0]], reference=[1], replicates=5)
    assert (single["ambiguity"].low, single["ambiguity"].high) == (1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty = rc.bootstrap(
            np.array([[0, 1], [1, 1]]), target=[0, 1], loss=np.array([np.inf, np.inf]), epsilon=0.0, replicates=5
        )
    assert len(empty) > 0  # inf <= inf + 0: everything is in


def test_interval_of() -> None:
    values = np.arange(1, 101) / 100
    assert (interval_of(values, 0.9, 100)["low"], interval_of(values, 0.9, 100)["high"]) == (0.05, 0.95)
    some = np.where(values > 0.5, np.nan, values)
    assert interval_of(some, 0.9, 100)["undefined"] == 50
    assert interval_of(np.full(3, np.nan), 0.9, 3)["reason"] == "not defined in any replicate"
    assert interval_of(np.array([1.0, np.inf]), 0.9, 2) == {
        "low": 1.0, "high": None, "level": 0.9, "replicates": 2, "reason": "infinite",
    }  # fmt: skip


def test_bad_input() -> None:
    labels = np.eye(3, dtype=int)
    for replicates in (0, 1, -5, 2.5, True, "many", None):
        with pytest.raises(rc.UsageError, match="replicates"):
            rc.bootstrap(labels, replicates=replicates)  # type: ignore[arg-type]
    for level in (0, 1, 0.0, 1.0, -0.5, 95, float("nan"), "95"):
        with pytest.raises(rc.UsageError, match="interval="):
            rc.bootstrap(labels, interval=level)  # type: ignore[arg-type]
    with pytest.raises(rc.InvalidInputError, match="all sample weights are zero"):
        rc.bootstrap(labels, sample_weight=[0, 0, 0])
    with pytest.raises(rc.InvalidInputError, match="reference"):
        rc.bootstrap(labels, reference=[0, 1])
    with pytest.raises(rc.UsageError, match="no metrics"):
        rc.bootstrap(labels, metrics=[])


def test_results_stay_plain() -> None:
    rng = np.random.default_rng(1)
    measured = rc.profile(rng.random((3, 40)), target=rng.random(40), bootstrap=10, keep_arrays=False)
    results = measured.results()
    json.dumps(results, allow_nan=False)
    assert results["ambiguity"]["interval"]["replicates"] == 10
    assert set(results["fidelity"]["intervals"]) == {"min", "median", "max"}
    statistics = {"mean", "p50", "p90", "p95", "p99", "max"}
    assert set(results["viable_prediction_range"]["positive"]["intervals"]) == statistics
    assert set(results["rashomon_capacity"]["effective"]["intervals"]) == statistics
    assert measured.parameters["bootstrap"] == {"replicates": 10, "level": 0.95}
    plain = rc.profile(rng.random((3, 40)), target=rng.random(40))
    assert plain.parameters["bootstrap"] is None
    assert "interval" not in json.dumps(plain.results())
    found = rc.bootstrap(rng.random((3, 40)), replicates=10)
    assert json.loads(json.dumps(found.to_dict()))["pairwise_ambiguity"]["level"] == 0.95
    assert len(found) == len(list(found)) == len(found.to_dict())


# ----------------------------------------------------------------------------------------------------
# Kernels


@given(seed=strategies.seeds(), shape=st.tuples(st.integers(1, 9), st.integers(1, 9000), st.integers(1, 20)))
@settings(max_examples=20)
def test_products(isa: str, seed: int, shape: tuple[int, int, int]) -> None:
    D, n, R = shape
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(D, n))
    blocks = -(-n // _sums.BLOCK)
    for weights in (rng.integers(0, 9, (R, n), dtype=np.uint8), rng.exponential(size=(R, n))):
        out = np.full((blocks, D, R), np.nan)
        _sums.products(rows, weights, out)
        for b in range(blocks):
            part = slice(b * _sums.BLOCK, (b + 1) * _sums.BLOCK)
            for j in {0, D - 1}:
                for r in {0, R - 1}:
                    in_order = np.add.accumulate(rows[j, part] * weights[r, part])[-1]
                    assert out[b, j, r] == in_order  # the bits of adding one after the other
    assert _encode.group_count(n) >= 1
