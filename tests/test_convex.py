"""Linear sets against SciPy's SLSQP, the conic solver, a grid, scikit-learn's optimum, and bad input."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import naive_exploration as naive
import numpy as np
import numpy.typing as npt
import pytest

import rashomon_core as rc
from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError
from rashomon_core.exploration import LinearSet

Array = npt.NDArray[Any]


def data(n: int = 120, d: int = 3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, (X @ rng.normal(size=d) + rng.logistic(size=n) > 0).astype(int)


def theta_rows(X: Array) -> Array:
    return np.hstack([X, np.ones((len(X), 1))])


CASES = [
    # epsilon, l2, soft, weighted
    (0.01, 0.0, False, False),
    (0.01, 0.1, False, True),
    (0.001, 1e-3, True, False),
    (0.1, 0.0, True, True),
    (0.4, 1e-2, False, False),
]


@pytest.mark.parametrize(("epsilon", "l2", "soft", "weighted"), CASES)
def test_ranges_against_slsqp_and_cvxpy(epsilon: float, l2: float, soft: bool, weighted: bool) -> None:
    X, y = data()
    rng = np.random.default_rng(1)
    p = rng.beta(2, 2, len(X)) if soft else y
    s = rng.integers(0, 4, len(X)).astype(float) if weighted else None
    near = LinearSet(X, p, epsilon=epsilon, l2=l2, sample_weight=s)
    found = near.range(X[:4])
    assert found.status.tolist() == ["certified"] * 4
    assert found.max_gap <= 1e-6 * max(1, np.abs(found.high).max())
    weights = np.ones(len(X)) if s is None else s
    for i, c in enumerate(theta_rows(X[:4])):
        low, high, best = naive.extreme(c, X, p.astype(float), weights, l2, epsilon)
        assert near.optimum.loss == pytest.approx(best, abs=1e-8)
        assert found.low[i] == pytest.approx(low, abs=2e-4)
        assert found.high[i] == pytest.approx(high, abs=2e-4)
    conic = LinearSet(X, p, epsilon=epsilon, l2=l2, sample_weight=s, method="cvxpy")
    second = conic.range(X[:4])
    slack = 1e-7  # of the dual bound and the limit, which are each solver's own
    assert (second.low >= found.low_bound - slack).all()
    assert (second.low_bound <= found.low + slack).all()
    assert (second.high <= found.high_bound + slack).all()
    np.testing.assert_allclose(second.low, found.low, atol=1e-4)
    np.testing.assert_allclose(second.high, found.high, atol=1e-4)


@pytest.mark.parametrize("method", ["newton", "cvxpy"])
@pytest.mark.parametrize(("epsilon", "l2", "soft", "weighted"), CASES)
def test_members_are_in_the_set_and_attain_the_range(
    method: Any, epsilon: float, l2: float, soft: bool, weighted: bool
) -> None:
    X, y = data(seed=2)
    near = LinearSet(X, y, epsilon=epsilon, l2=l2, method=method)
    found = near.range(X[:3])
    members = near.members()
    assert [m.name for m in members[:3]] == ["row 0 low", "row 0 high", "row 1 low"]
    for k, m in enumerate(members):
        theta = np.append(m.coef_[0], m.intercept_)
        loss = naive.logistic_loss(theta, X, y.astype(float), np.ones(len(X)), l2)
        assert loss <= near.limit * (1 + 1e-12)
        assert m.loss == pytest.approx(loss, abs=1e-12)
        assert near.loss(m) == pytest.approx(loss, abs=1e-12)
        want = (found.low, found.high)[k % 2][k // 2]
        assert m.decision_function(X[:3])[k // 2] == pytest.approx(want, abs=1e-10)
    scores = rc.predict_all(members, X[:3]).to_array()
    ranges = rc.viable_prediction_range(scores)[:, 1]
    np.testing.assert_allclose(ranges, np.stack([found.p_low, found.p_high], axis=1), atol=1e-10)


def test_no_sampled_member_is_outside() -> None:
    """Points on the boundary in random directions from the optimum: none beyond the bounds, some close to them."""
    X, y = data(80, 2)
    near = LinearSet(X, y, epsilon=0.02)
    found = near.range(X[:5])
    best = np.append(near.optimum.coef_[0], near.optimum.intercept_)
    rng, logits = np.random.default_rng(0), []
    for _ in range(400):
        way = rng.normal(size=3)
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            inside = naive_loss(best + middle * way, X, y) <= near.limit
            low, high = (middle, high) if inside else (low, middle)
        logits.append(theta_rows(X[:5]) @ (best + low * way))
    assert (np.min(logits, axis=0) >= found.low_bound).all()
    assert (np.max(logits, axis=0) <= found.high_bound).all()
    assert (np.min(logits, axis=0) <= found.low + 0.05 * (found.high - found.low)).all()


def naive_loss(theta: Array, X: Array, y: Array) -> float:
    z = X @ theta[:-1] + theta[-1]
    return float(np.mean(np.logaddexp(0, z) - y * z))


def test_optimum_matches_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = data(300, 4)
    for l2 in (1e-3, 0.1):
        near = LinearSet(X, y, epsilon=0.1, l2=l2)
        theirs = LogisticRegression(C=1 / (l2 * len(X)), tol=1e-10, max_iter=1000).fit(X, y)
        np.testing.assert_allclose(near.optimum.coef_, theirs.coef_, atol=1e-5)
        np.testing.assert_allclose(near.optimum.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
        assert 0 <= near.optimum_gap < 1e-12
        assert (near.optimum.predict(X) == theirs.predict(X)).all()


def test_gap_range() -> None:
    X, y = data()
    groups = np.where(np.arange(len(X)) % 3 == 0, "a", "b")
    near = LinearSet(X, y, epsilon=0.02, l2=1e-3)
    found = near.gap_range(X, groups)
    c = np.append(X[groups == "b"].mean(axis=0) - X[groups == "a"].mean(axis=0), 0)
    low, high, _ = naive.extreme(c, X, y.astype(float), np.ones(len(X)), 1e-3, 0.02)
    assert found.status.tolist() == ["certified"]
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=1e-4)
    for m, want in zip(near.members(), (found.low[0], found.high[0]), strict=True):
        z = m.decision_function(X)
        assert z[groups == "b"].mean() - z[groups == "a"].mean() == pytest.approx(want, abs=1e-10)
    same = near.gap_range(np.ones((4, 3)), [0, 0, 1, 1])
    assert (same.low[0], same.high[0]) == (0, 0)


def test_ranges_grow_with_epsilon_and_meet_at_zero() -> None:
    X, y = data()
    before = None
    for epsilon in (0.0, 1e-9, 1e-4, 0.01, 0.1, 1.0):
        near = LinearSet(X, y, epsilon=epsilon, l2=0.01)
        found = near.range(X[:3])
        assert (found.status == "certified").all(), epsilon
        z = near.optimum.decision_function(X[:3])
        if epsilon == 0:
            np.testing.assert_allclose(np.stack([found.low, found.high]), [z, z], atol=1e-12)
        assert (found.low <= z + 1e-12).all()
        assert (found.high >= z - 1e-12).all()
        if before is not None:
            assert (found.low < before.low).all()
            assert (found.high > before.high).all()
        before = found
    near = LinearSet(X, y, epsilon=0.1, l2=0.01, relative=True)
    assert near.limit == pytest.approx(1.1 * near.optimum.loss)


def test_dependent_and_constant_columns() -> None:
    X, y = data()
    plain = LinearSet(X, y, epsilon=0.01)
    wide = np.hstack([X, X[:, :1] + 2 * X[:, 1:2], np.full((len(X), 1), 7.0), np.zeros((len(X), 1))])
    near = LinearSet(wide, y, epsilon=0.01)
    a, b = plain.range(X[:3]), near.range(wide[:3])
    np.testing.assert_allclose(a.low, b.low, atol=1e-7)
    np.testing.assert_allclose(a.high, b.high, atol=1e-7)
    off = wide[:2].copy()
    off[0, 4] = 8.0  # a constant that the data never showed
    seen = near.range(off)
    assert seen.status.tolist() == ["unbounded", "certified"]
    assert (seen.low[0], seen.high[0]) == (-np.inf, np.inf)
    assert (seen.p_low[0], seen.p_high[0]) == (0.0, 1.0)
    assert seen.max_gap < 1e-6
    with_penalty = LinearSet(wide, y, epsilon=0.01, l2=1e-3).range(off)
    assert with_penalty.status.tolist() == ["certified"] * 2
    scaled = LinearSet(X * [1e6, 1, 1e-6], y, epsilon=0.01).range(X[:3] * [1e6, 1, 1e-6])
    np.testing.assert_allclose(scaled.low, a.low, rtol=1e-6, atol=1e-7)


def test_separable_answers() -> None:
    X, _ = data()
    clean = (X[:, 0] > 0).astype(int)
    quasi = np.sign(X)
    quasi[:3, 0] = 0  # on the hyperplane, with both answers
    clean[:3] = [0, 1, 0]
    for rows, answers in ((X, (X[:, 0] > 0).astype(int)), (quasi, clean)):
        with pytest.raises(InvalidInputError, match="l2 > 0"):
            LinearSet(rows, answers, epsilon=0.1)
        near = LinearSet(rows, answers, epsilon=0.1, l2=1e-4)
        assert near.range(rows[:3]).status.tolist() == ["certified"] * 3
    LinearSet(X, np.where(X[:, 0] > 0, 0.9, 0.1), epsilon=0.1)  # soft answers always have an optimum


def test_separable_answers_are_those_that_a_linear_program_separates() -> None:
    """Few values, so that hyperplanes run through samples; near ones; columns of other sizes."""
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    rng, seen = np.random.default_rng(0), [0, 0]
    for k in range(300):
        n, d = int(rng.integers(4, 25)), int(rng.integers(1, 4))
        X = rng.integers(-2, 3, (n, d)) + (k % 3 == 0) * 1e-3 * rng.normal(size=(n, d))
        X = X * 10.0 ** (rng.integers(-3, 4, d) * (k % 5 == 0))
        y = (X @ rng.normal(size=d) + rng.logistic(size=n) * rng.choice([0.1, 1.0]) > 0).astype(int)
        if len(set(y)) < 2:
            continue
        # theta and t: the most sum(t), t <= 1, sign(y) A theta >= t; 0 where no hyperplane separates any
        A = (2 * y - 1)[:, None] * theta_rows(X / np.abs(X).max(axis=0).clip(1e-9))
        found = optimize.linprog(
            np.r_[np.zeros(d + 1), -np.ones(n)],
            A_ub=np.hstack([-A, np.eye(n)]),
            b_ub=np.zeros(n),
            bounds=[(None, None)] * (d + 1) + [(0, 1)] * n,
        )
        separable = -found.fun > 1e-6
        seen[separable] += 1
        with pytest.raises(InvalidInputError, match="l2 > 0") if separable else contextlib.nullcontext():
            assert LinearSet(X, y, epsilon=0.1).optimum_gap < 1e-9
    assert min(seen) > 80


@pytest.mark.parametrize("offset", [0, 2000, 1e4, 1e6])
def test_separable_answers_far_from_the_origin(offset: float) -> None:
    X = np.array([[2, 1], [1, 1], [0, 1], [0, 2], [0, 2], [2, 0]], dtype=float)
    with pytest.raises(InvalidInputError, match="l2 > 0"):  # what lies on the hyperplane does so but for rounding
        LinearSet(X + offset, [1, 0, 0, 0, 1, 1], epsilon=0.01)


def test_weights_of_very_different_sizes() -> None:
    """A full Newton step would go to where the loss does not bend any more."""
    X = [[-2, 1, -1], [1, 2, 1], [0, 2, 2], [3, 1, -1], [-1, 2, -2], [-1, 2, 3], [0, 1, -1], [1, -1, -1], [1, 0, 3]]
    y, w = [1, 1, 0, 1, 0, 0, 0, 1, 1], [1, 100, 100, 100, 100, 10, 0.1, 1, 1]
    found = LinearSet(np.array(X, dtype=float), y, epsilon=0.01, sample_weight=w)
    near = LinearSet(np.array(X, dtype=float), y, epsilon=0.01, sample_weight=w, l2=1e-12)
    assert found.optimum_gap < 1e-12
    assert found.optimum.loss == pytest.approx(near.optimum.loss, abs=1e-8)


@pytest.mark.parametrize("softness", [1e-3, 1e-6])
def test_answers_that_are_nearly_certain(softness: float) -> None:
    """The loss bends so little out there that steps cannot be solved for: values stay members, bounds stay bounds."""
    X = np.arange(6.0)[:, None]
    found = LinearSet(X, [softness] * 3 + [1 - softness] * 3, epsilon=0.1)
    reached = found.range(X)
    assert set(reached.status.tolist()) <= {"certified", "precision_limit"}
    assert (reached.low_bound <= reached.low).all()
    assert (reached.low <= reached.high).all()
    assert (reached.high <= reached.high_bound).all()
    assert all(found.loss(model) <= found.limit * (1 + 1e-9) for model in found.members())


def test_a_minimum_that_doubles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinearSet, "_has_minimum_near", lambda self, y: False)
    X, y = data()
    with pytest.raises(InvalidInputError, match="hyperplane"):
        LinearSet(X, y, epsilon=0.1)
    with pytest.raises(InvalidInputError, match="scale the columns"):  # with a penalty there always is one
        LinearSet(X, y, epsilon=0.1, l2=1e-14)


def test_far_reaching_sets_are_certified() -> None:
    """Probabilities saturate before the loss reaches its limit: the search along the multiplier gives way."""
    X, y = data(300, 5)
    for epsilon in (0.5, 2.0):
        near = LinearSet(X, y, epsilon=epsilon)
        found = near.range(X[:5])
        assert (found.status == "certified").all()
        assert all(near.loss(m) <= near.limit * (1 + 1e-12) for m in near.members())


def test_labels_of_any_kind() -> None:
    X, y = data()
    want = LinearSet(X, y, epsilon=0.01).range(X[:2]).low
    for answers in (
        y.astype(bool),
        y * 2 + 5,
        np.where(y == 1, "yes", "no"),
        y.astype(float),
        np.stack([1.0 - y, y], 1),
    ):
        near = LinearSet(X, answers, epsilon=0.01)
        np.testing.assert_allclose(near.range(X[:2]).low, want, atol=1e-9)
    text = LinearSet(X, np.where(y == 1, "yes", "no"), epsilon=0.01)
    assert set(text.optimum.predict(X)) == {"no", "yes"}
    assert rc.predict_all([text.optimum], X).class_names == ("no", "yes")


@pytest.mark.parametrize("name", ["epsilon", "l2", "tol"])
@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf"), "1"])
def test_bad_numbers(name: str, value: Any) -> None:
    X, y = data()
    with pytest.raises(UsageError, match=name):
        LinearSet(X, y, **{"epsilon": 0.1, name: value})


def test_bad_input() -> None:
    X, y = data()
    broken = X.copy()
    broken[5, 2] = np.nan
    cases: list[tuple[Any, Any, str]] = [
        (broken, y, "sample 5, feature 2"),
        (X[0], y, "shape"),
        (X[:0], y[:0], "no samples"),
        (X.astype(str), y, "numbers"),
        (X, y[:-1], "answers have shape"),
        (X, np.zeros(len(X), int), "all answers are class 0"),
        (X, np.ones(len(X)), "all answers are class 1"),
        (X, np.arange(len(X)) % 3, "3 classes"),
        (X, np.full((len(X), 3), 1 / 3), "3 classes"),
        (X, np.where(np.arange(len(X)) == 4, 1.5, 0.5), "sample 4"),
        (X, np.where(np.arange(len(X)) == 4, np.nan, 0.5), "sample 4"),
        (X, np.full((len(X), 2), 0.7), "sum to 1"),
    ]
    for rows, answers, said in cases:
        with pytest.raises(InvalidInputError, match=said):
            LinearSet(rows, answers, epsilon=0.1)
    with pytest.raises(UsageError, match="method"):
        LinearSet(X, y, epsilon=0.1, method="simplex")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="all answers are class 1"):
        LinearSet(X, y, epsilon=0.1, sample_weight=y)  # the other class has no weight
    near = LinearSet(X, y, epsilon=0.1)
    with pytest.raises(InvalidInputError, match=r"\(N, 3\)"):
        near.range(X[:, :2])
    with pytest.raises(InvalidInputError, match="sample 5"):
        near.range(broken)
    for groups in (np.zeros(len(X), int), np.arange(len(X)) % 3):
        with pytest.raises(InvalidInputError, match="two groups"):
            near.gap_range(X, groups)


def test_cvxpy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data()
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    LinearSet(X, y, epsilon=0.1).range(X[:1])
    with pytest.raises(MissingDependencyError, match=r"rashomon-core\[convex\]"):
        LinearSet(X, y, epsilon=0.1, method="cvxpy").range(X[:1])
