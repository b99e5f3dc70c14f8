"""Ways to find members of the Rashomon set: retraining, dropout, weight perturbation, convex programs.

Each method makes models; which of them are in the Rashomon set is decided in :mod:`rashomon_core.metrics.sets` on the
selection split. torch, scikit-learn and cvxpy are imported when a method needs them.
"""

from __future__ import annotations

from .convex import LinearSet
from .dropout import DropoutExplorer
from .linear import LinearModel, Ranges
from .retraining import Candidate, fit_candidate, plan_retraining
from .weight_perturbation import Goal, Perturbed, explore, perturb

__all__ = [
    "Candidate",
    "DropoutExplorer",
    "Goal",
    "LinearModel",
    "LinearSet",
    "Perturbed",
    "Ranges",
    "explore",
    "fit_candidate",
    "perturb",
    "plan_retraining",
]
