"""One slow, obvious function per metric: the oracle that every kernel is held to.

Nothing here is clever and nothing here is fast. A function is a transcription of one definition in plain
loops over Python numbers, so that a reader can check it by eye. It imports nothing of the package under test.

Conventions
-----------
labels : (M, N) integers, probs : (M, N, C) floats, or (M, N) floats read as P(class 1) of two classes.
w : (N,) sample weights, None for 1 each. A "share" or "mean" over samples is then the weighted one. A sample
of weight 0 takes no part at all, not even when its loss is infinite.
``tolist()`` turns every dtype, byte order and memory layout into exact Python ints and floats (doubles).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# ----------------------------------------------------------------------------------------------------
# Shares, means and quantiles over samples


def share(flags: list[bool], w: ArrayLike | None = None) -> float:
    """Share of samples whose flag is set: total weight of those / total weight."""
    if w is None:
        return sum(flags) / len(flags)
    weights = np.asarray(w).tolist()
    total = math.fsum(weights)
    return math.fsum(weight for flag, weight in zip(flags, weights, strict=True) if flag) / total


def mean(values: list[float], w: ArrayLike | None = None) -> float:
    """Mean over samples, summed without rounding (fsum)."""
    if w is None:
        return math.fsum(values) / len(values)
    weights = np.asarray(w).tolist()
    # 0 * inf would be NaN: a sample of weight 0 is left out instead.
    terms = [weight * value for value, weight in zip(values, weights, strict=True) if weight > 0]
    return math.fsum(terms) / math.fsum(weights)


def weighted_quantile(values: ArrayLike, p: float, w: ArrayLike | None = None) -> float:
    """Return the smallest value whose cumulative weight reaches the share p of the total (p in [0, 1])."""
    numbers = np.asarray(values, dtype=np.float64).tolist()
    weights = [1] * len(numbers) if w is None else np.asarray(w).tolist()
    # Without the samples of weight 0, p = 0 is the smallest value that counts.
    order = sorted((i for i in range(len(numbers)) if weights[i] > 0), key=lambda i: numbers[i])
    total = math.fsum(weights)
    for rank, i in enumerate(order):
        cumulative = math.fsum(weights[j] for j in order[: rank + 1])
        # Divided, because 7 of 100 reaches p = 0.07 though 0.07 * 100 is 7.000000000000001.
        if cumulative / total >= p:
            return float(numbers[i])
    return float(numbers[order[-1]])


# ----------------------------------------------------------------------------------------------------
# Scores to probabilities and decisions


def softmax(logits: ArrayLike) -> Floats:
    """Probabilities from logits over the last axis, in float64: exp(z - max z), normalised."""
    z = np.asarray(logits).astype(np.float64)
    out = np.empty(z.shape)
    for index in np.ndindex(z.shape[:-1]):
        row = z[index].tolist()
        largest = max(row)
        powers = [math.exp(value - largest) for value in row]
        total = math.fsum(powers)
        out[index] = [power / total for power in powers]
    return out


def probabilities(scores: ArrayLike, kind: str) -> Floats:
    """Turn scores of kind "proba", "log_proba" or "logits" into float64 probabilities of the same shape.

    An (M, N) array is about class 1 of two classes: P(1), log P(1), or the log-odds of class 1.
    """
    s = np.asarray(scores).astype(np.float64)
    if kind == "proba":
        return s
    if kind == "log_proba":
        return np.array([math.exp(value) for value in s.ravel().tolist()]).reshape(s.shape)
    if kind == "logits" and s.ndim == 2:
        return softmax(np.stack([np.zeros(s.shape), s], axis=-1))[..., 1]
    if kind == "logits":
        return softmax(s)
    raise ValueError(kind)


def decide(probs: ArrayLike, threshold: float | None = None) -> Ints:
    """Decisions (M, N): argmax with ties to the lowest index; (M, N) scores: 1 where P(1) > .5.

    With a threshold (two classes): 1 where P(1) >= threshold, compared as doubles.
    """
    s = np.asarray(probs)
    models, samples = s.shape[:2]
    scores = s.tolist()
    out = np.zeros((models, samples), dtype=np.int64)
    for k in range(models):
        for i in range(samples):
            row = scores[k][i]
            if threshold is not None:
                p1 = row if s.ndim == 2 else row[1]
                out[k, i] = 1 if p1 >= threshold else 0
            elif s.ndim == 2:
                out[k, i] = 1 if row > 0.5 else 0
            else:
                best = 0
                for c in range(1, len(row)):
                    if row[c] > row[best]:
                        best = c
                out[k, i] = best
    return out


def _rows(probs: ArrayLike) -> list[list[list[float]]]:
    """Scores as rows[k][i][c]; P(class 1) becomes the row (1 - p, p)."""
    s = np.asarray(probs)
    scores: list[list[list[float]]] = s.tolist()
    if s.ndim == 3:
        return scores
    return [[[1.0 - p, p] for p in model] for model in s.tolist()]


def _target_rows(target_probs: ArrayLike) -> list[list[float]]:
    """Target scores (N, C), or (N,) = P(class 1), as rows[i][c]."""
    return _rows(np.asarray(target_probs)[None])[0]


# ----------------------------------------------------------------------------------------------------
# From decisions


def pairwise_disagreement_counts(labels: ArrayLike) -> Ints:
    """Number of samples on which models k and l differ, (M, M)."""
    d = np.asarray(labels).tolist()
    models, samples = len(d), len(d[0])
    out = np.zeros((models, models), dtype=np.int64)
    for k in range(models):
        for l in range(models):
            out[k, l] = sum(d[k][i] != d[l][i] for i in range(samples))
    return out


def pairwise_disagreement(labels: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """share_i 1[d_ki != d_li], (M, M)."""
    d = np.asarray(labels).tolist()
    models, samples = len(d), len(d[0])
    out = np.zeros((models, models))
    for k in range(models):
        for l in range(models):
            out[k, l] = share([d[k][i] != d[l][i] for i in range(samples)], w)
    return out


def mean_pairwise_disagreement(labels: ArrayLike, w: ArrayLike | None = None) -> float:
    """Mean of the pairwise disagreement over the pairs k < l; 0 for a single model."""
    matrix = pairwise_disagreement(labels, w)
    pairs = list(itertools.combinations(range(len(matrix)), 2))
    return mean([float(matrix[k, l]) for k, l in pairs]) if pairs else 0.0


def fidelity(labels: ArrayLike, target: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """share_i 1[d_ki = t_i], (M,)."""
    d, t = np.asarray(labels).tolist(), np.asarray(target).tolist()
    return np.array([share([a == b for a, b in zip(row, t, strict=True)], w) for row in d])


def correct_fidelity(labels: ArrayLike, target: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Share of samples where model and target agree and are right, (M,)."""
    d, t, truth = (np.asarray(array).tolist() for array in (labels, target, y))
    samples = len(t)
    return np.array([share([row[i] == t[i] == truth[i] for i in range(samples)], w) for row in d])


def zero_one_loss(labels: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """share_i 1[d_ki != y_i], (M,); with the target's decisions for y it is the fidelity loss."""
    d, truth = np.asarray(labels).tolist(), np.asarray(y).tolist()
    return np.array([share([a != b for a, b in zip(row, truth, strict=True)], w) for row in d])


def ambiguous_samples(labels: ArrayLike, reference: ArrayLike) -> Bools:
    """1[some model differs from the reference at i], (N,)."""
    d, r = np.asarray(labels).tolist(), np.asarray(reference).tolist()
    return np.array([any(row[i] != r[i] for row in d) for i in range(len(r))])


def ambiguity(labels: ArrayLike, reference: ArrayLike, w: ArrayLike | None = None) -> float:
    """Share of i with max_k 1[d_ki != r_i]."""
    return share(ambiguous_samples(labels, reference).tolist(), w)


def pairwise_ambiguity(labels: ArrayLike, w: ArrayLike | None = None) -> float:
    """Share of i on which two models differ."""
    d = np.asarray(labels).tolist()
    return share([any(row[i] != d[0][i] for row in d) for i in range(len(d[0]))], w)


def discrepancy(labels: ArrayLike, reference: ArrayLike, w: ArrayLike | None = None) -> float:
    """max_k share_i 1[d_ki != r_i]."""
    return max(float(loss) for loss in zero_one_loss(labels, reference, w))


def pairwise_discrepancy(labels: ArrayLike, w: ArrayLike | None = None) -> float:
    """max_{k<l} share_i 1[d_ki != d_li]; 0 for a single model."""
    matrix = pairwise_disagreement(labels, w)
    pairs = itertools.combinations(range(len(matrix)), 2)
    return max((float(matrix[k, l]) for k, l in pairs), default=0.0)


def votes(labels: ArrayLike, n_classes: int) -> Ints:
    """v_ic = number of k with d_ki = c, (N, C)."""
    d = np.asarray(labels).tolist()
    out = np.zeros((len(d[0]), n_classes), dtype=np.int64)
    for row in d:
        for i, label in enumerate(row):
            out[i, int(label)] += 1
    return out


def disagreement_rate(labels: ArrayLike, ddof: int = 0) -> Floats:
    """Chance that two models drawn with (ddof 0) or without (ddof 1) replacement differ on i, (N,).

    Counted over all ordered pairs of models. ddof 1 with a single model: no pair, NaN.
    """
    d = np.asarray(labels).tolist()
    models, samples = len(d), len(d[0])
    out = np.full(samples, math.nan)
    for i in range(samples):
        differing = sum(d[k][i] != d[l][i] for k in range(models) for l in range(models))
        pairs = models * models if ddof == 0 else models * (models - 1)
        if pairs > 0:
            out[i] = differing / pairs
    return out


def self_consistency(labels: ArrayLike) -> Floats:
    """1 - disagreement rate with ddof 1, (N,)."""
    return np.array([1.0 - rate for rate in disagreement_rate(labels, ddof=1).tolist()])


def viable_decisions(labels: ArrayLike) -> Ints:
    """Number of classes that some model predicts for i, (N,)."""
    d = np.asarray(labels).tolist()
    return np.array([len({row[i] for row in d}) for i in range(len(d[0]))], dtype=np.int64)


def size_matched(function: Callable[[tuple[int, ...]], float], n_models: int, m: int) -> float:
    """Expectation of function(model indices) over all subsets of m models, one after the other."""
    return mean([function(subset) for subset in itertools.combinations(range(n_models), m)])


def size_matched_ambiguity(labels: ArrayLike, reference: ArrayLike, m: int, w: ArrayLike | None = None) -> float:
    """Ambiguity of a random m-subset, in expectation."""
    d = np.asarray(labels)
    return size_matched(lambda subset: ambiguity(d[list(subset)], reference, w), len(d), m)


def size_matched_pairwise_ambiguity(labels: ArrayLike, m: int, w: ArrayLike | None = None) -> float:
    """Pairwise ambiguity of a random m-subset, in expectation."""
    d = np.asarray(labels)
    return size_matched(lambda subset: pairwise_ambiguity(d[list(subset)], w), len(d), m)


def size_matched_max(x: ArrayLike, m: int) -> float:
    """Largest x_k of a random m-subset of models, in expectation; x is (M,)."""
    values = np.asarray(x).tolist()
    return size_matched(lambda subset: max(values[k] for k in subset), len(values), m)


def size_matched_range(probs: ArrayLike, m: int) -> Floats:
    """Width of the viable prediction range of a random m-subset, in expectation, (N, C)."""
    rows = _rows(probs)
    models, samples, classes = len(rows), len(rows[0]), len(rows[0][0])
    out = np.zeros((samples, classes))
    for i in range(samples):
        for c in range(classes):
            scores = [rows[k][i][c] for k in range(models)]
            largest = size_matched_max(scores, m)
            smallest = -size_matched_max([-s for s in scores], m)
            out[i, c] = largest - smallest
    return out


# ----------------------------------------------------------------------------------------------------
# From scores


def viable_prediction_range(probs: ArrayLike) -> Floats:
    """[min_k s_kic, max_k s_kic], (N, C, 2)."""
    rows = _rows(probs)
    samples, classes = len(rows[0]), len(rows[0][0])
    out = np.zeros((samples, classes, 2))
    for i in range(samples):
        for c in range(classes):
            scores = [model[i][c] for model in rows]
            out[i, c] = min(scores), max(scores)
    return out


def score_variance(probs: ArrayLike, ddof: int = 0) -> Floats:
    """Variance over k of s_kic, two passes, (N, C); exactly 0 for equal scores; NaN where M - ddof is 0."""
    rows = _rows(probs)
    models, samples, classes = len(rows), len(rows[0]), len(rows[0][0])
    out = np.full((samples, classes), math.nan)
    for i in range(samples):
        for c in range(classes):
            scores = [model[i][c] for model in rows]
            centre = math.fsum(scores) / models
            squares = math.fsum((s - centre) ** 2 for s in scores)
            if models > ddof:
                # The rounded mean of equal scores may miss them by an ulp.
                out[i, c] = 0.0 if min(scores) == max(scores) else squares / (models - ddof)
    return out


def delta_ambiguity(probs2d: ArrayLike, ref_scores: ArrayLike, delta: float, w: ArrayLike | None = None) -> float:
    """Share of i with max_k abs(s_ki1 - r_i1) >= delta; probs2d (M, N) and ref_scores (N,) are P(class 1)."""
    s, r = np.asarray(probs2d).tolist(), np.asarray(ref_scores).tolist()
    return share([max(abs(model[i] - r[i]) for model in s) >= delta for i in range(len(r))], w)


def delta_discrepancy(probs2d: ArrayLike, ref_scores: ArrayLike, delta: float, w: ArrayLike | None = None) -> float:
    """max_k share_i 1[abs(s_ki1 - r_i1) >= delta]."""
    s, r = np.asarray(probs2d).tolist(), np.asarray(ref_scores).tolist()
    return max(share([abs(model[i] - r[i]) >= delta for i in range(len(r))], w) for model in s)


def log_loss(probs: ArrayLike, y: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Mean of -log P(label) in nats, (M,); +inf where the probability of a label is 0."""
    truth = np.asarray(y).tolist()
    out = []
    for model in _rows(probs):
        losses = []
        for i, label in enumerate(truth):
            p = model[i][int(label)]
            losses.append(-math.log(p) if p > 0 else math.inf)
        out.append(mean(losses, w))
    return np.array(out)


def total_variation(probs: ArrayLike, target_probs: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Mean of 0.5 * sum_c abs(s - t), (M,)."""
    target = _target_rows(target_probs)
    out = []
    for model in _rows(probs):
        distances = []
        for s_row, t_row in zip(model, target, strict=True):
            distances.append(0.5 * math.fsum(abs(s - t) for s, t in zip(s_row, t_row, strict=True)))
        out.append(mean(distances, w))
    return np.array(out)


def kl_divergence(probs: ArrayLike, target_probs: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Mean of KL(target || model) in bits, (M,); 0 log 0 = 0; +inf where only the model says 0."""
    target = _target_rows(target_probs)
    out = []
    for model in _rows(probs):
        divergences = []
        for s_row, t_row in zip(model, target, strict=True):
            terms = []
            for s, t in zip(s_row, t_row, strict=True):
                if t > 0:
                    terms.append(t * (math.log2(t) - math.log2(s)) if s > 0 else math.inf)
            divergences.append(math.fsum(terms))
        out.append(mean(divergences, w))
    return np.array(out)


def cross_entropy(probs: ArrayLike, target_probs: ArrayLike, w: ArrayLike | None = None) -> Floats:
    """Mean of -sum_c t log s in nats, (M,); 0 log 0 = 0; +inf where only the model says 0."""
    target = _target_rows(target_probs)
    out = []
    for model in _rows(probs):
        entropies = []
        for s_row, t_row in zip(model, target, strict=True):
            terms = []
            for s, t in zip(s_row, t_row, strict=True):
                if t > 0:
                    terms.append(-t * math.log(s) if s > 0 else math.inf)
            entropies.append(math.fsum(terms))
        out.append(mean(entropies, w))
    return np.array(out)


# ----------------------------------------------------------------------------------------------------
# The set


def rashomon_mask(
    loss: ArrayLike,
    epsilon: float,
    reference: int | None = None,
    reference_loss: float | None = None,
    relative: bool = False,
    n: int | None = None,
) -> Bools:
    """Members of the set at epsilon, (M,).

    loss is (M,); the reference is `reference_loss`, else the loss of model `reference`, else the smallest.
    With n, losses (and reference_loss) are numbers of errors among n samples and are compared as counts;
    otherwise they are reals and 4 ulp of the bound are allowed.
    """
    losses = np.asarray(loss).tolist()
    base = reference_loss
    if base is None:
        base = losses[reference] if reference is not None else min(x for x in losses if not math.isnan(x))
    if n is not None:
        # errors <= (1 + epsilon) errors_ref is errors - errors_ref <= epsilon * errors_ref.
        allowed = math.floor(epsilon * (base if relative else n) + 1e-9)
        return np.array([errors - base <= allowed for errors in losses])
    bound = (1.0 + epsilon) * base if relative else base + epsilon
    slack = 4.0 * math.ulp(bound) if math.isfinite(bound) else 0.0
    return np.array([x <= bound + slack for x in losses])


def paired_noise(labels: ArrayLike, target: ArrayLike, reference: int) -> Floats:
    """sqrt(b + c - (b - c)^2 / n) / n of each model against model `reference`, (M,).

    b: samples that the reference gets right and the model wrong, c: the other way round.
    """
    d, t = np.asarray(labels).tolist(), np.asarray(target).tolist()
    n = len(t)
    out = []
    for row in d:
        b = sum(d[reference][i] == t[i] and row[i] != t[i] for i in range(n))
        c = sum(d[reference][i] != t[i] and row[i] == t[i] for i in range(n))
        out.append(math.sqrt(b + c - (b - c) ** 2 / n) / n)
    return np.array(out)


def unpaired_noise(fidelity_of_reference: float, n: int) -> float:
    """sqrt(f (1 - f) / n)."""
    return math.sqrt(fidelity_of_reference * (1.0 - fidelity_of_reference) / n)


def rashomon_ratio(mask: ArrayLike) -> float:
    """Members / explored."""
    members = np.asarray(mask).tolist()
    return float(sum(members) / len(members))


def pattern_ratio(labels: ArrayLike, mask: ArrayLike) -> float:
    """Distinct decision vectors among members / distinct among explored."""
    d, members = np.asarray(labels).tolist(), np.asarray(mask).tolist()
    explored = {tuple(row) for row in d}
    inside = {tuple(row) for row, member in zip(d, members, strict=True) if member}
    return len(inside) / len(explored)
