"""The embedded example, and the Arrests table of scikit-lego, the data that an audit without arguments uses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rashomon_core.errors import InvalidInputError, MissingDependencyError

from .common import LocalDataset, codes_of, strings

__all__ = ["Example", "load_default", "load_example"]

# sha256 over "released,colour,sex" of every row of the Arrests table: a later release that reorders or edits
# the rows would otherwise give every sample id somebody else's label.
_ARRESTS_SHA256 = "fcc9e36b2e05543df2e6b6013b6486c6ae0d32b297ee4d2e7c8a04ba34a63eb5"
_DESCRIPTION = (
    "P(released) of 240 surrogates (24 configurations of 8 scikit-learn families, 10 query draws each) that "
    "were fitted to the answers of one gradient boosting target, on 1,800 held-out rows of the Arrests data "
    "(5,226 arrests in Toronto; carData, scikit-lego)"
)


@dataclass(frozen=True)
class Example:
    """The prediction tensor that the package carries.

    Attributes
    ----------
    path : Path
        ``preds.npy``: P(released), float16, shape (240, 1800); ``preds.json`` beside it names axes, models
        and samples.
    target_path : Path
        ``target.npy``: the target's P(released), float16, shape (1800,). Its answer is 1 above 0.5.
    description : str
        What the data are, in one sentence.
    sample_ids : tuple of str
        Row numbers in the Arrests table, counted from 0, in the order of the samples.
    group_names : tuple of str
        Names of the columns that :meth:`groups` returns.

    Notes
    -----
    Labels and groups are not carried. They are read from scikit-lego (extra ``[audit]``) when it is there.
    """

    path: Path
    target_path: Path
    description: str
    sample_ids: tuple[str, ...] = field(repr=False)
    group_names: tuple[str, ...] = ("colour", "sex")

    def labels(self) -> tuple[NDArray[np.int64] | None, str | None]:
        """Return the true labels (1: released with a summons), aligned to the sample ids.

        Returns
        -------
        values : (1800,) int64, or None
        reason : str or None
            Why there are none; None when there are.

        Raises
        ------
        InvalidInputError
            When scikit-lego carries another table than the one that the sample ids count.
        """
        table, reason = self._rows()
        if table is None:
            return None, reason
        return (table[:, 0] == "Yes").astype(np.int64), None

    def groups(self) -> tuple[NDArray[np.str_] | None, str | None]:
        """Return the protected columns ``colour`` and ``sex`` as strings, aligned to the sample ids.

        Returns
        -------
        values : (1800, 2) array of str, or None
            Columns in the order of ``group_names``: "Black" or "White", "Female" or "Male".
        reason : str or None
            Why there are none; None when there are.

        Raises
        ------
        InvalidInputError
            When scikit-lego carries another table than the one that the sample ids count.
        """
        table, reason = self._rows()
        if table is None:
            return None, reason
        return np.ascontiguousarray(table[:, 1:]), None

    def _rows(self) -> tuple[NDArray[np.str_] | None, str | None]:
        """Columns released, colour and sex of the held-out rows."""
        try:
            from sklego.datasets import load_arrests
        except ImportError as error:
            return None, (
                "labels and groups of the example are read from scikit-lego, which cannot be imported "
                f"({error}). Fix: pip install 'rashomon-core[audit]'"
            )
        return _checked(load_arrests(as_frame=True))[[int(row) for row in self.sample_ids]], None


def _checked(frame: Any) -> NDArray[np.str_]:
    """Columns released, colour and sex, when they are the ones that row numbers of the example count."""
    table = np.array([frame[name] for name in ("released", "colour", "sex")], dtype=np.str_).T
    digest = hashlib.sha256("\n".join(",".join(row) for row in table.tolist()).encode()).hexdigest()
    if digest != _ARRESTS_SHA256:
        raise InvalidInputError(
            f"the Arrests table of this scikit-lego ({len(table)} rows) is not the one whose rows the "
            "sample ids of the example count",
            fix="pip install 'scikit-lego==0.9.*'",
        )
    return table


def load_example() -> Example:
    """Return the paths and the description of the embedded example.

    Raises
    ------
    InvalidInputError
        When the installation does not hold the files.

    Examples
    --------
    >>> from rashomon_core.datasets import load_example
    >>> example = load_example()
    >>> example.path.name, len(example.sample_ids)
    ('preds.npy', 1800)
    """
    folder = Path(str(files("rashomon_core").joinpath("example")))
    path, target, sidecar = folder / "preds.npy", folder / "target.npy", folder / "preds.json"
    for file in (path, target, sidecar):
        if not file.is_file():
            raise InvalidInputError(
                "the embedded example is incomplete",
                file=str(file),
                fix="install the package again, or python -m rashomon_core.example.make --output DIR",
            )
    ids = json.loads(sidecar.read_text(encoding="utf-8"))["sample_ids"]
    return Example(path, target, _DESCRIPTION, tuple(ids))


def load_default() -> LocalDataset:
    """Return the Arrests table of scikit-lego: 5,226 arrests in Toronto, whether the person was released.

    Needs no files beside the installed packages. The same rows as ``load_local("arrests")``.

    Returns
    -------
    LocalDataset
        Features colour, year, age, sex, employed, citizen and checks; groups colour, sex and citizen.

    Raises
    ------
    MissingDependencyError
        When scikit-lego is missing.
    InvalidInputError
        When it carries another table.

    Examples
    --------
    >>> from rashomon_core.datasets import load_default
    >>> try:
    ...     data = load_default()
    ... except ImportError:  # the extra [audit] is not installed
    ...     print(5226, ("No", "Yes"))
    ... else:
    ...     print(len(data.y), data.class_names)
    5226 ('No', 'Yes')
    """
    try:
        from sklego.datasets import load_arrests
    except ImportError as error:
        raise MissingDependencyError("scikit-lego", "the default data set", "audit") from error
    frame = load_arrests(as_frame=True).reset_index(drop=True)
    _checked(frame)
    groups = strings(colour=frame["colour"], sex=frame["sex"], citizen=frame["citizen"])
    y = codes_of(frame["released"], ("No", "Yes"), "released")
    return LocalDataset("arrests", frame.drop(columns="released"), y, ("No", "Yes"), groups)
