"""Make a large tensor of predictions for measurements of speed and memory.

    python bench/make_big.py big.zarr --size 20GB --models 1000

The predictions are those of the example that the package carries (real surrogates of a real model, on a real table),
repeated along models and samples until the size is reached, each score multiplied by noise, exp of a uniform number in
+-NOISE, and every row divided by its sum. So rows are as skewed as real ones and no two are equal, but the tensor says
nothing about anything: it is for clocks only. The same size, shape and seed give the same numbers in every format;
what is in memory is one block.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import rashomon_core as rc
from rashomon_core.datasets import load_example
from rashomon_core.tiles import parse_memory

Array = npt.NDArray[Any]
#: Samples that are drawn together, and largest noise of a score (in units of its logarithm).
STEP, NOISE = 4096, 0.5
#: Bytes of a chunk of a .zarr.
CHUNK = 64_000_000


def shape_of(size: int, models: int, classes: int) -> tuple[int, int, int]:
    """Return (M, N, C) of about ``size`` bytes of float32."""
    return models, max(1, size // (4 * models * classes)), classes


def base(classes: int) -> Array:
    """Return the example's scores (M, N, C); with more classes, its scores of several samples side by side."""
    scores = rc.open_predictions(load_example().path).to_array().astype(np.float32)
    if scores.ndim == 2:
        scores = np.stack([1 - scores, scores], axis=2)
    found = np.concatenate([np.roll(scores, k, axis=1) for k in range(-(-classes // scores.shape[2]))], axis=2)
    return np.ascontiguousarray(found[:, :, :classes]) + np.float32(1e-4)


def block(source: Array, model: int, first: int, last: int, seed: int) -> Array:
    """Return the samples ``first .. last`` of a model; ``first`` is a multiple of STEP."""
    own = source[model % len(source)]
    parts = []
    for n in range(first, last, STEP):
        rng = np.random.default_rng([seed, model, n // STEP])
        count = min(STEP, last - n)
        noise = rng.random((STEP, own.shape[1]), dtype=np.float32)[:count]
        rows = own.take(np.arange(n, n + count), axis=0, mode="wrap") * np.exp((noise - 0.5) * np.float32(2 * NOISE))
        parts.append(rows / rows.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


def blocks(shape: tuple[int, int, int], width: int, seed: int) -> Iterator[tuple[int, int, int, Array]]:
    """Yield (model, first, last, scores): ``width`` samples of all models, then the next."""
    source = base(shape[2])
    for first in range(0, shape[1], width):
        last = min(first + width, shape[1])
        for model in range(shape[0]):
            yield model, first, last, block(source, model, first, last, seed)


def make(path: Path, shape: tuple[int, int, int], seed: int = 0) -> None:
    """Write the tensor as .npy, or as .zarr in plain chunks of all models."""
    M, N, C = shape
    width = max(1, CHUNK // (4 * M * C) // STEP) * STEP
    if path.suffix == ".npy":
        with open(path, "wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(stream, header)  # type: ignore[arg-type]
            source = base(C)
            for model in range(M):  # the order of the file
                for n in range(0, N, 64 * STEP):
                    stream.write(block(source, model, n, min(n + 64 * STEP, N), seed).tobytes())
        return
    import zarr

    array = zarr.create_array(path, shape=shape, chunks=(M, width, C), dtype="f4", compressors=None)
    held = np.empty((M, min(width, N), C), dtype=np.float32)
    for model, first, last, scores in blocks(shape, width, seed):
        held[model, : last - first] = scores
        if model == M - 1:
            array[:, first:last] = held[:, : last - first]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a .npy or .zarr that does not exist")
    parser.add_argument("--size", default="20GB")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.path.exists() or given.path.suffix not in (".npy", ".zarr"):
        parser.error(f"{given.path} exists, or is neither .npy nor .zarr")
    shape = shape_of(parse_memory(given.size), given.models, given.classes)
    make(given.path, shape, given.seed)
    print(f"{given.path}: {shape[0]} models x {shape[1]} samples x {shape[2]} classes, float32")


if __name__ == "__main__":
    main()
