"""All pairs of models, compared block by block on bit planes: in how many samples (or with what weight) they differ.

The whole matrix needs every pair. The farthest pair does not: with the distances d to one fixed decision for each
sample, two models differ in at most d_i + d_j (the triangle inequality), and pairs below the largest distance that
was seen are left out. The answer is exact and the same whatever was left out.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions
from rashomon_core.tiles import BLOCK, GROUP, KEPT_PART, Scratch, SpillArray, run

__all__ = [
    "farthest_by_rank",
    "farthest_in",
    "farthest_pair",
    "mirrored",
    "pair_blocks",
    "pair_matrix",
    "sums_of_pairs",
]

Array = npt.NDArray[Any]
#: Fewest and most models of a block of pairs in memory: work enough for a task, counts that stay in the cache.
PAIR_MODELS = (32, 192)
#: Bytes of a model's planes that are read at a time.
PAIR_RUN = 1 << 18
#: Most models of a block where pairs may be left out: small blocks, close bounds.
NEAR_MODELS = 64
#: Bytes of planes that one thread reads sooner than two threads start.
SMALL = 1 << 25
#: Models whose consensus the distances are taken to.
VOTERS = 15
#: Blocks that are compared before the models are put in order, if any are left then.
FIRST_BLOCKS = 6
#: Weighted sums are rounded; bounds of them allow for it.
SLACK = 1e-9


def pair_blocks(planes: SpillArray, threads: int, memory: int) -> tuple[int, int]:
    """Return models and groups of a block of pairs: some blocks for each thread; two of spilled planes fit the budget.

    Groups are whole blocks of sums.
    """
    models, groups = planes.shape[:2]
    some = models // (4 * threads) // 4 * 4
    if planes.in_memory:
        return min(max(some, PAIR_MODELS[0]), PAIR_MODELS[1]), groups
    room = int(memory // threads * KEPT_PART) // 2
    row = planes.nbytes // models
    size = max(4, min(some, room // min(row, PAIR_RUN)))
    block = BLOCK // GROUP
    return size, min(groups, max(room * groups // (row * size) // block, 1) * block)


class _Comparison:
    """Counts (or weights) of blocks of pairs, piece by piece along the samples."""

    def __init__(self, planes: SpillArray, weights: Array | None, step: int) -> None:
        self.planes = planes
        self.dtype: npt.DTypeLike = np.int64 if weights is None else np.float64
        groups = planes.shape[1]
        whole = groups if weights is None else len(weights) // BLOCK * (BLOCK // GROUP)
        self.pieces: list[tuple[slice, Array | None]] = []
        for first, end in ((0, whole), (whole, groups)):
            for g in range(first, end, step):
                part = slice(g, min(g + step, end))
                w = None if weights is None else weights[part.start * GROUP : part.stop * GROUP]
                if w is not None and first == whole:  # the weights of the last block of sums end with zeros
                    w = np.concatenate([w, np.zeros((part.stop - part.start) * GROUP - len(w))])
                self.pieces.append((part, w))

    def ranges(self, left: slice, right: slice, scratch: Scratch) -> Array:
        """Return the counts of models ``left`` against models ``right``."""

        def read(part: slice) -> tuple[Array, Array]:
            first = self.planes.read(left, part)
            return first, first if left == right else self.planes.read(right, part)

        return self._sum(left.stop - left.start, right.stop - right.start, left == right, read, scratch)

    def chosen(self, left: Array, right: Array, symmetric: bool, scratch: Scratch) -> Array:
        """Return the counts of the models numbered ``left`` against those numbered ``right``."""

        def read(part: slice) -> tuple[Array, Array]:
            first = self.planes.gather(left, part, scratch, "left")
            return first, first if symmetric else self.planes.gather(right, part, scratch, "right")

        return self._sum(len(left), len(right), symmetric, read, scratch)

    def against(self, rows: slice, pivot: Array, scratch: Scratch) -> Array:
        """Return the counts of models ``rows`` against the planes of one decision for each sample."""
        read = lambda part: (self.planes.read(rows, part), pivot[None, part])  # noqa: E731
        return self._sum(rows.stop - rows.start, 1, False, read, scratch)[:, 0]

    def _sum(self, rows: int, columns: int, symmetric: bool, read: Any, scratch: Scratch) -> Array:
        counts = scratch.array("counts", (rows, columns), self.dtype, zero=True)
        for part, w in self.pieces:
            left, right = read(part)
            if w is None:
                _decisions.pair_counts(left, right, counts, symmetric)
            else:
                _decisions.pair_weighted(left, right, w, counts, symmetric)
        return counts


def pair_matrix(
    planes: SpillArray,
    matrix: Any,
    *,
    threads: int,
    memory: int,
    weights: Array | None = None,
    scale: float | None = None,
) -> None:
    """Fill ``matrix`` (M, M) with counts (int64) or, where there is a ``scale``, counts or weights over it (float64).

    ``matrix`` is an array, or anything else that takes ``matrix[rows, columns] = block`` from several threads. With
    spilled planes blocks of models are read as they are needed.
    """
    M = planes.shape[0]
    size, step = pair_blocks(planes, threads, memory)
    comparison = _Comparison(planes, weights, step)
    starts = range(0, M, size)

    def work(task: tuple[int, int], scratch: Scratch) -> None:
        rows, columns = (slice(k, min(k + size, M)) for k in task)
        counts = comparison.ranges(rows, columns, scratch)
        if scale is not None:
            counts = np.divide(counts, scale, out=scratch.array("shares", counts.shape, np.float64))
        matrix[rows, columns] = counts
        if rows != columns:
            matrix[columns, rows] = counts.T

    run([(i, j) for i in starts for j in starts if j >= i], work, threads=threads, label="comparing pairs")


def sums_of_pairs(
    left: SpillArray, right: SpillArray | None, *, threads: int, memory: int, weights: Array | None = None
) -> Array:
    """Return counts (L, R) of models ``left`` against models ``right`` (None: against themselves), for merging.

    With weights the totals (B, L, R) of each block of 4,096 samples.
    """
    other, symmetric = left if right is None else right, right is None
    models = left.shape[0], other.shape[0]
    if weights is not None:
        width = BLOCK // GROUP
        totals = np.zeros((-(-len(weights) // BLOCK), *models))

        def weigh(b: int, scratch: Scratch) -> None:
            part = slice(b * width, min((b + 1) * width, left.shape[1]))
            w = scratch.array("weights", ((part.stop - part.start) * GROUP,), np.float64, zero=True)
            own = weights[b * BLOCK : (b + 1) * BLOCK]
            w[: len(own)] = own
            first = left.read(slice(0, models[0]), part)
            second = first if symmetric else other.read(slice(0, models[1]), part)
            _decisions.pair_weighted(first, second, w, totals[b], symmetric)

        run(range(len(totals)), weigh, threads=threads, label="comparing pairs")
        return totals
    counts = np.zeros(models, dtype=np.int64)
    (rows, step), (columns, _) = (pair_blocks(planes, threads, memory) for planes in (left, other))
    pieces = [slice(g, min(g + step, left.shape[1])) for g in range(0, left.shape[1], step)]

    def count(task: tuple[int, int], scratch: Scratch) -> None:
        i, j = slice(task[0], min(task[0] + rows, models[0])), slice(task[1], min(task[1] + columns, models[1]))
        square = symmetric and i == j
        found = scratch.array("counts", (i.stop - i.start, j.stop - j.start), np.int64, zero=True)
        for part in pieces:
            first = left.read(i, part)
            _decisions.pair_counts(first, first if square else other.read(j, part), found, square)
        counts[i, j] = found
        if symmetric and not square:
            counts[j, i] = found.T

    starts = [(i, j) for i in range(0, models[0], rows) for j in range(0, models[1], columns)]
    run([(i, j) for i, j in starts if not symmetric or j >= i], count, threads=threads, label="comparing pairs")
    return counts


def mirrored(sums: Array) -> Array:
    """Return (M, M) with what stands above the diagonal below it too, and 0 on it."""
    upper = np.triu(sums, 1)
    result: Array = upper + upper.T
    return result


def farthest_in(sums: Array) -> tuple[float, tuple[int, int]]:
    """Return the largest number above the diagonal of (M, M), and the first pair that has it."""
    best = 0.0, (0, 1)
    for i in range(len(sums) - 1):
        j = int(np.argmax(sums[i, i + 1 :])) + i + 1
        if sums[i, j] > best[0]:
            best = float(sums[i, j]), (i, j)
    return best


def farthest_by_rank(
    planes: SpillArray, ranks: Array, *, threads: int, memory: int, weights: Array | None = None
) -> Array:
    """Return (M,) the largest count (or weight) of the model of each rank and one of lower rank; 0 for rank 0.

    ``ranks`` (M,) are 0 .. M - 1; the running maximum is that of the models up to each rank.
    """
    M = planes.shape[0]
    size, step = pair_blocks(planes, threads, memory)
    comparison = _Comparison(planes, weights, step)
    starts = range(0, M, size)
    farthest = np.zeros(M, dtype=comparison.dtype)

    def work(task: tuple[int, int], scratch: Scratch) -> list[tuple[Array, Array]]:
        rows, columns = (slice(k, min(k + size, M)) for k in task)
        counts = comparison.ranges(rows, columns, scratch)
        down, across = ranks[rows], ranks[columns]
        later = down[:, None] < across
        return [(across, np.where(later, counts, 0).max(axis=0)), (down, np.where(later, 0, counts).max(axis=1))]

    def merge(task: tuple[int, int], found: list[tuple[Array, Array]]) -> None:
        for places, most in found:
            farthest[places] = np.maximum(farthest[places], most)

    run([(i, j) for i in starts for j in starts if j >= i], work, merge, threads=threads, label="comparing pairs")
    return farthest


def farthest_pair(
    planes: SpillArray, *, threads: int, memory: int, weights: Array | None = None
) -> tuple[float, tuple[int, int]]:
    """Return the largest count (or weight) of two models, and the first pair (by index) that has it.

    Nothing of size M x M is held; while it works, the models in ``planes`` lie in the order of their distances. Time
    is that of the whole matrix at worst, or a tenth more; O(M) comparisons where a few models are far from the rest.
    """
    M = planes.shape[0]
    if M < 2:
        return 0.0, (0, 0)
    size, step = pair_blocks(planes, threads, memory)
    size = min(size, NEAR_MODELS)
    comparison = _Comparison(planes, weights, step)
    pivot = _consensus(planes)
    distance = np.empty(M)

    def measure(rows: slice, scratch: Scratch) -> None:
        distance[rows] = comparison.against(rows, pivot, scratch)

    pool = threads if planes.nbytes >= SMALL else 1
    run([slice(k, min(k + size, M)) for k in range(0, M, size)], measure, threads=pool)
    order = np.argsort(-distance, kind="stable")
    in_order = False
    reach = distance[order] * (1 if weights is None else 1 + SLACK)
    blocks = np.arange(0, M, size)
    tasks = np.stack(np.triu_indices(len(blocks)), axis=1) * size
    bound = reach[tasks].sum(axis=1)
    tasks, bound = (array[np.argsort(-bound, kind="stable")] for array in (tasks, bound))
    lock = threading.Lock()
    best: tuple[float, tuple[int, int]] = (0.0, (0, 1))

    def work(task: tuple[int, int], scratch: Scratch) -> None:
        nonlocal best
        i, j = task
        largest = best[0]
        # pairs at the largest distance are looked at too: the first of them is the answer
        rows = i + int((reach[i : i + size] + reach[j] >= largest).sum())
        columns = j + int((reach[j : j + size] + reach[i] >= largest).sum())
        if rows == i or columns == j:
            return
        if in_order:
            counts = comparison.ranges(slice(i, rows), slice(j, columns), scratch)
        else:
            counts = comparison.chosen(order[i:rows], order[j:columns], i == j, scratch)
        found = float(counts.max())
        if found == 0 or found < best[0]:
            return
        a, b = np.nonzero(counts == found)
        pairs = np.sort(np.stack([order[i + a], order[j + b]], axis=1), axis=1)
        first = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))[0]]
        with lock:
            if found > best[0] or (found == best[0] and tuple(first) < best[1]):
                best = found, (int(first[0]), int(first[1]))

    count = done = 2
    while len(tasks):  # ever longer waves: what the farthest blocks bring spares the others
        pool = threads if in_order else 1
        run([(i, j) for i, j in tasks[:count].tolist()], work, threads=pool, label="comparing pairs")
        near = bound[count:] < best[0]
        tasks, bound, count = tasks[count:][~near], bound[count:][~near], 2 * count
        if not in_order and len(tasks) and done >= FIRST_BLOCKS:
            planes.reorder(order)
            in_order = True
        done += count
    if in_order:
        planes.reorder(np.argsort(order))
    return best


def _consensus(planes: SpillArray) -> Array:
    """Return planes (groups, P, 8) near those of the models: the majority of some of them, bit by bit.

    It need not be a class: differing from it keeps the triangle inequality for any code.
    """
    M = planes.shape[0]
    voters = np.unique(np.linspace(0, M - 1, min(M, VOTERS) // 2 * 2 + 1).astype(np.int64))
    need = len(voters) // 2 + 1
    # counts of 64 bits at a time: bits[k] holds bit k of each count
    bits = [np.zeros(planes.shape[1:], dtype=np.uint64) for _ in range(len(voters).bit_length())]
    for row in voters.tolist():
        carry = planes.read(slice(row, row + 1))[0]
        for k, before in enumerate(bits):
            bits[k], carry = before ^ carry, before & carry
    more = np.zeros_like(bits[0])
    equal = ~more
    for k in reversed(range(len(bits))):  # count >= need, from the highest bit
        if need >> k & 1:
            equal = equal & bits[k]
        else:
            more, equal = more | (equal & bits[k]), equal & ~bits[k]
    return np.asarray(more | equal)
