"""The audit as a whole: results, checkpoints, baselines, honest budgets, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_data import SMALL, contents, small_config, write_table
from jsonschema import Draft202012Validator

import rashomon_core as rc
from rashomon_core.audit import make_config, read_config, run_audit
from rashomon_core.datasets import LocalDataset, load_table
from rashomon_core.errors import AnswersError, InvalidInputError, OutputError, TargetError, UsageError
from rashomon_core.report.document import load_schema


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_table(tmp_path_factory.mktemp("people") / "people.csv")
    return load_table(path, "label", groups=["sex"])


def audit(people: Any, folder: Path, **more: Any) -> Any:
    return run_audit({**SMALL, **more}, data=people, folder=folder, workers=more.pop("workers", 1))


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return people with 90 different rows, in all parts of a split."""
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(20, 65, 600), "sex": rng.choice(["female", "male"], 600)})
    table["label"] = (table["age"] + 15 * (table["sex"] == "male") + rng.normal(0, 9, 600) > 50).astype(int)
    path = tmp_path_factory.mktemp("repeated") / "repeated.csv"
    table.to_csv(path, index=False)
    return load_table(path, "label", groups=["sex"])


@pytest.fixture(scope="module")
def done(people: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return audit(people, tmp_path_factory.mktemp("runs") / "run")


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_the_document_keeps_to_the_schema(done: Any) -> None:
    Draft202012Validator(load_schema()).validate(done.document)
    assert json.loads((done.folder / "result.json").read_text()) == done.document
    assert [entry["budget"] for entry in done.document["checkpoints"]] == [40, 80]
    assert done.document["checkpoints"][-1]["results"] == done.results


def test_the_numbers_are_those_of_the_saved_tensors(done: Any) -> None:
    for entry in done.document["checkpoints"]:
        folder = done.folder / f"budget-{entry['budget']}"
        target, y = np.load(folder / "target.npy"), np.load(folder / "labels.npy")
        selection = np.load(folder / "selection.npy")
        view = rc.open_predictions(folder / "preds.npy")
        groups = [line.split(",")[1] for line in (folder / "groups.csv").read_text().splitlines()[1:]]
        size = entry["results"]["ambiguity"].get("size_matched", {}).get("m")
        with pytest.warns(UserWarning, match="below the noise"):
            again = rc.profile(
                view, target=target, y=y, groups=groups, epsilon=0.05, selection=selection, loss="fidelity", size=size
            ).results()
        ours = json.loads(json.dumps(entry["results"]))
        for name in ("ambiguity", "discrepancy", "fidelity", "set", "rashomon_capacity", "fairness", "losses"):
            assert ours[name] == json.loads(json.dumps(again[name])), name
        labels = (np.load(folder / "preds.npy") > 0.5)[:, ~selection]
        decided = (target > 0.5)[~selection]
        members = [view.model_ids.index(m) for m in entry["surrogates"]["members"]]
        agree = (labels[members] == decided).mean(axis=1)
        assert entry["results"]["fidelity"]["max"] == agree.max()
        assert entry["results"]["ambiguity"]["value"] == (labels[members] != decided).any(axis=0).mean()


def test_the_ledger_counts_every_answer_once(done: Any) -> None:
    entries = lines(done.folder / "ledger.jsonl")
    assert [e[0] for e in entries] == list(range(1, len(entries) + 1))
    charged = sum(e[5] for e in entries)
    assert charged == 80 == done.document["audit"]["queries"]["charged"]
    assert len({e[1] for e in entries}) == sum(e[6] == "target" for e in entries)  # no input was asked twice
    first = done.document["checkpoints"][0]["queries"]
    assert (first["charged"], first["trained_on"], first["selected_on"]) == (40, 28, 12)
    assert [e[2] for e in entries[:12]] == ["select"] * 12
    assert {e[2] for e in entries[12:40]} == {"train"}
    evaluation = lines(done.folder / "ledger-evaluation.jsonl")
    assert len(evaluation) == done.document["audit"]["queries"]["evaluation_answers"] == 150 + 50
    assert not {e[1] for e in evaluation[:150]} - {e[1] for e in evaluation}
    assert not any(e[5] for e in evaluation)


@pytest.mark.parametrize(("strategy", "cache"), [("natural", "free"), ("natural", "off"), ("marginal", "free")])
def test_what_selects_is_never_learned(repeated: Any, tmp_path: Path, strategy: str, cache: str) -> None:
    more = {"surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 50, "synthetic": 0}
    done = audit(repeated, tmp_path / "run", strategy=strategy, cache=cache, **more)
    entries = lines(done.folder / "ledger.jsonl")
    selecting, training = ({e[1] for e in entries if e[2] == purpose} for purpose in ("select", "train"))
    assert len(selecting) == 15
    assert not selecting & training
    assert sum(e[5] for e in entries) == 50


def test_fidelity_on_inputs_that_were_not_asked(repeated: Any, tmp_path: Path) -> None:
    more = {"surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 50, "synthetic": 0}
    done = audit(repeated, tmp_path / "run", **more)
    entry = done.document["checkpoints"][0]
    asked = {e[1] for e in lines(done.folder / "ledger.jsonl")}
    new = np.array([e[1] not in asked for e in lines(done.folder / "ledger-evaluation.jsonl")])
    assert entry["queries"]["evaluation_inputs_asked"] == (~new).sum() > 30
    folder = done.folder / "budget-50"
    selection = np.load(folder / "selection.npy")
    agree = (np.load(folder / "preds.npy") > 0.5)[0, ~selection] == (np.load(folder / "target.npy") > 0.5)[~selection]
    assert entry["baselines"]["fidelity_unasked"]["median"] == agree[new].mean()
    Draft202012Validator(load_schema()).validate(done.document)


def test_a_pool_of_repeats_is_asked_to_its_end(repeated: Any, tmp_path: Path) -> None:
    more = {"surrogates": ["tree"], "exploration": {"retraining": {}}, "synthetic": 0}
    done = audit(repeated, tmp_path / "run", budget=[50, 100], **more)
    spent = done.document["audit"]["queries"]["charged"]
    assert 50 < spent < 100
    pool = {e[1] for e in lines(done.folder / "ledger.jsonl")}
    assert spent == len(pool)
    assert any("were not spent" in w for w in done.document["warnings"])
    with pytest.raises(AnswersError, match="pool rows are left"):
        audit(repeated, tmp_path / "more", budget=[50, 200], selection=0.1, **more)


def test_a_strategy_that_repeats_itself_comes_to_an_end(people: Any, tmp_path: Path) -> None:
    from rashomon_core.extraction.queries import Proposal

    class Parrot:
        name, adaptive = "parrot", False

        def propose(self, state: Any, n: int) -> Any:
            return Proposal(state.pool.iloc[np.arange(n) % 30].reset_index(drop=True))

        def observe(self, X: Any, answers: Any) -> None:
            pass

    more = {"surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 80, "synthetic": 0}
    done = audit(people, tmp_path / "run", strategy=Parrot(), **more)
    assert done.document["audit"]["queries"]["charged"] <= 24 + 30
    assert any("were not spent" in w for w in done.document["warnings"])


def test_baselines(done: Any) -> None:
    for entry in done.document["checkpoints"]:
        folder = done.folder / f"budget-{entry['budget']}"
        selection = np.load(folder / "selection.npy")
        target = (np.load(folder / "target.npy") > 0.5)[~selection]
        y = np.load(folder / "labels.npy")[~selection]
        majority = entry["baselines"]["majority_class"]
        index = done.document["audit"]["data"]["class_names"].index(majority["class"])
        assert majority["fidelity"] == (target == index).mean()
        assert majority["accuracy"] == (y == index).mean()
        agreement = entry["baselines"]["natural_agreement"]
        assert agreement["value"] == 1.0  # boosting without subsamples does not depend on its seed
        assert 0.6 < agreement["bootstraps"] < 1
        assert entry["baselines"]["fidelity_synthetic"]["min"] > 0.3
        assert entry["baselines"]["correct_fidelity"] == entry["results"]["losses"]["correct_fidelity"]
    assert done.document["audit"]["target"]["accuracy"] == (target == y).mean()


def test_a_finished_run_is_read_and_not_done_again(done: Any, people: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*") if path.is_file()}
    again = run_audit(SMALL, data=people, folder=done.folder)
    assert again.document == done.document
    changed = {path for path, t in before.items() if path.stat().st_mtime_ns != t} - {done.folder / ".lock"}
    assert not changed


def test_workers_change_no_byte(done: Any, people: Any, tmp_path: Path) -> None:
    other = run_audit(SMALL, data=people, folder=tmp_path / "two", workers=2)
    assert contents(other.folder) == contents(done.folder)


def test_the_seed_changes_the_run(done: Any, people: Any, tmp_path: Path) -> None:
    other = audit(people, tmp_path / "other", seed=1)
    assert [e[1] for e in lines(other.folder / "ledger.jsonl")] != [e[1] for e in lines(done.folder / "ledger.jsonl")]


def _never(X: Any) -> Any:
    """Answer one class but for a few of the oldest."""
    return (np.asarray(X["age"], dtype=float) >= 78).astype(int)


@pytest.mark.parametrize("strategy", ["entropy", "jacobian", "knockoff"])
def test_strategies_that_ask_surrogates_wait_for_a_second_class(people: Any, tmp_path: Path, strategy: str) -> None:
    more = {**SMALL, "surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 100, "strategy": strategy}
    done = run_audit({**more, "seed": 2}, target=_never, data=people, folder=tmp_path / "run", workers=1)
    training = [e for e in lines(done.folder / "ledger.jsonl") if e[2] == "train"]
    assert sum(e[7] for e in training[:20]) == 0 < sum(e[7] for e in training)
    assert done.document["audit"]["queries"]["charged"] == 100


@pytest.mark.parametrize("strategy", ["uniform", "marginal", "entropy", "knockoff", "jacobian"])
def test_every_strategy_spends_the_budget(people: Any, tmp_path: Path, strategy: str) -> None:
    from rashomon_core.extraction.queries import STRATEGIES

    if strategy not in STRATEGIES:
        pytest.fail(f"known are {list(STRATEGIES)}")
    more = {"surrogates": ["logistic", "tree"], "exploration": {"retraining": {}}, "budget": 60}
    done = audit(people, tmp_path / "run", strategy=strategy, **more)
    assert done.document["audit"]["queries"]["charged"] == 60
    assert {e[3] for e in lines(done.folder / "ledger.jsonl")} <= {"natural", strategy}


@pytest.mark.parametrize("answer", ["proba", "topk:1", "round:1", "logits"])
def test_soft_answers_reach_soft_surrogates(people: Any, tmp_path: Path, answer: str) -> None:
    done = audit(
        people, tmp_path / "run", answer=answer, surrogates=[{"family": "logistic", "answers": "soft"}, "tree"]
    )
    assert any("soft" in m for m in rc.open_predictions(done.folder / "budget-80" / "preds.npy").model_ids)


def test_explorations_beside_retraining(people: Any, tmp_path: Path) -> None:
    exploration = {
        "retraining": {"bootstraps": 0},
        "dropout": {"rates": [0.1, 0.2], "models": 3},
        "convex": {"samples": 2},
    }
    done = audit(people, tmp_path / "run", exploration=exploration, budget=80)
    methods = done.document["checkpoints"][0]["surrogates"]["by_method"]
    assert {name: m["explored"] for name, m in methods.items()} == {"retraining": 4, "dropout": 6, "convex": 6}
    assert done.document["checkpoints"][0]["surrogates"]["failed"] == []


def test_weight_perturbation_in_an_audit(people: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = {"base": {"family": "torch_mlp", "epochs": 5}, "samples": 2, "steps": 5}
    runs = [
        run_audit(
            {**SMALL, "budget": 80, "exploration": {"weight_perturbation": settings}},
            data=people,
            folder=tmp_path / str(workers),
            workers=workers,
        )
        for workers in (1, 2)
    ]
    methods = runs[0].document["checkpoints"][0]["surrogates"]["by_method"]
    assert methods["weight_perturbation"]["explored"] == 2 * 2 + 2 + 2  # samples x classes, classes, groups
    assert contents(runs[0].folder) == contents(runs[1].folder)


# --- the user's own model ---------------------------------------------------------------------------------------


def test_a_model_of_the_user(people: Any, tmp_path: Path) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier

    columns = make_column_transformer((OneHotEncoder(), ["sex", "city"]), ("passthrough", ["age"]))
    model = make_pipeline(columns, DecisionTreeClassifier(max_depth=4)).fit(people.X, people.y)
    done = run_audit(SMALL, target=model, data=people, folder=tmp_path / "run", workers=1)
    assert done.document["audit"]["data"]["target_rows"] == 0
    assert done.document["audit"]["target"]["name"] == "Pipeline"
    agreement = done.document["checkpoints"][0]["baselines"]["natural_agreement"]
    assert agreement["value"] is None
    assert "not known" in agreement["reason"]
    Draft202012Validator(load_schema()).validate(done.document)


def test_estimators_defences_and_strategies_of_the_user(people: Any, tmp_path: Path) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from rashomon_core.extraction.queries import Proposal

    class Oldest:
        name = "oldest"

        def propose(self, state: Any, n: int) -> Any:
            rows = np.argsort(-state.pool["age"].to_numpy(), kind="stable")
            rows = rows[~state.used[rows]][:n]
            return Proposal(state.pool.iloc[rows].reset_index(drop=True), rows)

        def observe(self, X: Any, answers: Any) -> None:
            pass

    class Blur:
        deterministic, keeps_argmax = True, True

        def transform(self, proba: Any, x: Any) -> Any:
            return (proba + 0.5) / 2

    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["sex", "city"])), GaussianNB()
    )
    more = {"surrogates": [model, "tree"], "defences": [Blur()], "strategy": Oldest(), "answer": "proba", "budget": 60}
    done = audit(people, tmp_path / "run", **more)
    stored = done.document["audit"]["configuration"]
    assert "GaussianNB" in stored["surrogates"][0]["object"]
    assert stored["defences"] == [{"object": "test_estimators_defences_and_strategies_of_the_user.<locals>.Blur"}]
    assert done.document["checkpoints"][0]["surrogates"]["failed"] == []
    assert done.document["checkpoints"][0]["results"]["set"]["explored"] == 4
    answers = [e[7] for e in lines(done.folder / "ledger.jsonl")]
    assert min(min(a) for a in answers) >= 0.25
    assert {e[3] for e in lines(done.folder / "ledger.jsonl")} == {"natural", "oldest"}


def test_classes_of_a_model_are_matched_by_name_or_by_index(people: Any, tmp_path: Path) -> None:
    class Model:
        """Knows the classes under names of its own choice, in an order of its own choice."""

        def __init__(self, classes: list[Any]) -> None:
            self.classes_ = np.array(classes)

        def predict_proba(self, X: Any) -> Any:
            refused = np.where(np.asarray(X["age"]) > 45, 0.1, 0.9)
            return np.stack([refused if str(c) in ("refused", "1") else 1 - refused for c in self.classes_], axis=1)

    more = {**SMALL, "surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 40}
    documents = []
    for k, classes in enumerate((["granted", "refused"], ["refused", "granted"], [0, 1])):
        done = run_audit(more, target=Model(classes), data=people, folder=tmp_path / str(k), workers=1)
        documents.append(done.document)
    assert documents[0]["audit"]["target"]["accuracy"] > 0.6
    assert documents[0] == documents[1] == documents[2]
    for classes in ([1, 2], ["no", "yes"]):
        with pytest.raises(InvalidInputError, match="those of the labels granted, refused"):
            run_audit(more, target=Model(classes), data=people, folder=tmp_path / "none")


def test_another_model_does_not_get_the_result_of_the_first(people: Any, tmp_path: Path) -> None:
    def old(X: Any) -> Any:
        return (np.asarray(X["age"], dtype=float) > 45).astype(int)

    def new(X: Any) -> Any:
        return (np.asarray(X["age"], dtype=float) > 50).astype(int)

    new.__name__ = "old"
    run = tmp_path / "run"
    more = {**SMALL, "surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 40}
    done = run_audit(more, target=old, data=people, folder=run, workers=1)
    assert run_audit(more, target=old, data=people, folder=run).document == done.document
    with pytest.raises(TargetError, match="of another target"):
        run_audit(more, target=new, data=people, folder=run)
    (run / "result.json").unlink()
    before = contents(run)
    with pytest.raises(TargetError, match="it is another target"):
        run_audit(more, target=new, data=people, folder=run, workers=1)
    assert contents(run) == before


def test_data_that_are_handed_over_go_by_their_own_name(people: Any, done: Any) -> None:
    assert done.document["inputs"][0]["path"] == people.name == done.document["audit"]["configuration"]["data"]


def test_a_function_that_fails_in_the_middle_loses_nothing(people: Any, tmp_path: Path) -> None:
    calls = 0

    def answer(X: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("the model is down")
        return (np.asarray(X["age"], dtype=float) > 45).astype(int)

    with pytest.raises(TargetError, match="the model is down"):
        run_audit(SMALL, target=answer, data=people, folder=tmp_path / "run", workers=1)
    kept = len(lines(tmp_path / "run" / "ledger.jsonl"))
    assert kept == 40  # the first checkpoint: 12 that select, 28 that train
    done = run_audit(SMALL, target=answer, data=people, folder=tmp_path / "run", workers=1)
    assert done.document["audit"]["queries"]["charged"] == 80
    whole = run_audit(SMALL, target=answer, data=people, folder=tmp_path / "whole", workers=1)
    assert contents(done.folder) == contents(whole.folder)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda X: np.full(len(X), np.nan), "NaN"),
        (lambda X: np.ones((len(X), 3)) / 3, "2 classes"),
        (lambda X: np.ones((len(X), 2)), "probability"),
    ],
)
def test_targets_that_answer_nonsense(people: Any, tmp_path: Path, answer: Any, text: str) -> None:
    with pytest.raises(TargetError, match=text):
        run_audit(SMALL, target=answer, data=people, folder=tmp_path / "run", workers=1)
    assert lines(tmp_path / "run" / "ledger.jsonl") == []


# --- what is refused --------------------------------------------------------------------------------------------


def test_texts_have_no_columns_to_draw(tmp_path: Path) -> None:
    import pandas as pd

    words = np.array([f"{a} {b}" for a in "abcdef" for b in "ghijkl"] * 4, dtype=object)
    data = LocalDataset("texts", words, np.arange(144) % 2, ("no", "yes"), pd.DataFrame(index=range(144)), kind="text")
    with pytest.raises(UsageError, match="'uniform' draws or moves columns, and texts have none"):
        run_audit({"budget": 20, "strategy": "uniform"}, data=data, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_class_only_in_the_answers(people: Any, tmp_path: Path) -> None:
    with pytest.raises(AnswersError, match="are one class"):
        run_audit(SMALL, target=lambda X: np.zeros(len(X), int), data=people, folder=tmp_path / "run", workers=1)
    assert len(lines(tmp_path / "run" / "ledger.jsonl")) == 40


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({"budget": 2}, AnswersError, "fewer than the 2 classes"),
        ({"budget": 100_000}, AnswersError, "different inputs"),
        ({"budget": 160, "selection": 0.1}, AnswersError, "pool rows are left"),
        ({"strategy": "entropi"}, UsageError, "did you mean 'entropy'"),
        ({"surrogates": ["forrest"]}, UsageError, "did you mean 'forest'"),
        ({"groups": ["gender"]}, UsageError, "no column 'gender'"),
        ({"drop": ["agee"]}, UsageError, "no column 'agee'"),
        ({"answer": "probs"}, UsageError, "is not label, proba"),
        ({"defences": ["rounding:1"]}, UsageError, "did you mean 'round'"),
        ({"exploration": {"dropout": {"rate": 0.1}}}, UsageError, "did you mean 'rates'"),
        ({"exploration": {"convex": {"samples": -1}}}, UsageError, "a whole number"),
        ({"exploration": {"convex": {"epsilon": "x"}}}, UsageError, "a number of 0 or more"),
        ({"exploration": {"convex": {"base": "tree"}}}, UsageError, "a logistic regression, and tree"),
        ({"exploration": {"convex": {"gap": 1}}}, UsageError, "true or false"),
        ({"exploration": {"dropout": {"rates": "high"}}}, UsageError, "rates=.*below 1"),
        ({"exploration": {"dropout": {"rates": [0.1, 1]}}}, UsageError, "rates=.*below 1"),
        ({"exploration": {"dropout": {"kind": "poisson"}}}, UsageError, "bernoulli, gaussian"),
        ({"exploration": {"dropout": {"base": "tree"}}}, UsageError, "a network, and tree"),
        ({"exploration": {"weight_perturbation": {"lr": 0}}}, UsageError, "above 0"),
        ({"exploration": {"weight_perturbation": {"base": "mlp"}}}, UsageError, "a torch network"),
        ({"strategy": {"name": "mixup", "alpha": "x"}}, UsageError, "cannot be made of alpha='x'"),
        ({"positive": "yes"}, UsageError, "none of the classes"),
        ({"positive": -1}, UsageError, "none of the classes"),
        ({"metrics": ["ambiguitty"]}, UsageError, "ambiguitty"),
    ],
)
def test_what_makes_no_sense_is_refused(people: Any, tmp_path: Path, more: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        audit(people, tmp_path / "run", **more)
    assert not (tmp_path / "run" / "result.json").exists()
    if error is UsageError:  # before any work
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("metrics", ["fidelity", ["fairness"], "pass"])
def test_a_part_of_the_metrics(people: Any, tmp_path: Path, metrics: Any) -> None:
    import io

    from rashomon_core.report.audits import print_audit

    more = {"surrogates": ["tree"], "exploration": {"retraining": {}}, "budget": 40, "synthetic": 0, "size": 9}
    done = audit(people, tmp_path / "run", metrics=metrics, groups=[], **more)
    Draft202012Validator(load_schema()).validate(done.document)
    print_audit(done.document, io.StringIO(), folder="run")
    assert any("size 9 is more than the 1 candidates" in w for w in done.document["checkpoints"][0]["warnings"])


def test_nothing_is_left_of_a_set_that_is_empty(people: Any, tmp_path: Path) -> None:
    """The best model is always a member: epsilon 0 leaves one, which is a named state and no row of zeros."""
    done = audit(people, tmp_path / "run", epsilon=0, surrogates=["tree", "logistic"], budget=60)
    assert done.results["set"]["size"] >= 1
    assert done.results["set"]["status"] == ("singleton" if done.results["set"]["size"] == 1 else "ok")


def test_a_selection_of_one_is_no_selection(people: Any, tmp_path: Path) -> None:
    more = {"surrogates": ["tree", "logistic"], "exploration": {"retraining": {}}, "budget": 40, "synthetic": 0}
    done = audit(people, tmp_path / "run", selection=0.02, **more)
    assert done.results["set"]["noise"]["paired"] == 0
    assert (
        "one sample selects: a single answer weighs 1, more than epsilon 0.05"
        in done.document["checkpoints"][0]["warnings"]
    )


def test_a_surrogate_that_fails_is_a_finding(people: Any, tmp_path: Path) -> None:
    more = {"surrogates": ["tree", "tfidf_logistic"], "exploration": {"retraining": {}}, "budget": 60}
    done = audit(people, tmp_path / "run", **more)
    entry = done.document["checkpoints"][0]
    assert [f["id"] for f in entry["surrogates"]["failed"]] == ["tfidf_logistic-hard-seed00"]
    assert any("could not be trained" in w for w in entry["warnings"])
    assert entry["results"]["set"]["explored"] == 1
    more["surrogates"] = ["tfidf_logistic"]
    with pytest.raises(AnswersError, match="no surrogate could be trained at budget 60"):
        audit(people, tmp_path / "none", **more)


def test_a_group_without_positives(people: Any, tmp_path: Path) -> None:
    import dataclasses

    few = people.groups.copy()
    few["sex"] = np.where((people.y == 0) & (np.arange(len(few)) % 3 == 0), "other", few["sex"])
    odd = dataclasses.replace(people, groups=few)
    done = run_audit(SMALL, data=odd, folder=tmp_path / "run", workers=1)
    gap = done.results["fairness"]["equal_opportunity_difference"]
    assert gap["median"] is None
    assert gap["reason"]


def test_foreign_and_damaged_folders(done: Any, people: Any, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"not a run: it holds 'holiday\.jpg'"):
        audit(people, tmp_path)
    with pytest.raises(OutputError, match="a file has this name"):
        audit(people, tmp_path / "holiday.jpg")

    run = tmp_path / "run"
    shutil.copytree(done.folder, run)
    (run / "result.json").unlink()
    with pytest.raises(InvalidInputError, match=r"another run: its configuration\.epsilon is 0\.05 and not 0\.1"):
        audit(people, run, epsilon=0.1)
    (tmp_path / "other").mkdir()
    other = load_table(write_table(tmp_path / "other" / "people.csv", seed=3), "label", groups=["sex"])
    with pytest.raises(InvalidInputError, match=r"another run: its data\."):
        audit(other, run)

    work = sorted((run / "work").glob("b*.npy"))[2]
    data = work.read_bytes()
    work.write_bytes(data[:-100])
    with pytest.raises(InvalidInputError, match=f"{work.name}.*damaged.*it is worked out again"):
        audit(people, run)
    work.unlink()
    assert contents(audit(people, run).folder) == contents(done.folder)  # worked out again

    (run / "result.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"result\.json.*damaged.*it is put together again"):
        audit(people, run)
    (run / "result.json").unlink()
    (run / "work" / f".{work.name}.0123.tmp").write_bytes(b"half")
    assert contents(audit(people, run).folder) == contents(done.folder)  # what a kill left behind is swept up
    (run / "config.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"config\.json: the file is damaged"):
        audit(people, run)


def test_folders_that_cannot_be_made(people: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        audit(people, tmp_path / "file" / "run")


def test_missing_groups_are_refused_before_any_work(people: Any, tmp_path: Path) -> None:
    import dataclasses

    some = people.groups.copy()
    some.loc[3, "sex"] = None
    with pytest.raises(InvalidInputError, match=r"'sex' has 1 missing values at row 3"):
        audit(dataclasses.replace(people, groups=some), tmp_path / "run", missing="refuse")
    assert not (tmp_path / "run").exists()


def test_a_folder_serves_one_process_at_a_time(people: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(OutputError, match="another process is working"):
        audit(people, tmp_path / "run")


def test_configurations_of_files_and_of_calls_are_the_same(tmp_path: Path) -> None:
    path = small_config(tmp_path)
    assert make_config(read_config(path)).digest == make_config(json.loads(path.read_text())).digest
