"""What published systems get wrong (docs: metrics page), one test each: none of it may come back."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, streamed

import rashomon_core as rc

Array = NDArray[Any]

# ----------------------------------------------------------------------------------------------------
# Disagreement


def test_class_indices_are_never_averaged() -> None:
    """With labels {1, 2} the published 4 mu (1 - mu) of their mean is -3; names of classes cannot matter."""
    labels = np.array([[1, 2, 1], [2, 2, 1]])
    mu = labels.mean(axis=0)
    assert (4 * mu * (1 - mu)).min() < 0
    assert rc.disagreement_rate(labels).tolist() == [0.5, 0.0, 0.0]
    for renamed in (labels - 1, labels * 100, np.where(labels == 1, 9, 0)):
        assert_array_equal(rc.disagreement_rate(renamed), rc.disagreement_rate(labels))
        assert_array_equal(rc.disagreement_rate(renamed, ddof=1), rc.disagreement_rate(labels, ddof=1))


def test_the_published_binary_rate_is_twice_ours() -> None:
    labels = strategies.make_labels(1, 9, 200, 2, "uniform")
    mu = labels.mean(axis=0)
    np.testing.assert_allclose(4 * mu * (1 - mu), 2 * rc.disagreement_rate(labels), rtol=1e-12)


def test_ddof_is_the_chance_without_replacement() -> None:
    labels = strategies.make_labels(2, 6, 50, 3, "uniform")
    pairs = np.mean([labels[k] != labels[l] for k in range(6) for l in range(6) if k != l], axis=0)
    np.testing.assert_allclose(rc.disagreement_rate(labels, ddof=1), pairs, rtol=1e-12)
    np.testing.assert_allclose(rc.self_consistency(labels), 1 - pairs, rtol=1e-12)


def test_all_pairs_are_compared() -> None:
    """A sample of 50 random pairs misses the one that matters."""
    labels = np.zeros((300, 40), dtype=np.uint8)
    labels[17, :20] = 1
    labels[230, 20:] = 1
    assert rc.pairwise_discrepancy(labels) == 1.0
    profile = rc.profile(labels, metrics=["pairwise_discrepancy"])
    assert profile.results()["pairwise_discrepancy"] == {"value": 1.0, "argmax": ["17", "230"], "count": 40}


def test_votes_of_more_models_than_a_byte_holds(isa: str) -> None:
    for models in (255, 256, 257, 65_536 + 3):
        labels = np.zeros((models, 2), dtype=np.uint8)
        labels[:, 1] = np.arange(models) % 2
        assert rc.votes(labels, 2).tolist() == [[models, 0], [models - models // 2, models // 2]]
        ones = models // 2
        expected = 2 * ones * (models - ones) / models**2
        assert rc.disagreement_rate(labels).tolist() == [0.0, pytest.approx(expected, rel=1e-15)]


def test_loops_do_not_end_at_16_bits(isa: str) -> None:
    """65,536 samples, models and classes are one more than an unsigned 16-bit index counts to."""
    n = 65_536 + 513
    labels = np.zeros((3, n), dtype=np.uint16)
    labels[1, 65_536:] = 1
    labels[2, -1] = 65_535
    counts = rc.pairwise_disagreement(labels, counts=True)
    assert counts.tolist() == [[0, 513, 1], [513, 0, 513], [1, 513, 0]]
    assert rc.fidelity(labels, labels[0]).tolist() == [1.0, (n - 513) / n, (n - 1) / n]
    assert np.flatnonzero(rc.ambiguous_samples(labels, labels[0])).tolist() == list(range(65_536, n))
    many = np.zeros((65_537, 3), dtype=np.uint8)
    many[-1] = 1
    assert rc.votes(many).tolist() == [[65_536, 1]] * 3
    assert np.flatnonzero(rc.fidelity(many, [0, 0, 0]) == 0).tolist() == [65_536]


# ----------------------------------------------------------------------------------------------------
# Sets


def test_members_exactly_on_the_boundary_stay() -> None:
    """Through floating-point fidelities some of the models at exactly best + epsilon fall out."""
    lost = 0
    for best in range(1198):
        for step in (0.01, 0.05, 0.1):
            allowed = math.floor(step * 1198 + 1e-9)
            errors = np.array([best, best + allowed, best + allowed + 1])
            assert rc.rashomon_mask(errors, step, n=1198).tolist() == [True, True, False]
            assert rc.rashomon_mask(errors, allowed / 1198, n=1198).tolist() == [True, True, False]
            loss = errors / 1198  # rounded once: 4 ulp are enough
            assert rc.rashomon_mask(loss, allowed / 1198).tolist() == [True, True, False]
            loss = 1 - (1198 - errors) / 1198  # off by an ulp of 1: only counts can tell
            lost += not loss[1] <= loss[0] + allowed / 1198
    assert lost > 100  # what a bare comparison would have lost


def test_a_profile_keeps_members_on_the_boundary(isa: str) -> None:
    n, target = 1198, np.zeros(1198, dtype=int)
    labels = np.zeros((41, n), dtype=np.uint8)
    for k in range(41):
        labels[k, : 391 + k] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for allowed in range(40):
            profile = rc.profile(labels, target=target, epsilon=allowed / n, metrics="ambiguity")
            assert profile.results()["set"]["size"] == allowed + 1
            weighted = rc.profile(
                labels, target=target, epsilon=allowed / n, metrics="ambiguity", sample_weight=np.full(n, 2.0)
            )
            assert weighted.results()["set"]["size"] == allowed + 1


def test_selecting_on_the_evaluation_samples_is_said() -> None:
    labels, target = [[0, 1, 1, 0], [0, 1, 0, 1]], [0, 1, 1, 1]
    with pytest.warns(rc.SelectedOnEvaluationWarning):
        profile = rc.profile(labels, target=target, epsilon=0.5)
    assert profile.status == "selected_on_evaluation"
    assert any("selected" in text for text in profile.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        apart = rc.profile(labels, target=target, epsilon=0.5, selection=[True, True, False, False])
    assert apart.status == "complete"


def test_an_empty_set_is_no_row_of_zeros() -> None:
    labels = rc.Predictions.from_array([[0, 1, 1, 0], [0, 1, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Ten percent above a negative loss is below every loss.
        profile = rc.profile(
            labels, target=[0, 1, 1, 1], groups=[0, 0, 1, 1], loss=[-1.0, -0.5], epsilon=0.1, relative=True
        )
    results = profile.results()
    assert (results["set"]["status"], results["set"]["size"]) == ("empty", 0)
    assert profile.model_ids == ()
    for name, value in results.items():
        if name not in ("set", "shape"):
            assert value == {"value": None, "reason": "the set is empty"}, name


def test_a_set_of_one_is_named() -> None:
    profile = rc.profile([[0, 1, 1, 0]], target=[0, 1, 1, 1])
    results = profile.results()
    assert results["set"]["status"] == "singleton"
    assert results["pairwise_discrepancy"]["value"] == 0.0
    assert results["pairwise_disagreement"]["mean"] == 0.0
    assert results["ambiguity"]["value"] == 0.25


def test_true_labels_are_never_the_silent_reference() -> None:
    profile = rc.profile([[0, 1, 1, 0], [0, 1, 0, 0]], y=[0, 1, 1, 1])
    for name in ("ambiguity", "discrepancy"):
        assert profile.results()[name]["value"] is None
        assert "reference" in profile.results()[name]["reason"]
    assert profile.results()["pairwise_ambiguity"]["value"] == 0.25


# ----------------------------------------------------------------------------------------------------
# Scores


def test_losses_are_means_over_samples_and_not_of_batches(isa: str) -> None:
    """4,097 samples: the last one is a batch of its own, and as good as every other."""
    n = 4097
    p = np.full((1, n), 0.5)
    p[0, -1] = 1.0
    y = np.ones(n, dtype=int)
    batches = [np.log(2), 0.0]
    expected = (n - 1) * np.log(2) / n
    assert abs(np.mean(batches) - expected) > 0.3
    for limits in ({"threads": 1}, {"threads": 2, "memory": SMALL}):
        assert rc.log_loss(p, y, **limits)[0] == pytest.approx(expected, rel=1e-13)
        assert rc.log_loss(streamed(p), y, **limits)[0] == pytest.approx(expected, rel=1e-13)


def test_variance_of_near_equal_scores_does_not_cancel(isa: str) -> None:
    """Sums of squares give -1e-14 for a thousand identical scores and nothing right for close ones."""
    same = np.full((1000, 3), 0.1)
    assert not rc.score_variance(same).any()
    assert not rc.score_variance(np.full((1000, 3), 0.1, dtype=np.float32), ddof=1).any()
    close = 0.7 + np.arange(1000)[:, None] * 1e-12 * np.ones((1, 3))
    got = rc.score_variance(close)
    np.testing.assert_allclose(got, naive.score_variance(close), rtol=1e-6)
    assert got.min() > 0
    plain = (close**2).mean(axis=0) - close.mean(axis=0) ** 2
    assert (abs(plain - close.var(axis=0)) > close.var(axis=0)).all()  # what it avoids


def test_identical_models_disagree_on_nothing(isa: str) -> None:
    scores = strategies.make_scores(5, 40, 700, 3, "mixed", "float32", identical=True)
    y = np.arange(700) % 3
    groups = np.arange(700) % 4
    profile = rc.profile(scores, target=scores[0], y=y, groups=groups, reference="0")
    results = profile.results()
    for name in ("ambiguity", "discrepancy", "pairwise_ambiguity", "pairwise_discrepancy"):
        assert results[name]["value"] == 0.0, name
    assert results["pairwise_disagreement"]["max"] == results["pairwise_disagreement"]["mean"] == 0.0
    assert results["disagreement_rate"]["max"] == 0.0
    assert not profile.arrays["score_variance"].any()
    assert results["viable_prediction_range"]["true_class"]["max"] == 0.0
    assert results["fidelity"]["min"] == 1.0
    fairness = results["fairness"]["demographic_parity_difference"]
    assert fairness["min"] == fairness["max"] == fairness["target"]


def test_both_delta_metrics_count_the_boundary() -> None:
    """>= in one and > in its twin."""
    p, r = np.array([[0.5, 0.75], [0.5, 0.5]]), [0.5, 0.5]
    assert rc.delta_ambiguity(p, r, 0.25) == 0.5
    assert rc.delta_discrepancy(p, r, 0.25) == 0.5
    assert rc.delta_ambiguity(p, r, np.nextafter(0.25, 1)) == rc.delta_discrepancy(p, r, np.nextafter(0.25, 1)) == 0.0


def test_probabilities_of_0_are_not_clipped() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    p = np.array([[[1.0, 0.0], [0.5, 0.5]]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isfinite(sklearn.log_loss([1, 0], p[0], labels=[0, 1]))
    assert rc.log_loss(p, [1, 0]).tolist() == [math.inf]
    losses = rc.profile(p, y=[1, 0]).results()["losses"]["log_loss"]
    assert losses["max"] is None
    assert losses["infinite"] == 1
    assert "+inf" in losses["reason"]


def test_ranges_of_classes_are_not_confused() -> None:
    """Positive class, true class and every class: three different numbers."""
    p = np.array([[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [[0.1, 0.4, 0.5], [0.5, 0.2, 0.3]]])
    entry = rc.profile(p, y=[1, 0], metrics="pass").results()["viable_prediction_range"]
    assert [entry["classes"][c]["max"] for c in "012"] == pytest.approx([0.0, 0.2, 0.2])
    assert entry["true_class"]["max"] == pytest.approx(0.2)
    assert entry["true_class"]["mean"] == pytest.approx(0.1)
    assert "positive" not in entry


def test_scores_are_not_copied_to_double(isa: str) -> None:
    """A float32 tensor is read where it lies: nothing of its size is ever allocated."""
    scores = strategies.make_scores(1, 100, 8192, 5, "dirichlet", "float32")  # 16 MB
    before = scores.copy()
    small = rc.viable_prediction_range(scores[:, :600])
    tracemalloc.start()
    rc.viable_prediction_range(scores, threads=1, memory=SMALL)
    rc.score_variance(scores, threads=1, memory=SMALL)
    rc.votes(rc.Predictions.from_array(scores), threads=1, memory=SMALL)
    rc.fidelity(rc.Predictions.from_array(scores), np.zeros(8192, dtype=int), threads=1, memory=SMALL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes / 4
    assert small.dtype == np.float32
    assert_array_equal(scores, before)


def test_big_labels_are_not_widened(isa: str) -> None:
    labels = strategies.make_labels(1, 64, 131_072, 2, "near").astype(np.uint8)  # 8 MB, 1 MB of planes
    tracemalloc.start()
    rc.pairwise_disagreement(labels, counts=True, threads=1, memory="4MB")
    rc.ambiguity(labels, labels[0], threads=1, memory="4MB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < labels.nbytes


# ----------------------------------------------------------------------------------------------------
# Limits to test against


def test_adding_a_model_never_lowers(isa: str) -> None:
    labels = strategies.make_labels(3, 12, 600, 4, "near")
    scores = strategies.make_scores(3, 12, 600, 4, "near", "float32")
    before = [0.0, 0.0, 0.0, 0.0]
    width = np.zeros((600, 4))
    for m in range(1, 13):
        part = labels[:m]
        now = [
            rc.ambiguity(part, labels[0]),
            rc.discrepancy(part, labels[0]),
            rc.pairwise_ambiguity(part),
            rc.pairwise_discrepancy(part),
        ]
        assert all(a >= b for a, b in zip(now, before, strict=True))
        assert now[2] == now[0]  # the reference is a model of the set
        assert now[3] <= 2 * now[1]
        before = now
        ranges = rc.viable_prediction_range(scores[:m])
        assert (ranges[..., 1] - ranges[..., 0] >= width).all()
        width = ranges[..., 1] - ranges[..., 0]


def test_permuting_permutes(isa: str) -> None:
    rng = np.random.default_rng(0)
    labels, w = strategies.make_labels(3, 9, 5000, 3, "uniform"), rng.exponential(size=5000)
    models, samples = rng.permutation(9), rng.permutation(5000)
    other = labels[models][:, samples]
    counts = rc.pairwise_disagreement(labels, counts=True)
    assert_array_equal(rc.pairwise_disagreement(other, counts=True), counts[models][:, models])
    assert_array_equal(rc.votes(other), rc.votes(labels)[samples])
    assert_array_equal(rc.disagreement_rate(other), rc.disagreement_rate(labels)[samples])
    fidelity = rc.fidelity(labels, labels[0], sample_weight=w)
    got = rc.fidelity(other, labels[0][samples], sample_weight=w[samples])
    np.testing.assert_allclose(got, fidelity[models], rtol=1e-12)


def test_a_weight_of_two_is_a_sample_twice(isa: str) -> None:
    labels, y, g = strategies.make_labels(3, 5, 300, 3, "near"), np.arange(300) % 3, np.arange(300) % 4
    scores = strategies.make_scores(1, 5, 300, 3, "dirichlet", "float64")
    w = np.random.default_rng(1).integers(0, 4, 300)
    twice = np.repeat(np.arange(300), w)
    close = {"rtol": 1e-12, "atol": 1e-14}
    for call in (
        lambda i, v: rc.fidelity(labels[:, i], y[i], sample_weight=v),
        lambda i, v: rc.ambiguity(labels[:, i], y[i], sample_weight=v),
        lambda i, v: rc.pairwise_disagreement(labels[:, i], sample_weight=v),
        lambda i, v: rc.group_rates(labels[:, i], y[i], g[i], sample_weight=v).counts,
        lambda i, v: rc.log_loss(scores[:, i], y[i], sample_weight=v),
        lambda i, v: rc.kl_divergence(scores[:, i], scores[0, i], sample_weight=v),
        lambda i, v: rc.size_matched_ambiguity(labels[:, i], y[i], 2, sample_weight=v),
    ):
        np.testing.assert_allclose(call(np.arange(300), w), call(twice, None), **close)
    results = [
        rc.profile(scores[:, i], target=scores[1, i], y=y[i], groups=g[i], sample_weight=v).results()
        for i, v in ((np.arange(300), w), (twice, None))
    ]
    for name in results[0].keys() - {
        "shape",
        "set",
        "ambiguity",
        "discrepancy",
        "pairwise_ambiguity",
        "pairwise_discrepancy",
    }:
        _alike(results[0][name], results[1][name], name)


def _alike(a: Any, b: Any, where: str) -> None:
    counts = {"n", "count", "weight"}  # counts of samples have no weighted form
    if isinstance(a, dict):
        a, b = ({key: x for key, x in d.items() if key not in counts} for d in (a, b))
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"status_counts"}:  # counts samples, weighted or not
            _alike(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-10, abs=1e-13), where
    else:
        assert a == b, where
