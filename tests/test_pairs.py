"""The farthest pair: exact and the first of its kind, whatever pairs the bounds leave out."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rashomon_core as rc
from rashomon_core import tiles
from rashomon_core.metrics import pairs
from rashomon_core.metrics.visit import Request, visit

Array = npt.NDArray[Any]


def planes_of(labels: Array, spill: bool = False) -> tiles.SpillArray:
    view = rc.Predictions.from_array(labels, n_classes=int(labels.max()) + 1)
    found = visit(view, Request(planes=True), threads=1, memory=None).planes
    assert found is not None
    if not spill:
        return found
    kept = tiles.SpillArray(found.shape, found.dtype, spill=True)
    everything = found.read(slice(0, found.shape[0])).copy()
    kept.commit(everything, slice(0, found.shape[0]), slice(0, found.shape[1]))
    return kept


def slow(labels: Array, weights: Array | None) -> tuple[float, tuple[int, int]]:
    """Look at all pairs in the order of their indices."""
    best: tuple[float, tuple[int, int]] = (0.0, (0, min(1, len(labels) - 1)))
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            differ = labels[i] != labels[j]
            value = float(differ.sum() if weights is None else weights[differ].sum())
            if value > best[0]:
                best = value, (i, j)
    return best


@st.composite
def spread(draw: st.DrawFn) -> Array:
    """Models at uneven distances from a common decision, with copies among them: bounds that bind, and ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    models, samples = draw(st.integers(1, 90)), draw(st.sampled_from([1, 63, 64, 511, 513, 1300]))
    classes = draw(st.sampled_from([2, 3, 9]))
    rates = draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])) * rng.random((models, 1)) ** draw(st.sampled_from([1, 8]))
    labels = np.where(
        rng.random((models, samples)) < rates,
        rng.integers(0, classes, (models, samples)),
        rng.integers(0, classes, samples),
    )
    labels[0, 0] = classes - 1
    return np.asarray(labels[rng.integers(0, models, models)] if draw(st.booleans()) else labels).astype(np.uint8)


@given(spread(), st.booleans(), st.integers(1, 2), st.booleans(), st.sampled_from([0, pairs.FIRST_BLOCKS]))
def test_the_farthest_pair_is_the_first_of_all(
    labels: Array, spill: bool, threads: int, weighted: bool, first: int
) -> None:
    weights = np.random.default_rng(0).integers(0, 9, labels.shape[1]).astype(float) if weighted else None
    planes = planes_of(labels, spill)
    before = planes.read(slice(0, len(labels))).copy()
    with mock.patch.object(pairs, "FIRST_BLOCKS", first), mock.patch.object(pairs, "NEAR_MODELS", 16):
        found = pairs.farthest_pair(planes, threads=threads, memory=1 << 20, weights=weights)
    assert found == slow(labels, weights)
    assert np.array_equal(planes.read(slice(0, len(labels))), before)  # in their order again


def test_pairs_that_cannot_be_farthest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((640, 2000)) < 0.02).astype(np.uint8)
    labels[[77, 400]] = rng.random((2, 2000)) < 0.4
    asked: list[int] = []
    chosen = pairs._Comparison.chosen

    def counting(self: Any, left: Array, right: Array, symmetric: bool, scratch: tiles.Scratch) -> Array:
        asked.append(len(left) * len(right))
        return chosen(self, left, right, symmetric, scratch)

    monkeypatch.setattr(pairs._Comparison, "chosen", counting)
    found = pairs.farthest_pair(planes_of(labels), threads=1, memory=1 << 20)
    assert found == (float((labels[77] != labels[400]).sum()), (77, 400))
    assert 0 < sum(asked) < 640 * 640 // 20


@pytest.mark.parametrize("spill", [False, True])
def test_rows_are_reordered_in_place(spill: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 9)  # several pieces
    rng = np.random.default_rng(1)
    values = rng.integers(0, 100, (37, 5, 2))
    array = tiles.SpillArray(values.shape, values.dtype, spill=spill)
    array.place(slice(0, 37), slice(0, 5), tiles.Scratch(), "all")[...] = values
    array.commit(values, slice(0, 37), slice(0, 5))
    order = rng.permutation(37)
    array.reorder(order)
    assert np.array_equal(array.read(slice(0, 37)), values[order])


def test_the_consensus_is_the_majority_of_each_bit() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, (pairs.VOTERS, 700)).astype(np.uint8)
    planes = planes_of(labels)
    found = pairs._consensus(planes)
    bits = np.unpackbits(planes.read(slice(0, len(labels))).copy().view(np.uint8), axis=-1)
    assert np.array_equal(np.unpackbits(found.view(np.uint8), axis=-1), bits.sum(axis=0) > len(labels) // 2)
