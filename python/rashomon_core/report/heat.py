"""Who disagrees with whom: the members in an order that puts similar ones side by side, few enough for a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import MissingDependencyError
from rashomon_core.pairwise import pairwise_disagreement
from rashomon_core.predictions import Predictions

__all__ = ["Heat", "heat_of", "thinned"]

Array = npt.NDArray[Any]
#: Cells of a side of the heat map, models that are clustered.
CELLS, CLUSTERED = 64, 2000


@dataclass(frozen=True, eq=False)
class Heat:
    """Disagreement of models in an order that puts similar ones side by side.

    Attributes
    ----------
    names : list of str
        One for each row: a model, or how many models a row stands for.
    cells : (n, n) float64
        Share of samples on which two models differ; means over pairs where a row stands for several.
    models : int
        How many models there are.
    """

    names: list[str]
    cells: Array
    models: int


def heat_of(
    view: Predictions,
    decided: Callable[[Predictions], Predictions],
    *,
    weights: Array | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> tuple[Heat, list[str]]:
    """Return the disagreement of at least two models, and what was thinned.

    Parameters
    ----------
    view : Predictions
    decided : function
        From the models that are shown to what they decide.
    weights : (N,) float64 or None

    Raises
    ------
    MissingDependencyError
        SciPy is not installed.
    """
    M, notes = view.n_models, []
    kept = thinned(M, CLUSTERED)
    if len(kept) < M:
        view = view.take(kept)
        notes.append(f"the heat map is of {len(kept):,} of {M:,} members")
    cells = pairwise_disagreement(decided(view), sample_weight=weights, threads=threads, memory=memory)
    order = _clustered(cells)
    if len(order) <= CELLS:
        return Heat([view.model_ids[k] for k in order], cells[np.ix_(order, order)], M), notes
    bins = np.array_split(order, CELLS)
    notes.append(f"a row of the heat map is the mean of {len(bins[-1])} or {len(bins[0])} neighbouring models")
    member = np.zeros((CELLS, len(order)))
    for row, models in enumerate(bins):
        member[row, models] = 1
    size = member.sum(axis=1)
    pairs = np.outer(size, size)
    pairs[np.diag_indices(CELLS)] = np.maximum(size * (size - 1), 1)  # of different models
    return Heat([f"{len(models)} models" for models in bins], member @ cells @ member.T / pairs, M), notes


def thinned(n: int, most: int) -> Array:
    """Return at most ``most`` of 0..n-1, evenly spread, first and last among them."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))


def _clustered(distances: Array) -> Array:
    """Return an order of models by average-linkage clustering: neighbours differ little."""
    try:
        from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
        from scipy.spatial.distance import squareform
    except ImportError as error:
        raise MissingDependencyError("scipy", "the order of the heat map", "report") from error
    condensed = squareform(distances, checks=False)
    tree = linkage(condensed, "average")
    if len(distances) <= CELLS:
        tree = optimal_leaf_ordering(tree, condensed)
    return np.asarray(leaves_list(tree), dtype=np.int64)
