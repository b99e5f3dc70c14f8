"""Every metric, accumulated: any cuts, orders and merges give the results of the profile of the whole tensor."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_accumulate import cuts

import rashomon_core as rc

Array = NDArray[Any]
BLOCK = 4096


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, x in value.items():
            yield from leaves(x, f"{path}.{key}")
    elif isinstance(value, list):
        for k, x in enumerate(value):
            yield from leaves(x, f"{path}[{k}]")
    else:
        yield path, value


def same_numbers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same objects; floats to rounding (of a mean, or of a variance of scores up to 1)."""
    mine, theirs = dict(leaves(found)), dict(leaves(expected))
    assert mine.keys() == theirs.keys()
    for path, value in mine.items():
        if isinstance(value, float):
            assert math.isclose(value, theirs[path], rel_tol=1e-12, abs_tol=1e-14), path
        else:
            assert value == theirs[path], path


class Problem:
    """A tensor with everything that may come with it."""

    def __init__(self, data: st.DataObject, *, samples: int, wide: bool = True) -> None:
        draw = data.draw
        self.rng = rng = np.random.default_rng(draw(strategies.seeds()))
        what = draw(st.sampled_from(["labels", "binary", "two", "scores", "logits"]))
        M, C = draw(st.integers(1, 7)), draw(st.integers(3, 6))
        N = samples
        if what == "labels":
            C = draw(st.integers(2, 12))
            x: Array = strategies.make_labels(
                int(rng.integers(99)), M, N, C, draw(st.sampled_from(strategies.LABEL_KINDS))
            )
        elif what == "binary":
            kind, C = draw(st.sampled_from(strategies.BINARY_KINDS)), 2
            x = strategies.make_binary_scores(int(rng.integers(99)), M, N, kind, draw(strategies.score_dtypes()))
        else:
            C = 2 if what == "two" else C
            kind = draw(st.sampled_from(strategies.ROW_KINDS))
            x = strategies.make_scores(int(rng.integers(99)), M, N, C, kind, draw(strategies.score_dtypes()))
            if what == "logits":
                x = np.round(rng.normal(size=x.shape) * 3, 1)
        self.x, self.M, self.N, self.C = x, M, N, C
        self.kind: Any = {"labels": "labels", "logits": "logits"}.get(what, "proba")
        self.given: dict[str, Any] = {}
        if draw(st.booleans()):
            if what in ("labels", "logits") or draw(st.booleans()):
                self.given["target"] = rng.integers(0, C, N)
            else:
                self.given["target"] = strategies.make_scores(5, 1, N, C, "dirichlet", "float64")[0]
        if draw(st.booleans()):
            self.given["y"] = rng.integers(0, C, N)
        if draw(st.booleans()):
            columns = {"sex": rng.integers(0, 2, N), "age": rng.integers(0, 3, N)}
            self.given["groups"] = columns if draw(st.booleans()) else columns["age"]
        if draw(st.booleans()):
            self.given["sample_weight"] = rng.integers(0, 3, N) + rng.random(N)
        choices = [None, rng.integers(0, C, N)]
        choices += ["labels"] * ("y" in self.given) + ["target"] * ("target" in self.given)
        self.given["reference"] = choices[draw(st.integers(0, len(choices) - 1))]
        if what in ("binary", "two") and draw(st.booleans()):
            self.given["threshold"] = 0.25
        self.given["ddof"] = draw(st.sampled_from([0, 1]))
        self.given["metrics"] = draw(
            st.sampled_from(["all", "all", "pass", ["rashomon_capacity"], ["losses", "groups"]])
        )

    @property
    def splits_models(self) -> bool:
        """Whether chunks may hold some models only."""
        names = self.given["metrics"]
        return self.C == 2 or self.kind == "labels" or not (names == "all" or "rashomon_capacity" in names)

    def fresh(self, **more: Any) -> rc.MultiplicityAccumulator:
        return rc.MultiplicityAccumulator(self.M, self.N, self.C, kind=self.kind, pairs=True, **self.given, **more)

    def whole(self, **more: Any) -> rc.Profile:
        view = rc.Predictions.from_array(self.x, kind=self.kind, n_classes=self.C)
        with warnings.catch_warnings():  # a group alone says nothing: so be it
            warnings.simplefilter("ignore", UserWarning)
            return rc.profile(view, **self.given, **more)


def feed(problem: Problem, accs: list[rc.MultiplicityAccumulator], models: list[slice], samples: list[slice]) -> None:
    """Every chunk, and every pair of blocks of models, to one of the accumulators, in any order."""
    x, rng = problem.x, problem.rng
    work: list[tuple[Any, ...]] = [(m, n) for m in models for n in samples]
    work += [(a, b, n) for i, a in enumerate(models) for b in models[i + 1 :] for n in samples]
    for i in rng.permutation(len(work)):
        acc, (*blocks, n) = accs[rng.integers(len(accs))], work[i]
        if len(blocks) == 1:
            acc.update(x[blocks[0], n], models=blocks[0], samples=n)
        else:
            a, b = blocks if rng.random() < 0.5 else blocks[::-1]
            acc.update_pairs(x[a, n], x[b, n], left=a, right=b, samples=n)


def merged(
    problem: Problem, accs: list[rc.MultiplicityAccumulator], folder: Path | None = None
) -> rc.MultiplicityAccumulator:
    """A tree of merges, with a journey before each."""
    rng = problem.rng
    while len(accs) > 1:
        a, b = (accs.pop(int(rng.integers(len(accs)))) for _ in range(2))
        how = rng.integers(4)
        if how == 0:
            a = pickle.loads(pickle.dumps(a)).merge(b)
        elif how == 1:
            header, arrays = b.state()
            a.absorb(json.loads(json.dumps(header)), {name: x.copy() for name, x in arrays.items()})
        elif how == 2 and folder is not None:
            b.save(folder / "b.npz")
            a = rc.MultiplicityAccumulator.load(folder / "b.npz").merge(a)
        else:
            a.merge(b)
        accs.append(a)
    return accs[0]


@settings(max_examples=60)
@given(data=st.data())
def test_whole_blocks_give_the_results_of_the_profile(data: st.DataObject, tmp_path_factory: Any) -> None:
    problem = Problem(data, samples=data.draw(st.sampled_from([1, 700, 2 * BLOCK + 37])))
    M, N = problem.M, problem.N
    samples = [slice(i, min(i + BLOCK, N)) for i in range(0, N, BLOCK)]
    if len(samples) > 2 and data.draw(st.booleans()):
        samples = [slice(0, 2 * BLOCK), samples[2]]
    models = cuts(problem.rng, M, data.draw(st.integers(1, 3))) if problem.splits_models else [slice(0, M)]
    accs = [problem.fresh() for _ in range(data.draw(st.integers(1, 4)))]
    feed(problem, accs, models, samples)
    found = merged(problem, accs, tmp_path_factory.mktemp("acc"))
    expected = problem.whole().results()
    if len(models) == 1:
        assert found.results() == expected
        assert json.dumps(found.results()) == json.dumps(expected)
    else:  # score variances of other cuts along the models
        given = found.results()
        given.pop("score_variance", None), expected.pop("score_variance", None)
        assert given == expected
    same_numbers(found.results(), problem.whole().results())


@settings(max_examples=60)
@given(data=st.data())
def test_any_cuts_give_the_numbers_of_the_profile(data: st.DataObject) -> None:
    problem = Problem(data, samples=data.draw(st.sampled_from([2, 500, BLOCK + 9])))
    models = cuts(problem.rng, problem.M, 3) if problem.splits_models else [slice(0, problem.M)]
    samples = cuts(problem.rng, problem.N, data.draw(st.integers(1, 5)))
    one, accs = [problem.fresh()], [problem.fresh() for _ in range(3)]
    feed(problem, one, models, samples)
    feed(problem, accs, models, samples)
    found, again = merged(problem, one).results(), merged(problem, accs).results()
    assert found == again  # the same bits for any order of the same chunks
    same_numbers(found, problem.whole().results())


def test_every_instruction_set(isa: str) -> None:
    """Blocks of models and of samples, weights and pairs on each; capacities of rows that rounding sets apart."""
    rng = np.random.default_rng(7)
    M, N = 6, BLOCK + 300
    x = strategies.make_scores(7, M, N, 2, "near", "float32")
    x[:, ::3] = x[:1, ::3] + rng.integers(0, 2, (M, -(-N // 3), 2)) * np.float32(6e-8)
    given: dict[str, Any] = {
        "target": x[0],
        "y": rng.integers(0, 2, N),
        "groups": rng.integers(0, 3, N),
        "sample_weight": rng.random(N),
    }
    acc = rc.MultiplicityAccumulator(M, N, 2, kind="proba", metrics="all", pairs=True, **given)
    a, b = slice(0, 2), slice(2, 6)
    for n in (slice(BLOCK, N), slice(0, BLOCK)):
        acc.update(x[b, n], models=b, samples=n).update_pairs(x[b, n], x[a, n], left=b, right=a, samples=n)
        acc.update(x[a, n], models=a, samples=n)
    found, profile = acc.results(), rc.profile(x, **given)
    expected = profile.results()
    same_numbers(found.pop("score_variance"), expected.pop("score_variance"))
    assert found == expected
    arrays = acc.compute()
    for name in ("rashomon_capacity_lower", "rashomon_capacity_upper", "low", "high"):
        assert np.array_equal(arrays[name], profile.arrays[name]), name
    assert np.array_equal(
        arrays["rates"].counts,
        rc.group_rates(x_labels(x), given["y"], given["groups"], sample_weight=given["sample_weight"]).counts,
    )


def x_labels(x: Array) -> Array:
    return np.asarray(x.argmax(axis=-1))


@given(problem=strategies.label_problems(max_models=6, max_samples=300, max_classes=8), seed=strategies.seeds())
def test_against_slow_loops(problem: strategies.LabelProblem, seed: int) -> None:
    labels, C, w = problem.labels, problem.n_classes, problem.weights
    rng = np.random.default_rng(seed)
    M, N = labels.shape
    acc = rc.MultiplicityAccumulator(
        M,
        N,
        C,
        kind="labels",
        metrics="all",
        pairs=True,
        target=problem.target,
        reference=problem.reference,
        y=problem.y,
        groups=problem.groups,
        missing="group",
        sample_weight=w,
    )
    models, samples = cuts(rng, M, 3), cuts(rng, N, 3)
    for n in samples:
        for i, m in enumerate(models):
            acc.update(labels[m, n], models=m, samples=n)
            for other in models[:i]:
                acc.update_pairs(labels[m, n], labels[other, n], left=m, right=other, samples=n)
    found = acc.compute()
    assert np.array_equal(found["votes"], naive.votes(labels, C))
    assert np.array_equal(found["ambiguous_samples"], (np.asarray(labels) != np.asarray(problem.reference)).any(axis=0))
    assert np.array_equal(found["mismatches"], (np.asarray(labels) != np.asarray(problem.reference)).sum(axis=1))
    assert found["ambiguity"] == pytest.approx(naive.ambiguity(labels, problem.reference, w), abs=1e-12)
    assert found["discrepancy"] == pytest.approx(naive.discrepancy(labels, problem.reference, w), abs=1e-12)
    assert found["fidelity"] == pytest.approx(naive.fidelity(labels, problem.target, w), abs=1e-12)
    assert found["pairwise_disagreement"] == pytest.approx(naive.pairwise_disagreement(labels, w), abs=1e-12)
    if w is None:
        counts = np.rint(found["pairwise_disagreement"] * N).astype(np.int64)
        assert np.array_equal(counts, naive.pairwise_disagreement_counts(labels))


@given(data=st.data(), seed=strategies.seeds())
def test_what_no_profile_has(data: st.DataObject, seed: int) -> None:
    """Delta metrics, viable decisions, self-consistency: the functions of the whole."""
    rng = np.random.default_rng(seed)
    x = data.draw(strategies.binary_scores(max_models=6, max_samples=900, any_layout=False))
    M, N = x.shape
    target = rng.integers(0, 9, N) / 8 if data.draw(st.booleans()) else rng.integers(0, 2, N)
    w, delta = (rng.random(N) + 0.1 if data.draw(st.booleans()) else None), data.draw(st.sampled_from([0, 0.125, 0.3]))
    if data.draw(st.booleans()):
        x = np.stack([1 - x, x], axis=2)
        target = np.stack([1 - target, target], axis=1) if target.dtype.kind == "f" else target
    acc = rc.MultiplicityAccumulator(M, N, 2, kind="proba", target=target, sample_weight=w, delta=delta)
    for m in cuts(rng, M, 3):
        acc.update(x[m], models=m)
    found = pickle.loads(pickle.dumps(acc)).compute()
    assert found["delta_ambiguity"] == rc.delta_ambiguity(x, target, delta, sample_weight=w)
    assert found["delta_discrepancy"] == rc.delta_discrepancy(x, target, delta, sample_weight=w)
    view = rc.Predictions.from_array(x)
    assert np.array_equal(found["viable_decisions"], rc.viable_decisions(view))
    assert np.array_equal(found["self_consistency"], rc.self_consistency(view), equal_nan=True)
    soft = rc.MultiplicityAccumulator(M, N, 2, kind="proba", target=target, sample_weight=w, metrics="losses").update(x)
    losses = soft.compute()
    for name in ("cross_entropy", "kl_divergence", "total_variation"):
        assert np.array_equal(losses[name], getattr(rc, name)(x, target, sample_weight=w)), name
