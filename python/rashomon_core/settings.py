"""What an accumulator is of: shape, metrics, and what comes with the samples; checked, and as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .asking import Asked, ask, check_settings, metric_names
from .errors import UsageError
from .inputs import Inputs
from .metrics.channel import CapacityRule
from .predictions import KINDS, Kind, Predictions
from .vectors import Column, Groups, Target, as_decisions, as_groups, as_reference, as_target, as_weights

__all__ = ["Settings", "Shape", "saved_settings", "settings_of"]

Array = npt.NDArray[Any]


class Shape:
    """A source of a shape without values."""

    in_memory = False
    path: str | None = None

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        """Refuse."""
        raise RuntimeError("internal: the values of an accumulator are gone")


@dataclass(frozen=True)
class Settings:
    """What an accumulator is of; checked. Shared by those that are to be merged."""

    n_models: int
    n_samples: int
    n_classes: int
    kind: Kind
    names: tuple[str, ...]
    inputs: Inputs  # of a tensor without values
    reference_name: str | None
    decisions: Array | None
    positive: int
    threshold: float | None
    ddof: int
    pairs: bool
    model_ids: tuple[str, ...] | None
    capacity: CapacityRule
    delta: float | None
    #: Of everything: what has the same may be merged.
    digest: str = field(init=False)

    def facts(self) -> dict[str, Any]:
        """Return what is plain."""
        groups = self.inputs.groups
        return {
            "n_models": self.n_models,
            "n_samples": self.n_samples,
            "n_classes": self.n_classes,
            "kind": self.kind,
            "metrics": list(self.names),
            "reference": self.reference_name,
            "positive": self.positive,
            "threshold": None if self.threshold is None else float(self.threshold),
            "ddof": self.ddof,
            "pairs": self.pairs,
            "model_ids": None if self.model_ids is None else list(self.model_ids),
            "class_names": None if self.inputs.view.class_names is None else list(self.inputs.view.class_names),
            "capacity_tol": float(self.capacity.tol),
            "delta": self.delta,
            "groups": None
            if groups is None
            else {
                "names": list(groups.names),
                "columns": list(groups.columns),
                "parts": [{"name": p.name, "names": list(p.names), "of": p.of.tolist()} for p in groups.parts],
            },
        }

    def arrays(self) -> dict[str, Array]:
        """Return what there is for each sample."""
        given, target = self.inputs, self.inputs.target
        named = {
            "reference": self.decisions,
            "target": None if target is None else target.decisions,
            "target_scores": None if target is None else target.scores,
            "y": given.y,
            "groups": None if given.groups is None else given.groups.codes,
            "sample_weight": given.weights,
        }
        return {name: array for name, array in named.items() if array is not None}

    def __post_init__(self) -> None:
        """Hash everything."""
        sha = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            sha.update(f"{name} {array.dtype.str} {array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        object.__setattr__(self, "digest", sha.hexdigest())

    def on(self, view: Predictions, samples: slice) -> Inputs:
        """Return the inputs of a chunk."""
        given, target, groups = self.inputs, self.inputs.target, self.inputs.groups
        if target is not None:
            scores = None if target.scores is None else target.scores[samples]
            target = Target(target.decisions[samples], scores)
        if groups is not None:
            groups = replace(groups, codes=groups.codes[samples])
        y, w = given.y, given.weights
        return Inputs(view, target, None if y is None else y[samples], groups, None if w is None else w[samples])

    def ask(self, part: Inputs, samples: slice, *, matched: bool = False) -> Asked:
        """Return what the metrics need of a chunk."""
        decisions = None if self.decisions is None else self.decisions[samples]
        return ask(
            part,
            self.names,
            decisions,
            capacity=self.capacity,
            threshold=self.threshold,
            ddof=self.ddof,
            matched=matched,
        )

    def differs_in(self, other: Settings) -> list[str]:
        """Name the settings that are not the same."""
        mine, theirs, facts = self.arrays(), other.arrays(), other.facts()
        names = [name for name, value in self.facts().items() if facts[name] != value]
        for name in sorted({*mine, *theirs} - set(names)):
            if name not in mine or name not in theirs or not np.array_equal(mine[name], theirs[name]):
                names.append(name)
        return names or ["dtypes"]


def settings_of(
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
) -> Settings:
    """Check everything; see :class:`rashomon_core.MultiplicityAccumulator`."""
    names = metric_names(metrics)
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    for value, name in ((n_models, "n_models"), (n_samples, "n_samples"), (n_classes, "n_classes")):
        if value < 1:
            raise UsageError(f"{name}={value}. Fix: at least 1")
    shape = (n_models, n_samples) if kind == "labels" else (n_models, n_samples, n_classes)
    view = Predictions.from_source(
        Shape(shape, np.int64 if kind == "labels" else np.float32),
        kind=kind,
        n_classes=n_classes,
        model_ids=model_ids,
        class_names=class_names,
    )
    check_settings(view, threshold=threshold, ddof=ddof, positive=positive if n_classes > 1 else 0, missing=missing)
    answers = None if target is None else as_target(_own(target), view, threshold=threshold)
    truth = None if y is None else as_decisions(_own(y), n_samples, n_classes, "y", view.class_names)
    inputs = Inputs(
        view,
        answers,
        truth,
        None if groups is None else as_groups(groups, n_samples, missing=missing),
        as_weights(_own(sample_weight), n_samples),
    )
    whole_number = isinstance(reference, (int, np.integer)) and not isinstance(reference, bool)
    if whole_number or (isinstance(reference, str) and reference not in ("target", "labels")):
        raise UsageError(
            f"reference {reference!r} is neither 'target' nor 'labels', and the decisions of a model come only with "
            "its chunks. Fix: give decisions as an array"
        )
    if delta is not None:
        if not (delta >= 0 and np.isfinite(delta)):
            raise UsageError(f"delta={delta} must be finite and not negative")
        if kind == "labels" or n_classes != 2 or answers is None:
            raise UsageError("delta metrics compare scores of two classes with those of a target. Fix: give target=")
    reference_name, _, decisions = as_reference(_own(reference), view, answers, truth)
    return Settings(
        n_models=n_models,
        n_samples=n_samples,
        n_classes=n_classes,
        kind=kind,
        names=names,
        inputs=inputs,
        reference_name=reference_name,
        decisions=decisions,
        positive=positive,
        threshold=threshold,
        ddof=ddof,
        pairs=bool(pairs),
        model_ids=None if model_ids is None else view.model_ids,
        capacity=CapacityRule(tol=capacity_tol),
        delta=None if delta is None else float(delta),
    )


def saved_settings(facts: dict[str, Any], arrays: dict[str, Array]) -> Settings:
    """Return settings from what :meth:`Settings.facts` and :meth:`Settings.arrays` returned."""
    plain = dict(facts)
    named, groups = plain.pop("groups"), None
    if named is not None:
        parts = tuple(Column(p["name"], tuple(p["names"]), np.array(p["of"], dtype=np.int64)) for p in named["parts"])
        groups = Groups(arrays["groups"], tuple(named["names"]), tuple(named["columns"]), parts)
    name = plain.pop("reference")
    sizes = [plain.pop(size) for size in ("n_models", "n_samples", "n_classes")]
    made = settings_of(
        *sizes,
        **plain,
        reference=arrays["reference"] if name == "array" else name,
        target=arrays.get("target_scores", arrays.get("target")),
        y=arrays.get("y"),
        groups=groups,
        sample_weight=arrays.get("sample_weight"),
    )
    if "target" in arrays:  # decisions of scores as they were
        target = Target(arrays["target"], arrays.get("target_scores"))
        made = replace(made, inputs=replace(made.inputs, target=target))
        made = replace(made, decisions=target.decisions) if name == "target" else made
    return made


def _own(given: Any) -> Any:
    """Return a copy of an array: it is kept from call to call."""
    if isinstance(given, np.ndarray):
        return given.copy()
    return given
