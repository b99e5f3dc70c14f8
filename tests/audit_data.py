"""A small table of mixed columns, and the configuration of a small audit of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SMALL: dict[str, Any] = {
    "budget": [40, 80],
    "surrogates": ["logistic", "tree", {"family": "forest", "trees": 10}, "knn"],
    "exploration": {"retraining": {"seeds": 1, "bootstraps": 1}},
    "synthetic": 50,
    "groups": ["sex"],
    "target": {"family": "hgb", "rounds": 20},
    "epsilon": 0.05,
}


def write_table(path: Path, n: int = 500, seed: int = 0) -> Path:
    """Write n people: two numbers, a count, two categories, missing values, a label of two classes."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n)
    income = np.exp(rng.normal(10, 0.5, n)).round(2)
    sex = rng.choice(["female", "male"], n)
    city = rng.choice(["Ulm", "Bonn", "Kiel"], n, p=[0.6, 0.3, 0.1])
    score = (age - 45) / 15 + 1.5 * (np.log(income) - 10) + 0.8 * (sex == "male") + (city == "Kiel")
    label = np.where(score + rng.logistic(size=n) > 0.5, "granted", "refused")
    lines = ["age,income,sex,city,label"]
    for i in range(n):
        shown = "" if rng.random() < 0.05 else str(income[i])
        lines.append(f"{age[i]},{shown},{sex[i]},{city[i]},{label[i]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def small_config(folder: Path, **more: Any) -> Path:
    """Write a table and a configuration beside it; return the configuration's path."""
    table = write_table(folder / "people.csv")
    values = {**SMALL, "data": {"path": str(table), "label": "label", "groups": ["sex"]}, **more}
    path = folder / "run.json"
    path.write_text(json.dumps(values))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a run that its configuration decides: all but locks and durations."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".seconds" and path.name != ".lock"
    }
