"""Predictions, labels, weights and groups as validated views.

This is the only place where data is checked. Structure (axes, dtype, number of ids) is checked when a view is
made; values (NaN, range, row sums, label range) are checked when a block is read, by the kernel that reads it
anyway, and a failed check is explained here: which model, which sample, which value, and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from . import _encode
from .errors import InvalidInputError, UsageError

__all__ = [
    "KINDS",
    "MAX_CLASSES",
    "ArraySource",
    "Kind",
    "Predictions",
    "Source",
    "canonical_axes",
    "canonical_view",
]

Kind = Literal["labels", "proba", "log_proba", "logits"]
KINDS: tuple[Kind, ...] = ("labels", "proba", "log_proba", "logits")
MAX_CLASSES = 65_536
#: |row sum - 1| that is allowed, by the item size of the floats.
ROW_TOLERANCE = {2: 1e-3, 4: 1e-3, 8: 1e-6}
#: Bytes that one step of a validating scan reads.
SCAN_BYTES = 1 << 22

Array = npt.NDArray[Any]


# --- where blocks come from ---------------------------------------------------------------------------------


@runtime_checkable
class Source(Protocol):
    """Anything that hands out blocks of a (models, samples[, classes]) tensor.

    ``read`` takes slices with integer start and stop and step 1. A source in memory returns a view; any other
    fills ``out`` (C-contiguous, native byte order; allocated when None) and returns it. ``read`` is called from
    several threads at once and keeps no more than about the block in memory.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_memory: bool
    path: str | None

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        """Return the block ``[models, samples]``."""
        ...


class ArraySource:
    """An ndarray in canonical order, any strides and byte order; blocks are views of it."""

    in_memory = True

    def __init__(self, array: Array, path: str | None = None) -> None:
        self.array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.path = path

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        """Return a view of the block."""
        return self.array[models, samples]


class _TakenSource:
    """Chosen models and samples of another source, read in the order of the original."""

    in_memory = False

    def __init__(self, source: Source, models: Array, samples: Array | None) -> None:
        self.source, self.models, self.samples = source, models, samples
        n = source.shape[1] if samples is None else len(samples)
        self.shape: tuple[int, ...] = (len(models), n, *source.shape[2:])
        self.dtype = source.dtype
        self.path = source.path

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        rows = self.models[models]
        n = samples.stop - samples.start
        shape = (len(rows), n, *self.shape[2:])
        if out is None:
            out = np.empty(shape, dtype=self.dtype.newbyteorder("="))
        for k, row in enumerate(rows):
            row = int(row)
            if self.samples is None:
                block = self.source.read(slice(row, row + 1), samples, out[k : k + 1])
                if not np.may_share_memory(block, out):
                    out[k] = block[0]
                continue
            width = max(1, math.prod(self.shape[2:])) * self.dtype.itemsize
            wanted = self.samples[samples]
            if (np.diff(wanted) < 0).any():
                order = np.argsort(wanted, kind="stable")
                self._gather(row, wanted[order], width, block := np.empty_like(out[k]))
                out[k, order] = block
                continue
            self._gather(row, wanted, width, out[k])
        return out

    def _gather(self, row: int, wanted: Array, width: int, out: Array) -> None:
        """Read ascending samples of a model in bounded pieces: a sparse selection must not pull its whole span in."""
        at = 0
        while at < len(wanted):
            first = int(wanted[at])
            end = int(np.searchsorted(wanted, first + max(1, SCAN_BYTES // width), side="left"))
            last = int(wanted[end - 1]) + 1
            block = self.source.read(slice(row, row + 1), slice(first, last))
            np.take(block[0], wanted[at:end] - first, axis=0, out=out[at:end], mode="clip")
            at = end


# --- axes ---------------------------------------------------------------------------------------------------


def canonical_axes(shape: Sequence[int], axes: Sequence[str] | str | None, file: str | None = None) -> tuple[str, ...]:
    """Return one name per axis: "samples" once, "classes" at most once, every other name a model axis."""
    if isinstance(axes, str):
        axes = [a.strip() for a in axes.split(",")]
    if axes is None:
        if len(shape) not in (2, 3):
            raise InvalidInputError(
                f"an array with {len(shape)} axes {tuple(shape)} and no declared axes",
                file=file,
                fix="give axes, for example axes=('models', 'samples', 'classes') (--axes models,samples,classes)",
            )
        return ("models", "samples", "classes")[: len(shape)]
    names = tuple(axes)
    if len(names) != len(shape):
        raise InvalidInputError(
            f"axes {','.join(names)} name {len(names)} axes, the array has {len(shape)}: {tuple(shape)}",
            file=file,
            fix="name every axis once",
        )
    if names.count("samples") != 1 or names.count("classes") > 1 or len(set(names)) != len(names):
        raise InvalidInputError(
            f"axes {','.join(names)} must hold 'samples' once, 'classes' at most once, and no name twice",
            file=file,
            fix="for example models,samples,classes",
        )
    return names


def canonical_view(array: Array, axes: Sequence[str]) -> Array:
    """Return ``array`` in (models, samples[, classes]) order; several model axes are flattened into one."""
    model_axes = [i for i, name in enumerate(axes) if name not in ("samples", "classes")]
    order = [*model_axes, axes.index("samples")]
    if "classes" in axes:
        order.append(axes.index("classes"))
    view = array.transpose(order)
    models = math.prod(view.shape[: len(model_axes)])  # explicit: -1 cannot be inferred with an axis of zero
    return view.reshape(models, *view.shape[len(model_axes) :])


# --- predictions --------------------------------------------------------------------------------------------


def _ids(ids: Sequence[object] | None, count: int, what: str, file: str | None) -> tuple[str, ...] | None:
    if ids is None:
        return None
    names = tuple(str(i) for i in ids)
    if len(names) != count:
        raise InvalidInputError(
            f"{len(names)} {what} ids for {count} {what}s", file=file, fix=f"give one id per {what}"
        )
    if len(set(names)) != len(names):
        seen: set[str] = set()
        double = next(n for n in names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise InvalidInputError(f"{what} id {double!r} occurs twice", file=file, fix="make the ids unique")
    return names


def _to_numpy(x: object, what: str) -> Array:
    """Take anything with ``__array__`` or DLPack without a copy where that is possible."""
    if isinstance(x, np.ndarray):
        array = x
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        array = np.from_dlpack(x)
    else:
        if hasattr(x, "detach") and callable(x.detach):  # a torch tensor that carries a gradient
            x = x.detach()
        try:
            array = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, bfloat16, tensors of another device
            raise InvalidInputError(f"{what} cannot be read as an array: {error}") from error
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        raise InvalidInputError(f"{what} has masked values", fix="drop or fill them first")
    return np.asarray(array)


@dataclass(frozen=True, repr=False)
class Predictions:
    """The answers of M models on N samples: a validated view, not a copy.

    Attributes
    ----------
    source : Source
        Where blocks come from, shape (M, N) or (M, N, C).
    kind : {"labels", "proba", "log_proba", "logits"}
        Integers are labels; floats of shape (M, N) are P(class 1) (or its logarithm or logit).
    n_classes : int
        Number of classes C; for labels without a declared number, largest label + 1 (at least 2).
    model_ids, sample_ids, class_names : tuple of str or None
        Names; model ids default to "0", "1", ...
    axes : tuple of str
        Axes as they were in the file or array.
    renormalize : bool
        Divide each row by its sum (in float64) instead of refusing rows that do not sum to 1.
    row_tolerance : float
        Largest ``|sum - 1|`` that a row may have.
    first : (int, int)
        Numbers of the first model and sample in the whole that this is a block of: errors count from them.
    """

    source: Source
    kind: Kind
    declared_classes: int | None = None
    model_ids: tuple[str, ...] = ()
    sample_ids: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    axes: tuple[str, ...] = ("models", "samples")
    renormalize: bool = False
    row_tolerance: float = 1e-6
    copied: bool = field(default=False, compare=False)
    first: tuple[int, int] = (0, 0)

    @classmethod
    def from_array(
        cls,
        array: object,
        *,
        kind: Kind | None = None,
        axes: Sequence[str] | str | None = None,
        n_classes: int | None = None,
        model_ids: Sequence[object] | None = None,
        sample_ids: Sequence[object] | None = None,
        class_names: Sequence[object] | None = None,
        renormalize: bool = False,
        path: str | None = None,
    ) -> Predictions:
        """Make a view of an array (NumPy, pandas, polars, torch, anything with ``__array__`` or DLPack).

        Examples
        --------
        >>> import numpy as np
        >>> from rashomon_core.predictions import Predictions
        >>> Predictions.from_array(np.array([[0, 1, 1], [0, 0, 1]]))
        <Predictions labels: 2 models x 3 samples, 2 classes, int64>
        """
        given = _to_numpy(array, path or "the array")
        names = canonical_axes(given.shape, axes, path)
        view = canonical_view(given, names)
        return cls.from_source(
            ArraySource(view, path),
            kind=kind,
            axes=names,
            n_classes=n_classes,
            model_ids=model_ids,
            sample_ids=sample_ids,
            class_names=class_names,
            renormalize=renormalize,
            _copied=view.size > 0 and not np.may_share_memory(view, given),
        )

    @classmethod
    def from_source(
        cls,
        source: Source,
        *,
        kind: Kind | None = None,
        axes: Sequence[str] | None = None,
        n_classes: int | None = None,
        model_ids: Sequence[object] | None = None,
        sample_ids: Sequence[object] | None = None,
        class_names: Sequence[object] | None = None,
        renormalize: bool = False,
        row_tolerance: float | None = None,
        _copied: bool = False,
    ) -> Predictions:
        """Make a view of a :class:`Source`; all structural checks are here."""
        file, shape, dtype = source.path, tuple(source.shape), np.dtype(source.dtype)
        if len(shape) not in (2, 3):
            raise InvalidInputError(
                f"predictions need 2 or 3 axes, got shape {shape}",
                file=file,
                fix="use (models, samples) or (models, samples, classes)",
            )
        for size, what in zip(shape, ("models", "samples", "classes"), strict=False):
            if size == 0:
                raise InvalidInputError(f"zero {what}: shape {shape}", file=file, fix="give at least one of each")
        if dtype.kind not in "biuf" or (dtype.kind == "f" and dtype.itemsize not in ROW_TOLERANCE):
            raise InvalidInputError(
                f"predictions of dtype {dtype} cannot be measured",
                file=file,
                fix="use integers for labels, float16, float32 or float64 for scores",
            )
        kind = _resolve_kind(kind, dtype, file)
        if kind == "labels":
            if len(shape) != 2:
                raise InvalidInputError(
                    f"labels need the shape (models, samples), got {shape}",
                    file=file,
                    fix="scores must be floats; one-hot integers can be converted with .astype(float)",
                )
            if renormalize:
                raise UsageError("renormalize is for scores, and these predictions are labels")
        else:
            columns = 2 if len(shape) == 2 else shape[2]
            if columns < 2:
                raise InvalidInputError(
                    f"scores of shape {shape} have a single class",
                    file=file,
                    fix="drop the last axis: (models, samples) floats are read as P(class 1)",
                )
            if n_classes is not None and n_classes != columns:
                raise InvalidInputError(
                    f"{n_classes} classes were stated, the scores have {columns}",
                    file=file,
                    fix="drop n_classes",
                )
            n_classes = columns
        if class_names is not None:
            class_names = _ids(class_names, len(class_names), "class", file)
            if n_classes is None:
                n_classes = len(class_names or ())
            elif len(class_names or ()) != n_classes:
                raise InvalidInputError(f"{len(class_names or ())} class names for {n_classes} classes", file=file)
        if n_classes is not None and not 1 <= n_classes <= MAX_CLASSES:
            raise InvalidInputError(
                f"{n_classes} classes", file=file, fix=f"between 1 and {MAX_CLASSES} classes are supported"
            )
        if row_tolerance is None:
            row_tolerance = ROW_TOLERANCE.get(dtype.itemsize, 1e-6) if dtype.kind == "f" else 0.0
        return cls(
            source=source,
            kind=kind,
            declared_classes=n_classes,
            model_ids=_ids(model_ids, shape[0], "model", file) or tuple(map(str, range(shape[0]))),
            sample_ids=_ids(sample_ids, shape[1], "sample", file),
            class_names=None if class_names is None else tuple(class_names),
            axes=tuple(axes) if axes is not None else ("models", "samples", "classes")[: len(shape)],
            renormalize=renormalize,
            row_tolerance=row_tolerance,
            copied=_copied,
        )

    # -- facts

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, N) or (M, N, C)."""
        return tuple(self.source.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as stored."""
        return np.dtype(self.source.dtype)

    @property
    def path(self) -> str | None:
        """The file, or None for arrays."""
        return self.source.path

    @property
    def n_models(self) -> int:
        """M."""
        return int(self.source.shape[0])

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.source.shape[1])

    @property
    def columns(self) -> int:
        """Scores stored per sample: C, or 1 for (M, N) arrays."""
        return int(self.source.shape[2]) if len(self.source.shape) == 3 else 1

    @cached_property
    def n_classes(self) -> int:
        """C; for labels without a declared number one scan finds the largest label."""
        if self.declared_classes is not None:
            return self.declared_classes
        return max(2, self._scan_labels(MAX_CLASSES) + 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor as stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        """One line of facts."""
        classes = "?" if "n_classes" not in self.__dict__ and self.declared_classes is None else self.n_classes
        if self.kind == "labels" and classes == "?":
            classes = self.n_classes
        return (
            f"<Predictions {self.kind}: {self.n_models} models x {self.n_samples} samples, "
            f"{classes} classes, {self.dtype}>"
        )

    # -- views

    def take(
        self, models: Sequence[int] | Array | None = None, samples: Sequence[int] | Array | None = None
    ) -> Predictions:
        """Return a lazy view of chosen models and samples: masks, or indices in any order (each model once)."""
        rows = _indices(models, self.n_models, "models")
        columns = None if samples is None else _indices(samples, self.n_samples, "samples")
        if len(rows) == 0 or (columns is not None and len(columns) == 0):
            raise InvalidInputError("an empty selection of models or samples", file=self.path)
        if len(np.unique(rows)) < len(rows):
            raise InvalidInputError("a model is taken twice", file=self.path, fix="take each model once")
        everything = np.array_equal(rows, np.arange(self.n_models))
        if everything and columns is None:
            return self
        source: Source
        if isinstance(self.source, ArraySource):
            array = self.source.array
            if not everything:
                array = array[rows]
            if columns is not None:
                array = np.take(array, columns, axis=1)
            source = ArraySource(array, self.path)
        else:
            source = _TakenSource(self.source, rows, columns)
        return replace(
            self,
            source=source,
            declared_classes=self.n_classes,
            model_ids=tuple(self.model_ids[i] for i in rows),
            sample_ids=None
            if self.sample_ids is None
            else (self.sample_ids if columns is None else tuple(self.sample_ids[i] for i in columns)),
        )

    def to_array(self) -> Array:
        """Return the whole tensor as a native, C-contiguous array."""
        whole = slice(0, self.n_models), slice(0, self.n_samples)
        return np.ascontiguousarray(self.source.read(*whole), dtype=self.dtype.newbyteorder("="))

    # -- value checks

    def validate(self) -> Predictions:
        """Scan every value once, in model order, and raise at the first bad one; return self."""
        if self.kind == "labels":
            self._scan_labels(self.declared_classes or MAX_CLASSES)
            return self
        width = self.columns * self.dtype.itemsize
        step = max(1, min(self.n_samples, SCAN_BYTES // width))
        for k in range(self.n_models):
            for start in range(0, self.n_samples, step):
                stop = min(start + step, self.n_samples)
                block = _native(self.source.read(slice(k, k + 1), slice(start, stop)))
                bad = _encode.first_bad_row(
                    block.reshape(stop - start, self.columns), self.kind, self.row_tolerance, self.renormalize
                )
                if bad >= 0:
                    raise self._explain(block.reshape(stop - start, self.columns)[bad], k, start + bad)
        return self

    def where(self, model: int, sample: int | None = None, cls: int | None = None) -> str:
        """Name a place: index and id of the model, sample and class."""
        number = model + self.first[0]
        text = f"model {number}"
        if self.model_ids and self.model_ids[model] != str(number):
            text += f" ({self.model_ids[model]!r})"
        if sample is not None:
            text += f", sample {sample + self.first[1]}"
            if self.sample_ids is not None:
                text += f" (id {self.sample_ids[sample]!r})"
        if cls is not None:
            text += f", class {cls}"
        return text

    def _scan_labels(self, limit: int) -> int:
        largest = -1
        step = max(1, min(self.n_samples, SCAN_BYTES // self.dtype.itemsize))
        for k in range(self.n_models):
            for start in range(0, self.n_samples, step):
                stop = min(start + step, self.n_samples)
                block = _native(self.source.read(slice(k, k + 1), slice(start, stop)))[0]
                low, high = 0 if block.dtype.kind in "bu" else int(block.min()), int(block.max())
                if low < 0 or high >= limit:
                    at = int(np.argmax((block < 0) | (block >= limit)))
                    stated = f" (classes stated: {limit})" if self.declared_classes else ""
                    raise InvalidInputError(
                        f"a label outside 0..{limit - 1}{stated}",
                        file=self.path,
                        where=self.where(k, start + at),
                        value=int(block[at]),
                        fix="labels are class indices from 0; map other codes first, or state n_classes (--n-classes)",
                    )
                largest = max(largest, high)
        return largest

    def _explain(self, row: Array, model: int, sample: int) -> InvalidInputError:
        values = row.astype(np.float64)
        place = self.where
        broken = ~np.isfinite(values)
        if self.kind == "log_proba":
            broken &= values != -np.inf
        if broken.any():
            c = int(np.argmax(broken))
            return InvalidInputError(
                "NaN or infinity in the scores",
                file=self.path,
                where=place(model, sample, c),
                value=values[c],
                fix="remove the model or sample, or predict it again",
            )
        if self.kind == "proba":
            low, high = (values < 0), (values > 1)
            outside = low | high if self.columns == 1 else low
            if outside.any():
                c = int(np.argmax(outside))
                what = "a negative probability" if low[c] else "a probability above 1"
                return InvalidInputError(
                    what,
                    file=self.path,
                    where=place(model, sample, c),
                    value=values[c],
                    fix="if these are logits or log-probabilities say so: kind='logits' or 'log_proba' (--kind)",
                )
            total = float(values.sum())
        elif self.columns == 1:
            return InvalidInputError(
                "a log-probability above 0",
                file=self.path,
                where=place(model, sample, 0),
                value=values[0],
                fix="if these are logits say kind='logits' (--kind logits)",
            )
        else:
            with np.errstate(over="ignore"):
                total = float(np.exp(values).sum())
        if self.renormalize:
            return InvalidInputError(
                "a row of zeros, which cannot be divided by its sum",
                file=self.path,
                where=place(model, sample),
                fix="remove the model or sample, or predict it again",
            )
        return InvalidInputError(
            f"a row that sums to {total:.9g} and not to 1 (allowed: {self.row_tolerance:g} off)",
            file=self.path,
            where=place(model, sample),
            value="[" + ", ".join(f"{v:.6g}" for v in values[:8]) + (", ..." if len(values) > 8 else "") + "]",
            fix="pass renormalize=True (--renormalize), or kind='logits' (--kind logits) if these are logits",
        )


def _resolve_kind(kind: Kind | None, dtype: np.dtype[Any], file: str | None) -> Kind:
    natural: Kind = "proba" if dtype.kind == "f" else "labels"
    if kind is None:
        return natural
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    if (kind == "labels") != (natural == "labels"):
        fix = "convert the labels to integers" if kind == "labels" else "scores must be floats"
        raise InvalidInputError(f"kind {kind!r} does not go with dtype {dtype}", file=file, fix=fix)
    return kind


def _indices(chosen: Sequence[int] | Array | None, size: int, what: str) -> Array:
    if chosen is None:
        return np.arange(size)
    array = np.asarray(chosen)
    if array.dtype == np.bool_:
        if array.shape != (size,):
            raise InvalidInputError(f"a mask of shape {array.shape} for {size} {what}")
        return np.flatnonzero(array)
    if array.size == 0:
        return np.zeros(0, dtype=np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= size:
        raise InvalidInputError(f"indices of {what} must be integers in 0..{size - 1}")
    return array.astype(np.intp, copy=False)


def _native(block: Array) -> Array:
    return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
