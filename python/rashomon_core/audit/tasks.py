"""What worker processes do for an audit: fit, explore, predict, commit. One item, one file, nothing shared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, RashomonError, UsageError
from rashomon_core.exploration.retraining import Candidate, candidate_seed, fit_candidate
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.recipes import Recipe
from rashomon_core.extraction.rows import take
from rashomon_core.extraction.surrogates import Surrogate, fit_surrogate
from rashomon_core.workers import one_thread

from .embeddings import Texts, recall
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
    group_codes : (n,) int64
        Group of each evaluation row.
    texts : Texts, optional
        Where sentence embeddings are kept, when recipes learn from them.
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
    group_codes: Array
    texts: Texts | None = None
    target_X: Any = None
    target_y: Array | None = None

    @property
    def widest(self) -> int:
        """Number of selection rows in ``test``."""
        return len(self.selection)

    def largest_groups(self) -> list[int] | None:
        """Return the codes of the two largest groups, or None when there are fewer."""
        counts = np.bincount(self.group_codes)
        order = np.argsort(-counts, kind="stable")[:2]
        return sorted(order.tolist()) if len(order) == 2 and counts[order[1]] > 0 else None

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
    recall(job.texts)
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


def _base(job: Job, item: Item) -> tuple[Surrogate, Any, Any, Answers]:
    """Train the surrogate that an exploration starts from; return it, and rows as its model takes them."""
    X, answers = job.training(item.budget)
    base = fit_candidate(item.candidate, X, answers, seed=job.seed)
    if base.encoder is None:
        return base, X, job.test, answers
    return base, base.encoder.transform(X), base.encoder.transform(job.test), answers


def _spread(base: Surrogate, scores: Array) -> Array:
    """Put scores of the classes that the base knows, (M, N, k), among all classes, (M, N, C)."""
    if len(base.classes) == base.n_classes:
        return scores
    full = np.zeros((*scores.shape[:2], base.n_classes))
    full[:, :, base.classes] = scores
    return full


def _dropout(job: Job, item: Item) -> _Found:
    """Mask hidden units of a trained network, one mask per model."""
    from rashomon_core.exploration.dropout import DropoutExplorer

    base, _, test, _ = _base(job, item)
    settings = item.settings
    explorer = DropoutExplorer(
        _network(base),
        kind=settings["kind"],
        rates=settings["rates"],
        models_per_rate=settings["models"],
        seed=candidate_seed(f"{item.candidate.id}/dropout", job.seed),
    )
    scores = np.asarray(explorer.predict_proba(test, threads=1), dtype=np.float64)
    ids = [f"{item.candidate.id}/{name}" for name in explorer.model_ids]
    return ids, _spread(base, scores), {"notes": list(base.notes)}


def _perturb(job: Job, item: Item) -> _Found:
    """Push a network's weights towards samples, classes and a group gap until the loss leaves the set."""
    from rashomon_core.exploration.weight_perturbation import Goal, explore
    from rashomon_core.extraction.target import Target

    base, _, test, _ = _base(job, item)
    if len(base.classes) < base.n_classes:
        raise UsageError(f"the answers show {len(base.classes)} of {base.n_classes} classes: networks learned no more")
    settings, n, C = item.settings, job.selected[item.budget], job.n_classes
    first, last = job.widest, job.widest + len(job.group_codes)
    rng = np.random.default_rng(candidate_seed(f"{item.candidate.id}/samples", job.seed))
    own = test[first:last]
    goals: list[Goal] = []
    for i in sorted(rng.choice(len(own), min(settings["samples"], len(own)), replace=False).tolist()):
        goals += [Goal.sample(own[i], c, name=f"sample{i}-class{c}") for c in range(C)]
    if settings["classes"]:
        goals += [Goal.samples(own, c, name=f"all-class{c}") for c in range(C)]
    if settings["gap"]:
        two = job.largest_groups()
        if two is not None:
            inside = np.isin(job.group_codes, two)
            for code in two:
                name = f"gap-group{code}"
                codes = job.group_codes[inside]
                goals.append(Goal.gap(own[inside], codes, high=code, label=settings["positive"], name=name))
    found = explore(
        _network(base),
        test[:n],
        job.selection.soft()[:n],
        goals=goals,
        epsilon=settings["epsilon"],
        loss=settings["loss"],
        steps=settings["steps"],
        lr=settings["lr"],
    )
    scores = np.stack([Target.from_torch(p.module, n_classes=C).predict_proba(test) for p in found])
    ids = [f"{item.candidate.id}/awp:{p.name}" for p in found]
    return ids, scores, {"notes": [*base.notes, *(f"weight perturbation ended: {p.status}" for p in found)]}


def _linear(job: Job, item: Item) -> _Found:
    """Take the extremal logistic regressions of samples and of a group gap (two classes)."""
    from rashomon_core.exploration.convex import LinearSet

    base, X, test, answers = _base(job, item)
    if job.n_classes != 2:
        raise UsageError(f"linear sets are for two classes, and there are {job.n_classes}")
    settings = item.settings
    dense = [np.asarray(part.toarray() if hasattr(part, "toarray") else part) for part in (X, test)]
    first, last = job.widest, job.widest + len(job.group_codes)
    own = dense[1][first:last]
    near = LinearSet(dense[0], answers.soft()[:, 1], epsilon=settings["epsilon"], l2=settings["l2"])
    rng = np.random.default_rng(candidate_seed(f"{item.candidate.id}/samples", job.seed))
    near.range(own[np.sort(rng.choice(len(own), min(settings["samples"], len(own)), replace=False))])
    two = job.largest_groups() if settings["gap"] else None
    if two is not None:
        inside = np.isin(job.group_codes, two)
        near.gap_range(own[inside], job.group_codes[inside])
    members = near.members()
    scores = np.stack([m.predict_proba(dense[1]) for m in members])
    return [f"{item.candidate.id}/linear:{k}" for k in range(len(members))], scores, {"notes": list(base.notes)}


def _network(base: Surrogate) -> Any:
    return getattr(base.model, "module", base.model)


_METHODS: dict[str, Callable[[Job, Item], _Found]] = {
    "retraining": _retrain,
    "dropout": _dropout,
    "weight_perturbation": _perturb,
    "convex": _linear,
    "baseline": _baseline,
}
