"""Chunks, merges and files that an accumulator refuses: it says what and where, and is as it was."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from numpy.typing import NDArray

import rashomon_core as rc

Array = NDArray[Any]
IDS = ("m0", "m1", "m2", "m3")


def scores_of(M: int = 4, N: int = 600, C: int = 3) -> Array:
    return strategies.make_scores(1, M, N, C, "dirichlet", "float32")


def view_of(x: Array, ids: Any = None) -> rc.Predictions:
    return rc.Predictions.from_array(x, model_ids=ids)


def test_nan_in_a_late_chunk_is_named_in_the_numbers_of_the_whole() -> None:
    x = scores_of()
    acc = rc.MultiplicityAccumulator(4, 600, 3, kind="proba", target=np.zeros(600, dtype=int))
    acc.update(x[:, :500], samples=slice(0, 500))
    before = pickle.dumps(acc)
    bad = x.copy()
    bad[3, 598, 1] = np.nan
    with pytest.raises(rc.InvalidInputError, match=r"NaN or infinity .* at model 3, sample 598, class 1: value"):
        acc.update(bad[2:, 500:], models=slice(2, 4), samples=slice(500, 600))
    named = view_of(bad[2:, 500:], IDS[2:])
    with pytest.raises(rc.InvalidInputError, match=r"at model 3 \('m3'\), sample 598, class 1"):
        acc.update(named, models=slice(2, 4), samples=slice(500, 600))
    assert pickle.dumps(acc) == before
    acc.update(x[:, 500:], samples=slice(500, 600))
    assert acc.results() == rc.profile(x, target=np.zeros(600, dtype=int), metrics="pass").results()


def test_a_label_outside_the_classes_in_a_late_chunk() -> None:
    labels = np.zeros((3, 40), dtype=int)
    labels[2, 39] = 4
    acc = rc.MultiplicityAccumulator(3, 40, 4, kind="labels").update(labels[:2], models=slice(0, 2))
    for chunk in (labels[2:, 30:], rc.Predictions.from_array(labels[2:, 30:])):
        with pytest.raises(rc.InvalidInputError, match=r"outside 0\.\.3.* at model 2, sample 39: value 4"):
            acc.update(chunk, models=slice(2, 3), samples=slice(30, 40))


def test_models_in_another_order() -> None:
    x = scores_of()
    acc = rc.MultiplicityAccumulator(4, 600, 3, kind="proba", model_ids=IDS)
    message = r"the chunk calls it 'm1', and it is 'm0' elsewhere at model 0\. Fix: give the models of all chunks"
    with pytest.raises(rc.InvalidInputError, match=message):
        acc.update(view_of(x[[1, 0, 2, 3]], ("m1", "m0", "m2", "m3")))
    acc.update(view_of(x[:2], IDS[:2]), models=slice(0, 2)).update(x[2:], models=slice(2, 4))
    assert acc.results()["discrepancy"]["value"] is None
    assert acc.model_ids == IDS
    free = rc.MultiplicityAccumulator(4, 600, 3, kind="proba")  # the first chunk that has names gives them
    free.update(view_of(x[:, :300], IDS), samples=slice(0, 300))
    before = pickle.dumps(free)
    with pytest.raises(rc.InvalidInputError, match="model 2"):
        free.update(view_of(x[2:, 300:], ("m3", "m2")), models=slice(2, 4), samples=slice(300, 600))
    other = free.fresh().update(view_of(x[:, 300:], ("m0", "m1", "m3", "m2")), samples=slice(300, 600))
    with pytest.raises(rc.InvalidInputError, match="calls it 'm3', and it is 'm2'"):
        free.merge(other)
    assert pickle.dumps(free) == before
    free.update(x[:, 300:], samples=slice(300, 600))
    assert free.results() == rc.profile(view_of(x, IDS), metrics="pass").results()


def test_samples_that_are_not_covered() -> None:
    x = scores_of()
    acc = rc.MultiplicityAccumulator(4, 600, 3, kind="proba")
    assert not acc.covers()
    acc.update(x[:, :100], samples=slice(0, 100)).update(x[:, 200:], samples=slice(200, 600))
    for call in (acc.compute, acc.results):
        with pytest.raises(rc.InvalidInputError, match="0 of 4 models were given at sample 100"):
            call()
    acc.update(x[1:3, 100:200], models=slice(1, 3), samples=slice(100, 200))
    with pytest.raises(rc.InvalidInputError, match=r"2 of 4 models were .* sample 100\..* model 0 is the first that"):
        acc.results()
    assert acc.covers(slice(1, 3))
    assert not acc.covers(slice(0, 3))
    assert acc.covers(samples=slice(200, 500))
    acc.update(x[:1, 100:200], models=slice(0, 1), samples=slice(100, 200))
    acc.update(x[3:, 100:200], models=slice(3, 4), samples=slice(100, 200))
    assert acc.covers()
    acc.results()


def test_capacity_of_three_classes_needs_all_models() -> None:
    x = scores_of()
    acc = rc.MultiplicityAccumulator(4, 600, 3, kind="proba", metrics="all")
    before = pickle.dumps(acc)
    with pytest.raises(rc.UsageError, match=r"of 3 classes needs all 4 models .* models 0\.\.1 were given\. Fix"):
        acc.update(x[:2], models=slice(0, 2))
    assert pickle.dumps(acc) == before
    for i in (1, 0):
        acc.update(x[:, 300 * i : 300 * i + 300], samples=slice(300 * i, 300 * i + 300))
    found = acc.compute()
    solved = rc.rashomon_capacity(x)
    assert np.array_equal(found["rashomon_capacity_lower"], solved.lower)
    assert np.array_equal(found["rashomon_capacity_upper"], solved.upper)


def test_pairs() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (5, 40))
    acc = rc.MultiplicityAccumulator(5, 40, 3, kind="labels", metrics="all", pairs=True)
    a, b = slice(0, 2), slice(2, 5)
    acc.update(labels[a], models=a).update(labels[b], models=b)
    with pytest.raises(rc.InvalidInputError, match=r"4 of 10 pairs of models .* sample 0\. Fix: update_pairs"):
        acc.results()
    before = pickle.dumps(acc)
    with pytest.raises(rc.UsageError, match=r"models 0\.\.1 and 1\.\.4 overlap"):
        acc.update_pairs(labels[1:], labels[a], left=slice(1, 5), right=a)
    with pytest.raises(rc.InvalidInputError, match="a chunk of 2 models x 39 samples for slices of 2 x 40"):
        acc.update_pairs(labels[a, 1:], labels[b], left=a, right=b)
    assert pickle.dumps(acc) == before
    acc.update_pairs(labels[b, :30], labels[a, :30], left=b, right=a, samples=slice(0, 30))
    with pytest.raises(rc.InvalidInputError, match=r"pairs of models were given before at models 0\.\.0, sample 29"):
        acc.update_pairs(labels[:1, 29:], labels[b, 29:], left=slice(0, 1), right=b, samples=slice(29, 40))
    acc.update_pairs(labels[a, 30:], labels[b, 30:], left=a, right=b, samples=slice(30, 40))
    assert acc.results() == rc.profile(rc.Predictions.from_array(labels, n_classes=3)).results()
    assert np.array_equal(acc.compute()["pairwise_disagreement"], rc.pairwise_disagreement(labels))
    plain = rc.MultiplicityAccumulator(5, 40, 3, kind="labels", metrics="all").update(labels)
    assert "pairs=True" in plain.results()["pairwise_discrepancy"]["reason"]
    assert plain.results()["pairwise_disagreement"].keys() == {"mean"}
    with pytest.raises(rc.UsageError, match="pairs=True"):
        plain.update_pairs(labels[a], labels[b], left=a, right=b)


def test_what_differs_is_named() -> None:
    ones, twos = np.ones(30, dtype=int), np.full(30, 2)
    base: dict[str, Any] = {"kind": "labels", "target": ones, "metrics": "all"}
    first = rc.MultiplicityAccumulator(3, 30, 3, **base)
    for change, name in (
        ({"target": twos}, "reference, target"),
        ({"y": ones}, "y"),
        ({"sample_weight": ones}, "sample_weight"),
        ({"groups": ones}, "groups"),
        ({"ddof": 1}, "ddof"),
        ({"pairs": True}, "pairs"),
        ({"positive": 2}, "positive"),
        ({"metrics": "pass"}, "metrics"),
        ({"model_ids": ("a", "b", "c")}, "model_ids"),
        ({"capacity_tol": 1e-3}, "capacity_tol"),
        ({"class_names": ("a", "b", "c")}, "class_names"),
    ):
        other = rc.MultiplicityAccumulator(3, 30, 3, **{**base, **change})
        with pytest.raises(rc.InvalidInputError, match=f"differ in {name}. Fix"):
            first.merge(other)
        header, arrays = other.state()
        with pytest.raises(rc.InvalidInputError, match="differs in its settings"):
            first.absorb(header, arrays)
    first.merge(rc.MultiplicityAccumulator(3, 30, 3, **base))


def test_settings_that_make_no_sense() -> None:
    make: Any = rc.MultiplicityAccumulator
    for error, more, message in (
        (rc.UsageError, {"threshold": 0.5}, "threshold is for two classes"),
        (rc.UsageError, {"ddof": 2}, "ddof=2"),
        (rc.UsageError, {"positive": 3}, "positive=3"),
        (rc.UsageError, {"missing": "drop"}, "missing='drop'"),
        (rc.UsageError, {"reference": 0}, "give decisions as an array"),
        (rc.UsageError, {"reference": "m0"}, "neither 'target' nor 'labels'"),
        (rc.UsageError, {"reference": "labels"}, "needs true labels"),
        (rc.UsageError, {"capacity_tol": -1.0}, "tol=-1.0"),
        (rc.UsageError, {"delta": 0.1}, "delta metrics compare scores of two classes"),
        (rc.UsageError, {"delta": float("nan")}, "delta=nan"),
        (rc.InvalidInputError, {"target": [0, 1]}, r"target has shape \(2,\) for 4 samples"),
        (rc.InvalidInputError, {"y": [0, 1, 2, 3]}, "sample 3: value 3"),
        (rc.InvalidInputError, {"sample_weight": [1, 1, -1, 1]}, "sample 2: value -1.0"),
        (rc.InvalidInputError, {"groups": ["a", None, "b", "b"]}, "missing value at sample 1"),
        (rc.InvalidInputError, {"model_ids": ["a"]}, "1 model ids for 2 models"),
    ):
        with pytest.raises(error, match=message):
            make(2, 4, 3, kind="proba", **more)
    acc = make(2, 4, 3, kind="proba").update(scores_of(2, 4))
    for size in (0, 3):
        with pytest.raises(rc.UsageError, match=f"size={size} is not between 1 and the 2 models"):
            acc.results(size=size)
    with pytest.raises(rc.UsageError, match="fairness_threshold names 'odds'"):
        acc.results(fairness_threshold={"odds": 0.1})


def test_what_only_summaries_ask_for() -> None:
    rng = np.random.default_rng(2)
    x, y, groups = scores_of(), rng.integers(0, 3, 600), rng.integers(0, 4, 600).astype(str)
    y[groups == "3"] = 0
    given: dict[str, Any] = {"y": y, "target": x[0], "groups": groups, "metrics": "all"}
    acc = rc.MultiplicityAccumulator(4, 600, 3, kind="proba", pairs=True, **given)
    acc.update(x[:, :77], samples=slice(0, 77)).update(x[:, 77:], samples=slice(77, 600))
    for more in ({"size": 2}, {"fairness_threshold": 0.9}, {"skip_undefined": True, "size": 4}):
        found, expected = acc.results(**more), rc.profile(x, **given, **more).results()
        found.pop("losses"), expected.pop("losses")  # the only floats that are cut elsewhere
        assert found == expected
    assert acc.compute()["rates"].counts.sum() == 4 * 600


# --- files


def saved(tmp_path: Path) -> tuple[rc.MultiplicityAccumulator, Path]:
    rng = np.random.default_rng(3)
    x = scores_of(C=2)
    acc = rc.MultiplicityAccumulator(
        4,
        600,
        2,
        kind="proba",
        metrics="all",
        pairs=True,
        target=x[1],
        y=rng.integers(0, 2, 600),
        groups={"sex": rng.integers(0, 2, 600), "age": rng.integers(0, 3, 600)},
        sample_weight=rng.random(600),
        threshold=0.3,
        model_ids=IDS,
        class_names=("no", "yes"),
    )
    acc.update(x[:2, 200:], models=slice(0, 2), samples=slice(200, 600))
    acc.save(tmp_path / "acc.npz")
    return acc, tmp_path / "acc.npz"


def test_what_was_saved_goes_on(tmp_path: Path) -> None:
    acc, path = saved(tmp_path)
    x = scores_of(C=2)
    back = rc.MultiplicityAccumulator.load(path)
    assert os.listdir(tmp_path) == ["acc.npz"]
    assert back.nbytes == acc.nbytes
    for each in (acc, back, pickle.loads(pickle.dumps(acc))):
        each.update(x[2:, 200:], models=slice(2, 4), samples=slice(200, 600))
        each.update_pairs(x[:2, 200:], x[2:, 200:], left=slice(0, 2), right=slice(2, 4), samples=slice(200, 600))
        each.update(x[:, :200], samples=slice(0, 200))
    assert json.dumps(back.results()) == json.dumps(acc.results())
    assert back.model_ids == IDS
    acc.merge(acc.fresh())
    back.save(path)
    again = rc.MultiplicityAccumulator.load(path)
    assert json.dumps(again.results()) == json.dumps(acc.results())
    again.fresh().merge(acc)


def test_nothing_in_the_file_is_pickled(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    with np.load(path, allow_pickle=False) as held:
        assert all(held[name].dtype != object for name in held.files)


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    data = path.read_bytes()
    load = rc.MultiplicityAccumulator.load
    with pytest.raises(rc.InvalidInputError, match=r"none\.npz: the file does not exist"):
        load(tmp_path / "none.npz")
    other = tmp_path / "other.npz"
    for damaged in (b"", data[:100], data[:-30], data[: len(data) // 2], b"x" * 50):
        other.write_bytes(damaged)
        with pytest.raises(rc.InvalidInputError, match=r"other\.npz: .*(damaged|cannot be read)"):
            load(other)
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(0, len(data), 150).tolist():  # a byte of the data is under a checksum
        other.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            back = load(other)
        except rc.InvalidInputError:
            refused += 1
        else:  # a byte of the container that nobody reads, such as a date
            assert pickle.dumps(back.state()) == pickle.dumps(load(path).state())
    assert refused > 100
    np.savez(other, a=np.zeros(3))
    with pytest.raises(rc.InvalidInputError, match="no checkpoint"):
        load(other)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(rc.InvalidInputError, match="no checkpoint"):
        load(tmp_path / "a.npy")
    with zipfile.ZipFile(path) as held, zipfile.ZipFile(other, "w") as less:
        for name in held.namelist()[:-1]:  # an array is gone
            less.writestr(name, held.read(name))
    with pytest.raises(rc.InvalidInputError, match=r"damaged"):
        load(other)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    acc, _ = saved(tmp_path)
    with pytest.raises(rc.OutputError, match="does not exist"):
        acc.save(tmp_path / "none" / "acc.npz")
    with pytest.raises(rc.OutputError, match="a folder has this name"):
        acc.save(tmp_path)


def test_a_state_that_does_not_fit() -> None:
    acc = rc.MultiplicityAccumulator(2, 40, 3, kind="labels").update(np.zeros((2, 40), dtype=int))
    header, arrays = acc.state()
    short = {name: x[:-1] for name, x in arrays.items()}
    for h, a in ((header, {}), (header, short), ({**header, "spans": None}, arrays)):
        with pytest.raises(rc.InvalidInputError, match="damaged"):
            acc.fresh().absorb(h, a)
    for x in arrays.values():
        x.flags.writeable = False  # as they come from a network
    merged = acc.fresh().absorb(header, arrays)
    assert merged.results() == acc.results()
