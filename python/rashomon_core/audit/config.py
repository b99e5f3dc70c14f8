"""What an audit is asked to do: one tree of plain values, from a file, from flags or from Python, checked once."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError, suggestion
from rashomon_core.extraction.oracle import CACHES
from rashomon_core.group_results import FAIRNESS
from rashomon_core.profiling import metric_names

__all__ = ["DEFAULTS", "Config", "make_config", "read_config"]

#: Every key there is, with what it is when nothing is said. ``null`` means: decided from the data.
DEFAULTS: dict[str, Any] = {
    # the arena
    "data": "arrests",  # a name, or {path, label, groups, drop} of the user's own table
    "groups": None,  # protected columns; several are crossed; null: the first one of the data
    "drop": [],  # columns that neither the target nor a surrogate sees
    "target": None,  # a recipe to train, or {python: "module:object"}; null: by the kind of data
    "split": {"target": 0.4, "pool": 0.3, "evaluation": 0.3},
    # the gate
    "answer": "label",  # label, proba, topk:k, round:d, logits
    "defences": [],
    "cache": "free",
    "budget": [100, 250, 1000],
    # the attacker
    "strategy": "natural",
    "surrogates": None,  # recipes; null: the default pool for the kind of data
    "exploration": {
        "retraining": {"seeds": 1, "bootstraps": 4},
        "dropout": None,  # {} or true: with the settings of audit/explorations.py
        "weight_perturbation": None,
        "convex": None,
    },
    # the set
    "selection": {"share": 0.3, "charged": True},
    "epsilon": 0.03,
    "relative": False,
    "loss": "fidelity",
    "size": None,  # of size-matched values; null: the size of the smallest set
    # the measurement
    "metrics": "all",
    "positive": None,
    "missing": "group",
    "fairness_threshold": None,
    "skip_undefined": False,  # gaps over the groups where they are defined
    "capacity_tol": 1e-6,
    "bootstrap": None,  # replicates of the evaluation samples, for intervals
    "interval": 0.95,  # their level
    "curves": False,  # over epsilon and over the size of the set
    "synthetic": 2000,  # uniform test points
    "seed": 0,
}
#: Keys whose value may be a tree of their own kind: keys inside are checked by who reads them.
_FREE = ("data", "target", "strategy", "surrogates", "fairness_threshold", "defences")
#: Keys whose values may hold Python objects.
OBJECTS = ("surrogates", "defences", "strategy")
LOSSES = ("fidelity", "cross_entropy")


class Config(Mapping[str, Any]):
    """A checked configuration: a read-only mapping of plain values with the keys of :data:`DEFAULTS`.

    Python objects that were given (estimators as surrogates, defences, a strategy) stand in it as their description;
    :meth:`given` returns themselves.
    """

    def __init__(self, values: Mapping[str, Any], objects: Mapping[str, Any] | None = None) -> None:
        self._values, self._objects = dict(values), dict(objects or {})

    def given(self, key: str) -> Any:
        """Return a value as it was given, with its Python objects."""
        return self._objects.get(key, self._values[key])

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Config {self.digest[:8]}>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return copy.deepcopy(self._values)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name this configuration."""
        text = json.dumps(self._values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budgets, ascending."""
        return tuple(self._values["budget"])

    def parts(self, budget: int) -> tuple[int, int]:
        """Return (answers to train on, answers that select) of a budget."""
        share = self._values["selection"]["share"]
        chosen = round(share * budget)
        return (budget - chosen, chosen) if self._values["selection"]["charged"] else (budget, chosen)


def make_config(values: Mapping[str, Any] | None = None, **more: Any) -> Config:
    """Return a checked configuration: what is given, over the defaults.

    Parameters
    ----------
    values, more
        Keys of :data:`DEFAULTS`; trees (``selection``, ``exploration``, ``split``) are merged key by key.

    Raises
    ------
    UsageError
        An unknown key (the nearest one is suggested), or a value that makes no sense.

    Examples
    --------
    >>> from rashomon_core.audit.config import make_config
    >>> make_config(budget="100,250", selection=0.2)["budget"]
    [100, 250]
    >>> make_config(epsilonn=0.1)
    Traceback (most recent call last):
    ...
    rashomon_core.errors.UsageError: unknown key 'epsilonn' in the configuration; did you mean 'epsilon'?
    """
    merged = copy.deepcopy(DEFAULTS)
    objects: dict[str, Any] = {}
    if isinstance(values, Config):
        objects.update(values._objects)
    for source in (values or {}, more):
        for key, value in source.items():
            _known(key, DEFAULTS, "the configuration")
            if key in OBJECTS:
                plain = _plain(value)
                if plain != value:
                    objects[key], value = value, plain
                elif not isinstance(source, Config):
                    objects.pop(key, None)
            merged[key] = _merged(key, merged[key], value)
    return Config(_checked(merged), objects)


def _plain(value: Any) -> Any:
    """Return a value with its Python objects replaced by what they say of themselves."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if hasattr(value, "get_params"):  # an estimator: its text has its parameters
        return {"object": " ".join(repr(value).split())}
    own = {k: v for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, (bool, int, float, str))}
    return {"object": getattr(value, "__qualname__", type(value).__qualname__), **own}


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a configuration file, YAML or JSON, without checking its keys.

    Raises
    ------
    InvalidInputError
        The file cannot be read, or is not one mapping.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("PyYAML", "reading a configuration file", "audit") from error
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"the file cannot be read ({error.strerror})", file=str(path)) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"this is not YAML: {error}", file=str(path)) from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InvalidInputError("a configuration is a mapping of keys to values", file=str(path))
    return values


def _known(key: str, keys: Mapping[str, Any], where: str) -> None:
    if key not in keys:
        raise UsageError(f"unknown key {key!r} in {where}{suggestion(key, keys)}")


def _merged(key: str, before: Any, value: Any) -> Any:
    if key == "selection" and not isinstance(value, Mapping):
        value = {"share": value}
    if key == "budget" and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if key == "budget" and not isinstance(value, (list, tuple)):
        value = [value]
    if key in ("groups", "drop", "defences", "surrogates") and isinstance(value, str):
        value = [part.strip() for part in value.split("," if key in ("groups", "drop") else ";") if part.strip()]
    if isinstance(before, dict) and key not in _FREE:
        if not isinstance(value, Mapping):
            raise UsageError(f"{key} takes {', '.join(before)}, not {value!r}")
        for inner in value:
            _known(inner, before, key)
        return {**before, **copy.deepcopy(dict(value))}
    return copy.deepcopy(value)


def _checked(v: dict[str, Any]) -> dict[str, Any]:
    v["data"] = _source(v["data"])
    v["budget"] = _budgets(v["budget"])
    v["epsilon"] = _number("epsilon", v["epsilon"], 0, math.inf)
    v["capacity_tol"] = _number("capacity_tol", v["capacity_tol"], 0, math.inf)
    v["seed"] = _integer("seed", v["seed"], 0)
    v["synthetic"] = _integer("synthetic", v["synthetic"], 0)
    if v["size"] is not None:
        v["size"] = _integer("size", v["size"], 1)
    for name in ("relative", "skip_undefined", "curves"):
        v[name] = _flag(name, v[name])
    if v["bootstrap"] is not None:
        v["bootstrap"] = _integer("bootstrap", v["bootstrap"], 2)
    v["interval"] = _number("interval", v["interval"], 0, 1)
    if v["interval"] in (0, 1):
        raise UsageError(f"interval={v['interval']}: a level between 0 and 1, such as .95")
    v["selection"]["charged"] = _flag("selection.charged", v["selection"]["charged"])
    share = v["selection"]["share"] = _number("selection.share", v["selection"]["share"], 0, 10)
    if share == 0 or (v["selection"]["charged"] and share >= 1):
        raise UsageError(
            f"selection.share={share}: a share of the budget between 0 and 1 (with charged: false it may be larger)"
        )
    for name, part in v["split"].items():
        v["split"][name] = _number(f"split.{name}", part, 0, 1)
    if not math.isclose(sum(v["split"].values()), 1.0, abs_tol=1e-9):
        raise UsageError(f"split: the shares {v['split']} do not sum to 1")
    for name in ("pool", "evaluation"):
        if v["split"][name] == 0:
            raise UsageError(f"split.{name}=0: no samples would be left there")
    if v["loss"] not in LOSSES:
        raise UsageError(f"loss={v['loss']!r} is not one of {', '.join(LOSSES)}")
    if v["missing"] not in ("refuse", "group"):
        raise UsageError(f"missing={v['missing']!r}. Fix: refuse or group")
    for key in ("drop", "defences"):
        if not isinstance(v[key], list):
            raise UsageError(f"{key} is a list, not {v[key]!r}")
    for key in ("groups", "surrogates"):
        if v[key] is not None and not isinstance(v[key], list):
            raise UsageError(f"{key} is a list, not {v[key]!r}")
    if not isinstance(v["answer"], str):
        raise UsageError(f"answer={v['answer']!r}: label, proba, topk:k, round:d or logits")
    if v["cache"] not in CACHES:
        raise UsageError(f"cache={v['cache']!r} is not one of {', '.join(CACHES)}")
    if not isinstance(v["metrics"], (str, list)):
        raise UsageError(f"metrics={v['metrics']!r}: all, pass, or a list of names")
    metric_names(v["metrics"])
    _thresholds(v["fairness_threshold"])
    retraining = v["exploration"]["retraining"]
    if retraining is None:
        retraining = {"seeds": 1, "bootstraps": 0}
    if not isinstance(retraining, Mapping):
        raise UsageError(f"exploration.retraining takes seeds and bootstraps, not {retraining!r}")
    for inner in retraining:
        _known(inner, {"seeds": 1, "bootstraps": 0}, "exploration.retraining")
    v["exploration"]["retraining"] = {
        "seeds": _integer("exploration.retraining.seeds", retraining.get("seeds", 1), 1),
        "bootstraps": _integer("exploration.retraining.bootstraps", retraining.get("bootstraps", 0), 0),
    }
    try:
        json.dumps(v, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the configuration holds something that is not plain data: {error}") from None
    return v


def _source(source: Any) -> Any:
    """Return where the data come from: a name, or a tree of path, label and columns."""
    if isinstance(source, str):
        return source
    if not isinstance(source, Mapping) or "path" not in source:
        raise UsageError(f"data={source!r}: a name, or path and label of a table")
    known = dict.fromkeys(("path", "label", "groups", "drop", "split_by"))
    found: dict[str, Any] = {}
    for key, value in source.items():
        _known(key, known, "data")
        if key in ("groups", "drop"):
            value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise UsageError(f"data.{key}={value!r}: a list of columns")
        elif not isinstance(value, str) and (key != "split_by" or value is not None):
            raise UsageError(f"data.{key}={value!r} is not a {'path' if key == 'path' else 'column'}; quote numbers")
        found[key] = value
    return found


def _thresholds(value: Any) -> None:
    """Refuse thresholds of fairness that are no numbers, or name no metric."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        _number("fairness_threshold", value, 0, math.inf)
        return
    known = {f"{name}_{form}": None for name in FAIRNESS for form in ("difference", "ratio")}
    for name, limit in value.items():
        _known(name, known, "fairness_threshold")
        _number(f"fairness_threshold.{name}", limit, 0, math.inf)


def _budgets(value: Sequence[Any]) -> list[int]:
    budgets = sorted({_integer("budget", b, 1) for b in value})
    if not budgets:
        raise UsageError("budget: at least one")
    return budgets


def _integer(name: str, value: Any, least: int) -> int:
    try:
        whole = int(value)
        if isinstance(value, bool) or whole != float(value):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"{name}={value!r} is not a whole number") from None
    if whole < least:
        raise UsageError(f"{name}={whole}: at least {least}")
    return whole


def _number(name: str, value: Any, least: float, most: float) -> float:
    try:
        number = float(value)
        if isinstance(value, bool):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"{name}={value!r} is not a number") from None
    if not (least <= number <= most and math.isfinite(number)):
        raise UsageError(f"{name}={number:g} is not between {least:g} and {most:g}")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name}={value!r}: true or false")
    return value
