"""``MultiplicityAccumulator``: every metric that can be merged, fed chunk by chunk.

Chunks are blocks of models and samples in any order. A chunk is visited like a whole tensor, its state is merged, and
the merged state is summarised like the visit of a whole tensor: merging.py says how each field is merged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .asking import check_thresholds, finish, no_set, rates_found
from .errors import InvalidInputError, UsageError
from .merging import MERGE_RULES, Span, State
from .metrics.decisions import rate_from_squares
from .metrics.overview import Overview
from .metrics.pairs import farthest_in, mirrored, sums_of_pairs
from .metrics.scores import delta_share, delta_totals, positive_scores
from .metrics.sums import share, total
from .metrics.visit import Request, visit
from .predictions import Kind, Predictions
from .settings import Settings, Shape, saved_settings, settings_of
from .store.checkpoints import read_arrays, write_arrays
from .tiles import SpillArray, parse_memory, parse_threads

__all__ = ["MERGE_RULES", "MultiplicityAccumulator"]

Array = npt.NDArray[Any]
FORMAT = "rashomon-core accumulator"
FORMAT_VERSION = 1
#: Samples whose votes are squared together.
CHUNK = 1 << 16
NO_PAIRS = "pairs of models were not compared: pairs=True compares them"


class MultiplicityAccumulator:
    """Update with chunks, merge with other accumulators, compute at the end.

    Parameters
    ----------
    n_models, n_samples, n_classes : int
        Shape of the whole.
    kind : {"labels", "proba", "log_proba", "logits"}
        What chunks hold.
    metrics : "pass", "all", or names
        As in :func:`rashomon_core.profile`. "pass": fidelity, ambiguity, discrepancy, votes, disagreement rate,
        ranges, score variance. Capacity of three and more classes needs all models of a sample in one chunk.
    reference : "target", "labels", or (N,) array-like of class indices, optional
        For ambiguity and discrepancy; default the target if given.
    target, y, groups, positive, sample_weight, threshold, ddof, missing, capacity_tol : as in the profile
    pairs : bool
        Compare the models with one another: an (M, M) matrix of counts. Models of different chunks are compared by
        :meth:`update_pairs`.
    delta : float, optional
        Two classes: also delta-ambiguity and delta-discrepancy against the target's P(class 1).
    model_ids, class_names : sequences of texts, optional
        Chunks that are Predictions with other model ids are refused.

    Notes
    -----
    :data:`MERGE_RULES` has a rule for each field. Integers, ranges, capacities in closed form and sums of floats are
    the same bits for any order of updates and merges of the same chunks. Chunks that start at multiples of 4,096
    samples give the bits of the whole tensor, whatever the models of each; other cuts along the samples agree to
    rounding in sums of floats, cuts along the models in score variances (about 1e-15). State: O(N C) numbers, what is
    counted for each model, and until all models of a sample are there 24 N C bytes for each run of models. Pickles
    hold plain arrays and are for one's own workers; for files there is :meth:`save`, which pickles nothing.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> acc = rc.MultiplicityAccumulator(2, 4, 2, kind="labels", reference=[0, 1, 1, 1])
    >>> acc.update([[0, 1, 1, 0]], models=slice(0, 1)).update([[0, 1, 0, 0]], models=slice(1, 2)).compute()["ambiguity"]
    0.5
    """

    def __init__(
        self,
        n_models: int,
        n_samples: int,
        n_classes: int,
        *,
        kind: Kind,
        metrics: str | Sequence[str] = "pass",
        reference: object = None,
        target: object = None,
        y: object = None,
        groups: object = None,
        positive: int = 1,
        sample_weight: object = None,
        threshold: float | None = None,
        ddof: int = 0,
        missing: str = "refuse",
        pairs: bool = False,
        model_ids: Sequence[object] | None = None,
        class_names: Sequence[object] | None = None,
        capacity_tol: float = 1e-6,
        delta: float | None = None,
    ) -> None:
        self._config = settings_of(
            n_models,
            n_samples,
            n_classes,
            kind=kind,
            metrics=metrics,
            reference=reference,
            target=target,
            y=y,
            groups=groups,
            positive=positive,
            sample_weight=sample_weight,
            threshold=threshold,
            ddof=ddof,
            missing=missing,
            pairs=pairs,
            model_ids=model_ids,
            class_names=class_names,
            capacity_tol=capacity_tol,
            delta=delta,
        )
        self.reset()

    @property
    def n_models(self) -> int:
        """Models of the whole."""
        return self._config.n_models

    @property
    def n_samples(self) -> int:
        """Samples of the whole."""
        return self._config.n_samples

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._config.n_classes

    @property
    def kind(self) -> Kind:
        """What chunks hold."""
        return self._config.kind

    @property
    def reference(self) -> Array | None:
        """Decisions that ambiguity and discrepancy compare with."""
        return self._config.decisions

    def reset(self) -> MultiplicityAccumulator:
        """Forget everything; return self."""
        self._state = self._empty()
        self._ids: dict[int, str] = {}
        self._columns: int | None = None
        return self

    def _empty(self) -> State:
        config = self._config
        closed = config.capacity if "rashomon_capacity" in config.names and config.n_classes == 2 else None
        return State(config.n_models, config.n_samples, config.ddof, closed, config.pairs)

    def fresh(self) -> MultiplicityAccumulator:
        """Return an empty accumulator of the same settings, which it shares."""
        return self._of(self._config)

    @classmethod
    def _of(cls, config: Settings) -> MultiplicityAccumulator:
        made = object.__new__(cls)
        made._config = config
        return made.reset()

    # -- in

    def update(
        self,
        chunk: object,
        *,
        models: slice | None = None,
        samples: slice | None = None,
        threads: int | None = None,
        memory: int | str | None = None,
    ) -> MultiplicityAccumulator:
        """Take in the predictions of a block of models on a block of samples; return self.

        Raises
        ------
        InvalidInputError
            If the chunk has not the shape of the slices, holds bad values (the message counts models and samples of
            the whole), has other model ids, or overlaps what was given before. The accumulator is then as it was.
        UsageError
            If only some models come and the capacity of three or more classes is asked for.
        """
        m = slice(0, self.n_models) if models is None else _plain(models, self.n_models, "models")
        n = slice(0, self.n_samples) if samples is None else _plain(samples, self.n_samples, "samples")
        view, ids = self._view(chunk, m, n)
        config, pool, budget = self._config, parse_threads(threads), parse_memory(memory)
        pairs = [(m.start, m.stop, m.start, m.stop)] if config.pairs else []
        span = Span(n.start, n.stop, [(m.start, m.stop)], pairs)
        self._state.check(span)
        part = config.on(view, n)
        request, whole = config.ask(part, n).request, m.stop - m.start == self.n_models
        solved = request.capacity is not None
        if solved and not whole and self.n_classes > 2:
            raise UsageError(
                f"rashomon_capacity of {self.n_classes} classes needs all {self.n_models} models of a sample at once, "
                f"and models {m.start}..{m.stop - 1} were given. Fix: give chunks of samples with all models, or leave "
                "rashomon_capacity out of metrics"
            )
        request = replace(
            request,
            votes=True,
            vote_type=np.min_scalar_type(self.n_models),
            vote_sums=False,
            blocks=True,
            planes=config.pairs,
            ranges=request.ranges or config.delta is not None,
            moments=(request.ranges or config.delta is not None) and not whole,
            class_first=True,
            capacity=request.capacity if whole else None,
            ends=solved and not whole and view.columns == 2,
        )
        found = visit(view, request, threads=pool, memory=budget)
        state = self._empty()
        state.put_visit(span, found, m)
        if found.planes is not None:
            w = request.weights
            sums = sums_of_pairs(found.planes, None, threads=pool, memory=budget, weights=w)
            state.put("pair_counts", sums, (m.start, m.start), span, blocks=w is not None)
        if config.delta is not None and part.target is not None:
            reference = positive_scores(part.target)
            sums = delta_totals(view, reference, config.delta, part.weights, threads=pool, memory=budget)
            state.put("delta", sums, (m.start,), span, blocks=True)
        self._state.merge(state)
        self._ids |= ids
        self._columns = view.columns if self.kind != "labels" else None
        return self

    def update_pairs(
        self,
        left_chunk: object,
        right_chunk: object,
        *,
        left: slice,
        right: slice,
        samples: slice | None = None,
        threads: int | None = None,
        memory: int | str | None = None,
    ) -> MultiplicityAccumulator:
        """Compare the models ``left`` with the models ``right`` on a block of samples; return self.

        Models of one chunk are compared when :meth:`update` gets it: this is for two blocks of models that do not fit
        one chunk, and takes in nothing else of them.

        Raises
        ------
        InvalidInputError
            As :meth:`update`.
        UsageError
            Without ``pairs=True``, and if the two ranges of models overlap.
        """
        config, pool, budget = self._config, parse_threads(threads), parse_memory(memory)
        if not config.pairs:
            raise UsageError("update_pairs needs an accumulator that was made with pairs=True")
        a, b = (_plain(models, self.n_models, name) for models, name in ((left, "left"), (right, "right")))
        if a.start > b.start:
            a, b, left_chunk, right_chunk = b, a, right_chunk, left_chunk
        if b.start < a.stop:
            raise UsageError(
                f"models {a.start}..{a.stop - 1} and {b.start}..{b.stop - 1} overlap. "
                "Fix: give two ranges of different models; update() compares the models of one chunk"
            )
        n = slice(0, self.n_samples) if samples is None else _plain(samples, self.n_samples, "samples")
        span = Span(n.start, n.stop, [], [(a.start, a.stop, b.start, b.stop)])
        self._state.check(span)
        planes: list[SpillArray | None] = []
        ids: dict[int, str] = {}
        for chunk, models in ((left_chunk, a), (right_chunk, b)):
            view, own = self._view(chunk, models, n)
            ids |= own
            request = Request(planes=True, threshold=config.threshold)
            planes.append(visit(view, request, threads=pool, memory=budget, label="reading").planes)
        first, second = planes
        assert first is not None
        w = None if config.inputs.weights is None else config.inputs.weights[n]
        state = self._empty()
        state.spans.append(span)
        sums = sums_of_pairs(first, second, threads=pool, memory=budget, weights=w)
        state.put("pair_counts", sums, (a.start, b.start), span, blocks=w is not None)
        self._state.merge(state)
        self._ids |= ids
        return self

    def _view(self, chunk: object, m: slice, n: slice) -> tuple[Predictions, dict[int, str]]:
        """Return a chunk as a view that counts in the numbers of the whole, and the model ids that it brings."""
        labels = self.kind == "labels"
        ids: dict[int, str] = {}
        if isinstance(chunk, Predictions):
            view = chunk
            if labels and view.kind == "labels" and view.declared_classes is None:
                view = replace(view, declared_classes=self.n_classes)
            if view.model_ids != tuple(map(str, range(view.n_models))):
                ids = dict(enumerate(view.model_ids, m.start))
        else:
            view = Predictions.from_array(chunk, kind=self.kind, n_classes=self.n_classes if labels else None)
        if view.kind != self.kind or view.n_classes != self.n_classes:
            raise InvalidInputError(
                f"a chunk of {view.kind} with {view.n_classes} classes for an accumulator of {self.kind} with "
                f"{self.n_classes}"
            )
        if (view.n_models, view.n_samples) != (m.stop - m.start, n.stop - n.start):
            raise InvalidInputError(
                f"a chunk of {view.n_models} models x {view.n_samples} samples for slices of "
                f"{m.stop - m.start} x {n.stop - n.start}"
            )
        if not labels and self._columns not in (None, view.columns):
            raise InvalidInputError(
                f"a chunk of {view.columns} scores a sample after chunks of {self._columns}",
                fix="give P(class 1) alone, or both classes, in all chunks",
            )
        stated = self._config.model_ids
        known = dict(enumerate(stated)) if stated is not None else self._ids
        self._same_ids(ids, known)
        own = tuple(known.get(k) or ids.get(k, str(k)) for k in range(m.start, m.stop))
        return replace(view, model_ids=own, first=(m.start, n.start)), ids

    @staticmethod
    def _same_ids(ids: dict[int, str], known: dict[int, str]) -> None:
        for k, name in ids.items():
            if known.get(k, name) != name:
                raise InvalidInputError(
                    f"the chunk calls it {name!r}, and it is {known[k]!r} elsewhere",
                    where=f"model {k}",
                    fix="give the models of all chunks in the same order",
                )

    def merge(self, other: MultiplicityAccumulator) -> MultiplicityAccumulator:
        """Take in what another accumulator of the same settings has seen; return self.

        Raises
        ------
        InvalidInputError
            For other shapes, kinds, references and so on, and when both have seen the same.
        UsageError
            It is no accumulator.
        """
        if not isinstance(other, MultiplicityAccumulator):
            raise UsageError(f"an object of type {type(other).__name__} is no MultiplicityAccumulator. Fix: merge one")
        if self._config.digest != other._config.digest:
            names = self._config.differs_in(other._config)
            raise InvalidInputError(
                f"the accumulators differ in {', '.join(names)}", fix="merge accumulators of the same settings"
            )
        return self._merge(other._state.copy(), other._ids, other._columns)

    def _merge(self, state: State, ids: dict[int, str], columns: int | None) -> MultiplicityAccumulator:
        self._same_ids(ids, self._ids)
        if None not in (columns, self._columns) and columns != self._columns:
            raise InvalidInputError(f"the accumulators have {self._columns} and {columns} scores a sample")
        self._state.merge(state)
        self._ids |= ids
        self._columns = columns or self._columns
        return self

    # -- out

    def covers(self, models: slice | None = None, samples: slice | None = None) -> bool:
        """Whether every one of these models was given for every one of these samples (default: all)."""
        m = slice(0, self.n_models) if models is None else _plain(models, self.n_models, "models")
        n = slice(0, self.n_samples) if samples is None else _plain(samples, self.n_samples, "samples")
        return self._state.covers((m.start, m.stop), (n.start, n.stop))

    def compute(self, *, threads: int | None = None, memory: int | str | None = None) -> dict[str, Any]:
        """Return the metrics of everything seen.

        Returns
        -------
        dict
            "votes" (N, C), "viable_decisions", "disagreement_rate", "self_consistency" (N,), "pairwise_ambiguity"; with
            a reference "ambiguity", "ambiguous_samples", "discrepancy", "mismatches" (M,); with scores "low", "high",
            "score_variance" (N, columns); by what was asked for "fidelity" and losses (M,), "rashomon_capacity" with
            "rashomon_capacity_lower" and "_upper" (N,), "pairwise_disagreement" (M, M), "rates" (GroupRates),
            "delta_ambiguity", "delta_discrepancy". ``rc.rashomon_mask`` of a loss gives the members of the set.

        Raises
        ------
        InvalidInputError
            If some model or sample is still missing.
        """
        overview = self._overview(threads, memory, keep_arrays=True)
        config, part = self._config, overview.part
        numbers, found, w = overview.numbers(), overview.found, part.weights
        scale = self.n_samples if w is None else total(w)
        votes, squares = self._state.whole("votes"), self._state.vote_squares()
        result: dict[str, Any] = {
            "votes": votes.astype(np.int64),
            "viable_decisions": np.count_nonzero(votes, axis=1),
            "disagreement_rate": rate_from_squares(squares, self.n_models, config.ddof),
            "self_consistency": 1.0 - rate_from_squares(squares, self.n_models, 1),
            "pairwise_ambiguity": share(squares != self.n_models**2, w),
        }
        if "reference" in found.mismatches:
            result |= {name: numbers[name]["value"] for name in ("ambiguity", "discrepancy")}
        if config.delta is not None and part.target is not None:
            low, high = (self._state.whole(name)[:, -1] for name in ("low", "high"))
            result["delta_ambiguity"] = delta_share(low, high, positive_scores(part.target), config.delta, w)
            result["delta_discrepancy"] = float(self._state.folded["delta"].values.max() / scale)
        arrays = {name: array.copy() for name, array in overview.arrays.items() if name not in result}
        result |= arrays
        if overview.rates is not None:
            result["rates"] = overview.rates
        if config.pairs:
            result["pairwise_disagreement"] = mirrored(self._pair_sums()) / scale
        return result

    def results(
        self,
        *,
        size: int | None = None,
        fairness_threshold: float | dict[str, float] | None = None,
        skip_undefined: bool = False,
        threads: int | None = None,
        memory: int | str | None = None,
    ) -> dict[str, Any]:
        """Return every metric as :meth:`rashomon_core.Profile.results` of the whole tensor does.

        Parameters
        ----------
        size, fairness_threshold, skip_undefined : as in :func:`rashomon_core.profile`

        Raises
        ------
        InvalidInputError
            If some model or sample is still missing.
        """
        check_thresholds(fairness_threshold)
        if size is not None and not 1 <= size <= self.n_models:
            raise UsageError(f"size={size} is not between 1 and the {self.n_models} models")
        config = self._config
        overview = self._overview(
            threads, memory, size=size, fairness_threshold=fairness_threshold, skip_undefined=skip_undefined
        )
        view = overview.part.view
        measured = {**overview.numbers(), "n": config.n_samples}
        reasons = {} if config.pairs else {"pairwise_discrepancy": NO_PAIRS, "pairwise_disagreement": NO_PAIRS}
        results = finish(overview.part, measured, view.model_ids, no_set(view), config.names, reasons)
        return {name: value() if callable(value) else value for name, value in results.items()}

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Model ids as stated, else as chunks brought them, else "0", "1", ..."""
        stated = self._config.model_ids
        return stated or tuple(self._ids.get(k, str(k)) for k in range(self.n_models))

    def _overview(
        self,
        threads: int | None,
        memory: int | str | None,
        *,
        keep_arrays: bool = False,
        size: int | None = None,
        fairness_threshold: float | dict[str, float] | None = None,
        skip_undefined: bool = False,
    ) -> Overview:
        """Return the merged state as what a visit of the whole would have found."""
        gap = self._state.gap()
        if gap is not None:
            raise gap
        config, pool, budget = self._config, parse_threads(threads), parse_memory(memory)
        view = config.inputs.view
        if self._columns == 1:
            view = replace(view, source=Shape(view.shape[:2], view.dtype))
        part = replace(config.inputs, view=replace(view, model_ids=self.model_ids))
        every = slice(0, self.n_samples)
        asked = config.ask(part, every, matched=size is not None)
        found = self._state.to_visit(part.view, replace(asked.request, spill=not keep_arrays))
        largest = None
        if config.pairs and asked.pairs:
            largest = farthest_in(self._pair_sums())
        rates, target_rates = rates_found(found, part, positive=config.positive, threads=pool, memory=budget)
        return Overview(
            part=part,
            found=found,
            reference_name=config.reference_name,
            largest=largest,
            rates=rates,
            target_rates=target_rates,
            positive=config.positive,
            fairness_threshold=fairness_threshold,
            ddof=config.ddof,
            size=size,
            memory=budget,
            threads=pool,
            keep_arrays=keep_arrays,
            skip_undefined=skip_undefined,
            inside=asked.inside,
        )

    def _pair_sums(self) -> Array:
        """Return (M, M) counts or weights of pairs; only those above the diagonal are sure to be there."""
        weighted = self._config.inputs.weights is not None
        return (self._state.folded if weighted else self._state.counts)["pair_counts"].values

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes

    # -- as plain data

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what was seen as a JSON-ready header and arrays by name, for :meth:`absorb`.

        Settings (target, labels, weights, ...) are not in it: it is what should travel from a worker.
        """
        header, arrays = self._state.to_plain()
        ids = {str(k): name for k, name in self._ids.items()}
        return {"settings": self._config.digest, "ids": ids, "columns": self._columns, **header}, arrays

    def absorb(self, header: dict[str, Any], arrays: dict[str, Array]) -> MultiplicityAccumulator:
        """Merge what :meth:`state` of an accumulator of the same settings returned; the arrays become its own."""
        if header.get("settings") != self._config.digest:
            raise InvalidInputError(
                "the state is of an accumulator that differs in its settings",
                fix="merge accumulators of the same settings",
            )
        state = self._empty()
        try:
            state.fill(header, arrays)
            ids = {int(k): str(name) for k, name in header["ids"].items()}
            columns = header["columns"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(f"the state of an accumulator is damaged ({error})") from None
        return self._merge(state, ids, columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and state as .npz, completely or not at all; nothing in it is pickled."""
        config, (header, arrays) = self._config, self.state()
        given = {f"settings.{name}": array for name, array in config.arrays().items()}
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": config.facts(), "state": header}
        write_arrays(path, header, {**given, **{f"state.{name}": array for name, array in arrays.items()}})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MultiplicityAccumulator:
        """Return the accumulator that :meth:`save` wrote.

        Raises
        ------
        InvalidInputError
            If the file is not there, is damaged, or is something else.
        """
        header, arrays = read_arrays(path)
        if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
            raise InvalidInputError(
                f"this is no {FORMAT} of version {FORMAT_VERSION}",
                file=os.fspath(path),
                fix="give a file that MultiplicityAccumulator.save wrote",
            )
        try:
            facts = dict(header["config"])
            given = {k.removeprefix("settings."): x for k, x in arrays.items() if k.startswith("settings.")}
            state = {k.removeprefix("state."): x for k, x in arrays.items() if k.startswith("state.")}
            return cls._of(saved_settings(facts, given)).absorb(header["state"], state)
        except InvalidInputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(f"the accumulator is damaged ({error})", file=os.fspath(path)) from None


def _plain(given: slice, size: int, what: str) -> slice:
    start, stop, step = given.indices(size)
    if step != 1 or stop <= start:
        raise UsageError(f"{what}={given} is not a plain range within 0..{size}")
    if given.stop is not None and given.stop > size:
        raise UsageError(f"{what}={given} goes beyond {size}")
    return slice(start, stop)
