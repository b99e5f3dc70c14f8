"""What a capacity result says, what happens to what is not certified, and what is refused before anything is solved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import naive_capacity
import numpy as np
import pytest
import strategies
from capacity_checks import certified, channels, make_channels, overlap, unjudged
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core.metrics import channel
from rashomon_core.tiles import plan_whole

Array = NDArray[Any]
PROBS = make_channels(1, 40, 30, 4, "softmax")
HARD = make_channels(2, 700, 6, 20, "dirichlet")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


# ----------------------------------------------------------------------------------------------------
# Results


def expect_statistics(found: dict[str, Any], values: Array, w: Array | None) -> None:
    assert found["mean"] == pytest.approx(naive.mean(values.tolist(), w), rel=1e-12, abs=1e-15)
    assert found["max"] == values.max()
    for name, p in QUANTILES.items():
        assert found[name] == pytest.approx(naive.weighted_quantile(values, p, w), rel=1e-12, abs=1e-15), name


@settings(deadline=None, max_examples=25)
@given(probs=channels(max_models=20, max_classes=6, max_samples=60))
def test_summary(probs: Array) -> None:
    n = probs.shape[1]
    for w in (None, np.random.default_rng(n).exponential(size=n), np.arange(1, n + 1)):
        result = certified(probs, sample_weight=w)
        found = result.summary()
        expect_statistics(found, result.bits, w)
        expect_statistics(found["effective"], 2**result.bits, w)
        assert found["max_gap"] == result.max_gap == (result.upper - result.lower).max()
        assert found["status_counts"] == result.status_counts
        assert sum(result.status_counts.values()) == n
        assert result.status_counts["certified"] == n
        assert_allclose(result.effective_classes, 2**result.bits, rtol=1e-15)


def test_weights_change_the_summary_and_nothing_else() -> None:
    w = np.linspace(0.1, 3, PROBS.shape[1])
    plain, weighted = certified(PROBS), certified(PROBS, sample_weight=w)
    assert_array_equal(plain.lower, weighted.lower)
    assert plain.summary()["mean"] != weighted.summary()["mean"]


def test_a_mean_of_powers_is_no_power_of_a_mean() -> None:
    one_hot = np.eye(4)[[0, 1, 2, 3]]
    probs = np.stack([np.full((4, 4), 0.25), one_hot], axis=1)
    found = certified(probs).summary()
    assert found["mean"] == pytest.approx(1.0, abs=1e-9)
    assert found["effective"]["mean"] == pytest.approx(2.5, abs=1e-8)
    assert 2 ** found["mean"] == pytest.approx(2.0, abs=1e-8)


def test_cdf() -> None:
    for w in (None, np.arange(1, PROBS.shape[1] + 1)):
        result = certified(PROBS, sample_weight=w)
        bits, share = result.cdf()
        assert_array_equal(bits, np.sort(result.bits))
        order = np.argsort(result.bits, kind="stable")
        counted = np.ones(len(bits)) if w is None else w[order]
        assert_allclose(share, np.cumsum(counted) / counted.sum(), rtol=1e-12)
        assert share[-1] == pytest.approx(1.0, abs=1e-12)


def test_support_of_a_sample_that_is_not_there() -> None:
    result = certified(PROBS)
    for i in (30, -31):
        with pytest.raises((IndexError, rc.UsageError)):
            result.support(i)


def test_channel_result() -> None:
    rng = np.random.default_rng(1)
    for m, c in ((1, 1), (5, 1), (1, 4), (2, 2), (40, 7), (7, 40), (300, 3)):
        P = rng.dirichlet(np.ones(c), size=m)
        found = rc.channel_capacity(P, on_uncertified="raise")
        for name in ("bits", "lower", "upper"):
            assert isinstance(getattr(found, name), float), name
        assert isinstance(found.iterations, int)
        assert isinstance(found.newton, int)
        assert found.status == "certified"
        assert found.weights.shape == (m,)
        assert (found.weights >= 0).all()
        assert found.weights.sum() == pytest.approx(1, abs=1e-12)
        assert_allclose(found.output, found.weights @ P, atol=1e-12)
        assert np.count_nonzero(found.weights) <= min(m, c)
        if min(m, c) == 1:
            assert found.lower == found.upper == 0
        else:
            lower, upper = naive_capacity.bounds(P, found.weights)
            assert found.lower == pytest.approx(lower, abs=1e-11)
            assert upper >= found.lower
            assert overlap((found.lower, found.upper), naive_capacity.blahut_arimoto(P, 1e-7, 3000)[:2])


def test_channel_takes_lists_and_float32() -> None:
    rows = [[0.9, 0.1], [0.2, 0.8]]
    found = rc.channel_capacity(rows)
    assert found.bits == rc.channel_capacity(np.array(rows)).bits
    single = rc.channel_capacity(np.array(rows, dtype=np.float32))
    assert single.bits == pytest.approx(found.bits, abs=1e-6)
    assert rc.channel_capacity([[1, 0], [0, 1]]).bits == pytest.approx(1.0, abs=1e-12)


def test_channel_and_tensor_agree(isa: str) -> None:
    for how in ("dirichlet", "sparse", "one_hot", "softmax", "grid"):
        probs = make_channels(7, 30, 4, 6, how)
        result = certified(probs)
        for i in range(4):
            one = rc.channel_capacity(probs[:, i], on_uncertified="raise")
            assert overlap((one.lower, one.upper), (result.lower[i], result.upper[i]))


# ----------------------------------------------------------------------------------------------------
# Not certified


SOLVERS: list[Callable[..., Any]] = [
    lambda **o: rc.rashomon_capacity(HARD, **o),
    lambda **o: rc.channel_capacity(HARD[:, 0], **o),
    lambda **o: rc.joint_capacity(HARD, **o),
]


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("limit", [{"max_iter": 1, "tol": 1e-9}, {"tol": 0.0}])
def test_what_is_not_certified_is_said(solve: Callable[..., Any], limit: dict[str, Any]) -> None:
    with pytest.warns(rc.UncertifiedWarning):
        warned = solve(**limit)
    with pytest.warns(rc.UncertifiedWarning):
        solve(**limit, on_uncertified="warn")
    with pytest.raises(rc.UncertifiedError):
        solve(**limit, on_uncertified="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = solve(**limit, on_uncertified="ignore")
        solve()  # certified: nothing to say
        solve(on_uncertified="raise")
    assert_array_equal(quiet.lower, warned.lower)
    expected = "iteration_limit" if "max_iter" in limit else "precision_limit"
    assert set(np.atleast_1d(quiet.status)) == {expected}


def test_errors_and_warnings_are_of_the_tree() -> None:
    assert issubclass(rc.UncertifiedWarning, UserWarning)
    assert issubclass(rc.UncertifiedError, rc.RashomonError)
    assert rc.UncertifiedError.exit_code == 4


def test_counts_of_every_status() -> None:
    mixed = np.concatenate([HARD, np.repeat(HARD[:1], 700, axis=0)], axis=1)  # six hard samples, six without capacity
    result = unjudged(mixed, max_iter=1, tol=1e-9)
    assert result.status_counts == {"certified": 6, "iteration_limit": 6, "precision_limit": 0}
    assert result.certified.tolist() == [False] * 6 + [True] * 6
    assert result.max_gap == (result.upper - result.lower).max() > 1e-9
    with pytest.warns(rc.UncertifiedWarning, match="6"):
        rc.rashomon_capacity(mixed, max_iter=1, tol=1e-9)


# ----------------------------------------------------------------------------------------------------
# Refused


def refused(call: Callable[[], object], *words: str, error: type[Exception] = rc.InvalidInputError) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as found:
            call()
    assert type(found.value) is error, f"{type(found.value)}: {found.value}"
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize("c", [2, 3, 10])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, ("NaN or infinity", "class 1", "value nan")),
        (np.inf, ("NaN or infinity", "class 1", "value inf")),
        (-0.5, ("a negative probability", "class 1", "value -0.5", "kind='logits'")),
        (1.5, ("a row that sums to", "renormalize=True")),
    ],
)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_bad_rows(isa: str, c: int, value: float, words: tuple[str, ...], dtype: str) -> None:
    probs = make_channels(c, 20, 700, c, "softmax").astype(dtype)
    probs[3, 513, 1] = value
    probs[9, 2, 0] = np.nan  # a later model: the first in (model, sample) order is named
    for limits in ({"threads": 1}, {"threads": 2, "memory": "1MB"}):
        refused(lambda o=limits: rc.rashomon_capacity(probs, **o), "model 3, sample 513", "Fix: ", *words)
        refused(lambda o=limits: rc.joint_capacity(probs, **o), "model 3, sample 513", "Fix: ", *words)
    refused(lambda: rc.channel_capacity(probs[:, 513]), "model 3", *words)


@pytest.mark.parametrize("models", [1, 2, 16, 33])
@pytest.mark.parametrize("c", [3, 17, 70])
def test_every_bad_row_is_refused_wherever_it_is(isa: str, models: int, c: int) -> None:
    rng = np.random.default_rng(c)
    probs = make_channels(c, models, 5, c, "softmax").astype(np.float32)
    for value in (np.nan, np.inf, -np.inf, -1e-45, -1e-20, -0.25, 3e38):
        for _ in range(3):
            k, i, j = (int(rng.integers(n)) for n in probs.shape)
            bad = probs.copy()
            bad[k, i, j] = value
            if value == np.inf:
                bad[k, i, j - 1] = -np.inf
            refused(lambda p=bad: rc.rashomon_capacity(p), f"model {k}, sample {i}")
    same = np.broadcast_to(probs[:1, :1], probs.shape) * np.float32(1.01)
    refused(lambda: rc.rashomon_capacity(same), "model 0, sample 0", "a row that sums to")


@pytest.mark.parametrize("c", [3, 70])
def test_zeros_with_a_sign_and_sums_at_the_tolerance_are_legal(isa: str, c: int) -> None:
    probs = make_channels(1, 40, 6, c, "softmax").astype(np.float32)
    probs[3, :, 1] = 0
    probs[3] /= probs[3].sum(axis=-1, keepdims=True)
    plain = rc.rashomon_capacity(probs)
    probs[3, :, 1] = -0.0
    signed = rc.rashomon_capacity(probs)
    assert signed.certified.all()
    assert (abs(signed.bits - plain.bits) <= 2e-6).all()
    edge = probs.copy()
    edge[5, 2] *= 1.00099995
    rc.Predictions.from_array(edge).validate()
    assert rc.rashomon_capacity(edge).certified.all()


def test_bad_class_1_scores(isa: str) -> None:
    for value, words in ((np.nan, "NaN"), (-0.1, "a negative probability"), (1.1, "a probability above 1")):
        scores = np.full((5, 9000), 0.5)
        scores[4, 8999] = value
        refused(lambda s=scores: rc.rashomon_capacity(s), "model 4, sample 8999", words)


def test_names_of_models_and_samples_are_told() -> None:
    probs = PROBS.copy()
    probs[3, 5, 2] = -1
    ids = [f"net-{k}" for k in range(40)]
    view = rc.Predictions.from_array(probs, model_ids=ids, sample_ids=[f"row-{i}" for i in range(30)])
    refused(lambda: rc.rashomon_capacity(view), "model 3 ('net-3')", "sample 5 (id 'row-5')")


def test_a_bad_row_in_the_last_tile_is_found_before_any_answer(isa: str) -> None:
    probs = make_channels(1, 50, 3000, 3, "softmax").astype(np.float32)
    probs[49, 2999] *= 0.5
    refused(lambda: rc.rashomon_capacity(probs, memory="1MB", max_iter=1), "model 49, sample 2999", "sums to 0.5")


@pytest.mark.parametrize("labels", [np.zeros((3, 4), dtype=int), strategies.make_labels(1, 3, 4, 3, "uniform")])
def test_labels_are_no_scores(labels: Array) -> None:
    for function in (rc.rashomon_capacity, rc.joint_capacity):
        refused(lambda f=function: f(labels), "scores must be floats", "Fix: ")
        refused(lambda f=function: f(rc.Predictions.from_array(labels)), "needs scores")


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tol": -1e-9}, "tol"),
        ({"tol": np.nan}, "tol"),
        ({"tol": "small"}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"max_iter": -3}, "max_iter"),
        ({"on_uncertified": "perhaps"}, "on_uncertified"),
    ],
)
def test_bad_options(solve: Callable[..., Any], options: dict[str, Any], word: str) -> None:
    refused(lambda: solve(**options), word, error=rc.UsageError)


@pytest.mark.parametrize("solve", SOLVERS[:2])
@pytest.mark.parametrize("method", ["Newton", "", "ba", None])
def test_bad_methods(solve: Callable[..., Any], method: Any) -> None:
    refused(lambda: solve(method=method), "method", "newton", "blahut_arimoto", error=rc.UsageError)


def test_bad_shapes_and_weights() -> None:
    refused(lambda: rc.rashomon_capacity(np.zeros((3, 4, 5, 2))), "4 axes")
    refused(lambda: rc.rashomon_capacity(np.zeros((3, 4, 1))), "single class")
    refused(lambda: rc.rashomon_capacity(np.zeros((0, 4, 2))), "zero models")
    refused(lambda: rc.rashomon_capacity(PROBS, sample_weight=np.ones(29)), "sample_weight")
    refused(lambda: rc.rashomon_capacity(PROBS, sample_weight=-np.ones(30)), "not negative")
    refused(lambda: rc.rashomon_capacity(PROBS, sample_weight=np.zeros(30)), "zero")
    for shape in ((3,), (2, 3, 4), (0, 3), (3, 0)):
        with pytest.raises(rc.RashomonError):
            rc.channel_capacity(np.zeros(shape))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("tol", [1e-6, 1e-15])
def test_spilled_capacities_are_summarised_alike(classes: int, tol: float) -> None:
    rng = np.random.default_rng(8)
    scores = rng.dirichlet(np.ones(classes), size=(6, 9000)).astype(np.float32)
    small, large = (
        rc.profile(scores, metrics=["rashomon_capacity"], capacity_tol=tol, memory=memory, keep_arrays=False, threads=2)
        for memory in ("1MB", "1GB")
    )
    entry = small.results()["rashomon_capacity"]
    assert entry == large.results()["rashomon_capacity"]
    assert sum(entry["status_counts"].values()) == 9000
    assert (entry["status_counts"]["certified"] == 9000) == (tol == 1e-6)


def test_a_reading_of_its_own_leaves_room_for_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capacity of three classes, tiles that cannot hold all models: results of the first reading are in memory then."""
    scores = np.random.default_rng(3).dirichlet(np.ones(3), (200, 6_000)).astype(np.float32)
    np.save(tmp_path / "p.npy", scores)
    given: list[int] = []

    def noted(view: rc.Predictions, *, threads: int, memory: int, per_sample: int) -> Any:
        given.append(memory)
        return plan_whole(view, threads=threads, memory=memory, per_sample=per_sample)

    monkeypatch.setattr(channel, "plan_whole", noted)
    view = rc.open_predictions(tmp_path / "p.npy")
    found = rc.profile(view, metrics=["rashomon_capacity", "viable_prediction_range"], memory="1MB", threads=1)
    kept = sum(x.nbytes for name, x in found.arrays.items() if name != "rashomon_capacity")  # the middles come later
    assert kept > 300_000
    assert len(given) == 1
    assert 250_000 <= given[0] <= 1_000_000 - kept
