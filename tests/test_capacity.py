"""Rashomon Capacity per sample: against Blahut-Arimoto, its own certificate, and what must not change it.

Every result is held to `capacity_checks.check`: the bounds are computed again from each sample's support.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from capacity_checks import (
    CHANNEL_KINDS,
    assert_overlap,
    certified,
    channels,
    check,
    check_against_blahut_arimoto,
    make_channels,
    on_each_isa,
    packed,
    rows_of,
    unjudged,
    ways,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
some = settings(deadline=None, max_examples=25)
few = settings(deadline=None, max_examples=10)


# ----------------------------------------------------------------------------------------------------
# Against the oracle


@some
@given(probs=channels())
def test_capacity_of_any_channel(isa: str, probs: Array) -> None:
    result = certified(probs)
    check(result, probs)
    check_against_blahut_arimoto(result, probs)


@pytest.mark.parametrize("how", CHANNEL_KINDS)
@pytest.mark.parametrize(("m", "c"), [(9, 3), (64, 10), (513, 5)])
def test_capacity_of_each_kind_of_rows(isa: str, how: str, m: int, c: int) -> None:
    for dtype in strategies.FLOAT_DTYPES:
        probs = make_channels(m + c, m, 2, c, how).astype(dtype)
        result = certified(probs)
        check(result, probs)
        check_against_blahut_arimoto(result, probs, rounds=1000)


@some
@given(
    seed=strategies.seeds(),
    m=st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 512, 700]),
    n=strategies.sample_counts(70),
    how=st.sampled_from(strategies.BINARY_KINDS),
    dtype=strategies.score_dtypes(),
    layout=strategies.layouts(),
)
def test_capacity_of_class_1_scores(isa: str, seed: int, m: int, n: int, how: str, dtype: str, layout: str) -> None:
    scores = strategies.make_binary_scores(seed, m, n, how, dtype)
    result = certified(strategies.apply_layout(scores, layout))
    check(result, scores)
    wide = certified(rows_of(scores))
    assert_overlap(result, wide)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 63, 64, 65, 600])
@pytest.mark.parametrize("c", [2, 3, 10])
def test_many_samples_are_solved_one_by_one(isa: str, n: int, c: int) -> None:
    kinds = ("softmax", "sparse", "grid", "one_hot", "duplicates", "flat")
    parts = [make_channels(k, 20, n, c, how) for k, how in enumerate(kinds)]
    probs = np.take_along_axis(np.stack(parts), (np.arange(n) % len(kinds))[None, None, :, None], axis=0)[0]
    probs = probs.astype(np.float32)
    result = certified(probs)
    check(result, probs)
    for i in sorted({0, n // 2, n - 1}):
        alone = certified(probs[:, i : i + 1])
        assert alone.lower[0] == result.lower[i]
        assert alone.upper[0] == result.upper[i]


@few
@given(data=st.data(), c=st.integers(2, 12), m=st.integers(1, 80), dtype=st.sampled_from(["float32", "float64"]))
def test_kinds_of_scores(isa: str, data: st.DataObject, c: int, m: int, dtype: str) -> None:
    seed = data.draw(strategies.seeds())
    kind = data.draw(st.sampled_from(["logits", "log_proba"]))
    how = data.draw(st.sampled_from(["dirichlet", "grid", "one_hot", "softmax", "sharp"]))
    with np.errstate(divide="ignore"):
        scores = np.log(make_channels(seed, m, 3, c, how))
    if kind == "logits":
        scores = np.maximum(scores, -700) + np.random.default_rng(seed).normal(size=(m, 3, 1))
    scores = scores.astype(dtype)
    result = certified(rc.Predictions.from_array(scores, kind=kind))
    check(result, scores, kind=kind)
    check_against_blahut_arimoto(result, scores, kind=kind)
    direct = certified(naive.probabilities(scores, kind))
    assert_overlap(result, direct, slack=1e-9)


@few
@given(data=st.data(), m=st.integers(1, 80))
def test_kinds_of_class_1_scores(isa: str, data: st.DataObject, m: int) -> None:
    seed = data.draw(strategies.seeds())
    kind = data.draw(st.sampled_from(["logits", "log_proba"]))
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(m, 20)) * 3
    if kind == "log_proba":
        scores = -np.abs(scores)
        scores[rng.random(scores.shape) < 0.1] = -np.inf
    result = certified(rc.Predictions.from_array(scores, kind=kind))
    check(result, scores, kind=kind)
    assert_overlap(result, certified(naive.probabilities(scores, kind)), slack=1e-9)


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_rows_are_renormalised_when_asked(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    probs = (make_channels(5, 60, 6, 7, "softmax") * rng.uniform(0.5, 3, (60, 6, 1))).astype(dtype)
    with pytest.raises(rc.InvalidInputError, match="sums to"):
        certified(probs)
    result = certified(rc.Predictions.from_array(probs, renormalize=True))
    check(result, probs)
    check_against_blahut_arimoto(result, probs)


# ----------------------------------------------------------------------------------------------------
# Whatever limits, layouts, files, instruction sets


@pytest.mark.parametrize(("shape", "dtype"), [((200, 9, 3), "float32"), ((70, 30, 10), "float16")])
@pytest.mark.parametrize("method", ["newton", "blahut_arimoto"])
def test_the_same_bits_anyhow(isa: str, shape: tuple[int, ...], dtype: str, method: str, tmp_path: Path) -> None:
    m, n, c = shape
    probs = make_channels(1, m, n, c, "softmax").astype(dtype)
    expected = packed(certified(probs, method=method, tol=1e-4))
    for name, view, limits in ways(probs, tmp_path):
        assert packed(certified(view, method=method, tol=1e-4, **limits)) == expected, name


@few
@given(probs=channels(max_models=520, max_classes=20, max_samples=70, max_scores=8000), data=st.data())
def test_the_same_bits_anyhow_for_any_channel(isa: str, probs: Array, data: st.DataObject) -> None:
    expected = packed(unjudged(probs))
    name, view, limits = data.draw(st.sampled_from(list(ways(probs))))
    assert packed(unjudged(view, **limits)) == expected, name


def test_the_same_bits_of_class_1_scores_anyhow(isa: str, tmp_path: Path) -> None:
    scores = strategies.make_binary_scores(3, 77, 1030, "uniform", "float32")
    expected = packed(certified(scores))
    for name, view, limits in ways(scores, tmp_path):
        assert packed(certified(view, **limits)) == expected, name


def test_the_same_bits_of_logits_anyhow(isa: str, tmp_path: Path) -> None:
    logits = np.random.default_rng(3).normal(size=(130, 70, 6)).astype(np.float32)
    expected = packed(certified(rc.Predictions.from_array(logits, kind="logits")))
    for name, view, limits in ways(logits, tmp_path, kind="logits"):
        assert packed(certified(view, **limits)) == expected, name


def test_more_models_than_a_small_budget_holds_at_once(isa: str, tmp_path: Path) -> None:
    probs = make_channels(8, 3000, 40, 10, "softmax").astype(np.float32)  # a sample takes 240 kB in double
    expected = packed(certified(probs))
    for name, view, limits in ways(probs, tmp_path):
        assert packed(certified(view, **limits)) == expected, name


@some
@given(probs=channels(max_classes=20), method=st.sampled_from(["newton", "blahut_arimoto"]))
def test_instruction_sets_agree(probs: Array, method: str) -> None:
    limit = 300 if method == "blahut_arimoto" else None
    results = [unjudged(probs, method=method, max_iter=limit) for _ in on_each_isa()]
    for a in results:
        for b in results:
            assert_overlap(a, b, slack=0.0)


# ----------------------------------------------------------------------------------------------------
# Methods


@some
@given(probs=channels(max_models=100, max_classes=12, kinds=("dirichlet", "softmax", "grid", "one_hot", "near")))
def test_methods_agree(isa: str, probs: Array) -> None:
    auto, newton = certified(probs), certified(probs, method="newton")
    slow = unjudged(probs, method="blahut_arimoto", max_iter=4000, tol=1e-4)
    for result in (auto, newton):
        assert_overlap(result, slow)
        check(result, probs)
    check(slow, probs, tol=1e-4, few_rows=False)
    if probs.shape[2] > 2:
        assert not slow.newton.any()


@pytest.mark.parametrize("how", ["dirichlet", "softmax", "one_hot", "flat"])
def test_blahut_arimoto_certifies(isa: str, how: str) -> None:
    probs = make_channels(2, 30, 5, 6, how)
    result = certified(probs, method="blahut_arimoto", tol=1e-4)
    check(result, probs, tol=1e-4, few_rows=False)
    assert_overlap(result, certified(probs))
    if how in ("dirichlet", "softmax"):
        assert (result.iterations > certified(probs, method="newton").iterations).all()


@few
@given(probs=channels(max_models=80, max_classes=10), tol=st.sampled_from([0.3, 1e-2, 1e-4, 1e-8]))
def test_any_tolerance(isa: str, probs: Array, tol: float) -> None:
    result = certified(probs, tol=tol)
    check(result, probs, tol=tol)
    tight = certified(probs, tol=1e-9)
    assert_overlap(result, tight)
    assert tight.max_gap <= 1e-9


# ----------------------------------------------------------------------------------------------------
# What must not change it, and what can only raise it


@few
@given(probs=channels(max_classes=20, max_samples=6), seed=strategies.seeds())
def test_order_of_models_samples_and_classes(isa: str, probs: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, c = probs.shape
    result = certified(probs)
    assert_overlap(result, certified(probs[rng.permutation(m)]))
    assert_overlap(result, certified(probs[:, :, rng.permutation(c)]))
    order = rng.permutation(n)
    moved = certified(probs[:, order])
    assert np.array_equal(moved.lower, result.lower[order])
    assert np.array_equal(moved.upper, result.upper[order])


@few
@given(probs=channels(min_models=2, max_models=520, max_classes=20), data=st.data())
def test_one_more_model_never_lowers_capacity(isa: str, probs: Array, data: st.DataObject) -> None:
    some_models = data.draw(st.integers(1, len(probs) - 1))
    fewer, more = certified(probs[:some_models]), certified(probs)
    assert (more.upper >= fewer.lower).all()
    curve = [certified(probs[:k]) for k in sorted({1, 2, some_models, len(probs)})]
    for before, after in itertools.pairwise(curve):
        assert (after.upper >= before.lower).all()


@few
@given(
    probs=channels(max_models=60, max_classes=12),
    times=st.sampled_from([2, 3, 50]),
    seed=strategies.seeds(),
)
def test_copies_and_mixtures_of_rows_change_nothing(isa: str, probs: Array, times: int, seed: int) -> None:
    result = certified(probs)
    again = certified(np.tile(probs, (times, 1, 1)))
    check(again, np.tile(probs, (times, 1, 1)))
    assert_overlap(result, again)
    wide = rows_of(probs)
    p = np.random.default_rng(seed).dirichlet(np.full(len(probs), 0.5), 30)
    mixed = certified(np.concatenate([wide, np.einsum("jk,knc->jnc", p, wide)]))
    assert_overlap(result, mixed)


@few
@given(probs=channels(max_models=60, max_classes=12), seed=strategies.seeds())
def test_merging_classes_never_raises_capacity(isa: str, probs: Array, seed: int) -> None:
    wide = rows_of(probs)
    target = np.random.default_rng(seed).integers(0, max(2, wide.shape[2] // 2), wide.shape[2])
    merged = np.zeros((*wide.shape[:2], max(2, int(target.max()) + 1)))
    for c, to in enumerate(target):
        merged[:, :, to] += wide[:, :, c]
    assert (certified(merged).lower <= certified(probs).upper + 1e-12).all()
