"""Three sets of medical images of 28 x 28 pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rashomon_core.errors import InvalidInputError

from .common import Parts, age_group, codes_of, find, read_npz, strings

__all__ = ["IMAGING"]

_SPLITS = ("train", "val", "test")


def _arrays(folder: Path, name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Read an .npz and check the shapes: a cut file must not pass for a small one."""
    path = find(folder, name)
    arrays = read_npz(path)
    for key, shape in shapes.items():
        if key not in arrays or arrays[key].shape != shape:
            found = arrays[key].shape if key in arrays else "missing"
            raise InvalidInputError(f"array {key!r} is {found} and not {shape}", file=str(path))
    return arrays


def _medmnist(folder: Path, name: str, counts: tuple[int, int, int], class_names: tuple[str, ...]) -> Parts:
    shapes: dict[str, tuple[int, ...]] = {}
    for split, n in zip(_SPLITS, counts, strict=True):
        shapes |= {f"{split}_images": (n, 28, 28), f"{split}_labels": (n, 1)}
    arrays = _arrays(folder, name, shapes)
    X = np.concatenate([arrays[f"{split}_images"] for split in _SPLITS])
    y = np.concatenate([arrays[f"{split}_labels"][:, 0] for split in _SPLITS])
    official = np.repeat(np.array(_SPLITS, dtype=object), counts)
    return Parts(X, y, class_names, strings(len(X)), "image", official_split=official)


def _breast(folder: Path) -> Parts:
    return _medmnist(folder, "breastmnist.npz", (546, 78, 156), ("malignant", "normal or benign"))


def _pneumonia(folder: Path) -> Parts:
    # Joined from two copies: counts are the official ones, the order of the training images is not.
    return _medmnist(folder, "pneumoniamnist_reassembled.npz", (4_708, 524, 624), ("normal", "pneumonia"))


def _ham10000(folder: Path) -> Parts:
    import pandas as pd

    n = 10_015
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("lesion_id", "dx", "sex", "age"), (n,))
    arrays = _arrays(folder, "ham10000_28x28_rgb.npz", {"images": (n, 28, 28, 3), **shapes})
    diagnoses = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    sex = pd.Series(arrays["sex"].astype(object)).replace("unknown", np.nan)
    age = pd.Series(arrays["age"].astype(np.float64))
    groups = strings(sex=sex, age_group=age_group(age, 60))
    y = codes_of(arrays["dx"].tolist(), diagnoses, "dx")
    return Parts(arrays["images"], y, diagnoses, groups, "image", arrays["lesion_id"].astype(object))


IMAGING: dict[str, Callable[[Path], Parts]] = {
    "breastmnist": _breast,
    "ham10000": _ham10000,
    "pneumoniamnist": _pneumonia,
}
