"""The report: its numbers against slow loops, its words, its files, names that want out, errors."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import naive
import naive_capacity
import numpy as np
import pytest
from audit_data import SMALL as SMALLER
from audit_data import write_table
from hypothesis import given
from hypothesis import strategies as st
from report_data import drawn, hostile, measured
from test_cli import run

from rashomon_core.audit import run_audit, run_material
from rashomon_core.datasets import load_table
from rashomon_core.report import figures, heat, material, writing
from rashomon_core.report.charts import charts, datasets
from rashomon_core.report.page import render_page
from rashomon_core.report.tabular import csv_tables, defused, render_markdown, to_csv
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


class Reader(HTMLParser):
    """Elements, their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.text += data


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


def test_what_is_too_long_is_thinned_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "DOTS", 10)
    monkeypatch.setattr(heat, "CELLS", 4)
    data = drawn(1, 30, 200)
    found = measured(tmp_path, data.pop("scores"), **data, epsilon=1.0, selection=0.3)
    assert len(found.models) == 10
    assert found.models[0]["id"] == "0"
    assert found.models[-1]["id"] == "29"
    assert found.heat is not None
    assert found.heat.cells.shape == (4, 4)
    np.testing.assert_allclose(found.heat.cells, found.heat.cells.T, atol=1e-15)
    assert found.heat.models == 30
    assert any("10 of 30 models" in text for text in found.notes)
    assert any("neighbouring models" in text for text in found.notes)
    everything = heat.thinned(1000, 7)
    assert (everything[0], everything[-1], len(everything)) == (0, 999, 7)


def test_binned_cells_are_means_over_pairs_of_different_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn(3, 7, 60)
    labels = naive.decide(data["scores"])
    whole = measured(tmp_path, data["scores"], target=data["target"])
    assert whole.heat is not None
    assert sorted(whole.heat.names) == [str(k) for k in range(7)]
    monkeypatch.setattr(heat, "CELLS", 3)
    monkeypatch.setattr(heat, "_clustered", lambda cells: np.arange(len(cells)))
    binned = measured(tmp_path, data["scores"], target=data["target"])
    assert binned.heat is not None
    distances, bins = naive.pairwise_disagreement(labels), [[0, 1, 2], [3, 4], [5, 6]]
    for a, rows in enumerate(bins):
        for b, columns in enumerate(bins):
            cells = [distances[i, j] for i in rows for j in columns if i != j]
            assert binned.heat.cells[a, b] == pytest.approx(np.mean(cells))


SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("three classes", {"classes": 3, "epsilon": 0.1, "selection": 0.3}),
    ("weights", {"epsilon": 0.1, "selection": 0.3, "weights": True}),
    ("threshold", {"epsilon": 0.1, "selection": 0.3, "threshold": 0.6}),
    ("no epsilon", {}),
    ("relative", {"epsilon": 0.5, "relative": True}),
    ("log loss", {"epsilon": 0.3, "loss": "log_loss", "selection": 0.3}),
    ("given losses", {"epsilon": 0.3, "loss": np.linspace(0, 1, 12)}),
    ("reference is a model", {"epsilon": 0.05, "reference": "3", "selection": 0.3}),
    ("reference is an array", {"epsilon": 0.05, "reference": np.arange(150) % 2, "selection": 0.3}),
    ("no target", {"without": ("target",)}),
    ("no labels", {"without": ("y",), "epsilon": 0.1, "selection": 0.3}),
    ("no groups", {"without": ("groups",), "epsilon": 0.1, "selection": 0.3}),
    ("predictions only", {"without": ("target", "y", "groups")}),
    ("labels only", {"decided": True, "epsilon": 0.1, "selection": 0.3}),
    ("one model", {"models": 1}),
    ("identical models", {"same": True}),
    ("a set of one", {"epsilon": 0.0, "selection": 0.3}),
]


@pytest.mark.parametrize(("name", "case"), SHAPES, ids=[name for name, _ in SHAPES])
def test_every_kind_of_measurement_has_a_report(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    case = dict(case)
    data = drawn(7, case.pop("models", 12), 150, case.pop("classes", 2))
    scores = data.pop("scores")
    for left_out in case.pop("without", ()):
        data.pop(left_out)
    if case.pop("decided", False):
        scores = naive.decide(scores)
    if case.pop("same", False):
        scores = np.repeat(scores[:1], 12, axis=0)
    if case.pop("weights", False):
        case["sample_weight"] = np.random.default_rng(1).random(150)
    found = measured(tmp_path, scores, **data, **case)
    page = render_page(found)
    assert "NaN" not in Reader(page).scripts[0]
    read = Reader(page).text
    for text in sentences(found.results, found.noun, found.positive):
        assert text in read
    assert render_markdown(found)
    assert csv_tables(found)["results.csv"]
    if found.curve:
        stated = next(row for row in found.curve if row["epsilon"] == case["epsilon"])
        assert stated["size"] == found.results["set"]["size"]
        for key in ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_discrepancy"):
            if found.results[key].get("value") is not None:
                assert stated[key] == pytest.approx(found.results[key]["value"], rel=1e-14), key
    if "reference" in case:  # groups are measured against the same reference
        shares = [row["ambiguity"] * row["samples"] for row in found.groups]
        assert sum(shares) == pytest.approx(found.results["ambiguity"]["count"])


def test_families_with_ids_of_no_order_are_one(tmp_path: Path) -> None:
    data = drawn(2, 30, 50)
    many = measured(tmp_path, data["scores"], ids=[f"run {k}" for k in range(30)])
    assert many.families == ["model"]
    ids = [f"f{k // 2:02d}-{k % 2}" for k in range(30)]
    more = measured(tmp_path, data["scores"], ids=ids)
    assert len(more.families) == material.FAMILIES
    assert more.families[-1] == "other"


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


def test_names_that_want_out_stay_text(tmp_path: Path) -> None:
    data = drawn(5, 10, 120)
    ids, classes = [f"{name}-{k}" for k, name in enumerate(hostile("id"))], hostile("class")[:2]
    groups = np.array(hostile("group"))[np.arange(120) % 10]
    found = measured(
        tmp_path,
        data["scores"],
        ids=ids,
        classes=classes,
        target=data["target"],
        y=data["y"],
        groups=groups,
        epsilon=1.0,
    )
    read = Reader(render_page(found))
    names = [tag for tag, _ in read.elements]
    assert names.count("script") == 3
    assert not {"img", "svg", "object"} & set(names)
    assert not [key for _, attributes in read.elements for key in attributes if key.startswith("on")]
    carried = json.loads(read.scripts[0])
    assert [row["id"] for row in carried["datasets"]["models"]] == ids
    assert "\u2028" not in read.scripts[0]
    assert "</" not in read.scripts[0]
    for text in (ids[0], classes[0], str(groups[1])):
        assert text in read.text
    assert "49" not in [row["id"] for row in carried["datasets"]["models"]]
    for name, text in csv_tables(found).items():
        cells = [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]
        assert not [c for c in cells if c[:1] in ("=", "+", "@", "\t", "\r")], name
        assert not [c for c in cells if c[:1] == "-" and not re.fullmatch(r"-[\d.e-]+", c)], name
    markdown = render_markdown(found)
    assert not re.search(r"(?<!\\)<", markdown)
    for line in markdown.splitlines():
        if line.startswith("| sample "):
            columns = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("| 11"):  # rows of the table of samples
            assert len(re.findall(r"(?<!\\)\|", line)) == columns
    for name, content in figures.draw_figures(found).items():
        assert name.endswith(".png") or ElementTree.fromstring(content).tag.endswith("svg")


@given(st.text(max_size=8))
def test_no_cell_is_a_formula_and_every_text_comes_back(text: str) -> None:
    kept = defused(text)
    assert kept.removeprefix("'") == text or kept == text
    assert kept[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
    if "\0" not in text:
        stream = io.StringIO(to_csv(("name", "more"), [[text, 1]]), newline="")
        assert list(csv.reader(stream)) == [["name", "more"], [kept, "1"]]


def test_numbers_in_csv_are_numbers_in_full() -> None:
    assert to_csv(("a", "b", "c", "d"), [[-0.1, 1 / 3, None, True]]) == "a,b,c,d\r\n-0.1,0.3333333333333333,,true\r\n"


def test_figures_are_svg_and_png_and_the_same_each_time(tmp_path: Path) -> None:
    data = drawn(4, 8, 100)
    small = measured(tmp_path, data["scores"], target=data["target"], groups=data["groups"], epsilon=0.1, selection=0.5)
    found = figures.draw_figures(small)
    assert {name.split(".")[0] for name in found} == set(charts(small))
    for name, content in found.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")
    assert figures.draw_figures(small) == found


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


def test_measure_writes_a_page(tmp_path: Path) -> None:
    data = drawn(9, 6, 80)
    np.save(tmp_path / "preds.npy", data["scores"])
    np.save(tmp_path / "target.npy", data["target"])
    page = tmp_path / "page.html"
    done = run("measure", tmp_path / "preds.npy", "--target", tmp_path / "target.npy", "--report", page, "--json")
    assert done.exit_code == 0, done.stderr
    read = Reader(page.read_text(encoding="utf-8"))
    for text in sentences(json.loads(done.stdout)["results"]):
        assert text in read.text
    done = run("measure", tmp_path / "preds.npy", "--report", tmp_path / "preds.npy")
    assert (done.exit_code, "is an input" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "family", "method"),
    [
        ("hgb-hard-boot02-seed00", "hgb", "retraining"),
        ("mlp-hard-seed00/gaussian:0.1:3", "mlp", "dropout"),
        ("torch_mlp-soft-seed00/awp:sample3-class1", "torch_mlp", "weight perturbation"),
        ("logistic-soft-seed00/linear:4", "logistic", "convex"),
        ("m3", "m3", "retraining"),
        ("-", "-", "retraining"),
    ],
)
def test_families_and_methods_are_read_from_ids(name: str, family: str, method: str) -> None:
    assert (material.family_of(name), material.method_of(name)) == (family, method)
