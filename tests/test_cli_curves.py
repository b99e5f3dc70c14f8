"""Intervals and curves where people meet them: profile, document, command line, audit."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_data import SMALL, write_table
from numpy.testing import assert_array_equal
from test_cli import check_schema, document, run

import rashomon_core as rc
from rashomon_core.audit import make_config, run_audit
from rashomon_core.datasets import load_table

M, N = 7, 90


@pytest.fixture
def given() -> dict[str, Any]:
    rng = np.random.default_rng(9)
    return {
        "predictions": rng.dirichlet([1, 1, 1], size=(M, N)),
        "target": rng.dirichlet([1, 1, 1], size=N),
        "y": rng.integers(0, 3, N),
        "groups": np.array(["a", "b", "c"])[rng.integers(0, 3, N)],
    }


@pytest.fixture
def files(tmp_path: Path, given: dict[str, Any]) -> Path:
    np.save(tmp_path / "p.npy", given["predictions"])
    np.save(tmp_path / "t.npy", given["target"])
    np.save(tmp_path / "y.npy", given["y"])
    lines = [f"{i},{group}" for i, group in enumerate(given["groups"])]
    (tmp_path / "g.csv").write_text("sample_id,group\n" + "\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("loss", ["fidelity", "zero_one", "log_loss", "given"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_curves_of_a_profile(given: dict[str, Any], loss: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    options: dict[str, Any] = {**given, "reference": 2}
    weights = rng.exponential(size=N) if weighted else None
    selection = rng.random(N) < 0.4
    losses = rng.random(M) if loss == "given" else loss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = rc.profile(
            **options, epsilon=0.05, loss=losses, selection=selection, curves=True, sample_weight=weights
        )
    results = measured.results()
    found = results["epsilon_curves"]
    rest = ~selection
    values = measured.arrays["all_losses"]
    here = {
        "target": given["target"][rest],
        "y": given["y"][rest],
        "groups": given["groups"][rest],
        "sample_weight": None if weights is None else weights[rest],
    }
    same = rc.epsilon_curves(given["predictions"][:, rest], values, 2, **here).to_dict()
    assert found["models"] == M
    assert found["samples"] == rest.sum()
    for name in ("set_size", "ambiguity", "discrepancy", "pairwise_discrepancy", "prediction_range", "fairness"):
        assert found[name] == same[name], name
    assert found["epsilons"] == pytest.approx(same["epsilons"], abs=1e-15)
    # the measured set is one of the points
    at = found["set_size"].index(results["set"]["size"])
    assert found["ambiguity"][at] == pytest.approx(results["ambiguity"]["value"], abs=1e-12)
    assert found["pairwise_disagreement"][at] == pytest.approx(results["pairwise_disagreement"]["mean"], abs=1e-12)
    sizes = results["size_curves"]
    assert sizes["models"] == results["set"]["size"]
    assert sizes["ambiguity"][-1] == pytest.approx(results["ambiguity"]["value"], abs=1e-12)
    assert sizes["discrepancy"][-1] == pytest.approx(results["discrepancy"]["value"], abs=1e-12)


def test_curves_of_part_of_the_metrics(given: dict[str, Any]) -> None:
    found = rc.profile(**given, epsilon=0.1, selection=0.5, curves=True, metrics=["ambiguity"]).results()
    curves = found["epsilon_curves"]
    for name in ("pairwise_discrepancy", "prediction_range", "fairness", "capacity"):
        assert curves[name]["value"] is None
        assert curves[name]["reason"]
    plain = rc.profile(**given, curves=True).results()
    assert "epsilon" in plain["epsilon_curves"]["reason"]
    assert plain["size_curves"]["sizes"][-1] == M
    many = np.random.default_rng(0).integers(0, 2, (400, 30))
    options: dict[str, Any] = {"target": many[0], "selection": np.arange(30) < 12, "epsilon": 1.0}
    thin = rc.profile(many, loss=np.arange(400.0), curves=True, metrics=["ambiguity"], **options).results()
    assert len(thin["epsilon_curves"]["epsilons"]) == 200
    assert thin["epsilon_curves"]["set_size"][-1] == 400


@pytest.mark.parametrize("metrics", ["pass", "all", "losses,fairness"])
@pytest.mark.parametrize("have", ["nothing", "target", "everything"])
def test_every_choice_keeps_to_the_schema(files: Path, metrics: str, have: str) -> None:
    options: dict[str, list[object]] = {
        "nothing": [],
        "target": ["--target", files / "t.npy", "--epsilon", 0.1],
        "everything": [
            *("--target", files / "t.npy", "--labels", files / "y.npy", "--groups", files / "g.csv:group"),
            *("--epsilon", 0.1, "--selection", 0.5),
        ],
    }
    command = ("measure", files / "p.npy", *options[have], "--metrics", metrics, "--json")
    found = document(run(*command, "--bootstrap", 20, "--interval", 0.9, "--curves"))
    assert found["parameters"]["bootstrap"] == {"replicates": 20, "level": 0.9}
    assert {"epsilon_curves", "size_curves"} <= set(found["results"])
    plain = document(run(*command))
    assert plain["parameters"]["bootstrap"] is None
    assert "interval" not in json.dumps(plain["results"])
    assert "epsilon_curves" not in plain["results"]


def test_tables_show_intervals_in_80_columns(files: Path) -> None:
    command = ("measure", files / "p.npy", "--target", files / "t.npy", "--labels", files / "y.npy")
    shown = run(*command, "--groups", files / "g.csv:group", "--bootstrap", 50, "--curves")
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()[1:]  # the first one is the path
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    text = " ".join(shown.stdout.split())
    assert "95 %:" in text
    for name in ("disagreement rate: mean, 95 %:", "log loss (nats): median, 95 %:", "median (95 %:"):
        assert name in text
    assert "curves" not in text
    assert "95 %" not in run(*command).stdout


def test_limits_reach_intervals(files: Path) -> None:
    command = ("measure", files / "p.npy", "--target", files / "t.npy", "--bootstrap", 20, "--json")
    assert run(*command, "--fail-above", "ambiguity.interval.high=1").exit_code == 0
    assert run(*command, "--fail-above", "fidelity.intervals.median.low=0").exit_code == 1


@pytest.mark.parametrize("options", [["--bootstrap", "1"], ["--bootstrap", "20", "--interval", "95"]])
def test_wrong_numbers_are_usage_errors(files: Path, options: list[str]) -> None:
    result = run("measure", files / "p.npy", *options)
    assert result.exit_code == 2


def test_the_configuration_of_an_audit() -> None:
    made = make_config(bootstrap=100, interval=0.8, curves=True)
    assert (made["bootstrap"], made["interval"], made["curves"]) == (100, 0.8, True)
    for wrong in ({"bootstrap": 1}, {"bootstrap": 2.5}, {"interval": 1}, {"interval": "wide"}, {"curves": "yes"}):
        with pytest.raises(rc.UsageError, match=next(iter(wrong))):
            make_config(wrong)


def test_an_audit_with_intervals_and_curves(tmp_path: Path) -> None:
    people = load_table(write_table(tmp_path / "people.csv"), "label", groups=["sex"])
    config = {**SMALL, "budget": [40], "surrogates": ["logistic", "tree"], "bootstrap": 20, "curves": True}
    done = run_audit(config, data=people, folder=tmp_path / "run", workers=1)
    check_schema(done.document)
    for results in (done.results, done.document["checkpoints"][0]["results"]):
        assert results["ambiguity"]["interval"]["replicates"] == 20
        assert results["epsilon_curves"]["models"] == results["set"]["explored"]
        assert results["size_curves"]["models"] == results["set"]["size"]
    assert_array_equal(np.diff(results["epsilon_curves"]["ambiguity"]) >= 0, True)
