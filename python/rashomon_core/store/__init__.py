"""Every file format, open and save: bytes in, lazy views out. Nothing is ever unpickled.

``opening`` finds the format of a path; ``arrays`` reads containers of arrays, ``tables`` and ``convert`` .csv
and .parquet, ``folders`` per-model files, ``vectors`` labels, groups and weights; ``raw`` reads blocks
without mapping files; ``saving`` writes the native pair and small files, all or nothing.
"""

from __future__ import annotations

from .opening import SUPPORTED, open_predictions
from .readings import Checkpoint
from .saving import (
    describe_input,
    save_predictions,
    write_array_atomic,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)
from .vectors import open_vector

__all__ = [
    "SUPPORTED",
    "Checkpoint",
    "describe_input",
    "open_predictions",
    "open_vector",
    "save_predictions",
    "write_array_atomic",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_text_atomic",
]
