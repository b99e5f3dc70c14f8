"""The user's own data: a table with a label column, or an .npz with X and y."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rashomon_core.errors import InvalidInputError, MissingDependencyError, suggestion

from .common import Kind, LocalDataset, read_npz, strings

__all__ = ["load_arrays", "load_table"]

_MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null")
_MOST_GROUPS = 100


def load_table(
    path: str | os.PathLike[str],
    label: str,
    groups: Sequence[str] = (),
    drop: Sequence[str] = (),
    *,
    split_by: str | None = None,
    missing: Sequence[str] = _MISSING,
) -> LocalDataset:
    """Load a table of the user.

    Parameters
    ----------
    path : path
        .csv (header line; .csv.gz too), .tsv or .parquet.
    label : str
        Column of the labels; its sorted values become the classes.
    groups : sequence of str
        Protected columns. They stay features unless ``drop`` names them, too.
    drop : sequence of str
        Columns that are no features.
    split_by : str, optional
        Column whose values must stay on one side of a split (a person's id); never a feature.
    missing : sequence of str
        Texts that mean "missing" in a .csv or .tsv.

    Returns
    -------
    LocalDataset
        ``name`` is the file's name without its ending.

    Raises
    ------
    InvalidInputError
        When the file cannot be read, a column is not there (the message suggests the nearest), a label is missing,
        there is one class only, or a group column has more than 100 values.
    MissingDependencyError
        When pandas is missing, or pyarrow for .parquet.
    """
    file = Path(path)
    frame = _read(file, missing)
    wanted = [label, *groups, *drop, *([] if split_by is None else [split_by])]
    for name in wanted:
        if name not in frame.columns:
            raise InvalidInputError(f"there is no column {name!r}{suggestion(name, frame.columns)}", file=str(file))
    y, class_names = _classes(frame[label], f"column {label}", str(file))
    protected = {}
    for name in groups:
        column = frame[name]
        if column.nunique() > _MOST_GROUPS:
            raise InvalidInputError(
                f"group column {name!r} has {column.nunique()} values", file=str(file), fix="cut it into ranges first"
            )
        protected[name] = _texts(column)
    X = frame.drop(columns=list({label, *drop, *([] if split_by is None else [split_by])}))
    if not X.shape[1]:
        raise InvalidInputError("no column is left as a feature", file=str(file), fix="drop fewer columns")
    sides = None if split_by is None else frame[split_by].to_numpy(dtype=object)
    return LocalDataset(_stem(file), X, y, class_names, strings(len(X), **protected), "tabular", sides)


def load_arrays(path: str | os.PathLike[str]) -> LocalDataset:
    """Load an .npz of the user; nothing is unpickled.

    Parameters
    ----------
    path : path
        Arrays ``X`` ((N, D) numbers, (N, H, W) or (N, H, W, 3) images, or (N,) strings) and ``y`` ((N,) or (N, 1)
        labels: class indices from 0, or strings); optionally ``class_names``, ``groups`` ((N,) or (N, G)),
        ``group_names`` and ``split_by`` (N,). Strings as NumPy's fixed-width type (dtype "U").

    Returns
    -------
    LocalDataset

    Raises
    ------
    InvalidInputError
        When the file cannot be read without unpickling, arrays are missing, or shapes do not fit together.
    MissingDependencyError
        When pandas is missing.
    """
    file = Path(path)
    _pandas()
    arrays = read_npz(file)
    for key in ("X", "y"):
        if key not in arrays:
            raise InvalidInputError(f"there is no array {key!r}", file=str(file), value=f"has {', '.join(arrays)}")
    X, y = arrays["X"], arrays["y"]
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    text = X.dtype.kind == "U" and X.ndim == 1
    if not text and (X.dtype.kind not in "biuf" or X.ndim not in (2, 3, 4)):
        raise InvalidInputError(
            f"X is {X.shape} {X.dtype}",
            file=str(file),
            fix="give (N, D) numbers, images or (N,) strings",
        )
    n = len(X)
    for key, array in {**arrays, "y": y}.items():
        if key in ("y", "groups", "split_by") and (array.ndim == 0 or len(array) != n):
            raise InvalidInputError(f"{key} is {array.shape} for {n} rows of X", file=str(file))
    if y.ndim != 1:
        raise InvalidInputError(f"y is {y.shape}", file=str(file), fix="give one label for each row")
    codes, class_names = _array_classes(y, arrays.get("class_names"), str(file))
    kind: Kind = "text" if text else "tabular" if X.ndim == 2 else "image"
    groups = arrays.get("groups", np.empty((n, 0), dtype="U1")).reshape(n, -1)
    names = arrays.get("group_names", np.array([f"group{j}" for j in range(groups.shape[1])], dtype=np.str_))
    if names.shape != (groups.shape[1],):
        raise InvalidInputError(f"group_names is {names.shape} for {groups.shape[1]} groups", file=str(file))
    frame = strings(n, **{str(name): groups[:, j].astype(str).astype(object) for j, name in enumerate(names)})
    rows = X.astype(object) if text else X
    return LocalDataset(_stem(file), rows, codes, class_names, frame, kind, arrays.get("split_by"))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError("pandas", "reading tables", "audit") from error
    return pandas


def _read(file: Path, missing: Sequence[str]) -> Any:
    pd = _pandas()
    if not file.is_file():
        raise InvalidInputError("there is no such data file", file=str(file))
    endings = "".join(file.suffixes[-2:]).lower()
    try:
        if endings.endswith(".parquet"):
            return pd.read_parquet(file).reset_index(drop=True)
        if endings.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
            sep = "\t" if ".tsv" in endings else ","
            return pd.read_csv(file, sep=sep, na_values=list(missing), keep_default_na=False)
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "reading .parquet", "io") from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"cannot be read as a table ({error})", file=str(file)) from error
    raise InvalidInputError("is not a table that can be read", file=str(file), fix="give .csv, .tsv or .parquet")


def _stem(file: Path) -> str:
    return file.name.split(".")[0] or file.name


def _texts(column: Any) -> Any:
    """Strings, with missing values missing; whole numbers without a point, also where gaps made them floats."""
    values = column.astype(object)
    return values.map(lambda v: str(int(v)) if isinstance(v, float) and v.is_integer() else str(v), na_action="ignore")


def _classes(column: Any, what: str, file: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    gone = np.asarray(column.isna())
    if gone.any():
        raise InvalidInputError(
            f"{what} has {int(gone.sum())} missing labels", file=file, where=f"row {int(gone.argmax())}"
        )
    if column.dtype.kind == "f" and column.nunique() > _MOST_GROUPS:
        raise InvalidInputError(f"{what} has {column.nunique()} different numbers", file=file, fix="give classes")
    texts = np.array(_texts(column).tolist(), dtype=object)
    numeric = column.dtype.kind in "iuf"
    names = tuple(sorted(set(texts.tolist()), key=(lambda t: (float(t), t)) if numeric else str))
    return _numbered(texts, names, what, file)


def _array_classes(y: NDArray[Any], stated: Any, file: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if y.dtype.kind == "U":
        names = tuple(str(n) for n in (np.unique(y) if stated is None else stated))
        return _numbered(y.astype(object), names, "y", file)
    if y.dtype.kind not in "biu":
        raise InvalidInputError(f"y has dtype {y.dtype}", file=file, fix="give class indices or strings")
    codes = y.astype(np.int64)
    count = int(codes.max(initial=-1)) + 1 if stated is None else len(stated)
    if len(codes) == 0 or codes.min() < 0 or codes.max() >= count:
        raise InvalidInputError(f"y has indices outside 0 to {count - 1}", file=file)
    names = tuple(str(k) for k in range(count)) if stated is None else tuple(str(n) for n in stated)
    if len(np.unique(codes)) < 2:
        raise InvalidInputError("y has one class only", file=file)
    return codes, names


def _numbered(
    labels: NDArray[Any], names: tuple[str, ...], what: str, file: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    places = {name: code for code, name in enumerate(names)}
    unknown = [str(v) for v in labels if v not in places]
    if unknown:
        raise InvalidInputError(f"{what} has a label that is none of {names}", file=file, value=unknown[0])
    codes = np.array([places[v] for v in labels], dtype=np.int64)
    if len(np.unique(codes)) < 2:
        raise InvalidInputError(f"{what} has {len(np.unique(codes))} classes", file=file, fix="give two or more")
    return codes, names
