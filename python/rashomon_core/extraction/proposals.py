"""The protocol between a strategy, which proposes inputs, and the collector, which asks for their answers."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, InvalidInputError, UsageError

from .answers import Answers
from .rows import concat, row_hashes, take
from .space import FeatureSpace

__all__ = ["Proposal", "QueryState", "Strategy", "StrategyBase", "committee_scores", "distinct", "open_rows"]

Array = npt.NDArray[Any]

#: How many times a synthetic strategy draws anew before it says that a space has too few points.
TRIES = 32


@dataclass(frozen=True, eq=False)
class QueryState:
    """All that a strategy gets to see. The target, the oracle and its budget are not in it.

    Attributes
    ----------
    space : FeatureSpace
    pool : rows, or None
    used : (n_pool,) bool
        Pool rows already asked for, or reserved for something else. Length 0 without a pool.
    X : rows, or None
        Inputs answered so far, in the order of asking.
    answers : Answers, or None
    n_classes : int
    rng : numpy.random.Generator
        Belongs to this round; depends on the seed and the number of the round only.
    round : int
    surrogates : callable
        Returns the surrogates trained on `X` and `answers`, training them when first called in a round. Each has
        `predict_proba(X)` -> (n, n_classes) float64.
    seen : set of str
        Digests (`rows.row_hashes`) of all inputs proposed so far.
    """

    space: FeatureSpace
    pool: Any
    used: Array
    X: Any
    answers: Answers | None
    n_classes: int
    rng: np.random.Generator
    round: int
    surrogates: Callable[[], Sequence[Any]]
    seen: Set[str] = field(default_factory=frozenset)


@dataclass(frozen=True, eq=False)
class Proposal:
    """Inputs to ask for: n rows, and their (n,) int64 indices in the pool, or None for synthetic ones."""

    X: Any
    rows: Array | None = None


class Strategy(Protocol):
    """Chooses inputs to ask for.

    A class of one's own needs these three names only. It may say more about itself, see :class:`StrategyBase`.
    """

    name: str

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return exactly n inputs, or raise AnswersError."""
        ...

    def observe(self, X: Any, answers: Answers) -> None:
        """Take note of the answers to a whole proposal. Seed rounds are not observed: they are in the state."""
        ...


class StrategyBase(abc.ABC):
    """What a collector reads of a strategy beside its methods, with the values of a simple one.

    Attributes
    ----------
    adaptive : bool
        Whether later proposals depend on earlier answers. Adaptive strategies start with a seed round and go on in
        rounds; the proposals of others are all of round 0. Taken as True for a class that does not say.
    from_pool : bool
        Whether every proposal is a row of the pool.
    synthetic : bool
        Whether it looks at `state.seen` (which is kept for those only).
    asks_surrogates : bool
        Whether proposals are made by asking `state.surrogates`, which cannot be trained on answers of one class.
    needs_columns : bool
        Whether it draws or moves numbers and categories, of which texts have none.
    growth : float
        Size of a round as a share of the inputs asked so far.
    """

    name: str = ""
    adaptive: bool = False
    from_pool: bool = False
    synthetic: bool = False
    asks_surrogates: bool = False
    needs_columns: bool = False
    growth: float = 0.1
    #: Values that a parameter of this name may take, for messages.
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}

    @abc.abstractmethod
    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return exactly n inputs."""

    def observe(self, X: Any, answers: Answers) -> None:  # noqa: B027 - a hook: most strategies learn nothing
        """Nothing to learn."""

    def __repr__(self) -> str:
        own = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({own})"


def open_rows(state: QueryState, n: int, name: str) -> Array:
    """Return the pool rows that may still be asked for, ascending.

    Raises
    ------
    UsageError
        Without a pool.
    AnswersError
        When fewer than n are left.
    """
    if state.pool is None:
        raise UsageError(f"strategy {name!r} chooses from a pool. Fix: give pool=")
    left = np.flatnonzero(~state.used)
    if len(left) < n:
        raise AnswersError(
            f"strategy {name!r}: {n} rows of the pool are asked for and {len(left)} of {len(state.used)} are left. "
            "Fix: a smaller budget, a larger pool, or a strategy that makes its own inputs (marginal, mixup)"
        )
    return left


def distinct(state: QueryState, n: int, draw: Callable[[int], Any], name: str) -> Any:
    """Return n inputs that differ from each other and from all of `state.seen`, drawn by `draw(count)`.

    A cached answer to a repeated input costs nothing and tells nothing, so a loop over a budget would never end. In a
    space of few points this draws up to 32 times and then gives up.

    Raises
    ------
    AnswersError
        When there are too few new inputs; the message says how many were found.
    """
    parts: list[Any] = []
    seen: set[str] = set()
    drawn = 0
    for _ in range(TRIES):
        block = draw(n if not parts else max(n, 64))
        drawn += len(block)
        fresh = []
        for row, digest in enumerate(row_hashes(block)):
            if digest not in seen and digest not in state.seen and len(seen) < n:
                seen.add(digest)
                fresh.append(row)
        parts.append(block if len(fresh) == len(block) else take(block, np.array(fresh, dtype=np.int64)))
        if len(seen) == n:
            return concat(parts)
    raise AnswersError(
        f"strategy {name!r}: {n} new inputs are asked for and {drawn} draws gave {len(seen)}: the space has few "
        f"distinct points and {len(state.seen)} are asked for already. Fix: a smaller budget, or another strategy"
    )


def committee_scores(state: QueryState, X: Any) -> list[Array]:
    """Return the (n, C) float64 probabilities of every current surrogate on X, checked for shape and NaN."""
    found = []
    for at, model in enumerate(state.surrogates()):
        p = np.asarray(model.predict_proba(X), dtype=np.float64)
        if p.shape != (len(X), state.n_classes):
            raise InvalidInputError(
                f"surrogate {at} gives scores of shape {p.shape}, expected {(len(X), state.n_classes)}",
                fix="one column per class index, also for classes that were not answered yet",
            )
        if not np.isfinite(p).all():
            row = int(np.argwhere(~np.isfinite(p))[0, 0])
            raise InvalidInputError(f"surrogate {at} gives a score that is no number", where=f"row {row}")
        found.append(p)
    if not found:
        raise UsageError("the committee has no members")
    return found
