"""What a report shows: numbers for its figures and tables, from a document and the tensors behind it.

Every metric is one of the library's own, asked for again on parts of the same inputs. What is too long for a page is
thinned here, and ``notes`` say so; nothing below this file computes anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core import tiles
from rashomon_core.group_results import FAIRNESS, GroupRates
from rashomon_core.inputs import Inputs, check_inputs
from rashomon_core.metrics.capacity import rashomon_capacity
from rashomon_core.metrics.curves import CurvePlan, epsilon_curves_of
from rashomon_core.metrics.decisions import decide, votes
from rashomon_core.metrics.groups import group_rates
from rashomon_core.metrics.scores import viable_prediction_range
from rashomon_core.metrics.sets import base_loss
from rashomon_core.predictions import Predictions
from rashomon_core.profiling import Profile, profile
from rashomon_core.results import CapacityResult
from rashomon_core.tiles import parse_memory, parse_threads
from rashomon_core.vectors import as_reference, as_selection

from .heat import Heat, heat_of, thinned

__all__ = ["Material", "Source", "family_of", "gather", "make_source", "method_of"]

Array = npt.NDArray[Any]
Row = dict[str, Any]
#: Surrogates of one budget in a chart, points of a curve.
DOTS, EPSILONS, CDF_POINTS = 1500, 24, 200
#: Samples and their supporting models in the table, groups in a chart, families with a colour of their own.
SAMPLES, SUPPORT, GROUPS, FAMILIES = 20, 6, 24, 9
_PARAMETERS = ("threshold", "positive", "missing", "ddof")
#: Curves over epsilon.
_CURVES = ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_discrepancy")
_RATES = ("selection_rate", "tpr", "fpr", "accuracy")


@dataclass(frozen=True, eq=False)
class Source:
    """One set of predictions as it was measured.

    Attributes
    ----------
    inputs : Inputs
        Predictions with target, labels, groups and weights, over all samples.
    selection : (N,) bool or None
        Samples that select the members; the others are measured.
    loss, reference : as in :func:`rashomon_core.profile`
    parameters : dict
        Of the document.
    budget : int or None
        Of a checkpoint.
    """

    inputs: Inputs
    selection: Array | None
    loss: Any
    reference: Any
    parameters: Mapping[str, Any]
    budget: int | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """Numbers for the figures and tables of a report; rows are dicts of plain values.

    Attributes
    ----------
    document : dict
        From :func:`rashomon_core.report.document.build_document`, or of an audit.
    noun : str
        "surrogate" or "model".
    class_names : tuple of str;  positive : str
    families, methods, budgets : lists of str
        What models can be told apart by, in order of their first appearance.
    models : rows of id, family, method, budget, member, fidelity, loss and one value for each fairness metric
        (``demographic_parity_difference`` ...)
    target : dict
        The target's own value of each fairness metric.
    curve : rows of epsilon, size, ambiguity, discrepancy, their pairwise forms, capacity, and (min, max) of fairness
    capacity : rows of budget, bits, share
    samples : rows of the most ambiguous samples
    heat : Heat or None
    rates : rows of group, rate, min, median, max, target;  groups : rows of group, samples, ambiguity, disagreement
    budget_rows : rows of budget and what was measured there
    notes : list of str
        What was thinned, and what is missing.
    """

    document: Mapping[str, Any]
    noun: str
    class_names: tuple[str, ...]
    positive: str
    families: list[str]
    methods: list[str]
    budgets: list[str]
    models: list[Row]
    target: dict[str, float]
    curve: list[Row]
    capacity: list[Row]
    samples: list[Row]
    heat: Heat | None
    rates: list[Row]
    groups: list[Row]
    budget_rows: list[Row]
    notes: list[str]

    @property
    def results(self) -> Mapping[str, Any]:
        """Results of the document: those of the largest budget."""
        found: Mapping[str, Any] = self.document["results"]
        return found

    @property
    def fairness(self) -> list[str]:
        """Fairness metrics that have values, without their form ("demographic_parity")."""
        return [m for m in FAIRNESS if any(row.get(f"{m}_difference") is not None for row in self.models)]


def make_source(
    predictions: Predictions,
    parameters: Mapping[str, Any],
    *,
    target: object = None,
    y: object = None,
    groups: object = None,
    sample_weight: object = None,
    reference: object = None,
    loss: object = None,
    selection: object = None,
    budget: int | None = None,
) -> Source:
    """Check inputs of a measurement together; ``parameters`` are those of its document."""
    threshold = parameters["threshold"]
    inputs = check_inputs(predictions, target, y, groups, parameters["missing"], sample_weight, threshold)
    chosen = as_selection(selection, inputs.view.n_samples, parameters["seed"])
    return Source(inputs, chosen, loss, reference, parameters, budget)


def gather(
    document: Mapping[str, Any],
    sources: Sequence[Source],
    *,
    noun: str = "model",
    threads: int | None = None,
    memory: int | str | None = None,
) -> Material:
    """Measure what the figures show and the document does not hold.

    Parameters
    ----------
    document : dict
    sources : sequence of Source
        One for each checkpoint, in order of budgets; the last one is what ``document["results"]`` are about.
    noun : str
        What a model is here.
    threads, memory : as in :func:`rashomon_core.profile`

    Returns
    -------
    Material

    Raises
    ------
    MissingDependencyError
        SciPy, which orders the heat map, is not installed.

    Notes
    -----
    Two readings of every tensor, one for each point of the epsilon curve (at most ``EPSILONS``), and one for the
    pairs of models.
    """
    limits = {"threads": threads, "memory": memory}
    found: list[_Measured] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the document holds them
        for k, source in enumerate(sources):
            tiles.progress("gathering", k, len(sources) + 1)
            found.append(_Measured(source, limits))
        last = found[-1]
        tiles.progress("gathering", len(sources), len(sources) + 1)
        notes = [text for one in found for text in one.notes]
        models = [row for one in found for row in one.models()]
        material = Material(
            document=document,
            noun=noun,
            class_names=last.class_names,
            positive=last.class_names[last.source.parameters["positive"]],
            families=_families(models),
            methods=list(dict.fromkeys(row["method"] for row in models)),
            budgets=list(dict.fromkeys(row["budget"] for row in models)),
            models=models,
            target=last.target(),
            curve=last.curve(),
            capacity=_to_one_end([one.cdf() for one in found]),
            samples=last.samples(),
            heat=last.heat(),
            rates=last.group_ranges(),
            groups=_group_multiplicity(document["results"]),
            budget_rows=_budgets(document),
            notes=[*dict.fromkeys([*notes, *last.notes])],
        )
        tiles.progress("gathering", len(sources) + 1, len(sources) + 1)
    return material


# --- names ----------------------------------------------------------------------------------------------------


def family_of(model_id: str) -> str:
    """Return the family of a surrogate from its id: what stands before the first hyphen or slash.

    Examples
    --------
    >>> from rashomon_core.report.material import family_of, method_of
    >>> family_of("forest-depth8-soft-boot02-seed01"), method_of("mlp-hard-seed00/bernoulli:0.1:3")
    ('forest', 'dropout')
    """
    return model_id.split("/")[0].split("-")[0] or model_id


def method_of(model_id: str) -> str:
    """Return how an audit found a model: explorations add their own part to the id of their base."""
    _, slash, rest = model_id.partition("/")
    if not slash:
        return "retraining"
    return {"awp": "weight perturbation", "linear": "convex"}.get(rest.split(":")[0], "dropout")


def _families(models: list[Row]) -> list[str]:
    """Give every model a family; the rarest are "other", and ids that share no beginning are no families."""
    counts: dict[str, int] = {}
    for row in models:
        counts[row["family"]] = counts.get(row["family"], 0) + 1
    kept = sorted(counts, key=lambda name: -counts[name])  # stable: first seen, first kept
    if len(kept) > FAMILIES:
        common = set(kept[: FAMILIES - 1])
        all_alone = counts[kept[0]] == 1
        for row in models:
            if all_alone or row["family"] not in common:
                row["family"] = "model" if all_alone else "other"
    return list(dict.fromkeys(row["family"] for row in models))


# --- one set of predictions -----------------------------------------------------------------------------------


class _Measured:
    """One source, measured: every explored model and the members, on the evaluation samples."""

    def __init__(self, source: Source, limits: dict[str, Any]) -> None:
        self.source, self.limits, self.notes = source, limits, list[str]()
        whole, asked = source.inputs, source.parameters
        evaluation = None if source.selection is None else ~source.selection
        self.part = whole.on(evaluation)
        names = self.part.view.class_names
        self.class_names = tuple(names or (f"class {c}" for c in range(self.part.view.n_classes)))
        given: dict[str, Any] = {"reference": source.reference}
        if asked["epsilon"] is not None:
            given |= {
                "loss": source.loss,
                "epsilon": asked["epsilon"],
                "relative": asked["relative"],
                "selection": source.selection,
            }
        self.chosen = self._profile(whole, ("ambiguity", "disagreement_rate"), **given)
        M = whole.view.n_models
        self.members = np.ones(M, dtype=bool) if self.chosen.member_mask is None else self.chosen.member_mask
        self.losses: Array | None = self.chosen.arrays.get("all_losses")
        self.everyone = self._profile(self.part, ("fidelity", "fairness"))
        self.target_rates: GroupRates | None = None
        if self.everyone.rates is not None and self.part.target is not None:
            self.target_rates = group_rates(
                self.part.target.decisions[None],
                self.part.y,
                self.part.groups,
                n_classes=self.part.view.n_classes,
                positive=asked["positive"],
                sample_weight=self.part.weights,
                **limits,
            )
        self.set = self.part.on(None, self.members) if self.members.any() else None
        self.bits: CapacityResult | None = None
        if self.set is not None and self.set.view.kind != "labels":
            w = self.part.weights
            self.bits = rashomon_capacity(
                self.set.view, tol=asked["capacity_tol"], on_uncertified="ignore", sample_weight=w, **limits
            )

    def _profile(self, part: Inputs, metrics: Sequence[str], **more: Any) -> Profile:
        target = None if part.target is None else part.target.scores
        if part.target is not None and target is None:
            target = part.target.decisions
        asked = {name: self.source.parameters[name] for name in _PARAMETERS}
        return profile(
            part.view,
            target=target,
            y=part.y,
            groups=part.groups,
            sample_weight=part.weights,
            metrics=metrics,
            **asked,
            **more,
            **self.limits,
        )

    @property
    def _name(self) -> str:
        return "" if self.source.budget is None else f"{self.source.budget:,}"

    def _decided(self, view: Predictions) -> Predictions:
        """Return decisions under the stated threshold; without one every metric decides by itself."""
        threshold = self.source.parameters["threshold"]
        if threshold is None or view.kind == "labels":
            return view
        labels = decide(view, threshold=threshold, **self.limits)
        return Predictions.from_array(labels, n_classes=view.n_classes, model_ids=view.model_ids)

    # -- rows

    def _metrics(self, rates: GroupRates | None) -> dict[str, Array]:
        if rates is None:
            return {}
        names = [m for m, needed in FAIRNESS.items() if rates.has_labels or needed == ("selection_rate",)]
        found = {f"{m}_difference": rates.difference(m) for m in names}
        return found | {f"{m}_ratio": rates.ratio(m) for m in names}

    def models(self) -> list[Row]:
        """Return one row for each explored model; of more than ``DOTS`` every so manieth."""
        view = self.part.view
        columns: dict[str, Array] = {**self._metrics(self.everyone.rates)}
        if "fidelity" in self.everyone.arrays:
            columns["fidelity"] = self.everyone.arrays["fidelity"]
        if self.losses is not None:
            columns["loss"] = self.losses
        kept = thinned(view.n_models, DOTS)
        if len(kept) < view.n_models:
            self.notes.append(f"charts show {len(kept):,} of {view.n_models:,} models; tables and sentences count all")
        audit = self.source.budget is not None
        return [
            {
                "id": view.model_ids[k],
                "family": family_of(view.model_ids[k]),
                "method": method_of(view.model_ids[k]) if audit else "given",
                "budget": self._name,
                "member": bool(self.members[k]),
                **{name: _plain(values[k]) for name, values in columns.items()},
            }
            for k in kept.tolist()
        ]

    def target(self) -> dict[str, float]:
        """Return the target's own fairness, where it is defined."""
        own = {name: _plain(values[0]) for name, values in self._metrics(self.target_rates).items()}
        return {name: value for name, value in own.items() if value is not None}

    def curve(self) -> list[Row]:
        """Return what the set would be at other epsilons: at most ``EPSILONS`` sets of different size.

        Up to four times the stated epsilon, or what takes in half of the models if that is more.
        """
        if self.losses is None:
            return []
        asked, losses = self.source.parameters, self.losses
        counted = asked["loss"] in ("fidelity", "zero_one") and self.source.inputs.weights is None
        split = self.part.view.n_samples if self.source.selection is None else int(self.source.selection.sum())
        n = split if counted else None
        values = np.rint(losses * split).astype(np.int64) if counted else losses
        reference = self._reference_index()
        base = float(losses.min() if reference is None else losses[reference])
        gaps = losses[np.isfinite(losses)] - base
        if asked["relative"]:
            gaps = gaps / base if base > 0 else gaps[:0]
        gaps = np.unique(np.maximum(gaps, 0.0))
        stated = float(asked["epsilon"])
        limit = max(4 * stated, float(np.median(gaps)) if len(gaps) else 0.0)
        gaps = gaps[gaps <= limit]
        gaps = gaps[thinned(len(gaps), EPSILONS - 1)]
        points = np.unique([*gaps.tolist(), 0.0, stated])
        scores = self.part.view.kind != "labels"
        planned = CurvePlan(
            losses=values,
            base=base_loss(values, reference, None),
            relative=asked["relative"],
            n=n,
            epsilons=points,
            capacity_at=points if scores else None,
            ranges=False,
            positive=asked["positive"],
            threshold=asked["threshold"],
        )
        given = self.part.view.model_ids[reference] if reference is not None else self._reference_answers()
        facts = as_reference(given, self.part.view, self.part.target, self.part.y)
        limits = {"threads": parse_threads(self.limits["threads"]), "memory": parse_memory(self.limits["memory"])}
        found = epsilon_curves_of(self.part, facts, planned, **limits)
        columns: dict[str, Array | None] = {name: getattr(found, name) for name in _CURVES}
        columns["capacity"] = found.capacity["mean"] if found.capacity is not None else None
        for name, of in (found.fairness or {}).items():
            columns |= {f"{name}_{end}": of[end] for end in ("min", "max")}
        return [
            {
                "epsilon": float(points[k]),
                "size": int(found.set_size[k]),
                **{name: None if column is None else _plain(column[k]) for name, column in columns.items()},
            }
            for k in np.flatnonzero(found.set_size).tolist()
        ]

    def _reference_index(self) -> int | None:
        ids, given = self.source.inputs.view.model_ids, self.source.reference
        return ids.index(given) if isinstance(given, str) and given in ids else None

    def _reference_answers(self) -> Any:
        """Return the reference on the evaluation samples; a model becomes its answers, for it may be no member."""
        index, given = self._reference_index(), self.source.reference
        if index is None:
            if given is None or isinstance(given, str) or self.source.selection is None:
                return given
            return np.asarray(given)[~self.source.selection]
        own = self.part.view.take([index])
        if own.kind == "labels":
            return own.to_array()[0]
        return decide(own, threshold=self.source.parameters["threshold"], **self.limits)[0]

    def cdf(self) -> list[Row]:
        """Return the share of samples at or below each capacity, at most ``CDF_POINTS`` of them."""
        if self.bits is None:
            return []
        bits, shares = self.bits.cdf()
        at = np.append(np.flatnonzero(np.diff(bits) > 0), len(bits) - 1)  # the last of equal capacities
        # Evenly along both axes, so that neither a jump nor a tail is lost.
        steps = np.searchsorted(bits[at], np.linspace(bits[0], bits[-1], CDF_POINTS // 2))
        kept = np.unique([*thinned(len(at), CDF_POINTS // 2).tolist(), *np.minimum(steps, len(at) - 1).tolist()])
        points = [(float(bits[at[k]]), float(shares[at[k]])) for k in kept]
        points.insert(0, (max(points[0][0], 0.0), 0.0))
        return [{"budget": self._name, "bits": max(b, 0.0), "share": s} for b, s in points]

    def samples(self) -> list[Row]:
        """Return the samples on which the choice of the model matters most, with the models that carry it."""
        if self.set is None or "disagreement_rate" not in self.chosen.arrays:
            return []
        rate = self.chosen.arrays["disagreement_rate"]
        size = np.zeros(len(rate)) if self.bits is None else self.bits.bits.round(9)  # the bounds' own noise ties
        order = np.lexsort((np.arange(len(rate)), -rate, -size))[:SAMPLES]
        order = order[(rate[order] > 0) | (size[order] > 0)]
        if not len(order):
            return []
        part, asked = self.set.on(_mask(order, len(rate))), self.source.parameters
        place = np.argsort(np.argsort(order))  # rows of the part are in the order of the samples
        view = part.view
        counts = votes(self._decided(view), view.n_classes, **self.limits)
        scores = view.kind != "labels"
        ranges = viable_prediction_range(view, **self.limits)[:, asked["positive"]] if scores else None
        solved = rashomon_capacity(view, tol=asked["capacity_tol"], on_uncertified="ignore") if scores else None
        ids = self.part.view.sample_ids
        rows = []
        for i, k in zip(order.tolist(), place.tolist(), strict=True):
            support = []
            if solved is not None:
                models, weights = solved.support(k)
                best = np.argsort(-weights, kind="stable")
                support = [(view.model_ids[models[j]], float(weights[j])) for j in best if weights[j] > 1e-6]
            rows.append(
                {
                    "sample": str(i) if ids is None else ids[i],
                    "group": None if part.groups is None else part.groups.names[int(part.groups.codes[k])],
                    "label": None if part.y is None else self.class_names[int(part.y[k])],
                    "target": None if part.target is None else self.class_names[int(part.target.decisions[k])],
                    "answers": {self.class_names[c]: int(n) for c, n in enumerate(counts[k]) if n},
                    "disagreement": float(rate[i]),
                    "low": None if ranges is None else float(ranges[k, 0]),
                    "high": None if ranges is None else float(ranges[k, 1]),
                    "bits": None if self.bits is None else float(self.bits.bits[i]),
                    "support": support[:SUPPORT],
                    "more": max(len(support) - SUPPORT, 0),
                }
            )
        return rows

    def heat(self) -> Heat | None:
        """Return how often members differ, ordered by clustering; None for fewer than two."""
        if self.set is None or self.set.view.n_models < 2:
            return None
        found, notes = heat_of(self.set.view, self._decided, weights=self.part.weights, **self.limits)
        self.notes += notes
        return found

    # -- groups

    def _largest(self) -> list[int]:
        assert self.part.groups is not None
        names = self.part.groups.names
        counts = np.bincount(self.part.groups.codes, minlength=len(names))
        order = np.argsort(-counts, kind="stable")[:GROUPS]
        if len(names) > GROUPS:
            self.notes.append(f"charts of groups show the {GROUPS} largest of {len(names):,}")
        return [int(g) for g in order if counts[g]]

    def group_ranges(self) -> list[Row]:
        """Return smallest, middle and largest rate of the members in each group, and the target's."""
        rates = self.everyone.rates
        if rates is None or not self.members.any():
            return []
        rows = []
        for name in _RATES if rates.has_labels else _RATES[:1]:
            values = rates.rate(name)[self.members]
            own = None if self.target_rates is None else self.target_rates.rate(name)[0]
            for g in self._largest():
                defined = values[~np.isnan(values[:, g]), g]
                if len(defined):
                    rows.append(
                        {
                            "rate": name,
                            "group": rates.groups[g],
                            "min": float(defined.min()),
                            "median": float(np.median(defined)),
                            "max": float(defined.max()),
                            "target": None if own is None else _plain(own[g]),
                        }
                    )
        return rows


def _group_multiplicity(results: Mapping[str, Any]) -> list[Row]:
    """Return ambiguity and mean disagreement rate inside each group (of the finest division), the largest first."""
    columns = results.get("groups") or {}
    found = [column["groups"] for column in columns.values() if isinstance(column, Mapping) and "groups" in column]
    rows = [
        {
            "group": name,
            "samples": entry["n"],
            "ambiguity": entry["ambiguity"].get("value"),
            "pairwise_ambiguity": entry["pairwise_ambiguity"].get("value"),
            "disagreement": entry["disagreement_rate"].get("mean"),
        }
        for name, entry in (found[-1] if found else {}).items()
        if entry["n"]
    ]
    return sorted(rows, key=lambda row: -row["samples"])[:GROUPS]


def _budgets(document: Mapping[str, Any]) -> list[Row]:
    """Return what was measured at each budget."""
    rows = []
    for entry in document.get("checkpoints", ()):
        results = entry["results"]
        fidelity, ambiguity = results.get("fidelity") or {}, results.get("ambiguity") or {}
        gaps = results.get("fairness") or {}
        rows.append(
            {
                "budget": entry["budget"],
                "size": results["set"]["size"],
                "explored": results["set"]["explored"],
                **{f"fidelity_{key}": fidelity.get(key) for key in ("min", "median", "max")},
                "ambiguity": ambiguity.get("value"),
                "matched": (ambiguity.get("size_matched") or {}).get("value"),
                "matched_size": (ambiguity.get("size_matched") or {}).get("m"),
                "discrepancy": (results.get("discrepancy") or {}).get("value"),
                "capacity": (results.get("rashomon_capacity") or {}).get("mean"),
                **{
                    f"{name}_{key}": gap.get(key)
                    for name, gap in gaps.items()
                    if isinstance(gap, Mapping) and "median" in gap
                    for key in ("min", "median", "max", "target")
                },
            }
        )
    return rows


def _to_one_end(curves: Sequence[list[Row]]) -> list[Row]:
    """Draw every distribution from 0 to the largest capacity of all."""
    end = max((rows[-1]["bits"] for rows in curves if rows), default=0.0)
    return [row for rows in curves if rows for row in [*rows, {**rows[-1], "bits": max(end, 0.01), "share": 1.0}]]


# --- small helps ----------------------------------------------------------------------------------------------


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mask(chosen: Array, n: int) -> Array:
    mask = np.zeros(n, dtype=bool)
    mask[chosen] = True
    return mask
