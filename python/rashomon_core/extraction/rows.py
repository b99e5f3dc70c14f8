"""Rows of model inputs, whatever holds them: numeric arrays, frames, lists of texts, stacks of images.

An input container has one input per row: a NumPy array (N, ...), a pandas DataFrame, or a one-dimensional array of
strings. Nothing else in the library looks inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError

__all__ = ["as_rows", "concat", "count", "is_frame", "is_text", "row_hashes", "take"]

Array = npt.NDArray[Any]


def is_frame(X: Any) -> bool:
    """Return whether X is a pandas DataFrame (pandas is not imported for the question)."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def is_text(X: Any) -> bool:
    """Return whether X is a one-dimensional array of strings."""
    return isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "OUT"


def as_rows(X: Any, name: str = "X") -> Any:
    """Return X as a container of rows: frames and arrays as they are, lists as arrays.

    Raises
    ------
    InvalidInputError
        When X has no rows axis, or holds numbers that are complex or texts among numbers.

    Examples
    --------
    >>> from rashomon_core.extraction.rows import as_rows
    >>> as_rows([[1, 2], [3, 4]]).shape, as_rows(["a", "bc"]).dtype
    ((2, 2), dtype('O'))
    """
    if is_frame(X):
        return X.reset_index(drop=True)
    if hasattr(X, "to_numpy") and not isinstance(X, np.ndarray):
        X = X.to_numpy()
    array = np.asarray(X)
    if array.ndim == 0:
        raise InvalidInputError(f"{name} is one value and not rows of inputs", fix="give (N, ...) rows")
    if array.dtype.kind in "OUT" and array.ndim == 1:
        if not all(isinstance(text, str) for text in array.tolist()):
            raise InvalidInputError(f"{name} is one-dimensional and not all of it is text", fix="give (N, D) rows")
        return array.astype(object)
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} has dtype {array.dtype}", fix="numbers as an array, mixed columns as a pandas DataFrame"
        )
    if array.ndim == 1:
        raise InvalidInputError(f"{name} has shape {array.shape}", fix="one input per row: (N, D)")
    return array


def count(X: Any) -> int:
    """Return the number of rows."""
    return len(X)


def take(X: Any, rows: Any) -> Any:
    """Return the rows with these indices (or under this mask), as a container of the same kind."""
    return X.iloc[rows].reset_index(drop=True) if is_frame(X) else X[rows]


def concat(parts: Sequence[Any]) -> Any:
    """Return containers of one kind, one after another.

    Frames must have the same columns; columns keep the type of the first frame where they can.
    """
    if not parts:
        raise UsageError("nothing to put together")
    if len(parts) == 1:
        return parts[0]
    if not is_frame(parts[0]):
        return np.concatenate(parts)
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def row_hashes(X: Any) -> list[str]:
    """Return a digest of each row, 32 hexadecimal digits: equal inputs have equal digests.

    Numbers count by value (1 and 1.0 and a float32 1 are the same input), missing values of any kind are one value,
    and -0.0 is 0.0. Texts count as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.rows import row_hashes
    >>> row_hashes(np.array([[1, 2]])) == row_hashes(np.array([[1.0, 2.0]]))
    True
    """
    if is_frame(X):
        columns = [_column_texts(X.iloc[:, j]) for j in range(X.shape[1])]
        lines = ["\x1f".join(row) for row in zip(*columns, strict=True)] if columns else [""] * len(X)
        return [_digest(line.encode("utf-8", "surrogatepass")) for line in lines]
    if is_text(X):
        return [_digest(str(text).encode("utf-8", "surrogatepass")) for text in X]
    if not len(X):
        return []
    values = np.ascontiguousarray(X, dtype=np.float64).reshape(len(X), -1) + 0.0  # -0.0 becomes 0.0
    values[np.isnan(values)] = np.nan
    return [_digest(row.tobytes()) for row in values]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _column_texts(column: Any) -> list[str]:
    """One text per value: numbers by value, texts marked as such, so that the text "1" is not the number 1."""
    if column.dtype.kind in "biuf":
        return [_number(v) for v in np.asarray(column, dtype=np.float64).tolist()]
    missing = np.asarray(column.isna())
    return ["?" if gone else _value(v) for v, gone in zip(column.tolist(), missing, strict=True)]


def _value(v: object) -> str:
    return _number(float(v)) if isinstance(v, (bool, int, float, np.number, np.bool_)) else f"'{v}"


def _number(v: float) -> str:
    return "?" if v != v else repr(v + 0.0)
