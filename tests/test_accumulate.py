"""MultiplicityAccumulator: any order of updates and merges gives the same integers, ranges and (as documented) bits."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
EXACT = (
    "votes",
    "disagreement_rate",
    "pairwise_ambiguity",
    "ambiguity",
    "ambiguous_samples",
    "mismatches",
    "discrepancy",
)


def same(a: dict[str, Any], b: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    assert set(a) == set(b)
    for name in set(a) - set(but):
        floats = np.asarray(a[name]).dtype.kind == "f"  # one model has no self-consistency: NaN
        assert np.array_equal(a[name], b[name], equal_nan=floats), name
        assert np.asarray(a[name]).dtype == np.asarray(b[name]).dtype


def cuts(rng: np.random.Generator, size: int, pieces: int) -> list[slice]:
    inner = rng.choice(np.arange(1, size), min(pieces - 1, size - 1), replace=False) if size > 1 else []
    edges = [0, *sorted(int(i) for i in inner), size]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def draw_tensor(data: st.DataObject) -> tuple[Array, str, int]:
    what = data.draw(st.sampled_from(["labels", "binary", "scores", "logits"]))
    if what == "labels":
        labels, C = data.draw(strategies.label_matrices(max_samples=600, max_classes=20))
        return labels, "labels", C
    if what == "binary":
        return data.draw(strategies.binary_scores(max_samples=600)), "proba", 2
    if what == "logits":
        x = data.draw(strategies.logit_tensors(max_samples=100, max_classes=5))
        return x, "logits", x.shape[2]
    x = data.draw(strategies.score_tensors(max_samples=600, max_classes=6))
    return x, "proba", x.shape[2]


@settings(max_examples=60)
@given(data=st.data(), seed=strategies.seeds())
def test_any_order_of_updates_and_merges(data: st.DataObject, seed: int) -> None:
    x, kind, C = draw_tensor(data)
    rng = np.random.default_rng(seed)
    M, N = x.shape[:2]
    reference = rng.integers(0, C, N) if data.draw(st.booleans()) else None

    def fresh() -> rc.MultiplicityAccumulator:
        return rc.MultiplicityAccumulator(M, N, C, kind=kind, reference=reference)  # type: ignore[arg-type]

    chunks = []
    for m in cuts(rng, M, data.draw(st.integers(1, 4))):
        chunks += [(m, n) for n in cuts(rng, N, data.draw(st.integers(1, 4)))]
    straight = fresh()
    for m, n in chunks:
        straight.update(x[m, n], models=m, samples=n)
    expected = straight.compute()

    several = [fresh() for _ in range(data.draw(st.integers(1, 4)))]
    for i in rng.permutation(len(chunks)):
        m, n = chunks[i]
        several[rng.integers(len(several))].update(x[m, n], models=m, samples=n)
    while len(several) > 1:
        a = several.pop(int(rng.integers(len(several))))
        b = several.pop(int(rng.integers(len(several))))
        several.append(pickle.loads(pickle.dumps(a)).merge(b))
    same(several[0].compute(), expected)

    whole = fresh().update(x).compute()
    same(whole, expected, but=("score_variance",))
    if "score_variance" in whole:
        assert np.allclose(whole["score_variance"], expected["score_variance"], rtol=1e-9, atol=1e-14)
    against_functions(whole, rc.Predictions.from_array(x, kind=kind, n_classes=C), reference)  # type: ignore[arg-type]


def against_functions(found: dict[str, Any], view: rc.Predictions, reference: Array | None) -> None:
    assert np.array_equal(found["votes"], rc.votes(view))
    assert np.array_equal(found["disagreement_rate"], rc.disagreement_rate(view))
    assert found["pairwise_ambiguity"] == rc.pairwise_ambiguity(view)
    if reference is not None:
        assert found["ambiguity"] == rc.ambiguity(view, reference)
        assert found["discrepancy"] == rc.discrepancy(view, reference)
        assert np.array_equal(found["ambiguous_samples"], rc.ambiguous_samples(view, reference))
        assert np.array_equal(found["mismatches"] / view.n_samples, 1 - rc.fidelity(view, reference)) or np.allclose(
            found["mismatches"] / view.n_samples, 1 - rc.fidelity(view, reference)
        )
    if view.kind == "labels":
        assert "low" not in found
        return
    ranges, variance = rc.viable_prediction_range(view), rc.score_variance(view)
    if view.columns == 1:
        ranges, variance = ranges[:, 1:], variance[:, 1:]
    assert np.array_equal(found["low"], ranges[..., 0])
    assert np.array_equal(found["high"], ranges[..., 1])
    assert np.array_equal(found["score_variance"], variance)


def test_small_numbers_by_hand() -> None:
    acc = rc.MultiplicityAccumulator(3, 4, 2, kind="labels", reference=[0, 1, 1, 1])
    labels = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]])
    for k in (2, 0, 1):
        acc.update(labels[k : k + 1], models=slice(k, k + 1))
    found = acc.compute()
    assert found["ambiguity"] == naive.ambiguity(labels, [0, 1, 1, 1]) == 0.5
    assert found["discrepancy"] == naive.discrepancy(labels, [0, 1, 1, 1]) == 0.5
    assert found["votes"].tolist() == naive.votes(labels, 2).tolist()
    assert found["mismatches"].tolist() == [1, 2, 0]


def test_identical_scores_vary_by_exactly_nothing_across_blocks() -> None:
    row = np.random.default_rng(0).random((1, 50))
    acc = rc.MultiplicityAccumulator(300, 50, 2, kind="proba")
    for k in range(0, 300, 100):
        acc.update(np.repeat(row, 100, axis=0), models=slice(k, k + 100))
    assert not acc.compute()["score_variance"].any()


def test_overlaps_are_refused_and_leave_no_trace() -> None:
    labels = np.random.default_rng(1).integers(0, 3, (4, 20))
    acc = rc.MultiplicityAccumulator(4, 20, 3, kind="labels", reference=labels[0])
    acc.update(labels[:2, :10], models=slice(0, 2), samples=slice(0, 10))
    before = pickle.dumps(acc)
    for m, n in (
        (slice(0, 2), slice(0, 10)),
        (slice(1, 3), slice(9, 20)),
        (slice(1, 2), slice(3, 4)),
        (slice(0, 4), slice(0, 20)),
    ):
        with pytest.raises(rc.InvalidInputError, match=r"given before at models \d.*sample \d+. Fix: .* once"):
            acc.update(labels[m, n], models=m, samples=n)
        assert pickle.dumps(acc) == before
    other = rc.MultiplicityAccumulator(4, 20, 3, kind="labels", reference=labels[0])
    other.update(labels[1:, 5:], models=slice(1, 4), samples=slice(5, 20))
    with pytest.raises(rc.InvalidInputError, match="given before"):
        acc.merge(other)
    with pytest.raises(rc.InvalidInputError, match="given before"):
        acc.merge(acc)
    assert pickle.dumps(acc) == before
    acc.update(labels[2:, :10], models=slice(2, 4), samples=slice(0, 10)).update(labels[:, 10:], samples=slice(10, 20))
    assert np.array_equal(acc.compute()["votes"], naive.votes(labels, 3))


def test_gaps_are_refused() -> None:
    labels = np.zeros((4, 20), dtype=int)
    acc = rc.MultiplicityAccumulator(4, 20, 3, kind="labels")
    with pytest.raises(rc.InvalidInputError, match="0 of 4 models were given at sample 0"):
        acc.compute()
    acc.update(labels[:, :12], samples=slice(0, 12)).update(labels[:3, 12:], models=slice(0, 3), samples=slice(12, 20))
    with pytest.raises(rc.InvalidInputError, match=r"3 of 4 models were given at sample 12\. Fix: update"):
        acc.compute()
    acc.update(labels[3:, 12:], models=slice(3, 4), samples=slice(12, None)).compute()


def test_bad_chunks_leave_the_state_as_it_was() -> None:
    acc = rc.MultiplicityAccumulator(2, 30, 3, kind="proba", reference=np.zeros(30, dtype=int))
    scores = strategies.make_scores(0, 2, 30, 3, "dirichlet", "float64")
    acc.update(scores[:, :10], samples=slice(0, 10))
    before = pickle.dumps(acc)
    bad = scores[:, 10:].copy()
    bad[1, 4, 2] = np.nan
    for chunk, error in (
        (bad, "NaN or infinity"),
        (scores[:, 10:, :2] * 0 + 0.5, "2 classes"),
        (scores[:1, 10:], "1 models x 20 samples"),
        (scores[:, 11:], "2 models x 19 samples"),
        (np.zeros((2, 20), dtype=int), "int64"),
    ):
        with pytest.raises(rc.InvalidInputError, match=error):
            acc.update(chunk, samples=slice(10, 30))
        assert pickle.dumps(acc) == before
    for where in (slice(10, 31), slice(0, 30, 2), slice(5, 5)):
        with pytest.raises(rc.UsageError, match="samples=slice"):
            acc.update(scores[:, 10:], samples=where)
    acc.update(scores[:, 10:], samples=slice(10, 30))
    against_functions(acc.compute(), rc.Predictions.from_array(scores), np.zeros(30, dtype=int))


def test_different_accumulators_do_not_merge() -> None:
    def make(
        M: int = 2, N: int = 5, C: int = 3, kind: Any = "labels", reference: Any = None
    ) -> rc.MultiplicityAccumulator:
        return rc.MultiplicityAccumulator(M, N, C, kind=kind, reference=reference)

    first = make()
    ones = np.ones(5, dtype=int)
    for other in (make(M=3), make(N=6), make(C=4), make(kind="proba"), make(reference=ones)):
        with pytest.raises(rc.InvalidInputError, match="differ"):
            first.merge(other)
    make(reference=ones).merge(make(reference=ones))


def test_constructor() -> None:
    for sizes in ((0, 1, 2), (1, 0, 2), (1, 1, 0)):
        with pytest.raises(rc.UsageError, match="at least 1"):
            rc.MultiplicityAccumulator(*sizes, kind="labels")
    with pytest.raises(rc.UsageError, match="'odds' is not one of pass, all, fidelity"):
        rc.MultiplicityAccumulator(1, 1, 2, kind="labels", metrics="odds")
    with pytest.raises(rc.UsageError, match="'odds'"):
        rc.MultiplicityAccumulator(1, 1, 2, kind="odds")  # type: ignore[arg-type]
    with pytest.raises(rc.InvalidInputError, match="sample 1: value 2"):
        rc.MultiplicityAccumulator(1, 2, 2, kind="labels", reference=[0, 2])


def test_narrow_and_wide_chunks_go_together() -> None:
    scores = strategies.make_scores(2, 4, 40, 3, "dirichlet", "float32")
    acc = rc.MultiplicityAccumulator(4, 40, 3, kind="proba")
    wide = scores[2:].astype(np.float64)
    wide /= wide.sum(axis=-1, keepdims=True)
    acc.update(scores[:2], models=slice(0, 2)).update(wide, models=slice(2, 4))
    both = np.concatenate([scores[:2].astype(np.float64), wide])
    other = rc.MultiplicityAccumulator(4, 40, 3, kind="proba")
    other.update(wide, models=slice(2, 4)).merge(
        rc.MultiplicityAccumulator(4, 40, 3, kind="proba").update(scores[:2], models=slice(0, 2))
    )
    found = acc.compute()
    same(found, other.compute())
    assert np.array_equal(found["low"], both.min(axis=0))
    assert np.array_equal(found["high"], both.max(axis=0))
    assert found["score_variance"] == pytest.approx(both.var(axis=0), abs=1e-15)


def test_state_is_the_objects_own() -> None:
    labels = np.random.default_rng(3).integers(0, 2, (3, 600))
    reference = labels[0].copy()
    acc = rc.MultiplicityAccumulator(3, 600, 2, kind="labels", reference=reference)
    acc.update(labels[:1], models=slice(0, 1))
    twin = copy.deepcopy(acc)
    acc.update(labels[1:], models=slice(1, 3))
    found = acc.compute()
    found["votes"][:] = -1
    reference[:] = 1 - reference
    assert np.array_equal(acc.compute()["votes"], naive.votes(labels, 2))
    assert acc.nbytes > 600 * 2
    same(twin.update(labels[1:], models=slice(1, 3)).compute(), acc.compute())
    assert acc.reset() is acc
    with pytest.raises(rc.InvalidInputError, match="0 of 3 models"):
        acc.compute()
    same(acc.update(labels).compute(), twin.compute())


def test_a_reference_is_kept_from_call_to_call() -> None:
    reference = np.array([0, 1, 1, 1], dtype=np.uint8)
    acc = rc.MultiplicityAccumulator(1, 4, 2, kind="labels", reference=reference)
    reference[:] = 0
    assert acc.update([[0, 1, 1, 1]]).compute()["ambiguity"] == 0
