"""All pairs of models, compared block by block on bit planes: in how many samples (or with what weight) they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _decisions
from rashomon_core.tiles import BLOCK, GROUP, KEPT_PART, Scratch, SpillArray, run

__all__ = ["pair_blocks", "pairwise"]

Array = npt.NDArray[Any]
#: Fewest and most models of a block of pairs in memory: work enough for a task, counts that stay in the cache.
PAIR_MODELS = (32, 192)
#: Bytes of a model's planes that are read at a time.
PAIR_RUN = 1 << 18


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


def pairwise(
    planes: SpillArray,
    *,
    threads: int,
    memory: int,
    weights: Array | None = None,
    matrix: Array | None = None,
    scale: float | None = None,
    ranks: Array | None = None,
    reach: Array | None = None,
) -> tuple[float, tuple[int, int]]:
    """Compare all pairs of models; return the largest count (or weight) and the first pair that has it.

    ``matrix`` (M, M) is filled when given, with counts (int64) or, where there is a ``scale``, with counts or weights
    divided by it (float64); without it nothing of size M x M is held. With spilled planes blocks of models are read
    as they are needed.

    ``reach`` (M,): entry r is raised to the largest count (or weight) of the model with rank r (M,) and one of lower
    rank, so that its running maximum is the largest of the models up to each rank.
    """
    M = planes.shape[0]
    size, step = pair_blocks(planes, threads, memory)
    groups = whole = planes.shape[1]
    tail = np.zeros(0)
    if weights is not None:  # the weights of the last block of sums end with zeros
        whole = len(weights) // BLOCK * (BLOCK // GROUP)
        tail = np.zeros((groups - whole) * GROUP)
        tail[: len(weights) - whole * GROUP] = weights[whole * GROUP :]
    spans = [
        slice(g, min(g + step, end)) for first, end in ((0, whole), (whole, groups)) for g in range(first, end, step)
    ]
    starts = range(0, M, size)
    tasks = [(i, j) for i in starts for j in starts if j >= i]
    best: list[tuple[float, tuple[int, int]]] = []

    def later(counts: Array, i: int, j: int) -> list[tuple[Array, Array]]:
        assert ranks is not None
        down, across = ranks[i : i + counts.shape[0]], ranks[j : j + counts.shape[1]]
        first = down[:, None] < across
        return [
            (across, np.where(first, counts, 0).max(axis=0)),
            (down, np.where(first, 0, counts).max(axis=1)),
        ]

    def work(task: tuple[int, int], scratch: Scratch) -> tuple[float, tuple[int, int], list[tuple[Array, Array]]]:
        i, j = task
        shape = (min(size, M - i), min(size, M - j))
        counts = scratch.array("counts", shape, np.int64 if weights is None else np.float64, zero=True)
        for part in spans:
            left = planes.read(slice(i, i + shape[0]), part)
            right = left if i == j else planes.read(slice(j, j + shape[1]), part)
            if weights is None:
                _decisions.pair_counts(left, right, counts, i == j)
            else:
                w = tail if part.start == whole else weights[part.start * GROUP : part.stop * GROUP]
                _decisions.pair_weighted(left, right, w, counts, i == j)
        if matrix is not None:
            block = (
                counts if scale is None else np.divide(counts, scale, out=scratch.array("shares", shape, np.float64))
            )
            matrix[i : i + shape[0], j : j + shape[1]] = block
            if i != j:
                matrix[j : j + shape[1], i : i + shape[0]] = block.T
        at = int(np.argmax(counts))
        a, b = divmod(at, shape[1])
        pair = (i + a, j + b)
        reached = [] if reach is None else later(counts, i, j)
        return float(counts[a, b]), pair if pair[0] <= pair[1] else (pair[1], pair[0]), reached

    def merge(task: tuple[int, int], result: tuple[float, tuple[int, int], list[tuple[Array, Array]]]) -> None:
        found = result[:2]
        for places, most in result[2]:
            assert reach is not None
            reach[places] = np.maximum(reach[places], most)
        if not best:
            best.append(found)
        elif found[0] > best[0][0] or (found[0] == best[0][0] and found[1] < best[0][1]):
            best[0] = found

    run(tasks, work, merge, threads=threads, label="comparing pairs")
    largest, pair = best[0]
    if pair[0] == pair[1] and M > 1:  # the diagonal came first: no two models differ
        pair = (0, 1)
    return largest, pair
