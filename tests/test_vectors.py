"""What belongs to samples and models: labels, targets, weights, references, selections and losses.

Good vectors come in every form and mean the same; bad ones are refused with the sample and the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strategies
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from variants import bits

import rashomon_core as rc
from rashomon_core.vectors import as_decisions, as_losses, as_reference, as_selection, as_target, as_weights, narrowed

Array = NDArray[Any]
LABELS = np.array([[0, 1, 1, 0], [0, 1, 0, 0]])
SCORES = np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]]])
VIEW = rc.Predictions.from_array(SCORES, class_names=["no", "yes"])


def forms(values: Array) -> list[Any]:
    """Return the same vector as everything that may hold one."""
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    torch = pytest.importorskip("torch")
    return [
        values,
        values.tolist(),
        tuple(values.tolist()),
        *(strategies.apply_layout(values, layout) for layout in strategies.LAYOUTS),
        values[:, None],
        values[None, :],
        pd.Series(values),
        pd.DataFrame({"x": values}),
        pl.Series(values),
        torch.from_numpy(values),
        values.astype(np.float32),
        values.astype(object) if values.dtype.kind == "f" else values.astype(np.uint8),
    ]


# ----------------------------------------------------------------------------------------------------
# Labels and references


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 255, "u1"), (0, 256, "u2"), (-1, 127, "i1"), (-1, 128, "i2"), (5, 70_000, "u4"), (-3, 1 << 31, "i8")],
)
def test_integers_as_narrow_as_they_can_be(low: int, high: int, kind: str) -> None:
    wide = np.array([[low, high], [high, low]], dtype=np.int64)
    assert narrowed(wide).dtype == kind
    assert_array_equal(narrowed(wide), wide)
    for other in (wide.astype(str), wide.astype(float), wide > 0, wide[:0]):
        assert narrowed(other) is other


def test_labels_in_every_form() -> None:
    expected = bits(rc.fidelity(LABELS, [0, 1, 1, 1]))
    for y in forms(np.array([0, 1, 1, 1])):
        assert bits(rc.fidelity(LABELS, y)) == expected
    assert bits(rc.fidelity(LABELS, np.array([False, True, True, True]))) == expected
    narrow = np.array([0, 1, 1, 1], dtype=np.uint8)
    assert as_decisions(narrow, 4, 2, "y", None) is narrow  # nothing to copy
    for y in (["no", "yes", "yes", "yes"], np.array(["no", "yes", "yes", "yes"], dtype=object)):
        assert as_decisions(y, 4, 2, "y", ("no", "yes")).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 1], r"y has shape \(3,\) for 4 samples"),
        ([[0, 1], [1, 1], [0, 0], [0, 0]], r"y has shape \(4, 2\)"),
        ([0, 1, -1, 0], "y outside 0..1 at sample 2: value -1"),
        ([0, 1, 1, 2], "y outside 0..1 at sample 3: value 2"),
        ([0, 1, 0.5, 0], r"class indices at sample 2: value 0\.5"),
        ([0, 1, np.nan, 0], "class indices at sample 2: value nan"),
        ([0, 1, np.inf, 0], "class indices at sample 2: value inf"),
        (["no", "yes", "maybe", "no"], "unknown class at sample 2: value 'maybe'"),
        (np.array([0, 1, 2**64 - 1, 0], dtype=np.uint64), "y outside 0..1 at sample 2: value 18446744073709551615"),
        (np.array([0, 1, 0, 1], dtype=complex), "not class indices"),
        (np.array([0, 1, 0, 1], dtype="datetime64[s]"), "not class indices"),
        (np.ma.masked_array([0, 1, 0, 1], mask=[0, 0, 1, 0]), "masked"),
        ([[0, 1], [1]], "cannot be read as an array"),
        (3, "shape"),
    ],
)
def test_bad_labels_are_named(y: Any, message: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: rc.log_loss(VIEW, y),
        lambda: rc.group_rates(VIEW, y, [0, 1, 0, 1]),
        lambda: rc.profile(VIEW, y=y),
    ]
    for call in calls:
        with pytest.raises(rc.InvalidInputError, match=message):
            call()


def test_text_needs_names_of_classes() -> None:
    with pytest.raises(rc.InvalidInputError, match="classes have no names"):
        rc.fidelity(LABELS, ["no", "yes", "no", "yes"])


def test_references_by_name() -> None:
    view = rc.Predictions.from_array(LABELS, model_ids=["a", "target"])
    target = as_target([1, 1, 1, 1], view)
    y = np.array([0, 0, 0, 0])
    assert as_reference(None, view, None, y) == (None, None, None)  # labels are no silent default
    assert as_reference(None, view, target, y)[0] == "target"
    assert as_reference("a", view, target, y)[:2] == ("a", 0)
    assert as_reference(np.int64(1), view, target, y)[:2] == ("target", 1)
    assert as_reference("target", view, target, y)[:2] == ("target", 1)  # a model of that name is meant
    name, _, decisions = as_reference("labels", view, target, y)
    assert name == "labels"
    assert_array_equal(decisions, y)
    assert as_reference([0, 1, 0, 1], view, target, y)[0] == "array"
    for wrong in ("b", 2, -1):
        with pytest.raises(rc.UsageError, match="reference"):
            as_reference(wrong, view, target, y)
    plain = rc.Predictions.from_array(LABELS)
    for wrong in ("target", "labels"):
        with pytest.raises(rc.UsageError, match="needs"):
            as_reference(wrong, plain, None, None)
    with pytest.raises(rc.InvalidInputError, match="reference has shape"):
        as_reference([0, 1, 0], plain, None, None)


# ----------------------------------------------------------------------------------------------------
# Targets


def test_targets_of_every_kind() -> None:
    assert as_target([0, 1, 1, 0], VIEW).scores is None
    binary = as_target(np.array([0.1, 0.8, 0.5, 0.6], dtype=np.float32), VIEW)
    assert binary.decisions.tolist() == [0, 1, 0, 1]
    assert binary.scores is not None
    assert binary.scores.tolist() == np.array([0.1, 0.8, 0.5, 0.6], dtype=np.float32).astype(float).tolist()
    both = as_target(SCORES[0], VIEW)
    assert both.decisions.tolist() == [0, 1, 0, 1]
    assert as_target(SCORES[0], VIEW, threshold=0.5).decisions.tolist() == [0, 1, 1, 1]
    assert as_target(VIEW, VIEW).decisions.tolist() == [0, 1, 0, 1]
    named = rc.Predictions.from_array([[0, 1, 1, 0]])
    assert as_target(named, VIEW).decisions.tolist() == [0, 1, 1, 0]
    assert as_target(["no", "yes", "yes", "no"], VIEW).decisions.tolist() == [0, 1, 1, 0]
    odds = rc.Predictions.from_array(np.array([[-0.1, 0.2, 0.0, 0.9]]), kind="logits")  # 0.2 is no probability
    assert as_target(odds, VIEW).decisions.tolist() == [0, 1, 0, 1]
    scores = as_target(odds, VIEW).scores
    assert scores is not None
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([0.1, -0.2, 0.0, -0.9])), rtol=1e-14)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.array([0.1, 0.2, 0.3]), "shape"),
        (np.full((4, 3), 1 / 3), "3 classes, the predictions 2"),
        (np.array([0.1, 0.2, 1.3, 0.1]), "above 1"),
        (np.array([0.1, 0.2, np.nan, 0.1]), "NaN"),
        (np.full((4, 2), 0.6), "sums to"),
        (rc.Predictions.from_array(np.full((2, 4), 0.5)), "2 models"),
        (rc.Predictions.from_array(np.full((1, 3), 0.5), kind="logits"), "3 samples"),
        (rc.Predictions.from_array(np.full((1, 4, 3), 0.5), kind="logits"), "3 classes"),
        ([0, 1, 2, 0], "target outside 0..1 at sample 2"),
    ],
)
def test_bad_targets_are_refused(target: Any, message: str) -> None:
    for call in (lambda: rc.cross_entropy(VIEW, target), lambda: rc.profile(VIEW, target=target)):
        with pytest.raises(rc.InvalidInputError, match=message):
            call()


def test_scores_of_one_class_need_two_classes() -> None:
    with pytest.raises(rc.InvalidInputError, match="3 classes"):
        rc.cross_entropy(np.full((1, 4, 3), 1 / 3), np.full(4, 0.5))


# ----------------------------------------------------------------------------------------------------
# Weights


def test_weights_in_every_form() -> None:
    expected = bits(rc.fidelity(LABELS, [0, 1, 1, 1], sample_weight=[0.5, 2, 0, 1]))
    for w in forms(np.array([0.5, 2.0, 0.0, 1.0])):
        if isinstance(w, np.ndarray) and w.dtype.kind == "O":
            with pytest.raises(rc.InvalidInputError, match="numbers"):
                as_weights(w, 4)
        else:
            assert bits(rc.fidelity(LABELS, [0, 1, 1, 1], sample_weight=w)) == expected
    assert rc.fidelity(LABELS, [0, 1, 1, 1], sample_weight=[True, False, False, True]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("w", "message"),
    [
        ([1, 1, 1], r"sample_weight has shape \(3,\) for 4 samples"),
        (np.ones((4, 2)), r"shape \(4, 2\)"),
        (np.ones((2, 2)), r"shape \(2, 2\)"),
        (2.0, "shape"),
        ([1, -1, 1, 1], "not negative at sample 1: value -1"),
        ([1, 1, np.nan, 1], "finite and not negative at sample 2: value nan"),
        ([1, np.inf, 1, 1], "finite and not negative at sample 1: value inf"),
        ([0, 0, 0, 0], "all sample weights are zero"),
        ([1e308, 1e308, 0, 0], "sum of the sample weights is infinite"),
        (["1", "1", "1", "1"], "must be numbers"),
    ],
)
def test_bad_weights_are_named(w: Any, message: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: rc.fidelity(LABELS, [0, 1, 1, 1], sample_weight=w),
        lambda: rc.correct_fidelity(LABELS, [0, 1, 1, 1], [0, 1, 1, 1], sample_weight=w),
        lambda: rc.ambiguity(LABELS, [0, 1, 1, 1], sample_weight=w),
        lambda: rc.discrepancy(LABELS, [0, 1, 1, 1], sample_weight=w),
        lambda: rc.pairwise_ambiguity(LABELS, sample_weight=w),
        lambda: rc.pairwise_discrepancy(LABELS, sample_weight=w),
        lambda: rc.pairwise_disagreement(LABELS, sample_weight=w),
        lambda: rc.group_rates(LABELS, None, [0, 0, 1, 1], sample_weight=w),
        lambda: rc.log_loss(VIEW, [0, 1, 1, 1], sample_weight=w),
        lambda: rc.total_variation(VIEW, [0, 1, 1, 1], sample_weight=w),
        lambda: rc.delta_ambiguity(VIEW, [0.5, 0.5, 0.5, 0.5], 0.1, sample_weight=w),
        lambda: rc.delta_discrepancy(VIEW, [0.5, 0.5, 0.5, 0.5], 0.1, sample_weight=w),
        lambda: rc.size_matched_ambiguity(LABELS, [0, 1, 1, 1], 1, sample_weight=w),
        lambda: rc.size_matched_pairwise_ambiguity(LABELS, 1, sample_weight=w),
        lambda: rc.profile(LABELS, sample_weight=w),
    ]
    for call in calls:
        with pytest.raises(rc.InvalidInputError, match=message):
            call()


def test_tiny_weights_are_weights() -> None:
    smallest = np.nextafter(0, 1)
    assert rc.ambiguity(LABELS, [0, 1, 1, 1], sample_weight=[smallest] * 4) == 0.5
    assert rc.fidelity(LABELS, [0, 1, 1, 1], sample_weight=[0, 0, smallest, 0]).tolist() == [1.0, 0.0]


# ----------------------------------------------------------------------------------------------------
# Selections and losses


def test_selections() -> None:
    assert as_selection(None, 4, 0) is None
    mask = as_selection(0.25, 1000, 3)
    assert mask is not None
    assert mask.sum() == 250
    assert_array_equal(mask, as_selection(0.25, 1000, 3))
    assert (mask != as_selection(0.25, 1000, 4)).any()
    for fraction in (1e-9, 1 - 1e-9):  # both sides keep a sample
        mask = as_selection(fraction, 4, 0)
        assert mask is not None
        assert 0 < mask.sum() < 4
    for given in ([True, False, True, False], [1, 0, 1, 0], np.array([1.0, 0, 1, 0])):
        assert_array_equal(as_selection(given, 4, 0), [True, False, True, False])
    for wrong in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(rc.UsageError, match="fraction"):
            as_selection(wrong, 4, 0)
    for bad in ([0, 2, 1, 0], [True, False], [True] * 4, [False] * 4, [[True, False, True, False]] * 4, ["a"] * 4):
        with pytest.raises(rc.InvalidInputError, match="selection"):
            as_selection(bad, 4, 0)
    with pytest.raises(rc.UsageError, match="2 samples"):
        as_selection(0.5, 1, 0)


def test_losses_keep_counts_exact() -> None:
    assert as_losses(np.array([3, 250], dtype=np.uint8)).dtype == np.int64
    assert as_losses([0.5, np.inf]).tolist() == [0.5, np.inf]
    torch = pytest.importorskip("torch")
    assert rc.rashomon_mask(torch.tensor([0.1, 0.9], requires_grad=True), 0.5).tolist() == [True, False]
    for bad in ([0.1], [[0.1, 0.2]], ["a", "b"], [0.1, np.nan]):
        with pytest.raises(rc.InvalidInputError, match="loss"):
            as_losses(bad, 2)
