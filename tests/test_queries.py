"""Strategies and the collector: every strategy on every kind of input, small spaces, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from query_data import GROUPS, NEEDS_COLUMNS, Array, C, N, Prototypes, cases, collector, pool_of, same, spec
from sklearn import linear_model

from rashomon_core.errors import AnswersError, InvalidInputError, UsageError
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.proposals import Proposal, QueryState, StrategyBase
from rashomon_core.extraction.queries import STRATEGIES, Collector, FeatureSpace, make_strategy
from rashomon_core.extraction.rows import is_frame, row_hashes, take

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
        ("zzz", "known are natural"),
        ({"clusters": 3}, "no strategy None"),
        ({"name": "knockoff", "cluster": 3}, "no parameter 'cluster'; did you mean 'clusters'"),
        ({"name": "natural", "x": 3}, "no parameter 'x'; there are none"),
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
