"""Who is a member: the choice of a loss, its values on the selection split, and the facts of the Rashomon set."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .inputs import Inputs
from .jit import SampleLoss
from .metrics import sets
from .metrics.planes import encode_vector
from .metrics.sums import total
from .metrics.visit import Reference, Request, Visit, visit
from .vectors import as_losses

__all__ = ["LOSS_NAMES", "Membership", "select_members"]

Array = npt.NDArray[Any]
LOSS_NAMES = ("fidelity", "zero_one", "log_loss", "cross_entropy")
#: Losses that are counts of wrong answers.
COUNTED = ("fidelity", "zero_one")


@dataclass(frozen=True)
class Membership:
    """Members and losses of all explored models.

    Attributes
    ----------
    mask : (M,) booleans;  facts : the object "set" of the results
    losses : (M,) float64;  base : the model that epsilon is measured from
    errors : the losses as (M,) counts among so many samples, where they are counts
    bytes_read : what choosing took
    """

    mask: Array
    facts: dict[str, Any]
    losses: Array
    base: int
    errors: tuple[Array, int] | None
    bytes_read: int


def select_members(
    inputs: Inputs,
    loss: object,
    epsilon: float,
    *,
    relative: bool,
    chosen: Array | None,
    reference: int | None,
    threshold: float | None,
    threads: int,
    memory: int,
    said: list[str],
) -> Membership:
    """Choose the members on the samples ``chosen`` (None: all); warnings are added to ``said``."""
    if not (isinstance(epsilon, (int, float, np.number)) and np.isfinite(epsilon) and epsilon >= 0):
        raise UsageError(f"epsilon={epsilon} must be finite and not negative")
    split = inputs.on(chosen)
    name = loss_name(loss, inputs)
    M, n = split.view.n_models, split.view.n_samples
    answers = _answers(split, name)
    found = visit(
        split.view, _request(split, name, answers, threshold), threads=threads, memory=memory, label="selecting"
    )
    bytes_read = split.view.nbytes
    errors = None
    if answers is not None and split.weights is None:
        errors = (found.mismatches["answers"], n)
        values: Array = errors[0] / n
        mask = sets.rashomon_mask(errors[0], epsilon, reference=reference, relative=relative, n=n)
    else:
        if isinstance(loss, SampleLoss):
            labels = split.y if split.y is not None else split.target.decisions  # type: ignore[union-attr]
            values = loss.over(split.view, labels, sample_weight=split.weights, threads=threads, memory=memory)
            bytes_read *= 2
        elif name == "given":
            values = as_losses(loss, M).astype(np.float64)
        else:
            scale = n if split.weights is None else total(split.weights)
            values = (found.losses[name] if answers is None else found.mismatch_weights["answers"]) / scale
        mask = sets.rashomon_mask(values, epsilon, reference=reference, relative=relative)
    best = int(np.argmin(values)) if reference is None else reference
    assert found.planes is not None
    noise = None
    if errors is not None:
        assert answers is not None
        noise = _noise(found, split, answers, best, float(values[best]))
        slack = epsilon * float(values[best]) if relative else epsilon
        if slack < noise["paired"]:
            text = (
                f"epsilon {slack:.3g} is below the noise of the selection split ({noise['paired']:.3g} with "
                f"{n} samples): who is a member is partly chance"
            )
            said.append(text)
            warnings.warn(text, UserWarning, stacklevel=3)
    distinct, kept = sets.pattern_count(found.planes, mask)
    size = int(mask.sum())
    facts = {
        "size": size,
        "explored": M,
        "epsilon": float(epsilon),
        "relative": bool(relative),
        "loss": name,
        "loss_reference": split.view.model_ids[best],
        "rashomon_ratio": size / M,
        "pattern_ratio": (kept or 0) / distinct,
        "noise": noise,
        "status": "empty" if size == 0 else "singleton" if size == 1 else "ok",
        "split": "all" if chosen is None else "selection",
    }
    return Membership(mask, facts, values, best, errors, bytes_read)


def loss_name(loss: object, inputs: Inputs) -> str:
    """Return what a loss is called in the results, after checking that these inputs have what it needs."""
    if loss is None:
        if inputs.target is not None:
            return "fidelity"
        if inputs.y is not None:
            return "zero_one"
        raise UsageError("epsilon needs a loss. Fix: give a target, true labels, or loss= (--target, --labels)")
    if isinstance(loss, SampleLoss):
        if inputs.view.kind == "labels":
            raise UsageError(f"loss {loss.name!r} needs scores, and these predictions are labels")
        if inputs.y is None and inputs.target is None:
            raise UsageError(
                f"loss {loss.name!r} needs labels. Fix: give y= (--labels FILE) or target= (--target FILE)"
            )
        return loss.name
    if not isinstance(loss, str):
        return "given"
    if loss not in LOSS_NAMES:
        raise UsageError(f"loss {loss!r} is not one of {', '.join(LOSS_NAMES)}")
    if loss in ("fidelity", "cross_entropy") and inputs.target is None:
        raise UsageError(f"loss {loss!r} needs a target. Fix: give target= (--target FILE)")
    if loss in ("zero_one", "log_loss") and inputs.y is None:
        raise UsageError(f"loss {loss!r} needs true labels. Fix: give y= (--labels FILE)")
    if loss in ("log_loss", "cross_entropy") and inputs.view.kind == "labels":
        raise UsageError(f"loss {loss!r} needs scores, and these predictions are labels")
    return loss


def _answers(split: Inputs, name: str) -> Array | None:
    """Return what decisions are counted against, None for a loss that counts nothing."""
    if name not in COUNTED:
        return None
    answers = split.y if name == "zero_one" else split.target.decisions  # type: ignore[union-attr]
    assert answers is not None
    return answers


def _request(split: Inputs, name: str, answers: Array | None, threshold: float | None) -> Request:
    of_scores = name in LOSS_NAMES and answers is None
    return Request(
        planes=True,
        weights=split.weights,
        threshold=threshold,
        references=[] if answers is None else [Reference("answers", answers)],
        losses=(name,) if of_scores else (),
        y=split.y if of_scores else None,
        target_scores=split.target_scores if of_scores else None,
        target_labels=split.target_labels if of_scores else None,
    )


def _noise(found: Visit, split: Inputs, answers: Array, best: int, loss: float) -> dict[str, float]:
    """Return the standard errors of the best model's loss, alone and against others on the same samples."""
    assert found.planes is not None
    target_planes = encode_vector(answers, split.view.n_classes)
    return {
        "paired": sets.selection_noise(found.planes, target_planes, answers, best, found.mismatches["answers"]),
        "unpaired": float(np.sqrt(loss * (1 - loss) / split.view.n_samples)),
    }
