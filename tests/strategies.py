"""Hypothesis strategies: decisions, scores, weights, groups, references and memory layouts.

Hypothesis draws the shape of a problem (sizes, dtypes, how the values are made, a seed); numpy makes the
values from the seed. So large arrays cost nothing to draw, and a failing example shrinks to small sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]
Draw = st.DrawFn

INT_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LABEL_DTYPES = (*INT_DTYPES, "bool")
FLOAT_DTYPES = ("float16", "float32", "float64")
# |row sum - 1| that a reader accepts for each score dtype.
ROW_TOLERANCE = {"float16": 1e-3, "float32": 1e-3, "float64": 1e-6}

# One word of a bit plane holds 64 samples, a 512-bit register eight words.
EDGE_SAMPLES = (1, 2, 3, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025)
# One bit plane less, just full, one more; the ends of uint8.
EDGE_CLASSES = (2, 3, 4, 5, 10, 255, 256, 257)
# Sums over samples run in blocks of 4,096.
BLOCK_SAMPLES = (4095, 4096, 4097, 8191, 8192, 8193)

# ----------------------------------------------------------------------------------------------------
# Sizes, dtypes, seeds


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


def sample_counts(max_samples: int = 1100, min_samples: int = 1) -> st.SearchStrategy[int]:
    """N, most often at a word's or register's edge."""
    edges = [n for n in EDGE_SAMPLES if min_samples <= n <= max_samples]
    anything = st.integers(min_samples, max_samples)
    return st.sampled_from(edges) | anything if edges else anything


def model_counts(max_models: int = 9, min_models: int = 1) -> st.SearchStrategy[int]:
    """M, on both sides of the 4 x 4 and 4 x 2 register blocks of the pair kernel."""
    return st.integers(min_models, max_models)


def class_counts(max_classes: int = 300, min_classes: int = 2) -> st.SearchStrategy[int]:
    edges = [c for c in EDGE_CLASSES if min_classes <= c <= max_classes]
    anything = st.integers(min_classes, max_classes)
    return st.sampled_from(edges) | anything if edges else anything


def label_dtypes(n_classes: int) -> st.SearchStrategy[str]:
    """Dtypes that hold the classes 0 .. n_classes - 1."""
    fitting = [name for name in INT_DTYPES if np.iinfo(name).max >= n_classes - 1]
    return st.sampled_from([*fitting, "bool"] if n_classes <= 2 else fitting)


def score_dtypes() -> st.SearchStrategy[str]:
    return st.sampled_from(FLOAT_DTYPES)


def thresholds() -> st.SearchStrategy[float]:
    """Thresholds on P(1); the grid scores of `binary_scores` lie exactly on some of them."""
    return st.sampled_from([0.0, 0.125, 0.3, 0.5, 0.7, 0.75, 1.0]) | st.floats(0.0, 1.0)


# ----------------------------------------------------------------------------------------------------
# Memory layouts: the same values, held differently

LAYOUTS = ("c", "fortran", "samples_first", "strided", "reversed", "unaligned", "big_endian", "read_only")


def layouts() -> st.SearchStrategy[str]:
    return st.sampled_from(LAYOUTS)


def _poisoned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory between the elements of a view: whoever reads it gets NaN or the largest integer."""
    fill: object = True
    if dtype.kind == "f":
        fill = np.nan
    elif dtype.kind in "iu":
        fill = np.iinfo(dtype.name).max
    return np.full(shape, fill, dtype=dtype)


def apply_layout(array: Array, layout: str) -> Array:
    """Return an array of equal shape and values (and dtype, up to byte order) in the named layout.

    c, fortran; samples_first: axis 1 outermost in memory; strided: every second element of every axis;
    reversed: negative strides on every axis; unaligned: starts at an odd address; big_endian; read_only.
    """
    if layout == "c":
        return np.array(array, order="C")
    if layout == "fortran":
        return np.array(array, order="F")
    if layout == "samples_first":
        if array.ndim < 2:
            return np.array(array)
        return np.ascontiguousarray(np.swapaxes(array, 0, 1)).swapaxes(0, 1)
    if layout == "strided":
        buffer = _poisoned(tuple(2 * n for n in array.shape), array.dtype)
        view = buffer[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    if layout == "reversed":
        backwards = tuple(slice(None, None, -1) for _ in array.shape)
        return np.ascontiguousarray(array[backwards])[backwards]
    if layout == "unaligned":
        memory = np.empty(array.nbytes + 1, dtype=np.uint8)
        view = memory[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if layout == "big_endian":
        return array.astype(array.dtype.newbyteorder(">"))
    if layout == "read_only":
        copy = np.array(array)
        copy.flags.writeable = False
        return copy
    raise ValueError(layout)


# ----------------------------------------------------------------------------------------------------
# Vectors over samples


@st.composite
def weight_vectors(draw: Draw, n_samples: int) -> Array:
    """Sample weights (N,): finite, >= 0, sum > 0; often with zeros and equal values."""
    rng = np.random.default_rng(draw(seeds()))
    how = draw(st.sampled_from(["ones", "equal", "counts", "real", "zeros", "single", "wide"]))
    if how == "ones":
        w = np.ones(n_samples)
    elif how == "equal":
        w = np.full(n_samples, 0.3)
    elif how == "counts":
        w = rng.integers(0, 4, n_samples).astype(np.float64)
    elif how == "real":
        w = rng.exponential(size=n_samples)
    elif how == "zeros":
        w = rng.exponential(size=n_samples) * (rng.random(n_samples) < 0.6)
    elif how == "single":
        w = np.zeros(n_samples)
    else:
        w = 10.0 ** rng.uniform(-6, 6, n_samples)
    if not w.any():
        w[rng.integers(n_samples)] = 1.0
    dtype = draw(st.sampled_from(["float64", "float32", "int64"])) if how in ("ones", "counts") else "float64"
    return w.astype(dtype)


def optional_weights(n_samples: int) -> st.SearchStrategy[Array | None]:
    return st.none() | weight_vectors(n_samples)


@st.composite
def group_vectors(draw: Draw, n_samples: int, max_groups: int = 5) -> Array:
    """Group values of integers, booleans or strings: one column (N,) or several (N, 2..3)."""
    rng = np.random.default_rng(draw(seeds()))
    n_groups = draw(st.integers(1, max_groups))
    columns = draw(st.sampled_from([1, 1, 1, 2, 3]))
    # Uneven, so that some groups are tiny or empty.
    shares = rng.dirichlet(np.full(n_groups, 0.7))
    codes = rng.choice(n_groups, size=(n_samples, columns), p=shares)
    how = draw(st.sampled_from(["codes", "sparse_codes", "strings", "bool"]))
    if how == "sparse_codes":
        codes = np.sort(rng.choice(np.arange(-50, 1000), n_groups, replace=False))[codes]
    elif how == "strings":
        codes = np.array(["women", "men", "", "Amer-Indian", "größer"])[codes % 5]
    elif how == "bool":
        codes = codes % 2 == 1
    return codes[:, 0] if columns == 1 else codes


@st.composite
def label_vectors(draw: Draw, n_samples: int, n_classes: int) -> Array:
    """Labels (N,) of any fitting dtype: uniform, rare classes, or one class only."""
    rng = np.random.default_rng(draw(seeds()))
    how = draw(st.sampled_from(["uniform", "rare", "constant"]))
    if how == "uniform":
        y = rng.integers(0, n_classes, n_samples)
    elif how == "rare":
        y = np.minimum(rng.geometric(0.7, n_samples) - 1, n_classes - 1)
    else:
        y = np.full(n_samples, rng.integers(n_classes))
    return y.astype(draw(label_dtypes(n_classes)))


@st.composite
def reference_vectors(draw: Draw, labels: Array, n_classes: int) -> Array:
    """Reference decisions (N,) for a label matrix: one of its models, near one, or unrelated."""
    rng = np.random.default_rng(draw(seeds()))
    models, samples = labels.shape
    unrelated = rng.integers(0, n_classes, samples)
    model = labels[rng.integers(models)].astype(np.int64)
    how = draw(st.sampled_from(["model", "near", "unrelated"]))
    if how == "model":
        r = model
    elif how == "near":
        r = np.where(rng.random(samples) < 0.1, unrelated, model)
    else:
        r = unrelated
    typed: Array = r.astype(draw(label_dtypes(n_classes)))
    return typed


# ----------------------------------------------------------------------------------------------------
# Decisions


def make_labels(seed: int, n_models: int, n_samples: int, n_classes: int, how: str) -> NDArray[np.int64]:
    """Decisions (M, N) in 0 .. C-1.

    uniform: unrelated models; near: copies of one with 10 % redrawn; identical; constant: one class a model;
    last: the top classes only (every bit of the code is set somewhere).
    """
    rng = np.random.default_rng(seed)
    shape = (n_models, n_samples)
    if how == "uniform":
        return rng.integers(0, n_classes, shape)
    if how == "near":
        base = rng.integers(0, n_classes, n_samples)
        return np.where(rng.random(shape) < 0.1, rng.integers(0, n_classes, shape), base)
    if how == "identical":
        return np.tile(rng.integers(0, n_classes, n_samples), (n_models, 1))
    if how == "constant":
        return np.repeat(rng.integers(0, n_classes, (n_models, 1)), n_samples, axis=1)
    if how == "last":
        return rng.integers(max(0, n_classes - 2), n_classes, shape)
    raise ValueError(how)


LABEL_KINDS = ("uniform", "near", "identical", "constant", "last")


@dataclass(frozen=True)
class LabelProblem:
    """A label matrix with everything that a decision metric may ask for."""

    labels: Array  # (M, N), any dtype and layout
    n_classes: int  # stated; not every class need occur
    reference: Array  # (N,)
    target: Array  # (N,)
    y: Array  # (N,)
    groups: Array  # (N,) or (N, columns)
    weights: Array | None  # (N,)


@st.composite
def label_matrices(
    draw: Draw,
    *,
    n_models: int | None = None,
    n_samples: int | None = None,
    n_classes: int | None = None,
    max_models: int = 9,
    max_samples: int = 1100,
    max_classes: int = 300,
    any_layout: bool = True,
) -> tuple[Array, int]:
    """Label matrix (M, N) of any integer dtype or bool, any layout, and its stated number of classes."""
    m = n_models if n_models is not None else draw(model_counts(max_models))
    n = n_samples if n_samples is not None else draw(sample_counts(max_samples))
    c = n_classes if n_classes is not None else draw(class_counts(max_classes))
    labels = make_labels(draw(seeds()), m, n, c, draw(st.sampled_from(LABEL_KINDS)))
    typed = labels.astype(draw(label_dtypes(c)))
    return apply_layout(typed, draw(layouts()) if any_layout else "c"), c


@st.composite
def label_problems(
    draw: Draw,
    *,
    n_models: int | None = None,
    n_samples: int | None = None,
    n_classes: int | None = None,
    max_models: int = 9,
    max_samples: int = 1100,
    max_classes: int = 300,
    max_groups: int = 5,
    any_layout: bool = True,
) -> LabelProblem:
    labels, c = draw(
        label_matrices(
            n_models=n_models,
            n_samples=n_samples,
            n_classes=n_classes,
            max_models=max_models,
            max_samples=max_samples,
            max_classes=max_classes,
            any_layout=any_layout,
        )
    )
    n = labels.shape[1]
    return LabelProblem(
        labels=labels,
        n_classes=c,
        reference=draw(reference_vectors(labels, c)),
        target=draw(reference_vectors(labels, c)),
        y=draw(label_vectors(n, c)),
        groups=draw(group_vectors(n, max_groups)),
        weights=draw(optional_weights(n)),
    )


# ----------------------------------------------------------------------------------------------------
# Scores

ROW_KINDS = ("dirichlet", "grid", "one_hot", "flat", "near", "sharp", "mixed")


def make_rows(rng: np.random.Generator, how: str, n_models: int, n_samples: int, n_classes: int) -> NDArray[np.float64]:
    """Probability rows (M, N, C), normalised in float64.

    dirichlet: anything; grid: small integers over their sum, so ties and exact zeros are common; one_hot:
    exact 0 and 1; flat: all classes tie; near: one row for each sample, moved a little by each model; sharp:
    nearly one-hot, tiny probabilities elsewhere; mixed: each row from one of these.
    """
    shape = (n_models, n_samples, n_classes)
    rows: NDArray[np.float64]
    if how == "dirichlet":
        rows = rng.exponential(size=shape)
    elif how == "grid":
        rows = rng.integers(0, 4, shape).astype(np.float64)
        rows[rows.sum(axis=-1) == 0] = 1.0
    elif how == "one_hot":
        rows = np.eye(n_classes)[rng.integers(0, n_classes, shape[:2])]
    elif how == "flat":
        rows = np.ones(shape)
    elif how == "near":
        rows = rng.exponential(size=(1, n_samples, n_classes)) * (1 + 0.05 * rng.random(shape))
    elif how == "sharp":
        rows = 10.0 ** rng.uniform(-9, -3, shape)
        rows += np.eye(n_classes)[rng.integers(0, n_classes, shape[:2])]
    elif how == "mixed":
        parts = np.stack([make_rows(rng, kind, *shape) for kind in ROW_KINDS[:-1]])
        pick = rng.integers(0, len(parts), shape[:2])
        rows = np.take_along_axis(parts, pick[None, :, :, None], axis=0)[0]
    else:
        raise ValueError(how)
    totals: NDArray[np.float64] = rows.sum(axis=-1, keepdims=True)
    return rows / totals


def make_scores(
    seed: int, n_models: int, n_samples: int, n_classes: int, how: str, dtype: str, identical: bool = False
) -> Array:
    """Score tensor (M, N, C): rows normalised in float64, then cast; valid under the row tolerance."""
    rng = np.random.default_rng(seed)
    rows = make_rows(rng, how, 1 if identical else n_models, n_samples, n_classes)
    if identical:
        rows = np.repeat(rows, n_models, axis=0)
    return rows.astype(dtype)


def make_binary_scores(seed: int, n_models: int, n_samples: int, how: str, dtype: str) -> Array:
    """P(class 1) (M, N): uniform; grid of eighths; only 0 and 1; one constant; or .5 and its neighbours."""
    rng = np.random.default_rng(seed)
    shape = (n_models, n_samples)
    if how == "uniform":
        return rng.random(shape).astype(dtype)
    if how == "grid":
        return (rng.integers(0, 9, shape) / 8).astype(dtype)
    if how == "zero_one":
        return rng.integers(0, 2, shape).astype(dtype)
    if how == "constant":
        return np.full(shape, rng.random()).astype(dtype)
    if how == "half":
        half = np.array(0.5, dtype=dtype)
        below, above = np.nextafter(half, np.array(0, dtype)), np.nextafter(half, np.array(1, dtype))
        return np.array([below, half, above])[rng.integers(0, 3, shape)]
    raise ValueError(how)


BINARY_KINDS = ("uniform", "grid", "zero_one", "constant", "half")


@st.composite
def binary_scores(
    draw: Draw,
    *,
    n_models: int | None = None,
    n_samples: int | None = None,
    max_models: int = 9,
    max_samples: int = 1100,
    any_layout: bool = True,
) -> Array:
    """P(class 1) (M, N) of float16, float32 or float64."""
    m = n_models if n_models is not None else draw(model_counts(max_models))
    n = n_samples if n_samples is not None else draw(sample_counts(max_samples))
    how = draw(st.sampled_from(BINARY_KINDS))
    scores = make_binary_scores(draw(seeds()), m, n, how, draw(score_dtypes()))
    return apply_layout(scores, draw(layouts()) if any_layout else "c")


@st.composite
def score_tensors(
    draw: Draw,
    *,
    n_models: int | None = None,
    n_samples: int | None = None,
    n_classes: int | None = None,
    max_models: int = 9,
    max_samples: int = 1100,
    max_classes: int = 300,
    max_scores: int = 20_000,
    any_layout: bool = True,
) -> Array:
    """Score tensor (M, N, C) of float16, float32 or float64; about max_scores numbers at most."""
    m = n_models if n_models is not None else draw(model_counts(max_models))
    c = n_classes if n_classes is not None else draw(class_counts(max_classes))
    room = max(1, min(max_samples, max_scores // (m * c)))
    n = n_samples if n_samples is not None else draw(sample_counts(room))
    scores = make_scores(
        draw(seeds()),
        m,
        n,
        c,
        draw(st.sampled_from(ROW_KINDS)),
        draw(score_dtypes()),
        draw(st.sampled_from([False, False, False, True])),
    )
    return apply_layout(scores, draw(layouts()) if any_layout else "c")


@dataclass(frozen=True)
class ScoreProblem:
    """Scores with everything that a score metric may ask for."""

    scores: Array  # (M, N, C), or (M, N) = P(class 1)
    n_classes: int
    target_scores: Array  # (N, C), or (N,) as the scores are
    y: Array  # (N,) labels
    weights: Array | None  # (N,)


@st.composite
def score_problems(
    draw: Draw,
    *,
    binary: bool | None = None,
    max_models: int = 9,
    max_samples: int = 1100,
    max_classes: int = 300,
    max_scores: int = 20_000,
    any_layout: bool = True,
) -> ScoreProblem:
    """Scores of three axes, or of two with `binary` (None: either)."""
    if draw(st.booleans()) if binary is None else binary:
        scores = draw(binary_scores(max_models=max_models, max_samples=max_samples, any_layout=any_layout))
        n, c = scores.shape[1], 2
        target = draw(binary_scores(n_models=1, n_samples=n, any_layout=False))[0]
    else:
        scores = draw(
            score_tensors(
                max_models=max_models,
                max_samples=max_samples,
                max_classes=max_classes,
                max_scores=max_scores,
                any_layout=any_layout,
            )
        )
        n, c = scores.shape[1:]
        target = draw(score_tensors(n_models=1, n_samples=n, n_classes=c, any_layout=False))[0]
    return ScoreProblem(
        scores=scores,
        n_classes=c,
        target_scores=target,
        y=draw(label_vectors(n, c)),
        weights=draw(optional_weights(n)),
    )


@st.composite
def logit_tensors(
    draw: Draw,
    *,
    max_models: int = 9,
    max_samples: int = 300,
    max_classes: int = 20,
    max_scores: int = 20_000,
) -> Array:
    """Logits (M, N, C): any size and sign, with ties and far apart (softmax of exactly 0 and 1)."""
    m, c = draw(model_counts(max_models)), draw(class_counts(max_classes))
    n = draw(sample_counts(max(1, min(max_samples, max_scores // (m * c)))))
    rng = np.random.default_rng(draw(seeds()))
    logits = rng.normal(size=(m, n, c)) * draw(st.sampled_from([0.1, 3.0, 300.0]))
    if draw(st.booleans()):
        logits = np.round(logits)
    return apply_layout(logits.astype(draw(score_dtypes())), draw(layouts()))


@st.composite
def log_proba_tensors(
    draw: Draw,
    *,
    max_models: int = 9,
    max_samples: int = 300,
    max_classes: int = 20,
    max_scores: int = 20_000,
) -> Array:
    """Logs of probability rows (M, N, C); log 0 is -inf. Not float16, whose logs no longer sum to 1."""
    m, c = draw(model_counts(max_models)), draw(class_counts(max_classes))
    n = draw(sample_counts(max(1, min(max_samples, max_scores // (m * c)))))
    how = draw(st.sampled_from(ROW_KINDS))
    proba = make_scores(draw(seeds()), m, n, c, how, "float64")
    with np.errstate(divide="ignore"):
        logs = np.log(proba)
    return apply_layout(logs.astype(draw(st.sampled_from(["float32", "float64"]))), draw(layouts()))


# ----------------------------------------------------------------------------------------------------
# Losses


@dataclass(frozen=True)
class ErrorCounts:
    """Losses as numbers of errors among n samples, and an epsilon that often falls exactly on a boundary."""

    errors: NDArray[np.int64]  # (M,)
    n: int
    epsilon: float


@st.composite
def error_counts(draw: Draw, *, max_models: int = 30, max_samples: int = 5000) -> ErrorCounts:
    n = draw(st.integers(1, max_samples))
    rng = np.random.default_rng(draw(seeds()))
    spread = draw(st.sampled_from([3, 30, n]))
    errors = np.minimum(rng.integers(0, spread + 1, draw(st.integers(1, max_models))), n)
    steps = draw(st.integers(0, min(n, 2 * spread)))
    epsilon = draw(st.sampled_from([steps / n, 0.0, 0.01, 0.05]) | st.floats(0.0, 1.0))
    return ErrorCounts(errors=errors, n=n, epsilon=epsilon)
