"""Strategies that look at no answer: the natural pool, and points made from what is known of the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rashomon_core.errors import AnswersError, UsageError

from .proposals import Proposal, QueryState, StrategyBase, distinct, open_rows
from .rows import take

__all__ = ["Gaussian", "Marginal", "Mixup", "Natural", "Uniform"]


class Natural(StrategyBase):
    """Rows of the pool in random order, without replacement.

    Two pool rows with the same values are two inputs. Source: the random baseline of Orekondy, Schiele & Fritz (2019,
    "Knockoff Nets"). O(pool) per proposal. Raises AnswersError when the pool has fewer rows left than asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.answers import Answers
    >>> from rashomon_core.extraction.queries import Collector
    >>> pool = np.arange(20.0).reshape(10, 2)
    >>> def ask(X, round):
    ...     return Answers.of_labels(X[:, 0] > 9, 2)
    >>> collector = Collector("natural", ask, n_classes=2, pool=pool, seed=0)
    >>> collector.collect(4)
    >>> collector.X.shape, len(set(collector.rows.tolist()))
    ((4, 2), 4)
    """

    name = "natural"
    from_pool = True

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n pool rows that were not used, each set of n as likely as any other."""
        rows = state.rng.permutation(open_rows(state, n, self.name))[:n]
        return Proposal(take(state.pool, rows), rows)


class Uniform(StrategyBase):
    """Uniform points in the box of the pool: numbers between its extremes, categories with equal chances.

    Source: Tramer et al. (2016, "Stealing machine learning models via prediction APIs"). Whole columns stay whole,
    a one-hot group has exactly one 1, nothing is missing. No input is proposed twice. O(n D).

    Examples
    --------
    >>> from rashomon_core.extraction.queries import make_strategy
    >>> make_strategy("uniform")
    Uniform()
    """

    name = "uniform"
    needs_columns = True
    synthetic = True

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n new points of the box."""
        return Proposal(distinct(state, n, lambda count: state.space.box(count, state.rng), self.name))


class Gaussian(StrategyBase):
    """Independent normal numbers with the pool's means and deviations, categories with the pool's frequencies.

    Parameters
    ----------
    clip : bool
        Move numbers outside the pool's box to its border. Default: leave them.

    Notes
    -----
    Whole columns are rounded. Nothing is missing. No input is proposed twice. O(n D).
    """

    name = "gaussian"
    needs_columns = True
    synthetic = True

    def __init__(self, clip: bool = False) -> None:
        self.clip = bool(clip)

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n new points."""
        draw = state.space.gaussian
        return Proposal(distinct(state, n, lambda count: draw(count, state.rng, clip=self.clip), self.name))


class Marginal(StrategyBase):
    """Each column drawn by itself from the pool's values, missing ones included; texts: independent words.

    A one-hot group is one column. No input is proposed twice. O(n D).
    """

    name = "marginal"
    synthetic = True

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n new points."""
        return Proposal(distinct(state, n, lambda count: state.space.marginals(count, state.rng), self.name))


class Mixup(StrategyBase):
    """Convex combinations of two seeds: lambda * a + (1 - lambda) * b, lambda ~ Beta(alpha, alpha).

    Parameters
    ----------
    alpha : float
        1 is a uniform lambda; below 1 points lie near a parent.
    source : "pool" or "answered"
        Where parents come from: pool rows that are not reserved, or inputs answered so far (the strategy is then
        adaptive: its seed round gives the first parents).
    seeds : int, optional
        With source "pool": how many pool rows are known at all, drawn once. Default: all.

    Notes
    -----
    Source: Zhang et al. (2018, "mixup"), here for queries; no label is mixed. Categories and one-hot groups come from
    one parent each, a number that one parent lacks too; whole columns are rounded. Parents differ; no input is
    proposed twice. O(n D).

    Examples
    --------
    >>> from rashomon_core.extraction.queries import make_strategy
    >>> make_strategy({"name": "mixup", "alpha": 0.5})
    Mixup(alpha=0.5, source='pool', seeds=None)
    """

    name = "mixup"
    needs_columns = True
    synthetic = True

    def __init__(self, alpha: float = 1.0, source: str = "pool", seeds: int | None = None) -> None:
        if not alpha > 0:
            raise UsageError(f"mixup: alpha is {alpha}, it must be above 0")
        if source not in ("pool", "answered"):
            raise UsageError(f"mixup: source is {source!r}, it is 'pool' or 'answered'")
        if seeds is not None and (source != "pool" or seeds < 2):
            raise UsageError("mixup: seeds is a number of pool rows, at least 2, and goes with source='pool'")
        self.alpha, self.source, self.seeds = float(alpha), source, seeds
        self._known: Any = None

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """Whether parents are answered inputs."""
        return self.source == "answered"

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n new points between parents."""
        parents = self._parents(state)
        if parents is None or len(parents) < 2:
            raise AnswersError(f"mixup needs two parents at least, there are {0 if parents is None else len(parents)}")

        def draw(count: int) -> Any:
            first = state.rng.integers(0, len(parents), count)
            second = (first + state.rng.integers(1, len(parents), count)) % len(parents)
            share = state.rng.beta(self.alpha, self.alpha, count)
            return state.space.mix(take(parents, first), take(parents, second), share, state.rng)

        return Proposal(distinct(state, n, draw, self.name))

    def _parents(self, state: QueryState) -> Any:
        if self.source == "answered":
            return state.X
        if state.pool is None:
            raise UsageError("mixup of pool rows needs a pool. Fix: give pool=, or source='answered'")
        if self._known is None:  # pool rows are never asked for here, so `used` is what is reserved
            known = np.flatnonzero(~state.used)
            self._known = known if self.seeds is None else np.sort(state.rng.permutation(known)[: self.seeds])
        return take(state.pool, self._known)
