"""Trained networks as dropout and weight perturbation see them: weighted layers, and what can be computed once.

A unit is an input of a weighted layer (what the layer before it puts out, activation included), so a factor per unit
is a factor per column of the layer's weights. That makes a masked network a network of the same kind: its weights
are the old ones times the factors. Nothing here needs torch or scikit-learn to be imported.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError, UsageError

__all__ = ["ACTIVATIONS", "Dense", "Network", "as_network", "check_finite", "import_torch", "scaled_weight", "to_batch"]

Array = npt.NDArray[Any]


def _sigmoid(a: Array) -> None:
    np.clip(a, -87, 87, out=a)
    np.negative(a, out=a)
    np.exp(a, out=a)
    a += 1
    np.reciprocal(a, out=a)


def _silu(a: Array) -> None:
    gate = a.copy()
    _sigmoid(gate)
    a *= gate


#: What the dense path can compute in place, by name.
ACTIVATIONS: dict[str, Callable[[Array], object]] = {
    "relu": lambda a: np.maximum(a, 0, out=a),
    "tanh": lambda a: np.tanh(a, out=a),
    "sigmoid": _sigmoid,
    "silu": _silu,
}
_TORCH_ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu"}
_SKLEARN_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": None}
_NOTHING = ("Identity", "Dropout", "AlphaDropout")  # of a network that is not being trained


@dataclass(frozen=True, eq=False)
class Dense:
    """One layer of a dense tail: ``activation(weight * factors @ a + bias)`` with units in rows.

    ``name`` is the layer whose factors scale the columns of ``weight`` (d_out, d_in); None: it is not masked.
    """

    name: str | None
    weight: Array
    bias: Array
    activations: tuple[str, ...]


class Network(Protocol):
    """What :class:`~rashomon_core.exploration.DropoutExplorer` needs of a model."""

    layers: tuple[str, ...]  # that are masked, in order
    widths: dict[str, int]  # units of each
    dtype: np.dtype[Any]

    def prepare(self, X: object) -> Any:
        """Return the samples as the network takes them, checked."""

    def head(self, batch: Any) -> tuple[Any, list[Dense] | None]:
        """Return what does not depend on any mask, and the dense layers behind it: then it is (n, d)."""

    def logits(self, state: Any, factors: Mapping[str, Array]) -> Array:
        """Return the (n, C) logits of one model from what :meth:`head` returned, or (n, 1): one logit."""

    def member(self, factors: Mapping[str, Array]) -> Any:
        """Return one model: the same kind of object with other weights."""


def as_network(model: object, layers: Sequence[str] | None) -> Network:
    """Return a torch module, a fitted MLPClassifier, or a pipeline that ends in one, as a network."""
    if hasattr(model, "parameters") and hasattr(model, "state_dict"):
        return TorchNetwork(model, layers)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if hasattr(last, "hidden_layer_sizes") and hasattr(last, "n_layers_") and hasattr(last, "_label_binarizer"):
        return MLPNetwork(model, last, layers)
    fitted = " that is not fitted" if hasattr(last, "hidden_layer_sizes") else ""
    raise UsageError(
        f"dropout needs a trained network, and this is a {type(last).__name__}{fitted}. "
        "Fix: give a torch module, a fitted sklearn MLPClassifier, or a fitted Pipeline that ends in one"
    )


def check_finite(X: Array) -> None:
    """Refuse NaN and infinities, and name the first."""
    if X.shape[0] == 0:
        raise InvalidInputError("X has no samples")
    if X.dtype.kind != "f" or np.isfinite(X.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(X)
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), X.shape)
        where = f"sample {int(place[0])}, feature {', '.join(str(int(i)) for i in place[1:])}"
        raise InvalidInputError("X is not finite", where=where, value=X[place], fix="impute or drop the sample")


def _chosen(layers: Sequence[str] | None, default: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    if layers is None:
        if not default:
            fix = f" Fix: name it in layers (it has {', '.join(known)}): then features are masked" if known else ""
            raise UsageError(
                f"the model has no maskable layers: masks multiply the inputs of weighted layers behind the first.{fix}"
            )
        return tuple(default)
    names = [layers] if isinstance(layers, str) else list(layers)
    for name in names:
        if name not in known:
            raise UsageError(f"layer {name!r} is not one of the weighted layers {', '.join(known) or '(none)'}")
    if not names:
        raise UsageError("layers is empty. Fix: name at least one, or leave it out")
    return tuple(name for name in known if name in names)


# --- scikit-learn -----------------------------------------------------------------------------------------------


class MLPNetwork:
    """A fitted MLPClassifier, alone or at the end of a pipeline. Layer ``coefs_1`` is the second weight matrix."""

    def __init__(self, model: Any, mlp: Any, layers: Sequence[str] | None) -> None:
        if mlp.out_activation_ == "logistic" and mlp.n_outputs_ > 1:
            raise UsageError("this MLPClassifier is multi-label. Fix: one classifier per label")
        self._model, self._mlp = model, mlp
        known = [f"coefs_{i}" for i in range(len(mlp.coefs_))]
        self.layers = _chosen(layers, known[1:], known)
        self.widths = {name: mlp.coefs_[i].shape[0] for i, name in enumerate(known) if name in self.layers}
        self.dtype = np.dtype(mlp.coefs_[0].dtype)
        inner = _SKLEARN_ACTIVATIONS[mlp.activation]
        dense = []
        for i, (name, coef, bias) in enumerate(zip(known, mlp.coefs_, mlp.intercepts_, strict=True)):
            activations = (inner,) if inner is not None and i < len(known) - 1 else ()
            weight = np.ascontiguousarray(coef.T)
            dense.append(Dense(name if name in self.layers else None, weight, bias.copy(), activations))
        start = known.index(self.layers[0])
        self._before, self._dense = dense[:start], dense[start:]

    def prepare(self, X: object) -> Array:
        """Run the steps of the pipeline before the network, and check the result."""
        Z = self._model[:-1].transform(X) if hasattr(self._model, "steps") and len(self._model.steps) > 1 else X
        if hasattr(Z, "toarray"):
            Z = Z.toarray()
        Z = np.asarray(Z)
        if Z.dtype.kind not in "fbiu":
            raise InvalidInputError(f"X must be numbers, got {Z.dtype}")
        width = self._mlp.coefs_[0].shape[0]
        if Z.ndim != 2 or Z.shape[1] != width:
            raise InvalidInputError(f"X has shape {Z.shape}, the network takes (N, {width})")
        check_finite(Z)
        return Z

    def head(self, batch: Array) -> tuple[Array, list[Dense] | None]:
        """Run the layers before the first masked one."""
        a = np.asarray(batch, dtype=self.dtype)
        for layer in self._before:
            a = a @ layer.weight.T
            a += layer.bias
            for name in layer.activations:
                ACTIVATIONS[name](a)
        return a, self._dense

    def logits(self, state: Array, factors: Mapping[str, Array]) -> Array:
        """Run the masked layers of one model."""
        a = state
        for layer in self._dense:
            weight = layer.weight if layer.name is None else layer.weight * factors[layer.name]
            a = a @ weight.T
            a += layer.bias
            for name in layer.activations:
                ACTIVATIONS[name](a)
        return a

    def member(self, factors: Mapping[str, Array]) -> Any:
        """Return a copy with other ``coefs_``; a pipeline shares its steps with the original."""
        mlp = copy.copy(self._mlp)
        mlp.coefs_ = [coef.copy() for coef in self._mlp.coefs_]
        mlp.intercepts_ = [bias.copy() for bias in self._mlp.intercepts_]
        for name in self.layers:
            mlp.coefs_[int(name.removeprefix("coefs_"))] *= factors[name][:, None]
        if not hasattr(self._model, "steps"):
            return mlp
        pipeline = copy.copy(self._model)
        pipeline.steps = [*self._model.steps[:-1], (self._model.steps[-1][0], mlp)]
        return pipeline


# --- torch ------------------------------------------------------------------------------------------------------


def import_torch(purpose: str) -> Any:
    """Return torch, or say how to get it."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", purpose, "torch") from error
    return torch


def to_batch(module: Any, X: object, what: str = "X") -> Any:
    """Return samples as a tensor of the module's float type (integers stay integers) on its device, checked."""
    torch = import_torch("exploring a torch module")
    parameter = next(module.parameters(), None)
    if parameter is None:
        raise UsageError("the module has no parameters")
    if isinstance(X, torch.Tensor):
        batch = X.detach()
    else:
        array = np.asarray(X)
        if array.dtype.kind not in "fbiu":
            raise InvalidInputError(f"{what} must be numbers, got {array.dtype}")
        batch = torch.as_tensor(array)
        if not array.flags.writeable:
            batch = batch.clone()
    if batch.ndim == 0 or batch.shape[0] == 0:
        raise InvalidInputError(f"{what} has no samples")
    if batch.is_floating_point() and not bool(torch.isfinite(batch).all()):
        check_finite(batch.cpu().numpy())
    embeds = any(isinstance(m, (torch.nn.Embedding, torch.nn.EmbeddingBag)) for m in module.modules())
    if not batch.is_floating_point() and embeds:
        return batch.to(parameter.device)  # indices
    return batch.to(device=parameter.device, dtype=parameter.dtype)


def scaled_weight(layer: Any, factors: Any) -> Any:
    """Return a layer's weight with each input unit (channel of a convolution) multiplied by its factor."""
    weight = layer.weight
    if hasattr(layer, "in_features"):
        return weight * factors
    ones = (1,) * (weight.ndim - 2)
    if type(layer).__name__.startswith("ConvTranspose"):
        return weight * factors.reshape(-1, 1, *ones)
    per_group = factors.reshape(layer.groups, 1, -1).expand(-1, weight.shape[0] // layer.groups, -1)
    return weight * per_group.reshape(*weight.shape[:2], *ones)


class TorchNetwork:
    """A torch module, copied and in evaluation mode.

    ``route`` says how its members are predicted. ``dense``: behind the first masked layer come only linear layers and
    activations, and all models go through them together. ``graph``: whatever does not depend on a mask is computed
    once, the rest for each model. ``module``: the module cannot be traced and is run whole for each model.
    """

    route: str | None = None

    def __init__(self, model: Any, layers: Sequence[str] | None) -> None:
        torch = self._torch = import_torch("dropout in a torch module")
        convolutions = [getattr(torch.nn, f"Conv{t}{d}d") for t in ("", "Transpose") for d in (1, 2, 3)]
        weighted = (torch.nn.Linear, *convolutions)
        self._module = copy.deepcopy(model).eval()
        for parameter in self._module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        named = {name: m for name, m in self._module.named_modules() if isinstance(m, weighted)}
        parameters = dict(self._module.named_parameters())
        known = [name for name in named if (f"{name}.weight" if name else "weight") in parameters]
        self.layers = _chosen(layers, known[1:], known)
        self._layers = {name: named[name] for name in self.layers}
        self.widths = {n: int(getattr(m, "in_features", 0) or m.in_channels) for n, m in self._layers.items()}
        kind = str(next(self._module.parameters()).dtype).removeprefix("torch.")
        if kind not in ("float32", "float64"):
            raise UsageError(f"the module's weights are {kind}. Fix: module.float()")
        self.dtype = np.dtype(kind)
        try:
            self._plan: _Plan | None = _Plan(torch, self._module, self.layers)
        except UsageError:
            raise
        except Exception:  # whatever torch.fx cannot follow is run whole
            self._plan = None

    def prepare(self, X: object) -> Any:
        """Return the samples as a tensor; choose the route with the first of them."""
        batch = to_batch(self._module, X)
        with self._torch.inference_mode():
            try:
                plain = self._two_dimensional(self._module(batch[:4]))
            except (RuntimeError, IndexError) as error:
                raise InvalidInputError(
                    f"the module does not take X of shape {tuple(batch.shape)} ({error})"
                ) from error
            self.route = "module"
            if self._plan is not None:
                try:
                    state = self._plan.before(batch[:4])
                    same = self._two_dimensional(self._plan.behind(state, {}))
                    if same.shape == plain.shape and self._torch.allclose(same, plain, rtol=1e-4, atol=1e-5):
                        self.route = "dense" if self._plan.dense_input(state) is not None else "graph"
                except (RuntimeError, IndexError, TypeError, ValueError):
                    self.route = "module"  # the trace does not hold for these samples
        return batch

    def _two_dimensional(self, logits: Any) -> Any:
        if not isinstance(logits, self._torch.Tensor) or logits.ndim not in (1, 2):
            raise InvalidInputError(
                f"the module returns {tuple(getattr(logits, 'shape', ())) or type(logits).__name__}",
                fix="give a module that returns one tensor of logits, (N, C), (N, 1) or (N,)",
            )
        return logits.reshape(-1, 1) if logits.ndim == 1 else logits

    def head(self, batch: Any) -> tuple[Any, list[Dense] | None]:
        """Compute what no mask touches."""
        with self._torch.inference_mode():
            if self._plan is None or self.route == "module":
                return batch, None
            state = self._plan.before(batch)
            if self.route == "dense":
                return self._plan.dense_input(state).cpu().numpy(), self._plan.dense
            return state, None

    def logits(self, state: Any, factors: Mapping[str, Array]) -> Array:
        """Run what is left of one model."""
        torch = self._torch
        with torch.inference_mode():
            weights = {}
            for name, layer in self._layers.items():
                factor = torch.as_tensor(factors[name]).to(layer.weight)
                weights[f"{name}.weight" if name else "weight"] = scaled_weight(layer, factor)
            if self._plan is None or self.route == "module":
                out = torch.func.functional_call(self._module, weights, (state,))
            else:
                out = self._plan.behind(state, weights)
            return np.asarray(self._two_dimensional(out).cpu().numpy())

    def member(self, factors: Mapping[str, Array]) -> Any:
        """Return a copy of the module (in evaluation mode) with the factors multiplied into its weights."""
        torch = self._torch
        module = copy.deepcopy(self._module)
        named = dict(module.named_modules())
        with torch.no_grad():
            for name in self.layers:
                layer = named[name]
                layer.weight.copy_(scaled_weight(layer, torch.as_tensor(factors[name]).to(layer.weight)))
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        return module


class _Plan:
    """A module as a list of operations, those that depend on a masked layer behind those that do not."""

    def __init__(self, torch: Any, module: Any, layers: Sequence[str]) -> None:
        fx = importlib.import_module("torch.fx")  # not imported with torch itself
        self._torch, self._module = torch, module
        nodes = list(fx.Tracer().trace(module).nodes)
        self._modules = dict(module.named_modules())
        seen: set[str] = set()
        behind: set[Any] = set()
        for node in nodes:
            if node.op == "get_attr" and str(node.target).rpartition(".")[0] in layers:
                raise ValueError("a masked weight is used outside its layer")
            inside = [n for n in layers if node.op == "call_module" and f"{n}.".startswith(f"{node.target}.")]
            seen.update(inside)
            if inside or any(other in behind for other in node.all_input_nodes):
                behind.add(node)
        if seen != set(layers) or sum(node.op == "placeholder" for node in nodes) != 1:
            raise ValueError("a masked layer is not called, or there are several inputs")
        self._before = [n for n in nodes if n not in behind]
        self._behind = [n for n in nodes if n in behind]
        self._needed = {other for n in self._behind for other in n.all_input_nodes if other not in behind}
        self._check_output(nodes)
        self._entry, self.dense = self._dense_layers(layers)

    def _check_output(self, nodes: Sequence[Any]) -> None:
        last = nodes[-1].args[0]
        kind = self._modules.get(str(getattr(last, "target", ""))) if getattr(last, "op", "") == "call_module" else None
        if type(kind).__name__ in ("Softmax", "Sigmoid", "Softmax2d"):
            raise UsageError(
                f"the module ends in {type(kind).__name__}, and outputs are taken as logits. Fix: leave that layer out"
            )

    def _run(self, nodes: Sequence[Any], values: dict[Any, Any], weights: Mapping[str, Any]) -> Any:
        fetch = self._torch.fx.node.map_arg
        for node in nodes:
            args, kwargs = fetch((node.args, node.kwargs), values.__getitem__)
            if node.op == "output":
                return args[0]
            if node.op == "call_module":
                target = str(node.target)
                inner = {k[len(target) + 1 :]: w for k, w in weights.items() if k.startswith(f"{target}.")}
                layer = self._modules[target]
                call = self._torch.func.functional_call
                values[node] = call(layer, inner, args, kwargs) if inner else layer(*args, **kwargs)
            elif node.op == "call_function":
                values[node] = node.target(*args, **kwargs)
            elif node.op == "call_method":
                values[node] = getattr(args[0], node.target)(*args[1:], **kwargs)
            else:  # get_attr
                value: Any = self._module
                for part in str(node.target).split("."):
                    value = getattr(value, part)
                values[node] = value
        return None

    def before(self, batch: Any) -> dict[Any, Any]:
        values = {n: batch for n in self._before if n.op == "placeholder"}
        self._run([n for n in self._before if n.op != "placeholder"], values, {})
        return {n: values[n] for n in self._needed}

    def behind(self, state: dict[Any, Any], weights: Mapping[str, Any]) -> Any:
        # Operations in place (ReLU) must not reach what other models read.
        values = {n: v.clone() if isinstance(v, self._torch.Tensor) else v for n, v in state.items()}
        return self._run(self._behind, values, weights)

    def dense_input(self, state: dict[Any, Any]) -> Any:
        """Return the (n, d) tensor that the dense layers start from, or None."""
        value = None if self.dense is None else state[self._entry]
        return value if value is not None and value.ndim == 2 else None

    def _dense_layers(self, layers: Sequence[str]) -> tuple[Any, list[Dense] | None]:
        if len(self._needed) != 1:
            return None, None
        entry = previous = next(iter(self._needed))
        found: list[tuple[str | None, Any, list[str]]] = []
        for node in self._behind[:-1]:
            if node.all_input_nodes != [previous]:
                return None, None
            previous = node
            if node.op == "call_module" and type(self._modules[str(node.target)]) is self._torch.nn.Linear:
                name = str(node.target)
                found.append((name if name in layers else None, self._modules[name], []))
                continue
            activation = self._activation(node)
            if activation is None or not found:
                return None, None
            if activation:
                found[-1][2].append(activation)
        if self._behind[-1].args[0] is not previous:
            return None, None
        dense = []
        for label, layer, activations in found:
            weight = layer.weight.detach().cpu().numpy().copy()
            bias = np.zeros(len(weight), weight.dtype) if layer.bias is None else layer.bias.detach().cpu().numpy()
            dense.append(Dense(label, weight, bias.copy(), tuple(activations)))
        return entry, dense

    def _activation(self, node: Any) -> str | None:
        """Return an activation's name, "" for what does nothing, None for anything else."""
        if node.op == "call_module":
            kind = type(self._modules[str(node.target)])
            if not kind.__module__.startswith("torch.nn"):
                return None
            return "" if kind.__name__ in _NOTHING else _TORCH_ACTIVATIONS.get(kind.__name__)
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        if name == "dropout" and node.kwargs.get("training") is False:
            return ""
        plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
        return name if plain and name in ACTIVATIONS else None
