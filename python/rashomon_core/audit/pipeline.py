"""``run_audit``: target -> queries -> surrogates -> exploration -> set -> metrics -> run folder.

Every stage is a function of the configuration, the data and what stages before it committed. A run that was killed
goes through the same stages again, finds what is finished, and ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from rashomon_core import tiles
from rashomon_core.errors import AnswersError, InvalidInputError, UsageError
from rashomon_core.exploration.retraining import Candidate, plan_retraining
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.defences import make_defence
from rashomon_core.extraction.oracle import Oracle, make_output
from rashomon_core.extraction.queries import Collector, FeatureSpace, make_strategy
from rashomon_core.extraction.recipes import Recipe, default_recipes, make_recipe
from rashomon_core.extraction.rows import concat, row_hashes, take
from rashomon_core.extraction.surrogates import fit_surrogate
from rashomon_core.extraction.target import Target
from rashomon_core.naming import find_object
from rashomon_core.workers import one_thread, parse_workers, run_tasks

from . import checkpoints, embeddings
from .arena import Arena, make_arena
from .config import Config, make_config
from .explorations import plan_explorations
from .folder import RunFolder
from .tasks import Item, Job, torch_first, work

if TYPE_CHECKING:
    from rashomon_core.extraction.recipes import Kind

__all__ = ["Audit", "default_folder", "run_audit"]

Array = npt.NDArray[Any]
#: Children of the seed, one for each purpose, so that no stage moves the draws of another.
_SEEDS = {"target": 1, "selection": 2, "queries": 3, "synthetic": 4, "baselines": 5}


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes
    ----------
    folder : Path
    document : dict
        Content of ``result.json``: what ``rashomon-core audit --json`` prints.
    """

    folder: Path
    document: dict[str, Any]

    @property
    def results(self) -> dict[str, Any]:
        """Results at the largest budget."""
        found: dict[str, Any] = self.document["results"]
        return found


def default_folder(config: Config) -> Path:
    """Return where a run goes when nothing is said: a folder named after its data and its configuration."""
    name = config["data"] if isinstance(config["data"], str) else Path(str(config["data"].get("path", "data"))).stem
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in str(name))
    return Path("rashomon-runs") / f"{safe}-{config.digest[:8]}"


def run_audit(
    config: Mapping[str, Any] | Config | None = None,
    *,
    target: Any = None,
    data: Any = None,
    folder: Any = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    **settings: Any,
) -> Audit:
    """Audit a model: extract surrogates under a query budget, find their Rashomon set, and measure it.

    Parameters
    ----------
    config : mapping, optional
        Keys as in the configuration file of ``rashomon-core audit``; ``settings`` are keys too. ``surrogates`` may
        hold scikit-learn estimators, ``defences`` and ``strategy`` objects of one's own.
    target : Target, fitted estimator, torch module or callable, optional
        The model under audit. Default: one that is trained on the data as ``config["target"]`` says.
    data : LocalDataset, optional
        Rows, labels and groups; see ``rashomon_core.datasets``. Default: what ``config["data"]`` names.
    folder : path, optional
        The run folder. A run that was interrupted goes on there; a finished one is read and nothing is done again.
        Default: ``rashomon-runs/DATA-DIGEST``.
    workers : int, optional
        Processes that train; default one for each processor. Any number gives the same bytes.
    threads, memory : as in :func:`rashomon_core.profile`, for the metrics

    Returns
    -------
    Audit

    Raises
    ------
    UsageError, InvalidInputError
        Settings that make no sense; data or a folder that are not what they should be.
    AnswersError
        A stage cannot get the answers that it needs: a pool that is too small, one class only in the answers.
    TargetError
        The target raised or answered nonsense. The ledger holds what was answered before.
    """
    config = config if isinstance(config, Config) and not settings else make_config(config, **settings)
    if data is not None:  # the document and the recipe of the target go by the data that are used
        config = make_config(config, data=data.name)
    count = parse_workers(workers)
    strategy = make_strategy(config.given("strategy"))  # what is unknown ends here, before any work
    make_output(config["answer"])
    for spec in config.given("defences"):
        make_defence(spec)
    dataset = _dataset(config) if data is None else data
    given = _given_target(config, target, dataset)
    arena = make_arena(config, dataset, own_target=given is not None)
    arena.positive(config["positive"])
    if arena.kind == "text" and getattr(strategy, "needs_columns", False):
        raise UsageError(
            f"strategy {strategy.name!r} draws or moves columns, and texts have none. "
            "Fix: a strategy that asks for texts of the pool, or marginal"
        )
    recipes = _recipes(config, arena)
    plan = plan_retraining(recipes, **config["exploration"]["retraining"])
    explorations = plan_explorations(config, arena)
    recipe = _target_recipe(config, arena) if given is None else None
    _check_budgets(config, arena)
    run = RunFolder(default_folder(config) if folder is None else folder, _identity(config, arena, given))
    with run.open():
        if run.result.exists():
            document = run.read_result()
            if given is not None:
                checkpoints.check_target(run, config, given, arena.rows(arena.evaluation))
            return Audit(run.path, document)
        stages = _Stages(config, arena, run, plan, explorations, given or recipe, strategy.name, count)
        document = stages.go(threads, memory)
        return Audit(run.path, document)


@dataclass(frozen=True, eq=False)
class Gathered:
    """What was asked and answered.

    Attributes
    ----------
    X, answers : training inputs and their answers, in order
    trained_on, selected : dict
        Budget -> how many of them, from the first, belong to it.
    selection_rows : row numbers of the selection split;  selection : Answers to them
    counts : dict
        Budget -> counts of the ledger when it was spent.
    said : tuple of str
        Warnings.
    """

    X: Any
    answers: Answers
    trained_on: dict[int, int]
    selection_rows: Array
    selection: Answers
    selected: dict[int, int]
    counts: dict[int, dict[str, int]]
    said: tuple[str, ...]


class _Stages:
    """The stages of one audit, in order."""

    def __init__(
        self,
        config: Config,
        arena: Arena,
        run: RunFolder,
        plan: Sequence[Candidate],
        explorations: Sequence[tuple[str, Candidate, dict[str, Any]]],
        target: Target | Recipe | None,
        strategy: str,
        workers: int,
    ) -> None:
        self.config, self.arena, self.run, self.plan, self.explorations = config, arena, run, plan, explorations
        self.strategy, self.workers = strategy, workers
        self.given = target if isinstance(target, Target) else None
        self.recipe = target if isinstance(target, Recipe) else None
        self.texts: embeddings.Texts | None = None

    def go(self, threads: int | None, memory: int | str | None) -> dict[str, Any]:
        """Go through all stages and return the document, which is committed by then."""
        recipes = [c.recipe for c in self.plan] + [c.recipe for _, c, _ in self.explorations]
        if embeddings.needed(recipes if self.recipe is None else [*recipes, self.recipe]):
            self.texts = embeddings.prepare(self.run, self.arena.X, self.workers)
        target = self.target()
        oracle = Oracle(
            target,
            output=self.config["answer"],
            defences=self.config.given("defences"),
            budget=max(self.config.budgets),
            cache=self.config["cache"],
            log=self.run.ledger,
            seed=self.config["seed"],
        )
        # Before the first query: a run that is taken up with another target ends here, with its ledger as it was.
        evaluation = oracle.evaluate(self.arena.rows(self.arena.evaluation))
        gathered = self.queries(oracle)
        synthetic, on_synthetic = self.synthetic(oracle)
        job = self.job(gathered, synthetic)
        items = self.items()
        left = [item for item in items if not self.run.finished(item.name)]
        run_tasks(work, job, left, workers=self.workers, label="training surrogates")
        return checkpoints.assemble(
            config=self.config,
            arena=self.arena,
            run=self.run,
            oracle=oracle,
            gathered=gathered,
            items=items,
            evaluation=evaluation,
            on_synthetic=on_synthetic,
            target_name=target.name if self.recipe is None else self.recipe.name,
            threads=threads,
            memory=memory,
        )

    # -- stages

    def target(self) -> Target:
        """Return the model under audit, trained on its own rows when it is ours to train."""
        if self.given is not None:
            return self.given
        assert self.recipe is not None
        tiles.progress("training the target", 0, 1)
        rows = self.arena.target
        torch_first(self.recipe)
        with one_thread():
            model = fit_surrogate(
                self.recipe,
                self.arena.rows(rows),
                Answers.of_labels(self.arena.y[rows], self.arena.n_classes),
                seed=self.seed("target"),
            )
        tiles.progress("training the target", 1, 1)

        def answer(X: Any) -> Array:
            with one_thread():
                return np.asarray(model.predict_proba(X))

        return Target(answer, self.arena.n_classes, class_names=self.arena.class_names, name=self.recipe.name)

    def queries(self, oracle: Oracle) -> Gathered:
        """Ask for what the budgets allow, checkpoint by checkpoint: first what selects, then what trains."""
        config, pool = self.config, self.arena.pool
        pool_X = self.arena.rows(pool)
        most = max(config.parts(b)[1] for b in config.budgets)
        order = np.random.default_rng([config["seed"], _SEEDS["selection"]]).permutation(len(pool))
        hashes = row_hashes(pool_X)
        seen: set[str] = set()
        chosen: list[int] = []
        for row in order.tolist():  # an input counts once: a second answer to it would be no second opinion
            if len(chosen) < most and hashes[row] not in seen:
                seen.add(hashes[row])
                chosen.append(row)
        if len(chosen) < most:
            raise AnswersError(
                f"{most} answers are to select the members and the pool has {len(chosen)} different inputs. "
                "Fix: a smaller selection.share, a smaller budget, or a larger split.pool"
            )
        selection = np.array(chosen, dtype=np.int64)
        # Equal inputs go with them: who is a member is decided on inputs that no pool query may teach.
        own_hashes = {hashes[row] for row in chosen}
        reserved = np.array([digest in own_hashes for digest in hashes])

        def ask(X: Any, round: int) -> Answers:
            return oracle.query(X, strategy=self.strategy, round=round, purpose="train")

        collector = Collector(
            config.given("strategy"),
            ask,
            n_classes=self.arena.n_classes,
            pool=pool_X,
            space=FeatureSpace.from_pool(pool_X),
            reserved=reserved,
            committee=self.committee,
            seed=np.random.SeedSequence([config["seed"], _SEEDS["queries"]]),
        )
        parts: list[Answers] = []
        trained_on: dict[int, int] = {}
        selected: dict[int, int] = {}
        counts: dict[int, dict[str, int]] = {}
        said: list[str] = []
        done = 0
        for checkpoint, budget in enumerate(config.budgets):
            train, select = config.parts(budget)
            tiles.progress("asking", checkpoint, len(config.budgets))
            if select > done:
                rows = selection[done:select]
                charge = config["selection"]["charged"]
                own = oracle.query(
                    take(pool_X, rows), strategy="natural", round=checkpoint, purpose="select", charge=charge
                )
                parts.append(own)
                done = select
            self.collect(collector, oracle, train + (done if config["selection"]["charged"] else 0), said)
            trained_on[budget], selected[budget] = len(collector), done
            counts[budget] = oracle.ledger.counts()
            assert collector.answers is not None
            self.check_answers(collector.answers, budget)
        tiles.progress("asking", len(config.budgets), len(config.budgets))
        assert collector.answers is not None
        return Gathered(
            X=collector.X,
            answers=collector.answers,
            trained_on=trained_on,
            selection_rows=pool[selection[:done]],
            selection=Answers.concat(parts),
            selected=selected,
            counts=counts,
            said=tuple(said),
        )

    def collect(self, collector: Collector, oracle: Oracle, until: int, said: list[str]) -> None:
        """Ask until ``until`` answers are charged. Repeated inputs are free with a cache: then there are more.

        Raises
        ------
        AnswersError
            There are fewer inputs left than charged answers are wanted. Where there are enough, and some of them
            turn out to be repeats, what is left is asked and the rest of the budget is said to be unspent.
        """
        missing = until - oracle.spent
        if missing > 0:
            collector.collect(missing)
        step = missing = until - oracle.spent
        idle = 0
        while step > 0 and idle < _PATIENCE:
            try:
                collector.collect(step)
            except AnswersError:
                step //= 2
            else:
                idle = idle + 1 if until - oracle.spent == missing else 0
                missing = until - oracle.spent
                step = min(step, missing)
        if missing > 0:
            said.append(f"{missing} of {until} charged answers were not spent: no different inputs are left")

    def check_answers(self, answers: Answers, budget: int) -> None:
        """Refuse to go on where nothing can be learned."""
        if len(np.unique(answers.labels)) < 2:
            name = self.arena.class_names[int(answers.labels[0])]
            raise AnswersError(
                f"all {len(answers)} answers that budget {budget} has for training are one class ({name}): no "
                "surrogate can learn from them. Fix: a larger budget, or another strategy"
            )

    def committee(self, X: Any, answers: Answers, rng: np.random.Generator) -> list[Any]:
        """Return a few quick surrogates of different families, for strategies that ask them."""
        models = []
        with one_thread():
            for name in _COMMITTEES[self.arena.kind]:
                models.append(fit_surrogate(make_recipe(name), X, answers, seed=int(rng.integers(2**31))))
        return models

    def synthetic(self, oracle: Oracle) -> tuple[Any, Array | None]:
        """Return uniform test points and the target's answers to them; None where inputs have no box (texts)."""
        n = self.config["synthetic"]
        if n == 0 or self.arena.kind == "text":
            return None, None
        space = FeatureSpace.from_pool(self.arena.rows(self.arena.pool))
        X = space.box(n, np.random.default_rng([self.config["seed"], _SEEDS["synthetic"]]))
        return X, oracle.evaluate(X, name="synthetic")

    def job(self, gathered: Gathered, synthetic: Any) -> Job:
        """Return what workers share."""
        parts = [self.arena.rows(gathered.selection_rows), self.arena.rows(self.arena.evaluation)]
        if synthetic is not None:
            parts.append(synthetic)
        ours = self.recipe is not None
        return Job(
            folder=str(self.run.path),
            seed=self.config["seed"],
            n_classes=self.arena.n_classes,
            X=gathered.X,
            answers=gathered.answers,
            trained_on=gathered.trained_on,
            test=concat(parts),
            selected=gathered.selected,
            selection=gathered.selection,
            group_codes=self.group_codes(),
            texts=self.texts,
            target_X=self.arena.rows(self.arena.target) if ours else None,
            target_y=self.arena.y[self.arena.target] if ours else None,
        )

    def group_codes(self) -> Array:
        """Return a group number for each evaluation row: groups in order of name, several columns crossed."""
        rows = self.arena.evaluation
        if not self.arena.groups:
            return np.zeros(len(rows), dtype=np.int64)
        texts = ["\x1f".join(str(v[i]) for v in self.arena.groups.values()) for i in rows.tolist()]
        return np.unique(texts, return_inverse=True)[1].astype(np.int64)

    def items(self) -> list[Item]:
        """Return all tasks: baselines, then every candidate at every budget."""
        items = []
        if self.recipe is not None:
            rng = np.random.default_rng([self.config["seed"], _SEEDS["baselines"]])
            n = len(self.arena.target)
            for k in range(2):
                candidate = Candidate(f"seed{k}", self.recipe, k)
                settings: dict[str, Any] = {"seed": int(rng.integers(2**31)), "rows": None}
                items.append(Item(f"natural-seed{k}", "baseline", 0, candidate, settings))
            for k in range(2):
                candidate = Candidate(f"boot{k}", self.recipe, k)
                settings = {"seed": int(rng.integers(2**31)), "rows": rng.integers(0, n, n)}
                items.append(Item(f"natural-boot{k}", "baseline", 0, candidate, settings))
        for budget in self.config.budgets:
            for candidate in self.plan:
                items.append(Item(f"b{budget:08d}-{candidate.id}", "retraining", budget, candidate))
            for method, candidate, settings in self.explorations:
                items.append(Item(f"b{budget:08d}-{candidate.id}", method, budget, candidate, settings))
        return items

    def seed(self, name: str) -> int:
        """Return the seed of a stage."""
        return int(np.random.SeedSequence([self.config["seed"], _SEEDS[name]]).generate_state(1)[0])


#: Batches of nothing but repeats, one after another, after which a strategy is taken to have no other inputs.
_PATIENCE = 100
_COMMITTEES = {
    "tabular": ("logistic", "tree", "forest"),
    "image": ("image_logistic",),
    "text": ("tfidf_logistic", "tfidf_nb"),
}
_TARGETS: dict[str, Any] = {"tabular": "hgb", "image": "cnn", "text": "tfidf_logistic"}


# --- what is decided before the first stage ---------------------------------------------------------------------


def _dataset(config: Config) -> Any:
    from rashomon_core import datasets

    source = config["data"]
    if isinstance(source, str):
        return datasets.load_default() if source == "arrests" else datasets.load_local(source)
    if str(source["path"]).lower().endswith(".npz"):
        if len(source) > 1:
            raise UsageError("data: a .npz says itself what is label and group; give its path alone")
        return datasets.load_arrays(source["path"])
    if "label" not in source:
        raise UsageError("data: name the column of the label, for example --label income")
    return datasets.load_table(
        source["path"],
        source["label"],
        source.get("groups", ()),
        source.get("drop", ()),
        split_by=source.get("split_by"),
    )


def _given_target(config: Config, target: Any, dataset: Any) -> Target | None:
    """Return the user's own model as a target, or None when one is to be trained."""
    n = len(dataset.class_names)
    known: Any = None
    spec = config["target"]
    if target is None and isinstance(spec, Mapping) and "python" in spec:
        name = str(spec["python"])
        target = find_object(name, f"target.python={name!r}")
    if target is None:
        return None
    if isinstance(target, Target):
        made, known = target, target.class_names
    elif hasattr(target, "predict_proba") or hasattr(target, "predict"):
        made = Target.from_estimator(target)
        known = getattr(target, "classes_", None)
    elif hasattr(target, "parameters") and hasattr(target, "eval"):
        made = Target.from_torch(target, n_classes=n)
    else:
        made = Target.from_callable(target, n)
    if made.n_classes != n:
        raise InvalidInputError(f"the target tells {made.n_classes} classes apart and the labels have {n}")
    if known is None:
        return made
    order = _class_order(np.asarray(known).tolist(), dataset.class_names)
    if order == list(range(n)):
        return made
    return Target(lambda X: made.predict_proba(X)[:, order], n, class_names=dataset.class_names, name=made.name)


def _class_order(known: Sequence[object], names: Sequence[str]) -> list[int]:
    """Return the target's column of each class of the data: by name, or by number where its classes are indices."""
    texts = [str(int(c)) if isinstance(c, float) and c.is_integer() else str(c) for c in known]
    if sorted(texts) == sorted(names):
        return [texts.index(name) for name in names]
    if texts == [str(k) for k in range(len(names))] or texts == ["False", "True"]:
        return list(range(len(names)))
    raise InvalidInputError(
        f"the target's classes are {', '.join(texts)} and those of the labels {', '.join(names)}",
        fix="a target fitted on these labels or their indices from 0, or Target.from_callable, columns in that order",
    )


def _target_recipe(config: Config, arena: Arena) -> Recipe:
    spec = config["target"]
    if spec is None:
        spec = _TARGETS[arena.kind]
        if config["data"] == "arrests":  # five of six arrested people were released: unweighted, nearly all would be
            spec = {"family": "hgb", "balanced": True}
    return make_recipe(spec)


def _recipes(config: Config, arena: Arena) -> tuple[Recipe, ...]:
    if config["surrogates"] is not None:
        specs = config.given("surrogates")
        return tuple(make_recipe({"estimator": s} if hasattr(s, "get_params") else s) for s in specs)
    recipes = default_recipes(kind=cast("Kind", arena.kind))
    if config["answer"] == "label":  # there is nothing soft to learn from
        recipes = tuple(recipe for recipe in recipes if recipe.answers == "hard")
    return recipes


def _check_budgets(config: Config, arena: Arena) -> None:
    least = config.budgets[0]
    train, select = config.parts(least)
    if train < arena.n_classes:
        raise AnswersError(
            f"budget {least} leaves {train} answers for training ({select} select the members), fewer than the "
            f"{arena.n_classes} classes. Fix: a larger budget"
        )
    if select == 0:
        raise AnswersError(f"budget {least} leaves no answers that select the members. Fix: a larger selection.share")


def _identity(config: Config, arena: Arena, given: Target | None) -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in ("rashomon-core", "numpy", "scikit-learn", "torch"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "configuration": config.to_dict(),
        "data": {"name": arena.name, "rows": len(arena.y), "sha256": arena.sha256},
        "target": None if given is None else given.name,
        "software": versions,
    }
