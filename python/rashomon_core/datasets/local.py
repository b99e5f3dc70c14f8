"""Local data files by name: the folder, the names, the loading."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError

from .common import DATA_VARIABLE, LocalDataset, Parts
from .imaging import IMAGING
from .tabular import TABULAR
from .text import TEXT

__all__ = ["load_local", "local_data_dir", "local_names"]


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
    for checkout in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (checkout / "python" / "rashomon_core").is_dir() and (checkout / "pyproject.toml").is_file():
            folder = checkout.parent / "shared" / "data"
            if folder.is_dir():
                return folder
    return None


def local_names() -> tuple[str, ...]:
    """Return the names that :func:`load_local` knows."""
    return tuple(sorted(LOADERS))


def load_local(name: str, folder: str | os.PathLike[str] | None = None) -> LocalDataset:
    """Load a data set from local files.

    Parameters
    ----------
    name : str
        ``adult`` (the 32,561 training rows, then the 16,281 test rows), ``arrests``, ``compas`` (the 6,172
        rows that ProPublica's filter leaves), ``contrac`` (3 classes), ``credit_approval``,
        ``credit_default``, ``dermatology`` (6 classes), ``german``, ``hmda`` or ``mammo``; images of 28 x 28 pixels:
        ``breastmnist``, ``pneumoniamnist``, ``ham10000`` (colour, 7 classes; several images of one lesion, see
        ``split_by``); texts: ``bias_in_bios`` (28 professions), ``sms`` (spam), ``sst2``. Published splits follow
        one another in the order train, val, test.
    folder : path, optional
        Folder that holds ``tabular/``, ``imaging/`` and ``text/``; default :func:`local_data_dir`.

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
    if name not in LOADERS:
        raise UsageError(f"unknown data set {name!r}; known are {', '.join(local_names())}")
    room, loader = LOADERS[name]
    root = local_data_dir() if folder is None else Path(folder)
    if root is None:
        raise InvalidInputError(
            f"there is no folder of local data files to read {name!r} from",
            fix=f"set {DATA_VARIABLE} to a folder that holds {room}/",
        )
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("pandas", "reading local data sets", "audit") from error
    parts = loader(root / room)
    X = parts.X.reset_index(drop=True) if parts.kind == "tabular" else parts.X
    codes = np.asarray(parts.y, dtype=np.int64)
    if codes.size == 0 or codes.min() < 0 or codes.max() >= len(parts.class_names):
        raise InvalidInputError(f"labels of {name!r} fall outside {parts.class_names}", file=str(root / room))
    groups = parts.groups.reset_index(drop=True)
    return LocalDataset(name, X, codes, parts.class_names, groups, parts.kind, parts.split_by, parts.official_split)


#: Name -> folder below the data folder, loader.
LOADERS: dict[str, tuple[str, Callable[[Path], Parts]]] = {
    **{name: ("tabular", loader) for name, loader in TABULAR.items()},
    **{name: ("imaging", loader) for name, loader in IMAGING.items()},
    **{name: ("text", loader) for name, loader in TEXT.items()},
}
