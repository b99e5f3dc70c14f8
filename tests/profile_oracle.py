"""What rc.profile must say: problems of every shape, and each number of results() held to the oracle."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from typing import Any

import naive
import naive_groups
import numpy as np
import pytest
import strategies
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core.group_results import MULTIPLICITY

Array = NDArray[Any]
NEAR = {"rel": 1e-9, "abs": 1e-12}
PASS = (
    "fidelity",
    "ambiguity",
    "discrepancy",
    "pairwise_ambiguity",
    "disagreement_rate",
    "viable_prediction_range",
    "score_variance",
)
ALL = (*PASS, "rashomon_capacity", "pairwise_discrepancy", "pairwise_disagreement", "losses", "fairness", "groups")


@dataclass(frozen=True)
class Problem:
    """What is measured, in the oracle's terms: decisions, and probability rows when there are scores."""

    given: Array  # what rc.profile gets
    decisions: Array  # (M, N)
    probs: Array | None  # (M, N, C), or (M, N) of P(class 1); None for labels
    n_classes: int
    ids: tuple[str, ...]
    target: Array | None = None
    target_decisions: Array | None = None
    target_rows: Array | None = None  # (N, C)
    y: Array | None = None
    groups: Array | None = None
    w: Array | None = None

    def on(self, models: Array, samples: Array) -> Problem:
        def cut(x: Array | None) -> Array | None:
            return None if x is None else x[samples]

        return Problem(
            self.given[models][:, samples],
            self.decisions[models][:, samples],
            None if self.probs is None else self.probs[models][:, samples],
            self.n_classes,
            tuple(np.array(self.ids, dtype=object)[models]),
            *(cut(x) for x in (self.target, self.target_decisions, self.target_rows, self.y, self.groups, self.w)),
        )


def make(shape: str, seed: int, *, target: str | None = "scores", y: bool = True, groups: bool = True,
         weights: str | None = None, dtype: str = "float64", M: int = 6, N: int = 61) -> Problem:  # fmt: skip
    """Make a problem; ``shape`` is "binary" ((M, N)), "labels:C" or "scores:C"."""
    rng = np.random.default_rng(seed)
    kind, _, count = shape.partition(":")
    C = 2 if kind == "binary" else int(count)
    probs: Array | None = None
    if kind == "binary":
        probs = given = strategies.make_binary_scores(seed, M, N, "uniform", dtype)
    elif kind == "scores":
        probs = given = strategies.make_scores(seed, M, N, C, "near", dtype)
    else:
        given = strategies.make_labels(seed, M, N, C, "near").astype(np.uint8)
        given[0, :C] = np.arange(C)  # every class occurs: the number of classes is seen
    decisions = given.astype(np.int64) if probs is None else naive.decide(given)
    wanted, target_decisions, rows = None, None, None
    if target is not None:
        if target == "labels":
            wanted = target_decisions = np.where(rng.random(N) < 0.2, rng.integers(0, C, N), decisions[0])
            rows = np.eye(C)[target_decisions]
        elif kind == "binary":
            wanted = rng.random(N)
            target_decisions, rows = naive.decide(wanted[None])[0], np.stack([1 - wanted, wanted], axis=1)
        else:
            wanted = rows = strategies.make_scores(seed + 1, 1, N, C, "dirichlet", "float64")[0]
            target_decisions = naive.decide(rows[None])[0]
    w = None
    if weights == "real":
        w = rng.exponential(size=N) * (rng.random(N) < 0.8)
    elif weights == "counts":
        w = rng.integers(0, 4, N)
    return Problem(
        given,
        decisions,
        probs,
        C,
        tuple(str(k) for k in range(M)),
        wanted,
        target_decisions,
        rows,
        np.where(rng.random(N) < 0.3, rng.integers(0, C, N), decisions[0]) if y else None,
        np.array(["b", "a", "c"])[rng.choice(3, N, p=[0.5, 0.4, 0.1])] if groups else None,
        w,
    )


# --- the oracle -------------------------------------------------------------------------------------------------


def described(values: Array, w: Array | None) -> dict[str, float]:
    counted = [v for i, v in enumerate(values.tolist()) if w is None or w[i] > 0]
    out = {"mean": naive.mean(values.tolist(), w), "max": max(counted)}
    for name, p in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        out[name] = naive.weighted_quantile(values, p, w)
    return out


def check_described(found: dict[str, Any], values: Array, w: Array | None, **extra: Any) -> None:
    assert found == pytest.approx({**described(values, w), **extra}, **NEAR)


def check_extremes(found: dict[str, Any], values: Array, ids: tuple[str, ...], best: str) -> None:
    infinite = int(np.isinf(values).sum())
    numbers = {"min": values.min(), "median": np.median(values), "max": values.max()}
    for name, value in numbers.items():
        if math.isfinite(value):
            assert found[name] == pytest.approx(float(value), **NEAR)
        else:
            assert found[name] is None
    at = values[ids.index(found[best])]
    wanted = values.max() if best == "argmax" else values.min()
    assert at == pytest.approx(wanted, **NEAR)
    assert found.get("infinite", 0) == infinite
    assert ("reason" in found) == (infinite > 0)
    assert set(found) <= {"min", "median", "max", best, "infinite", "reason"}


def check_fairness(found: dict[str, Any], p: Problem, positive: int, thresholds: dict[str, float]) -> None:
    assert p.groups is not None
    names = sorted(set(p.groups.tolist()))
    assert found["groups"] == names
    metrics = naive_groups.FAIRNESS if p.y is not None else {"demographic_parity": ()}
    assert set(found) == {"groups", "by_group"} | {f"{m}_{form}" for m in metrics for form in ("difference", "ratio")}
    for metric in metrics:
        for form, function, over in (
            ("difference", naive_groups.fairness_difference, naive_groups.gap),
            ("ratio", naive_groups.fairness_ratio, naive_groups.ratio),
        ):

            def of(d: Array, metric: str = metric, function: Any = function, over: Any = over) -> Array:
                if metric == "accuracy" and p.n_classes > 2:  # the plain accuracy, not one class against the rest
                    return np.array([over(r) for r in naive_groups.group_accuracy(d, p.y, p.groups, p.w).tolist()])
                return function(d, p.y, p.groups, metric, p.n_classes, positive, False, p.w)

            entry, values = found[f"{metric}_{form}"], of(p.decisions)
            defined = values[~np.isnan(values)]
            threshold = thresholds.get(f"{metric}_{form}")
            assert entry["undefined"] == len(values) - len(defined)
            assert entry["threshold"] == threshold
            own = math.nan if p.target_decisions is None else of(p.target_decisions[None])[0]
            assert entry["target"] == (None if math.isnan(own) else pytest.approx(own, **NEAR))
            if len(defined) == 0:
                assert entry["min"] is entry["median"] is entry["max"] is None
                assert entry["reason"]
                continue
            wanted = naive_groups.spread(values)
            assert {key: entry[key] for key in wanted} == pytest.approx(wanted, **NEAR)
            for key, extreme in (("argmin", defined.min()), ("argmax", defined.max())):
                assert values[p.ids.index(entry[key])] == pytest.approx(extreme, **NEAR)
                check_pair(entry["pairs"][key], p, p.decisions[p.ids.index(entry[key])], metric, form, positive)
            if entry["target"] is not None:
                assert p.target_decisions is not None
                check_pair(entry["pairs"]["target"], p, p.target_decisions, metric, form, positive)
            breaking = meeting = None
            if threshold is not None and not math.isnan(own):
                keeps = defined <= threshold if form == "difference" else defined >= threshold
                if own <= threshold if form == "difference" else own >= threshold:
                    breaking = 1 - keeps.mean()
                else:
                    meeting = keeps.mean()
            assert entry["share_breaking"] == (None if breaking is None else pytest.approx(breaking))
            assert entry["share_meeting"] == (None if meeting is None else pytest.approx(meeting))


def check_pair(found: dict[str, Any], p: Problem, d: Array, metric: str, form: str, positive: int) -> None:
    """The named rate of the named class has its extremes in the named groups, and makes the gap."""
    assert p.groups is not None
    if metric == "accuracy" and p.n_classes > 2:
        rates = naive_groups.group_accuracy(d[None], p.y, p.groups, p.w)[0]
    else:
        cls = positive if p.n_classes == 2 else found["class"]
        rates = naive_groups.group_rates(d[None], p.y, p.groups, cls, p.w)[found["rate"]][0]
    assert found["rate"] in naive_groups.FAIRNESS[metric]
    names = sorted(set(p.groups.tolist()))
    for key, value in (("smallest", rates.min()), ("largest", rates.max())):
        assert rates[names.index(found[key]["group"])] == pytest.approx(value, **NEAR)
        assert found[key]["value"] == pytest.approx(value, **NEAR)
    low, high = found["smallest"]["value"], found["largest"]["value"]
    function = naive_groups.fairness_difference if form == "difference" else naive_groups.fairness_ratio
    gap = function(d[None], p.y, p.groups, metric, p.n_classes, positive, False, p.w)[0]
    assert (high - low if form == "difference" else low / high) == pytest.approx(gap, **NEAR)


def check_by_group(found: dict[str, Any], p: Problem, positive: int) -> None:
    assert p.groups is not None
    names = sorted(set(p.groups.tolist()))
    assert list(found) == names
    rates: dict[str, Array] = {}
    if p.n_classes == 2:
        rates = naive_groups.group_rates(p.decisions, p.y, p.groups, positive, p.w)
    elif p.y is not None:
        rates = {"accuracy": naive_groups.group_accuracy(p.decisions, p.y, p.groups, p.w)}
    for g, name in enumerate(names):
        assert found[name]["n"] == int((p.groups == name).sum())
        assert found[name]["share"] == pytest.approx(naive.share((p.groups == name).tolist(), p.w), **NEAR)
        assert set(found[name]["rates"]) == set(rates)
        for rate, values in rates.items():
            entry, own = found[name]["rates"][rate], values[:, g]
            defined = own[~np.isnan(own)]
            assert entry["undefined"] == len(own) - len(defined)
            assert ("reason" in entry) == (len(defined) < len(own))
            wanted = [None] * 3 if not len(defined) else [defined.min(), np.median(defined), defined.max()]
            assert [entry[key] for key in ("min", "median", "max")] == [
                None if v is None else pytest.approx(v, **NEAR) for v in wanted
            ]


def check_groups(found: dict[str, Any], p: Problem, reference: Array | None, ddof: int, names: tuple[str, ...]) -> None:
    """Multiplicity inside each group: means of the naive per-sample values over the group's samples."""
    assert p.groups is not None
    assert set(found) == {"groups"}
    groups = sorted(set(p.groups.tolist()))
    assert list(found["groups"]["groups"]) == groups
    values = naive_groups.per_sample(p.decisions, p.probs, reference, ddof)
    if p.probs is not None and "rashomon_capacity" in names:
        values["rashomon_capacity"] = rc.rashomon_capacity(p.probs).bits
    for name in groups:
        entry = found["groups"]["groups"][name]
        rows = p.groups == name
        assert entry["n"] == int(rows.sum())
        assert entry["share"] == pytest.approx(naive.share(rows.tolist(), p.w), **NEAR)
        assert ("weight" in entry) == (p.w is not None)
        for metric, key in MULTIPLICITY.items():
            inside = naive_groups.mean_inside(values.get(metric), p.groups, name, p.w)
            if math.isnan(inside):
                assert entry[metric]["value"] is None
                assert entry[metric]["reason"]
            else:
                assert entry[metric][key] == pytest.approx(inside, **NEAR)
            if key == "value" and not math.isnan(inside):
                assert entry[metric]["count"] == int(values[metric][rows].sum())
    for metric in MULTIPLICITY:
        gaps = found["groups"]["gaps"][metric]
        inside_all = [naive_groups.mean_inside(values.get(metric), p.groups, name, p.w) for name in groups]
        for form, over in (("difference", naive_groups.gap), ("ratio", naive_groups.ratio)):
            wanted = over(inside_all)
            assert gaps[form] == (None if math.isnan(wanted) else pytest.approx(wanted, **NEAR))
        assert ("reason" in gaps) == (gaps["difference"] is None or gaps["ratio"] is None)
        if gaps["difference"] is not None:
            assert inside_all[groups.index(gaps["largest"])] == pytest.approx(max(inside_all), **NEAR)
            assert inside_all[groups.index(gaps["smallest"])] == pytest.approx(min(inside_all), **NEAR)


def check(
    found: dict[str, Any],
    p: Problem,
    *,
    reference: Array | None,
    reference_name: str | None,
    names: tuple[str, ...] = ALL,
    ddof: int = 0,
    positive: int = 1,
    size: int | None = None,
    thresholds: dict[str, float] | None = None,
    explored: int | None = None,
) -> None:
    """Hold every number to the oracle; ``p`` is already cut to members and evaluation samples."""
    d, w, C = p.decisions, p.w, p.n_classes
    M, N = d.shape
    assert set(found) == {"shape", "set", *names}
    assert found["shape"] == {"models": explored or M, "samples": N, "classes": C}
    asked = dict.fromkeys(names)
    counted = np.ones(N, dtype=bool)

    if "fidelity" in asked:
        if p.target_decisions is None:
            assert found["fidelity"] == {"value": None, "reason": "no target"}
        else:
            check_extremes(found["fidelity"], naive.fidelity(d, p.target_decisions, w), p.ids, "argmax")
    for name in {"ambiguity", "discrepancy"} & set(names):
        entry = found[name]
        if reference is None:
            assert entry["value"] is None
            assert "reference" in entry["reason"]
            continue
        matched = entry.pop("size_matched", None)
        assert entry["reference"] == reference_name
        flags = naive.ambiguous_samples(d, reference)
        differing = naive.zero_one_loss(d, reference, w)
        if name == "ambiguity":
            assert entry["value"] == pytest.approx(naive.share(flags.tolist(), w), **NEAR)
            assert entry["count"] == int((flags & counted).sum())
            expected = None if size is None else naive.size_matched_ambiguity(d, reference, size, w)
        else:
            assert entry["value"] == pytest.approx(differing.max(), **NEAR)
            at = p.ids.index(entry["argmax"])
            assert differing[at] == pytest.approx(differing.max(), **NEAR)
            assert entry["count"] == int((d[at] != reference).sum())
            expected = None if size is None else naive.size_matched_max(differing, size)
        assert matched == (None if size is None else pytest.approx({"m": size, "value": expected}, **NEAR))
    if "pairwise_ambiguity" in asked:
        entry = found["pairwise_ambiguity"]
        matched = entry.pop("size_matched", None)
        viable = naive.viable_decisions(d) > 1
        assert entry == pytest.approx({"value": naive.pairwise_ambiguity(d, w), "count": int(viable.sum())}, **NEAR)
        if size is not None:
            value = naive.size_matched_pairwise_ambiguity(d, size, w)
            assert matched == pytest.approx({"m": size, "value": value}, **NEAR)
    if "disagreement_rate" in asked:
        if ddof >= M:
            assert found["disagreement_rate"]["value"] is None
        else:
            check_described(found["disagreement_rate"], naive.disagreement_rate(d, ddof), w, ddof=ddof)
    matrix = naive.pairwise_disagreement(d, w)
    largest = naive.pairwise_discrepancy(d, w)
    for name in {"pairwise_discrepancy", "pairwise_disagreement"} & set(names):
        entry = found[name]
        assert entry["value" if name == "pairwise_discrepancy" else "max"] == pytest.approx(largest, **NEAR)
        if M == 1:
            assert entry["argmax"] is None
        else:
            a, b = (p.ids.index(i) for i in entry["argmax"])
            assert a < b
            assert matrix[a, b] == pytest.approx(largest, **NEAR)
            if w is None and name == "pairwise_discrepancy":
                assert entry["count"] == naive.pairwise_disagreement_counts(d)[a, b]
        if name == "pairwise_disagreement":
            assert entry["mean"] == pytest.approx(naive.mean_pairwise_disagreement(d, w), **NEAR)
    for name in {"viable_prediction_range", "score_variance"} & set(names):
        check_scores(found[name], name, p, ddof, positive)
    if "rashomon_capacity" in names:
        check_capacity(found["rashomon_capacity"], p)
    if "losses" in asked:
        check_losses(found["losses"], p)
    if "fairness" in asked:
        if p.groups is None:
            assert found["fairness"] == {"value": None, "reason": "no groups"}
        else:
            four_fifths = {"demographic_parity_ratio": 0.8}
            check_fairness(found["fairness"], p, positive, {**four_fifths, **(thresholds or {})})
            check_by_group(found["fairness"]["by_group"], p, positive)
    if "groups" in asked:
        if p.groups is None:
            assert found["groups"] == {"value": None, "reason": "no groups"}
        else:
            check_groups(found["groups"], p, reference, ddof, names)


def check_scores(found: dict[str, Any], name: str, p: Problem, ddof: int, positive: int) -> None:
    if p.probs is None:
        assert found == {"value": None, "reason": "the predictions are labels, not scores"}
        return
    classes = [str(c) for c in range(p.n_classes)]
    if name == "score_variance":
        if len(p.probs) <= ddof:
            assert found["value"] is None
            return
        variance = naive.score_variance(p.probs, ddof)
        assert set(found) == {"classes", "ddof"}
        assert found["ddof"] == ddof
        assert list(found["classes"]) == classes
        for c in range(p.n_classes):
            check_described(found["classes"][str(c)], variance[:, c], p.w)
        return
    ranges = naive.viable_prediction_range(p.probs)
    width = ranges[..., 1] - ranges[..., 0]
    assert list(found["classes"]) == classes
    for c in range(p.n_classes):
        check_described(found["classes"][str(c)], width[:, c], p.w)
    extra = set()
    if p.n_classes == 2:
        extra.add("positive")
        check_described(found["positive"], width[:, positive], p.w)
    if p.y is not None:
        extra.add("true_class")
        check_described(found["true_class"], width[np.arange(len(p.y)), p.y], p.w)
    assert set(found) == {"classes", *extra}


def check_capacity(found: dict[str, Any], p: Problem) -> None:
    """The statistics; the capacities themselves have tests of their own."""
    if p.probs is None:
        assert found == {"value": None, "reason": "the predictions are labels, not scores"}
        return
    result, statistics = rc.rashomon_capacity(p.probs), dict(found)
    counts, gap, tol = (statistics.pop(name) for name in ("status_counts", "max_gap", "tol"))
    assert counts == result.status_counts
    assert counts["certified"] == p.probs.shape[1]
    assert gap <= tol == 1e-6
    check_described(statistics.pop("effective"), result.effective_classes, p.w)
    check_described(statistics, result.bits, p.w)


def check_losses(found: dict[str, Any], p: Problem) -> None:
    expected: dict[str, Array] = {}
    if p.y is not None:
        expected["zero_one"] = naive.zero_one_loss(p.decisions, p.y, p.w)
        if p.target_decisions is not None:
            expected["correct_fidelity"] = naive.correct_fidelity(p.decisions, p.target_decisions, p.y, p.w)
        if p.probs is not None:
            expected["log_loss"] = naive.log_loss(p.probs, p.y, p.w)
    if p.target_rows is not None and p.probs is not None:
        wide = p.probs.astype(np.float64)
        probs = wide if wide.ndim == 3 else np.stack([1 - wide, wide], axis=-1)
        expected["total_variation"] = naive.total_variation(probs, p.target_rows, p.w)
        expected["cross_entropy"] = naive.cross_entropy(probs, p.target_rows, p.w)
        expected["kl_divergence"] = naive.kl_divergence(probs, p.target_rows, p.w)
    if not expected:
        assert found["value"] is None
        assert found["reason"]
        return
    assert set(found) == set(expected)
    for name, values in expected.items():
        check_extremes(found[name], values, p.ids, "argmax" if name == "correct_fidelity" else "argmin")


def measured(p: Problem, **options: Any) -> rc.Profile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = rc.profile(p.given, target=p.target, y=p.y, groups=p.groups, sample_weight=p.w, threads=1, **options)
    text = json.dumps(profile.to_dict(), allow_nan=False)
    assert json.loads(text)["results"] == json.loads(json.dumps(profile.results(), allow_nan=False))
    return profile
