from typing import Any

import numpy as np
import numpy.typing as npt

RESULT: np.dtype[Any]
STATUS: tuple[str, ...]
METHODS: tuple[str, ...]

def work_bytes(n_models: int, n_classes: int, n_samples: int) -> int: ...
def solve(
    rows: npt.NDArray[Any],
    out: npt.NDArray[Any],
    work: npt.NDArray[np.uint8],
    *,
    tol: float,
    method: str,
    max_scans: int,
    max_rounds: int,
    weights: npt.NDArray[np.float64] | None = None,
    rows_off: float = -1.0,
) -> int: ...
def ranges(
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    gaps: npt.NDArray[Any] | None,
    lower: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
) -> npt.NDArray[np.intp]: ...
def pairs(
    a0: npt.NDArray[np.float64],
    a1: npt.NDArray[np.float64],
    b0: npt.NDArray[np.float64],
    b1: npt.NDArray[np.float64],
    lower: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
) -> None: ...
