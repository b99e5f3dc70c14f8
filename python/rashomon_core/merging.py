"""What has been seen of a tensor so far, and how two such states become one.

A state is per-sample results in spans of samples that have seen the same models, and sums for each model. Merging is
the only way anything gets in: a chunk is visited on its own, becomes a state of its own, and is merged.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInputError
from .metrics.channel import CapacityRule, ChannelSolver, bounds_of_ends, bounds_of_ranges, merged_ends
from .metrics.visit import LOSSES, Request, Visit
from .predictions import Predictions
from .tiles import BLOCK, Plan, SpillArray

__all__ = ["MERGE_RULES", "Span", "State", "Window"]

Array = npt.NDArray[Any]
Range = tuple[int, int]
Rectangle = tuple[int, int, int, int]
#: Samples whose votes are squared together.
CHUNK = 1 << 16

#: How two states of a field become one. Blocks are 4,096 samples, counted from the first of a chunk.
MERGE_RULES = {
    "models": "disjoint union: a (model, sample) may be given once",
    "pairs": "disjoint union: a (pair of models, sample) may be compared once",
    "votes": "sum, exact",
    "union": "logical or",
    "low": "minimum",
    "high": "maximum",
    "ends": "of two classes in two columns: the rows with the least and the most of class 1 "
    "(ties: the least mass of class 1, then the most of class 0)",
    "moments": "(count, shift, s1, s2) of each block of models and sample, folded in the order of the models as soon "
    "as those before are there: re-shifted to the first block's shift and added",
    "variance": "given once, by a chunk with all models or from the folded moments",
    "lower": "given once, by a chunk with all models; of two classes also from low and high, or ends",
    "upper": "as lower",
    "status": "as lower",
    "mismatches": "sum, exact",
    "cells": "sum, exact; weights as weighted",
    "weighted": "totals of each block, added in the order of the blocks once all samples before are there",
    "losses": "as weighted",
    "delta": "as weighted",
    "pair_counts": "sum, exact; weights as weighted",
}
#: Those of samples that are combined value by value.
COMBINED: dict[str, Callable[[Array, Array], Array]] = {
    "votes": np.add,
    "union": np.logical_or,
    "low": np.minimum,
    "high": np.maximum,
    "ends": merged_ends,
}


class Window:
    """Sums over a range of models (or of both of a pair); zero outside. It grows by doubling."""

    def __init__(self, start: tuple[int, ...], array: Array) -> None:
        self.start = self.base = start
        self.stop = tuple(a + n for a, n in zip(start, array.shape, strict=False))
        self.array = array

    @property
    def values(self) -> Array:
        """The array of models start..stop."""
        places = zip(self.start, self.stop, self.base, strict=True)
        result: Array = self.array[tuple(slice(a - base, b - base) for a, b, base in places)]
        return result

    def add(self, other: Window, limit: int) -> None:
        """Add another window of models below ``limit``."""
        start = tuple(map(min, self.start, other.start))
        stop = tuple(map(max, self.stop, other.stop))
        ends = [base + n for base, n in zip(self.base, self.array.shape, strict=False)]
        if any(a < base for a, base in zip(start, self.base, strict=True)) or any(map(int.__gt__, stop, ends)):
            own, shape, base = self.values, [], []
            for axis, (a, b) in enumerate(zip(start, stop, strict=True)):
                room = max(b - a, min(limit, 2 * self.array.shape[axis]))
                first = max(0, b - room) if a < self.start[axis] else min(a, limit - room)
                shape.append(room)
                base.append(first)
            grown = np.zeros((*shape, *self.array.shape[len(start) :]), self.array.dtype)
            was = self.start
            self.array, self.base = grown, tuple(base)
            self.start, self.stop = was, tuple(a + n for a, n in zip(was, own.shape, strict=False))
            self.values[...] = own
        self.start, self.stop = start, stop
        places = zip(other.start, other.stop, self.base, strict=True)
        self.array[tuple(slice(a - base, b - base) for a, b, base in places)] += other.values

    def copy(self) -> Window:
        """Return one with an array of its own."""
        return Window(self.start, self.values.copy())


class _Gathered(SpillArray):
    """Columns (columns, N) that lie in the spans, as if they were spilled: read in pieces, never made whole."""

    def __init__(self, spans: list[Span], columns: Callable[[Span], Array]) -> None:
        self.spans, self.columns = spans, columns
        few = [columns(span.part(span.start, span.start + 1)) for span in spans]
        self.shape, self.dtype = (few[0].shape[1], spans[-1].stop), np.result_type(*{one.dtype for one in few})

    @property
    def in_memory(self) -> bool:
        """Not as one array."""
        return False

    def read(self, rows: slice, columns: slice | None = None) -> Array:
        """Return a new array of ``[rows, columns]``."""
        columns = slice(0, self.shape[1]) if columns is None else columns
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        first = bisect.bisect_right(self.spans, columns.start, key=lambda span: span.stop)
        for span in itertools.islice(self.spans, first, None):
            a, b = max(span.start, columns.start), min(span.stop, columns.stop)
            if a >= b:
                break
            part = self.columns(span.part(a, b))
            out[:, a - columns.start : b - columns.start] = part[:, rows].T
        return out


def _join(ranges: list[Range]) -> list[Range]:
    """Return disjoint ranges in order, neighbours as one."""
    joined: list[Range] = []
    for a, b in sorted(ranges):
        if joined and joined[-1][1] == a:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined


def _area(rectangle: Rectangle) -> int:
    """Return the pairs of a rectangle; a square of the same models has each pair once, and each model with itself."""
    a, b, c, d = rectangle
    return (b - a) * (b - a + 1) // 2 if (a, b) == (c, d) else (b - a) * (d - c)


@dataclass
class Span:
    """Samples ``start..stop``, which have all seen the same ``models`` and compared the same ``pairs`` of blocks."""

    start: int
    stop: int
    models: list[Range]
    pairs: list[Rectangle] = field(default_factory=list)
    fields: dict[str, Array] = field(default_factory=dict)
    moments: dict[Range, tuple[Array, Array, Array]] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Span:
        """Return views of some of the samples."""
        at = slice(start - self.start, stop - self.start)
        fields = {name: array[at] for name, array in self.fields.items()}
        moments = {key: (s[at], a[at], b[at]) for key, (s, a, b) in self.moments.items()}
        return Span(start, stop, list(self.models), list(self.pairs), fields, moments)

    def copy(self) -> Span:
        """Return one with arrays of its own."""
        fields = {name: array.copy() for name, array in self.fields.items()}
        moments = {key: (s.copy(), a.copy(), b.copy()) for key, (s, a, b) in self.moments.items()}
        return Span(self.start, self.stop, list(self.models), list(self.pairs), fields, moments)

    def overlap(self, other: Span) -> tuple[str, Range] | None:
        """Return what both have seen of the same samples, and models of it."""
        for a, b in self.models:
            for c, d in other.models:
                if a < d and c < b:
                    return "models", (max(a, c), min(b, d))
        for a, b, c, d in self.pairs:
            for e, f, g, h in other.pairs:
                if a < f and e < b and c < h and g < d:
                    return "pairs", (max(a, e), min(b, f))
        return None

    def continues_in(self, other: Span) -> bool:
        """Whether the other one follows and has seen the same."""
        seen, theirs = ((s.models, s.pairs, s.fields.keys(), s.moments.keys()) for s in (self, other))
        return self.stop == other.start and seen == theirs

    def take(self, other: Span) -> None:
        """Take in another span of the same samples."""
        self.models = _join(self.models + other.models)
        self.pairs = sorted(self.pairs + other.pairs)
        for name, array in other.fields.items():
            mine = self.fields.get(name)
            self.fields[name] = array if mine is None else COMBINED[name](mine, array)
        self.moments.update(other.moments)

    @property
    def arrays(self) -> Iterator[Array]:
        """All arrays."""
        yield from self.fields.values()
        for three in self.moments.values():
            yield from three


@dataclass
class State:
    """What was seen of (M, N): ``spans`` in order, and the sums of models.

    ``counts``: exact sums by field. ``totals``: by (start, stop) of a block and field, floats that wait for the
    samples before; ``folded``: their sums over the samples up to ``folded_to``.
    """

    n_models: int
    n_samples: int
    ddof: int = 0
    capacity: CapacityRule | None = None
    pairs: bool = False
    spans: list[Span] = field(default_factory=list)
    counts: dict[str, Window] = field(default_factory=dict)
    totals: dict[Range, dict[str, Window]] = field(default_factory=dict)
    folded: dict[str, Window] = field(default_factory=dict)
    folded_to: int = 0

    # -- merging

    def check(self, other: Span) -> None:
        """Refuse a span of what was seen before."""
        for span in self.spans[self._among(other.start, other.stop)]:
            found = span.overlap(other)
            if found is not None:
                what = "models and samples" if found[0] == "models" else "pairs of models"
                raise InvalidInputError(
                    f"{what} were given before",
                    where=f"models {found[1][0]}..{found[1][1] - 1}, sample {max(span.start, other.start)}",
                    fix="give every (model, sample) once"
                    if found[0] == "models"
                    else "compare every two blocks of models once on the same samples",
                )

    def _among(self, start: int, stop: int) -> slice:
        """Return which spans have some of the samples start..stop."""
        first = bisect.bisect_right(self.spans, start, key=lambda span: span.stop)
        return slice(first, bisect.bisect_left(self.spans, stop, lo=first, key=lambda span: span.start))

    def merge(self, other: State) -> None:
        """Take in another state, whose arrays become this one's; nothing happens where they overlap."""
        for span in other.spans:
            self.check(span)
        touched = self._among(other.spans[0].start, other.spans[-1].stop) if other.spans else slice(0, 0)
        both = (self.spans[touched], other.spans)
        edges = {e for spans in both for s in spans for e in (s.start, s.stop)}
        cuts = np.array(sorted(edges), dtype=np.int64)
        mine, theirs = ({s.start: s for s in _cut(spans, cuts)} for spans in both)
        for start, span in theirs.items():
            if start in mine:
                mine[start].take(span)
            else:
                mine[start] = span
            self._settle(mine[start])
        self.spans[touched] = [mine[start] for start in sorted(mine)]
        self._add(self.counts, other.counts)
        for key, windows in other.totals.items():
            self._add(self.totals.setdefault(key, {}), windows)
        if other.folded_to:  # then nothing of these samples is here
            self.folded, self.folded_to = other.folded, other.folded_to
        self._fold()

    def _add(self, into: dict[str, Window], windows: dict[str, Window]) -> None:
        for name, window in windows.items():
            if name in into:
                into[name].add(window, self.n_models)
            else:
                into[name] = window

    def _settle(self, span: Span) -> None:
        """Fold what can be folded, and finish samples that have seen all models."""
        keys = sorted(span.moments)
        while len(keys) > 1 and keys[0][0] == 0 and keys[0][1] == keys[1][0]:
            first, second = keys[:2]
            base, s1, s2 = span.moments.pop(first)
            shift, q1, q2 = span.moments.pop(second)
            count = second[1] - second[0]
            d = shift.astype(np.float64) - base
            span.moments[0, second[1]] = (
                base.astype(np.float64),
                s1 + (q1 + count * d),
                s2 + (q2 + 2.0 * d * q1 + count * d * d),
            )
            keys = sorted(span.moments)
        M, fields = self.n_models, span.fields
        if span.models != [(0, M)]:
            return
        if span.moments:
            _, s1, s2 = span.moments.pop((0, M))
            left = np.maximum(s2 - s1 * s1 / M, 0.0)
            fields["variance"] = left / (M - self.ddof) if self.ddof < M else np.full_like(left, np.nan)
        if self.capacity is not None and "lower" not in fields and "low" in fields:
            ends = fields.pop("ends", None)
            lower, upper = bounds_of_ranges(fields["low"], fields["high"]) if ends is None else bounds_of_ends(ends)
            fields |= {"lower": lower, "upper": upper}
            fields["status"] = self.capacity.closed_status(upper - lower).astype(np.uint8)

    def _complete(self, span: Span) -> bool:
        return span.models == [(0, self.n_models)] and (not self.pairs or self._compared(span))

    def _compared(self, span: Span) -> bool:
        return sum(map(_area, span.pairs)) == self.n_models * (self.n_models + 1) // 2

    def _fold(self) -> None:
        """Add the totals of the samples up to the first that is not complete, block by block."""
        at = self.folded_to
        for span in itertools.islice(self.spans, self._among(at, at + 1).start, None):
            if span.start != at or not self._complete(span):
                break
            at = span.stop
        if at == self.folded_to:
            return
        for key in sorted(key for key in self.totals if key[1] <= at):
            self._add(self.folded, self.totals.pop(key))
        self.folded_to = at

    # -- looking

    def gap(self) -> InvalidInputError | None:
        """Return an error that names the first sample for which something is missing, or None."""
        at, M = 0, self.n_models
        for span in [*self.spans, Span(self.n_samples, self.n_samples, [])]:
            if span.start != at or (span.start < span.stop and span.models != [(0, M)]):
                seen = 0 if span.start != at else sum(b - a for a, b in span.models)
                absent = next((b for a, b in span.models if a == 0), 0) if span.start == at else 0
                return InvalidInputError(
                    f"{seen} of {M} models were given",
                    where=f"sample {at}",
                    fix=f"update with the missing chunks before compute(); model {absent} is the first that is missing",
                )
            if self.pairs and span.start < span.stop and not self._compared(span):
                return InvalidInputError(
                    f"{sum(map(_area, span.pairs)) - M} of {M * (M - 1) // 2} pairs of models were compared",
                    where=f"sample {at}",
                    fix="update_pairs with the missing pairs of blocks of models",
                )
            at = span.stop
        return None

    def covers(self, models: Range, samples: Range) -> bool:
        """Whether every one of these models was given for every one of these samples."""
        at = samples[0]
        for span in self.spans:
            if span.stop <= at:
                continue
            if span.start > at or not any(a <= models[0] and models[1] <= b for a, b in span.models):
                return False
            at = span.stop
            if at >= samples[1]:
                return True
        return False

    def whole(self, name: str) -> Array:
        """Return a field of all samples; the spans keep views of it."""
        parts = [span.fields[name] for span in self.spans]
        if len(parts) == 1:
            return parts[0]
        result = np.empty((self.n_samples, *parts[0].shape[1:]), np.result_type(*parts))
        for span in self.spans:
            result[span.start : span.stop] = span.fields[name]
            span.fields[name] = result[span.start : span.stop]
        return result

    def compact(self) -> None:
        """Make neighbours that have seen the same one span."""
        runs: list[list[Span]] = []
        for span in self.spans:
            if runs and runs[-1][-1].continues_in(span):
                runs[-1].append(span)
            else:
                runs.append([span])
        self.spans = [run[0] if len(run) == 1 else _joined(run) for run in runs]

    def copy(self) -> State:
        """Return one with arrays of its own."""

        def copied(windows: dict[str, Window]) -> dict[str, Window]:
            return {name: window.copy() for name, window in windows.items()}

        return State(
            self.n_models,
            self.n_samples,
            self.ddof,
            self.capacity,
            self.pairs,
            [span.copy() for span in self.spans],
            copied(self.counts),
            {key: copied(windows) for key, windows in self.totals.items()},
            copied(self.folded),
            self.folded_to,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        windows = [*self.counts.values(), *self.folded.values(), *(w for d in self.totals.values() for w in d.values())]
        return sum(a.nbytes for s in self.spans for a in s.arrays) + sum(w.array.nbytes for w in windows)

    # -- from a visit

    def put_visit(self, span: Span, found: Visit, m: slice) -> None:
        """Put what a visit of models ``m`` found into ``span``, which is put here, and into sums."""
        self.spans.append(span)
        fields = span.fields
        assert found.votes is not None
        fields["votes"] = found.votes
        if "reference" in found.unions:
            fields["union"] = found.unions["reference"]
        if found.low is not None and found.high is not None and found.variance is not None:
            fields |= {"low": found.low.array().T, "high": found.high.array().T}
            if found.moments is None:
                fields["variance"] = found.variance.array().T
            else:
                span.moments[m.start, m.stop] = found.moments
        if found.ends is not None:
            fields["ends"] = found.ends
        if found.capacity is not None:
            fields["lower"], fields["upper"] = found.capacity.bounds.array()
            fields["status"] = found.capacity.status
        if found.mismatches:
            counts = np.stack(list(found.mismatches.values()), axis=1)
            self.counts["mismatches"] = Window((m.start,), counts)
        for name in ("weighted", "losses"):
            if name in found.blocks:
                self.put(name, np.moveaxis(found.blocks[name], (2, 1), (0, 1)), (m.start,), span, blocks=True)
        if found.cells is not None:
            weighted = "cells" in found.blocks
            cells = found.blocks["cells"] if weighted else found.cells
            self.put("cells", cells, (m.start,), span, blocks=weighted)

    def put(self, name: str, sums: Array, start: tuple[int, ...], span: Span, *, blocks: bool) -> None:
        """Put exact sums of models from ``start`` on, or the totals (B, ...) of each block of ``span``, here."""
        if not blocks:
            self.counts[name] = Window(start, sums)
            return
        for b, block in enumerate(sums):
            first = span.start + b * BLOCK
            key = (first, min(first + BLOCK, span.stop))
            self.totals.setdefault(key, {})[name] = Window(start, np.ascontiguousarray(block))

    # -- as a visit

    def to_visit(self, view: Predictions, request: Request) -> Visit:
        """Return what a visit of the whole would have found, spilled or not."""
        found = Visit(Plan(((0, self.n_samples),), self.n_models))
        if request.vote_sums:
            found.vote_squares = SpillArray.of(self.vote_squares()[None])
        if request.votes or request.agree is not None:
            votes = self.whole("votes")
            if request.votes:
                found.votes = votes.astype(np.int64)
            if request.agree is not None:
                found.agree = votes[np.arange(len(votes)), request.agree].astype(np.int32)
        if request.ranges:
            found.low, found.high, found.variance = (
                self._column(lambda span, name=name: span.fields[name], request.spill, name)  # type: ignore[misc]
                for name in ("low", "high", "variance")
            )
        if request.capacity is not None:
            solver = found.capacity = ChannelSolver(view, request.capacity)
            bounds = self._column(lambda span: np.stack([span.fields["lower"], span.fields["upper"]], axis=1), True)
            if request.spill:
                solver.bounds = bounds
            else:
                solver.bounds.array()[:] = bounds.read(slice(0, 2))
            solver.status[:] = self.whole("status")
        weighted = request.weights is not None
        for r, reference in enumerate(request.references):
            found.mismatches[reference.name] = np.ascontiguousarray(self.counts["mismatches"].values[:, r])
            if weighted:
                found.mismatch_weights[reference.name] = np.ascontiguousarray(self.folded["weighted"].values[:, r])
            if reference.union:
                found.unions[reference.name] = self.whole("union")
        for name in request.losses:
            found.losses[name] = np.ascontiguousarray(self.folded["losses"].values[:, LOSSES.index(name)])
        if request.cells is not None:
            found.cells = (self.folded if weighted else self.counts)["cells"].values
        return found

    def _column(self, columns: Callable[[Span], Array], spill: bool, name: str = "") -> SpillArray:
        return _Gathered(self.spans, columns) if spill else SpillArray.of(self.whole(name).T)

    def vote_squares(self) -> Array:
        """Return the sums of squared votes, (N,) integers."""
        return np.concatenate([_squares(span.fields["votes"], self.n_models) for span in self.spans])

    # -- as plain data

    def to_plain(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return a JSON-ready header and arrays by name."""
        self.compact()
        arrays: dict[str, Array] = {}

        def windows(given: dict[str, Window], prefix: str) -> dict[str, list[int]]:
            arrays.update({f"{prefix}.{name}": w.values for name, w in given.items()})
            return {name: list(w.start) for name, w in given.items()}

        spans: list[dict[str, Any]] = []
        for k, span in enumerate(self.spans):
            arrays.update({f"span{k}.{name}": array for name, array in span.fields.items()})
            for (a, b), three in span.moments.items():
                for part, array in zip(("shift", "s1", "s2"), three, strict=True):
                    arrays[f"span{k}.moments{a}-{b}.{part}"] = array
            entry = {"start": span.start, "stop": span.stop, "models": span.models, "pairs": span.pairs}
            spans.append({**entry, "fields": sorted(span.fields), "moments": sorted(span.moments)})
        header = {
            "spans": spans,
            "counts": windows(self.counts, "counts"),
            "totals": [
                {"start": a, "stop": b, "windows": windows(given, f"totals{a}-{b}")}
                for (a, b), given in sorted(self.totals.items())
            ],
            "folded": windows(self.folded, "folded"),
            "folded_to": self.folded_to,
        }
        return header, arrays

    def fill(self, header: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Become what :meth:`to_plain` returned; ValueError or KeyError where it does not fit."""

        def windows(given: dict[str, list[int]], prefix: str) -> dict[str, Window]:
            own = {name: np.require(arrays[f"{prefix}.{name}"], requirements="W") for name in given}
            return {name: Window(tuple(start), own[name]) for name, start in given.items()}

        self.spans = []
        for k, entry in enumerate(header["spans"]):
            fields = {name: arrays[f"span{k}.{name}"] for name in entry["fields"]}
            moments = {
                (a, b): tuple(arrays[f"span{k}.moments{a}-{b}.{part}"] for part in ("shift", "s1", "s2"))
                for a, b in entry["moments"]
            }
            span = Span(
                entry["start"],
                entry["stop"],
                [(a, b) for a, b in entry["models"]],
                [(a, b, c, d) for a, b, c, d in entry["pairs"]],
                fields,
                moments,  # type: ignore[arg-type]
            )
            if any(len(array) != span.stop - span.start for array in span.arrays):
                raise ValueError(f"samples {span.start}..{span.stop} with arrays of another length")
            self.spans.append(span)
        self.counts = windows(header["counts"], "counts")
        self.totals = {
            (entry["start"], entry["stop"]): windows(entry["windows"], f"totals{entry['start']}-{entry['stop']}")
            for entry in header["totals"]
        }
        self.folded, self.folded_to = windows(header["folded"], "folded"), header["folded_to"]


def _squares(votes: Array, n_models: int) -> Array:
    """Return the sums of squared votes, (S,)."""
    wide = np.int32 if n_models < 46_341 else np.int64  # M^2 fits 32 bits
    result = np.empty(len(votes), dtype=wide)
    for i in range(0, len(votes), CHUNK):
        exact: Any = votes[i : i + CHUNK].astype(wide)
        result[i : i + CHUNK] = np.einsum("sc,sc->s", exact, exact)
    return result


def _joined(run: list[Span]) -> Span:
    """Return neighbours as one span; their own arrays go as the joined ones come."""
    first = run[0]
    names, keys = list(first.fields), list(first.moments)
    fields = {name: np.concatenate([span.fields.pop(name) for span in run]) for name in names}
    moments = {}
    for key in keys:
        three = [span.moments.pop(key) for span in run]
        moments[key] = tuple(np.concatenate([parts[i] for parts in three]) for i in range(3))
    return Span(first.start, run[-1].stop, first.models, first.pairs, fields, moments)  # type: ignore[arg-type]


def _cut(spans: list[Span], cuts: Array) -> Iterator[Span]:
    """Yield the spans, cut at these samples."""
    for span in spans:
        first, last = np.searchsorted(cuts, [span.start, span.stop])
        places = cuts[first : last + 1].tolist()
        if len(places) == 2:
            yield span
        else:
            yield from (span.part(a, b) for a, b in itertools.pairwise(places))
