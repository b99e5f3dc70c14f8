"""Exact Rashomon Capacity of saved predictions beside what published code reports for them.

    python bench/compare_published.py FOLDER [FOLDER ...] [--samples 500] [--seed 0]

A folder holds preds.npy + preds.json (bench/real_networks.py writes them). Every sample is solved with certified
bounds; the published rule (Blahut-Arimoto that stops when the mean squared change of p is below 1e-12, or after 1000
rounds) runs on all samples, or on as many as --samples, drawn with the seed, and is compared on those.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import baseline_capacity
import numpy as np

import rashomon_core as rc

HEAD = (
    "| data | models x samples x classes | mean | p50 | p90 | max | largest gap | published on | its mean (exact) "
    "| its max (exact) | largest error | relative to the sample | rounds, median | us a sample | published, us |"
)


def row(folder: Path, samples: int, seed: int) -> str:
    """Return one line of the table."""
    view = rc.open_predictions(folder / "preds.npy")
    own = np.inf
    for _ in range(5):  # the file is read each time; the best of a few leaves out the first import
        start = time.perf_counter()
        result = rc.rashomon_capacity(view, threads=1)
        own = min(own, (time.perf_counter() - start) / view.n_samples)
    found = result.summary()
    scores = view.to_array()
    scores = np.stack([1 - scores, scores], axis=-1) if scores.ndim == 2 else scores
    n = view.n_samples
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[:samples])
    start = time.perf_counter()
    published = [baseline_capacity.published(scores[:, i]) for i in chosen]
    theirs = (time.perf_counter() - start) / len(chosen)
    bits, exact = np.array([x.bits for x in published]), result.bits[chosen]
    error = np.abs(bits - exact)
    relative = float((error / np.maximum(exact, 1e-300))[exact > 1e-9].max(initial=0.0))
    cells = [
        folder.name,
        f"{view.n_models} x {n} x {view.n_classes}",
        *(f"{found[name]:.6f}" for name in ("mean", "p50", "p90", "max")),
        f"{found['max_gap']:.1e}",
        "all samples" if len(chosen) == n else f"{len(chosen)} drawn",
        f"{bits.mean():.6f} ({exact.mean():.6f})",
        f"{bits.max():.6f} ({exact.max():.6f})",
        f"{error.max():.6f}",
        f"{relative:.0%}",
        f"{np.median([x.rounds for x in published]):.0f}",
        f"{1e6 * own:.1f}",
        f"{1e6 * theirs:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(HEAD)
    print("| --- " * (HEAD.count("|") - 1) + "|")
    for folder in options.folders:
        print(row(folder, options.samples, options.seed), flush=True)


if __name__ == "__main__":
    main()
