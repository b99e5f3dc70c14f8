"""The checkpoint of a measurement: a folder that outlives a kill and is removed when the measurement is done.

``state.npz`` says what was measured, of which files, how far, and holds the sums; it is replaced as a whole.
``reading-K.blocks`` holds the numbers per sample of the K-th reading, block behind block, each under a checksum; bytes
behind what the state speaks of belong to a block that was being written, and are dropped.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, OutputError, UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.resuming import Column

from .checkpoints import read_arrays, write_arrays
from .files import as_bytes

__all__ = ["Checkpoint"]

Array = npt.NDArray[Any]
FORMAT, STATE = "rashomon-core reading", "state.npz"
FORMAT_VERSION = 2
_AGAIN = "give the same inputs and options, or remove the checkpoint"


class Checkpoint:
    """Where a measurement keeps what it has finished.

    Parameters
    ----------
    path : str or path
        A folder: a new one, an empty one, or one that the same measurement left behind.
    every : float
        Seconds between two states on disk. At Ctrl-C, and at bad values, a last one is written.

    Examples
    --------
    >>> import tempfile, numpy as np, rashomon_core as rc
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(f"{folder.name}/p.npy", np.eye(3, dtype=np.uint8))
    >>> view = rc.open_predictions(f"{folder.name}/p.npy")
    >>> kept = rc.Checkpoint(f"{folder.name}/state")
    >>> rc.profile(view, checkpoint=kept).results()["pairwise_ambiguity"]["value"]
    1.0
    >>> kept.remove()
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float = 5.0) -> None:
        self.path, self.every = os.fspath(path), every
        self.resumed = False
        self._facts: dict[str, Any] = {}
        self._found: dict[str, Any] = {}
        self._files: Array = np.empty((0, 2), dtype=np.int64)
        self._readings: list[_Reading] = []
        self._asked = 0
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise OutputError(f"{self.path}: a file has this name. Fix: name a folder for the checkpoint")
        found = os.listdir(self.path) if os.path.isdir(self.path) else []
        if found and STATE not in found:
            raise OutputError(f"{self.path}: the folder is not empty, and holds no checkpoint. Fix: name another one")

    def begin(self, facts: dict[str, Any], predictions: Predictions) -> None:
        """Start, or go on where the same measurement stopped.

        Raises
        ------
        UsageError
            The checkpoint belongs to other inputs, options or another version; the message names the difference.
        InvalidInputError
            The checkpoint is damaged.
        """
        files = _files(predictions)
        facts = {**facts, "files": len(files)}
        stats = [os.stat(path) for path, _ in files]
        self._files = np.array([(s.st_size, s.st_mtime_ns) for s in stats], dtype=np.int64).reshape(-1, 2)
        self._facts, self._found, self._asked, self._readings = facts, {}, 0, []
        state = os.path.join(self.path, STATE)
        if not os.path.exists(state):
            try:
                os.makedirs(self.path, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be made ({error.strerror}). Fix: name another folder") from None
            self.save()
            return
        header, arrays = read_arrays(state)
        if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
            raise InvalidInputError("no checkpoint of this version", file=self.path, fix="remove it")
        self._compare(header["facts"], facts)
        held = [_Reading.read(self, k, said, arrays) for k, said in enumerate(header["readings"])]
        # a file may have been mended where nothing was finished yet, if what is finished is the first part of it
        done = max((r.done for r in held), default=0)
        if done and (len(held) > 1 or facts.get("epsilon") is not None):
            done = header["samples"]
        for (path, first), old, new in zip(files, arrays["files"].tolist(), self._files.tolist(), strict=True):
            if old != new and first < done:
                what = f"{old[0]} bytes, now {new[0]}" if old[0] != new[0] else "the same size, another time of change"
                raise UsageError(f"{self.path}: {path} has changed since the checkpoint ({what}). Fix: remove it")
        self._readings, self._found = held, header["found"]
        self.resumed = any(r.done for r in held)

    def _compare(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        names = [n for n in dict.fromkeys([*new, *old]) if old.get(n) != new.get(n)]
        if not names:
            return
        said = [f"{n} is {_short(new.get(n))}, the checkpoint has {_short(old.get(n))}" for n in names[:3]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UsageError(f"{self.path}: a checkpoint of another measurement: {'; '.join(said)}{more}. Fix: {_AGAIN}")

    def found(self, name: str, value: Any) -> None:
        """State what came out on the way: a function of the user may say another thing than before.

        Raises
        ------
        UsageError
            It is not what the checkpoint has.
        """
        if self._found.get(name, value) != value:
            raise UsageError(f"{self.path}: the {name} are not those of the checkpoint. Fix: {_AGAIN}")
        if name not in self._found:
            self._found[name] = value
            self.save()

    def reading(self, label: str) -> _Reading:
        """Return the next reading, in the order of the calls."""
        if self._asked == len(self._readings):
            self._readings.append(_Reading(self, self._asked, label))
        self._asked += 1
        found = self._readings[self._asked - 1]
        if found.label != label:
            raise InvalidInputError(f"reading {found.label!r} instead of {label!r}", file=self.path, fix="remove it")
        return found

    def save(self) -> None:
        """Write the state."""
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "facts": self._facts,
            "found": self._found,
            "samples": self._facts["shape"][1],
            "readings": [{"label": r.label, "columns": r.columns, "blocks": r.kept[0]} for r in self._readings],
        }
        arrays = {"files": self._files}
        for r in self._readings:
            arrays |= {f"{r.number}.{name}": array for name, array in r.kept[1].items()}
        write_arrays(os.path.join(self.path, STATE), header, arrays)

    def progress(self) -> str | None:
        """Say what is kept, or None if nothing is."""
        done = [f"{r.done:,} samples of {r.label}" for r in self._readings if r.done]
        return None if not done else f"kept in {self.path}: {', '.join(done)}; the same command goes on from there"

    def remove(self) -> None:
        """Remove the folder, unless somebody put something else there: the measurement is done."""
        for r in self._readings:
            r.close()
        for name in [STATE, *(os.path.basename(r.path) for r in self._readings)]:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.path, name))
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


class _Reading:
    """One reading: see :class:`rashomon_core.resuming.Reading`."""

    def __init__(self, owner: Checkpoint, number: int, label: str) -> None:
        self.owner, self.number, self.label = owner, number, label
        #: What is in memory and what the state on disk says: (first, last, bytes, checksum) of blocks, and sums.
        self._now: tuple[list[list[int]], dict[str, Array]] = ([], {})
        self.kept = self._now
        #: What is kept of each sample, by name; None: not known yet.
        self.columns: list[str] | None = None
        self._stream: Any = None
        self._time = time.monotonic()

    @property
    def done(self) -> int:
        """Samples 0 .. done are finished."""
        return self._now[0][-1][1] if self._now[0] else 0

    @property
    def sums(self) -> dict[str, Array]:
        """Sums over them."""
        return self._now[1]

    @property
    def path(self) -> str:
        """The file of its blocks."""
        return os.path.join(self.owner.path, f"reading-{self.number}.blocks")

    @classmethod
    def read(cls, owner: Checkpoint, number: int, said: dict[str, Any], arrays: dict[str, Array]) -> _Reading:
        """Return a reading as the state describes it."""
        made = cls(owner, number, str(said["label"]))
        prefix = f"{number}."
        sums = {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}
        made._now = made.kept = [[int(x) for x in b] for b in said["blocks"]], sums
        made.columns = said["columns"]
        needed = sum(b[2] for b in made._now[0])
        there = os.path.getsize(made.path) if os.path.exists(made.path) else 0
        if there < needed:
            raise InvalidInputError(
                f"the checkpoint is damaged: {there} of {needed} bytes", file=made.path, fix="remove the checkpoint"
            )
        return made

    def blocks(self, columns: Sequence[Column]) -> Iterator[tuple[slice, list[Array]]]:
        """Yield the finished samples and their numbers, column by column."""
        names = [column.name for column in columns]
        if self._now[0] and names != self.columns:
            now = "in two readings" if len(names) < len(self.columns or ()) else "at once"
            raise UsageError(
                f"{self.owner.path}: the checkpoint was read with another budget or number of threads, with which a "
                f"sample's numbers are made {now} now. Fix: give the same --memory and --threads as before"
            )
        self.columns = names
        if not self._now[0]:
            return
        with open(self.path, "rb") as stream:
            for first, last, length, checksum in self._now[0]:
                data = bytearray(length)
                if stream.readinto(data) != length or zlib.crc32(data) != checksum:
                    raise InvalidInputError(
                        f"the checkpoint is damaged: samples {first} to {last - 1} are not what was written",
                        file=self.path,
                        fix="remove the checkpoint",
                    )
                rows, at, parts = slice(first, last), 0, []
                for column in columns:
                    like = column.get(rows)
                    parts.append(np.frombuffer(data, like.dtype, like.size, at).reshape(like.shape))
                    at += like.nbytes
                yield rows, parts

    def add(self, rows: slice, parts: Iterable[Array], sums: dict[str, Array]) -> None:
        """Keep the numbers of further samples, and the sums so far."""
        if self._stream is None:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            self._stream = open(os.open(self.path, flags, 0o666), "r+b")  # noqa: SIM115
            self._alone()
            self._stream.truncate(sum(b[2] for b in self._now[0]))
            self._stream.seek(0, os.SEEK_END)
        checksum = length = 0
        try:
            for part in parts:
                data = as_bytes(np.ascontiguousarray(part))
                checksum, length = zlib.crc32(data, checksum), length + len(data)
                self._stream.write(data)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}). Fix: free space there") from None
        block = [rows.start, rows.stop, length, checksum]
        self._now = [*self._now[0], block], {name: array.copy() for name, array in sums.items()}
        if time.monotonic() - self._time >= self.owner.every:
            self.keep()

    def _alone(self) -> None:
        """Refuse a file into which another process writes."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UsageError(
                f"{self.owner.path}: another process measures with this checkpoint. Fix: wait for it, or name another "
                "folder"
            ) from None
        except OSError:  # a file system without locks
            return

    def keep(self) -> None:
        """Write everything down now."""
        if self._stream is None or self.kept is self._now:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.kept = self._now
        self.owner.save()
        self._time = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _files(predictions: Predictions) -> list[tuple[str, int]]:
    """Return the files of predictions, with the first sample that each holds numbers of."""
    listed = getattr(predictions.source, "files", None)
    found: list[tuple[str, int]] = [] if listed is None else listed()
    path = str(predictions.path)
    if not found and os.path.isdir(path):
        found = [(os.path.join(root, name), 0) for root, _, names in os.walk(path) for name in names]
    return sorted(found) if found else [(path, 0)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
