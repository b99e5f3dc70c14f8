"""rc.profile: every number of results() against the oracle, on small data; statuses, warnings, plain JSON."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import naive
import naive_groups
import numpy as np
import pytest
import strategies
from numpy.typing import NDArray
from profile_oracle import ALL, NEAR, PASS, Problem, check, make, measured

import rashomon_core as rc

Array = NDArray[Any]
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
    found = measured(p, size=3, epsilon=0.0, loss=[1, 1, 2, 2, 2, 2]).results()
    assert found["set"]["size"] == 2
    for name in ("ambiguity", "discrepancy", "pairwise_ambiguity"):
        assert "size_matched" not in found[name]
    with pytest.raises(rc.UsageError, match="size=7"):
        measured(p, size=7)


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
        (0.7, {f"{m}_ratio": 0.7 for m in naive_groups.FAIRNESS}),
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
            p,
            loss=given if loss == "array" else loss,
            epsilon=epsilon,
            relative=relative,
            reference=reference,
            **options,
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

    M, N = 170, 4 * 4096 + 700
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

    def spy(self: Any, shape: tuple[int, ...], dtype: Any, **how: bool) -> None:
        if how.get("spill"):
            spilled.append(shape)
        real(self, shape, dtype, **how)

    monkeypatch.setattr(tiles.SpillArray, "__init__", spy)
    small = rc.profile(given, memory="1MB", keep_arrays=False, **options)
    assert {len(s) for s in spilled} == {2, 4}
    assert (1, N) in spilled  # votes squared
    assert small.results() == kept.results()
    assert "low" not in small.arrays
