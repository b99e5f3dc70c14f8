"""Which inputs to ask for: strategies by name, and the collector that asks for what they propose.

A strategy sees a :class:`QueryState` and returns a :class:`Proposal`; it never sees the target, nor the oracle and its
budget. The protocol is in `proposals.py`, what is known of the inputs in `space.py`, the strategies in `synthetic.py`
(no answers needed), `active.py` (scores of surrogates, k-center) and `attacks.py` (Jacobian, knockoff).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, UsageError, suggestion

from .active import Committee as CommitteeStrategy
from .active import Entropy, KCenter, LeastConfidence, Margin
from .answers import Answers
from .attacks import Jacobian, Knockoff
from .proposals import Proposal, QueryState, Strategy, StrategyBase
from .rows import as_rows, concat, row_hashes, take
from .space import FeatureSpace
from .synthetic import Gaussian, Marginal, Mixup, Natural, Uniform

__all__ = [
    "STRATEGIES",
    "Collector",
    "FeatureSpace",
    "Proposal",
    "QueryState",
    "Strategy",
    "make_strategy",
]

Array = npt.NDArray[Any]
Committee = Callable[[Any, Answers, np.random.Generator], Sequence[Any]]

_CLASSES: tuple[type[StrategyBase], ...] = (
    Natural,
    Uniform,
    Gaussian,
    Marginal,
    Mixup,
    Entropy,
    Margin,
    LeastConfidence,
    KCenter,
    CommitteeStrategy,
    Jacobian,
    Knockoff,
)
#: Strategies by name.
STRATEGIES: Mapping[str, type[StrategyBase]] = MappingProxyType({cls.name: cls for cls in _CLASSES})

#: Inputs that a strategy which is not adaptive proposes at a time; fewer where inputs are large.
BLOCK = 256
#: A round of an adaptive strategy is at least this long.
LEAST_ROUND = 10


def make_strategy(spec: str | Mapping[str, Any] | Strategy) -> Strategy:
    """Return a strategy from its name, or from a mapping with "name" and parameters; objects pass through.

    Raises
    ------
    UsageError
        For unknown names and parameters (the nearest is suggested), and for values that a strategy refuses.

    Examples
    --------
    >>> from rashomon_core.extraction.queries import make_strategy
    >>> make_strategy("k-center").name, make_strategy({"name": "knockoff", "clusters": 20}).clusters
    ('k_center', 20)
    >>> make_strategy("nautral")
    Traceback (most recent call last):
    rashomon_core.errors.UsageError: there is no strategy 'nautral'; did you mean 'natural'?
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping):
        if callable(getattr(spec, "propose", None)) and callable(getattr(spec, "observe", None)):
            return spec
        raise UsageError(f"{spec!r} is no strategy: give a name, a mapping with 'name', or an object with propose()")
    parameters = dict(spec)
    given = parameters.pop("name", None)
    name = str(given).lower().replace("-", "_")
    if name not in STRATEGIES:
        raise UsageError(f"there is no strategy {given!r}{suggestion(name, STRATEGIES)}")
    known = [p for p in inspect.signature(STRATEGIES[name]).parameters if p not in ("args", "kwargs")]
    for key in parameters:
        if key not in known:
            raise UsageError(f"strategy {name!r} has no parameter {key!r}{suggestion(key, known)}")
    try:
        return STRATEGIES[name](**parameters)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:  # a text where a number belongs
        given = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
        raise UsageError(f"strategy {name!r} cannot be made of {given} ({error})") from error


class Collector:
    """Runs one strategy: asks for what it proposes and keeps the answers in order.

    Parameters
    ----------
    strategy : Strategy, str or mapping
        See :func:`make_strategy`. A strategy object may remember what it saw: use a fresh one for each collector.
    ask : callable
        `ask(X, round)` -> Answers, all of X or an exception. After an exception nothing is lost: what was answered
        stays, what was proposed is asked again by the next `collect`.
    n_classes : int
    pool : rows, optional
        Inputs that may be asked for; needed by strategies that choose from a pool.
    space : FeatureSpace, optional
        Default: that of the pool rows that are not reserved.
    reserved : (n_pool,) bool, optional
        Pool rows that are never asked for and give no parents. No synthetic input equals one of them.
    committee : callable, optional
        `committee(X, answers, rng)` -> surrogates, for strategies that need them.
    batch : int, optional
        Inputs per round. Default: strategies that are not adaptive have one round (0); adaptive ones have rounds of a
        tenth of what has been asked so far (Jacobian augmentation: as many as have been asked), at least 10.
    initial : int, optional
        Inputs of the seed round of an adaptive strategy: pool rows in random order, or samples of the marginals
        without a pool. Default: 2 per class, at least 20. 0: none. Where all answers are one class, strategies that
        ask surrogates go on with seeds, in rounds of their own size.
    seed : int or numpy.random.SeedSequence

    Attributes
    ----------
    X : rows, or None
        All inputs answered so far.
    answers : Answers, or None
    rows : (n,) int64
        Pool row of each input, -1 for synthetic ones.
    rounds : (n,) int64
        Round of each input.

    Notes
    -----
    The sequence of inputs depends on the seed (and on the answers, for adaptive strategies), not on how it is cut:
    `collect(100); collect(50)` asks for what `collect(150)` asks for, because a round that a budget cuts in two is
    proposed whole and the rest of it waits for the next call. Only where too few points are left for a whole round is
    the round as long as the call still needs.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.answers import Answers
    >>> from rashomon_core.extraction.queries import Collector
    >>> pool = np.random.default_rng(0).random((50, 3))
    >>> def ask(X, round):
    ...     return Answers.of_labels(X[:, 0] > 0.5, 2)
    >>> parts, whole = (Collector("uniform", ask, n_classes=2, pool=pool, seed=1) for _ in range(2))
    >>> parts.collect(10); parts.collect(5); whole.collect(15)
    >>> bool((parts.X == whole.X).all()), len(parts.answers)
    (True, 15)
    """

    def __init__(
        self,
        strategy: Strategy | str | Mapping[str, Any],
        ask: Callable[[Any, int], Answers],
        *,
        n_classes: int,
        pool: Any = None,
        space: FeatureSpace | None = None,
        reserved: Any = None,
        committee: Committee | None = None,
        batch: int | None = None,
        initial: int | None = None,
        seed: int | np.random.SeedSequence = 0,
    ) -> None:
        self.strategy = make_strategy(strategy)
        self.name = str(getattr(self.strategy, "name", type(self.strategy).__name__))
        self.adaptive = bool(getattr(self.strategy, "adaptive", True))
        if n_classes < 2:
            raise UsageError(f"n_classes is {n_classes}, it must be 2 or more")
        if batch is not None and batch < 1:
            raise UsageError(f"batch is {batch}, it must be 1 or more")
        if initial is not None and initial < 0:
            raise UsageError(f"initial is {initial}, it must be 0 or more")
        self._ask, self.n_classes, self._committee, self._batch = ask, int(n_classes), committee, batch
        self._pool = None if pool is None else as_rows(pool, "pool")
        self._used = _mask(reserved, 0 if self._pool is None else len(self._pool))
        if space is None:
            if self._pool is None:
                raise UsageError("nothing is known of the inputs. Fix: give pool= or space=")
            space = FeatureSpace.from_pool(take(self._pool, ~self._used) if self._used.any() else self._pool)
        elif self._pool is not None:
            space.check(self._pool)
        self.space = space
        self._root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        self._initial = max(20, 2 * self.n_classes) if initial is None else initial
        self._keeps_seen = bool(getattr(self.strategy, "synthetic", not getattr(self.strategy, "from_pool", False)))
        kept = self._keeps_seen and bool(self._used.any())
        self._seen: set[str] = set(row_hashes(take(self._pool, self._used))) if kept else set()
        self._parts: list[Any] = []
        self._answers: list[Answers] = []
        self._rows: list[Array] = []
        self._rounds: list[Array] = []
        self._proposals = 0  # how many were made: the number of the next random stream
        self._proposed = 0  # inputs in them
        self._pending: tuple[Any, Array] | None = None
        self._open: list[tuple[Any, Answers]] | None = None  # answered part of a proposal that is to be observed whole

    @property
    def X(self) -> Any:
        """All inputs answered so far; None before the first."""
        if len(self._parts) > 1:
            self._parts = [concat(self._parts)]
        return self._parts[0] if self._parts else None

    @property
    def answers(self) -> Answers | None:
        """Their answers; None before the first."""
        if len(self._answers) > 1:
            self._answers = [Answers.concat(self._answers)]
        return self._answers[0] if self._answers else None

    @property
    def rows(self) -> Array:
        """Pool row of each input, (n,) int64, -1 for synthetic ones."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._rows])

    @property
    def rounds(self) -> Array:
        """Round of each input, (n,) int64."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._rounds])

    def __len__(self) -> int:
        return sum(len(part) for part in self._answers)

    def collect(self, n: int) -> None:
        """Ask for n further inputs.

        Raises
        ------
        AnswersError
            When the pool has fewer than n rows left (nothing is asked then), or a strategy finds no new inputs.
        UsageError
            When n is negative, or a strategy proposes something else than it was asked for.
        """
        if n < 0:
            raise UsageError(f"{n} queries cannot be asked")
        waiting = 0 if self._pending is None else len(self._pending[0])
        left = int((~self._used).sum()) + waiting
        if getattr(self.strategy, "from_pool", False) and self._pool is not None and n > left:
            raise AnswersError(
                f"strategy {self.name!r}: {n} queries are to be asked and {left} of {len(self._used)} pool rows are "
                "left. Fix: a smaller budget, a larger pool, or a strategy that makes its own inputs (marginal, mixup)"
            )
        while n > 0:
            whole = not self.adaptive and self._batch is None  # one round: all of it in one question
            while self._pending is None or (whole and len(self._pending[0]) < n):
                self._propose(n if self._pending is None else n - len(self._pending[0]))
            X, rows = self._pending
            count = min(n, len(X))
            self._answer(take(X, np.arange(count)), rows[:count])
            rest = np.arange(count, len(X))
            self._pending = (take(X, rest), rows[rest]) if len(rest) else None
            if self._pending is None and self._open is not None:
                parts, self._open = self._open, None
                self.strategy.observe(concat([x for x, _ in parts]), Answers.concat([a for _, a in parts]))
            n -= count

    # ------------------------------------------------------------------------------------------ inside

    def _answer(self, X: Any, rows: Array) -> None:
        number = self._round()
        answers = self._ask(X, number)
        if len(answers) != len(X) or answers.n_classes != self.n_classes:
            raise UsageError(
                f"{len(X)} inputs were asked for and {len(answers)} answers of {answers.n_classes} classes came back"
            )
        self._parts.append(X)
        self._answers.append(answers)
        self._rows.append(rows)
        self._rounds.append(np.full(len(X), number, dtype=np.int64))
        if self._open is not None:
            self._open.append((X, answers))

    def _round(self) -> int:
        """Round of what is pending: proposals are counted, save where all of them are one round."""
        return 0 if not self.adaptive and self._batch is None else self._proposals - 1

    def _propose(self, needed: int) -> None:
        """Make one proposal and put it behind what is pending."""
        number = self._proposals
        seeding = self.adaptive and self._initial > 0 and (number == 0 or self._blind())
        strategy: Strategy = self.strategy
        left = int((~self._used).sum())
        if seeding:
            strategy = Natural() if left else Marginal()
        size = self._size(seeding and number == 0)
        if getattr(strategy, "from_pool", False) and left:
            size = min(size, left)
        try:
            proposal = self._checked(strategy, strategy.propose(self._state(number), size), size)
        except AnswersError:
            if size <= needed:
                raise
            size = needed  # not enough points for a whole round, but perhaps for this call
            proposal = self._checked(strategy, strategy.propose(self._state(number), size), size)
        rows = np.full(size, -1, dtype=np.int64) if proposal.rows is None else np.asarray(proposal.rows, dtype=np.int64)
        self._used[rows[rows >= 0]] = True
        if self._keeps_seen:
            self._seen.update(row_hashes(proposal.X))
        if self._pending is None:
            self._pending = (proposal.X, rows)
        else:
            self._pending = (concat([self._pending[0], proposal.X]), np.concatenate([self._pending[1], rows]))
        self._open = None if seeding else self._open or []
        self._proposals += 1
        self._proposed += size

    def _blind(self) -> bool:
        """Whether the strategy asks surrogates, and all answers so far are one class: there is nothing to train on."""
        asks = bool(getattr(self.strategy, "asks_surrogates", False))
        return asks and self.answers is not None and len(np.unique(self.answers.labels)) < 2

    def _size(self, seeding: bool) -> int:
        if seeding:
            return self._initial
        if self._batch is not None:
            return self._batch
        if not self.adaptive:
            return max(1, min(BLOCK, 4_000_000 // max(1, self.space.n_columns)))
        return max(LEAST_ROUND, int(getattr(self.strategy, "growth", 0.1) * self._proposed))

    def _state(self, number: int) -> QueryState:
        models: list[Sequence[Any]] = []

        def surrogates() -> Sequence[Any]:
            if not models:
                X, answers = self.X, self.answers
                if self._committee is None:
                    raise UsageError(f"strategy {self.name!r} needs surrogates. Fix: give committee=")
                if answers is None:
                    raise UsageError(f"strategy {self.name!r} needs answers to begin with. Fix: initial= above 0")
                models.append(list(self._committee(X, answers, self._rng(number, 1))))
            return models[0]

        used = self._used.copy()
        used.flags.writeable = False
        return QueryState(
            space=self.space,
            pool=self._pool,
            used=used,
            X=self.X,
            answers=self.answers,
            n_classes=self.n_classes,
            rng=self._rng(number, 0),
            round=number,
            surrogates=surrogates,
            seen=self._seen,
        )

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        """Return the generator of a proposal: no draw elsewhere moves it."""
        key = (*self._root.spawn_key, number, stream)
        return np.random.default_rng(np.random.SeedSequence(self._root.entropy, spawn_key=key))

    def _checked(self, strategy: Strategy, proposal: Proposal, n: int) -> Proposal:
        name = getattr(strategy, "name", type(strategy).__name__)
        if len(proposal.X) != n:
            raise UsageError(f"strategy {name!r} proposed {len(proposal.X)} inputs, {n} were asked for")
        self.space.check(proposal.X)
        if proposal.rows is not None:
            rows = np.asarray(proposal.rows)
            if rows.shape != (n,) or rows.dtype.kind not in "iu":
                raise UsageError(f"strategy {name!r} proposed rows of shape {rows.shape}, dtype {rows.dtype}")
            if self._pool is None or (rows < 0).any() or (rows >= len(self._used)).any():
                raise UsageError(f"strategy {name!r} proposed rows that are not in the pool")
            if len(np.unique(rows)) < n or self._used[rows].any():
                raise UsageError(f"strategy {name!r} proposed pool rows twice, or rows that are used or reserved")
        return proposal


def _mask(reserved: Any, n: int) -> Array:
    if reserved is None:
        return np.zeros(n, dtype=bool)
    mask = np.array(reserved)
    if mask.dtype != bool or mask.shape != (n,):
        raise UsageError(f"reserved has shape {mask.shape} and dtype {mask.dtype}, expected a boolean ({n},) mask")
    return mask
