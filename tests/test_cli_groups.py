"""Groups through the command: columns of one table, each alone and crossed, the tables, the limits, the audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_data import SMALL, write_table
from test_cli import document, files, probs, rng, run

import rashomon_core as rc

__all__ = ["files", "probs", "rng"]  # fixtures
CROSSED = ["sex=f, race=0", "sex=f, race=1", "sex=f, race=2", "sex=m, race=0", "sex=m, race=1", "sex=m, race=2"]


def given(folder: Path, *more: object) -> list[object]:
    answers = ("--target", folder / "t.npy", "--labels", folder / "y.npy")
    return ["measure", folder / "p.npy", *answers, "--groups", folder / "g.csv", *more]


def test_a_table_of_groups_gives_all_its_columns(files: Path, probs: np.ndarray) -> None:
    """Without names of columns all but the ids are taken, each with a type of its own."""
    found = document(run(*given(files, "--json")))
    assert found["results"]["fairness"]["groups"] == CROSSED
    assert list(found["results"]["groups"]) == ["sex", "race", "sex x race"]
    assert [e["select"] for e in found["inputs"] if e["role"] == "groups"] == ["sex,race"]
    named = document(run(*given(files, "--json")[:-2], f"{files / 'g.csv'}:sex,race", "--json"))
    assert named["results"] == found["results"]
    one = document(run(*given(files, "--json")[:-2], f"{files / 'g.csv'}:sex", "--json"))
    assert list(one["results"]["groups"]) == ["sex"]
    assert one["results"]["fairness"]["groups"] == ["f", "m"]
    assert "by_column" not in one["results"]["fairness"]


def test_columns_alone_and_crossed(files: Path, probs: np.ndarray) -> None:
    found = document(run(*given(files, "--skip-undefined", "--weights", files / "w.npy", "--json")))
    results = found["results"]
    assert found["parameters"]["skip_undefined"] is True
    assert list(results["fairness"]["by_column"]) == ["sex", "race"]
    assert list(results["groups"]) == ["sex", "race", "sex x race"]
    assert list(results["groups"]["sex x race"]["groups"]) == CROSSED
    table = [line.split(",")[1:] for line in (files / "g.csv").read_text().splitlines()[1:]]
    same = rc.profile(
        probs,
        target=np.load(files / "t.npy"),
        y=np.load(files / "y.npy"),
        groups={"sex": [row[0] for row in table], "race": [row[1] for row in table]},
        sample_weight=np.load(files / "w.npy"),
        skip_undefined=True,
    )
    assert results == json.loads(json.dumps(same.results()))


def test_limits_inside_groups(files: Path) -> None:
    path = "groups.sex.gaps.disagreement_rate.difference"
    found = document(run(*given(files, "--json")))["results"]
    gap = found["groups"]["sex"]["gaps"]["disagreement_rate"]["difference"]
    kept = run(*given(files, "--quiet", "--fail-above", f"{path}={gap + 0.01}"))
    assert kept.exit_code == 0, kept.stderr
    broken = run(*given(files, "--quiet", "--fail-above", f"{path}={gap - 0.001}"))
    assert broken.exit_code == 1
    assert path in broken.stderr
    inside = f"groups.sex x race.groups.{CROSSED[0]}.ambiguity.value=0"
    assert run(*given(files, "--quiet", "--fail-above", inside)).exit_code == 1


def test_the_tables(files: Path) -> None:
    result = run(*given(files))
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    for title in ("fairness, sex", "fairness, race", "fairness, crossed", "widest gaps, race"):
        assert title in text
    for title in ("inside groups, sex ", "inside groups, race ", "inside groups, sex x race"):
        assert title in text
    assert text.count("largest - smallest") == 3
    assert text.count("smallest / largest") == 3
    assert max(map(len, text.splitlines())) <= 80
    alone = run("measure", files / "p.npy", "--groups", f"{files / 'g.csv'}:sex").stdout
    assert "inside groups, sex" in alone
    assert "ambiguity: pairwise, for there is no reference" in alone
    assert "fairness, sex" not in alone  # one column: no need to name it
    none = run("measure", files / "p.npy").stdout
    assert none.count("no groups") == 1


def test_long_names_and_many_groups_fit(files: Path) -> None:
    rows = [f"{i},{'a group with a very long name indeed ' * 3}{i % 30},{'x' * 90}{i % 2}" for i in range(40)]
    (files / "g.csv").write_text("sample_id,kind,other\n" + "\n".join(rows) + "\n")
    result = run(*given(files))
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    words = " ".join(result.stdout.split())
    assert "more groups: --json" in words
    assert "disagreement: most in kind=" in words
    assert "undefined in 5 models (" in words or "empty denominator in every model (" in words


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("a\n" * 39, "39 groups for 40 samples"),
        ("a\n" * 39 + '""\n', "missing value"),
    ],
)
def test_bad_files(files: Path, column: str, message: str) -> None:
    (files / "g.csv").write_text("sex\n" + column)
    result = run(*given(files, "--json"))
    assert result.exit_code == 3
    assert message in result.stderr
    assert "g.csv" in result.stderr
    assert "Fix: " in result.stderr


def test_one_value_is_a_warning(files: Path) -> None:
    (files / "g.csv").write_text("sex\n" + "a\n" * 40)
    result = run(*given(files, "--json"))
    assert "all samples have the value 'a' in g" in " ".join(document(result)["warnings"])


def test_an_audit_of_two_columns(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from rashomon_core.audit import make_config, run_audit
    from rashomon_core.datasets import load_table

    table = write_table(tmp_path / "people.csv")
    people = load_table(table, "label", groups=["sex"])
    columns = ["sex", next(c for c in people.X.columns if people.X[c].nunique() < 6 and c != "sex")]
    done = run_audit({**SMALL, "groups": columns}, data=people, folder=tmp_path / "run", workers=1)
    results: dict[str, Any] = done.results
    assert list(results["fairness"]["by_column"]) == columns
    assert list(results["groups"]) == [*columns, " x ".join(columns)]
    with pytest.raises(rc.UsageError, match="skip_undefined='yes': true or false"):
        make_config({"skip_undefined": "yes"})
    budget = done.folder / f"budget-{SMALL['budget'][-1]}"
    again = document(
        run(
            *("measure", budget / "preds.npy", "--target", budget / "target.npy", "--labels", budget / "labels.npy"),
            *("--groups", budget / "groups.csv", "--selection", budget / "selection.npy"),
            *("--epsilon", SMALL["epsilon"], "--loss", "fidelity", "--missing", "group", "--json"),
        )
    )["results"]
    for name in ("fairness", "groups"):
        assert again[name] == json.loads(json.dumps(results[name]))
