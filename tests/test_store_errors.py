"""store: bad files. Every message names the file, the place and the fix; nothing is ever unpickled."""

from __future__ import annotations

import csv
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rashomon_core import store
from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError


def refused(path: object, *words: str, error: type[Exception] = InvalidInputError, **options: Any) -> str:
    """Check that the file is refused with these words, with its name and with a fix."""
    with pytest.raises(error) as caught:
        store.open_predictions(str(path), **options)
    text = str(caught.value)
    for word in (*words, os.path.basename(str(path)).split("*")[0]):
        assert word in text, text
    if error is InvalidInputError:
        assert "Fix: " in text, text
    return text


def rows(path: Path, *lines: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


# --- .npy ---------------------------------------------------------------------------------------------------


def test_missing_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.npy", "does not exist")
    refused(tmp_path / "none.zarr", "does not exist")
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path / "none*.npy", "no file matches")
    with pytest.raises(InvalidInputError, match=r"y\.npy: the file of the labels does not exist"):
        store.open_vector(tmp_path / "y.npy", name="labels")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet", ".safetensors", ".h5", ".pt"])
def test_empty_and_garbage_files(tmp_path: Path, suffix: str) -> None:
    library = {".parquet": "pyarrow", ".h5": "h5py", ".pt": "torch"}.get(suffix)
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed")
    (tmp_path / f"empty{suffix}").touch()
    refused(tmp_path / f"empty{suffix}", "" if suffix == ".h5" else "is empty")
    (tmp_path / f"bad{suffix}").write_bytes(b"\xff\xfegarbage" * 40)
    refused(tmp_path / f"bad{suffix}")


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors", ".h5", ".pt", ".npy"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    array, path = np.random.default_rng(0).random((4, 500, 2)), tmp_path / f"p{suffix}"
    if suffix == ".npz":
        np.savez(path, a=array)
    elif suffix == ".npy":
        np.save(path, array)
    elif suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"sample_id": np.arange(500), "a": array[0, :, 0]}), path)
    elif suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file({"a": array}, path)
    elif suffix == ".h5":
        with pytest.importorskip("h5py", reason="h5py is not installed").File(path, "w") as file:
            file["a"] = array
    else:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.save(torch.from_numpy(array), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    text = refused(path)
    if suffix == ".npy":
        assert "truncated" in text or "header" in text


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.zeros((4, 500), dtype="f4"))
    found = store.open_predictions(tmp_path / "p.npy")
    os.truncate(tmp_path / "p.npy", 5000)
    with pytest.raises(InvalidInputError, match=r"p\.npy: the file ends at byte 5000.*Fix"):
        found.to_array()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.save(tmp_path / "object.npy", np.array([[Bomb(mark), 1], [2, 3]], dtype=object))
    refused(tmp_path / "object.npy", "Python objects", "ever unpickled")
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb(mark)))
    refused(tmp_path / "raw.npy", "pickled")
    np.savez(tmp_path / "object.npz", a=np.array([Bomb(mark)], dtype=object))
    refused(tmp_path / "object.npz", "Python objects")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"a": Bomb(mark)}, tmp_path / "bomb.pt")
    refused(tmp_path / "bomb.pt", "plain tensors", "ever unpickled")
    assert not mark.exists()


def test_dtypes_and_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    refused(tmp_path / "text.npy", "dtype <U1")
    np.save(tmp_path / "complex.npy", np.zeros((2, 2), dtype=complex))
    refused(tmp_path / "complex.npy", "complex128")
    np.save(tmp_path / "record.npy", np.zeros((2, 2), dtype=[("a", "f4"), ("b", "i4")]))
    refused(tmp_path / "record.npy", "dtype")
    np.save(tmp_path / "four.npy", np.zeros((2, 2, 2, 2)))
    refused(tmp_path / "four.npy", "4 axes", "--axes")
    for shape, what in [((0, 5), "zero models"), ((5, 0), "zero samples"), ((2, 0, 3), "zero samples")]:
        np.save(tmp_path / "zero.npy", np.zeros(shape))
        refused(tmp_path / "zero.npy", what)
    np.save(tmp_path / "axes.npy", np.zeros((2, 2, 2)))
    refused(tmp_path / "axes.npy", "name 2 axes", axes="models,samples")
    refused(tmp_path / "axes.npy", "samples", axes="models,rows,classes")


def test_a_header_that_lies(tmp_path: Path) -> None:
    for descr, shape in [("<f8", (2**40, 2**40)), ("<f8", (-3, 5)), ("nonsense", (3, 5))]:
        header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)
        (tmp_path / "lie.npy").write_bytes(data)
        refused(tmp_path / "lie.npy")


# --- containers ---------------------------------------------------------------------------------------------


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, b=np.zeros((3, 4)), a=np.zeros((3, 4), dtype="u1"))
    refused(
        path,
        "several arrays and no key",
        "'b' (3, 4) float64",
        "'a' (3, 4) uint8",
        "--key",
        "--key-per-model",
    )
    refused(path, "no array named 'c'", "'b'", key="c")
    with pytest.raises(UsageError, match="exclude each other"):
        store.open_predictions(path, key="a", key_per_model=True)
    np.savez(path)
    refused(path, "no arrays")
    np.save(tmp_path / "p.npy", np.zeros((3, 4)))
    refused(tmp_path / "p.npy", "key is for files", error=UsageError, key="a")
    refused(tmp_path / "p.npy", "key_per_model is for files", error=UsageError, key_per_model=True)
    with pytest.raises(UsageError, match="key is for files"):
        store.open_vector(tmp_path / "p.npy", name="labels", key="a")


def test_key_per_model_must_match(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, m1=np.zeros(4), m2=np.zeros(5))
    refused(path, "p.npz[m2]: 5 samples, 'm1' has 4", key_per_model=True)
    np.savez(path, m1=np.zeros((4, 2)), m2=np.zeros((4, 3)))
    refused(path, "p.npz[m2]: shape (4, 3), 'm1' has (4, 2)", key_per_model=True)
    np.savez(path, m1=np.zeros(4), m2=np.zeros(4, dtype="u1"))
    refused(path, "p.npz[m2]: dtype uint8, 'm1' has float64", key_per_model=True)
    np.savez(path, m1=np.zeros((4, 2, 2)))
    refused(path, "(4, 2, 2)", key_per_model=True)


def test_a_damaged_packed_member(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random((4, 500)))
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
    data = bytearray(path.read_bytes())
    at = info.header_offset + info.compress_size - 100
    data[at : at + 50] = bytes(50)
    path.write_bytes(data)
    refused(path, "damaged")


def test_safetensors_headers(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    for header in (
        {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 400]}},
        {"a": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [100, 2], "data_offsets": [0, 800]}},
        {"a": {"shape": [2]}},
        {"a": 3},
        [1],
    ):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        refused(path, "damaged")
    path.write_bytes((2**60).to_bytes(8, "little") + bytes(16))
    refused(path, "damaged")


def test_torch_contents(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"a": {"b": torch.zeros(2, 2)}}, tmp_path / "nested.pt")
    refused(tmp_path / "nested.pt", "entry 'a' is dict")
    torch.save([torch.zeros(2, 2)], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "list")
    torch.save(torch.zeros(2, 2, dtype=torch.float8_e4m3fn), tmp_path / "tiny.pt")
    refused(tmp_path / "tiny.pt", "float8_e4m3fn")


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, library in {"p.h5": "h5py", "p.zarr": "zarr", "p.pt": "torch", "p.parquet": "pyarrow"}.items():
        monkeypatch.setitem(__import__("sys").modules, library, None)
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(MissingDependencyError, match=rf"{library}.*pip install"):
            store.open_predictions(tmp_path / name)


# --- folders ------------------------------------------------------------------------------------------------


def test_folders_of_npy(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    refused(folder, "no per-model files")
    np.save(folder / "m1.npy", np.zeros(4))
    np.save(folder / "m2.npy", np.zeros(5))
    with pytest.raises(InvalidInputError, match=r"m2\.npy: 5 samples, .*m1\.npy' has 4\. Fix"):
        store.open_predictions(folder)
    np.save(folder / "m2.npy", np.zeros((1, 2, 3)))
    with pytest.raises(InvalidInputError, match=r"m2\.npy: shape \(1, 2, 3\), .*m1\.npy"):
        store.open_predictions(folder)
    np.save(folder / "m2.npy", np.zeros(4))
    np.save(folder / "m1.npy", np.zeros((7, 4, 3)))
    with pytest.raises(InvalidInputError, match=r"m1\.npy: .*a file of all models goes by its name"):
        store.open_predictions(folder)
    rows(folder / "m3.csv", "sample_id,label", "a,1")
    refused(folder, "files of several kinds: 1 .csv, 2 .npy")
    refused(folder / "*", "several kinds")
    rows(folder / "notes.txt", "x")
    refused(folder / "*", "'notes.txt' is not a per-model file")
    (folder / "m2.npy").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"m2\.npy: the file is empty"):
        store.open_predictions(str(folder / "*.npy"))


def test_folders_of_csv(tmp_path: Path) -> None:
    def pair(second: list[str], first: tuple[str, ...] = ("sample_id,label", "a,0", "b,1", "c,1")) -> str:
        rows(tmp_path / "f" / "m1.csv", *first)
        rows(tmp_path / "f" / "m2.csv", *second)
        with pytest.raises(InvalidInputError) as caught:
            store.open_predictions(tmp_path / "f")
        assert "m2.csv: " in str(caught.value)
        assert "Fix: " in str(caught.value)
        return str(caught.value)

    text = pair(["sample_id,label", "a,0", "c,1"])
    assert "sample id 'b' of" in text
    assert "m1.csv is missing (2 samples" in text
    text = pair(["sample_id,label", "a,0", "b,1", "b,1"])
    assert "sample id 'b' occurs twice at row 3" in text
    text = pair(["sample_id,label", "a,0", "c,1", "b,1"])
    assert "another order than in" in text
    assert "'c' stands where 'b' is expected at row 2" in text
    text = pair(["sample_id,label", "a,0", "b,1", "c,1", "d,1"])
    assert "sample id 'd' is not in" in text
    text = pair(["sample_id,p0,p1", "a,0,1", "b,1,0", "c,1,0"])
    assert "m1.csv has 'sample_id', 'label'" in text
    text = pair(["label", "0", "1", "0"])
    assert "no column sample_id, unlike" in text
    text = pair(["sample_id,label", "a,0", ",1", "c,1"])
    assert "a missing sample_id at row 2" in text
    text = pair(["sample_id,label", "a,0", "b,", "c,1"])
    assert "a missing label at row 2, column 'label'" in text
    text = pair(["sample_id,p0,p1", "a,0,1", "b,0.5,x"], ("sample_id,p0,p1", "a,0,1", "b,1,0"))
    assert "not a number at row 2, column 'p1': value 'x'" in text
    for length in (["label", "0", "1"], ["label", "0", "1", "0", "1"]):
        text = pair(length, ("label", "0", "1", "1"))
        assert f"{len(length) - 1} samples" in text
        assert "m1.csv has 3" in text
    rows(tmp_path / "f" / "m1.csv", "sample_id,label", "a,0", "a,1")
    with pytest.raises(InvalidInputError, match=r"m1\.csv: sample id 'a' occurs twice at row 2"):
        store.open_predictions(tmp_path / "f")


def test_folders_of_parquet_of_other_widths(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    for k, dtype in enumerate(("f4", "f8")):
        pq.write_table(pa.table({"sample_id": [1, 2], "p1": np.zeros(2, dtype)}), tmp_path / f"m{k}.parquet")
    with pytest.raises(InvalidInputError, match=r"m1\.parquet: float64 values after float32"):
        store.open_predictions(tmp_path)


# --- tables -------------------------------------------------------------------------------------------------

LONG = "model_id,sample_id,label"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b", "1,2"], ["no column sample_id", "'a', 'b'"]),
        (["sample_id;m1", "1;2"], ["no column sample_id", "'sample_id;m1'"]),
        (["sample_id", "1"], ["no column besides sample_id"]),
        (["sample_id,m,m", "1,2,3"], ["column 'm' occurs twice"]),
        ([",sample_id,m", "0,1,2"], ["column 1 has no name", "index=False"]),
        (["sample_id,m", "1,0", "2"], ["1 cells in a row, the header has 2 at row 2"]),
        (["sample_id,m", "1,0", "1,1"], ["sample id '1' occurs twice at row 2"]),
        (["sample_id,m", "1,0", "2,"], ["a missing label at row 2, column 'm'"]),
        (["sample_id,m", "1,0.5", "2,"], ["a missing value at row 2, column 'm'"]),
        (["sample_id,m", "1,0.5", "2,cat"], ["not a number at row 2, column 'm': value 'cat'"]),
        (["sample_id,m", "1,0", "2,99999999999"], ["not a class index", "99999999999"]),
        (["sample_id,m"], ["zero samples"]),
        ([LONG, "m,1,0.5"], ["not a class index at row 1, column 'label': value 0.5", "p0"]),
        ([LONG, "m,1,0", "m,2,0", "k,1,0"], ["model 'k' has no row for sample id '2' (1 of 2"]),
        ([LONG, "m,1,0", "m,2,0", "k,1,0", "k,1,1"], ["sample id '1' occurs twice for model 'k' at row 4"]),
        ([LONG, "m,1,0", "m,2,0", "m,1,0"], ["sample id '1' occurs twice for model 'm' at row 3"]),
        ([LONG, "m,1,0", ",2,0"], ["a missing model_id at row 2"]),
        ([LONG, "m,1,-1"], ["a label outside"]),
        (["model_id,sample_id,score", "m,1,0"], ["neither a column label nor p0"]),
        (["model_id,sample_id,p0,p2", "m,1,0,1"], ["column p1 is missing"]),
        (["model_id,sample_id,label,p0,p1", "m,1,0,0,1"], ["both a column label and", "--kind"]),
        (['sample_id,m', '1,"0'], ["cannot be read"]),
    ],
)  # fmt: skip
def test_csv(tmp_path: Path, lines: list[str], words: list[str]) -> None:
    path = rows(tmp_path / "t.csv", *lines)
    with pytest.raises(InvalidInputError) as caught:
        store.open_predictions(path).validate()
    for word in (*words, "t.csv: ", "Fix: "):
        assert word in str(caught.value), str(caught.value)


def test_tables_and_arguments(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.csv", LONG, "m,1,cat", "m,2,dog")
    refused(path, "axes are given by the columns", error=UsageError, axes="models,samples")
    refused(path, "'dog' is not among the class names cat, cow", "row 2", class_names=("cat", "cow"))
    refused(path, "kind 'proba' and a column label", kind="proba")
    scores = rows(tmp_path / "s.csv", "model_id,sample_id,p0,p1", "m,1,0,1")
    refused(scores, "no column label", kind="labels")


def test_missing_cells_of_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"sample_id": [1, 2, 3], "m": [0.5, None, 0.25]}), path)
    refused(path, "a missing value at row 2, column 'm'")
    pq.write_table(pa.table({"sample_id": [1, 2, 3], "m": ["a", None, "b"]}), path)
    refused(path, "a missing label at row 2, column 'm'")
    pq.write_table(pa.table({"sample_id": [1, None, 3], "m": ["a", "c", "b"]}), path)
    refused(path, "a missing sample_id at row 2")
    pq.write_table(pa.table({"sample_id": [1, 2], "m": [0.5, 0.25], "k": [0, 1]}), path)
    refused(path, "column 'm' holds floats and column 'k' does not")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"sample_id,m\n\xe9,1\n")
    refused(tmp_path / "t.csv", "cannot be read")


# --- the native pair ----------------------------------------------------------------------------------------


def test_a_json_that_contradicts(tmp_path: Path) -> None:
    path, beside = tmp_path / "p.npy", tmp_path / "p.json"
    np.save(path, np.full((3, 4, 2), 0.5))
    good = {
        "format": "rashomon-core predictions", "format_version": 1, "axes": ["models", "samples", "classes"],
        "kind": "proba", "n_classes": 2, "class_names": ["no", "yes"], "model_ids": None, "sample_ids": None,
    }  # fmt: skip

    def case(change: dict[str, Any], *words: str, **options: Any) -> None:
        beside.write_text(json.dumps(good | change))
        with pytest.raises(InvalidInputError) as caught:
            store.open_predictions(path, **options)
        for word in (*words, f"{tmp_path}"):
            assert word in str(caught.value), str(caught.value)

    case({}, "p.json", "kind 'logits' was passed, the file says 'proba'", kind="logits")
    case({}, "p.json", "axes samples,models,classes was passed", axes="samples,models,classes")
    case({}, "p.json", "n_classes 3 was passed", n_classes=3)
    case({}, "p.json", "class_names a,b was passed", class_names=("a", "b"))
    case({"format_version": 2}, "format_version 2", "update rashomon-core")
    case({"axes": "models"}, "'axes' has the wrong type")
    case({"model_ids": ["a", "b"]}, "2 model ids for 3 models")
    case({"shape": [3, 5, 2]}, "was written for (3, 5, 2)")
    case({"dtype": "<f4"}, "was written for", "<f4")
    beside.write_text('{"format": "rashomon-core pre')
    with pytest.raises(InvalidInputError, match=r"p\.json: the \.json beside p\.npy cannot be read.*Fix"):
        store.open_predictions(path)


# --- vectors ------------------------------------------------------------------------------------------------


def test_vectors(tmp_path: Path) -> None:
    def case(path: Path, *words: str, **options: Any) -> None:
        with pytest.raises(InvalidInputError) as caught:
            store.open_vector(path, **{"name": "labels", **options})
        for word in (*words, f"{path.name}: ", "Fix: "):
            assert word in str(caught.value), str(caught.value)

    path = rows(tmp_path / "y.csv", "sample_id,y,z", "a,1,", "b,0,2", "b,1,3")
    case(path, "which column holds the labels?", "sample_id, y, z")
    case(path, "no column 'w'", column="w")
    case(path, "a missing value among the labels at row 1, column 'z'", column="z")
    case(path, "sample_id 'b' occurs twice at row 3", column="y", sample_ids=("a", "b"))
    path = rows(tmp_path / "y.csv", "sample_id,y", "a,1", "b,0", "c,1")
    case(path, "the labels have no row for sample_id 'd'", sample_ids=("a", "b", "d"))
    case(path, "sample_id 'c' is not in the predictions at row 3", sample_ids=("a", "b"))
    np.save(tmp_path / "y.npy", np.zeros((2, 2, 2)))
    case(tmp_path / "y.npy", "shape (2, 2, 2)")
    np.save(tmp_path / "o.npy", np.array([None, "a"], dtype=object))
    case(tmp_path / "o.npy", "ever unpickled")
    np.savez(tmp_path / "y.npz", a=np.zeros(2), b=np.zeros(2))
    case(tmp_path / "y.npz", "several arrays and no key")
    with pytest.raises(UsageError, match="column is for"):
        store.open_vector(tmp_path / "y.npy", name="labels", column="y")
    with pytest.raises(UsageError, match="use column"):
        store.open_vector(path, name="labels", key="y")


def test_csv_module_limits_are_errors_of_ours(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.csv", "sample_id,m", "1," + "9" * (csv.field_size_limit() + 1))
    refused(path, "cannot be read")
