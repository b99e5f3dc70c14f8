"""Predictions that are elsewhere, in pieces: how they are cut, and what tasks do with one.

A piece is a range of models and samples: the chunk of a Dask array, or a range of a file that each worker opens
itself. Tasks are plain functions; what they share travels to each worker once, or with them where it is small.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .accumulate import MultiplicityAccumulator
from .cluster import Cluster, Tree, size_sent
from .errors import InvalidInputError, MissingDependencyError, UsageError
from .metrics.visit import Request, visit
from .predictions import ArraySource, Kind, Predictions, canonical_axes
from .store import open_predictions
from .tiles import BLOCK

__all__ = [
    "TASK_BYTES",
    "Common",
    "Job",
    "Opening",
    "Pieces",
    "decide_one",
    "largest_class",
    "measure_piece",
    "merge_states",
    "most_of",
    "plan_tasks",
    "side_by_side",
    "whole_chunks",
]

Array = npt.NDArray[Any]
Range = tuple[int, int]
#: Of an accumulator: a header and arrays by name.
State = tuple[dict[str, Any], dict[str, Array]]
#: Bytes of predictions that a task reads, about: .1 s where reading is fast, long beside the 3 ms that a task costs.
TASK_BYTES = 1 << 29
HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
#: The last tasks are shorter, down to this part of a task: while one worker is at the last, others have nothing to do,
#: and what it found is fetched when nobody works any more.
LAST = 8
#: Bytes up to which what tasks share travels in all of them; as a task of its own it would cost 5 ms before the others.
MOST_REPEATED = 1 << 20
#: Never more in one task, where chunks allow it: what a worker's death costs.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Opening:
    """A path and how to open it: all that travels of a file."""

    path: str
    options: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Job:
    """What all tasks share."""

    tree: Tree
    opening: Opening | None
    shape: tuple[int, ...]
    dtype: str
    kind: Kind
    n_classes: int | None
    renormalize: bool
    row_tolerance: float
    model_ids: tuple[str, ...]
    memory: int
    threshold: float | None

    @classmethod
    def of(
        cls,
        view: Predictions,
        opening: Opening | None,
        *,
        memory: int,
        tree: Tree | None = None,
        n_classes: int | None = None,
        threshold: float | None = None,
    ) -> Job:
        """Take the facts from ``view``."""
        return cls(
            tree=tree or Tree(),
            opening=opening,
            shape=view.shape,
            dtype=view.dtype.str,
            kind=view.kind,
            n_classes=view.declared_classes if n_classes is None else n_classes,
            renormalize=view.renormalize,
            row_tolerance=view.row_tolerance,
            model_ids=view.model_ids,
            memory=memory,
            threshold=threshold,
        )


class Elsewhere:
    """The shape of predictions that are not here: the client reads none of them."""

    in_memory = False

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], path: str | None) -> None:
        self.shape, self.dtype, self.path = shape, dtype, path

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        raise RuntimeError("internal: the client of a cluster reads no predictions")


class _Window:
    """A block of another source, with a numbering of its own."""

    in_memory = False

    def __init__(self, source: Any, models: Range, samples: Range) -> None:
        self.source, self.at = source, (models[0], samples[0])
        self.shape = (models[1] - models[0], samples[1] - samples[0], *source.shape[2:])
        self.dtype, self.path = source.dtype, source.path
        self.chunks = getattr(source, "chunks", None)
        self.decoding = int(getattr(source, "decoding", 0))
        #: Models and samples of the largest block that can be had without a copy: those of a chunk if we start at one.
        self.windows: Range | None = getattr(source, "windows", None)
        if self.windows == source.shape[:2]:
            self.windows = self.shape[0], self.shape[1]
        elif self.windows is not None and (models[0] % self.windows[0] or samples[0] % self.windows[1]):
            self.windows = None

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        block: Array = self.source.read(*self._moved(models, samples), out)
        return block

    def window(self, models: slice, samples: slice, room: int, before: Any = None) -> Any:
        return self.source.window(*self._moved(models, samples), room, before)

    def resident(self, models: slice, samples: slice) -> int:
        taken: int = self.source.resident(*self._moved(models, samples))
        return taken

    def ahead(self, models: slice, samples: slice) -> None:
        ask = getattr(self.source, "ahead", None)
        if ask is not None:
            ask(*self._moved(models, samples))

    def _moved(self, models: slice, samples: slice) -> tuple[slice, slice]:
        m, n = self.at
        return slice(models.start + m, models.stop + m), slice(samples.start + n, samples.stop + n)


# --- planning ---------------------------------------------------------------------------------------------------


def plan_tasks(
    shape: tuple[int, ...],
    itemsize: int,
    chunks: Range | None,
    *,
    together: bool = False,
    threads: int = 1,
    task_bytes: int | None = None,
) -> list[tuple[Range, Range]]:
    """Cut (M, N[, C]) into tasks, as ranges of models and samples in the order of the samples.

    Tasks are whole blocks of 4,096 samples with all models, so that every sum is taken as one process takes it, and
    whole chunks, so that each byte is read once. Where both together would be more than :data:`MOST_BYTES` (a chunk
    holds a great many samples), tasks are whole chunks of some models; with ``together``, for metrics that need all
    models of a sample at once, they cut through the chunks instead. Tasks begin in this order and get
    shorter as the end comes near, so that all threads have done at about the same time.

    Parameters
    ----------
    chunks : (models, samples) or None
        Of a file that is read in chunks; None: any range can be read.
    threads : int
        Tasks that can run at once.
    task_bytes : int, optional
        Default :data:`TASK_BYTES`.

    Examples
    --------
    >>> from rashomon_core.pieces import plan_tasks
    >>> plan_tasks((1000, 40_000, 2), 4, (100, 4096))[:2]
    [((0, 1000), (0, 8192)), ((0, 1000), (8192, 16384))]
    """
    M, N = shape[:2]
    width = math.prod(shape[2:]) * itemsize
    wanted = TASK_BYTES if task_bytes is None else task_bytes
    wanted = max(1 << 20, min(wanted, M * N * width // (4 * threads)))
    unit = BLOCK
    if chunks is not None and chunks[1] < N:
        unit = math.lcm(BLOCK, chunks[1])
        if unit * M * width > max(MOST_BYTES, 2 * wanted) or unit >= 2 * N:
            unit = chunks[1] if not together or chunks[1] * M * width <= MOST_BYTES else BLOCK
    elif chunks is not None:
        unit = -(-N // BLOCK) * BLOCK
        if together and unit * M * width > MOST_BYTES:
            unit = BLOCK
    units, step = -(-N // unit), max(1, wanted // (unit * M * width))
    if chunks is not None and not together and unit * M * width > MOST_BYTES:
        per = max(1, chunks[0])
        rows = min(M, per * max(1, wanted // (per * min(unit * step, N) * width)))
    else:
        rows = M
    least, cuts = min(step, max(1, TASK_BYTES // LAST // (unit * M * width))), [0]
    while cuts[-1] < N:
        left = units - cuts[-1] // unit
        size = step if rows < M else min(step, max(least, -(-left // (2 * threads))))
        cuts.append(min(cuts[-1] + unit * size, N))
    return [((m, min(m + rows, M)), samples) for samples in itertools.pairwise(cuts) for m in range(0, M, rows)]


def whole_chunks(view: Predictions) -> Range | None:
    """Return the (models, samples) of chunks that are read as a whole, or None.

    Chunks of all samples that nobody has to decode (arrays of one piece, a file for each model) are read in any part.
    """
    chunks = getattr(view.source, "chunks", None)
    if chunks is None or view.path is None:
        return None
    packed = getattr(view.source, "decoding", 0) or os.path.splitext(view.path)[1].lower() in HDF5
    return (int(chunks[0]), int(chunks[1])) if packed or 1 < chunks[1] < view.n_samples else None


# --- what tasks do ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _open(opening: Opening, tree: Tree) -> Predictions:
    """Open a path once in each worker process and for each measurement (``tree``): the file may change between."""
    return open_predictions(opening.path, **dict(opening.options))


def _block(job: Job, data: Array | None, models: Range, samples: Range) -> Predictions:
    """Return the predictions of a task: its chunk, or a window of the file that this worker opens."""
    ids: tuple[str, ...] | None = None
    if data is not None:
        source: Any = ArraySource(data)
        rows, columns = models[1] - models[0], samples[1] - samples[0]
        if data.shape != (rows, columns, *job.shape[2:]):
            raise InvalidInputError(
                f"a chunk of shape {data.shape} where {(rows, columns, *job.shape[2:])} was announced",
                where=f"models {models[0]}..{models[1] - 1}, samples {samples[0]}..{samples[1] - 1}",
                fix="compute the sizes of the chunks first (array.compute_chunk_sizes())",
            )
        if np.ma.is_masked(data):
            raise InvalidInputError(
                "a chunk has masked values",
                where=f"models {models[0]}..{models[1] - 1}, samples {samples[0]}..{samples[1] - 1}",
                fix="drop or fill them first",
            )
    else:
        assert job.opening is not None
        view = _open(job.opening, job.tree)
        if view.shape != job.shape or view.dtype.str != job.dtype:
            raise InvalidInputError(
                f"shape {view.shape} {view.dtype} on worker {_here()}, {job.shape} {np.dtype(job.dtype)} on the client",
                file=job.opening.path,
                fix="every worker must see the same file under this path: use a shared file system",
            )
        if view.source.in_memory:  # converted from a table
            source = ArraySource(view.source.read(slice(*models), slice(*samples)), view.path)
        else:
            source = _Window(view.source, models, samples)
        ids = view.sample_ids
    return Predictions(
        source=source,
        kind=job.kind,
        declared_classes=job.n_classes,
        model_ids=job.model_ids[slice(*models)],
        sample_ids=None if ids is None else ids[samples[0] : samples[1]],
        axes=("models", "samples", "classes")[: len(job.shape)],
        renormalize=job.renormalize,
        row_tolerance=job.row_tolerance,
        first=(models[0], samples[0]),
    )


def _here() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "?"


class Common:
    """What all tasks of a tree share. Neither a tuple nor a dataclass: Dask would look into it for tasks."""

    def __init__(self, job: Job, shared: Any) -> None:
        self.job, self.shared = job, shared


def _held(common: Common) -> Common:
    """Task: what all others share, known to the scheduler, so that it outlives any worker."""
    return common


def _work(common: Common, work: Callable[..., Any], data: Array | None, models: Range, samples: Range) -> Any:
    """Task: one piece."""
    job = common.job
    result = work(job, common.shared, data, models, samples)
    width = math.prod(job.shape[2:]) * np.dtype(job.dtype).itemsize
    job.tree.note_done((models[1] - models[0]) * (samples[1] - samples[0]) * width)
    return result


def largest_class(job: Job, shared: None, data: Array | None, models: Range, samples: Range) -> int:
    """Return the number of classes that the labels of a block take."""
    return _block(job, data, models, samples).n_classes


def decide_one(job: Job, shared: None, data: Array | None, models: Range, samples: Range) -> Array:
    """Return the decisions of one model."""
    view = _block(job, data, models, samples)
    found = visit(view, Request(decisions=True, threshold=job.threshold), threads=1, memory=job.memory)
    assert found.decisions is not None
    decisions: Array = found.decisions[0]
    return decisions


def measure_piece(job: Job, empty: MultiplicityAccumulator, data: Array | None, models: Range, samples: Range) -> State:
    """Return what an accumulator has seen of a block."""
    block = _block(job, data, models, samples)
    acc = empty.fresh().update(block, models=slice(*models), samples=slice(*samples), threads=1, memory=job.memory)
    return acc.state()


def merge_states(common: Common, parts: list[State]) -> State:
    """Task: neighbours as one.

    They are left as they are, since another task may need them again after a worker's death: sums of models, which
    are added in place, are copied.
    """
    acc: MultiplicityAccumulator = common.shared.fresh()
    for header, arrays in parts:
        acc.absorb(header, {k: x if k.startswith("span") else x.copy() for k, x in arrays.items()})
    return acc.state()


def side_by_side(common: Common, parts: list[Array]) -> Array:
    """Task: the samples of all."""
    return np.concatenate(parts)


def most_of(common: Common, parts: list[int]) -> int:
    """Task: the largest."""
    return max(parts)


# --- on the client ----------------------------------------------------------------------------------------------


class Pieces:
    """Predictions that are elsewhere: a path, or a Dask array; their facts, and their pieces as tasks."""

    def __init__(self, given: object, opening: dict[str, Any]) -> None:
        self.array: Any = None
        self.opening: Opening | None = None
        self.chunks: Range | None = None
        if isinstance(given, (str, os.PathLike)):
            path = os.path.abspath(os.fspath(given))
            facts = {name: _frozen(value) for name, value in opening.items() if value not in (None, False)}
            self.opening = Opening(path, tuple(facts.items()))
            found = open_predictions(os.fspath(given), **facts)
            self.chunks = whole_chunks(found)
        else:
            found, self.array = _from_dask(given, opening)
        #: What the client knows; it reads no values.
        self.view = replace(found, source=Elsewhere(found.shape, found.dtype, found.path))

    def run(
        self,
        cluster: Cluster,
        work: Callable[..., Any],
        merge: Callable[[Any, list[Any]], Any],
        shared: Any,
        take: Callable[[Any], object],
        label: str,
        *,
        n_classes: int | None,
        memory: int,
        threshold: float | None,
        keep: int = 1,
        **cut: Any,
    ) -> None:
        """Run ``work`` on every piece, merge until at most ``keep`` results are left and hand these on as they come.

        ``shared`` goes to each worker once, or with the tasks where it is small.
        """
        from dask.delayed import delayed

        job = Job.of(
            self.view,
            self.opening,
            memory=memory,
            tree=cluster.tree(),
            n_classes=n_classes,
            threshold=threshold,
        )
        tasks, base = self.tasks(cluster, **cut), Common(job, shared)
        if len(tasks) * size_sent(base) > MOST_REPEATED:
            base = delayed(_held, pure=False)(base, dask_key_name=job.tree.key("shared"))
        task = delayed(_work, pure=False)
        leaves = [task(base, work, *piece, dask_key_name=job.tree.key("piece", k)) for k, piece in enumerate(tasks)]
        cluster.run(job.tree, leaves, merge, base, take, label=label, keep=keep, in_turn=self.array is None)

    def one(
        self,
        cluster: Cluster,
        work: Callable[..., Any],
        merge: Callable[[Any, list[Any]], Any],
        label: str,
        **settings: Any,
    ) -> Any:
        """Return the one result of :meth:`run` with nothing shared."""
        found: list[Any] = []
        self.run(cluster, work, merge, None, found.append, label, **settings)
        return found[0]

    def tasks(
        self, cluster: Cluster, *, together: bool = False, task_bytes: int | None = None, model: int | None = None
    ) -> list[tuple[Any, Range, Range]]:
        """Return (chunk or None, models, samples) of every task, of one model or of all, in the order of the samples.

        Chunks of an array are as they are; with ``together`` all models of a chunk's samples are brought together
        where they are not.
        """
        view = self.view
        if self.array is None:
            shape = view.shape if model is None else (1, *view.shape[1:])
            chunks, first = self.chunks, 0 if model is None else model
            pieces = plan_tasks(
                shape, view.dtype.itemsize, chunks, together=together, threads=cluster.threads, task_bytes=task_bytes
            )
            return [(None, (m[0] + first, m[1] + first), n) for m, n in pieces]
        array, first = self.array, 0
        if model is not None:
            array, first = array[model : model + 1], model
        whole = {axis: -1 for axis in ((0, 2) if together else (2,)) if axis < array.ndim and array.numblocks[axis] > 1}
        if whole:
            array = array.rechunk(whole)
        edges = [np.concatenate([[0], np.cumsum(sizes)]).tolist() for sizes in array.chunks[:2]]
        blocks = array.to_delayed(optimize_graph=True).reshape(array.numblocks[:2])
        return [
            (blocks[i, j], (edges[0][i] + first, edges[0][i + 1] + first), (edges[1][j], edges[1][j + 1]))
            for j in range(blocks.shape[1])
            for i in range(blocks.shape[0])
        ]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _from_dask(given: object, opening: dict[str, Any]) -> tuple[Predictions, Any]:
    """Return the facts of a Dask array and the array as (models, samples[, classes])."""
    try:
        import dask.array
    except ImportError:
        raise MissingDependencyError("dask", "measuring on a cluster", "dask") from None
    if not isinstance(given, dask.array.Array):
        raise UsageError(
            f"profile_distributed takes a path or a dask.array, not {type(given).__name__}. Fix: rc.profile for what "
            "is in memory, or dask.array.from_array"
        )
    for name in ("key", "key_per_model"):
        if opening[name]:
            raise UsageError(f"{name} is for files that hold several named arrays, not for a Dask array")
    if any(math.isnan(n) for n in given.shape):
        raise InvalidInputError(
            f"a Dask array of unknown shape {given.shape}", fix="call array.compute_chunk_sizes() first"
        )
    names = canonical_axes(given.shape, opening["axes"])
    order = [i for i, name in enumerate(names) if name not in ("samples", "classes")]
    if len(order) != 1:
        raise UsageError(f"axes {','.join(names)}: a Dask array has one axis of models. Fix: array.reshape")
    order += [names.index(name) for name in ("samples", "classes") if name in names]
    array = given if order == sorted(order) else given.transpose(order)
    view = Predictions.from_source(
        Elsewhere(tuple(int(n) for n in array.shape), np.dtype(array.dtype), None),
        kind=opening["kind"],
        axes=names,
        n_classes=opening["n_classes"],
        class_names=opening["class_names"],
        renormalize=opening["renormalize"],
    )
    return view, array
