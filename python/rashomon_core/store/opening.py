"""``open_predictions``: finds the format of a path and hands out a validated, lazy view."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.predictions import Kind, Predictions, canonical_axes

from .arrays import CONTAINERS, choose, entries, is_zarr, natural_key, npy_reader
from .convert import Converted, predictions_table, require_no_axes
from .files import require_seekable
from .folders import folder_models, is_pattern, stack
from .raw import make_source
from .tables import TABLES, open_table

__all__ = ["FORMAT", "FORMAT_VERSION", "SUPPORTED", "open_predictions"]

FORMAT = "rashomon-core predictions"
FORMAT_VERSION = 1
SUPPORTED = (".npy", *CONTAINERS, *TABLES)
#: |row sum - 1| allowed for bfloat16: 1e-3 as for float32, plus half a unit in the last of its 8 bits.
BFLOAT16_TOLERANCE = 1e-3 + 2.0**-9


def open_predictions(
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    axes: Sequence[str] | str | None = None,
    key: str | None = None,
    key_per_model: bool = False,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    renormalize: bool = False,
) -> Predictions:
    """Open saved predictions of many models without loading them.

    Parameters
    ----------
    path : str or path
        A .npy, .npz, .safetensors, .zarr, .h5 / .hdf5, .pt / .pth, .csv or .parquet file, or a folder or glob
        pattern of per-model .npy, .csv or .parquet files (model id = file stem, natural order).
    kind : {"labels", "proba", "log_proba", "logits"}, optional
        What the numbers are; without it integers are labels and floats are probabilities.
    axes : sequence of str, optional
        Axis names in the order of the array, (models, samples[, classes]) by default. Every name besides
        "samples" and "classes" is a model axis; several of them are flattened.
    key : str, optional
        Name of the array in a container that holds several.
    key_per_model : bool
        Each array of the container is one model, (samples,) or (samples, classes), in natural order of the
        names.
    n_classes : int, optional
        Number of classes of labels.
    class_names : sequence of str, optional
        Names of the classes in order; string labels of tables map through them, or else through their sorted
        distinct values.
    renormalize : bool
        Divide rows that do not sum to 1 by their sum instead of refusing them.

    Returns
    -------
    Predictions
        A view that reads blocks on demand. Text and .parquet tables are converted once into a temporary
        tensor (beyond 16 MB in an unlinked file in the folder for temporary files).

    Raises
    ------
    InvalidInputError
        The file is missing, damaged, pickled or contradicts the arguments; the message names file and fix.
    UsageError
        An unsupported file extension, or options that do not go with the format.
    MissingDependencyError
        The format needs a library that is not installed.

    Notes
    -----
    A .npy file with a native .json beside it (same stem) takes axes, kind, class names and ids from there;
    arguments that contradict it are refused. A zarr chunk that is not stored reads as the array's fill value.
    """
    name = os.fspath(path)
    if key is not None and key_per_model:
        raise UsageError("key and key_per_model exclude each other")
    suffix = os.path.splitext(name.rstrip("/\\"))[1].lower()
    pattern = is_pattern(name)
    folder = not pattern and os.path.isdir(name)
    if folder and is_zarr(name):
        suffix, folder = ".zarr", False
    if not (folder or pattern) and not os.path.exists(name):
        raise InvalidInputError("the file does not exist", file=name, fix="check the path")
    if not pattern:
        require_seekable(name)
    container = not (folder or pattern) and suffix in CONTAINERS
    if (key is not None or key_per_model) and not container:
        option = "key" if key is not None else "key_per_model"
        raise UsageError(f"{name}: {option} is for files that hold several named arrays ({', '.join(CONTAINERS)})")
    facts: dict[str, Any] = {}
    if folder or pattern:
        found = folder_models(name, kind=kind, axes=axes, class_names=class_names)
    elif container:
        found = _container(name, suffix, axes, key, key_per_model)
    elif suffix in TABLES:
        require_no_axes(axes, name)
        found = predictions_table(open_table(name, suffix), kind=kind, class_names=class_names)
    elif suffix == ".npy":
        given = {"kind": kind, "axes": axes, "n_classes": n_classes, "class_names": class_names}
        facts = _native(name, given)
        reader = npy_reader(name)
        _same_array(facts, reader.shape, reader.dtype.str, name)
        found = Converted(reader, canonical_axes(reader.shape, facts.get("axes") or axes, name))
    else:
        raise UsageError(
            f"{name}: files ending in {suffix or 'nothing'!r} are not supported; these are: "
            f"{', '.join(SUPPORTED)}, and a folder or pattern of per-model .npy, .csv or .parquet files"
        )
    tolerance = found.row_tolerance if found.row_tolerance is not None else facts.get("row_tolerance")
    return Predictions.from_source(
        make_source(found.reader, found.axes, name, found.key),
        kind=kind or facts.get("kind"),
        axes=found.axes,
        n_classes=n_classes if n_classes is not None else facts.get("n_classes"),
        model_ids=found.model_ids or facts.get("model_ids"),
        sample_ids=found.sample_ids or facts.get("sample_ids"),
        class_names=found.class_names or class_names or facts.get("class_names"),
        renormalize=renormalize or bool(facts.get("renormalize")),
        row_tolerance=tolerance,
    )


def _container(
    path: str, suffix: str, axes: Sequence[str] | str | None, key: str | None, key_per_model: bool
) -> Converted:
    found = entries(path, suffix)
    if key_per_model and found:
        found.sort(key=lambda e: (natural_key(e.name), e.name))
        reader, names = stack(found, axes, path)
        brain = any(e.bfloat16 for e in found)
        return Converted(
            reader, names, tuple(e.name for e in found), row_tolerance=BFLOAT16_TOLERANCE if brain else None
        )
    entry = choose(found, key, path)
    file = path if len(found) == 1 else f"{path}[{entry.name}]"
    names = canonical_axes(entry.shape, axes, file)
    tolerance = BFLOAT16_TOLERANCE if entry.bfloat16 else None
    return Converted(entry.open(), names, row_tolerance=tolerance, key=entry.name)


# --- the .json beside a .npy --------------------------------------------------------------------------------

_TYPES: dict[str, tuple[type, ...]] = {
    "axes": (list,),
    "kind": (str,),
    "n_classes": (int, type(None)),
    "class_names": (list, type(None)),
    "model_ids": (list, type(None)),
    "sample_ids": (list, type(None)),
    "renormalize": (bool,),
    "row_tolerance": (float, int, type(None)),
    "shape": (list,),
    "dtype": (str,),
}


def _native(path: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return what the native .json beside a .npy says ({} without one), ``given`` agreeing."""
    beside = os.path.splitext(path)[0] + ".json"
    try:
        with open(beside, encoding="utf-8") as stream:
            facts = json.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the .json beside {os.path.basename(path)} cannot be read ({error})",
            file=beside,
            fix="write the pair again, or remove the .json if it does not belong to the .npy",
        ) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return {}
    if facts.get("format_version") != FORMAT_VERSION:
        raise InvalidInputError(
            f"format_version {facts.get('format_version')!r}, this release reads {FORMAT_VERSION}",
            file=beside,
            fix="update rashomon-core",
        )
    for name, types in _TYPES.items():
        if name in facts and not isinstance(facts[name], types):
            raise InvalidInputError(
                f"{name!r} has the wrong type",
                file=beside,
                value=repr(facts[name])[:60],
                fix="write the pair again",
            )
    for name, value in given.items():
        stated = facts.get(name)
        if value is None or stated is None:
            continue
        if name == "axes":
            value = [a.strip() for a in value.split(",")] if isinstance(value, str) else list(value)
        elif name == "class_names":
            value = list(value)
        if value != stated:
            raise InvalidInputError(
                f"{name} {_show(value)} was passed, the file says {_show(stated)}",
                file=beside,
                fix=f"drop {name}, or correct the file",
            )
    return facts


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else repr(value)


def _same_array(facts: dict[str, Any], shape: tuple[int, ...], dtype: str, path: str) -> None:
    """Refuse a .json that was written for another array."""
    if ("shape" in facts and tuple(facts["shape"]) != shape) or ("dtype" in facts and facts["dtype"] != dtype):
        raise InvalidInputError(
            f"shape {shape} {dtype}, the .json beside it was written for {tuple(facts.get('shape', shape))} "
            f"{facts.get('dtype', dtype)}",
            file=path,
            fix="write the pair again, or remove the .json",
        )
