"""Losses of the user: a plain Python function of (scores, label), compiled by Numba and run over tiles.

Numba is optional and loaded when a loss is first computed. The function becomes the inside of one compiled loop, which
runs without the interpreter's lock on the threads of tiles.py; checks of values, conversions of kinds and the sum over
samples are the kernels that every other loss uses.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from . import _encode, _sums
from .errors import InvalidInputError, MissingDependencyError, UsageError
from .naming import find_object
from .tiles import BLOCK, Scratch, parse_memory, parse_threads, plan, read_block, run
from .vectors import as_decisions, as_score_view, as_weights

__all__ = ["SampleLoss", "find_loss", "sample_loss"]

Array = npt.NDArray[Any]
Function = Callable[[Array, int], Any]
#: Names that mean something else where a loss is chosen.
TAKEN = ("fidelity", "zero_one", "log_loss", "cross_entropy", "given")
#: Bytes of scores as float64 between the check of their values and the loop. Shorter steps keep them nearer, but
#: threads that need the interpreter more often wait for it: ten classes, two threads, 2.4 times the built-in loss with
#: 1 MB, 1.9 with 4.
STEP_BYTES = 1 << 22
#: Numbers of the buffer from which the function reads, or one row.
BATCH = 512
#: ``module:function`` with dots in the module.
_SPEC = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
#: Lines of Numba's errors that only say in which of its steps it was.
_STEPS = ("Failed in ", "During: ")


class SampleLoss:
    """A loss of one sample that can be computed for many models: see :func:`sample_loss`.

    Attributes
    ----------
    function : the plain function
    name : str
        What results call it: "module:function", unless it was given a name.
    """

    def __init__(self, function: Function, name: str | None = None) -> None:
        plain = getattr(function, "py_func", function)  # compiled by Numba already: it is compiled once more, checked
        if not isinstance(plain, types.FunctionType):
            raise UsageError(
                f"a sample loss is a plain function of (scores, label), not {_named(plain)}. Fix: wrap it in a function"
            )
        taken = list(inspect.signature(plain).parameters.values())
        if (
            len(taken) < 2
            or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in taken)
            or any(p.default is p.empty for p in taken[2:])
        ):
            raise UsageError(
                f"{_place(plain)}: {plain.__name__}{inspect.signature(plain)} does not take two arguments. "
                "Fix: a sample loss is a function of (scores, label)"
            ) from None
        if name is not None and (not name or name in TAKEN):
            raise UsageError(f"a sample loss cannot be named {name!r}. Fix: choose another name")
        self.function: Function = plain
        self.name = f"{plain.__module__}:{plain.__qualname__}" if name is None else name
        self._compiled: Any = None
        self._loops: dict[tuple[int, bool], Any] = {}
        functools.update_wrapper(self, plain, updated=())

    def __repr__(self) -> str:
        """Name and place."""
        return f"<SampleLoss {self.name} of {_place(self.function)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Travel to another process as the name it has in its module, else by its function; compiled there again."""
        module, name = self.function.__module__, self.function.__qualname__
        there = getattr(sys.modules.get(module), name, None)
        if module != "__main__" and there is self:
            return name
        if isinstance(there, SampleLoss) and there.function is self.function and module != "__main__":
            return _renamed, (there, self.name)  # pickle finds no function under a name that a loss has
        return SampleLoss, (self.function, self.name)

    def __call__(self, scores: Array, label: int) -> Any:
        """Return what the plain function returns: for tests and debugging."""
        return self.function(scores, label)

    def over(
        self,
        predictions: object,
        y: object,
        *,
        sample_weight: object = None,
        threads: int | None = None,
        memory: int | str | None = None,
    ) -> Array:
        """Return the (weighted) mean over samples of the loss of each model.

        Parameters
        ----------
        predictions : Predictions, or (M, N, C) or (M, N) floats
            Scores; (M, N) floats are P(class 1).
        y : (N,) class indices (or class names)
            The label that the function is given: true labels, or a target's decisions.
        sample_weight : (N,) floats, optional
            Finite, >= 0, not all 0. A sample of weight 0 adds nothing, though the function is called for it.
        threads, memory : see :func:`rashomon_core.profile`

        Returns
        -------
        (M,) float64
            +inf where one sample's loss is. The same bits for any threads, memory, layout and tiles.

        Raises
        ------
        MissingDependencyError
            Numba is not installed.
        UsageError
            A function that does not compile, or does not return a number.
        InvalidInputError
            Bad predictions or labels; a function that raises, or returns NaN or -inf: the message names the first model
            and sample, the scores and the label.
        """
        return _Reading(self, predictions, y, sample_weight, threads, memory).means()

    def per_sample(
        self, predictions: object, y: object, *, threads: int | None = None, memory: int | str | None = None
    ) -> Array:
        """Return the loss of every model on every sample, (M, N) float64, refused where it does not fit ``memory``.

        Parameters and errors as for :meth:`over`.

        Raises
        ------
        UsageError
            8 M N bytes are more than ``memory``.
        """
        return _Reading(self, predictions, y, None, threads, memory).values()

    # -- compiling

    def loop(self, columns: int, single: bool) -> Any:
        """Return the compiled loop for rows of so many columns of float32 (``single``) or float64; once for each.

        ``loop(rows, labels, values, buffer)``: the losses of rows (m, n, columns), each model's contiguous, with labels
        (n,) to values (m, n); ``buffer`` holds what the function is given. Returns whether one is NaN or -inf, and
        stops there.
        """
        key = (columns, single)
        if key not in self._loops:
            self._loops[key] = _compile_loop(self._compile(), columns, single)
        return self._loops[key]

    def _compile(self) -> Any:
        if self._compiled is not None:
            return self._compiled
        numba = _numba()
        more = list(inspect.signature(self.function).parameters.values())[2:]
        signature = (numba.types.float64[::1], numba.types.int64, *(numba.types.Omitted(p.default) for p in more))
        # the row is a buffer of our own, so that checked indices cost nothing that could be measured
        compiled = numba.njit(nogil=True, error_model="numpy", boundscheck=True)(self.function)
        try:
            compiled.compile(signature)
        except Exception as error:  # Numba raises many kinds, and each means the same here
            line, reason = _reason(error, self.function)
            raise UsageError(
                f"{_place(self.function, line)}: the loss {self.name!r} cannot be compiled by Numba: {reason}. "
                "Fix: use numbers, NumPy and math only, and decorate functions that it calls with numba.njit"
            ) from None  # the whole of it is forty lines; numba.njit on the function shows them
        returned = compiled.nopython_signatures[0].return_type
        if not isinstance(returned, (numba.types.Float, numba.types.Integer, numba.types.Boolean)):
            raise UsageError(
                f"{_place(self.function)}: the loss {self.name!r} returns {_returned(returned)}. "
                "Fix: return one number in every case"
            )
        self._compiled = compiled
        return compiled


@overload
def sample_loss(function: Function, *, name: str | None = None) -> SampleLoss: ...
@overload
def sample_loss(function: None = None, *, name: str | None = None) -> Callable[[Function], SampleLoss]: ...
def sample_loss(
    function: Function | None = None, *, name: str | None = None
) -> SampleLoss | Callable[[Function], SampleLoss]:
    """Make a loss over models from a plain function of one sample: a decorator, with or without options.

    The function is given ``scores``, a (C,) float64 vector of probabilities (logits and log-probabilities are
    converted, P(class 1) alone becomes [1 - p, p], float16 and float32 are widened), and ``label``, an integer in
    0..C-1. It returns one number: a float, an integer or a boolean; +inf is allowed, NaN and -inf are refused. The
    vector is reused from call to call. Numba compiles the function when it is first needed (about a second), so it may
    use what Numba knows: numbers, loops, ``math``, NumPy, and other functions compiled by Numba. Global values are
    those at that time, further arguments keep their defaults. Compiled code divides by zero as NumPy does, and checks
    indices.

    Parameters
    ----------
    name : str, optional
        What results call the loss; default "module:function".

    Returns
    -------
    SampleLoss
        Callable like the function; ``over(predictions, y)`` is the mean loss of each model, (M,), which
        :func:`rashomon_core.rashomon_mask` takes. :func:`rashomon_core.profile` takes the object itself:
        ``profile(scores, y=y, loss=brier, epsilon=.01)``.

    Notes
    -----
    O(M N) calls of the compiled function on all threads. ``log`` and its like are the platform's, so bits may differ
    between machines, never between runs on one.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> @rc.sample_loss
    ... def brier(scores, label):
    ...     total = 0.0
    ...     for c in range(len(scores)):
    ...         total += (scores[c] - (c == label)) ** 2
    ...     return total
    >>> float(brier(np.array([0.25, 0.75]), 1))
    0.125
    >>> losses = brier.over(np.array([[0.75, 0.5], [0.25, 0.5]]), [1, 0])
    >>> losses, rc.rashomon_mask(losses, 0.25)
    (array([0.3125, 0.8125]), array([ True, False]))
    """
    if function is None:
        return lambda given: SampleLoss(given, name)
    return SampleLoss(function, name)


def _renamed(loss: SampleLoss, name: str) -> SampleLoss:
    return SampleLoss(loss.function, name)


def find_loss(spec: str) -> SampleLoss | None:
    """Return the loss that ``module:function`` names, or None for text of another form.

    A plain function is made a loss, and ``spec`` is its name. The module is imported: see
    :func:`rashomon_core.naming.find_object`.
    """
    if _SPEC.fullmatch(spec) is None:
        if re.fullmatch(rf"{_SPEC.pattern}(?:\.[A-Za-z_]\w*)+", spec) is not None:
            raise UsageError(f"the loss {spec!r} is inside of something. Fix: a function of the module itself")
        return None
    found = find_object(spec, f"loss {spec!r}")
    return SampleLoss(found.function if isinstance(found, SampleLoss) else found, spec)


# --- one reading --------------------------------------------------------------------------------------------------


class _Failed(Exception):
    """Something is wrong in this tile; what and where is said by a scan in (model, sample) order."""


class _Reading:
    """The loss of every model on every sample, tile by tile."""

    def __init__(
        self,
        loss: SampleLoss,
        predictions: object,
        y: object,
        sample_weight: object,
        threads: int | None,
        memory: int | str | None,
    ) -> None:
        self.loss, self.view = loss, as_score_view(predictions)
        view = self.view
        if y is None:
            raise UsageError(f"the loss {loss.name!r} needs labels. Fix: give y")
        self.y = as_decisions(y, view.n_samples, view.n_classes, "y", view.class_names)
        self.weights = as_weights(sample_weight, view.n_samples)
        self.threads, self.memory = parse_threads(threads), parse_memory(memory)
        self.plain = view.kind == "proba" and not view.renormalize
        self.loop = loss.loop(view.columns, self.plain and view.dtype.itemsize < 8)
        self.width = max(2, view.columns)
        self.buffer = _batch(self.width) * self.width
        kept = self.y.nbytes + (0 if self.weights is None else self.weights.nbytes)
        self.plan = plan(
            view,
            threads=self.threads,
            memory=max(self.memory // 4, int(self.memory * 0.6) - kept),
            per_sample=24,
            unit=BLOCK,
        )
        self.step = max(8, min(STEP_BYTES, self.memory // (8 * self.threads)) // (8 * self.width))
        self.out: Array | None = None

    def means(self) -> Array:
        M, N = self.view.n_models, self.view.n_samples
        sums, scale = np.zeros(M), 0.0

        def merge(task: tuple[int, int], found: tuple[Array, Array]) -> None:
            nonlocal sums, scale
            for block in found[0]:
                sums = sums + block
            for weight in found[1].tolist():
                scale += weight

        self._run(merge)
        return sums / (N if self.weights is None else scale)

    def values(self) -> Array:
        M, N = self.view.n_models, self.view.n_samples
        size = 8 * M * N
        if size > self.memory:
            raise UsageError(
                f"the losses of {M} models on {N} samples take {size / 1e9:.3g} GB of a budget of "
                f"{self.memory / 1e9:.3g} GB. Fix: over() for the means, fewer models at a time, or more memory"
            )
        self.out = np.empty((M, N))
        self._run(None)
        return self.out

    def _run(self, merge: Callable[[tuple[int, int], tuple[Array, Array]], None] | None) -> None:
        try:
            run(self.plan.tiles, self.tile, merge, threads=self.threads, label="computing the loss")
        except _Failed as error:
            self.view.validate()
            raise self._explain() from error.__cause__

    def tile(self, task: tuple[int, int], scratch: Scratch) -> tuple[Array, Array]:
        """Return the totals of the blocks of some samples, (blocks, M), and their weights (blocks,)."""
        view, rows = self.view, slice(*task)
        labels = self.y[rows].astype(np.int32)
        weights = None if self.weights is None else self.weights[rows]
        n, parts = len(labels), []
        for m0 in range(0, view.n_models, self.plan.models):
            models = slice(m0, min(m0 + self.plan.models, view.n_models))
            block = read_block(view, models, rows, scratch)
            together = max(1, self.step // n)
            for k in range(0, len(block), together):
                some = block[k : k + together]
                values = scratch.array("values", (len(some), n), np.float64)
                self.fill(some.reshape(len(some), n, view.columns), labels, values, scratch)
                if self.out is not None:
                    self.out[m0 + k : m0 + k + len(some), rows] = values
                else:
                    parts.append(_sums.block_totals(values.T, weights))
        totals = np.concatenate(parts, axis=1) if parts else np.empty((0, 0))
        return totals, np.empty(0) if weights is None else _sums.block_totals(weights)

    def fill(self, rows: Array, labels: Array, values: Array, scratch: Scratch) -> None:
        """Write the losses of rows (m, n, columns), each model's contiguous, to values (m, n)."""
        buffer = scratch.array("buffer", (self.buffer,), np.float64)
        step = max(1, self.step // len(rows))
        for i in range(0, len(labels), step):
            part = slice(i, i + step)
            scores = self.probabilities(rows[:, part], scratch)
            try:
                bad = self.loop(scores, labels[part], values[:, part], buffer)
            except Exception as error:
                raise _Failed from error
            if bad:
                raise _Failed

    def probabilities(self, rows: Array, scratch: Scratch) -> Array:
        """Return rows (m, n, columns) checked, as float32 or float64 probabilities."""
        view = self.view
        if rows.dtype == np.float16:
            wide = scratch.array("wide", rows.shape, np.float32)
            np.copyto(wide, rows)
            rows = wide
        if _encode.first_bad_row(rows, view.kind, view.row_tolerance, view.renormalize) >= 0:
            raise _Failed
        if self.plain:
            return rows
        given = rows[:, :, 0] if view.columns == 1 else rows
        converted: Array = _encode.probabilities(given, view.kind, view.renormalize)
        return converted

    # -- what went wrong

    def _explain(self) -> InvalidInputError:
        """Name the first place, in (model, sample) order, where the function raises or returns no loss."""
        view, scratch = self.view, Scratch()
        for k in range(view.n_models):
            for start in range(0, view.n_samples, self.step):
                samples = slice(start, min(start + self.step, view.n_samples))
                labels = self.y[samples].astype(np.int32)
                rows = read_block(view, slice(k, k + 1), samples, scratch).reshape(1, -1, view.columns)
                try:
                    self.fill(rows, labels, np.empty((1, len(labels))), scratch)
                except _Failed:
                    if error := self._first(self.probabilities(rows, scratch), labels, k, start):
                        return error
        return InvalidInputError(
            f"the loss {self.loss.name!r} raised or returned NaN, but not when it was called again",
            file=_place(self.loss.function),
            fix="a loss must depend on its arguments only",
        )

    def _first(self, rows: Array, labels: Array, model: int, start: int) -> InvalidInputError | None:
        """Say which of these samples (1, n, columns) of a model the function fails on, one by one."""
        buffer, value = np.empty(self.buffer), np.empty((1, 1))
        for i in range(len(labels)):
            try:
                if not self.loop(rows[:, i : i + 1], labels[i : i + 1], value, buffer):
                    continue
                what = f"returned {value[0, 0]}"
                fix = "return a number for every row; +inf is allowed where a loss has no bound"
            except Exception as error:
                what = f"raised {type(error).__name__}: {error}".rstrip(": ")
                fix = "handle such a row in the function"
            row = rows[0, i].tolist()
            scores = row if self.view.columns > 1 else [1.0 - row[0], row[0]]
            text = ", ".join(f"{v:.6g}" for v in scores[:8]) + (", ..." if len(scores) > 8 else "")
            return InvalidInputError(
                f"the loss {self.loss.name!r} {what}",
                file=_place(self.loss.function),
                where=f"{self.view.where(model, start + i)} with scores [{text}] and label {labels[i]}",
                fix=fix,
            )
        return None


# --- Numba --------------------------------------------------------------------------------------------------------


def _numba() -> Any:
    try:
        import numba
    except ImportError as error:
        raise MissingDependencyError("numba", "a loss of your own", "jit") from error
    if numba.config.DISABLE_JIT:
        raise UsageError(
            "NUMBA_DISABLE_JIT is set, and a loss of your own runs compiled only. Fix: unset it; to debug a loss, call "
            "it like the plain function"
        )
    return numba


def _batch(width: int) -> int:
    return max(1, BATCH // width)


def _compile_loop(compiled: Any, columns: int, single: bool) -> Any:
    """Compile the loop around a compiled function; the number of columns is a constant in it.

    Rows are widened a few at a time into a buffer, which keeps them in the first-level cache. The function is given
    arrays that own nothing and point there: counting references to rows of an array costs more than most losses do.
    """
    numba = _numba()
    t = numba.types
    kind = t.float32 if single else t.float64
    carray, binary, width = numba.carray, columns == 1, max(2, columns)
    batch = _batch(width)
    pointer, given_at = _pointer(numba, t.float64), _pointer(numba, kind)

    def loop(rows: Any, labels: Any, values: Any, buffer: Any) -> bool:
        n, first, source = len(labels), buffer.ctypes.data, rows.ctypes.data
        pairs = buffer.reshape(batch, width)
        for k in range(len(rows)):
            flat = carray(given_at(source + k * rows.strides[0]), (n * columns,))
            for start in range(0, n, batch):
                count = min(batch, n - start)
                some = flat[start * columns : (start + count) * columns]
                if binary:
                    for i in range(count):
                        pairs[i, 0] = 1.0 - np.float64(some[i])
                        pairs[i, 1] = some[i]
                else:
                    for i in range(len(some)):
                        buffer[i] = some[i]
                found, given = values[k, start : start + count], labels[start : start + count]
                for i in range(count):
                    row = carray(pointer(first + i * (8 * width)), (width,))
                    found[i] = compiled(row, np.int64(given[i]))
                    if not found[i] > -np.inf:
                        return True
        return False

    scores = t.Array(kind, 3, "A", readonly=True)
    labels, values = t.Array(t.int32, 1, "C", readonly=True), t.Array(t.float64, 2, "A")
    signature = t.boolean(scores, labels, values, t.float64[::1])
    return numba.njit(signature, nogil=True, error_model="numpy")(loop)


def _pointer(numba: Any, kind: Any) -> Any:
    """Return a compiled function that makes an address a pointer to numbers of a kind."""
    address = numba.types.CPointer(kind)

    @numba.extending.intrinsic  # type: ignore[untyped-decorator]
    def pointer(context: Any, number: Any) -> Any:
        def convert(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(address))

        return address(number), convert

    return pointer


def _reason(error: Exception, function: Any) -> tuple[int | None, str]:
    """Return the line of the function that Numba could not compile, and the first line that says why."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    loc = getattr(error, "loc", None)
    line = getattr(loc, "line", None)
    if line is None or os.path.abspath(str(getattr(loc, "filename", ""))) != os.path.abspath(_file(function)):
        name = re.escape(os.path.basename(_file(function)))
        lines = re.findall(rf'{name}(?:", line |\s+\()(\d+)', text)  # File "x.py", line 3; Raised from x.py (3)
        line = int(lines[-1]) if lines else None
    useful = [part.strip() for part in text.splitlines() if part.strip()]
    useful = [part for part in useful if not part.startswith(_STEPS)] or useful or [type(error).__name__]
    reason = useful[0]
    if reason.endswith(":") and len(useful) > 1:
        reason = f"{reason} {useful[1].removeprefix('>>>').strip()}"
    return line, reason.split(" Raised from ")[0].rstrip(".")[:300]


def _returned(kind: Any) -> str:
    """Say in words what a function returns that returns no number."""
    t = _numba().types
    if isinstance(kind, t.Optional):
        return "sometimes nothing (None)"
    words = (
        (t.NoneType, "nothing (None)"),
        (t.BaseTuple, "a tuple"),
        (t.Array, "an array"),
        ((t.UnicodeType, t.StringLiteral), "text"),
        (t.Complex, "a complex number"),
        (t.Generator, "a generator"),
    )
    return next((word for classes, word in words if isinstance(kind, classes)), f"{kind}"[:80])


def _file(function: Any) -> str:
    return str(function.__code__.co_filename)


def _place(function: Any, line: int | None = None) -> str:
    return f"{_file(function)}:{function.__code__.co_firstlineno if line is None else line}"


def _named(value: object) -> str:
    return f"{value!r}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
