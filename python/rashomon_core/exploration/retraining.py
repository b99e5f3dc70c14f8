"""Exploration by retraining: families, hyper-parameters, seeds and bootstraps of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.recipes import Recipe, make_recipe
from rashomon_core.extraction.rows import as_rows, take
from rashomon_core.extraction.surrogates import Surrogate, fit_surrogate

__all__ = ["Candidate", "bootstrap_rows", "candidate_seed", "fit_candidate", "plan_retraining"]

Array = npt.NDArray[Any]
Root = int | Sequence[int] | np.random.SeedSequence

_REDRAWS = 100


@dataclass(frozen=True)
class Candidate:
    """One surrogate that is to be trained.

    Attributes
    ----------
    id : str
        Such as "forest-depth8-soft-boot02-seed01": the recipe's name, the bootstrap if there is one, the seed.
    recipe : Recipe
    seed : int
        Number of the seed, from 0.
    bootstrap : int or None
        Number of the bootstrap, from 0; None: the answers as they are.
    """

    id: str
    recipe: Recipe
    seed: int
    bootstrap: int | None = None


def plan_retraining(
    recipes: Iterable[Recipe | str | Mapping[str, Any]],
    *,
    seeds: int = 1,
    bootstraps: int = 0,
    original: bool = True,
    repeat: bool = False,
) -> tuple[Candidate, ...]:
    """Return what is to be trained: every recipe on every resample with every seed.

    Parameters
    ----------
    recipes : iterable of Recipe, or of what ``make_recipe`` takes
        Their names must differ.
    seeds : int
        Seeds for each recipe and resample.
    bootstraps : int
        Resamples of the answers with replacement.
    original : bool
        Whether the answers as they are count as a resample, too.
    repeat : bool
        Recipes whose fit does not depend on the seed (kNN, logistic regression ...) get one seed on each resample
        unless this is set: the others would be the same model again.

    Returns
    -------
    tuple of Candidate

    Raises
    ------
    UsageError
        For counts that leave nothing to train, and for recipes of one name.

    Examples
    --------
    >>> from rashomon_core.exploration.retraining import plan_retraining
    >>> [c.id for c in plan_retraining(["tree", "knn"], seeds=2)]
    ['tree-hard-seed00', 'tree-hard-seed01', 'knn-hard-seed00']
    >>> [c.id for c in plan_retraining(["knn"], bootstraps=2, original=False)]
    ['knn-hard-boot00-seed00', 'knn-hard-boot01-seed00']
    """
    made = [make_recipe(recipe) for recipe in recipes]
    if not made:
        raise UsageError("a plan needs at least one recipe")
    if seeds < 1 or bootstraps < 0 or not (original or bootstraps):
        raise UsageError(f"a plan needs seeds >= 1 and a resample; here seeds={seeds}, bootstraps={bootstraps}")
    names = [recipe.name for recipe in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several recipes have the name {twice[0]!r}. Fix: give them names of their own")
    resamples: list[int | None] = [None] if original else []
    resamples += range(bootstraps)
    plan = []
    for recipe in made:
        for boot in resamples:
            for seed in range(seeds if recipe.seeded or repeat else 1):
                middle = "" if boot is None else f"-boot{boot:02d}"
                plan.append(Candidate(f"{recipe.name}{middle}-seed{seed:02d}", recipe, seed, boot))
    return tuple(plan)


def candidate_seed(candidate_id: str, root: Root) -> np.random.SeedSequence:
    """Return the randomness of one candidate: a function of the root and the id, and of nothing else.

    Hence a candidate is the same model whatever else is in the plan, in whatever order and process it is trained.

    Examples
    --------
    >>> from rashomon_core.exploration.retraining import candidate_seed
    >>> candidate_seed("knn-hard-seed00", 7).generate_state(1) == candidate_seed("knn-hard-seed00", 7).generate_state(1)
    array([ True])
    """
    base = root if isinstance(root, np.random.SeedSequence) else np.random.SeedSequence(root)
    digest = hashlib.blake2b(candidate_id.encode(), digest_size=16).digest()
    words = [int(w) for w in base.generate_state(4)] + [int(w) for w in np.frombuffer(digest, dtype="<u4")]
    return np.random.SeedSequence(words)


def bootstrap_rows(labels: Array, rng: np.random.Generator) -> Array:
    """Return n row numbers drawn with replacement, at least one of each class in ``labels``.

    Draws that miss a class are drawn again, up to 100 times; after that (many classes with a single row) one row of
    each class is taken and the rest drawn freely.

    Parameters
    ----------
    labels : (n,) integers
    rng : Generator

    Returns
    -------
    (n,) int64
    """
    n, present = len(labels), np.unique(labels)
    for _ in range(_REDRAWS):
        rows = rng.integers(0, n, n)
        if len(np.unique(labels[rows])) == len(present):
            return rows
    sure = [int(rng.choice(np.flatnonzero(labels == label))) for label in present]
    return np.concatenate([np.array(sure, dtype=np.int64), rng.integers(0, n, n - len(sure))])


def fit_candidate(candidate: Candidate, X: Any, answers: Answers, *, seed: Root) -> Surrogate:
    """Train one candidate.

    Parameters
    ----------
    candidate : Candidate
    X : container of n rows
    answers : Answers, n of them
    seed : int, sequence of int or SeedSequence
        Root of the plan; see :func:`candidate_seed`.

    Returns
    -------
    Surrogate

    Raises
    ------
    AnswersError, InvalidInputError, MissingDependencyError
        As :func:`~rashomon_core.extraction.surrogates.fit_surrogate`.
    """
    draws, fit = candidate_seed(candidate.id, seed).spawn(2)
    if candidate.bootstrap is not None and len(answers) > 0:
        X = as_rows(X)
        rows = bootstrap_rows(answers.labels, np.random.default_rng(draws))
        X, answers = take(X, rows), answers.take(rows)
    return fit_surrogate(candidate.recipe, X, answers, seed=int(fit.generate_state(1, np.uint64)[0]))
