"""Curves over epsilon and over the number of models: every point is the metric of its set."""

from __future__ import annotations

from typing import Any

import naive
import naive_curves
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, streamed

import rashomon_core as rc
from rashomon_core.group_results import FAIRNESS

Array = NDArray[Any]
few = settings(max_examples=12)
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12, "equal_nan": True}
CURVES = ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_disagreement", "pairwise_discrepancy")


def drawn_losses(seed: int, models: int) -> Array:
    """Losses with ties, so that sets grow by several models."""
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, max(2, models), models) / 20
    losses[rng.random(models) < 0.1] = np.inf
    return losses


def same(left: rc.EpsilonCurves, right: rc.EpsilonCurves) -> None:
    """Both are the same bits."""
    assert repr(left.to_dict()) == repr(right.to_dict())
    assert_array_equal(left.order, right.order)


def everywhere(tensor: Array, *args: Any, **options: Any) -> rc.EpsilonCurves:
    """Curves, after checking that threads, memory and ways of reading change nothing."""
    result = rc.epsilon_curves(tensor, *args, threads=1, **options)
    for source, limits in (
        (tensor, {"threads": 2}),
        (tensor, {"threads": 2, "memory": SMALL}),
        (streamed(tensor), {"threads": 1, "memory": SMALL}),
    ):
        same(rc.epsilon_curves(source, *args, **limits, **options), result)
    return result


# ----------------------------------------------------------------------------------------------------
# Over epsilon


@few
@given(problem=strategies.label_problems(max_samples=700), seed=strategies.seeds())
def test_every_point_is_the_metric_of_its_set(isa: str, problem: strategies.LabelProblem, seed: int) -> None:
    labels, reference = problem.labels, problem.reference
    losses = drawn_losses(seed, len(labels))
    found = everywhere(labels, losses, reference)
    assert len(found) == len(np.unique(losses[np.isfinite(losses)])) or not np.isfinite(losses).any()
    for i, epsilon in enumerate(found.epsilons.tolist()):
        mask = rc.rashomon_mask(losses, epsilon)
        assert mask.sum() == found.set_size[i]
        assert_array_equal(np.sort(found.order[: found.set_size[i]]), np.flatnonzero(mask))
        members = np.asarray(labels)[mask]
        assert found.ambiguity is not None
        assert found.discrepancy is not None
        assert found.pairwise_discrepancy is not None
        assert found.ambiguity[i] == naive.ambiguity(members, reference) == rc.ambiguity(members, reference)
        assert found.discrepancy[i] == naive.discrepancy(members, reference)
        assert found.pairwise_ambiguity[i] == naive.pairwise_ambiguity(members)
        assert found.pairwise_discrepancy[i] == naive.pairwise_discrepancy(members)
        expected = naive.mean_pairwise_disagreement(members)
        assert found.pairwise_disagreement[i] == pytest.approx(expected, rel=0, abs=1e-12)
        pairs = rc.profile(members, metrics=["pairwise_disagreement"]).results()["pairwise_disagreement"]
        assert found.pairwise_disagreement[i] == pairs["mean"]
    for name in CURVES:
        if name != "pairwise_disagreement":  # the mean may fall
            assert (np.diff(getattr(found, name)) >= 0).all()


@few
@given(problem=strategies.label_problems(max_samples=700), seed=strategies.seeds(), data=st.data())
def test_weighted(isa: str, problem: strategies.LabelProblem, seed: int, data: st.DataObject) -> None:
    labels, reference = problem.labels, problem.reference
    w = data.draw(strategies.weight_vectors(labels.shape[1]))
    losses = drawn_losses(seed, len(labels))
    found = everywhere(labels, losses, reference, sample_weight=w)
    sets = naive_curves.members_by_epsilon(losses, found.epsilons.tolist(), None)
    array = np.asarray(labels)
    oracle = {
        "ambiguity": lambda k: naive.ambiguity(array[k], reference, w),
        "discrepancy": lambda k: naive.discrepancy(array[k], reference, w),
        "pairwise_ambiguity": lambda k: naive.pairwise_ambiguity(array[k], w),
        "pairwise_disagreement": lambda k: naive.mean_pairwise_disagreement(array[k], w),
        "pairwise_discrepancy": lambda k: naive.pairwise_discrepancy(array[k], w),
    }
    for name, metric in oracle.items():
        assert_allclose(getattr(found, name), naive_curves.curve(sets, metric), **CLOSE)
        if name != "pairwise_disagreement":
            assert (np.diff(getattr(found, name)) >= 0).all()
    ones = rc.epsilon_curves(labels, losses, reference, sample_weight=np.ones(labels.shape[1]))
    plain = rc.epsilon_curves(labels, losses, reference)
    for name in CURVES:
        assert_allclose(getattr(ones, name), getattr(plain, name), **CLOSE)


@few
@given(scores=strategies.score_tensors(max_samples=300, max_classes=6, max_scores=4000), seed=strategies.seeds())
def test_ranges_and_capacity(isa: str, scores: Array, seed: int) -> None:
    losses = drawn_losses(seed, len(scores))
    n = scores.shape[1]
    w = np.random.default_rng(seed).exponential(size=n)
    chosen = [0.0, 0.05, 0.2]
    found = everywhere(scores, losses, capacity_at=chosen, sample_weight=w)
    assert found.prediction_range is not None
    assert found.capacity is not None
    for i, epsilon in enumerate(found.epsilons.tolist()):
        members = scores[rc.rashomon_mask(losses, epsilon)]
        expected = rc.profile(members, metrics=["viable_prediction_range"], sample_weight=w).results()
        classes = expected["viable_prediction_range"]["classes"]
        assert found.prediction_range[i].tolist() == [entry["mean"] for entry in classes.values()]
        assert_allclose(found.prediction_range[i], naive_curves.mean_width(members, w), rtol=0, atol=1e-6)
    assert (np.diff(found.prediction_range, axis=0) >= 0).all()
    for i, epsilon in enumerate(chosen):
        members = scores[rc.rashomon_mask(losses, epsilon)]
        expected = rc.rashomon_capacity(members, sample_weight=w, on_uncertified="ignore")
        assert found.capacity["mean"][i] == expected.summary()["mean"]
        assert found.capacity["set_size"][i] == len(members)
        assert found.capacity["uncertified"][i] == np.count_nonzero(~expected.certified)
        assert found.capacity["lower"][i] <= found.capacity["mean"][i] <= found.capacity["upper"][i]
    # the true capacities never fall, so no lower bound passes a later upper one
    assert (found.capacity["lower"][:-1] <= found.capacity["upper"][1:] + 1e-12).all()


@few
@given(scores=strategies.binary_scores(max_samples=300), seed=strategies.seeds(), threshold=st.none() | st.just(0.25))
def test_two_classes(isa: str, scores: Array, seed: int, threshold: float | None) -> None:
    losses = drawn_losses(seed, len(scores))
    found = everywhere(scores, losses, 0, threshold=threshold)
    decided = rc.decide(scores, threshold=threshold)
    ones = rc.epsilon_curves(decided, losses, 0)
    assert_array_equal(found.epsilons, ones.epsilons)
    for name in CURVES:
        assert_array_equal(getattr(found, name), getattr(ones, name))
    assert found.prediction_range is not None
    last = scores[rc.rashomon_mask(losses, found.epsilons[-1], reference=0)]
    assert_allclose(found.prediction_range[-1], naive_curves.mean_width(last), rtol=0, atol=1e-12)


@few
@given(
    problem=strategies.label_problems(max_samples=300, max_classes=5), seed=strategies.seeds(), relative=st.booleans()
)
def test_fairness_over_the_sets(isa: str, problem: strategies.LabelProblem, seed: int, relative: bool) -> None:
    losses = drawn_losses(seed, len(problem.labels)) + 0.05
    labels = rc.Predictions.from_array(np.asarray(problem.labels), kind="labels", n_classes=problem.n_classes)
    options: dict[str, Any] = {"y": problem.y, "groups": problem.groups, "missing": "group"}
    found = rc.epsilon_curves(labels, losses, target=problem.target, relative=relative, epsilons=[0, 0.5, 3], **options)
    assert found.reference == "target"
    assert found.fairness is not None
    rates = rc.group_rates(labels, **options)
    own = rc.group_rates(problem.target[None], n_classes=problem.n_classes, **options)
    for metric in FAIRNESS:
        for form in ("difference", "ratio"):
            entry, values = found.fairness[f"{metric}_{form}"], getattr(rates, form)(metric)
            assert_array_equal(entry["target"], getattr(own, form)(metric)[0])
            for i, epsilon in enumerate((0, 0.5, 3)):
                mask = rc.rashomon_mask(losses, epsilon, relative=relative)
                expected = (np.nan, np.nan, 0) if not mask.any() else naive_curves.fairness_range(values[mask])
                assert_array_equal([entry["min"][i], entry["max"][i], entry["undefined"][i]], expected)


@given(problem=strategies.error_counts(), relative=st.booleans(), data=st.data())
def test_sets_of_counts(problem: strategies.ErrorCounts, relative: bool, data: st.DataObject) -> None:
    errors, n = problem.errors, problem.n
    labels = np.arange(len(errors))[:, None] % 2
    reference = data.draw(st.none() | st.integers(0, len(errors) - 1))
    base = data.draw(st.none() | st.integers(0, n)) if reference is None else None
    options: dict[str, Any] = {"n": n, "relative": relative, "reference_loss": base}
    found = rc.epsilon_curves(labels, errors, reference, **options)
    for epsilon, size in zip(found.epsilons.tolist(), found.set_size.tolist(), strict=True):
        assert rc.rashomon_mask(errors, epsilon, reference=reference, **options).sum() == size
    assert (np.diff(found.set_size) > 0).all()
    assert found.base == (base if base is not None else errors.min() if reference is None else errors[reference]) / n
    if not relative:  # the last one has every model
        assert found.set_size[-1] == len(errors)
        least = np.unique(np.maximum(errors - (errors.min() if base is None else base), 0))
        if reference is None:
            assert len(found) == len(least)


@given(seed=strategies.seeds(), relative=st.booleans())
def test_the_default_epsilons_are_where_the_set_grows(seed: int, relative: bool) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=12) * 10.0 ** rng.integers(-8, 3)
    labels = rng.integers(0, 2, (12, 5))
    found = rc.epsilon_curves(labels, losses, relative=relative)
    for epsilon, size in zip(found.epsilons.tolist(), found.set_size.tolist(), strict=True):
        assert rc.rashomon_mask(losses, epsilon, relative=relative).sum() == size
    assert found.set_size[-1] == 12
    thin = rc.epsilon_curves(labels, losses, relative=relative, epsilons=3)
    assert thin.epsilons.tolist() == [found.epsilons[0], thin.epsilons[1], found.epsilons[-1]]
    assert (
        rc.epsilon_curves(labels, losses, relative=relative, epsilons=100).epsilons.tolist() == found.epsilons.tolist()
    )


def test_named_states_and_reasons() -> None:
    labels = [[0, 1, 1], [0, 1, 0], [1, 1, 0]]
    found = rc.epsilon_curves(labels, [0.3, 0.2, np.inf], epsilons=[0, 0.05, 0.2], reference_loss=0.1, pairwise=False)
    assert found.set_size.tolist() == [0, 0, 2]
    assert found.status == ("empty", "empty", "ok")
    plain = found.to_dict()
    assert plain["pairwise_ambiguity"] == [None, None, 1 / 3]
    assert "no reference" in plain["ambiguity"]["reason"]
    assert plain["pairwise_discrepancy"] == {"value": None, "reason": "pairwise=False"}
    assert "labels" in plain["prediction_range"]["reason"]
    single = rc.epsilon_curves(labels[:1], [0.3], 0)
    assert single.status == ("singleton",)
    for name in CURVES:
        assert getattr(single, name).tolist() == [0.0]
    nothing = rc.epsilon_curves(labels, [np.inf] * 3)
    assert nothing.set_size.tolist() == [3]  # inf <= inf + 0: as rashomon_mask has it
    assert rc.rashomon_mask([np.inf] * 3, 0.0).all()


def test_bad_input() -> None:
    labels = np.eye(3, dtype=int)
    good = [0.1, 0.2, 0.3]
    with pytest.raises(rc.InvalidInputError, match="a loss is NaN at model 1"):
        rc.epsilon_curves(labels, [0.1, np.nan, 0.3])
    with pytest.raises(rc.InvalidInputError, match="one loss per model"):
        rc.epsilon_curves(labels, good[:2])
    for epsilons, message in (
        ([-0.1, 0.2], "not negative"),
        ([0.1, np.nan], "finite"),
        ([0.1, np.inf], "finite"),
        ([0.2, 0.1], "ascend"),
        ([0.1, 0.1], "ascend"),
        ([], "numbers"),
        ([[0.1]], "numbers"),
        (["a"], "numbers"),
        (0, "at least 1"),
    ):
        with pytest.raises(rc.UsageError, match=message):
            rc.epsilon_curves(labels, good, epsilons=epsilons)
    with pytest.raises(rc.UsageError, match="needs scores"):
        rc.epsilon_curves(labels, good, capacity_at=[0.1])
    with pytest.raises(rc.UsageError, match="capacity_at must ascend"):
        rc.epsilon_curves(labels.astype(float), good, capacity_at=[0.1, 0.0])
    with pytest.raises(rc.InvalidInputError, match="all sample weights are zero"):
        rc.epsilon_curves(labels, good, sample_weight=[0, 0, 0])
    with pytest.raises(rc.InvalidInputError, match="reference"):
        rc.epsilon_curves(labels, good, [0, 1])
    with pytest.raises(rc.UsageError, match="negative"):
        rc.epsilon_curves(labels, [-0.1, 0.2, 0.3], relative=True)
    with pytest.raises(rc.UsageError, match="NaN"):
        rc.epsilon_curves(labels, good, reference_loss=np.nan)
    with pytest.raises(rc.UsageError, match="positive=2"):
        rc.epsilon_curves(labels, good, positive=2)
    for sizes in ([0], [2, 1], [4], [1, 1], [1.5], []):
        with pytest.raises(rc.UsageError, match="sizes must"):
            rc.size_curves(labels, sizes=sizes)
    with pytest.raises(rc.UsageError, match="orders"):
        rc.size_curves(labels, orders=-1)


# ----------------------------------------------------------------------------------------------------
# Over the number of models


@few
@given(problem=strategies.label_problems(max_samples=150, max_models=6, max_classes=5))
def test_size_curves(isa: str, problem: strategies.LabelProblem) -> None:
    labels, reference, w = problem.labels, problem.reference, problem.weights
    found = rc.size_curves(labels, reference, sample_weight=w)
    again = rc.size_curves(streamed(np.asarray(labels)), reference, sample_weight=w, threads=2, memory=SMALL)
    assert repr(found.to_dict()) == repr(again.to_dict())
    assert found.sizes.tolist() == list(range(1, len(labels) + 1))
    worst = [naive.discrepancy([row], reference, w) for row in np.asarray(labels)]
    for i, m in enumerate(found.sizes.tolist()):
        assert found.ambiguity is not None
        assert found.discrepancy is not None
        assert found.ambiguity[i] == pytest.approx(naive.size_matched_ambiguity(labels, reference, m, w), abs=1e-12)
        assert found.ambiguity[i] == pytest.approx(
            rc.size_matched_ambiguity(labels, reference, m, sample_weight=w), abs=1e-12
        )
        expected = naive.size_matched_pairwise_ambiguity(labels, m, w)
        assert found.pairwise_ambiguity[i] == pytest.approx(expected, abs=1e-12)
        assert found.discrepancy[i] == pytest.approx(naive.size_matched_max(worst, m), abs=1e-12)


def test_size_curves_of_many_models() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, (90, 40))
    found = rc.size_curves(labels, labels[0], orders=50, seed=3)
    assert found.sizes[0] == 1
    assert found.sizes[-1] == 90
    assert len(found.sizes) <= 40
    assert found.ambiguity is not None
    assert found.discrepancy is not None
    assert found.pairwise_discrepancy is not None
    for curve, whole in (
        (found.ambiguity, rc.ambiguity(labels, labels[0])),
        (found.discrepancy, rc.discrepancy(labels, labels[0])),
        (found.pairwise_ambiguity, rc.pairwise_ambiguity(labels)),
        (found.pairwise_discrepancy, rc.pairwise_discrepancy(labels)),
    ):
        assert curve[-1] == pytest.approx(whole, abs=1e-12)
        assert (np.diff(curve) >= -1e-12).all()
    assert found.pairwise_discrepancy[0] == 0
    repeated = rc.size_curves(labels, labels[0], orders=50, seed=3).pairwise_discrepancy
    assert_array_equal(found.pairwise_discrepancy, repeated)
    # two models at random: the mean disagreement, in the long run
    two = rc.size_curves(labels, sizes=[2], orders=4000).pairwise_discrepancy
    assert two is not None
    mean = naive.mean_pairwise_disagreement(labels)
    assert two[0] == pytest.approx(mean, abs=4 * 0.08 / np.sqrt(4000))
    assert rc.size_curves(labels).to_dict()["pairwise_discrepancy"]["value"] is None
