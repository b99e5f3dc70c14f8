"""Replicates of what is measured by group: fairness over the set, and multiplicity inside each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _encode
from rashomon_core.group_results import FAIRNESS, MULTIPLICITY, GroupRates, collapsed, gap_of
from rashomon_core.tiles import GROUP, KEPT_PART, Scratch, SpillArray, run

from .by_group import readers
from .groups import LEVELS, Gaps, group_rate_names, rates_of, threshold_of
from .planes import mask_words
from .replicates import Replicates
from .summary import rank_of
from .sums import CHUNK
from .visit import Visit

__all__ = ["of_fairness", "of_multiplicity"]

Array = npt.NDArray[Any]
Path = tuple[str, ...]
TOO_MANY_CLASSES = "the decisions of all models, cell by cell and class by class, are beyond the memory budget"


def _nest(values: Mapping[Path, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path, value in values.items():
        node = result
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return result


# -- fairness over the set


def of_fairness(
    drawn: Replicates,
    planes: SpillArray,
    positive: int,
    thresholds: float | dict[str, float] | None,
    *,
    skip_undefined: bool,
) -> dict[str, Any]:
    """Return the values of every replicate by metric and name, as results have them; a text is why there are none."""
    counting = _Counting(drawn, planes)
    groups, labelled = counting.groups, drawn.part.y is not None
    if counting.nbytes > drawn.memory * KEPT_PART:
        columns = ("target", "min", "p5", "p25", "median", "p75", "p95", "max")
        return {
            f"{metric}_{form}": dict.fromkeys(columns, TOO_MANY_CLASSES)
            for metric, needed in FAIRNESS.items()
            if needed == ("selection_rate",) or labelled
            for form in ("difference", "ratio")
        }
    counting.prepare()
    found: dict[Path, Array] = {}

    def work(chunk: slice, scratch: Scratch) -> list[tuple[Path, Array]]:
        B = chunk.stop - chunk.start
        members, target = counting.counts(chunk)
        rates = rates_of(members, groups, labelled, positive)
        own = None if target is None else rates_of(target, groups, labelled, positive)
        parts: list[tuple[Path, GroupRates, GroupRates | None]] = [((), rates, own)]
        for name in rates.columns:
            parts.append((("by_column", name), rates.column(name), None if own is None else own.column(name)))
        values: list[tuple[Path, Array]] = []
        for where, some, its in parts:
            values += ((where + path, x) for path, x in _gaps(some, its, B, thresholds, skip_undefined))
            values += ((where + path, x) for path, x in _rates(some, its, B))
        return values

    def merge(chunk: slice, values: list[tuple[Path, Array]]) -> None:
        for path, some in values:
            if path not in found:
                found[path] = np.full(drawn.number, np.nan)
            found[path][chunk] = some

    run(counting.chunks, work, merge, threads=drawn.threads, label="resampling groups")
    return _nest(found)


def _gaps(
    rates: GroupRates, own: GroupRates | None, B: int, thresholds: float | dict[str, float] | None, skip: bool
) -> Iterator[tuple[Path, Array]]:
    """Fairness metrics of B replicates: over the members, of the target, shares that keep or break a threshold."""
    members, target = Gaps(rates, skip), None if own is None else Gaps(own, skip)
    for metric, needed in FAIRNESS.items():
        if needed != ("selection_rate",) and not rates.has_labels:
            continue
        for form in ("difference", "ratio"):
            name, ratio = f"{metric}_{form}", form == "ratio"
            values = members.values(metric, ratio=ratio).reshape(B, -1)
            ordered, count = np.sort(values, axis=1), np.count_nonzero(~np.isnan(values), axis=1)
            yield from (((name, column), x) for column, x in _extremes(ordered, count))
            for column, level in LEVELS.items():
                ranks = _ranks(level, values.shape[1])[count]
                yield (name, column), np.where(count > 0, ordered[np.arange(B), ranks], np.nan)
            if target is None:
                continue
            answer, threshold = target.values(metric, ratio=ratio), threshold_of(name, thresholds)
            yield (name, "target"), answer
            if threshold is None:
                continue
            kept = values >= threshold if ratio else values <= threshold  # never where undefined
            keeps = answer >= threshold if ratio else answer <= threshold
            share = np.where(count > 0, np.count_nonzero(kept, axis=1) / np.maximum(count, 1), np.nan)
            yield (name, "share_breaking"), np.where(keeps, 1.0 - share, np.nan)
            yield (name, "share_meeting"), np.where(keeps | np.isnan(answer), np.nan, share)


def _rates(rates: GroupRates, own: GroupRates | None, B: int) -> Iterator[tuple[Path, Array]]:
    """Rates of each group in B replicates: over the members, and of the target."""
    for name in group_rate_names(rates):
        values = rates.rate(name).reshape(B, -1, len(rates.groups))
        answers = None if own is None else own.rate(name)
        for g, group in enumerate(rates.groups):
            some = values[:, :, g]
            path = ("by_group", group, "rates", name)
            ordered, count = np.sort(some, axis=1), np.count_nonzero(~np.isnan(some), axis=1)
            yield from (((*path, column), x) for column, x in _extremes(ordered, count))
            if answers is not None:
                yield (*path, "target"), answers[:, g]


@cache
def _ranks(level: float, most: int) -> Array:
    """Return the place of a quantile among 0..most sorted values."""
    return np.array([0, *(rank_of(level, n) for n in range(1, most + 1))])


def _extremes(ordered: Array, count: Array) -> Iterator[tuple[str, Array]]:
    """Min, median and max of the defined values of sorted rows, NaN last; NaN where there are none."""
    at, last = np.arange(len(ordered)), np.maximum(count - 1, 0)
    middle = ordered[at, last // 2], ordered[at, np.minimum(count // 2, ordered.shape[1] - 1)]
    yield "min", ordered[:, 0]
    yield "median", np.where(count > 0, (middle[0] + middle[1]) / 2, np.nan)
    yield "max", ordered[at, last]


class _Counting:
    """Decisions by cell in replicates: samples are put cell by cell, so that every cell has words of its own."""

    def __init__(self, drawn: Replicates, planes: SpillArray) -> None:
        part = drawn.part
        assert part.groups is not None
        self.drawn, self.planes, self.groups, self.C = drawn, planes, part.groups, part.view.n_classes
        codes = self.groups.codes.astype(np.int64)
        if part.y is not None:
            codes = codes * self.C + part.y
        self.cells = len(self.groups.names) * (1 if part.y is None else self.C)
        self.spans, slots, at = [], [], 0
        for cell in range(self.cells):
            own = np.flatnonzero(codes == cell)
            size = _encode.group_count(len(own)) if len(own) else 0
            self.spans.append(slice(at, at + size))
            padded = np.full(size * GROUP, -1, dtype=np.int64)
            padded[: len(own)] = own
            slots.append(padded)
            at += size
        self.order, self.at = np.concatenate(slots), at
        M = part.view.n_models
        self.nbytes = M * at * GROUP // 8 * self.C
        # counts of the last class are what the others leave; weights are never subtracted
        self.counted = self.C - 1 if part.weights is None else self.C
        step = max(1, int(drawn.memory * KEPT_PART) // (16 * M * self.cells * self.C))
        self.chunks = [slice(r, min(r + step, c.stop)) for c in drawn.chunks() for r in range(c.start, c.stop, step)]

    def prepare(self) -> None:
        """Put the decisions of all models, and of the target, into words by class and cell."""
        part = self.drawn.part
        self.whole = mask_words(self.order >= 0)[None]
        self.members = [
            self._words(_decoded(self.planes, models, part.view.n_samples)) for models in self.drawn.blocks(self.planes)
        ]
        self.target = None if part.target is None else self._words(part.target.decisions[None])

    def _words(self, decisions: Array) -> list[Array]:
        placed = np.where(self.order >= 0, decisions[:, self.order], self.C)
        result = []
        for c in range(self.counted):
            flags = np.ascontiguousarray(placed == c, dtype=np.uint8)
            bits = np.empty((len(flags), self.at, 1, 8), dtype=np.uint64)
            _encode.encode(flags, bits)
            result.append(bits[:, :, 0])
        return result

    def counts(self, chunk: slice) -> tuple[Array, Array | None]:
        """Return counts (B * M, cells, C) of the members and (B, cells, C) of the target."""
        draws, B = self.drawn.draws(chunk, self.order), chunk.stop - chunk.start
        kind = np.int64 if self.drawn.part.weights is None else np.float64

        def count(rows: list[list[Array]], models: int) -> Array:
            counts = np.zeros((B, models, self.cells, self.C), dtype=kind)
            start = 0
            for block in rows:
                stop = start + len(block[0])
                for c, flags in enumerate(block):
                    for cell, span in enumerate(self.spans):
                        if span.stop > span.start:
                            counts[:, start:stop, cell, c] = draws.sums(flags, span).T
                start = stop
            if self.counted < self.C:
                for cell, span in enumerate(self.spans):
                    if span.stop > span.start:
                        rest = draws.sums(self.whole, span).T - counts[:, :, cell].sum(axis=2)
                        counts[:, :, cell, self.C - 1] = rest
            return counts.reshape(B * models, self.cells, self.C)

        members = count(self.members, self.drawn.part.view.n_models)
        return members, None if self.target is None else count([self.target], 1)


def _decoded(planes: SpillArray, models: slice, n: int) -> Array:
    """Return the decisions (m, n) of some models."""
    words = planes.read(models)
    m, _, P = words.shape[:3]
    decisions = np.zeros((m, n), dtype=np.uint8 if P <= 8 else np.uint16)
    for p in range(P):
        rows = np.ascontiguousarray(words[:, :, p]).astype("<u8", copy=False).reshape(m, -1).view(np.uint8)
        bits = np.unpackbits(rows, axis=1, bitorder="little", count=n)
        decisions |= bits.astype(decisions.dtype) << p
    return decisions


# -- multiplicity inside groups


def of_multiplicity(
    drawn: Replicates, found: Visit, ddof: int, reasons: Mapping[str, str], *, skip_undefined: bool
) -> dict[str, Any]:
    """Return the values of every replicate by column, group or gap, and metric, as results have them."""
    part, groups = drawn.part, drawn.part.groups
    assert groups is not None
    n, G = len(groups.codes), len(groups.names)
    wanted = {name: read for name, read in readers(found, part.view.n_models, ddof).items() if name not in reasons}
    sums = {name: np.zeros((drawn.number, G)) for name in (*wanted, "")}  # "": samples, or their weight
    for start in range(0, n, CHUNK):
        rows = slice(start, min(start + CHUNK, n))
        values = {name: np.asarray(read(rows), dtype=np.float64) for name, read in wanted.items()}
        codes = groups.codes[rows]

        def work(
            chunk: slice, scratch: Scratch, rows: slice = rows, values: Any = values, codes: Array = codes
        ) -> None:
            for r, counts in enumerate(drawn.counts.read(chunk, rows), chunk.start):
                weights = counts.astype(np.float64) if part.weights is None else counts * part.weights[rows]
                sums[""][r] += np.bincount(codes, weights=weights, minlength=G)
                for name, some in values.items():
                    sums[name][r] += np.bincount(codes, weights=weights * some, minlength=G)

        run(drawn.chunks(), work, threads=drawn.threads, label="resampling groups")
    result: dict[Path, Array] = {}
    for column in (*groups.parts, None):
        names = groups.names if column is None else column.names
        inside = sums if column is None else {name: collapsed(x, column, axis=1) for name, x in sums.items()}
        title = groups.title if column is None else column.name
        for name in wanted:
            with np.errstate(invalid="ignore", divide="ignore"):
                means = np.where(inside[""] > 0, inside[name] / inside[""], np.nan)
            for g, group in enumerate(names):
                result[title, "groups", group, name, MULTIPLICITY[name]] = means[:, g]
            for form in ("difference", "ratio"):
                result[title, "gaps", name, form] = gap_of(means, skip_undefined, ratio=form == "ratio")
    return _nest(result)
