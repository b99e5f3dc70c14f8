"""Dropout exploration: models around a trained network, one mask each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError
from rashomon_core.predictions import Predictions
from rashomon_core.tiles import Scratch, parse_memory, parse_threads, run
from rashomon_core.workers import one_thread

from .networks import ACTIVATIONS, Dense, as_network

__all__ = ["PUBLISHED_RATES", "DropoutExplorer"]

Array = npt.NDArray[Any]

#: 0, .01, ..., .2: the 21 rates of Hsu, Li, Hu and Chen (ICLR 2024).
PUBLISHED_RATES = tuple(i / 100 for i in range(21))
#: Masks drawn from one seed: few enough to draw again for a single member.
BLOCK = 64
#: A tile of the dense path, fixed so that neither memory (unless it is short) nor threads change what BLAS is asked.
TILE_SAMPLES, TILE_MODELS, TILE_BYTES = 4096, 512, 1 << 25


class DropoutExplorer:
    """Models near a trained network: each multiplies the network's hidden units by one random mask.

    A mask is drawn once per model and holds for every sample, so that a model is a function: :meth:`member` rebuilds
    it as a network of its own. (A mask per sample is no model; it understates how far models differ.)

    Parameters
    ----------
    model : torch.nn.Module, fitted MLPClassifier, or fitted Pipeline that ends in one
        A module takes a batch and returns logits, (N, C), or (N, 1) or (N,): the logit of class 1. It is copied, and
        the copy is in evaluation mode: its own dropout is off.
    kind : {"bernoulli", "gaussian"}
        Factor of each unit: 0 with probability ``rate``, else 1 / (1 - rate); or 1 + rate * N(0, 1).
    rates : sequence of floats, or of mappings of layer to float; default 0, .01, ..., .2
        In [0, 1); for Gaussian factors the standard deviation. A mapping gives layers rates of their own, 0 where it
        does not name one. Rate 0 gives copies of the network.
    models_per_rate : int
        Masks of each rate: M = len(rates) * models_per_rate models, in the order of the rates.
    layers : sequence of str, optional
        Linear and convolution layers whose *inputs* are masked, by the names of ``named_modules()``; a unit is an
        input of a linear layer or an input channel of a convolution. For scikit-learn ``coefs_1``, ... Default: all
        but the first, so that hidden units are masked and features are not.
    seed : int, SeedSequence or Generator
        Mask j of rate r depends on the seed, r and j alone: not on the number of models, rates or samples. From a
        Generator one integer is drawn.

    Attributes
    ----------
    layers : tuple of str
        The masked layers.
    n_models : int
    model_ids : tuple of str
        ``bernoulli:0.05:12``, or with mappings ``bernoulli:r3:12``: kind, rate (or its index), number of the mask.
    route : str or None
        How the last prediction was computed. "dense": behind the first masked layer come only linear layers and
        activations (ReLU, tanh, sigmoid, SiLU); "graph": other operations, of which those before the first masked
        layer are computed once; "module": the module could not be traced and is run whole for each model.

    Raises
    ------
    UsageError
        For anything that is not a trained network, one without maskable layers, or rates outside [0, 1).
    MissingDependencyError
        When torch is needed and missing.

    Notes
    -----
    Cost on the dense route, N samples, one masked layer of d units before C classes: one pass to that layer, then
    2 N d C flops a model in one matrix product over all models (N d for two classes: the difference of the logits
    decides); each further layer d1 -> d2 costs 2 N d1 d2 a model. Memory: the output, and two tiles of at most 32 MB
    a thread. The same arguments give the same bytes on the same machine (with threadpoolctl, which keeps BLAS to one
    thread of its own; else with the same number of them); across other shapes and machines the matrix products may
    differ in the last bits, the masks never.

    References
    ----------
    Hsu, Li, Hu and Chen, "Dropout-based Rashomon set exploration for efficient predictive multiplicity estimation",
    ICLR 2024. Srivastava et al., JMLR 2014 (Bernoulli and Gaussian dropout).

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> from sklearn.neural_network import MLPClassifier
    >>> from rashomon_core.exploration import DropoutExplorer
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> net = MLPClassifier((16,), solver="lbfgs", max_iter=15000, random_state=0).fit(X, X[:, 0] * X[:, 1] > 0)
    >>> explorer = DropoutExplorer(net, rates=[0.05, 0.1], models_per_rate=10)
    >>> explorer.predict_all(X)
    <Predictions proba: 20 models x 200 samples, 2 classes, float64>
    >>> bool(np.allclose(explorer.predict_proba(X)[13], explorer.member(13).predict_proba(X)))
    True
    """

    def __init__(
        self,
        model: object,
        *,
        kind: Literal["bernoulli", "gaussian"] = "bernoulli",
        rates: Sequence[float] | Sequence[Mapping[str, float]] = PUBLISHED_RATES,
        models_per_rate: int = 100,
        layers: Sequence[str] | None = None,
        seed: int | np.random.SeedSequence | np.random.Generator = 0,
    ) -> None:
        if kind not in ("bernoulli", "gaussian"):
            raise UsageError(f"kind={kind!r}. Fix: 'bernoulli' or 'gaussian'")
        if not (isinstance(models_per_rate, (int, np.integer)) and models_per_rate >= 1):
            raise UsageError(f"models_per_rate={models_per_rate!r}. Fix: an integer, at least 1")
        self._network = as_network(model, layers)
        self.kind, self.models_per_rate, self.layers = kind, int(models_per_rate), self._network.layers
        self._rates = self._checked_rates(rates)
        self._given = [dict(r) if isinstance(r, Mapping) else float(r) for r in rates]
        if isinstance(seed, np.random.SeedSequence):
            self._seed = seed
        elif isinstance(seed, np.random.Generator):
            self._seed = np.random.SeedSequence(int(seed.integers(2**63)))
        elif isinstance(seed, (int, np.integer)) and seed >= 0:
            self._seed = np.random.SeedSequence(int(seed))
        else:
            raise UsageError(f"seed={seed!r}. Fix: a non-negative integer, a SeedSequence or a Generator")
        self.n_models = len(self._rates) * self.models_per_rate
        self.model_ids = tuple(
            f"{kind}:{f'r{i}' if isinstance(r, dict) else f'{r:.12g}'}:{j}"
            for i, r in enumerate(self._given)
            for j in range(self.models_per_rate)
        )
        if len(set(self.model_ids)) < self.n_models:
            raise UsageError("a rate is given twice. Fix: more models_per_rate")

    def __repr__(self) -> str:
        """Name the kind, the number of models and the masked layers."""
        return f"<DropoutExplorer {self.kind}: {self.n_models} models, masks before {', '.join(self.layers)}>"

    @property
    def route(self) -> str | None:
        """How the last prediction was computed: "dense", "graph" or "module"."""
        return getattr(self._network, "route", "dense")

    def _checked_rates(self, rates: Sequence[Any]) -> list[tuple[float, ...]]:
        if isinstance(rates, (str, Mapping)) or not hasattr(rates, "__len__"):
            raise UsageError(f"rates={rates!r}. Fix: a sequence, also for a single rate")
        checked = []
        for rate in rates:
            by_layer = rate if isinstance(rate, Mapping) else dict.fromkeys(self.layers, rate)
            for name, value in by_layer.items():
                if name not in self.layers:
                    raise UsageError(f"rates name layer {name!r}; masked are {', '.join(self.layers)}")
                if not (isinstance(value, (int, float, np.number)) and 0 <= value < 1):
                    raise UsageError(f"rate {value!r} of layer {name!r} is not in [0, 1)")
            checked.append(tuple(float(by_layer.get(name, 0.0)) for name in self.layers))
        if not checked:
            raise UsageError("rates is empty. Fix: give at least one rate")
        return checked

    def _index(self, k: int) -> int:
        if not 0 <= k < self.n_models:
            raise UsageError(f"model {k} is not one of 0..{self.n_models - 1}")
        return int(k)

    def rate_of(self, k: int) -> float | dict[str, float]:
        """Return the rate of model k, as it was given."""
        rate = self._given[self._index(k) // self.models_per_rate]
        return dict(rate) if isinstance(rate, dict) else rate

    def factors(self, k: int) -> dict[str, Array]:
        """Return the mask of model k: for each masked layer the factors of its inputs, (width,)."""
        k = self._index(k)
        return {name: rows[0] for name, rows in self._masks(k, k + 1).items()}

    def member(self, k: int) -> Any:
        """Return model k as a network of its own: a torch module (evaluation mode), MLPClassifier or Pipeline.

        The factors are multiplied into the weights behind the masked units. Predictions are those of
        :meth:`predict_proba` to rounding.
        """
        return self._network.member(self.factors(k))

    def _masks(self, start: int, stop: int) -> dict[str, Array]:
        """Draw the masks of models [start, stop), (K, width) for each layer."""
        net = self._network
        out = {name: np.empty((stop - start, net.widths[name]), net.dtype) for name in self.layers}
        k = start
        while k < stop:
            rate, j = divmod(k, self.models_per_rate)
            block, skip = divmod(j, BLOCK)
            count = min(BLOCK - skip, self.models_per_rate - j, stop - k)
            for i, name in enumerate(self.layers):
                p = self._rates[rate][i]
                rows = out[name][k - start : k - start + count]
                if p == 0:
                    rows.fill(1)
                    continue
                child = np.random.SeedSequence(
                    self._seed.entropy,
                    spawn_key=(*self._seed.spawn_key, rate, i, block),
                    pool_size=self._seed.pool_size,
                )
                rng = np.random.Generator(np.random.PCG64(child))
                shape = (skip + count, rows.shape[1])
                if self.kind == "bernoulli":
                    kept = rng.random(shape, dtype=np.float32)[skip:] >= p
                    np.multiply(kept, net.dtype.type(1 / (1 - p)), out=rows)
                else:
                    np.multiply(rng.standard_normal(shape, dtype=np.float32)[skip:], net.dtype.type(p), out=rows)
                    rows += 1
            k += count
        return out

    def predict_all(
        self, X: object, *, memory: int | str | None = None, threads: int | None = None, batch_size: int = 1024
    ) -> Predictions:
        """Predict X with every model, as :class:`~rashomon_core.Predictions` with model ids; see :meth:`predict_proba`.

        Two classes are stored as P(class 1) alone, (M, N).
        """
        array = self._predict(X, None, None, memory, threads, batch_size)
        return Predictions.from_array(array, kind="proba", model_ids=self.model_ids)

    def predict_proba(
        self,
        X: object,
        *,
        positive_only: bool = False,
        out: Array | None = None,
        memory: int | str | None = None,
        threads: int | None = None,
        batch_size: int = 1024,
    ) -> Array:
        """Predict X with every model.

        Parameters
        ----------
        X : (N, ...) array-like
            What the network takes; a pipeline's own steps run first.
        positive_only : bool
            Two classes: return P(class 1), (M, N), in half the memory.
        out : array, optional
            Where to write, for example a memory map: of the result's shape and dtype.
        memory : int or str, optional
            Budget for what is held next to ``out``, "500MB"; default a quarter of what is available.
        threads : int, optional
            Default: the processors this process may use. torch uses threads of its own.
        batch_size : int
            Samples that go through a torch module together where it is run as such.

        Returns
        -------
        (M, N, C) or (M, N) array
            Probabilities in the network's dtype (float32 or float64).

        Raises
        ------
        InvalidInputError
            When X has the wrong shape or is not finite (sample and feature are named).
        """
        return self._predict(X, positive_only, out, memory, threads, batch_size)

    # --- computing ----------------------------------------------------------------------------------------------

    def _predict(
        self,
        X: object,
        positive_only: bool | None,  # None: where there are two classes
        out: Array | None,
        memory: int | str | None,
        threads: int | None,
        batch_size: int,
    ) -> Array:
        budget, pool = parse_memory(memory), parse_threads(threads)
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size}. Fix: at least 1")
        batch = self._network.prepare(X)
        state, dense = self._network.head(batch[: min(len(batch), 2)])
        if dense is None:
            one = self._network.logits(
                state, {n: np.ones(w, self._network.dtype) for n, w in self._network.widths.items()}
            )
            columns = one.shape[1]
        else:
            columns = len(dense[-1].weight)
        classes = max(columns, 2)
        if positive_only is None:
            positive_only = classes == 2
        if positive_only and classes != 2:
            raise UsageError(f"positive_only is for two classes, and there are {classes}")
        shape = (self.n_models, len(batch)) if positive_only else (self.n_models, len(batch), classes)
        if out is None:
            out = np.empty(shape, self._network.dtype)
        elif out.shape != shape or out.dtype != self._network.dtype:
            raise UsageError(f"out is {out.shape} {out.dtype}, the result {shape} {self._network.dtype}")
        if dense is None:
            self._one_by_one(batch, out, batch_size)
        else:
            self._together(batch, dense, out, budget, pool, batch_size)
        return out

    def _one_by_one(self, batch: Any, out: Array, batch_size: int) -> None:
        """Run each model on each batch of samples; what no mask touches is computed once a batch."""
        tasks = [slice(i, min(i + batch_size, len(batch))) for i in range(0, len(batch), batch_size)]

        def work(rows: slice, scratch: Scratch) -> None:
            state, _ = self._network.head(batch[rows])
            for k in range(self.n_models):
                if k % BLOCK == 0:
                    masks = self._masks(k, min(k + BLOCK, self.n_models))
                logits = self._network.logits(state, {name: m[k % BLOCK] for name, m in masks.items()})
                _write(np.ascontiguousarray(logits.T)[None], out[k : k + 1, rows])

        run(tasks, work, threads=1, label="dropout")  # torch has threads of its own

    def _together(self, batch: Any, dense: list[Dense], out: Array, budget: int, threads: int, batch_size: int) -> None:
        """Run all models through the dense layers, blocks of models by ranges of samples."""
        layers = _joined(dense)
        size, N, M = self._network.dtype.itemsize, len(batch), self.n_models
        width = dense[0].weight.shape[1]
        held = max(1, min(N, budget // 2 // (size * width)))  # samples whose first units are kept at a time
        limit = min(TILE_BYTES, budget // (4 * threads))
        most = max(2 * max(len(layer.weight) for layer in layers), 1)
        samples = max(1, min(held, TILE_SAMPLES, limit // (size * most)))
        weights = sum(layer.weight.size for layer in layers if layer.name is not None)
        models = max(1, min(M, TILE_MODELS, limit // (size * (most * samples + weights))))
        for first in range(0, N, held):
            rows = range(first, min(first + held, N))
            state = np.empty((width, len(rows)), self._network.dtype)  # units by samples
            for i in range(0, len(rows), batch_size):
                part, _ = self._network.head(batch[first + i : min(first + i + batch_size, rows.stop)])
                state[:, i : i + len(part)] = part.T

            tasks = [(k, min(k + models, M)) for k in range(0, M, models)]

            def work(task: tuple[int, int], scratch: Scratch, state: Array = state, first: int = first) -> None:
                start, stop = task
                masks = self._masks(start, stop)
                stack = [_stacked(layer, masks) for layer in layers]
                for i in range(0, state.shape[1], samples):
                    a = state[:, i : i + samples]
                    scores = _forward(layers, stack, a, stop - start, scratch)
                    _write(scores, out[start:stop, first + i : first + i + a.shape[1]])

            with one_thread():  # of BLAS: its own threads gain nothing here, and spin for a while afterwards
                run(tasks, work, threads=threads, label="dropout")


def _joined(dense: list[Dense]) -> list[Dense]:
    """Replace two logits by their difference: half the product, and all that the softmax of two depends on."""
    last = dense[-1]
    if len(last.weight) != 2 or last.activations:
        return dense
    weight, bias = last.weight[1:] - last.weight[:1], last.bias[1:] - last.bias[:1]
    return [*dense[:-1], Dense(last.name, weight, bias, ())]


def _stacked(layer: Dense, masks: Mapping[str, Array]) -> Array:
    """Return (K, d_out, d_in) weights of the models, or the (d_out, d_in) that they share."""
    return layer.weight if layer.name is None else layer.weight * masks[layer.name][:, None, :]


def _forward(layers: list[Dense], stack: list[Array], a: Array, K: int, scratch: Scratch) -> Array:
    """Return (K, columns, n) logits from the (d, n) units that all models share."""
    n = a.shape[1]
    for i, (layer, weight) in enumerate(zip(layers, stack, strict=True)):
        rows = len(layer.bias)
        z = scratch.array(f"units{i % 2}", (K, rows, n), a.dtype)
        if i == 0:  # one product for all models
            np.matmul(weight.reshape(K * rows, -1), a, out=z.reshape(K * rows, n))
        else:
            np.matmul(weight, a, out=z)
        z += layer.bias[:, None]
        for name in layer.activations:
            ACTIVATIONS[name](z)
        a = z
    return a


def _write(logits: Array, out: Array) -> None:
    """Turn (K, columns, n) logits into the probabilities of ``out``, (K, n) or (K, n, C); logits are overwritten."""
    K, columns, n = logits.shape
    step = max(1, (1 << 16) // n)  # a piece stays in the cache
    for k in range(0, K, step):
        z, to = logits[k : k + step], out[k : k + step]
        if columns <= 2:  # P(1) = 1 / (1 + u), P(0) = u P(1), u = exp(-logit): exact where small
            u = z[:, 0] if columns == 1 else z[:, 1] - z[:, 0]
            np.clip(u, -87, 87, out=u)
            np.negative(u, out=u)
            np.exp(u, out=u)
            if to.ndim == 2:
                np.add(u, 1, out=to)
                np.reciprocal(to, out=to)
            else:
                p = np.reciprocal(u + 1)
                to[..., 1] = p
                np.multiply(u, p, out=to[..., 0])
            continue
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        np.copyto(to, z.transpose(0, 2, 1))
