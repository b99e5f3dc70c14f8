"""What the loaders share: the data set, reading files, coding labels and groups."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rashomon_core.errors import InvalidInputError

__all__ = [
    "DATA_VARIABLE",
    "LocalDataset",
    "Parts",
    "age_group",
    "codes_of",
    "find",
    "read_npz",
    "read_table",
    "strings",
]

#: Environment variable that names the folder of local data files.
DATA_VARIABLE = "RASHOMON_CORE_DATA"

Kind = Literal["tabular", "image", "text"]


@dataclass(frozen=True, eq=False)
class LocalDataset:
    """One data set.

    Attributes
    ----------
    name : str
    X : N rows
        Tabular: a pandas.DataFrame with a RangeIndex, features as in the file: numbers stay numbers, categories
        strings or codes, missing values missing; or (N, D) numbers from an .npz. Images: uint8 (N, H, W) or
        (N, H, W, 3). Texts: (N,) object array of str. Protected columns are left in; drop them where they must not
        be used.
    y : (N,) int64
        Class indices into ``class_names``.
    class_names : tuple of str
    groups : pandas.DataFrame, N rows
        Protected columns as strings; no column where there are none. Missing values are missing (NaN), never a group
        of their own.
    kind : "tabular", "image" or "text"
    split_by : (N,) array or None
        Rows that share a value (images of one lesion) must stay on one side of a split: see ``group_split``.
    official_split : (N,) array of str or None
        "train", "val" or "test" for each row, where the publisher states a split.
    """

    name: str
    X: Any = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    class_names: tuple[str, ...]
    groups: Any = field(repr=False)
    kind: Kind = "tabular"
    split_by: NDArray[Any] | None = field(default=None, repr=False)
    official_split: NDArray[Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.y)


class Parts(NamedTuple):
    """What a loader returns: a data set before it is checked and named."""

    X: Any
    y: Any
    class_names: tuple[str, ...]
    groups: Any
    kind: Kind = "tabular"
    split_by: Any = None
    official_split: Any = None


def find(folder: Path, name: str) -> Path:
    """Return the path of a data file, plain or gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InvalidInputError(
        "there is no such data file",
        file=str(folder / name),
        fix=f"put it there (.gz is read too), or set {DATA_VARIABLE} to the folder that holds {folder.name}/",
    )


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz; nothing is unpickled."""
    try:
        with open(path, "rb") as file:  # np.load leaves a damaged file open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.ndarray):
                return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidInputError(f"cannot be read as an .npz of plain arrays ({error})", file=str(path)) from error
    raise InvalidInputError("holds one array and no names", file=str(path), fix="give an .npz")


def read_table(folder: Path, name: str, *, rows: int, **options: Any) -> Any:
    """Read a .csv, plain or gzipped, and count its rows: a cut file must not pass for a small one."""
    import pandas as pd

    path = find(folder, name)
    try:
        # "None", "NA" and the like are values in some of these files: only what is stated counts as missing.
        frame = pd.read_csv(path, **{"na_values": [""], "keep_default_na": False, **options})
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"cannot be read as a table ({error})", file=str(path)) from error
    if len(frame) != rows:
        raise InvalidInputError("wrong number of rows", file=str(path), value=f"{len(frame)} and not {rows}")
    return frame


def codes_of(column: Any, values: tuple[object, ...], what: str) -> NDArray[np.int64]:
    """Index of each value in ``values``; a value that is not listed is an error and not a class."""
    found = np.asarray(column, dtype=object)
    codes = np.full(len(found), -1, dtype=np.int64)
    for code, value in enumerate(values):
        codes[found == value] = code
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise InvalidInputError(f"{what} has a value that is none of {values}", where=f"row {row}", value=found[row])
    return codes


def age_group(age: Any, limit: int) -> Any:
    """Two groups, ``under <limit>`` and ``<limit> and over``; a missing age stays missing."""
    return (age >= limit).map({False: f"under {limit}", True: f"{limit} and over"}).where(age.notna())


def strings(rows: int | None = None, **columns: Any) -> Any:
    """Return columns as a frame of objects; ``rows`` counts them where there is no column."""
    import pandas as pd

    if not columns:
        return pd.DataFrame(index=pd.RangeIndex(rows or 0))

    return pd.DataFrame(columns).astype("object")
