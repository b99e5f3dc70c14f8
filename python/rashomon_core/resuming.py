"""Readings that can be continued: what a finished tile left behind is kept, and put back after a kill.

Tiles are finished in their order, so what is kept is always a first part of the samples: per-sample numbers of that
part, and the sums over it. Put back, they are the bytes that were there, so the results are those of a reading that
was never stopped, whatever threads, memory and tiles the second half is read with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .buffers import Scratch, SpillArray
from .errors import UsageError
from .predictions import Predictions
from .tiles import GROUP, run

__all__ = ["Column", "Keeper", "Reading", "digest", "facts_of", "of_array", "of_spilled", "run_kept"]

Array = npt.NDArray[Any]
R = TypeVar("R")


class Reading(Protocol):
    """One reading of the samples, in a checkpoint."""

    @property
    def done(self) -> int:
        """Samples 0 .. done are finished."""
        ...

    @property
    def sums(self) -> dict[str, Array]:
        """Sums over them, by name."""
        ...

    def blocks(self, columns: Sequence[Column]) -> Iterator[tuple[slice, list[Array]]]:
        """Yield the finished samples and their numbers, column by column."""
        ...

    def add(self, rows: slice, parts: Iterable[Array], sums: dict[str, Array]) -> None:
        """Keep the numbers of further samples, and the sums so far."""
        ...

    def keep(self) -> None:
        """Write everything down now."""
        ...

    def close(self) -> None:
        """Let go of the file; adding opens it again."""
        ...


class Keeper(Protocol):
    """Where finished tiles are kept; see :class:`rashomon_core.store.Checkpoint`."""

    def begin(self, facts: dict[str, Any], predictions: Predictions) -> None:
        """Start, or go on where the same measurement stopped; refuse another one."""
        ...

    def found(self, name: str, value: Any) -> None:
        """State what came out on the way and must come out again, such as who is a member."""
        ...

    def reading(self, label: str) -> Reading:
        """Return the next reading, in the order of the calls."""
        ...


@dataclass(frozen=True)
class Column:
    """Numbers per sample, wherever they lie: how to read and write those of some samples (axis 0, or ``axis``)."""

    name: str
    get: Callable[[slice], Array]
    put: Callable[[slice, Array], None]


def of_array(name: str, array: Array, axis: int = 0) -> Column:
    """Return the column of an array in memory."""

    def put(rows: slice, part: Array) -> None:
        array[(slice(None),) * axis + (rows,)] = part

    return Column(name, lambda rows: array[(slice(None),) * axis + (rows,)], put)


def of_spilled(name: str, array: SpillArray, *, turned: bool = False, groups: bool = False) -> Column:
    """Return the column of an array whose second axis is samples, or groups of 512 of them.

    ``turned``: what is kept has samples first.
    """
    scratch = Scratch()

    def where(rows: slice) -> slice:
        return slice(rows.start // GROUP, -(-rows.stop // GROUP)) if groups else rows

    def get(rows: slice) -> Array:
        part = array.read(slice(0, array.shape[0]), where(rows))
        return part.T if turned else part

    def put(rows: slice, part: Array) -> None:
        first, second = slice(0, array.shape[0]), where(rows)
        place = array.place(first, second, scratch, name)
        place[...] = part.T if turned else part
        array.commit(place, first, second)

    return Column(name, get, put)


def run_kept(
    tasks: Sequence[tuple[int, int]],
    work: Callable[[tuple[int, int], Scratch], R],
    merge: Callable[[tuple[int, int], R], None] | None,
    reading: Reading | None,
    columns: Sequence[Column],
    sums: dict[str, Array],
    *,
    threads: int,
    label: str,
    nbytes: Callable[[tuple[int, int]], int],
) -> None:
    """Do :func:`rashomon_core.tiles.run`, and keep what is finished; with a reading that has begun, go on behind it.

    ``sums`` are changed in place by ``merge`` alone.
    """
    if reading is None:
        run(tasks, work, merge, threads=threads, label=label, nbytes=nbytes)
        return
    for rows, parts in reading.blocks(columns):
        for column, part in zip(columns, parts, strict=True):
            column.put(rows, part)
    for name, array in reading.sums.items():
        sums[name][...] = array
    left = [(max(a, reading.done), b) for a, b in tasks if b > reading.done]

    def merged(task: tuple[int, int], result: R) -> None:
        if merge is not None:
            merge(task, result)
        rows = slice(*task)
        reading.add(rows, (column.get(rows) for column in columns), sums)

    try:
        run(left, work, merged, threads=threads, label=label, nbytes=nbytes)
    finally:  # Ctrl-C and bad values too: what is finished stays
        try:
            reading.keep()
        finally:
            reading.close()


def digest(*arrays: Array | None) -> str | None:
    """Return what tells arrays from others, or None without any."""
    if all(a is None for a in arrays):
        return None
    found = hashlib.sha256()
    for a in arrays:
        if a is not None:
            if a.dtype.hasobject:
                a = a.astype(str)
            found.update(f"{a.dtype.str}{a.shape}".encode())
            found.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    return found.hexdigest()[:16]


def facts_of(predictions: Predictions) -> dict[str, Any]:
    """Return what predictions on disk are declared to be.

    Raises
    ------
    UsageError
        They are in memory, where nothing says after a kill that they are the same.
    """
    if predictions.path is None or predictions.source.in_memory:
        raise UsageError("a checkpoint is for predictions that are read from disk. Fix: open_predictions(PATH)")
    taken: list[str | None] = []
    source: Any = predictions.source
    while hasattr(source, "source"):  # a view of some models and samples
        taken.append(digest(source.models, source.samples))
        source = source.source
    return {
        "predictions": predictions.path,
        "key": getattr(source, "key", None),
        "taken": taken,
        "class_names": digest(np.array(predictions.class_names)) if predictions.class_names else None,
        "shape": list(predictions.shape),
        "dtype": predictions.dtype.str,
        "kind": predictions.kind,
        "classes": predictions.n_classes,
        "axes": list(predictions.axes),
        "renormalize": predictions.renormalize,
        "row_tolerance": predictions.row_tolerance,
        "models": digest(np.array(predictions.model_ids)),
    }
