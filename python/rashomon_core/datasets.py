"""The embedded example, and loaders for tabular files that lie beside a checkout.

The example is a prediction tensor and travels with the package. The local files do not: tests and benchmarks
use them where they are there, in ``RASHOMON_CORE_DATA`` or in ``../shared/data`` beside the checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInputError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DATA_VARIABLE",
    "Example",
    "LocalDataset",
    "load_example",
    "load_local",
    "local_data_dir",
    "local_names",
]

#: Environment variable that names the folder of local data files.
DATA_VARIABLE = "RASHOMON_CORE_DATA"

# --- the embedded example -----------------------------------------------------------------------------------

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
        frame = load_arrests(as_frame=True)
        table = np.array([frame[name] for name in ("released", *self.group_names)], dtype=np.str_).T
        digest = hashlib.sha256("\n".join(",".join(row) for row in table.tolist()).encode()).hexdigest()
        if digest != _ARRESTS_SHA256:
            raise InvalidInputError(
                f"the Arrests table of this scikit-lego ({len(table)} rows) is not the one whose rows the "
                "sample ids of the example count",
                fix="pip install 'scikit-lego==0.9.*'",
            )
        return table[[int(row) for row in self.sample_ids]], None


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


# --- local files --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LocalDataset:
    """One tabular data set.

    Attributes
    ----------
    name : str
    X : pandas.DataFrame, N rows, RangeIndex
        Features as in the file: numbers stay numbers, categories strings or codes, missing values missing.
        Protected columns are left in; drop them where they must not be used.
    y : (N,) int64
        Class indices into ``class_names``.
    class_names : tuple of str
    groups : pandas.DataFrame, N rows
        Protected columns as strings. Missing values are missing (NaN), never a group of their own.
    """

    name: str
    X: pd.DataFrame = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    class_names: tuple[str, ...]
    groups: pd.DataFrame = field(repr=False)


def local_data_dir() -> Path | None:
    """Return the folder of local data files, or None.

    ``RASHOMON_CORE_DATA`` when it is set and not empty, else ``../shared/data`` beside the checkout that this
    file or the current folder belongs to.

    Raises
    ------
    InvalidInputError
        When ``RASHOMON_CORE_DATA`` names something that is not a folder.
    """
    stated = os.environ.get(DATA_VARIABLE)
    if stated:
        folder = Path(stated)
        if not folder.is_dir():
            raise InvalidInputError(
                f"{DATA_VARIABLE} does not name a folder", value=stated, fix="correct it or unset it"
            )
        return folder
    # An installed package has no checkout around it: then the tests' own folder counts.
    for checkout in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (checkout / "python" / "rashomon_core").is_dir() and (checkout / "pyproject.toml").is_file():
            folder = checkout.parent / "shared" / "data"
            if folder.is_dir():
                return folder
    return None


def local_names() -> tuple[str, ...]:
    """Return the names that :func:`load_local` knows."""
    return tuple(sorted(_LOADERS))


def load_local(name: str, folder: str | os.PathLike[str] | None = None) -> LocalDataset:
    """Load a tabular data set from local files.

    Parameters
    ----------
    name : str
        ``adult`` (the 32,561 training rows, then the 16,281 test rows), ``arrests``, ``compas`` (the 6,172
        rows that ProPublica's filter leaves), ``contrac`` (3 classes), ``credit_approval``,
        ``credit_default``, ``dermatology`` (6 classes), ``german``, ``hmda`` or ``mammo``.
    folder : path, optional
        Folder that holds ``tabular/``; default :func:`local_data_dir`.

    Returns
    -------
    LocalDataset

    Raises
    ------
    UsageError
        For an unknown name; the message lists the names.
    InvalidInputError
        When there is no folder, or the file is missing or not what it should be.
    MissingDependencyError
        When pandas is missing.
    """
    if name not in _LOADERS:
        raise UsageError(f"unknown data set {name!r}; known are {', '.join(local_names())}")
    root = local_data_dir() if folder is None else Path(folder)
    if root is None:
        raise InvalidInputError(
            f"there is no folder of local data files to read {name!r} from",
            fix=f"set {DATA_VARIABLE} to a folder that holds tabular/",
        )
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("pandas", "reading local data sets", "audit") from error
    X, y, class_names, groups = _LOADERS[name](root / "tabular")
    codes = np.asarray(y, dtype=np.int64)
    if codes.size == 0 or codes.min() < 0 or codes.max() >= len(class_names):
        raise InvalidInputError(f"labels of {name!r} fall outside {class_names}", file=str(root / "tabular"))
    return LocalDataset(name, X.reset_index(drop=True), codes, class_names, groups.reset_index(drop=True))


_Parts = tuple[Any, Any, tuple[str, ...], Any]


def _read(folder: Path, name: str, *, rows: int, **options: Any) -> Any:
    """Read a .csv, plain or gzipped, and count its rows: a cut file must not pass for a small one."""
    import pandas as pd

    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            break
    else:
        raise InvalidInputError(
            "there is no such data file",
            file=str(folder / name),
            fix=f"put it there (.gz is read too), or set {DATA_VARIABLE} to the folder that holds tabular/",
        )
    try:
        # "None", "NA" and the like are values in some of these files: only what is stated counts as missing.
        frame = pd.read_csv(path, **{"na_values": [""], "keep_default_na": False, **options})
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"cannot be read as a table ({error})", file=str(path)) from error
    if len(frame) != rows:
        raise InvalidInputError("wrong number of rows", file=str(path), value=f"{len(frame)} and not {rows}")
    return frame


def _code(column: Any, values: tuple[object, ...], what: str) -> NDArray[np.int64]:
    """Index of each value in ``values``; a value that is not listed is an error and not a class."""
    found = np.asarray(column, dtype=object)
    codes = np.full(len(found), -1, dtype=np.int64)
    for code, value in enumerate(values):
        codes[found == value] = code
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise InvalidInputError(f"{what} has a value that is none of {values}", where=f"row {row}", value=found[row])
    return codes


def _age_group(age: Any, limit: int) -> Any:
    """Two groups, ``under <limit>`` and ``<limit> and over``; a missing age stays missing."""
    return (age >= limit).map({False: f"under {limit}", True: f"{limit} and over"}).where(age.notna())


def _frame(**columns: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(columns).astype("object")


_ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def _adult(folder: Path) -> _Parts:
    import pandas as pd

    options: dict[str, Any] = {"header": None, "names": _ADULT, "skipinitialspace": True, "na_values": ["?"]}
    train = _read(folder, "adult.data", rows=32_561, **options)
    # The first line of the test file is a comment, and its labels end with a dot.
    test = _read(folder, "adult.test", rows=16_281, skiprows=1, **options)
    frame = pd.concat([train, test], ignore_index=True)
    y = _code(frame["income"].str.rstrip("."), ("<=50K", ">50K"), "income")
    return frame.drop(columns="income"), y, ("<=50K", ">50K"), _frame(sex=frame["sex"], race=frame["race"])


def _arrests(folder: Path) -> _Parts:
    frame = _read(folder, "Arrests.csv", rows=5_226).drop(columns="rownames")
    y = _code(frame["released"], ("No", "Yes"), "released")
    groups = _frame(colour=frame["colour"], sex=frame["sex"], citizen=frame["citizen"])
    return frame.drop(columns="released"), y, ("No", "Yes"), groups


def _compas(folder: Path) -> _Parts:
    frame = _read(folder, "compas-scores-two-years.csv", rows=7_214, low_memory=False)
    # ProPublica's filter: the arrest belongs to the assessment (within 30 days), the case was found, the
    # charge is not an ordinary traffic offence, and there is a score.
    keep = (
        frame["days_b_screening_arrest"].between(-30, 30)
        & (frame["is_recid"] != -1)
        & (frame["c_charge_degree"] != "O")
        & (frame["score_text"].notna() & (frame["score_text"] != "N/A"))
    )
    frame = frame[keep]
    # Known when the score is made. The other columns are names, the score itself, or what happened after.
    features = "sex age age_cat race juv_fel_count juv_misd_count juv_other_count priors_count c_charge_degree"
    groups = _frame(race=frame["race"], sex=frame["sex"], age_cat=frame["age_cat"])
    return frame[features.split()], frame["two_year_recid"], ("no recidivism", "recidivism"), groups


_CONTRAC = [
    "age",
    "wife_edu",
    "husband_edu",
    "nchildren",
    "religion",
    "working",
    "husband_occ",
    "living_std",
    "media_exposure",
    "method",
]


def _contrac(folder: Path) -> _Parts:
    frame = _read(folder, "contrac.csv", rows=1_473, header=None, names=_CONTRAC)
    y = _code(frame["method"], (1, 2, 3), "method")
    groups = _frame(
        religion=frame["religion"].map({0: "other", 1: "Islam"}),
        working=frame["working"].map({0: "yes", 1: "no"}),  # so coded in the codebook: 0 means yes
        age_group=_age_group(frame["age"], 32),
    )
    return frame.drop(columns="method"), y, ("none", "long-term", "short-term"), groups


def _credit_approval(folder: Path) -> _Parts:
    names = [f"A{i}" for i in range(1, 17)]
    frame = _read(folder, "credit-approval.csv", rows=690, header=None, names=names, na_values=["?"])
    y = _code(frame["A16"], ("-", "+"), "A16")
    return frame.drop(columns="A16"), y, ("refused", "approved"), _frame(A1=frame["A1"])


def _credit_default(folder: Path) -> _Parts:
    label = "default payment next month"
    # Two header lines: the second one has the names.
    frame = _read(folder, "default_of_credit_card_clients.csv", rows=30_000, header=1)
    education = {1: "graduate school", 2: "university", 3: "high school"}
    marriage = {1: "married", 2: "single"}
    groups = _frame(
        sex=frame["SEX"].map({1: "male", 2: "female"}),
        # The remaining codes are "others", or are not in the codebook at all.
        education=frame["EDUCATION"].map(education).fillna("other"),
        marriage=frame["MARRIAGE"].map(marriage).fillna("other"),
        age_group=_age_group(frame["AGE"], 35),
    )
    return frame.drop(columns=["ID", label]), frame[label], ("no default", "default"), groups


def _dermatology(folder: Path) -> _Parts:
    names = [*(f"V{i}" for i in range(1, 34)), "age", "disease"]
    frame = _read(folder, "dermatology.csv", rows=366, header=None, names=names, na_values=["?"])
    diseases = (
        "psoriasis",
        "seborrheic dermatitis",
        "lichen planus",
        "pityriasis rosea",
        "chronic dermatitis",
        "pityriasis rubra pilaris",
    )
    y = _code(frame["disease"], (1, 2, 3, 4, 5, 6), "disease")
    return frame.drop(columns="disease"), y, diseases, _frame(age_group=_age_group(frame["age"], 35))


def _german(folder: Path) -> _Parts:
    names = [*(f"A{i}" for i in range(1, 21)), "credit"]
    frame = _read(folder, "german.data", rows=1_000, sep=" ", header=None, names=names)
    # 1 good, 2 bad in the file. Here good is 1, the class that group rates take as positive by default.
    y = _code(frame["credit"], (2, 1), "credit")
    groups = _frame(
        sex=frame["A9"].isin(["A92", "A95"]).map({True: "female", False: "male"}),
        age_group=_age_group(frame["A13"], 26),  # the literature's split: up to 25 years, or older
        foreign_worker=frame["A20"].map({"A201": "yes", "A202": "no"}),
    )
    return frame.drop(columns="credit"), y, ("bad", "good"), groups


def _hmda(folder: Path) -> _Parts:
    frame = _read(folder, "HMDA.csv", rows=2_380).drop(columns="rownames")
    y = _code(frame["deny"], ("no", "yes"), "deny")
    groups = _frame(afam=frame["afam"], single=frame["single"])
    return frame.drop(columns="deny"), y, ("granted", "denied"), groups


def _mammo(folder: Path) -> _Parts:
    names = ["bi_rads", "age", "shape", "margin", "density", "severity"]
    frame = _read(folder, "mammo.csv", rows=961, header=None, names=names, na_values=["?"])
    groups = _frame(age_group=_age_group(frame["age"], 57))
    return frame.drop(columns="severity"), frame["severity"], ("benign", "malignant"), groups


_LOADERS: dict[str, Callable[[Path], _Parts]] = {
    "adult": _adult,
    "arrests": _arrests,
    "compas": _compas,
    "contrac": _contrac,
    "credit_approval": _credit_approval,
    "credit_default": _credit_default,
    "dermatology": _dermatology,
    "german": _german,
    "hmda": _hmda,
    "mammo": _mammo,
}
