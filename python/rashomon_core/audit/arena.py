"""The arena: rows, labels and groups of an audit, and who may see which rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.extraction.rows import count, is_frame, row_hashes, take

from .config import Config

__all__ = ["Arena", "make_arena"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Arena:
    """Data of an audit.

    Attributes
    ----------
    name, kind : str
        Kind is "tabular", "image" or "text".
    X : container of N rows;  y : (N,) int64 class indices;  class_names : tuple of str
    groups : dict of str to (N,) arrays
        The protected columns that are measured; empty when there are none.
    target, pool, evaluation : int64 arrays
        Disjoint row numbers: what the target learns from, what the attacker owns, what everything is measured on.
    sha256 : str
        Over all rows, labels and groups.
    """

    name: str
    kind: str
    X: Any = field(repr=False)
    y: Array = field(repr=False)
    class_names: tuple[str, ...]
    groups: dict[str, Array] = field(repr=False)
    target: Array = field(repr=False)
    pool: Array = field(repr=False)
    evaluation: Array = field(repr=False)
    sha256: str = ""

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def positive(self, given: object) -> int:
        """Return the index of the positive class, given by name or index; 1 when nothing is given."""
        if given is None:
            return 1
        if str(given) in self.class_names:
            return self.class_names.index(str(given))
        if not str(given).isdigit() or int(str(given)) >= self.n_classes:
            raise UsageError(f"positive={given!r} is none of the classes {', '.join(self.class_names)}")
        return int(str(given))

    def rows(self, numbers: Array) -> Any:
        """Return inputs by row number."""
        return take(self.X, numbers)


def make_arena(config: Config, dataset: Any, *, own_target: bool) -> Arena:
    """Split a data set for an audit.

    Parameters
    ----------
    dataset : LocalDataset
    own_target : bool
        The target is trained already: no rows are set aside for it.
    """
    from rashomon_core.datasets import group_split

    X, y = dataset.X, np.asarray(dataset.y, dtype=np.int64)
    groups = _groups(config, dataset)
    for column in config["drop"]:
        if not is_frame(X) or column not in X.columns:
            raise UsageError(f"drop: the data have no column {column!r}" + _columns(X))
    if config["drop"]:
        X = X.drop(columns=config["drop"])
        if X.shape[1] == 0:
            raise UsageError("drop: no columns are left")
    for name, values in groups.items():
        gone = np.array([value is None for value in values], dtype=bool)
        if config["missing"] == "refuse" and gone.any():
            raise InvalidInputError(
                f"group column {name!r} has {int(gone.sum())} missing values",
                where=f"row {int(gone.argmax())}",
                fix="fill them in, or make them a group of their own with missing: group",
            )
    shares = config["split"]
    fractions = [0.0 if own_target else shares["target"], shares["pool"], shares["evaluation"]]
    whole = sum(fractions)
    wanted = [f / whole for f in fractions if f > 0]
    rows = len(y) if dataset.split_by is None else dataset.split_by
    parts = group_split(rows, wanted, config["seed"], y=y)
    if own_target or shares["target"] == 0:
        parts = (np.zeros(0, dtype=np.int64), *parts)
    target, pool, evaluation = parts
    if len(pool) == 0 or len(evaluation) == 0:
        raise InvalidInputError(f"{count(X)} rows are too few to split into target, pool and evaluation")
    return Arena(
        name=dataset.name,
        kind=dataset.kind,
        X=X,
        y=y,
        class_names=tuple(str(c) for c in dataset.class_names),
        groups=groups,
        target=target,
        pool=pool,
        evaluation=evaluation,
        sha256=_digest(X, y, groups),
    )


def _columns(X: Any) -> str:
    return f"; they have {', '.join(map(str, X.columns))}" if is_frame(X) else ""


def _groups(config: Config, dataset: Any) -> dict[str, Array]:
    table = dataset.groups
    names = [] if table is None else list(table.columns)
    wanted = config["groups"]
    if wanted is None:
        wanted = names[:1]
    found: dict[str, Array] = {}
    for name in wanted:
        if name in names:
            column = table[name]
        elif is_frame(dataset.X) and name in dataset.X.columns:
            column = dataset.X[name]
        else:
            raise UsageError(f"groups: the data have no column {name!r}; protected columns are {', '.join(names)}")
        values = np.asarray(column, dtype=object)
        gone = np.asarray(column.isna())
        found[name] = np.array([None if g else str(v) for v, g in zip(values, gone, strict=True)], dtype=object)
    return found


def _digest(X: Any, y: Array, groups: Mapping[str, Array]) -> str:
    whole = hashlib.sha256()
    for digest in row_hashes(X):
        whole.update(digest.encode())
    whole.update(np.ascontiguousarray(y, dtype="<i8").tobytes())
    for name, values in groups.items():
        whole.update(repr((name, values.tolist())).encode())
    return whole.hexdigest()
