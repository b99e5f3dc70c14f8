"""Data sets: the embedded example, the default of the audit, the user's own files, and files beside a checkout.

The example is a prediction tensor and travels with the package. The local files do not: tests and benchmarks
use them where they are there, in ``RASHOMON_CORE_DATA`` or in ``../shared/data`` beside the checkout.
"""

from .common import DATA_VARIABLE, LocalDataset
from .example import Example, load_default, load_example
from .local import load_local, local_data_dir, local_names
from .own import load_arrays, load_table
from .splits import group_split

__all__ = [
    "DATA_VARIABLE",
    "Example",
    "LocalDataset",
    "group_split",
    "load_arrays",
    "load_default",
    "load_example",
    "load_local",
    "load_table",
    "local_data_dir",
    "local_names",
]
