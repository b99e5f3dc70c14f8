"""Choices of strategies against slow loops, closed forms and another library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import naive_queries as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from query_data import Array, C, N, Prototypes, collector, pool_of

from rashomon_core.errors import UsageError
from rashomon_core.extraction import active, attacks
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.proposals import QueryState
from rashomon_core.extraction.queries import Collector, FeatureSpace
from rashomon_core.extraction.rows import row_hashes

# ---------------------------------------------------------------------------------------------- scores

PROBAS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(2, 4)), elements=st.floats(0, 1)
).map(lambda a: np.round(a, 1) + np.eye(a.shape[2])[0] * (np.round(a, 1).sum(axis=2, keepdims=True) == 0))


@given(PROBAS)
def test_scores_are_those_of_the_slow_loops(raw: Array) -> None:
    probas = raw / raw.sum(axis=2, keepdims=True)
    rows = range(probas.shape[1])
    mean = probas.mean(axis=0)
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(active.entropy_scores(mean), [naive.entropy(r) for r in mean.tolist()], **close)
    np.testing.assert_allclose(active.margin_scores(mean), [naive.margin(r) for r in mean.tolist()], **close)
    np.testing.assert_allclose(active.confidence_scores(mean), [naive.confidence(r) for r in mean.tolist()], **close)
    np.testing.assert_allclose(
        active.vote_entropy_scores(probas), [naive.vote_entropy(probas, i) for i in rows], **close
    )
    np.testing.assert_allclose(active.divergence_scores(probas), [naive.divergence(probas, i) for i in rows], **close)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 20), st.randoms())
def test_ties_go_to_the_lowest_row(values: list[int], n: int, random: Any) -> None:
    rows = random.sample(range(50), len(values))
    n = min(n, len(values))
    assert active.best(np.array(values, float), np.array(rows), n).tolist() == naive.top(values, rows, n)


@given(st.lists(st.integers(0, 7), min_size=2, max_size=9).filter(any), st.randoms())
def test_the_same_shares_in_another_order_tie(counts: list[int], random: Any) -> None:
    shuffled = random.sample(counts, len(counts))
    p = np.array([counts, shuffled]) / sum(counts)
    assert len(set(active.entropy_scores(p).tolist())) == 1
    assert len(set(active.margin_scores(p).tolist())) == 1


@given(hnp.arrays(np.float64, (15, 2), elements=st.integers(-2, 2).map(float)), st.integers(1, 10), st.integers(1, 3))
def test_k_center_is_the_slow_loop(points: Array, n: int, m: int) -> None:
    distance = np.full(15, np.inf)
    for centre in points[:m]:
        distance = active.nearer(distance, points, centre)
    open_ = np.arange(15) >= m
    chosen, _ = active.farthest_first(points, distance, open_, n)
    assert chosen.tolist() == naive.k_center(points, points[:m], np.flatnonzero(open_).tolist(), n)


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence", "committee", "kl"])
def test_pool_strategies_choose_what_the_slow_loops_choose(name: str) -> None:
    given_ = {"name": "committee", "measure": "kl"} if name == "kl" else name
    score: dict[str, Callable[[Array, int], float]] = {
        "entropy": lambda p, i: naive.entropy(naive.mean_over_members(p, i)),
        "margin": lambda p, i: naive.margin(naive.mean_over_members(p, i)),
        "least_confidence": lambda p, i: naive.confidence(naive.mean_over_members(p, i)),
        "committee": naive.vote_entropy,
        "kl": naive.divergence,
    }
    c = collector(given_)
    c.collect(20)
    state = c._state(1)
    left = np.flatnonzero(~state.used).tolist()
    probas = np.stack([m.predict_proba(c._pool[left]) for m in state.surrogates()])
    expected = naive.top([round(score[name](probas, i), 12) for i in range(len(left))], left, 10)
    c.collect(10)
    assert c.rows[20:].tolist() == expected


def test_candidates_bound_the_work() -> None:
    sizes: list[int] = []

    class Counting(Prototypes):
        def predict_proba(self, X: Any) -> Array:
            sizes.append(len(X))
            return super().predict_proba(X)

    _, space = pool_of("numbers")
    c = collector(
        {"name": "entropy", "candidates": 15},
        committee=lambda rows, answers, rng: [Counting(space, rows, answers.labels, C)],
        batch=10,
    )
    c.collect(50)
    assert sizes == [15, 15, 15]


def test_k_center_does_not_depend_on_rounds() -> None:
    found = []
    for batch in (1, 7, None):
        c = collector("k_center", "frame", batch=batch, initial=5)
        c.collect(40)
        found.append(c.rows.tolist())
    assert found[0] == found[1] == found[2]
    points = c.space.encode(c._pool)
    allowed = [i for i in range(N) if i % 6 and i not in found[0][:5]]
    assert found[0][5:] == naive.k_center(points, points[found[0][:5]], allowed, 35)


# ---------------------------------------------------------------------------------------------- a second opinion


def test_scikit_activeml_agrees_on_scores() -> None:
    """Against scikit-activeml 1.0.1; its entropies and divergences are in nats."""
    pool = pytest.importorskip(
        "skactiveml.pool", reason="scikit-activeml does not import: no second opinion", exc_type=ImportError
    )
    probas = np.random.default_rng(0).dirichlet(np.full(5, 0.5), size=(6, 200))
    mean = probas.mean(axis=0)
    close = {"rtol": 1e-9, "atol": 1e-9}
    theirs = pool.uncertainty_scores
    np.testing.assert_allclose(active.entropy_scores(mean), theirs(mean, method="entropy") / np.log(2), **close)
    np.testing.assert_allclose(active.margin_scores(mean) + 1, theirs(mean, method="margin_sampling"), **close)
    np.testing.assert_allclose(active.confidence_scores(mean), theirs(mean, method="least_confident"), **close)
    kl = pool.average_kl_divergence(probas) / np.log(2)
    np.testing.assert_allclose(active.divergence_scores(probas), kl, **close)
    votes = pool.vote_entropy(probas.argmax(axis=2).T, np.arange(5)) / np.log(2)
    np.testing.assert_allclose(active.vote_entropy_scores(probas), votes, **close)


def test_scikit_activeml_agrees_on_k_center() -> None:
    pool = pytest.importorskip(
        "skactiveml.pool", reason="scikit-activeml does not import: no second opinion", exc_type=ImportError
    )
    c = collector("k_center", "mixed array", reserved=None)
    c.collect(60)
    points = c.space.encode(c._pool)
    y = np.full(N, np.nan)
    y[c.rows[:20]] = 0
    theirs = pool.CoreSet(random_state=0).query(X=points, y=y, batch_size=40)
    assert c.rows[20:].tolist() == theirs.tolist()


# ---------------------------------------------------------------------------------------------- attacks


def fitted_logistic(n_classes: int) -> tuple[Any, Array]:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X @ rng.normal(size=(4, n_classes))).argmax(axis=1)
    return linear.LogisticRegression().fit(X, y), X


def state_of(X: Array, models: list[Any], n_classes: int, **options: Any) -> QueryState:
    space = options.pop("space", None) or FeatureSpace.from_pool(X)
    answers = options.pop("answers", None) or Answers.of_labels(np.arange(len(X)) % n_classes, n_classes)
    rng = np.random.default_rng(0)
    return QueryState(space, None, np.zeros(0, bool), X, answers, n_classes, rng, 1, lambda: models, **options)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_differences_are_the_gradient_of_logistic_regression(n_classes: int) -> None:
    model, X = fitted_logistic(n_classes)
    labels = np.arange(len(X)) % n_classes
    p = model.predict_proba(X)
    w = np.vstack([-model.coef_, model.coef_]) / 2 if n_classes == 2 else model.coef_
    one = np.arange(len(X))
    exact = p[one, labels][:, None] * (w[labels] - p @ w)
    state = state_of(X, [model], n_classes)
    found = attacks.finite_differences(state, X, labels, np.full(4, 1e-5))
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-9)
    for i in (0, 7):
        for j in range(4):
            slow = naive.derivative(model.predict_proba, X[i].tolist(), int(labels[i]), j, 1e-5)
            assert found[i, j] == pytest.approx(slow, abs=1e-9)
    widths = np.array([1e-5, 0, 1e-5, 0])
    assert (attacks.finite_differences(state, X, labels, widths)[:, [1, 3]] == 0).all()

    class Exact:
        def predict_proba(self, rows: Array) -> Array:
            raise AssertionError("a gradient was there")

        def gradient(self, rows: Array, classes: Array) -> Array:
            p = model.predict_proba(rows)
            return np.asarray(p[np.arange(len(rows)), classes][:, None] * (w[classes] - p @ w))

    for models in ([Exact(), Exact()], [model]):
        strategy = attacks.Jacobian(step=0.05, clip=False, difference=1e-4)
        proposal = strategy.propose(state_of(X, models, n_classes), 300)
        assert proposal.rows is None
        step = 0.05 * (state.space.high - state.space.low)
        expected = X + step * np.sign(exact)
        assert {tuple(np.round(r, 9)) for r in proposal.X} == {tuple(np.round(r, 9)) for r in expected}


def test_jacobian_with_one_hot_missing_and_whole_columns() -> None:
    X, space = pool_of("mixed array")
    X = X.copy()
    X[::7, 4] = np.nan
    y = Answers.of_labels((X[:, 0] > 0).astype(int), 2)
    model = Prototypes(space, X, y.labels, 2)
    found = attacks.Jacobian().propose(state_of(X, [model], 2, space=space, answers=y), N).X
    assert np.isnan(found[:, 4]).sum() == np.isnan(X[:, 4]).sum()
    assert sorted(row_hashes(found[:, [1, 2, 3, 5, 6, 7]])) == sorted(row_hashes(X[:, [1, 2, 3, 5, 6, 7]]))
    whole = np.random.default_rng(0).integers(0, 4, (60, 3))
    whole = whole[np.unique(whole, axis=0, return_index=True)[1]][:20]
    space = FeatureSpace.from_pool(whole)
    y = Answers.of_labels((whole[:, 0] > 1).astype(int), 2)
    state = state_of(whole, [Prototypes(space, whole, y.labels, 2)], 2, seen=frozenset(row_hashes(whole)), answers=y)
    found = attacks.Jacobian().propose(state, 10).X
    assert found.dtype == whole.dtype
    assert not set(row_hashes(found)) & set(row_hashes(whole))


def test_jacobian_of_flat_surrogates_goes_somewhere() -> None:
    class Flat:
        def predict_proba(self, X: Array) -> Array:
            return np.full((len(X), 2), 0.5)

    X = np.random.default_rng(0).random((30, 3))
    found = attacks.Jacobian(step=0.1, clip=False).propose(state_of(X, [Flat()], 2), 30).X
    gaps = np.abs(found[:, None, :] - X[None]) / (X.max(axis=0) - X.min(axis=0))
    assert np.isclose(gaps, 0.1).all(axis=2).any(axis=1).all()


def test_bandit_by_hand() -> None:
    """Two clusters, label answers, diversity alone: every number worked out on paper."""
    k = attacks.Knockoff(labels=[0, 0, 1, 1], rewards="diversity")
    k.preferences, k._draws = np.zeros(2), np.zeros(2, dtype=np.int64)
    k._waiting = (np.array([0, 1, 0]), None)
    k.observe(None, Answers.of_labels([0, 0, 1], 2))
    # rewards 1/2 (against uniform), 0 (class 0 again), 1 (class 1 for the first time)
    # second: baseline 1/2, gain -1/2, policy (1/2, 1/2): preferences (1/4, -1/4)
    # third: cluster 0 for the second time, baseline 1/4, gain 3/8, policy of cluster 0 = 1 / (1 + exp(-1/2))
    pi = 1 / (1 + math.exp(-0.5))
    assert k.preferences.tolist() == pytest.approx([0.25 + 0.375 * (1 - pi), -0.25 - 0.375 * (1 - pi)], rel=1e-12)


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize("rewards", [("certainty",), ("diversity",), ("loss",), ("certainty", "diversity", "loss")])
def test_bandit_is_the_slow_loop(rewards: tuple[str, ...], window: int | None) -> None:
    rng = np.random.default_rng(1)
    draws = rng.integers(0, 4, 40)
    y, guesses = rng.dirichlet(np.ones(3), 40), rng.dirichlet(np.ones(3), 40)
    k = attacks.Knockoff(labels=[0, 1, 2, 3], rewards=rewards, window=window)
    k.preferences, k._draws = np.zeros(4), np.zeros(4, dtype=np.int64)
    for part in (slice(0, 15), slice(15, 40)):
        k._waiting = (draws[part], guesses[part] if "loss" in rewards else None)
        k.observe(None, Answers.of_proba(y[part]))
    expected = naive.bandit(4, draws.tolist(), y, guesses, rewards, window)
    np.testing.assert_allclose(k.preferences, expected, rtol=1e-10, atol=1e-12)
    assert k.policy.sum() == pytest.approx(1)


def test_knockoff_learns_which_cluster_pays() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    source = np.arange(2000) % 4

    def ask(rows: Array, round: int) -> Answers:  # certain in cluster 2 only
        p = np.full((len(rows), 2), 0.5)
        where = {tuple(x): s for x, s in zip(X, source, strict=True)}
        p[[where[tuple(x)] == 2 for x in rows]] = (1.0, 0.0)
        return Answers.of_proba(p)

    c = Collector({"name": "knockoff", "labels": source, "rewards": "certainty", "rate": 0.2}, ask, n_classes=2, pool=X)
    c.collect(600)
    assert (source[c.rows[400:]] == 2).mean() > 0.6
    with pytest.raises(UsageError, match="labels have shape"):
        Collector({"name": "knockoff", "labels": [1, 2]}, ask, n_classes=2, pool=X, initial=0).collect(3)
    with pytest.raises(UsageError, match="last proposal"):
        attacks.Knockoff().observe(X, ask(X, 0))
