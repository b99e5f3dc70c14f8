"""Public metrics of decisions against the oracle, on every instruction set and under every limit."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, bits, everywhere, streamed

import rashomon_core as rc

Array = NDArray[Any]
few = settings(max_examples=12)
#: Weighted shares are sums of at most a few thousand terms over their total.
CLOSE = {"rtol": 0, "atol": 1e-12}

# ----------------------------------------------------------------------------------------------------
# Scores to decisions


@few
@given(scores=strategies.score_tensors(max_samples=600, max_scores=6000))
def test_decide(isa: str, scores: Array) -> None:
    decisions = everywhere(rc.decide, scores)
    assert decisions.dtype == (np.uint8 if scores.shape[2] <= 256 else np.uint16)
    assert_array_equal(decisions, naive.decide(scores))


@few
@given(scores=strategies.binary_scores(max_models=5), threshold=st.none() | strategies.thresholds())
def test_decide_binary_scores(isa: str, scores: Array, threshold: float | None) -> None:
    expected = naive.decide(scores, threshold)
    assert_array_equal(everywhere(rc.decide, scores, threshold=threshold), expected)
    if threshold is not None:
        p = scores.astype(np.float64)
        both = np.stack([1 - p, p], axis=-1)
        assert_array_equal(rc.decide(both, threshold=threshold), expected)


@few
@given(logits=strategies.logit_tensors())
def test_decide_logits_by_their_own_order(isa: str, logits: Array) -> None:
    view = rc.Predictions.from_array(logits, kind="logits")
    assert_array_equal(rc.decide(view), naive.decide(logits))


@few
@given(logs=strategies.log_proba_tensors())
def test_decide_log_probabilities_by_their_own_order(isa: str, logs: Array) -> None:
    view = rc.Predictions.from_array(logs, kind="log_proba")
    assert_array_equal(rc.decide(view), naive.decide(logs))


def test_single_column_logits_and_thresholds(isa: str) -> None:
    logits = np.array([[-1e-300, 0.0, 1e-300, -800.0, 800.0]])
    view = rc.Predictions.from_array(logits, kind="logits")
    assert rc.decide(view).tolist() == [[0, 0, 1, 0, 1]]
    assert rc.decide(view, threshold=0.5).tolist() == [[1, 1, 1, 0, 1]]


def test_decide_refuses_what_has_no_meaning() -> None:
    with pytest.raises(rc.UsageError, match="two classes"):
        rc.decide(np.full((1, 1, 3), 1 / 3), threshold=0.5)
    for threshold in (np.nan, np.inf):
        with pytest.raises(rc.UsageError, match="finite"):
            rc.decide(np.array([[0.5]]), threshold=threshold)
    with pytest.raises(rc.InvalidInputError, match="floats"):
        rc.decide([[0, 1]])
    with pytest.raises(rc.InvalidInputError, match="labels"):
        rc.decide(rc.Predictions.from_array([[0, 1]]))


# ----------------------------------------------------------------------------------------------------
# Decisions


@few
@given(problem=strategies.label_problems(max_samples=700))
def test_against_a_reference(isa: str, problem: strategies.LabelProblem) -> None:
    labels, reference = problem.labels, problem.reference
    assert_array_equal(everywhere(rc.fidelity, labels, reference), naive.fidelity(labels, reference))
    flags = everywhere(rc.ambiguous_samples, labels, reference)
    assert flags.dtype == np.bool_
    assert_array_equal(flags, naive.ambiguous_samples(labels, reference))
    assert everywhere(rc.ambiguity, labels, reference) == naive.ambiguity(labels, reference)
    assert everywhere(rc.discrepancy, labels, reference) == naive.discrepancy(labels, reference)
    correct = everywhere(rc.correct_fidelity, labels, problem.target, problem.y)
    assert_array_equal(correct, naive.correct_fidelity(labels, problem.target, problem.y))


@few
@given(data=st.data(), problem=strategies.label_problems(max_samples=700))
def test_weighted_shares(isa: str, data: st.DataObject, problem: strategies.LabelProblem) -> None:
    labels, reference = problem.labels, problem.reference
    w = data.draw(strategies.weight_vectors(labels.shape[1]))
    assert_allclose(
        everywhere(rc.fidelity, labels, reference, sample_weight=w), naive.fidelity(labels, reference, w), **CLOSE
    )
    assert_allclose(
        everywhere(rc.correct_fidelity, labels, problem.target, problem.y, sample_weight=w),
        naive.correct_fidelity(labels, problem.target, problem.y, w),
        **CLOSE,
    )
    for ours, oracle in ((rc.ambiguity, naive.ambiguity), (rc.discrepancy, naive.discrepancy)):
        value = everywhere(ours, labels, reference, sample_weight=w)
        assert isinstance(value, float)
        assert value == pytest.approx(oracle(labels, reference, w), rel=0, abs=1e-12)
    for ours, oracle in (
        (rc.pairwise_ambiguity, naive.pairwise_ambiguity),
        (rc.pairwise_discrepancy, naive.pairwise_discrepancy),
    ):
        value = everywhere(ours, labels, sample_weight=w)
        assert value == pytest.approx(oracle(labels, w), rel=0, abs=1e-12)
    matrix = everywhere(rc.pairwise_disagreement, labels, sample_weight=w)
    assert_allclose(matrix, naive.pairwise_disagreement(labels, w), **CLOSE)
    assert_array_equal(matrix, matrix.T)
    assert not np.diag(matrix).any()


@few
@given(problem=strategies.label_matrices(max_samples=700))
def test_pairs(isa: str, problem: tuple[Array, int]) -> None:
    labels, _ = problem
    counts = everywhere(rc.pairwise_disagreement, labels, counts=True)
    assert counts.dtype == np.int64
    assert_array_equal(counts, naive.pairwise_disagreement_counts(labels))
    shares = everywhere(rc.pairwise_disagreement, labels)
    assert_array_equal(shares, naive.pairwise_disagreement(labels))
    assert (shares[:, :, None] <= shares[:, None, :] + shares.T[None, :, :] + 1e-12).all()  # triangles
    assert everywhere(rc.pairwise_discrepancy, labels) == naive.pairwise_discrepancy(labels)
    assert everywhere(rc.pairwise_ambiguity, labels) == naive.pairwise_ambiguity(labels)


@few
@given(problem=strategies.label_matrices(max_samples=600))
def test_votes_and_rates(isa: str, problem: tuple[Array, int]) -> None:
    labels, n_classes = problem
    votes = everywhere(rc.votes, labels, n_classes)
    assert votes.dtype == np.int64
    assert_array_equal(votes, naive.votes(labels, n_classes))
    assert_array_equal(everywhere(rc.viable_decisions, labels), naive.viable_decisions(labels))
    for ddof in (0, 1):
        rates = everywhere(rc.disagreement_rate, labels, ddof=ddof)
        assert_array_equal(rates, naive.disagreement_rate(labels, ddof))
    assert_array_equal(everywhere(rc.self_consistency, labels), naive.self_consistency(labels))


@settings(max_examples=8)
@given(scores=strategies.score_tensors(max_models=5, max_samples=300, max_classes=20), data=st.data())
def test_scores_given_to_label_functions_are_decided(isa: str, scores: Array, data: st.DataObject) -> None:
    view = rc.Predictions.from_array(scores)
    labels, C = naive.decide(scores), scores.shape[2]
    reference = data.draw(strategies.reference_vectors(labels, C))
    assert_array_equal(rc.fidelity(view, reference), naive.fidelity(labels, reference))
    assert rc.ambiguity(view, reference) == naive.ambiguity(labels, reference)
    assert_array_equal(rc.votes(view), naive.votes(labels, C))
    assert_array_equal(rc.votes(view, C), naive.votes(labels, C))
    counts = rc.pairwise_disagreement(view, counts=True)
    assert_array_equal(counts, naive.pairwise_disagreement_counts(labels))
    assert_array_equal(rc.disagreement_rate(view), naive.disagreement_rate(labels))


# ----------------------------------------------------------------------------------------------------
# Sizes


@pytest.mark.parametrize("n_classes", [2, 3, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_tiles_give_the_same_bits(isa: str, n_classes: int, weighted: bool) -> None:
    labels = strategies.make_labels(5, 37, 20_011, n_classes, "near").astype(np.uint16)
    reference = strategies.make_labels(6, 1, 20_011, n_classes, "uniform")[0]
    w = np.random.default_rng(7).exponential(size=20_011) if weighted else None
    wrong = labels != reference
    fidelity = everywhere(rc.fidelity, labels, reference, sample_weight=w)
    assert_allclose(fidelity, 1 - np.average(wrong, axis=1, weights=w), rtol=1e-12)
    ambiguity = everywhere(rc.ambiguity, labels, reference, sample_weight=w)
    assert ambiguity == pytest.approx(np.average(wrong.any(axis=0), weights=w), rel=1e-12)
    matrix = everywhere(rc.pairwise_disagreement, labels, sample_weight=w)
    assert matrix[3, 20] == pytest.approx(np.average(labels[3] != labels[20], weights=w), rel=1e-12)
    discrepancy = everywhere(rc.pairwise_discrepancy, labels, sample_weight=w)
    assert discrepancy == matrix.max()
    if not weighted:
        votes = everywhere(rc.votes, labels, n_classes)
        expected = np.zeros_like(votes)
        np.add.at(expected, (np.arange(20_011)[None], labels), 1)
        assert_array_equal(votes, expected)


def test_planes_beyond_the_budget_are_spilled(isa: str) -> None:
    labels = strategies.make_labels(1, 150, 30_000, 5, "uniform").astype(np.uint8)  # 1.7 MB of planes
    expected = rc.pairwise_disagreement(labels, counts=True, threads=1)
    assert_array_equal(expected[:3, 100:], (labels[:3, None] != labels[None, 100:]).sum(axis=-1))
    for threads in (1, 2):
        got = rc.pairwise_disagreement(streamed(labels), counts=True, threads=threads, memory=SMALL)
        assert_array_equal(got, expected)


@pytest.mark.parametrize("models", [1, 33, 210, 401])
def test_blocks_of_pairs_cover_the_matrix(models: int) -> None:
    labels = strategies.make_labels(2, models, 600, 2, "near").astype(np.uint8)
    w = np.random.default_rng(3).exponential(size=600)
    counts = (labels[:, None] != labels[None]).sum(axis=-1)
    weighted = rc.pairwise_disagreement(labels, sample_weight=w, threads=1, memory=SMALL)
    for threads in (1, 2, 7):
        assert_array_equal(rc.pairwise_disagreement(labels, counts=True, threads=threads), counts)
        assert_array_equal(rc.pairwise_disagreement(labels, threads=threads), counts / 600)
        assert_array_equal(rc.pairwise_disagreement(labels, threads=threads, sample_weight=w), weighted)
        assert rc.pairwise_discrepancy(labels, threads=threads) == counts.max() / 600


@pytest.mark.parametrize("n_classes", [256, 257, 65_535, 65_536])
def test_the_largest_labels(isa: str, n_classes: int) -> None:
    top = n_classes - 1
    rng = np.random.default_rng(n_classes)
    labels = rng.choice([0, 1, 127, 128, top - 1, top], size=(5, 70)).astype(np.uint16)
    labels[:, 0] = top
    reference = labels[2].copy()
    reference[3] = 0 if labels[2, 3] else 1
    counts = rc.pairwise_disagreement(labels, counts=True)
    assert_array_equal(counts, naive.pairwise_disagreement_counts(labels))
    assert_array_equal(rc.fidelity(labels, reference), naive.fidelity(labels, reference))
    votes = rc.votes(labels, n_classes)
    assert votes.shape == (70, n_classes)
    assert votes[0, top] == 5
    assert_array_equal(votes.sum(axis=1), 5)
    assert_array_equal(rc.viable_decisions(labels), naive.viable_decisions(labels))
    assert_array_equal(rc.disagreement_rate(labels, ddof=1), naive.disagreement_rate(labels, 1))


def test_more_classes_than_can_be_named() -> None:
    with pytest.raises(rc.InvalidInputError, match="65535"):
        rc.votes(np.array([[65_536, 0]]))
    with pytest.raises(rc.InvalidInputError, match="65536"):
        rc.votes([[0, 1]], 65_537)


def test_one_model_and_one_sample(isa: str) -> None:
    assert rc.pairwise_disagreement([[1]]).tolist() == [[0.0]]
    assert rc.pairwise_discrepancy([[1]]) == rc.pairwise_ambiguity([[1]]) == 0.0
    assert rc.disagreement_rate([[1, 0]]).tolist() == [0.0, 0.0]
    assert np.isnan(rc.disagreement_rate([[1, 0]], ddof=1)).all()
    assert np.isnan(rc.self_consistency([[1, 0]])).all()
    assert rc.viable_decisions([[4]]).tolist() == [1]
    assert rc.votes([[1]]).tolist() == [[0, 1]]
    assert rc.ambiguity([[1]], [0]) == rc.discrepancy([[1]], [0]) == 1.0


# ----------------------------------------------------------------------------------------------------
# Kinds of input


@pytest.mark.parametrize("dtype", strategies.LABEL_DTYPES)
@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_every_dtype_in_every_layout(dtype: str, layout: str) -> None:
    labels = strategies.apply_layout(strategies.make_labels(3, 4, 130, 2, "uniform").astype(dtype), layout)
    before = labels.copy()
    reference = strategies.apply_layout(np.arange(130).astype(dtype) % np.array(2).astype(dtype) == 0, layout)
    assert_array_equal(rc.votes(labels, 2), naive.votes(labels, 2))
    assert_array_equal(rc.fidelity(labels, reference), naive.fidelity(labels, reference))
    assert_array_equal(rc.disagreement_rate(labels), naive.disagreement_rate(labels))
    assert_array_equal(labels, before)


def test_sums_of_narrow_labels_do_not_wrap(isa: str) -> None:
    labels = np.full((300, 5), 255, dtype=np.uint8)  # 300 votes, class 255, differences beyond 127
    labels[:150] = 0
    assert rc.votes(labels).max() == 150
    assert rc.disagreement_rate(labels).tolist() == [0.5] * 5
    assert rc.pairwise_disagreement(labels, counts=True)[0, 299] == 5
    assert rc.votes(np.full((300, 1), 255, dtype=np.uint8))[0, 255] == 300


def test_frames_and_tensors_are_arrays() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    labels = strategies.make_labels(2, 3, 70, 4, "uniform")
    y, w = labels[0], np.arange(1, 71)
    expected = bits(rc.fidelity(labels, y, sample_weight=w))
    columns = {f"s{i}": labels[:, i] for i in range(70)}
    for frame, column in ((pd.DataFrame, pd.Series), (pl.DataFrame, pl.Series)):
        assert bits(rc.fidelity(frame(columns), column(y), sample_weight=column(w))) == expected
        assert bits(rc.votes(frame(columns))) == bits(rc.votes(labels))
    assert bits(rc.fidelity(labels.tolist(), y.tolist(), sample_weight=w.tolist())) == expected


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    labels = strategies.make_labels(2, 3, 70, 4, "uniform")
    tensor = torch.from_numpy(labels)
    assert bits(rc.fidelity(tensor, tensor[1])) == bits(rc.fidelity(labels, labels[1]))
    assert bits(rc.votes(tensor.to(torch.uint8))) == bits(rc.votes(labels))
    scores = torch.softmax(torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0)), -1)
    assert_array_equal(rc.decide(scores.requires_grad_()), naive.decide(scores.detach().numpy()))
    assert_array_equal(rc.decide(scores.detach().half()), naive.decide(scores.detach().half().numpy()))
    with pytest.raises(rc.InvalidInputError, match="BFloat16"):
        rc.decide(scores.detach().bfloat16())


def test_arrays_with_dlpack_only() -> None:
    class Foreign:
        def __init__(self, array: Array) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    labels = strategies.make_labels(2, 3, 70, 4, "uniform")
    assert bits(rc.votes(Foreign(labels))) == bits(rc.votes(labels))


LABEL_FUNCTIONS = {
    "ambiguity": lambda x: rc.ambiguity(x, [0, 1]),
    "ambiguous_samples": lambda x: rc.ambiguous_samples(x, [0, 1]),
    "correct_fidelity": lambda x: rc.correct_fidelity(x, [0, 1], [0, 1]),
    "disagreement_rate": rc.disagreement_rate,
    "discrepancy": lambda x: rc.discrepancy(x, [0, 1]),
    "fidelity": lambda x: rc.fidelity(x, [0, 1]),
    "group_rates": lambda x: rc.group_rates(x, [0, 1], [0, 1]),
    "pairwise_ambiguity": rc.pairwise_ambiguity,
    "pairwise_disagreement": rc.pairwise_disagreement,
    "pairwise_discrepancy": rc.pairwise_discrepancy,
    "self_consistency": rc.self_consistency,
    "size_matched_ambiguity": lambda x: rc.size_matched_ambiguity(x, [0, 1], 1),
    "size_matched_pairwise_ambiguity": lambda x: rc.size_matched_pairwise_ambiguity(x, 1),
    "viable_decisions": rc.viable_decisions,
    "votes": lambda x: rc.votes(x, 2),
}


@pytest.mark.parametrize("name", LABEL_FUNCTIONS)
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_floats_are_no_labels(name: str, dtype: str) -> None:
    with pytest.raises(TypeError, match=r"rc\.decide") as caught:
        LABEL_FUNCTIONS[name](np.array([[0.0, 1.0]], dtype=dtype))
    assert isinstance(caught.value, rc.LabelTypeError)


@pytest.mark.parametrize("name", LABEL_FUNCTIONS)
@pytest.mark.parametrize("bad", [np.zeros((0, 2), int), np.zeros((2, 0), int), [[0, -1]], [["a", "b"]], [0, 1]])
def test_what_labels_are_not(name: str, bad: Any) -> None:
    with pytest.raises(rc.InvalidInputError):
        LABEL_FUNCTIONS[name](bad)


def test_counts_with_weights_mean_nothing() -> None:
    with pytest.raises(rc.UsageError, match="counts=True"):
        rc.pairwise_disagreement([[0, 1], [1, 1]], counts=True, sample_weight=[1, 1])


@pytest.mark.parametrize("ddof", [-1, 2, 0.5])
def test_ddof_is_0_or_1(ddof: float) -> None:
    with pytest.raises(rc.UsageError, match="ddof"):
        rc.disagreement_rate([[0, 1], [1, 1]], ddof=ddof)


def test_stated_classes_are_kept_to() -> None:
    with pytest.raises(rc.InvalidInputError, match=r"model 1, sample 0: value 2"):
        rc.votes([[0, 1], [2, 0]], 2)
    with pytest.raises(rc.InvalidInputError, match="5 classes were stated"):
        rc.votes(rc.Predictions.from_array(np.array([[0.5]])), 5)
    declared = rc.Predictions.from_array([[0, 1]], n_classes=2)
    for wrong in ([2, 1], [256, 1]):  # 256 is 0 in eight bits
        for call in (rc.fidelity, rc.ambiguity, rc.discrepancy):
            with pytest.raises(rc.InvalidInputError, match="outside 0"):
                call(declared, wrong)
        with pytest.raises(rc.InvalidInputError, match="target outside 0"):
            rc.correct_fidelity(declared, wrong, [0, 1])
        with pytest.raises(rc.InvalidInputError, match="y outside 0"):
            rc.correct_fidelity(declared, [0, 1], wrong)


@pytest.mark.parametrize("n_classes", [2, 3, 17, 256, 65_536])
def test_a_reference_may_hold_classes_that_no_model_uses(isa: str, n_classes: int) -> None:
    labels, reference = [[0, 1, 0], [0, 0, 0]], [0, 1, n_classes - 1]
    assert_array_equal(rc.fidelity(labels, reference), naive.fidelity(labels, reference))
    assert rc.ambiguity(labels, reference) == naive.ambiguity(labels, reference)
    assert rc.size_matched_ambiguity(labels, reference, 2) == rc.ambiguity(labels, reference)
    assert rc.correct_fidelity(labels, reference, reference).tolist() == rc.fidelity(labels, reference).tolist()


# ----------------------------------------------------------------------------------------------------
# Second opinions


@pytest.mark.parametrize("weighted", [False, True])
def test_scipy_and_sklearn_agree(isa: str, weighted: bool) -> None:
    distance = pytest.importorskip("scipy.spatial.distance")
    sklearn = pytest.importorskip("sklearn.metrics")
    labels = strategies.make_labels(8, 12, 1500, 7, "near")
    w = np.random.default_rng(1).exponential(size=1500) if weighted else None
    expected = distance.squareform(distance.pdist(labels, "hamming", w=w))
    assert_allclose(rc.pairwise_disagreement(labels, sample_weight=w), expected, rtol=1e-12)
    scores = [sklearn.accuracy_score(labels[0], row, sample_weight=w) for row in labels]
    assert_allclose(rc.fidelity(labels, labels[0], sample_weight=w), scores, rtol=1e-12)
