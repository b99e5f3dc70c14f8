"""What stands between a model and the one who asks: rounding, hiding, noise.

A defence is ``transform(proba, x) -> proba`` on (n, C) float64 rows, and says of itself whether it is deterministic
(the same input gets the same answer) and whether it keeps the argmax. They compose from left to right. Hidden
probabilities are NaN. All that are here are deterministic and keep the argmax, ties at the lowest index included.
"""

from __future__ import annotations

import abc
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import UsageError, suggestion

from .rows import row_hashes

__all__ = [
    "DEFENCES",
    "Defence",
    "InputNoise",
    "LabelOnly",
    "ReverseSigmoid",
    "Round",
    "TopK",
    "describe_defence",
    "make_defence",
]

Array = npt.NDArray[Any]


@runtime_checkable
class Defence(Protocol):
    """What a defence is: anything with these members."""

    deterministic: bool
    keeps_argmax: bool

    def transform(self, proba: Array, x: Any) -> Array:
        """Return what is answered for the inputs x, (n, C), in place of ``proba`` (n, C)."""
        ...


class _Defence(abc.ABC):
    deterministic = True
    keeps_argmax = True

    @abc.abstractmethod
    def transform(self, proba: Array, x: Any) -> Array:
        """Return what is answered, see :class:`Defence`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class Round(_Defence):
    """Round to a number of decimals. Rows need not sum to 1 any more.

    Where rounding leaves the largest class no larger than one with a lower index, it is given one unit more.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.defences import Round
    >>> Round(1).transform(np.array([[0.26, 0.74], [0.499, 0.501]]), None).tolist()
    [[0.3, 0.7], [0.5, 0.6]]
    """

    def __init__(self, decimals: int) -> None:
        if not 1 <= decimals <= 15:
            raise UsageError(f"round:{decimals}: decimals are 1 to 15")
        self.decimals = int(decimals)

    def transform(self, proba: Array, x: Any) -> Array:
        """Return rounded rows."""
        rounded = np.round(proba, self.decimals)
        best = _argmax(proba)
        moved = np.flatnonzero(_argmax(rounded) != best)
        rounded[moved, best[moved]] = np.round(rounded[moved, best[moved]] + 10.0**-self.decimals, self.decimals)
        return rounded


class TopK(_Defence):
    """Hide all but the k largest probabilities (ties: the lowest index is shown)."""

    def __init__(self, k: int) -> None:
        if k < 1:
            raise UsageError(f"topk:{k}: at least one class is shown")
        self.k = int(k)

    def transform(self, proba: Array, x: Any) -> Array:
        """Return rows with NaN where classes are hidden."""
        if self.k >= proba.shape[1]:
            return proba.copy()
        order = np.argsort(-np.nan_to_num(proba, nan=-1.0), axis=1, kind="stable")
        shown = np.full_like(proba, np.nan)
        rows = np.arange(len(proba))[:, None]
        shown[rows, order[:, : self.k]] = proba[rows, order[:, : self.k]]
        return shown


class LabelOnly(_Defence):
    """Answer the decision only: one-hot rows."""

    def transform(self, proba: Array, x: Any) -> Array:
        """Return one-hot rows."""
        return np.eye(proba.shape[1])[_argmax(proba)]


class InputNoise(_Defence):
    """Add normal noise that is a function of the input.

    The same input gets the same noise however often it is asked, so that asking again does not average it out. Rows
    are clipped at 0 and divided by their sum; where the largest class changed, it changes places with the new one.

    Parameters
    ----------
    scale : float
        Standard deviation, in probability.
    seed : int
        A secret of the owner.
    """

    def __init__(self, scale: float, seed: int = 0) -> None:
        if not (np.isfinite(scale) and scale >= 0):
            raise UsageError(f"noise:{scale}: the standard deviation is finite and not negative")
        self.scale, self.seed = float(scale), int(seed)

    def transform(self, proba: Array, x: Any) -> Array:
        """Return noisy rows that sum to 1."""
        _refuse_hidden(proba, "noise")
        noise = np.empty_like(proba)
        for i, digest in enumerate(row_hashes(x)):
            key = hashlib.blake2b(f"{self.seed}:{digest}".encode(), digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype="<u8")))
            noise[i] = generator.normal(size=proba.shape[1])
        noisy = np.maximum(proba + self.scale * noise, 0.0)
        sums = noisy.sum(axis=1, keepdims=True)
        return _keep_argmax(proba, np.where(sums > 0, noisy / np.where(sums > 0, sums, 1.0), proba))


class ReverseSigmoid(_Defence):
    """Perturb so that a confident answer and one less confident look the same (Lee et al. 2018).

    p - beta (sigmoid(gamma logit(p)) - 1/2), clipped at 0 and divided by its sum: around the middle the answer falls
    where the probability rises. Where the largest class changed, it changes places with the new one.
    """

    def __init__(self, beta: float = 1.0, gamma: float = 0.2) -> None:
        if not (np.isfinite(beta) and beta >= 0 and np.isfinite(gamma) and gamma >= 0):
            raise UsageError(f"reverse_sigmoid:beta={beta},gamma={gamma}: both are finite and not negative")
        self.beta, self.gamma = float(beta), float(gamma)

    def transform(self, proba: Array, x: Any) -> Array:
        """Return perturbed rows that sum to 1."""
        _refuse_hidden(proba, "reverse_sigmoid")
        inside = np.clip(proba, 1e-12, 1 - 1e-12)
        logit = np.log(inside / (1 - inside))
        bent = np.maximum(proba - self.beta * (1 / (1 + np.exp(-self.gamma * logit)) - 0.5), 0.0)
        sums = bent.sum(axis=1, keepdims=True)
        return _keep_argmax(proba, np.where(sums > 0, bent / np.where(sums > 0, sums, 1.0), proba))


#: Defences by the names that configurations use; the first parameter may be given bare ("round:2").
DEFENCES: dict[str, type[_Defence]] = {
    "round": Round,
    "topk": TopK,
    "label": LabelOnly,
    "noise": InputNoise,
    "reverse_sigmoid": ReverseSigmoid,
}


def make_defence(spec: str | Mapping[str, Any] | Defence, *, seed: int = 0) -> Defence:
    """Return a defence from "round:2", "noise:scale=.1,seed=3", {"name": "round", "decimals": 2}, or itself.

    ``seed`` is the seed of a noise that states none.

    Examples
    --------
    >>> from rashomon_core.extraction.defences import make_defence
    >>> make_defence("topk:3"), make_defence({"name": "reverse_sigmoid", "beta": 0.5})
    (TopK(k=3), ReverseSigmoid(beta=0.5, gamma=0.2))
    """
    if not isinstance(spec, (str, Mapping)):
        if isinstance(spec, Defence):
            return spec
        raise UsageError(f"{spec!r} is no defence. Fix: transform(proba, x), deterministic and keeps_argmax")
    if isinstance(spec, Mapping):
        given: dict[str, Any] = dict(spec)
        name, bare = str(given.pop("name", "")), []
    else:
        name, _, rest = spec.partition(":")
        name, parts = name.strip(), [part.strip() for part in rest.split(",") if part.strip()]
        given = {key.strip(): value.strip() for key, _, value in (p.partition("=") for p in parts if "=" in p)}
        bare = [part for part in parts if "=" not in part]
    if name not in DEFENCES:
        raise UsageError(f"unknown defence {name!r}{suggestion(name, DEFENCES)}")
    kind = DEFENCES[name]
    wanted = list(inspect.signature(kind).parameters.values()) if kind is not LabelOnly else []
    if len(bare) > len(wanted):
        raise UsageError(f"defence {name!r} takes {len(wanted)} values, and {len(bare)} are given")
    given = {**{p.name: v for p, v in zip(wanted, bare, strict=False)}, **given}
    if "seed" in {p.name for p in wanted}:
        given.setdefault("seed", seed)
    for key in given:
        if key not in {p.name for p in wanted}:
            raise UsageError(f"defence {name!r} has no {key!r}; it has {', '.join(p.name for p in wanted) or 'none'}")
    for p in wanted:
        if p.default is p.empty and p.name not in given:
            raise UsageError(f"defence {name!r} needs {p.name}, for example {name}:2")
    values: dict[str, Any] = {}
    for p in wanted:
        if p.name in given:
            number = float if p.annotation == "float" else int
            try:
                values[p.name] = number(given[p.name])
            except (TypeError, ValueError):
                raise UsageError(f"defence {name!r}: {p.name}={given[p.name]!r} is not a number") from None
    return kind(**values)


def describe_defence(defence: Defence) -> dict[str, Any]:
    """Return what a ledger and a result say about a defence."""
    known = [name for name, kind in DEFENCES.items() if isinstance(defence, kind)]
    own = {k: v for k, v in vars(defence).items() if isinstance(v, (bool, int, float, str))}
    return {
        "name": known[0] if known else type(defence).__name__,
        **own,
        "deterministic": bool(defence.deterministic),
        "keeps_argmax": bool(defence.keeps_argmax),
    }


def _argmax(proba: Array) -> Array:
    """Decisions of rows whose hidden classes are NaN."""
    return np.asarray(np.nan_to_num(proba, nan=-1.0).argmax(axis=1))


def _keep_argmax(before: Array, after: Array) -> Array:
    best, found = before.argmax(axis=1), after.argmax(axis=1)
    rows = np.flatnonzero(best != found)
    a, b = best[rows], found[rows]
    after[rows, a], after[rows, b] = after[rows, b], after[rows, a]
    tied = rows[after[rows].argmax(axis=1) != a]  # the lower index of two equal values wins
    after[tied, best[tied]] = np.nextafter(after[tied, best[tied]], 2.0)
    return after


def _refuse_hidden(proba: Array, name: str) -> None:
    if np.isnan(proba).any():
        raise UsageError(f"defence {name!r} stands behind one that hides probabilities. Fix: put it before topk")
