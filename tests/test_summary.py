"""Means and quantiles of per-sample values: the oracle's numbers, and the same bits in memory and streamed."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rashomon_core.buffers import Scratch
from rashomon_core.metrics import summary
from rashomon_core.metrics.summary import describe, quantiles, whole_weights

Array = NDArray[Any]
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def values_of(seed: int, n: int, how: str) -> Array:
    rng = np.random.default_rng(seed)
    if how == "ties":
        return rng.integers(0, 5, n) / 7
    if how == "signed":
        return rng.normal(size=n)
    if how == "tiny":
        return rng.random(n) * 1e-310
    if how == "zeros":
        return np.where(rng.random(n) < 0.9, np.where(rng.random(n) < 0.5, -0.0, 0.0), 1e-9)
    if how == "wide":
        return 10.0 ** rng.uniform(-300, 300, n) * rng.choice([-1, 1], n)
    return rng.random(n)


HOW = ("random", "ties", "signed", "tiny", "zeros", "wide")


def reader(values: Array) -> Any:
    return lambda start, stop: values[start:stop]


@given(
    seed=strategies.seeds(), n=strategies.sample_counts(300), how=st.sampled_from(HOW), data=st.data()
)  # fmt: skip
def test_describe_is_the_oracles(seed: int, n: int, how: str, data: st.DataObject) -> None:
    values = values_of(seed, n, how)
    w = data.draw(strategies.optional_weights(n))
    w = None if w is None else w.astype(np.float64)
    found = describe(reader(values), n, w)
    assert list(found) == ["mean", *LEVELS, "max"]
    assert all(type(v) is float for v in found.values())
    assert found["mean"] == pytest.approx(naive.mean(values.tolist(), w), rel=1e-9, abs=np.abs(values).max() * 1e-12)
    assert found["max"] == max(v for i, v in enumerate(values.tolist()) if w is None or w[i] > 0)
    near = naive.weighted_quantile
    for name, p in LEVELS.items():
        if w is None or len(set(w[w > 0].tolist())) == 1 or (w == np.floor(w)).all():
            counts = None if w is None else w if (w == np.floor(w)).all() else (w > 0).astype(float)
            assert found[name] == near(values, p, counts)
        else:  # a cumulative weight within rounding of p may go either way
            assert near(values, p - 1e-9, w) <= found[name] <= near(values, min(p + 1e-9, 1.0), w)


@given(
    seed=strategies.seeds(),
    n=st.sampled_from([1, 100, 4095, 4096, 4097, 8192, 8193, 20_000]),
    how=st.sampled_from(HOW),
    chunk=st.sampled_from([4096, 8192, None]),
    data=st.data(),
)
def test_streaming_gives_the_same_bits(seed: int, n: int, how: str, chunk: int | None, data: st.DataObject) -> None:
    values = values_of(seed, n, how)
    w = data.draw(strategies.optional_weights(n))
    w = None if w is None else w.astype(np.float64)
    kept = describe(reader(values), n, w)
    streamed = describe(reader(values), n, w, in_memory=False, chunk=chunk)
    assert kept == streamed


def test_the_default_chunk_is_whole_blocks() -> None:
    assert summary.CHUNK % 4096 == 0
    n = summary.CHUNK + 5000
    values = values_of(1, n, "random")
    assert describe(reader(values), n) == describe(reader(values), n, in_memory=False)


@pytest.mark.parametrize("weight", [0.1, 0.3, 1 / 3, 1e-300, 1e300, 5e-324, 7.0])
@pytest.mark.parametrize("n", [2, 10, 100, 1000, 4097])
def test_equal_weights_count_as_none(n: int, weight: float) -> None:
    values = values_of(3, n, "random")
    levels = [k / 20 for k in range(1, 20)]
    assert quantiles(values, levels, np.full(n, weight)) == quantiles(values, levels)


@given(seed=strategies.seeds(), n=st.integers(1, 400), levels=st.lists(st.floats(0.001, 1.0), min_size=1, max_size=4))
def test_quantiles_are_numpys_inverted_cdf(seed: int, n: int, levels: list[float]) -> None:
    values = values_of(seed, n, "ties" if seed % 2 else "random")
    levels = [round(p, 3) for p in levels]
    assert quantiles(values, levels) == [naive.weighted_quantile(values, p) for p in levels]


def test_describing_leaves_the_values_as_they_were() -> None:
    values = values_of(4, 10_000, "random")
    before, scratch = values.copy(), Scratch()
    first = describe(lambda start, stop: values[start:stop], len(values), scratch=scratch)
    assert list(first) == ["mean", "p50", "p90", "p95", "p99", "max"]
    assert first == describe(lambda start, stop: values, len(values), scratch=scratch)
    quantiles(values, [0.5, 0.1])
    assert np.array_equal(values, before)


def test_quantiles_reach_their_share_exactly() -> None:
    values = np.arange(1.0, 101.0)
    assert quantiles(values, [0.07, 0.29, 0.57, 0.58, 1.0]) == [7.0, 29.0, 57.0, 58.0, 100.0]
    assert quantiles(values, [0.07, 0.29, 0.57, 0.58, 1.0], np.ones(100)) == [7.0, 29.0, 57.0, 58.0, 100.0]


def test_samples_of_weight_zero_take_no_part() -> None:
    values, w = np.array([100.0, 1.0, 2.0, -5.0]), np.array([0.0, 1.0, 1.0, 0.0])
    for in_memory in (True, False):
        found = describe(reader(values), 4, w, in_memory=in_memory)
        assert found == {"mean": 1.5, "p50": 1.0, "p90": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}


@given(n=st.integers(1, 5000), data=st.data())
def test_whole_weights_add_up_exactly(n: int, data: st.DataObject) -> None:
    w = data.draw(strategies.weight_vectors(n)).astype(np.float64)
    whole = whole_weights(w)
    assert np.array_equal(whole, np.rint(whole))
    assert float(sum(int(x) for x in whole.tolist())) == float(np.sum(whole)) < 2**53
    scale = whole.max() / w.max()
    assert np.allclose(whole / scale, w, rtol=0, atol=w.max() * n * 2.0**-50)


def test_a_vector_in_pieces_is_read_only_in_pieces() -> None:
    values, asked = values_of(4, 20_000, "random"), []

    def read(start: int, stop: int) -> Array:
        asked.append(stop - start)
        return values[start:stop]

    describe(read, 20_000, in_memory=False, chunk=4096)
    assert max(asked) == 4096
    assert len(asked) == 5 * 5  # once for the mean, four times for the quantiles
