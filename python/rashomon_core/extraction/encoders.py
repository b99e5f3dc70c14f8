"""From rows of inputs to matrices that models take: missing values, categories, scales, pixels, words."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError

from .rows import count, is_frame, is_text

__all__ = ["Embedding", "Encoder", "Images", "Pixels", "Table", "Words"]

Array = npt.NDArray[Any]
Mode = Literal["scaled", "plain", "binned", "native"]

#: Categories beyond the most frequent ones count as unknown: a column of names must not become a million columns.
MAX_CATEGORIES = 254
_MISSING = "?"


class Encoder(Protocol):
    """What a family's rows go through before its model sees them."""

    def fit(self, X: Any) -> None:
        """Learn medians, scales and categories."""

    def transform(self, X: Any) -> Any:
        """Return one row of numbers for each row of X."""


class Table:
    """Frames and numeric arrays as one float64 matrix.

    Parameters
    ----------
    mode : str
        "plain": numbers with missing ones replaced by the median, an indicator column for every column that had
        missing values, categories one-hot. "scaled": the same with numbers at mean 0 and deviation 1. "binned":
        numbers one-hot by quantile. "native": numbers with NaN, categories as codes (``categorical`` says which
        columns), as histogram boosting takes them.
    bins : int
        Bins of a number in mode "binned".

    Notes
    -----
    Numbers are columns of a numeric or boolean type, and object columns that hold nothing but numbers. All else is a
    category by its text. A missing category is a category of its own where the fitted rows have one; categories that
    the fitted rows do not have are all zero (native: NaN). Columns of arrays with more axes are flattened.
    """

    def __init__(self, mode: Mode, bins: int = 8) -> None:
        self.mode, self.bins = mode, bins
        self.columns: list[Any] = []  # of the frame; empty for arrays
        self.width = 0
        self.numeric: list[int] = []
        self.tables: dict[int, dict[str, int]] = {}

    def fit(self, X: Any) -> None:
        """Learn medians, scales, bins and categories."""
        self.columns = list(X.columns) if is_frame(X) else []
        self.width = _width(X)
        if is_frame(X):
            self.numeric = [j for j in range(self.width) if _is_numeric(X.iloc[:, j])]
        else:
            self.numeric = list(range(self.width))
        self.tables = {j: _categories(X.iloc[:, j]) for j in range(self.width) if j not in set(self.numeric)}
        values = self._numbers(X)
        gone = np.isnan(values)
        self.gaps = np.flatnonzero(gone.any(axis=0))
        self.fill = np.zeros(values.shape[1])
        some = ~gone.all(axis=0)
        self.empty = ~some
        if some.any():
            self.fill[some] = np.nanmedian(values[:, some], axis=0)
        filled = np.where(gone, self.fill, values)
        self.shift, self.scale = np.zeros_like(self.fill), np.ones_like(self.fill)
        if self.mode == "scaled" and len(filled):
            self.shift, deviation = filled.mean(axis=0), filled.std(axis=0)
            # The deviation of a constant is rounding noise of the size of the constant.
            varies = deviation > 1e-12 * np.maximum(np.abs(self.shift), 1e-300)
            self.scale = np.where(varies, deviation, 1.0)
        if self.mode == "binned":
            shares = np.linspace(0, 1, self.bins + 1)[1:-1]
            self.edges = [_edges(v[~np.isnan(v)], shares) for v in values.T]

    @property
    def categorical(self) -> Array:
        """Which columns of the native matrix are category codes; numbers come first."""
        return np.arange(self.width) >= len(self.numeric)

    def transform(self, X: Any) -> Array:
        """Return (n, D) float64.

        Raises
        ------
        InvalidInputError
            When columns differ from the fitted ones, or a number is infinite or a text.
        """
        self._check(X)
        values = self._numbers(X)
        codes = {j: _codes(X.iloc[:, j], table) for j, table in self.tables.items()}
        if self.mode == "native":
            values[:, self.empty] = 0.0  # boosting cannot bin a column without a single value
            floats = [np.where(c < 0, np.nan, c.astype(np.float64)) for c in codes.values()]
            return np.column_stack([values, *floats]) if floats else values
        gone = np.isnan(values)
        blocks: list[Array] = []
        if self.mode == "binned":
            for k, edges in enumerate(self.edges):
                bins = np.searchsorted(edges, values[:, k], "right")
                blocks.append(_one_hot(np.where(gone[:, k], -1, bins), len(edges) + 1))
        else:
            blocks.append((np.where(gone, self.fill, values) - self.shift) / self.scale)
        blocks.append(gone[:, self.gaps].astype(np.float64))
        blocks += [_one_hot(codes[j], len(table)) for j, table in self.tables.items()]
        return np.concatenate(blocks, axis=1)

    def _check(self, X: Any) -> None:
        names = list(X.columns) if is_frame(X) else []
        if names != self.columns:
            unlike = [str(n) for n in [*names, *self.columns] if (n in names) != (n in self.columns)]
            what = f"columns {', '.join(unlike[:5])}" if unlike else "order of the columns"
            raise InvalidInputError(f"{what} differ from the rows that the surrogate was fitted on")
        if _width(X) != self.width:
            raise InvalidInputError(f"rows have {_width(X)} columns and the surrogate was fitted on {self.width}")

    def _numbers(self, X: Any) -> Array:
        """Return the numeric columns, (n, p) float64 with NaN for what is missing."""
        if is_frame(X):
            columns = [_as_numbers(X.iloc[:, j], X.columns[j]) for j in self.numeric]
            values = np.column_stack(columns) if columns else np.empty((len(X), 0))
        else:
            values = np.asarray(X).reshape(len(X), -1).astype(np.float64)
        if np.isinf(values).any():
            row, column = np.argwhere(np.isinf(values))[0].tolist()
            name = self.columns[self.numeric[column]] if self.columns else column
            raise InvalidInputError("an input is infinite", where=f"row {row}, column {name}")
        return values


class Images:
    """Images (N, H, W) or (N, H, W, channels) as float32 (N, channels, H, W), each channel at mean 0 and deviation 1.

    Mean and deviation are those of the fitted images.
    """

    def fit(self, X: Any) -> None:
        """Learn the mean and the deviation of each channel."""
        self.shape = X.shape[1:]
        if len(self.shape) not in (2, 3):
            raise InvalidInputError(f"images have shape {X.shape}", fix="give (N, H, W) or (N, H, W, channels)")
        planes = X.reshape(len(X), *X.shape[1:3], -1)
        self.shift = planes.mean(axis=(0, 1, 2), dtype=np.float64)
        deviation = planes.std(axis=(0, 1, 2), dtype=np.float64)
        self.scale = np.where(deviation > 0, deviation, 1.0)

    def transform(self, X: Any) -> Array:
        """Return (n, channels, H, W) float32."""
        _same_shape(X, self.shape)
        planes = X.reshape(len(X), *X.shape[1:3], -1)
        scaled = (planes - self.shift.astype(np.float32)) / self.scale.astype(np.float32)
        return np.ascontiguousarray(np.moveaxis(scaled.astype(np.float32, copy=False), 3, 1))


class Pixels:
    """Images as float32 (N, H * W * channels): each channel at mean 0 and deviation 1."""

    def __init__(self) -> None:
        self.images = Images()

    def fit(self, X: Any) -> None:
        """Learn the mean and the deviation of each channel."""
        self.images.fit(X)

    def transform(self, X: Any) -> Array:
        """Return (n, H * W * channels) float32."""
        return self.images.transform(X).reshape(len(X), -1)


class Words:
    """Texts as a sparse matrix of TF-IDF weights (scikit-learn), rows of length 1."""

    def __init__(self, ngrams: int, features: int, min_count: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(
            ngram_range=(1, ngrams), max_features=features, min_df=min_count, sublinear_tf=True
        )

    def fit(self, X: Any) -> None:
        """Learn the vocabulary."""
        _texts(X)
        try:
            self.vectorizer.fit(X)
        except ValueError as error:
            raise InvalidInputError(f"the texts give no vocabulary ({error})") from error

    def transform(self, X: Any) -> Any:
        """Return (n, features) sparse float64."""
        return self.vectorizer.transform(_texts(X))


class Embedding:
    """Texts as sentence embeddings (N, 384) float32; rows that are embeddings already pass through."""

    def fit(self, X: Any) -> None:
        """Learn nothing: the network that embeds is fixed."""

    def transform(self, X: Any) -> Array:
        """Return (n, 384) float32."""
        from .embedding import WIDTH, embed

        if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == WIDTH and X.dtype.kind == "f":
            return X.astype(np.float32)
        vectors: Array = embed(_texts(X))
        return vectors


def _texts(X: Any) -> Any:
    if not is_text(X):
        raise InvalidInputError("this family takes texts", fix="give a one-dimensional array of strings")
    return X


def _same_shape(X: Any, shape: tuple[int, ...]) -> None:
    if X.shape[1:] != shape:
        raise InvalidInputError(f"inputs have shape {X.shape[1:]} and the surrogate was fitted on {shape}")


def _width(X: Any) -> int:
    if is_text(X):
        raise InvalidInputError(
            "texts cannot be read as a table", fix="take a family for texts, such as tfidf_logistic"
        )
    return int(X.shape[1]) if is_frame(X) else int(np.prod(X.shape[1:]))


def _one_hot(codes: Array, width: int) -> Array:
    """Return (n, width) float64; negative codes give a row of zeros."""
    out = np.zeros((len(codes), width))
    rows = np.flatnonzero(codes >= 0)
    out[rows, codes[rows]] = 1.0
    return out


def _is_numeric(column: Any) -> bool:
    if column.dtype.kind in "biuf":
        return True
    if column.dtype != object:  # text, categories, dates
        return False
    present = column[column.notna()]
    return len(present) > 0 and all(isinstance(v, (bool, int, float, np.number, np.bool_)) for v in present)


def _as_numbers(column: Any, name: object) -> Array:
    if column.dtype.kind in "biuf" or _is_numeric(column) or not count(column.dropna()):
        return np.asarray(column.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
    raise InvalidInputError(f"column {name} held numbers when the surrogate was fitted and now holds {column.dtype}")


def _text(value: object) -> str:
    """Text of a category: numbers by value, so that 1 and 1.0 are one category, and never the text "1"."""
    number = isinstance(value, (bool, int, float, np.number, np.bool_))
    return repr(float(value)) if number else f"'{value}"  # type: ignore[arg-type]


def _categories(column: Any) -> dict[str, int]:
    """Return text -> code of the most frequent categories, in the order of the texts."""
    texts = (_text(v) for v in column[column.notna()].tolist())
    found = Counter(texts)
    if bool(column.isna().any()):
        found[_MISSING] = int(column.isna().sum())
    kept = sorted(found, key=lambda text: (-found[text], text))[:MAX_CATEGORIES]
    return {text: code for code, text in enumerate(sorted(kept))}


def _codes(column: Any, table: dict[str, int]) -> Array:
    """Return (n,) codes; -1 for categories that the table does not have."""
    import pandas as pd

    codes, unique = pd.factorize(column)  # -1: missing, hence the last entry of the list below
    known = [table.get(_text(v), -1) for v in unique.tolist()]
    lookup: Array = np.array([*known, table.get(_MISSING, -1)], dtype=np.int64)
    return np.asarray(lookup[codes])


def _edges(values: Array, shares: Array) -> Array:
    return np.unique(np.quantile(values, shares)) if len(values) else np.empty(0)
