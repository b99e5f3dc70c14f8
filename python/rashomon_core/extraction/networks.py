"""Torch surrogates: a small training loop over tensors in memory, the same bytes for the same seed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, InvalidInputError, MissingDependencyError, UsageError

from .answers import Answers

__all__ = ["TorchSurrogate", "cnn_factory", "mlp_factory", "temperature"]

Array = npt.NDArray[Any]
Factory = Callable[..., Any]

_ROWS = 1024  # of one forward pass outside training


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "training networks", "torch") from error
    return torch


def temperature(loss: str) -> float:
    """Return the temperature of a loss "kd:T"; 1 for "ce" and "soft_ce".

    Raises
    ------
    UsageError
        For any other loss, and for a temperature that is not a number above 0.
    """
    if loss in ("ce", "soft_ce"):
        return 1.0
    head, _, tail = loss.partition(":")
    try:
        value = float(tail) if head == "kd" else float("nan")
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"loss is {loss!r} and must be 'ce', 'soft_ce' or 'kd:T' with a temperature T above 0")
    return value


class TorchSurrogate:
    """A torch network learned from answers.

    Parameters
    ----------
    factory : callable
        ``factory(shape, n_classes)`` returns a new module that maps float32 inputs (n, *shape) to logits
        (n, n_classes); ``shape`` is the integer D for rows (N, D), else the tuple behind the rows axis.
    loss : str
        "ce": cross-entropy with the answered labels. "soft_ce": with the answered probabilities. "kd:T":
        distillation at temperature T [1]_: T^2 times the cross-entropy of softmax(logits / T) with the answered
        probabilities taken to the power 1/T and normalised.
    epochs, lr, batch : int, float, int
        Passes over the answers; the step size; the rows of a step (the last step of an epoch is no smaller than the
        others by more than one row, so that no step has one row alone).
    optimizer : "adam" or "sgd"
    momentum : float
        Of "sgd".
    weight_decay : float
    seed : int
        Decides initial weights, dropout and the order of rows.

    Attributes
    ----------
    module : torch.nn.Module
        The fitted network with the weights of the last epoch, in evaluation mode.

    Notes
    -----
    torch's global random state is left as it was. The same seed gives the same bytes with the same number of torch
    threads, on the same processor and version; callers that promise the same bytes on any machine load set
    ``torch.set_num_threads(1)`` in the process that trains.

    References
    ----------
    .. [1] Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, section 2.
    """

    def __init__(
        self,
        factory: Factory,
        *,
        loss: str = "ce",
        epochs: int = 30,
        lr: float = 0.003,
        batch: int = 64,
        optimizer: str = "adam",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        if optimizer not in ("adam", "sgd"):
            raise UsageError(f"optimizer is {optimizer!r} and must be 'adam' or 'sgd'")
        if epochs < 1 or batch < 1 or not lr > 0:
            raise UsageError(f"epochs, batch and lr must be above 0; here {epochs}, {batch}, {lr}")
        self.temperature = temperature(loss)
        self.factory, self.loss, self.epochs, self.lr, self.batch = factory, loss, epochs, lr, batch
        self.optimizer, self.momentum, self.weight_decay, self.seed = optimizer, momentum, weight_decay, seed
        self.module: Any = None
        self.n_classes = 0

    def fit(self, X: Any, answers: Answers) -> TorchSurrogate:
        """Train a new network.

        Parameters
        ----------
        X : (n, ...) numbers
        answers : Answers, n of them

        Raises
        ------
        InvalidInputError
            When X and answers differ in length, or the module's output is not (n, n_classes).
        AnswersError
            When the training diverges: the loss is no longer finite.
        """
        torch = _torch()
        X = _floats(X)
        n = len(X)
        if n != len(answers) or n == 0:
            raise InvalidInputError(f"{n} inputs and {len(answers)} answers", fix="give one answer for each input")
        self.n_classes = answers.n_classes
        shape = X.shape[1] if X.ndim == 2 else X.shape[1:]
        inputs, goal = torch.from_numpy(X), self._goal(answers)
        initial, order = np.random.SeedSequence(self.seed).spawn(2)
        rng = np.random.default_rng(order)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(initial.generate_state(1, np.uint64)[0] >> np.uint64(1)))
            module = self.factory(shape, self.n_classes)
            with torch.no_grad():  # the shape is checked once, where nothing random is drawn and nothing is learned
                self._logits(module.eval(), inputs[:1])
            module.train()
            steps = [
                _Steps(same, self.optimizer, self.lr, self.momentum, self.weight_decay) for same in _by_dtype(module)
            ]
            parts = -(-n // self.batch)
            sizes = [len(part) for part in np.array_split(np.empty(n), parts)]
            for epoch in range(self.epochs):
                order_now = torch.from_numpy(rng.permutation(n))  # gathered once an epoch; batches are then views
                total = torch.zeros(())
                for rows, wanted in zip(inputs[order_now].split(sizes), goal[order_now].split(sizes), strict=True):
                    for part in steps:
                        part.gradient.zero_()
                    loss = self._loss(module(rows), wanted)
                    loss.backward()
                    for part in steps:
                        part.step()
                    total += loss.detach()
                if not torch.isfinite(total):
                    raise AnswersError(f"the training diverged in epoch {epoch}. Fix: lower lr (now {self.lr})")
        for part in steps:
            part.release()
        self.module = module.eval()
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return (n, C) float64 probabilities: softmax of the logits, taken in float64."""
        torch, module = _torch(), self._fitted()
        inputs = torch.from_numpy(_floats(X))
        out = np.empty((len(inputs), self.n_classes))
        with torch.inference_mode():
            for start in range(0, len(inputs), _ROWS):
                logits = self._logits(module, inputs[start : start + _ROWS]).to(torch.float64)
                out[start : start + _ROWS] = torch.softmax(logits, dim=1).numpy()
        return out

    def gradient(self, X: Any, labels: Sequence[int] | Array) -> Array:
        """Return d log P(label) / dx, an array of the shape of X, float32.

        Parameters
        ----------
        X : (n, ...) numbers
        labels : (n,) integers
            The class whose log-score is followed, for each row.
        """
        torch, module = _torch(), self._fitted()
        x, wanted = _floats(X), np.asarray(labels, dtype=np.int64)
        if wanted.shape != (len(x),) or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.n_classes):
            raise InvalidInputError(f"labels must be {len(x)} class indices below {self.n_classes}")
        out = np.empty_like(x)
        for start in range(0, len(x), _ROWS):
            part = torch.from_numpy(x[start : start + _ROWS]).requires_grad_(True)
            index = torch.from_numpy(wanted[start : start + _ROWS])
            scores = torch.log_softmax(self._logits(module, part), dim=1)
            chosen = scores.gather(1, index[:, None]).sum()  # rows do not meet: the sum's gradient is each row's
            out[start : start + _ROWS] = torch.autograd.grad(chosen, part)[0].numpy()
        return out

    def _fitted(self) -> Any:
        if self.module is None:
            raise UsageError("the surrogate is not fitted: call fit first")
        return self.module

    def _goal(self, answers: Answers) -> Any:
        torch = _torch()
        if self.loss == "ce":
            return torch.from_numpy(np.ascontiguousarray(answers.labels, dtype=np.int64))
        p = answers.soft() ** (1.0 / self.temperature)
        return torch.from_numpy(np.asarray(p / p.sum(axis=1, keepdims=True), dtype=np.float32))

    def _loss(self, logits: Any, goal: Any) -> Any:
        cross_entropy = _torch().nn.functional.cross_entropy
        if self.temperature == 1:
            return cross_entropy(logits, goal)
        return cross_entropy(logits / self.temperature, goal) * self.temperature**2

    def _logits(self, module: Any, inputs: Any) -> Any:
        logits = module(inputs)
        if tuple(logits.shape) != (len(inputs), self.n_classes):
            raise InvalidInputError(
                f"the network answers {tuple(logits.shape)} for {len(inputs)} rows of {self.n_classes} classes",
                fix="return one logit for each class",
            )
        return logits


class _Steps:
    """Adam [1]_ or gradient descent with momentum, as torch.optim computes them, on all parameters as one vector.

    For small networks a step of torch.optim costs as much as the forward and the backward pass; here it is six calls
    whatever the number of layers. The parameters, and their gradients, are views of the vector until it is released.

    References
    ----------
    .. [1] Kingma, Ba: Adam, a method for stochastic optimization, 2015, algorithm 1 in the order of section 2's end.
    """

    def __init__(self, parameters: list[Any], kind: str, lr: float, momentum: float, weight_decay: float) -> None:
        torch = _torch()
        self.parameters, self.kind, self.lr, self.weight_decay = parameters, kind, lr, weight_decay
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient, self.first, self.second, self.root = (torch.zeros_like(self.values) for _ in range(4))
        self.decay = (momentum, 0.0) if kind == "sgd" else (0.9, 0.999)
        self.count, at = 0, 0
        for p in parameters:
            part = slice(at, at + p.numel())
            p.data, p.grad = self.values[part].view_as(p), self.gradient[part].view_as(p)
            at = part.stop

    def step(self) -> None:
        """Move the parameters along what was accumulated in ``gradient``."""
        if self.weight_decay:
            self.gradient.add_(self.values, alpha=self.weight_decay)
        a, b = self.decay
        if self.kind == "sgd":
            self.values.add_(self.first.mul_(a).add_(self.gradient), alpha=-self.lr)
            return
        self.count += 1
        self.first.lerp_(self.gradient, 1 - a)
        self.second.mul_(b).addcmul_(self.gradient, self.gradient, value=1 - b)
        scale = math.sqrt(1 - b**self.count)
        _torch().sqrt(self.second, out=self.root).add_(1e-8 * scale)
        self.values.addcdiv_(self.first, self.root, value=-self.lr * scale / (1 - a**self.count))

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        for p in self.parameters:
            p.data, p.grad = p.data.clone(), None


def _by_dtype(module: Any) -> list[list[Any]]:
    """Return the parameters that learn, those of one dtype together."""
    found: dict[Any, list[Any]] = {}
    for p in module.parameters():
        if p.requires_grad:
            found.setdefault(p.dtype, []).append(p)
    return list(found.values())


def _floats(X: Any) -> Array:
    return np.ascontiguousarray(X, dtype=np.float32)


def mlp_factory(hidden: Sequence[int]) -> Factory:
    """Return a factory of ReLU networks with these hidden layers, for rows (N, D)."""
    return functools.partial(_mlp, tuple(hidden))


def cnn_factory(channels: Sequence[int], hidden: Sequence[int]) -> Factory:
    """Return a factory of small networks for images (N, channels, H, W).

    Each entry of ``channels`` is a 3 x 3 convolution, ReLU and 2 x 2 max pooling (left out when the image has
    become a single pixel); then come the hidden layers.
    """
    return functools.partial(_cnn, tuple(channels), tuple(hidden))


# Functions of the module and not closures: a fitted network can be handed from one process to another.


def _mlp(hidden: tuple[int, ...], n_inputs: int, n_classes: int) -> Any:
    nn = _torch().nn
    widths = [n_inputs, *hidden]
    layers: list[Any] = []
    for before, after in zip(widths, hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))


def _cnn(channels: tuple[int, ...], hidden: tuple[int, ...], shape: tuple[int, ...], n_classes: int) -> Any:
    nn = _torch().nn
    depth, height, width = shape
    layers: list[Any] = []
    for after in channels:
        layers += [nn.Conv2d(depth, after, 3, padding=1), nn.ReLU()]
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        depth = after
    return nn.Sequential(*layers, nn.Flatten(), *_mlp(hidden, depth * height * width, n_classes))
