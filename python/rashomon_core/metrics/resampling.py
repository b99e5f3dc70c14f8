"""Bootstrap intervals over samples: every metric on samples that are drawn again, without reading scores again.

A replicate draws N samples with replacement; it is kept as how often each sample was drawn. Counts of differing
decisions in a replicate are weighted popcounts: the counts of the samples are written in bit planes, and the pair
kernel compares these with the planes of the differences (|a and b| = (|a| + |b| - |a xor b|) / 2). Means of per-sample
values are products of matrices in fixed blocks. Membership of the set is not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions, _encode, _scores
from rashomon_core.errors import UsageError
from rashomon_core.inputs import Inputs
from rashomon_core.results import FAIRNESS
from rashomon_core.tiles import BLOCK, GROUP, KEPT_PART, Scratch, SpillArray, plan, read_block, run
from rashomon_core.vectors import target_rows

from .decisions import rate_from_squares
from .groups import rates_of
from .summary import quantiles
from .visit import Visit, column_of, encode_vector, mask_words, squares_of

__all__ = ["Resampling", "attach", "check_replicates", "interval_of"]

Array = npt.NDArray[Any]
#: Replicates that are worked on together.
TOGETHER = 32
#: Rows of per-sample values that are held together.
ROWS = 16
#: Most bits that comparing all pairs in all replicates may take: about ten seconds of one processor.
PAIR_BITS = 2e12
TOO_MANY_PAIRS = "all pairs of models in all replicates are too many. Fix: fewer replicates, or fewer models"
TOO_MANY_CLASSES = "the decisions of all models, cell by cell and class by class, are beyond the memory budget"
LN2 = float(np.log(2.0))


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
class _Draws:
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


@dataclass
class Resampling:
    """Replicates of everything that a visit of ``part`` found; :meth:`intervals` is the result.

    Attributes
    ----------
    references : dict of (N,) decisions
        "reference", "target", "labels": what models are compared with.
    pairs : bool
        Whether the largest disagreement of two models is asked for.
    """

    part: Inputs
    found: Visit
    planes: SpillArray | None
    references: Mapping[str, Array]
    replicates: int
    level: float
    seed: int
    ddof: int
    positive: int
    pairs: bool
    rates: bool
    losses: bool
    threads: int
    memory: int
    values: dict[str, Any] = field(default_factory=dict)

    def intervals(self) -> dict[str, Any]:
        """Return the intervals by metric and name, as :func:`attach` takes them."""
        self._draw()
        self._of_models()
        self._of_samples()
        if self.pairs:
            self._of_pairs()
        if self.rates:
            self._of_groups()
        if self.losses:
            self._of_losses()

        def walk(node: Any) -> Any:
            if isinstance(node, dict):
                return {name: walk(inner) for name, inner in node.items()}
            return interval_of(node, self.level, self.replicates)

        result: dict[str, Any] = walk(self.values)
        return result

    # -- replicates

    def _draw(self) -> None:
        """Draw all replicates, each with a generator of its own, so that threads change nothing."""
        n, R = self.part.view.n_samples, self.replicates
        self.counts = SpillArray((R, n), np.uint8, spill=R * n > int(self.memory * KEPT_PART))
        seeds = np.random.SeedSequence(self.seed).spawn(R)

        def work(r: int, scratch: Scratch) -> None:
            rng = np.random.default_rng(seeds[r])
            drawn = rng.integers(0, n, n, dtype=np.uint32)  # no sample is drawn 256 times: it would take 10^500 tries
            place = self.counts.place(slice(r, r + 1), slice(0, n), scratch, "counts")
            place[0] = np.bincount(drawn, minlength=n)
            self.counts.commit(place, slice(r, r + 1), slice(0, n))

        run(range(R), work, threads=self.threads, label="drawing")
        w = self.part.weights
        if w is None:
            self.scale: Array = np.full(R, float(n))
        else:
            self.scale = self._products(np.ones((1, n)))[0]

    def _chunks(self) -> list[slice]:
        width = self.part.view.n_samples * (9 if self.part.weights is not None else 2)
        size = max(1, min(TOGETHER, int(self.memory // self.threads * KEPT_PART) // width))
        return [slice(r, min(r + size, self.replicates)) for r in range(0, self.replicates, size)]

    def _draws(self, chunk: slice, slots: Array | None = None) -> _Draws:
        """Return some replicates; ``slots`` (G * 512,): samples in another order, -1 for none."""
        counts, w = self.counts.read(chunk), self.part.weights
        if slots is not None:
            counts = np.where(slots >= 0, counts[:, slots], 0).astype(np.uint8)
        n = counts.shape[1]
        if w is not None:
            own = w if slots is None else np.where(slots >= 0, w[slots], 0.0)
            weights = np.zeros((len(counts), _encode.group_count(n) * GROUP))
            np.multiply(counts, own, out=weights[:, :n])
            return _Draws(None, weights)
        P = max(1, int(counts.max()).bit_length())
        planes = np.empty((len(counts), _encode.group_count(n), P, 8), dtype=np.uint64)
        _encode.encode(np.ascontiguousarray(counts), planes)
        return _Draws(np.ascontiguousarray(planes.transpose(0, 2, 1, 3))[:, :, :, None], None)

    def _sums(self, rows: Array) -> Array:
        """Return (A, R) sums over all replicates of rows (A, G, 8) of bits."""
        out = np.empty((len(rows), self.replicates), dtype=np.int64 if self.part.weights is None else np.float64)

        def work(chunk: slice, scratch: Scratch) -> None:
            out[:, chunk] = self._draws(chunk).sums(rows)

        run(self._chunks(), work, threads=self.threads, label="resampling")
        return out

    def _products(self, rows: Array) -> Array:
        """Return (D, R): the sums of rows (D, N) of values over the replicates."""
        w = self.part.weights
        out = np.empty((len(rows), self.replicates))

        def work(chunk: slice, scratch: Scratch) -> None:
            counts = self.counts.read(chunk)
            out[:, chunk] = _block_sums(rows, counts if w is None else counts * w)

        run(self._chunks(), work, threads=self.threads, label="resampling")
        return out

    def _shares(self, sums: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):  # a replicate may draw samples of weight 0 only
            result: Array = sums / self.scale
        return result

    # -- metrics

    def _differences(self, reference: Array, models: slice, right: Array | None = None) -> Array:
        """Return (m, G, 8) words of the samples on which models differ from a reference (and it is right)."""
        assert self.planes is not None
        planes = encode_vector(reference, self.part.view.n_classes)
        words: Array = np.bitwise_or.reduce(self.planes.read(models) ^ planes, axis=2)
        return words if right is None else words & right

    def _blocks(self, planes: SpillArray) -> list[slice]:
        row = planes.nbytes // planes.shape[0]
        size = max(4, min(256, int(self.memory * KEPT_PART) // (3 * row)))
        return [slice(k, min(k + size, planes.shape[0])) for k in range(0, planes.shape[0], size)]

    def _of_models(self) -> None:
        """Ambiguity, discrepancy, fidelity and 0-1 loss."""
        view, found = self.part.view, self.found
        flags: dict[str, Array] = {}
        if "reference" in found.unions:
            flags["ambiguity"] = found.unions["reference"]
        if found.vote_squares is not None:
            n, M = view.n_samples, view.n_models
            flags["pairwise_ambiguity"] = squares_of(found, slice(0, n)) != M * M
        if flags:
            sums = self._sums(np.stack([mask_words(x) for x in flags.values()]))
            for name, values in zip(flags, self._shares(sums), strict=True):
                self.values[name] = {"value": values}
        if self.planes is None:
            return
        blocks = self._blocks(self.planes)

        def shares(name: str, right: Array | None = None) -> Array:
            parts = [self._sums(self._differences(self.references[name], models, right)) for models in blocks]
            return self._shares(np.concatenate(parts))

        if "reference" in found.mismatches:
            self.values["discrepancy"] = {"value": shares("reference").max(axis=0)}
        if "target" in found.mismatches:
            self.values["fidelity"] = _extremes(1.0 - shares("target"))
        if "labels" in found.mismatches:
            self.values["losses"] = {"zero_one": _extremes(shares("labels"))}
        if "right" in found.mismatches:
            right = mask_words(self.references["target"] == self.references["labels"])
            both = self._shares(self._sums(right[None]))
            self.values["losses"]["correct_fidelity"] = _extremes(both - shares("target", right))

    def _of_samples(self) -> None:
        """Means of what each sample has: disagreement rate, widths, variances, capacity."""
        view, found = self.part.view, self.found
        n, M, C = view.n_samples, view.n_models, view.columns if view.kind != "labels" else 0
        rows: list[tuple[tuple[str, ...], Callable[[], Array]]] = []
        if found.vote_squares is not None:

            def rate(ddof: int) -> Array:
                return rate_from_squares(squares_of(found, slice(0, n)), M, ddof)

            if self.ddof < M:
                rows.append((("disagreement_rate", "mean"), lambda: rate(self.ddof)))
            if M > 1:
                rows.append((("pairwise_disagreement", "mean"), lambda: rate(1)))
            else:
                none = self._shares(np.zeros(self.replicates))
                self.values["pairwise_disagreement"] = {"mean": none, "max": none}
                self.values["pairwise_discrepancy"] = {"value": none}
        if found.low is not None:
            names = view.class_names or tuple(str(c) for c in range(view.n_classes))
            for c in range(C):
                for name in names if C == 1 else names[c : c + 1]:
                    rows.append((("viable_prediction_range", "classes", name, "mean"), partial(self._width, c)))
                    if self.ddof < M:
                        rows.append((("score_variance", "classes", name, "mean"), partial(self._variance, c)))
            if view.n_classes == 2:
                positive = 0 if C == 1 else self.positive
                rows.append((("viable_prediction_range", "positive", "mean"), lambda: self._width(positive)))
            if self.part.y is not None:
                rows.append((("viable_prediction_range", "true_class", "mean"), self._own_width))
        if found.capacity is not None:
            solver = found.capacity
            rows.append((("rashomon_capacity", "mean"), lambda: solver.bits(0, n)))
            rows.append((("rashomon_capacity", "effective", "mean"), lambda: 2.0 ** solver.bits(0, n)))
        for i in range(0, len(rows), ROWS):
            some = rows[i : i + ROWS]
            means = self._shares(self._products(np.stack([np.asarray(read(), np.float64) for _, read in some])))
            for (path, _), values in zip(some, means, strict=True):
                node = self.values
                for name in path[:-1]:
                    node = node.setdefault(name, {})
                node[path[-1]] = values

    def _width(self, c: int) -> Array:
        low, high, n = self.found.low, self.found.high, self.part.view.n_samples
        assert low is not None
        assert high is not None
        result: Array = column_of(high, c, 0, n).astype(np.float64) - column_of(low, c, 0, n)
        return result

    def _variance(self, c: int) -> Array:
        assert self.found.variance is not None
        return column_of(self.found.variance, c, 0, self.part.view.n_samples)

    def _own_width(self) -> Array:
        if self.part.view.columns == 1:
            return self._width(0)
        assert self.part.y is not None
        widths = np.empty(len(self.part.y))
        for c in np.unique(self.part.y).tolist():
            own = self.part.y == c
            widths[own] = self._width(c)[own]
        return widths

    def _of_pairs(self) -> None:
        """The largest disagreement of two models, where all pairs are few enough."""
        assert self.planes is not None
        M, n = self.part.view.n_models, self.part.view.n_samples
        if 2.0 * M * (M - 1) * self.replicates * n > PAIR_BITS:
            self.values["pairwise_discrepancy"] = {"value": TOO_MANY_PAIRS}
            self.values.setdefault("pairwise_disagreement", {})["max"] = TOO_MANY_PAIRS
            return
        planes, blocks = self.planes, self._blocks(self.planes)
        largest = np.zeros(self.replicates)

        def work(chunk: slice, scratch: Scratch) -> None:
            draws = self._draws(chunk)
            for k in range(M - 1):
                own = planes.read(slice(k, k + 1))
                for models in blocks:
                    if models.stop <= k + 1:
                        continue
                    others = planes.read(slice(max(models.start, k + 1), models.stop))
                    sums = draws.sums(np.bitwise_or.reduce(others ^ own, axis=2))
                    np.maximum(largest[chunk], sums.max(axis=0), out=largest[chunk])

        run(self._chunks(), work, threads=self.threads, label="resampling pairs")
        shares = self._shares(largest)
        self.values["pairwise_discrepancy"] = {"value": shares}
        self.values.setdefault("pairwise_disagreement", {})["max"] = shares

    def _of_groups(self) -> None:
        """Fairness metrics: samples are put cell by cell, so that every cell has words of its own."""
        part, view = self.part, self.part.view
        groups, C = part.groups, view.n_classes
        assert groups is not None
        assert self.planes is not None
        codes = groups.codes.astype(np.int64)
        if part.y is not None:
            codes = codes * C + part.y
        cells = len(groups.names) * (1 if part.y is None else C)
        spans, slots, at = [], [], 0
        for cell in range(cells):
            own = np.flatnonzero(codes == cell)
            size = _encode.group_count(len(own)) if len(own) else 0
            spans.append(slice(at, at + size))
            padded = np.full(size * GROUP, -1, dtype=np.int64)
            padded[: len(own)] = own
            slots.append(padded)
            at += size
        order = np.concatenate(slots)
        kind = np.int64 if part.weights is None else np.float64
        M = view.n_models
        planes, blocks = self.planes, self._blocks(self.planes)
        step = max(1, int(self.memory * KEPT_PART) // (16 * M * cells * C))
        chunks = [slice(r, min(r + step, c.stop)) for c in self._chunks() for r in range(c.start, c.stop, step)]
        metrics = [
            (metric, form)
            for metric, needed in FAIRNESS.items()
            if needed == ("selection_rate",) or part.y is not None
            for form in ("difference", "ratio")
        ]
        columns = ("target", "min", "median", "max") if part.target is not None else ("min", "median", "max")
        if M * at * GROUP // 8 * C > self.memory * KEPT_PART:
            reasons = dict.fromkeys(columns, TOO_MANY_CLASSES)
            self.values["fairness"] = {f"{metric}_{form}": reasons for metric, form in metrics}
            return
        found = {metric: {name: np.empty(self.replicates) for name in columns} for metric in metrics}

        # counts of the last class are what the others leave; weights are never subtracted
        counted = C - 1 if part.weights is None else C
        whole = mask_words(order >= 0)[None]

        def words(decisions: Array) -> list[Array]:
            sorted_ = np.where(order >= 0, decisions[:, order], C)
            result = []
            for c in range(counted):
                flags = np.ascontiguousarray(sorted_ == c, dtype=np.uint8)
                bits = np.empty((len(flags), at, 1, 8), dtype=np.uint64)
                _encode.encode(flags, bits)
                result.append(bits[:, :, 0])
            return result

        members = [words(_decoded(planes, models, view.n_samples)) for models in blocks]
        target = None if part.target is None else words(part.target.decisions[None])

        def work(chunk: slice, scratch: Scratch) -> None:
            draws = self._draws(chunk, order)
            B = chunk.stop - chunk.start

            def count(rows: list[list[Array]], models: int) -> Array:
                counts = np.zeros((B, models, cells, C), dtype=kind)
                start = 0
                for block in rows:
                    stop = start + len(block[0])
                    for c, flags in enumerate(block):
                        for cell, span in enumerate(spans):
                            if span.stop > span.start:
                                counts[:, start:stop, cell, c] = draws.sums(flags, span).T
                    start = stop
                if counted < C:
                    for cell, span in enumerate(spans):
                        if span.stop > span.start:
                            rest = draws.sums(whole, span).T - counts[:, :, cell].sum(axis=2)
                            counts[:, :, cell, C - 1] = rest
                return counts.reshape(B * models, cells, C)

            rates = rates_of(count(members, M), groups, part.y is not None, self.positive)
            own = None if target is None else rates_of(count([target], 1), groups, part.y is not None, self.positive)
            for metric, form in metrics:
                entry = found[metric, form]
                values = getattr(rates, form)(metric).reshape(B, M)
                entry["min"][chunk] = np.fmin.reduce(values, axis=1)
                entry["median"][chunk] = _medians(values)
                entry["max"][chunk] = np.fmax.reduce(values, axis=1)
                if own is not None:
                    entry["target"][chunk] = getattr(own, form)(metric)

        run(chunks, work, threads=self.threads, label="resampling groups")
        for (metric, form), entry in found.items():
            self.values.setdefault("fairness", {})[f"{metric}_{form}"] = entry

    def _of_losses(self) -> None:
        """Losses of scores: the only metrics whose per-sample values take another reading."""
        part, view, R = self.part, self.part.view, self.replicates
        names = list(self.found.losses)
        cut = plan(
            view, threads=self.threads, memory=self.memory // 2, per_sample=64 * view.n_classes + 10 * R, unit=BLOCK
        )
        wide = 40 * cut.samples * view.n_classes
        models = max(1, min(cut.models, int(self.memory // self.threads * KEPT_PART) // wide))
        sums = {name: np.zeros((view.n_models, R)) for name in names}

        def work(task: tuple[int, int], scratch: Scratch) -> dict[str, Array]:
            rows = slice(*task)
            counts = self.counts.read(slice(0, R), rows)
            weights = np.ascontiguousarray(counts) if part.weights is None else counts * part.weights[rows]
            result: dict[str, list[Array]] = {name: [] for name in names}
            for k in range(0, view.n_models, models):
                block = read_block(view, slice(k, min(k + models, view.n_models)), rows, scratch)
                for name, values in _sample_losses(part, names, block, rows).items():
                    infinite = np.isinf(values)
                    totals = np.zeros((-(-values.shape[1] // BLOCK), len(values), R))
                    _scores.products(np.where(infinite, 0.0, values), weights, totals)
                    if infinite.any():
                        hits = np.zeros_like(totals)
                        _scores.products(infinite.astype(np.float64), weights, hits)
                        totals[hits > 0] = np.inf
                    result[name].append(totals)
            return {name: np.concatenate(parts, axis=1) for name, parts in result.items()}

        def merge(task: tuple[int, int], totals: dict[str, Array]) -> None:
            for name, blocks in totals.items():
                for block in blocks:
                    sums[name] += block

        run(cut.tiles, work, merge, threads=self.threads, label="resampling losses")
        losses = self.values.setdefault("losses", {})
        for name, values in sums.items():
            losses[name] = _extremes(self._shares(values))
        if "cross_entropy" in sums:
            entropy = np.zeros(R)
            if part.target_scores is not None:
                scores = part.target_scores
                entropy = self._products(_scores.row_entropies(target_rows(scores, slice(0, len(scores))))[None])[0]
            losses["kl_divergence"] = _extremes(self._shares(sums["cross_entropy"] + entropy) / LN2)


def _medians(values: Array) -> Array:
    """Return the medians of the defined values of each row; NaN where there are none."""
    ordered = np.sort(values, axis=1)  # NaN comes last
    count = np.count_nonzero(~np.isnan(values), axis=1)
    at = np.arange(len(values))
    low, high = ordered[at, np.maximum(count - 1, 0) // 2], ordered[at, np.minimum(count // 2, values.shape[1] - 1)]
    return np.where(count > 0, (low + high) / 2, np.nan)


def _extremes(values: Array) -> dict[str, Array]:
    """Return min, median and max over the models of (M, R)."""
    with np.errstate(invalid="ignore"):  # infinite losses
        return {"min": values.min(axis=0), "median": np.median(values, axis=0), "max": values.max(axis=0)}


def _block_sums(rows: Array, weights: Array) -> Array:
    totals = np.zeros((-(-rows.shape[1] // BLOCK), len(rows), len(weights)))
    _scores.products(rows, np.ascontiguousarray(weights), totals)
    result = np.zeros(totals.shape[1:])
    for block in totals:
        result += block
    return result


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


def _sample_losses(part: Inputs, names: list[str], block: Array, rows: slice) -> dict[str, Array]:
    """Return the losses (m, S) of a block of scores, sample by sample."""
    view = part.view
    probs = _scores.probabilities(block, view.kind, view.renormalize)
    if probs.shape[2] == 1:
        probs = np.concatenate([1.0 - probs, probs], axis=2)
    found: dict[str, Array] = {}
    if "log_loss" in names:
        assert part.y is not None
        own = probs[:, np.arange(probs.shape[1]), part.y[rows]]
        found["log_loss"] = -_logs(own)
    if {"total_variation", "cross_entropy"} & set(names):
        if part.target_scores is not None:
            target = target_rows(part.target_scores, rows)
        else:
            assert part.target_labels is not None
            target = np.zeros(probs.shape[1:])
            target[np.arange(len(target)), part.target_labels[rows]] = 1.0
        if "total_variation" in names:
            found["total_variation"] = 0.5 * np.abs(probs - target).sum(axis=2)
        if "cross_entropy" in names:
            logs = np.where(target > 0, _logs(probs), 0.0)
            found["cross_entropy"] = -(target * logs).sum(axis=2)
    return found


def _logs(values: Array) -> Array:
    return np.asarray(_encode.log_exp(np.ascontiguousarray(values).reshape(-1))[0]).reshape(values.shape)
