"""Rashomon Capacity: how many bits the choice of the model puts into the answer to one sample.

C_i = max_p I(p; S_i) = min_q max_k D(s_ki || q), the capacity of the channel whose rows are the score vectors of the
models (Hsu and Calmon 2022), with a certificate: for any weights p with mixture q, sum_k p_k D(s_k || q) is a lower
and max_k D(s_k || q) an upper bound. docs/capacity.md explains the method.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UncertifiedError, UncertifiedWarning, UsageError
from rashomon_core.results import CapacityResult, ChannelCapacity
from rashomon_core.vectors import as_score_view, as_weights

from .channel import STATUS, CapacityRule, ChannelSolver
from .summary import describe
from .visit import Request, visit

__all__ = ["capacity_of", "channel_capacity", "complain", "described", "rashomon_capacity"]

Array = npt.NDArray[Any]
REACTIONS = ("warn", "raise", "ignore")


def complain(count: int, n: int, reason: str, on_uncertified: str, gap: float) -> None:
    """Warn or raise when samples were left uncertified."""
    if on_uncertified not in REACTIONS:
        raise UsageError(f"on_uncertified={on_uncertified!r} is not one of {', '.join(REACTIONS)}")
    if count == 0 or on_uncertified == "ignore":
        return
    text = (
        f"{count} of {n} capacities are not certified ({reason}): their bounds hold, and are up to {gap:.3g} bits "
        "apart. Fix: a larger tol, or a larger max_iter where that was the limit"
    )
    if on_uncertified == "raise":
        raise UncertifiedError(text)
    warnings.warn(text, UncertifiedWarning, stacklevel=3)


def capacity_of(solver: ChannelSolver, weights: Array | None) -> CapacityResult:
    """Return what a solver found as a result."""
    return CapacityResult(
        lower=solver.bounds.array()[0],
        upper=solver.bounds.array()[1],
        iterations=solver.scans,
        newton=solver.steps,
        status_codes=solver.status,
        tol=float(solver.rule.tol),
        method=solver.rule.method,
        weights=weights,
        _solver=solver,
        _summarise=summarise,
    )


def summarise(result: CapacityResult) -> dict[str, Any]:
    """Return the statistics of ``CapacityResult.summary``."""
    return described(result._solver, result.weights)


def described(
    solver: ChannelSolver, weights: Array | None, *, in_memory: bool = True, chunk: int | None = None
) -> dict[str, Any]:
    """Return mean, quantiles and max in bits and of 2^bits, the largest gap and the counts of each status."""
    n = solver.view.n_samples

    def effective(start: int, stop: int) -> Array:
        result: Array = 2.0 ** solver.bits(start, stop)
        return result

    return {
        **describe(solver.bits, n, weights, in_memory=in_memory, chunk=chunk),
        "max_gap": solver.gap(),
        "status_counts": solver.status_counts(),
        "effective": describe(effective, n, weights, in_memory=in_memory, chunk=chunk),
    }


def why(result: CapacityResult) -> str:
    """Name the states of the uncertified samples."""
    return ", ".join(f"{n} {name}" for name, n in result.status_counts.items() if n and name != "certified")


def rashomon_capacity(
    probs: object,
    *,
    tol: float = 1e-6,
    method: str = "auto",
    max_iter: int | None = None,
    on_uncertified: str = "warn",
    sample_weight: object = None,
    threads: int | None = None,
    memory: int | str | None = None,
) -> CapacityResult:
    """Return the Rashomon Capacity of every sample, in bits, with lower and upper bounds.

    Parameters
    ----------
    probs : (M, N, C) or (M, N) array-like of floats, or Predictions
        Scores of M models; (M, N) is P(class 1). Rows are divided by their sums, in float64.
    tol : float
        Bits: a sample is certified when upper - lower <= tol.
    method : {"auto", "newton", "blahut_arimoto"}
        "auto": the closed form for two classes, else the active-set Newton method and, should it not get there,
        Blahut-Arimoto. The other two use one method only.
    max_iter : int, optional
        Limit of full scans over the models ("newton", default 100) or of rounds ("blahut_arimoto", default 100,000).
    on_uncertified : {"warn", "raise", "ignore"}
    sample_weight : (N,) array-like, optional
        Finite, >= 0, not all 0; for the summaries.
    threads, memory : see :func:`rashomon_core.profile`

    Returns
    -------
    CapacityResult
        ``.bits``, ``.lower``, ``.upper``, ``.iterations``, ``.newton``, ``.status`` (N,), ``.support(i)``,
        ``.summary()``, ``.cdf()``. Capacities lie in [0, log2 min(M, C)]; identical models give exactly 0.

    Raises
    ------
    InvalidInputError
        For scores that are no probabilities, naming model and sample, before anything is solved.
    UncertifiedError
        With ``on_uncertified="raise"``.

    Notes
    -----
    0 log 0 = 0. O(M C) a sample and scan, typically two scans. The same bits for any threads, memory and layout; the
    interval holds on every instruction set. Sources: Hsu and Calmon (NeurIPS 2022); Blahut, Arimoto (1972).

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> r = rc.rashomon_capacity(np.array([[[0.9, 0.1, 0.0]], [[0.1, 0.9, 0.0]], [[0.5, 0.5, 0.0]]]))
    >>> r.bits.round(6), r.status, r.support(0)[0]
    (array([0.531004]), array(['certified'], dtype='<U15'), array([0, 1]))
    """
    rule = CapacityRule(tol, method, max_iter)
    complain(0, 0, "", on_uncertified, 0.0)  # a wrong word is refused before the work
    view = as_score_view(probs)
    w = as_weights(sample_weight, view.n_samples)
    request = Request(ranges=rule.closed_form(view), capacity=rule)
    found = visit(view, request, threads=threads, memory=memory, label="capacity").capacity
    assert found is not None
    result = capacity_of(found, w)
    left = int(np.count_nonzero(result.status_codes))
    complain(left, view.n_samples, why(result), on_uncertified, result.max_gap)
    return result


def channel_capacity(
    P: object,
    *,
    tol: float = 1e-6,
    method: str = "auto",
    max_iter: int | None = None,
    on_uncertified: str = "warn",
) -> ChannelCapacity:
    """Return the capacity of one discrete memoryless channel, with bounds and the input distribution.

    Parameters
    ----------
    P : (M, C) array-like of floats
        Row k is the output distribution of input k: not negative, rows sum to 1 (they are divided by their sums).
        Any M >= 1 and C >= 1, zeros and repeated rows included.
    tol, method, max_iter, on_uncertified : as in :func:`rashomon_capacity`

    Returns
    -------
    ChannelCapacity

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> c = rc.channel_capacity([[0.75, 0.25, 0.0], [0.0, 0.25, 0.75]])  # erasures: 1 - 0.25
    >>> round(c.bits, 6), c.status, c.weights.round(6)
    (0.75, 'certified', array([0.5, 0.5]))
    """
    rule = CapacityRule(tol, method, max_iter)
    complain(0, 0, "", on_uncertified, 0.0)
    rows = np.asarray(P)
    if rows.dtype.kind in "iub":
        rows = rows.astype(np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise InvalidInputError(
            f"a channel has two axes (inputs, outputs), and this has shape {rows.shape}",
            fix="one row of probabilities per input",
        )
    outputs = rows.shape[1]
    if outputs == 1:
        rows = np.concatenate([np.zeros_like(rows), rows], axis=1)  # a class that nobody predicts
    view = as_score_view(rows[:, None, :])
    view.validate()
    solver = ChannelSolver(view, rule)
    models, weights, out = solver.solved(0)
    p = np.zeros(view.n_models)
    p[models] = weights
    exact = rows.astype(np.float64)
    output = p @ (exact / exact.sum(axis=1, keepdims=True))
    result = ChannelCapacity(
        lower=float(out["lower"][0]),
        upper=float(out["upper"][0]),
        iterations=int(out["scans"][0]),
        newton=int(out["steps"][0]),
        status=STATUS[out["status"][0]],
        weights=p,
        output=output[-outputs:],
    )
    complain(int(result.status != "certified"), 1, result.status, on_uncertified, result.max_gap)
    return result
