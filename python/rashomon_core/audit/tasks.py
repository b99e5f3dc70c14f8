"""What worker processes do for an audit: fit, explore, predict, commit. One item, one file, nothing shared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, RashomonError
from rashomon_core.exploration.retraining import Candidate, fit_candidate
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.recipes import Recipe
from rashomon_core.extraction.rows import take
from rashomon_core.extraction.surrogates import fit_surrogate
from rashomon_core.workers import one_thread

from .folder import commit

__all__ = ["Item", "Job", "narrow", "work"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Item:
    """One task.

    Attributes
    ----------
    name : str
        File name of what it commits.
    method : str
        "retraining", or the name of an exploration, or "baseline".
    budget : int
        Charged answers of its checkpoint; 0 for baselines.
    candidate : Candidate
    settings : dict
        Of the exploration.
    """

    name: str
    method: str
    budget: int
    candidate: Candidate
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What all tasks of one audit share.

    Attributes
    ----------
    X, answers : what was asked, in order, and what was answered
    trained_on : dict
        Budget -> number of answers, from the first, that its surrogates learn from.
    test : container
        Selection rows, evaluation rows and synthetic points, in this order: what is predicted.
    selected : dict
        Budget -> number of selection rows, from the first, that select its members.
    selection : Answers
        Answers to the selection rows.
    target_X, target_y : training data of the target, for baselines
    """

    folder: str
    seed: int
    n_classes: int
    X: Any
    answers: Answers
    trained_on: dict[int, int]
    test: Any
    selected: dict[int, int]
    selection: Answers
    selection_X: Any
    target_X: Any = None
    target_y: Array | None = None
    epsilon: float = 0.0

    def training(self, budget: int) -> tuple[Any, Answers]:
        """Return what the surrogates of a checkpoint learn from."""
        n = self.trained_on[budget]
        return take(self.X, slice(0, n)), self.answers.take(slice(0, n))


def work(job: Job, item: Item) -> str:
    """Do one task and commit it; return its name.

    A model that cannot be fitted is a finding, not the end of an audit: it is committed as a failure, with the
    reason. Too few answers are the end.
    """
    started = time.perf_counter()
    file = Path(job.folder) / "work" / f"{item.name}.npy"
    torch_first(item.candidate.recipe)
    try:
        with one_thread():
            ids, scores, facts = _METHODS[item.method](job, item)
    except (AnswersError, MemoryError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, RashomonError) else f"{type(error).__name__}: {error}"
        ids, facts = [], {"failed": text}
        scores = np.zeros((0, len(job.test), job.n_classes))
    commit(file, narrow(scores), {"ids": ids, **facts})
    (file.parent / f"{item.name}.seconds").write_text(f"{time.perf_counter() - started:.3f}\n", encoding="ascii")
    return item.name


def torch_first(recipe: Recipe) -> None:
    """Load torch before inner threads are pinned, for recipes that need it: pinning cannot reach what comes later."""
    if recipe.needs_torch:
        import torch  # noqa: F401


def narrow(scores: Array) -> Array:
    """Return scores as float32 whose decisions (argmax, ties to the lowest index) are those of the float64 ones."""
    best = scores.argmax(axis=-1)
    small = scores.astype(np.float32)
    moved = np.nonzero(small.argmax(axis=-1) != best)
    for where in zip(*moved, strict=True):
        own = int(best[where])
        small[(*where, own)] = np.nextafter(small[where].max(), np.float32(2))
    return small


_Found = tuple[list[str], Array, dict[str, Any]]


def _retrain(job: Job, item: Item) -> _Found:
    X, answers = job.training(item.budget)
    model = fit_candidate(item.candidate, X, answers, seed=job.seed)
    return [item.candidate.id], model.predict_proba(job.test)[None], {"notes": list(model.notes)}


def _baseline(job: Job, item: Item) -> _Found:
    """Train the target's own recipe anew on the target's own data."""
    assert job.target_y is not None
    rows = item.settings["rows"]
    X, y = (job.target_X, job.target_y) if rows is None else (take(job.target_X, rows), job.target_y[rows])
    model = fit_surrogate(item.candidate.recipe, X, Answers.of_labels(y, job.n_classes), seed=item.settings["seed"])
    return [item.name], model.predict_proba(job.test)[None], {"notes": list(model.notes)}


_METHODS: dict[str, Callable[[Job, Item], _Found]] = {
    "retraining": _retrain,
    "baseline": _baseline,
}
