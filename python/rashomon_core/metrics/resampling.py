"""Bootstrap intervals over samples: every metric on samples that are drawn again, without reading scores again.

Everything comes from what one visit found (flags, votes, extremes, bit planes); only losses of scores take another
reading. Membership of the set is not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import _encode, _sums
from rashomon_core.inputs import Inputs
from rashomon_core.tiles import BLOCK, KEPT_PART, Scratch, SpillArray, plan, read_block, run
from rashomon_core.vectors import target_rows

from . import sets
from .decisions import rate_from_squares
from .planes import encode_vector, mask_words
from .replicates import Replicates, interval_of
from .resampled_groups import of_fairness, of_multiplicity
from .summary import LEVELS
from .visit import Visit, column_of, squares_of, width_of

__all__ = ["Resampling"]

Array = npt.NDArray[Any]
Path = tuple[str, ...]
#: Rows of per-sample values that are held together.
ROWS = 16
#: Most bits that comparing all pairs in all replicates may take: about ten seconds of one processor.
PAIR_BITS = 2e12
TOO_MANY_PAIRS = "all pairs of models in all replicates are too many. Fix: fewer replicates, or fewer models"
LN2 = float(np.log(2.0))


@dataclass
class Resampling:
    """Replicates of everything that a visit of ``part`` found; :meth:`intervals` is the result.

    Attributes
    ----------
    references : dict of (N,) decisions
        "reference", "target", "labels": what models are compared with.
    pairs : bool
        Whether the largest disagreement of two models is asked for.
    rates, losses : bool
        Whether fairness and losses of scores are.
    inside : dict, or None
        Why something is not measured inside each group; None: nothing is.
    size : int, or None
        Of size-matched values.
    """

    part: Inputs
    found: Visit
    planes: SpillArray | None
    references: Mapping[str, Array]
    replicates: int
    level: float
    seed: int
    ddof: int
    positive: int
    pairs: bool
    rates: bool
    losses: bool
    threads: int
    memory: int
    fairness_threshold: float | dict[str, float] | None = None
    skip_undefined: bool = False
    inside: dict[str, str] | None = None
    size: int | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def intervals(self) -> dict[str, Any]:
        """Return the intervals by metric and name, as :func:`attach` takes them."""
        self.drawn = Replicates(self.part, self.replicates, self.seed, threads=self.threads, memory=self.memory)
        self._of_models()
        self._of_samples()
        if self.pairs:
            self._of_pairs()
        if self.rates:
            assert self.planes is not None
            self.values["fairness"] = of_fairness(
                self.drawn, self.planes, self.positive, self.fairness_threshold, skip_undefined=self.skip_undefined
            )
        if self.inside is not None:
            self.values["groups"] = of_multiplicity(
                self.drawn, self.found, self.ddof, self.inside, skip_undefined=self.skip_undefined
            )
        if self.losses:
            self._of_losses()

        def walk(node: Any) -> Any:
            if isinstance(node, dict):
                return {name: walk(inner) for name, inner in node.items()}
            return interval_of(node, self.level, self.replicates)

        result: dict[str, Any] = walk(self.values)
        return result

    def _differences(self, reference: Array, models: slice, right: Array | None = None) -> Array:
        """Return (m, G, 8) words of the samples on which models differ from a reference (and it is right)."""
        assert self.planes is not None
        planes = encode_vector(reference, self.part.view.n_classes)
        words: Array = np.bitwise_or.reduce(self.planes.read(models) ^ planes, axis=2)
        return words if right is None else words & right

    def _of_models(self) -> None:
        """Ambiguity, discrepancy, fidelity and 0-1 loss."""
        view, found = self.part.view, self.found
        flags: dict[str, Array] = {}
        if "reference" in found.unions:
            flags["ambiguity"] = found.unions["reference"]
        if found.vote_squares is not None:
            n, M = view.n_samples, view.n_models
            flags["pairwise_ambiguity"] = squares_of(found, slice(0, n)) != M * M
        if flags:
            sums = self.drawn.sums(np.stack([mask_words(x) for x in flags.values()]))
            for name, values in zip(flags, self.drawn.shares(sums), strict=True):
                self._put((name, "value"), values)
        if self.planes is None:
            return
        blocks = self.drawn.blocks(self.planes)

        def shares(name: str, right: Array | None = None) -> Array:
            parts = [self.drawn.sums(self._differences(self.references[name], models, right)) for models in blocks]
            return self.drawn.shares(np.concatenate(parts))

        if "reference" in found.mismatches:
            differing = shares("reference")
            self._put(("discrepancy", "value"), differing.max(axis=0))
            if self.size is not None and found.agree is not None:
                self._put(
                    ("discrepancy", "size_matched", "value"),
                    np.array([sets.size_matched_max(x, self.size) for x in differing.T]),
                )
        if "target" in found.mismatches:
            self.values["fidelity"] = _extremes(1.0 - shares("target"))
        if "labels" in found.mismatches:
            self.values["losses"] = {"zero_one": _extremes(shares("labels"))}
        if "right" in found.mismatches:
            right = mask_words(self.references["target"] == self.references["labels"])
            both = self.drawn.shares(self.drawn.sums(right[None]))
            self.values["losses"]["correct_fidelity"] = _extremes(both - shares("target", right))

    def _put(self, path: Path, values: Array | str) -> None:
        node = self.values
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = values

    def _of_samples(self) -> None:
        """Means of what each sample has, and quantiles: disagreement rate, widths, variances, capacity."""
        view, found = self.part.view, self.found
        n, M, C = view.n_samples, view.n_models, view.columns if view.kind != "labels" else 0
        described: list[tuple[Callable[[], Array], list[Path]]] = []
        means: list[tuple[Callable[[], Array], Path]] = []
        if found.vote_squares is not None:

            def rate(ddof: int) -> Array:
                return rate_from_squares(squares_of(found, slice(0, n)), M, ddof)

            if self.ddof < M:
                described.append((lambda: rate(self.ddof), [("disagreement_rate",)]))
            if M > 1:
                means.append((lambda: rate(1), ("pairwise_disagreement", "mean")))
            else:
                none = self.drawn.shares(np.zeros(self.replicates))
                self.values["pairwise_disagreement"] = {"mean": none, "max": none}
                self._put(("pairwise_discrepancy", "value"), none)
        if self.size is not None:
            for name, chance in self._chances(self.size).items():
                means.append((chance, (name, "size_matched", "value")))
        if found.low is not None:
            names = view.class_names or tuple(str(c) for c in range(view.n_classes))
            for c in range(C):
                own = names if C == 1 else names[c : c + 1]
                widths: list[Path] = [("viable_prediction_range", "classes", name) for name in own]
                if view.n_classes == 2 and (C == 1 or c == self.positive):
                    widths.append(("viable_prediction_range", "positive"))
                described.append((partial(self._width, c), widths))
                if self.ddof < M:
                    described.append((partial(self._variance, c), [("score_variance", "classes", x) for x in own]))
            if self.part.y is not None:
                described.append((self._own_width, [("viable_prediction_range", "true_class")]))
        if found.capacity is not None:
            solver = found.capacity
            described.append((lambda: solver.bits(0, n), [("rashomon_capacity",)]))
            described.append((lambda: 2.0 ** solver.bits(0, n), [("rashomon_capacity", "effective")]))
        for read, paths in described:
            for path in paths:
                means.append((read, (*path, "mean")))
            for name, values in zip(
                [*LEVELS, "max"], self.drawn.quantiles(read(), [*LEVELS.values(), 1.0]), strict=True
            ):
                for path in paths:
                    self._put((*path, name), values)
        for i in range(0, len(means), ROWS):
            some = means[i : i + ROWS]
            sums = self.drawn.products(np.stack([np.asarray(read(), np.float64) for read, _ in some]))
            for (_, path), values in zip(some, self.drawn.shares(sums), strict=True):
                self._put(path, values)

    def _chances(self, size: int) -> dict[str, Callable[[], Array]]:
        """Return the chance of each sample to be ambiguous in a random subset of ``size`` models."""
        found, M = self.found, self.part.view.n_models
        chances: dict[str, Callable[[], Array]] = {}
        agree, votes = found.agree, found.votes
        if agree is not None:
            chances["ambiguity"] = lambda: 1.0 - sets.none_of(M - agree, M, size)
        if votes is not None:
            chances["pairwise_ambiguity"] = lambda: 1.0 - sets.none_of(M - votes, M, size).sum(axis=1)
        return chances

    def _width(self, c: int) -> Array:
        return width_of(self.found, c, 0, self.part.view.n_samples)

    def _variance(self, c: int) -> Array:
        assert self.found.variance is not None
        return column_of(self.found.variance, c, 0, self.part.view.n_samples)

    def _own_width(self) -> Array:
        if self.part.view.columns == 1:
            return self._width(0)
        assert self.part.y is not None
        widths = np.empty(len(self.part.y))
        for c in np.unique(self.part.y).tolist():
            own = self.part.y == c
            widths[own] = self._width(c)[own]
        return widths

    def _of_pairs(self) -> None:
        """The largest disagreement of two models, where all pairs are few enough."""
        assert self.planes is not None
        M, n = self.part.view.n_models, self.part.view.n_samples
        if 2.0 * M * (M - 1) * self.replicates * n > PAIR_BITS:
            self._put(("pairwise_discrepancy", "value"), TOO_MANY_PAIRS)
            self._put(("pairwise_disagreement", "max"), TOO_MANY_PAIRS)
            return
        planes, blocks = self.planes, self.drawn.blocks(self.planes)
        largest = np.zeros(self.replicates)

        def work(chunk: slice, scratch: Scratch) -> None:
            draws = self.drawn.draws(chunk)
            for k in range(M - 1):
                own = planes.read(slice(k, k + 1))
                for models in blocks:
                    if models.stop <= k + 1:
                        continue
                    others = planes.read(slice(max(models.start, k + 1), models.stop))
                    sums = draws.sums(np.bitwise_or.reduce(others ^ own, axis=2))
                    np.maximum(largest[chunk], sums.max(axis=0), out=largest[chunk])

        run(self.drawn.chunks(), work, threads=self.threads, label="resampling pairs")
        shares = self.drawn.shares(largest)
        self._put(("pairwise_discrepancy", "value"), shares)
        self._put(("pairwise_disagreement", "max"), shares)

    def _of_losses(self) -> None:
        """Losses of scores: the only metrics whose per-sample values take another reading."""
        part, view, R = self.part, self.part.view, self.replicates
        names = list(self.found.losses)
        cut = plan(
            view, threads=self.threads, memory=self.memory // 2, per_sample=64 * view.n_classes + 10 * R, unit=BLOCK
        )
        wide = 40 * cut.samples * view.n_classes
        models = max(1, min(cut.models, int(self.memory // self.threads * KEPT_PART) // wide))
        sums = {name: np.zeros((view.n_models, R)) for name in names}

        def work(task: tuple[int, int], scratch: Scratch) -> dict[str, Array]:
            rows = slice(*task)
            counts = self.drawn.counts.read(slice(0, R), rows)
            weights = np.ascontiguousarray(counts) if part.weights is None else counts * part.weights[rows]
            result: dict[str, list[Array]] = {name: [] for name in names}
            for k in range(0, view.n_models, models):
                block = read_block(view, slice(k, min(k + models, view.n_models)), rows, scratch, cut)
                for name, values in _sample_losses(part, names, block, rows).items():
                    infinite = np.isinf(values)
                    totals = np.zeros((-(-values.shape[1] // BLOCK), len(values), R))
                    _sums.products(np.where(infinite, 0.0, values), weights, totals)
                    if infinite.any():
                        hits = np.zeros_like(totals)
                        _sums.products(infinite.astype(np.float64), weights, hits)
                        totals[hits > 0] = np.inf
                    result[name].append(totals)
            return {name: np.concatenate(parts, axis=1) for name, parts in result.items()}

        def merge(task: tuple[int, int], totals: dict[str, Array]) -> None:
            for name, blocks in totals.items():
                for block in blocks:
                    sums[name] += block

        run(cut.tiles, work, merge, threads=self.threads, label="resampling losses")
        losses = self.values.setdefault("losses", {})
        for name, values in sums.items():
            losses[name] = _extremes(self.drawn.shares(values))
        if "cross_entropy" in sums:
            entropy = np.zeros(R)
            if part.target_scores is not None:
                scores = part.target_scores
                entropy = self.drawn.products(_sums.row_entropies(target_rows(scores, slice(0, len(scores))))[None])[0]
            losses["kl_divergence"] = _extremes(self.drawn.shares(sums["cross_entropy"] + entropy) / LN2)


def _extremes(values: Array) -> dict[str, Array]:
    """Return min, median and max over the models of (M, R)."""
    with np.errstate(invalid="ignore"):  # infinite losses
        return {"min": values.min(axis=0), "median": np.median(values, axis=0), "max": values.max(axis=0)}


def _sample_losses(part: Inputs, names: list[str], block: Array, rows: slice) -> dict[str, Array]:
    """Return the losses (m, S) of a block of scores, sample by sample."""
    view = part.view
    probs = _encode.probabilities(block, view.kind, view.renormalize)
    if probs.shape[2] == 1:
        probs = np.concatenate([1.0 - probs, probs], axis=2)
    found: dict[str, Array] = {}
    if "log_loss" in names:
        assert part.y is not None
        own = probs[:, np.arange(probs.shape[1]), part.y[rows]]
        found["log_loss"] = -_logs(own)
    if {"total_variation", "cross_entropy"} & set(names):
        if part.target_scores is not None:
            target = target_rows(part.target_scores, rows)
        else:
            assert part.target_labels is not None
            target = np.zeros(probs.shape[1:])
            target[np.arange(len(target)), part.target_labels[rows]] = 1.0
        if "total_variation" in names:
            found["total_variation"] = 0.5 * np.abs(probs - target).sum(axis=2)
        if "cross_entropy" in names:
            logs = np.where(target > 0, _logs(probs), 0.0)
            found["cross_entropy"] = -(target * logs).sum(axis=2)
    return found


def _logs(values: Array) -> Array:
    return np.asarray(_encode.log_exp(np.ascontiguousarray(values).reshape(-1))[0]).reshape(values.shape)
