"""What an audit is asked to do: merging, checks, nearest suggestions, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rashomon_core.audit import DEFAULTS, default_folder, make_config, read_config
from rashomon_core.errors import InvalidInputError, UsageError


def test_defaults_are_valid_and_left_alone() -> None:
    config = make_config()
    assert config.to_dict() == {**DEFAULTS, "budget": [100, 250, 1000]}
    config.to_dict()["split"]["pool"] = 0.9
    config["exploration"]["retraining"]
    assert DEFAULTS["split"]["pool"] == 0.3
    assert make_config()["split"]["pool"] == 0.3


def test_trees_are_merged_and_short_forms_are_read() -> None:
    config = make_config(
        {"budget": "1000, 100,250", "selection": 0.2, "exploration": {"retraining": {"seeds": 3}}},
        groups="sex,race",
        surrogates="tree;logistic",
    )
    assert config.budgets == (100, 250, 1000)
    assert config["selection"] == {"share": 0.2, "charged": True}
    assert config["exploration"]["retraining"] == {"seeds": 3, "bootstraps": 0}
    assert config["exploration"]["dropout"] is None
    assert (config["groups"], config["surrogates"]) == (["sex", "race"], ["tree", "logistic"])
    assert [config.parts(b) for b in config.budgets] == [(80, 20), (200, 50), (800, 200)]
    free = make_config(selection={"charged": False, "share": 2})
    assert free.parts(100) == (100, 200)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epsilonn": 1}, "did you mean 'epsilon'"),
        ({"budgets": 1}, "did you mean 'budget'"),
        ({"selection": {"shares": 0.3}}, "unknown key 'shares' in selection; did you mean 'share'"),
        ({"exploration": {"drop_out": {}}}, "did you mean 'dropout'"),
        ({"exploration": {"retraining": {"seed": 1}}}, "did you mean 'seeds'"),
        ({"split": {"evaluate": 0.3}}, "did you mean 'evaluation'"),
        ({"zzz": 1}, "known are data, groups"),
        ({"budget": 0}, "budget=0: at least 1"),
        ({"budget": []}, "at least one"),
        ({"budget": "ten"}, "not a whole number"),
        ({"budget": 1.5}, "not a whole number"),
        ({"budget": True}, "not a whole number"),
        ({"epsilon": -0.1}, "epsilon=-0.1 is not between"),
        ({"epsilon": "x"}, "not a number"),
        ({"epsilon": float("nan")}, "not between"),
        ({"selection": 0}, "a share of the budget between 0 and 1"),
        ({"selection": 1}, "a share of the budget between 0 and 1"),
        ({"split": {"pool": 0.5}}, "do not sum to 1"),
        ({"split": {"target": 0.7, "pool": 0.3, "evaluation": 0}}, "split.evaluation=0"),
        ({"split": 3}, "split takes target, pool, evaluation"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"missing": "drop"}, "missing='drop'"),
        ({"relative": "yes"}, "true or false"),
        ({"seed": -1}, "seed=-1: at least 0"),
        ({"exploration": {"retraining": {"seeds": 0}}}, "at least 1"),
        ({"surrogates": 3}, "surrogates is a list"),
        ({"target": object()}, "not plain data"),
        ({"metrics": 3}, "all, pass, or a list"),
        ({"metrics": ["ambiguitty"]}, "'ambiguitty' is not one of"),
        ({"metrics": []}, "no metrics"),
        ({"fairness_threshold": "high"}, "not a number"),
        ({"fairness_threshold": {"demographic_parity": 0.1}}, "did you mean 'demographic_parity_"),
        ({"answer": 3}, "label, proba"),
        ({"cache": "on"}, "free, charged, off"),
        ({"data": 3}, "a name, or path and label"),
        ({"data": {"path": 3}}, "data.path=3 is not a path"),
        ({"data": {"path": "x.csv", "lable": "y"}}, "did you mean 'label'"),
        ({"data": {"path": "x.csv", "label": "y", "groups": [1]}}, "a list of columns"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_config(values)


def test_the_digest_names_the_configuration() -> None:
    assert make_config(seed=1).digest == make_config(seed=1, epsilon="0.03").digest
    assert make_config(seed=1).digest != make_config(seed=2).digest
    assert default_folder(make_config()).name.startswith("arrests-")
    assert default_folder(make_config(data={"path": "a b/my people.csv", "label": "y"})).name.startswith("my-people-")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("budget: [10, 20]\nstrategy:\n  name: mixup\n  seeds: 20\n")
    assert make_config(read_config(path))["strategy"] == {"name": "mixup", "seeds": 20}
    path.write_text('{"budget": 10}')
    assert make_config(read_config(path)).budgets == (10,)
    path.write_text("")
    assert read_config(path) == {}
    for text, match in (("a: [1", "not YAML"), ("- 1\n", "mapping"), ("1: 2\n", "mapping")):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match=match):
            read_config(path)
    path.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InvalidInputError, match="not YAML"):
        read_config(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
