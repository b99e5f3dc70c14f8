"""Retraining: plans, candidates that depend on nothing but themselves, bootstraps."""

from __future__ import annotations

import numpy as np
import pytest

from rashomon_core.errors import UsageError
from rashomon_core.exploration.retraining import (
    bootstrap_rows,
    candidate_seed,
    fit_candidate,
    plan_retraining,
)
from rashomon_core.extraction.answers import Answers


def data(n=120):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, 3))
    return X, Answers.of_labels((X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(int), 2)


def test_plan_names_every_candidate_once():
    plan = plan_retraining([{"family": "forest", "depth": 8, "answers": "soft"}, "knn"], seeds=2, bootstraps=3)
    assert [c.id for c in plan[:3]] == [
        "forest-depth8-soft-seed00",
        "forest-depth8-soft-seed01",
        "forest-depth8-soft-boot00-seed00",
    ]
    assert "forest-depth8-soft-boot02-seed01" in {c.id for c in plan}
    assert len({c.id for c in plan}) == len(plan) == 2 * 4 + 4  # kNN has no seeds
    assert len(plan_retraining(["knn"], seeds=3, repeat=True)) == 3
    assert plan_retraining(["tree"], seeds=101)[-1].id == "tree-hard-seed100"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds >= 1"),
        ({"bootstraps": -1}, "bootstraps=-1"),
        ({"original": False}, "a resample"),
    ],
)
def test_plans_that_train_nothing(options, message):
    with pytest.raises(UsageError, match=message):
        plan_retraining(["tree"], **options)


def test_plans_of_nothing_and_of_twins():
    with pytest.raises(UsageError, match="at least one recipe"):
        plan_retraining([])
    with pytest.raises(UsageError, match="several recipes have the name 'tree-hard'"):
        plan_retraining(["tree", {"family": "tree", "answers": "hard"}])


def test_a_candidate_is_the_same_whatever_else_is_planned():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    X, answers = data()
    small = {c.id: c for c in plan_retraining(["tree"], bootstraps=1)}
    large = {c.id: c for c in plan_retraining(["forest", "tree", "knn"], seeds=3, bootstraps=4)}
    alone = {k: fit_candidate(c, X, answers, seed=9).predict_proba(X).tobytes() for k, c in small.items()}
    for key in reversed(list(small)):
        assert fit_candidate(large[key], X, answers, seed=9).predict_proba(X).tobytes() == alone[key]
    other = fit_candidate(small["tree-hard-boot00-seed00"], X, answers, seed=10).predict_proba(X).tobytes()
    assert other != alone["tree-hard-boot00-seed00"]


def test_seeds_follow_the_root_and_the_id_alone():
    def state(key, root):
        return candidate_seed(key, root).generate_state(4).tolist()

    assert state("a", 1) == state("a", 1) == state("a", np.random.SeedSequence(1))
    assert len({tuple(state(k, r)) for k in ("a", "b") for r in (1, 2, [1, 2])}) == 6
    child = np.random.SeedSequence(1).spawn(1)[0]
    assert state("a", child) != state("a", 1)


def test_bootstraps_keep_every_class():
    labels = np.array([0] * 60 + [1] * 60 + [2])
    for seed in range(200):
        rows = bootstrap_rows(labels, np.random.default_rng(seed))
        assert len(rows) == 121
        assert set(labels[rows]) == {0, 1, 2}
    # 40 classes with one row each: no plain draw holds them all.
    single = np.concatenate([np.arange(40), np.zeros(10, dtype=int)])
    rows = bootstrap_rows(single, np.random.default_rng(0))
    assert len(rows) == 50
    assert set(single[rows]) == set(range(40))
    assert (rows == bootstrap_rows(single, np.random.default_rng(0))).all()


def test_bootstraps_draw_with_replacement():
    labels = np.arange(2000) % 2
    shares = [len(np.unique(bootstrap_rows(labels, np.random.default_rng(s)))) / 2000 for s in range(20)]
    assert abs(np.mean(shares) - (1 - np.exp(-1))) < 0.01


def test_members_differ_and_are_good():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    X, answers = data(300)
    plan = plan_retraining(["tree", "mlp"], seeds=2, bootstraps=2)
    P = [fit_candidate(c, X, answers, seed=0).predict_proba(X)[:, 1] for c in plan]
    assert len({p.tobytes() for p in P}) >= len(P) - 1  # two seeds of a tree may be one tree
    assert all(((p > 0.5) == answers.labels).mean() > 0.85 for p in P)
