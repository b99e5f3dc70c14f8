"""Writing: the native pair and small text files, all or nothing.

Data goes to a file that has no name until it is complete (``O_TMPFILE``), where the system has such files:
then even a killed process leaves nothing behind. Elsewhere it is a hidden temporary file in the same folder,
removed on any exception, KeyboardInterrupt included.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, OutputError, UsageError
from rashomon_core.predictions import Kind, Predictions, Source

from .files import as_bytes, open_descriptor, write_all
from .folders import is_pattern, model_paths
from .opening import FORMAT, FORMAT_VERSION

__all__ = [
    "describe_input",
    "save_predictions",
    "write_array_atomic",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_text_atomic",
]

Array = npt.NDArray[Any]
#: Bytes of the block that ``save_predictions`` keeps in memory.
SAVE_BYTES = 16 << 20
#: Files up to this size are hashed without being asked.
HASH_BYTES = 64 << 20


class _NewFile:
    """A file in the folder of ``path`` that takes that name when it is complete."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.folder = os.path.dirname(self.path)
        self.temporary = os.path.join(self.folder, f".{os.path.basename(path)}.{secrets.token_hex(8)}.tmp")
        self.fd: int | None = None
        self.named = False  # whether ``temporary`` may exist

    def open(self) -> int:
        unnamed = getattr(os, "O_TMPFILE", None)
        if unnamed is not None and os.path.isdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # not every file system has unnamed files
                self.fd = os.open(self.folder, unnamed | os.O_RDWR, 0o666)
                return self.fd
        self.named = True
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self.fd = os.open(self.temporary, flags, 0o666)
        return self.fd

    def complete(self) -> None:
        """Force the bytes to disk and give them their temporary name."""
        assert self.fd is not None
        os.fsync(self.fd)
        if not self.named:
            self.named = True
            try:
                self._link(self.fd)
            except OSError:  # /proc is closed here: a named copy it is
                with open(os.dup(self.fd), "rb") as old, open(self.temporary, "xb") as new:
                    old.seek(0)
                    shutil.copyfileobj(old, new, 1 << 20)
                    new.flush()
                    os.fsync(new.fileno())
        fd, self.fd = self.fd, None
        os.close(fd)

    def _link(self, fd: int) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:  # a folder descriptor makes Python call linkat, which follows /proc to the unnamed file
            os.link(f"/proc/self/fd/{fd}", self.temporary, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def publish(self) -> None:
        os.replace(self.temporary, self.path)
        self.named = False

    def discard(self) -> None:
        if self.fd is not None:
            fd, self.fd = self.fd, None
            os.close(fd)
        if self.named:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)
            self.named = False


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the folder and the fix."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: the folder {folder!r} does not exist. Fix: create it first")
    if os.path.isdir(path):
        raise OutputError(f"{path}: a folder has this name. Fix: choose another name")
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            what, fix = "is full", "free space there"
        else:
            what, fix = "is not writable", "check its permissions, or choose another folder"
        raise OutputError(
            f"{path}: cannot be written, the folder {folder!r} {what} ({error.strerror}). Fix: {fix}"
        ) from None


def _sync_folder(folder: str) -> None:
    """Make renames durable, where folders can be synchronised."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file completely or not at all; an old file stays until the new one is complete.

    Raises
    ------
    OutputError
        The folder is missing, full or not writable.
    """
    _write_atomic(os.fspath(path), text.encode("utf-8"))


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file completely or not at all."""
    _write_atomic(os.fspath(path), data)


def write_array_atomic(path: str | os.PathLike[str], array: Array) -> None:
    """Write one array as .npy completely or not at all, without objects in it."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    _write_atomic(os.fspath(path), stream.getbuffer())


def _write_atomic(name: str, data: bytes | memoryview) -> None:
    with _writing(name):
        new = _NewFile(name)
        try:
            write_all(new.open(), memoryview(data), 0)
            new.complete()
            new.publish()
        finally:
            new.discard()
        _sync_folder(new.folder)


def write_json_atomic(path: str | os.PathLike[str], obj: object) -> None:
    """Write one JSON document (no NaN, newline at the end) completely or not at all."""
    write_text_atomic(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


# --- the native pair ----------------------------------------------------------------------------------------


def save_predictions(
    predictions: Predictions | object,
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    axes: Sequence[str] | str | None = None,
    n_classes: int | None = None,
    model_ids: Sequence[object] | None = None,
    sample_ids: Sequence[object] | None = None,
    class_names: Sequence[object] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write the native pair ``preds.npy`` + ``preds.json``, block by block, completely or not at all.

    Parameters
    ----------
    predictions : Predictions or array
        What to write. The other parameters describe an array; a Predictions object describes itself.
    path : str or path
        Where; the extension must be .npy or missing.
    overwrite : bool
        False refuses to replace an existing file.

    Returns
    -------
    pathlib.Path
        The .npy file.

    Raises
    ------
    OutputError
        The folder is missing, full or not writable, or the file exists and ``overwrite`` is false.

    Notes
    -----
    The array is written in the order (models, samples[, classes]) and in its own dtype, native byte order,
    with at most ``SAVE_BYTES`` in memory. Values are not changed: ``renormalize`` and the row tolerance are
    recorded beside them. Both files are complete on disk before either takes its name. The .json goes first,
    because a .json without its .npy does nothing, while a .npy without its .json would be read by the rules
    for bare arrays; the .json states shape and dtype, so that a pair torn by a power cut between the two
    renames is refused.
    """
    name = os.fspath(path)
    stem, suffix = os.path.splitext(name)
    if suffix not in (".npy", ""):
        raise UsageError(f"{name}: predictions are written as .npy with a .json beside it; name it {stem}.npy")
    target, beside = stem + ".npy", stem + ".json"
    described = {
        "kind": kind, "axes": axes, "n_classes": n_classes, "model_ids": model_ids, "sample_ids": sample_ids,
        "class_names": class_names,
    }  # fmt: skip
    if not isinstance(predictions, Predictions):
        predictions = Predictions.from_array(predictions, **described)  # type: ignore[arg-type]
    elif any(v is not None for v in described.values()):
        raise UsageError("a Predictions object describes itself: drop kind, axes, n_classes, ids and class names")
    if not overwrite and (os.path.exists(target) or os.path.exists(beside)):
        raise OutputError(f"{target}: exists already. Fix: pass overwrite=True (--force) or another name")
    facts = _facts(predictions)
    if os.path.isdir(beside):
        raise OutputError(f"{beside}: a folder has this name. Fix: choose another name")
    with _writing(target):
        array, text = _NewFile(target), _NewFile(beside)
        try:
            _write_array(array.open(), predictions.source)
            write_all(text.open(), memoryview((json.dumps(facts, ensure_ascii=False) + "\n").encode()), 0)
            array.complete()
            text.complete()
            _publish_pair(text, array)
        finally:
            array.discard()
            text.discard()
        _sync_folder(array.folder)
    return Path(target)


def _facts(predictions: Predictions) -> dict[str, Any]:
    def names(ids: Sequence[str] | None) -> list[str] | None:
        return None if ids is None else list(ids)

    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "axes": ["models", "samples", "classes"][: len(predictions.shape)],
        "kind": predictions.kind,
        "n_classes": predictions.declared_classes,
        "class_names": names(predictions.class_names),
        "model_ids": names(predictions.model_ids),
        "sample_ids": names(predictions.sample_ids),
        "renormalize": predictions.renormalize,
        "row_tolerance": predictions.row_tolerance if predictions.kind != "labels" else None,
        "shape": list(predictions.shape),
        "dtype": predictions.dtype.newbyteorder("=").str,
    }


def _publish_pair(text: _NewFile, array: _NewFile) -> None:
    """Rename the .json, then the .npy; if the second rename fails, the first is undone."""
    old = f"{text.temporary}.old"
    try:
        if os.path.exists(text.path):
            try:
                os.link(text.path, old)
            except OSError:  # no hard links on this file system
                shutil.copyfile(text.path, old)
        text.publish()
        array.publish()
    except BaseException:
        if not os.path.exists(text.temporary) and os.path.exists(array.temporary):  # half way
            if os.path.exists(old):
                os.replace(old, text.path)
            else:
                os.unlink(text.path)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)


def _write_array(fd: int, source: Source) -> None:
    dtype = np.dtype(source.dtype).newbyteorder("=")
    shape = tuple(source.shape)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    write_all(fd, memoryview(header.getvalue()), 0)
    base, width = header.tell(), int(np.prod(shape[2:], dtype=np.int64)) * dtype.itemsize
    m, n = _block(shape, width, getattr(source, "chunks", None))
    buffer = np.empty((m * n, *shape[2:]), dtype=dtype)
    for first in range(0, shape[0], m):
        last = min(shape[0], first + m)
        for start in range(0, shape[1], n):
            stop = min(shape[1], start + n)
            size = (last - first) * (stop - start)
            out = buffer[:size].reshape(last - first, stop - start, *shape[2:])
            block = source.read(slice(first, last), slice(start, stop), None if source.in_memory else out)
            if block is not out:
                out[...] = block
            if stop - start == shape[1]:
                write_all(fd, as_bytes(out), base + first * shape[1] * width)
                continue
            for k in range(last - first):
                write_all(fd, as_bytes(out[k]), base + ((first + k) * shape[1] + start) * width)


def _block(shape: tuple[int, ...], width: int, chunks: tuple[int, int] | None) -> tuple[int, int]:
    """Models and samples per block: whole chunks of the source within ``SAVE_BYTES``."""
    room = max(1, SAVE_BYTES // width)
    m, n = (min(c, s) for c, s in zip(chunks or (1, shape[1]), shape, strict=False))
    if m * n > room:  # the natural block is larger than ours: keep runs of samples a page long where possible
        n = min(n, max(room // m, min(room, 4096)))
        m = min(m, max(1, room // n))
        return m, n
    n = min(shape[1], n * max(1, room // (m * n)))
    m = min(shape[0], m * max(1, room // (m * n)))
    return m, n


# --- what an input was --------------------------------------------------------------------------------------


def describe_input(
    path: str | os.PathLike[str], *, checksum: bool = False, predictions: Predictions | Array | None = None
) -> dict[str, Any]:
    """Describe an input file for the record of a run.

    Parameters
    ----------
    path : str or path
        A file, a folder (a zarr store included) or a glob pattern of per-model files.
    checksum : bool
        Hash files of 64 MB and more too.
    predictions : Predictions or array, optional
        What was read from it, for axes, kind, dtype and shape (null without it).

    Returns
    -------
    dict
        path, size (bytes), mtime (ISO 8601, UTC), sha256 (hex, or None for large files without ``checksum``),
        axes, kind, dtype, shape. A folder or pattern is described by its files: total size, newest mtime,
        SHA-256 over "<relative name> <sha256>" lines in sorted order.
    """
    name = os.fspath(path)
    several = is_pattern(name) or os.path.isdir(name)
    if is_pattern(name):
        files = model_paths(name)
    elif several:
        files = sorted(os.path.join(root, f) for root, _, found in os.walk(name) for f in found)
    else:
        files = [name]
    try:
        facts = [os.stat(f) for f in files]
    except OSError as error:
        raise InvalidInputError(
            f"the file cannot be read ({error.strerror})", file=name, fix="check the path"
        ) from None
    size = sum(f.st_size for f in facts)
    newest = max((f.st_mtime for f in facts), default=os.stat(name).st_mtime if not is_pattern(name) else 0.0)
    digest = None
    if checksum or size < HASH_BYTES:
        if several:
            base = name if os.path.isdir(name) else os.path.commonpath([os.path.dirname(f) or "." for f in files])
            lines = sorted(f"{os.path.relpath(f, base).replace(os.sep, '/')} {_sha256(f)}\n" for f in files)
            digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        elif stat.S_ISREG(facts[0].st_mode):
            digest = _sha256(name)
    described = predictions if isinstance(predictions, Predictions) else None
    return {
        "path": name,
        "size": size,
        "mtime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(newest)),
        "sha256": digest,
        "axes": list(described.axes) if described else None,
        "kind": described.kind if described else None,
        "dtype": str(predictions.dtype) if predictions is not None else None,
        "shape": [int(n) for n in predictions.shape] if predictions is not None else None,
    }


def _sha256(path: str) -> str:
    with open(open_descriptor(path), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
