"""The report of a finished run: its numbers against slow loops, its words, its files, errors."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import naive
import naive_capacity
import numpy as np
import pytest
from audit_data import SMALL as SMALLER
from audit_data import write_table
from report_data import Reader
from test_cli import run

from rashomon_core.audit import run_audit, run_material
from rashomon_core.datasets import load_table
from rashomon_core.report import material, writing
from rashomon_core.report.charts import charts, datasets
from rashomon_core.report.page import render_page
from rashomon_core.report.terminal import sentences

SMALL: dict[str, Any] = {**SMALLER, "epsilon": 0.15}  # a set of several models

vl_convert = pytest.importorskip("vl_convert", reason="the extra [report] is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a small audit."""
    place = tmp_path_factory.mktemp("report")
    people = load_table(write_table(place / "people.csv"), "label", groups=["sex"])
    return run_audit(SMALL, data=people, folder=place / "run", workers=1).folder


@pytest.fixture(scope="module")
def audited(folder: Path) -> material.Material:
    return run_material(folder)


# --- numbers --------------------------------------------------------------------------------------------------


def parts(folder: Path, budget: int) -> dict[str, Any]:
    """Read one checkpoint without the library, on its evaluation samples."""
    place = folder / f"budget-{budget}"
    selection = np.load(place / "selection.npy").astype(bool)
    scores, target = np.load(place / "preds.npy"), np.load(place / "target.npy")
    with (place / "groups.csv").open(newline="") as stream:
        groups = np.array([line["sex"] for line in csv.DictReader(stream)])
    labels = naive.decide(scores)
    answers = (target > 0.5).astype(int)
    errors = [sum(labels[k, i] != answers[i] for i in np.flatnonzero(selection)) for k in range(len(labels))]
    return {
        "ids": json.loads((place / "preds.json").read_text())["model_ids"],
        "scores": scores[:, ~selection],
        "labels": labels[:, ~selection],
        "target": answers[~selection],
        "y": np.load(place / "labels.npy")[~selection],
        "groups": groups[~selection],
        "errors": np.array(errors),
        "n": int(selection.sum()),
    }


def members(found: dict[str, Any], epsilon: float) -> Any:
    return naive.rashomon_mask(found["errors"], epsilon, n=found["n"])


@pytest.mark.parametrize("budget", SMALL["budget"])
def test_dots_are_fidelity_and_fairness_of_every_candidate(
    audited: material.Material, folder: Path, budget: int
) -> None:
    found = parts(folder, budget)
    rows = [row for row in audited.models if row["budget"] == f"{budget:,}"]
    assert [row["id"] for row in rows] == found["ids"]
    np.testing.assert_array_equal([row["fidelity"] for row in rows], naive.fidelity(found["labels"], found["target"]))
    np.testing.assert_array_equal([row["loss"] for row in rows], found["errors"] / found["n"])
    np.testing.assert_array_equal([row["member"] for row in rows], members(found, SMALL["epsilon"]))
    for k, row in enumerate(rows):
        rates = [found["labels"][k, found["groups"] == g].mean() for g in ("female", "male")]
        assert row["demographic_parity_difference"] == pytest.approx(abs(rates[0] - rates[1]), abs=1e-15)
        assert row["family"] == row["id"].split("-")[0]
        assert row["method"] == "retraining"


def test_the_targets_own_fairness(audited: material.Material, folder: Path) -> None:
    found = parts(folder, 80)
    rates = [found["target"][found["groups"] == g].mean() for g in ("female", "male")]
    assert audited.target["demographic_parity_difference"] == pytest.approx(abs(rates[0] - rates[1]), abs=1e-15)
    document = audited.results["fairness"]
    assert audited.target == {name: gap["target"] for name, gap in document.items() if "median" in gap}


def test_the_epsilon_curve_is_the_set_at_each_epsilon(audited: material.Material, folder: Path) -> None:
    found = parts(folder, 80)
    sizes = [row["size"] for row in audited.curve]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2
    for row in audited.curve:
        mask = members(found, row["epsilon"])
        labels = found["labels"][mask]
        assert row["size"] == mask.sum()
        assert row["ambiguity"] == naive.ambiguity(labels, found["target"])
        assert row["discrepancy"] == naive.discrepancy(labels, found["target"])
        assert row["pairwise_ambiguity"] == naive.pairwise_ambiguity(labels)
        assert row["pairwise_discrepancy"] == naive.pairwise_discrepancy(labels)
        gaps = [abs(one[found["groups"] == "female"].mean() - one[found["groups"] == "male"].mean()) for one in labels]
        assert row["demographic_parity_difference_max"] == pytest.approx(max(gaps), abs=1e-15)
        assert row["demographic_parity_difference_min"] == pytest.approx(min(gaps), abs=1e-15)
    stated = next(row for row in audited.curve if row["epsilon"] == SMALL["epsilon"])
    assert stated["size"] == audited.results["set"]["size"]
    assert stated["ambiguity"] == audited.results["ambiguity"]["value"]
    assert stated["capacity"] == audited.results["rashomon_capacity"]["mean"]


def test_the_capacity_curve_lies_on_the_distribution(audited: material.Material, folder: Path) -> None:
    found = parts(folder, 80)
    mask = members(found, SMALL["epsilon"])
    bits = np.array([naive_capacity.binary_capacity(column) for column in found["scores"][mask].T])
    rows = [row for row in audited.capacity if row["budget"] == "80"]
    assert rows[0]["share"] == 0
    assert rows[-1]["share"] == 1
    assert all(a["bits"] <= b["bits"] and a["share"] <= b["share"] for a, b in pairwise(rows))
    for row in rows[1:]:
        assert np.mean(bits <= row["bits"] + 1e-9) >= row["share"] - 1e-12
        assert np.mean(bits < row["bits"] - 1e-9) <= row["share"] + 1e-12


def test_the_heat_map_is_the_disagreement_of_the_members(audited: material.Material, folder: Path) -> None:
    found = parts(folder, 80)
    assert audited.heat is not None
    order = [found["ids"].index(name) for name in audited.heat.names]
    assert sorted(order) == np.flatnonzero(members(found, SMALL["epsilon"])).tolist()
    np.testing.assert_array_equal(audited.heat.cells, naive.pairwise_disagreement(found["labels"][order]))


def test_groups_and_their_ranges(audited: material.Material, folder: Path) -> None:
    found = parts(folder, 80)
    labels = found["labels"][members(found, SMALL["epsilon"])]
    assert {row["group"] for row in audited.groups} == {"female", "male"}
    for row in audited.groups:
        inside = found["groups"] == row["group"]
        assert row["samples"] == inside.sum()
        assert row["ambiguity"] == naive.ambiguity(labels[:, inside], found["target"][inside])
        expected = naive.disagreement_rate(labels[:, inside]).mean()
        assert row["disagreement"] == pytest.approx(expected, abs=1e-15)
    for row in (row for row in audited.rates if row["rate"] == "selection_rate"):
        inside = found["groups"] == row["group"]
        rates = labels[:, inside].mean(axis=1)
        seen = (row["min"], row["median"], row["max"])
        np.testing.assert_allclose(seen, (rates.min(), np.median(rates), rates.max()), rtol=0, atol=1e-15)
        assert row["target"] == pytest.approx(found["target"][inside].mean(), abs=1e-15)


def test_the_most_ambiguous_samples_come_first_and_their_models_carry_the_capacity(
    audited: material.Material, folder: Path
) -> None:
    found = parts(folder, 80)
    mask = members(found, SMALL["epsilon"])
    scores, labels = found["scores"][mask], found["labels"][mask]
    ids = np.array(found["ids"])[mask].tolist()
    bits = np.array([naive_capacity.binary_capacity(column) for column in scores.T])
    names = json.loads((folder / "budget-80" / "preds.json").read_text())["sample_ids"]
    at = [names.index(row["sample"]) - found["n"] for row in audited.samples]
    assert len(at) == material.SAMPLES
    others = np.delete(bits, at)
    assert bits[at].min() >= others.max() - 1e-8
    assert np.all(np.diff(bits[at]) <= 1e-8)
    for i, row in zip(at, audited.samples, strict=True):
        assert row["bits"] == pytest.approx(bits[i], abs=1e-8)
        assert (row["low"], row["high"]) == (scores[:, i].min(), scores[:, i].max())
        assert sum(row["answers"].values()) == len(scores)
        assert row["answers"].get(audited.class_names[1], 0) == labels[:, i].sum()
        assert row["target"] == audited.class_names[found["target"][i]]
        assert row["label"] == audited.class_names[found["y"][i]]
        assert row["group"] == found["groups"][i]
        assert row["disagreement"] == pytest.approx(naive.disagreement_rate(labels)[i], abs=1e-15)
        own = {ids.index(name): weight for name, weight in row["support"]}
        assert sum(own.values()) == pytest.approx(1)
        weights = np.array([own.get(k, 0.0) for k in range(len(ids))])
        rows = naive_capacity.classes_of(scores)[:, i]
        assert naive_capacity.bounds(rows, weights)[0] == pytest.approx(bits[i], abs=1e-6)


# --- the page and its files -----------------------------------------------------------------------------------


def test_the_page_says_what_the_document_says(audited: material.Material) -> None:
    page = render_page(audited)
    assert page == render_page(audited)
    assert len(page) < 2e6
    read = Reader(page)
    for text in sentences(audited.results, "surrogate", audited.positive):
        assert text in read.text
    for text in ("is not an interval estimate of the target's value", "grow with the number of surrogates"):
        assert text in read.text
    document = audited.document
    for value in (document["inputs"][0]["sha256"], document["environment"]["platform"], "set.noise.paired"):
        assert value in read.text
    queries = {key: re.search(rf"whole run\.{key}(\d+)", read.text) for key in document["audit"]["queries"]}
    assert {key: int(match[1]) for key, match in queries.items() if match} == document["audit"]["queries"]
    names = [tag for tag, _ in read.elements]
    assert names.count("script") == 3
    assert not {"img", "iframe", "object", "embed", "base"} & set(names)
    for tag, attributes in read.elements:
        for key in ("src", "href", "action"):
            value = attributes.get(key)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    policy = next(a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "connect-src" not in policy


def test_intervals_and_groups_of_the_document_are_shown(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    document = json.loads((copy / "result.json").read_text())
    document["results"]["ambiguity"]["interval"] = {"low": 0.123, "high": 0.456, "level": 0.95}
    inside = document["results"]["groups"]["sex"]["groups"]
    for name, n in (("female", 70), ("male", 80)):
        inside[name] |= {"n": n, "ambiguity": {"value": 0.25}, "disagreement_rate": {"mean": 0.125}}
    (copy / "result.json").write_text(json.dumps(document))
    found = run_material(copy)
    assert [(row["group"], row["samples"], row["ambiguity"], row["disagreement"]) for row in found.groups] == [
        ("male", 80, 0.25, 0.125),
        ("female", 70, 0.25, 0.125),
    ]
    text = Reader(render_page(found)).text
    assert "interval 12.3 % to 45.6 %" in text
    assert "ambiguity.interval.low 0.123" in text


def test_every_chart_has_its_data_and_one_place(audited: material.Material) -> None:
    drawn_, rows = charts(audited), datasets(audited)
    assert set(drawn_) == {"budgets", "fairness", "epsilon", "capacity", "disagreement", "rates", "groups"}
    read = Reader(render_page(audited))
    carried = json.loads(read.scripts[0])
    assert set(carried["datasets"]) == set(rows)
    places = [attributes["id"] for tag, attributes in read.elements if attributes.get("class") == "chart"]
    assert places == list(carried["specs"])
    assert len(places) == len(set(places))
    for spec in carried["specs"].values():
        named = {table["name"] for table in spec["data"]}
        assert named & set(rows) or any("values" in table for table in spec["data"])
        assert not any("url" in table for table in spec["data"])


# --- the command ----------------------------------------------------------------------------------------------


def test_the_command_writes_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    done = run("report", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert f"wrote {folder / 'report.html'}" in done.stderr.replace("\n", "")
    page = folder / "report.html"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    page.unlink()
    files = {"--output": "a.html", "--markdown": "a.md", "--csv": "tables", "--figures": "figures"}
    done = run("report", folder, "--quiet", *(x for k, v in files.items() for x in (k, tmp_path / v)))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert not page.exists()
    assert (tmp_path / "a.md").read_text(encoding="utf-8").startswith("# Rashomon audit of")
    assert len(list((tmp_path / "tables").glob("*.csv"))) == 9
    assert len(list((tmp_path / "figures").iterdir())) == 14
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]


def test_a_folder_that_is_no_finished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    def refused(place: Path, text: str) -> None:
        done = run("report", place, "--output", tmp_path / "out.html")
        assert done.exit_code == 3, (text, done.stderr)
        assert text in done.stderr.replace("\n", ""), done.stderr
        assert not (tmp_path / "out.html").exists()

    refused(tmp_path / "nothing", "does not exist")
    refused(tmp_path, "no config.json")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "is of something else")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "damaged")
    for damage, text in (
        (lambda p: (p / "result.json").unlink(), "not finished"),
        (lambda p: (p / "result.json").write_text('{"schema": 1'), "damaged"),
        (lambda p: (p / "result.json").write_text('{"schema": "other"}'), "not a result of this version"),
        (lambda p: (p / "budget-40" / "preds.npy").unlink(), "preds.npy"),
        (lambda p: (p / "budget-80" / "preds.npy").write_bytes(b"\x93NUMPY"), "preds.npy"),
        (lambda p: (p / "budget-80" / "target.npy").write_bytes(b""), "target.npy"),
        (lambda p: (p / "budget-80" / "groups.csv").write_bytes(b"\xff"), "groups.csv"),
        (lambda p: _drop(p / "result.json", "checkpoints"), "lacks what a report needs"),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        damage(copy)
        refused(copy, text)


def _drop(file: Path, key: str) -> None:
    document = json.loads(file.read_text())
    del document[key]
    file.write_text(json.dumps(document))


def test_outputs_are_checked_before_the_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for option, place in (
        ("--output", tmp_path / "none" / "a.html"),
        ("--markdown", tmp_path),
        ("--csv", tmp_path / "file"),
        ("--figures", tmp_path / "none" / "figures"),
    ):
        done = run("report", folder, option, place)
        assert (done.exit_code, "Fix:" in done.stderr) == (3, True), (option, done.stderr)
    assert run("measure", "--example", "--report", tmp_path / "none" / "a.html").exit_code == 3
    done = run("audit", "--report", tmp_path / "a.html", "--no-report")
    assert (done.exit_code, "exclude" in done.stderr) == (2, True)


def test_a_missing_library_is_named_with_its_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "vl_convert" else find(name, *a))
    assert writing.missing_library(page=False) is None
    for arguments in (("report", folder), ("measure", "--example", "--report", tmp_path / "a.html")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "vl-convert-python" in done.stderr
        assert "rashomon-core[report]" in done.stderr.replace("\n", "")
    assert not list(tmp_path.iterdir())
    done = run("report", folder, "--csv", tmp_path / "tables")  # the tables need no charts
    assert done.exit_code == 0, done.stderr


def test_an_audit_ends_with_its_page_and_without_the_libraries_with_a_note(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.json"
    table = {"path": str(write_table(tmp_path / "people.csv")), "label": "label", "groups": ["sex"]}
    config.write_text(json.dumps({**SMALL, "data": table, "budget": [40], "surrogates": ["logistic", "tree"]}))
    where = ("audit", "--config", config, "--run", tmp_path / "run", "--workers", "1")
    page = tmp_path / "run" / "report.html"
    with monkeypatch.context() as patched:
        patched.setattr(writing, "_PAGE", (("no_such_library", "no-such-library"),))
        done = run(*where)
        assert done.exit_code == 0, done.stderr
        assert "note: no report.html: a report needs the library 'no-such-library'" in done.stderr.replace("\n", "")
    assert not page.exists()
    assert run(*where, "--no-report").exit_code == 0
    assert not page.exists()
    done = run(*where, "--json")
    assert f"report: {page}" in done.stderr.replace("\n", "")
    assert json.loads(done.stdout)["schema"]
    before = page.stat().st_mtime_ns
    assert run(*where, "--quiet").exit_code == 0
    assert page.stat().st_mtime_ns == before  # nothing is done again
    assert run(*where, "--report", tmp_path / "other.html").exit_code == 0
    assert (tmp_path / "other.html").read_bytes() == page.read_bytes()
