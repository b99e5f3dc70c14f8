"""A visit as numbers: every metric as an object of plain Python numbers, and the arrays behind them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.group_results import GroupRates
from rashomon_core.inputs import Inputs
from rashomon_core.tiles import BLOCK, run

from . import sets
from .by_group import multiplicity_of
from .capacity import described
from .decisions import rate_from_squares
from .groups import fairness_over_set
from .scores import divergence
from .summary import CHUNK, describe
from .sums import count_of, share, total, total_of
from .visit import Visit, column_of, squares_of, width_of

__all__ = ["Overview", "extremes"]

Array = npt.NDArray[Any]


@dataclass
class Overview:
    """What a visit of ``part`` found, summarised.

    Attributes
    ----------
    reference_name : str or None
        What "reference" in the visit was.
    largest : (count or weight, pair of models) or None
        Of the pairwise comparison.
    rates, target_rates : GroupRates or None
    """

    part: Inputs
    found: Visit
    reference_name: str | None
    largest: tuple[float, tuple[int, int]] | None
    rates: GroupRates | None
    target_rates: GroupRates | None
    positive: int
    fairness_threshold: float | dict[str, float] | None
    ddof: int
    size: int | None
    memory: int
    threads: int
    keep_arrays: bool
    skip_undefined: bool = False
    #: Why something is not measured inside each group; None: nothing is.
    inside: dict[str, str] | None = None
    arrays: dict[str, Array] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Return the metrics by name, what takes selecting as a function to call later; "losses" may be empty."""
        part, found, reference_name = self.part, self.found, self.reference_name
        largest, rates, target_rates = self.largest, self.rates, self.target_rates
        view, w = part.view, part.weights
        n, M = view.n_samples, view.n_models
        scale = float(n) if w is None else total(w)

        def shares(name: str) -> Array:
            result: Array = found.mismatches[name] / n if w is None else found.mismatch_weights[name] / scale
            return result

        arrays = self.arrays
        out: dict[str, Any] = {}
        if "reference" in found.mismatches:
            differing, flags = shares("reference"), found.unions["reference"]
            arrays["mismatches"], arrays["ambiguous_samples"] = found.mismatches["reference"], flags
            worst = int(np.argmax(differing))
            out["ambiguity"] = {
                "value": share(flags, w),
                "count": int(np.count_nonzero(flags)),
                "reference": reference_name,
            }
            out["discrepancy"] = {
                "value": float(differing[worst]),
                "count": int(found.mismatches["reference"][worst]),
                "argmax": view.model_ids[worst],
                "reference": reference_name,
            }
            if found.agree is not None and self.size is not None:
                chance = sets.none_of(M - found.agree, M, self.size)
                out["ambiguity"]["size_matched"] = {"m": self.size, "value": sets.matched_mean(chance, w)}
                value = sets.size_matched_max(differing, self.size)
                out["discrepancy"]["size_matched"] = {"m": self.size, "value": value}
        if "target" in found.mismatches:
            arrays["fidelity"] = (n - found.mismatches["target"]) / n if w is None else 1.0 - shares("target")
            out["fidelity"] = extremes(arrays["fidelity"], view.model_ids, "argmax")
        if found.vote_squares is not None:

            def ambiguous(rows: slice) -> Array:
                result: Array = squares_of(found, rows) != M * M
                return result

            count = count_of(ambiguous, n)
            value = (count if w is None else count_of(ambiguous, n, w)) / scale
            out["pairwise_ambiguity"] = {"value": value, "count": int(count)}
            if found.votes is not None and self.size is not None:
                chance = sets.none_of(M - found.votes, M, self.size).sum(axis=1)
                value = sets.matched_mean(chance, w)
                out["pairwise_ambiguity"]["size_matched"] = {"m": self.size, "value": value}
            kept = rate_from_squares(squares_of(found, slice(0, n)), M, self.ddof) if self.keep_arrays else None

            def rate(start: int, stop: int) -> Array:
                if kept is not None:
                    return kept[start:stop]
                return rate_from_squares(squares_of(found, slice(start, stop)), M, self.ddof)

            if self.ddof == 1 and M == 1:
                out["disagreement_rate"] = None
            else:
                out["disagreement_rate"] = lambda: {
                    **describe(rate, n, w, in_memory=self._fits(n)),
                    "ddof": self.ddof,
                }
            mean = 0.0 if M == 1 else _mean_pairs(found, n, M, w)
            out["pairwise_disagreement"] = {"mean": mean, "max": 0.0, "argmax": None}
            if kept is not None:
                arrays["disagreement_rate"] = kept
        if largest is not None:
            value = float(largest[0] / scale)
            pair = [view.model_ids[k] for k in largest[1]]
            out["pairwise_discrepancy"] = {"value": value, "argmax": pair}
            out.setdefault("pairwise_disagreement", {})
            out["pairwise_disagreement"].update(max=value, argmax=pair)
            if w is None:
                out["pairwise_discrepancy"]["count"] = int(largest[0])
        elif M == 1:
            out["pairwise_discrepancy"] = {"value": 0.0, "count": 0, "argmax": None}
        else:
            out.get("pairwise_disagreement", {}).pop("max", None)
            out.get("pairwise_disagreement", {}).pop("argmax", None)
        if found.low is not None:
            ranges = functools.cache(lambda: self._ranges(part, found))
            out["viable_prediction_range"] = lambda: ranges()["viable_prediction_range"]
            if self.ddof < M:
                out["score_variance"] = lambda: ranges()["score_variance"]
            if self.keep_arrays and found.high is not None and found.variance is not None:
                low, high, variance = (x.array().T for x in (found.low, found.high, found.variance))
                arrays.update(low=low, high=high, score_variance=variance)
        solver = found.capacity
        if solver is not None:
            chunk = max(1, min(CHUNK, self.memory // 256) // BLOCK) * BLOCK
            out["rashomon_capacity"] = lambda: {
                **described(solver, w, in_memory=self._fits(n), chunk=chunk),
                "tol": float(solver.rule.tol),
            }
            if self.keep_arrays:
                lower, upper = solver.bounds.array()
                middle = np.add(lower, upper)
                middle /= 2
                arrays.update(rashomon_capacity=middle, rashomon_capacity_lower=lower, rashomon_capacity_upper=upper)
        out["losses"] = self._losses(part, found, shares, scale, arrays)
        if rates is not None:
            out["fairness"] = lambda: fairness_over_set(
                rates,
                target_rates,
                self.fairness_threshold,
                model_ids=view.model_ids,
                skip_undefined=self.skip_undefined,
            )
        if self.inside is not None and part.groups is not None:
            out["groups"] = self._inside
        return out

    def _inside(self) -> dict[str, Any]:
        """Return multiplicity inside each group, of each column first where several are crossed."""
        groups, M = self.part.groups, self.part.view.n_models
        assert groups is not None
        whole = multiplicity_of(self.found, groups, self.part.weights, M, ddof=self.ddof, reasons=self.inside)
        alone = {name: whole.column(name) for name in whole.columns} if whole.parts else {}
        parts = {**alone, groups.title: whole}
        return {name: part.to_dict(skip_undefined=self.skip_undefined) for name, part in parts.items()}

    def _fits(self, n: int) -> bool:
        return self.keep_arrays or n * 40 < self.memory // 8

    def _ranges(self, part: Inputs, found: Visit) -> dict[str, Any]:
        """Summarise widths and variances class by class; selecting costs as much as reading several models."""
        view, w, n, C = part.view, part.weights, part.view.n_samples, part.view.columns
        variance = found.variance
        assert variance is not None

        def width(c: int) -> Any:
            return lambda start, stop: width_of(found, c, start, stop)

        def spread(c: int) -> Any:
            return lambda start, stop: column_of(variance, c, start, stop)

        def own_class(start: int, stop: int) -> Array:
            own = np.zeros(stop - start, dtype=np.int64) if C == 1 else part.y[start:stop]  # type: ignore[index]
            widths = np.empty(stop - start)
            for c in np.unique(own).tolist():
                widths[own == c] = width(c)(start, stop)[own == c]
            return widths

        classes = range(2) if C == 1 else range(C)
        names = view.class_names or tuple(str(c) for c in classes)
        fits = self._fits(n)
        chunk = max(1, min(CHUNK, self.memory // 256) // BLOCK) * BLOCK
        columns = [0] if C == 1 else list(range(C))
        readers = [read(c) for read in (width, spread) for c in columns]
        if part.y is not None:
            readers.append(own_class)
        in_turn: list[dict[str, float]] = []
        run(
            readers,
            lambda read, scratch: describe(read, n, w, in_memory=fits, chunk=chunk, scratch=scratch),
            lambda _, numbers: in_turn.append(numbers),
            threads=self.threads if fits else 1,
            label="summarising",
        )
        described = dict(zip(columns, in_turn, strict=False))
        varied = dict(zip(columns, in_turn[len(columns) :], strict=False))
        entry: dict[str, Any] = {"classes": {names[c]: described[0 if C == 1 else c] for c in classes}}
        if view.n_classes == 2:
            entry["positive"] = described[0 if C == 1 else self.positive]
        if part.y is not None:
            entry["true_class"] = in_turn[-1]
        return {
            "viable_prediction_range": entry,
            "score_variance": {"classes": {names[c]: varied[0 if C == 1 else c] for c in classes}, "ddof": self.ddof},
        }

    def _losses(
        self, part: Inputs, found: Visit, shares: Any, scale: float, arrays: dict[str, Array]
    ) -> dict[str, Any]:
        values: dict[str, Array] = {}
        if "labels" in found.mismatches:
            values["zero_one"] = shares("labels")
        if "right" in found.mismatches and part.target is not None and part.y is not None:
            answers, truth = part.target.decisions, part.y
            right = count_of(lambda rows: answers[rows] == truth[rows], len(truth), part.weights)
            wrong = found.mismatches if part.weights is None else found.mismatch_weights
            values["correct_fidelity"] = (right - wrong["right"]) / scale
        for name, sums in found.losses.items():
            values[name] = sums / scale
        if "cross_entropy" in values:
            assert part.target is not None
            values["kl_divergence"] = divergence(values["cross_entropy"], part.target.scores, part.weights)
        arrays.update(values)
        ids = part.view.model_ids
        return {
            name: extremes(x, ids, "argmax" if name == "correct_fidelity" else "argmin") for name, x in values.items()
        }


def extremes(values: Array, ids: tuple[str, ...], best: str) -> dict[str, Any]:
    """Return min, median and max over the models (null where infinite) and the best model's id."""
    infinite = int(np.count_nonzero(np.isinf(values)))
    entry: dict[str, Any] = {}
    for name, value in (("min", values.min()), ("median", np.median(values)), ("max", values.max())):
        entry[name] = float(value) if np.isfinite(value) else None
    entry[best] = ids[int(np.argmax(values) if best == "argmax" else np.argmin(values))]
    if infinite:
        entry["infinite"] = infinite
        entry["reason"] = f"{infinite} of {len(values)} models give probability 0 where it matters: +inf"
    return entry


def _mean_pairs(found: Visit, n: int, M: int, w: Array | None) -> float:
    """Mean disagreement over pairs of different models, from the votes."""
    if w is None:
        squares = sum(
            int(squares_of(found, slice(i, min(i + CHUNK, n))).sum(dtype=np.int64)) for i in range(0, n, CHUNK)
        )
        return (M * M * n - squares) / (M * (M - 1) * n)

    def differing(rows: slice) -> Array:
        result: Array = (M * M - squares_of(found, rows).astype(np.int64)).astype(np.float64)
        return result

    return total_of(differing, n, w) / (M * (M - 1) * total(w))
