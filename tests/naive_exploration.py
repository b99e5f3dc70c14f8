"""Slow obvious versions of the exploration methods: one mask, one model, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


# --- dropout ----------------------------------------------------------------------------------------------------


def softmax(z: Array) -> Array:
    """(N, C) logits, or (N, 1) logits of class 1, to (N, C) probabilities in float64."""
    z = np.asarray(z, dtype=np.float64)
    if z.shape[1] == 1:
        z = np.hstack([np.zeros_like(z), z])
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def mlp_with_masks(
    weights: Sequence[Array],
    biases: Sequence[Array],
    act: Callable[[Array], Array],
    X: Array,
    masks: Mapping[int, Array],
) -> Array:
    """Run a dense network, multiplying the inputs of layer i by masks[i], in float64. Weights are (in, out)."""
    a = np.asarray(X, dtype=np.float64)
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        if i > 0:
            a = act(a)
        if i in masks:
            a = a * masks[i]
        a = a @ w + b
    return softmax(a)


def hooked(module: Any, masks: Mapping[str, Array], X: Array) -> Array:
    """Run a torch module once, multiplying the inputs of named layers by a mask: (d,) for linear layers, (C,) for
    channels of convolutions, or (N, d) and (N, C): one mask per sample.
    """
    import torch

    handles = []
    for name, layer in module.named_modules():
        if name not in masks:
            continue
        mask = torch.as_tensor(masks[name], dtype=torch.float32)
        if hasattr(layer, "in_channels"):
            mask = mask.reshape(*mask.shape, *(1,) * (layer.weight.ndim - 2))
        handles.append(layer.register_forward_pre_hook(lambda _, args, m=mask: (args[0] * m,)))
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            out = module(torch.as_tensor(X, dtype=torch.float32)).numpy()
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return softmax(out.reshape(len(X), -1))


def discrepancy(scores: Array, base: Array) -> float:
    """Largest share of samples on which a model's decision differs from the base's."""
    return max(float((np.argmax(s, axis=1) != base).mean()) for s in scores)


# --- linear sets ------------------------------------------------------------------------------------------------


def logistic_loss(theta: Array, X: Array, p: Array, s: Array, l2: float) -> float:
    """Weighted mean of the cross-entropy plus l2 / 2 |w|^2; theta = (w, b)."""
    z = X @ theta[:-1] + theta[-1]
    total = sum(si * (np.logaddexp(0, zi) - pi * zi) for si, zi, pi in zip(s, z, p, strict=True))
    return float(total / s.sum() + 0.5 * l2 * theta[:-1] @ theta[:-1])


def logistic_gradient(theta: Array, X: Array, p: Array, s: Array, l2: float) -> Array:
    z = X @ theta[:-1] + theta[-1]
    r = s / s.sum() * (1 / (1 + np.exp(-z)) - p)
    return np.append(X.T @ r + l2 * theta[:-1], r.sum())


def extreme(c: Array, X: Array, p: Array, s: Array, l2: float, epsilon: float) -> tuple[float, float, float]:
    """Smallest and largest c'theta with loss <= L* + epsilon by SciPy's SLSQP, and L*."""
    from scipy.optimize import minimize

    start = np.zeros(X.shape[1] + 1)
    best = minimize(logistic_loss, start, jac=logistic_gradient, args=(X, p, s, l2), method="BFGS", tol=1e-12)
    limit = best.fun + epsilon
    found = []
    for sign in (1.0, -1.0):
        inside = {
            "type": "ineq",
            "fun": lambda t: limit - logistic_loss(t, X, p, s, l2),
            "jac": lambda t: -logistic_gradient(t, X, p, s, l2),
        }
        done = minimize(
            lambda t, sign=sign: sign * c @ t,
            best.x,
            jac=lambda t, sign=sign: sign * c,
            constraints=[inside],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )
        found.append(sign * done.fun)
    return found[0], found[1], float(best.fun)


# --- weight perturbation ----------------------------------------------------------------------------------------


def perturb_as_published(
    module: Any, X: Array, answers: Array, x: Array, label: int, epsilon: float, steps: int, lr: float
) -> tuple[Any, int, float]:
    """Raise one logit of one sample by plain gradient steps until the mean cross-entropy leaves L + epsilon."""
    import copy

    import torch

    net = copy.deepcopy(module).eval()
    batch, target = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(answers)

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(net(batch).double(), target))

    limit, last, taken, reached = loss() + epsilon, copy.deepcopy(net.state_dict()), 0, loss()
    for _ in range(steps):
        net.zero_grad()
        net(torch.as_tensor(x[None], dtype=torch.float32))[0, label].backward()
        with torch.no_grad():
            for p in net.parameters():
                p += lr * p.grad
        now = loss()
        if now > limit:
            break
        last, taken, reached = copy.deepcopy(net.state_dict()), taken + 1, now
    net.load_state_dict(last)
    return net, taken, reached
