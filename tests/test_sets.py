"""Membership, size-matched values, noise and patterns against the oracle; exact boundaries."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import everywhere

import rashomon_core as rc

Array = NDArray[Any]
few = settings(max_examples=15)

# ----------------------------------------------------------------------------------------------------
# Membership


@given(problem=strategies.error_counts(), relative=st.booleans(), data=st.data())
def test_masks_of_counts(problem: strategies.ErrorCounts, relative: bool, data: st.DataObject) -> None:
    errors, n, epsilon = problem.errors, problem.n, problem.epsilon
    reference = data.draw(st.none() | st.integers(0, len(errors) - 1))
    got = rc.rashomon_mask(errors, epsilon, reference=reference, relative=relative, n=n)
    assert got.dtype == np.bool_
    assert_array_equal(got, naive.rashomon_mask(errors, epsilon, reference, relative=relative, n=n))
    base = int(errors.min())
    got = rc.rashomon_mask(errors, epsilon, reference_loss=base, relative=relative, n=n)
    assert_array_equal(got, rc.rashomon_mask(errors, epsilon, relative=relative, n=n))


@given(seed=strategies.seeds(), epsilon=st.sampled_from([0, 1, 3, 40]), relative=st.booleans())
def test_masks_of_losses(seed: int, epsilon: int, relative: bool) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.integers(1, 60, rng.integers(1, 20)) / 100  # many of them exactly on the boundary
    reference = int(rng.integers(len(losses)))
    for ref in (None, reference):
        got = rc.rashomon_mask(losses, epsilon / 100, reference=ref, relative=relative)
        assert_array_equal(got, naive.rashomon_mask(losses, epsilon / 100, ref, relative=relative))
        if not relative:  # in hundredths, exactly
            hundredths = np.rint(losses * 100).astype(int)
            base = hundredths.min() if ref is None else hundredths[ref]
            assert_array_equal(got, hundredths - base <= epsilon)


@given(problem=strategies.error_counts(max_samples=100))
def test_counts_of_any_type_do_not_wrap(problem: strategies.ErrorCounts) -> None:
    """In uint8 a count below the reference's is 255 above it."""
    errors, n = problem.errors, problem.n
    worst = int(np.argmax(errors))
    expected = naive.rashomon_mask(errors, problem.epsilon, worst, n=n)
    assert expected.all()
    for dtype in ("uint8", "int8", "uint16", "uint64", "int32", "float16", "float64"):
        got = rc.rashomon_mask(errors.astype(dtype), problem.epsilon, reference=worst, n=n)
        assert_array_equal(got, expected)
    assert rc.rashomon_mask([True, False], 0.4, n=2).tolist() == [False, True]


def test_infinite_losses_are_no_members() -> None:
    assert rc.rashomon_mask([np.inf, 1.0], 0.5).tolist() == [False, True]
    assert rc.rashomon_mask([np.inf, 1.0], 0.5, reference=0).tolist() == [True, True]


def test_what_a_set_is_not() -> None:
    for bad, error in (
        ({"loss": [0.1, np.nan], "epsilon": 0.1}, rc.InvalidInputError),
        ({"loss": [], "epsilon": 0.1}, rc.InvalidInputError),
        ({"loss": 0.1, "epsilon": 0.1}, rc.InvalidInputError),
        ({"loss": ["a"], "epsilon": 0.1}, rc.InvalidInputError),
        ({"loss": [0.1], "epsilon": -0.1}, rc.UsageError),
        ({"loss": [0.1], "epsilon": np.nan}, rc.UsageError),
        ({"loss": [0.1], "epsilon": np.inf}, rc.UsageError),
        ({"loss": [0.1], "epsilon": 0.1, "reference": 1}, rc.UsageError),
        ({"loss": [0.1], "epsilon": 0.1, "reference": -1}, rc.UsageError),
        ({"loss": [0.1], "epsilon": 0.1, "reference": 0, "reference_loss": 0.1}, rc.UsageError),
        ({"loss": [0.1], "epsilon": 0.1, "reference_loss": np.nan}, rc.UsageError),
    ):
        with pytest.raises(error):
            rc.rashomon_mask(**bad)


def test_the_set_may_be_empty() -> None:
    """No explored model comes near a base model of loss .1."""
    assert rc.rashomon_mask([0.3, 0.4], 0.05, reference_loss=0.1).tolist() == [False, False]


# ----------------------------------------------------------------------------------------------------
# Size-matched values


@few
@given(problem=strategies.label_problems(max_models=7, max_samples=80, max_classes=6), data=st.data())
def test_size_matched_ambiguity(isa: str, problem: strategies.LabelProblem, data: st.DataObject) -> None:
    labels, reference, w = problem.labels, problem.reference, problem.weights
    M = len(labels)
    m = data.draw(st.integers(1, M))
    got = everywhere(rc.size_matched_ambiguity, labels, reference, m, sample_weight=w)
    assert got == pytest.approx(naive.size_matched_ambiguity(labels, reference, m, w), rel=0, abs=1e-12)
    got = everywhere(rc.size_matched_pairwise_ambiguity, labels, m, sample_weight=w)
    assert got == pytest.approx(naive.size_matched_pairwise_ambiguity(labels, m, w), rel=0, abs=1e-12)
    if m == M:
        assert got == pytest.approx(rc.pairwise_ambiguity(labels, sample_weight=w), rel=0, abs=1e-12)


@few
@given(x=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=9), data=st.data())
def test_size_matched_max(x: list[float], data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(x)))
    assert rc.size_matched_max(x, m) == pytest.approx(naive.size_matched_max(x, m), rel=1e-12, abs=1e-15)


def test_size_matched_values_of_many_models() -> None:
    """Binomials of thousands of models overflow doubles: products of ratios do not."""
    flags = np.zeros((4000, 1), dtype=np.uint8)
    flags[:13] = 1
    chance = Fraction(math.comb(4000 - 13, 700), math.comb(4000, 700))
    assert rc.size_matched_ambiguity(flags, [0], 700) == pytest.approx(float(1 - chance), rel=1e-12)
    together = chance + Fraction(math.comb(13, 700), math.comb(4000, 700))
    assert rc.size_matched_pairwise_ambiguity(flags, 700) == pytest.approx(float(1 - together), rel=1e-12)
    assert rc.size_matched_max(flags[:, 0], 700) == pytest.approx(float(1 - chance), rel=1e-12)
    x = np.arange(4000.0)  # largest of m numbers out of 0 .. M-1: m (M + 1) / (m + 1) - 1
    assert rc.size_matched_max(x, 700) == pytest.approx(700 * 4001 / 701 - 1, rel=1e-12)
    for size in (0, 4001):
        with pytest.raises(rc.UsageError, match="size"):
            rc.size_matched_max(x, size)


# ----------------------------------------------------------------------------------------------------
# The set of a profile: noise, ratios, patterns


@few
@given(problem=strategies.label_problems(max_models=8, max_samples=300, max_classes=6), epsilon=st.floats(0, 1))
def test_facts_of_a_set(isa: str, problem: strategies.LabelProblem, epsilon: float) -> None:
    labels, target, n = problem.labels, problem.target, problem.labels.shape[1]
    labels = rc.Predictions.from_array(labels, n_classes=problem.n_classes)
    d = problem.labels.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = rc.profile(labels, target=target, epsilon=epsilon, metrics="ambiguity")
    facts = profile.results()["set"]
    errors = (d != target.astype(np.int64)).sum(axis=1)
    mask = naive.rashomon_mask(errors, epsilon, n=n)
    assert_array_equal(profile.member_mask, mask)
    assert facts["size"] == mask.sum()
    assert facts["status"] == ("singleton" if mask.sum() == 1 else "ok")
    assert facts["rashomon_ratio"] == naive.rashomon_ratio(mask)
    assert facts["pattern_ratio"] == naive.pattern_ratio(d, mask)
    best = int(np.argmin(errors))
    noise = np.delete(naive.paired_noise(d, target, best), best)
    assert facts["noise"]["paired"] == pytest.approx(np.median(noise) if len(noise) else 0.0, rel=1e-9, abs=1e-12)
    expected = naive.unpaired_noise(1 - errors[best] / n, n)
    assert facts["noise"]["unpaired"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    members = d[mask]
    assert profile.results()["ambiguity"]["value"] == naive.ambiguity(members, target)


@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_members_are_chosen_on_one_split_and_measured_on_the_other(isa: str, fraction: float) -> None:
    labels = strategies.make_labels(3, 30, 1500, 3, "near")
    rng = np.random.default_rng(4)
    target = np.where(rng.random(1500) < 0.2, rng.integers(0, 3, 1500), labels[0])
    selection = rng.random(1500) < fraction
    profile = rc.profile(labels, target=target, epsilon=0.05, selection=selection, metrics=["ambiguity", "fidelity"])
    inside, outside = labels[:, selection], labels[:, ~selection]
    errors = (inside != target[selection]).sum(axis=1)
    mask = naive.rashomon_mask(errors, 0.05, n=int(selection.sum()))
    assert_array_equal(profile.member_mask, mask)
    assert profile.status == "complete"
    results = profile.results()
    assert results["set"]["split"] == "selection"
    assert results["shape"]["samples"] == int((~selection).sum())
    assert results["ambiguity"]["value"] == naive.ambiguity(outside[mask], target[~selection])
    fidelity = naive.fidelity(outside[mask], target[~selection])
    assert (results["fidelity"]["min"], results["fidelity"]["max"]) == (fidelity.min(), fidelity.max())
    assert_allclose(profile.arrays["fidelity"], fidelity, rtol=0)
