"""Channels that break solvers, by name, on every instruction set: zeros, copies, ties, subnormals, limits.

`capacity_checks.check` recomputes the bounds from each support, so "passes check" means certified without the kernel.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import naive_capacity
import numpy as np
import oracle_capacity
import pytest
import strategies
from capacity_checks import (
    assert_overlap,
    certified,
    check,
    check_against_blahut_arimoto,
    make_channels,
    noisy_softmax,
    unjudged,
)
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from test_capacity_bounds import assert_contains

import rashomon_core as rc

Array = NDArray[Any]
DTYPES = strategies.FLOAT_DTYPES
#: Widest interval that "as tight as rounding allows" may mean, in bits.
TIGHT = 1e-11


def solved(probs: Array, rounds: int = 2000, **options: Any) -> Any:
    """Certified, checked by its supports and against Blahut-Arimoto."""
    result = certified(probs, **options)
    check(result, probs, tol=options.get("tol", 1e-6))
    check_against_blahut_arimoto(result, probs, rounds=rounds)
    return result


def nothing(result: Any) -> None:
    """Exactly 0, and known to be."""
    for name in ("lower", "bits", "upper"):
        assert_array_equal(getattr(result, name), 0.0)
    assert_array_equal(result.effective_classes, 1.0)
    assert result.certified.all()


# ----------------------------------------------------------------------------------------------------
# Equal, and nearly


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [2, 3, 10, 100])
def test_identical_rows_have_exactly_no_capacity(isa: str, c: int, dtype: str) -> None:
    for how in ("dirichlet", "one_hot", "grid", "sharp"):
        for m in (1, 2, 9, 1000):
            probs = strategies.make_scores(c + m, m, 6, c, how, dtype, identical=True)
            for tol in (1e-6, 0.0):
                nothing(certified(probs, tol=tol))
            nothing(certified(probs, method="blahut_arimoto"))
            assert rc.channel_capacity(probs[:, 0], tol=0.0, on_uncertified="raise").upper == 0
            assert rc.joint_capacity(probs, tol=0.0, on_uncertified="raise").upper == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_class_1_scores_have_exactly_no_capacity(isa: str, dtype: str) -> None:
    for value in (0.0, 1.0, 0.5, 0.1, 1e-7, 0.9999):
        nothing(certified(np.full((50, 9), value, dtype=dtype), tol=0.0))


@pytest.mark.parametrize("c", [2, 3, 10])
def test_duplicates_by_the_thousand(isa: str, c: int) -> None:
    few = np.random.default_rng(c).dirichlet(np.ones(c), size=(5, 2))
    many = np.repeat(few, [4000, 1, 2500, 999, 7], axis=0)
    probs = np.random.default_rng(1).permutation(many)
    assert_overlap(solved(probs, rounds=300), certified(few))


@pytest.mark.parametrize("c", [2, 3, 4])
def test_rows_1e12_apart(isa: str, c: int) -> None:
    rng = np.random.default_rng(c)
    base = rng.dirichlet(np.ones(c), size=(1, 4))
    small = base + 1e-12 * rng.normal(size=(3, 4, c)) * base
    assert_contains(certified(small), [oracle_capacity.exact(small[:, i]) for i in range(4)])
    assert_contains(unjudged(small, tol=0.0), [oracle_capacity.exact(small[:, i]) for i in range(4)])
    many = base + 1e-12 * rng.normal(size=(700, 4, c)) * base
    result = solved(many, rounds=50)
    assert (result.upper <= TIGHT).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [2, 3, 4, 33])
def test_neighbouring_floats(isa: str, c: int, dtype: str) -> None:
    base = np.random.default_rng(c).dirichlet(np.ones(c), size=(1, 3)).astype(dtype)
    zero, one = np.array([0, 1], dtype=dtype)
    probs = np.repeat(base, 70, axis=0)
    probs[1::3], probs[2::3] = np.nextafter(base, zero), np.nextafter(base, one)
    probs[4, :, 0], probs[5, :, -1] = np.nextafter(base[0, :, 0], zero), np.nextafter(base[0, :, -1], one)
    result = solved(probs, rounds=50)
    if dtype == "float64":
        assert (result.upper <= TIGHT).all()
    few = probs[2:6]
    if c <= 4:
        assert_contains(result, [(0, oracle_capacity.exact(probs[:6, i])[1]) for i in range(3)])
        assert_contains(certified(few), [oracle_capacity.exact(few[:, i]) for i in range(3)])


def test_neighbouring_class_1_scores(isa: str) -> None:
    for dtype in DTYPES:
        for value in (0.0, 1e-6, 0.3, 0.5, 0.999):
            p = np.array(value, dtype=dtype)
            scores = np.array([p, np.nextafter(p, np.array(1, dtype=dtype)), p])[:, None]
            assert_contains(certified(scores), [oracle_capacity.exact(scores[:, 0])])


# ----------------------------------------------------------------------------------------------------
# Zeros


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("c", "covered"), [(3, 2), (10, 10), (40, 7), (65, 65)])
def test_one_hot_rows(isa: str, c: int, covered: int, dtype: str) -> None:
    rng = np.random.default_rng(c)
    classes = rng.permutation(c)[:covered]
    rows = np.eye(c)[rng.permutation(np.tile(classes, 4))][:, None].astype(dtype)
    result = solved(rows)
    assert result.bits[0] == pytest.approx(math.log2(covered), abs=1e-9)
    index, weights = result.support(0)
    assert sorted(set(rows[index, 0].argmax(axis=1))) == sorted(classes)
    assert weights == pytest.approx(1 / covered, rel=1e-2)


def test_zeros_in_different_places(isa: str) -> None:
    rng = np.random.default_rng(4)
    for c in (3, 5, 12):
        for missing in (1, 2):
            rows = rng.dirichlet(np.ones(c), size=(40, 3))
            gone = np.argsort(rng.random(rows.shape), axis=-1) < missing
            rows[gone] = 0
            solved(naive_capacity.normalised(rows))
    disjoint = np.kron(np.eye(4), rng.dirichlet(np.ones(3), size=5))[:, None]  # blocks without a class in common
    result = solved(disjoint)
    assert result.bits[0] > 2


@pytest.mark.parametrize("c", [3, 10, 64])
def test_a_class_nobody_predicts(isa: str, c: int) -> None:
    rng = np.random.default_rng(c)
    rows = rng.dirichlet(np.ones(c), size=(30, 4))
    wide = np.zeros((30, 4, c + 3))
    kept = np.sort(rng.permutation(c + 3)[:c])
    wide[:, :, kept] = rows
    result = solved(wide)
    assert_overlap(result, certified(rows))
    two = np.zeros((30, 4, c))
    two[:, :, [0, c - 1]] = np.stack([1 - rows[:, :, 0], rows[:, :, 0]], axis=-1)
    assert_overlap(solved(two), certified(rows[:, :, 0]))
    alone = np.zeros((30, 4, c))
    alone[:, :, 1] = 1
    nothing(certified(alone, tol=0.0))


@pytest.mark.parametrize("tiny", [1e-30, 1e-300, 5e-324])
def test_tiny_probabilities(isa: str, tiny: float) -> None:
    rows = np.array(
        [
            [[1.0, tiny, 0.0]],
            [[tiny, 1.0, tiny]],
            [[0.5, 0.5, tiny]],
            [[0.0, 0.5, 0.5]],
        ]
    )
    assert_contains(certified(rows), [oracle_capacity.exact(rows[:, 0])])
    solved(np.repeat(rows, 50, axis=0))
    one = np.array([[1 - tiny, tiny, 0.0], [1.0, 0.0, tiny], [1.0, tiny, tiny]])[:, None]
    result = certified(one)
    check(result, one)
    assert result.upper[0] <= TIGHT
    binary = np.array([[tiny], [0.0], [2 * tiny]])
    assert_contains(certified(binary), [oracle_capacity.exact(binary[:, 0])])


def test_float32_and_float16_subnormals(isa: str) -> None:
    for dtype, tiny in (("float32", 1e-40), ("float32", 1.4e-45), ("float16", 6e-8)):
        rows = np.array([[1, tiny, 0], [0, 1, tiny], [tiny, tiny, 1], [1, 0, tiny]], dtype=dtype)[:, None]
        assert (rows[rows > 0] < 1e-6).any()  # still there after the cast
        assert_contains(certified(rows), [oracle_capacity.exact(rows[:, 0])])
        binary = np.array([[tiny], [0.25], [0.0]], dtype=dtype)
        assert_contains(certified(binary), [oracle_capacity.exact(binary[:, 0])])


def test_negative_zero_is_zero(isa: str) -> None:
    rows = np.array([[1.0, -0.0, 0.0], [0.0, 1.0, -0.0], [0.5, 0.5, -0.0]])[:, None]
    assert solved(rows).bits[0] == pytest.approx(1.0, abs=1e-12)
    binary = np.array([[-0.0], [1.0], [0.5]])
    assert certified(binary).bits[0] == pytest.approx(1.0, abs=1e-12)


def test_near_one_hot_float32_softmax_rows(isa: str) -> None:
    for m, c in ((500, 10), (64, 3), (100, 40)):
        logits = 30 * np.random.default_rng(m).normal(size=(m, 3, c)).astype(np.float32)
        probs = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probs /= probs.sum(axis=-1, keepdims=True)
        solved(probs)
        assert (np.diff(np.sort(probs, axis=-1)[..., -2:]) > 0.999).mean() > 0.5


@pytest.mark.parametrize("tiny", [0.0, 1e-304, 1e-200, 1e-30, 1e-15])
def test_copies_of_nearly_one_hot_rows_keep_their_weight(isa: str, tiny: float) -> None:
    rows = np.array([[tiny, tiny, 1.0], [1.0, tiny, tiny], [1.0, tiny, tiny]])[:, None]
    for probs in (rows, rows[::-1], np.repeat(rows, 5, axis=0)):
        result = solved(probs)
        assert result.bits[0] == pytest.approx(1.0, abs=1e-6)
    found = rc.channel_capacity(rows[:, 0])
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-12)


FAR_APART = (
    (0.9931606644519214, 5.822180647246011e-09, 0.006839329725897875, 1e-296, 1e-296),
    (0.9998332875987502, 1.1321625448437174e-07, 0.00016659918499533906, 1e-296, 1e-296),
    (0.9999999999962554, 3.752372706467619e-16, 3.744243349289857e-12, 1e-296, 8.5e-133),
)


@functools.cache
def exact_once(rows: tuple[tuple[float, ...], ...]) -> Any:
    """Return the exact capacity of a channel, which takes seconds, once for all instruction sets."""
    return oracle_capacity.exact(np.array(rows))


def test_a_class_of_1e133_where_the_others_have_1e296(isa: str) -> None:
    """Entering a row moves a class of the mixture by a factor of 1e160: Newton's first step along it is next to 0."""
    expected = exact_once(FAR_APART)
    for method in ("auto", "newton"):
        assert_contains(solved(np.array(FAR_APART)[:, None], method=method), [expected])


def test_huge_logits_are_one_hot(isa: str) -> None:
    logits = np.eye(6)[np.arange(30) % 5][:, None] * 1e5
    result = certified(rc.Predictions.from_array(logits, kind="logits"))
    assert result.bits[0] == pytest.approx(math.log2(5), abs=1e-9)


# ----------------------------------------------------------------------------------------------------
# Shapes


@pytest.mark.parametrize("c", [2, 3, 10, 40])
def test_one_model_has_no_capacity(isa: str, c: int) -> None:
    for dtype in DTYPES:
        probs = strategies.make_scores(c, 1, 50, c, "mixed", dtype)
        result = certified(probs, tol=0.0)
        nothing(result)
        assert [x.tolist() for x in result.support(3)] == [[0], [1.0]]
    nothing(certified(np.random.default_rng(1).random((1, 9)), tol=0.0))


@pytest.mark.parametrize("c", [2, 3, 8, 17, 40])
def test_two_models(isa: str, c: int) -> None:
    for how in ("dirichlet", "sparse", "softmax", "one_hot", "sharp", "near"):
        solved(make_channels(c, 2, 5, c, how))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_classes_with_a_zero_or_a_one(isa: str, dtype: str) -> None:
    inside = np.array([0.0, 1e-7, 0.001, 0.25, 0.5, 0.9, 0.999, 1.0], dtype=dtype)
    for end in (0.0, 1.0):
        scores = np.stack([np.full(8, end, dtype=dtype), inside, (inside + dtype_of(end, dtype)) / 2])
        scores = scores.astype(dtype)
        result = certified(scores)
        check(result, scores)
        assert_contains(result, [oracle_capacity.exact(scores[:, i]) for i in range(8)])
        assert result.bits[0 if end else 7] == pytest.approx(1.0, abs=1e-12)
        assert result.upper[7 if end else 0] == 0


def dtype_of(value: float, dtype: str) -> Any:
    return np.array(value, dtype=dtype)


def test_a_thousand_classes(isa: str) -> None:
    for how, m in (("dirichlet", 60), ("softmax", 200), ("one_hot", 300)):
        probs = make_channels(1, m, 1, 1000, how).astype(np.float32)
        result = solved(probs, rounds=100)
        assert result.upper[0] > 0.001
    rows = np.eye(1000, dtype=np.float32)[:, None]
    assert certified(rows).bits[0] == pytest.approx(math.log2(1000), abs=1e-9)


def test_more_than_a_hundred_thousand_models(isa: str) -> None:
    scores = np.random.default_rng(2).normal(0.8, 0.02, (130_001, 3)).clip(0, 1).astype(np.float32)
    result = certified(scores)
    two = certified(naive_capacity.classes_of(scores))
    for i in range(3):
        bits = naive_capacity.binary_capacity(scores[:, i])
        assert result.bits[i] == pytest.approx(bits, abs=1e-12)
        assert two.bits[i] == pytest.approx(bits, abs=1e-12)
        assert sorted(scores[result.support(i)[0], i]) == [scores[:, i].min(), scores[:, i].max()]


def test_more_than_a_hundred_thousand_models_of_three_classes(isa: str) -> None:
    probs = make_channels(3, 100_003, 1, 3, "softmax").astype(np.float32)
    result = certified(probs)
    check(result, probs)
    worst = int(result.support(0)[0][0])
    assert_overlap(result, certified(np.concatenate([probs, probs[worst : worst + 1]])))


# ----------------------------------------------------------------------------------------------------
# Geometry


@pytest.mark.parametrize("c", [2, 3, 5, 20])
def test_collinear_rows(isa: str, c: int) -> None:
    ends = np.random.default_rng(c).dirichlet(np.ones(c), size=(2, 4))
    t = np.r_[0.0, 1.0, np.random.default_rng(1).random(300)][:, None, None]
    probs = ends[0] * (1 - t) + ends[1] * t
    result = solved(probs)
    assert_overlap(result, certified(ends))
    for i in range(4):
        assert set(result.support(i)[0]) == {0, 1}


def test_optimum_on_a_face(isa: str) -> None:
    """The third row lies near the middle of the others: its best weight is exactly 0."""
    rows = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.42, 0.42, 0.16], [0.3, 0.3, 0.4]])
    for count in (3, 4):
        probs = rows[:count, None]
        result = certified(probs)
        assert_contains(result, [oracle_capacity.exact(rows[:count])])
        check(result, probs)
    assert set(certified(rows[:3, None]).support(0)[0]) == {0, 1}
    assert_overlap(certified(rows[:3, None]), certified(rows[:2, None]))


def test_a_row_exactly_as_far_as_the_optimum(isa: str) -> None:
    """A third row that touches: D(s_3 || q) = C, the limit between weight and no weight."""
    a, b = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.7, 0.1])
    q = (a + b) / 2
    goal = naive_capacity.divergences(a[None], q)[0]
    low, high = 0.0, 0.5
    for _ in range(100):
        t = (low + high) / 2
        row = np.array([q[0] - t / 2, q[1] - t / 2, q[2] + t])
        low, high = (t, high) if naive_capacity.divergences(row[None], q)[0] < goal else (low, t)
    for rows in ([a, b, row], [a, b] * 40 + [row] * 40, [a, b, row * 0.999 + q * 0.001, row]):
        probs = np.array(rows)[:, None]
        result = solved(probs, tol=1e-9)
        assert result.bits[0] == pytest.approx(goal, abs=1e-9)


def test_many_rows_equally_far(isa: str) -> None:
    """All permutations of one row: the optimum has equal distances to every row, and far fewer rows suffice."""
    for c in (3, 4, 5):
        base = np.random.default_rng(c).dirichlet(np.ones(c))
        orders = np.array(np.meshgrid(*[np.arange(c)] * c)).reshape(c, -1).T
        orders = orders[[len(set(x)) == c for x in orders.tolist()]]
        result = solved(base[orders][:, None], tol=1e-9)
        entropy = -float((base * np.log2(base)).sum())
        assert result.bits[0] == pytest.approx(math.log2(c) - entropy, abs=1e-9)


def test_rows_of_very_different_scales(isa: str) -> None:
    rng = np.random.default_rng(9)
    rows = rng.dirichlet(10.0 ** -np.arange(0, 8.0), size=(200, 3))
    solved(naive_capacity.normalised(rows + 1e-300))
    steep = naive_capacity.normalised(10.0 ** -rng.integers(0, 18, (100, 3, 6)).astype(float))
    solved(steep)


def test_float16_rows_that_miss_their_sum(isa: str) -> None:
    rng = np.random.default_rng(3)
    rows = rng.dirichlet(np.ones(4), size=(400, 30)) * rng.choice([0.99935, 1.00065], (400, 30, 1))
    probs = rows.astype(np.float16)
    good = np.abs(probs.astype(np.float64).sum(axis=-1) - 1) < 9.9e-4
    kept = np.stack([probs[good[:, i], i][:200] for i in range(30)], axis=1)
    off = np.abs(kept.astype(np.float64).sum(axis=-1) - 1)
    assert (off > 6e-4).mean() > 0.3
    solved(kept[:, :6])
    for few in (kept[:4], kept[4:7], kept[7:9]):
        assert_contains(certified(few), [oracle_capacity.exact(few[:, i]) for i in range(30)])


# ----------------------------------------------------------------------------------------------------
# Limits


@pytest.mark.parametrize("method", ["newton", "blahut_arimoto"])
def test_one_iteration_gives_valid_bounds(isa: str, method: str) -> None:
    for how in ("dirichlet", "sparse", "softmax", "sharp", "one_hot", "grid"):
        probs = make_channels(5, 700, 3, 20, how)
        result = unjudged(probs, method=method, max_iter=1, tol=1e-9)
        check(result, probs, tol=1e-9, few_rows=method == "newton")
        check_against_blahut_arimoto(result, probs)
        assert (result.iterations == 1).all()
        assert set(result.status) <= {"certified", "iteration_limit"}
        if how in ("dirichlet", "softmax"):
            assert result.status[0] == "iteration_limit"
        more = unjudged(probs, method=method, max_iter=4, tol=1e-9)
        assert (more.lower >= result.lower - 1e-12).all()
        assert (more.upper <= result.upper + 1e-12).all()
        assert (more.iterations <= 4).all()


@pytest.mark.parametrize("tol", [0.0, 1e-18])
def test_a_tolerance_below_rounding(isa: str, tol: float) -> None:
    for c in (2, 3, 10, 40):
        for how in ("dirichlet", "softmax", "sparse", "near"):
            probs = make_channels(c, 64, 4, c, how)
            result = unjudged(probs, tol=tol)
            check(result, probs, tol=tol)
            check_against_blahut_arimoto(result, probs)
            assert set(result.status) <= {"precision_limit"}
            assert result.max_gap <= TIGHT, f"{how}, {c} classes"


@pytest.mark.parametrize("c", [3, 10, 33])
def test_tight_tolerances_are_certified(isa: str, c: int) -> None:
    for how in ("dirichlet", "softmax", "sparse", "near", "confident", "grid", "duplicates"):
        solved(make_channels(c, 300, 3, c, how), tol=1e-9, rounds=500)


@pytest.mark.slow
def test_a_tight_tolerance_on_a_large_channel(isa: str) -> None:
    rng = np.random.default_rng(0)
    for probs in (noisy_softmax(rng, 10_000, 1, 128, 0.3), rng.dirichlet(np.ones(128), size=(10_000, 1))):
        result = certified(probs, tol=1e-9)
        check(result, probs, tol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "c"), [(700, 40), (513, 64), (64, 300)])
@pytest.mark.parametrize("how", ["dirichlet", "sparse", "softmax", "confident", "dense", "mixed", "collinear"])
def test_large_channels(isa: str, how: str, m: int, c: int) -> None:
    solved(make_channels(m, m, 4, c, how).astype(np.float32), rounds=1000)
