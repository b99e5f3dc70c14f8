"""The inputs of a profile, checked together: predictions, target, labels, groups and weights on the same samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .predictions import Predictions
from .vectors import Groups, Target, as_decisions, as_groups, as_target, as_weights

__all__ = ["Inputs", "check_inputs"]

Array = npt.NDArray[Any]


@dataclass
class Inputs:
    """Checked inputs on one set of samples."""

    view: Predictions
    target: Target | None
    y: Array | None
    groups: Groups | None
    weights: Array | None

    def on(self, samples: Array | None, models: Array | None = None) -> Inputs:
        """Restrict to samples and models (masks or None)."""
        if samples is None and models is None:
            return self
        view = self.view.take(models, samples)
        if samples is None:
            return Inputs(view, self.target, self.y, self.groups, self.weights)
        target = None
        if self.target is not None:
            scores = None if self.target.scores is None else self.target.scores[samples]
            target = Target(self.target.decisions[samples], scores)
        groups = None
        if self.groups is not None:
            groups = replace(self.groups, codes=np.ascontiguousarray(self.groups.codes[samples]))
        weights = _pick(self.weights, samples)
        if weights is not None and not weights.any():
            raise UsageError("all sample weights of a split are zero. Fix: choose another selection")
        return Inputs(view, target, _pick(self.y, samples), groups, weights)

    @property
    def target_scores(self) -> Array | None:
        """The target's probabilities, (N, C) or (N,) P(class 1), when it gave any."""
        return None if self.target is None else self.target.scores

    @property
    def target_labels(self) -> Array | None:
        """The target's decisions (N,), when it gave no probabilities: they count as one-hot rows."""
        return None if self.target is None or self.target.scores is not None else self.target.decisions


def _pick(x: Array | None, samples: Array) -> Array | None:
    return None if x is None else np.ascontiguousarray(x[samples])


def check_inputs(
    predictions: object,
    target: object,
    y: object,
    groups: object,
    missing: str,
    sample_weight: object,
    threshold: float | None,
) -> Inputs:
    """Check everything against the predictions; labels without a stated number of classes get one that covers all."""
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
    return Inputs(
        view,
        None if target is None else as_target(target, view, threshold=threshold),
        None if y is None else as_decisions(y, n, view.n_classes, "y", view.class_names),
        None if groups is None else as_groups(groups, n, missing=missing),
        as_weights(sample_weight, n),
    )
