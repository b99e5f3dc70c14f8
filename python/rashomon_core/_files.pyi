import numpy as np
import numpy.typing as npt

def advise(address: int, runs: npt.NDArray[np.int64], advice: int) -> int: ...
