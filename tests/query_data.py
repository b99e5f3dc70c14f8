"""Pools of every kind, a surrogate in NumPy and collectors for the tests of queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.queries import STRATEGIES, Collector, FeatureSpace
from rashomon_core.extraction.rows import row_hashes, take

Array = npt.NDArray[Any]
N, C = 120, 3
GROUPS = [[1, 2, 3], [5, 6]]
KINDS = ("numbers", "mixed array", "frame", "images", "texts")
NEEDS_COLUMNS = ("uniform", "gaussian", "mixup", "jacobian")


def pool_of(kind: str, n: int = N, seed: int = 0) -> tuple[Any, FeatureSpace]:
    """A pool and its space."""
    rng = np.random.default_rng(seed)
    if kind == "numbers":
        X: Any = rng.normal(size=(n, 4))
        X[rng.random((n, 4)) < 0.1] = np.nan
        return X, FeatureSpace.from_pool(X)
    if kind == "mixed array":
        X = np.zeros((n, 8))
        X[:, [0, 4]] = rng.normal(size=(n, 2))
        X[np.arange(n), 1 + rng.integers(0, 3, n)] = 1
        X[np.arange(n), 5 + (rng.random(n) < 0.2)] = 1
        X[:, 7] = rng.choice([2.0, 5.0, 7.5, np.nan], n)
        return X, FeatureSpace.from_pool(X, categories=[7], one_hot=GROUPS)
    if kind == "frame":
        pd = pytest.importorskip("pandas", reason="pandas is not installed: frames are not tested")
        X = pd.DataFrame(
            {
                "age": rng.integers(17, 90, n),
                "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
                "children": pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(0, 4, n)), dtype="Int64"),
                "small": rng.random(n).astype(np.float32),
                "sex": rng.choice(["f", "m"], n),
                "job": pd.Series(np.where(rng.random(n) < 0.2, None, rng.choice(["a", "b", "c"], n)), dtype=object),
                "grade": pd.Categorical(rng.choice(["lo", "hi"], n), categories=["lo", "mid", "hi"]),
                "member": rng.random(n) < 0.5,
            }
        )
        return X, FeatureSpace.from_pool(X)
    if kind == "images":
        X = rng.integers(0, 256, (n, 3, 2, 2)).astype(np.uint8)
        return X, FeatureSpace.from_pool(X)
    words = np.array(["good", "bad", "film", "plot", "a", "the"])
    X = np.array([" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(n)], dtype=object)
    return X, FeatureSpace.from_pool(X)


class Prototypes:
    """A surrogate in numpy: soft nearest class mean; classes without answers are as far as the mean of all."""

    def __init__(self, space: FeatureSpace, X: Any, labels: Array, n_classes: int) -> None:
        points = space.encode(X)
        own = [points[labels == c] if (labels == c).any() else points for c in range(n_classes)]
        self.space, self.means = space, np.stack([p.mean(axis=0) for p in own])

    def predict_proba(self, X: Any) -> Array:
        gaps = ((self.space.encode(X)[:, None, :] - self.means) ** 2).sum(axis=2)
        e = np.exp(-(gaps - gaps.min(axis=1, keepdims=True)))
        return np.asarray(e / e.sum(axis=1, keepdims=True))


def collector(name: Any, kind: str = "numbers", *, seed: int = 0, **options: Any) -> Collector:
    """A collector whose target labels by a digest of the input."""
    X, space = pool_of(kind)

    def ask(rows: Any, round: int) -> Answers:
        return Answers.of_labels([int(h, 16) % C for h in row_hashes(rows)], C)

    def committee(rows: Any, answers: Answers, rng: np.random.Generator) -> list[Prototypes]:
        draws = [rng.integers(0, len(rows), len(rows)) for _ in range(3)]
        return [Prototypes(space, take(rows, d), answers.labels[d], C) for d in draws]

    options.setdefault("reserved", np.arange(N) % 6 == 0)
    options = {"n_classes": C, "pool": X, "space": space, "committee": committee, "seed": seed} | options
    return Collector(name, ask, **options)


def cases() -> list[Any]:
    return [
        pytest.param(name, kind, id=f"{name}-{kind}")
        for name in (*STRATEGIES, "answered mixup")
        for kind in KINDS
        if not (kind == "texts" and name.rpartition(" ")[2] in NEEDS_COLUMNS)
    ]


def spec(name: str) -> Any:
    if name == "answered mixup":
        return {"name": "mixup", "source": "answered"}
    return {"name": name, "clusters": 4} if name == "knockoff" else name


def same(A: Any, B: Any) -> bool:
    return row_hashes(A) == row_hashes(B)
