"""Three sets of texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common import Parts, codes_of, read_table, strings

__all__ = ["TEXT"]

_SPLITS = ("train", "val", "test")

_PROFESSIONS = (
    "accountant",
    "architect",
    "attorney",
    "chiropractor",
    "comedian",
    "composer",
    "dentist",
    "dietitian",
    "dj",
    "filmmaker",
    "interior_designer",
    "journalist",
    "model",
    "nurse",
    "painter",
    "paralegal",
    "pastor",
    "personal_trainer",
    "photographer",
    "physician",
    "poet",
    "professor",
    "psychologist",
    "rapper",
    "software_engineer",
    "surgeon",
    "teacher",
    "yoga_teacher",
)


def _texts(column: Any) -> NDArray[Any]:
    return np.array([str(text) for text in column], dtype=object)


def _join(frames: list[Any]) -> tuple[Any, NDArray[Any]]:
    """Return train, val and test one after another, and which rows are which."""
    import pandas as pd

    split = np.repeat(np.array(_SPLITS, dtype=object), [len(frame) for frame in frames])
    return pd.concat(frames, ignore_index=True), split


def _bias_in_bios(folder: Path) -> Parts:
    rows = {"train": 10_000, "dev": 2_000, "test": 2_000}
    frame, split = _join([read_table(folder, f"BIOS_{name}.csv", rows=n) for name, n in rows.items()])
    y = codes_of(frame["Profession"], _PROFESSIONS, "Profession")
    groups = strings(gender=frame["Gender"].map({"F": "female", "M": "male"}))
    return Parts(_texts(frame["Bio"]), y, _PROFESSIONS, groups, "text", official_split=split)


def _sms(folder: Path) -> Parts:
    # quoting=3: a quotation mark is a character; with the default, messages swallow one another.
    frame = read_table(folder, "sms.tsv", rows=5_574, sep="\t", header=None, names=["label", "text"], quoting=3)
    y = codes_of(frame["label"], ("ham", "spam"), "label")
    return Parts(_texts(frame["text"]), y, ("ham", "spam"), strings(len(frame)), "text")


def _sst2(folder: Path) -> Parts:
    options: dict[str, Any] = {"sep": "\t", "header": None, "names": ["text", "label"], "quoting": 3}
    rows = {"train": 6_920, "dev": 872, "test": 1_821}
    frame, split = _join([read_table(folder, f"sst2_{name}.tsv", rows=n, **options) for name, n in rows.items()])
    y = codes_of(frame["label"], (0, 1), "label")
    return Parts(_texts(frame["text"]), y, ("negative", "positive"), strings(len(frame)), "text", official_split=split)


TEXT: dict[str, Callable[[Path], Parts]] = {"bias_in_bios": _bias_in_bios, "sms": _sms, "sst2": _sst2}
