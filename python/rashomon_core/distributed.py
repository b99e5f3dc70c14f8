"""``rc.profile_distributed``: the metrics of a profile on Dask arrays and on a cluster.

Chunks stay where they are. A task feeds one piece to an accumulator of its own and hands on what that has seen; such
states merge in a tree, and what is left of it comes to the client, which computes. A path is all that is sent of a
file: each worker opens it and reads its ranges. What belongs to samples (target, labels, groups, weights, reference)
goes to each worker once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _cpu
from .accumulate import MultiplicityAccumulator
from .asking import check_settings, check_thresholds, metric_names
from .cluster import connected
from .inputs import check_inputs
from .pieces import (
    TASK_BYTES,
    Pieces,
    State,
    decide_one,
    largest_class,
    measure_piece,
    merge_states,
    most_of,
    side_by_side,
)
from .predictions import Kind
from .results import Profile
from .tiles import BLOCK, parse_memory
from .vectors import as_reference

__all__ = ["profile_distributed"]

#: Up to so many models are compared with one another: their counts, 8 bytes a pair, travel with every result.
MOST_COMPARED = 2000
#: Bytes that weights of pairs may take: they are kept block by block until all samples before are there.
MOST_PAIR_WEIGHTS = 1 << 28
#: So many states come back and are merged here as they come, which saves a merge of everything on a worker, and its
#: journey; one where the sums of pairs alone have more bytes than this.
KEPT, MOST_SUMS = 256, 1 << 22
#: Bytes that a task may take for its tile where nobody says.
TASK_MEMORY = 512_000_000


def profile_distributed(
    predictions: object,
    *,
    scheduler: object = None,
    target: object = None,
    y: object = None,
    groups: object = None,
    reference: object = None,
    metrics: str | Sequence[str] = "all",
    capacity_tol: float = 1e-6,
    sample_weight: object = None,
    threshold: float | None = None,
    positive: int = 1,
    missing: str = "refuse",
    fairness_threshold: float | dict[str, float] | None = None,
    skip_undefined: bool = False,
    ddof: int = 0,
    size: int | None = None,
    seed: int = 0,
    memory: int | str | None = None,
    keep_arrays: bool = True,
    kind: Kind | None = None,
    axes: Sequence[str] | str | None = None,
    key: str | None = None,
    key_per_model: bool = False,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    renormalize: bool = False,
    task_bytes: int | None = None,
) -> Profile:
    """Measure like :func:`rashomon_core.profile`, by the workers of a Dask cluster, what lies in chunks or in files.

    Parameters
    ----------
    predictions : path, or dask.array of shape (M, N) or (M, N, C)
        What :func:`rashomon_core.open_predictions` opens, under a path that every worker sees (a shared file system,
        or one machine); or an array, whose chunks are measured where they are.
    scheduler : distributed.Client or str, optional
        A client, an address (tcp://host:port), "local" or "local:N" for N worker processes on this machine. Default:
        the client that is open in this process, else "local". A script that starts local workers keeps its own work
        behind ``if __name__ == "__main__":``.
    target, y, groups, reference, metrics, capacity_tol, sample_weight, threshold, positive, missing, \
fairness_threshold, skip_undefined, ddof, size : as in :func:`rashomon_core.profile`
    memory : int or str, optional
        For local workers all together, else for each task; default 512 MB a task.
    keep_arrays : bool
        False: the profile has results and no arrays.
    kind, axes, key, key_per_model, n_classes, class_names, renormalize : as in :func:`rashomon_core.open_predictions`
    task_bytes : int, optional
        Bytes that a task reads of a file, about; default 512 MB, or less so that all workers have some.

    Returns
    -------
    Profile
        Of all models: sets (epsilon), bootstrap and curves are for :func:`rashomon_core.profile`. Pairs of models are
        measured up to 2,000 models and null with a reason beyond.

    Raises
    ------
    InvalidInputError, UsageError
        As a profile; a scheduler that cannot be reached within 5 seconds, workers with another release.
    WorkerError
        All workers are gone, or a task has ended several.
    MissingDependencyError
        Dask is not installed.

    Notes
    -----
    The same bits as a profile, for any number of workers, where chunks hold all models of whole blocks of 4,096 samples
    (of a file: tasks do, unless one chunk holds more than a gigabyte). Chunks that start elsewhere agree to rounding in
    weighted sums and in mean losses of scores, chunks of some of the models in score variances; counts, ranges and
    everything made of them are the same bits always. Pairs, and the capacity of three and more classes, need all models
    of a sample at once: chunks of an array are brought together along the models for them, and data move.

    A worker that dies costs the tasks it had: they are done again by others.

    Examples
    --------
    >>> import rashomon_core as rc
    >>> result = rc.profile_distributed("preds.zarr", scheduler="local:4", target=target)  # doctest: +SKIP
    """
    started = time.perf_counter()
    names = metric_names(metrics)
    check_thresholds(fairness_threshold)
    budget = None if memory is None else parse_memory(memory)
    opening: dict[str, Any] = {"kind": kind, "axes": axes, "key": key, "key_per_model": key_per_model}
    opening |= {"n_classes": n_classes, "class_names": class_names, "renormalize": renormalize}
    data = Pieces(predictions, opening)
    with connected(scheduler, memory=budget) as cluster:
        cluster.check()
        limits: dict[str, Any] = {"memory": cluster.memory or budget or TASK_MEMORY, "threshold": threshold}
        view, passes = data.view, 1.0
        if view.kind == "labels" and view.declared_classes is None:
            found = data.one(cluster, largest_class, most_of, "counting classes", n_classes=None, **limits)
            view.__dict__["n_classes"] = found  # the property would read the labels here
            passes += 1
        inputs = check_inputs(view, target, y, groups, missing, sample_weight, threshold)
        C, M = inputs.view.n_classes, view.n_models
        check_settings(inputs.view, threshold=threshold, ddof=ddof, positive=positive, missing=missing)
        said: list[str] = []
        if inputs.groups is not None and {"fairness", "groups"} & set(names):
            for name, values in inputs.groups.single:
                text = f"all samples have the value {values!r} in {name}: gaps over one group say nothing"
                said.append(text)
                warnings.warn(text, UserWarning, stacklevel=2)
        reference_name, model, _ = as_reference(reference, inputs.view, inputs.target, inputs.y)
        if model is not None:
            reference = data.one(cluster, decide_one, side_by_side, "reference", n_classes=C, **limits, model=model)
            passes += 1 / M
        asked = bool({"pairwise_discrepancy", "pairwise_disagreement"} & set(names)) and M > 1
        dropped = _not_compared(M, view.n_samples, inputs.weights is not None) if asked else None
        pairs = asked and dropped is None
        empty = MultiplicityAccumulator(
            M,
            view.n_samples,
            C,
            kind=view.kind,
            metrics=names,
            reference=reference,
            target=target,
            y=y,
            groups=groups,
            positive=positive,
            sample_weight=sample_weight,
            threshold=threshold,
            ddof=ddof,
            missing=missing,
            pairs=pairs,
            model_ids=view.model_ids,
            class_names=view.class_names,
            capacity_tol=capacity_tol,
        )
        together = pairs or (view.kind != "labels" and C > 2 and "rashomon_capacity" in names)
        cut = {"together": together, "task_bytes": max(task_bytes or TASK_BYTES, 32 * M * M if pairs else 0)}
        cut["keep"] = 1 if pairs and 8 * M * M > MOST_SUMS else KEPT
        whole = empty.fresh()

        def take(state: State) -> None:
            whole.absorb(*state)

        data.run(cluster, measure_piece, merge_states, empty, take, "measuring", n_classes=C, **limits, **cut)
        workers = cluster.threads
    results = whole.results(
        size=size, fairness_threshold=fairness_threshold, skip_undefined=skip_undefined, memory=budget
    )
    for name in ("pairwise_discrepancy", "pairwise_disagreement"):
        if name in names and dropped is not None:
            results[name] = {"value": None, "reason": dropped}
    if model is not None:
        for name in {"ambiguity", "discrepancy"} & set(names):
            results[name]["reference"] = reference_name
    arrays = whole.compute(memory=budget) if keep_arrays else {}
    rates = arrays.pop("rates", None)
    return Profile(
        parameters={
            "reference": reference_name,
            "loss": None,
            "epsilon": None,
            "relative": False,
            "selection": None,
            "metrics": list(names),
            "threshold": threshold,
            "positive": positive,
            "missing": missing,
            "skip_undefined": bool(skip_undefined),
            "ddof": ddof,
            "size": size,
            "capacity_tol": float(capacity_tol),
            "seed": seed,
            "bootstrap": None,
            "weighted": inputs.weights is not None,
            "kind": view.kind,
            "renormalize": view.renormalize,
        },
        resources={
            "seconds": time.perf_counter() - started,
            "bytes_read": int(passes * view.nbytes),
            "threads": workers,
            "memory": limits["memory"] if budget is None else budget,
            "instruction_set": _cpu.isa_active(),
        },
        status="complete",
        warnings=tuple(said),
        model_ids=view.model_ids,
        member_mask=None,
        arrays={name: x for name, x in arrays.items() if isinstance(x, np.ndarray)},
        rates=rates,
        _results=results,
    )


def _not_compared(M: int, n: int, weighted: bool) -> str | None:
    """Say why pairs of so many models are not measured, or return None."""
    if M > MOST_COMPARED:
        what = f"more than {MOST_COMPARED} models: the counts of all their pairs would travel with every task"
    elif weighted and 8 * M * M * -(-n // BLOCK) > MOST_PAIR_WEIGHTS:
        what = "weights of pairs are added block by block of 4,096 samples, and so many would not fit"
    else:
        return None
    return f"{what}. Fix: measure pairs without a cluster"
