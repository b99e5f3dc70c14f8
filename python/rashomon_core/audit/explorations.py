"""Settings of the explorations beside retraining: what a configuration may say, and what holds if it says nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rashomon_core.errors import UsageError
from rashomon_core.exploration.retraining import Candidate
from rashomon_core.extraction.recipes import make_recipe

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
                near = difflib.get_close_matches(str(key), list(defaults), 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(defaults)}"
                raise UsageError(f"unknown key {key!r} in exploration.{method}{hint}")
        settings = {**defaults, **asked}
        recipe = make_recipe(_BASES[method][arena.kind] if settings["base"] is None else settings["base"])
        if settings.get("epsilon", 0.0) is None:
            settings["epsilon"] = config["epsilon"]
        if method == "dropout":
            if isinstance(settings["rates"], (int, float)):
                settings["rates"] = [settings["rates"]]
        else:
            _whole(method, settings, "samples")
        if method == "weight_perturbation":
            settings["positive"] = arena.positive(config["positive"])
            if not recipe.needs_torch:
                raise UsageError(f"exploration.{method}: its base must be a torch network, and {recipe.family} is none")
        if method == "convex" and arena.n_classes != 2:
            raise UsageError(f"exploration.convex: linear sets are for two classes, not {arena.n_classes}")
        settings["base"] = recipe.to_dict()
        found.append((method, Candidate(f"{method}-{recipe.name}", recipe, 0), settings))
    return found


def _whole(method: str, settings: dict[str, Any], key: str) -> None:
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"exploration.{method}.{key}={value!r}: a whole number, 0 or more")
