"""Adversarial weight perturbation: a network pushed towards a goal for as long as its loss stays within the set."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, UsageError
from rashomon_core.metrics.sets import rashomon_mask
from rashomon_core.vectors import as_groups

from .networks import import_torch, to_batch

__all__ = ["Goal", "Perturbed", "explore", "perturb"]

Array = npt.NDArray[Any]
Ascent = Literal["log_odds", "logit", "score"]

#: Halvings of the step behind its first leaving of the set, after which the boundary counts as reached.
HALVINGS = 12


@dataclass(frozen=True, eq=False)
class Goal:
    """What a perturbation raises: a weighted sum over samples of how much the network is for one class.

    Made by :meth:`sample`, :meth:`samples` and :meth:`gap`. ``on`` is what the gradient is taken of: "log_odds" (the
    logit of P(class); does not vanish where the network is sure), "logit" (the class's own logit, as published) or
    "score" (P(class) itself). Objectives are reported as scores whatever the gradient is taken of.

    Attributes
    ----------
    X : (n, ...) samples
    weights : (n,) float64
        Of the samples in the objective; negative in the group whose score is to fall.
    label : int
        The class.
    on : {"log_odds", "logit", "score"}
    name : str
    """

    X: Any = field(repr=False)
    weights: Array = field(repr=False)
    label: int
    on: Ascent
    name: str

    def __post_init__(self) -> None:
        if self.on not in ("log_odds", "logit", "score"):
            raise UsageError(f"on={self.on!r}. Fix: 'log_odds', 'logit' or 'score'")
        if not isinstance(self.label, (int, np.integer)) or self.label < 0:
            raise UsageError(f"class {self.label!r} of a goal. Fix: a class index from 0")

    @classmethod
    def sample(cls, x: Any, label: int, *, on: Ascent = "log_odds", name: str | None = None) -> Goal:
        """Raise P(label) of one sample, given without the batch axis."""
        return cls(x[None], np.ones(1), label, on, name or f"sample towards {label}")

    @classmethod
    def samples(cls, X: Any, label: int, *, on: Ascent = "log_odds", name: str | None = None) -> Goal:
        """Raise the mean of P(label) over samples, (n, ...)."""
        if len(X) == 0:
            raise InvalidInputError("a goal has no samples")
        return cls(X, np.full(len(X), 1 / len(X)), label, on, name or f"all towards {label}")

    @classmethod
    def gap(
        cls,
        X: Any,
        groups: object,
        *,
        high: object = None,
        label: int = 1,
        on: Ascent = "score",
        name: str | None = None,
    ) -> Goal:
        """Widen the gap of mean P(label) between one group and all others.

        Parameters
        ----------
        X : (n, ...);  groups : (n,) array-like
        high : a group, optional
            Whose scores are to rise; default, of two groups, the one whose name sorts last. Take both in turn.
        """
        found = as_groups(groups, len(X))
        if len(found.names) < 2:
            raise InvalidInputError(f"all samples are in group {found.names[0]!r}", fix="a gap needs two groups")
        if high is None and len(found.names) > 2:
            raise UsageError(f"high is needed with {len(found.names)} groups ({', '.join(found.names[:5])})")
        top = max(found.names) if high is None else str(high)
        if top not in found.names:
            raise UsageError(f"high={top!r} is not one of the groups {', '.join(found.names[:5])}")
        inside = found.codes == found.names.index(top)
        weights = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
        return cls(X, weights, label, on, name or f"gap for {top}")


@dataclass(frozen=True, eq=False)
class Perturbed:
    """One perturbed network.

    Attributes
    ----------
    module : torch.nn.Module
        A copy in evaluation mode with the last feasible weights.
    name : str
        Of the goal.
    steps : int
        Steps taken that stayed in the set.
    loss_before, loss_after, limit : float
        Losses on the selection data, and the largest that a member may have.
    feasible : bool
        Whether the module is in the set: False only where the network itself was not.
    objective_before, objective_after : float
        Weighted sum of P(class): the sample's score, the mean score, or the gap of mean scores.
    status : str
        "boundary": no further step along the direction stays in the set and raises the objective; "left": stopped at
        the first step outside (``adaptive=False``); "steps": all steps were used inside the set; "flat": no direction
        raises the objective; "infeasible_start": the network itself is not in the set, and was left as it is.
    """

    module: Any = field(repr=False)
    name: str
    steps: int
    loss_before: float
    loss_after: float
    limit: float
    feasible: bool
    objective_before: float
    objective_after: float
    status: str


def perturb(module: Any, X: object, answers: object, *, goal: Goal, epsilon: float, **options: Any) -> Perturbed:
    """Push a network towards one goal; see :func:`explore` for the arguments."""
    return explore(module, X, answers, goals=[goal], epsilon=epsilon, **options)[0]


def explore(
    module: Any,
    X: object,
    answers: object,
    *,
    goals: Sequence[Goal],
    epsilon: float,
    loss: Literal["cross_entropy", "fidelity"] = "cross_entropy",
    reference_loss: float | None = None,
    relative: bool = False,
    steps: int = 100,
    lr: float = 1e-2,
    optimizer: Literal["sgd", "adam"] = "sgd",
    adaptive: bool = True,
    layers: Sequence[str] | None = None,
    batch_size: int = 4096,
) -> list[Perturbed]:
    """Push a network towards each goal by gradient steps on its weights, within the Rashomon set.

    Each goal starts from the network itself; what is returned has the last weights whose loss on the selection data
    was at most L + epsilon. Nothing is random.

    Parameters
    ----------
    module : torch.nn.Module
        Returns logits, (N, C), or (N, 1) or (N,): the logit of class 1. It is copied and used in evaluation mode.
    X : (N, ...) array-like
        Selection data.
    answers : (N,) class indices, (N,) floats P(class 1), or (N, C) floats
        The target's answers to them.
    goals : sequence of Goal
    epsilon : float
        >= 0; ``relative``: the limit is (1 + epsilon) L.
    loss : {"cross_entropy", "fidelity"}
        Mean over all samples (never of batch means) of -sum_c t_c log p_c, in nats; or the share of samples whose
        decision is not the answers', compared as counts.
    reference_loss : float, optional
        L; default the network's own loss.
    steps : int
        Most gradient steps a goal, those that are taken back included.
    lr : float
        First step length.
    optimizer : {"sgd", "adam"}
        Plain gradient, or Adam's direction (moments .9 and .999).
    adaptive : bool
        Double the step until one leaves the set. Weights outside are drawn back along the gradient of the
        cross-entropy (so that the path slides along the boundary); where they still are outside, or the objective is
        no higher, the step is taken back and halved. On a linear model this reaches the exact range, the published
        rule .94 of it (median; ``bench/bench_exploration.py``). False: the published rule, a fixed step and the end
        at the first leaving.
    layers : sequence of str, optional
        Only change parameters whose names start so; default all.
    batch_size : int
        Samples that go through the network together.

    Returns
    -------
    list of Perturbed
        ``rc.predict_all([p.module for p in found], X)`` makes a tensor of them.

    Raises
    ------
    InvalidInputError, UsageError
        For NaN in X or in the network's output, answers that do not fit, a negative epsilon, no goals.
    MissingDependencyError
        When torch is missing.

    Notes
    -----
    Cost of a step: one pass over the selection data, and one forward and backward pass over the goal's samples (not
    again after a step that was taken back). A step outside costs two further passes over the selection data, one of
    them backward.

    References
    ----------
    Hsu and Calmon, "Rashomon Capacity: a metric for predictive multiplicity in classification", NeurIPS 2022.

    Examples
    --------
    Needs torch::

        found = explore(net, X, answers, goals=[Goal.sample(X[0], 0), Goal.sample(X[0], 1)], epsilon=0.01)
        tensor = rc.predict_all([p.module for p in found], X)
    """
    torch = import_torch("perturbing the weights of a network")
    _check_options(epsilon, loss, steps, lr, optimizer, batch_size)
    if not goals:
        raise UsageError("no goals were given")
    base = copy.deepcopy(module).eval()
    chosen = _chosen_parameters(base, layers)
    batch = to_batch(base, X)
    job = _Job(torch, base, batch, batch_size)
    classes = job.logits(batch[:1]).shape[1]
    job.set_answers(answers, classes, loss)
    job.chosen = chosen
    before = job.loss()
    if not math.isfinite(before):
        raise InvalidInputError(f"the network's loss is {before}", fix="give a trained network with finite outputs")
    job.reference = before if reference_loss is None else float(reference_loss)
    if not math.isfinite(job.reference):
        raise UsageError(f"reference_loss={reference_loss} is not finite")
    job.epsilon, job.relative = float(epsilon), relative
    return [_pursue(job, goal, before, classes, steps, lr, optimizer, adaptive) for goal in goals]


def _check_options(epsilon: float, loss: str, steps: int, lr: float, optimizer: str, batch_size: int) -> None:
    if not (isinstance(epsilon, (int, float, np.number)) and math.isfinite(epsilon) and epsilon >= 0):
        raise UsageError(f"epsilon={epsilon!r} must be finite and not negative")
    if loss not in ("cross_entropy", "fidelity"):
        raise UsageError(f"loss={loss!r}. Fix: 'cross_entropy' or 'fidelity'")
    if optimizer not in ("sgd", "adam"):
        raise UsageError(f"optimizer={optimizer!r}. Fix: 'sgd' or 'adam'")
    if not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"lr={lr} must be finite and positive")
    if steps < 1 or batch_size < 1:
        raise UsageError(f"steps={steps}, batch_size={batch_size}. Fix: at least 1 each")


def _chosen_parameters(module: Any, layers: Sequence[str] | None) -> list[Any]:
    wanted = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
    named = [(n, p) for n, p in module.named_parameters() if p.is_floating_point()]
    for start in wanted or ():
        if not any(n == start or n.startswith(f"{start}.") for n, _ in named):
            raise UsageError(f"layer {start!r} has no parameters; there are {', '.join(n for n, _ in named)}")
    chosen = []
    for name, parameter in named:
        inside = wanted is None or any(name == start or name.startswith(f"{start}.") for start in wanted)
        parameter.requires_grad_(inside)
        if inside:
            chosen.append(parameter)
    if not chosen:
        raise UsageError("the module has no parameters to change")
    return chosen


class _Job:
    """The network, the selection data, and the losses on them."""

    chosen: list[Any]
    reference: float
    epsilon: float
    relative: bool

    def __init__(self, torch: Any, module: Any, batch: Any, batch_size: int) -> None:
        self.torch, self.module, self.batch, self.batch_size = torch, module, batch, batch_size

    def logits(self, rows: Any) -> Any:
        """Return (n, C) logits in float64; one logit becomes two."""
        try:
            out = self.module(rows)
        except (RuntimeError, IndexError) as error:
            raise InvalidInputError(f"the module does not take shape {tuple(rows.shape)} ({error})") from error
        if not isinstance(out, self.torch.Tensor) or out.ndim not in (1, 2):
            raise InvalidInputError("the module must return one tensor of logits, (N, C), (N, 1) or (N,)")
        out = out.double().reshape(len(rows), -1)
        return self.torch.cat([self.torch.zeros_like(out), out], dim=1) if out.shape[1] == 1 else out

    def pieces(self, rows: Any) -> list[slice]:
        return [slice(i, min(i + self.batch_size, len(rows))) for i in range(0, len(rows), self.batch_size)]

    def set_answers(self, answers: object, classes: int, loss: str) -> None:
        n = len(self.batch)
        given = np.asarray(answers)
        if given.ndim == 2 and given.shape[1] == 1:
            given = given[:, 0]
        if given.shape not in ((n,), (n, classes)):
            raise InvalidInputError(f"answers have shape {given.shape} for {n} samples and {classes} classes")
        if given.dtype.kind == "f":
            if given.ndim == 1:
                if classes != 2:
                    raise InvalidInputError(f"(N,) float answers are P(class 1), and there are {classes} classes")
                given = np.stack([1 - given, given], axis=1)
            bad = ~((given >= 0) & (given <= 1)).all(axis=1) | (np.abs(given.sum(axis=1) - 1) > 1e-3)
            if bad.any():
                i = int(np.argmax(bad))
                raise InvalidInputError("answers are no probabilities", where=f"sample {i}", value=given[i].tolist())
            soft = given.astype(np.float64)
            soft /= soft.sum(axis=1, keepdims=True)
        else:
            if given.ndim != 1 or given.dtype.kind not in "biu":
                raise InvalidInputError(
                    f"answers are {given.dtype} {given.shape}", fix="class indices or probabilities"
                )
            if given.min() < 0 or given.max() >= classes:
                i = int(np.argmax((given < 0) | (given >= classes)))
                raise InvalidInputError(f"answers outside 0..{classes - 1}", where=f"sample {i}", value=given[i])
            soft = np.eye(classes)[given.astype(np.intp)]
        self._loss_name, self._decisions = loss, np.argmax(soft, axis=1)
        self._soft = self.torch.as_tensor(soft, device=self.batch.device)

    def loss(self) -> float:
        """Return the loss over all selection data; inf where the network's output is not finite."""
        total = 0.0
        with self.torch.inference_mode():
            for rows in self.pieces(self.batch):
                z = self.logits(self.batch[rows])
                if not bool(self.torch.isfinite(z).all()):
                    return math.inf
                if self._loss_name == "fidelity":  # argmax of NumPy: ties go to the lowest class
                    total += int((np.argmax(z.cpu().numpy(), axis=1) != self._decisions[rows]).sum())
                else:
                    logs, soft = self.torch.log_softmax(z, dim=1), self._soft[rows]
                    total -= float(self.torch.where(soft > 0, soft * logs, 0.0).sum())
        return total / len(self.batch)

    @property
    def differentiable(self) -> bool:
        """Whether the loss has a gradient."""
        return self._loss_name == "cross_entropy"

    def draw_back(self, reached: float) -> None:
        """Move the weights along the gradient of the loss to where, linearly, it is a hair within the limit."""
        torch = self.torch
        for p in self.chosen:
            p.grad = None
        for rows in self.pieces(self.batch):
            logs = torch.log_softmax(self.logits(self.batch[rows]), dim=1)
            (-(self._soft[rows] * logs).sum() / len(self.batch)).backward()
        size = sum(float((p.grad.double() ** 2).sum()) for p in self.chosen if p.grad is not None)
        if size > 0:
            share = (reached - self.limit() + 0.02 * abs(self.limit() - self.reference)) / size
            with torch.no_grad():
                for p in self.chosen:
                    if p.grad is not None:
                        p.sub_(p.grad, alpha=share)

    def inside(self, value: float) -> bool:
        """Whether a loss is in the set; counts are compared as counts, others with 4 ulp."""
        if not math.isfinite(value):
            return False
        n = len(self.batch) if self._loss_name == "fidelity" else None
        scale = 1 if n is None else n
        values = [value] if n is None else [round(value * n)]
        kept = rashomon_mask(values, self.epsilon, reference_loss=self.reference * scale, relative=self.relative, n=n)
        return bool(kept[0])

    def limit(self) -> float:
        return self.reference * (1 + self.epsilon) if self.relative else self.reference + self.epsilon

    def objective(self, rows: Any, weights: Any, goal: Goal, on: str, gradient: bool = False) -> float:
        """Return the objective; with ``gradient`` leave its gradient in the parameters."""
        torch, total = self.torch, 0.0
        with torch.set_grad_enabled(gradient):
            for part in self.pieces(rows):
                z = self.logits(rows[part])
                own = z[:, goal.label]
                if on == "score":
                    own = torch.softmax(z, dim=1)[:, goal.label]
                elif on == "log_odds":
                    others = [c for c in range(z.shape[1]) if c != goal.label]
                    own = own - torch.logsumexp(z[:, others], dim=1)
                value = (weights[part] * own).sum()
                total += float(value.detach())
                if gradient:
                    value.backward()
        return total


class _Direction:
    """Where to go from a gradient: itself, or Adam's moments of it."""

    def __init__(self, optimizer: str) -> None:
        self._adam, self._count = optimizer == "adam", 0
        self._first: list[Any] = []
        self._second: list[Any] = []

    def of(self, gradients: list[Any]) -> list[Any]:
        if not self._adam:
            return gradients
        self._count += 1
        if not self._first:
            self._first = [g * 0 for g in gradients]
            self._second = [g * 0 for g in gradients]
        out = []
        for g, first, second in zip(gradients, self._first, self._second, strict=True):
            first.mul_(0.9).add_(g, alpha=0.1)
            second.mul_(0.999).addcmul_(g, g, value=0.001)
            unbiased = (second / (1 - 0.999**self._count)).sqrt_().add_(1e-8)
            out.append(first / (1 - 0.9**self._count) / unbiased)
        return out


def _pursue(
    job: _Job, goal: Goal, before: float, classes: int, steps: int, lr: float, optimizer: str, adaptive: bool
) -> Perturbed:
    torch, chosen = job.torch, job.chosen
    if goal.label >= classes:
        raise UsageError(f"goal {goal.name!r} is for class {goal.label}, and there are {classes} classes")
    rows = to_batch(job.module, goal.X, "a goal's X")
    weights = torch.as_tensor(goal.weights, device=rows.device)
    origin = [p.detach().clone() for p in chosen]
    kept = [p.clone() for p in origin]
    score_before = job.objective(rows, weights, goal, "score")
    loss, taken, status = before, 0, "steps"
    direction, ahead, first_leaving = _Direction(optimizer), None, 0.0
    if not job.inside(before):
        status, steps = "infeasible_start", 0
    for _ in range(steps):
        if ahead is None:  # at new weights
            for p in chosen:
                p.grad = None
            value = job.objective(rows, weights, goal, goal.on, gradient=True)
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
            if not any(bool((g != 0).any()) for g in gradients):
                status = "flat"
                break
            ahead = direction.of(gradients)
        with torch.no_grad():
            for p, old, way in zip(chosen, kept, ahead, strict=True):
                p.copy_(old + lr * way)
        reached = job.loss()
        good = job.inside(reached)
        if not good and adaptive and job.differentiable and math.isfinite(reached):
            job.draw_back(reached)
            reached = job.loss()
            good = job.inside(reached)
        if good and adaptive:
            good = job.objective(rows, weights, goal, goal.on) > value
        if good:
            kept, loss, taken, ahead = [p.detach().clone() for p in chosen], reached, taken + 1, None
            if adaptive and not first_leaving:
                lr *= 2
            continue
        if not adaptive:
            status = "left"
            break
        first_leaving = first_leaving or lr
        lr /= 2
        if lr < first_leaving * 2.0**-HALVINGS:
            status = "boundary"
            break
    with torch.no_grad():
        for p, last in zip(chosen, kept, strict=True):
            p.copy_(last)
            p.grad = None
    score_after = job.objective(rows, weights, goal, "score")
    found = copy.deepcopy(job.module)
    with torch.no_grad():
        for p, old in zip(chosen, origin, strict=True):
            p.copy_(old)
    for p in found.parameters():
        p.requires_grad_(True)
    limit = job.limit()
    feasible = status != "infeasible_start"
    return Perturbed(found, goal.name, taken, before, loss, limit, feasible, score_before, score_after, status)
