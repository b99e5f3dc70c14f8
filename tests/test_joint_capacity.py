"""Joint capacity: one p for all samples. It is the capacity of the samples' channels side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import naive_capacity
import numpy as np
import oracle_capacity
import pytest
import strategies
from capacity_checks import (
    ROUNDING,
    STATUSES,
    certified,
    channels,
    make_channels,
    on_each_isa,
    overlap,
    rows_of,
    ways,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
some = settings(deadline=None, max_examples=30)


def joint(probs: Any, **options: Any) -> Any:
    return rc.joint_capacity(probs, **{"on_uncertified": "raise", "threads": 1, **options})


def ends(result: Any) -> tuple[float, float]:
    return result.lower, result.upper


def check_joint(result: Any, probs: Array, w: Array | None = None, tol: float = 1e-6) -> None:
    """The certificate: bounds computed again from the reported weights, over all rows."""
    assert isinstance(result.bits, float)
    assert isinstance(result.lower, float)
    assert isinstance(result.upper, float)
    assert isinstance(result.iterations, int)
    assert isinstance(result.newton, int)
    assert 0 <= result.lower <= result.upper
    assert result.bits == (result.lower + result.upper) / 2
    assert result.status in STATUSES
    assert (result.status == "certified") == (result.upper - result.lower <= tol)
    assert result.weights.shape == (len(probs),)
    assert (result.weights >= 0).all()
    assert abs(result.weights.sum() - 1) <= 1e-12
    lower, upper = naive_capacity.bounds(naive_capacity.joint_rows(rows_of(probs), w), result.weights)
    assert abs(lower - result.lower) <= 10 * ROUNDING
    assert result.lower <= upper + ROUNDING
    assert result.upper >= lower - ROUNDING


@some
@given(probs=channels(max_models=300, max_classes=20, max_samples=40, max_scores=6000), data=st.data())
def test_joint_capacity_of_any_tensor(isa: str, probs: Array, data: st.DataObject) -> None:
    w = data.draw(strategies.optional_weights(probs.shape[1]))
    result = joint(probs, sample_weight=w)
    check_joint(result, probs, w)
    oracle = naive_capacity.joint_capacity(rows_of(probs), w, 1e-6, 2000)
    assert overlap(ends(result), oracle)


@some
@given(seed=strategies.seeds(), m=st.sampled_from([1, 2, 9, 64, 200]), n=strategies.sample_counts(130))
def test_joint_capacity_of_class_1_scores(isa: str, seed: int, m: int, n: int) -> None:
    scores = strategies.make_binary_scores(seed, m, n, "uniform", "float32")
    result = joint(scores)
    check_joint(result, scores)
    wide = rows_of(scores)
    assert overlap(ends(result), naive_capacity.joint_capacity(wide, None, 1e-5, 2000))
    assert overlap(ends(result), ends(joint(wide)))


@pytest.mark.parametrize("how", ["dirichlet", "sparse", "softmax", "grid", "sharp", "collinear", "tiny"])
def test_fifty_digits_lie_inside(how: str) -> None:
    for m, n, c in ((2, 3, 3), (4, 2, 3), (3, 4, 2)):
        probs = make_channels(m * n, m, n, c, how)
        # equal weights that are a power of two leave the rows of the channel side by side exact
        for w in (np.ones(n), 0.25 * np.eye(n)[0] + 0.25):
            low, high = oracle_capacity.exact((probs * w[None, :, None]).reshape(m, -1))
            if not np.allclose(probs.sum(axis=-1), 1, atol=1e-15, rtol=0):
                pytest.skip("rows that are not normalised in double weigh a little more or less side by side")
            for _ in on_each_isa():
                for tol in (1e-6, 1e-11):
                    result = joint(probs, sample_weight=w, tol=tol)
                    assert result.lower <= float(high) + 1e-15
                    assert float(low) - 1e-15 <= result.upper


@pytest.mark.parametrize("how", ["dirichlet", "softmax", "sparse", "confident"])
def test_conic_programs_agree(isa: str, how: str) -> None:
    probs = make_channels(5, 20, 6, 4, how)
    solved = oracle_capacity.conic(naive_capacity.joint_rows(probs))
    result = joint(probs)
    assert solved.accuracy < 1e-4
    assert result.lower - solved.accuracy <= solved.bits <= result.upper + solved.accuracy


def test_it_is_the_capacity_of_the_channel_side_by_side(isa: str) -> None:
    rng = np.random.default_rng(1)
    probs, w = make_channels(2, 40, 9, 5, "softmax"), rng.exponential(size=9)
    one = rc.channel_capacity(naive_capacity.joint_rows(probs, w), on_uncertified="raise")
    assert overlap(ends(joint(probs, sample_weight=w)), ends(one))


@some
@given(probs=channels(max_models=100, max_classes=10, max_samples=12))
def test_it_lies_below_the_mean_capacity(isa: str, probs: Array) -> None:
    each, together = certified(probs), joint(probs)
    assert together.lower <= each.upper.mean() + ROUNDING
    # one p for all is at least as good as the best p of one sample is for the mean of all
    assert together.upper >= each.lower.max() / probs.shape[1] - ROUNDING
    first = joint(probs[:, :1])
    assert overlap(ends(first), (each.lower[0], each.upper[0]))


def test_repeated_samples_change_nothing(isa: str) -> None:
    probs = make_channels(3, 50, 1, 6, "softmax")
    each = certified(probs)
    together = joint(np.repeat(probs, 5000, axis=1))
    assert overlap(ends(together), (each.lower[0], each.upper[0]))


def test_it_can_be_far_below_the_mean(isa: str) -> None:
    """Two samples, each with its own pair of models that disagree: 1 bit each, and jointly 1 of the mean of 2."""
    same, a, b = [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]
    probs = np.array([[a, same], [b, same], [same, a], [same, b]])
    assert certified(probs).bits == pytest.approx([1.0, 1.0], abs=1e-9)
    result = joint(probs)
    # p = 1/4 each: each sample sees its own pair with probability 1/2 and a coin else: 1/2 a bit.
    assert result.bits == pytest.approx(0.5, abs=1e-6)


def test_weights_count_samples(isa: str) -> None:
    probs = make_channels(4, 30, 6, 4, "softmax")
    times = np.array([1, 3, 0, 2, 1, 0])
    weighted, repeated = joint(probs, sample_weight=times), joint(np.repeat(probs, times, axis=1))
    assert overlap(ends(weighted), ends(repeated))
    scaled = joint(probs, sample_weight=times * 1e-3)
    assert overlap(ends(weighted), ends(scaled))
    odd = probs.copy()
    odd[:, 2] = np.eye(4)[np.arange(30) % 4]  # weight 0: whatever it says
    assert overlap(ends(joint(odd, sample_weight=times)), ends(weighted))


def test_adding_a_model_never_lowers_it(isa: str) -> None:
    probs = make_channels(4, 70, 5, 6, "softmax")
    found = [joint(probs[:k]) for k in (1, 2, 3, 10, 30, 69, 70)]
    assert found[0].upper == 0
    for k, before in enumerate(found):
        assert all(after.upper >= before.lower for after in found[k:])


def bits(result: Any) -> tuple[Any, ...]:
    return (result.lower, result.upper, result.iterations, result.newton, result.status, result.weights.tobytes())


@pytest.mark.parametrize(("m", "n", "c"), [(20, 4096 + 77, 3), (9, 513, 10), (130, 300, 2)])
def test_the_same_bits_anyhow(isa: str, m: int, n: int, c: int, tmp_path: Path) -> None:
    probs = make_channels(1, m, n, c, "softmax").astype(np.float32)
    w = np.random.default_rng(1).exponential(size=n)
    for weights in (None, w):
        expected = bits(joint(probs, sample_weight=weights, tol=1e-5))
        for name, view, limits in ways(probs, tmp_path):
            assert bits(joint(view, sample_weight=weights, tol=1e-5, **limits)) == expected, name


@some
@given(probs=channels(max_models=80, max_classes=12, max_samples=20))
def test_instruction_sets_agree(probs: Array) -> None:
    found = [ends(joint(probs)) for _ in on_each_isa()]
    assert all(overlap(a, b, slack=0.0) for a in found for b in found)


def test_kinds_of_scores(isa: str) -> None:
    probs = make_channels(6, 30, 8, 5, "softmax")
    logs = rc.Predictions.from_array(np.log(probs), kind="log_proba")
    logits = rc.Predictions.from_array(np.log(probs) + 3, kind="logits")
    scaled = rc.Predictions.from_array(probs * 2, renormalize=True)
    for other in (logs, logits, scaled):
        assert overlap(ends(joint(other)), ends(joint(probs)), slack=1e-9)


def test_limits() -> None:
    probs = make_channels(6, 100, 8, 5, "dirichlet")
    with pytest.warns(rc.UncertifiedWarning):
        short = rc.joint_capacity(probs, max_iter=1, tol=1e-9)
    assert short.status == "iteration_limit"
    check_joint(short, probs, tol=1e-9)
    assert overlap(ends(short), ends(joint(probs)))
    with pytest.raises(rc.UncertifiedError):
        rc.joint_capacity(probs, max_iter=1, tol=1e-9, on_uncertified="raise")
    exact = rc.joint_capacity(probs, tol=0.0, on_uncertified="ignore")
    assert exact.status == "precision_limit"
    assert exact.upper - exact.lower <= 1e-10
    check_joint(exact, probs, tol=0.0)


def test_bad_input() -> None:
    probs = make_channels(6, 5, 8, 4, "dirichlet")
    bad = probs.copy()
    bad[2, 6, 1] = np.nan
    with pytest.raises(rc.InvalidInputError, match="model 2, sample 6, class 1"):
        rc.joint_capacity(bad)
    with pytest.raises(rc.InvalidInputError, match="scores must be floats"):
        rc.joint_capacity(np.zeros((3, 4), dtype=int))
    for options in ({"tol": -1.0}, {"tol": np.nan}, {"max_iter": 0}, {"on_uncertified": "perhaps"}):
        with pytest.raises(rc.UsageError):
            rc.joint_capacity(probs, **options)
    with pytest.raises(rc.InvalidInputError, match="sample_weight"):
        rc.joint_capacity(probs, sample_weight=np.ones(3))
