"""The inputs that tests draw are what they are called."""

from __future__ import annotations

import numpy as np
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

quick = settings(deadline=None, max_examples=30)


@quick
@given(strategies.label_problems(), st.sampled_from(strategies.LAYOUTS))
def test_label_problems_are_valid(problem: strategies.LabelProblem, layout: str) -> None:
    n, c = problem.labels.shape[1], problem.n_classes
    for labels in (problem.labels, problem.reference, problem.target, problem.y):
        assert labels.shape[-1] == n
        assert labels.dtype.kind in "iub"
        assert 0 <= int(labels.min()) <= int(labels.max()) < c
    assert len(problem.groups) == n
    if problem.weights is not None:
        assert problem.weights.shape == (n,)
        assert np.isfinite(problem.weights).all()
        assert problem.weights.min() >= 0
        assert problem.weights.sum() > 0
    held = strategies.apply_layout(problem.labels, layout)
    assert_array_equal(held, problem.labels)
    assert held.dtype.newbyteorder("=") == problem.labels.dtype.newbyteorder("=")


@quick
@given(strategies.score_problems(), st.sampled_from(strategies.LAYOUTS))
def test_score_problems_are_valid(problem: strategies.ScoreProblem, layout: str) -> None:
    for scores in (problem.scores, problem.target_scores):
        assert scores.dtype.kind == "f"
        assert 0 <= scores.min() <= scores.max() <= 1
    for scores in (problem.scores, problem.target_scores[None]):
        if problem.scores.ndim == 3:
            sums = scores.astype(np.float64).sum(axis=-1)
            tolerance = strategies.ROW_TOLERANCE[scores.dtype.newbyteorder("=").name]
            assert np.abs(sums - 1).max() <= tolerance
    held = strategies.apply_layout(problem.scores, layout)
    assert_array_equal(held, problem.scores)
    assert held.dtype.newbyteorder("=") == problem.scores.dtype.newbyteorder("=")


def test_layouts_are_what_they_are_called() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    held = {layout: strategies.apply_layout(array, layout) for layout in strategies.LAYOUTS}
    assert held["fortran"].flags.f_contiguous
    assert held["samples_first"].strides == (16, 32, 4)
    assert not held["strided"].flags.c_contiguous
    assert max(held["reversed"].strides) < 0
    assert not held["unaligned"].flags.aligned
    assert held["big_endian"].dtype.byteorder == ">"
    assert not held["read_only"].flags.writeable
