"""From finished tasks to tensors, sets and numbers, budget by budget, and to the document of an audit."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rashomon_core import tiles
from rashomon_core.errors import AnswersError, InvalidInputError, TargetError
from rashomon_core.extraction.oracle import Oracle
from rashomon_core.extraction.rows import row_hashes, take
from rashomon_core.extraction.target import Target
from rashomon_core.metrics.decisions import fidelity
from rashomon_core.predictions import Predictions
from rashomon_core.profiling import Profile, profile
from rashomon_core.report.document import build_document
from rashomon_core.store import open_predictions, save_predictions, write_array_atomic, write_text_atomic

from .arena import Arena
from .config import Config
from .folder import RunFolder
from .tasks import Item

if TYPE_CHECKING:
    from .pipeline import Gathered

__all__ = ["assemble", "check_target"]

Array = npt.NDArray[Any]


def assemble(
    *,
    config: Config,
    arena: Arena,
    run: RunFolder,
    oracle: Oracle,
    gathered: Gathered,
    items: Sequence[Item],
    evaluation: Array,
    on_synthetic: Array | None,
    target_name: str,
    threads: int | None,
    memory: int | str | None,
) -> dict[str, Any]:
    """Build every checkpoint from the committed tasks, measure it, commit the result and return it."""
    n_synthetic = 0 if on_synthetic is None else len(on_synthetic)
    widest = len(gathered.selection_rows)
    shape = (widest + len(evaluation) + n_synthetic, arena.n_classes)
    evaluated = row_hashes(arena.rows(arena.evaluation))
    made = []
    for k, budget in enumerate(config.budgets):
        tiles.progress("gathering", k, len(config.budgets))
        own = [item for item in items if item.budget == budget]
        made.append(_Checkpoint(config, arena, run, gathered, budget, own, evaluation, evaluated, on_synthetic, shape))
    tiles.progress("gathering", len(config.budgets), len(config.budgets))
    limits = {"threads": threads, "memory": memory}
    size = config["size"]
    if size is None:  # sets of different sizes are compared at the size of the smallest
        sizes = [len(c.measure(None, ["fidelity"], limits, whole=False).model_ids) for c in made]
        several = [s for s in sizes if s > 1]  # a set of one says nothing about others
        size = min(several) if several else None
    agreement = _natural_agreement(run, items, widest, evaluation, shape)
    entries, last = [], None
    for c in made:
        last = c.measure(min(size, c.explored) if size else None, config["metrics"], limits)
        said = []
        if size and size > c.explored:
            said.append(
                f"size {size} is more than the {c.explored} candidates: size-matched values are of {c.explored}"
            )
        entries.append(c.entry(last, agreement, said))
    assert last is not None
    document = build_document(last, inputs=[_input(config, arena)], warnings=[*gathered.said])
    document["resources"] = {"value": None, "reason": "kept out: a run that was resumed gives the same bytes"}
    document["checkpoints"] = entries
    document["audit"] = {
        "configuration": config.to_dict(),
        "data": {
            "name": arena.name,
            "kind": arena.kind,
            "rows": len(arena.y),
            "class_names": list(arena.class_names),
            "groups": list(arena.groups),
            "target_rows": len(arena.target),
            "pool_rows": len(arena.pool),
            "evaluation_rows": len(arena.evaluation),
        },
        "target": {
            "name": target_name,
            "accuracy": float((evaluation.argmax(axis=1) == arena.y[arena.evaluation]).mean()),
        },
        "queries": {**oracle.ledger.counts(), "evaluation_answers": len(oracle.evaluations)},
    }
    run.commit_result(document)
    return document


def check_target(run: RunFolder, config: Config, target: Target, X: Any) -> None:
    """Refuse a finished run when the given target does not answer the evaluation rows as it did then.

    Parameters
    ----------
    X : evaluation rows

    Raises
    ------
    TargetError
        The stored result is of another target.
    """
    file = run.path / f"budget-{config.budgets[-1]}" / "target.npy"
    stored = np.load(file, allow_pickle=False)[-len(X) :]
    now = target.predict_proba(X)
    now = now[:, 1] if stored.ndim == 1 else now
    if stored.shape != now.shape or not np.allclose(stored, now, rtol=0, atol=1e-6):
        raise TargetError(
            "the result in this folder is of another target: its answers are not those of the given one",
            where=str(file),
            fix="choose another run folder",
        )


class _Checkpoint:
    """The candidates of one budget as a tensor over selection and evaluation samples."""

    def __init__(
        self,
        config: Config,
        arena: Arena,
        run: RunFolder,
        gathered: Gathered,
        budget: int,
        items: Sequence[Item],
        evaluation: Array,
        evaluated: Sequence[str],
        on_synthetic: Array | None,
        shape: tuple[int, int],
    ) -> None:
        self.config, self.arena, self.gathered, self.budget = config, arena, gathered, budget
        self.folder = run.path / f"budget-{budget}"
        self.folder.mkdir(exist_ok=True)
        n = gathered.selected[budget]
        rows = np.concatenate([gathered.selection_rows[:n], arena.evaluation])
        self.rows = rows
        self.selection = np.arange(len(rows)) < n
        self.target = np.concatenate([gathered.selection.soft()[:n], evaluation])
        self.evaluation = evaluation
        self.y = arena.y[rows]
        self.groups = {name: values[rows] for name, values in arena.groups.items()}
        self.failed: list[dict[str, str]] = []
        self.notes = Counter[str]()
        self.methods: dict[str, str] = {}
        self.synthetic: dict[str, float] = {}
        self.unasked: dict[str, float] = {}
        trained = take(gathered.X, slice(0, gathered.trained_on[budget]))
        selecting = arena.rows(gathered.selection_rows[:n])
        asked = {*row_hashes(trained), *row_hashes(selecting)}
        #: Evaluation samples whose input was no query: equal rows fall on both sides of a split.
        self.new = np.array([digest not in asked for digest in evaluated])
        self._tensor(run, items, n, shape, on_synthetic)

    def _tensor(
        self, run: RunFolder, items: Sequence[Item], n: int, shape: tuple[int, int], on_synthetic: Array | None
    ) -> None:
        """Write predictions of all candidates as the native pair, one task's in memory at a time."""
        widest, last, C = shape[0] - len(self.evaluation), shape[0], shape[1]
        synthetic = 0 if on_synthetic is None else len(on_synthetic)
        widest -= synthetic
        said = [run.facts(item.name) for item in items]
        ids = [str(name) for facts in said for name in facts["ids"]]
        if not ids:
            reasons = "; ".join(str(facts.get("failed")) for facts in said[:3])
            raise AnswersError(f"no surrogate could be trained at budget {self.budget}: {reasons}")
        if len(set(ids)) < len(ids):
            raise InvalidInputError("two surrogates have one id", file=str(self.folder))
        N = n + len(self.evaluation)
        whole = (len(ids), N) if C == 2 else (len(ids), N, C)
        at = 0
        with tempfile.TemporaryFile(prefix="rashomon-core-") as file:
            file.truncate(int(np.prod(whole)) * 4)
            tensor = np.memmap(file, dtype=np.float32, mode="r+", shape=whole)
            for item in items:
                scores, facts = run.load(item.name, (None, shape[0], C))
                if "failed" in facts:
                    self.failed.append({"id": item.candidate.id, "reason": str(facts["failed"])})
                self.notes.update(facts.get("notes", ()))
                for k, name in enumerate(facts["ids"]):
                    part = np.concatenate([scores[k, :n], scores[k, widest : last - synthetic]])
                    tensor[at] = part[:, 1] if C == 2 else part
                    self.methods[str(name)] = item.method
                    if self.new.any():
                        agree = part[n:].argmax(axis=1) == self.evaluation.argmax(axis=1)
                        self.unasked[str(name)] = float(agree[self.new].mean())
                    if on_synthetic is not None:
                        same = scores[k, last - synthetic :].argmax(axis=1) == on_synthetic.argmax(axis=1)
                        self.synthetic[str(name)] = float(same.mean())
                    at += 1
            view = Predictions.from_array(
                tensor,
                kind="proba",
                n_classes=C,
                model_ids=ids,
                sample_ids=[f"row{r}" for r in self.rows.tolist()],
                class_names=list(self.arena.class_names),
            )
            save_predictions(view, self.folder / "preds.npy")
        self.explored = len(ids)
        self.view = open_predictions(self.folder / "preds.npy")
        write_array_atomic(self.folder / "target.npy", self.target[:, 1] if C == 2 else self.target)
        write_array_atomic(self.folder / "labels.npy", self.y)
        write_array_atomic(self.folder / "selection.npy", self.selection)
        if self.groups:
            write_text_atomic(self.folder / "groups.csv", _csv(self.rows, self.groups))

    def measure(self, size: int | None, metrics: Any, limits: dict[str, Any], *, whole: bool = True) -> Profile:
        """Return the profile of the set at this budget; ``whole``: with intervals and curves that were asked for."""
        config = self.config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the profile holds them
            return profile(
                self.view,
                target=self.target,
                y=self.y,
                groups=self.groups or None,
                loss=config["loss"],
                epsilon=config["epsilon"],
                relative=config["relative"],
                selection=self.selection,
                metrics=metrics,
                capacity_tol=config["capacity_tol"],
                positive=self.arena.positive(config["positive"]),
                missing=config["missing"],
                fairness_threshold=config["fairness_threshold"],
                skip_undefined=config["skip_undefined"],
                size=size,
                seed=config["seed"],
                keep_arrays=False,
                bootstrap=config["bootstrap"] if whole else None,
                interval=config["interval"],
                curves=config["curves"] and whole,
                **limits,
            )

    def _coarse(self, measured: Profile) -> list[str]:
        """Say when a single answer decides who is a member, and the noise does not tell."""
        n, epsilon = int(self.selection.sum()), self.config["epsilon"]
        told = any("below the noise" in text for text in measured.warnings)
        if told or self.config["loss"] != "fidelity" or self.config["relative"] or epsilon * n >= 1:
            return []
        text = "one sample selects" if n == 1 else f"{n} samples select"
        return [f"{text}: a single answer weighs {1 / n:.3g}, more than epsilon {epsilon:g}"]

    def _failures(self) -> list[str]:
        """Say what could not be trained."""
        if not self.failed:
            return []
        first = self.failed[0]
        what = "one candidate" if len(self.failed) == 1 else f"{len(self.failed)} candidates"
        return [f"{what} could not be trained, first {first['id']}: {first['reason']}"]

    def entry(self, measured: Profile, agreement: dict[str, Any], said: list[str]) -> dict[str, Any]:
        """Return what the document says of this checkpoint."""
        results = measured.results()
        truth = self.arena.y[self.arena.evaluation]
        decisions = self.evaluation.argmax(axis=1)
        n = self.gathered.trained_on[self.budget]
        answered = np.bincount(self.gathered.answers.labels[:n], minlength=self.arena.n_classes)
        majority = int(answered.argmax())
        members = list(measured.model_ids)
        by_method = {
            name: {
                "explored": sum(m == name for m in self.methods.values()),
                "members": sum(self.methods[m] == name for m in members),
            }
            for name in dict.fromkeys(self.methods.values())
        }
        synthetic = [self.synthetic[m] for m in members if m in self.synthetic]
        unasked = [self.unasked[m] for m in members if m in self.unasked]
        losses = results.get("losses") or {}
        return {
            "budget": self.budget,
            "results": results,
            "status": measured.status,
            "queries": {
                "trained_on": n,
                "selected_on": self.gathered.selected[self.budget],
                **self.gathered.counts[self.budget],
                "evaluation_inputs_asked": int((~self.new).sum()),
            },
            "baselines": {
                "majority_class": {
                    "class": self.arena.class_names[majority],
                    "fidelity": float((decisions == majority).mean()),
                    "accuracy": float((truth == majority).mean()),
                },
                "natural_agreement": agreement,
                "fidelity_natural": results.get("fidelity", {"value": None, "reason": "not measured"}),
                "fidelity_unasked": _extremes(unasked, "the inputs of all evaluation samples were asked"),
                "fidelity_synthetic": _extremes(synthetic, "no synthetic points: texts, or synthetic: 0"),
                "correct_fidelity": losses.get("correct_fidelity", {"value": None, "reason": "not measured"}),
            },
            "surrogates": {
                "by_method": by_method,
                "members": members,
                "failed": self.failed,
                "notes": dict(sorted(self.notes.items())),
            },
            "warnings": list(dict.fromkeys([*measured.warnings, *said, *self._coarse(measured), *self._failures()])),
        }


def _extremes(values: Sequence[float], reason: str) -> dict[str, Any]:
    if not values:
        return {"value": None, "reason": reason}
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _natural_agreement(
    run: RunFolder, items: Sequence[Item], widest: int, evaluation: Array, shape: tuple[int, int]
) -> dict[str, Any]:
    """Return how often two trainings of the target's recipe on its own data agree, on the evaluation samples."""
    own = [item for item in items if item.method == "baseline"]
    if not own:
        return {"value": None, "reason": "the recipe and the training data of this target are not known"}
    decided: dict[str, list[Array]] = {"seed": [], "boot": []}
    for item in own:
        scores, facts = run.load(item.name, (None, *shape))
        if "failed" in facts:
            return {"value": None, "reason": str(facts["failed"])}
        kind = "seed" if "seed" in item.candidate.id else "boot"
        decided[kind].append(scores[0, widest : widest + len(evaluation)].argmax(axis=1))
    seeds, boots = (float(fidelity(pair[:1], pair[1])[0]) for pair in (np.stack(d) for d in decided.values()))
    return {"value": seeds, "of": "two seeds on the same data", "bootstraps": boots}


def _input(config: Config, arena: Arena) -> dict[str, Any]:
    source = config["data"]
    path = source if isinstance(source, str) else str(source["path"])
    shape = getattr(arena.X, "shape", (len(arena.y),))
    return {
        "role": "data",
        "path": path,
        "size": None,
        "mtime": None,
        "sha256": arena.sha256,
        "axes": None,
        "kind": arena.kind,
        "dtype": None,
        "shape": [int(n) for n in shape],
        "select": None,
    }


def _csv(rows: Array, groups: dict[str, Array]) -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["sample_id", *groups])
    for i, row in enumerate(rows.tolist()):
        writer.writerow([f"row{row}", *("" if v[i] is None else v[i] for v in groups.values())])
    return stream.getvalue()
