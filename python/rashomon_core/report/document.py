"""The JSON document of a measurement, and look-ups in it.

The document is plain JSON: integers stay integers, and a number that is not finite is null beside a "reason".
``report.schema.json`` in this folder describes it.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rashomon_core.errors import UsageError

if TYPE_CHECKING:
    from rashomon_core.predictions import Predictions
    from rashomon_core.profiling import Profile

__all__ = [
    "INSPECTION",
    "RESULT_NAMES",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Threshold",
    "build_document",
    "environment",
    "input_entry",
    "inspection_document",
    "load_schema",
    "parse_threshold",
    "printable_path",
    "software",
    "to_text",
]

SCHEMA = "rashomon-core/report"
INSPECTION = "rashomon-core/inspection"
SCHEMA_VERSION = 1
#: Members that ``results`` may have, as in the schema.
RESULT_NAMES = (
    "ambiguity",
    "discrepancy",
    "disagreement_rate",
    "epsilon_curves",
    "fairness",
    "fidelity",
    "groups",
    "losses",
    "pairwise_ambiguity",
    "pairwise_disagreement",
    "pairwise_discrepancy",
    "rashomon_capacity",
    "score_variance",
    "set",
    "shape",
    "size_curves",
    "viable_prediction_range",
)


# --- building -----------------------------------------------------------------------------------------------


def software() -> dict[str, str]:
    """Return name and version of this library."""
    from rashomon_core import __version__

    return {"name": "rashomon-core", "version": __version__}


def environment() -> dict[str, Any]:
    """Return what a result depends on outside its inputs: Python, NumPy, platform, instruction set, cores."""
    import numpy as np

    from rashomon_core._cpu import isa_active

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "instruction_set": str(isa_active()),
        "cores": cores,
    }


def printable_path(path: str) -> str:
    """Return a path as text that can be encoded: bytes that are not UTF-8 become replacement characters."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def input_entry(role: str, select: str | None, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of ``inputs``.

    Parameters
    ----------
    role : str
        "predictions", "target", "labels", "groups", "weights", "reference", "loss" or "selection".
    select : str or None
        Column of a table or name of an array in a container.
    described : dict
        What :func:`rashomon_core.store.describe_input` says.
    """
    return {"role": role, **described, "path": printable_path(described["path"]), "select": select}


def build_document(
    profile: Profile, *, inputs: Sequence[Mapping[str, Any]], warnings: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the JSON document of a profile.

    Parameters
    ----------
    profile : Profile
        From :func:`rashomon_core.profile`.
    inputs : sequence of dict
        Entries of :func:`input_entry`.
    warnings : iterable of str
        Warnings from outside the profile; each text is kept once.

    Returns
    -------
    dict
        JSON-ready: plain dicts, lists, texts, ints, finite floats, booleans and None.
    """
    content = profile.to_dict()
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "parameters": content["parameters"],
        "environment": environment(),
        "resources": content["resources"],
        "inputs": [dict(entry) for entry in inputs],
        "results": content["results"],
        "status": content["status"],
        "warnings": list(dict.fromkeys([*warnings, *content["warnings"]])),
    }


def inspection_document(view: Predictions, entry: Mapping[str, Any], problem: str | None) -> dict[str, Any]:
    """Return the JSON document of ``inspect``: facts, the outcome of the value checks, suggestions.

    Parameters
    ----------
    view : Predictions
    entry : dict
        From :func:`input_entry`.
    problem : str or None
        What :meth:`Predictions.validate` raised.
    """
    # The number of classes of labels takes a scan that bad labels stop.
    classes = view.declared_classes if problem is not None else view.n_classes
    return {
        "schema": INSPECTION,
        "schema_version": SCHEMA_VERSION,
        "software": software(),
        "input": dict(entry),
        "predictions": {
            "kind": view.kind,
            "axes": list(view.axes),
            "shape": [int(n) for n in view.shape],
            "dtype": str(view.dtype),
            "models": view.n_models,
            "samples": view.n_samples,
            "classes": classes,
            "class_names": None if view.class_names is None else list(view.class_names),
            "model_ids": _some(view.model_ids),
            "sample_ids": _some(view.sample_ids),
            "bytes": view.nbytes,
            "renormalize": view.renormalize,
            "row_tolerance": view.row_tolerance if view.kind != "labels" else None,
        },
        "checks": {"ok": problem is None, "problem": problem},
        "suggestions": _suggestions(view, entry, problem),
    }


def _some(ids: Sequence[str] | None) -> dict[str, Any] | None:
    return None if ids is None else {"count": len(ids), "first": list(ids[:5])}


def _suggestions(view: Predictions, entry: Mapping[str, Any], problem: str | None) -> list[str]:
    path = entry["path"]
    found = []
    if view.n_models > view.n_samples:
        names = ["samples", "models", "classes"][: len(view.axes)]
        found.append(
            f"more models ({view.n_models:,}) than samples ({view.n_samples:,}): if the axes are the other "
            f"way round say --axes {','.join(names)}"
        )
    if view.kind == "labels" and view.declared_classes is None:
        found.append("state the number of classes with --n-classes, so that labels above it are refused")
    if path.lower().endswith((".csv", ".parquet")):
        found.append(f"tables are read anew on every run; once: rashomon-core convert {path} OUT.npy")
    if view.sample_ids is None:
        found.append("there are no sample ids: targets, labels and groups are matched by position")
    if problem is None:
        found.append(f"rashomon-core measure {path} --target TARGET --labels LABELS")
    return found


def to_text(document: Mapping[str, Any]) -> str:
    """Return the document as one line-broken JSON text, ASCII only so that any output stream can take it.

    Raises
    ------
    ValueError
        When a number is not finite: that is a defect of whoever built the document.
    """
    return json.dumps(document, indent=2, allow_nan=False)


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    text = files("rashomon_core.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


# --- thresholds ---------------------------------------------------------------------------------------------


class Threshold:
    """A stated limit on one number of ``results``: ``ambiguity.value=.2``."""

    def __init__(self, text: str, path: str, limit: float) -> None:
        self.text, self.path, self.limit = text, path, limit

    def check(self, results: Mapping[str, Any]) -> str | None:
        """Return None when the value is at most the limit, else a sentence that says why the check failed.

        A null fails: a limit that cannot be checked was not kept.

        Raises
        ------
        UsageError
            The path names nothing, or something that is not a number.
        """
        value, reason = _lookup(results, self.path.split("."), [])
        if value is None:
            why = f" ({reason})" if reason else ""
            return f"{self.path} is null{why}: the limit {self.limit:g} cannot be said to be kept"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            inside = f"; it holds {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
            raise UsageError(f"--fail-above {self.text}: {self.path} is not a number{inside}")
        if value > self.limit:
            return f"{self.path} = {value:.6g} is above the limit {self.limit:g}"
        return None


def parse_threshold(text: str) -> Threshold:
    """Read ``dotted.path=value``; the first name must be one that results can have.

    Raises
    ------
    UsageError
        Not of that form, an unknown first name, or a limit that is not a finite number.
    """
    path, equals, value = text.rpartition("=")
    path = path.strip()
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not equals or not path or not math.isfinite(limit):
        raise UsageError(f"--fail-above {text}: write path=number, for example ambiguity.value=.2")
    if path.split(".")[0] not in RESULT_NAMES:
        raise UsageError(f"--fail-above {text}: results hold {', '.join(RESULT_NAMES)}")
    return Threshold(text, path, limit)


def _lookup(node: Mapping[str, Any], parts: Sequence[str], done: Sequence[str]) -> tuple[Any, str | None]:
    """Follow a dotted path to (value, why it is null); a name may itself hold dots (class names do)."""
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if name not in node:
            continue
        value, rest = node[name], parts[count:]
        if value is None or not rest:
            return value, node.get("reason")
        if not isinstance(value, Mapping):
            continue
        # A metric without a value has none of its other members either: {"value": null, "reason": "..."}.
        if "reason" in value and value.get("value", 0) is None and rest[0] not in value:
            return None, value["reason"]
        return _lookup(value, rest, [*done, name])
    where = ".".join(done)
    raise UsageError(
        f"--fail-above: results have no {'.'.join([*done, *parts])!r}; "
        f"{where or 'results'} {'holds' if where else 'hold'} {', '.join(map(str, node))}"
    )
