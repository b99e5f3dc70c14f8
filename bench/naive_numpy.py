"""The metrics of the score pass as somebody with NumPy would write them: the anchor of bench_scores.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def score_pass(scores: Array, reference: Array) -> dict[str, Array]:
    """Return ranges, variance, votes, agreement with a reference and the samples in dispute.

    ``scores`` is (M, N, C), or (M, N) as P(class 1); ``reference`` (N,) decisions. Values are not checked.
    """
    if scores.ndim == 2:
        decisions, classes = (scores > 0.5).astype(np.uint8), 2
    else:
        decisions, classes = scores.argmax(axis=2), scores.shape[2]
    differs = decisions != reference
    return {
        "low": scores.min(axis=0),
        "high": scores.max(axis=0),
        "variance": scores.var(axis=0, dtype=np.float64),
        "votes": np.stack([np.count_nonzero(decisions == c, axis=0) for c in range(classes)], axis=1),
        "fidelity": 1 - differs.mean(axis=1),
        "ambiguous": differs.any(axis=0),
    }


def cell_counts(labels: Array, y: Array, groups: Array, n_classes: int = 2, n_groups: int = 4) -> Array:
    """Return how often each model decides each class in each (group, label): one ``numpy.bincount`` a model."""
    cells = (groups * n_classes + y) * n_classes
    size = n_groups * n_classes * n_classes
    counts = np.empty((len(labels), size), dtype=np.int64)
    for k, decided in enumerate(labels):
        counts[k] = np.bincount(cells + decided, minlength=size)
    return counts.reshape(len(labels), n_groups, n_classes, n_classes)
