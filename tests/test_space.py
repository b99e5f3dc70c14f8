"""The space of inputs: what is read off a pool, draws, mixtures, encodings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from query_data import GROUPS, N, collector, pool_of

from rashomon_core.errors import AnswersError, UsageError
from rashomon_core.extraction.queries import FeatureSpace
from rashomon_core.extraction.rows import row_hashes

# ---------------------------------------------------------------------------------------------- the space


def test_space_reads_a_pool() -> None:
    X, space = pool_of("numbers")
    np.testing.assert_array_equal(space.low, np.nanmin(X, axis=0))
    np.testing.assert_array_equal(space.high, np.nanmax(X, axis=0))
    np.testing.assert_allclose(space.mean, np.nanmean(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(space.std, np.nanstd(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(space.missing, np.isnan(X).mean(axis=0), atol=1e-12)
    frame, space = pool_of("frame")
    assert [frame.columns[j] for j in space.numeric] == ["age", "income", "children", "small"]
    assert space.whole.tolist() == [True, False, True, False]
    assert [frame.columns[c.column] for c in space.categories] == ["sex", "job", "grade", "member"]
    job = space.categories[1]
    expected = frame["job"].value_counts(normalize=True)
    assert dict(zip(job.values, job.share, strict=True)) == pytest.approx(expected.to_dict())
    assert job.missing == pytest.approx(frame["job"].isna().mean())
    X, space = pool_of("mixed array")
    assert space.numeric.tolist() == [0, 4]
    np.testing.assert_allclose(space.groups[0].share, X[:, 1:4].mean(axis=0))


def test_large_pools_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    X, whole = pool_of("images")
    draw = whole.marginals(20, np.random.default_rng(0))
    monkeypatch.setattr("rashomon_core.extraction.space.CHUNK", 250)
    parts = FeatureSpace.from_pool(X)
    for name in ("low", "high", "mean", "std", "missing"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(draw, parts.marginals(20, np.random.default_rng(0)))


def test_moments_of_the_samples() -> None:
    n, rng = 20_000, np.random.default_rng(3)
    X, space = pool_of("mixed array")
    box, gauss, marginal = space.box(n, rng), space.gaussian(n, rng), space.marginals(n, rng)
    wide = 5 / math.sqrt(n)
    np.testing.assert_allclose(box[:, [0, 4]].mean(axis=0), (space.low + space.high) / 2, atol=wide * 2)
    np.testing.assert_allclose(gauss[:, [0, 4]].mean(axis=0), space.mean, atol=wide)
    np.testing.assert_allclose(gauss[:, [0, 4]].std(axis=0), space.std, atol=wide)
    np.testing.assert_allclose(marginal[:, [0, 4]].mean(axis=0), space.mean, atol=wide)
    np.testing.assert_allclose(box[:, 1:4].mean(axis=0), 1 / 3, atol=wide)
    np.testing.assert_allclose(gauss[:, 1:4].mean(axis=0), X[:, 1:4].mean(axis=0), atol=wide)
    np.testing.assert_allclose(marginal[:, 5:7].mean(axis=0), X[:, 5:7].mean(axis=0), atol=wide)
    assert not np.isnan(box).any()
    assert not np.isnan(gauss).any()
    assert np.isnan(marginal[:, 7]).mean() == pytest.approx(np.isnan(X[:, 7]).mean(), abs=wide)
    for value in (2.0, 5.0, 7.5):
        assert (box[:, 7] == value).mean() == pytest.approx(1 / 3, abs=wide)
        assert (marginal[:, 7] == value).mean() == pytest.approx((X[:, 7] == value).mean(), abs=wide)
    correlation = np.corrcoef(marginal[:, 0], marginal[:, 1])[0, 1]
    assert abs(correlation) < wide


def test_whole_columns_have_every_value_alike() -> None:
    space = FeatureSpace.from_pool(np.array([[-2, 0], [1, 255]], dtype=np.int16))
    X = space.box(8000, np.random.default_rng(0))
    assert X.dtype == np.int16
    values, counts = np.unique(X[:, 0], return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1]
    assert counts.min() > 1800
    assert (X[:, 1].min(), X[:, 1].max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float32, bool])
def test_extremes_of_a_dtype_do_not_wrap(dtype: Any) -> None:
    if dtype is bool:
        low, high = False, True
    else:
        info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
        low, high = info.min, info.max
    X = np.array([[low], [high]], dtype=dtype)
    space = FeatureSpace.from_pool(X)
    for draw in (space.box, space.gaussian, space.marginals):
        found = draw(500, np.random.default_rng(0))
        assert found.dtype == dtype
        assert np.isfinite(found.astype(np.float64)).all()
        if dtype is not bool:
            assert (found > 0).mean() > 0.3  # a wrapped value lands on the other side


def test_columns_without_a_value_and_constant_columns() -> None:
    X = np.array([[np.nan, 3.0, 1.0], [np.nan, 3.0, 2.0]])
    space = FeatureSpace.from_pool(X)
    assert space.missing.tolist() == [1.0, 0.0, 0.0]
    assert space.std[1] == 0
    rng = np.random.default_rng(0)
    for found in (space.box(9, rng), space.gaussian(9, rng), space.marginals(9, rng), space.mix(X, X, np.ones(2), rng)):
        assert np.isnan(found[:, 0]).all()
        assert (found[:, 1] == 3).all()
    assert space.encode(X).tolist() == [[0, 0, -1], [0, 0, 1]]


def test_mixtures() -> None:
    X, space = pool_of("mixed array")
    a, b, rng = X[:50], X[50:100], np.random.default_rng(0)
    share = rng.random(50)
    found = space.mix(a, b, share, rng)
    for j in (0, 4):
        np.testing.assert_allclose(found[:, j], share * a[:, j] + (1 - share) * b[:, j])
    for group in (*GROUPS, [7]):
        from_a = [row_hashes(found[i : i + 1, group]) == row_hashes(a[i : i + 1, group]) for i in range(50)]
        from_b = [row_hashes(found[i : i + 1, group]) == row_hashes(b[i : i + 1, group]) for i in range(50)]
        assert all(x or y for x, y in zip(from_a, from_b, strict=True))
        assert not all(from_a)
        assert not all(from_b)
    X, space = pool_of("numbers")
    a, b = X[:50], X[50:100]
    found = space.mix(a, b, np.full(50, 1.0), rng)
    np.testing.assert_array_equal(found, a)  # missing stays missing where all comes from one parent
    found = space.mix(a, b, np.full(50, 0.5), rng)
    gone = np.isnan(a) | np.isnan(b)
    np.testing.assert_allclose(found[~gone], (a / 2 + b / 2)[~gone])
    with np.errstate(invalid="ignore"):
        assert ((found == a) | (found == b) | np.isnan(found))[gone].all()


def test_mixup_of_a_few_seeds() -> None:
    X = np.random.default_rng(0).normal(size=(100, 3))
    c = collector({"name": "mixup", "seeds": 2}, pool=X, space=None, reserved=None)
    c.collect(60)
    centred = c.X - c.X.mean(axis=0)
    assert np.linalg.matrix_rank(centred, tol=1e-8) == 1  # all on the line between two rows
    c = collector("mixup", pool=X, space=None, reserved=np.arange(100) >= 2)
    c.collect(10)
    np.testing.assert_allclose(np.linalg.matrix_rank(c.X - c.X[0], tol=1e-8), 1)
    with pytest.raises(AnswersError, match="two parents at least, there are 1"):
        collector("mixup", pool=X, space=None, reserved=np.arange(100) >= 1).collect(1)


def test_encoding() -> None:
    frame, space = pool_of("frame")
    points = space.encode(frame)
    assert points.shape == (N, 4 + 2 + 3 + 2 + 2)
    age = frame["age"].to_numpy(dtype=float)
    np.testing.assert_allclose(points[:, 0], (age - age.mean()) / age.std(), rtol=1e-12)
    assert (points[frame["income"].isna().to_numpy(), 1] == 0).all()
    np.testing.assert_array_equal(points[:, 6:9].sum(axis=1), frame["job"].notna().to_numpy())
    strange = frame.head(2).assign(sex=["x", "f"])
    assert space.encode(strange)[:, 4:6].sum(axis=1).tolist() == [0, 1]
    X, space = pool_of("mixed array")
    np.testing.assert_array_equal(space.encode(X)[:, 5:8], X[:, 1:4])
    X, space = pool_of("numbers")
    points, common = space.encode(X, "column"), space.encode(X, "common")
    np.testing.assert_array_equal(space.encode(X), points)
    np.testing.assert_allclose(common, points * space.std / np.sqrt(np.mean(space.std**2)))
    with pytest.raises(UsageError, match="scale"):
        space.encode(X, "big")
    X, space = pool_of("images")
    np.testing.assert_array_equal(space.encode(X), space.encode(X, "common"))
    assert not np.array_equal(space.encode(X), space.encode(X, "column"))
    texts, space = pool_of("texts")
    points = space.encode(texts)
    assert points.shape == (N, 256)
    np.testing.assert_allclose((points**2).sum(axis=1), 1)
    assert (space.encode(texts[:3]) == points[:3]).all()


def test_text_marginals() -> None:
    texts = np.array(["a a a b", "a b"], dtype=object)
    found = FeatureSpace.from_pool(texts).marginals(3000, np.random.default_rng(0))
    lengths = [len(t.split()) for t in found]
    assert set(lengths) == {2, 4}
    assert np.mean(lengths) == pytest.approx(3, abs=0.1)
    words = " ".join(found).split()
    assert words.count("a") / len(words) == pytest.approx(4 / 6, abs=0.02)


def test_detecting_one_hot_groups_is_asked_for() -> None:
    X, _ = pool_of("mixed array")
    assert FeatureSpace.detect_one_hot(X[:, :7]) == GROUPS
    assert FeatureSpace.from_pool(X).groups == ()
    pd = pytest.importorskip("pandas")
    frame = pd.get_dummies(pd.DataFrame({"n": [1.5, 2, 3], "c": ["x", "y", "z"]}))
    assert FeatureSpace.detect_one_hot(frame) == [["c_x", "c_y", "c_z"]]
    space = FeatureSpace.from_pool(frame, one_hot=FeatureSpace.detect_one_hot(frame))
    found = space.box(50, np.random.default_rng(0))
    assert (found.dtypes == frame.dtypes).all()
    assert (found.iloc[:, 1:].sum(axis=1) == 1).all()
    assert FeatureSpace.detect_one_hot(np.array(["a b"], dtype=object)) == []
    assert FeatureSpace.detect_one_hot(np.array([[1, 0], [1, 0]])) == []
    assert FeatureSpace.detect_one_hot(np.array([[1, 0, 0, 1], [0, 0, 1, 0]])) == [[0, 1, 2]]
