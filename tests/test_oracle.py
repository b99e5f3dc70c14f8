"""The gate: targets, outputs, defences, budget, cache, ledger and its replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rashomon_core.errors import InvalidInputError, QueryBudgetExceeded, TargetError, UsageError
from rashomon_core.extraction.defences import DEFENCES, InputNoise, ReverseSigmoid, Round, TopK, make_defence
from rashomon_core.extraction.oracle import Oracle
from rashomon_core.extraction.rows import concat, row_hashes, take
from rashomon_core.extraction.target import Target


def softmax(X: Any) -> Any:
    e = np.exp(X - X.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def rows(n: int, C: int = 3, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, C))


class Counted:
    """A target that counts what it is asked."""

    def __init__(self, C: int = 3) -> None:
        self.asked = 0
        self.target = Target.from_callable(self.answer, C, name="counted")

    def answer(self, X: Any) -> Any:
        self.asked += len(X)
        return softmax(X)


# --- targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda X: np.ones((len(X), 2)) / 2, r"answered shape \(5, 2\) for 5 inputs and 3 classes"),
        (lambda X: softmax(X)[:-1], r"shape \(4, 3\)"),
        (lambda X: np.where(np.arange(3) == 1, np.nan, softmax(X)), "NaN"),
        (lambda X: softmax(X) * 2, "sample 0"),
        (lambda X: X, "probability"),
        (lambda X: np.full(len(X), 3), "none of 0..2 at sample 0: value 3"),
        (lambda X: np.full(len(X), -1), "none of 0..2"),
        (lambda X: ["a"] * len(X), "answered <U1"),
        (lambda X: 1 / 0, "raised ZeroDivisionError"),
        (lambda X: np.full(len(X), 0.5), r"shape \(5,\)"),
    ],
)
def test_a_target_that_answers_nonsense_is_refused_and_nothing_is_charged(answer: Any, text: str) -> None:
    oracle = Oracle(Target.from_callable(answer, 3, name="bad"), budget=10)
    with pytest.raises(TargetError, match=text):
        oracle.query(rows(5))
    assert (oracle.spent, len(oracle.ledger), oracle.remaining) == (0, 0, 10)


def test_a_target_that_raises_in_the_middle_leaves_the_ledger_whole(tmp_path: Path) -> None:
    calls = []

    def answer(X: Any) -> Any:
        calls.append(len(X))
        if len(calls) == 2:
            raise RuntimeError("out of order")
        return softmax(X)

    oracle = Oracle(Target.from_callable(answer, 3), budget=10, log=tmp_path / "ledger.jsonl")
    oracle.query(rows(4))
    with pytest.raises(TargetError, match="out of order"):
        oracle.query(rows(3, seed=1))
    assert oracle.spent == 4
    oracle.query(rows(3, seed=1))
    assert (oracle.spent, len((tmp_path / "ledger.jsonl").read_text().splitlines())) == (7, 8)


def test_kinds_of_targets_agree() -> None:
    from sklearn.linear_model import LogisticRegression

    X = rows(60)
    y = np.array(["no", "so", "yes"])[X.argmax(axis=1)]
    model = LogisticRegression().fit(X, y)
    target = Target.from_estimator(model)
    assert (target.class_names, target.n_classes) == (("no", "so", "yes"), 3)
    np.testing.assert_allclose(target.predict_proba(X), model.predict_proba(X), rtol=1e-12)
    # an estimator that never saw a class: its classes are indices
    few = LogisticRegression().fit(X, np.where(X[:, 0] > 0, 2, 0))
    wide = Target.from_estimator(few, n_classes=4).predict_proba(X)
    np.testing.assert_allclose(wide[:, [0, 2]], few.predict_proba(X), rtol=1e-12)
    assert (wide[:, [1, 3]] == 0).all()
    decided = Target.from_callable(lambda X: np.asarray(X).argmax(axis=1), 3).predict_proba(X)
    assert (decided == np.eye(3)[X.argmax(axis=1)]).all()
    one = Target.from_callable(lambda X: softmax(X)[:, 1], 2).predict_proba(X[:, :2])
    np.testing.assert_allclose(one, softmax(X[:, :2]), rtol=1e-9)
    with pytest.raises(UsageError, match="not a fitted classifier"):
        Target.from_estimator(LogisticRegression())
    for bad in (1, 0, True, 2.5):
        with pytest.raises(UsageError):
            Target.from_callable(softmax, bad)  # type: ignore[arg-type]


def test_torch_targets_take_logits_batch_by_batch() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)).train()
    X = rows(50)
    target = Target.from_torch(module, batch=7)
    with torch.inference_mode():
        logits = module.eval()(torch.as_tensor(X, dtype=torch.float32)).double().numpy()
    module.train()
    np.testing.assert_allclose(target.predict_proba(X), softmax(logits), rtol=1e-6)
    assert module.training  # as it was
    single = torch.nn.Linear(3, 1)
    p = Target.from_torch(single).predict_proba(X)
    with torch.inference_mode():
        z = single(torch.as_tensor(X, dtype=torch.float32)).double().numpy()[:, 0]
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-6)


def test_a_target_cannot_be_reached_through_what_a_strategy_gets() -> None:
    from rashomon_core.extraction.queries import Collector

    counted = Counted()
    oracle = Oracle(counted.target, budget=40)
    seen: list[Any] = []

    class Spy:
        name = "spy"

        def propose(self, state: Any, n: int) -> Any:
            from rashomon_core.extraction.queries import Proposal

            seen.append(state)
            return Proposal(rows(n, seed=n))

        def observe(self, X: Any, answers: Any) -> None:
            seen.append((X, answers))

    Collector(Spy(), lambda X, r: oracle.query(X, round=r), n_classes=3, pool=rows(9), batch=20, initial=0).collect(20)
    state = seen[0]
    found = {id(state)}
    todo = [state, seen[1]]
    while todo:  # every attribute, item and closure that can be reached
        value = todo.pop()
        assert value is not counted.target
        assert not isinstance(value, (Oracle, Target, Counted))
        parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
        parts += list(value) if isinstance(value, (list, tuple, set)) else []
        for part in parts:
            if id(part) not in found and not isinstance(part, (type, np.ndarray, str)):
                found.add(id(part))
                todo.append(part)


# --- budget and cache -------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_refused_whole() -> None:
    counted = Counted()
    oracle = Oracle(counted.target, budget=5)
    oracle.query(rows(3))
    with pytest.raises(QueryBudgetExceeded, match="3 queries were asked for and 2 of the budget of 5 are left"):
        oracle.query(rows(3, seed=1))
    assert (counted.asked, oracle.spent, len(oracle.ledger)) == (3, 3, 3)
    oracle.query(rows(2, seed=1))
    assert (oracle.spent, oracle.remaining) == (5, 0)
    assert QueryBudgetExceeded.exit_code == 5


@pytest.mark.parametrize("budget", [0, -1, 1.5, True])
def test_budgets_that_make_no_sense(budget: Any) -> None:
    with pytest.raises(UsageError, match="budget"):
        Oracle(Counted().target, budget=budget)


@pytest.mark.parametrize(("cache", "asked", "spent"), [("free", 4, 4), ("charged", 4, 9), ("off", 9, 9)])
def test_what_repeated_inputs_cost(cache: str, asked: int, spent: int) -> None:
    counted = Counted()
    oracle = Oracle(counted.target, cache=cache, output="proba")
    X = rows(4)
    first = oracle.query(X[[0, 1, 1, 2, 0]])  # repeated within a batch
    again = oracle.query(X[[3, 0, 1, 2]].astype(np.float64))
    assert (counted.asked, oracle.spent) == (asked, spent)
    np.testing.assert_array_equal(first.proba[0], again.proba[1])  # type: ignore[index]
    counts = oracle.ledger.counts()
    assert (counts["answers"], counts["charged"], counts["asked_of_target"]) == (9, spent, asked)


def test_purposes_are_kept_apart() -> None:
    counted = Counted()
    oracle = Oracle(counted.target, budget=6)
    oracle.query(rows(3), purpose="select", strategy="natural")
    oracle.query(rows(2, seed=1), purpose="select", charge=False)
    oracle.query(rows(3, seed=2), purpose="train", strategy="uniform", round=4)
    oracle.evaluate(rows(50, seed=3))
    assert oracle.spent == 6
    counts = oracle.ledger.counts()
    assert (counts["select"], counts["train"], counts["charged"], counts["asked_of_target"]) == (5, 3, 6, 8)
    assert len(oracle.evaluations) == 50
    assert {e.strategy for e in oracle.ledger.given} == {"natural", "", "uniform"}
    assert [e.round for e in oracle.ledger.given][-3:] == [4, 4, 4]
    assert [e.index for e in oracle.ledger.given] == list(range(1, 9))
    for wrong in ({"purpose": "evaluate"}, {"purpose": "train", "charge": False}):
        with pytest.raises(UsageError):
            oracle.query(rows(1), **wrong)  # type: ignore[arg-type]


def test_the_auditor_sees_what_defences_hide() -> None:
    oracle = Oracle(Counted().target, output="label", defences=["noise:.3", "round:1"])
    np.testing.assert_allclose(oracle.evaluate(rows(20)), softmax(rows(20)), rtol=1e-12)


# --- outputs and defences ---------------------------------------------------------------------------------------


def test_outputs() -> None:
    X = rows(200, C=5)
    p = softmax(X)
    target = Target.from_callable(softmax, 5)
    best = p.argmax(axis=1)

    label = Oracle(target, output="label").query(X)
    assert label.proba is None
    assert (label.labels == best).all()
    assert (label.soft() == np.eye(5)[best]).all()

    np.testing.assert_allclose(Oracle(target, output="proba").query(X).proba, p, rtol=1e-14)
    logits = Oracle(target, output="logits").query(X)
    np.testing.assert_allclose(logits.raw - logits.raw[:, :1], X - X[:, :1], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(logits.proba, p, rtol=1e-12)

    top = Oracle(target, output="topk:2").query(X)
    assert (np.isnan(top.raw).sum(axis=1) == 3).all()
    hidden = np.isnan(top.raw)
    np.testing.assert_allclose(top.proba[~hidden], p[~hidden], rtol=1e-12)  # type: ignore[index]
    left = 1 - np.where(hidden, 0, p).sum(axis=1)
    np.testing.assert_allclose(top.proba[hidden].reshape(-1, 3), np.repeat(left[:, None] / 3, 3, axis=1))  # type: ignore[index]
    assert (top.labels == best).all()

    rounded = Oracle(target, output="round:1").query(X)
    assert (rounded.labels == best).all()
    np.testing.assert_allclose(rounded.raw, np.round(rounded.raw, 1))
    np.testing.assert_allclose(rounded.proba.sum(axis=1), 1)  # type: ignore[union-attr]
    for wrong in ("labels", "topk", "topk:x", "round:-1", "topk:0", "round:99"):
        with pytest.raises(UsageError):
            Oracle(target, output=wrong)


def test_what_is_hidden_is_no_larger_than_what_is_shown() -> None:
    """Rounded to .3, .3, .3 the largest class shows .3 and hides .7 between two: they are not the decision."""
    target = Target.from_callable(lambda X: np.tile([0.34, 0.33, 0.33], (len(X), 1)), 3)
    answers = Oracle(target, output="topk:1", defences=["round:1"]).query(rows(2))
    assert answers.labels.tolist() == answers.soft().argmax(axis=1).tolist() == [0, 0]


def test_two_noises_of_one_seed_are_two() -> None:
    oracle = Oracle(Counted().target, output="proba", defences=["noise:.1", "noise:.1", "noise:.1,7"], seed=4)
    assert [d.seed for d in oracle.defences] == [4, 5, 7]  # type: ignore[attr-defined]


def test_certain_targets_have_logits_too() -> None:
    oracle = Oracle(Target.from_callable(lambda X: np.eye(3)[X[:, 0].astype(int)], 3), output="logits")
    answers = oracle.query(np.array([[0], [2]]))
    assert answers.raw[0].tolist() == [0.0, -np.inf, -np.inf]
    assert answers.proba.tolist() == np.eye(3)[[0, 2]].tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spec", ["round:1", "round:2", "topk:2", "label", "noise:.5", "reverse_sigmoid:beta=3,gamma=2"]
)
@pytest.mark.parametrize("C", [2, 3, 10])
def test_defences_keep_the_argmax_and_say_so(spec: str, C: int) -> None:
    rng = np.random.default_rng(C)
    p = np.concatenate([rng.dirichlet(np.full(C, a), 300) for a in (0.1, 1.0, 50.0)])
    p = np.concatenate([p, np.full((1, C), 1 / C), np.eye(C)[[C - 1]], np.eye(C)[[0]]])
    x = rng.normal(size=(len(p), 4))
    defence = make_defence(spec)
    assert defence.deterministic
    assert defence.keeps_argmax
    after = defence.transform(p.copy(), x)
    assert (np.nan_to_num(after, nan=-1).argmax(axis=1) == p.argmax(axis=1)).all()
    np.testing.assert_array_equal(defence.transform(p.copy(), x), after)
    if not spec.startswith(("round", "topk")):
        np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-9)
    Oracle(Target.from_callable(lambda X: p[X[:, 0].astype(int)], C), defences=[spec], output="proba").query(
        np.arange(len(p))[:, None]
    )


def test_noise_is_a_function_of_the_input_and_the_seed() -> None:
    p = np.full((4, 3), 1 / 3) + np.array([0.1, -0.05, -0.05])
    x = rows(4)
    noise = InputNoise(0.1, seed=3)
    alone = np.concatenate([noise.transform(p[[i]].copy(), x[[i]]) for i in (3, 1, 0, 2)])[[2, 1, 3, 0]]
    np.testing.assert_array_equal(noise.transform(p.copy(), x), alone)  # whatever it is asked with
    assert not np.array_equal(InputNoise(0.1, seed=4).transform(p.copy(), x), alone)
    many = np.repeat(x[:1], 1000, axis=0)  # asking again does not average it out
    answers = noise.transform(np.repeat(p[:1], 1000, axis=0), many)
    assert (answers == answers[0]).all()
    assert abs(answers.mean(axis=0) - p[0]).max() > 0.01


def test_reverse_sigmoid_is_the_formula() -> None:
    p = np.array([[0.55, 0.3, 0.15]])
    bent = p - 0.5 * (1 / (1 + np.exp(-0.4 * np.log(p / (1 - p)))) - 0.5)
    np.testing.assert_allclose(ReverseSigmoid(0.5, 0.4).transform(p, None), bent / bent.sum(), rtol=1e-12)


def test_defences_compose_from_left_to_right() -> None:
    p = np.array([[0.26, 0.34, 0.4]])
    target = Target.from_callable(lambda X: np.repeat(p, len(X), axis=0), 3)
    raw = Oracle(target, defences=["round:1", "topk:2"], output="proba").query(rows(1)).raw
    np.testing.assert_array_equal(raw, [[0.3, np.nan, 0.4]])  # .3 and .3 tie: the lower index is shown
    with pytest.raises(UsageError, match="put it before topk"):
        Oracle(target, defences=["topk:2", "noise:.1"], output="proba").query(rows(1))


def test_a_defence_is_held_to_what_it_says() -> None:
    class Liar:
        deterministic, keeps_argmax = True, True

        def transform(self, proba: Any, x: Any) -> Any:
            return proba[:, ::-1]

    class Wide(Liar):
        def transform(self, proba: Any, x: Any) -> Any:
            return np.concatenate([proba, proba], axis=1)

    class Honest(Liar):
        keeps_argmax = False

    for defence, text in ((Liar(), "says that it keeps the argmax and does not"), (Wide(), "turned shape")):
        oracle = Oracle(Counted().target, defences=[defence], budget=10)
        with pytest.raises(UsageError, match=text):
            oracle.query(rows(10))
        assert oracle.spent == 0
    Oracle(Counted().target, defences=[Honest()]).query(rows(10))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("rounding:2", "did you mean 'round'"),
        ("round", "needs decimals"),
        ("round:2,3", "takes 1 values"),
        ("round:places=2", "has no 'places'"),
        ("round:two", "not a number"),
        ("noise:-1", "not negative"),
        ("topk:0", "at least one"),
        (7, "no defence"),
        ({"decimals": 2}, "unknown defence"),
    ],
)
def test_bad_defences(spec: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_defence(spec)


def test_every_defence_can_be_named() -> None:
    assert repr(make_defence({"name": "round", "decimals": 2})) == "Round(decimals=2)"
    assert vars(make_defence("noise:.1", seed=9)) == {"scale": 0.1, "seed": 9}
    assert isinstance(make_defence("topk:2"), TopK)
    assert isinstance(make_defence(Round(3)), Round)
    assert set(DEFENCES) == {"round", "topk", "label", "noise", "reverse_sigmoid"}


# --- the ledger -------------------------------------------------------------------------------------------------


def session(log: Path, counted: Counted, batches: list[Any], output: str = "proba") -> list[Any]:
    oracle = Oracle(counted.target, output=output, budget=50, log=log)
    found = [oracle.query(X, strategy="s", round=k) for k, X in enumerate(batches)]
    assert oracle.spent == oracle.ledger.counts()["charged"]
    return found


@pytest.mark.parametrize("output", ["label", "proba", "topk:2", "logits"])
@pytest.mark.parametrize("cut", [0, 1, 30, 200, 700, 1500, 10**6])
def test_a_ledger_that_was_cut_off_is_taken_up(tmp_path: Path, output: str, cut: int) -> None:
    batches = [rows(5), rows(6, seed=1), np.concatenate([rows(2), rows(3, seed=2)])]
    whole, again = Counted(), Counted()
    first = session(tmp_path / "whole.jsonl", whole, batches, output)
    data = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(data[:cut])
    second = session(tmp_path / "cut.jsonl", again, batches, output)
    assert (tmp_path / "cut.jsonl").read_bytes() == data
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.raw, b.raw)
        np.testing.assert_array_equal(a.soft(), b.soft())
    kept = data[:cut].count(b"\n") - 1
    asked = sum(1 for line in data.splitlines()[1 + max(kept, 0) :] if json.loads(line)[6] == "target")
    assert again.asked == asked  # nothing that the file held was asked again
    assert whole.asked == 14


def test_another_run_of_the_same_ledger_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "ledger.jsonl"
    session(log, Counted(), [rows(5)])
    before = log.read_bytes()
    with pytest.raises(InvalidInputError, match=r"another question here at entry 1"):
        session(log, Counted(), [rows(5, seed=8)])
    for change, text in (({"output": "label"}, "another output"), ({"defences": ["label"]}, "another defences")):
        with pytest.raises(InvalidInputError, match=text):
            Oracle(Counted().target, log=log, **{"output": "proba", **change})  # type: ignore[arg-type]
    assert log.read_bytes() == before
    log.write_text("something else\n")
    with pytest.raises(InvalidInputError, match="not a ledger"):
        Oracle(Counted().target, log=log)
    log.write_bytes(before.replace(b"\n[3,", b"\n[4,"))
    with pytest.raises(InvalidInputError, match=r"damaged.*line 4"):
        Oracle(Counted().target, output="proba", log=log)


def test_another_target_behind_the_same_ledger_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "ledger.jsonl"
    Oracle(Counted().target, log=log).evaluate(rows(5))
    with pytest.raises(TargetError, match="another target"):
        Oracle(Target.from_callable(lambda X: softmax(-X), 3), log=log).evaluate(rows(5))


# --- rows -------------------------------------------------------------------------------------------------------


def test_equal_rows_have_equal_hashes() -> None:
    import pandas as pd

    X = rows(5).round(2)
    assert row_hashes(X) == row_hashes(np.asfortranarray(X)) == [row_hashes(X[[i]])[0] for i in range(5)]
    assert row_hashes(np.array([[1, 0]])) == row_hashes(np.array([[1.0, -0.0]], dtype=np.float32))
    assert row_hashes(np.array([[1.0, np.nan]])) != row_hashes(np.array([[1.0, 0.0]]))
    frame = pd.DataFrame({"a": [1, 2, 1], "b": ["x", None, "x"], "c": pd.Categorical(["u", "v", "u"])})
    h = row_hashes(frame)
    assert h[0] == h[2] != h[1]
    assert row_hashes(frame.astype({"a": float})) == h
    assert row_hashes(take(frame, [2, 1])) == [h[2], h[1]]
    assert row_hashes(concat([frame, frame])) == h * 2
    assert row_hashes(pd.DataFrame({"a": ["1"]})) != row_hashes(pd.DataFrame({"a": [1]}))
    texts = np.array(["a", "b", "a"], dtype=object)
    assert len(set(row_hashes(texts))) == 2
