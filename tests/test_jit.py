"""Losses of the user: against NumPy and the built-in log loss, the same bits under every limit, and what is refused.

Means of logarithms agree with the built-in ones to 1e-12 relative. Sums of squares agree with NumPy's to 1e-12.
"""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from naive import probabilities
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from variants import SMALL, bits, everywhere, streamed

import rashomon_core as rc
from rashomon_core import jit
from rashomon_core.metrics.sums import total

pytest.importorskip("numba", reason="losses of the user's own need Numba, an optional library")

Array = NDArray[Any]
CLOSE = {"rtol": 1e-12, "atol": 1e-14}


@rc.sample_loss
def own_log_loss(scores: Array, label: int) -> float:
    return -math.log(scores[label]) if scores[label] > 0 else math.inf


@rc.sample_loss(name="brier")
def own_brier(scores: Array, label: int) -> float:
    total = 0.0
    for c in range(len(scores)):
        total += (scores[c] - (c == label)) ** 2
    return total


@rc.sample_loss
def own_zero_one(scores: Array, label: int) -> bool:
    return bool(np.argmax(scores) != label)


@rc.sample_loss
def own_spoiler(scores: Array, label: int) -> float:
    """Write to what it is given, which must be nobody's data."""
    first = scores[0]
    scores[:] = -1.0
    return first


def rows_of(scores: Array, kind: str = "proba") -> Array:
    """Return (M, N, C) float64 probabilities."""
    p = probabilities(scores, kind)
    return np.stack([1.0 - p, p], axis=-1) if p.ndim == 2 else p


def means(loss: Callable[[Array, int], float], rows: Array, y: Array, w: Array | None = None) -> Array:
    """Call the plain function for every model and sample."""
    values = np.array([[float(loss(row.copy(), int(c))) for row, c in zip(model, y, strict=True)] for model in rows])
    if w is None:
        return values.mean(axis=1)
    return np.array([math.fsum(a * b for a, b in zip(v, w, strict=True) if b) for v in values]) / w.sum()


def problem(seed: int, n_models: int, n_samples: int, columns: int, dtype: str) -> tuple[Array, Array]:
    if columns == 1:
        scores = strategies.make_binary_scores(seed, n_models, n_samples, "uniform", dtype)
    else:
        scores = strategies.make_scores(seed, n_models, n_samples, columns, "dirichlet", dtype)
    return scores, np.random.default_rng(seed).integers(0, max(2, columns), n_samples)


# ----------------------------------------------------------------------------------------------------
# Values


@given(
    seed=strategies.seeds(),
    n_models=strategies.model_counts(),
    n_samples=strategies.sample_counts(600),
    columns=st.sampled_from([1, 2, 3, 10]),
    dtype=strategies.score_dtypes(),
    layout=strategies.layouts(),
    weighted=st.booleans(),
)
def test_against_the_plain_function(
    seed: int, n_models: int, n_samples: int, columns: int, dtype: str, layout: str, weighted: bool
) -> None:
    scores, y = problem(seed, n_models, n_samples, columns, dtype)
    w = np.random.default_rng(seed).integers(0, 3, n_samples).astype(float) if weighted else None
    if w is not None:
        w[0] = 1.0
    expected = means(own_brier.function, rows_of(scores), y, w)
    found = own_brier.over(strategies.apply_layout(scores, layout), y, sample_weight=w)
    assert found.dtype == np.float64
    assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 10])
def test_equals_the_built_in_log_loss(columns: int, dtype: str) -> None:
    scores, y = problem(5, 4, 9001, columns, dtype)
    w = np.random.default_rng(1).random(9001)
    assert_allclose(own_log_loss.over(scores, y), rc.log_loss(scores, y), rtol=1e-12)
    weighted = own_log_loss.over(scores, y, sample_weight=w)
    assert_allclose(weighted, rc.log_loss(scores, y, sample_weight=w), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 700])  # the last: a row is longer than the buffer
@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
def test_same_bits_under_every_limit(columns: int, dtype: str) -> None:
    models, samples = (5, 9001) if columns < 10 else (2, 4500)
    if columns < 10:
        scores, y = problem(3, models, samples, columns, dtype)
    else:  # float16 keeps sums within the tolerance where scores are few powers of two
        scores = np.zeros((models, samples, columns), dtype)
        scores[:, :, ::7] = 0.0078125
        scores[:, :, 0] += 1 - scores.sum(axis=2, dtype=float).astype(dtype)
        y = np.random.default_rng(3).integers(0, columns, samples)
    w = np.random.default_rng(2).random(samples)
    values = own_brier.per_sample(scores, y)
    by_the_rule = np.array([total(v) / samples for v in values])  # the sum of every other loss
    assert bits(everywhere(own_brier.over, scores, y)) == bits(by_the_rule)
    weighted = np.array([total(v, w) / total(w) for v in values])
    assert bits(everywhere(own_brier.over, scores, y, sample_weight=w)) == bits(weighted)
    if columns == 3:
        everywhere(own_brier.per_sample, scores, y)


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 4097), (6, 4097, 3), (900, 3, 3)])
def test_layouts_do_not_show(layout: str, shape: tuple[int, ...]) -> None:
    scores, y = problem(4, shape[0], shape[1], shape[2] if len(shape) == 3 else 1, "float32")
    held = strategies.apply_layout(scores, layout)
    assert bits(own_brier.over(held, y)) == bits(own_brier.over(scores, y))
    assert bits(own_brier.per_sample(held, y)) == bits(own_brier.per_sample(scores, y))


@pytest.mark.parametrize("kind", ["logits", "log_proba"])
@pytest.mark.parametrize("columns", [1, 3])
def test_kinds_become_probabilities(kind: str, columns: int) -> None:
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(3, 5000, 3)) if columns == 3 else rng.normal(size=(3, 5000))
    if kind == "log_proba":
        scores = np.log(probabilities(scores, "logits"))
    y = rng.integers(0, max(2, columns), 5000)
    view = rc.Predictions.from_array(scores, kind=kind)
    assert_allclose(own_brier.over(view, y), means(own_brier.function, rows_of(scores, kind), y), **CLOSE)
    assert_allclose(own_log_loss.over(view, y), rc.log_loss(view, y), rtol=1e-12)
    same = own_brier.over(view, y, threads=1)
    for limits in ({"threads": 2}, {"threads": 2, "memory": SMALL}):
        assert bits(own_brier.over(streamed(scores, kind=kind), y, **limits)) == bits(same)


def test_rows_that_are_renormalised() -> None:
    scores, y = problem(9, 3, 700, 3, "float32")
    view = rc.Predictions.from_array(scores * 2, renormalize=True)
    assert_allclose(own_brier.over(view, y), own_brier.over(scores, y), rtol=1e-6)
    assert_allclose(own_log_loss.over(view, y), rc.log_loss(view, y), rtol=1e-12)


def test_predictions_in_a_file(tmp_path: Path) -> None:
    scores, y = problem(6, 7, 9001, 3, "float32")
    np.save(tmp_path / "p.npy", scores)
    view = rc.open_predictions(str(tmp_path / "p.npy"))
    for limits in ({"threads": 1}, {"threads": 2, "memory": SMALL}):
        assert bits(own_brier.over(view, y, **limits)) == bits(own_brier.over(scores, y))


def test_integers_and_booleans_are_numbers_and_infinity_is_one() -> None:
    scores, y = problem(2, 3, 5000, 3, "float64")
    assert_array_equal(own_zero_one.over(scores, y), (scores.argmax(axis=2) != y).mean(axis=1))
    scores[1, 7] = [0.0, 0.5, 0.5]
    y[7] = 0
    assert np.isposinf(own_log_loss.over(scores, y)).tolist() == [False, True, False]
    w = np.ones(5000)
    w[7] = 0.0
    assert np.isfinite(own_log_loss.over(scores, y, sample_weight=w)).all()
    assert np.isposinf(own_log_loss.per_sample(scores, y)[1, 7])


def test_labels_by_name_and_a_function_that_writes() -> None:
    scores, y = problem(2, 3, 5000, 2, "float64")
    view = rc.Predictions.from_array(scores, class_names=["no", "yes"])
    assert bits(own_brier.over(view, np.array(["no", "yes"])[y])) == bits(own_brier.over(scores, y))
    before = scores.copy()
    assert_allclose(own_spoiler.over(scores, y), before[:, :, 0].mean(axis=1), **CLOSE)
    assert_array_equal(scores, before)


def test_values_that_the_function_carries() -> None:
    def focal(scores: Array, label: int = 0, gamma: float = 2.0) -> float:
        return -((1 - scores[label]) ** gamma) * math.log(scores[label])

    def make(gamma: float) -> rc.SampleLoss:
        return rc.sample_loss(lambda scores, label: -((1 - scores[label]) ** gamma) * math.log(scores[label]))

    scores, y = problem(14, 3, 700, 3, "float64")
    expected = means(focal, rows_of(scores), y)
    assert_allclose(rc.sample_loss(focal).over(scores, y), expected, **CLOSE)
    assert_allclose(make(2.0).over(scores, y), expected, **CLOSE)
    assert_allclose(make(0.0).over(scores, y), rc.log_loss(scores, y), **CLOSE)


def test_a_sample_loss_is_the_function_still() -> None:
    assert own_brier(np.array([0.25, 0.75]), 1) == 0.125
    assert own_brier.name == "brier"
    assert own_log_loss.name == f"{__name__}:own_log_loss"
    assert own_spoiler.__doc__ is not None
    assert own_spoiler.__doc__.startswith("Write")
    assert "test_jit.py" in repr(own_brier)
    import numba

    again = rc.sample_loss(numba.njit(own_brier.function))
    scores, y = problem(2, 3, 700, 3, "float64")
    assert bits(again.over(scores, y)) == bits(own_brier.over(scores, y))


# ----------------------------------------------------------------------------------------------------
# The set


def test_a_loss_of_ones_own_defines_the_set() -> None:
    scores, y = problem(11, 9, 3000, 3, "float32")
    losses = own_brier.over(scores, y)
    epsilon = float(np.sort(losses)[4] - losses.min())
    mask = rc.rashomon_mask(losses, epsilon)
    assert 0 < mask.sum() < 9
    with pytest.warns(rc.SelectedOnEvaluationWarning):
        profile = rc.profile(scores, y=y, loss=own_brier, epsilon=epsilon, curves=True, bootstrap=10)
    assert_array_equal(profile.member_mask, mask)
    assert bits(profile.arrays["all_losses"]) == bits(losses)
    assert profile.parameters["loss"] == profile.results()["set"]["loss"] == "brier"
    assert profile.results()["set"]["noise"] is None


def test_the_selection_split_and_weights_count() -> None:
    scores, y = problem(12, 9, 3000, 3, "float32")
    chosen = np.random.default_rng(0).random(3000) < 0.5
    w = np.random.default_rng(1).random(3000)
    losses = own_brier.over(np.ascontiguousarray(scores[:, chosen]), y[chosen], sample_weight=w[chosen])
    profile = rc.profile(scores, y=y, loss=own_brier, epsilon=0.002, selection=chosen, sample_weight=w)
    assert bits(profile.arrays["all_losses"]) == bits(losses)
    assert_array_equal(profile.member_mask, rc.rashomon_mask(losses, 0.002))


def test_labels_come_before_the_target() -> None:
    scores, y = problem(13, 5, 2000, 3, "float32")
    target = np.random.default_rng(5).integers(0, 3, 2000)
    chosen = np.arange(2000) % 2 == 0

    def losses(**given: Any) -> Array:
        return rc.profile(scores, loss=own_brier, epsilon=0.1, selection=chosen, **given).arrays["all_losses"]

    half = np.ascontiguousarray(scores[:, chosen])
    assert bits(losses(y=y, target=target)) == bits(own_brier.over(half, y[chosen]))
    assert bits(losses(target=target)) == bits(own_brier.over(half, target[chosen]))
    with pytest.raises(rc.UsageError, match=r"'brier' needs labels. Fix: give y= .*or target="):
        losses()


@pytest.mark.parametrize("given", [own_brier.function, own_brier])
def test_functions_are_no_arrays_of_losses(given: object) -> None:
    with pytest.raises(rc.UsageError, match=r"Fix: decorate it with rc\.sample_loss"):
        rc.rashomon_mask(given, 0.1)
    if given is not own_brier:
        with pytest.raises(rc.UsageError, match=r"Fix: decorate it with rc\.sample_loss"):
            rc.profile(np.eye(3), y=[0, 1, 1], loss=given, epsilon=0.1)


# ----------------------------------------------------------------------------------------------------
# What is refused


def helper(scores: Array) -> float:
    return float(scores[0])


def _tuple(scores: Array, label: int) -> Any:
    return scores[0], label


def _text(scores: Array, label: int) -> Any:
    return "much"


def _nothing(scores: Array, label: int) -> Any:
    return None


def _sometimes(scores: Array, label: int) -> Any:
    return 1.0 if label == 0 else None


def _array(scores: Array, label: int) -> Any:
    return scores * 2


def _complex(scores: Array, label: int) -> Any:
    return scores[0] + 1j


def _generator(scores: Array, label: int) -> Any:
    yield scores[0]


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (_tuple, "a tuple"),
        (_text, "text"),
        (_nothing, r"nothing \(None\)"),
        (_sometimes, r"sometimes nothing \(None\)"),
        (_array, "an array"),
        (_complex, "a complex number"),
        (_generator, "a generator"),
    ],
)
def test_what_is_no_number(function: Any, what: str) -> None:
    loss = rc.sample_loss(function)
    line = function.__code__.co_firstlineno
    expected = rf"test_jit\.py:{line}: the loss '.*{function.__name__}' returns {what}\. Fix: return one number"
    with pytest.raises(rc.UsageError, match=expected):
        loss.over(np.array([[0.5, 0.5]]), [0, 1])


def _calls_python(scores: Array, label: int) -> Any:
    return helper(scores)


def _unknown_attribute(scores: Array, label: int) -> Any:
    return scores.loudness() + label


def _unknown_name(scores: Array, label: int) -> Any:
    return scores[label] + undefined  # type: ignore[name-defined]  # noqa: F821


def _mixed(scores: Array, label: int) -> Any:
    return scores[label] + "a"


def _opens_files(scores: Array, label: int) -> Any:
    with open("x") as f:
        return len(f.read())


def _imports(scores: Array, label: int) -> Any:
    import math as m

    return m.log(scores[label])


@pytest.mark.parametrize(
    ("function", "why", "offset"),
    [
        (_calls_python, "Untyped global name 'helper'", 1),
        (_unknown_attribute, "Unknown attribute 'loudness'", 1),
        (_unknown_name, "name 'undefined' is not defined", None),
        (_mixed, "No implementation of function .*add", 1),
        (_opens_files, "with", None),
        (_imports, "IMPORT_NAME", 1),
    ],
)
def test_what_does_not_compile(function: Any, why: str, offset: int | None) -> None:
    with pytest.raises(rc.UsageError, match=why) as caught:
        rc.sample_loss(function).over(np.array([[0.5, 0.5]]), [0, 1])
    text = str(caught.value)
    assert "cannot be compiled by Numba" in text
    assert "Fix: use numbers, NumPy and math only" in text
    assert "\n" not in text
    assert len(text) < 600
    if offset is not None:
        assert f"test_jit.py:{function.__code__.co_firstlineno + offset}: " in text


def test_what_is_no_function_of_two_arguments() -> None:
    def lonely(scores: Array) -> float:
        return 0.0

    def crowded(scores: Array, label: int, weight: float) -> float:
        return 0.0

    def keyed(scores: Array, label: int, *, power: float) -> float:
        return 0.0

    def starred(*given: Any) -> float:
        return 0.0

    for function in (lonely, crowded, keyed, starred):
        with pytest.raises(
            rc.UsageError, match=rf"test_jit\.py:\d+: {function.__name__}\(.*does not take two arguments"
        ):
            rc.sample_loss(function)
    for other in (math.log, 3, own_brier, np.abs):
        with pytest.raises(rc.UsageError, match="a sample loss is a plain function of"):
            rc.sample_loss(other)  # type: ignore[call-overload]
    for name in ("", "log_loss", "given"):
        with pytest.raises(rc.UsageError, match="cannot be named"):
            rc.sample_loss(own_brier.function, name=name)


def _nan_at(scores: Array, label: int) -> float:
    return math.nan if scores[0] == 0.25 else 1.0


def _minus(scores: Array, label: int) -> float:
    return -math.inf if scores[0] == 0.25 else 1.0


def _raises(scores: Array, label: int) -> float:
    if scores[0] == 0.25:
        raise ValueError("a quarter")
    return 1.0


def _outside(scores: Array, label: int) -> float:
    return scores[3] if scores[0] == 0.25 else 1.0


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("limits", [{"threads": 1}, {"threads": 2}, {"threads": 2, "memory": SMALL}])
@pytest.mark.parametrize(
    ("function", "what"),
    [
        (_nan_at, "returned nan"),
        (_minus, "returned -inf"),
        (_raises, "raised ValueError: a quarter"),
        (_outside, "raised IndexError: index is out of bounds"),
    ],
)
def test_the_first_place_is_named_whatever_the_limits(
    function: Any, what: str, limits: dict[str, Any], as_file: bool
) -> None:
    scores = np.full((4, 20_000, 3), 1 / 3)
    for k, i in ((3, 2), (1, 19_000), (2, 5), (1, 12_345)):
        scores[k, i] = [0.25, 0.25, 0.5]
    y = np.full(20_000, 2)
    ids = ["a", "b", "c", "d"]
    view = streamed(scores, model_ids=ids) if as_file else rc.Predictions.from_array(scores, model_ids=ids)
    with pytest.raises(rc.InvalidInputError) as caught:
        rc.sample_loss(function).over(view, y, **limits)
    text = str(caught.value)
    assert f"{function.__name__}' {what} at model 1 ('b'), sample 12345 with scores [0.25, 0.25, 0.5]" in text
    assert "and label 2. Fix: " in text
    assert "test_jit.py" in text
    if function is _raises:
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_place_among_two_classes_shows_both_scores() -> None:
    scores = np.full((2, 5000), 0.5)
    scores[1, 4999] = 0.75
    with pytest.raises(rc.InvalidInputError, match=r"model 1, sample 4999 with scores \[0\.25, 0\.75\] and label 1"):
        rc.sample_loss(_nan_at).over(scores, np.ones(5000, int))


def test_bad_data_are_named_before_the_function_is_blamed() -> None:
    scores = np.full((2, 5000, 3), 1 / 3)
    scores[0, 10] = [0.25, 0.25, 0.5]
    scores[1, 4000, 1] = np.nan
    with pytest.raises(rc.InvalidInputError, match="NaN or infinity in the scores at model 1, sample 4000, class 1"):
        rc.sample_loss(_nan_at).over(scores, np.zeros(5000, int))


def test_bad_labels_weights_and_kinds() -> None:
    scores = np.full((2, 4, 3), 1 / 3)
    with pytest.raises(rc.InvalidInputError, match=r"y outside 0\.\.2 at sample 1: value 3"):
        own_brier.over(scores, [0, 3, 1, 1])
    with pytest.raises(rc.InvalidInputError, match="y has shape"):
        own_brier.over(scores, [0, 1])
    with pytest.raises(rc.UsageError, match=r"'brier' needs labels\. Fix: give y"):
        own_brier.over(scores, None)
    with pytest.raises(rc.InvalidInputError, match="sample weights"):
        own_brier.over(scores, [0, 1, 1, 1], sample_weight=[1, -1, 1, 1])
    with pytest.raises(rc.InvalidInputError, match="scores must be floats"):
        own_brier.over(np.zeros((2, 4), int), [0, 1, 1, 1])
    with pytest.raises(rc.UsageError, match="'brier' needs scores, and these predictions are labels"):
        rc.profile(np.zeros((2, 4), int), y=[0, 1, 1, 1], loss=own_brier, epsilon=0.1)


def test_values_that_do_not_fit_are_refused() -> None:
    scores = np.full((3, 50_000), 0.5)
    with pytest.raises(rc.UsageError, match=r"3 models on 50000 samples take 0\.0012 GB of a budget of 0\.001 GB"):
        own_brier.per_sample(scores, np.zeros(50_000, int), memory=SMALL)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    loss = rc.sample_loss(own_brier.function)
    assert loss(np.array([0.25, 0.75]), 1) == 0.125
    with pytest.raises(rc.MissingDependencyError, match=r"'numba'.*pip install 'rashomon-core\[jit\]'"):
        loss.over(np.array([[0.5, 0.5]]), [0, 1])


def test_with_numba_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(rc.UsageError, match="NUMBA_DISABLE_JIT is set"):
        rc.sample_loss(own_brier.function).over(np.array([[0.5, 0.5]]), [0, 1])


def test_a_function_that_fails_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit._Reading, "_first", lambda *_: None)
    with pytest.raises(rc.InvalidInputError, match="but not when it was called again"):
        rc.sample_loss(_nan_at).over(np.full((1, 4), 0.75), [0, 1, 0, 1])


def test_several_threads_of_the_user_at_once() -> None:
    scores, y = problem(31, 6, 9001, 3, "float32")
    loss = rc.sample_loss(own_brier.function)
    with ThreadPoolExecutor(4) as pool:
        found = [f.result() for f in [pool.submit(loss.over, scores, y, threads=2) for _ in range(8)]]
    assert len({bits(losses) for losses in found}) == 1


def test_numba_is_loaded_when_a_loss_is_computed() -> None:
    code = (
        "import sys, numpy as np, rashomon_core as rc\n"
        "@rc.sample_loss\ndef f(s, y): return s[y]\n"
        "assert f(np.array([.5, .5]), 1) == .5 and 'numba' not in sys.modules\n"
        "f.over(np.array([[.5, .5]]), [0, 1]); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("loss", ["travels:good", "travels:plain"])
def test_a_loss_travels_by_name(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "travels.py").write_text(
        "import rashomon_core as rc\n"
        "@rc.sample_loss\ndef good(scores, label):\n    return 1.0 - scores[label]\n"
        "def plain(scores, label):\n    return 2.0 * scores[label]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = jit.find_loss(loss)
    assert found is not None
    code = "import pickle, sys; loss = pickle.load(sys.stdin.buffer); print(loss.name, loss([0.5, 0.75], 1))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(found),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )
    assert done.stdout.decode().split() == [loss, str(found([0.5, 0.75], 1))]
    monkeypatch.delitem(sys.modules, "travels")
