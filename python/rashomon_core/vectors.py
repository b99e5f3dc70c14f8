"""What belongs to samples or models besides predictions: labels, targets, weights, groups, references, losses.

Like predictions.py this is where such data is checked, and nowhere else. Errors name the sample and the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _encode
from .errors import InvalidInputError, LabelTypeError, UsageError
from .predictions import MAX_CLASSES, Predictions, _to_numpy

__all__ = [
    "Column",
    "Groups",
    "Target",
    "as_decisions",
    "as_groups",
    "as_label_view",
    "as_losses",
    "as_reference",
    "as_score_view",
    "as_selection",
    "as_target",
    "as_weights",
    "narrowed",
]

Array = npt.NDArray[Any]
#: Samples of a vector that are looked at together.
CHUNK = 1 << 16
_MISSING_TEXT = ("", "nan", "NaN", "None", "<NA>", "NaT")


# --- tensors ----------------------------------------------------------------------------------------------------


def as_label_view(labels: object, *, n_classes: int | None = None) -> Predictions:
    """Return decisions as a view: integer arrays as they are, Predictions of scores to be decided.

    Raises
    ------
    LabelTypeError
        For an array of floats: those are scores, and :func:`rashomon_core.decide` turns them into labels.
    """
    if isinstance(labels, Predictions):
        return labels
    array = _to_numpy(labels, "labels")
    if array.dtype.kind == "f":
        raise LabelTypeError(
            f"labels must be integers, got {array.dtype}",
            fix="turn scores into labels with rc.decide(scores), or integer-valued floats with .astype(int)",
        )
    return Predictions.from_array(array, kind="labels", n_classes=n_classes)


def as_score_view(probs: object) -> Predictions:
    """Return scores as a view; integer arrays and label Predictions are refused."""
    view = probs if isinstance(probs, Predictions) else None
    if view is None:
        array = _to_numpy(probs, "probs")
        if array.dtype.kind in "biu":
            raise InvalidInputError(
                f"scores must be floats, got {array.dtype}",
                fix="one-hot integers can be converted with .astype(float)",
            )
        view = Predictions.from_array(array)
    if view.kind == "labels":
        raise InvalidInputError("this needs scores, and these predictions are labels", file=view.path)
    return view


# --- vectors over samples -----------------------------------------------------------------------------------------


def _one_per_sample(array: Array, n: int, name: str, file: str | None = None) -> None:
    if array.shape[:1] != (n,):
        raise InvalidInputError(
            f"{name} has shape {array.shape} for {n} samples",
            file=file,
            fix=f"give one {name} entry per sample",
        )


def as_weights(sample_weight: object, n: int) -> Array | None:
    """Return (N,) float64 weights, finite, >= 0 and not all 0, or None."""
    if sample_weight is None:
        return None
    w = _to_numpy(sample_weight, "sample_weight")
    if w.dtype.kind not in "biuf":
        raise InvalidInputError(f"sample_weight must be numbers, got {w.dtype}")
    if w.ndim != 1:
        w = w.reshape(-1) if w.size == n and max(w.shape, default=0) == n else w
    _one_per_sample(w, n, "sample_weight")
    if w.ndim != 1:
        raise InvalidInputError(f"sample_weight has shape {w.shape}", fix="give one weight per sample")
    w = np.ascontiguousarray(w, dtype=np.float64)
    bad = ~(np.isfinite(w) & (w >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise InvalidInputError(
            "sample weights must be finite and not negative",
            where=f"sample {i}",
            value=w[i],
            fix="drop the sample",
        )
    if not w.any():
        raise InvalidInputError("all sample weights are zero", fix="give a positive weight to at least one sample")
    with np.errstate(over="ignore"):
        if not np.isfinite(w.sum()):
            raise InvalidInputError("the sum of the sample weights is infinite", fix="divide them by the largest")
    return w


def as_decisions(
    labels: object, n: int, n_classes: int | None, name: str, class_names: Sequence[str] | None = None
) -> Array:
    """Return (N,) class indices, as narrow as they can be, from integers, integer-valued floats or class names.

    Integers that are as narrow already are not copied.
    """
    y = _to_numpy(labels, name)
    if y.ndim == 2 and 1 in y.shape and y.size == n:
        y = y.reshape(-1)
    _one_per_sample(y, n, name)
    if y.ndim != 1:
        raise InvalidInputError(f"{name} has shape {y.shape}", fix="give one class index per sample")
    if y.dtype.kind in "OSUT":
        y = _named_classes(y, name, class_names)
    if y.dtype.kind == "f":
        bad = ~(np.isfinite(y) & (y == np.floor(y)))
        if bad.any():
            i = int(np.argmax(bad))
            raise InvalidInputError(
                f"{name} must be class indices", where=f"sample {i}", value=y[i], fix="give integers from 0"
            )
    elif y.dtype.kind not in "biu":
        raise InvalidInputError(f"{name} of dtype {y.dtype} are not class indices")
    limit = MAX_CLASSES if n_classes is None else n_classes
    if y.min() < 0 or y.max() >= limit:
        i = int(np.argmax((y < 0) | (y >= limit)))
        raise InvalidInputError(
            f"{name} outside 0..{limit - 1}",
            where=f"sample {i}",
            value=y[i],
            fix="labels are class indices from 0; state n_classes if there are more classes",
        )
    return y.astype(label_type(int(y.max()) + 1 if n_classes is None else n_classes), copy=False)


def _named_classes(y: Array, name: str, class_names: Sequence[str] | None) -> Array:
    if class_names is None:
        raise InvalidInputError(
            f"{name} are text and the classes have no names",
            fix="give class indices, or predictions with class names",
        )
    index = {c: i for i, c in enumerate(class_names)}
    out = np.empty(len(y), dtype=np.int64)
    for i, value in enumerate(y):
        code = index.get(str(value))
        if code is None:
            raise InvalidInputError(
                f"{name} has an unknown class",
                where=f"sample {i}",
                value=repr(str(value)),
                fix=f"classes are {', '.join(class_names)}",
            )
        out[i] = code
    return out


@dataclass(frozen=True)
class Target:
    """The target's answers: decisions (N,), and when it gave scores these, (N, C), or (N,) P(class 1); any float."""

    decisions: Array
    scores: Array | None


def as_target(target: object, view: Predictions, *, threshold: float | None = None) -> Target:
    """Return the target's answers from (N,) labels, (N,) P(class 1), or (N, C) scores (of proba kind)."""
    n, classes = view.n_samples, view.n_classes
    if isinstance(target, Predictions):
        if target.n_models != 1:
            raise InvalidInputError(f"the target has {target.n_models} models", file=target.path, fix="give one")
        if target.kind != "labels" and (target.kind != "proba" or target.renormalize):
            return _converted(target, view, threshold)
        target = target.to_array()[0]
    t = _to_numpy(target, "target")
    if t.ndim == 2 and t.shape[1] == 1:
        t = t[:, 0]
    _one_per_sample(t, n, "target")
    if t.dtype.kind != "f":
        return Target(as_decisions(t, n, classes, "target", view.class_names), None)
    if t.ndim == 1 and classes != 2:
        raise InvalidInputError(
            f"the target's scores are (N,), and there are {classes} classes",
            fix="give (N, C) scores, or integer labels",
        )
    if t.ndim == 2 and t.shape[1] != classes:
        raise InvalidInputError(f"the target has {t.shape[1]} classes, the predictions {classes}")
    checked = Predictions.from_array(t[None])
    try:
        checked.validate()
    except InvalidInputError as error:
        where = (error.where or "").removeprefix("model 0, ")
        raise InvalidInputError(f"the target has {error.what}", where=where, value=error.value, fix=error.fix) from None
    return Target(decide_vector(t, threshold), t)


def _converted(target: Predictions, view: Predictions, threshold: float | None) -> Target:
    """Return the answers of a target that gave logits, log-probabilities, or rows to be renormalised."""
    if (target.n_samples, target.n_classes) != (view.n_samples, view.n_classes):
        raise InvalidInputError(
            f"the target has {target.n_samples} samples and {target.n_classes} classes, the predictions "
            f"{view.n_samples} and {view.n_classes}",
            file=target.path,
        )
    target.validate()
    raw = target.to_array()
    p = _encode.probabilities(raw, target.kind, target.renormalize)[0]
    if target.columns > 1:  # the order of raw scores, which rounding of their probabilities may tie
        decisions = decide_vector(raw[0] if threshold is None else p, threshold)
        return Target(decisions, np.ascontiguousarray(p))
    if target.kind == "logits" and threshold is None:
        decisions = (raw[0] > 0).astype(np.uint8)
    else:
        decisions = decide_vector(p[:, 0], threshold)
    return Target(decisions, np.ascontiguousarray(p[:, 0]))


def narrowed(array: Array) -> Array:
    """Return integers in the smallest type that holds them all, anything else as it is.

    Examples
    --------
    >>> narrowed(np.array([0, 200])).dtype, narrowed(np.array([-1, 200])).dtype
    (dtype('uint8'), dtype('int16'))
    """
    if array.dtype.kind not in "iu" or array.size == 0:
        return array
    least, most = int(array.min()), int(array.max())
    return array.astype(np.min_scalar_type(most if least >= 0 else min(least, -1 - most)), copy=False)


def label_type(n_classes: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that holds class indices: vectors of samples are kept whole while files stream."""
    return np.uint8 if n_classes <= 256 else np.uint16 if n_classes <= 65_536 else np.uint64


def target_rows(scores: Array, rows: slice) -> Array:
    """Return a target's probabilities of some samples as (n, C) float64; P(class 1) alone becomes two columns."""
    part = scores[rows].astype(np.float64)
    return np.stack([1.0 - part, part], axis=1) if part.ndim == 1 else np.ascontiguousarray(part)


def decide_vector(t: Array, threshold: float | None) -> Array:
    """Decide one model's scores, (N,) or (N, C), by the rules of :func:`rashomon_core.decide`."""
    if t.ndim == 1:
        p = t.astype(np.float64)
        decided: Array = p > 0.5 if threshold is None else p >= threshold
    elif threshold is not None:
        decided = t[:, 1].astype(np.float64) >= threshold
    else:
        decided = np.argmax(t, axis=1)
    return decided.astype(label_type(2 if t.ndim == 1 else t.shape[1]))


def as_reference(
    reference: object, view: Predictions, target: Target | None, y: Array | None
) -> tuple[str | None, int | None, Array | None]:
    """Return (name, model index, decisions) of a reference; a model's decisions are read later.

    "target", "labels", a model id or index, an (N,) array, or None: the target if there is one, else none. True
    labels are never the silent default.
    """
    if reference is None:
        return ("target", None, target.decisions) if target is not None else (None, None, None)
    if isinstance(reference, (int, np.integer)) and not isinstance(reference, bool):
        if not 0 <= int(reference) < view.n_models:
            raise UsageError(f"reference model {reference} is not one of 0..{view.n_models - 1}")
        return view.model_ids[int(reference)], int(reference), None
    if isinstance(reference, str):
        if reference in view.model_ids:
            return reference, view.model_ids.index(reference), None
        if reference == "target":
            if target is None:
                raise UsageError("reference 'target' needs a target. Fix: give target= (--target FILE)")
            return "target", None, target.decisions
        if reference == "labels":
            if y is None:
                raise UsageError("reference 'labels' needs true labels. Fix: give y= (--labels FILE)")
            return "labels", None, y
        known = ", ".join(view.model_ids[:5]) + (", ..." if view.n_models > 5 else "")
        raise UsageError(f"reference {reference!r} is neither 'target', 'labels' nor a model id ({known})")
    return (
        "array",
        None,
        as_decisions(reference, view.n_samples, view.n_classes, "reference", view.class_names),
    )


def as_selection(selection: object, n: int, seed: int) -> Array | None:
    """Return the (N,) mask of the selection split from a mask or a fraction drawn with ``seed``, or None."""
    if selection is None:
        return None
    if isinstance(selection, (float, np.floating)):
        fraction = float(selection)
        if not 0 < fraction < 1:
            raise UsageError(f"selection fraction {fraction:g} is not between 0 and 1")
        count = min(max(1, round(fraction * n)), n - 1)
        if n < 2:
            raise UsageError("a selection split needs at least 2 samples")
        mask = np.zeros(n, dtype=bool)
        mask[np.random.default_rng(seed).permutation(n)[:count]] = True
        return mask
    mask = _to_numpy(selection, "selection")
    _one_per_sample(mask, n, "selection")
    if mask.ndim != 1 or (mask.dtype.kind not in "biuf") or not np.isin(mask, (0, 1)).all():
        raise InvalidInputError("selection must be one boolean per sample, or a fraction")
    mask = mask.astype(bool)
    if mask.all() or not mask.any():
        raise InvalidInputError(
            "selection takes all samples or none",
            fix="leave samples on both sides: select on some, measure on the rest",
        )
    return mask


def as_losses(loss: object, n_models: int | None = None) -> Array:
    """Return (M,) float64 losses, int64 for counts of any integer type; +inf is allowed, NaN is not."""
    if callable(loss):
        raise UsageError(
            "a function is no loss of models. Fix: decorate it with rc.sample_loss, and give profile the result, or "
            "rashomon_mask what its over(predictions, y) returns"
        )
    values = _to_numpy(loss, "loss")
    if n_models is None and values.ndim == 1 and values.size > 0:
        n_models = len(values)
    if values.shape != (n_models,):
        models = "" if n_models is None else f" for {n_models} models"
        raise InvalidInputError(f"loss has shape {values.shape}{models}", fix="give one loss per model")
    if values.dtype.kind not in "biuf":
        raise InvalidInputError(f"loss must be numbers, got {values.dtype}")
    # Differences of unsigned or narrow numbers would wrap around.
    values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    bad = np.isnan(values)
    if bad.any():
        i = int(np.argmax(bad))
        raise InvalidInputError("a loss is NaN", where=f"model {i}", value="nan", fix="drop the model")
    return values


# --- groups -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One of several crossed columns: its own groups, and ``of`` (G,): which of them each crossed group lies in."""

    name: str
    names: tuple[str, ...]
    of: Array


@dataclass(frozen=True)
class Groups:
    """Protected groups: (N,) integer codes into ``names``; several columns are crossed (intersections).

    ``parts``: the columns that were crossed, each with its own groups; () when there is only one.
    """

    codes: Array
    names: tuple[str, ...]
    columns: tuple[str, ...]
    parts: tuple[Column, ...] = ()

    @property
    def title(self) -> str:
        """The name of the column, of several "sex x race"; "groups" where nothing has a name."""
        return " x ".join(part.name for part in self.parts) or "".join(self.columns) or "groups"

    @property
    def single(self) -> list[tuple[str, str]]:
        """Columns that have one value only, each with that value."""
        own = [(part.name, part.names) for part in self.parts] or [(self.title, self.names)]
        return [(name, values[0]) for name, values in own if len(values) == 1]

    @property
    def sizes(self) -> Array:
        """Samples in each group, (G,) int64; 0 where a split left none."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for rows in _spans(len(self.codes)):
            counts += np.bincount(self.codes[rows], minlength=len(counts))
        return counts


def as_groups(groups: object, n: int, *, missing: str = "refuse") -> Groups:
    """Return groups from one or several columns of strings, integers, booleans or categories.

    Parameters
    ----------
    groups : (N,) or (N, k) array-like, DataFrame, or mapping of name to column
        Several columns are crossed: a group is a combination that occurs.
    missing : {"refuse", "group"}
        What a missing value (None, NaN, empty text) is: an error, or a group of its own named "missing".
    """
    if isinstance(groups, Groups):
        return groups
    if missing not in ("refuse", "group"):
        raise UsageError(f"missing={missing!r}. Fix: 'refuse' or 'group'")
    columns = _group_columns(groups)
    if not columns:
        raise InvalidInputError("groups have no columns", fix="give one or several values per sample")
    codes: Array | None = None
    names: list[str] = []
    own: list[tuple[str, list[str], Array]] = []
    for title, column in columns:
        label = title or "groups"
        _one_per_sample(column, n, label)
        if column.ndim != 1:
            raise InvalidInputError(
                f"{label} has shape {column.shape}", fix="give each column once, under its own name"
            )
        own_codes, plain = _factorize(column, label, missing)
        own_names = [f"{title}={x}" if title else x for x in plain] if len(columns) > 1 else plain
        place = np.arange(len(plain))
        if codes is None:
            codes, names = own_codes, own_names
        else:
            used, codes = _cross(codes, own_codes, len(own_names))
            names = [f"{names[u // len(own_names)]}, {own_names[u % len(own_names)]}" for u in used.tolist()]
            before, place = used // len(plain), used % len(plain)
            own = [(t, x, of[before]) for t, x, of in own]
        own.append((title, plain, place))
    assert codes is not None
    for texts, what in (([t for t, _, _ in own], "columns"), (names, "crossed groups")):
        if len(set(texts)) < len(texts):
            twice = next(t for i, t in enumerate(texts) if t in texts[:i])
            raise InvalidInputError(f"two {what} of the groups are named {twice!r}", fix="rename one of them")
    parts = tuple(Column(t, tuple(x), of.astype(np.int64)) for t, x, of in own) if len(own) > 1 else ()
    return Groups(np.ascontiguousarray(codes), tuple(names), tuple(t for t, _ in columns if t), parts)


def _spans(n: int) -> list[slice]:
    return [slice(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK)]


def _coded(part: Callable[[slice], Array], n: int) -> tuple[Array, Array]:
    """Return the sorted values of n samples and each one's index among them, narrow; NaN comes behind the last."""
    if part(slice(0, 1)).dtype.kind in "iu":
        ends = [(int(x.min()), int(x.max())) for x in map(part, _spans(n))]
        low, high = min(a for a, _ in ends), max(b for _, b in ends)
        if high - low < CHUNK:
            return _coded_by_table(part, n, low, high - low + 1)
    values = np.unique(np.concatenate([np.unique(part(rows)) for rows in _spans(n)]))
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    codes = np.empty(n, dtype=np.min_scalar_type(len(values)))
    for rows in _spans(n):
        codes[rows] = np.searchsorted(values, part(rows))
    return values, codes


def _coded_by_table(part: Callable[[slice], Array], n: int, low: int, size: int) -> tuple[Array, Array]:
    """Return the same of integers in low..low+size-1: by counting, which neither sorts nor searches."""

    def offsets(rows: slice) -> Array:
        x = part(rows)
        wide = x if x.dtype.itemsize == 8 else x.astype(np.int64)
        return (wide - wide.dtype.type(low)).astype(np.int64, copy=False)

    seen = np.zeros(size, dtype=np.int64)
    for rows in _spans(n):
        seen += np.bincount(offsets(rows), minlength=size)
    found = np.flatnonzero(seen)
    dtype = part(slice(0, 1)).dtype
    values = np.array([low + x for x in found.tolist()], dtype=dtype)
    table = np.zeros(size, dtype=np.min_scalar_type(len(values)))
    table[found] = np.arange(len(found))
    codes = np.empty(n, dtype=table.dtype)
    for rows in _spans(n):
        codes[rows] = table[offsets(rows)]
    return values, codes


def _cross(left: Array, right: Array, n_right: int) -> tuple[Array, Array]:
    return _coded(lambda rows: left[rows].astype(np.int64) * n_right + right[rows], len(left))


def _group_columns(groups: object) -> list[tuple[str, Array]]:
    if isinstance(groups, Mapping):
        return [(str(k), _column(v)) for k, v in groups.items()]
    if hasattr(groups, "columns") and not isinstance(groups, np.ndarray):  # pandas and polars frames
        return [(str(c), _column(groups[c])) for c in groups.columns]  # type: ignore[index]
    array = _column(groups)
    if array.ndim == 2:
        return [("" if array.shape[1] == 1 else f"g{j}", array[:, j]) for j in range(array.shape[1])]
    if array.ndim != 1:
        raise InvalidInputError(f"groups have shape {array.shape}", fix="give a value per sample and column")
    name = getattr(groups, "name", None)
    return [(str(name) if isinstance(name, str) else "", array)]


def _column(values: object) -> Array:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    if isinstance(values, (list, tuple)):  # mixed lists would become text, and None the text "None"
        array = np.empty(len(values), dtype=object)
        if values and isinstance(values[0], (list, tuple)):
            return np.array([list(v) for v in values], dtype=object)
        array[:] = values
        return array
    return np.asarray(values)


def _number(value: float | np.floating[Any]) -> str:
    """Name a float shortly and so that different ones get different names."""
    size = abs(float(value))
    return np.format_float_positional(value, trim="-") if 1e-4 <= size < 1e16 or size == 0 else str(value)


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA is neither equal to itself nor unequal
        return True


def _factorize(column: Array, label: str, missing: str) -> tuple[Array, list[str]]:
    if column.dtype.kind in "biu":
        values, codes = _coded(lambda rows: column[rows], len(column))
        return codes, [str(v) for v in values.tolist()]
    if column.dtype.kind == "f":
        gone = np.isnan(column)
        _refuse_missing(column, gone, label, missing)
        values, codes = _coded(lambda rows: column[rows], len(column))
        return codes, [_number(v) for v in values] + ["missing"] * bool(gone.any())
    found: dict[Any, Any] = {}
    first: dict[str | None, int] = {}  # None: missing
    seen = np.empty(len(column), dtype=np.int32)
    for rows in _spans(len(column)):
        items = column[rows].tolist()
        texts = [None if _is_missing(v) else _number(v) if isinstance(v, float) else str(v) for v in items]
        texts = [None if t in _MISSING_TEXT else t for t in texts]
        found.update(zip(texts, items, strict=True))
        seen[rows] = [first.setdefault(t, len(first)) for t in texts]
    if None in found:
        _refuse_missing(column, seen == first[None], label, missing)
        del found[None]
    if all(isinstance(v, (int, float, np.integer)) for v in found.values()):  # numbers: 9 stands before 10
        order = sorted(found, key=lambda t: (found[t], t))
    else:
        order = sorted(found)
    if None in first:
        order = sorted({*order, "missing"}) if isinstance(next(iter(found.values()), ""), str) else [*order, "missing"]
    index = {t: i for i, t in enumerate(order)}
    places = np.array([index["missing" if t is None else t] for t in first], dtype=np.min_scalar_type(len(order)))
    return places[seen], order


def _refuse_missing(column: Array, gone: Array, label: str, missing: str) -> None:
    if missing == "refuse" and gone.any():
        i = int(np.argmax(gone))
        raise InvalidInputError(
            f"{label} has a missing value",
            where=f"sample {i}",
            value=repr(column[i : i + 1].tolist()[0]),
            fix="drop the sample, or make missing values a group with missing='group' (--missing group)",
        )
