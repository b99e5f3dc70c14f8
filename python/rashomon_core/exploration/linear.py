"""Linear classifiers of two classes, ranges of values over a set of them, and what they are fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError

from .networks import check_finite

__all__ = ["LinearModel", "Ranges", "as_matrix", "as_probabilities", "sigmoid"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear classifier of two classes, as scikit-learn's.

    Attributes
    ----------
    coef_ : (1, d) float64
    intercept_ : (1,) float64
    classes_ : (2,)
    loss : float
        On the data of the set, penalty included.
    name : str
        Of which row or gap it is an extreme: "row 3 low".
    """

    coef_: Array
    intercept_: Array
    classes_: Array
    loss: float
    name: str

    def decision_function(self, X: object) -> Array:
        """Return the (N,) logits."""
        rows = as_matrix(X, "X", self.coef_.shape[1])
        return np.asarray(rows @ self.coef_[0] + self.intercept_[0])

    def predict_proba(self, X: object) -> Array:
        """Return the (N, 2) probabilities."""
        z = self.decision_function(X)
        return np.stack([sigmoid(-z), sigmoid(z)], axis=1)

    def predict(self, X: object) -> Array:
        """Return the (N,) classes; a tie goes to the first."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(np.intp)])


@dataclass(frozen=True, eq=False)
class Ranges:
    """Smallest and largest values over a set, each between what a model attains and what no model can pass.

    Attributes
    ----------
    low, high : (N,) float64
        Values that members of the set attain.
    low_bound, high_bound : (N,) float64
        No member of the set is below or above them (Lagrangian dual bound, with an allowance for rounding).
    status : (N,) str
        "certified": both bounds are within ``tol`` of what is attained; "precision_limit": they are not;
        "unbounded": without a penalty the data say nothing about this direction, and the range is infinite.
    newton : (N,) int64
        Newton steps, or solver iterations with cvxpy.
    """

    low: Array
    high: Array
    low_bound: Array
    high_bound: Array
    status: Array
    newton: Array

    @property
    def p_low(self) -> Array:
        """Smallest P(class 1) of each row, where the values are logits."""
        return sigmoid(self.low)

    @property
    def p_high(self) -> Array:
        """Largest P(class 1) of each row, where the values are logits."""
        return sigmoid(self.high)

    @property
    def max_gap(self) -> float:
        """Largest distance between a bound and what is attained, over the bounded rows."""
        finite = self.status != "unbounded"
        below, above = (self.low[finite] - self.low_bound[finite]), (self.high_bound[finite] - self.high[finite])
        return float(np.maximum(below, above).max(initial=0.0))


def as_matrix(X: object, what: str, width: int | None = None) -> Array:
    """Return (N, width) finite float64 rows."""
    rows = np.asarray(X)
    if rows.dtype.kind not in "fbiu":
        raise InvalidInputError(f"{what} must be numbers, got {rows.dtype}", fix="encode categories as numbers first")
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise InvalidInputError(f"{what} has shape {rows.shape}, expected (N, {'d' if width is None else width})")
    rows = rows.astype(np.float64)
    check_finite(rows)
    return rows


def as_probabilities(answers: object, n: int) -> tuple[Array, Array]:
    """Return (N,) P(class 1) and the two classes."""
    given = np.asarray(answers)
    if given.shape[:1] != (n,) or given.ndim > 2:
        raise InvalidInputError(f"answers have shape {given.shape} for {n} samples", fix="give one answer per sample")
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.dtype.kind == "f":
        p = given.astype(np.float64)
        bad = ~((p >= 0) & (p <= 1))
        if bad.any():
            place = np.unravel_index(int(np.argmax(bad)), p.shape)
            raise InvalidInputError(
                "float answers are probabilities",
                where=f"sample {int(place[0])}",
                value=p[place],
                fix="labels: .astype(int)",
            )
        if p.ndim == 2:
            if p.shape[1] != 2:
                raise InvalidInputError(f"answers have {p.shape[1]} classes", fix="linear sets are for two classes")
            off = np.abs(p.sum(axis=1) - 1) > 1e-3
            if off.any():
                i = int(np.argmax(off))
                raise InvalidInputError("answers do not sum to 1", where=f"sample {i}", value=p[i].sum())
            p = p[:, 1] / p.sum(axis=1)
        return p, np.array([0, 1])
    if given.ndim == 2:
        raise InvalidInputError(f"answers have shape {given.shape}", fix="give one label per sample")
    classes, codes = np.unique(given, return_inverse=True)
    if len(classes) > 2:
        raise InvalidInputError(f"answers have {len(classes)} classes", fix="linear sets are for two classes")
    if len(classes) < 2:
        raise InvalidInputError(f"all answers are class {classes[0]}", fix="a set needs answers of both classes")
    return codes.astype(np.float64), classes


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), without overflow."""
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, small) / (1 + small))
