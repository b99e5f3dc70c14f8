"""Tables of predictions as tensors: long tables, wide tables, and one table per model.

Text cannot be read from the middle, so the numbers are converted once, in bounded batches, into a temporary
tensor (``spool.Spool``): up to 16 MB in memory, beyond that in an unlinked file in the folder for temporary
files. Only the ids (and for each cell of a long table one bit) stay in memory.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.predictions import MAX_CLASSES, Kind

from .raw import Reader
from .spool import Spool
from .tables import Column, LabelCoder, Table, ids_of, numbers, texts, token_type

__all__ = ["Converted", "model_files", "predictions_table", "require_no_axes"]

Array = npt.NDArray[Any]
_NO_ID_FIX = "add a column sample_id with one id per row"


class _Decimals:
    """The most decimals that any number of a text file has; they bound how well its rows can sum to 1."""

    def __init__(self, classes: int) -> None:
        self.classes, self.most = classes, 0
        self.enough = math.ceil(math.log10(classes * 0.5 / 1e-6))  # beyond this the float64 rule is the larger

    def see(self, tokens: Iterable[str]) -> None:
        if self.most < self.enough:
            self.most = max(self.most, max(map(_decimals, tokens), default=0))

    def tolerance(self) -> float:
        # No decimals at all are exact zeros and ones, not probabilities rounded to integers.
        return max(1e-6, self.classes * 0.5 * 10.0**-self.most) if self.most else 1e-6


def _decimals(token: str) -> int:
    mantissa, _, exponent = token.lower().partition("e")
    places = len(mantissa.strip().partition(".")[2])
    return max(0, places - int(exponent)) if exponent else places


# --- one table, several models ------------------------------------------------------------------------------


@dataclass
class Converted:
    """A table as a tensor: what :meth:`Predictions.from_source` needs."""

    reader: Reader
    axes: tuple[str, ...]
    model_ids: tuple[str, ...] | None = None
    sample_ids: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    row_tolerance: float | None = None
    key: str | None = None


def value_columns(columns: Sequence[str], kind: Kind | None, path: str) -> list[str]:
    """Return ["label"], ["p1"] (P of class 1) or ["p0", ..., "p{C-1}"]."""
    scores = sorted((c for c in columns if re.fullmatch(r"p\d+", c)), key=lambda c: int(c[1:]))
    label = "label" in columns
    if label and scores and kind is None:
        raise InvalidInputError(
            "both a column label and columns p0, p1, ...",
            file=path,
            fix="pass kind='labels' or 'proba' (--kind)",
        )
    if label and (kind == "labels" or not scores):
        if kind not in (None, "labels"):
            raise InvalidInputError(f"kind {kind!r} and a column label", file=path, fix="write columns p0, p1, ...")
        return ["label"]
    if scores and kind == "labels":
        raise InvalidInputError("kind 'labels' and no column label", file=path, fix="write a column label")
    if scores and scores != ["p1"] and scores != [f"p{k}" for k in range(len(scores))]:
        lost = next(k for k in range(len(scores) + 1) if f"p{k}" not in scores)
        raise InvalidInputError(f"column p{lost} is missing: {', '.join(scores)}", file=path, fix="number them from p0")
    if not scores:
        raise InvalidInputError(
            f"neither a column label nor p0, p1, ...; the columns are {_some(columns)}",
            file=path,
            fix="name the columns sample_id and label, or sample_id, p0, p1, ..., with commas between them",
        )
    return scores


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def predictions_table(table: Table, *, kind: Kind | None, class_names: Sequence[str] | None) -> Converted:
    """Convert a long table (model_id, sample_id, label | p0..) or a wide one (sample_id, one per model)."""
    if "sample_id" not in table.columns:
        raise InvalidInputError(
            f"no column sample_id; the columns are {_some(table.columns)}", file=table.path, fix=_NO_ID_FIX
        )
    if "model_id" in table.columns:
        return _long(table, kind, class_names)
    return _wide(table, kind, class_names)


class _Filler:
    """Writes the values of table rows to their cells of the spool: labels as codes, scores as floats."""

    def __init__(self, columns: Sequence[str], table: Table, coder: LabelCoder | None = None) -> None:
        self.columns = columns
        self.labels = columns == ["label"]
        self.coder = coder or LabelCoder()
        self.decimals = _Decimals(len(columns)) if table.text and len(columns) > 1 else None
        kinds = table.types() or {}
        self.dtype: np.dtype[Any] = np.dtype(np.int32 if self.labels else np.float64)
        if not self.labels and kinds and all(kinds[c] == "float" for c in columns):
            self.dtype = _float_type(table, columns)

    def values(self, batch: Sequence[Column], row: int, path: str) -> Array:
        """Return (rows,) labels or P(1), or (rows, C) scores."""
        if self.labels:
            return self.coder.encode(batch[0], row, self.columns[0], path)
        found = [numbers(c, row, name, path) for c, name in zip(batch, self.columns, strict=True)]
        if self.decimals is not None:
            for column in batch:
                if isinstance(column, list):
                    self.decimals.see(column)
        return found[0] if len(found) == 1 else np.stack(found, axis=1)

    @property
    def tail(self) -> tuple[int, ...]:
        return () if len(self.columns) == 1 else (len(self.columns),)

    def finish(self, spool: Spool, class_names: Sequence[str] | None) -> tuple[tuple[str, ...] | None, float | None]:
        """Give codes their meaning; return the class names and the row tolerance."""
        names = None if class_names is None else tuple(class_names)
        if self.labels:
            lut, names = self.coder.settle(class_names)
            spool.remap(lut)
        return names, self.decimals.tolerance() if self.decimals is not None else None


def _float_type(table: Table, columns: Sequence[str]) -> np.dtype[Any]:
    for _, batch in table.batches(columns):
        arrays = [c.dtype for c in batch if not isinstance(c, list)]
        return np.result_type(*arrays) if arrays else np.dtype(np.float64)
    return np.dtype(np.float64)


def _long(table: Table, kind: Kind | None, class_names: Sequence[str] | None) -> Converted:
    columns = value_columns(table.columns, kind, table.path)
    models: dict[str, int] = {}
    samples: dict[str, int] = {}
    counts = np.zeros(0, dtype=np.int64)
    by_model = True  # rows of one model follow one another; else rows of one sample do
    for row, (model_column, sample_column) in table.batches(["model_id", "sample_id"]):
        rows = [models.setdefault(m, len(models)) for m in ids_of(model_column, row, "model_id", table.path)]
        for s in ids_of(sample_column, row, "sample_id", table.path):
            samples.setdefault(s, len(samples))
        counts = np.pad(counts, (0, len(models) - len(counts))) + np.bincount(np.asarray(rows), minlength=len(models))
        if row == 0 and len(rows) > 1:
            by_model = rows[0] == rows[1]
    model_ids, sample_ids = tuple(models), tuple(samples)
    for model, count in zip(model_ids, counts.tolist(), strict=True):
        if count != len(samples):
            raise _misaligned(table, model, samples)
    filler = _Filler(columns, table)
    m, n = len(models), len(samples)
    shape = (m, n) if by_model else (n, m)
    spool = Spool((*shape, *filler.tail), filler.dtype, table.path)
    width = math.prod(filler.tail)
    seen = np.zeros(-(-m * n // 8), dtype=np.uint8)
    for row, (model_column, sample_column, *batch) in table.batches(["model_id", "sample_id", *columns]):
        i = np.array([models[v] for v in texts(model_column)], dtype=np.int64)
        j = np.array([samples[v] for v in texts(sample_column)], dtype=np.int64)
        cells = i * n + j if by_model else j * m + i
        bits = np.left_shift(1, cells & 7).astype(np.uint8)
        again = (seen[cells >> 3] & bits) != 0
        if again.any() or len(np.unique(cells)) < len(cells):
            bad = model_ids[int(i[np.argmax(again)])] if again.any() else model_ids[int(i[_first_double(cells)])]
            raise _misaligned(table, bad, samples)
        np.bitwise_or.at(seen, cells >> 3, bits)
        values = filler.values(batch, row, table.path)
        edges = [0, *(np.flatnonzero(np.diff(cells) != 1) + 1).tolist(), len(cells)]
        for a, b in itertools.pairwise(edges):
            spool.write(int(cells[a]) * width, values[a:b])
    names, tolerance = filler.finish(spool, class_names)
    axes = ("models", "samples") if by_model else ("samples", "models")
    return Converted(spool.reader(), (*axes, *("classes",) * len(filler.tail)), model_ids, sample_ids, names, tolerance)


def _first_double(cells: Array) -> int:
    order = np.argsort(cells, kind="stable")
    return int(order[1:][np.diff(cells[order]) == 0][0])


def _misaligned(table: Table, model: str, samples: dict[str, int]) -> InvalidInputError:
    """Say which sample of a model is there twice or not at all."""
    seen: set[str] = set()
    for row, (model_column, sample_column) in table.batches(["model_id", "sample_id"]):
        for k, (m, s) in enumerate(zip(texts(model_column), texts(sample_column), strict=True)):
            if m != model:
                continue
            if s in seen:
                return InvalidInputError(
                    f"sample id {s!r} occurs twice for model {model!r}",
                    file=table.path,
                    where=f"row {row + k + 1}",
                    fix="keep one row per model and sample",
                )
            seen.add(s)
    lost = next((s for s in samples if s not in seen), "")
    return InvalidInputError(
        f"model {model!r} has no row for sample id {lost!r} ({len(seen)} of {len(samples)} samples)",
        file=table.path,
        fix="give every model the same samples",
    )


def _wide(table: Table, kind: Kind | None, class_names: Sequence[str] | None) -> Converted:
    columns = [c for c in table.columns if c != "sample_id"]
    if not columns:
        raise InvalidInputError("no column besides sample_id", file=table.path, fix="add one column per model")
    labels = _wide_labels(table, columns) if kind is None else kind == "labels"
    sample_ids: list[str] = []
    for row, (ids,) in table.batches(["sample_id"]):
        sample_ids.extend(ids_of(ids, row, "sample_id", table.path))
    _unique(sample_ids, table.path)
    kinds = table.types()
    dtype = np.dtype(np.int32 if labels else np.float64)
    if not labels and kinds is not None and all(kinds[c] == "float" for c in columns):
        dtype = _float_type(table, columns)
    m, n, coder = len(columns), len(sample_ids), LabelCoder()
    spool = Spool((n, m), dtype, table.path)
    for row, batch in table.batches(columns):
        if labels:
            found = [coder.encode(c, row, name, table.path) for c, name in zip(batch, columns, strict=True)]
        else:
            found = [numbers(c, row, name, table.path) for c, name in zip(batch, columns, strict=True)]
        spool.write(row * m, np.stack(found, axis=1))
    names = None if class_names is None else tuple(class_names)
    if labels:
        lut, names = coder.settle(class_names)
        spool.remap(lut)
    return Converted(spool.reader(), ("samples", "models"), tuple(columns), tuple(sample_ids), names)


def _wide_labels(table: Table, columns: Sequence[str]) -> bool:
    """Decide by the form of the cells: numbers with a point or exponent are P(1), all else is labels."""
    kinds = table.types()
    if kinds is not None:
        found = {kinds[c]: c for c in reversed(columns)}
        if "float" in found and len(found) > 1:
            other = next(c for k, c in found.items() if k != "float")
            raise InvalidInputError(
                f"column {found['float']!r} holds floats and column {other!r} does not",
                file=table.path,
                fix="write all columns as scores, or all as labels",
            )
        return "float" not in found
    known: set[str] = set()
    for _, batch in table.batches(columns):
        new = set().union(*batch) - known
        if any(token_type(t) == "float" and t.strip().lower() != "nan" for t in new):
            return False
        known |= new
        if len(known) > 2 * MAX_CLASSES:
            break
    return True


def _unique(ids: Sequence[str], path: str) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for k, name in enumerate(ids):
        if name in seen:
            raise InvalidInputError(
                f"sample id {name!r} occurs twice",
                file=path,
                where=f"row {k + 1}",
                fix="keep one row per sample",
            )
        seen.add(name)


# --- one table per model ------------------------------------------------------------------------------------


def model_files(
    tables: Iterable[Table], count: int, *, kind: Kind | None, class_names: Sequence[str] | None
) -> Converted:
    """Convert per-model tables (sample_id and label | p*) of the same samples in the same order."""
    tables = iter(tables)
    first = next(tables)
    columns = value_columns(first.columns, kind, first.path)
    with_ids = "sample_id" in first.columns
    ids: list[str] = []
    total = 0
    for row, (column,) in first.batches(["sample_id"] if with_ids else columns[:1]):
        total = row + len(column)
        if with_ids:
            ids.extend(ids_of(column, row, "sample_id", first.path))
    _unique(ids, first.path)
    filler = _Filler(columns, first)
    spool = Spool((count, total, *filler.tail), filler.dtype, first.path)
    for k, table in enumerate(itertools.chain([first], tables)):
        if k and value_columns(table.columns, kind, table.path) != columns:
            raise InvalidInputError(
                f"columns {_some(table.columns)}, {first.path} has {_some(first.columns)}",
                file=table.path,
                fix="write every model's file with the same columns",
            )
        if ("sample_id" in table.columns) != with_ids:
            raise InvalidInputError(
                f"{'no' if with_ids else 'a'} column sample_id, unlike {first.path}",
                file=table.path,
                fix=_NO_ID_FIX,
            )
        _one_model(table, first.path, ids if with_ids else None, total, filler, spool, k)
    names, tolerance = filler.finish(spool, class_names)
    axes = ("models", "samples", "classes")[: 2 + len(filler.tail)]
    return Converted(spool.reader(), axes, None, tuple(ids) if with_ids else None, names, tolerance)


def _one_model(
    table: Table, first: str, ids: list[str] | None, total: int, filler: _Filler, spool: Spool, model: int
) -> None:
    width, rows = math.prod(filler.tail), 0
    wanted = [*(("sample_id",) if ids is not None else ()), *filler.columns]
    for row, columns in table.batches(wanted):
        batch = columns
        if ids is not None:
            found = ids_of(columns[0], row, "sample_id", table.path)
            if found != ids[row : row + len(found)]:
                raise _other_ids(table, first, ids)
            batch = columns[1:]
        rows = row + len(batch[0])
        if rows > total:
            break
        spool.write((model * total + row) * width, filler.values(batch, row, table.path), table.path)
    if rows != total:
        if ids is not None:
            raise _other_ids(table, first, ids)
        count = sum(len(c[0]) for _, c in table.batches(wanted[:1]))
        raise InvalidInputError(
            f"{count} samples, {first} has {total}",
            file=table.path,
            fix="predict the same samples with every model",
        )


def _other_ids(table: Table, first: str, ids: list[str]) -> InvalidInputError:
    """Say how ids differ from those of the first file: doubled, missing, extra or in another order."""
    found: list[str] = []
    for row, (column,) in table.batches(["sample_id"]):
        found.extend(ids_of(column, row, "sample_id", table.path))
    try:
        _unique(found, table.path)
    except InvalidInputError as error:
        return error
    here, there = set(found), set(ids)
    if there - here:
        lost = next(i for i in ids if i not in here)
        return InvalidInputError(
            f"sample id {lost!r} of {first} is missing ({len(found)} samples, {first} has {len(ids)})",
            file=table.path,
            fix="predict the same samples with every model",
        )
    if here - there:
        k = next(k for k, i in enumerate(found) if i not in there)
        return InvalidInputError(
            f"sample id {found[k]!r} is not in {first} ({len(found)} samples, {first} has {len(ids)})",
            file=table.path,
            where=f"row {k + 1}",
            fix="predict the same samples with every model",
        )
    k = next(k for k, (a, b) in enumerate(zip(found, ids, strict=True)) if a != b)
    return InvalidInputError(
        f"the samples are in another order than in {first}: {found[k]!r} stands where {ids[k]!r} is expected",
        file=table.path,
        where=f"row {k + 1}",
        fix="sort every file the same way; a reordered file is refused, not guessed",
    )


def require_no_axes(axes: object, path: str) -> None:
    """Tables name their axes by their columns."""
    if axes is not None:
        raise UsageError(f"{path}: axes are given by the columns of a table; drop axes (--axes)")
