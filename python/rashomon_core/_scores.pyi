from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
LOSSES: tuple[str, ...]
STRIP_SCORES: int
PIECE_SCORES: int
STRIP_MODELS: int
PAGED_MODELS: int
VOTE_CLASSES: int

class TilePass:
    n_samples: int
    columns: int
    n_classes: int
    n_models: int
    def __init__(
        self,
        *,
        n_samples: int,
        columns: int,
        n_classes: int,
        n_models: int,
        kind: str = "proba",
        renormalize: bool = False,
        tolerance: float = 1e-6,
        threshold: float | None = None,
        single: bool = True,
        lo: Array | None = None,
        hi: Array | None = None,
        shift: Array | None = None,
        s1: Array | None = None,
        s2: Array | None = None,
        variance: Array | None = None,
        ddof: int = 0,
        votes: Array | None = None,
        planes: Array | None = None,
        decisions: Array | None = None,
        references: Array | None = None,
        masks: Array | None = None,
        mismatches: Array | None = None,
        unions: Array | None = None,
        weights: Array | None = None,
        mismatch_lanes: Array | None = None,
        mismatch_totals: Array | None = None,
        y: Array | None = None,
        target: Array | None = None,
        loss_lanes: Array | None = None,
        loss_totals: Array | None = None,
        losses: Sequence[str] = (),
    ) -> None: ...
    def update(self, block: Array, first_model: int, first_sample: int) -> bool: ...

def read_peak(x: Array) -> float: ...
