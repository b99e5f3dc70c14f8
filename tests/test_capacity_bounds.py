"""Bounds of capacity: fifty digits lie inside, conic solvers agree, closed forms and published failures."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import mpmath as mp
import naive_capacity
import numpy as np
import oracle_capacity
import pytest
import strategies
from capacity_checks import (
    CHANNEL_KINDS,
    ROUNDING,
    assert_overlap,
    certified,
    check,
    check_against_blahut_arimoto,
    make_channels,
    on_each_isa,
    rows_of,
    unjudged,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]


# ----------------------------------------------------------------------------------------------------
# Fifty digits: strict containment, rounding included


def assert_contains(result: Any, exact: list[tuple[Any, Any]]) -> None:
    """lower <= capacity <= upper in exact arithmetic, for each sample; `exact` is a far narrower enclosure."""
    for i, (low, high) in enumerate(exact):
        got = float(result.lower[i]), float(result.upper[i])
        assert mp.mpf(got[0]) <= high, f"sample {i}: lower exceeds the capacity by {mp.nstr(got[0] - high, 5)}"
        assert mp.mpf(got[1]) >= low, f"sample {i}: upper falls short of the capacity by {mp.nstr(low - got[1], 5)}"


@cache
def small_channels(how: str, m: int, c: int, dtype: str) -> tuple[Array, list[tuple[Any, Any]]]:
    probs = make_channels(10 * m + c, m, 3, c, how).astype(dtype)
    return probs, [oracle_capacity.exact(probs[:, i]) for i in range(probs.shape[1])]


@pytest.mark.parametrize("how", CHANNEL_KINDS)
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_fifty_digits_lie_inside(how: str, dtype: str) -> None:
    for m, c in ((2, 3), (3, 3), (4, 4), (3, 2)):
        probs, exact = small_channels(how, m, c, dtype)
        for isa in on_each_isa():
            for method, tol in (("newton", 1e-6), ("newton", 1e-12), ("newton", 0.0), ("blahut_arimoto", 1e-6)):
                assert_contains(unjudged(probs, method=method, tol=tol, max_iter=300), exact)
            for steps in (1, 2):  # wherever it is cut off
                assert_contains(unjudged(probs, max_iter=steps, tol=1e-12), exact)
            assert certified(probs).max_gap <= 1e-6, isa


@settings(deadline=None, max_examples=60)
@given(
    a=st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 1e-30, 1e-300, 5e-324, 1 - 1e-16]),
    gap=st.floats(0, 1) | st.sampled_from([1e-16, 1e-15, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4]),
)
def test_fifty_digits_of_two_classes(a: float, gap: float) -> None:
    b = min(1.0, a + gap)
    low, high = oracle_capacity.exact(np.array([a, b]))
    scores = np.array([[b], [(a + b) / 2], [a]])
    for isa in on_each_isa():
        result = certified(scores)
        assert_contains(result, [(low, high)])
        assert abs(float(result.bits[0] - low)) <= 1e-12, isa
        if b - a >= 1e-4:
            assert abs(float(result.bits[0] / high - 1)) <= 1e-6, isa
        if a == b:
            assert result.upper[0] == 0


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_fifty_digits_of_two_columns(dtype: str) -> None:
    rng = np.random.default_rng(6)
    probs = np.stack([1 - (p := rng.random((3, 40)) * 10.0 ** -rng.integers(0, 6, 40)), p], axis=-1).astype(dtype)
    exact = [oracle_capacity.exact(probs[:, i]) for i in range(40)]
    for _ in on_each_isa():
        result = certified(probs)
        assert_contains(result, exact)
        # Rows that sum to 1 only nearly carry that much more rounding.
        assert max(abs(float(x - low)) for x, (low, _) in zip(result.bits, exact, strict=True)) <= 1e-12


def test_fifty_digits_of_rows_that_do_not_sum_to_one() -> None:
    rng = np.random.default_rng(7)
    probs = (make_channels(7, 3, 30, 3, "dirichlet") * rng.uniform(0.9991, 1.0009, (3, 30, 1))).astype(np.float32)
    exact = [oracle_capacity.exact(probs[:, i]) for i in range(30)]
    for _ in on_each_isa():
        assert_contains(certified(probs), exact)
        assert_contains(unjudged(probs, tol=0.0), exact)


# ----------------------------------------------------------------------------------------------------
# Models that are ruled out in floats


def large_channels(how: str, dtype: str) -> Array:
    rng = np.random.default_rng(11)
    rows = make_channels(12, 400, 2, 300, how)
    if dtype == "float64":  # what floats hold as subnormals, or not at all
        rows[rng.random(rows.shape) < 0.1] *= 1e-42
    rows[rng.random(rows.shape) < 0.05] = 0.0
    return naive_capacity.normalised(rows).astype(dtype)


@pytest.mark.parametrize("how", ["softmax", "dense", "dirichlet", "confident"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_model_that_was_ruled_out_exceeds_the_bound(how: str, dtype: str) -> None:
    probs = large_channels(how, dtype)
    for isa in on_each_isa():
        result = certified(probs)
        check(result, probs)
        for i in range(probs.shape[1]):
            models, weights = result.support(i)
            p = np.zeros(len(probs))
            p[models] = weights
            top = naive_capacity.bounds(rows_of(probs)[:, i], p)[1]
            assert top <= result.upper[i] + ROUNDING, f"{isa}, sample {i}: some model is at {top}"


# ----------------------------------------------------------------------------------------------------
# Conic programs


def conic_against(how: str, m: int, c: int, n: int) -> None:
    probs = make_channels(m * c, m, n, c, how)
    solved = [oracle_capacity.conic(probs[:, i]) for i in range(n)]
    for isa in on_each_isa():
        result = certified(probs)
        check(result, probs)
        for i, one in enumerate(solved):
            assert one.accuracy <= 1e-3, f"{how} {m} x {c}: the solvers know it to {one.accuracy} only"
            inside = result.lower[i] - one.accuracy <= one.bits <= result.upper[i] + one.accuracy
            assert inside, f"{isa}, sample {i}: {one} not in [{result.lower[i]}, {result.upper[i]}]"


@pytest.mark.parametrize("how", CHANNEL_KINDS)
@pytest.mark.parametrize(("m", "c"), [(2, 2), (9, 3), (50, 10)])
def test_conic_programs_agree(how: str, m: int, c: int) -> None:
    conic_against(how, m, c, 2)


SIZES = [(3, 5), (17, 8), (64, 4), (200, 33), (513, 10)]
#: Both conic solvers give up on hundreds of collinear rows (test_collinear_rows has their two ends).
MANY = [(how, m, c) for how in CHANNEL_KINDS for m, c in SIZES if how != "collinear" or m <= 500]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "m", "c"), MANY)
def test_conic_programs_agree_on_many(how: str, m: int, c: int) -> None:
    conic_against(how, m, c, 4)


# ----------------------------------------------------------------------------------------------------
# Closed forms


def h2(e: float) -> float:
    return -math.fsum(x * math.log2(x) for x in (e, 1 - e) if x > 0)


ERRORS = (0.0, 1e-12, 1e-6, 0.01, 0.1, 0.25, 0.45, 0.4999, 0.5)


def channel(rows: Any) -> Any:
    return rc.channel_capacity(np.array(rows, dtype=np.float64), on_uncertified="raise")


def holds(result: Any, bits: float) -> bool:
    return bool(result.lower <= bits + 1e-15 and bits <= result.upper + 1e-15 and result.upper - result.lower <= 1e-6)


@pytest.mark.parametrize("e", ERRORS)
def test_binary_symmetric_channel(isa: str, e: float) -> None:
    assert holds(channel([[e, 1 - e], [1 - e, e]]), 1 - h2(e))
    assert channel([[e, 1 - e], [1 - e, e]]).bits == pytest.approx(1 - h2(e), abs=1e-12)


@pytest.mark.parametrize("e", ERRORS)
def test_erasure_channel(isa: str, e: float) -> None:
    assert holds(channel([[1 - e, e, 0], [0, e, 1 - e]]), 1 - e)


@pytest.mark.parametrize("e", [*ERRORS, 0.9, 0.999999])
def test_z_channel(isa: str, e: float) -> None:
    found = channel([[1, 0], [e, 1 - e]])
    bits = math.log2(1 + (1 - e) * e ** (e / (1 - e)))
    assert holds(found, bits)
    assert found.bits == pytest.approx(bits, abs=1e-12)


@pytest.mark.parametrize("c", [2, 3, 5, 17, 40])
@pytest.mark.parametrize("e", [0.0, 0.01, 0.3])
def test_symmetric_channel(isa: str, c: int, e: float) -> None:
    """Row k: 1 - e on class k and e / (c - 1) on every other: log2 c - H2(e) - e log2(c - 1)."""
    rows = np.full((c, c), e / (c - 1))
    np.fill_diagonal(rows, 1 - e)
    assert holds(channel(rows), math.log2(c) - h2(e) - e * math.log2(max(c - 1, 1)))


@pytest.mark.parametrize(("m", "c", "covered"), [(2, 2, 2), (2, 5, 2), (50, 5, 5), (50, 10, 3), (700, 40, 40)])
def test_one_hot_rows(isa: str, m: int, c: int, covered: int) -> None:
    rng = np.random.default_rng(m)
    classes = rng.permutation(c)[:covered]
    rows = np.eye(c)[classes[np.arange(m) % covered]]
    for dtype in strategies.FLOAT_DTYPES:
        result = certified(rng.permutation(rows)[:, None].astype(dtype))
        assert result.bits[0] == pytest.approx(math.log2(covered), abs=1e-9)
        assert result.effective_classes[0] == pytest.approx(covered, rel=1e-9)


@pytest.mark.parametrize("blocks", [2, 3, 7])
def test_disjoint_channels_add_their_sizes(isa: str, blocks: int) -> None:
    """Channels on classes of their own: 2^C = sum of the 2^C_j (Shannon 1948)."""
    rng = np.random.default_rng(blocks)
    parts = [rng.dirichlet(np.ones(3), size=4) for _ in range(blocks)]
    rows = np.zeros((4 * blocks, 3 * blocks))
    for j, part in enumerate(parts):
        rows[4 * j : 4 * j + 4, 3 * j : 3 * j + 3] = part
    each = [channel(part) for part in parts]
    low, high = (math.log2(sum(2 ** getattr(x, side) for x in each)) for side in ("lower", "upper"))
    found = channel(rows)
    assert found.lower <= high + 1e-12
    assert low <= found.upper + 1e-12


def test_product_of_channels_adds_bits(isa: str) -> None:
    """Two independent uses: the capacity of the product channel is the sum (Shannon 1948)."""
    rng = np.random.default_rng(1)
    a, b = rng.dirichlet(np.ones(3), size=4), rng.dirichlet(np.ones(4), size=5)
    both = channel(np.einsum("ic,jd->ijcd", a, b).reshape(20, 12))
    one, two = channel(a), channel(b)
    assert both.lower <= one.upper + two.upper + 1e-12
    assert one.lower + two.lower <= both.upper + 1e-12


@settings(deadline=None, max_examples=40)
@given(seed=strategies.seeds(), m=st.sampled_from([2, 9, 64, 513]), how=st.sampled_from(strategies.BINARY_KINDS))
def test_two_classes_against_the_closed_form(isa: str, seed: int, m: int, how: str) -> None:
    scores = strategies.make_binary_scores(seed, m, 30, how, "float64")
    result = certified(scores)
    for i in range(30):
        bits = naive_capacity.binary_capacity(scores[:, i])
        assert result.bits[i] == pytest.approx(bits, abs=1e-12)


# ----------------------------------------------------------------------------------------------------
# What published code returns for these (Hsu and Calmon 2022, and the dropout code of 2024 with the same solver)


@pytest.mark.parametrize(
    ("m", "mean", "deviation", "exact", "published", "rounds"),
    [
        (100, 0.8, 0.02, 0.008400, 0.006975, 1000),
        (2100, 0.8, 0.02, 0.017268, 0.001849, 1),
        (2100, 0.95, 0.01, 0.017218, 0.001568, 1),
    ],
)
def test_where_the_published_stop_fails(
    isa: str, m: int, mean: float, deviation: float, exact: float, published: float, rounds: int
) -> None:
    """Figures of one draw, measured with the published code; another draw moves them by a part, not by a factor."""
    scores = np.random.default_rng(0).normal(mean, deviation, m).clip(0, 1)
    bits = naive_capacity.binary_capacity(scores)
    assert exact / 2 < bits < exact * 2
    stopped, used = naive_capacity.published_stop(naive_capacity.classes_of(scores[:, None])[:, 0])
    assert used == rounds
    assert published / 2 < stopped < published * 2
    assert stopped < bits * (0.95 if rounds == 1000 else 0.2)
    result = certified(scores[:, None])
    assert result.bits[0] == pytest.approx(bits, abs=1e-12)
    assert result.lower[0] <= bits <= result.upper[0]
    both = certified(naive_capacity.classes_of(scores[:, None]))
    assert_overlap(result, both)


def test_where_the_published_stop_fails_with_ten_classes(isa: str) -> None:
    rows = make_channels(0, 500, 1, 10, "softmax")
    stopped, rounds = naive_capacity.published_stop(rows[:, 0])
    result = certified(rows)
    check_against_blahut_arimoto(result, rows)
    assert rounds == 1000
    assert stopped < result.lower[0] - 1e-5


def test_a_prior_that_is_dropped_gives_another_number(isa: str) -> None:
    """BSC with error .1: 1 - H2(.1) = .531004, where a package without the prior in its update returns .158108."""
    found = channel([[0.9, 0.1], [0.1, 0.9]])
    assert round(found.bits, 6) == 0.531004
