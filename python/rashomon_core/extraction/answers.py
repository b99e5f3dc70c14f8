"""What a target said about inputs, as the one who asks gets to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError

__all__ = ["Answers"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to n inputs.

    Attributes
    ----------
    labels : (n,) int64
        Class indices.
    proba : (n, C) float64, or None
        Probabilities that sum to 1, as far as the output shows them: rounded ones are divided by their sum, what
        top-k hides is spread evenly over the hidden classes, none of which gets more than the least shown one.
        None when only labels are answered.
    raw : (n,) or (n, C) array
        The answer itself, as it came back: labels, probabilities (NaN where hidden), or logits.
    """

    labels: Array
    proba: Array | None
    raw: Array
    n_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def soft(self) -> Array:
        """Return (n, C) float64: the probabilities, or one-hot labels where only labels are known."""
        return np.eye(self.n_classes)[self.labels] if self.proba is None else self.proba

    def take(self, rows: Any) -> Answers:
        """Return the answers with these indices, or under this mask."""
        proba = None if self.proba is None else self.proba[rows]
        return Answers(self.labels[rows], proba, self.raw[rows], self.n_classes)

    @classmethod
    def concat(cls, parts: Sequence[Answers]) -> Answers:
        """Return answers one after another; all of one output and one number of classes."""
        if not parts:
            raise UsageError("nothing to put together")
        kinds = {(part.n_classes, part.proba is None) for part in parts}
        if len(kinds) > 1:
            raise UsageError("answers of different outputs cannot be put together")
        proba = None if parts[0].proba is None else np.concatenate([p.proba for p in parts if p.proba is not None])
        labels = np.concatenate([p.labels for p in parts])
        return cls(labels, proba, np.concatenate([p.raw for p in parts]), parts[0].n_classes)

    @classmethod
    def of_labels(cls, labels: Any, n_classes: int) -> Answers:
        """Return answers that show nothing but labels.

        Examples
        --------
        >>> from rashomon_core.extraction.answers import Answers
        >>> Answers.of_labels([1, 0], 2).soft().tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        """
        codes = np.asarray(labels, dtype=np.int64)
        return cls(codes, None, codes, n_classes)

    @classmethod
    def of_proba(cls, proba: Any) -> Answers:
        """Return answers that show all probabilities, (n, C)."""
        p = np.asarray(proba, dtype=np.float64)
        return cls(p.argmax(axis=1).astype(np.int64), p, p, p.shape[1])
