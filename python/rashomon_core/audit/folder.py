"""The run folder: one audit, one folder, one process at a time; what is finished stays finished."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError, OutputError, UsageError
from rashomon_core.report.document import to_text
from rashomon_core.store import write_array_atomic, write_json_atomic, write_text_atomic

__all__ = ["RunFolder", "commit"]

Array = npt.NDArray[Any]
FORMAT = "rashomon-core/run"
VERSION = 1


class RunFolder:
    """Files of one audit.

    ``config.json`` what was asked for, ``ledger.jsonl`` and ``ledger-evaluation.jsonl`` every answer, ``work/`` one
    file per finished task, ``budget-N/`` prediction tensors, ``result.json`` the result. Files appear complete or
    not at all; only ledgers grow.

    Parameters
    ----------
    path : path
        Made when it is missing. A folder that holds anything else than a run is refused.
    identity : mapping
        What decides every byte of the result: configuration, data, versions. A folder of another run is refused.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity = {"format": FORMAT, "format_version": VERSION, **json.loads(json.dumps(dict(identity)))}

    @property
    def ledger(self) -> Path:
        """File of the ledger of queries."""
        return self.path / "ledger.jsonl"

    @property
    def result(self) -> Path:
        """File of the result."""
        return self.path / "result.json"

    @contextlib.contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Make or take up the folder and hold its lock.

        Raises
        ------
        OutputError
            Another process holds the lock, or the folder cannot be written.
        InvalidInputError
            The folder belongs to another run, or is none.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingDependencyError("filelock", "an audit", "audit") from error
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: a file has this name. Fix: choose another folder with --run")
        if self.path.is_dir() and not (self.path / "config.json").exists():
            foreign = [name for name in sorted(os.listdir(self.path)) if name != ".lock" and not name.startswith(".")]
            if foreign:
                raise InvalidInputError(
                    f"the folder is not a run: it holds {foreign[0]!r} and no config.json",
                    file=str(self.path),
                    fix="choose another folder with --run",
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made ({error.strerror}). Fix: choose another folder") from None
        try:
            lock = FileLock(self.path / ".lock", timeout=0)
            with lock:
                self._claim()
                (self.path / "work").mkdir(exist_ok=True)
                for stale in self.path.rglob(".*.tmp"):  # of a process that was killed before it could rename
                    stale.unlink(missing_ok=True)
                yield self
        except Timeout:
            raise OutputError(
                f"{self.path}: another process is working in this folder. Fix: wait for it, or choose another folder"
            ) from None
        except PermissionError as error:
            raise OutputError(f"{self.path}: is not writable ({error.strerror}). Fix: choose another folder") from None

    def _claim(self) -> None:
        file = self.path / "config.json"
        if not file.exists():
            write_json_atomic(file, self.identity)
            return
        stored = self._json(file)
        for name in sorted(set(stored) | set(self.identity)):
            theirs, ours = stored.get(name), self.identity.get(name)
            if theirs == ours:
                continue
            if isinstance(theirs, dict) and isinstance(ours, dict):
                name, theirs, ours = next(
                    (f"{name}.{k}", theirs.get(k), ours.get(k))
                    for k in sorted(set(theirs) | set(ours))
                    if theirs.get(k) != ours.get(k)
                )
            raise InvalidInputError(
                f"the folder belongs to another run: its {name} is {theirs!r} and not {ours!r}",
                file=str(file),
                fix="choose another folder with --run, or ask for what that run was asked for",
            )

    def read_result(self) -> dict[str, Any]:
        """Return the committed result."""
        return self._json(self.result)

    def commit_result(self, document: Mapping[str, Any]) -> None:
        """Write the result: the run is finished when it is there."""
        write_text_atomic(self.result, to_text(document) + "\n")

    # -- finished tasks

    def task(self, name: str) -> Path:
        """Return the file of a task's array; its facts lie beside it in a .json."""
        if not name or any(c in name for c in "/\\\0") or name.startswith("."):
            raise UsageError(f"{name!r} cannot name a file")
        return self.path / "work" / f"{name}.npy"

    def finished(self, name: str) -> bool:
        """Return whether a task has committed its result."""
        return self.task(name).exists()

    def facts(self, name: str) -> dict[str, Any]:
        """Return the facts of a finished task."""
        return self._json(self.task(name).with_suffix(".json"))

    def load(self, name: str, shape: tuple[int | None, ...]) -> tuple[Array, dict[str, Any]]:
        """Return array and facts of a finished task.

        Parameters
        ----------
        shape : tuple
            What the array must have; None leaves an axis open.

        Raises
        ------
        InvalidInputError
            The files are damaged.
        """
        file, facts = self.task(name), self.facts(name)
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(file, str(error)) from None
        fits = array.ndim == len(shape) and all(s is None or s == n for s, n in zip(shape, array.shape, strict=False))
        if not fits or facts.get("shape") != list(array.shape):
            raise self._damaged(file, f"shape {array.shape} and not {shape}")
        return array, facts

    def _json(self, file: Path) -> dict[str, Any]:
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(file, str(error)) from None
        if not isinstance(stored, dict):
            raise self._damaged(file, "not a JSON object")
        return stored

    def _damaged(self, file: Path, why: str) -> InvalidInputError:
        fix = "start in a new folder"
        if file.parent.name == "work":
            fix = f"delete {file.with_suffix('.npy')}: it is worked out again"
        elif file == self.result:
            fix = f"delete {file}: it is put together again"
        return InvalidInputError(f"the file is damaged ({why})", file=str(file), fix=fix)


def commit(file: Path, array: Array, facts: Mapping[str, Any]) -> None:
    """Write what a task found: facts, then the array, whose name says that the task is finished."""
    write_json_atomic(file.with_suffix(".json"), {**facts, "shape": list(array.shape)})
    write_array_atomic(file, array)
