"""One visit of each tile: every number that can be had from a single reading of the predictions.

A :class:`Request` says what is wanted, :func:`visit` reads the predictions once and returns a :class:`Visit`. All
metrics functions, the profile and the accumulator go through the same kernel (``_scores.TilePass``), so that there
is one implementation of each number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions, _encode, _scores
from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.predictions import MAX_CLASSES, Predictions
from rashomon_core.resuming import Column, Keeper, of_array, of_spilled, run_kept
from rashomon_core.tiles import (
    BLOCK,
    GROUP,
    KEPT_PART,
    Plan,
    ReadAhead,
    Scratch,
    SpillArray,
    parse_memory,
    parse_threads,
    plan,
    read_block,
)
from rashomon_core.vectors import target_rows

from .channel import CapacityRule, ChannelSolver
from .planes import encode_vector, mask_words, unpack_words

__all__ = ["LOSSES", "Reference", "Request", "Visit", "column_of", "squares_of", "visit", "width_of"]

Array = npt.NDArray[Any]
T = TypeVar("T")
#: Labels of the first model that are looked at to guess the number of classes.
FIRST = 1 << 20
LOSSES = _scores.LOSSES
#: Up to this many (cell, class) pairs cells are counted by masks.
MASKED_CELLS = 384
#: Why a metric against a reference is null.
NO_REFERENCE = "no reference: give a target, or reference='labels', a model id or an array"
#: Bytes of group counts that are kept whatever the budget.
SMALL = 1 << 26


@dataclass(frozen=True)
class Reference:
    """Decisions (N,) to compare every model with, on the samples where they are ``right`` ((N,), None: all)."""

    name: str
    decisions: Array
    right: Array | None = None
    union: bool = False


@dataclass(frozen=True)
class Request:
    """What a visit should bring back.

    ``ranges``: smallest and largest score and score variance of each (sample, class). ``votes``: the (N, C) counts;
    ``vote_sums``: their sum of squares per sample; ``viable``: how many are not 0. ``planes``: bit planes of all
    decisions. ``references``: counts against each. ``losses``: names among :data:`LOSSES`.
    """

    ranges: bool = False
    #: With ranges: also the raw shift, s1, s2 of the variance, (N, columns) each, for merging.
    moments: bool = False
    votes: bool = False
    #: What votes are kept as.
    vote_type: npt.DTypeLike = np.int64
    vote_sums: bool = False
    viable: bool = False
    planes: bool = False
    decisions: bool = False
    references: Sequence[Reference] = ()
    #: Count decisions by cell, ``n_cells`` in all: (N,) codes, or codes * n_classes + labels where there are labels.
    cells: Array | None = None
    cell_labels: Array | None = None
    n_cells: int = 0
    #: Count the models that decide like these (N,) decisions, sample by sample.
    agree: Array | None = None
    #: Capacity of each sample's channel.
    capacity: CapacityRule | None = None
    #: For merging, two classes in two columns: the ends of each sample (``ChannelSolver.ends``), not its capacity.
    ends: bool = False
    #: For merging: totals of floats of each block of 4,096 samples, not their sums.
    blocks: bool = False
    losses: Sequence[str] = ()
    y: Array | None = None
    #: The target's probabilities (N, C) or (N,) P(class 1), or its decisions (N,), which count as one-hot rows.
    target_scores: Array | None = None
    target_labels: Array | None = None
    weights: Array | None = None
    threshold: float | None = None
    ddof: int = 0
    #: Per-sample results may be kept outside memory (for callers that only summarise them).
    spill: bool = False
    #: Ranges and variances lie class by class in memory too, as they are summarised.
    class_first: bool = False


@dataclass
class Visit:
    """What a visit brought back; None: not asked for.

    ``low``, ``high`` and ``variance`` are (columns, N); in memory samples come first unless they are summarised only.
    """

    plan: Plan
    seconds: float = 0.0
    low: SpillArray | None = None
    high: SpillArray | None = None
    variance: SpillArray | None = None
    moments: tuple[Array, Array, Array] | None = None
    capacity: ChannelSolver | None = None
    votes: Array | None = None
    #: (1, N): see :func:`squares_of`.
    vote_squares: SpillArray | None = None
    viable: Array | None = None
    agree: Array | None = None
    cells: Array | None = None
    planes: SpillArray | None = None
    decisions: Array | None = None
    mismatches: dict[str, Array] = field(default_factory=dict)
    mismatch_weights: dict[str, Array] = field(default_factory=dict)
    unions: dict[str, Array] = field(default_factory=dict)
    losses: dict[str, Array] = field(default_factory=dict)
    ends: Array | None = None
    #: Where blocks were asked for: "weighted" (R, M, B), "losses" (L, M, B), "cells" (B, M, cells, C).
    blocks: dict[str, Array] = field(default_factory=dict)


def squares_of(found: Visit, rows: slice) -> Array:
    """Return the sums of squared votes of some samples, wherever they are kept."""
    assert found.vote_squares is not None
    result: Array = found.vote_squares.read(slice(0, 1), rows)[0]
    return result


def column_of(array: SpillArray, c: int, start: int, stop: int) -> Array:
    """Return class c of samples start..stop of ``low``, ``high`` or ``variance``, wherever they are kept."""
    return np.asarray(array.read(slice(c, c + 1), slice(start, stop))[0])


def width_of(found: Visit, c: int, start: int, stop: int) -> Array:
    """Return the widths of the viable prediction ranges of class c of samples start..stop, in float64."""
    assert found.low is not None
    assert found.high is not None
    top, bottom = (column_of(array, c, start, stop) for array in (found.high, found.low))
    return np.asarray(np.subtract(top, bottom, dtype=np.float64))


def visit(
    predictions: Predictions,
    request: Request,
    *,
    threads: int | None = None,
    memory: int | str | None = None,
    label: str = "measuring",
    checkpoint: Keeper | None = None,
) -> Visit:
    """Read the predictions once and return what was asked for; with a checkpoint go on where a reading stopped.

    Raises
    ------
    InvalidInputError
        At the first bad value in (model, sample) order, whatever the tiles and threads.
    """
    return _Visitor(predictions, request, parse_threads(threads), parse_memory(memory), checkpoint).go(label)


def settle_classes(view: Predictions, least: int, attempt: Callable[[Predictions], T]) -> tuple[Predictions, T]:
    """Return ``attempt`` of labels whose number of classes, at least ``least``, is what the labels use.

    Instead of a scan before the reading, it is tried with the classes of the first model, which are those of all or
    else the kernel refuses a label; only then the labels are scanned. Anything else is attempted as it is.
    """
    if view.kind != "labels" or view.declared_classes is not None:
        return view, attempt(view)

    def stated(classes: int) -> Predictions:
        return Predictions.from_source(
            view.source,
            kind="labels",
            axes=view.axes,
            n_classes=classes,
            model_ids=view.model_ids,
            sample_ids=view.sample_ids,
        )

    first = view.source.read(slice(0, 1), slice(0, min(view.n_samples, FIRST)))
    guess = max(2, least, int(first.max()) + 1)
    if "n_classes" not in vars(view) and guess <= MAX_CLASSES:
        tried = stated(guess)
        with contextlib.suppress(InvalidInputError):
            return tried, attempt(tried)
    tried = stated(max(least, view.n_classes))
    return tried, attempt(tried)


class _Visitor:
    """The state of one visit that all tiles share; each tile writes its own samples of it."""

    def __init__(
        self, predictions: Predictions, request: Request, threads: int, memory: int, checkpoint: Keeper | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.view, self.request, self.threads, self.memory = predictions, request, threads, memory
        self.classes, self.M, self.N = predictions.n_classes, predictions.n_models, predictions.n_samples
        self.labels = predictions.kind == "labels"
        if request.threshold is not None and not np.isfinite(request.threshold):
            raise UsageError(f"threshold={request.threshold} must be finite")
        self.columns = 0 if self.labels else predictions.columns
        self.single = predictions.kind == "proba" and not predictions.renormalize and predictions.dtype.itemsize < 8
        self.score_type = np.float32 if self.single else np.float64
        self.sums = request.weights is not None or bool(request.losses)
        self.P, self.G = _encode.plane_count(self.classes), _encode.group_count(self.N)
        self.by_class = self.classes <= _scores.VOTE_CLASSES
        if request.losses and self.labels:
            raise InvalidInputError("losses need scores, and these predictions are labels", file=predictions.path)

        self.votes_needed = request.votes or request.vote_sums or request.viable or request.agree is not None
        self.square_type = np.int32 if self.M < 46_341 else np.int64  # M^2 fits 32 bits
        # cells by masks cost a popcount per (cell, class) and 512 samples, a histogram one step per sample
        self.cell_masks = request.weights is None and request.n_cells * self.classes <= MASKED_CELLS
        per_sample = 64
        if request.ranges and not self.labels:
            per_sample += max(1, self.columns) * (3 * np.dtype(self.score_type).itemsize + 24)
        if request.capacity is not None:
            per_sample += 96
        if self.votes_needed:
            per_sample += 12 * self.classes
        if request.losses:
            per_sample += 8 * max(2, self.columns)
        if request.planes or (request.cells is not None and self.cell_masks):
            per_sample += self.M * self.P // 8 + 1
        if request.decisions or (request.cells is not None and not self.cell_masks):
            per_sample += self.M * (1 if self.classes <= 256 else 2)
        per_sample += 4 * len(request.references)
        kept = self._held() + (0 if request.spill else 24 * self.N)
        self.plan = plan(
            predictions,
            threads=threads,
            memory=max(memory // 4, int(memory * 0.6) - kept),  # what is there for every sample comes first
            per_sample=per_sample,
            unit=BLOCK if self.sums else GROUP,
            whole=request.capacity is not None and not request.capacity.closed_form(predictions),
            pieces=True,
        )
        self.ahead = ReadAhead(predictions, self.plan, threads)

        room = int(memory * KEPT_PART)
        result = self.result = Visit(self.plan)
        if request.ranges and not self.labels:
            width = self.columns * (2 * np.dtype(self.score_type).itemsize + 8)
            spill = request.spill and self.N * width > room // 2
            shape2, turned = (self.columns, self.N), not (request.spill or request.class_first)
            for name, kind in (("low", self.score_type), ("high", self.score_type), ("variance", np.float64)):
                setattr(result, name, SpillArray(shape2, kind, spill=spill, turned=turned))
        self.closed = False  # capacities come from ranges
        if request.capacity is not None and not self.labels:
            spill = request.spill and room // 2 < self.N * 16
            result.capacity = ChannelSolver(predictions, request.capacity, spill=spill, marks=checkpoint is not None)
            self.closed = request.capacity.closed_form(predictions)
            if self.closed and result.low is None:
                raise ValueError("internal: capacity of two classes needs ranges")
        # capacity and nothing else: its solver checks the values as it reads them
        self.alone = (
            result.capacity is not None
            and result.capacity.checks()
            and not (request.ranges or self.votes_needed or request.planes or request.decisions or request.moments)
            and not (request.references or request.losses or request.cells is not None)
        )
        if request.ends:
            result.ends = np.empty((self.N, 4), self.score_type)
            self.ends = ChannelSolver(predictions, CapacityRule(), spill=False)
        self.totals: dict[str, list[Array]] = {}
        if request.moments and not self.labels:
            shape2 = (self.N, self.columns)
            result.moments = (np.empty(shape2, self.score_type), np.empty(shape2), np.empty(shape2))
        if request.votes:
            result.votes = np.empty((self.N, self.classes), dtype=request.vote_type)
        if request.vote_sums:
            spill = request.spill and self.N * np.dtype(self.square_type).itemsize > room // 4
            result.vote_squares = SpillArray((1, self.N), self.square_type, spill=spill)
        if request.viable:
            result.viable = np.empty(self.N, dtype=np.int32)
        if request.agree is not None:
            result.agree = np.empty(self.N, dtype=np.int32)
        if request.planes:
            shape = (self.M, self.G, self.P, 8)
            result.planes = SpillArray(shape, np.uint64, spill=room < self.M * self.G * self.P * 64, odd=True)
        if request.decisions:
            result.decisions = np.empty((self.M, self.N), dtype=np.uint8 if self.classes <= 256 else np.uint16)
        R = len(request.references)
        self.counts = np.zeros((R, self.M), dtype=np.int64)
        self.weighted = np.zeros((R, self.M))
        result.unions = {r.name: np.empty(self.N, dtype=bool) for r in request.references if r.union}
        self.loss_sums = np.zeros((len(LOSSES), self.M))
        if request.cells is not None:
            if (size := 8 * self.M * request.n_cells * self.classes) > max(memory, SMALL):
                raise UsageError(
                    f"group counts of {self.M} models, {request.n_cells} cells and {self.classes} classes take "
                    f"{size / 1e9:.3g} GB of a budget of {memory / 1e9:.3g} GB. "
                    "Fix: fewer models at a time, or more memory"
                )
            counted = np.dtype(np.int64 if request.weights is None else np.float64)
            result.cells = np.zeros((self.M, request.n_cells, self.classes), dtype=counted)

    def _held(self) -> int:
        """Return the bytes of vectors over the samples that are there all the while."""
        request = self.request
        arrays = [request.cells, request.cell_labels, request.agree, request.y, request.weights]
        arrays += [request.target_scores, request.target_labels]
        arrays += [a for r in request.references for a in (r.decisions, r.right)]
        unions = self.N * sum(r.union for r in request.references)
        return unions + sum({id(a): a.nbytes for a in arrays if a is not None}.values())

    def _kept(self) -> int:
        """Return the bytes of results that are in memory by now."""
        found = [*vars(self.result).values(), *self.totals.values()]
        if self.result.capacity is not None:
            found += vars(self.result.capacity).values()
        values = [
            x for v in found for x in (v.values() if isinstance(v, dict) else v if type(v) in (list, tuple) else [v])
        ]
        arrays = [x for x in values if isinstance(x, np.ndarray) or (isinstance(x, SpillArray) and x.in_memory)]
        return sum(x.nbytes for x in arrays)

    def go(self, label: str) -> Visit:
        width = self.view.nbytes // self.N
        run_kept(
            self.plan.tiles,
            self.tile,
            self.merge,
            None if self.checkpoint is None else self.checkpoint.reading(label),
            self.columns_kept(),
            self.sums_kept(),
            threads=self.threads,
            label=label,
            nbytes=lambda task: (task[1] - task[0]) * width,
        )
        result, request = self.result, self.request
        if result.capacity is not None and not self.closed and self.plan.models < self.M:
            room = max(self.memory // 4, self.memory - self._held() - self._kept())
            result.capacity.read(threads=self.threads, memory=room, checkpoint=self.checkpoint)
        for j, reference in enumerate(request.references):
            result.mismatches[reference.name] = self.counts[j]
            if request.weights is not None:
                result.mismatch_weights[reference.name] = self.weighted[j]
        for name in request.losses:
            result.losses[name] = self.loss_sums[LOSSES.index(name)]
        for name, parts in self.totals.items():
            result.blocks[name] = np.concatenate(parts, axis=0 if name == "cells" else 2)
        return result

    def columns_kept(self) -> list[Column]:
        """Return everything that a tile leaves behind for its samples."""
        result = self.result
        arrays = {"low": result.low, "high": result.high, "variance": result.variance}
        kept = [of_spilled(name, a, turned=True) for name, a in arrays.items() if a is not None]
        kept += [of_array(f"moments{k}", a) for k, a in enumerate(result.moments or ())]
        plain = {"votes": result.votes, "viable": result.viable, "agree": result.agree, "ends": result.ends}
        kept += [of_array(name, a) for name, a in (*plain.items(), *result.unions.items()) if a is not None]
        if result.vote_squares is not None:
            kept.append(of_spilled("vote_squares", result.vote_squares))
        if result.planes is not None:
            kept.append(of_spilled("planes", result.planes, groups=True))
        if result.decisions is not None:
            kept.append(of_array("decisions", result.decisions, axis=1))
        if result.capacity is not None and (self.closed or self.plan.models >= self.M):
            kept += result.capacity.columns()
        return kept

    def sums_kept(self) -> dict[str, Array]:
        """Return the sums over the finished tiles."""
        sums = {"counts": self.counts, "weighted": self.weighted, "losses": self.loss_sums}
        return sums if self.result.cells is None else {**sums, "cells": self.result.cells}

    def tile(self, task: tuple[int, int], scratch: Scratch) -> dict[str, Array]:
        """Do the samples ``task``; per-sample results go to their place, sums are returned."""
        n0, n1 = task
        request, result, S, M = self.request, self.result, n1 - n0, self.M
        groups, blocks = _encode.group_count(S), -(-S // BLOCK)
        g0, g1 = n0 // GROUP, n0 // GROUP + groups
        rows, every = slice(n0, n1), slice(0, self.columns)
        given: dict[str, Any] = {}
        sums: dict[str, Array] = {}
        places: list[tuple[SpillArray, Array, slice, slice]] = []
        whole = self.plan.models >= M
        if self.alone and whole and result.capacity is not None:
            for piece in self.plan.pieces(task):
                block = read_block(self.view, slice(0, M), piece, scratch, self.plan)
                if piece.start == n0:
                    self.ahead(task, 0)
                result.capacity.block(block, piece, scratch, unchecked=True)
            return sums
        if result.low is not None and result.high is not None and result.variance is not None:
            for name, column in (("lo", result.low), ("hi", result.high), ("variance", result.variance)):
                if column.in_memory and column.array().T.flags.c_contiguous:
                    given[name] = column.read(every, rows).T
                else:  # kept class by class, as it will be read
                    given[name] = scratch.array(name, (S, self.columns), column.dtype)
                    places.append((column, given[name].T, every, rows))
            if result.moments is not None:
                given["shift"], given["s1"], given["s2"] = (a[rows] for a in result.moments)
                given.pop("variance")
            elif not whole:
                given["shift"] = scratch.array("shift", (S, self.columns), self.score_type)
                given["s1"] = scratch.array("s1", (S, self.columns), np.float64)
                given["s2"] = scratch.array("s2", (S, self.columns), np.float64)
        if (self.closed or request.ends) and self.columns == 2:
            given["gaps"] = scratch.array("gaps", (S, 2), np.int32 if self.single else np.float64)
            given["gaps"].fill(np.iinfo(np.int32).min if self.single else -np.inf)
        if self.votes_needed:
            shape = (self.classes, S) if self.by_class else (S, self.classes)
            given["votes"] = scratch.array("votes", shape, np.int32, zero=True)
        if result.planes is not None:
            given["planes"] = result.planes.place(slice(0, M), slice(g0, g1), scratch, "planes")
            if not result.planes.in_memory:
                places.append((result.planes, given["planes"], slice(0, M), slice(g0, g1)))
        elif request.cells is not None and self.cell_masks:
            given["planes"] = scratch.array("planes", (M, groups, self.P, 8), np.uint64)
        if result.decisions is not None or (request.cells is not None and not self.cell_masks):
            given["decisions"] = scratch.array("decisions", (M, S), np.uint8 if self.classes <= 256 else np.uint16)
        if request.references:
            R = len(request.references)
            given["references"] = np.stack([encode_vector(r.decisions[rows], self.classes) for r in request.references])
            if any(r.right is not None for r in request.references):
                given["masks"] = np.stack(
                    [
                        mask_words(np.ones(S, dtype=bool) if r.right is None else r.decisions[rows] == r.right[rows])
                        for r in request.references
                    ]
                )
            sums["counts"] = given["mismatches"] = np.zeros((R, M), dtype=np.int64)
            if result.unions:
                given["unions"] = np.zeros((R, groups, 8), dtype=np.uint64)
            if request.weights is not None:
                given["mismatch_lanes"] = np.zeros((R, M, 8))
                sums["weighted"] = given["mismatch_totals"] = np.zeros((R, M, blocks))
        if request.weights is not None:
            w = scratch.array("weights", (groups * GROUP,), np.float64, zero=True)
            w[:S] = request.weights[rows]
            given["weights"] = w
        if request.losses:
            if request.y is not None:
                given["y"] = np.ascontiguousarray(request.y[rows], dtype=np.int32)
            if request.target_scores is not None:
                given["target"] = target_rows(request.target_scores, rows)
            elif request.target_labels is not None:  # one-hot rows of this tile only
                given["target"] = scratch.array("target", (S, max(2, self.columns)), np.float64, zero=True)
                given["target"][np.arange(S), request.target_labels[rows]] = 1.0
            given["loss_lanes"] = np.zeros((len(LOSSES), M, 8))
            sums["losses"] = given["loss_totals"] = np.zeros((len(LOSSES), M, blocks))
            given["losses"] = tuple(request.losses)
        view = self.view
        kernel = _scores.TilePass(
            n_samples=S,
            columns=self.columns,
            n_classes=self.classes,
            n_models=M,
            kind=view.kind,
            renormalize=view.renormalize,
            tolerance=view.row_tolerance,
            threshold=None if self.labels else request.threshold,
            single=self.single,
            ddof=request.ddof,
            **given,
        )
        pieces = self.plan.pieces(task)
        for m0 in range(0, M, self.plan.models):
            m1 = min(m0 + self.plan.models, M)
            for piece in pieces:
                block = read_block(view, slice(m0, m1), piece, scratch, self.plan)
                if piece.start == n0:
                    self.ahead(task, m0)
                if not kernel.update(block, m0, piece.start - n0):
                    view.validate()  # names the first bad value in (model, sample) order
                    raise InvalidInputError("bad values in the predictions", file=view.path, where=view.where(m0, n0))
                if result.capacity is not None and whole and not self.closed:
                    result.capacity.block(block, piece, scratch)
        held = block if whole and len(pieces) == 1 else None
        if result.capacity is not None and self.closed:
            result.capacity.extremes(given["lo"], given["hi"], given.get("gaps"), rows, held)
        if result.ends is not None:
            result.ends[rows] = self.ends.ends(given["lo"], given["hi"], given.get("gaps"), rows, held)
        for array, part, r, c in places:
            array.put(part, r, c)
        if result.decisions is not None:
            result.decisions[:, rows] = given["decisions"]
        if "votes" in given:
            self._votes(given["votes"], rows, scratch)
        for j, reference in enumerate(request.references):
            if reference.union:
                result.unions[reference.name][rows] = unpack_words(given["unions"][j], S)
        if request.cells is not None:
            codes = request.cells[rows].astype(np.int32)
            if request.cell_labels is not None:
                codes = codes * self.classes + request.cell_labels[rows].astype(np.int32)
            sums["cells"] = self._cells(given, codes, rows)
        return sums

    def _cells(self, given: dict[str, Any], codes: Array, rows: slice) -> Array:
        """Return the counts (M, cells, C) of a tile, or the weights (blocks, M, cells, C)."""
        request, shape = self.request, (self.M, self.request.n_cells, self.classes)
        if request.weights is not None:
            starts = range(0, len(codes), BLOCK)
            weights = np.zeros((len(starts), *shape))
            for b, i in enumerate(starts):
                part = np.ascontiguousarray(given["decisions"][:, i : i + BLOCK])
                w = np.ascontiguousarray(request.weights[rows][i : i + BLOCK])
                _decisions.cell_weights(part, codes[i : i + BLOCK], w, weights[b])
            return weights
        counts = np.zeros(shape, dtype=np.int64)
        if self.cell_masks:
            masks = np.stack([mask_words(codes == cell) for cell in range(request.n_cells)])
            planes = np.ascontiguousarray(given["planes"])  # a tile of planes that are kept has gaps between models
            if self.classes > 1:  # the last class is what the others leave
                part = np.zeros((*shape[:2], self.classes - 1), dtype=np.int64)
                _decisions.cell_counts(planes, masks, self.classes - 1, part)
                counts[..., :-1] = part
            counts[..., -1] = np.bincount(codes, minlength=request.n_cells) - counts[..., :-1].sum(axis=2)
        else:
            _decisions.cell_histogram(given["decisions"], codes, counts)
        return counts

    def _votes(self, votes: Array, rows: slice, scratch: Scratch) -> None:
        result = self.result
        axis = 0 if self.by_class else 1
        if result.votes is not None:
            result.votes[rows] = votes.T if self.by_class else votes
        if result.vote_squares is not None:
            exact: Any = votes.astype(self.square_type, copy=False)
            squares = result.vote_squares.place(slice(0, 1), rows, scratch, "squares")
            np.einsum("cs,cs->s" if self.by_class else "sc,sc->s", exact, exact, out=squares[0])
            result.vote_squares.commit(squares, slice(0, 1), rows)
        if result.viable is not None:
            result.viable[rows] = np.count_nonzero(votes, axis=axis)
        if result.agree is not None and self.request.agree is not None:
            wanted, at = self.request.agree[rows], np.arange(votes.shape[1 - axis])
            result.agree[rows] = votes[wanted, at] if self.by_class else votes[at, wanted]

    def merge(self, task: tuple[int, int], sums: dict[str, Array]) -> None:
        """Add a tile's sums, in the order of the tiles; float totals block by block, or kept as they are."""
        if "counts" in sums:
            self.counts += sums["counts"]
        if self.request.blocks:
            floats = ("weighted", "losses", "cells") if self.request.weights is not None else ("losses",)
            for name in floats:
                if name in sums:
                    self.totals.setdefault(name, []).append(sums.pop(name))
        if "cells" in sums and self.result.cells is not None:
            for part in sums["cells"] if self.request.weights is not None else [sums["cells"]]:
                self.result.cells += part
        for name, into in (("weighted", self.weighted), ("losses", self.loss_sums)):
            if name in sums:
                for b in range(sums[name].shape[2]):
                    into += sums[name][:, :, b]
