"""Files that go into a measurement: read by what the user wrote, described for the document.

A file of one value per sample is named ``FILE``, or ``FILE:COLUMN[,COLUMN]`` for columns of a table and
``FILE:NAME`` for an array in a container. Options that take more than one form are read here too.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.group_results import FAIRNESS
from rashomon_core.jit import find_loss
from rashomon_core.store import describe_input, open_vector
from rashomon_core.store.opening import SUPPORTED
from rashomon_core.store.tables import TABLES, open_table
from rashomon_core.vectors import narrowed

from .document import input_entry

if TYPE_CHECKING:
    from rashomon_core.predictions import Predictions

__all__ = ["LOSSES", "Inputs", "parse_fairness", "parse_positive", "split_spec"]

#: How the library calls what comes from a file, in its messages about arrays.
_WORDS = {
    "target": r"\btarget",
    "labels": r"\b(labels?|y)\b",
    "groups": r"\bgroups?\b",
    "weights": r"weights?\b",
    "reference": r"\breference\b",
    "loss": r"\bloss(es)?\b",
    "selection": r"\bselection\b",
}
LOSSES = ("fidelity", "zero_one", "log_loss", "cross_entropy")


def split_spec(spec: str) -> tuple[str, str | None]:
    """Split ``FILE`` or ``FILE:COLUMNS``; a colon inside the name of an existing file is part of it."""
    if os.path.exists(spec):
        return spec, None
    at = [i for i, c in enumerate(spec) if c == ":"]
    for i in at:
        if os.path.exists(spec[:i]) and not os.path.isdir(spec[:i] or "."):
            return spec[:i], spec[i + 1 :]
    # A colon of a drive ("C:\\y.csv") is followed by a separator, one of a column never is.
    if at and not set(spec[at[-1] + 1 :]) & {"/", "\\"} and at[-1] > 0:
        return spec[: at[-1]], spec[at[-1] + 1 :]
    return spec, None


class Inputs:
    """Files that go into one measurement, described for the document."""

    def __init__(self, path: str, predictions: Predictions, checksum: bool) -> None:
        self.predictions, self.checksum = predictions, checksum
        self.entries: list[dict[str, Any]] = []
        self.files: dict[str, str] = {}
        self.titles: list[str] = []  # names of group columns
        self._add("predictions", path, None, predictions)

    def _add(self, role: str, path: str, select: str | None, content: Any) -> None:
        self.files.setdefault(role, path)
        described = describe_input(path, checksum=self.checksum, predictions=content)
        self.entries.append(input_entry(role, select, described))

    def vector(self, role: str, spec: str | None, *, per: str = "sample") -> Any:
        """Read one value (or row) per sample or model from ``FILE`` or ``FILE:COLUMNS``."""
        if spec is None:
            return None
        path, select = split_spec(spec)
        view = self.predictions
        options: dict[str, Any] = {}
        if select is not None and os.path.splitext(path)[1].lower() in TABLES:
            columns = [c.strip() for c in select.split(",")]
            options["column"] = columns[0] if len(columns) == 1 else columns
        elif select is not None:
            options["key"] = select
        ids, count = (view.sample_ids, view.n_samples) if per == "sample" else (view.model_ids, view.n_models)
        array = open_vector(path, name=role, sample_ids=ids, id_column=f"{per}_id", **options)
        if array.ndim == 0 or (array.shape[0] != count and array.shape != (1, count)):
            raise InvalidInputError(
                f"{len(array) if array.ndim else 1} {role} for {count} {per}s",
                file=path,
                fix=f"give one per {per}, in the order of the predictions, or a table with a {per}_id column",
            )
        self._add(role, path, select, array)
        if role == "weights" and array.dtype.kind in "biuf":  # what they become anyway: one copy lives
            return np.asarray(array, dtype=np.float64)
        return narrowed(array)

    def groups(self, specs: list[str] | None) -> dict[str, Any] | None:
        """Read the columns of all group files, by name; several are taken together."""
        if not specs:
            return None
        found: dict[str, Any] = {}
        for spec in specs:
            path, select = split_spec(spec)
            if select is None and (every := _group_columns(path)):
                select, spec = ",".join(every), f"{path}:{','.join(every)}"
            array = self.vector("groups", spec)
            names = [Path(path).stem] if select is None else [c.strip() for c in select.split(",")]
            columns = [array] if array.ndim == 1 else list(array.T)
            if len(names) != len(columns):
                names = [f"{names[0]}{j}" for j in range(len(columns))]
            for name, column in zip(names, columns, strict=True):
                title = name
                while title in found:
                    title += "'"
                found[title] = column
        self.titles = list(found)
        return found

    def reference(self, text: str | None) -> Any:
        """Return "target", "labels" or a model id as it is, else what the file holds."""
        if text is None or text in ("target", "labels") or text in self.predictions.model_ids:
            return text
        if not os.path.exists(split_spec(text)[0]) and not os.path.splitext(split_spec(text)[0])[1]:
            raise UsageError(f"--reference {text}: neither target, labels, a model id nor a file")
        return self.vector("reference", text)

    def loss(self, text: str | None) -> Any:
        """Return the name of a loss as it is, the function that module:function names, else what the file holds."""
        if text is None or text in LOSSES:
            return text
        path = split_spec(text)[0]
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in SUPPORTED and not os.path.isfile(path):
            found = find_loss(text)
            if found is not None:
                return found
            if not os.path.exists(path) and not suffix:
                known = ", ".join(LOSSES)
                raise UsageError(f"--loss {text}: neither {known}, module:function nor a file of one loss per model")
        return self.vector("loss", text, per="model")

    def selection(self, text: str | None) -> Any:
        """Return a fraction, or what the file holds."""
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            return self.vector("selection", text)

    def blame(self, error: InvalidInputError) -> InvalidInputError:
        """Add the file to an error about an array that was read from one: arrays do not know their files."""
        if error.file is not None:
            return error
        what = error.what.lower()
        others = [role for role in self.files if role != "predictions"]
        blamed = [role for role in others if re.search(_WORDS[role], what)]
        if not blamed and any(what.startswith(title.lower()) for title in self.titles):
            blamed = ["groups"]
        if not blamed and "target" in others and (error.where or "").startswith("model 0"):
            blamed = ["target"]  # its scores are checked like those of a single model
        if not blamed and len(others) == 1:
            blamed = others
        if len(blamed) != 1:
            return error
        file = self.files[blamed[0]]
        return type(error)(error.what, file=file, where=error.where, value=error.value, fix=error.fix)


def _group_columns(path: str) -> list[str]:
    """Return the columns of a table of several, without the ids; [] for anything else."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in TABLES or not os.path.exists(path):
        return []
    columns = [c for c in open_table(path, suffix).columns if c != "sample_id"]
    return columns if len(columns) > 1 else []


# --- options with a form of their own -----------------------------------------------------------------------


def parse_fairness(texts: list[str] | None) -> float | dict[str, float] | None:
    """Read ``0.8`` or ``name=.8``, repeated."""
    named: dict[str, float] = {}
    plain: list[float] = []
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise UsageError(
                f"--fairness-threshold {text}: write a number for all ratios, or name=number such as "
                "demographic_parity_ratio=.8"
            )
        if equals:
            named[name.strip()] = limit
        else:
            plain.append(limit)
    known = [f"{metric}_{form}" for metric in FAIRNESS for form in ("difference", "ratio")]
    for name in named:
        if name not in known:
            raise UsageError(f"--fairness-threshold: {name!r} is not one of {', '.join(known)}")
    if len(plain) > 1 or (plain and named):
        raise UsageError("--fairness-threshold: give one number for all, or name=number for each")
    return plain[0] if plain else named or None


def parse_positive(text: str | None, predictions: Predictions) -> int:
    """Return the index of the positive class from its index or name."""
    if text is None:
        return 1
    names = predictions.class_names or ()
    if text in names:
        return names.index(text)
    try:
        return int(text)
    except ValueError:
        known = f"the classes are {', '.join(names)}" if names else "the classes have no names"
        raise UsageError(f"--positive {text}: {known}; give a name or an index from 0") from None
