"""What the one who asks knows of the inputs: ranges, marginals and categories of the columns of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError, suggestion

from .rows import as_rows, concat, is_frame, is_text

__all__ = ["Category", "FeatureSpace", "OneHotGroup"]

Array = npt.NDArray[Any]

#: Numbers held at a time where a column-wise visit of a pool needs them as float64.
CHUNK = 4_000_000
#: Columns of the hashed TF-IDF encoding of texts.
TEXT_COLUMNS = 256


@dataclass(frozen=True, eq=False)
class Category:
    """One categorical column: the values seen in the pool, by first appearance, and the share of rows of each.

    Attributes
    ----------
    column : int
        Position of the column.
    values : (v,) array
        Missing is not among them; `missing` is its share.
    share : (v,) float64
    rows : (v,) int64
        A pool row that holds each value.
    """

    column: int
    values: Array
    share: Array
    rows: Array
    missing: float


@dataclass(frozen=True, eq=False)
class OneHotGroup:
    """Dummy columns that are one category: positions, share of pool rows of each, and a row where it is 1 (-1: none).

    Attributes
    ----------
    columns : (g,) int64
    share : (g,) float64
    rows : (g,) int64
    """

    columns: Array
    share: Array
    rows: Array


class FeatureSpace:
    """Ranges, moments, marginals and categories of the columns of a pool; made by :meth:`from_pool`.

    Attributes
    ----------
    kind : "array", "frame" or "text"
    numeric : (k,) int64
        Positions of the numeric columns (of the flattened input, where inputs have more than one dimension).
    low, high, mean, std : (k,) float64
        Of the values that are not missing; NaN for a column that is missing in every row. `std` has ddof 0.
    whole : (k,) bool
        Columns of an integer (or, in arrays, Boolean) dtype: whatever is sampled for them is rounded.
    missing : (k,) float64
        Share of rows where the column is missing.
    categories : tuple of Category
    groups : tuple of OneHotGroup

    Notes
    -----
    The space keeps a reference to the pool: its marginals are the pool's columns. Numbers pass through float64, so
    integers beyond 2**53 are sampled to that precision.
    """

    def __init__(self, pool: Any, categories: Sequence[Any] | None, one_hot: Sequence[Sequence[Any]] | None) -> None:
        self._pool = pool = as_rows(pool, "pool")
        self.n_pool = len(pool)
        if self.n_pool == 0:
            raise InvalidInputError("the pool has no rows", fix="give at least one example of an input")
        self.kind = "text" if is_text(pool) else "frame" if is_frame(pool) else "array"
        self.shape: tuple[int, ...] = () if self.kind == "text" else tuple(pool.shape[1:])
        self.n_columns = int(np.prod(self.shape, dtype=np.int64)) if self.kind != "text" else 0
        self.columns: list[Any] | None = list(pool.columns) if self.kind == "frame" else None
        self._tfidf: Any = None
        if self.kind == "text":
            if categories or one_hot:
                raise UsageError("texts have no columns: categories= and one_hot= do not apply")
            self._tokens = [word for text in pool for word in text.split()]
            self._lengths = np.array([len(text.split()) for text in pool], dtype=np.int64)
        elif self.n_columns == 0:
            raise InvalidInputError("the pool has no columns", fix="give (N, D) rows with D >= 1")
        if (categories or one_hot) and len(self.shape) > 1:
            raise UsageError(f"inputs of shape {self.shape} have numeric pixels only: no categories=, no one_hot=")
        self._read_columns(categories or (), one_hot or ())

    @classmethod
    def from_pool(
        cls, X: Any, *, categories: Sequence[Any] | None = None, one_hot: Sequence[Sequence[Any]] | None = None
    ) -> FeatureSpace:
        """Return the space of a pool of inputs.

        Parameters
        ----------
        X : (N, ...) array, DataFrame, or (N,) array of texts
            Arrays are numeric in every column, each pixel a column where inputs have more dimensions. Of frames,
            columns of dtype object, string, category or bool are categories, numbers are numeric.
        categories : columns, optional
            Further columns that are categories though they hold numbers: names of a frame, positions in an array.
        one_hot : groups of columns, optional
            Each group is one category, coded in dummy columns with exactly one 1 in every row. They are sampled as
            such: a point inside the box on dummy columns is no input. Nothing is detected by itself; see
            :meth:`detect_one_hot`.

        Raises
        ------
        InvalidInputError
            For an empty pool, infinite values, columns that are neither numbers nor categories (dates), and rows of a
            one-hot group that have not exactly one 1.
        UsageError
            For columns that do not exist, or stand in two places.

        Notes
        -----
        O(N D). A missing value is sampled by :meth:`marginals` as often as the pool has it; boxes, Gaussians and the
        moments know nothing of it.

        Examples
        --------
        >>> import numpy as np
        >>> from rashomon_core.extraction.space import FeatureSpace
        >>> space = FeatureSpace.from_pool(np.array([[0.0, 1, 0], [4.0, 0, 1], [2.0, 0, 1]]), one_hot=[[1, 2]])
        >>> space.low.tolist(), space.high.tolist(), space.groups[0].share.round(2).tolist()
        ([0.0], [4.0], [0.33, 0.67])
        >>> space.box(100, np.random.default_rng(0))[:, 1:].sum(axis=1).tolist() == [1.0] * 100
        True
        """
        return cls(X, categories, one_hot)

    @staticmethod
    def detect_one_hot(X: Any) -> list[list[Any]]:
        """Return runs of neighbouring 0/1 columns with exactly one 1 in every row, for `one_hot=`.

        A guess from values, so read it before it is used: two neighbouring columns that happen to be complements look
        the same. Runs are taken from the left, each as short as it can be; the first and the last column of a run are
        1 somewhere. Positions for arrays, names for frames. O(N D).

        Examples
        --------
        >>> from rashomon_core.extraction.space import FeatureSpace
        >>> FeatureSpace.detect_one_hot([[7, 1, 0, 0], [8, 0, 0, 1], [9, 0, 1, 0]])
        [[1, 2, 3]]
        """
        X = as_rows(X)
        if is_text(X) or len(X.shape) != 2 or len(X) == 0:
            return []
        names = list(X.columns) if is_frame(X) else list(range(X.shape[1]))
        found: list[list[Any]] = []
        start = 0
        while start < len(names):
            total, stop, last = np.zeros(len(X)), start, -1
            while stop < len(names):
                column = _numbers_of(X, stop)
                if column is None or not np.isin(column, (0.0, 1.0)).all() or (column.any() == 0 and stop == start):
                    break
                total += column
                stop += 1
                if total.max() > 1:
                    break
                if total.min() == 1:
                    last = stop
                    break
            if last - start >= 2:
                found.append(names[start:last])
                start = last
            else:
                start += 1
        return found

    # ------------------------------------------------------------------------------------------ samples

    def box(self, n: int, rng: np.random.Generator) -> Any:
        """Return n points uniform in the box: numbers between the pool's extremes, categories with equal chances.

        Never missing, save a column of which the pool has no value at all.
        """
        self._needs_columns("a uniform box")
        u = rng.random((n, len(self.numeric)))
        values = np.where(self.whole, np.floor(self.low + u * (self.high - self.low + 1)), (1 - u) * self.low)
        values += np.where(self.whole, 0.0, u * self.high)
        return self.with_numbers(self._categorical(n, rng, uniform=True), values, clip=True)

    def gaussian(self, n: int, rng: np.random.Generator, *, clip: bool = False) -> Any:
        """Return n points with independent normal numbers (the pool's mean and deviation) and categories by frequency.

        `clip` keeps numbers inside the box. Never missing, as :meth:`box`.
        """
        self._needs_columns("a Gaussian")
        values = self.mean + self.std * rng.standard_normal((n, len(self.numeric)))
        return self.with_numbers(self._categorical(n, rng, uniform=False), values, clip=clip)

    def marginals(self, n: int, rng: np.random.Generator) -> Any:
        """Return n points whose columns are drawn independently from the pool, missing values and all.

        A one-hot group counts as one column. Texts: independent words, that is, a length and that many words, each
        drawn from the pool's frequencies.
        """
        if self.kind == "text":
            lengths = self._lengths[rng.integers(0, self.n_pool, n)]
            words = rng.integers(0, max(1, len(self._tokens)), int(lengths.sum()))
            ends = np.concatenate([[0], np.cumsum(lengths)])
            texts = np.empty(n, dtype=object)
            for i in range(n):
                texts[i] = " ".join(self._tokens[j] for j in words[ends[i] : ends[i + 1]])
            return texts
        units = len(self.numeric) + len(self.categories) + len(self.groups)
        step = max(1, CHUNK // units)
        return concat(
            [
                self._gather(self._pool, rng.integers(0, self.n_pool, (min(step, n - first), units)))
                for first in range(0, max(n, 1), step)
            ]
        )

    def mix(self, A: Any, B: Any, share: Array, rng: np.random.Generator) -> Any:
        """Return share * A + (1 - share) * B, row by row, for numbers; each category comes whole from one parent.

        It comes from A with probability `share`, drawn for each column (or one-hot group). Where one parent lacks a
        number, the result takes that column from one parent in the same way. Whole columns are rounded.
        """
        self._needs_columns("a mixture")
        a, b, n, k = self.numbers(A), self.numbers(B), len(A), len(self.numeric)
        from_a = rng.random((n, k + len(self.categories) + len(self.groups))) < share[:, None]
        values = share[:, None] * a + (1 - share[:, None]) * b
        values = np.where(np.isnan(a) | np.isnan(b), np.where(from_a[:, :k], a, b), values)
        own = np.arange(n)[:, None]
        return self.with_numbers(self._gather(concat([A, B]), np.where(from_a, own, n + own)), values, clip=False)

    # ------------------------------------------------------------------------------------------ numbers

    def numbers(self, X: Any) -> Array:
        """Return the numeric columns of rows of this space, (n, k) float64, NaN where missing."""
        self.check(X)
        if self.kind == "text":
            return np.empty((len(X), 0))
        if self.kind == "array":
            return np.asarray(X.reshape(len(X), self.n_columns)[:, self.numeric], dtype=np.float64)
        columns = [_floats(X.iloc[:, j]) for j in self.numeric]
        return np.column_stack(columns) if columns else np.empty((len(X), 0))

    def with_numbers(self, X: Any, values: Array, *, clip: bool) -> Any:
        """Return a copy of X with other numbers in its numeric columns; whole columns are rounded (half to even).

        Values outside what a dtype can hold become its extremes; `clip`: values outside the box those of the box.
        """
        values = np.where(self.whole, np.rint(values), values)
        values = np.clip(values, self._least, self._most)
        if clip:
            values = np.clip(values, self.low, self.high)
        if self.kind == "array":
            out = np.array(X).reshape(len(X), self.n_columns)
            out[:, self.numeric] = values
            return out.reshape(np.shape(X))
        import pandas as pd

        data = {j: X.iloc[:, j] for j in range(self.n_columns)}
        for at, j in enumerate(self.numeric.tolist()):
            data[j] = pd.Series(values[:, at]).astype(self._pool.dtypes.iloc[j])
        return self._frame(data)

    def encode(self, X: Any, scale: str | None = None) -> Array:
        """Return rows as points for distances, (n, d) float64.

        Numbers are standardised with the pool's mean and deviation (a missing one is the mean, so 0; a constant column
        is only centred), each value of a category is a 0/1 column (missing and unseen values are 0 in all), one-hot
        groups stay as they are. Texts: hashed TF-IDF of words, 256 columns, unit length (needs scikit-learn).

        Parameters
        ----------
        X : n rows
        scale : "column" or "common", optional
            Divide each numeric column by its own deviation, or all by one, the root of the mean variance: where columns
            share a unit, a rarely used one should not weigh as much as the others. Default: "common" for pixels (inputs
            of more than one dimension), else "column".

        Raises
        ------
        InvalidInputError
            When X has other columns than the pool.
        """
        if scale not in (None, "column", "common"):
            raise UsageError(f"scale is {scale!r}, it is 'column' or 'common'")
        self.check(X)
        if self.kind == "text":
            return self._encode_texts(X)
        std = np.nan_to_num(self.std)
        if scale == "common" or (scale is None and len(self.shape) > 1):
            std = np.full(std.shape, np.sqrt(np.mean(std**2)) if len(std) else 1.0)
        parts = [np.nan_to_num((self.numbers(X) - np.nan_to_num(self.mean)) / np.where(std > 0, std, 1.0))]
        for category in self.categories:
            column = X.iloc[:, category.column] if self.kind == "frame" else X[:, category.column]
            codes = _codes(column, category.values)
            parts.append((codes[:, None] == np.arange(len(category.values))).astype(np.float64))
        for group in self.groups:
            parts.append(np.column_stack([_floats_of(X, j) for j in group.columns]))
        return np.concatenate(parts, axis=1)

    # ------------------------------------------------------------------------------------------ inside

    def _read_columns(self, categories: Sequence[Any], one_hot: Sequence[Sequence[Any]]) -> None:
        pool = self._pool
        taken: set[int] = set()

        def positions(keys: Sequence[Any], what: str) -> list[int]:
            if isinstance(keys, (str, bytes)):
                raise UsageError(f"{what} is one text; give a list of columns")
            places = [self._position(key, what) for key in keys]
            if len(set(places)) < len(places) or taken & set(places):
                raise UsageError(f"{what}: a column stands in two places among categories= and one_hot=")
            taken.update(places)
            return places

        named = positions(categories, "categories=")
        groups = [positions(group, "one_hot=") for group in one_hot]
        if self.kind == "frame":
            from pandas.api import types

            for j, dtype in enumerate(pool.dtypes):
                if j in taken:
                    continue
                if types.is_bool_dtype(dtype) or not types.is_any_real_numeric_dtype(dtype):
                    if types.is_datetime64_any_dtype(dtype) or dtype.kind in "mMc":
                        raise InvalidInputError(
                            f"column {pool.columns[j]!r} has dtype {dtype}", fix="turn it into numbers or categories"
                        )
                    named.append(j)
                    taken.add(j)
        self.numeric = np.array([j for j in range(self.n_columns) if j not in taken], dtype=np.int64)
        self._read_numbers()
        self.categories = tuple(self._category(j) for j in sorted(named))
        self.groups = tuple(self._group(group) for group in groups)

    def _position(self, key: Any, what: str) -> int:
        if self.columns is None:
            if not isinstance(key, (int, np.integer)) or not 0 <= key < self.n_columns:
                raise UsageError(f"{what}: {key!r} is no column of an array with columns 0 to {self.n_columns - 1}")
            return int(key)
        places = [j for j, name in enumerate(self.columns) if name == key]
        if len(places) != 1:
            hint = "" if places else suggestion(key, self.columns)
            raise UsageError(f"{what}: {key!r} names {len(places)} columns of the frame{hint}")
        return places[0]

    def _read_numbers(self) -> None:
        k = len(self.numeric)
        self.low, self.high, self.mean, self.std, self.missing = (np.full(k, np.nan) for _ in range(5))
        step = max(1, CHUNK // self.n_pool)
        for first in range(0, k, step):
            places = self.numeric[first : first + step]
            if self.kind == "array":
                block = np.asarray(self._pool.reshape(self.n_pool, -1)[:, places], dtype=np.float64)
            else:
                block = np.column_stack([_floats(self._pool.iloc[:, j]) for j in places])
            if np.isinf(block).any():
                row, at = np.argwhere(np.isinf(block))[0]
                where = f"row {row}, column {places[at]}"
                raise InvalidInputError("the pool has an infinite value", where=where, value=block[row, at])
            own = slice(first, first + len(places))
            gone = np.isnan(block)
            present = self.n_pool - gone.sum(axis=0)
            some = np.where(present > 0, 1.0, np.nan)
            count = np.maximum(present, 1)
            self.missing[own] = 1 - present / self.n_pool
            self.low[own] = np.where(gone, np.inf, block).min(axis=0) * some
            self.high[own] = np.where(gone, -np.inf, block).max(axis=0) * some
            # Less its lowest value: a constant column has exactly its value as mean, and deviation 0.
            shift = np.where(gone, 0.0, block - np.nan_to_num(self.low[own]))
            offset = shift.sum(axis=0) / count
            self.mean[own] = (np.nan_to_num(self.low[own]) + offset) * some
            self.std[own] = np.sqrt((np.where(gone, 0.0, shift - offset) ** 2).sum(axis=0) / count) * some
        dtypes = [self._pool.dtypes.iloc[j] for j in self.numeric] if self.kind == "frame" else []
        if self.kind == "array":
            dtypes = [self._pool.dtype]
        limits = [_limits(getattr(dtype, "numpy_dtype", dtype)) for dtype in dtypes]
        least, most, whole = (np.array([x[i] for x in limits]) for i in range(3))
        self._least, self._most = (np.broadcast_to(x, k).astype(np.float64) for x in (least, most))
        self.whole = np.broadcast_to(whole, k).astype(bool)

    def _category(self, j: int) -> Category:
        if self.kind == "array":
            column = self._pool[:, j]
            values, rows, counts = np.unique(column, return_index=True, return_counts=True)
            keep = ~np.isnan(values) if column.dtype.kind == "f" else np.ones(len(values), dtype=bool)
            values, rows, counts = values[keep], rows[keep], counts[keep]
            order = np.argsort(rows)
            values, rows, counts = values[order], rows[order], counts[order]
        else:
            import pandas as pd

            codes, uniques = pd.factorize(self._pool.iloc[:, j])
            values = np.asarray(uniques, dtype=object)
            seen, rows, counts = np.unique(codes, return_index=True, return_counts=True)
            rows, counts = rows[seen >= 0], counts[seen >= 0]
        known = max(1, int(counts.sum()))
        return Category(j, values, counts / known, rows.astype(np.int64), 1 - int(counts.sum()) / self.n_pool)

    def _group(self, columns: list[int]) -> OneHotGroup:
        if len(columns) < 2:
            raise UsageError("one_hot=: a group needs at least two columns")
        block = np.column_stack([_floats_of(self._pool, j) for j in columns])
        bad = ~np.isin(block, (0.0, 1.0)).all(axis=1) | (block.sum(axis=1) != 1)
        if bad.any():
            row = int(bad.argmax())
            raise InvalidInputError(
                f"columns {columns} are not one-hot: {int(bad.sum())} rows have not exactly one 1",
                where=f"row {row}",
                value=block[row].tolist(),
            )
        rows = np.where(block.any(axis=0), block.argmax(axis=0), -1)
        return OneHotGroup(np.array(columns, dtype=np.int64), block.mean(axis=0), rows.astype(np.int64))

    def _categorical(self, n: int, rng: np.random.Generator, *, uniform: bool) -> Any:
        """Rows with their categories drawn; what stands in the numeric columns is to be replaced."""
        rows = np.zeros((n, len(self.numeric) + len(self.categories) + len(self.groups)), dtype=np.int64)
        units: tuple[Category | OneHotGroup, ...] = (*self.categories, *self.groups)
        for at, unit in enumerate(units, start=len(self.numeric)):
            seen = np.flatnonzero(unit.share > 0)
            if len(seen):  # a column that is missing everywhere stays so
                share = None if uniform else unit.share[seen] / unit.share[seen].sum()
                rows[:, at] = unit.rows[seen][rng.choice(len(seen), size=n, p=share)]
        return self._gather(self._pool, rows)

    def _gather(self, source: Any, rows: Array) -> Any:
        """Put inputs together: a row of `source` for each numeric column, category and group, in this order."""
        k, c = len(self.numeric), len(self.categories)
        if self.kind == "array":
            flat = source.reshape(len(source), self.n_columns)
            out = np.empty((len(rows), self.n_columns), dtype=source.dtype)
            out[:, self.numeric] = flat[rows[:, :k], self.numeric]
            for at, category in enumerate(self.categories):
                out[:, category.column] = flat[rows[:, k + at], category.column]
            for at, group in enumerate(self.groups):
                out[:, group.columns] = flat[rows[:, k + c + at, None], group.columns]
            return out.reshape(len(rows), *self.shape)
        place = {int(j): at for at, j in enumerate(self.numeric)}
        place |= {category.column: k + at for at, category in enumerate(self.categories)}
        place |= {int(j): k + c + at for at, group in enumerate(self.groups) for j in group.columns}
        return self._frame({j: source.iloc[:, j].array.take(rows[:, place[j]]) for j in range(self.n_columns)})

    def _frame(self, data: dict[int, Any]) -> Any:
        import pandas as pd

        dtypes = self._pool.dtypes  # stated, because pandas 3 turns object columns of texts into its own text dtype
        frame = pd.DataFrame({j: pd.Series(data[j], dtype=dtypes.iloc[j]) for j in range(self.n_columns)})
        frame.columns = self._pool.columns
        return frame

    def _encode_texts(self, X: Any) -> Array:
        try:
            from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
        except ImportError:
            raise MissingDependencyError("scikit-learn", "encoding texts", "audit") from None
        hashing = HashingVectorizer(n_features=TEXT_COLUMNS, norm=None, alternate_sign=False)
        if self._tfidf is None:
            self._tfidf = TfidfTransformer().fit(hashing.transform(self._pool))
        return np.asarray(self._tfidf.transform(hashing.transform(X)).toarray(), dtype=np.float64)

    def _needs_columns(self, what: str) -> None:
        if self.kind == "text":
            raise UsageError(f"{what} needs columns of numbers or categories; texts have pool strategies and marginals")

    def check(self, X: Any) -> None:
        """Raise InvalidInputError unless X has the columns of the pool."""
        kind = "text" if is_text(X) else "frame" if is_frame(X) else "array"
        if kind != self.kind:
            raise InvalidInputError(f"inputs are of kind {kind}, the pool is of kind {self.kind}")
        if self.kind == "frame" and list(X.columns) != self.columns:
            raise InvalidInputError("inputs have other columns than the pool", value=list(X.columns))
        if self.kind == "array" and tuple(X.shape[1:]) != self.shape:
            raise InvalidInputError(f"inputs have shape {X.shape[1:]}, those of the pool {self.shape}")


def _limits(dtype: Any) -> tuple[float, float, bool]:
    """Least and largest number of a dtype that float64 can hold too, and whether it holds whole numbers only."""
    if dtype.kind == "b":
        return 0.0, 1.0, True
    if dtype.kind in "iu":
        most = float(np.iinfo(dtype).max)
        return float(np.iinfo(dtype).min), most if int(most) <= np.iinfo(dtype).max else np.nextafter(most, 0), True
    return float(np.finfo(dtype).min), float(np.finfo(dtype).max), False


def _floats(column: Any) -> Array:
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _numbers_of(X: Any, j: int) -> Array | None:
    """A column as float64, or None where it holds anything but numbers."""
    if not is_frame(X):
        return np.asarray(X[:, j], dtype=np.float64)
    column = X.iloc[:, j]
    return _floats(column) if getattr(column.dtype, "kind", "O") in "biuf" else None


def _floats_of(X: Any, j: int) -> Array:
    column = _numbers_of(X, int(j))
    if column is None:
        raise InvalidInputError(f"column {X.columns[j]!r} of a one-hot group holds no numbers")
    return column


def _codes(column: Any, values: Array) -> Array:
    """Position of each value among `values`, -1 for missing and unseen ones."""
    where = {value: at for at, value in enumerate(values.tolist())}
    cells = column.tolist()
    return np.array([where.get(cell, -1) for cell in cells], dtype=np.int64)
