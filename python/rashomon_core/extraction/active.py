"""Active learning from a pool: uncertainty, disagreement of a committee, and k-center.

Scores are larger where an input is worth more. Ties go to the lowest pool row.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError

from .proposals import Proposal, QueryState, StrategyBase, committee_scores, open_rows
from .rows import take

__all__ = [
    "Committee",
    "Entropy",
    "KCenter",
    "LeastConfidence",
    "Margin",
    "best",
    "confidence_scores",
    "divergence_scores",
    "entropy_scores",
    "farthest_first",
    "margin_scores",
    "nearer",
    "vote_entropy_scores",
]

Array = npt.NDArray[Any]


# ---------------------------------------------------------------------------------------------- scores


def entropy_scores(proba: Array) -> Array:
    """Return the entropy of each row in bits, 0 log 0 = 0: (n, C) -> (n,).

    Source: Shannon entropy as in Settles (2009, "Active learning literature survey", section 3.1). O(n C).

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.active import entropy_scores
    >>> entropy_scores(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    p = np.sort(np.maximum(np.asarray(proba, dtype=np.float64), 0.0), axis=1)  # so that equal shares tie exactly
    return np.asarray(np.abs(np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=1)))


def margin_scores(proba: Array) -> Array:
    """Return minus the difference of the two largest values of each row: (n, C) -> (n,).

    Source: Scheffer, Decomain & Wrobel (2001, "Active hidden Markov models"). O(n C).
    """
    top = np.partition(np.asarray(proba, dtype=np.float64), -2, axis=1)
    return np.asarray(top[:, -2] - top[:, -1])


def confidence_scores(proba: Array) -> Array:
    """Return 1 minus the largest value of each row, the least confidence: (n, C) -> (n,).

    Source: Lewis & Gale (1994, "A sequential algorithm for training text classifiers"). O(n C).
    """
    return np.asarray(1 - np.asarray(proba, dtype=np.float64).max(axis=1))


def vote_entropy_scores(probas: Array) -> Array:
    """Return the entropy in bits of the members' votes (argmax, ties to the lowest class): (M, n, C) -> (n,).

    Source: Dagan & Engelson (1995, "Committee-based sampling"), without their division by log M. O(M n C).
    """
    p = np.asarray(probas, dtype=np.float64)
    votes = (p.argmax(axis=2)[:, :, None] == np.arange(p.shape[2])).mean(axis=0)
    return entropy_scores(votes)


def divergence_scores(probas: Array) -> Array:
    """Return the mean over members of KL(member || mean of members) in bits: (M, n, C) -> (n,).

    Source: McCallum & Nigam (1998, "Employing EM in pool-based active learning"). 0 log 0 = 0. O(M n C).
    """
    p = np.maximum(np.asarray(probas, dtype=np.float64), 0.0)
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, p.mean(axis=0), 1.0)
    return np.asarray(np.sum(p * np.log2(ratio), axis=2).mean(axis=0))


def best(scores: Array, rows: Array, n: int) -> Array:
    """Return the n rows with the largest scores, best first; ties to the lowest row. O(r log r)."""
    return np.asarray(rows[np.lexsort((rows, -scores))[:n]])


def nearer(distance: Array, points: Array, centre: Array) -> Array:
    """Return the squared distance of each point to its nearest centre, once `centre` is one more of them. O(points)."""
    out = np.empty_like(distance)
    step = max(1, 32_768 // max(1, points.shape[1]))  # differences stay in the cache
    for first in range(0, len(points), step):
        gap = points[first : first + step] - centre
        np.einsum("ij,ij->i", gap, gap, out=out[first : first + step])
    return np.minimum(distance, out)


def farthest_first(points: Array, distance: Array, open_: Array, n: int) -> tuple[Array, Array]:
    """Return n points, each the farthest from all centres and from those chosen before it, and the new distances.

    Parameters
    ----------
    points : (N, d) float64
    distance : (N,) float64
        Squared distance to the nearest centre so far; infinite where there is none yet. The first choice is then the
        point nearest to the mean of those that may be chosen.
    open_ : (N,) bool
        Points that may be chosen, n of them at least. Ties go to the lowest.
    n : int

    Notes
    -----
    Source: Gonzalez (1985), as used for active learning by Sener & Savarese (2018, "core-set", the greedy k-center).
    O(N d) for each choice.
    """
    open_, distance = open_.copy(), distance.copy()
    chosen = np.empty(n, dtype=np.int64)
    for at in range(n):
        key = distance
        if np.isinf(distance).all():
            key = -nearer(distance, points, points[open_].mean(axis=0))
        chosen[at] = np.where(open_, key, -np.inf).argmax()
        open_[chosen[at]] = False
        distance = nearer(distance, points, points[chosen[at]])
    return chosen, distance


# ---------------------------------------------------------------------------------------------- strategies


class _Scored(StrategyBase):
    """Pool rows with the largest scores of the current surrogates."""

    adaptive = True
    from_pool = True
    asks_surrogates = True
    members = 1

    def __init__(self, candidates: int | None = None) -> None:
        if candidates is not None and candidates < 1:
            raise UsageError(f"{self.name}: candidates is {candidates}, it must be 1 or more")
        self.candidates = candidates

    @abc.abstractmethod
    def scores(self, probas: Array) -> Array:
        """Return the worth of each row from the (M, n, C) probabilities of the surrogates."""

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return the n pool rows that score best."""
        rows = open_rows(state, n, self.name)
        if self.candidates is not None and len(rows) > max(n, self.candidates):
            rows = np.sort(state.rng.permutation(rows)[: max(n, self.candidates)])
        probas = committee_scores(state, take(state.pool, rows))
        if len(probas) < self.members:
            raise UsageError(f"strategy {self.name!r} needs {self.members} surrogates that differ, there is one")
        chosen = best(self.scores(np.stack(probas)), rows, n)
        return Proposal(take(state.pool, chosen), chosen)


class Entropy(_Scored):
    """Pool rows where the mean prediction of the surrogates has the largest entropy (:func:`entropy_scores`).

    Parameters
    ----------
    candidates : int, optional
        Score no more than this many rows in a round, drawn at random; default: the whole pool.

    Notes
    -----
    Ties go to the lowest pool row. Needs surrogates; raises AnswersError when the pool has too few rows left. One
    prediction of every surrogate on the candidates for each round.

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
    >>> collector = Collector("entropy", ask, n_classes=2, pool=pool, committee=committee, seed=0)
    >>> collector.collect(40)
    >>> bool(np.abs(collector.X[20:, 0]).mean() < np.abs(collector.X[:20, 0]).mean())  # nearer to the boundary
    True
    """

    name = "entropy"

    def scores(self, probas: Array) -> Array:
        """Return the entropy of the mean."""
        return entropy_scores(probas.mean(axis=0))


class Margin(_Scored):
    """Pool rows where the two best classes of the mean prediction are closest (:func:`margin_scores`).

    Parameters, ties and errors as :class:`Entropy`.
    """

    name = "margin"

    def scores(self, probas: Array) -> Array:
        """Return minus the margin of the mean."""
        return margin_scores(probas.mean(axis=0))


class LeastConfidence(_Scored):
    """Pool rows where the best class of the mean prediction is least probable (:func:`confidence_scores`).

    Parameters, ties and errors as :class:`Entropy`.
    """

    name = "least_confidence"

    def scores(self, probas: Array) -> Array:
        """Return 1 minus the largest value of the mean."""
        return confidence_scores(probas.mean(axis=0))


class Committee(_Scored):
    """Query by committee: pool rows on which the surrogates disagree most.

    Parameters
    ----------
    measure : "vote_entropy" or "kl"
        :func:`vote_entropy_scores`, which has many ties when members are few (and ties go to the lowest pool row: a
        pool should be in no order), or :func:`divergence_scores`, which has none but follows members that are sure
        of themselves on little evidence (docs/queries.md has figures).
    candidates : int, optional
        As in :class:`Entropy`.

    Notes
    -----
    Source: Seung, Opper & Sompolinsky (1992, "Query by committee"). Needs two surrogates or more.
    """

    name = "committee"
    members = 2
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"measure": ("vote_entropy", "kl")}

    def __init__(self, measure: str = "vote_entropy", candidates: int | None = None) -> None:
        super().__init__(candidates)
        if measure not in self.choices["measure"]:
            raise UsageError(f"committee: measure is {measure!r}, it is one of {', '.join(self.choices['measure'])}")
        self.measure = measure

    def scores(self, probas: Array) -> Array:
        """Return the disagreement."""
        return divergence_scores(probas) if self.measure == "kl" else vote_entropy_scores(probas)


class KCenter(StrategyBase):
    """Greedy k-center: each next pool row is the one farthest from all that were asked (:func:`farthest_first`).

    Parameters
    ----------
    scale : "column" or "common", optional
        See :meth:`FeatureSpace.encode`; "common" for columns that share a unit.

    Notes
    -----
    Distances are Euclidean on `space.encode`: standardised numbers, 0/1 categories. Needs no surrogates: its seed round
    gives the first centres (with none, the row nearest to the mean is first). Ties go to the lowest pool row. The
    sequence does not depend on how it is cut into rounds. O(pool * d) for each row; the encoded pool is kept.
    """

    name = "k_center"
    adaptive = True
    from_pool = True

    def __init__(self, scale: str | None = None) -> None:
        if scale not in (None, "column", "common"):
            raise UsageError(f"k_center: scale is {scale!r}, it is 'column' or 'common'")
        self.scale = scale
        self._pool: Any = None
        self._points = np.empty((0, 0))
        self._distance = np.empty(0)
        self._counted = 0  # inputs of the state that are in the distances

    def propose(self, state: QueryState, n: int) -> Proposal:
        """Return the n pool rows that farthest-first picks next."""
        open_rows(state, n, self.name)
        asked = 0 if state.X is None else len(state.X)
        if state.pool is not self._pool or asked < self._counted:
            self._pool, self._points = state.pool, state.space.encode(state.pool, self.scale)
            self._distance, self._counted = np.full(len(self._points), np.inf), 0
        if asked > self._counted:
            for centre in state.space.encode(take(state.X, np.arange(self._counted, asked)), self.scale):
                self._distance = nearer(self._distance, self._points, centre)
        chosen, self._distance = farthest_first(self._points, self._distance, ~state.used, n)
        self._counted = asked + n  # a collector asks for all that was proposed before it comes back
        return Proposal(take(state.pool, chosen), chosen)
