"""A folder or glob pattern of per-model files, one model each, in natural order ("m2" before "m10").

.npy files are opened for each read, so that neither memory nor descriptors grow with the number of models.
Text and .parquet files are converted once, file by file (see ``convert``).
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from rashomon_core.errors import InvalidInputError
from rashomon_core.predictions import Kind

from .arrays import Entry, natural_key, npy_reader
from .convert import Converted, model_files, require_no_axes
from .raw import Reader, StackReader
from .tables import open_table

__all__ = ["folder_models", "is_pattern", "model_paths", "stack"]

MODEL_FILES = (".npy", ".csv", ".parquet")
_FIX = "keep files of one kind in the folder, or pass a pattern such as 'folder/*.npy'"


def is_pattern(path: str) -> bool:
    """Tell whether a path is a glob pattern (and not the name of an existing file)."""
    return glob.has_magic(path) and not os.path.exists(path)


def model_paths(path: str) -> list[str]:
    """List the per-model files of a folder or pattern in natural order; they must be of one kind."""
    if is_pattern(path):
        found = [p for p in glob.glob(path, recursive=True) if os.path.isfile(p)]
        if not found:
            raise InvalidInputError("no file matches the pattern", file=path, fix="check the pattern")
        odd = next((p for p in sorted(found) if _suffix(p) not in MODEL_FILES), None)
        if odd is not None:
            raise InvalidInputError(
                f"{os.path.basename(odd)!r} is not a per-model file",
                file=path,
                fix=f"match {', '.join(MODEL_FILES)} files",
            )
    else:
        names = [n for n in os.listdir(path) if not n.startswith(".") and _suffix(n) in MODEL_FILES]
        found = [p for n in names if os.path.isfile(p := os.path.join(path, n))]
        if not found:
            raise InvalidInputError(
                "the folder holds no per-model files",
                file=path,
                fix=f"put {', '.join(MODEL_FILES)} files there",
            )
    kinds = Counter(_suffix(p) for p in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(kinds.items()))
        raise InvalidInputError(f"files of several kinds: {counts}", file=path, fix=_FIX)
    return sorted(found, key=lambda p: (natural_key(p), p))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def model_names(paths: Sequence[str]) -> list[str]:
    """Model ids: the file stems, or the paths below their common folder where stems repeat (seed1/preds)."""
    stems = [os.path.splitext(os.path.basename(p))[0] for p in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
    return [os.path.splitext(os.path.relpath(os.path.abspath(p), common))[0].replace(os.sep, "/") for p in paths]


def folder_models(
    path: str, *, kind: Kind | None, axes: Sequence[str] | str | None, class_names: Sequence[str] | None
) -> Converted:
    """Open the per-model files of a folder or pattern."""
    paths = model_paths(path)
    ids = tuple(model_names(paths))
    suffix = _suffix(paths[0])
    if suffix == ".npy":
        known: dict[bytes, object] = {}
        readers = [npy_reader(p, keep_open=False, known=known) for p in paths]
        found = [Entry(p, r.shape, r.dtype, partial(_same, r)) for p, r in zip(paths, readers, strict=True)]
        reader, names = stack(found, axes, path)
        return Converted(reader, names, model_ids=ids)
    require_no_axes(axes, path)
    tables = (open_table(p, suffix) for p in paths)
    converted = model_files(tables, len(paths), kind=kind, class_names=class_names)
    converted.model_ids = ids
    return converted


def _same(reader: Reader) -> Reader:
    return reader


def stack(found: Sequence[Entry], axes: Sequence[str] | str | None, path: str) -> tuple[Reader, tuple[str, ...]]:
    """Read arrays of one model each, (samples,) or (samples, classes), as one; return it and its axes."""
    first = found[0]
    names = axes.split(",") if isinstance(axes, str) else list(axes or ())
    names = [n.strip() for n in names]
    if names[:1] == ["models"]:
        names = names[1:]
    if not names and len(first.shape) in (1, 2):
        names = ["samples", "classes"][: len(first.shape)]
    if len(first.shape) not in (1, 2) or sorted(names) != sorted(["samples", "classes"][: len(first.shape)]):
        raise InvalidInputError(
            f"one model's array has the shape {first.shape}" + (f" and axes {','.join(names)}" if names else ""),
            file=first.name if os.path.exists(first.name) else f"{path}[{first.name}]",
            fix="a model's array is (samples,) or (samples, classes); a file of all models goes by its name",
        )
    samples = names.index("samples")
    for entry in found[1:]:
        if entry.shape != first.shape:
            same_rank = len(entry.shape) == len(first.shape)
            what = (
                f"{entry.shape[samples]} samples, {first.name!r} has {first.shape[samples]}"
                if same_rank and entry.shape[samples] != first.shape[samples]
                else f"shape {entry.shape}, {first.name!r} has {first.shape}"
            )
            raise InvalidInputError(
                what, file=entry.name if os.path.exists(entry.name) else f"{path}[{entry.name}]",
                fix="predict the same samples with every model",
            )  # fmt: skip
        if entry.dtype.kind != first.dtype.kind and {entry.dtype.kind, first.dtype.kind} != set("iu"):
            raise InvalidInputError(
                f"dtype {entry.dtype}, {first.name!r} has {first.dtype}",
                file=entry.name if os.path.exists(entry.name) else f"{path}[{entry.name}]",
                fix="store labels of all models, or scores of all models",
            )
    dtypes = {e.dtype for e in found}
    dtype = first.dtype if len(dtypes) == 1 else np.result_type(*dtypes)
    if dtype.kind == "f" and first.dtype.kind in "iu":  # uint64 beside signed integers
        dtype = np.dtype(np.int64)
    return StackReader([e.open() for e in found], dtype), ("models", *names)
