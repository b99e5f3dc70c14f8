"""``rc.profile``: every metric from as few readings of the predictions as possible.

Without epsilon one reading; with epsilon one of the selection split (who is a member) and one of the members on the
evaluation split. The module is named so that the function does not shadow it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _cpu
from .errors import SelectedOnEvaluationWarning, UsageError
from .metrics import sets
from .metrics.decisions import rate_from_squares
from .metrics.groups import cell_codes, fairness_over_set, group_rates, rates_of
from .metrics.scores import divergence
from .metrics.summary import describe
from .metrics.visit import Reference, Request, Visit, encode_vector, pairwise, share, total, visit
from .predictions import Predictions
from .results import GroupRates, Profile
from .tiles import parse_memory, parse_threads
from .vectors import (
    Groups,
    Target,
    as_decisions,
    as_groups,
    as_losses,
    as_reference,
    as_selection,
    as_target,
    as_weights,
)

__all__ = ["METRICS", "PASS", "profile"]

Array = npt.NDArray[Any]
#: One score pass.
PASS = (
    "fidelity",
    "ambiguity",
    "discrepancy",
    "pairwise_ambiguity",
    "disagreement_rate",
    "viable_prediction_range",
    "score_variance",
)
METRICS = (*PASS, "pairwise_discrepancy", "pairwise_disagreement", "losses", "fairness")
LOSS_NAMES = ("fidelity", "zero_one", "log_loss", "cross_entropy")
NO_REFERENCE = "no reference: give a target, or reference='labels', a model id or an array"


@dataclass
class _Inputs:
    """Checked inputs on one set of samples."""

    view: Predictions
    target: Target | None
    y: Array | None
    groups: Groups | None
    weights: Array | None

    def on(self, samples: Array | None, models: Array | None = None) -> _Inputs:
        """Restrict to samples and models (masks or None)."""
        if samples is None and models is None:
            return self
        view = self.view.take(models, samples)
        if samples is None:
            return _Inputs(view, self.target, self.y, self.groups, self.weights)
        target = None
        if self.target is not None:
            scores = None if self.target.scores is None else self.target.scores[samples]
            target = Target(self.target.decisions[samples], scores)
        groups = None
        if self.groups is not None:
            groups = Groups(
                np.ascontiguousarray(self.groups.codes[samples]), self.groups.names, self.groups.columns
            )
        pick = lambda x: None if x is None else np.ascontiguousarray(x[samples])  # noqa: E731
        weights = pick(self.weights)
        if weights is not None and not weights.any():
            raise UsageError("all sample weights of a split are zero. Fix: choose another selection")
        return _Inputs(view, target, pick(self.y), groups, weights)


def profile(
    predictions: object,
    *,
    target: object = None,
    y: object = None,
    groups: object = None,
    reference: object = None,
    loss: object = None,
    epsilon: float | None = None,
    relative: bool = False,
    selection: object = None,
    metrics: str | Sequence[str] = "all",
    seed: int = 0,
    sample_weight: object = None,
    threshold: float | None = None,
    positive: int = 1,
    missing: str = "refuse",
    fairness_threshold: float | dict[str, float] | None = None,
    ddof: int = 0,
    size: int | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    keep_arrays: bool = True,
) -> Profile:
    """Measure everything that predictions of many models say about their multiplicity.

    Parameters
    ----------
    predictions : Predictions, or (M, N) integers, or (M, N, C) or (M, N) floats
        Labels, or scores ((M, N) floats are P(class 1)).
    target : (N,) integers, (N,) floats P(class 1), or (N, C) floats, optional
        Answers of the model that the others imitate.
    y : (N,) class indices (or class names), optional
        True labels.
    groups : (N,) or (N, k) any type, optional
        Protected groups; several columns are crossed.
    reference : "target", "labels", a model id or index, or (N,) array, optional
        What ambiguity and discrepancy compare with; default the target if given, else none. The true labels are never
        the silent default.
    loss : "fidelity", "zero_one", "log_loss", "cross_entropy", or (M,) array, optional
        What defines the set; default "fidelity" with a target, else "zero_one" with labels.
    epsilon : float, optional
        With it metrics are over the members of the Rashomon set, models whose loss is at most the best one's (or the
        reference model's) plus epsilon; ``relative``: at most (1 + epsilon) times. Without it over all models.
    selection : (N,) booleans, or fraction, optional
        Samples that decide membership; metrics are taken on the others. Without it both happen on all samples and
        the status is "selected_on_evaluation".
    metrics : "pass", "all", or names
        "pass" is one pass over the scores: ranges, variance, votes, fidelity, ambiguity, discrepancy.
    sample_weight : (N,) floats, optional
        Finite, >= 0, not all 0; shares, means and quantiles over samples are then weighted.
    threshold : float, optional
        Two classes: decide 1 where P(class 1) >= threshold.
    positive, missing : see :func:`rashomon_core.group_rates`
    fairness_threshold : float or dict, optional
        Thresholds of fairness metrics; default .8 for the demographic parity ratio only.
    ddof : {0, 1}
        For disagreement rate and score variance.
    size : int, optional
        Also report ambiguity, pairwise ambiguity and discrepancy as expected for a random subset of that many models.
    seed : int
        For a drawn selection.
    threads : int, optional
        Default: the processors this process may use, or ``RASHOMON_CORE_THREADS``.
    memory : int or str, optional
        Budget such as "2GB"; default a quarter of what is available.
    keep_arrays : bool
        False: per-sample results are only summarised and may go to a temporary file meanwhile.

    Returns
    -------
    Profile

    Raises
    ------
    InvalidInputError, UsageError
        Data that are not what they are declared to be; arguments that make no sense together.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> p = rc.profile([[0, 1, 1, 0], [0, 1, 0, 0]], target=[0, 1, 1, 1])
    >>> p.results()["ambiguity"]["value"], p.results()["fidelity"]["max"]
    (0.5, 0.75)
    """
    started = time.perf_counter()
    names = _metric_names(metrics)
    pool, budget = parse_threads(threads), parse_memory(memory)
    inputs = _check(predictions, target, y, groups, missing, sample_weight, threshold)
    view = inputs.view
    if view.kind == "labels" and threshold is not None:
        raise UsageError("a threshold is for scores, and these predictions are labels")
    if threshold is not None and view.n_classes != 2:
        raise UsageError(f"a threshold is for two classes, and there are {view.n_classes}")
    if ddof not in (0, 1):
        raise UsageError(f"ddof={ddof}. Fix: 0 or 1")
    if not 0 <= positive < view.n_classes:
        raise UsageError(f"positive={positive} is not one of the classes 0..{view.n_classes - 1}")
    job = _Job(inputs, names, threshold, positive, fairness_threshold, ddof, size, pool, budget, keep_arrays)
    said: list[str] = []
    status = "complete"
    members, chosen, set_facts = None, None, _no_set(view)
    reference_facts = as_reference(reference, view, inputs.target, inputs.y)
    if epsilon is not None:
        chosen = as_selection(selection, view.n_samples, seed)
        members, set_facts = job.select(loss, epsilon, relative, chosen, reference_facts[1], said)
        if chosen is None:
            status = "selected_on_evaluation"
            text = "members were selected on the samples that the metrics are taken on; give a selection split"
            said.append(text)
            warnings.warn(text, SelectedOnEvaluationWarning, stacklevel=2)
    elif selection is not None or loss is not None or relative:
        raise UsageError("selection, loss and relative define a Rashomon set. Fix: give epsilon as well")
    ids = view.model_ids if members is None else tuple(np.array(view.model_ids, dtype=object)[members].tolist())
    evaluation = None if chosen is None else ~chosen
    measured: dict[str, Any] = {}
    if ids:
        measured = job.measure(evaluation, members, reference_facts)
    results = _finish(job, measured, ids, set_facts, names)
    resources = {
        "seconds": time.perf_counter() - started,
        "bytes_read": job.bytes_read,
        "threads": pool,
        "memory": budget,
        "instruction_set": _cpu.isa_active(),
    }
    parameters = {
        "reference": reference_facts[0],
        "loss": set_facts["loss"],
        "epsilon": epsilon,
        "relative": relative,
        "selection": None if chosen is None else {"samples": int(chosen.sum()), "seed": seed},
        "metrics": list(names),
        "threshold": threshold,
        "positive": positive,
        "missing": missing,
        "ddof": ddof,
        "size": size,
        "seed": seed,
        "weighted": inputs.weights is not None,
        "kind": view.kind,
        "renormalize": view.renormalize,
    }
    return Profile(
        parameters=parameters,
        resources=resources,
        status=status,
        warnings=tuple(said),
        model_ids=ids,
        member_mask=members,
        arrays=measured.get("arrays", {}),
        rates=measured.get("rates"),
        _results=results,
    )


def _metric_names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    if metrics == "pass":
        return PASS
    if metrics == "all":
        return METRICS
    names = tuple(m.strip() for m in metrics.split(",")) if isinstance(metrics, str) else tuple(metrics)
    for name in names:
        if name not in METRICS:
            raise UsageError(f"metric {name!r} is not one of pass, all, {', '.join(METRICS)}")
    if not names:
        raise UsageError("no metrics were asked for")
    return names


def _check(
    predictions: object,
    target: object,
    y: object,
    groups: object,
    missing: str,
    sample_weight: object,
    threshold: float | None,
) -> _Inputs:
    view = predictions if isinstance(predictions, Predictions) else Predictions.from_array(predictions)
    n = view.n_samples
    if view.kind == "labels" and view.declared_classes is None:  # a target or label may name further classes
        classes = view.n_classes
        for vector, name in ((target, "target"), (y, "y")):
            if vector is not None:
                raw = np.asarray(vector)
                if raw.dtype.kind in "biu" and raw.shape[:1] == (n,):
                    classes = max(classes, int(as_decisions(raw, n, None, name).max()) + 1)
        view = Predictions.from_source(
            view.source,
            kind="labels",
            axes=view.axes,
            n_classes=classes,
            model_ids=view.model_ids,
            sample_ids=view.sample_ids,
        )
    return _Inputs(
        view,
        None if target is None else as_target(target, view, threshold=threshold),
        None if y is None else as_decisions(y, n, view.n_classes, "y", view.class_names),
        None if groups is None else as_groups(groups, n, missing=missing),
        as_weights(sample_weight, n),
    )


def _no_set(view: Predictions) -> dict[str, Any]:
    M = view.n_models
    return {
        "size": M,
        "explored": M,
        "epsilon": None,
        "relative": False,
        "loss": None,
        "loss_reference": None,
        "rashomon_ratio": None,
        "pattern_ratio": None,
        "noise": None,
        "status": "singleton" if M == 1 else "ok",
        "split": None,
    }


class _Job:
    """One call of profile: checked inputs and limits, and how to read with them."""

    def __init__(
        self,
        inputs: _Inputs,
        names: tuple[str, ...],
        threshold: float | None,
        positive: int,
        fairness_threshold: float | dict[str, float] | None,
        ddof: int,
        size: int | None,
        threads: int,
        memory: int,
        keep_arrays: bool,
    ) -> None:
        self.inputs, self.names, self.threshold, self.positive = inputs, names, threshold, positive
        self.fairness_threshold, self.ddof, self.size = fairness_threshold, ddof, size
        self.threads, self.memory, self.keep_arrays = threads, memory, keep_arrays
        self.bytes_read = 0

    def visit(self, inputs: _Inputs, request: Request, label: str) -> Visit:
        """Read once, with the limits of this call."""
        self.bytes_read += inputs.view.nbytes
        return visit(inputs.view, request, threads=self.threads, memory=self.memory, label=label)

    # -- the set

    def select(
        self,
        loss: object,
        epsilon: float,
        relative: bool,
        chosen: Array | None,
        reference: int | None,
        said: list[str],
    ) -> tuple[Array, dict[str, Any]]:
        """Return the members and the facts of the set."""
        if not (isinstance(epsilon, (int, float, np.number)) and np.isfinite(epsilon) and epsilon >= 0):
            raise UsageError(f"epsilon={epsilon} must be finite and not negative")
        split = self.inputs.on(chosen)
        name, M, n = self._loss_name(loss), split.view.n_models, split.view.n_samples
        counted = name in ("fidelity", "zero_one")
        answers = None
        request = Request(planes=True, weights=split.weights, threshold=self.threshold)
        if counted:
            answers = split.y if name == "zero_one" else split.target.decisions  # type: ignore[union-attr]
            assert answers is not None
            request = Request(
                planes=True,
                weights=split.weights,
                threshold=self.threshold,
                references=[Reference("answers", answers)],
            )
        elif name in ("log_loss", "cross_entropy"):
            request = Request(
                planes=True,
                weights=split.weights,
                threshold=self.threshold,
                losses=(name,),
                y=split.y,
                target_scores=_rows(split),
            )
        found = self.visit(split, request, "selecting")
        noise: dict[str, Any] | None = None
        scale = n if split.weights is None else total(split.weights)
        if counted and split.weights is None:
            errors = found.mismatches["answers"]
            mask = sets.rashomon_mask(errors, epsilon, reference=reference, relative=relative, n=n)
            values: Array = errors / n
        else:
            if name == "given":
                values = as_losses(loss, M).astype(np.float64)
            elif counted:
                values = found.mismatch_weights["answers"] / scale
            else:
                values = found.losses[name] / scale
            mask = sets.rashomon_mask(values, epsilon, reference=reference, relative=relative)
        best = int(np.argmin(values)) if reference is None else reference
        assert found.planes is not None
        if counted and split.weights is None:
            assert answers is not None
            target_planes, _ = encode_vector(answers, split.view.n_classes)
            f = float(values[best])
            noise = {
                "paired": sets.selection_noise(found.planes, target_planes, answers, best, found.mismatches["answers"]),
                "unpaired": float(np.sqrt(f * (1 - f) / n)),
            }
            slack = epsilon * f if relative else epsilon
            if slack < noise["paired"]:
                text = (
                    f"epsilon {slack:.3g} is below the noise of the selection split ({noise['paired']:.3g} with "
                    f"{n} samples): who is a member is partly chance"
                )
                said.append(text)
                warnings.warn(text, UserWarning, stacklevel=3)
        distinct, kept = sets.pattern_count(found.planes, mask)
        size = int(mask.sum())
        facts = {
            "size": size,
            "explored": M,
            "epsilon": float(epsilon),
            "relative": bool(relative),
            "loss": name,
            "loss_reference": split.view.model_ids[best],
            "rashomon_ratio": size / M,
            "pattern_ratio": (kept or 0) / distinct,
            "noise": noise,
            "status": "empty" if size == 0 else "singleton" if size == 1 else "ok",
            "split": "all" if chosen is None else "selection",
        }
        self.loss_values = values
        return mask, facts

    def _loss_name(self, loss: object) -> str:
        inputs = self.inputs
        if loss is None:
            if inputs.target is not None:
                return "fidelity"
            if inputs.y is not None:
                return "zero_one"
            raise UsageError("epsilon needs a loss. Fix: give a target, true labels, or loss= (--target, --labels)")
        if not isinstance(loss, str):
            return "given"
        if loss not in LOSS_NAMES:
            raise UsageError(f"loss {loss!r} is not one of {', '.join(LOSS_NAMES)}")
        if loss in ("fidelity", "cross_entropy") and inputs.target is None:
            raise UsageError(f"loss {loss!r} needs a target. Fix: give target= (--target FILE)")
        if loss in ("zero_one", "log_loss") and inputs.y is None:
            raise UsageError(f"loss {loss!r} needs true labels. Fix: give y= (--labels FILE)")
        if loss in ("log_loss", "cross_entropy") and inputs.view.kind == "labels":
            raise UsageError(f"loss {loss!r} needs scores, and these predictions are labels")
        return loss

    # -- the metrics

    def measure(
        self, samples: Array | None, models: Array | None, reference: tuple[str | None, int | None, Array | None]
    ) -> dict[str, Any]:
        """Read the members on the evaluation samples and return everything that was asked for."""
        part = self.inputs.on(samples, models)
        view, names, w = part.view, self.names, part.weights
        scores = view.kind != "labels"
        reference_name, decisions = reference[0], reference[2]
        if reference[1] is not None:
            own = self.inputs.on(samples).view.take([reference[1]])
            found = visit(own, Request(decisions=True, threshold=self.threshold), threads=1, memory=self.memory)
            assert found.decisions is not None
            decisions = found.decisions[0].astype(np.int64)
        elif decisions is not None and samples is not None:
            decisions = decisions[samples]
        references = []
        wants_reference = {"ambiguity", "discrepancy"} & set(names)
        if decisions is not None and wants_reference:
            references.append(Reference("reference", decisions, union=True))
        if part.target is not None and {"fidelity", "losses"} & set(names):
            references.append(Reference("target", part.target.decisions))
        if part.y is not None and "losses" in names:
            references.append(Reference("labels", part.y))
            if part.target is not None:
                references.append(Reference("right", part.target.decisions, part.target.decisions == part.y))
        losses: list[str] = []
        if scores and "losses" in names:
            losses += ["log_loss"] * (part.y is not None)
            losses += ["total_variation", "cross_entropy"] * (part.target is not None)
        pairs = bool({"pairwise_discrepancy", "pairwise_disagreement"} & set(names)) and view.n_models > 1
        squares = bool({"pairwise_ambiguity", "disagreement_rate", "pairwise_disagreement"} & set(names))
        cells, n_cells = None, 0
        if part.groups is not None and "fairness" in names:
            cells, n_cells = cell_codes(part.groups, part.y, view.n_classes)
        matched = self.size is not None and self.size <= view.n_models
        found = self.visit(
            part,
            Request(
                ranges=scores and bool({"viable_prediction_range", "score_variance"} & set(names)),
                vote_sums=squares,
                votes=matched and "pairwise_ambiguity" in names,
                agree=decisions if matched and decisions is not None and wants_reference else None,
                planes=pairs,
                references=references,
                losses=losses,
                y=part.y,
                target_scores=_rows(part) if losses else None,
                weights=w,
                threshold=self.threshold,
                ddof=self.ddof,
                cells=cells,
                n_cells=n_cells,
                spill=not self.keep_arrays,
            ),
            "measuring",
        )
        largest = None
        if pairs:
            assert found.planes is not None
            largest = pairwise(found.planes, threads=self.threads, memory=self.memory, weights=w)
            found.planes = None
        rates = target_rates = None
        if found.cells is not None and part.groups is not None:
            rates = rates_of(found.cells, part.groups, part.y is not None, self.positive)
            if part.target is not None:
                target_rates = group_rates(
                    part.target.decisions[None],
                    part.y,
                    part.groups,
                    n_classes=view.n_classes,
                    positive=self.positive,
                    sample_weight=w,
                    threads=1,
                )
        return self._numbers(part, found, reference_name, largest, rates, target_rates)

    def _numbers(
        self,
        part: _Inputs,
        found: Visit,
        reference_name: str | None,
        largest: tuple[float, tuple[int, int]] | None,
        rates: GroupRates | None,
        target_rates: GroupRates | None,
    ) -> dict[str, Any]:
        view, w = part.view, part.weights
        n, M = view.n_samples, view.n_models
        scale = float(n) if w is None else total(w)

        def shares(name: str) -> Array:
            result: Array = found.mismatches[name] / n if w is None else found.mismatch_weights[name] / scale
            return result

        arrays: dict[str, Array] = {}
        out: dict[str, Any] = {"arrays": arrays, "rates": rates, "n": n}
        if hasattr(self, "loss_values"):
            arrays["all_losses"] = self.loss_values
        if "reference" in found.mismatches:
            differing, flags = shares("reference"), found.unions["reference"]
            arrays["mismatches"], arrays["ambiguous_samples"] = found.mismatches["reference"], flags
            worst = int(np.argmax(differing))
            out["ambiguity"] = {
                "value": share(flags, w),
                "count": int(np.count_nonzero(flags)),
                "reference": reference_name,
            }
            out["discrepancy"] = {
                "value": float(differing[worst]),
                "count": int(found.mismatches["reference"][worst]),
                "argmax": view.model_ids[worst],
                "reference": reference_name,
            }
            if found.agree is not None and self.size is not None:
                chance = sets.none_of(M - found.agree, M, self.size)
                out["ambiguity"]["size_matched"] = {"m": self.size, "value": sets.matched_mean(chance, w)}
                value = sets.size_matched_max(differing, self.size)
                out["discrepancy"]["size_matched"] = {"m": self.size, "value": value}
        if "target" in found.mismatches:
            arrays["fidelity"] = (n - found.mismatches["target"]) / n if w is None else 1.0 - shares("target")
            out["fidelity"] = _extremes(arrays["fidelity"], view.model_ids, "argmax")
        if found.vote_squares is not None:
            flags = found.vote_squares != M * M
            out["pairwise_ambiguity"] = {"value": share(flags, w), "count": int(np.count_nonzero(flags))}
            if found.votes is not None and self.size is not None:
                chance = sets.none_of(M - found.votes, M, self.size).sum(axis=1)
                value = sets.matched_mean(chance, w)
                out["pairwise_ambiguity"]["size_matched"] = {"m": self.size, "value": value}
            squares = found.vote_squares

            def rate(start: int, stop: int) -> Array:
                return rate_from_squares(squares[start:stop], M, self.ddof)

            if self.ddof == 1 and M == 1:
                out["disagreement_rate"] = None
            else:
                out["disagreement_rate"] = {**describe(rate, n, w, in_memory=self._fits(n)), "ddof": self.ddof}
            mean = 0.0 if M == 1 else _mean_pairs(squares, M, w)
            out["pairwise_disagreement"] = {"mean": mean, "max": 0.0, "argmax": None}
            if self.keep_arrays:
                arrays["disagreement_rate"] = rate_from_squares(squares, M, self.ddof)
        if largest is not None:
            value = float(largest[0] / scale)
            pair = [view.model_ids[k] for k in largest[1]]
            out["pairwise_discrepancy"] = {"value": value, "argmax": pair}
            out.setdefault("pairwise_disagreement", {})
            out["pairwise_disagreement"].update(max=value, argmax=pair)
            if w is None:
                out["pairwise_discrepancy"]["count"] = int(largest[0])
        elif M == 1:
            out["pairwise_discrepancy"] = {"value": 0.0, "count": 0, "argmax": None}
        else:
            out.get("pairwise_disagreement", {}).pop("max", None)
            out.get("pairwise_disagreement", {}).pop("argmax", None)
        if found.low is not None:
            self._ranges(part, found, out)
        out["losses"] = self._losses(part, found, shares, scale, arrays)
        if rates is not None:
            out["fairness"] = fairness_over_set(rates, target_rates, self.fairness_threshold)
        return out

    def _fits(self, n: int) -> bool:
        return self.keep_arrays or n * 40 < self.memory // 8

    def _ranges(self, part: _Inputs, found: Visit, out: dict[str, Any]) -> None:
        view, w, n, C = part.view, part.weights, part.view.n_samples, part.view.columns
        low, high, variance = found.low, found.high, found.variance
        assert low is not None and high is not None and variance is not None
        whole = slice(0, C)

        def width(c: int) -> Any:
            def read(start: int, stop: int) -> Array:
                rows = slice(start, stop)
                return high.read(rows, whole)[:, c].astype(np.float64) - low.read(rows, whole)[:, c]

            return read

        def spread(c: int) -> Any:
            def read(start: int, stop: int) -> Array:
                return variance.read(slice(start, stop), whole)[:, c]

            return read

        def own_class(start: int, stop: int) -> Array:
            rows, at = slice(start, stop), np.arange(stop - start)
            c = np.zeros(stop - start, dtype=np.int64) if C == 1 else part.y[rows]  # type: ignore[index]
            return high.read(rows, whole)[at, c].astype(np.float64) - low.read(rows, whole)[at, c]

        classes = range(2) if C == 1 else range(C)
        names = view.class_names or tuple(str(c) for c in classes)
        fits = self._fits(n)
        columns = [0] if C == 1 else list(range(C))
        described = {c: describe(width(c), n, w, in_memory=fits) for c in columns}
        varied = {c: describe(spread(c), n, w, in_memory=fits) for c in columns}
        entry: dict[str, Any] = {"classes": {names[c]: described[0 if C == 1 else c] for c in classes}}
        if view.n_classes == 2:
            entry["positive"] = described[0 if C == 1 else self.positive]
        if part.y is not None:
            entry["true_class"] = describe(own_class, n, w, in_memory=fits)
        out["viable_prediction_range"] = entry
        if view.n_models > self.ddof:
            out["score_variance"] = {
                "classes": {names[c]: varied[0 if C == 1 else c] for c in classes},
                "ddof": self.ddof,
            }
        if self.keep_arrays:
            out["arrays"].update(low=low.array(), high=high.array(), score_variance=variance.array())

    def _losses(
        self, part: _Inputs, found: Visit, shares: Any, scale: float, arrays: dict[str, Array]
    ) -> dict[str, Any]:
        values: dict[str, Array] = {}
        if "labels" in found.mismatches:
            values["zero_one"] = shares("labels")
        if "right" in found.mismatches and part.target is not None and part.y is not None:
            right = part.target.decisions == part.y
            agreed = share(right, part.weights)
            values["correct_fidelity"] = agreed - shares("right")
        for name, sums in found.losses.items():
            values[name] = sums / scale
        if "cross_entropy" in values:
            rows = _rows(part)
            assert rows is not None
            values["kl_divergence"] = divergence(values["cross_entropy"], rows, part.weights)
        arrays.update(values)
        ids = part.view.model_ids
        return {
            name: _extremes(x, ids, "argmax" if name == "correct_fidelity" else "argmin") for name, x in values.items()
        }


def _rows(part: _Inputs) -> Array | None:
    """The target's probabilities, one-hot when it gave labels only."""
    if part.target is None:
        return None
    if part.target.scores is not None:
        return part.target.scores
    rows = np.zeros((part.view.n_samples, part.view.n_classes))
    rows[np.arange(part.view.n_samples), part.target.decisions] = 1.0
    return rows


def _extremes(values: Array, ids: tuple[str, ...], best: str) -> dict[str, Any]:
    infinite = int(np.count_nonzero(np.isinf(values)))
    entry: dict[str, Any] = {}
    for name, value in (("min", values.min()), ("median", np.median(values)), ("max", values.max())):
        entry[name] = float(value) if np.isfinite(value) else None
    entry[best] = ids[int(np.argmax(values) if best == "argmax" else np.argmin(values))]
    if infinite:
        entry["infinite"] = infinite
        entry["reason"] = f"{infinite} of {len(values)} models give probability 0 where it matters: +inf"
    return entry


def _mean_pairs(squares: Array, M: int, w: Array | None) -> float:
    """Mean disagreement over pairs of different models, from the votes."""
    if w is None:
        differing = len(squares) * M * M - int(squares.sum(dtype=np.int64))
        return differing / (M * (M - 1) * len(squares))
    return total((M * M - squares.astype(np.int64)).astype(np.float64), w) / (M * (M - 1) * total(w))


def _finish(
    job: _Job, measured: dict[str, Any], ids: tuple[str, ...], facts: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Every asked-for metric as an object; what could not be measured is null with a reason."""
    view, inputs = job.inputs.view, job.inputs
    labels = view.kind == "labels"
    empty = "the set is empty" if not ids else None
    reasons = {
        "fidelity": "no target",
        "ambiguity": NO_REFERENCE,
        "discrepancy": NO_REFERENCE,
        "viable_prediction_range": "the predictions are labels, not scores",
        "score_variance": "the predictions are labels, not scores" if labels else "one model and ddof=1",
        "disagreement_rate": "one model and ddof=1",
        "losses": "neither target nor labels",
        "fairness": "no groups" if inputs.groups is None else "not measured",
    }
    results: dict[str, Any] = {
        "shape": {
            "models": view.n_models,
            "samples": measured.get("n", view.n_samples),
            "classes": view.n_classes,
        },
        "set": facts,
    }
    for name in METRICS:
        if name not in names:
            continue
        value = measured.get(name)
        if value:
            results[name] = value
        else:
            results[name] = {"value": None, "reason": empty or reasons.get(name, "not measured")}
    return results
