"""Sums over blocks of samples, entropies and flags on their own, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _cpu, _encode, _scores

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=40)
COLUMNS = (*range(34), 100, 300)  # 0: labels
EVERY_DTYPE = (0, 1, 2, 3, 4, 5, 8, 17, 33)
SOME_COLUMNS = (0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 10, 16, 17, 25, 32, 33, 49, 65, 100, 300)
LOSSES = _scores.LOSSES


def on_each_isa(run: Callable[[], Any]) -> list[Any]:
    """Run once on every instruction set of this machine."""
    before = _cpu.isa_active()
    results = []
    try:
        for name in _cpu.isa_available():
            _cpu.isa_select(name)
            results.append(run())
    finally:
        _cpu.isa_select(before)
    return results


def to_planes(decisions: Array, n_classes: int) -> NDArray[np.uint64]:
    """Bit planes (M, groups, P, 8); test_kernels_encode.py holds the encoder to its definition."""
    d = np.ascontiguousarray(decisions, dtype=np.uint8 if n_classes <= 256 else np.uint16)
    shape = (len(d), _encode.group_count(d.shape[1]), _encode.plane_count(n_classes), 8)
    out = np.empty(shape, dtype=np.uint64)
    _encode.encode(d, out)
    return out


def to_words(flags: Array) -> NDArray[np.uint64]:
    return np.ascontiguousarray(to_planes(flags, 2)[:, :, 0, :])


def fold(lanes: Array) -> Array:
    """Eight lanes (the last axis) in the one fixed order."""
    l = np.moveaxis(lanes, -1, 0)
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))


def in_order(x: Array, axis: int = -1) -> Array:
    """Sum over one axis, one after the other from 0 (accumulate() adds in order, sum() does not)."""
    return 0.0 + np.add.accumulate(x, axis=axis).take(-1, axis=axis)


def lane_sum(x: Array, length: int) -> Array:
    """Sums over runs of `length` (a multiple of 8) of the last axis: (..., runs)."""
    runs = -(-x.shape[-1] // length)
    padded = np.zeros((*x.shape[:-1], runs * length))
    padded[..., : x.shape[-1]] = x
    return fold(in_order(padded.reshape(*x.shape[:-1], runs, length // 8, 8), axis=-2))


def block_totals(x: Array, w: Array | None) -> Array:
    """Totals over blocks of 4,096 samples (the last axis); a weight of 0 adds nothing, whatever x."""
    if w is not None:
        with np.errstate(invalid="ignore"):
            x = np.where(w == 0, 0.0, w * x)
    return lane_sum(x, 4096)


def log(x: Array) -> Array:
    return _encode.log_exp(np.ascontiguousarray(x, dtype=np.float64).ravel())[0].reshape(x.shape)


def exp(x: Array) -> Array:
    return _encode.log_exp(np.ascontiguousarray(x, dtype=np.float64).ravel())[1].reshape(x.shape)


def assert_same_bits(got: Array, expected: Array) -> None:
    """Same numbers, signs of zero included; any NaN is a NaN."""
    assert got.dtype == expected.dtype
    if got.dtype.kind == "f":
        assert_array_equal(np.isnan(got), np.isnan(expected))
        got, expected = np.nan_to_num(got), np.nan_to_num(expected)
    assert got.tobytes() == expected.tobytes()


# ----------------------------------------------------------------------------------------------------
# Sums on their own


@quick
@given(
    n=strategies.sample_counts(1100) | st.sampled_from(strategies.BLOCK_SAMPLES),
    columns=st.integers(0, 4),
    data=st.data(),
    seed=strategies.seeds(),
)
def test_block_totals_have_fixed_lanes(n: int, columns: int, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, columns) if columns else n)
    w = data.draw(strategies.optional_weights(n))
    w = None if w is None else w.astype(np.float64)
    if w is not None:
        values[w == 0] = np.inf  # takes no part
    expected = np.moveaxis(block_totals(np.moveaxis(values, 0, -1), w), -1, 0)
    results = on_each_isa(lambda: _scores.block_totals(values, w))
    for got in results:
        assert_same_bits(got, np.ascontiguousarray(expected))
    if not columns:
        counted = values if w is None else np.where(w > 0, values, 0.0) * w
        scale = np.abs(counted).sum()
        assert_allclose(results[0].sum(), n * naive.mean(counted.tolist()), rtol=0, atol=1e-14 * scale)


@quick
@given(n=st.integers(0, 70), columns=st.integers(1, 20), seed=strategies.seeds())
def test_row_entropies(n: int, columns: int, seed: int) -> None:
    rows = strategies.make_rows(np.random.default_rng(seed), "mixed", 1, n, columns)[0]
    with np.errstate(invalid="ignore"):
        expected = in_order(np.where(rows == 0, 0.0, rows * log(rows)))
    for got in on_each_isa(lambda: _scores.row_entropies(rows)):
        assert_array_equal(got, expected)
    if n:
        own = [-naive.cross_entropy(row[None, None], row[None])[0] for row in rows]
        assert_allclose(expected, own, rtol=1e-12, atol=1e-15)


@quick
@given(
    scores=strategies.binary_scores(max_samples=200, any_layout=False),
    delta=st.sampled_from([0.0, 0.125, 0.5, 1.0]) | st.floats(0, 1),
    seed=strategies.seeds(),
)
def test_count_at_least_marks_moves_of_delta(scores: Array, delta: float, seed: int) -> None:
    s = scores.astype(np.float64)
    r = s[np.random.default_rng(seed).integers(len(s))]
    hits = _scores.count_at_least(s, r, delta)
    assert hits.shape == s.shape
    assert hits.any(axis=0).mean() == pytest.approx(naive.delta_ambiguity(s, r, delta))
    assert hits.mean(axis=1).max() == pytest.approx(naive.delta_discrepancy(s, r, delta))


@pytest.mark.parametrize("n", [1, 3, 16, 127, 128, 129, 1000])
def test_read_peak_is_the_largest(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    assert on_each_isa(lambda: _scores.read_peak(x)) == [float(x.max())] * len(_cpu.isa_available())
