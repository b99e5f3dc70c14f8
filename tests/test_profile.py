"""rc.profile: every number of results() against the oracle, on small data; statuses, warnings, plain JSON."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import naive
import numpy as np
import pytest
import rashomon_core as rc
import strategies
from numpy.typing import NDArray

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
ALL = (*PASS, "pairwise_discrepancy", "pairwise_disagreement", "losses", "fairness")


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
    metrics = naive.FAIRNESS if p.y is not None else {"demographic_parity": ()}
    assert set(found) == {"groups"} | {f"{m}_{form}" for m in metrics for form in ("difference", "ratio")}
    for metric in metrics:
        for form, function, over in (
            ("difference", naive.fairness_difference, naive.gap),
            ("ratio", naive.fairness_ratio, naive.ratio),
        ):

            def of(d: Array, metric: str = metric, function: Any = function, over: Any = over) -> Array:
                if metric == "accuracy" and p.n_classes > 2:  # the plain accuracy, not one class against the rest
                    return np.array([over(r) for r in naive.group_accuracy(d, p.y, p.groups, p.w).tolist()])
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
            numbers = defined.min(), np.median(defined), defined.max()
            assert (entry["min"], entry["median"], entry["max"]) == pytest.approx(numbers, **NEAR)
            breaking = meeting = None
            if threshold is not None and not math.isnan(own):
                keeps = defined <= threshold if form == "difference" else defined >= threshold
                if own <= threshold if form == "difference" else own >= threshold:
                    breaking = 1 - keeps.mean()
                else:
                    meeting = keeps.mean()
            assert entry["share_breaking"] == (None if breaking is None else pytest.approx(breaking))
            assert entry["share_meeting"] == (None if meeting is None else pytest.approx(meeting))


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
        assert entry == pytest.approx(
            {"value": naive.pairwise_ambiguity(d, w), "count": int(viable.sum())}, **NEAR
        )
        if size is not None:
            value = naive.size_matched_pairwise_ambiguity(d, size, w)
            assert matched == pytest.approx({"m": size, "value": value}, **NEAR)
    if "disagreement_rate" in asked:
        if M <= ddof:
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
    if "losses" in asked:
        check_losses(found["losses"], p)
    if "fairness" in asked:
        if p.groups is None:
            assert found["fairness"] == {"value": None, "reason": "no groups"}
        else:
            four_fifths = {"demographic_parity_ratio": 0.8}
            check_fairness(found["fairness"], p, positive, {**four_fifths, **(thresholds or {})})


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
        profile = rc.profile(
            p.given, target=p.target, y=p.y, groups=p.groups, sample_weight=p.w, threads=1, **options
        )
    text = json.dumps(profile.to_dict(), allow_nan=False)
    assert json.loads(text)["results"] == json.loads(json.dumps(profile.results(), allow_nan=False))
    return profile


# --- the tests --------------------------------------------------------------------------------------------------

SHAPES = ("binary", "scores:2", "scores:3", "scores:10", "labels:2", "labels:3", "labels:10")


@pytest.mark.parametrize("weights", [None, "real", "counts"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_number(shape: str, weights: str | None) -> None:
    for seed, target in ((1, "scores"), (2, "labels")):
        if shape.startswith("labels") and target == "scores" and shape != "labels:2":
            target = "labels"
        p = make(shape, seed, target=target, weights=weights)
        profile = measured(p)
        check(profile.results(), p, reference=p.target_decisions, reference_name="target")
        assert profile.status == "complete"
        assert profile.warnings == ()
        assert profile.results()["set"] == {
            "size": 6, "explored": 6, "epsilon": None, "relative": False, "loss": None, "loss_reference": None,
            "rashomon_ratio": None, "pattern_ratio": None, "noise": None, "status": "ok", "split": None,
        }  # fmt: skip


@pytest.mark.parametrize("shape", ["binary", "scores:3", "labels:3"])
@pytest.mark.parametrize("have", ["target", "y", "groups", ""])
def test_what_is_not_given_is_null_with_a_reason(shape: str, have: str) -> None:
    p = make(shape, 3, target="labels" if have == "target" else None, y=have == "y", groups=have == "groups")
    found = measured(p).results()
    check(found, p, reference=p.target_decisions, reference_name="target" if have == "target" else None)
    if have == "target" and shape == "labels:3":
        assert "true labels" in found["losses"]["reason"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", ["binary", "scores:3"])
def test_narrow_scores(shape: str, dtype: str) -> None:
    p = make(shape, 4, dtype=dtype)
    check(measured(p).results(), p, reference=p.target_decisions, reference_name="target")


@pytest.mark.parametrize("kind", ["logits", "log_proba"])
@pytest.mark.parametrize("C", [1, 3])
def test_logits_and_log_probabilities(kind: str, C: int) -> None:
    rng = np.random.default_rng(5)
    p = make("binary" if C == 1 else "scores:3", 5)
    logits = rng.normal(size=p.given.shape) * 3
    probs = naive.probabilities(logits, "logits")
    if kind == "log_proba":
        logits = np.log(probs)
    p = replace(p, decisions=naive.decide(probs), probs=probs)
    found = measured(replace(p, given=rc.Predictions.from_array(logits, kind=kind))).results()  # type: ignore[arg-type]
    check(found, p, reference=p.target_decisions, reference_name="target")


@pytest.mark.parametrize("reference", ["target", "labels", "4", 4, "array"])
@pytest.mark.parametrize("shape", ["binary", "labels:3"])
def test_references(shape: str, reference: Any) -> None:
    p = make(shape, 6, target="labels", weights="real")
    rng = np.random.default_rng(6)
    array = rng.integers(0, p.n_classes, p.given.shape[1])
    decisions = {"target": p.target_decisions, "labels": p.y, "4": p.decisions[4], "array": array}[str(reference)]
    given = array if reference == "array" else reference
    found = measured(p, reference=given).results()
    check(found, p, reference=decisions, reference_name=str(reference))
    assert measured(p, reference=given).parameters["reference"] == str(reference)


def test_labels_are_never_the_silent_reference() -> None:
    p = make("labels:3", 7, target=None)
    found = measured(p).results()
    assert found["ambiguity"]["value"] is None
    assert found["pairwise_ambiguity"]["value"] > 0
    assert found["pairwise_discrepancy"]["value"] > 0


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("weights", [None, "real"])
def test_size_matched_and_ddof(ddof: int, size: int, weights: str | None) -> None:
    for shape in ("scores:3", "labels:2"):
        p = make(shape, 8, target="labels", weights=weights)
        found = measured(p, ddof=ddof, size=size).results()
        check(found, p, reference=p.target_decisions, reference_name="target", ddof=ddof, size=size)


def test_a_size_beyond_the_set_is_left_out() -> None:
    p = make("labels:2", 8, target="labels")
    assert "size_matched" not in measured(p, size=7).results()["ambiguity"]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shape", ["binary", "scores:2"])
def test_threshold(shape: str, threshold: float) -> None:
    p = make(shape, 9)
    if shape == "binary":
        p = replace(p, given=np.round(p.given * 8) / 8)
        p = replace(p, probs=p.given)
    assert p.target_rows is not None
    p = replace(
        p,
        decisions=naive.decide(p.given, threshold),
        target_decisions=naive.decide(p.target_rows[None, :, 1], threshold)[0],
    )
    found = measured(p, threshold=threshold).results()
    check(found, p, reference=p.target_decisions, reference_name="target")


@pytest.mark.parametrize("metrics", ["pass", "all", *ALL, ["ambiguity", "losses"], "fidelity, fairness"])
def test_chosen_metrics(metrics: Any) -> None:
    names = PASS if metrics == "pass" else ALL if metrics == "all" else None
    if names is None:
        names = tuple(m.strip() for m in metrics.split(",")) if isinstance(metrics, str) else tuple(metrics)
    for shape in ("scores:3", "labels:2"):
        p = make(shape, 10, target="labels")
        profile = measured(p, metrics=metrics)
        check(profile.results(), p, reference=p.target_decisions, reference_name="target", names=names)
        assert profile.parameters["metrics"] == list(names)


@pytest.mark.parametrize(
    ("given", "thresholds"),
    [
        (0.7, {f"{m}_ratio": 0.7 for m in naive.FAIRNESS}),
        ({"accuracy_difference": 0.1, "equalized_odds_ratio": 0.5}, None),
        ({"demographic_parity_ratio": 0.99}, None),
    ],
)
@pytest.mark.parametrize("positive", [0, 1])
def test_fairness_thresholds(given: Any, thresholds: dict[str, float] | None, positive: int) -> None:
    for shape in ("labels:2", "labels:3"):
        p = make(shape, 11, target="labels", weights="counts" if positive else None)
        found = measured(p, fairness_threshold=given, positive=positive).results()
        check(
            found, p, reference=p.target_decisions, reference_name="target", positive=positive,
            thresholds=thresholds or given,
        )  # fmt: skip


def test_infinite_losses_are_null_with_a_count() -> None:
    p = make("scores:3", 12)
    hard = np.eye(3)[p.decisions]
    p = replace(p, given=hard, probs=hard)
    found = measured(p).results()
    check(found, p, reference=p.target_decisions, reference_name="target")
    assert found["losses"]["log_loss"]["infinite"] > 0
    assert found["losses"]["kl_divergence"]["max"] is None


# --- the set ----------------------------------------------------------------------------------------------------


def losses_of(p: Problem, loss: str) -> Array:
    """Count-valued losses as counts without weights, others as numbers."""
    if loss in ("fidelity", "zero_one"):
        truth = p.target_decisions if loss == "fidelity" else p.y
        assert truth is not None
        return (p.decisions != truth).sum(axis=1) if p.w is None else naive.zero_one_loss(p.decisions, truth, p.w)
    assert p.probs is not None
    if loss == "log_loss":
        assert p.y is not None
        return naive.log_loss(p.probs, p.y, p.w)
    assert p.target_rows is not None
    return naive.cross_entropy(p.probs, p.target_rows, p.w)


@pytest.mark.parametrize("loss", ["fidelity", "zero_one", "log_loss", "cross_entropy", "array"])
@pytest.mark.parametrize("selection", [None, "mask", 0.4])
@pytest.mark.parametrize("weights", [None, "real"])
@pytest.mark.parametrize("reference", [None, "3"])
def test_epsilon(loss: str, selection: Any, weights: str | None, reference: str | None) -> None:
    p = make("scores:3", 20, weights=weights, M=9)
    M, N = p.decisions.shape
    every = np.arange(M)
    options: dict[str, Any] = {"seed": 5}
    chosen = np.ones(N, dtype=bool)
    if selection == "mask":
        options["selection"] = chosen = np.arange(N) % 3 == 0
    elif selection is not None:
        options["selection"] = selection
    given = np.random.default_rng(0).random(M)
    for relative, epsilon in ((False, 0.05), (True, 0.4), (False, 0.0)):
        profile = measured(
            p, loss=given if loss == "array" else loss, epsilon=epsilon, relative=relative, reference=reference, **options
        )
        facts = profile.results()["set"]
        if isinstance(selection, float):
            order = np.random.default_rng(5).permutation(N)
            chosen = np.zeros(N, dtype=bool)
            chosen[order[: round(selection * N)]] = True
            assert profile.parameters["selection"] == {"samples": int(chosen.sum()), "seed": 5}
        split = p.on(every, chosen)
        counted = loss in ("fidelity", "zero_one") and weights is None
        values = given if loss == "array" else losses_of(split, loss)
        at = None if reference is None else 3
        n = int(chosen.sum())
        mask = naive.rashomon_mask(values, epsilon, reference=at, relative=relative, n=n if counted else None)
        assert profile.member_mask is not None
        assert profile.member_mask.tolist() == mask.tolist()
        best = int(np.argmin(values)) if at is None else at
        noise = None
        if counted:
            answers = split.target_decisions if loss == "fidelity" else split.y
            assert answers is not None
            paired = naive.paired_noise(split.decisions, answers, best)
            others = np.delete(paired, best)
            share = 1 - values[best] / n
            noise = pytest.approx(
                {"paired": float(np.median(others)), "unpaired": naive.unpaired_noise(share, n)}, **NEAR
            )
        assert facts == {
            "size": int(mask.sum()),
            "explored": M,
            "epsilon": epsilon,
            "relative": relative,
            "loss": "given" if loss == "array" else loss,
            "loss_reference": str(best),
            "rashomon_ratio": pytest.approx(naive.rashomon_ratio(mask)),
            "pattern_ratio": pytest.approx(naive.pattern_ratio(split.decisions, mask)),
            "noise": noise,
            "status": "singleton" if mask.sum() == 1 else "ok",
            "split": "all" if selection is None else "selection",
        }
        inside = p.on(np.flatnonzero(mask), np.ones(N, dtype=bool) if selection is None else ~chosen)
        assert profile.model_ids == inside.ids
        kept = slice(None) if selection is None else ~chosen
        decisions = inside.target_decisions if reference is None else p.decisions[3][kept]
        check(
            profile.results(), inside, reference=decisions, reference_name="target" if reference is None else "3",
            explored=M,
        )  # fmt: skip
        assert profile.status == ("selected_on_evaluation" if selection is None else "complete")


def test_default_losses() -> None:
    p = make("labels:2", 21, target="labels")
    assert measured(p, epsilon=0.1).parameters["loss"] == "fidelity"
    assert measured(replace(p, target=None), epsilon=0.1).parameters["loss"] == "zero_one"


def test_warnings_are_raised_and_kept() -> None:
    p = make("labels:2", 22, target="labels")
    with pytest.warns(rc.SelectedOnEvaluationWarning, match="selected on the samples") as seen:
        profile = rc.profile(p.given, target=p.target, epsilon=0.5)
    assert profile.status == "selected_on_evaluation"
    assert [str(w.message) for w in seen] == list(profile.warnings)
    assert seen[0].filename == __file__
    half = np.arange(p.given.shape[1]) % 2 == 0
    with pytest.warns(UserWarning, match="below the noise of the selection split") as seen:
        profile = rc.profile(p.given, target=p.target, epsilon=0.001, selection=half)
    assert profile.status == "complete"
    assert len(profile.warnings) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rc.profile(p.given, target=p.target, epsilon=0.9, selection=half).warnings == ()


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_single_model(ddof: int) -> None:
    for shape in ("binary", "scores:3", "labels:3"):
        p = make(shape, 23, target="labels", M=1)
        found = measured(p, ddof=ddof, size=1).results()
        assert found["set"]["status"] == "singleton"
        check(found, p, reference=p.target_decisions, reference_name="target", ddof=ddof, size=1)
        assert found["pairwise_discrepancy"]["value"] == 0
        if ddof:
            assert "ddof" in found["disagreement_rate"]["reason"]


def test_a_set_of_one_is_a_singleton() -> None:
    p = make("scores:3", 24)
    profile = measured(p, epsilon=0.0, loss=[3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    assert profile.results()["set"]["status"] == "singleton"
    assert profile.model_ids == ("1",)
    inside = p.on(np.array([1]), np.ones(61, dtype=bool))
    check(profile.results(), inside, reference=p.target_decisions, reference_name="target", explored=6)


def test_an_empty_set_is_named_and_not_zeros() -> None:
    p = make("scores:3", 25)
    half = np.arange(61) < 30
    profile = measured(p, epsilon=0.1, relative=True, loss=-np.arange(1.0, 7.0), selection=half)
    found = profile.results()
    assert found["set"]["status"] == "empty"
    assert found["set"]["size"] == 0
    assert found["set"]["rashomon_ratio"] == 0
    assert found["shape"]["samples"] == 31
    assert profile.model_ids == ()
    for name in ALL:
        assert found[name] == {"value": None, "reason": "the set is empty"}
    assert len(profile.to_dataframe()) == 0


def test_class_names_and_ids() -> None:
    p = make("scores:3", 26)
    names = ("low", "mid", "high")
    view = rc.Predictions.from_array(p.given, class_names=names, model_ids=list("abcdef"))
    assert p.y is not None
    profile = rc.profile(view, y=np.array(names)[p.y], reference="c")
    found = profile.results()
    assert list(found["viable_prediction_range"]["classes"]) == list(names)
    assert list(found["score_variance"]["classes"]) == list(names)
    assert found["losses"]["zero_one"]["argmin"] in "abcdef"
    assert found["ambiguity"]["reference"] == "c"
    assert found["ambiguity"]["value"] == pytest.approx(naive.ambiguity(p.decisions, p.decisions[2]))


def test_results_are_the_callers_own() -> None:
    p = make("labels:2", 27, target="labels")
    profile = measured(p)
    profile.results()["ambiguity"]["value"] = -1
    assert profile.results()["ambiguity"]["value"] != -1


def test_arrays_and_frame() -> None:
    p = make("scores:3", 28)
    profile = measured(p)
    a = profile.arrays
    assert p.target_decisions is not None
    assert np.array_equal(a["ambiguous_samples"], naive.ambiguous_samples(p.decisions, p.target_decisions))
    assert np.array_equal(a["mismatches"], (p.decisions != p.target_decisions).sum(axis=1))
    assert a["fidelity"] == pytest.approx(naive.fidelity(p.decisions, p.target_decisions))
    assert a["disagreement_rate"] == pytest.approx(naive.disagreement_rate(p.decisions))
    assert p.probs is not None
    ranges = naive.viable_prediction_range(p.probs)
    assert np.array_equal(a["low"], ranges[..., 0])
    assert np.array_equal(a["high"], ranges[..., 1])
    assert a["score_variance"] == pytest.approx(naive.score_variance(p.probs), abs=1e-15)
    frame = profile.to_dataframe()
    assert list(frame.index) == list(p.ids)
    assert frame["fidelity"].tolist() == a["fidelity"].tolist()
    assert "loss" not in frame.columns
    chosen = measured(p, epsilon=0.05)
    assert np.array_equal(chosen.arrays["loss"], chosen.arrays["all_losses"][chosen.member_mask])
    assert chosen.to_dataframe()["loss"].tolist() == chosen.arrays["loss"].tolist()
    assert {"log_loss", "demographic_parity_difference"} <= set(frame.columns)
    assert set(profile.resources) == {"seconds", "bytes_read", "threads", "memory", "instruction_set"}
    assert profile.resources["bytes_read"] == p.given.nbytes


# --- a budget far too small for what is kept per sample -----------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "real", "equal"])
@pytest.mark.parametrize("shape", ["binary", "scores:3", "labels:3"])
def test_spilling_gives_the_same(shape: str, weights: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from rashomon_core import tiles

    M, N = 170, 3 * 4096 + 700
    C = 2 if shape == "binary" else 3
    rng = np.random.default_rng(30)
    given = {
        "binary": lambda: np.round(rng.random((M, N)), 2),
        "scores:3": lambda: strategies.make_scores(31, M, N, 3, "near", "float32"),
        "labels:3": lambda: strategies.make_labels(32, M, N, 3, "near").astype(np.uint8),
    }[shape]()
    w = None
    if weights is not None:
        w = np.full(N, 0.3) if weights == "equal" else rng.exponential(size=N) * (rng.random(N) < 0.8)
    options: dict[str, Any] = {
        "y": rng.integers(0, C, N), "target": rng.integers(0, C, N), "groups": rng.integers(0, 3, N),
        "sample_weight": w, "threads": 2,
    }  # fmt: skip
    kept = rc.profile(given, **options)
    spilled: list[tuple[int, ...]] = []
    real = tiles.SpillArray.__init__

    def spy(self: Any, shape: tuple[int, ...], dtype: Any, *, spill: bool = False) -> None:
        if spill:
            spilled.append(shape)
        real(self, shape, dtype, spill=spill)

    monkeypatch.setattr(tiles.SpillArray, "__init__", spy)
    small = rc.profile(given, memory="1MB", keep_arrays=False, **options)
    assert {len(s) for s in spilled} == ({4} if shape == "labels:3" else {2, 4})
    assert small.results() == kept.results()
    assert "low" not in small.arrays
