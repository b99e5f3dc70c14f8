"""A finished run as material for a report: its document, and its tensors read again."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rashomon_core.errors import InvalidInputError
from rashomon_core.report.document import SCHEMA, SCHEMA_VERSION
from rashomon_core.report.material import Material, Source, gather, make_source
from rashomon_core.store import open_predictions, open_vector

from .folder import FORMAT, RunFolder

__all__ = ["run_material"]


def run_material(
    folder: str | os.PathLike[str], *, threads: int | None = None, memory: int | str | None = None
) -> Material:
    """Return what a report of a finished run shows.

    Parameters
    ----------
    folder : path
        The run folder of an audit.
    threads, memory : as in :func:`rashomon_core.profile`

    Raises
    ------
    InvalidInputError
        The folder is no run, the run is not finished, or a file of it is missing or damaged.
    """
    path = Path(folder)
    run = _finished(path)
    document = run.read_result()
    if document.get("schema") != SCHEMA or document.get("schema_version") != SCHEMA_VERSION:
        raise InvalidInputError(
            f"not a result of this version: schema {document.get('schema')!r} {document.get('schema_version')!r}",
            file=str(run.result),
            fix=f"this version reads {SCHEMA!r} {SCHEMA_VERSION}",
        )
    try:
        sources = [_checkpoint(path, document, entry) for entry in document["checkpoints"]]
        versions = run.identity.get("software")
        shown = {**document, "versions": versions} if isinstance(versions, dict) else document
        return gather(shown, sources, noun="surrogate", threads=threads, memory=memory)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidInputError(
            f"the result lacks what a report needs ({type(error).__name__}: {error})",
            file=str(run.result),
            fix="run the audit again in a new folder",
        ) from error


def _finished(path: Path) -> RunFolder:
    """Return the run in a folder."""
    file = path / "config.json"
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InvalidInputError(f"{what}: a report is made of the run folder of an audit", file=str(path))
    try:
        identity = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInputError(
            "the folder is not a run: it holds no config.json",
            file=str(path),
            fix="give the run folder of rashomon-core audit; predictions go by measure --report",
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"the file is damaged ({error})", file=str(file), fix="start a new run") from None
    if not isinstance(identity, dict) or identity.get("format") != FORMAT:
        raise InvalidInputError("the folder is not a run: its config.json is of something else", file=str(file))
    run = RunFolder(path, {key: value for key, value in identity.items() if not key.startswith("format")})
    if not run.result.exists():
        raise InvalidInputError(
            "the run is not finished: there is no result.json",
            file=str(path),
            fix="start the same audit again, it goes on from there",
        )
    return run


def _checkpoint(path: Path, document: Mapping[str, Any], entry: Mapping[str, Any]) -> Source:
    """Return the inputs of one checkpoint, from its own files."""
    folder = path / f"budget-{entry['budget']}"
    view = open_predictions(folder / "preds.npy")
    groups = folder / "groups.csv"
    parameters = {**document["parameters"], "epsilon": document["audit"]["configuration"]["epsilon"]}
    return make_source(
        view,
        parameters,
        target=open_vector(folder / "target.npy", name="target"),
        y=open_vector(folder / "labels.npy", name="labels"),
        groups=_groups(groups) if groups.exists() else None,
        loss=document["audit"]["configuration"]["loss"],
        selection=open_vector(folder / "selection.npy", name="selection"),
        budget=entry["budget"],
    )


def _groups(file: Path) -> dict[str, list[str | None]]:
    """Return the columns of groups.csv, as it was written: every value is a text, an empty one is missing."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        names = rows[0][1:]
        return {name: [row[k + 1] or None for row in rows[1:]] for k, name in enumerate(names)}
    except (OSError, ValueError, csv.Error, IndexError) as error:
        raise InvalidInputError(f"the file is damaged ({error})", file=str(file), fix="start a new run") from None
