"""The report of any tensor: every kind of measurement, what is thinned, names that want out, its files."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_data import Reader, drawn, hostile, measured
from test_cli import run

from rashomon_core.report import figures, heat, material
from rashomon_core.report.charts import charts
from rashomon_core.report.page import render_page
from rashomon_core.report.tabular import csv_tables, defused, render_markdown, to_csv
from rashomon_core.report.terminal import sentences

pytest.importorskip("vl_convert", reason="the extra [report] is not installed")


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
