"""Bit planes of what comes with the samples: decisions of one model, flags."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _encode

__all__ = ["encode_vector", "mask_words", "unpack_words"]

Array = npt.NDArray[Any]


def encode_vector(decisions: Array, n_classes: int) -> Array:
    """Return the bit planes (G, P, 8) of (N,) decisions."""
    n = len(decisions)
    planes = np.empty((1, _encode.group_count(n), _encode.plane_count(n_classes), 8), dtype=np.uint64)
    narrow = np.empty((1, n), dtype=np.uint8 if n_classes <= 256 else np.uint16)
    narrow[0] = decisions
    _encode.encode(narrow, planes)
    result: Array = planes[0]
    return result


def mask_words(mask: Array) -> Array:
    """Return the words (G, 8) of a boolean vector; bits behind the last sample are 0."""
    words = np.empty((1, _encode.group_count(len(mask)), 1, 8), dtype=np.uint64)
    _encode.encode(np.ascontiguousarray(mask, dtype=np.uint8)[None], words)
    return words[0, :, 0, :]


def unpack_words(words: Array, n: int) -> Array:
    """Return the boolean vector (n,) of words (G, 8)."""
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8).reshape(-1), bitorder="little", count=n)
    return bits.view(bool)
