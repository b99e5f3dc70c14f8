"""``rc.profile``: every metric from as few readings of the predictions as possible.

Without epsilon one reading; with epsilon one of the selection split (who is a member) and one of the members on the
evaluation split. The module is named so that the function does not shadow it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _cpu
from .asking import (
    METRICS,
    PASS,
    ask,
    check_settings,
    check_thresholds,
    finish,
    metric_names,
    no_set,
    rates_found,
)
from .errors import SelectedOnEvaluationWarning, UsageError
from .inputs import Inputs, check_inputs
from .jit import SampleLoss
from .membership import Membership, select_members
from .metrics.channel import CapacityRule
from .metrics.curves import CurvePlan
from .metrics.overview import Overview
from .metrics.pairs import farthest_pair
from .metrics.replicates import attach, check_replicates
from .metrics.resampling import Resampling
from .metrics.sizes import curve_objects
from .metrics.visit import Request, Visit, visit
from .results import Profile
from .resuming import Keeper, digest, facts_of
from .tiles import parse_memory, parse_threads
from .vectors import as_reference, as_selection

__all__ = ["METRICS", "PASS", "Profile", "metric_names", "profile"]

Array = npt.NDArray[Any]
#: Points of the curves over epsilon.
CURVE_POINTS = 200


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
    capacity_tol: float = 1e-6,
    seed: int = 0,
    sample_weight: object = None,
    threshold: float | None = None,
    positive: int = 1,
    missing: str = "refuse",
    fairness_threshold: float | dict[str, float] | None = None,
    skip_undefined: bool = False,
    ddof: int = 0,
    size: int | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    keep_arrays: bool = True,
    bootstrap: int | None = None,
    interval: float = 0.95,
    curves: bool = False,
    checkpoint: Keeper | None = None,
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
        Protected groups; several columns are crossed, and each is taken alone too. Fairness is between them, "groups"
        is multiplicity inside each.
    reference : "target", "labels", a model id or index, or (N,) array, optional
        What ambiguity and discrepancy compare with; default the target if given, else none. The true labels are never
        the silent default.
    loss : "fidelity", "zero_one", "log_loss", "cross_entropy", SampleLoss, or (M,) array, optional
        What defines the set; default "fidelity" with a target, else "zero_one" with labels. A loss of your own
        (:func:`rashomon_core.sample_loss`) is given the labels y, and without them the target's decisions.
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
        A number is the threshold of every ratio, a dict has one by metric name ("equalized_odds_difference"); default
        .8 for the demographic parity ratio only.
    skip_undefined : bool
        Take gaps over the groups where they are defined and list the others, instead of leaving them undefined.
    ddof : {0, 1}
        For disagreement rate and score variance.
    size : int, optional
        Also report ambiguity, pairwise ambiguity and discrepancy as expected for a random subset of that many models.
    capacity_tol : float
        Bits: tolerance of the bounds of Rashomon Capacity.
    seed : int
        For a drawn selection.
    threads : int, optional
        Default: the processors this process may use, or ``RASHOMON_CORE_THREADS``.
    memory : int or str, optional
        Budget such as "2GB"; default a quarter of what is available.
    keep_arrays : bool
        False: per-sample results are only summarised and may go to a temporary file meanwhile.
    bootstrap : int, optional
        Replicates of the evaluation samples, drawn with ``seed``, for the percentile intervals of every metric but
        quantiles: see :func:`rashomon_core.bootstrap`.
    interval : float
        Their level.
    curves : bool
        With epsilon also ``epsilon_curves`` of all explored models, at most 200 points; and ``size_curves``.
    checkpoint : Checkpoint, optional
        Predictions on disk: what is read is kept there, and a call with the same inputs goes on after a kill, with the
        same bytes as a result. Remove it when the result is safe.

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
    names = metric_names(metrics)
    pool, budget = parse_threads(threads), parse_memory(memory)
    inputs = check_inputs(predictions, target, y, groups, missing, sample_weight, threshold)
    view = inputs.view
    check_settings(view, threshold=threshold, ddof=ddof, positive=positive, missing=missing)
    if size is not None and not 1 <= size <= view.n_models:
        raise UsageError(f"size={size} is not between 1 and the {view.n_models} models")
    check_replicates(bootstrap, interval)
    check_thresholds(fairness_threshold)
    rule = CapacityRule(tol=capacity_tol)
    job = _Job(inputs, names, threshold, positive, fairness_threshold, ddof, size, pool, budget, keep_arrays, rule)
    job.skip_undefined = bool(skip_undefined)
    job.bootstrap = None if bootstrap is None else (int(bootstrap), float(interval), seed)
    job.checkpoint = checkpoint
    said: list[str] = []
    status = "complete"
    selected: Membership | None = None
    members, chosen, set_facts = None, None, no_set(view)
    if inputs.groups is not None and {"fairness", "groups"} & set(names):
        for name, values in inputs.groups.single:
            text = f"all samples have the value {values!r} in {name}: gaps over one group say nothing"
            said.append(text)
            warnings.warn(text, UserWarning, stacklevel=2)
    reference_facts = as_reference(reference, view, inputs.target, inputs.y)
    if checkpoint is not None:
        settings = {
            "metrics": list(names),
            "epsilon": epsilon,
            "relative": bool(relative),
            "loss": loss.name
            if isinstance(loss, SampleLoss)
            else loss
            if isinstance(loss, str) or loss is None
            else digest(np.asarray(loss)),
            "selection": selection
            if isinstance(selection, (int, float, type(None)))
            else digest(np.asarray(selection)),
            "seed": seed,
            "threshold": threshold,
            "positive": positive,
            "missing": missing,
            "ddof": ddof,
            "size": size,
            "capacity_tol": float(capacity_tol),
            "bootstrap": bootstrap,
        }
        checkpoint.begin({**facts_of(view), **_vectors(inputs, reference_facts), **settings, **_here()}, view)
    if epsilon is not None:
        chosen = as_selection(selection, view.n_samples, seed)
        selected = select_members(
            inputs,
            loss,
            epsilon,
            relative=relative,
            chosen=chosen,
            reference=reference_facts[1],
            threshold=threshold,
            threads=pool,
            memory=budget,
            said=said,
        )
        members, set_facts = selected.mask, selected.facts
        if checkpoint is not None:
            checkpoint.found("members of the set", digest(members))
        job.bytes_read += selected.bytes_read
        if chosen is None:
            status = "selected_on_evaluation"
            text = "members were selected on the samples that the metrics are taken on; give a selection split"
            said.append(text)
            warnings.warn(text, SelectedOnEvaluationWarning, stacklevel=2)
    elif selection is not None or loss is not None or relative:
        raise UsageError("selection, loss and relative define a Rashomon set. Fix: give epsilon as well")
    ids = view.model_ids if members is None else tuple(np.array(view.model_ids, dtype=object)[members].tolist())
    if size is not None and size > len(ids):
        has = "1 member" if len(ids) == 1 else f"{len(ids)} members"
        said.append(f"no size-matched values: the set has {has}, fewer than size {size}")
    evaluation = None if chosen is None else ~chosen
    measured: dict[str, Any] = {}
    if ids:
        measured = job.measure(evaluation, members, reference_facts)
    measured.setdefault("n", view.n_samples if evaluation is None else int(evaluation.sum()))
    results = finish(job.inputs, measured, ids, set_facts, names)
    if curves:
        planned = None
        if selected is not None:
            losses, n = selected.errors or (selected.losses, None)
            planned = CurvePlan(
                losses=losses,
                base=losses[selected.base],
                relative=relative,
                n=n,
                most=CURVE_POINTS,
                pairwise="pairwise_discrepancy" in names,
                ranges="viable_prediction_range" in names,
                fairness="fairness" in names,
                positive=positive,
            )
        results |= curve_objects(
            inputs, evaluation, members, reference_facts, planned, threshold=threshold, threads=pool, memory=budget
        )
        job.bytes_read += 2 * view.nbytes
    arrays: dict[str, Array] = measured.get("arrays", {})
    if selected is not None:
        arrays |= {"all_losses": selected.losses, "loss": selected.losses[members]}
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
        "skip_undefined": bool(skip_undefined),
        "ddof": ddof,
        "size": size,
        "capacity_tol": float(capacity_tol),
        "seed": seed,
        "bootstrap": None if bootstrap is None else {"replicates": int(bootstrap), "level": float(interval)},
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
        arrays=arrays,
        rates=measured.get("rates"),
        _results=results,
    )


def _vectors(inputs: Inputs, reference: tuple[str | None, int | None, Array | None]) -> dict[str, Any]:
    """Return what tells the vectors of a measurement from others."""
    target, groups = inputs.target, inputs.groups
    return {
        "target": None if target is None else digest(target.decisions, target.scores),
        "labels": digest(inputs.y),
        "groups": None if groups is None else digest(groups.codes),
        "weights": digest(inputs.weights),
        "reference": [*reference[:2], digest(reference[2])],
    }


def _here() -> dict[str, Any]:
    """Return on what code the bits of a result depend."""
    from . import __version__

    return {"version": __version__, "instruction_set": _cpu.isa_active()}


class _Job:
    """One call of profile: checked inputs and limits, and how to read with them."""

    def __init__(
        self,
        inputs: Inputs,
        names: tuple[str, ...],
        threshold: float | None,
        positive: int,
        fairness_threshold: float | dict[str, float] | None,
        ddof: int,
        size: int | None,
        threads: int,
        memory: int,
        keep_arrays: bool,
        capacity: CapacityRule,
    ) -> None:
        self.capacity = capacity
        self.inputs, self.names, self.threshold, self.positive = inputs, names, threshold, positive
        self.fairness_threshold, self.ddof, self.size = fairness_threshold, ddof, size
        self.threads, self.memory, self.keep_arrays = threads, memory, keep_arrays
        self.skip_undefined = False
        self.checkpoint: Keeper | None = None
        self.bytes_read = 0
        self.bootstrap: tuple[int, float, int] | None = None  # replicates, level, seed

    def visit(self, inputs: Inputs, request: Request, label: str) -> Visit:
        """Read once, with the limits of this call."""
        self.bytes_read += inputs.view.nbytes
        return visit(
            inputs.view,
            request,
            threads=self.threads,
            memory=self.memory,
            label=label,
            checkpoint=self.checkpoint,
        )

    # -- the metrics

    def measure(
        self,
        samples: Array | None,
        models: Array | None,
        reference: tuple[str | None, int | None, Array | None],
    ) -> dict[str, Any]:
        """Read the members on the evaluation samples and return everything that was asked for."""
        part = self.inputs.on(samples, models)
        view, names, w = part.view, self.names, part.weights
        reference_name, decisions = reference[0], reference[2]
        if reference[1] is not None:
            own = self.inputs.on(samples).view.take([reference[1]])
            found = visit(own, Request(decisions=True, threshold=self.threshold), threads=1, memory=self.memory)
            assert found.decisions is not None
            decisions = found.decisions[0]
        elif decisions is not None and samples is not None:
            decisions = decisions[samples]
        matched = self.size is not None and self.size <= view.n_models
        asked = ask(
            part,
            names,
            decisions,
            capacity=self.capacity,
            threshold=self.threshold,
            ddof=self.ddof,
            matched=matched,
            again=self.bootstrap is not None,
            spill=not self.keep_arrays,
        )
        found = self.visit(part, asked.request, "measuring")
        pairs, losses = asked.pairs, asked.request.losses
        largest = None
        if pairs:
            assert found.planes is not None
            largest = farthest_pair(found.planes, threads=self.threads, memory=self.memory, weights=w)
            if self.bootstrap is None:
                found.planes = None
        rates, target_rates = rates_found(found, part, positive=self.positive, threads=self.threads, memory=self.memory)
        overview = Overview(
            part=part,
            found=found,
            reference_name=reference_name,
            largest=largest,
            rates=rates,
            target_rates=target_rates,
            positive=self.positive,
            fairness_threshold=self.fairness_threshold,
            ddof=self.ddof,
            size=self.size,
            memory=self.memory,
            threads=self.threads,
            keep_arrays=self.keep_arrays,
            skip_undefined=self.skip_undefined,
            inside=asked.inside,
        )
        numbers = overview.numbers()
        if self.bootstrap is not None:
            replicates, level, seed = self.bootstrap
            compared = {"reference": decisions, "labels": part.y}
            compared["target"] = None if part.target is None else part.target.decisions
            resampling = Resampling(
                part=part,
                found=found,
                planes=found.planes,
                references={name: x for name, x in compared.items() if x is not None},
                replicates=replicates,
                level=level,
                seed=seed,
                ddof=self.ddof,
                positive=self.positive,
                pairs=pairs,
                rates=rates is not None,
                losses=bool(losses),
                fairness_threshold=self.fairness_threshold,
                skip_undefined=self.skip_undefined,
                inside=asked.inside,
                size=self.size if matched else None,
                threads=self.threads,
                memory=self.memory,
            )
            self.bytes_read += view.nbytes if losses else 0
            attach(numbers, resampling.intervals())
        found.planes = None
        return {**numbers, "arrays": overview.arrays, "rates": rates, "n": view.n_samples}
