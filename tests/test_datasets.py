"""The embedded example and the local data files."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rashomon_core.datasets import (
    DATA_VARIABLE,
    load_default,
    load_example,
    load_local,
    local_data_dir,
    local_names,
)
from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError

# --- the embedded example


def _example_arrays() -> tuple[np.ndarray, np.ndarray, dict]:
    example = load_example()
    scores = np.load(example.path, allow_pickle=False)
    target = np.load(example.target_path, allow_pickle=False)
    sidecar = json.loads(example.path.with_suffix(".json").read_text(encoding="utf-8"))
    return scores, target, sidecar


def test_example_files_fit_together():
    scores, target, sidecar = _example_arrays()
    m, n = scores.shape
    assert m >= 200
    assert target.shape == (n,)
    assert scores.dtype == target.dtype == np.float16
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((target >= 0) & (target <= 1)).all()
    assert sidecar["format"] == "rashomon-core predictions"
    assert sidecar["format_version"] == 1
    assert (sidecar["axes"], sidecar["kind"], sidecar["n_classes"]) == (["models", "samples"], "proba", 2)
    assert sidecar["class_names"] == ["No", "Yes"]
    assert len(set(sidecar["model_ids"])) == m
    assert len(set(sidecar["sample_ids"])) == n
    assert tuple(sidecar["sample_ids"]) == load_example().sample_ids
    families = {name.split("-")[0] for name in sidecar["model_ids"]}
    assert families == {"logreg", "tree", "forest", "extra", "hgb", "knn", "bayes", "mlp"}


def test_example_folder_is_small_and_carries_no_labels():
    folder = load_example().path.parent
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert {path.name for path in files} == {
        "README.md",
        "__init__.py",
        "make.py",
        "preds.json",
        "preds.npy",
        "target.npy",
    }


def test_example_surrogates_are_good_and_differ():
    scores, target, sidecar = _example_arrays()
    decisions, answers = scores > 0.5, target > 0.5
    fidelity = (decisions == answers).mean(axis=1)
    assert (fidelity > 0.85).mean() > 0.9
    assert fidelity.max() < 1
    assert 0.2 < (decisions != answers).any(axis=0).mean() < 0.6
    assert len(np.unique(scores, axis=0)) == len(sidecar["model_ids"])  # no model twice
    assert len(np.unique(decisions, axis=0)) > 0.95 * len(decisions)  # a deep tree may decide like a shallow one
    # Not won by a constant answer.
    assert fidelity.min() > max(answers.mean(), 1 - answers.mean()) + 0.1


def test_example_labels_and_groups_follow_the_row_ids():
    sklego = pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    example = load_example()
    y, reason = example.labels()
    assert reason is None
    assert y is not None
    groups, reason = example.groups()
    assert reason is None
    assert groups is not None
    assert y.dtype == np.int64
    assert y.shape == (len(example.sample_ids),)
    assert groups.shape == (len(example.sample_ids), 2)
    assert groups.dtype.kind == "U"
    assert example.group_names == ("colour", "sex")
    frame = sklego.load_arrests(as_frame=True)
    for i in (0, 17, len(y) - 1):
        row = frame.iloc[int(example.sample_ids[i])]
        assert y[i] == (row["released"] == "Yes")
        assert groups[i].tolist() == [row["colour"], row["sex"]]


def test_example_without_scikit_lego_gives_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklego.datasets", None)
    example = load_example()
    for values, reason in (example.labels(), example.groups()):
        assert values is None
        assert reason is not None
        assert "scikit-lego" in reason
        assert "rashomon-core[audit]" in reason


def test_example_refuses_a_table_whose_rows_moved(monkeypatch):
    sklego = pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    moved = sklego.load_arrests(as_frame=True).iloc[::-1]
    monkeypatch.setattr(sklego, "load_arrests", lambda **_: moved)
    with pytest.raises(InvalidInputError, match="not the one whose rows"):
        load_example().labels()


def test_rounding_never_changes_a_decision():
    from rashomon_core.example.make import _as_float16

    p = np.array([0.0, 0.4999, 0.5, np.nextafter(0.5, 1), 0.5001, 0.50024, 0.5003, 0.99999, 1.0])
    rounded = _as_float16(p)
    assert rounded.dtype == np.float16
    assert ((rounded > 0.5) == (p > 0.5)).all()
    assert np.abs(rounded.astype(np.float64) - p).max() <= 2**-11


def test_make_without_scikit_lego_says_what_to_install(monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from rashomon_core.example.make import main

    monkeypatch.setitem(sys.modules, "sklego.datasets", None)
    assert main(["--output", str(tmp_path)]) == 2
    assert "rashomon-core[audit]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_make_refuses_an_output_that_is_a_file(tmp_path, capsys):
    from rashomon_core.example.make import main

    (tmp_path / "taken").write_text("x")
    assert main(["--output", str(tmp_path / "taken")]) == 3
    assert "--output" in capsys.readouterr().err


def _small_example(monkeypatch):
    """The script with two cheap configurations and two draws, on the real table."""
    pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    from rashomon_core.example import make

    monkeypatch.setattr(
        make,
        "CONFIGURATIONS",
        tuple(c for c in make.CONFIGURATIONS if c[0] in ("tree-depth6", "bayes-bins5")),
    )
    monkeypatch.setattr(make, "N_DRAWS", 2)
    return make


def test_make_writes_the_native_pair_and_is_deterministic(monkeypatch, tmp_path):
    make = _small_example(monkeypatch)
    assert make.main(["--output", str(tmp_path / "a")]) == 0
    assert make.main(["--output", str(tmp_path / "b")]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["preds.json", "preds.npy", "target.npy"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    scores = np.load(tmp_path / "a" / "preds.npy", allow_pickle=False)
    sidecar = json.loads((tmp_path / "a" / "preds.json").read_text())
    assert scores.shape == (4, len(sidecar["sample_ids"]))
    assert sidecar["model_ids"] == [
        f"{name}-draw{draw:03d}" for name in ("tree-depth6", "bayes-bins5") for draw in (0, 1)
    ]
    # The split depends on the seed alone, not on the models.
    assert tuple(sidecar["sample_ids"]) == load_example().sample_ids
    scores_again, *_ = make.make_example(make.SEED + 1)
    assert not np.array_equal(scores, scores_again)


# --- local files


def _needs(name: str):
    if local_data_dir() is None:
        pytest.skip(f"no local data files: set {DATA_VARIABLE} to a folder that holds tabular/")
    pytest.importorskip("pandas", reason="pandas is not installed")
    try:
        return load_local(name)
    except InvalidInputError as error:
        if "no such data file" in str(error):
            pytest.skip(str(error))
        raise


# Rows, features, class counts: counted with awk and the csv module, not with the loader.
EXPECTED = {
    "adult": (48_842, 14, [37_155, 11_687]),
    "arrests": (5_226, 7, [892, 4_334]),
    "compas": (6_172, 9, [3_363, 2_809]),
    "contrac": (1_473, 9, [629, 333, 511]),
    "credit_approval": (690, 15, [383, 307]),
    "credit_default": (30_000, 23, [23_364, 6_636]),
    "dermatology": (366, 34, [112, 61, 72, 49, 52, 20]),
    "german": (1_000, 20, [300, 700]),
    "hmda": (2_380, 13, [2_095, 285]),
    "mammo": (961, 5, [516, 445]),
}


BIOS_COUNTS = np.fromstring(
    "200 359 1220 91 110 212 411 118 59 269 44 766 236 804 310 47 107 47 918 1159 267 4369 633 56 181 420 546 41",
    dtype=np.int64,
    sep=" ",
).tolist()
# Kind, shape of X behind the rows, class counts, groups with their counts, sizes of train, val and test: counted with
# awk and the csv module.
UNLIKE_TABLES = {
    "breastmnist": ("image", (28, 28), [210, 570], {}, (546, 78, 156)),
    "pneumoniamnist": ("image", (28, 28), [1_583, 4_273], {}, (4_708, 524, 624)),
    "ham10000": (
        "image",
        (28, 28, 3),
        [327, 514, 1_099, 115, 1_113, 6_705, 142],
        {"sex": {"male": 5_406, "female": 4_552}, "age_group": {"60 and over": 3_602, "under 60": 6_356}},
        None,
    ),
    "sst2": ("text", (), [3_310 + 428 + 912, 3_610 + 444 + 909], {}, (6_920, 872, 1_821)),
    "sms": ("text", (), [4_827, 747], {}, None),
    "bias_in_bios": (
        "text",
        (),
        BIOS_COUNTS,
        {"gender": {"male": 7_473, "female": 6_527}},
        (10_000, 2_000, 2_000),
    ),
}


def test_every_name_is_expected():
    assert local_names() == tuple(sorted([*EXPECTED, *UNLIKE_TABLES]))


@pytest.mark.parametrize("name", sorted(UNLIKE_TABLES))
def test_images_and_texts(name):
    data = _needs(name)
    kind, shape, counts, groups, official = UNLIKE_TABLES[name]
    assert (data.name, data.kind, len(data)) == (name, kind, sum(counts))
    assert data.X.shape == (sum(counts), *shape)
    assert data.X.dtype == (np.uint8 if kind == "image" else object)
    if kind == "text":
        assert all(isinstance(text, str) and text for text in data.X)
    assert data.y.dtype == np.int64
    assert np.bincount(data.y).tolist() == counts
    assert len(data.class_names) == len(counts)
    assert len(data.groups) == len(data)
    assert {column: data.groups[column].value_counts().to_dict() for column in data.groups} == groups
    if official is None:
        assert data.official_split is None
    else:
        expected = ["train"] * official[0] + ["val"] * official[1] + ["test"] * official[2]
        assert data.official_split.tolist() == expected


def test_traps_of_images_and_texts():
    ham = _needs("ham10000")
    assert ham.groups.isna().sum().to_dict() == {"sex": 57, "age_group": 57}  # missing stays missing
    assert len(set(ham.split_by)) == 7_470
    assert ham.split_by[0] == ham.split_by[1] == "HAM_0000118"
    sst2 = _needs("sst2")
    assert sst2.X[6_920] == "one long string of cliches"
    assert sum('"' in text for text in _needs("sms").X) > 100  # quotation marks are characters


def test_damaged_images(tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    folder = tmp_path / "imaging"
    folder.mkdir()
    path = folder / "breastmnist.npz"
    np.savez(path, train_images=np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(InvalidInputError, match=r"'train_images' is \(3, 28, 28\) and not \(546, 28, 28\)"):
        load_local("breastmnist", tmp_path)
    np.savez(path, train_images=np.array([{}], dtype=object))
    with pytest.raises(InvalidInputError, match="cannot be read as an"):
        load_local("breastmnist", tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidInputError, match="cannot be read as an"):
        load_local("breastmnist", tmp_path)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_local_data_set(name):
    data = _needs(name)
    rows, columns, counts = EXPECTED[name]
    assert data.name == name
    assert data.X.shape == (rows, columns)
    assert list(data.X.index[:3]) == [0, 1, 2]
    assert list(data.groups.index[-2:]) == [rows - 2, rows - 1]
    assert data.y.dtype == np.int64
    assert np.bincount(data.y, minlength=len(data.class_names)).tolist() == counts
    assert len(data.class_names) == len(counts)
    assert len(data.groups) == rows
    assert data.groups.shape[1] >= 1
    for column in data.groups:
        present = data.groups[column].dropna()
        assert all(isinstance(value, str) for value in present.unique())
        assert 2 <= present.nunique() <= 10


def test_local_traps():
    adult = _needs("adult")
    assert adult.X["native-country"].isna().sum() == 583 + 274  # "?" in train and test
    assert set(adult.groups["sex"]) == {"Female", "Male"}
    compas = _needs("compas")
    assert not {"name", "dob", "decile_score", "is_recid", "two_year_recid"} & set(compas.X.columns)
    assert (compas.groups["race"] == "African-American").sum() == 3_175
    german = _needs("german")
    assert (german.groups["sex"] == "female").sum() == 310
    dermatology = _needs("dermatology")
    assert dermatology.groups["age_group"].isna().sum() == 8  # missing stays missing


def test_arrests_file_is_the_table_of_scikit_lego():
    sklego = pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    data = _needs("arrests")
    frame = sklego.load_arrests(as_frame=True)
    assert (data.X.to_numpy() == frame[data.X.columns.tolist()].to_numpy()).all()
    assert (data.y == (frame["released"] == "Yes")).all()


def test_default_data_need_no_files(monkeypatch):
    sklego = pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    monkeypatch.setattr("rashomon_core.datasets.local.local_data_dir", lambda: None)
    data = load_default()
    frame = sklego.load_arrests(as_frame=True)
    assert (data.name, data.kind, len(data)) == ("arrests", "tabular", 5_226)
    assert list(data.X.columns) == ["colour", "year", "age", "sex", "employed", "citizen", "checks"]
    assert (data.y == (frame["released"] == "Yes")).all()
    assert (data.groups["colour"] == frame["colour"]).all()
    monkeypatch.setattr(sklego, "load_arrests", lambda **_: frame.iloc[::-1])
    with pytest.raises(InvalidInputError, match="not the one whose rows"):
        load_default()
    monkeypatch.setitem(sys.modules, "sklego.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"rashomon-core\[audit\]"):
        load_default()


def test_default_data_are_the_local_arrests():
    pytest.importorskip("sklego.datasets", reason="scikit-lego is not installed")
    local, default = _needs("arrests"), load_default()
    assert list(local.X.columns) == list(default.X.columns)
    assert (local.X.to_numpy(dtype=object) == default.X.to_numpy(dtype=object)).all()
    assert (local.X.dtypes == default.X.dtypes).all()
    assert (local.y == default.y).all()
    assert (local.groups == default.groups).all(axis=None)


def test_unknown_name_lists_the_names():
    with pytest.raises(UsageError, match="arrests, bias_in_bios") as caught:
        load_local("iris")
    assert caught.value.exit_code == 2


def test_no_folder_names_the_fix(monkeypatch):
    monkeypatch.setattr("rashomon_core.datasets.local.local_data_dir", lambda: None)
    with pytest.raises(InvalidInputError, match=DATA_VARIABLE) as caught:
        load_local("adult")
    assert caught.value.exit_code == 3


def test_data_dir_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert local_data_dir() == tmp_path
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(InvalidInputError, match="does not name a folder"):
        local_data_dir()


def test_data_dir_beside_the_current_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr("rashomon_core.datasets.local.__file__", str(tmp_path / "lib" / "a" / "b" / "c" / "x.py"))
    checkout = tmp_path / "clone"
    (checkout / "python" / "rashomon_core").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.chdir(checkout)
    assert local_data_dir() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert local_data_dir() == tmp_path / "shared" / "data"


def _german_rows(count: int) -> str:
    row = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1\n"
    return row * count


def test_missing_and_damaged_files(tmp_path: Path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(InvalidInputError, match=r"german\.data.*no such data file"):
        load_local("german", tmp_path)
    tabular = tmp_path / "tabular"
    tabular.mkdir()
    (tabular / "german.data").write_text(_german_rows(999))
    with pytest.raises(InvalidInputError, match="999 and not 1000"):
        load_local("german", tmp_path)
    (tabular / "german.data").write_text(_german_rows(999) + _german_rows(1).replace(" 1\n", " 3\n"))
    with pytest.raises(InvalidInputError, match="row 999: value 3"):
        load_local("german", tmp_path)
    (tabular / "german.data").unlink()
    packed = gzip.compress(_german_rows(1_000).encode())
    (tabular / "german.data.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_local("german", tmp_path)
    (tabular / "german.data.gz").write_bytes(packed)
    assert len(load_local("german", tmp_path).X) == 1_000
