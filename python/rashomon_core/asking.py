"""What a list of metrics takes of one reading, and how its numbers become results.

Profiles and accumulators ask the same questions of a reading and fill the same results in: here, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from .errors import UsageError
from .group_results import FAIRNESS, GroupRates
from .inputs import Inputs
from .metrics.by_group import NOT_SCORES, ONE_MODEL
from .metrics.channel import CapacityRule
from .metrics.groups import cell_count, group_rates, rates_of
from .metrics.visit import NO_REFERENCE, Reference, Request, Visit
from .predictions import Predictions

__all__ = [
    "METRICS",
    "PASS",
    "Asked",
    "ask",
    "check_settings",
    "check_thresholds",
    "finish",
    "metric_names",
    "no_set",
    "rates_found",
]

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
METRICS = (*PASS, "rashomon_capacity", "pairwise_discrepancy", "pairwise_disagreement", "losses", "fairness", "groups")


def metric_names(metrics: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the metrics that "pass", "all", "a,b" or a list of names asks for.

    Raises
    ------
    UsageError
        A name that is none.
    """
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


def check_settings(view: Predictions, *, threshold: float | None, ddof: int, positive: int, missing: str) -> None:
    """Refuse settings that make no sense with these predictions."""
    if view.kind == "labels" and threshold is not None:
        raise UsageError("a threshold is for scores, and these predictions are labels")
    if threshold is not None and view.n_classes != 2:
        raise UsageError(f"a threshold is for two classes, and there are {view.n_classes}")
    if ddof not in (0, 1):
        raise UsageError(f"ddof={ddof}. Fix: 0 or 1")
    if not 0 <= positive < view.n_classes:
        raise UsageError(f"positive={positive} is not one of the classes 0..{view.n_classes - 1}")
    if missing not in ("refuse", "group"):
        raise UsageError(f"missing={missing!r}. Fix: 'refuse' or 'group'")


def check_thresholds(fairness_threshold: float | dict[str, float] | None) -> None:
    """Refuse thresholds of metrics that do not exist."""
    if isinstance(fairness_threshold, dict):
        known = [f"{name}_{form}" for name in FAIRNESS for form in ("difference", "ratio")]
        for name in fairness_threshold:
            if name not in known:
                raise UsageError(f"fairness_threshold names {name!r}, which is not one of {', '.join(known)}")


@dataclass(frozen=True)
class Asked:
    """What to bring back from a reading.

    ``pairs``: the models are to be compared with one another. ``inside``: why something is not measured inside each
    group; None: nothing is.
    """

    request: Request
    pairs: bool
    inside: dict[str, str] | None


def ask(
    part: Inputs,
    names: Sequence[str],
    decisions: Array | None,
    *,
    capacity: CapacityRule,
    threshold: float | None,
    ddof: int,
    matched: bool = False,
    again: bool = False,
    spill: bool = False,
) -> Asked:
    """Return what the metrics ``names`` need of a reading of ``part`` with the reference ``decisions``.

    ``matched``: also what size-matched values need; ``again``: also what resampling needs.
    """
    view, scores = part.view, part.view.kind != "labels"
    asked = set(names)
    inside = "groups" in asked and part.groups is not None
    references = []
    wants_reference = inside or bool({"ambiguity", "discrepancy"} & asked)
    if decisions is not None and wants_reference:
        references.append(Reference("reference", decisions, union=True))
    if part.target is not None and {"fidelity", "losses"} & asked:
        references.append(Reference("target", part.target.decisions))
    if part.y is not None and "losses" in asked:
        references.append(Reference("labels", part.y))
        if part.target is not None:
            references.append(Reference("right", part.target.decisions, part.y))
    losses: list[str] = []
    if scores and "losses" in asked:
        losses += ["log_loss"] * (part.y is not None)
        losses += ["total_variation", "cross_entropy"] * (part.target is not None)
    pairs = bool({"pairwise_discrepancy", "pairwise_disagreement"} & asked) and view.n_models > 1
    squares = inside or bool({"pairwise_ambiguity", "disagreement_rate", "pairwise_disagreement"} & asked)
    solved = scores and "rashomon_capacity" in asked
    closed = solved and capacity.closed_form(view)  # from the ranges of two classes
    ranges = inside or closed or bool({"viable_prediction_range", "score_variance"} & asked)
    groups = part.groups if "fairness" in asked else None
    request = Request(
        ranges=scores and ranges,
        capacity=capacity if solved else None,
        vote_sums=squares,
        votes=matched and "pairwise_ambiguity" in asked,
        agree=decisions if matched and decisions is not None and wants_reference else None,
        planes=pairs or (again and bool(references or groups is not None)),
        references=references,
        losses=losses,
        y=part.y,
        target_scores=part.target_scores if losses else None,
        target_labels=part.target_labels if losses else None,
        weights=part.weights,
        threshold=threshold,
        ddof=ddof,
        cells=None if groups is None else groups.codes,
        cell_labels=part.y,
        n_cells=0 if groups is None else cell_count(groups, part.y, view.n_classes),
        spill=spill,
    )
    return Asked(request, pairs, _absent_inside(asked, scores, decisions is not None) if inside else None)


def _absent_inside(asked: set[str], scores: bool, referenced: bool) -> dict[str, str]:
    """Say what cannot be measured inside each group, or takes being asked for."""
    absent = {} if referenced else {"ambiguity": NO_REFERENCE}
    if not scores:
        return absent | dict.fromkeys(("viable_prediction_range", "rashomon_capacity"), NOT_SCORES)
    if "rashomon_capacity" not in asked:
        absent["rashomon_capacity"] = "rashomon_capacity was not asked for"
    return absent


def rates_found(
    found: Visit, part: Inputs, *, positive: int, threads: int, memory: int
) -> tuple[GroupRates | None, GroupRates | None]:
    """Return the group rates of the models and of the target, if groups were counted."""
    if found.cells is None or part.groups is None:
        return None, None
    rates, target = rates_of(found.cells, part.groups, part.y is not None, positive), None
    if part.target is not None:
        target = group_rates(
            part.target.decisions[None],
            part.y,
            part.groups,
            n_classes=part.view.n_classes,
            positive=positive,
            sample_weight=part.weights,
            threads=threads,
            memory=memory,
        )
    return rates, target


def no_set(view: Predictions) -> dict[str, Any]:
    """Return the facts of the set where all models are taken."""
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


def finish(
    inputs: Inputs,
    measured: Mapping[str, Any],
    ids: tuple[str, ...],
    facts: dict[str, Any],
    names: Sequence[str],
    reasons: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Every asked-for metric as an object; what could not be measured is null with a reason."""
    view = inputs.view
    labels = view.kind == "labels"
    empty = "the set is empty" if not ids else None
    known = {
        "fidelity": "no target",
        "ambiguity": NO_REFERENCE,
        "discrepancy": NO_REFERENCE,
        "viable_prediction_range": NOT_SCORES,
        "rashomon_capacity": NOT_SCORES,
        "score_variance": NOT_SCORES if labels else ONE_MODEL,
        "disagreement_rate": ONE_MODEL,
        "losses": "neither target nor labels"
        if inputs.target is None
        else "decisions have losses against true labels only; against the target see fidelity",
        "fairness": "no groups" if inputs.groups is None else "not measured",
        "groups": "no groups",
        **(reasons or {}),
    }
    results: dict[str, Any] = {
        "shape": {
            "models": view.n_models,
            "samples": measured["n"],
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
            results[name] = {"value": None, "reason": empty or known.get(name, "not measured")}
    return results
