"""Kernels on bit planes (pairs, references, cells) against the oracle, on every instruction set."""

from __future__ import annotations

from typing import Any

import naive
import naive_groups
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import on_each_isa, to_planes, to_words
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _decisions, _encode

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=30)


def block_totals(x: Array) -> Array:
    """Totals over blocks of 4,096 samples: eight lanes, each in order, and one tree over the lanes; (..., B)."""
    blocks = -(-x.shape[-1] // 4096)
    padded = np.zeros((*x.shape[:-1], blocks * 4096))
    padded[..., : x.shape[-1]] = x
    # accumulate() adds in order, sum() would not.
    lanes = np.add.accumulate(padded.reshape(*x.shape[:-1], blocks, 512, 8), axis=-2)[..., -1, :]
    l = np.moveaxis(lanes, -1, 0)
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))


def in_order(totals: Array) -> Array:
    """Sum over the last axis, one after the other."""
    return np.add.accumulate(totals, axis=-1)[..., -1]


# ----------------------------------------------------------------------------------------------------
# Pairs of models


@quick
@given(
    problem=strategies.label_matrices(max_samples=700, max_classes=300, any_layout=False),
    split=st.integers(0, 9),
)
def test_pair_counts_are_the_pairwise_disagreements(problem: tuple[Array, int], split: int) -> None:
    labels, n_classes = problem
    planes = to_planes(labels, n_classes)
    expected = naive.pairwise_disagreement_counts(labels)
    rows = min(split, len(labels))

    def run() -> Array:
        out = np.full((len(labels), len(labels)), 1000, dtype=np.int64)
        _decisions.pair_counts(planes[:rows], planes, out[:rows])
        _decisions.pair_counts(planes[rows:], planes, out[rows:])
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected + 1000)


@pytest.mark.parametrize("n_classes", [2, 3, 5, 9, 17, 256, 257, 65_536])
@pytest.mark.parametrize(("left", "right"), [(1, 1), (4, 4), (5, 3), (3, 9), (8, 13)])
def test_pair_counts_of_rectangles(left: int, right: int, n_classes: int) -> None:
    # Some chunks of the kernel (8 KB of a row), and no whole one at the end.
    n = 512 * (128 // _encode.plane_count(n_classes)) + 512 * 3 + 77
    labels = strategies.make_labels(left, left + right, n, n_classes, "near")
    planes = to_planes(labels, n_classes)
    expected = (labels[:left, None] != labels[None, left:]).sum(axis=-1)

    def run() -> Array:
        out = np.zeros((left, right), dtype=np.int64)
        _decisions.pair_counts(planes[:left], planes[left:], out)
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected)


@pytest.mark.parametrize("models", [1, 5, 67, 130])
def test_half_of_the_pairs_and_its_mirror(models: int) -> None:
    labels = strategies.make_labels(models, models, 700, 3, "near")
    planes = to_planes(labels, 3)
    padded = np.zeros(planes.shape[1] * 512)
    padded[:700] = np.random.default_rng(1).exponential(size=700)

    def run() -> list[Array]:
        out = [np.zeros((models, models), dtype=np.int64) for _ in range(2)]
        sums = [np.zeros((models, models)) for _ in range(2)]
        for symmetric in (False, True):
            _decisions.pair_counts(planes, planes, out[symmetric], symmetric)
            _decisions.pair_weighted(planes, planes, padded, sums[symmetric], symmetric)
        return out + sums

    for whole, half, weights, half_weights in on_each_isa(run):
        assert_array_equal(whole, (labels[:, None] != labels[None]).sum(axis=-1))
        assert_array_equal(half, whole)
        assert_array_equal(half_weights, weights)


@pytest.mark.parametrize("n_classes", [2, 4, 65_536])
def test_counts_of_models_that_differ_everywhere(n_classes: int) -> None:
    # Counters of bytes inside the kernels must be emptied before they overflow.
    n = 512 * 200 + 300
    labels = np.zeros((2, n), dtype=np.int64)
    labels[1] = n_classes - 1
    planes = to_planes(labels, n_classes)

    def run() -> list[Array]:
        pairs, versus = np.zeros((2, 2), dtype=np.int64), np.zeros(2, dtype=np.int64)
        _decisions.pair_counts(planes, planes, pairs)
        _decisions.versus(planes, planes[0], versus)
        return [pairs, versus]

    for pairs, versus in on_each_isa(run):
        assert_array_equal(pairs, [[0, n], [n, 0]])
        assert_array_equal(versus, [0, n])


def test_nothing_to_count() -> None:
    none = np.empty((0, 2, 1, 8), dtype=np.uint64)
    some = np.zeros((3, 2, 1, 8), dtype=np.uint64)
    _decisions.pair_counts(none, some, np.empty((0, 3), dtype=np.int64))
    _decisions.versus(none, some[0], np.empty(0, dtype=np.int64))


@quick
@given(
    n_models=st.integers(1, 5),
    n=st.sampled_from([*strategies.EDGE_SAMPLES, *strategies.BLOCK_SAMPLES]),
    n_classes=strategies.class_counts(300),
    data=st.data(),
    seed=strategies.seeds(),
)
def test_weighted_pairs_have_the_bits_of_fixed_blocks(
    n_models: int, n: int, n_classes: int, data: st.DataObject, seed: int
) -> None:
    labels = strategies.make_labels(seed, n_models, n, n_classes, "near")
    w = data.draw(strategies.weight_vectors(n)).astype(np.float64)
    planes = to_planes(labels, n_classes)
    padded = np.zeros(planes.shape[1] * 512)
    padded[:n] = w
    differ = labels[:, None] != labels[None, :]
    expected = in_order(block_totals(np.where(differ, w, 0.0)))

    def run() -> Array:
        out = np.zeros((n_models, n_models))
        _decisions.pair_weighted(planes, planes, padded, out)
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected)
    if n <= 600:
        assert_allclose(expected / np.sum(w), naive.pairwise_disagreement(labels, w), rtol=1e-12, atol=1e-15)


# ----------------------------------------------------------------------------------------------------
# Against a reference


@quick
@given(
    problem=strategies.label_problems(max_samples=1100, max_classes=300, any_layout=False),
    masked=st.booleans(),
    union=st.booleans(),
    seed=strategies.seeds(),
)
def test_versus_counts_marks_and_masks(problem: strategies.LabelProblem, masked: bool, union: bool, seed: int) -> None:
    labels, c, r = problem.labels, problem.n_classes, problem.reference
    n = labels.shape[1]
    rng = np.random.default_rng(seed)
    flags = rng.random(n) < 0.7 if masked else np.ones(n, dtype=bool)
    before = rng.random(n) < 0.1
    planes, reference = to_planes(labels, c), to_planes(r[None], c)[0]
    mask = to_words(flags) if masked else None
    seen = to_words(before)
    counts = [sum(a != b and f for a, b, f in zip(row, r.tolist(), flags, strict=True)) for row in labels.tolist()]
    kept = np.flatnonzero(flags)
    marked = before.copy()
    if len(kept):
        marked[kept] |= naive.ambiguous_samples(labels[:, kept], r[kept])

    def run() -> tuple[Array, Array]:
        out, marks = np.full(len(labels), 50, dtype=np.int64), seen.copy()
        _decisions.versus(planes, reference, out, mask=mask, union=marks if union else None)
        return out, marks

    for out, marks in on_each_isa(run):
        assert_array_equal(out, np.array(counts) + 50)
        assert_array_equal(marks, to_words(marked) if union else seen)


# ----------------------------------------------------------------------------------------------------
# Models one after another


@quick
@given(
    problem=strategies.label_matrices(max_samples=1100, max_classes=120, max_models=40, any_layout=False),
    seed=strategies.seeds(),
)
def test_models_one_after_another(problem: tuple[Array, int], seed: int) -> None:
    labels, n_classes = problem
    rng = np.random.default_rng(seed)
    M, n = labels.shape
    planes, reference = to_planes(labels, n_classes), rng.integers(0, n_classes, n)
    order = rng.permutation(M)[: rng.integers(1, M + 1)]
    d = labels[order].astype(np.int64)
    weights = np.zeros(planes.shape[1] * 512)
    weights[:n] = rng.exponential(size=n)
    first = np.full(len(weights), len(order))
    for k in reversed(range(len(order))):
        first[:n][d[k] != reference] = k
    same = np.array([(d[:k] == d[k]).sum() for k in range(len(order))])
    blocks = -(-planes.shape[1] // 8)

    def run() -> tuple[Array, ...]:
        ranks = np.full(len(weights), -1, dtype=np.int32)
        _decisions.first_differing(planes, order, to_planes(reference[None], n_classes)[0], ranks)
        votes = np.zeros(len(order), dtype=np.int64)
        _decisions.tally(planes, order, n_classes, votes)
        apart = np.zeros((blocks, len(order)))
        _decisions.tally_weights(planes, order, n_classes, weights, apart)
        return ranks, votes, apart

    for ranks, votes, apart in on_each_isa(run):
        assert_array_equal(ranks, first)
        behind = np.arange(len(order)) * (len(weights) - n)  # every model agrees on the bits behind the last sample
        assert_array_equal(votes, same + behind)
        terms = np.array([(d[:k] != d[k]).sum(axis=0) for k in range(len(order))]) * weights[:n]
        assert_array_equal(apart.T, block_totals(terms))


# ----------------------------------------------------------------------------------------------------
# Cells: groups and true labels


@quick
@given(
    n_models=st.integers(1, 4),
    n=strategies.sample_counts(1100),
    n_classes=st.sampled_from([2, 3, 4, 5, 9, 17, 256, 257, 300]),
    n_groups=st.integers(1, 4),
    dtype=st.sampled_from(["int64", "uint8", "int16", "uint16", "int32"]),
    seed=strategies.seeds(),
)
def test_cells_count_the_confusions_of_groups(
    n_models: int, n: int, n_classes: int, n_groups: int, dtype: str, seed: int
) -> None:
    if dtype == "uint8" and n_classes > 256:
        dtype = "uint16"
    rng = np.random.default_rng(seed)
    labels = strategies.make_labels(seed, n_models, n, n_classes, "uniform").astype(dtype)
    y, groups = rng.integers(0, min(n_classes, 3), n), rng.integers(0, n_groups, n)
    names = np.unique(groups)
    confusion = naive_groups.group_confusion(labels, y, groups, n_classes)
    codes = (np.searchsorted(names, groups) * n_classes + y).astype(np.int32)
    used = np.unique(codes)  # cells that occur; the rest would be empty masks
    expected = confusion.reshape(n_models, -1, n_classes)[:, used]
    cells = np.searchsorted(used, codes).astype(np.int32)
    masks = to_words(cells == np.arange(len(used))[:, None])
    planes = to_planes(labels, n_classes)

    def run() -> list[Array]:
        counted, coded = (np.full(expected.shape, 9, dtype=np.int64) for _ in range(2))
        _decisions.cell_counts(planes, masks, n_classes, counted)
        narrow = labels.astype(np.uint8 if n_classes <= 256 else np.uint16)
        _decisions.cell_histogram(narrow, cells, coded)
        return [counted, coded]

    for outs in on_each_isa(run):
        for out in outs:
            assert_array_equal(out, expected + 9)


def test_cells_of_many_groups_of_samples() -> None:
    n, n_classes = 512 * 40 + 11, 3
    labels = strategies.make_labels(1, 2, n, n_classes, "uniform")
    cells = np.random.default_rng(2).integers(0, 2, n)
    expected = np.zeros((2, 2, n_classes), dtype=np.int64)
    for k in range(2):
        np.add.at(expected[k], (cells, labels[k]), 1)
    masks, planes = to_words(cells == np.arange(2)[:, None]), to_planes(labels, n_classes)

    def run() -> Array:
        out = np.zeros(expected.shape, dtype=np.int64)
        _decisions.cell_counts(planes, masks, n_classes, out)
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected)


@quick
@given(
    n_models=st.integers(1, 3),
    n=st.sampled_from([1, 7, 513, 4095, 4096, 4097, 8200]),
    n_classes=st.sampled_from([2, 3, 300]),
    n_cells=st.integers(1, 4),
    data=st.data(),
    seed=strategies.seeds(),
)
def test_cell_weights_are_added_in_order(
    n_models: int, n: int, n_classes: int, n_cells: int, data: st.DataObject, seed: int
) -> None:
    labels = strategies.make_labels(seed, n_models, n, n_classes, "near")
    decisions = labels.astype(np.uint8 if n_classes <= 256 else np.uint16)
    cells = np.random.default_rng(seed).integers(0, n_cells, n).astype(np.int32)
    w = data.draw(strategies.weight_vectors(n)).astype(np.float64)
    expected = np.zeros((n_models, n_cells, n_classes))
    for k in range(n_models):
        for start in range(0, n, 4096):
            part = np.zeros((n_cells, n_classes))
            block = slice(start, start + 4096)
            np.add.at(part, (cells[block], labels[k, block]), w[block])
            expected[k] += part
    out = np.zeros(expected.shape)
    _decisions.cell_weights(decisions, cells, w, out)
    assert_array_equal(out, expected)
    assert_allclose(out.sum(axis=(1, 2)), np.sum(w), rtol=1e-12)


def test_popcount_peak_counts_something() -> None:
    assert all(count > 0 for count in on_each_isa(lambda: _decisions.popcount_peak(960)))
