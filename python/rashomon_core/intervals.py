"""``rc.bootstrap``: how much every metric depends on which samples happened to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .curve_results import Bootstrap, Interval
from .errors import UsageError
from .profiling import profile

__all__ = ["bootstrap"]


def bootstrap(
    predictions: object,
    *,
    replicates: int = 1000,
    interval: float = 0.95,
    seed: int = 0,
    metrics: str | Sequence[str] = "all",
    **options: Any,
) -> Bootstrap:
    """Return percentile intervals over bootstrap replicates of the samples for every metric but counts.

    A replicate draws as many samples as there are, with replacement (multinomial, nothing is stratified); labels,
    groups and weights go with their samples, and a sample of weight w drawn k times has weight k w. The models are
    fixed: with ``epsilon`` the members of the set are chosen once, and not again in each replicate, so that the
    intervals say how sure the metrics of this set are and not how sure the set is. A replicate in which a metric is
    undefined (a group without anyone, weights that are all 0) takes no part, and is counted.

    Parameters
    ----------
    predictions : Predictions, or (M, N) integers, or (M, N, C) or (M, N) floats
    replicates : int
        At least 2; a thousand for an interval of 95 %.
    interval : float
        Level; the ends are the (1 - level) / 2 and (1 + level) / 2 quantiles of the replicates: the smallest values
        that this share of them reaches.
    seed : int
        The same seed gives the same bytes, whatever threads, memory and instruction set.
    metrics, options : as in :func:`rashomon_core.profile`
        target, y, groups, reference, loss, epsilon, relative, selection, sample_weight, ...

    Returns
    -------
    Bootstrap
        A mapping from names such as "ambiguity", "fidelity.median" and "viable_prediction_range.positive.mean" to
        :class:`Interval`.

    Raises
    ------
    InvalidInputError, UsageError
        As in :func:`rashomon_core.profile`; fewer than two replicates, a level outside 0..1.

    Notes
    -----
    Scores are read once, for losses of scores twice. O(R M N) bits for what compares models with a reference, O(R N)
    for means, quantiles and maxima over samples (sorted once) and for what is measured inside groups, O(R M N)
    additions for losses of scores or with weights, O(R M^2 N) bits for pairwise discrepancy, which is left out (null
    with a reason) where that takes too long. Percentile intervals of a maximum over models such as discrepancy lie
    above its value: replicates vary, and the largest of several varying numbers grows.
    Source: Efron and Tibshirani (1993).

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> labels = np.random.default_rng(0).integers(0, 2, (3, 500))
    >>> found = rc.bootstrap(labels, replicates=200, reference=labels[0], metrics=["ambiguity"])
    >>> interval = found["ambiguity"]
    >>> interval.value, interval.low < interval.value < interval.high, interval.replicates
    (0.79, True, 200)
    """
    if replicates is None:
        raise UsageError("bootstrap needs a number of replicates, such as 1000")
    measured = profile(predictions, metrics=metrics, bootstrap=replicates, interval=interval, seed=seed, **options)
    found = dict(_walk(measured.results(), ()))
    return Bootstrap(found, replicates=int(replicates), level=float(interval), seed=seed, profile=measured)


def _walk(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Interval]]:
    own, others = node.get("interval"), node.get("intervals")
    beside = []  # what stands for intervals, and is not a group or class of that name
    if isinstance(own, Mapping) and _is_interval(own):
        beside.append("interval")
        yield ".".join(path), _interval(node["value"], own)
    if isinstance(others, Mapping) and others and all(map(_is_interval, others.values())):
        beside.append("intervals")
        for name, inner in others.items():
            yield ".".join((*path, name)), _interval(node[name], inner)
    for name, inner in node.items():
        if isinstance(inner, Mapping) and name not in beside:
            yield from _walk(inner, (*path, name))


def _is_interval(node: Any) -> bool:
    return isinstance(node, Mapping) and {"low", "high", "level"} <= set(node)


def _interval(value: float | None, found: Mapping[str, Any]) -> Interval:
    return Interval(value=value, **{"undefined": 0, "reason": None, **found})
