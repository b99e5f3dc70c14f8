"""The user's own tables and arrays, and splits that keep groups whole."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rashomon_core.datasets import group_split, load_arrays, load_table
from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError

TABLE = """id,age,job,sex,note,ok
p1,31,clerk,1,a,yes
p1,,smith,2,b,no
p2,54,?,,c,yes
p3,40,nurse,2,d,no
"""


@pytest.fixture
def table(tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    path = tmp_path / "people.v1.csv"
    path.write_text(TABLE)
    return path


def test_a_table(table):
    data = load_table(table, "ok", ["sex"], ["note"], split_by="id")
    assert (data.name, data.kind, data.class_names) == ("people", "tabular", ("no", "yes"))
    assert list(data.X.columns) == ["age", "job", "sex"]
    assert data.y.tolist() == [1, 0, 1, 0]
    assert data.groups["sex"].tolist()[:2] == ["1", "2"]  # not "1.0": the gap made the column floats
    assert data.groups["sex"].isna().tolist() == [False, False, True, False]
    assert data.X["age"].isna().sum() == data.X["job"].isna().sum() == 1
    assert data.split_by.tolist() == ["p1", "p1", "p2", "p3"]
    assert load_table(table, "ok", drop=["id"], missing=[""]).X["job"].isna().sum() == 0


def test_parquet_and_tsv_are_the_same_table(table, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pandas as pd

    frame = pd.read_csv(table, na_values=["?"])
    frame.to_parquet(tmp_path / "people.parquet")
    frame.to_csv(tmp_path / "people.tsv.gz", sep="\t", index=False)
    first = load_table(table, "ok", ["job"])
    for name in ("people.parquet", "people.tsv.gz"):
        data = load_table(tmp_path / name, "ok", ["job"])
        assert data.name == "people"
        assert data.X.equals(first.X)
        assert (data.y == first.y).all()
        assert data.groups.equals(first.groups)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("2,10,2,10", ("2", "10")),
        ("0.5,-1,0.5,3", ("-1", "0.5", "3")),
        ("True,False,True,True", ("False", "True")),
        ("b,a,b,B", ("B", "a", "b")),
    ],
)
def test_classes_are_sorted_by_value(tmp_path, column, names):
    pytest.importorskip("pandas", reason="pandas is not installed")
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "\n".join(f"{i},{v}" for i, v in enumerate(column.split(","))))
    data = load_table(path, "y")
    assert data.class_names == names
    assert [data.class_names[code] for code in data.y] == column.split(",")


def test_bad_tables(table, tmp_path):
    with pytest.raises(InvalidInputError, match=r"no column 'jobb'.*did you mean 'job'"):
        load_table(table, "ok", ["jobb"])
    with pytest.raises(InvalidInputError, match=r"no column 'q'.*known are id, age"):
        load_table(table, "q")
    with pytest.raises(InvalidInputError, match="1 missing labels at row 2"):
        load_table(table, "sex")
    with pytest.raises(InvalidInputError, match="no column is left"):
        load_table(table, "ok", drop=["id", "age", "job", "sex", "note"])
    with pytest.raises(InvalidInputError, match="no such data file"):
        load_table(tmp_path / "absent.csv", "ok")
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(InvalidInputError, match=r"give \.csv, \.tsv or \.parquet"):
        load_table(tmp_path / "t.xlsx", "ok")
    one = tmp_path / "one.csv"
    one.write_text("x,y\n1,a\n2,a\n")
    with pytest.raises(InvalidInputError, match="column y has 1 classes"):
        load_table(one, "y")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(InvalidInputError, match="cannot be read as a table"):
        load_table(empty, "y")
    many = tmp_path / "many.csv"
    many.write_text("x,y\n" + "\n".join(f"{i}.5,{i % 2}" for i in range(101)))
    with pytest.raises(InvalidInputError, match=r"'x' has 101 values.*ranges"):
        load_table(many, "y", ["x"])
    with pytest.raises(InvalidInputError, match="101 different numbers"):
        load_table(many, "x")


def test_without_pandas(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pandas"):
        load_table(tmp_path / "t.csv", "y")


def test_arrays(tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    path = tmp_path / "mine.npz"
    np.savez(path, X=np.zeros((4, 3)), y=np.array([[0], [2], [1], [0]]))
    data = load_arrays(path)
    assert (data.name, data.kind, data.class_names) == ("mine", "tabular", ("0", "1", "2"))
    assert data.y.tolist() == [0, 2, 1, 0]
    assert data.groups.shape == (4, 0)
    np.savez(
        path,
        X=np.zeros((4, 8, 8, 3), np.uint8),
        y=np.array(["b", "a", "b", "b"]),
        groups=np.array([["f", "x"]] * 4),
        group_names=np.array(["sex", "site"]),
        split_by=np.array([1, 1, 2, 3]),
    )
    data = load_arrays(path)
    assert (data.kind, data.class_names, data.y.tolist()) == ("image", ("a", "b"), [1, 0, 1, 1])
    assert data.groups.iloc[0].to_dict() == {"sex": "f", "site": "x"}
    assert data.split_by.tolist() == [1, 1, 2, 3]
    np.savez(path, X=np.array(["one", "two"]), y=np.array([0, 1]), class_names=np.array(["no", "yes", "maybe"]))
    data = load_arrays(path)
    assert (data.kind, data.class_names) == ("text", ("no", "yes", "maybe"))
    assert data.X.dtype == object


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((2, 2))}, "no array 'y': value has X"),
        ({"X": np.zeros(2), "y": [0, 1]}, r"X is \(2,\) float64"),
        ({"X": np.zeros((2, 2)), "y": [0, 1, 1]}, r"y is \(3,\) for 2 rows"),
        ({"X": np.zeros((2, 2)), "y": [[0, 1], [1, 0]]}, "one label for each row"),
        ({"X": np.zeros((2, 2)), "y": [0.0, 1.0]}, "y has dtype float64"),
        ({"X": np.zeros((2, 2)), "y": [-1, 1]}, "outside 0 to 1"),
        ({"X": np.zeros((2, 2)), "y": [1, 1]}, "one class only"),
        ({"X": np.zeros((2, 2)), "y": ["a", "a"]}, "y has 1 classes"),
        ({"X": np.zeros((2, 2)), "y": ["a", "b"], "class_names": ["a", "c"]}, "none of .*: value b"),
        ({"X": np.zeros((2, 2)), "y": [0, 2], "class_names": ["a", "c"]}, "outside 0 to 1"),
        ({"X": np.zeros((2, 2)), "y": [0, 1], "groups": ["a"]}, r"groups is \(1,\) for 2 rows"),
        ({"X": np.zeros((2, 2)), "y": [0, 1], "groups": ["a", "b"], "group_names": ["a", "b"]}, "for 1 groups"),
        ({"X": np.array([{}, {}], dtype=object), "y": [0, 1]}, "cannot be read as an .npz of plain arrays"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    pytest.importorskip("pandas", reason="pandas is not installed")
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match=message):
        load_arrays(path)


def test_one_bare_array_is_no_data_set(tmp_path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(InvalidInputError, match="one array and no names"):
        load_arrays(tmp_path / "x.npy")


# --- splits


@given(n=st.integers(1, 300), seed=st.integers(0, 2**32), shares=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_rows_are_split_exactly(n, seed, shares):
    fractions = np.array(shares) / max(sum(shares), 10)
    bounds = [0, *np.floor(np.cumsum(fractions) * n + 0.5 + 1e-9).astype(int)]
    sizes = np.diff(bounds).tolist()
    if 0 in sizes:
        with pytest.raises(InvalidInputError, match="is empty"):
            group_split(n, fractions, seed)
        return
    parts = group_split(n, fractions, seed)
    assert [len(part) for part in parts] == sizes
    joined = np.concatenate(parts)
    assert len(set(joined.tolist())) == len(joined)
    assert all((np.diff(part) > 0).all() for part in parts)
    again = group_split(n, fractions, seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


@given(seed=st.integers(0, 2**32), stratify=st.booleans())
def test_groups_are_never_parted(seed, stratify):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 400)
    names = np.array([f"lesion{g}" for g in groups], dtype=object)
    y = groups % 3 if stratify else None
    parts = group_split(names, (0.5, 0.3, 0.2), seed, y=y)
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    sides = [set(names[part]) for part in parts]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    largest = np.bincount(groups).max()
    for part, fraction in zip(parts, (0.5, 0.3, 0.2), strict=True):
        assert abs(len(part) - 400 * fraction) <= largest


def test_missing_group_values_belong_to_nobody():
    names = np.array(["a", None, "a", None, np.nan, np.nan], dtype=object)
    sides = set()
    for seed in range(40):
        first, second = group_split(names, (0.5, 0.5), seed)
        assert not ({0, 2} & set(first) and {0, 2} & set(second))
        sides.add(1 in first and 3 in second)
    assert sides == {False, True}


def test_stratified_parts_have_their_share():
    y = np.repeat([0, 1, 2], [900, 90, 10])
    for seed in range(30):
        parts = group_split(1000, (0.6, 0.2, 0.2), seed, y=y)
        assert [len(part) for part in parts] == [600, 200, 200]
        for part, fraction in zip(parts, (0.6, 0.2, 0.2), strict=True):
            assert (np.abs(np.bincount(y[part], minlength=3) - fraction * np.array([900, 90, 10])) <= 2).all()


def test_a_stratified_split_favours_nobody():
    """Also the one row of a rare class goes to each part as often as its size says."""
    y = np.array([0] * 20 + [1])
    hits = np.zeros(21)
    for seed in range(2000):
        hits[group_split(21, (1 / 3, 2 / 3), seed, y=y)[0]] += 1
    assert (np.abs(hits / 2000 - 1 / 3) < 0.05).all()


def test_bad_splits():
    for fractions in ((), (0.5, 0.6), (0.5, 0.0), (-0.1, 0.5), (float("nan"),)):
        with pytest.raises(UsageError, match="at most 1 in sum"):
            group_split(10, fractions, 0)
    with pytest.raises(InvalidInputError, match="9 labels for 10 rows"):
        group_split(10, (0.5, 0.5), 0, y=np.zeros(9))
    with pytest.raises(InvalidInputError, match="part 0 of the split is empty: 4 rows, 1 groups"):
        group_split(["a"] * 4, (0.5, 0.5), 0)
    with pytest.raises(InvalidInputError, match="part 0 of the split is empty"):
        group_split(0, (0.5,), 0)
