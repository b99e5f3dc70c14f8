"""Vectors that go with predictions: targets, labels, groups, weights, losses, references."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError

from .arrays import CONTAINERS, choose, entries, is_zarr, load, npy_reader
from .files import require_seekable
from .raw import Reader, SlicedReader
from .tables import TABLES, Column, Table, ids_of, numbers, open_table, token_type

__all__ = ["open_vector"]

Array = npt.NDArray[Any]


def open_vector(
    path: str | os.PathLike[str],
    *,
    name: str,
    key: str | None = None,
    column: str | Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    id_column: str = "sample_id",
) -> Array:
    """Read a vector, or a few columns, into memory.

    Parameters
    ----------
    path : str or path
        .npy, .npz, .safetensors, .zarr, HDF5, .pt, .csv or .parquet.
    name : str
        What it is ("labels", "groups", ...), for messages. Cells of "groups" may be missing: they come back
        as NaN among floats and as "" otherwise; for every other name a missing cell is an error.
    key : str, optional
        Name of the array in a container that holds several.
    column : str or sequence of str, optional
        Column or columns of a table. Without it: the only column besides the ids, or p0, p1, ... in order.
    sample_ids : sequence of str, optional
        Ids of the predictions. A table with ``id_column`` is put into their order: every id must be there
        once, and ids that the predictions do not have are refused. Other files are taken in their own order.
    id_column : str
        Name of the column of ids ("model_id" for values per model).

    Returns
    -------
    numpy.ndarray
        (N,), or (N, K) for several columns or a 2-D array. Cells of text become int64 if all are integers,
        float64 if all are numbers, else str; several columns of different types become str.
    """
    file = os.fspath(path)
    suffix = os.path.splitext(file.rstrip("/\\"))[1].lower()
    if os.path.isdir(file) and is_zarr(file):
        suffix = ".zarr"
    if not os.path.exists(file):
        raise InvalidInputError(f"the file of the {name} does not exist", file=file, fix="check the path")
    require_seekable(file)
    if suffix in TABLES:
        if key is not None:
            raise UsageError(f"{file}: key is for files that hold several named arrays; use column for tables")
        return _from_table(open_table(file, suffix), name, column, sample_ids, id_column)
    if column is not None:
        raise UsageError(f"{file}: column is for {' and '.join(TABLES)} files")
    if suffix == ".npy":
        if key is not None:
            raise UsageError(f"{file}: key is for files that hold several named arrays")
        reader: Reader = npy_reader(file)
    elif suffix in CONTAINERS:
        reader = choose(entries(file, suffix), key, file).open()
    else:
        supported = ", ".join((".npy", *CONTAINERS, *TABLES))
        raise UsageError(f"{file}: files ending in {suffix or 'nothing'!r} are not supported; these are: {supported}")
    if len(reader.shape) not in (1, 2):
        raise InvalidInputError(
            f"the {name} have the shape {reader.shape}",
            file=file,
            fix="use one value, or one row, per sample",
        )
    if isinstance(reader, SlicedReader) and reader.dtype.kind in "OT":  # strings of HDF5 and zarr
        values = reader.array.asstr()[()] if hasattr(reader.array, "asstr") else reader.array[:]
        return np.asarray(values).astype(np.str_)
    return load(reader)


def _from_table(
    table: Table,
    name: str,
    column: str | Sequence[str] | None,
    sample_ids: Sequence[str] | None,
    id_column: str,
) -> Array:
    columns = _columns(table, name, column, id_column)
    with_ids = id_column in table.columns
    wanted = [*((id_column,) if with_ids else ()), *columns]
    ids: list[str] = []
    batches: list[list[Column]] = [[] for _ in columns]
    for row, batch in table.batches(wanted):
        if with_ids:
            ids.extend(ids_of(batch[0], row, id_column, table.path))
        for parts, part in zip(batches, batch[len(wanted) - len(columns) :], strict=True):
            parts.append(part)
    values = [_column(parts, c, name, table.path) for parts, c in zip(batches, columns, strict=True)]
    if len(values) == 1:
        array = values[0]
    elif len({v.dtype.kind for v in values}) > 1 and any(v.dtype.kind == "U" for v in values):
        array = np.stack([v.astype(np.str_) for v in values], axis=1)
    else:
        array = np.stack(values, axis=1)
    if not with_ids or sample_ids is None:
        return array
    return np.ascontiguousarray(array[_order(ids, sample_ids, id_column, name, table.path)])


def _columns(table: Table, name: str, column: str | Sequence[str] | None, id_column: str) -> list[str]:
    others = [c for c in table.columns if c != id_column]
    if column is not None:
        chosen = [column] if isinstance(column, str) else list(column)
        for c in chosen:
            if c not in others:
                raise InvalidInputError(
                    f"no column {c!r} for the {name}; the columns are {', '.join(table.columns)}",
                    file=table.path,
                    fix="name one of these",
                )
        return chosen
    if others and all(c == f"p{k}" for k, c in enumerate(sorted(others, key=lambda c: (len(c), c)))):
        return sorted(others, key=lambda c: int(c[1:]))
    if len(others) != 1:
        raise InvalidInputError(
            f"which column holds the {name}? The columns are {', '.join(table.columns)}",
            file=table.path,
            fix=f"name the column, or keep only {id_column} and one other",
        )
    return others


def _column(parts: list[Column], column: str, name: str, path: str) -> Array:
    """Join the batches of one column and give them one type."""
    if not any(isinstance(p, list) for p in parts):
        return np.concatenate([np.asarray(p) for p in parts]) if parts else np.zeros(0)
    tokens = [t.strip() for p in parts for t in (p if isinstance(p, list) else map(str, p.tolist()))]
    types = {t: token_type(t) for t in set(tokens)}
    kinds = set(types.values())
    if "missing" in kinds and name != "groups":
        row = tokens.index(next(t for t, kind in types.items() if kind == "missing"))
        raise InvalidInputError(
            f"a missing value among the {name}",
            file=path,
            where=f"row {row + 1}, column {column!r}",
            fix="fill the cell",
        )
    if kinds <= {"integer"}:
        try:
            return np.array([int(t) for t in tokens], dtype=np.int64)
        except OverflowError:
            return np.array(tokens, dtype=np.str_)
    if kinds <= {"integer", "float"}:
        return numbers(tokens, 0, column, path)
    if kinds <= {"float", "missing"}:
        return np.array([float(t) if t else np.nan for t in tokens])
    return np.array(tokens, dtype=np.str_)


def _order(ids: Sequence[str], sample_ids: Sequence[str], id_column: str, name: str, path: str) -> Array:
    """Return the row of each sample id."""
    rows: dict[str, int] = {}
    for k, i in enumerate(ids):
        if rows.setdefault(i, k) != k:
            raise InvalidInputError(
                f"{id_column} {i!r} occurs twice", file=path, where=f"row {k + 1}", fix="keep one row per id"
            )
    lost = next((i for i in sample_ids if i not in rows), None)
    if lost is not None:
        raise InvalidInputError(
            f"the {name} have no row for {id_column} {lost!r}",
            file=path,
            fix="give every sample of the predictions a row",
        )
    if len(rows) > len(sample_ids):
        known = set(sample_ids)
        extra = next(i for i in ids if i not in known)
        raise InvalidInputError(
            f"{id_column} {extra!r} is not in the predictions",
            file=path,
            where=f"row {rows[extra] + 1}",
            fix="keep only the samples of the predictions",
        )
    return np.array([rows[i] for i in sample_ids], dtype=np.intp)
