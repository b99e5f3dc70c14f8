"""Queries: spaces, strategies and the collector, against slow versions, closed forms and another library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import naive_queries as naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import linear_model

from rashomon_core.errors import AnswersError, InvalidInputError, UsageError
from rashomon_core.extraction import active, attacks
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.proposals import Proposal, QueryState, StrategyBase
from rashomon_core.extraction.queries import STRATEGIES, Collector, FeatureSpace, make_strategy
from rashomon_core.extraction.rows import is_frame, row_hashes, take

Array = npt.NDArray[Any]
N, C = 120, 3
GROUPS = [[1, 2, 3], [5, 6]]
KINDS = ("numbers", "mixed array", "frame", "images", "texts")
NEEDS_COLUMNS = ("uniform", "gaussian", "mixup", "jacobian")


def pool_of(kind: str, n: int = N, seed: int = 0) -> tuple[Any, FeatureSpace]:
    """A pool and its space."""
    rng = np.random.default_rng(seed)
    if kind == "numbers":
        X: Any = rng.normal(size=(n, 4))
        X[rng.random((n, 4)) < 0.1] = np.nan
        return X, FeatureSpace.from_pool(X)
    if kind == "mixed array":
        X = np.zeros((n, 8))
        X[:, [0, 4]] = rng.normal(size=(n, 2))
        X[np.arange(n), 1 + rng.integers(0, 3, n)] = 1
        X[np.arange(n), 5 + (rng.random(n) < 0.2)] = 1
        X[:, 7] = rng.choice([2.0, 5.0, 7.5, np.nan], n)
        return X, FeatureSpace.from_pool(X, categories=[7], one_hot=GROUPS)
    if kind == "frame":
        pd = pytest.importorskip("pandas")
        X = pd.DataFrame(
            {
                "age": rng.integers(17, 90, n),
                "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
                "children": pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(0, 4, n)), dtype="Int64"),
                "small": rng.random(n).astype(np.float32),
                "sex": rng.choice(["f", "m"], n),
                "job": pd.Series(np.where(rng.random(n) < 0.2, None, rng.choice(["a", "b", "c"], n)), dtype=object),
                "grade": pd.Categorical(rng.choice(["lo", "hi"], n), categories=["lo", "mid", "hi"]),
                "member": rng.random(n) < 0.5,
            }
        )
        return X, FeatureSpace.from_pool(X)
    if kind == "images":
        X = rng.integers(0, 256, (n, 3, 2, 2)).astype(np.uint8)
        return X, FeatureSpace.from_pool(X)
    words = np.array(["good", "bad", "film", "plot", "a", "the"])
    X = np.array([" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(n)], dtype=object)
    return X, FeatureSpace.from_pool(X)


class Prototypes:
    """A surrogate in numpy: soft nearest class mean; classes without answers are as far as the mean of all."""

    def __init__(self, space: FeatureSpace, X: Any, labels: Array, n_classes: int) -> None:
        points = space.encode(X)
        own = [points[labels == c] if (labels == c).any() else points for c in range(n_classes)]
        self.space, self.means = space, np.stack([p.mean(axis=0) for p in own])

    def predict_proba(self, X: Any) -> Array:
        gaps = ((self.space.encode(X)[:, None, :] - self.means) ** 2).sum(axis=2)
        e = np.exp(-(gaps - gaps.min(axis=1, keepdims=True)))
        return np.asarray(e / e.sum(axis=1, keepdims=True))


def collector(name: Any, kind: str = "numbers", *, seed: int = 0, **options: Any) -> Collector:
    """A collector whose target labels by a digest of the input."""
    X, space = pool_of(kind)

    def ask(rows: Any, round: int) -> Answers:
        return Answers.of_labels([int(h, 16) % C for h in row_hashes(rows)], C)

    def committee(rows: Any, answers: Answers, rng: np.random.Generator) -> list[Prototypes]:
        draws = [rng.integers(0, len(rows), len(rows)) for _ in range(3)]
        return [Prototypes(space, take(rows, d), answers.labels[d], C) for d in draws]

    options.setdefault("reserved", np.arange(N) % 6 == 0)
    options = {"n_classes": C, "pool": X, "space": space, "committee": committee, "seed": seed} | options
    return Collector(name, ask, **options)


def cases() -> list[Any]:
    return [
        pytest.param(name, kind, id=f"{name}-{kind}")
        for name in (*STRATEGIES, "answered mixup")
        for kind in KINDS
        if not (kind == "texts" and name.rpartition(" ")[2] in NEEDS_COLUMNS)
    ]


def spec(name: str) -> Any:
    if name == "answered mixup":
        return {"name": "mixup", "source": "answered"}
    return {"name": name, "clusters": 4} if name == "knockoff" else name


def same(A: Any, B: Any) -> bool:
    return row_hashes(A) == row_hashes(B)


# ---------------------------------------------------------------------------------------------- every strategy


@pytest.mark.parametrize(("name", "kind"), cases())
def test_proposals_are_inputs(name: str, kind: str) -> None:
    c = collector(spec(name), kind)
    pool, space = pool_of(kind)
    c.collect(53)
    c.collect(17)
    X = c.X
    assert len(X) == len(c) == len(c.rows) == len(c.rounds) == 70
    assert c.answers is not None
    assert len(c.answers) == 70
    assert type(X) is type(pool)
    if is_frame(pool):
        assert (X.dtypes == pool.dtypes).all()
        assert list(X.columns) == list(pool.columns)
        assert list(X.index) == list(range(70))
        for column in ("sex", "job", "grade", "member"):
            assert set(X[column].dropna()) <= set(pool[column].dropna())
        assert not X[["sex", "grade", "member"]].isna().any().any()
    else:
        assert X.dtype == pool.dtype
        assert X.shape[1:] == pool.shape[1:]
    if kind == "mixed array":
        for group in GROUPS:
            assert set(X[:, group].ravel()) <= {0.0, 1.0}
            assert (X[:, group].sum(axis=1) == 1).all()
        assert set(X[~np.isnan(X[:, 7]), 7]) <= {2.0, 5.0, 7.5}
    if kind != "texts" and (name in ("uniform", "jacobian") or "mixup" in name):
        numbers = space.numbers(X)
        assert not (numbers < space.low).any()
        assert not (numbers > space.high).any()
    if name == "uniform" and kind != "texts":
        assert not np.isnan(space.numbers(X)).any()
    rows = c.rows[c.rows >= 0]
    assert len(set(rows.tolist())) == len(rows)
    assert not (rows % 6 == 0).any()  # reserved
    if len(rows):
        assert same(take(X, np.flatnonzero(c.rows >= 0)), take(pool, rows))
    if STRATEGIES[name.rpartition(" ")[2]].from_pool:
        assert (c.rows >= 0).all()
    elif not c.adaptive:
        assert (c.rows < 0).all()
    if getattr(c.strategy, "synthetic", False):
        assert len(set(row_hashes(X))) == 70
    assert (np.diff(c.rounds) >= 0).all()
    assert (c.rounds.max() == 0) == (not c.adaptive)


@pytest.mark.parametrize("kind", ["frame", "texts"])
@pytest.mark.parametrize("name", [*STRATEGIES, "answered mixup"])
def test_collecting_in_parts_is_collecting_at_once(name: str, kind: str) -> None:
    if kind == "texts" and name.rpartition(" ")[2] in NEEDS_COLUMNS:
        return
    whole, parts, other = collector(spec(name), kind), collector(spec(name), kind), collector(spec(name), kind, seed=1)
    whole.collect(75)
    other.collect(75)
    for n in (1, 0, 49, 25):
        parts.collect(n)
    assert same(whole.X, parts.X)
    assert whole.rows.tolist() == parts.rows.tolist()
    assert whole.rounds.tolist() == parts.rounds.tolist()
    assert not same(whole.X, other.X)


def test_the_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    for name in STRATEGIES:
        collector(spec(name)).collect(40)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_seed_sequences_and_their_children() -> None:
    one, two = np.random.SeedSequence(5).spawn(2)
    found = []
    for seed in (one, two, np.random.SeedSequence(5).spawn(1)[0], 5):
        c = collector("gaussian", seed=seed)  # type: ignore[arg-type]
        c.collect(5)
        found.append(tuple(row_hashes(c.X)))
    assert found[0] == found[2]
    assert len(set(found)) == 3


@pytest.mark.parametrize("name", [n for n, cls in STRATEGIES.items() if cls.from_pool])
def test_a_pool_to_its_last_row(name: str) -> None:
    c = collector(spec(name))
    c.collect(97)
    with pytest.raises(AnswersError, match=r"4 queries .* 3 of 120 pool rows are left"):
        c.collect(4)
    assert len(c) == 97
    c.collect(3)
    assert sorted(c.rows.tolist()) == [i for i in range(N) if i % 6]
    with pytest.raises(AnswersError, match="0 of 120"):
        c.collect(1)


@pytest.mark.parametrize("name", [n for n, cls in STRATEGIES.items() if cls.from_pool])
def test_strategies_without_a_collector_count_what_is_left(name: str) -> None:
    c = collector(spec(name))
    with pytest.raises(AnswersError, match=f"{name!r}: 101 rows .* 100 of 120 are left"):
        c.strategy.propose(c._state(0), 101)
    without = collector(spec(name), pool=None, reserved=None)
    with pytest.raises(UsageError, match="chooses from a pool"):
        c.strategy.propose(without._state(0), 1)


def test_rounds_and_sizes() -> None:
    c = collector("entropy", batch=7, initial=12)
    c.collect(30)
    assert np.bincount(c.rounds).tolist() == [12, 7, 7, 4]
    c = collector("natural", batch=8)
    c.collect(20)
    assert np.bincount(c.rounds).tolist() == [8, 8, 4]
    c = collector("jacobian", initial=6)
    c.collect(40)
    assert np.bincount(c.rounds).tolist() == [6, 10, 16, 8]
    c = collector("k_center", initial=0)
    c.collect(20)
    assert np.bincount(c.rounds).tolist() == [10, 10]


def test_surrogates_are_trained_once_a_round_and_only_when_asked_for() -> None:
    trained: list[int] = []
    _, space = pool_of("numbers")

    def committee(rows: Any, answers: Answers, rng: np.random.Generator) -> list[Prototypes]:
        trained.append(len(rows))
        return [Prototypes(space, rows, answers.labels, C)]

    c = collector("margin", committee=committee, batch=10)
    c.collect(50)
    assert trained == [20, 30, 40]
    collector("k_center", committee=committee).collect(50)
    collector("natural", committee=committee).collect(50)
    assert trained == [20, 30, 40]
    with pytest.raises(UsageError, match="needs 2 surrogates"):
        collector("committee", committee=committee).collect(50)


@pytest.mark.parametrize("name", ["natural", "entropy", "jacobian", "knockoff"])
def test_nothing_is_lost_when_asking_fails(name: str) -> None:
    whole, broken = collector(spec(name)), collector(spec(name))
    whole.collect(60)
    ask, calls = broken._ask, []

    def sometimes(X: Any, round: int) -> Answers:
        calls.append(round)
        if len(calls) % 2:
            raise RuntimeError("the line is down")
        return ask(X, round)

    broken._ask = sometimes
    for _ in range(50):
        if len(broken) < 60:
            with pytest.raises(RuntimeError, match="the line"):
                broken.collect(60 - len(broken))
            calls.append(0)
            broken._ask = ask
            broken.collect(min(7, 60 - len(broken)))
            broken._ask = sometimes
            calls.clear()
    assert same(whole.X, broken.X)


# ---------------------------------------------------------------------------------------------- few points


def test_small_spaces_end() -> None:
    X = np.array([[0, 0, 0], [1, 1, 1]])

    def ask(rows: Any, round: int) -> Answers:
        return Answers.of_labels(rows[:, 0], 2)

    for name in ("uniform", "gaussian", "marginal"):
        c = Collector({"name": name, **({"clip": True} if name == "gaussian" else {})}, ask, n_classes=2, pool=X)
        c.collect(8)
        assert sorted(map(tuple, c.X.tolist())) == [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        with pytest.raises(AnswersError, match="few distinct points and 8 are asked for already"):
            c.collect(1)
        assert len(c) == 8
        with pytest.raises(AnswersError, match=r"9 new inputs .* gave 8"):
            Collector(c.strategy, ask, n_classes=2, pool=X).collect(9)
    with pytest.raises(AnswersError, match="gave"):  # between two rows with whole numbers there is nothing else
        Collector("mixup", ask, n_classes=2, pool=X).collect(9)
    with pytest.raises(AnswersError, match="around"):
        Collector(
            "jacobian",
            ask,
            n_classes=2,
            pool=X,
            committee=lambda rows, a, rng: [Prototypes(FeatureSpace.from_pool(X), rows, a.labels, 2)],
        ).collect(9)


def test_a_large_discrete_space_is_found_whole() -> None:
    X = np.array([[0, 0], [31, 31]])
    c = Collector("uniform", lambda rows, r: Answers.of_labels(rows[:, 0] % 2, 2), n_classes=2, pool=X)
    c.collect(1000)
    assert len({tuple(row) for row in c.X.tolist()}) == 1000


# ---------------------------------------------------------------------------------------------- the space


def test_space_reads_a_pool() -> None:
    X, space = pool_of("numbers")
    np.testing.assert_array_equal(space.low, np.nanmin(X, axis=0))
    np.testing.assert_array_equal(space.high, np.nanmax(X, axis=0))
    np.testing.assert_allclose(space.mean, np.nanmean(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(space.std, np.nanstd(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(space.missing, np.isnan(X).mean(axis=0), atol=1e-12)
    frame, space = pool_of("frame")
    assert [frame.columns[j] for j in space.numeric] == ["age", "income", "children", "small"]
    assert space.whole.tolist() == [True, False, True, False]
    assert [frame.columns[c.column] for c in space.categories] == ["sex", "job", "grade", "member"]
    job = space.categories[1]
    expected = frame["job"].value_counts(normalize=True)
    assert dict(zip(job.values, job.share, strict=True)) == pytest.approx(expected.to_dict())
    assert job.missing == pytest.approx(frame["job"].isna().mean())
    X, space = pool_of("mixed array")
    assert space.numeric.tolist() == [0, 4]
    np.testing.assert_allclose(space.groups[0].share, X[:, 1:4].mean(axis=0))


def test_large_pools_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    X, whole = pool_of("images")
    draw = whole.marginals(20, np.random.default_rng(0))
    monkeypatch.setattr("rashomon_core.extraction.space.CHUNK", 250)
    parts = FeatureSpace.from_pool(X)
    for name in ("low", "high", "mean", "std", "missing"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(draw, parts.marginals(20, np.random.default_rng(0)))


def test_moments_of_the_samples() -> None:
    n, rng = 20_000, np.random.default_rng(3)
    X, space = pool_of("mixed array")
    box, gauss, marginal = space.box(n, rng), space.gaussian(n, rng), space.marginals(n, rng)
    wide = 5 / math.sqrt(n)
    np.testing.assert_allclose(box[:, [0, 4]].mean(axis=0), (space.low + space.high) / 2, atol=wide * 2)
    np.testing.assert_allclose(gauss[:, [0, 4]].mean(axis=0), space.mean, atol=wide)
    np.testing.assert_allclose(gauss[:, [0, 4]].std(axis=0), space.std, atol=wide)
    np.testing.assert_allclose(marginal[:, [0, 4]].mean(axis=0), space.mean, atol=wide)
    np.testing.assert_allclose(box[:, 1:4].mean(axis=0), 1 / 3, atol=wide)
    np.testing.assert_allclose(gauss[:, 1:4].mean(axis=0), X[:, 1:4].mean(axis=0), atol=wide)
    np.testing.assert_allclose(marginal[:, 5:7].mean(axis=0), X[:, 5:7].mean(axis=0), atol=wide)
    assert not np.isnan(box).any()
    assert not np.isnan(gauss).any()
    assert np.isnan(marginal[:, 7]).mean() == pytest.approx(np.isnan(X[:, 7]).mean(), abs=wide)
    for value in (2.0, 5.0, 7.5):
        assert (box[:, 7] == value).mean() == pytest.approx(1 / 3, abs=wide)
        assert (marginal[:, 7] == value).mean() == pytest.approx((X[:, 7] == value).mean(), abs=wide)
    correlation = np.corrcoef(marginal[:, 0], marginal[:, 1])[0, 1]
    assert abs(correlation) < wide


def test_whole_columns_have_every_value_alike() -> None:
    space = FeatureSpace.from_pool(np.array([[-2, 0], [1, 255]], dtype=np.int16))
    X = space.box(8000, np.random.default_rng(0))
    assert X.dtype == np.int16
    values, counts = np.unique(X[:, 0], return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1]
    assert counts.min() > 1800
    assert (X[:, 1].min(), X[:, 1].max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float32, bool])
def test_extremes_of_a_dtype_do_not_wrap(dtype: Any) -> None:
    if dtype is bool:
        low, high = False, True
    else:
        info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
        low, high = info.min, info.max
    X = np.array([[low], [high]], dtype=dtype)
    space = FeatureSpace.from_pool(X)
    for draw in (space.box, space.gaussian, space.marginals):
        found = draw(500, np.random.default_rng(0))
        assert found.dtype == dtype
        assert np.isfinite(found.astype(np.float64)).all()
        if dtype is not bool:
            assert (found > 0).mean() > 0.3  # a wrapped value lands on the other side


def test_columns_without_a_value_and_constant_columns() -> None:
    X = np.array([[np.nan, 3.0, 1.0], [np.nan, 3.0, 2.0]])
    space = FeatureSpace.from_pool(X)
    assert space.missing.tolist() == [1.0, 0.0, 0.0]
    assert space.std[1] == 0
    rng = np.random.default_rng(0)
    for found in (space.box(9, rng), space.gaussian(9, rng), space.marginals(9, rng), space.mix(X, X, np.ones(2), rng)):
        assert np.isnan(found[:, 0]).all()
        assert (found[:, 1] == 3).all()
    assert space.encode(X).tolist() == [[0, 0, -1], [0, 0, 1]]


def test_mixtures() -> None:
    X, space = pool_of("mixed array")
    a, b, rng = X[:50], X[50:100], np.random.default_rng(0)
    share = rng.random(50)
    found = space.mix(a, b, share, rng)
    for j in (0, 4):
        np.testing.assert_allclose(found[:, j], share * a[:, j] + (1 - share) * b[:, j])
    for group in (*GROUPS, [7]):
        from_a = [row_hashes(found[i : i + 1, group]) == row_hashes(a[i : i + 1, group]) for i in range(50)]
        from_b = [row_hashes(found[i : i + 1, group]) == row_hashes(b[i : i + 1, group]) for i in range(50)]
        assert all(x or y for x, y in zip(from_a, from_b, strict=True))
        assert not all(from_a)
        assert not all(from_b)
    X, space = pool_of("numbers")
    a, b = X[:50], X[50:100]
    found = space.mix(a, b, np.full(50, 1.0), rng)
    np.testing.assert_array_equal(found, a)  # missing stays missing where all comes from one parent
    found = space.mix(a, b, np.full(50, 0.5), rng)
    gone = np.isnan(a) | np.isnan(b)
    np.testing.assert_allclose(found[~gone], (a / 2 + b / 2)[~gone])
    with np.errstate(invalid="ignore"):
        assert ((found == a) | (found == b) | np.isnan(found))[gone].all()


def test_mixup_of_a_few_seeds() -> None:
    X = np.random.default_rng(0).normal(size=(100, 3))
    c = collector({"name": "mixup", "seeds": 2}, pool=X, space=None, reserved=None)
    c.collect(60)
    centred = c.X - c.X.mean(axis=0)
    assert np.linalg.matrix_rank(centred, tol=1e-8) == 1  # all on the line between two rows
    c = collector("mixup", pool=X, space=None, reserved=np.arange(100) >= 2)
    c.collect(10)
    np.testing.assert_allclose(np.linalg.matrix_rank(c.X - c.X[0], tol=1e-8), 1)
    with pytest.raises(AnswersError, match="two parents at least, there are 1"):
        collector("mixup", pool=X, space=None, reserved=np.arange(100) >= 1).collect(1)


def test_encoding() -> None:
    frame, space = pool_of("frame")
    points = space.encode(frame)
    assert points.shape == (N, 4 + 2 + 3 + 2 + 2)
    age = frame["age"].to_numpy(dtype=float)
    np.testing.assert_allclose(points[:, 0], (age - age.mean()) / age.std(), rtol=1e-12)
    assert (points[frame["income"].isna().to_numpy(), 1] == 0).all()
    np.testing.assert_array_equal(points[:, 6:9].sum(axis=1), frame["job"].notna().to_numpy())
    strange = frame.head(2).assign(sex=["x", "f"])
    assert space.encode(strange)[:, 4:6].sum(axis=1).tolist() == [0, 1]
    X, space = pool_of("mixed array")
    np.testing.assert_array_equal(space.encode(X)[:, 5:8], X[:, 1:4])
    X, space = pool_of("numbers")
    points, common = space.encode(X, "column"), space.encode(X, "common")
    np.testing.assert_array_equal(space.encode(X), points)
    np.testing.assert_allclose(common, points * space.std / np.sqrt(np.mean(space.std**2)))
    with pytest.raises(UsageError, match="scale"):
        space.encode(X, "big")
    X, space = pool_of("images")
    np.testing.assert_array_equal(space.encode(X), space.encode(X, "common"))
    assert not np.array_equal(space.encode(X), space.encode(X, "column"))
    texts, space = pool_of("texts")
    points = space.encode(texts)
    assert points.shape == (N, 256)
    np.testing.assert_allclose((points**2).sum(axis=1), 1)
    assert (space.encode(texts[:3]) == points[:3]).all()


def test_text_marginals() -> None:
    texts = np.array(["a a a b", "a b"], dtype=object)
    found = FeatureSpace.from_pool(texts).marginals(3000, np.random.default_rng(0))
    lengths = [len(t.split()) for t in found]
    assert set(lengths) == {2, 4}
    assert np.mean(lengths) == pytest.approx(3, abs=0.1)
    words = " ".join(found).split()
    assert words.count("a") / len(words) == pytest.approx(4 / 6, abs=0.02)


def test_detecting_one_hot_groups_is_asked_for() -> None:
    X, _ = pool_of("mixed array")
    assert FeatureSpace.detect_one_hot(X[:, :7]) == GROUPS
    assert FeatureSpace.from_pool(X).groups == ()
    pd = pytest.importorskip("pandas")
    frame = pd.get_dummies(pd.DataFrame({"n": [1.5, 2, 3], "c": ["x", "y", "z"]}))
    assert FeatureSpace.detect_one_hot(frame) == [["c_x", "c_y", "c_z"]]
    space = FeatureSpace.from_pool(frame, one_hot=FeatureSpace.detect_one_hot(frame))
    found = space.box(50, np.random.default_rng(0))
    assert (found.dtypes == frame.dtypes).all()
    assert (found.iloc[:, 1:].sum(axis=1) == 1).all()
    assert FeatureSpace.detect_one_hot(np.array(["a b"], dtype=object)) == []
    assert FeatureSpace.detect_one_hot(np.array([[1, 0], [1, 0]])) == []
    assert FeatureSpace.detect_one_hot(np.array([[1, 0, 0, 1], [0, 0, 1, 0]])) == [[0, 1, 2]]


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
    pool = pytest.importorskip("skactiveml.pool", exc_type=ImportError)
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
    pool = pytest.importorskip("skactiveml.pool", exc_type=ImportError)
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


# ---------------------------------------------------------------------------------------------- bad input


def test_specs() -> None:
    for name in STRATEGIES:
        assert make_strategy(name).name == name
        assert name.split("_")[0] in repr(make_strategy(name)).lower()
        assert isinstance(make_strategy({"name": name.upper().replace("_", "-")}), STRATEGIES[name])
    own = make_strategy("natural")
    assert make_strategy(own) is own
    for bad, message in (
        ("entrpy", "did you mean 'entropy'"),
        ("zzz", "There are: natural"),
        ({"clusters": 3}, "no strategy None"),
        ({"name": "knockoff", "cluster": 3}, "no parameter 'cluster'; did you mean 'clusters'"),
        ({"name": "natural", "x": 3}, "it has none"),
        ({"name": "knockoff", "rewards": ["loss", "fun"]}, "some of certainty"),
        ({"name": "knockoff", "clusters": 0}, "above 0"),
        ({"name": "mixup", "alpha": 0}, "alpha"),
        ({"name": "mixup", "source": "sky"}, "'pool' or 'answered'"),
        ({"name": "mixup", "seeds": 1}, "at least 2"),
        ({"name": "jacobian", "step": -1}, "above 0"),
        ({"name": "committee", "measure": "x"}, "one of vote_entropy"),
        ({"name": "entropy", "candidates": 0}, "1 or more"),
        ({"name": "k_center", "scale": "big"}, "'column' or 'common'"),
        ({"name": "jacobian", "step": "wide"}, "jacobian"),
        (3, "is no strategy"),
    ):
        with pytest.raises(UsageError, match=message):
            make_strategy(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pool", "options", "error", "message"),
    [
        (np.zeros((0, 2)), {}, InvalidInputError, "no rows"),
        (np.zeros((2, 0)), {}, InvalidInputError, "no columns"),
        (np.array([[1.0], [np.inf]]), {}, InvalidInputError, "infinite value at row 1, column 0"),
        (np.eye(2), {"categories": [2]}, UsageError, "no column of an array with columns 0 to 1"),
        (np.eye(2), {"categories": [-1]}, UsageError, "no column"),
        (np.eye(2), {"categories": [0], "one_hot": [[0, 1]]}, UsageError, "two places"),
        (np.eye(2), {"one_hot": [[0, 0]]}, UsageError, "two places"),
        (np.eye(2), {"one_hot": [[0]]}, UsageError, "at least two columns"),
        (np.ones((2, 2)), {"one_hot": [[0, 1]]}, InvalidInputError, "2 rows have not exactly one 1 at row 0"),
        (np.array([[0.0, np.nan]]), {"one_hot": [[0, 1]]}, InvalidInputError, "exactly one 1"),
        (np.zeros((2, 2, 2)), {"categories": [0]}, UsageError, "numeric pixels only"),
        (np.array(["a"], dtype=object), {"categories": [0]}, UsageError, "texts have no columns"),
        (np.array([1.0, 2.0]), {}, InvalidInputError, "one input per row"),
    ],
)
def test_bad_pools(pool: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FeatureSpace.from_pool(pool, **options)


def test_bad_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [1, 2], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(InvalidInputError, match="'when' has dtype datetime"):
        FeatureSpace.from_pool(frame)
    with pytest.raises(UsageError, match="'aeg' names 0 columns of the frame; did you mean 'age'"):
        FeatureSpace.from_pool(frame, categories=["aeg"])
    with pytest.raises(UsageError, match="is one text"):
        FeatureSpace.from_pool(frame, categories="age")
    space = FeatureSpace.from_pool(frame[["age"]])
    for other in (frame, np.eye(2), frame[["age"]].rename(columns={"age": "years"})):
        with pytest.raises(InvalidInputError):
            space.encode(other)
    with pytest.raises(InvalidInputError, match="holds no numbers"):
        FeatureSpace.from_pool(pd.DataFrame({"a": ["x", "y"], "b": [0, 1]}), one_hot=[["a", "b"]])


def test_texts_have_no_box() -> None:
    for name in ("uniform", "gaussian", "mixup"):
        with pytest.raises(UsageError, match="texts have pool strategies and marginals"):
            collector(name, "texts").collect(3)
    with pytest.raises(UsageError, match="none that vary"):
        collector("jacobian", "texts").collect(30)


class Custom(StrategyBase):
    name = "custom"

    def __init__(self, X: Any, rows: Any = None) -> None:
        self.found = Proposal(X, rows)

    def propose(self, state: QueryState, n: int) -> Proposal:
        return self.found


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        ((np.zeros((2, 4)),), "proposed 2 inputs, 3 were asked for"),
        ((np.zeros((3, 5)),), "have shape"),
        ((np.zeros((3, 4)), np.array([0, 1])), "rows of shape"),
        ((np.zeros((3, 4)), np.array([0.0, 1, 2])), "dtype float64"),
        ((np.zeros((3, 4)), np.array([1, 2, 120])), "not in the pool"),
        ((np.zeros((3, 4)), np.array([1, 2, -1])), "not in the pool"),
        ((np.zeros((3, 4)), np.array([1, 2, 2])), "twice"),
        ((np.zeros((3, 4)), np.array([1, 2, 6])), "used or reserved"),
    ],
)
def test_bad_proposals(proposal: tuple[Any, ...], message: str) -> None:
    c = collector(Custom(*proposal), batch=3)
    with pytest.raises((UsageError, InvalidInputError), match=message):
        c.collect(3)
    assert len(c) == 0
    assert c.X is None
    assert c.answers is None
    assert c.rows.shape == c.rounds.shape == (0,)


def test_a_strategy_of_ones_own_needs_three_names() -> None:
    class Own:
        name = "own"
        heard = 0

        def propose(self, state: QueryState, n: int) -> Proposal:
            assert not state.used.flags.writeable
            return Proposal(np.full((n, 4), 7.0))

        def observe(self, X: Any, answers: Answers) -> None:
            self.heard += len(answers)

    own = Own()
    c = collector(own, initial=5, batch=4)
    c.collect(10)
    assert (c.rows[:5] >= 0).all()  # adaptive unless it says otherwise: a seed round, which is not observed
    assert own.heard == 4
    c.collect(3)
    assert own.heard == 8


def test_bad_collectors() -> None:
    X, space = pool_of("numbers")

    def ask(rows: Any, round: int) -> Answers:
        return Answers.of_labels(np.zeros(len(rows) - 1), 3)

    for options, message in (
        ({"n_classes": 1}, "n_classes"),
        ({"batch": 0}, "batch"),
        ({"initial": -1}, "initial"),
        ({"pool": None, "space": None}, "nothing is known"),
        ({"reserved": np.zeros(3, dtype=bool)}, "expected a boolean"),
        ({"reserved": np.zeros(N)}, "expected a boolean"),
    ):
        with pytest.raises(UsageError, match=message):
            Collector("natural", ask, **({"n_classes": 3, "pool": X} | options))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="those of the pool"):
        Collector("natural", ask, n_classes=3, pool=np.eye(3), space=space)
    c = Collector("natural", ask, n_classes=3, pool=X)
    with pytest.raises(UsageError, match="5 inputs were asked for and 4 answers"):
        c.collect(5)
    with pytest.raises(UsageError, match="cannot be asked"):
        c.collect(-1)
    with pytest.raises(UsageError, match="needs surrogates"):
        collector("entropy", committee=None).collect(30)
    for name in ("entropy", "jacobian", "knockoff"):
        with pytest.raises(UsageError, match="to begin with"):
            collector(name, initial=0).collect(5)
    with pytest.raises(AnswersError, match="two parents"):
        collector({"name": "mixup", "source": "answered"}, initial=0).collect(5)


def test_bad_surrogates() -> None:
    class Bad:
        def __init__(self, shape: tuple[int, ...], value: float) -> None:
            self.shape, self.value = shape, value

        def predict_proba(self, X: Any) -> Array:
            return np.full((len(X), *self.shape), self.value)

    for model, message in (
        (Bad((2,), 0.5), "scores of shape"),
        (Bad((), 0.5), "scores of shape"),
        (Bad((3,), np.nan), "no number at row 0"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            collector("entropy", committee=lambda X, a, rng, m=model: [m]).collect(30)
    with pytest.raises(UsageError, match="no members"):
        collector("entropy", committee=lambda X, a, rng: []).collect(30)

    class BadGradient(Bad):
        def gradient(self, X: Any, labels: Array) -> Array:
            return np.zeros((len(X), 2))

    with pytest.raises(InvalidInputError, match="gradient of shape"):
        collector("jacobian", committee=lambda X, a, rng: [BadGradient((3,), 0.5)]).collect(30)


@pytest.mark.parametrize("strategy", ["entropy", "committee", "jacobian"])
def test_rounds_are_natural_until_two_classes_are_seen(strategy: str) -> None:
    pool = np.random.default_rng(0).random((300, 2))
    order: list[int] = []

    def ask(X: Any, round: int) -> Answers:
        labels = np.array([len(order) + i >= 25 for i in range(len(X))], dtype=int)  # the first 25 are one class
        order.extend(labels.tolist())
        return Answers.of_labels(labels, 2)

    trained: list[int] = []

    def committee(X: Any, answers: Answers, rng: np.random.Generator) -> list[Any]:
        assert len(np.unique(answers.labels)) == 2
        trained.append(len(answers))
        return [linear_model.LogisticRegression(C=C).fit(X, answers.labels) for C in (0.1, 1)]

    collector = Collector(strategy, ask, n_classes=2, pool=pool, committee=committee, seed=3)
    collector.collect(80)
    assert len(collector) == 80
    assert trained
    assert min(trained) > 25
