"""Finds and measures the Rashomon set of surrogate models.

>>> import rashomon_core as rc
>>> rc.ambiguity([[0, 1, 1, 0], [0, 1, 0, 0]], [0, 1, 1, 1])
0.5

Names load what they need when they are first used (PEP 562): importing the package costs little more than NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._cpu import isa_active, isa_available, isa_select
    from .accumulate import MultiplicityAccumulator
    from .audit import Audit, run_audit
    from .curve_results import Bootstrap, EpsilonCurves, Interval, SizeCurves
    from .distributed import profile_distributed
    from .errors import (
        AnswersError,
        InvalidInputError,
        LabelTypeError,
        MissingDependencyError,
        OutputError,
        QueryBudgetExceeded,
        RashomonError,
        SelectedOnEvaluationWarning,
        TargetError,
        UncertifiedError,
        UncertifiedWarning,
        UsageError,
    )
    from .extraction.oracle import Oracle
    from .extraction.target import Target
    from .group_results import GroupMultiplicity, GroupRates
    from .intervals import bootstrap
    from .metrics.by_group import multiplicity_by_group
    from .metrics.capacity import channel_capacity, rashomon_capacity
    from .metrics.curves import epsilon_curves
    from .metrics.decisions import (
        ambiguity,
        ambiguous_samples,
        correct_fidelity,
        decide,
        disagreement_rate,
        discrepancy,
        fidelity,
        pairwise_ambiguity,
        pairwise_discrepancy,
        self_consistency,
        viable_decisions,
        votes,
    )
    from .metrics.groups import fairness_over_set, group_rates
    from .metrics.joint import joint_capacity
    from .metrics.scores import (
        cross_entropy,
        delta_ambiguity,
        delta_discrepancy,
        kl_divergence,
        log_loss,
        score_variance,
        total_variation,
        viable_prediction_range,
    )
    from .metrics.sets import (
        rashomon_mask,
        size_matched_ambiguity,
        size_matched_max,
        size_matched_pairwise_ambiguity,
    )
    from .metrics.sizes import size_curves
    from .pairwise import pairwise_disagreement
    from .predict import predict_all
    from .predictions import Predictions
    from .profiling import profile
    from .results import CapacityResult, ChannelCapacity, JointCapacity, Profile
    from .store import Checkpoint, open_predictions, save_predictions

__version__ = "0.1.0"

_HOME = {
    "_cpu": ("isa_active", "isa_available", "isa_select"),
    "accumulate": ("MultiplicityAccumulator",),
    "audit": ("Audit", "run_audit"),
    "curve_results": ("Bootstrap", "EpsilonCurves", "Interval", "SizeCurves"),
    "distributed": ("profile_distributed",),
    "errors": (
        "AnswersError",
        "InvalidInputError",
        "LabelTypeError",
        "MissingDependencyError",
        "OutputError",
        "QueryBudgetExceeded",
        "RashomonError",
        "SelectedOnEvaluationWarning",
        "TargetError",
        "UncertifiedError",
        "UncertifiedWarning",
        "UsageError",
    ),
    "extraction.oracle": ("Oracle",),
    "extraction.target": ("Target",),
    "metrics.by_group": ("multiplicity_by_group",),
    "intervals": ("bootstrap",),
    "metrics.capacity": ("channel_capacity", "rashomon_capacity"),
    "metrics.curves": ("epsilon_curves",),
    "metrics.joint": ("joint_capacity",),
    "metrics.decisions": (
        "ambiguity",
        "ambiguous_samples",
        "correct_fidelity",
        "decide",
        "disagreement_rate",
        "discrepancy",
        "fidelity",
        "pairwise_ambiguity",
        "pairwise_discrepancy",
        "self_consistency",
        "viable_decisions",
        "votes",
    ),
    "metrics.groups": ("fairness_over_set", "group_rates"),
    "metrics.scores": (
        "cross_entropy",
        "delta_ambiguity",
        "delta_discrepancy",
        "kl_divergence",
        "log_loss",
        "score_variance",
        "total_variation",
        "viable_prediction_range",
    ),
    "metrics.sets": (
        "rashomon_mask",
        "size_matched_ambiguity",
        "size_matched_max",
        "size_matched_pairwise_ambiguity",
    ),
    "metrics.sizes": ("size_curves",),
    "pairwise": ("pairwise_disagreement",),
    "predict": ("predict_all",),
    "predictions": ("Predictions",),
    "profiling": ("profile",),
    "group_results": ("GroupMultiplicity", "GroupRates"),
    "results": ("CapacityResult", "ChannelCapacity", "JointCapacity", "Profile"),
    "store": ("Checkpoint", "open_predictions", "save_predictions"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'rashomon_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rashomon_core.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return __all__
