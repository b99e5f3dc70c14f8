"""Kernels that check, narrow and encode, and the library's own log and exp, on every instruction set."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import naive
import numpy as np
import pytest
import strategies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import on_each_isa
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from rashomon_core import _cpu, _encode, _scores

Array = NDArray[Any]
quick = settings(deadline=None, max_examples=40)


def bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint64)


# ----------------------------------------------------------------------------------------------------
# Instruction sets, sizes


def test_every_instruction_set_can_be_selected() -> None:
    assert _cpu.isa_available()[-1] == "base"
    assert on_each_isa(_cpu.isa_active) == list(_cpu.isa_available())


def test_default_instruction_set_is_the_named_one_or_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _cpu.isa_active()
    try:
        monkeypatch.delenv("RASHOMON_CORE_ISA", raising=False)
        assert _cpu.isa_select() == _cpu.isa_available()[0]
        monkeypatch.setenv("RASHOMON_CORE_ISA", "base")
        assert _cpu.isa_select() == "base"
        monkeypatch.setenv("RASHOMON_CORE_ISA", "sse9")
        with pytest.raises(ValueError, match=r"sse9.*RASHOMON_CORE_ISA.*Fix: one of .*base"):
            _cpu.isa_select()
        with pytest.raises(ValueError, match="sse9"):
            _cpu.isa_select("sse9")
        assert _cpu.isa_active() == "base"
    finally:
        _cpu.isa_select(before)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 4, 5, 8, 9, 255, 256, 257, 1000, 65_535, 65_536])
def test_planes_are_the_bits_of_the_last_class(n_classes: int) -> None:
    planes = _encode.plane_count(n_classes)
    assert planes >= 1
    assert 2**planes >= n_classes
    assert planes == 1 or 2 ** (planes - 1) < n_classes


@pytest.mark.parametrize(
    ("n", "groups"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (4096, 8), (10**12, 1_953_125_000)]
)
def test_groups_hold_512_samples(n: int, groups: int) -> None:
    assert _encode.group_count(n) == groups


# ----------------------------------------------------------------------------------------------------
# Labels to bytes


@quick
@given(
    dtype=st.sampled_from(strategies.LABEL_DTYPES),
    n_classes=strategies.class_counts(65_536),
    n=strategies.sample_counts(3000),
    bad=st.integers(0, 4),
    wide=st.booleans(),
    seed=strategies.seeds(),
)
def test_narrow_copies_labels_or_names_the_first_bad_one(
    dtype: str, n_classes: int, n: int, bad: int, wide: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lowest, highest = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    labels = rng.integers(0, min(n_classes - 1, int(highest)), n, endpoint=True).astype(dtype)
    # Just outside, and as far outside as the type goes; what the type cannot say is left out.
    outside = [x for x in (-1, n_classes, lowest, highest) if lowest <= x <= highest]
    outside = [x for x in outside if not 0 <= x < n_classes]
    for i in rng.integers(0, n, bad if outside else 0):
        labels[i] = outside[rng.integers(len(outside))]
    expected = next((i for i, x in enumerate(labels.tolist()) if not 0 <= int(x) < n_classes), -1)
    out_type = np.uint16 if wide or n_classes > 256 else np.uint8

    def run() -> tuple[int, Array]:
        out = np.full(n + 1, 77, dtype=out_type)
        return _encode.narrow(labels, n_classes, out[:-1]), out

    for first, out in on_each_isa(run):
        assert first == expected
        assert out[-1] == 77
        if expected < 0:
            assert_array_equal(out[:-1], labels.astype(np.int64))


def test_narrow_takes_its_own_input_as_output() -> None:
    labels = np.arange(200, dtype=np.uint8)
    assert on_each_isa(lambda: _encode.narrow(labels, 200, labels)) == [-1] * len(_cpu.isa_available())
    assert_array_equal(labels, np.arange(200))


def test_narrow_of_nothing() -> None:
    assert _encode.narrow(np.empty(0, np.int64), 3, np.empty(0, np.uint8)) == -1


# ----------------------------------------------------------------------------------------------------
# Decisions to bit planes


def planes_by_definition(decisions: Array, planes: int) -> NDArray[np.uint64]:
    """Bit s of word w of plane p in group g is bit p of the decision of sample 512 g + 64 w + s."""
    models, n = decisions.shape
    groups = -(-n // 512)
    padded = np.zeros((models, groups * 512), dtype=np.int64)
    padded[:, :n] = decisions
    out = np.zeros((models, groups, planes, 8), dtype=np.uint64)
    for s in range(64):
        by_word = padded.reshape(models, groups, 8, 64)[..., s]
        for p in range(planes):
            out[:, :, p, :] |= ((by_word >> p) & 1).astype(np.uint64) << np.uint64(s)
    return out


@quick
@given(
    n_models=st.integers(1, 4),
    n=strategies.sample_counts(1700),
    n_classes=strategies.class_counts(65_536),
    how=st.sampled_from(strategies.LABEL_KINDS),
    wide=st.booleans(),
    more=st.sampled_from([0, 0, 1]),
    seed=strategies.seeds(),
)
def test_encode_writes_every_bit(
    n_models: int, n: int, n_classes: int, how: str, wide: bool, more: int, seed: int
) -> None:
    labels = strategies.make_labels(seed, n_models, n, n_classes, how)
    decisions = labels.astype(np.uint16 if wide or n_classes > 256 else np.uint8)
    planes = _encode.plane_count(n_classes) + more
    expected = planes_by_definition(labels, planes)

    def run() -> Array:
        # Ones everywhere before: bits behind the last sample have to be cleared.
        out = np.full(expected.shape, 2**64 - 1, dtype=np.uint64)
        _encode.encode(decisions, out)
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 511, 512, 513, 575, 577])
@pytest.mark.parametrize("n_classes", [2, 200, 256, 257, 65_536])
def test_encode_at_the_ends_of_words_and_groups(n: int, n_classes: int) -> None:
    decisions = np.full((2, n), n_classes - 1, dtype=np.uint8 if n_classes <= 256 else np.uint16)
    planes = _encode.plane_count(n_classes)
    expected = planes_by_definition(decisions, planes)

    def run() -> Array:
        out = np.full(expected.shape, 2**64 - 1, dtype=np.uint64)
        _encode.encode(decisions, out)
        return out

    for out in on_each_isa(run):
        assert_array_equal(out, expected)


@quick
@given(
    n=strategies.sample_counts(9000),
    n_classes=strategies.class_counts(256),
    stored=st.booleans(),
    bad=st.booleans(),
    seed=strategies.seeds(),
)
def test_a_pass_over_bytes_writes_planes_counts_and_refuses(
    n: int, n_classes: int, stored: bool, bad: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, (3, n), dtype=np.uint8)
    reference = rng.integers(0, n_classes, n, dtype=np.uint8)
    P = _encode.plane_count(n_classes)
    expected = planes_by_definition(labels, P)
    refused = bad and n_classes < 256
    if refused:
        labels[rng.integers(3), rng.integers(n)] = rng.integers(n_classes, 256)

    def run() -> tuple[bool, Array, Array]:
        planes = np.full(expected.shape, 2**64 - 1, dtype=np.uint64)
        mismatches = np.zeros((1, 3), dtype=np.int64)
        tile = _scores.TilePass(
            n_samples=n,
            columns=0,
            n_classes=n_classes,
            n_models=3,
            kind="labels",
            planes=planes if stored else None,
            references=planes_by_definition(reference[None], P),
            mismatches=mismatches,
        )
        return tile.update(labels, 0, 0), planes, mismatches

    for sound, planes, mismatches in on_each_isa(run):
        assert sound is not refused
        if not refused:
            assert_array_equal(mismatches[0], (labels != reference).sum(axis=1))
            assert_array_equal(planes, expected if stored else np.full_like(planes, 2**64 - 1))


# ----------------------------------------------------------------------------------------------------
# Checks of rows


def row_is_wrong(row: list[float], kind: str, tolerance: float, renormalize: bool) -> bool:
    """One row of scores against the definition, in doubles; one score is P(class 1), its log, or its logit."""
    if any(math.isnan(x) or x == math.inf for x in row):
        return True
    if kind == "logits":
        return any(math.isinf(x) for x in row)
    if kind == "log_proba":
        if len(row) == 1:
            return row[0] > 0
        total = math.fsum(math.exp(x) for x in row) if max(row) < 700 else math.inf
        return max(row) == -math.inf if renormalize else abs(total - 1) > tolerance
    if any(x < 0 for x in row):
        return True
    if len(row) == 1:
        return row[0] > 1
    total = math.fsum(row)
    return total == 0 if renormalize else abs(total - 1) > tolerance


def spoil(row: Array, kind: str, rng: np.random.Generator) -> None:
    """Change one row (C,) into something that may be wrong (the oracle says whether it is)."""
    info = np.finfo(row.dtype)
    c = rng.integers(len(row))
    how = rng.integers(10)
    if how < 3:
        row[c] = [np.nan, np.inf, -np.inf][how]
    elif how == 3:
        row[c] = -info.smallest_subnormal
    elif how == 4:
        row[...] = -0.0
    elif how == 5:
        row[c] = np.nextafter(row.dtype.type(1), row.dtype.type(2))
    elif how == 6:
        row[...] = -np.inf if kind == "log_proba" else 0
    elif how == 7:
        row[...] = info.max if kind == "logits" else 2
    elif how == 8:
        row[c] += 0.01
    else:
        row *= 0.99


def make_kind(seed: int, n: int, columns: int, kind: str, dtype: str) -> Array:
    """Valid rows (n, columns) of a kind."""
    rng = np.random.default_rng(seed)
    if columns == 1:
        proba = strategies.make_binary_scores(seed, 1, n, "grid" if seed % 2 else "uniform", "float64")[0][:, None]
    else:
        proba = strategies.make_rows(rng, "mixed", 1, n, columns)[0]
    if kind == "proba":
        scores = proba.astype(dtype)
        scores[(scores == 0) & (rng.random(scores.shape) < 0.3)] = -0.0
        return scores
    if kind == "logits":
        return (rng.normal(size=(n, columns)) * rng.choice([0.1, 5.0, 500.0])).astype(dtype)
    with np.errstate(divide="ignore"):
        return np.minimum(np.log(proba), 0).astype(dtype)


@settings(deadline=None, max_examples=120)
@given(
    kind=st.sampled_from(["proba", "proba", "log_proba", "logits"]),
    dtype=strategies.score_dtypes(),
    columns=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 31, 32, 33, 40, 64, 65, 100, 300]),
    n=strategies.sample_counts(1100),
    renormalize=st.booleans(),
    spoiled=st.integers(0, 3),
    seed=strategies.seeds(),
)
def test_first_bad_row_is_the_first(
    kind: str, dtype: str, columns: int, n: int, renormalize: bool, spoiled: int, seed: int
) -> None:
    n = min(n, 1 + 12_000 // columns)
    rng = np.random.default_rng(seed)
    rows = make_kind(seed, n, columns, kind, dtype)
    tolerance = strategies.ROW_TOLERANCE[dtype]
    if kind == "log_proba" and dtype == "float16":
        tolerance = 0.05  # logs of half precision no longer sum to 1 within 1e-3
    if kind == "proba" and renormalize and columns > 1:
        rows *= rows.dtype.type(3)
    for i in rng.integers(0, n, spoiled):
        spoil(rows[i], kind, rng)
    expected = -1
    for i, row in enumerate(rows.tolist()):
        if kind == "proba" and columns > 1 and not renormalize and all(0 <= x <= 2 for x in row):
            assume(abs(abs(math.fsum(row) - 1) - tolerance) > 1e-3 * tolerance)
        if row_is_wrong(row, kind, tolerance, renormalize):
            expected = i
            break
    for found in on_each_isa(lambda: _encode.first_bad_row(rows, kind, tolerance, renormalize)):
        assert found == expected
    models = next(k for k in (5, 3, 2, 1) if n % k == 0)
    wide = np.full((models, n // models + 1, columns), np.nan, dtype=rows.dtype)  # what lies between models is not read
    apart = wide[:, :-1]
    apart[:] = rows.reshape(apart.shape)
    for found in on_each_isa(lambda: _encode.first_bad_row(apart, kind, tolerance, renormalize)):
        assert found == expected


@pytest.mark.parametrize("columns", [2, 3, 4, 10, 17, 32, 33, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float64", 1e-6)])
@pytest.mark.parametrize("kind", ["proba", "log_proba"])
def test_row_sums_at_the_tolerance(columns: int, dtype: str, tolerance: float, kind: str) -> None:
    n = 150
    # Powers of two: the row without its last score sums to 1/2 exactly.
    row = np.zeros(columns)
    row[: min(columns - 1, 30)] = 0.5 ** np.arange(2, 2 + min(columns - 1, 30))
    row[0] += 0.5 - row.sum()
    for sign in (-1, 1):
        inside, outside = (0.5 + sign * tolerance * share for share in (1 - 2e-3, 1 + 2e-3))
        rows = np.tile(row, (n, 1))
        rows[:, -1] = inside
        # Logs in single precision miss the sum by more than 2e-3 of a tolerance, but not by 20 %.
        rows[137, -1] = outside if kind == "proba" else 0.5 + sign * tolerance * 1.2
        if kind == "log_proba":
            rows[:137, -1] = 0.5 + sign * tolerance * 0.8
            with np.errstate(divide="ignore"):
                rows = np.log(rows)
        rows = rows.astype(dtype)
        assert set(on_each_isa(lambda x=rows: _encode.first_bad_row(x, kind, tolerance, False))) == {137}
        assert set(on_each_isa(lambda x=rows: _encode.first_bad_row(x[:137], kind, tolerance, False))) == {-1}
        assert set(on_each_isa(lambda x=rows: _encode.first_bad_row(x, kind, tolerance, True))) == {-1}


@pytest.mark.parametrize("dtype", strategies.FLOAT_DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 33])
def test_a_bad_value_is_found_wherever_it_is(columns: int, dtype: str) -> None:
    n = 67
    rows = make_kind(5, n, columns, "proba", dtype)
    for value in (np.nan, np.inf, -np.inf, -1e-6, 1.5):
        for i in range(n):
            for c in sorted({0, columns // 2, columns - 1}):
                spoiled = rows.copy()
                spoiled[i, c] = value
                for found in on_each_isa(lambda x=spoiled: _encode.first_bad_row(x, "proba", 1e-3, False)):
                    assert found == i


@pytest.mark.parametrize("columns", [2, 8, 32, 33, 64])
def test_rows_that_overflow_when_they_are_summed(columns: int) -> None:
    rows = np.full((3, columns), 1e308)
    rows[0] = 1.0 / columns
    # As logits they are finite numbers; as probabilities no sum can divide them.
    assert set(on_each_isa(lambda: _encode.first_bad_row(rows, "logits", 1e-6, False))) == {-1}
    for renormalize in (False, True):
        assert set(on_each_isa(lambda r=renormalize: _encode.first_bad_row(rows, "proba", 1e-6, r))) == {1}


# ----------------------------------------------------------------------------------------------------
# Log and exp


def exact(function: str, x: float) -> Decimal:
    with localcontext() as context:
        context.prec = 50
        context.Emin, context.Emax = -999_999, 999_999
        return Decimal(x).ln() if function == "log" else Decimal(x).exp()


def ulps(function: str, x: Array, got: Array) -> float:
    """Largest error in units of the last place of the exact value."""
    worst = 0.0
    with localcontext() as context:
        context.prec = 50
        for argument, value in zip(x.tolist(), got.tolist(), strict=True):
            true = exact(function, argument)
            unit = Decimal(math.ulp(float(true)))
            worst = max(worst, float(abs(Decimal(value) - true) / unit))
    return worst


def log_arguments() -> Array:
    rng = np.random.default_rng(11)
    one, half_root = 1.0, math.sqrt(0.5)
    neighbours = [
        centre * (1 + step * 2.0**-52) for centre in (one, half_root, 2 * half_root) for step in range(-20, 21)
    ]
    return np.concatenate(
        [
            2.0 ** rng.uniform(-1074, 1024, 600),
            rng.random(600),
            1 + rng.uniform(-1, 1, 600) * 10.0 ** rng.uniform(-15, -0.5, 600),
            np.array(neighbours),
            np.arange(1, 40) * 5e-324,
            2.0 ** np.arange(-1074, 1024, 13),
            np.array([2.2250738585072014e-308, 2.225073858507201e-308, np.finfo(np.float64).max]),
        ]
    )


def exp_arguments() -> Array:
    rng = np.random.default_rng(12)
    return np.concatenate(
        [
            rng.uniform(-745.2, 709.78, 700),
            rng.uniform(-2, 2, 600),
            rng.uniform(-745.2, -708, 200),
            rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-320, 2, 300),
            np.log(2) * (np.arange(-1074, 1024, 7) + 0.5),
            np.log(2) * np.arange(-1074, 1024, 7),
            np.array([0.0, -0.0, 709.782712893384, -745.133219101941, -745.1332191019412, -708.3964185322641]),
        ]
    )


def test_log_is_within_one_ulp() -> None:
    x = log_arguments()
    results = on_each_isa(lambda: _encode.log_exp(x)[0])
    assert ulps("log", x, results[0]) < 1.0
    for got in results:
        assert_array_equal(bits(got), bits(results[0]))


def test_exp_is_within_two_ulps() -> None:
    x = exp_arguments()
    results = on_each_isa(lambda: _encode.log_exp(x)[1])
    assert ulps("exp", x, results[0]) < 2.0
    for got in results:
        assert_array_equal(bits(got), bits(results[0]))


def test_log_and_exp_of_special_values() -> None:
    inf, nan = math.inf, math.nan
    x = np.array([0.0, -0.0, inf, -inf, nan, -5e-324, -1.0, 1.0, 709.7827128933841, 1e308, -745.2, -1e308])
    for log, exp in on_each_isa(lambda: _encode.log_exp(x)):
        assert_array_equal(log[:8], [-inf, -inf, inf, nan, nan, nan, nan, 0.0])
        assert_array_equal(exp[[0, 1, 2, 3, 4, 5, 8, 9, 10, 11]], [1, 1, inf, 0, nan, 1, inf, inf, 0, 0])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33])
def test_log_and_exp_do_not_depend_on_the_place_in_the_array(n: int) -> None:
    x = np.concatenate([log_arguments(), exp_arguments()])[::37][:33]
    alone = [_encode.log_exp(np.array([value])) for value in x[:n]]
    for log, exp in on_each_isa(lambda: _encode.log_exp(x[:n].copy())):
        assert_array_equal(log, [pair[0][0] for pair in alone])
        assert_array_equal(exp, [pair[1][0] for pair in alone])


@quick
@given(seed=strategies.seeds())
def test_log_and_exp_give_the_same_bits_on_every_instruction_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Any pattern of bits is a double.
    x = rng.integers(0, 2**64, 3001, dtype=np.uint64).view(np.float64)
    x[::2] = rng.normal(size=1501) * 300
    first, *others = on_each_isa(lambda: np.stack(_encode.log_exp(x)))
    for other in others:
        assert_array_equal(np.isnan(other), np.isnan(first))
        assert_array_equal(bits(np.nan_to_num(other)), bits(np.nan_to_num(first)))


def test_naive_softmax_agrees_with_exp() -> None:
    z = np.random.default_rng(3).normal(size=(1, 40, 5)) * 4
    p = naive.softmax(z)
    powers = _encode.log_exp((z - z.max(axis=-1, keepdims=True)).ravel())[1].reshape(z.shape)
    np.testing.assert_allclose(powers / powers.sum(axis=-1, keepdims=True), p, rtol=1e-14)
