"""Predictions: any layout and dtype becomes the same view; bad data are refused with place, value and fix."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rashomon_core as rc
from rashomon_core.predictions import ArraySource, canonical_axes, canonical_view

Array = NDArray[Any]


class Blocks:
    """A source that is not in memory: it copies what is asked for, and counts the most that was asked for at once."""

    in_memory = False
    path = "blocks.npy"

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.dtype, self.largest = array, array.shape, array.dtype, 0

    def read(self, models: slice, samples: slice, out: Array | None = None) -> Array:
        block = self.array[models, samples]
        self.largest = max(self.largest, block.nbytes)
        if out is None:
            out = np.empty(block.shape, dtype=self.dtype.newbyteorder("="))
        assert out.flags.c_contiguous
        assert out.shape == block.shape
        out[...] = block
        return out


def tensor(kind: str, dtype: str, seed: int = 0) -> Array:
    if kind == "labels":
        return strategies.make_labels(seed, 5, 70, 2 if dtype == "bool" else 4, "uniform").astype(dtype)
    if kind == "binary":
        return strategies.make_binary_scores(seed, 5, 70, "uniform", dtype)
    return strategies.make_scores(seed, 5, 70, 3, "dirichlet", dtype)


CASES = [("labels", d) for d in strategies.LABEL_DTYPES] + [
    (k, d) for k in ("binary", "scores") for d in strategies.FLOAT_DTYPES
]


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_layouts_and_dtypes(kind: str, dtype: str, layout: str) -> None:
    plain = tensor(kind, dtype)
    held = strategies.apply_layout(plain, layout)
    view = rc.Predictions.from_array(held).validate()
    assert view.kind == ("labels" if kind == "labels" else "proba")
    assert view.shape == plain.shape
    assert (view.n_models, view.n_samples) == (5, 70)
    assert view.columns == (3 if kind == "scores" else 1)
    assert view.n_classes == {"labels": 2 if dtype == "bool" else 4, "binary": 2, "scores": 3}[kind]
    assert view.nbytes == plain.nbytes
    assert view.model_ids == ("0", "1", "2", "3", "4")
    assert not view.copied
    back = view.to_array()
    assert np.array_equal(back, plain)
    assert back.flags.c_contiguous
    assert back.dtype == np.dtype(dtype)
    assert np.array_equal(rc.decide(view), naive.decide(plain)) if kind != "labels" else True
    assert np.array_equal(rc.votes(view), rc.votes(rc.Predictions.from_array(plain)))


@pytest.mark.parametrize("order", list(itertools.permutations(["models", "samples", "classes"])))
def test_permuted_axes(order: tuple[str, ...]) -> None:
    plain = tensor("scores", "float32")
    held = plain.transpose([("models", "samples", "classes").index(a) for a in order])
    for axes in (order, ",".join(order), " , ".join(order)):
        view = rc.Predictions.from_array(held, axes=axes)
        assert np.array_equal(view.to_array(), plain)
        assert np.shares_memory(view.to_array() if order == ("models", "samples", "classes") else held, held)
        assert view.axes == order


def test_several_model_axes_and_a_single_model() -> None:
    plain = tensor("scores", "float64", 1)
    held = np.stack([plain, plain[:, :, ::-1]])  # (seeds, models, samples, classes)
    view = rc.Predictions.from_array(held, axes="seeds,models,samples,classes")
    assert np.array_equal(view.to_array(), held.reshape(10, 70, 3))
    assert not view.copied
    moved = rc.Predictions.from_array(
        np.ascontiguousarray(held.transpose(0, 2, 3, 1)), axes="seeds,samples,classes,models"
    )
    assert np.array_equal(moved.to_array(), held.reshape(10, 70, 3))
    assert moved.copied
    alone = rc.Predictions.from_array(plain[2], axes=("samples", "classes"))
    assert alone.shape == (1, 70, 3)
    assert np.array_equal(alone.to_array()[0], plain[2])
    vector = rc.Predictions.from_array(np.array([0, 1, 1]), axes="samples")
    assert vector.shape == (1, 3)
    assert vector.kind == "labels"


def test_canonical_axes_and_views_of_nothing() -> None:
    assert canonical_axes((2, 3), None) == ("models", "samples")
    for shape, axes in (
        ((0, 4), None),
        ((4, 0), None),
        ((2, 0, 3), None),
        ((0, 0), None),
        ((2, 0, 5), "seeds,models,samples"),
    ):
        names = canonical_axes(shape, axes)
        view = canonical_view(np.zeros(shape), names)
        assert view.ndim == 2 + ("classes" in names)
        with pytest.raises(rc.InvalidInputError, match=r"zero (models|samples|classes)"):
            rc.Predictions.from_array(np.zeros(shape), axes=axes)


@pytest.mark.parametrize(
    ("array", "options", "error", "words"),
    [
        (np.zeros(3), {}, rc.InvalidInputError, ["1 axes", "axes="]),
        (np.zeros((2, 3, 4, 2)), {}, rc.InvalidInputError, ["4 axes", "(2, 3, 4, 2)", "--axes"]),
        (np.zeros((2, 3)), {"axes": "models"}, rc.InvalidInputError, ["name 1 axes", "has 2"]),
        (np.zeros((2, 3)), {"axes": "models,classes"}, rc.InvalidInputError, ["'samples' once"]),
        (np.zeros((2, 3)), {"axes": "samples,samples"}, rc.InvalidInputError, ["'samples' once"]),
        (np.zeros((2, 3, 2)), {"axes": "a,a,samples"}, rc.InvalidInputError, ["no name twice"]),
        (np.zeros((2, 3), complex), {}, rc.InvalidInputError, ["complex128", "float64 for scores"]),
        (np.zeros((2, 3), object), {}, rc.InvalidInputError, ["object"]),
        (np.array([["a", "b"]]), {}, rc.InvalidInputError, ["<U1"]),
        (np.zeros((2, 3), "datetime64[s]"), {}, rc.InvalidInputError, ["datetime64"]),
        (np.zeros((2, 3), np.longdouble), {}, rc.InvalidInputError, ["float128"]),
        (np.zeros((2, 3)), {"kind": "labels"}, rc.InvalidInputError, ["'labels'", "float64", "convert the labels"]),
        (np.zeros((2, 3), int), {"kind": "proba"}, rc.InvalidInputError, ["'proba'", "int64", "floats"]),
        (np.zeros((2, 3)), {"kind": "odds"}, rc.UsageError, ["'odds'", "log_proba"]),
        (np.zeros((2, 3, 2), int), {}, rc.InvalidInputError, ["(2, 3, 2)", "one-hot"]),
        (np.zeros((2, 3), int), {"renormalize": True}, rc.UsageError, ["renormalize"]),
        (np.zeros((2, 3, 1)), {}, rc.InvalidInputError, ["single class", "P(class 1)"]),
        (np.zeros((2, 3, 2)), {"n_classes": 3}, rc.InvalidInputError, ["3 classes were stated", "have 2"]),
        (np.zeros((2, 3)), {"n_classes": 3}, rc.InvalidInputError, ["3 classes were stated", "have 2"]),
        (np.zeros((2, 3), int), {"n_classes": 0}, rc.InvalidInputError, ["0 classes"]),
        (np.zeros((2, 3), int), {"n_classes": 65537}, rc.InvalidInputError, ["65537 classes", "65536"]),
        (np.zeros((2, 3, 2)), {"class_names": ["a", "b", "c"]}, rc.InvalidInputError, ["3 class names for 2"]),
        (np.zeros((2, 3), int), {"class_names": ["a", "a"]}, rc.InvalidInputError, ["class id 'a'", "twice"]),
        (np.zeros((2, 3), int), {"model_ids": ["a"]}, rc.InvalidInputError, ["1 model ids for 2 models"]),
        (np.zeros((2, 3), int), {"model_ids": ["a", "a"]}, rc.InvalidInputError, ["model id 'a' occurs", "unique"]),
        (np.zeros((2, 3), int), {"sample_ids": [1, 2]}, rc.InvalidInputError, ["2 sample ids for 3 samples"]),
        (np.zeros((2, 3), int), {"sample_ids": [1, 2, "1"]}, rc.InvalidInputError, ["sample id '1'"]),
        (np.ma.masked_equal([[0, 1]], 1), {}, rc.InvalidInputError, ["masked", "fill"]),
    ],
)  # fmt: skip
def test_structure(array: Any, options: dict[str, Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as found:
        rc.Predictions.from_array(array, path="some.npy", **options)
    assert type(found.value) is error
    for word in words:
        assert word in str(found.value)
    if error is rc.InvalidInputError and not np.ma.isMaskedArray(array):
        assert str(found.value).startswith("some.npy: ")


VALUES = [
    ("proba", 3, np.nan, ["NaN or infinity", "class 1", "nan", "predict it again"]),
    ("proba", 3, np.inf, ["NaN or infinity", "class 1", "inf"]),
    ("proba", 3, -0.25, ["a negative probability", "class 1", "-0.25", "kind='logits'"]),
    ("proba", 3, 0.75, ["a row that sums to 1.75", "not to 1", "0.75", "renormalize=True (--renormalize)"]),
    ("proba", 1, np.nan, ["NaN or infinity", "nan"]),
    ("proba", 1, 1.25, ["a probability above 1", "1.25", "--kind"]),
    ("proba", 1, -0.25, ["a negative probability", "-0.25"]),
    ("logits", 3, -np.inf, ["NaN or infinity", "-inf"]),
    ("logits", 1, np.nan, ["NaN or infinity", "nan"]),
    ("log_proba", 3, np.nan, ["NaN or infinity", "nan"]),
    ("log_proba", 3, 800.0, ["a row that sums to inf", "--kind logits"]),
    ("log_proba", 1, 0.25, ["a log-probability above 0", "0.25", "--kind logits"]),
]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize(("kind", "columns", "value", "words"), VALUES)
def test_values(kind: Any, columns: int, value: float, words: list[str], ids: bool, dtype: str) -> None:
    shape = (3, 70, 3) if columns == 3 else (3, 70)
    scores = np.full(shape, 0.25 if columns == 1 else 0.0, dtype=dtype)
    if columns == 3:
        scores[:, :, 0], scores[:, :, 2] = 0.5, 0.5
    if kind == "log_proba":
        with np.errstate(divide="ignore"):
            scores = np.log(scores.astype("float64")).astype(dtype)
        if columns == 3:
            scores[..., 0] = scores[..., 2] = np.log(np.array(0.5))
    names = {"model_ids": ["a", "b", "c"], "sample_ids": [f"s{i}" for i in range(70)]} if ids else {}
    good = rc.Predictions.from_array(scores, kind=kind, path="p.npy", **names)  # type: ignore[arg-type]
    if not (kind == "log_proba" and dtype == "float16" and columns == 3):
        good.validate()
    scores[(1, 66, 1)[: scores.ndim]] = value
    scores[(2, 3, 1)[: scores.ndim]] = value
    where = "model 1 ('b'), sample 66 (id 's66')" if ids else "model 1, sample 66"
    for call in (good.validate, lambda: rc.profile(good, threads=2), lambda: rc.votes(good)):
        with pytest.raises(rc.InvalidInputError) as found:
            call()
        text = str(found.value)
        assert text.startswith("p.npy: ")
        for word in [where, *words]:
            assert word in text
        assert found.value.file == "p.npy"
        assert found.value.fix


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["proba", "log_proba"])
def test_renormalized_rows_of_zeros(kind: Any, dtype: str) -> None:
    scores = np.full((2, 10, 3), 2.0, dtype=dtype)
    rc.Predictions.from_array(scores, kind=kind, renormalize=True).validate()
    scores[1, 7] = 0 if kind == "proba" else -np.inf
    view = rc.Predictions.from_array(scores, kind=kind, renormalize=True)
    for call in (view.validate, lambda: rc.profile(view), lambda: rc.decide(view)):
        with pytest.raises(rc.InvalidInputError, match=r"a row of zeros.* model 1, sample 7\. Fix: remove"):
            call()


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64"])
def test_labels_out_of_range(dtype: str) -> None:
    labels = np.zeros((3, 600), dtype=dtype)
    labels[2, 577] = 5 if dtype.startswith("u") else -1
    view = rc.Predictions.from_array(labels, n_classes=3, path="l.npy", model_ids=list("abc"))
    for call in (view.validate, lambda: rc.profile(view), lambda: rc.pairwise_disagreement(view)):
        with pytest.raises(rc.InvalidInputError) as found:
            call()
        for word in ("l.npy: a label outside 0..2", "classes stated: 3", "model 2 ('c'), sample 577", "n_classes"):
            assert word in str(found.value)
        assert found.value.value == int(labels[2, 577])


def test_undeclared_classes_are_counted_once() -> None:
    source = Blocks(np.array([[0, 5], [1, 1]], dtype=np.uint16))
    view = rc.Predictions.from_source(source)
    assert view.n_classes == 6
    assert "6 classes" in repr(view)
    assert rc.Predictions.from_array(np.zeros((2, 3), int)).n_classes == 2
    big = np.zeros((1, 4), dtype=np.uint32)
    big[0, 2] = 65_536
    with pytest.raises(rc.InvalidInputError, match="sample 2: value 65536"):
        _ = rc.Predictions.from_array(big).n_classes


# --- take -------------------------------------------------------------------------------------------------------


@given(data=st.data(), seed=strategies.seeds())
def test_take(data: st.DataObject, seed: int) -> None:
    plain = tensor(data.draw(st.sampled_from(["labels", "binary", "scores"])), "float32", seed) if seed % 2 else tensor(
        "labels", "int16", seed
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    names = [f"m{k}" for k in range(5)]
    models: Any = data.draw(st.sampled_from([None, "mask", "order"]))
    samples: Any = data.draw(st.sampled_from([None, "mask", "order", "repeat"]))
    if models is not None:
        models = rng.random(5) < 0.6 if models == "mask" else rng.permutation(5)[: rng.integers(1, 6)]
        if models.dtype == bool:
            models[rng.integers(5)] = True
    if samples is not None:
        if samples == "mask":
            samples = rng.random(70) < 0.5
            samples[rng.integers(70)] = True
        else:
            samples = rng.permutation(70)[:40] if samples == "order" else rng.integers(0, 70, 90)
    expected = plain if models is None else plain[models]
    expected = expected if samples is None else expected[:, samples]
    ids = tuple(np.array(names)[slice(None) if models is None else models].tolist())
    held = strategies.apply_layout(plain, data.draw(strategies.layouts()))
    sources = (ArraySource(held), Blocks(held))
    for source in sources:
        view = rc.Predictions.from_source(source, model_ids=names).take(models, samples)
        assert np.array_equal(view.to_array(), expected)
        assert view.model_ids == ids
        n = expected.shape[1]
        half = view.source.read(slice(0, 1), slice(n // 2, n))
        assert np.array_equal(half, expected[:1, n // 2 :])
        again = view.take(np.array([0]), np.arange(view.n_samples)[::-1])
        assert np.array_equal(again.to_array(), expected[:1, ::-1])


def test_take_keeps_what_is_known_and_refuses_nonsense() -> None:
    view = rc.Predictions.from_array(
        tensor("labels", "uint8"), sample_ids=[f"s{i}" for i in range(70)], class_names=list("wxyz")
    )
    part = view.take([3, 1], [5, 2])
    assert part.model_ids == ("3", "1")
    assert part.sample_ids == ("s5", "s2")
    assert part.class_names == tuple("wxyz")
    assert part.n_classes == 4
    assert view.take(range(5)) is view
    nonsense: list[Any] = [[], [5], [-1], [0, 0], np.zeros(5, bool), np.ones(4, bool), [0.5], [[0]]]
    for models in nonsense:
        with pytest.raises(rc.InvalidInputError):
            view.take(models)
    for samples in ([], [70], np.zeros(70, bool)):
        with pytest.raises(rc.InvalidInputError):
            view.take(None, samples)


def test_a_sparse_selection_is_read_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from rashomon_core import predictions

    monkeypatch.setattr(predictions, "SCAN_BYTES", 4096)
    source = Blocks(np.arange(200_000, dtype=np.int32).reshape(2, -1) % 7)
    wanted = np.arange(0, 100_000, 997)
    view = rc.Predictions.from_source(source, n_classes=7).take(None, wanted)
    assert np.array_equal(view.to_array(), source.array[:, wanted])
    assert source.largest <= 4096


# --- what else comes in ---------------------------------------------------------------------------------------------


def test_frames_and_tensors() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    plain = tensor("labels", "int64")
    assert np.array_equal(rc.Predictions.from_array(pd.DataFrame(plain)).to_array(), plain)
    assert np.array_equal(
        rc.Predictions.from_array(pl.DataFrame(plain, schema=[str(i) for i in range(70)])).to_array(), plain
    )
    assert np.array_equal(rc.Predictions.from_array(plain.tolist()).to_array(), plain)

    class Lent:
        def __dlpack__(self, **options: Any) -> Any:
            return plain.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return plain.__dlpack_device__()

    view = rc.Predictions.from_array(Lent())
    assert isinstance(view.source, ArraySource)
    assert np.shares_memory(view.source.array, plain)


def test_views_are_frozen_and_print_in_one_line() -> None:
    view = rc.Predictions.from_array(tensor("scores", "float16"))
    assert repr(view) == "<Predictions proba: 5 models x 70 samples, 3 classes, float16>"
    assert view.row_tolerance == 1e-3
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.kind = "logits"  # type: ignore[misc]
