"""Sums over blocks of samples, entropies and flags on their own, on every instruction set."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import assert_same_bits, on_each_isa
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pass_oracle import block_totals, in_order, log

from rashomon_core import _cpu, _scores, _sums

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=40)


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
    results = on_each_isa(lambda: _sums.block_totals(values, w))
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
    for got in on_each_isa(lambda: _sums.row_entropies(rows)):
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
    hits = _sums.count_at_least(s, r, delta)
    assert hits.shape == s.shape
    assert hits.any(axis=0).mean() == pytest.approx(naive.delta_ambiguity(s, r, delta))
    assert hits.mean(axis=1).max() == pytest.approx(naive.delta_discrepancy(s, r, delta))


@pytest.mark.parametrize("n", [1, 3, 16, 127, 128, 129, 1000])
def test_read_peak_is_the_largest(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    assert on_each_isa(lambda: _scores.read_peak(x)) == [float(x.max())] * len(_cpu.isa_available())
