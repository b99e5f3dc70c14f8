"""store: folders of per-model files, tables, the native pair and vectors."""

from __future__ import annotations

import csv
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_store import CONTAINERS, Array, labels, same_blocks, scores

from rashomon_core import store
from rashomon_core.errors import UsageError
from rashomon_core.store import spool as spooling

# --- folders of per-model files -----------------------------------------------------------------------------


def write_rows(path: Path, header: list[str], rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.mark.parametrize("c", [None, 3])
def test_folder_of_npy(tmp_path: Path, c: int | None) -> None:
    full = scores(m=12, c=c)
    folder = tmp_path / "models"
    folder.mkdir()
    for k in range(12):
        np.save(folder / f"m{k}.npy", np.asfortranarray(full[k]) if k % 2 else full[k])
    (folder / "README.md").write_text("not a model")
    (folder / ".m99.npy.tmp").write_text("not a model")
    found = store.open_predictions(folder)
    assert found.model_ids == tuple(f"m{k}" for k in range(12))
    same_blocks(found.source, full)
    picked = store.open_predictions(str(folder / "m1*.npy"))
    assert picked.model_ids == ("m1", "m10", "m11")
    np.testing.assert_array_equal(picked.to_array(), full[[1, 10, 11]])


def test_pattern_over_folders(tmp_path: Path) -> None:
    full = labels()
    for k in range(3):
        (tmp_path / f"seed{k}").mkdir()
        np.save(tmp_path / f"seed{k}" / "preds.npy", full[k])
    found = store.open_predictions(str(tmp_path / "seed*" / "preds.npy"))
    assert found.model_ids == ("seed0/preds", "seed1/preds", "seed2/preds")
    np.testing.assert_array_equal(found.to_array(), full[:3])


@pytest.mark.parametrize("spool", [0, 1 << 20])
def test_folder_of_csv(tmp_path: Path, spool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "SPOOL_MEMORY", spool)
    full = scores(dtype="f8")
    for k in range(7):
        rows = [[f"s{j}", *map(repr, row.tolist())] for j, row in enumerate(full[k])]
        write_rows(tmp_path / "f" / f"model-{k}.csv", ["sample_id", "p0", "p1", "p2"], rows)
    found = store.open_predictions(tmp_path / "f")
    same_blocks(found.source, full)
    assert found.sample_ids == tuple(f"s{j}" for j in range(53))
    assert found.model_ids[3] == "model-3"
    assert found.row_tolerance == 1e-6


def test_folder_of_csv_with_class_names(tmp_path: Path) -> None:
    answers = [["b", "a", "b"], ["b", "b", "b"], ["c", "a", "a"]]
    for k, column in enumerate(answers):
        write_rows(tmp_path / "f" / f"{k}.csv", ["sample_id", "label"], [[j, v] for j, v in enumerate(column)])
    found = store.open_predictions(tmp_path / "f")
    assert (found.class_names, found.n_classes) == (("a", "b", "c"), 3)
    assert found.to_array().tolist() == [[1, 0, 1], [1, 1, 1], [2, 0, 0]]
    named = store.open_predictions(tmp_path / "f", class_names=("c", "b", "a", "never"))
    assert (named.class_names, named.n_classes) == (("c", "b", "a", "never"), 4)
    assert named.to_array().tolist() == [[1, 2, 1], [1, 1, 1], [0, 2, 2]]


def test_folder_of_csv_without_ids_and_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    full = scores(c=None)
    for k in range(3):
        write_rows(tmp_path / "c" / f"{k}.csv", ["p1"], [[repr(float(v))] for v in full[k]])
        (tmp_path / "p").mkdir(exist_ok=True)
        pq.write_table(pa.table({"sample_id": list(range(53)), "p1": full[k]}), tmp_path / "p" / f"{k}.parquet")
    found = store.open_predictions(tmp_path / "c")
    assert found.sample_ids is None
    np.testing.assert_array_equal(found.to_array(), full[:3].astype("f8"))
    found = store.open_predictions(tmp_path / "p")
    assert found.sample_ids == tuple(map(str, range(53)))
    np.testing.assert_array_equal(found.to_array(), full[:3])
    assert found.dtype == np.float32


# --- tables -------------------------------------------------------------------------------------------------


def long_rows(full: Array, order: str) -> list[list[Any]]:
    m, n = full.shape[:2]
    cells = [(i, j) for i in range(m) for j in range(n)]
    if order == "samples":
        cells = [(i, j) for j in range(n) for i in range(m)]
    if order == "shuffled":
        rest = cells[1:]
        np.random.default_rng(3).shuffle(rest)
        cells = [cells[0], *map(tuple, rest)]  # type: ignore[list-item]
    return [[f"m{i}", f"s{j}", *np.atleast_1d(full[i, j]).tolist()] for i, j in cells]


def write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    if path.suffix == ".csv":
        write_rows(path, header, rows)
        return
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    columns = {name: [row[k] for row in rows] for k, name in enumerate(header)}
    pq.write_table(pa.table(columns), path, row_group_size=37)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("order", ["models", "samples", "shuffled"])
@pytest.mark.parametrize("spool", [0, 1 << 20])
def test_long_table(tmp_path: Path, suffix: str, order: str, spool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "SPOOL_MEMORY", spool)
    monkeypatch.setattr("rashomon_core.store.tables.BATCH_CELLS", 100)
    full, path = scores(dtype="f8"), tmp_path / f"t{suffix}"
    write_table(path, ["model_id", "sample_id", "p0", "p1", "p2"], long_rows(full, order))
    found = store.open_predictions(path)
    assert sorted(found.model_ids) == [f"m{k}" for k in range(7)]
    pick = [int(i[1:]) for i in found.model_ids], [int(i[1:]) for i in found.sample_ids or ()]
    same_blocks(found.source, full[np.ix_(*pick)])
    path = tmp_path / f"labels{suffix}"
    write_table(path, ["model_id", "sample_id", "label"], long_rows(labels(), order))
    found = store.open_predictions(path, n_classes=4)
    pick = [int(i[1:]) for i in found.model_ids], [int(i[1:]) for i in found.sample_ids or ()]
    np.testing.assert_array_equal(found.to_array(), labels()[np.ix_(*pick)])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("spool", [0, 1 << 20])
def test_wide_table(tmp_path: Path, suffix: str, spool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "SPOOL_MEMORY", spool)
    header = ["sample_id", *(f"m{k}" for k in range(7))]
    for name, full in {"p": scores(c=None, dtype="f8"), "y": labels(), "names": labels()}.items():
        rows = [[f"s{j}", *row] for j, row in enumerate(full.T.tolist())]
        if name == "names":
            rows = [[row[0], *("abcd"[v] for v in row[1:])] for row in rows]
        write_table(tmp_path / f"{name}{suffix}", header, rows)
        found = store.open_predictions(tmp_path / f"{name}{suffix}")
        np.testing.assert_array_equal(found.to_array(), full)
        assert found.kind == ("proba" if name == "p" else "labels")
        assert found.model_ids == tuple(header[1:])
        assert found.class_names == (("a", "b", "c", "d") if name == "names" else None)


def test_kind_decides_how_a_table_is_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ["sample_id", "a", "b"], [["x", 0, 1], ["y", 1, 1]])
    assert store.open_predictions(tmp_path / "t.csv").kind == "labels"
    found = store.open_predictions(tmp_path / "t.csv", kind="logits")
    assert (found.kind, found.to_array().tolist()) == ("logits", [[0.0, 1.0], [1.0, 1.0]])
    write_rows(tmp_path / "both.csv", ["model_id", "sample_id", "label", "p0", "p1"], [["m", "s", 1, 0.25, 0.75]])
    assert store.open_predictions(tmp_path / "both.csv", kind="proba").to_array().tolist() == [[[0.25, 0.75]]]
    assert store.open_predictions(tmp_path / "both.csv", kind="labels").to_array().tolist() == [[1]]


def test_whole_numbers_written_as_floats_are_labels_in_a_label_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ["model_id", "sample_id", "label"], [["m", 1, "0.0"], ["m", 2, "2.0"]])
    assert store.open_predictions(tmp_path / "t.csv").to_array().tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("rows", "tolerance"),
    [
        ([["0.33", "0.33", "0.33"]], 3 * 0.5 * 1e-2),
        ([["0.333", "0.33", "0.337"]], 3 * 0.5 * 1e-3),
        ([["3.33e-01", "3.33e-01", "3.34e-01"]], 3 * 0.5 * 1e-3),
        ([["0.3333333333", "0.3333333333", "0.3333333334"]], 1e-6),
        ([["1", "0", "0"]], 1e-6),
    ],
)
def test_decimals_of_text_set_the_row_tolerance(tmp_path: Path, rows: list[list[str]], tolerance: float) -> None:
    header = ["model_id", "sample_id", "p0", "p1", "p2"]
    write_rows(tmp_path / "t.csv", header, [["m", str(k), *row] for k, row in enumerate(rows)])
    found = store.open_predictions(tmp_path / "t.csv")
    assert found.row_tolerance == pytest.approx(tolerance, rel=1e-12)
    found.validate()


def test_csv_with_byte_order_mark_quotes_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufeffsample_id,"m,1",m2\r\n"a ""x""",0,1\r\n\r\nb,1,1\r\n\r\n'
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    found = store.open_predictions(tmp_path / "t.csv")
    assert (found.model_ids, found.sample_ids) == (("m,1", "m2"), ('a "x"', "b"))
    assert found.to_array().tolist() == [[0, 1], [1, 1]]


def test_parquet_dictionaries_booleans_and_numeric_ids(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    table = {
        "model_id": pa.array(["m"] * 3).dictionary_encode(),
        "sample_id": [7, 8, 9],
        "label": [True, False, True],
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    found = store.open_predictions(tmp_path / "t.parquet")
    assert (found.sample_ids, found.to_array().tolist()) == (("7", "8", "9"), [[1, 0, 1]])


@pytest.mark.skipif(sys.platform == "win32", reason="unlinked files")
def test_a_large_csv_is_converted_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "SPOOL_MEMORY", 0)
    monkeypatch.setattr("rashomon_core.store.tables.BATCH_CELLS", 5_000)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spool"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "spool").mkdir()
    full = scores(m=60, n=3000, c=None, dtype="f8").round(3)  # 1.4 MB of numbers
    write_rows(
        tmp_path / "t.csv",
        ["sample_id", *map(str, range(60))],
        [[j, *row] for j, row in enumerate(full.T.tolist())],
    )
    tracemalloc.start()
    found = store.open_predictions(tmp_path / "t.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < full.nbytes
    np.testing.assert_array_equal(found.to_array(), full)
    assert list((tmp_path / "spool").iterdir()) == []


# --- the native pair ----------------------------------------------------------------------------------------


def test_native_pair(tmp_path: Path) -> None:
    full = scores()
    np.save(tmp_path / "p.npy", full.transpose(1, 0, 2))
    facts = {
        "format": "rashomon-core predictions",
        "format_version": 1,
        "axes": ["samples", "models", "classes"],
        "kind": "proba",
        "n_classes": 3,
        "class_names": ["a", "b", "c"],
        "model_ids": [f"m{k}" for k in range(7)],
        "sample_ids": None,
    }
    (tmp_path / "p.json").write_text(json.dumps(facts))
    found = store.open_predictions(tmp_path / "p.npy")
    same_blocks(found.source, full)
    assert (found.class_names, found.model_ids[1], found.axes[0]) == (("a", "b", "c"), "m1", "samples")
    again = store.open_predictions(tmp_path / "p.npy", axes="samples,models,classes", kind="proba", n_classes=3)
    assert again.shape == found.shape


def test_a_foreign_json_is_ignored(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", labels())
    (tmp_path / "p.json").write_text('{"lr": 0.1}')
    assert store.open_predictions(tmp_path / "p.npy").kind == "labels"


def test_unknown_extensions_list_what_is_supported(tmp_path: Path) -> None:
    (tmp_path / "p.xlsx").write_text("x")
    with pytest.raises(UsageError, match=r"'.xlsx' are not supported.*\.npy, \.npz.*\.parquet"):
        store.open_predictions(tmp_path / "p.xlsx")
    with pytest.raises(UsageError, match="not supported"):
        store.open_vector(tmp_path / "p.xlsx", name="labels")


# --- vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CONTAINERS if not n.startswith("hdf5")])
def test_vectors_in_containers(tmp_path: Path, name: str) -> None:
    suffix, write = CONTAINERS[name]
    y = np.arange(53, dtype="i4")
    write(tmp_path / f"v{suffix}", y=y, w=y / 7)
    np.testing.assert_array_equal(store.open_vector(tmp_path / f"v{suffix}", name="labels", key="y"), y)
    np.testing.assert_array_equal(store.open_vector(tmp_path / f"v{suffix}", name="weights", key="w"), y / 7)


@pytest.mark.parametrize("vector", [np.arange(5, dtype=">i4"), np.array(["a", "bc", "d"]), np.eye(3, dtype="f2")])
def test_vectors_in_npy(tmp_path: Path, vector: Array) -> None:
    np.save(tmp_path / "v.npy", vector)
    found = store.open_vector(tmp_path / "v.npy", name="groups")
    np.testing.assert_array_equal(found, vector)
    assert found.dtype.isnative


def test_strings_in_hdf5_and_zarr(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["g"] = ["a", "bc"]
    assert store.open_vector(tmp_path / "v.h5", name="groups").tolist() == ["a", "bc"]


def test_vector_tables(tmp_path: Path) -> None:
    header = ["sample_id", "sex", "age", "w", "zip"]
    write_rows(tmp_path / "v.csv", header, [["b", "f", 3, 0.5, "01"], ["a", "m", 4, 1, "02"], ["c", "", "", 2, "03"]])
    read = store.open_vector
    path = tmp_path / "v.csv"
    assert read(path, name="groups", column="sex").tolist() == ["f", "m", ""]
    assert read(path, name="groups", column="sex", sample_ids=("a", "b", "c")).tolist() == ["m", "f", ""]
    assert read(path, name="weights", column="w", sample_ids=("c", "b", "a")).tolist() == [2, 0.5, 1]
    assert read(path, name="groups", column="age").tolist() == ["3", "4", ""]
    assert read(path, name="groups", column="zip").tolist() == ["01", "02", "03"]
    assert read(path, name="groups", column=["sex", "zip"]).tolist() == [["f", "01"], ["m", "02"], ["", "03"]]
    write_rows(tmp_path / "p.csv", ["sample_id", "p1", "p0"], [["a", 0.25, 0.75], ["b", 1, 0]])
    assert read(tmp_path / "p.csv", name="target").tolist() == [[0.75, 0.25], [0, 1]]
    write_rows(tmp_path / "l.csv", ["model_id", "loss"], [["m2", 0.5], ["m1", 0.25]])
    found = read(tmp_path / "l.csv", name="loss", id_column="model_id", sample_ids=("m1", "m2"))
    assert found.tolist() == [0.25, 0.5]


def test_vector_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_table(tmp_path / "v.parquet", ["sample_id", "y"], [[3, 1], [1, 0], [2, 1]])
    found = store.open_vector(tmp_path / "v.parquet", name="labels", sample_ids=("1", "2", "3"))
    assert (found.tolist(), found.dtype.kind) == ([0, 1, 1], "i")
    write_table(tmp_path / "g.parquet", ["sample_id", "g"], [[1, "x"], [2, None]])
    assert store.open_vector(tmp_path / "g.parquet", name="groups").tolist() == ["x", ""]
