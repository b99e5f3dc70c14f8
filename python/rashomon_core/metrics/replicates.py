"""Replicates of the samples: how often each one was drawn, and sums over what was drawn.

A replicate draws N samples with replacement; it is kept as how often each sample was drawn. Counts of differing
decisions in a replicate are weighted popcounts: the counts of the samples are written in bit planes, and the pair
kernel compares these with the planes of the differences (|a and b| = (|a| + |b| - |a xor b|) / 2). Means of per-sample
values are products of matrices in fixed blocks, quantiles come from cumulative counts in the order of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions, _encode, _sums
from rashomon_core.errors import UsageError
from rashomon_core.inputs import Inputs
from rashomon_core.tiles import BLOCK, GROUP, KEPT_PART, Scratch, SpillArray, run

from .summary import quantiles, whole_weights

__all__ = ["Replicates", "attach", "check_replicates", "interval_of"]

Array = npt.NDArray[Any]
#: Replicates that are worked on together.
TOGETHER = 32


def check_replicates(replicates: int | None, level: float) -> None:
    """Refuse numbers that make no interval."""
    if replicates is None:
        return
    if isinstance(replicates, bool) or not isinstance(replicates, (int, np.integer)) or replicates < 2:
        raise UsageError(f"bootstrap={replicates!r} replicates. Fix: a whole number of at least 2, such as 1000")
    if not (isinstance(level, (float, np.floating)) and 0 < level < 1):
        raise UsageError(f"interval={level!r} is not between 0 and 1. Fix: for example .95")


class Found(dict[str, Any]):
    """An interval as it stands in results; a type of its own, for names of classes may be anything."""


def interval_of(values: Array | str, level: float, replicates: int) -> Found:
    """Return the percentile interval of the values of the replicates, NaN where a replicate has none.

    The ends are values: the smallest ones that (1 - level) / 2 and (1 + level) / 2 of the defined values reach. A text
    is the reason why there is none.
    """
    entry = Found(low=None, high=None, level=float(level), replicates=replicates)
    if isinstance(values, str):
        entry["reason"] = values
        return entry
    defined = values[~np.isnan(values)]
    if len(defined) < len(values):
        entry["undefined"] = len(values) - len(defined)
    if len(defined) == 0:
        entry["reason"] = "not defined in any replicate"
        return entry
    tail = round((1.0 - level) / 2, 12)
    low, high = quantiles(defined, [tail, 1.0 - tail])
    entry.update(low=low if np.isfinite(low) else None, high=high if np.isfinite(high) else None)
    if None in (entry["low"], entry["high"]):
        entry["reason"] = "infinite"
    return entry


def attach(results: dict[str, Any], intervals: Mapping[str, Any]) -> None:
    """Put intervals into the objects of ``results``: "interval" beside "value", "intervals" by name beside others."""

    def put(node: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        for name, inner in found.items():
            if not isinstance(inner, Found):
                if node.get(name):
                    put(node[name], inner)
            elif name == "value":
                if node.get("value") is not None:
                    node["interval"] = dict(inner)
            elif name in node:
                node.setdefault("intervals", {})[name] = dict(inner)
        return node

    def later(make: Callable[[], dict[str, Any]], found: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
        return lambda: put(make(), found)

    for name, found in intervals.items():
        node = results.get(name)
        if callable(node):
            results[name] = later(node, found)
        elif node:
            put(node, found)


@dataclass
class Draws:
    """How often some replicates drew each sample, as the kernels want it: bit planes of counts, or weights."""

    bits: Array | None  # (B, P, G, 1, 8)
    weights: Array | None  # (B, G * 512)

    def sums(self, rows: Array, groups: slice = slice(None)) -> Array:
        """Return (A, B): how often (or with what weight) the set bits of each row (A, G, 8) were drawn."""
        rows = rows[:, groups, None]
        if self.bits is None:
            assert self.weights is not None
            found = np.zeros((len(self.weights), len(rows), 1))
            none = np.zeros((1, *rows.shape[1:]), dtype=np.uint64)
            start, stop, _ = groups.indices(self.weights.shape[1] // GROUP)
            for w, out in zip(self.weights, found, strict=True):
                _decisions.pair_weighted(rows, none, w[start * GROUP : stop * GROUP], out)
            result: Array = np.ascontiguousarray(found[:, :, 0].T)
            return result
        B, P = self.bits.shape[:2]
        drawn = self.bits.reshape(B * P, *self.bits.shape[2:])[:, groups]
        apart = np.zeros((len(rows), B * P), dtype=np.int64)
        _decisions.pair_counts(rows, drawn, apart)
        both = (_popcounts(rows)[:, None] + _popcounts(drawn) - apart) // 2
        scaled: Array = (both.reshape(len(rows), B, P) << np.arange(P)).sum(axis=2)
        return scaled


def _popcounts(rows: Array) -> Array:
    counts = np.zeros((len(rows), 1), dtype=np.int64)
    _decisions.pair_counts(rows, np.zeros((1, *rows.shape[1:]), dtype=np.uint64), counts)
    return counts[:, 0]


class Replicates:
    """Draws of the samples of ``part``, each with a generator of its own, so that threads change nothing.

    Attributes
    ----------
    counts : (R, N) uint8, kept in a file where memory is small
        How often each replicate drew each sample.
    scale : (R,) float64
        Samples, or weight, of each replicate.
    """

    def __init__(self, part: Inputs, number: int, seed: int, *, threads: int, memory: int) -> None:
        self.part, self.number, self.threads, self.memory = part, number, threads, memory
        n = part.view.n_samples
        self.counts = SpillArray((number, n), np.uint8, spill=number * n > int(memory * KEPT_PART))
        seeds = np.random.SeedSequence(seed).spawn(number)

        def work(r: int, scratch: Scratch) -> None:
            rng = np.random.default_rng(seeds[r])
            drawn = rng.integers(0, n, n, dtype=np.uint32)  # no sample is drawn 256 times: it would take 10^500 tries
            place = self.counts.place(slice(r, r + 1), slice(0, n), scratch, "counts")
            place[0] = np.bincount(drawn, minlength=n)
            self.counts.commit(place, slice(r, r + 1), slice(0, n))

        run(range(number), work, threads=threads, label="drawing")
        self.scale: Array = np.full(number, float(n)) if part.weights is None else self.products(np.ones((1, n)))[0]

    def chunks(self) -> list[slice]:
        """Return replicates that are worked on together."""
        width = self.part.view.n_samples * (9 if self.part.weights is not None else 2)
        size = max(1, min(TOGETHER, int(self.memory // self.threads * KEPT_PART) // width))
        return [slice(r, min(r + size, self.number)) for r in range(0, self.number, size)]

    def draws(self, chunk: slice, slots: Array | None = None) -> Draws:
        """Return some replicates; ``slots`` (G * 512,): samples in another order, -1 for none."""
        counts, w = self.counts.read(chunk), self.part.weights
        if slots is not None:
            counts = np.where(slots >= 0, counts[:, slots], 0).astype(np.uint8)
        n = counts.shape[1]
        if w is not None:
            own = w if slots is None else np.where(slots >= 0, w[slots], 0.0)
            weights = np.zeros((len(counts), _encode.group_count(n) * GROUP))
            np.multiply(counts, own, out=weights[:, :n])
            return Draws(None, weights)
        P = max(1, int(counts.max()).bit_length())
        planes = np.empty((len(counts), _encode.group_count(n), P, 8), dtype=np.uint64)
        _encode.encode(np.ascontiguousarray(counts), planes)
        return Draws(np.ascontiguousarray(planes.transpose(0, 2, 1, 3))[:, :, :, None], None)

    def sums(self, rows: Array) -> Array:
        """Return (A, R) sums over all replicates of rows (A, G, 8) of bits."""
        out = np.empty((len(rows), self.number), dtype=np.int64 if self.part.weights is None else np.float64)

        def work(chunk: slice, scratch: Scratch) -> None:
            out[:, chunk] = self.draws(chunk).sums(rows)

        run(self.chunks(), work, threads=self.threads, label="resampling")
        return out

    def products(self, rows: Array) -> Array:
        """Return (D, R): the sums of rows (D, N) of values over the replicates."""
        w = self.part.weights
        out = np.empty((len(rows), self.number))

        def work(chunk: slice, scratch: Scratch) -> None:
            counts = self.counts.read(chunk)
            out[:, chunk] = _block_sums(rows, counts if w is None else counts * w)

        run(self.chunks(), work, threads=self.threads, label="resampling")
        return out

    def shares(self, sums: Array) -> Array:
        """Return sums over the replicates (..., R) as shares; NaN where nothing with a weight was drawn."""
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Array = sums / self.scale
        return result

    def quantiles(self, values: Array, levels: Sequence[float]) -> Array:
        """Return (levels, R): the quantiles of per-sample values (N,) in every replicate, as profiles have them.

        Level 1 is the maximum. Sorted once, O(N) a replicate.
        """
        order = np.argsort(values, kind="stable")
        ordered, w = values[order], self.part.weights
        out = np.full((len(levels), self.number), np.nan)

        def work(chunk: slice, scratch: Scratch) -> None:
            for r, counts in enumerate(self.counts.read(chunk), chunk.start):
                weights = counts if w is None else whole_weights(counts * w) if self.scale[r] > 0 else None
                if weights is not None:
                    reached = np.cumsum(weights[order], dtype=np.float64)  # whole numbers: exact
                    reached /= reached[-1]
                    out[:, r] = ordered[np.searchsorted(reached, levels, side="left")]

        run(self.chunks(), work, threads=self.threads, label="resampling quantiles")
        return out

    def blocks(self, planes: SpillArray) -> list[slice]:
        """Return models whose planes are read together."""
        row = planes.nbytes // planes.shape[0]
        size = max(4, min(256, int(self.memory * KEPT_PART) // (3 * row)))
        return [slice(k, min(k + size, planes.shape[0])) for k in range(0, planes.shape[0], size)]


def _block_sums(rows: Array, weights: Array) -> Array:
    totals = np.zeros((-(-rows.shape[1] // BLOCK), len(rows), len(weights)))
    _sums.products(rows, np.ascontiguousarray(weights), totals)
    result = np.zeros(totals.shape[1:])
    for block in totals:
        result += block
    return result
