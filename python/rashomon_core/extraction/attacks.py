"""Two published attacks as strategies: Jacobian-based augmentation, and the adaptive policy of knockoff nets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, InvalidInputError, MissingDependencyError, UsageError

from .answers import Answers
from .proposals import TRIES, Proposal, QueryState, StrategyBase, committee_scores, open_rows
from .rows import concat, row_hashes, take
from .space import FeatureSpace

__all__ = ["Jacobian", "Knockoff", "finite_differences"]

Array = npt.NDArray[Any]


def finite_differences(state: QueryState, X: Any, labels: Array, width: Array) -> Array:
    """Return d F_label / d x of the committee's mean prediction F, (n, k), by central differences.

    Parameters
    ----------
    state : QueryState
        Gives the surrogates and the space.
    X : n rows
    labels : (n,) int64
    width : (k,) float64
        Half of the difference for each numeric column; at 0 the column is left out and its derivative is 0.

    Notes
    -----
    2 k predictions of every surrogate for each row, a few thousand rows at a time. Missing numbers have derivative 0.
    """
    space = state.space
    columns = np.flatnonzero(width > 0)
    base = space.numbers(X)
    out = np.zeros(base.shape)
    if not len(columns):
        return out
    step = max(1, min(8192, 4_000_000 // space.n_columns) // (2 * len(columns)))
    for first in range(0, len(X), step):
        own = np.arange(first, min(first + step, len(X)))
        at = np.repeat(own, 2 * len(columns))
        moved = base[at].reshape(len(own), len(columns), 2, -1)
        along = np.arange(len(columns))
        moved[:, along, 0, columns] += width[columns]
        moved[:, along, 1, columns] -= width[columns]
        points = space.with_numbers(take(X, at), moved.reshape(len(at), -1), clip=False)
        p = np.mean(committee_scores(state, points), axis=0)[np.arange(len(at)), labels[at]]
        p = p.reshape(len(own), len(columns), 2)
        out[np.ix_(own, columns)] = (p[:, :, 0] - p[:, :, 1]) / (2 * width[columns])
    out[np.isnan(base)] = 0.0
    return out


class Jacobian(StrategyBase):
    """Jacobian-based augmentation: x + lambda * sign(d F_label / d x) from inputs x answered before.

    Parameters
    ----------
    step : float
        Lambda, as a share of the pool's range of each numeric column (0.1 on pixels in [0, 1] is the published 0.1).
        A whole column moves by 1 at least.
    clip : bool
        Keep points inside the pool's box.
    difference : float, optional
        Half of the finite difference, as a share of the range. Default: half the step, so that the difference is taken
        over one step; trees are flat for smaller ones.

    Notes
    -----
    Source: Papernot et al. (2017, "Practical black-box attacks against machine learning", section 4.2). F is the mean
    prediction of the surrogates, label the target's answer at x, so a point moves where the surrogates are surer of
    it. Parents are all answered inputs in random order; by default a round has as many inputs as were asked so far,
    which is the published doubling. Surrogates with `gradient(X, labels)` (shape of X, or (n, k) over the numeric
    columns) are asked for it when all of them have it; else central differences (:func:`finite_differences`). Where a
    derivative is 0 in every column the signs are random. Categories and one-hot groups are those of the parent,
    missing stays missing.

    A point that was proposed before is replaced: by two, three and four steps in the same direction, then by one step
    in random directions. Raises AnswersError when that gives nothing new, and UsageError in a space without numeric
    columns that vary.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from rashomon_core.extraction.answers import Answers
    >>> from rashomon_core.extraction.queries import Collector
    >>> pool = np.random.default_rng(0).normal(size=(200, 2))
    >>> def ask(X, round):
    ...     return Answers.of_labels(X[:, 0] > 0, 2)
    >>> def committee(X, answers, rng):
    ...     return [LogisticRegression().fit(X, answers.labels)]
    >>> collector = Collector("jacobian", ask, n_classes=2, pool=pool, committee=committee, seed=0)
    >>> collector.collect(60)
    >>> [int((collector.rounds == r).sum()) for r in range(3)], int((collector.rows < 0).sum())
    ([20, 20, 20], 40)
    """

    name = "jacobian"
    needs_columns = True
    adaptive = True
    synthetic = True
    asks_surrogates = True
    growth = 1.0

    def __init__(self, step: float = 0.1, clip: bool = True, difference: float | None = None) -> None:
        if not step > 0 or (difference is not None and not difference > 0):
            raise UsageError(f"jacobian: step and difference must be above 0, they are {step} and {difference}")
        self.step, self.clip, self.difference = float(step), bool(clip), difference

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n new points one step away from answered ones."""
        if state.X is None or state.answers is None:
            raise UsageError("strategy 'jacobian' needs answers to begin with. Fix: initial= above 0")
        space, total = state.space, len(state.X)
        scale = np.nan_to_num(space.high - space.low)
        if not (scale > 0).any():
            raise UsageError("strategy 'jacobian' moves numeric columns, and the space has none that vary")
        parents = np.concatenate([state.rng.permutation(total) for _ in range(-(-n // total))])[:n]
        unique, back = np.unique(parents, return_inverse=True)
        signs = np.sign(self._gradient(state, take(state.X, unique), state.answers.labels[unique], scale))[back]
        flat = ~signs.any(axis=1)
        signs[flat] = state.rng.choice([-1.0, 1.0], size=(int(flat.sum()), signs.shape[1]))
        amount = self._width(scale, self.step, space)
        open_ = np.arange(n)  # places of the proposal that have no point yet
        parts: list[Any] = []
        places: list[Array] = []
        seen: set[str] = set()
        for attempt in range(1, TRIES + 1):
            if attempt > 4:
                signs[open_] = state.rng.choice([-1.0, 1.0], size=(len(open_), signs.shape[1]))
            X = take(state.X, parents[open_])
            moved = space.numbers(X) + (attempt if attempt <= 4 else 1) * amount * signs[open_]
            points = space.with_numbers(X, moved, clip=self.clip)
            fresh = []
            for at, digest in enumerate(row_hashes(points)):
                if digest not in seen and digest not in state.seen:
                    seen.add(digest)
                    fresh.append(at)
            if fresh:
                parts.append(take(points, np.array(fresh)))
                places.append(open_[fresh])
                open_ = np.delete(open_, fresh)
            if not len(open_):
                return Proposal(take(concat(parts), np.argsort(np.concatenate(places))))
        raise AnswersError(
            f"strategy 'jacobian': {n} new inputs are asked for and {n - len(open_)} were found around {total} "
            "answered ones. Fix: a smaller budget, a larger step, or another strategy"
        )

    def _gradient(self, state: QueryState, X: Any, labels: Array, scale: Array) -> Array:
        models = list(state.surrogates())
        space = state.space
        # a surrogate of ours has the method whatever its family, and says whether it works on these rows
        if models and all(
            callable(getattr(model, "gradient", None)) and getattr(model, "differentiable", lambda rows: True)(X)
            for model in models
        ):
            total = np.zeros((len(X), len(space.numeric)))
            for at, model in enumerate(models):
                g = np.asarray(model.gradient(X, labels), dtype=np.float64).reshape(len(X), -1)
                if g.shape[1] == space.n_columns:
                    g = g[:, space.numeric]
                if g.shape != total.shape:
                    raise InvalidInputError(f"surrogate {at} gives a gradient of shape {g.shape}, not {total.shape}")
                total += np.nan_to_num(g)
            return total
        share = self.step / 2 if self.difference is None else self.difference
        return finite_differences(state, X, labels, self._width(scale, share, space))

    @staticmethod
    def _width(scale: Array, share: float, space: FeatureSpace) -> Array:
        """A share of the range; whole columns 1 at least, constant ones 0."""
        width = np.where(space.whole, np.maximum(1.0, np.rint(share * scale)), share * scale)
        return np.where(scale > 0, width, 0.0)


class Knockoff(StrategyBase):
    """The adaptive policy of knockoff nets: a gradient bandit over clusters of the pool.

    Parameters
    ----------
    clusters : int
        Number of k-means clusters of the encoded pool (scikit-learn, one start); fewer where the pool is smaller.
    labels : (n_pool,) array-like, optional
        Clusters of the pool rows instead: classes, sources, any values.
    rewards : sequence of "certainty", "diversity", "loss"
        Which rewards are averaged.
    window : int, optional
        How many past steps the two running means see. Default: all.
    rate : float, optional
        Learning rate. Default: 1 / (how often the cluster was drawn), as published.

    Notes
    -----
    Source: Orekondy, Schiele & Fritz (2019, "Knockoff Nets", section 4.1.2). A cluster z is drawn from
    pi = softmax(H) (restricted to clusters that have rows left), then one of its rows. For each answer y in turn, with
    r its reward and r' the mean of the rewards before it, H_z += rate (r - r') (1 - pi_z) and for the others
    H_u -= rate (r - r') pi_u; the first answer, with nothing to compare it to, changes nothing. The policy changes
    after each round. Rewards, each in [0, 1]: certainty, the largest less the second largest value of y (always 1 when
    only labels are answered); diversity, sum_k max(0, y_k - y'_k) with y' the mean of the answers before it (uniform
    at first); loss, 1 - exp(-CE(y, F(x))), F the mean prediction of the surrogates before they saw x (the paper
    rescales without saying how). "loss" needs surrogates. k-means is repeatable for a fixed number of threads.

    Raises AnswersError when the pool has too few rows left. O(n clusters) for a proposal, besides the clustering.
    """

    name = "knockoff"
    adaptive = True
    from_pool = True
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"rewards": ("certainty", "diversity", "loss")}

    def __init__(
        self,
        clusters: int = 10,
        labels: Any = None,
        rewards: Sequence[str] = ("certainty", "diversity", "loss"),
        window: int | None = None,
        rate: float | None = None,
    ) -> None:
        rewards = (rewards,) if isinstance(rewards, str) else tuple(rewards)
        known = self.choices["rewards"]
        if not rewards or not set(rewards) <= set(known) or len(set(rewards)) < len(rewards):
            raise UsageError(f"knockoff: rewards are {rewards}, they are some of {', '.join(known)}")
        if clusters < 1 or (window is not None and window < 1) or (rate is not None and not rate > 0):
            raise UsageError(f"knockoff: clusters={clusters}, window={window} and rate={rate} must be above 0")
        self.clusters, self.rewards, self.window, self.rate = int(clusters), rewards, window, rate
        self._labels = None if labels is None else np.asarray(labels)
        self._cluster = np.empty(0, dtype=np.int64)
        self.preferences = np.empty(0)
        self._draws = np.empty(0, dtype=np.int64)
        self._waiting: tuple[Array, Array | None] | None = None
        self._rewards, self._answers = _RunningMean(window), _RunningMean(window)

    @property
    def asks_surrogates(self) -> bool:  # type: ignore[override]
        """Whether the loss of the surrogates is a reward."""
        return "loss" in self.rewards

    @property
    def policy(self) -> Array:
        """Probability of each cluster, while all have rows left."""
        return _softmax(self.preferences)

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return n pool rows from clusters drawn by the policy."""
        left = open_rows(state, n, self.name)
        if not len(self._cluster):
            self._cluster = self._clusters(state)
            self.preferences = np.zeros(int(self._cluster.max()) + 1)
            self._draws = np.zeros(len(self.preferences), dtype=np.int64)
        k = len(self.preferences)
        order = state.rng.permutation(left)
        queues = [order[self._cluster[order] == z].tolist() for z in range(k)]
        rows = np.empty(n, dtype=np.int64)
        drawn = np.empty(n, dtype=np.int64)
        for at in range(n):
            some = np.flatnonzero([len(queue) > 0 for queue in queues])
            z = int(some[state.rng.choice(len(some), p=_softmax(self.preferences[some]))])
            drawn[at], rows[at] = z, queues[z].pop()
        X = take(state.pool, rows)
        guess = np.mean(committee_scores(state, X), axis=0) if "loss" in self.rewards else None
        self._waiting = (drawn, guess)
        return Proposal(X, rows)

    def observe(self, X: Any, answers: Answers) -> None:
        """Reward the clusters of the last proposal."""
        if self._waiting is None or len(self._waiting[0]) != len(answers):
            raise UsageError("strategy 'knockoff' observes the answers to its last proposal, all of them at once")
        (drawn, guess), self._waiting = self._waiting, None
        for at, y in enumerate(answers.soft()):
            self._learn(int(drawn[at]), y, None if guess is None else guess[at])

    def _learn(self, z: int, y: Array, guess: Array | None) -> None:
        before = self._answers.value
        before = np.full(len(y), 1 / len(y)) if before is None else before
        parts = []
        if "certainty" in self.rewards:
            second, first = np.partition(y, -2)[-2:]
            parts.append(float(first - second))
        if "diversity" in self.rewards:
            parts.append(float(np.maximum(0.0, y - before).sum()))
        if guess is not None:
            parts.append(1 - float(np.exp(np.sum(y * np.log(np.maximum(guess, 1e-300))))))
        reward = sum(parts) / len(parts)
        self._draws[z] += 1
        baseline = self._rewards.value
        if baseline is not None:
            rate = 1 / self._draws[z] if self.rate is None else self.rate
            gain = rate * (reward - baseline)
            policy = self.policy
            self.preferences = self.preferences - gain * policy
            self.preferences[z] += gain
        self._rewards.add(reward)
        self._answers.add(y)

    def _clusters(self, state: QueryState) -> Array:
        if self._labels is not None:
            if self._labels.shape != (len(state.used),):
                raise UsageError(f"knockoff: labels have shape {self._labels.shape}, expected ({len(state.used)},)")
            return np.asarray(np.unique(self._labels, return_inverse=True)[1], dtype=np.int64)
        try:
            from sklearn.cluster import KMeans
        except ImportError:
            raise MissingDependencyError("scikit-learn", "clustering a pool", "audit") from None
        own = np.flatnonzero(~state.used)  # the others are never drawn, and reserved ones are not to be looked at
        points = state.space.encode(take(state.pool, own))
        k = min(self.clusters, len(np.unique(points, axis=0)))
        seed = int(state.rng.integers(2**31))
        found = np.full(len(state.used), -1, dtype=np.int64)
        found[own] = KMeans(k, n_init=1, random_state=seed).fit_predict(points)
        return found


class _RunningMean:
    """Mean of the last `window` values, or of all; None before the first."""

    def __init__(self, window: int | None) -> None:
        self._last: deque[Any] | None = None if window is None else deque(maxlen=window)
        self._sum: Any = 0.0
        self._count = 0

    def add(self, value: Any) -> None:
        if self._last is not None:
            self._last.append(value)
            self._sum, self._count = sum(self._last), len(self._last)
        else:
            self._sum, self._count = self._sum + value, self._count + 1

    @property
    def value(self) -> Any:
        return self._sum / self._count if self._count else None


def _softmax(values: Array) -> Array:
    e = np.exp(values - values.max())
    return np.asarray(e / e.sum())
