"""A header and arrays in one .npz: written all or nothing, read without unpickling anything."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError

from .files import open_descriptor
from .saving import _NewFile, _sync_folder, _writing

__all__ = ["read_arrays", "write_arrays"]

Array = npt.NDArray[Any]
HEADER = "header"
#: What reading a damaged file raises, wherever the damage is.
DAMAGED = (
    zipfile.BadZipFile,
    struct.error,
    zlib.error,
    ValueError,
    KeyError,
    AttributeError,
    EOFError,
    RuntimeError,  # an encrypted or otherwise unreadable entry
    OverflowError,
    MemoryError,  # a size that nothing has
)


def write_arrays(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a JSON-ready header and arrays as .npz, completely or not at all; array by array, nothing is compressed.

    Raises
    ------
    OutputError
        The folder is missing, full or not writable.
    """
    name = os.fspath(path)
    text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    with _writing(name):
        new = _NewFile(name)
        try:
            with open(new.open(), "wb", closefd=False) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as z:
                for key, array in {HEADER: np.frombuffer(text, dtype=np.uint8), **arrays}.items():
                    with z.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
            new.complete()
            new.publish()
        finally:
            new.discard()
        _sync_folder(new.folder)


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays that :func:`write_arrays` wrote.

    Raises
    ------
    InvalidInputError
        The file cannot be read, or is damaged (every byte is under a checksum), or holds something else.
    """
    name = os.fspath(path)
    try:
        arrays: dict[str, Array] = {}
        with open(open_descriptor(name), "rb") as stream, zipfile.ZipFile(stream) as held:
            for key in held.namelist():
                with held.open(key) as entry:
                    arrays[key.removesuffix(".npy")] = np.lib.format.read_array(entry, allow_pickle=False)
        header = json.loads(arrays.pop(HEADER).tobytes())
    except OSError as error:
        raise InvalidInputError(
            f"the file cannot be read ({error.strerror})", file=name, fix="check the path"
        ) from None
    except DAMAGED as error:
        raise InvalidInputError(
            f"the file is damaged or no checkpoint ({error})", file=name, fix="write it again"
        ) from None
    if not isinstance(header, dict):
        raise InvalidInputError("the header is no object", file=name, fix="write it again")
    return header, arrays
