"""Settings of the explorations beside retraining: what a configuration may say, and what holds if it says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rashomon_core.errors import UsageError, suggestion
from rashomon_core.exploration.retraining import Candidate
from rashomon_core.extraction.recipes import Recipe, make_recipe

from .arena import Arena
from .config import Config

__all__ = ["SETTINGS", "plan_explorations"]

#: By method; ``base`` null is decided by the kind of data, ``epsilon`` null is the audit's own.
SETTINGS: dict[str, dict[str, Any]] = {
    "dropout": {"base": None, "kind": "bernoulli", "rates": [0.01, 0.02, 0.05, 0.1, 0.2], "models": 4},
    "weight_perturbation": {
        "base": None,
        "epsilon": None,
        "loss": "fidelity",
        "samples": 5,
        "classes": True,
        "gap": True,
        "steps": 50,
        "lr": 0.01,
    },
    "convex": {"base": None, "epsilon": 0.01, "l2": 0.001, "samples": 10, "gap": True},
}
_BASES: dict[str, dict[str, str]] = {
    "dropout": {"tabular": "mlp", "image": "cnn", "text": "tfidf_mlp"},
    "weight_perturbation": {"tabular": "torch_mlp", "image": "cnn", "text": "embedding_mlp"},
    "convex": {"tabular": "logistic", "image": "image_logistic", "text": "embedding_logistic"},
}


def plan_explorations(config: Config, arena: Arena) -> list[tuple[str, Candidate, dict[str, Any]]]:
    """Return method, base and settings of every exploration that the configuration asks for.

    Raises
    ------
    UsageError
        An unknown setting (the nearest is suggested), or one that makes no sense.
    """
    found = []
    for method, defaults in SETTINGS.items():
        asked = config["exploration"][method]
        if asked is None or asked is False:
            continue
        asked = {} if asked is True else asked
        if not isinstance(asked, Mapping):
            raise UsageError(f"exploration.{method} takes {', '.join(defaults)}, not {asked!r}")
        for key in asked:
            if key not in defaults:
                raise UsageError(f"unknown key {key!r} in exploration.{method}{suggestion(key, defaults)}")
        settings = {**defaults, **asked}
        recipe = make_recipe(_BASES[method][arena.kind] if settings["base"] is None else settings["base"])
        if settings.get("epsilon", 0.0) is None:
            settings["epsilon"] = config["epsilon"]
        if method == "dropout" and not isinstance(settings["rates"], list):
            settings["rates"] = [settings["rates"]]
        for key in defaults:
            _check(method, key, settings)
        if not _fits(method, recipe):
            raise UsageError(f"exploration.{method}: its base must be {_WANTED[method]}, and {recipe.family} is none")
        if method == "weight_perturbation":
            settings["positive"] = arena.positive(config["positive"])
        if method == "convex" and arena.n_classes != 2:
            raise UsageError(f"exploration.convex: linear sets are for two classes, not {arena.n_classes}")
        settings["base"] = recipe.to_dict()
        found.append((method, Candidate(f"{method}-{recipe.name}", recipe, 0), settings))
    return found


_WANTED = {"dropout": "a network", "weight_perturbation": "a torch network", "convex": "a logistic regression"}
_CHOICES = {"kind": ("bernoulli", "gaussian"), "loss": ("fidelity", "cross_entropy")}
_LEAST = {"models": 1, "steps": 1, "samples": 0}


def _fits(method: str, recipe: Recipe) -> bool:
    """Return whether a method can start from surrogates of this recipe."""
    if method == "convex":
        return recipe.family.endswith("logistic")
    return recipe.needs_torch or (method == "dropout" and recipe.family.endswith("mlp"))


def _check(method: str, key: str, settings: Mapping[str, Any]) -> None:
    """Refuse a value that the method would refuse: before the first query, and not as a candidate that failed."""
    value, name = settings[key], f"exploration.{method}.{key}"
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise UsageError(f"{name}={value!r} is not one of {', '.join(_CHOICES[key])}")
    elif key in _LEAST:
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[key]:
            raise UsageError(f"{name}={value!r}: a whole number, {_LEAST[key]} or more")
    elif key in ("epsilon", "l2", "lr"):
        if not _number(value) or (key == "lr" and value == 0):
            raise UsageError(f"{name}={value!r}: a number {'above 0' if key == 'lr' else 'of 0 or more'}")
    elif key in ("classes", "gap"):
        if not isinstance(value, bool):
            raise UsageError(f"{name}={value!r}: true or false")
    elif key == "rates":
        below = 1.0 if settings["kind"] == "bernoulli" else math.inf
        single = [r for rate in value for r in (rate.values() if isinstance(rate, Mapping) else [rate])]
        if not single or not all(_number(rate) and rate < below for rate in single):
            raise UsageError(f"{name}={value!r}: numbers of 0 or more{', below 1' if below == 1 else ''}")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
