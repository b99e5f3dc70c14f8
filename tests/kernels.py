"""What the tests of the kernels share: every instruction set in turn, bit planes, the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _cpu, _encode

Array = NDArray[Any]


def on_each_isa(run: Callable[[], Any]) -> list[Any]:
    """Run once on every instruction set of this machine."""
    before = _cpu.isa_active()
    results = []
    try:
        for name in _cpu.isa_available():
            _cpu.isa_select(name)
            results.append(run())
    finally:
        _cpu.isa_select(before)
    return results


def to_planes(decisions: Array, n_classes: int) -> NDArray[np.uint64]:
    """Bit planes (M, groups, P, 8); test_kernels_encode.py holds the encoder to its definition."""
    d = np.ascontiguousarray(decisions, dtype=np.uint8 if n_classes <= 256 else np.uint16)
    shape = (len(d), _encode.group_count(d.shape[1]), _encode.plane_count(n_classes), 8)
    out = np.empty(shape, dtype=np.uint64)
    _encode.encode(d, out)
    return out


def to_words(flags: Array) -> NDArray[np.uint64]:
    """Words (..., groups, 8) of flags (..., N)."""
    planes = to_planes(flags.reshape(-1, flags.shape[-1]), 2)
    return np.ascontiguousarray(planes[:, :, 0, :]).reshape(*flags.shape[:-1], -1, 8)


def assert_same_bits(got: Array, expected: Array) -> None:
    """Same numbers, signs of zero included; any NaN is a NaN."""
    assert got.dtype == expected.dtype
    if got.dtype.kind == "f":
        assert_array_equal(np.isnan(got), np.isnan(expected))
        got, expected = np.nan_to_num(got), np.nan_to_num(expected)
    assert got.tobytes() == expected.tobytes()
