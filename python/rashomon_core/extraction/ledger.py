"""The record of every answer: a file that grows by one line an answer, and can be replayed.

A run that was killed and starts again asks the same questions in the same order; the ledger then gives the answers
that it holds, and only what it does not hold is asked of the target. A line that was cut off in the middle is
dropped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rashomon_core.errors import InvalidInputError, OutputError

__all__ = ["Entry", "Ledger"]

FORMAT = "rashomon-core/ledger"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer.

    Attributes
    ----------
    index : int
        Counted from 1, over everything that was asked.
    hash : str
        Digest of the input.
    purpose : str
        "train", "select" or "evaluate".
    strategy : str
    round : int
    charged : bool
        Whether the budget paid for it.
    source : str
        "target", or "cache" for an input that had been asked before.
    answer : int or list
        What was answered, after defences: a class index, or probabilities or logits (null where hidden).
    """

    index: int
    hash: str
    purpose: str
    strategy: str
    round: int
    charged: bool
    source: str
    answer: Any


class Ledger:
    """Answers in the order in which they were given, in memory and, with a path, in a file of JSON lines.

    Parameters
    ----------
    path : path, optional
        Written after every batch, and synchronised to disk. When it exists it is read and replayed.
    header : mapping
        What the answers depend on (classes, output, defences). A file with another header is refused.
    """

    def __init__(self, path: str | os.PathLike[str] | None, header: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.header = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(dict(header)))}
        self.entries: list[Entry] = []
        self._next = 0  # entries before it have been given out, or written by this run
        if self.path is not None:
            if self.path.exists() and self.path.stat().st_size:
                self._read(self.path)
            if not (self.path.exists() and self.path.stat().st_size):
                self._write(json.dumps(self.header) + "\n", "wb")

    def __len__(self) -> int:
        return self._next

    @property
    def given(self) -> list[Entry]:
        """Entries that this run has given out or written."""
        return self.entries[: self._next]

    def stored(self, hashes: Sequence[str], purpose: str) -> list[Entry]:
        """Return what an earlier run was answered to the first of these inputs: fewer entries than inputs, or none.

        Raises
        ------
        InvalidInputError
            When the file holds answers to other questions here.
        """
        stored = self.entries[self._next : self._next + len(hashes)]
        for entry, digest in zip(stored, hashes, strict=False):
            if entry.hash != digest or entry.purpose != purpose:
                raise InvalidInputError(
                    "the ledger was written by another run: it holds another question here",
                    file=str(self.path),
                    where=f"entry {entry.index}",
                    fix="start in a new run folder, or with the data, seed and settings of that run",
                )
        return stored

    def give(self, n: int) -> None:
        """Count the next n stored answers as given out."""
        self._next += n

    def add(self, entries: Sequence[Entry]) -> None:
        """Append answers, on disk first."""
        if not entries:
            return
        assert self._next == len(self.entries), "stored answers come before new ones"
        if self.path is not None:
            self._write("".join(_line(entry) for entry in entries), "ab")
        self.entries.extend(entries)
        self._next = len(self.entries)

    def counts(self) -> dict[str, int]:
        """Return how many answers there are: asked of the target, charged, from the cache, and by purpose."""
        counts = Counter[str]()
        for entry in self.given:
            counts["answers"] += 1
            counts["charged"] += entry.charged
            counts["asked_of_target"] += entry.source == "target"
            counts["from_cache"] += entry.source == "cache"
            counts[entry.purpose] += 1
        names = ("answers", "charged", "asked_of_target", "from_cache", "train", "select", "evaluate")
        return {name: counts[name] for name in names if name in counts or name in names[:4]}

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        lines = data[:end].decode("utf-8", "replace").splitlines()
        if end < len(data):  # a line that the run before did not finish
            with open(path, "r+b") as file:
                file.truncate(end)
        if not lines:
            return
        try:
            header = json.loads(lines[0])
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise InvalidInputError("this is not a ledger", file=str(path), fix="start in a new run folder")
        for name in sorted(set(header) | set(self.header)):
            if header.get(name) != self.header.get(name):
                raise InvalidInputError(
                    f"the ledger was written for another {name}: {header.get(name)} and not {self.header.get(name)}",
                    file=str(path),
                    fix="start in a new run folder",
                )
        for number, line in enumerate(lines[1:], start=2):
            try:
                entry = Entry(*json.loads(line))
                if entry.index != number - 1:
                    raise ValueError(f"entry {entry.index} stands where {number - 1} belongs")
            except (ValueError, TypeError) as error:
                raise InvalidInputError(
                    f"the ledger is damaged ({error})",
                    file=str(path),
                    where=f"line {number}",
                    fix="restore the file, or start in a new run folder",
                ) from None
            self.entries.append(entry)

    def _write(self, text: str, mode: str) -> None:
        assert self.path is not None
        try:
            with open(self.path, mode) as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}). Fix: check the folder") from error


def _line(entry: Entry) -> str:
    return json.dumps([getattr(entry, name) for name in Entry.__slots__], separators=(",", ":")) + "\n"
