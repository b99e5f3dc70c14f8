"""Tables (.csv and .parquet), streamed in bounded batches of rows, and what their cells mean."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError
from rashomon_core.predictions import MAX_CLASSES

from .files import RawFile

__all__ = [
    "TABLES",
    "Column",
    "LabelCoder",
    "Table",
    "ids_of",
    "numbers",
    "open_table",
    "texts",
    "token_type",
]

Array = npt.NDArray[Any]
#: Values of one column of a batch: text of a .csv or of a string column, else numbers.
Column: TypeAlias = "list[str] | Array"
#: Cells in one batch.
BATCH_CELLS = 50_000
TABLES = (".csv", ".parquet")
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Table(Protocol):
    """A table that is streamed."""

    path: str
    columns: tuple[str, ...]
    #: True when numbers are text, so that their decimals limit how well rows can sum to 1.
    text: bool

    def types(self) -> dict[str, str] | None:
        """Type of each column ("integer", "float", "string") where the file states it, else None."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, list[Column]]]:
        """Yield (number of the first row, columns) of one batch after the other."""
        ...


class CsvTable:
    """A .csv file: UTF-8, comma, header line."""

    text = True

    def __init__(self, path: str) -> None:
        self.path = path
        if RawFile(path, keep_open=True).size == 0:
            raise InvalidInputError("the file is empty", file=path, fix="write a header line and one row per sample")
        with self._reading() as rows:
            self.columns: tuple[str, ...] = _header(next(rows, []), path)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Iterator[list[str]]]:
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as stream:
                yield csv.reader(stream, strict=True)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"the text cannot be read ({error})", file=self.path, fix="write UTF-8 text with commas"
            ) from None

    def types(self) -> dict[str, str] | None:
        return None

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, list[Column]]]:
        with self._reading() as rows:
            next(rows)
            width, picked = len(self.columns), [self.columns.index(c) for c in columns]
            size, at = max(1, BATCH_CELLS // width), 0
            while batch := list(itertools.islice(rows, size)):
                if set(map(len, batch)) != {width}:
                    batch = self._whole(batch, width, at)
                if batch:
                    transposed = list(zip(*batch, strict=True))
                    yield at, [list(transposed[k]) for k in picked]
                at += len(batch)

    def _whole(self, batch: list[list[str]], width: int, at: int) -> list[list[str]]:
        kept = [row for row in batch if row]  # blank lines are no rows
        for k, row in enumerate(kept):
            if len(row) != width:
                raise InvalidInputError(
                    f"{len(row)} cells in a row, the header has {width}",
                    file=self.path,
                    where=f"row {at + k + 1}",
                    fix="write every row with every column",
                )
        return kept


class ParquetTable:
    """A .parquet file; row groups are streamed, columns that are not asked for are not read."""

    text = False

    def __init__(self, path: str) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingDependencyError("pyarrow", "reading .parquet", "io") from None
        self.path, self._pa, self._pq = path, pa, pq
        if RawFile(path).size == 0:
            raise InvalidInputError("the file is empty", file=path, fix="write it again")
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            text = str(error).split("\n")[0]
            raise InvalidInputError(f"not a readable .parquet file ({text})", file=path, fix="write it again") from None
        self.columns: tuple[str, ...] = _header(self._schema.names, path)

    def types(self) -> dict[str, str] | None:
        t, found = self._pa.types, {}
        for name in self.columns:
            kind = self._schema.field(name).type
            if t.is_dictionary(kind):
                kind = kind.value_type
            if t.is_integer(kind) or t.is_boolean(kind):
                found[name] = "integer"
            elif t.is_floating(kind):
                found[name] = "float"
            else:
                found[name] = "string"
        return found

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, list[Column]]]:
        size = max(256, BATCH_CELLS // max(1, len(columns)))
        at = 0
        try:
            with self._pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=size, columns=list(columns), use_threads=False):
                    yield at, [self._column(batch.column(name)) for name in columns]
                    at += batch.num_rows
        except (self._pa.ArrowException, OSError) as error:
            text = str(error).split("\n")[0]
            raise InvalidInputError(
                f"the file is truncated or damaged ({text})", file=self.path, fix="write it again"
            ) from None

    def _column(self, values: Any) -> Column:
        t = self._pa.types
        if t.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.null_count == 0 and (t.is_integer(values.type) or t.is_floating(values.type)):
            return np.asarray(values.to_numpy(zero_copy_only=False))
        if values.null_count == 0 and t.is_boolean(values.type):
            return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.uint8)
        return ["" if v is None else str(v) for v in values.to_pylist()]


def open_table(path: str, suffix: str) -> Table:
    """Open a .csv or .parquet file."""
    return CsvTable(path) if suffix == ".csv" else ParquetTable(path)


def _header(names: Sequence[str], path: str) -> tuple[str, ...]:
    names = tuple(n.strip() for n in names)
    if not names:
        raise InvalidInputError("the table has no header line", file=path, fix="write the column names first")
    for k, name in enumerate(names):
        if not name:
            raise InvalidInputError(
                f"column {k + 1} has no name", file=path, fix="name it; pandas: to_csv(index=False)"
            )
        if name in names[:k]:
            raise InvalidInputError(f"column {name!r} occurs twice", file=path, fix="give each column its own name")
    return names


# --- cells --------------------------------------------------------------------------------------------------


def token_type(token: str) -> str:
    """Say what a cell of text is: "integer", "float", "string" or "missing"."""
    token = token.strip()
    if not token:
        return "missing"
    if _INTEGER.fullmatch(token):
        return "integer"
    return "float" if _NUMBER.fullmatch(token) else "string"


def texts(column: Column) -> list[str]:
    """Return a column as text, for ids."""
    return [c.strip() for c in column] if isinstance(column, list) else [str(v) for v in column.tolist()]


def ids_of(column: Column, row: int, name: str, path: str) -> list[str]:
    """Return the ids of a batch; a missing id is an error."""
    found = texts(column)
    if "" in found:
        raise InvalidInputError(
            f"a missing {name}",
            file=path,
            where=f"row {row + found.index('') + 1}",
            fix="give every row an id",
        )
    return found


def numbers(column: Column, row: int, name: str, path: str) -> Array:
    """Return a column of a batch as floats."""
    if not isinstance(column, list):
        return column if column.dtype.kind == "f" else column.astype(np.float64)
    try:
        return np.fromiter(map(float, column), dtype=np.float64, count=len(column))
    except ValueError:
        for k, token in enumerate(column):
            if token_type(token) not in ("integer", "float"):
                missing = not token.strip()
                raise InvalidInputError(
                    "a missing value" if missing else "a value that is not a number",
                    file=path,
                    where=f"row {row + k + 1}, column {name!r}",
                    value=None if missing else repr(token),
                    fix="write a number into every cell",
                ) from None
        raise


class LabelCoder:
    """Gives each distinct label of one or more tables a code; what the codes mean is settled at the end."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.places: list[tuple[str, str]] = []

    def encode(self, column: Column, row: int, name: str, path: str) -> Array:
        """Return provisional codes, int32."""
        if not isinstance(column, list):
            distinct, first, inverse = np.unique(column, return_index=True, return_inverse=True)
            tokens = [str(int(v)) if float(v).is_integer() else repr(float(v)) for v in distinct.tolist()]
            table = np.array(self._codes(tokens, row, name, path, first.tolist()), dtype=np.int32)
            return np.asarray(table[inverse.reshape(-1)])
        return np.array(self._codes(column, row, name, path, None), dtype=np.int32)

    def _codes(self, tokens: list[str], row: int, name: str, path: str, rows: list[int] | None) -> list[int]:
        codes, known = self.codes, len(self.codes)
        found = [codes.setdefault(t, len(codes)) for t in tokens]
        if len(codes) > known:
            for k, code in enumerate(found):
                if code == len(self.places):
                    at = k if rows is None else rows[k]
                    self.places.append((path, f"row {row + at + 1}, column {name!r}"))
            if len(codes) > 2 * MAX_CLASSES:
                raise InvalidInputError(
                    f"more than {MAX_CLASSES} distinct labels",
                    file=path,
                    fix="are these scores? then use p0, p1, ...",
                )
        return found

    def settle(self, class_names: Sequence[str] | None) -> tuple[Array, tuple[str, ...] | None]:
        """Return the label of each code (int32) and the class names, if the labels were names.

        Integers are class indices (unless every one of them is among the stated names); anything else is
        a name: its place in ``class_names``, or in the sorted distinct names.
        """
        tokens = [t.strip() for t in self.codes]
        types = [token_type(t) for t in tokens]
        for k, (token, kind) in enumerate(zip(tokens, types, strict=True)):
            if kind == "missing" or token.lower() == "nan":
                file, where = self.places[k]
                raise InvalidInputError("a missing label", file=file, where=where, fix="give every sample a label")
        names = tuple(class_names) if class_names is not None else None
        place = {name: k for k, name in enumerate(names or ())}
        if names is not None and all(t in place for t in tokens):
            return np.array([place[t] for t in tokens], dtype=np.int32), names
        if all(t in ("integer", "float") for t in types):
            values = [int(t) if kind == "integer" else float(t) for t, kind in zip(tokens, types, strict=True)]
            for k, value in enumerate(values):
                if not -(2**31) <= value < 2**31 or value != int(value):
                    file, where = self.places[k]
                    raise InvalidInputError(
                        "a label that is not a class index", file=file, where=where, value=tokens[k],
                        fix="use 0, 1, ... or names for labels; scores go into columns p0, p1, ...",
                    )  # fmt: skip
            return np.array([int(v) for v in values], dtype=np.int32), names
        if names is not None:
            k = next(k for k, t in enumerate(tokens) if t not in place)
            file, where = self.places[k]
            raise InvalidInputError(
                f"the label {tokens[k]!r} is not among the class names {', '.join(names)}",
                file=file, where=where, fix="add it to class_names",
            )  # fmt: skip
        names = tuple(sorted(set(tokens)))
        place = {name: k for k, name in enumerate(names)}
        return np.array([place[t] for t in tokens], dtype=np.int32), names
