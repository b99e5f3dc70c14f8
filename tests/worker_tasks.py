"""Tasks that the tests of the worker processes run: importable, as tasks must be."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def add(shared: int, item: int) -> int:
    return shared + item


def slow_pid(shared: float, item: int) -> tuple[int, int]:
    time.sleep(shared)
    return item, os.getpid()


def fail(shared: set[int], item: int) -> int:
    if item in shared:
        raise ValueError(f"item {item}")
    return item


def die(shared: int, item: int) -> int:
    if item == shared:
        os._exit(9)
    return item


class OnlyThere:
    """Comes back to life in a worker process and in no other."""

    def __init__(self, home: int) -> None:
        if home != os.getpid():
            raise LookupError("not here")
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        return OnlyThere, (self.home,)


def only_there(shared: None, item: int) -> OnlyThere:
    return OnlyThere(os.getpid())


def loud(shared: None, item: int) -> int:
    print("on stdout", item)
    sys.stdout.flush()
    os.write(1, b"on descriptor 1\n")
    return item


def product(shared: Any, item: int) -> Any:
    """A product whose bytes depend on the number of inner threads, as BLAS splits it."""
    X = np.random.default_rng(item).normal(size=(1500, 700))
    return (X.T @ X).tobytes()


def touch(shared: str, item: int) -> int:
    time.sleep(0.2)
    (Path(shared) / str(item)).touch()
    return item


class Odd(Exception):
    """An exception that pickles and does not come back."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def odd(shared: None, item: int) -> int:
    raise Odd(item, 2)
