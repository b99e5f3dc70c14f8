"""``MultiplicityAccumulator``: the metrics of the pass, fed chunk by chunk.

Chunks are blocks of models and samples in any order. Each state field declares how two states merge; integers come
out the same in any order, floats in the stated one (below).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInputError, UsageError
from .metrics.decisions import rate_from_squares
from .metrics.visit import Reference, Request, share, visit
from .predictions import KINDS, Kind, Predictions
from .vectors import as_decisions

__all__ = ["MultiplicityAccumulator"]

Array = npt.NDArray[Any]

#: How two states of a field become one.
MERGE_RULES = {
    "seen": "disjoint union: a (model block, sample) may be given once",
    "votes": "sum, exact",
    "mismatches": "sum, exact",
    "union": "logical or",
    "low": "minimum",
    "high": "maximum",
    "moments": "one (count, shift, s1, s2) per model block and sample, folded at compute() in the order of the models: "
    "re-shifted to the first block's shift and added",
}


class MultiplicityAccumulator:
    """Update with chunks, merge with other accumulators, compute at the end.

    Parameters
    ----------
    n_models, n_samples, n_classes : int
        Shape of the whole.
    kind : {"labels", "proba", "log_proba", "logits"}
        What chunks hold.
    metrics : {"pass"}
        Ambiguity, discrepancy, fidelity (with a reference), votes, disagreement rate, ranges, score variance.
    reference : (N,) array-like of class indices, optional
        For ambiguity and discrepancy.

    Notes
    -----
    Integers and ranges are the same bits for any order of updates and merges. Score variances are the same bits for
    any order of the same chunks; other cuts along the models agree to rounding (about 1e-15). State: O(N C) numbers,
    and O(N C) more for each block of models.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> acc = rc.MultiplicityAccumulator(2, 4, 2, kind="labels", reference=[0, 1, 1, 1])
    >>> acc.update([[0, 1, 1, 0]], models=slice(0, 1)).update([[0, 1, 0, 0]], models=slice(1, 2)).compute()["ambiguity"]
    0.5
    """

    def __init__(
        self,
        n_models: int,
        n_samples: int,
        n_classes: int,
        *,
        kind: Kind,
        metrics: str | Sequence[str] = "pass",
        reference: object = None,
    ) -> None:
        if metrics != "pass":
            raise UsageError(f"metrics={metrics!r}. Fix: 'pass' is what can be accumulated")
        if kind not in KINDS:
            raise UsageError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
        for value, name in ((n_models, "n_models"), (n_samples, "n_samples"), (n_classes, "n_classes")):
            if value < 1:
                raise UsageError(f"{name}={value}. Fix: at least 1")
        self.n_models, self.n_samples, self.n_classes, self.kind = n_models, n_samples, n_classes, kind
        self.reference: Array | None = None
        if reference is not None:  # a copy: it is kept from call to call
            self.reference = as_decisions(reference, n_samples, n_classes, "reference", None).copy()
        self.reset()

    def reset(self) -> MultiplicityAccumulator:
        """Forget everything; return self."""
        N, C = self.n_samples, self.n_classes
        self._seen: dict[tuple[int, int], Array] = {}
        self._votes = np.zeros((N, C), dtype=np.int64)
        self._mismatches = np.zeros(self.n_models, dtype=np.int64)
        self._union = np.zeros(N, dtype=bool)
        self._low: Array | None = None
        self._high: Array | None = None
        self._moments: dict[tuple[int, int], tuple[Array, Array, Array]] = {}
        return self

    def update(
        self, chunk: object, *, models: slice | None = None, samples: slice | None = None
    ) -> MultiplicityAccumulator:
        """Take in the predictions of a block of models on a block of samples; return self.

        Raises
        ------
        InvalidInputError
            If the chunk has not the shape of the slices, holds bad values, or overlaps what was given before. The
            accumulator is then as it was.
        """
        m = slice(0, self.n_models) if models is None else _plain(models, self.n_models, "models")
        n = slice(0, self.n_samples) if samples is None else _plain(samples, self.n_samples, "samples")
        classes = self.n_classes if self.kind == "labels" else None
        view = (
            chunk
            if isinstance(chunk, Predictions)
            else Predictions.from_array(chunk, kind=self.kind, n_classes=classes)
        )
        if view.kind != self.kind or view.n_classes != self.n_classes:
            raise InvalidInputError(
                f"a chunk of {view.kind} with {view.n_classes} classes for an accumulator of {self.kind} with "
                f"{self.n_classes}"
            )
        if (view.n_models, view.n_samples) != (m.stop - m.start, n.stop - n.start):
            raise InvalidInputError(
                f"a chunk of {view.n_models} models x {view.n_samples} samples for slices of "
                f"{m.stop - m.start} x {n.stop - n.start}"
            )
        self._check_new(m, n)
        scores = self.kind != "labels"
        references = [] if self.reference is None else [Reference("r", self.reference[n], union=True)]
        found = visit(view, Request(votes=True, ranges=scores, moments=scores, references=references))
        assert found.votes is not None
        self._votes[n] += found.votes
        if references:
            self._mismatches[m] += found.mismatches["r"]
            self._union[n] |= found.unions["r"]
        key = (m.start, m.stop)
        if found.low is not None and found.high is not None and found.moments is not None:
            low, high = found.low.array(), found.high.array()
            if self._low is None or self._high is None:
                shape = (self.n_samples, low.shape[1])
                self._low = np.full(shape, np.inf, dtype=low.dtype)
                self._high = np.full(shape, -np.inf, dtype=low.dtype)
            if low.dtype != self._low.dtype:
                self._low, self._high = self._low.astype(np.float64), self._high.astype(np.float64)
            np.minimum(self._low[n], low, out=self._low[n])
            np.maximum(self._high[n], high, out=self._high[n])
            shift, s1, s2 = self._moments_of(key, low.shape[1])
            shift[n], s1[n], s2[n] = found.moments
        self._seen.setdefault(key, np.zeros(self.n_samples, dtype=bool))[n] = True
        return self

    def _moments_of(self, key: tuple[int, int], columns: int) -> tuple[Array, Array, Array]:
        if key not in self._moments:
            shape = (self.n_samples, columns)
            self._moments[key] = (np.zeros(shape), np.zeros(shape), np.zeros(shape))
        return self._moments[key]

    def _check_new(self, m: slice, n: slice) -> None:
        for (start, stop), flags in self._seen.items():
            overlaps = start < m.stop and m.start < stop
            if overlaps and flags[n].any():
                i = n.start + int(np.argmax(flags[n]))
                raise InvalidInputError(
                    "models and samples were given before",
                    where=f"models {max(start, m.start)}..{min(stop, m.stop) - 1}, sample {i}",
                    fix="give every (model, sample) once",
                )

    def merge(self, other: MultiplicityAccumulator) -> MultiplicityAccumulator:
        """Take in what another accumulator of the same shape has seen; return self.

        Raises
        ------
        InvalidInputError
            For other shapes, kinds or references, and when both have seen the same.
        """
        same = ("n_models", "n_samples", "n_classes", "kind")
        if any(getattr(self, a) != getattr(other, a) for a in same) or not np.array_equal(
            self.reference if self.reference is not None else [],
            other.reference if other.reference is not None else [],
        ):
            raise InvalidInputError("the accumulators differ in shape, kind or reference")
        for (start, stop), flags in other._seen.items():
            for run in _runs(flags):
                self._check_new(slice(start, stop), run)
        self._votes += other._votes
        self._mismatches += other._mismatches
        self._union |= other._union
        if other._low is not None and other._high is not None:
            if self._low is None or self._high is None:
                self._low, self._high = other._low.copy(), other._high.copy()
            else:
                self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        for key, flags in other._seen.items():
            own = self._seen.setdefault(key, np.zeros(self.n_samples, dtype=bool))
            if key in other._moments:
                mine = self._moments_of(key, other._moments[key][0].shape[1])
                for a, b in zip(mine, other._moments[key], strict=True):
                    a[flags] = b[flags]
            own |= flags
        return self

    def compute(self) -> dict[str, Any]:
        """Return the metrics of everything seen.

        Returns
        -------
        dict
            "votes" (N, C), "disagreement_rate" (N,), "pairwise_ambiguity"; with a reference "ambiguity",
            "ambiguous_samples", "discrepancy", "mismatches" (M,); with scores "low", "high", "score_variance"
            (N, columns).

        Raises
        ------
        InvalidInputError
            If some model or sample is still missing.
        """
        counts = self._votes.sum(axis=1)
        if (counts != self.n_models).any():
            i = int(np.argmax(counts != self.n_models))
            raise InvalidInputError(
                f"{int(counts[i])} of {self.n_models} models were given",
                where=f"sample {i}",
                fix="update with the missing chunks before compute()",
            )
        squares = (self._votes**2).sum(axis=1)
        result: dict[str, Any] = {
            "votes": self._votes.copy(),
            "disagreement_rate": rate_from_squares(squares, self.n_models),
            "pairwise_ambiguity": share(squares != self.n_models**2),
        }
        if self.reference is not None:
            result["ambiguous_samples"] = self._union.copy()
            result["ambiguity"] = share(self._union)
            result["mismatches"] = self._mismatches.copy()
            result["discrepancy"] = int(self._mismatches.max()) / self.n_samples
        if self._low is not None and self._high is not None:
            result["low"], result["high"] = self._low.copy(), self._high.copy()
            result["score_variance"] = self._variance()
        return result

    def _variance(self) -> Array:
        """Fold the moments of model blocks in the order of the models, sample by sample."""
        columns = next(iter(self._moments.values()))[0].shape[1]
        shape = (self.n_samples, columns)
        base, s1, s2 = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        fresh = np.ones(self.n_samples, dtype=bool)
        for key in sorted(self._moments):
            flags, count = self._seen[key], key[1] - key[0]
            shift, q1, q2 = self._moments[key]
            first = flags & fresh
            base[first] = shift[first]
            fresh &= ~flags
            d = (shift - base)[flags]
            s1[flags] += q1[flags] + count * d
            s2[flags] += q2[flags] + 2.0 * d * q1[flags] + count * d * d
        variance: Array = np.maximum(s2 - s1 * s1 / self.n_models, 0.0) / self.n_models
        return variance

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        arrays = [self._votes, self._mismatches, self._union, *self._seen.values()]
        arrays += [a for t in self._moments.values() for a in t]
        arrays += [a for a in (self._low, self._high) if a is not None]
        return sum(a.nbytes for a in arrays)


def _plain(given: slice, size: int, what: str) -> slice:
    start, stop, step = given.indices(size)
    if step != 1 or stop <= start:
        raise UsageError(f"{what}={given} is not a plain range within 0..{size}")
    if given.stop is not None and given.stop > size:
        raise UsageError(f"{what}={given} goes beyond {size}")
    return slice(start, stop)


def _runs(flags: Array) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
