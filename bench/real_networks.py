"""Scores of retrained neural networks on local data sets, as files for ``rashomon-core measure``.

    python bench/real_networks.py adult OUT_FOLDER [--models 200] [--seed 0] [--epochs 0]

Every network has one hidden layer of ReLU and is trained by Adam on the same training rows; networks differ in the seed
of their initial weights and of the order of the rows, nothing else: retraining, the plainest way to a Rashomon set.
They are trained side by side in NumPy. Written: preds.npy + preds.json (float32 scores of the held-out rows) and
labels.npy.
Data sets: every name of ``load_local``, and skin (HAM10000, imaging/ham10000_28x28_rgb.npz, split by lesion).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import rashomon_core as rc
from rashomon_core.datasets import load_local, local_data_dir

Array = npt.NDArray[Any]
#: Networks that are trained at a time.
TOGETHER = 25
#: Hidden units, epochs, rows of a batch, step size.
PLANS = {"adult": (16, 8, 256, 3e-3), "skin": (64, 12, 128, 1e-3)}
SMALL = (32, 60, 32, 3e-3)


@dataclass(frozen=True)
class Split:
    """Standardised features and labels of the rows to train on and of those held out."""

    X: Array
    y: Array
    X_held: Array
    y_held: Array
    classes: tuple[str, ...]
    held: Array  # row numbers


def tabular(name: str, rng: np.random.Generator) -> Split:
    """Adult: its own test file; else a third of the rows at random."""
    import pandas as pd

    data = load_local(name)
    frame = data.X.copy()
    numbers = list(frame.select_dtypes("number").columns)
    others = [c for c in frame.columns if c not in numbers]
    frame[numbers] = frame[numbers].fillna(frame[numbers].median())
    X = frame[numbers]
    if others:
        X = X.join(pd.get_dummies(frame[others].astype(str)))
    held = np.zeros(len(X), dtype=bool)
    held[np.arange(32_561, len(X)) if name == "adult" else rng.permutation(len(X))[: len(X) // 3]] = True
    return split(X.to_numpy(dtype=np.float32), data.y, held, data.class_names)


def skin(rng: np.random.Generator) -> Split:
    """HAM10000 at 14 x 14 in colour; no lesion is on both sides."""
    root = local_data_dir()
    if root is None:
        raise SystemExit("no folder of local data: set RASHOMON_CORE_DATA")
    with np.load(root / "imaging" / "ham10000_28x28_rgb.npz") as file:
        images, lesions, names = file["images"], file["lesion_id"].astype(str), file["dx"].astype(str)
    classes, y = np.unique(names, return_inverse=True)
    kinds, lesion = np.unique(lesions, return_inverse=True)
    held = (rng.random(len(kinds)) < 1 / 3)[lesion]
    small = images.reshape(-1, 14, 2, 14, 2, 3).mean(axis=(2, 4), dtype=np.float32)
    return split(small.reshape(len(small), -1), y, held, tuple(classes.tolist()))


def split(X: Array, y: Array, held: Array, classes: tuple[str, ...]) -> Split:
    """Standardise by the training rows."""
    scaled = (X - X[~held].mean(axis=0)) / (X[~held].std(axis=0) + 1e-6)
    scaled = np.clip(scaled, -10, 10).astype(np.float32)
    return Split(scaled[~held], y[~held], scaled[held], y[held], classes, np.flatnonzero(held))


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


def train(data: Split, seeds: list[int], plan: tuple[int, int, int, float]) -> Array:
    """Train one network a seed; return scores (networks, held-out rows, classes)."""
    hidden, epochs, batch, rate = plan
    n, features, C, B = len(data.y), data.X.shape[1], len(data.classes), len(seeds)
    generators = [np.random.default_rng(seed) for seed in seeds]

    def stack(rows: int, columns: int) -> Array:
        scale = np.sqrt(2 / rows)
        return np.stack([g.normal(0, scale, (rows, columns)) for g in generators]).astype(np.float32)

    weights = [stack(features, hidden), np.zeros((B, 1, hidden), np.float32), stack(hidden, C)]
    weights.append(np.zeros((B, 1, C), np.float32))
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    steps = 0
    for _ in range(epochs):
        order = np.stack([g.permutation(n) for g in generators])
        for start in range(0, n - batch + 1, batch):
            rows = order[:, start : start + batch]
            X = data.X[rows]
            active = np.maximum(X @ weights[0] + weights[1], 0)
            error = softmax(active @ weights[2] + weights[3])
            error[np.arange(B)[:, None], np.arange(batch), data.y[rows]] -= 1
            error /= batch
            back = (error @ weights[2].transpose(0, 2, 1)) * (active > 0)
            gradients = [X.transpose(0, 2, 1) @ back, back.sum(1, keepdims=True)]
            gradients += [active.transpose(0, 2, 1) @ error, error.sum(1, keepdims=True)]
            steps += 1
            for w, m, v, g in zip(weights, first, second, gradients, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                w -= rate * (m / (1 - 0.9**steps)) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-8)
    scores = np.empty((B, len(data.y_held), C), dtype=np.float32)
    for k in range(B):
        active = np.maximum(data.X_held @ weights[0][k] + weights[1][k], 0)
        scores[k] = softmax((active @ weights[2][k] + weights[3][k]).astype(np.float64))
    return scores


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0, help="0: the data set's own number")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    data = skin(rng) if options.dataset == "skin" else tabular(options.dataset, rng)
    hidden, epochs, batch, rate = PLANS.get(options.dataset, SMALL)
    plan = (hidden, options.epochs or epochs, batch, rate)
    seeds = [options.seed + 1 + k for k in range(options.models)]
    parts = [train(data, seeds[k : k + TOGETHER], plan) for k in range(0, len(seeds), TOGETHER)]
    scores = np.concatenate(parts)
    view = rc.Predictions.from_array(
        scores, model_ids=[f"seed-{s}" for s in seeds], sample_ids=data.held.tolist(), class_names=data.classes
    ).validate()
    options.folder.mkdir(parents=True, exist_ok=True)
    rc.save_predictions(view, options.folder / "preds.npy")
    np.save(options.folder / "labels.npy", data.y_held)
    right = (scores.argmax(axis=2) == data.y_held).mean(axis=1)
    common = np.bincount(data.y_held).max() / len(data.y_held)
    print(view, f"accuracy {right.min():.4f} .. {right.max():.4f}, always the commonest class {common:.4f}")


if __name__ == "__main__":
    main()
