"""Metrics of scores: ranges, variances, losses and distances to a target's probabilities.

Logarithms are the library's own (same bits on every machine); log loss and cross-entropy are in nats, KL divergence
in bits. A probability of 0 where it matters gives +inf.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _encode, _sums
from rashomon_core.errors import UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.tiles import BLOCK, Scratch, parse_memory, parse_threads, plan, read_block, run
from rashomon_core.vectors import Target, as_decisions, as_score_view, as_target, as_weights, target_rows

from .sums import share, total, total_of
from .visit import Request, Visit, visit

__all__ = [
    "cross_entropy",
    "delta_ambiguity",
    "delta_discrepancy",
    "kl_divergence",
    "log_loss",
    "score_variance",
    "total_variation",
    "viable_prediction_range",
]

Array = npt.NDArray[Any]
LN2 = float(np.log(2.0))


def ranges_of(found: Visit, view: Predictions) -> tuple[Array, Array]:
    """Return (N, C) smallest and largest scores; P(class 1) alone becomes two classes, in float64."""
    assert found.low is not None
    assert found.high is not None
    low, high = found.low.array().T, found.high.array().T
    if view.columns > 1:
        return low, high
    low, high = low.astype(np.float64), high.astype(np.float64)
    return np.concatenate([1.0 - high, low], axis=1), np.concatenate([1.0 - low, high], axis=1)


def viable_prediction_range(probs: object, *, threads: int | None = None, memory: int | str | None = None) -> Array:
    """Return the smallest and largest score of each (sample, class) over the models.

    Parameters
    ----------
    probs : (M, N, C) or (M, N) array-like of floats, or Predictions

    Returns
    -------
    (N, C, 2)
        [min_k s_kic, max_k s_kic]: the very scores, in their own precision (float16 as float32); float64 for
        (M, N) scores, whose class 0 is 1 - P(class 1), and for logits and log-probabilities.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.viable_prediction_range(np.array([[0.25, 0.5], [0.75, 0.5]]))[0]
    array([[0.25, 0.75],
           [0.25, 0.75]])
    """
    view = as_score_view(probs)
    found = visit(view, Request(ranges=True), threads=threads, memory=memory)
    return np.stack(ranges_of(found, view), axis=-1)


def score_variance(
    probs: object, *, ddof: int = 0, threads: int | None = None, memory: int | str | None = None
) -> Array:
    """Return the variance over the models of each score; identical models give exactly 0.

    Sums of s - s_0 and of its square, s_0 the first model's score, in float64; then (q - s^2 / M) / (M - ddof).

    Returns
    -------
    (N, C) float64; NaN for M <= ddof

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.score_variance(np.array([[0.25, 0.5], [0.75, 0.5]]))
    array([[0.0625, 0.0625],
           [0.    , 0.    ]])
    """
    if ddof < 0:
        raise UsageError(f"ddof={ddof} is negative")
    view = as_score_view(probs)
    found = visit(view, Request(ranges=True, ddof=ddof), threads=threads, memory=memory)
    assert found.variance is not None
    variance = found.variance.array().T
    if view.n_models <= ddof:
        variance = np.full_like(variance, np.nan)
    return variance if view.columns > 1 else np.repeat(variance, 2, axis=1)


def _loss(
    probs: object,
    name: str,
    sample_weight: object,
    threads: int | None,
    memory: int | str | None,
    *,
    y: object = None,
    target: object = None,
) -> tuple[Array, Array | None, Array | None]:
    """Return the mean loss of each model, the target's scores, and the weights."""
    view = as_score_view(probs)
    w = as_weights(sample_weight, view.n_samples)
    truth = None if y is None else as_decisions(y, view.n_samples, view.n_classes, "y", view.class_names)
    answers = None if target is None else as_target(target, view)
    found = visit(
        view,
        Request(
            losses=(name,),
            y=truth,
            target_scores=None if answers is None else answers.scores,
            target_labels=None if answers is None or answers.scores is not None else answers.decisions,
            weights=w,
        ),
        threads=threads,
        memory=memory,
    )
    sums: Array = found.losses[name]
    return sums / (view.n_samples if w is None else total(w)), None if answers is None else answers.scores, w


def log_loss(
    probs: object,
    y: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the mean over samples of -log s_k,i,y_i in nats for each model; (M,) float64.

    No clipping: a model that gives the true label probability 0 has loss +inf (scikit-learn clips instead).

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.log_loss(np.array([[0.5, 0.5]]), [0, 1]).round(6)
    array([0.693147])
    """
    return _loss(probs, "log_loss", sample_weight, threads, memory, y=y)[0]


def cross_entropy(
    probs: object,
    target: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the mean of -sum_c t_ic log s_kic in nats for each model; (M,) float64, 0 log 0 = 0.

    ``target``: (N, C) or (N,) probabilities, or (N,) labels (then it is the log loss to the target's answers).

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.cross_entropy(np.array([[0.5, 0.5]]), np.array([0.5, 1.0])).round(6)
    array([0.693147])
    """
    return _loss(probs, "cross_entropy", sample_weight, threads, memory, target=target)[0]


def kl_divergence(
    probs: object,
    target: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the mean KL divergence of each model from the target, D(t || s) in bits; (M,) float64.

    +inf where a model gives 0 to a class that the target does not.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.kl_divergence(np.array([[0.5, 0.5]]), np.array([1.0, 0.5]))
    array([0.5])
    """
    return divergence(*_loss(probs, "cross_entropy", sample_weight, threads, memory, target=target))


def divergence(mean_cross_entropy: Array, scores: Array | None, w: Array | None) -> Array:
    """Return KL divergences in bits from mean cross-entropies in nats to the same target (None: it gave labels)."""
    if scores is None:  # one-hot rows have no entropy
        return mean_cross_entropy / LN2
    negative_entropy = total_of(lambda rows: _sums.row_entropies(target_rows(scores, rows)), len(scores), w)
    return (mean_cross_entropy + negative_entropy / (len(scores) if w is None else total(w))) / LN2


def total_variation(
    probs: object,
    target: object,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> Array:
    """Return the mean total variation 0.5 sum_c |s_kic - t_ic| of each model to the target; (M,) float64.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.total_variation(np.array([[0.5, 0.5]]), np.array([1.0, 0.5]))
    array([0.25])
    """
    return _loss(probs, "total_variation", sample_weight, threads, memory, target=target)[0]


def _binary(probs: object, reference_scores: object, delta: float) -> tuple[Predictions, Array]:
    view = as_score_view(probs)
    if view.n_classes != 2:
        raise UsageError(f"delta metrics are for two classes, and there are {view.n_classes}")
    if not delta >= 0:
        raise UsageError(f"delta={delta} is negative")
    return view, positive_scores(as_target(reference_scores, view))


def positive_scores(answers: Target) -> Array:
    """Return P(class 1) of a target, (N,) float64; its decisions where it gave no scores."""
    if answers.scores is None:
        scores = answers.decisions
    else:
        scores = answers.scores if answers.scores.ndim == 1 else answers.scores[:, 1]
    return np.ascontiguousarray(scores, dtype=np.float64)


def delta_ambiguity(
    probs: object,
    reference_scores: object,
    delta: float,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the share of samples whose P(class 1) is at least ``delta`` off the reference's for some model.

    share_i [max_k |s_ki1 - r_i1| >= delta] (Watson-Daniels, Parkes and Ustun 2023); two classes, in float64.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.delta_ambiguity(np.array([[0.5, 0.5], [0.75, 0.5]]), np.array([0.5, 0.5]), 0.25)
    0.5
    """
    view, reference = _binary(probs, reference_scores, delta)
    found = visit(view, Request(ranges=True), threads=threads, memory=memory)
    assert found.low is not None
    assert found.high is not None
    return delta_share(
        found.low.array()[-1],
        found.high.array()[-1],
        reference,
        delta,
        as_weights(sample_weight, view.n_samples),
    )


def delta_share(low: Array, high: Array, reference: Array, delta: float, w: Array | None) -> float:
    """Return the delta-ambiguity from the smallest and largest P(class 1) of each sample."""
    # rounding is monotone: the largest |s - r| belongs to the largest or the smallest score
    return share(np.maximum(high.astype(np.float64) - reference, reference - low.astype(np.float64)) >= delta, w)


def delta_discrepancy(
    probs: object,
    reference_scores: object,
    delta: float,
    *,
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> float:
    """Return the largest share of samples on which one model is at least ``delta`` off the reference; two classes.

    max_k share_i [|s_ki1 - r_i1| >= delta], with >= like its twin.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.delta_discrepancy(np.array([[0.5, 0.5], [0.75, 0.5]]), np.array([0.5, 0.5]), 0.25)
    0.5
    """
    view, reference = _binary(probs, reference_scores, delta)
    w = as_weights(sample_weight, view.n_samples)
    view.validate()
    sums = np.zeros(view.n_models)
    for block in delta_totals(view, reference, delta, w, threads=parse_threads(threads), memory=parse_memory(memory)):
        sums = sums + block
    return float(sums.max() / (view.n_samples if w is None else total(w)))


def delta_totals(
    view: Predictions, reference: Array, delta: float, w: Array | None, *, threads: int, memory: int
) -> Array:
    """Return (blocks of 4,096 samples, M) the number (or weight) of samples at least ``delta`` off the reference."""
    cut = plan(view, threads=threads, memory=memory, per_sample=16 + 18 * view.n_models, unit=BLOCK)
    found: list[Array] = []

    def work(task: tuple[int, int], scratch: Scratch) -> Array:
        start, stop = task
        parts = []
        for m0 in range(0, view.n_models, cut.models):
            models = slice(m0, min(m0 + cut.models, view.n_models))
            block = read_block(view, models, slice(start, stop), scratch, cut)
            scores = np.ascontiguousarray(_encode.probabilities(block, view.kind, view.renormalize)[:, :, -1])
            hits = _sums.count_at_least(scores, reference[start:stop], delta)
            parts.append(_sums.block_totals(hits.T.astype(np.float64), None if w is None else w[start:stop]))
        return np.concatenate(parts, axis=1)

    run(cut.tiles, work, lambda _, totals: found.append(totals), threads=threads, label="measuring")
    return np.concatenate(found)
