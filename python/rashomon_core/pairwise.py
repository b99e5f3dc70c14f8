"""``rc.pairwise_disagreement``: the matrix of all pairs of models, in memory or written block by block."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .metrics.decisions import decision_planes
from .metrics.pairs import pair_blocks, pair_matrix
from .metrics.sums import total
from .store.matrices import writing_matrix
from .tiles import parse_memory, parse_threads
from .vectors import as_label_view, as_weights

__all__ = ["pairwise_disagreement"]

Array = npt.NDArray[Any]


@overload
def pairwise_disagreement(
    labels: object,
    *,
    counts: bool = ...,
    sample_weight: object = ...,
    threads: int | None = ...,
    memory: int | str | None = ...,
    out: None = ...,
) -> Array: ...
@overload
def pairwise_disagreement(
    labels: object,
    *,
    counts: bool = ...,
    sample_weight: object = ...,
    threads: int | None = ...,
    memory: int | str | None = ...,
    out: str | os.PathLike[str],
) -> Path: ...
def pairwise_disagreement(
    labels: object,
    *,
    counts: bool = False,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Array | Path:
    """Return the share of samples on which each pair of models differs.

    Parameters
    ----------
    labels : (M, N) array-like of integers, or Predictions
    counts : bool
        Return exact int64 counts instead; not with weights.
    out : path, optional
        A .npy file, or a .zarr folder that is not there yet: the matrix is written there, complete or not at all, and
        the path is returned. For matrices that do not fit the memory.

    Returns
    -------
    (M, M) float64 or int64, symmetric with a zero diagonal; a metric (triangle inequality)

    Raises
    ------
    OutputError
        If ``out`` cannot be written.

    Notes
    -----
    O(M^2 N ceil(log2 C) / 512) steps of 512 samples on bit planes. Holds M x M; with ``out`` two blocks of bit planes
    and one block of the matrix for each thread (bit planes beyond a quarter of ``memory`` lie in a temporary file).
    The summary in :func:`rashomon_core.profile` does neither.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> rc.pairwise_disagreement([[0, 1, 1, 0], [0, 1, 0, 0]], counts=True)
    array([[0, 1],
           [1, 0]])
    """
    view = as_label_view(labels)
    w = as_weights(sample_weight, view.n_samples)
    if counts and w is not None:
        raise UsageError("counts=True has no meaning with sample weights. Fix: drop one of them")
    dtype = np.dtype(np.int64 if counts else np.float64)
    scale = None if counts else view.n_samples if w is None else total(w)
    pool, budget, M = parse_threads(threads), parse_memory(memory), view.n_models
    limits: dict[str, Any] = {"threads": pool, "memory": budget, "weights": w, "scale": scale}
    if out is None:
        planes = decision_planes(view, threads, memory)
        matrix = np.empty((M, M), dtype=dtype)
        pair_matrix(planes, matrix, **limits)
        return matrix
    if view.path is not None and os.path.exists(out) and os.path.exists(view.path) and os.path.samefile(out, view.path):
        raise UsageError(f"{os.fspath(out)}: these are the predictions. Fix: choose another name for out")
    with writing_matrix(out) as begin:  # a name that cannot be written is refused before the reading
        planes = decision_planes(view, threads, memory)
        pair_matrix(planes, begin((M, M), dtype, pair_blocks(planes, pool, budget)[0]), **limits)
    return Path(os.fspath(out))
