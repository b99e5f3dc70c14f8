"""Bad input through the Python functions: the class of the exception, and a message that names place, value and fix."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
M, N, C = 4, 600, 3
LABELS = strategies.make_labels(0, M, N, C, "uniform")
SCORES = strategies.make_scores(1, M, N, C, "dirichlet", "float64")
BINARY = strategies.make_binary_scores(2, M, N, "uniform", "float64")
Y = strategies.make_labels(3, 1, N, C, "uniform")[0]
GROUPS = np.array(["a", "b"])[Y % 2]


def changed(array: Array, at: Any, value: Any) -> Array:
    copy = np.array(array)
    copy[at] = value
    return copy


def refused(call: Callable[[], object], *words: str, error: type[Exception] = rc.InvalidInputError) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as found:
            call()
    assert type(found.value) is error, f"{type(found.value)}: {found.value}"
    for word in words:
        assert word in str(found.value)


SCORE_FUNCTIONS: list[Callable[[Any], object]] = [
    rc.decide,
    rc.viable_prediction_range,
    rc.score_variance,
    lambda x: rc.log_loss(x, Y),
    lambda x: rc.cross_entropy(x, Y),
    lambda x: rc.kl_divergence(x, Y),
    lambda x: rc.total_variation(x, Y),
    lambda x: rc.profile(x, target=Y, y=Y),
    lambda x: rc.profile(x, target=Y, threads=2, memory="1MB", metrics="pass"),
    lambda x: rc.pairwise_disagreement(rc.Predictions.from_array(x)),
    lambda x: rc.fidelity(rc.Predictions.from_array(x), Y),
    lambda x: rc.group_rates(rc.Predictions.from_array(x), Y, GROUPS),
    lambda x: rc.MultiplicityAccumulator(M, N, C, kind="proba").update(x),
]


@pytest.mark.parametrize("function", SCORE_FUNCTIONS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, ("NaN or infinity", "value nan")),
        (-np.inf, ("NaN or infinity", "value -inf")),
        (-0.5, ("a negative probability", "value -0.5", "kind='logits'")),
        (1.5, ("a row that sums to", "renormalize=True")),
    ],
)
def test_bad_scores(function: Callable[[Any], object], value: float, words: tuple[str, ...]) -> None:
    at = "model 2, sample 513" + ("" if value == 1.5 else ", class 1")
    refused(lambda: function(changed(SCORES, (2, 513, 1), value)), at, "Fix: ", *words)


def test_the_first_bad_value_is_named_whatever_the_tiles() -> None:
    big = np.full((3, 3 * 4096), 0.5)
    big[2, 0], big[1, 9000], big[1, 12_000] = np.nan, -1, 7
    for threads in (1, 2):
        refused(lambda t=threads: rc.profile(big, threads=t), "model 1, sample 9000, class 0: value -1.0")


LABEL_FUNCTIONS: list[Callable[[Any], object]] = [
    rc.votes,
    rc.pairwise_disagreement,
    rc.disagreement_rate,
    lambda x: rc.ambiguity(x, Y),
    lambda x: rc.fidelity(x, Y),
    lambda x: rc.group_rates(x, Y, GROUPS),
    lambda x: rc.profile(x, target=Y),
]


@pytest.mark.parametrize("function", LABEL_FUNCTIONS)
def test_bad_labels(function: Callable[[Any], object]) -> None:
    refused(
        lambda: function(changed(LABELS, (1, 577), -2)),
        "outside",
        "model 1, sample 577: value -2",
        "Fix: labels are class indices",
    )
    view = rc.Predictions.from_array(LABELS, n_classes=2)
    i = int(np.argmax(LABELS[0] == 2))
    error_y = np.minimum(Y, 1)
    refused(lambda: rc.profile(view, y=error_y), "outside 0..1", "classes stated: 2", f"model 0, sample {i}: value 2")


@pytest.mark.parametrize("function", LABEL_FUNCTIONS[:-1])
def test_scores_for_labels_name_decide(function: Callable[[Any], object]) -> None:
    refused(lambda: function(BINARY), "rc.decide", "float64", error=rc.LabelTypeError)
    assert issubclass(rc.LabelTypeError, TypeError)
    assert issubclass(rc.LabelTypeError, ValueError)


@pytest.mark.parametrize(
    "array", [np.array([[0, 1], [1, None]], dtype=object), np.array([["a", "b"]]), np.array([[b"a"]])]
)
def test_object_and_string_arrays(array: Array) -> None:
    for function in (*LABEL_FUNCTIONS[:3], rc.profile, rc.Predictions.from_array):
        refused(lambda f=function: f(array), "cannot be measured", "Fix: use integers for labels")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 5, 3), (5, 0, 3), (5, 4, 0), (0, 0)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    refused(lambda: rc.profile(np.zeros(shape)), "zero ", "Fix: give at least one")
    if len(shape) == 2:
        refused(lambda: rc.votes(np.zeros(shape, dtype=int)), "zero ")


def test_axes() -> None:
    refused(lambda: rc.profile(np.zeros((2, 3, 4, 2))), "4 axes", "no declared axes", "axes=(", "--axes")
    refused(lambda: rc.profile(np.zeros(5)), "1 axes")


def test_lengths() -> None:
    short = Y[:-1]
    w = np.ones(N - 1)
    for name in ("target", "y", "groups", "reference", "sample_weight", "selection"):
        value: Any = {"sample_weight": w, "selection": w == 1}.get(name, short)
        options: dict[str, Any] = {"target": Y, "epsilon": 0.1} if name == "selection" else {}
        refused(
            lambda n=name, v=value, o=options: rc.profile(LABELS, **{n: v}, **o),
            name,
            f"({N - 1},) for {N} samples",
            "Fix: give one",
        )
    refused(
        lambda: rc.profile(LABELS, target=Y, epsilon=0.1, loss=[1, 2], selection=0.5), "loss has shape (2,)", "4 models"
    )
    refused(lambda: rc.ambiguity(LABELS, short), "reference", f"for {N} samples")
    refused(lambda: rc.log_loss(SCORES, short), "y has shape")
    refused(
        lambda: rc.profile(SCORES, target=SCORES[0][:, :2] / SCORES[0][:, :2].sum(axis=1, keepdims=True)),
        "2 classes",
        "3",
    )
    refused(lambda: rc.profile(SCORES, target=BINARY[0]), "(N,)", "3 classes", "(N, C)")


def test_values_of_vectors() -> None:
    for name in ("target", "y", "reference"):
        refused(lambda n=name: rc.profile(rc.Predictions.from_array(LABELS, n_classes=3), **{n: changed(Y, 7, 3)}),
                name, "outside 0..2", "sample 7: value 3", "Fix: ")  # fmt: skip
        refused(lambda n=name: rc.profile(LABELS, **{n: changed(Y, 7, -1)}), name, "sample 7: value -1")
    refused(
        lambda: rc.profile(LABELS, y=changed(Y.astype(float), 9, np.nan)),
        "y must be class indices",
        "sample 9: value nan",
    )
    refused(
        lambda: rc.profile(LABELS, y=changed(Y.astype(float), 9, 0.5)), "y must be class indices", "sample 9: value 0.5"
    )
    refused(lambda: rc.profile(LABELS, y=np.array(["a"] * N)), "y are text", "no names", "Fix: give class indices")
    named = rc.Predictions.from_array(LABELS, class_names=["a", "b", "c"])
    refused(
        lambda: rc.profile(named, y=np.array(["a"] * 8 + ["z"] + ["b"] * (N - 9))),
        "unknown class",
        "sample 8: value 'z'",
        "a, b, c",
    )
    refused(lambda: rc.profile(SCORES, target=changed(SCORES[0], (5, 1), np.nan)), "target", "sample 5", "value nan")
    refused(lambda: rc.profile(SCORES, target=changed(SCORES[0], (5, 1), 0.99)), "target", "sample 5", "sums to")
    refused(
        lambda: rc.profile(LABELS, target=Y, epsilon=0.1, loss=[1, np.nan, 2, 3]),
        "a loss is NaN at model 1",
        "Fix: drop the model",
    )


def test_weights() -> None:
    ones = np.ones(N)
    for function in (
        lambda w: rc.profile(LABELS, sample_weight=w),
        lambda w: rc.fidelity(LABELS, Y, sample_weight=w),
        lambda w: rc.log_loss(SCORES, Y, sample_weight=w),
        lambda w: rc.group_rates(LABELS, Y, GROUPS, sample_weight=w),
    ):
        refused(lambda f=function: f(np.zeros(N)), "all sample weights are zero", "Fix: ")
        refused(lambda f=function: f(changed(ones, 3, -1)), "finite and not negative at sample 3: value -1.0")
        refused(lambda f=function: f(changed(ones, 3, np.nan)), "sample 3: value nan")
        refused(lambda f=function: f(changed(ones, 3, np.inf)), "sample 3: value inf")
        refused(lambda f=function: f(np.array(["1"] * N)), "sample_weight must be numbers")
    refused(
        lambda: rc.pairwise_disagreement(LABELS, counts=True, sample_weight=ones), "counts=True", error=rc.UsageError
    )
    half = np.arange(N) < N // 2
    refused(
        lambda: rc.profile(LABELS, target=Y, epsilon=0.1, selection=half, sample_weight=half * 1.0),
        "of a split",
        error=rc.UsageError,
    )


@pytest.mark.parametrize("gone", [None, np.nan, "", "nan"])
def test_missing_groups(gone: Any) -> None:
    groups = changed(GROUPS.astype(object), 11, gone)
    refused(
        lambda: rc.group_rates(LABELS, Y, groups), "missing value at sample 11", "missing='group'", "--missing group"
    )
    refused(lambda: rc.profile(LABELS, y=Y, groups=groups), "sample 11")
    rates = rc.group_rates(LABELS, Y, groups, missing="group")
    assert rates.groups == ("a", "b", "missing")
    assert int(rates.counts[0, 2].sum()) == 1
    assert rc.profile(LABELS, y=Y, groups=groups, missing="group").results()["fairness"]["groups"] == [
        "a",
        "b",
        "missing",
    ]


USAGE: list[tuple[dict[str, Any], str]] = [
    ({"epsilon": 0.1}, "epsilon needs a loss"),
    ({"epsilon": -0.1, "target": Y}, "epsilon=-0.1"),
    ({"epsilon": np.nan, "target": Y}, "epsilon=nan"),
    ({"epsilon": np.inf, "target": Y}, "epsilon=inf"),
    ({"loss": "fidelity", "target": Y}, "give epsilon"),
    ({"selection": 0.5}, "give epsilon"),
    ({"relative": True}, "give epsilon"),
    ({"epsilon": 0.1, "loss": "hinge", "target": Y}, "'hinge'"),
    ({"epsilon": 0.1, "loss": "fidelity", "y": Y}, "needs a target"),
    ({"epsilon": 0.1, "loss": "zero_one", "target": Y}, "needs true labels"),
    ({"epsilon": 0.1, "loss": "log_loss", "y": Y}, "needs scores"),
    ({"epsilon": 0.1, "target": Y, "selection": 0.0}, "fraction 0"),
    ({"epsilon": 0.1, "target": Y, "selection": 1.0}, "fraction 1"),
    ({"reference": "target"}, "needs a target"),
    ({"reference": "labels"}, "needs true labels"),
    ({"reference": "unknown"}, "neither 'target', 'labels' nor a model id (0, 1, 2, 3)"),
    ({"reference": 4}, "not one of 0..3"),
    ({"metrics": "capacity"}, "'capacity'"),
    ({"metrics": []}, "no metrics"),
    ({"threshold": 0.5}, "labels"),
    ({"ddof": 2}, "ddof=2"),
    ({"positive": 3}, "positive=3"),
    ({"groups": GROUPS, "missing": "drop"}, "missing='drop'"),
    ({"groups": GROUPS, "fairness_threshold": {"typo_ratio": 0.8}}, "typo_ratio"),
    ({"target": Y, "size": 0}, "size"),
    ({"threads": 0}, "0 threads"),
    ({"memory": "12"}, "too small"),
    ({"memory": "much"}, "not a size"),
]


@pytest.mark.parametrize(("options", "word"), USAGE)
def test_calls_that_make_no_sense(options: dict[str, Any], word: str) -> None:
    refused(lambda: rc.profile(LABELS, **options), word, error=rc.UsageError)


def test_a_threshold_is_for_two_classes() -> None:
    refused(lambda: rc.profile(SCORES, threshold=0.5), "two classes", error=rc.UsageError)
    refused(lambda: rc.decide(SCORES, threshold=0.5), "two classes", error=rc.UsageError)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    np.save(path, changed(SCORES, (2, 513, 1), np.nan))
    refused(
        lambda: rc.profile(rc.open_predictions(path)), str(path), "model 2, sample 513, class 1", "value nan", "Fix: "
    )
    np.save(path, np.array([[None, 1]], dtype=object), allow_pickle=True)
    refused(lambda: rc.open_predictions(path), str(path))
    np.save(path, SCORES)
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: rc.open_predictions(path), str(path))
    path.write_bytes(b"")
    refused(lambda: rc.open_predictions(path), str(path))
    np.save(path, np.zeros((3, 0)))
    refused(lambda: rc.open_predictions(path), str(path), "zero samples")
    refused(
        lambda: rc.save_predictions(SCORES, tmp_path / "no" / "out.npy"), str(tmp_path / "no"), error=rc.OutputError
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.npy"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
def test_an_interrupt_while_writing_leaves_nothing(tmp_path: Path) -> None:
    class Interrupting:
        in_memory, path = False, None
        shape, dtype = (4, 1000), np.dtype("uint8")

        def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return np.zeros((models.stop - models.start, samples.stop - samples.start), dtype="uint8")

    view = rc.Predictions.from_source(Interrupting(), n_classes=2)
    with pytest.raises(KeyboardInterrupt):
        rc.save_predictions(view, tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []


# --- what looks odd and simply works ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_odd_arrays_work(layout: str, dtype: str) -> None:
    plain = SCORES.astype(dtype)
    held = strategies.apply_layout(plain, layout)
    before = held.copy()
    decisions = naive.decide(plain[:, :50])
    assert np.array_equal(rc.decide(held)[:, :50], decisions)
    found = rc.profile(held, target=strategies.apply_layout(Y, layout), y=Y[::-1][::-1], threads=2).results()
    assert found == rc.profile(plain, target=Y, y=Y).results()
    assert np.array_equal(held, before)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements() -> None:
    n = 1 << 27
    row = np.zeros(n, dtype=np.uint8)
    row[-1] = 1
    labels = np.broadcast_to(row, (17, n))  # 2.3e9 elements, 128 MiB
    assert labels.size > 2**31
    view = rc.Predictions.from_array(labels, n_classes=2)
    reference = np.zeros(n, dtype=np.uint8)
    reference[0] = 1
    assert np.array_equal(rc.pairwise_disagreement(view, counts=True), np.zeros((17, 17)))
    flags = rc.ambiguous_samples(view, reference)
    assert np.flatnonzero(flags).tolist() == [0, n - 1]
