"""The oracles of capacity, held to closed forms, to fifty digits and to one another."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path

import mpmath as mp
import naive_capacity
import numpy as np
import oracle_capacity
import pytest
import strategies
from capacity_checks import CHANNEL_KINDS, make_channels
from hypothesis import given, settings
from hypothesis import strategies as st


def test_oracle_imports_numpy_and_the_standard_library_only() -> None:
    tree = ast.parse(Path(naive_capacity.__file__).read_text(encoding="utf-8"))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])
    assert modules - sys.stdlib_module_names == {"numpy"}


def test_divergences_by_hand() -> None:
    rows = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    d = naive_capacity.divergences(rows, np.array([0.5, 0.5]))
    assert d.tolist() == [1.0, 0.0, 1.0]
    d = naive_capacity.divergences(rows, np.array([1.0, 0.0]))
    assert d.tolist() == [0.0, math.inf, math.inf]


@pytest.mark.parametrize("e", [0.0, 0.01, 0.3, 0.5])
def test_closed_forms(e: float) -> None:
    h = -math.fsum(x * math.log2(x) for x in (e, 1 - e) if x > 0)
    z = math.log2(1 + (1 - e) * e ** (e / (1 - e)))
    for rows, bits in (
        ([[1 - e, e], [e, 1 - e]], 1 - h),
        ([[1 - e, e, 0], [0, e, 1 - e]], 1 - e),
        ([[1, 0], [e, 1 - e]], z),
    ):
        lower, upper, _, _ = naive_capacity.blahut_arimoto(rows, 1e-9, 100_000)
        assert upper - lower <= 1e-9
        assert lower - 1e-12 <= bits <= upper + 1e-12
        low, high = oracle_capacity.exact(np.array(rows))
        assert abs(float((low + high) / 2) - bits) < 1e-14
        if len(rows[0]) == 2:
            assert abs(naive_capacity.binary_capacity([row[1] for row in rows]) - bits) < 1e-14


@pytest.mark.parametrize("how", CHANNEL_KINDS)
def test_blahut_arimoto_encloses_fifty_digits(how: str) -> None:
    for m, c in ((2, 2), (3, 3), (4, 3), (3, 4)):
        rows = make_channels(m, m, 1, c, how)[:, 0]
        low, high = oracle_capacity.exact(rows)
        with mp.workdps(60):
            assert 0 <= low <= high <= low + high * mp.mpf(10) ** -24
        for rounds in (1, 10, 500):
            lower, upper, p, _ = naive_capacity.blahut_arimoto(rows, 1e-9, rounds)
            assert lower - 1e-13 <= low
            assert high <= upper + 1e-13
            assert abs(naive_capacity.bounds(rows, p)[0] - lower) < 1e-13


@settings(max_examples=60)
@given(a=st.floats(0, 1), gap=st.sampled_from([1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 0.3, 1.0]))
def test_binary_closed_form(a: float, gap: float) -> None:
    b = min(1.0, a + gap)
    low, high = oracle_capacity.exact(np.array([a, b]))
    got = naive_capacity.binary_capacity([a, (a + b) / 2, b])
    assert abs(got - float(low)) < 1e-12
    if b - a >= 1e-4:
        assert abs(got / float(high) - 1) < 1e-6


@pytest.mark.parametrize("how", ["dirichlet", "sparse", "softmax", "one_hot", "flat"])
@pytest.mark.parametrize(("m", "c"), [(4, 3), (60, 5), (200, 10)])
def test_conic_programs_and_blahut_arimoto_agree(how: str, m: int, c: int) -> None:
    rows = make_channels(3, m, 1, c, how)[:, 0]
    solved = oracle_capacity.conic(rows)
    lower, upper, _, _ = naive_capacity.blahut_arimoto(rows, 1e-6)
    assert solved.accuracy < 1e-4
    assert lower - solved.accuracy <= solved.bits <= upper + solved.accuracy


def test_joint_capacity_is_that_of_the_samples_side_by_side() -> None:
    probs = strategies.make_scores(1, 4, 3, 2, "dirichlet", "float64")
    w = np.array([1.0, 0.0, 2.0])
    rows = naive_capacity.joint_rows(probs, w)
    assert rows.shape == (4, 6)
    assert np.allclose(rows.sum(axis=1), 1)
    assert not rows[:, 2:4].any()
    p = np.array([0.1, 0.2, 0.3, 0.4])
    each = [naive_capacity.bounds(probs[:, i], p)[0] for i in range(3)]
    assert abs(naive_capacity.bounds(rows, p)[0] - (each[0] + 2 * each[2]) / 3) < 1e-14


def test_published_stop_by_hand() -> None:
    same = np.tile([0.25, 0.75], (7, 1))
    bits, rounds = naive_capacity.published_stop(same)
    assert (bits < 1e-15, rounds) == (True, 1)
    bits, rounds = naive_capacity.published_stop([[1, 0], [0, 1]])
    assert (bits, rounds) == (1.0, 1)
