"""What the tests of capacity share: inputs, the checks that every result must pass, the same question asked anyhow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import naive
import naive_capacity
import numpy as np
import strategies
from conftest import selected_isa
from hypothesis import strategies as st
from numpy.typing import NDArray
from variants import SMALL, streamed

import rashomon_core as rc

Array = NDArray[Any]
STATUSES = ("certified", "iteration_limit", "precision_limit")
#: The oracles in double are right up to this many bits.
ROUNDING = 1e-12
#: Both sides of a register, a word, a block of the kernel; and beyond.
EDGE_MODELS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513, 700)
EDGE_CAPACITY_CLASSES = (2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 40)


# ----------------------------------------------------------------------------------------------------
# Inputs


def noisy_softmax(rng: np.random.Generator, m: int, n: int, c: int, noise: float, sharp: float = 1.0) -> Array:
    """Scores of models that are near one another: softmax of a base logit per sample plus noise; float64."""
    logits = sharp * rng.normal(size=(1, n, c)) + noise * rng.normal(size=(m, n, c))
    return naive_capacity.normalised(np.exp(logits - logits.max(axis=-1, keepdims=True)))


def make_channels(seed: int, m: int, n: int, c: int, how: str) -> Array:
    """Rows (M, N, C) in float64: kinds of strategies.make_rows, and those that only capacity cares for."""
    rng = np.random.default_rng(seed)
    if how in strategies.ROW_KINDS:
        return strategies.make_rows(rng, how, m, n, c)
    if how == "softmax":
        return noisy_softmax(rng, m, n, c, 0.3)
    if how == "confident":
        return noisy_softmax(rng, m, n, c, 2.0, 8.0)
    if how == "sparse":
        return rng.dirichlet(np.full(c, 0.1), size=(m, n))
    if how == "dense":
        return rng.dirichlet(np.full(c, 50.0), size=(m, n))
    if how == "tiny":
        rows = rng.dirichlet(np.ones(c), size=(m, n))
        rows[rng.random(rows.shape) < 0.4] *= 1e-30
        return naive_capacity.normalised(rows)
    if how == "duplicates":
        few = rng.dirichlet(np.ones(c), size=(min(m, 3), n))
        return few[rng.integers(0, len(few), m)]
    if how == "collinear":
        ends = rng.dirichlet(np.ones(c), size=(2, n))
        t = rng.random((m, n, 1))
        return ends[0] * t + ends[1] * (1 - t)
    if how == "close":
        base = rng.dirichlet(np.ones(c), size=(1, n))
        return naive_capacity.normalised(base * (1 + 1e-7 * rng.normal(size=(m, n, c))))
    raise ValueError(how)


CHANNEL_KINDS = (
    *strategies.ROW_KINDS,
    "softmax",
    "confident",
    "sparse",
    "dense",
    "tiny",
    "duplicates",
    "collinear",
    "close",
)


@st.composite
def channels(
    draw: st.DrawFn,
    *,
    max_models: int = 700,
    max_classes: int = 40,
    max_samples: int = 3,
    min_models: int = 1,
    min_classes: int = 2,
    max_scores: int = 40_000,
    kinds: tuple[str, ...] = CHANNEL_KINDS,
) -> Array:
    """Score tensor (M, N, C) of any float dtype, few samples."""
    edges = [m for m in EDGE_MODELS if min_models <= m <= max_models]
    m = draw(st.sampled_from(edges) | st.integers(min_models, max_models))
    edges = [c for c in EDGE_CAPACITY_CLASSES if min_classes <= c <= max_classes]
    c = draw(st.sampled_from(edges) | st.integers(min_classes, max_classes))
    n = draw(st.integers(1, max(1, min(max_samples, max_scores // (m * c)))))
    rows = make_channels(draw(strategies.seeds()), m, n, c, draw(st.sampled_from(kinds)))
    return rows.astype(draw(strategies.score_dtypes()))


# ----------------------------------------------------------------------------------------------------
# Checks


def certified(probs: Any, **options: Any) -> Any:
    """Capacities, every one of them certified."""
    return rc.rashomon_capacity(probs, **{"on_uncertified": "raise", "threads": 1, **options})


def unjudged(probs: Any, **options: Any) -> Any:
    """Capacities of any status."""
    return rc.rashomon_capacity(probs, **{"on_uncertified": "ignore", "threads": 1, **options})


def rows_of(probs: Array, kind: str = "proba") -> Array:
    """Normalised rows (M, N, C) in float64."""
    return naive_capacity.normalised(naive_capacity.classes_of(naive.probabilities(probs, kind)))


def overlap(a: tuple[float, float], b: tuple[float, float], slack: float = ROUNDING) -> bool:
    """Whether two intervals that both hold one number can do so."""
    return bool(a[0] <= b[1] + slack and b[0] <= a[1] + slack)


def assert_overlap(a: Any, b: Any, slack: float = ROUNDING) -> None:
    """The same capacities, each in both intervals."""
    wrong = ~((a.lower <= b.upper + slack) & (b.lower <= a.upper + slack))
    assert not np.any(wrong), f"{np.c_[a.lower, a.upper, b.lower, b.upper][wrong][:3]}"


def check(result: Any, probs: Array, *, tol: float = 1e-6, kind: str = "proba", few_rows: bool = True) -> None:
    """What every result must be, whatever its status.

    Each sample's support is a certificate that needs no solver: with its weights the bounds are computed again, in
    NumPy over all rows. The lower one must be the reported one, the upper one must not lie below it.
    """
    rows = rows_of(probs, kind)
    m, n, c = rows.shape
    for name in ("bits", "lower", "upper"):
        values = getattr(result, name)
        assert values.shape == (n,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all(), name
    for name in ("iterations", "newton", "status", "status_codes", "certified"):
        assert getattr(result, name).shape == (n,)
    assert np.array_equal(result.bits, (result.lower + result.upper) / 2)
    assert (result.lower >= 0).all()
    assert (result.lower <= result.upper).all()
    assert (result.lower <= np.log2(min(m, c)) + ROUNDING).all()
    assert np.array_equal(result.status, np.array(STATUSES)[result.status_codes])
    assert np.array_equal(result.certified, result.status == "certified")
    assert np.array_equal(result.certified, result.upper - result.lower <= tol)
    slack = 1e-11 + 1e-13 * c if kind == "proba" else 1e-9  # the allowance for rounding grows with the row
    reported = result.lower.copy(), result.upper.copy()
    for i in range(n):
        index, weights = result.support(i)
        assert index.dtype == np.int64
        assert weights.dtype == np.float64
        assert index.shape == weights.shape
        assert len(set(index.tolist())) == len(index) >= 1
        assert 0 <= index.min() <= index.max() < m
        assert (weights > 0).all()
        assert abs(weights.sum() - 1) <= 1e-12
        if few_rows:
            assert len(index) <= min(m, c)
        p = np.zeros(m)
        p[index] = weights
        lower, upper = naive_capacity.bounds(rows[:, i], p)
        assert abs(lower - reported[0][i]) <= slack, f"sample {i}: support gives {lower}, not {reported[0][i]}"
        assert reported[0][i] <= upper + slack
        assert reported[1][i] >= lower - slack
    assert np.array_equal(result.lower, reported[0]), "asking for a support changed the bounds"
    assert np.array_equal(result.upper, reported[1]), "asking for a support changed the bounds"


@lru_cache(maxsize=4096)
def _enclosure(rows: bytes, m: int, rounds: int) -> tuple[float, float]:
    """Bounds of Blahut-Arimoto: slow, and asked again by each instruction set."""
    lower, upper, _, _ = naive_capacity.blahut_arimoto(np.frombuffer(rows).reshape(m, -1), 1e-7, rounds)
    return lower, upper


def check_against_blahut_arimoto(result: Any, probs: Array, *, kind: str = "proba", rounds: int = 1500) -> None:
    """Each interval shares a number with the oracle's."""
    rows = rows_of(probs, kind)
    slack = ROUNDING if kind == "proba" else 1e-9
    for i in range(rows.shape[1]):
        lower, upper = _enclosure(rows[:, i].tobytes(), len(rows), rounds)
        got = float(result.lower[i]), float(result.upper[i])
        assert overlap(got, (lower, upper), slack), f"sample {i}: {got} and {(lower, upper)}"


# ----------------------------------------------------------------------------------------------------
# The same question asked anyhow


def packed(result: Any) -> tuple[bytes, ...]:
    """Every bit of a result."""
    parts = [getattr(result, name).tobytes() for name in ("lower", "upper", "bits", "iterations", "newton")]
    parts.append(result.status_codes.tobytes())
    for i in range(len(result.bits)):
        index, weights = result.support(i)
        parts += [index.tobytes(), weights.tobytes()]
    return tuple(parts)


def on_each_isa() -> Iterator[str]:
    """Select each instruction set of this machine in turn."""
    for name in rc.isa_available():
        with selected_isa(name):
            yield name


def ways(probs: Array, folder: Path | None = None, **about: Any) -> Iterator[tuple[str, Callable[..., Any], dict]]:
    """(name, source, limits) of every way to ask: threads, budgets, layouts, blocks, files."""
    for layout in strategies.LAYOUTS:
        array = strategies.apply_layout(probs, layout)
        yield layout, rc.Predictions.from_array(array, **about), {"threads": 1}
    whole = rc.Predictions.from_array(probs, **about)
    yield "two threads", whole, {"threads": 2}
    yield "small", whole, {"threads": 1, "memory": SMALL}
    yield "two threads, small", whole, {"threads": 2, "memory": SMALL}
    yield "blocks", streamed(probs, **about), {"threads": 1, "memory": SMALL}
    yield "blocks, two threads", streamed(probs, **about), {"threads": 2, "memory": 20_000_000}
    if folder is not None:
        for name, array in (("c", probs), ("fortran", np.asfortranarray(probs))):
            path = folder / f"{name}.npy"
            np.save(path, array)
            for limits in ({"threads": 1}, {"threads": 2, "memory": SMALL}):
                yield f"file {name}", rc.open_predictions(path, **about), limits
