"""The same bits for any threads, budget, tiles, layout, exact dtype, instruction set, and for a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from conftest import selected_isa
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core import tiles

Array = NDArray[Any]
N = 2 * 4096 + 777  # two whole blocks of a sum, and the start of a third
SHAPES = ("binary", "scores:2", "scores:3", "scores:10", "logits:3", "labels:2", "labels:7", "labels:300")


@dataclass(frozen=True)
class Problem:
    given: Array
    kind: Any
    options: dict[str, Any]

    def view(self, array: Array | None = None) -> rc.Predictions:
        return rc.Predictions.from_array(self.given if array is None else array, kind=self.kind)


@cache
def problem(shape: str) -> Problem:
    rng = np.random.default_rng(len(shape))
    kind, _, count = shape.partition(":")
    C = int(count or 2)
    M = 13
    if kind == "labels":
        given = strategies.make_labels(1, M, N, C, "near").astype(np.uint16)
        target: Array = rng.integers(0, C, N)
    elif kind == "binary":
        given = strategies.make_binary_scores(2, M, N, "uniform", "float32")
        target = rng.random(N)
    elif kind == "scores":
        # multiples of 1/64 in float32: exact in float16 and float64 too
        parts = rng.multinomial(64, np.full(C, 1 / C), size=(M, N))
        given = (parts / 64).astype(np.float32)
        target = (rng.multinomial(64, np.full(C, 1 / C), size=N) + 0.5) / (64 + C / 2)
    else:
        given = (rng.normal(size=(M, N, C)) * 3).astype(np.float32)
        target = strategies.make_scores(3, 1, N, C, "dirichlet", "float64")[0]
    return Problem(
        given,
        "labels" if kind == "labels" else "logits" if kind == "logits" else "proba",
        {
            "target": target,
            "y": rng.integers(0, C, N),
            "groups": rng.integers(0, 3, (N, 2)) if C < 100 else None,
            "sample_weight": rng.exponential(size=N) * (rng.random(N) < 0.9),
        },
    )


def fingerprint(p: Problem, view: rc.Predictions, *, weights: bool, **limits: Any) -> tuple[str, dict[str, bytes]]:
    """Every number and array as text and bytes; floats print with all their bits."""
    options = dict(p.options)
    if not weights:
        options.pop("sample_weight")
    profile = rc.profile(view, epsilon=1.0, selection=np.arange(N) % 5 == 0, **options, **limits)
    whole = rc.profile(view, **options, **limits)
    text = json.dumps([profile.results(), whole.results()], allow_nan=False)
    arrays = {}
    for name, found in (("set", profile), ("all", whole)):
        for key, array in found.arrays.items():
            arrays[f"{name}.{key}"] = array.tobytes() + str(array.dtype).encode()
        if found.rates is not None:
            arrays[f"{name}.rates"] = found.rates.counts.tobytes()
    return text, arrays


@cache
def expected(shape: str, weights: bool) -> tuple[str, dict[str, bytes]]:
    p = problem(shape)
    return fingerprint(p, p.view(), weights=weights, threads=1)


def check(shape: str, weights: bool, view: rc.Predictions, **limits: Any) -> None:
    text, arrays = fingerprint(problem(shape), view, weights=weights, **limits)
    wanted_text, wanted = expected(shape, weights)
    assert json.loads(text) == json.loads(wanted_text)  # says where
    assert text == wanted_text
    kept = wanted if limits.get("keep_arrays", True) else {k: v for k, v in wanted.items() if k in arrays}
    assert set(arrays) == set(kept)
    for name in kept:
        assert arrays[name] == kept[name], name


both = pytest.mark.parametrize("weights", [False, True])
shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
@both
def test_threads_and_budgets(shape: str, weights: bool) -> None:
    view = problem(shape).view()
    for limits in (
        {"threads": 2},
        {"threads": 1, "memory": "1MB"},
        {"threads": 2, "memory": "3MB", "keep_arrays": False},
    ):
        check(shape, weights, view, **limits)


@shapes
@pytest.mark.parametrize("size", [1, 40_000, 1 << 30])
def test_tile_sizes(shape: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", size)
    check(shape, True, problem(shape).view(), threads=2)


@shapes
@pytest.mark.parametrize("layout", [*strategies.LAYOUTS, "permuted"])
def test_layouts(shape: str, layout: str) -> None:
    p = problem(shape)
    if layout == "permuted":
        order = (1, 0) if p.given.ndim == 2 else (2, 0, 1)
        names = ("models", "samples", "classes")
        held = np.ascontiguousarray(p.given.transpose(order))
        view = rc.Predictions.from_array(held, kind=p.kind, axes=[names[i] for i in order])
    else:
        view = p.view(strategies.apply_layout(p.given, layout))
    check(shape, True, view, threads=2)


@pytest.mark.parametrize(
    ("shape", "dtypes"),
    [
        ("labels:2", ("bool", "uint8", "int8", "int32", "uint64", ">i8")),
        ("labels:300", ("int16", "uint32", ">i4", "int64")),
    ],
)
def test_exact_dtypes_of_labels(shape: str, dtypes: tuple[str, ...]) -> None:
    for dtype in dtypes:
        check(shape, True, problem(shape).view(problem(shape).given.astype(dtype)), threads=1)


@pytest.mark.parametrize("shape", ["scores:2", "scores:3", "scores:10"])
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", ">f8", ">f2"])
def test_exact_dtypes_of_scores(shape: str, dtype: str) -> None:
    p = problem(shape)
    text, arrays = fingerprint(p, p.view(p.given.astype(dtype)), weights=True, threads=2)
    wanted_text, wanted = expected(shape, True)
    assert json.loads(text) == json.loads(wanted_text)
    for name in wanted:
        if name.rsplit(".", 1)[1] not in ("low", "high"):  # in their own precision
            assert arrays[name] == wanted[name], name


@shapes
@both
def test_instruction_sets(shape: str, weights: bool) -> None:
    for isa in rc.isa_available():
        with selected_isa(isa):
            check(shape, weights, problem(shape).view(), threads=1)


@shapes
def test_file_or_array(shape: str, tmp_path: Path) -> None:
    p = problem(shape)
    path = rc.save_predictions(p.view(), tmp_path / "preds.npy")
    view = rc.open_predictions(path)
    assert not view.source.in_memory
    for limits in ({"threads": 1}, {"threads": 2, "memory": "1MB"}):
        check(shape, True, view, **limits)
        check(shape, False, view, **limits)


@pytest.mark.parametrize("shape", ["binary", "scores:3", "labels:7"])
def test_files_of_another_order(shape: str, tmp_path: Path) -> None:
    p = problem(shape)
    np.save(tmp_path / "moved.npy", np.asfortranarray(p.given.astype(p.given.dtype.newbyteorder(">"))))
    check(shape, True, rc.open_predictions(tmp_path / "moved.npy"), threads=2, memory="1MB")


@pytest.mark.parametrize("n", [4095, 4096, 4097, 8192, 12289])
def test_functions_and_profile_say_the_same(n: int) -> None:
    rng = np.random.default_rng(n)
    probs = strategies.make_scores(n, 7, n, 3, "dirichlet", "float32")
    target = strategies.make_scores(n + 1, 1, n, 3, "dirichlet", "float64")[0]
    y, w = rng.integers(0, 3, n), rng.exponential(size=n)
    labels, answers = rc.decide(probs), target.argmax(axis=1)
    p = rc.profile(probs, target=target, y=y, sample_weight=w, threads=2)
    found, a = p.results(), p.arrays
    assert found["ambiguity"]["value"] == rc.ambiguity(labels, answers, sample_weight=w)
    assert found["discrepancy"]["value"] == rc.discrepancy(labels, answers, sample_weight=w)
    assert found["pairwise_ambiguity"]["value"] == rc.pairwise_ambiguity(labels, sample_weight=w)
    assert found["pairwise_discrepancy"]["value"] == rc.pairwise_discrepancy(labels, sample_weight=w)
    assert found["pairwise_disagreement"]["max"] == rc.pairwise_disagreement(labels, sample_weight=w).max()
    assert np.array_equal(a["fidelity"], rc.fidelity(labels, answers, sample_weight=w))
    assert np.array_equal(a["correct_fidelity"], rc.correct_fidelity(labels, answers, y, sample_weight=w))
    assert np.array_equal(a["log_loss"], rc.log_loss(probs, y, sample_weight=w))
    assert np.array_equal(a["cross_entropy"], rc.cross_entropy(probs, target, sample_weight=w))
    assert np.array_equal(a["kl_divergence"], rc.kl_divergence(probs, target, sample_weight=w))
    assert np.array_equal(a["total_variation"], rc.total_variation(probs, target, sample_weight=w))
    assert np.array_equal(a["score_variance"], rc.score_variance(probs))
    assert np.array_equal(a["disagreement_rate"], rc.disagreement_rate(labels))
    unweighted = rc.profile(probs, target=target, y=y, threads=1).arrays
    assert np.array_equal(unweighted["correct_fidelity"], rc.correct_fidelity(labels, answers, y))
    assert np.array_equal(unweighted["fidelity"], rc.fidelity(labels, answers))
