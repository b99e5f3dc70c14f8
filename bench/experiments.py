"""The experiments of docs/experiments.md: audits in three domains, three seeds each, as one table per data set.

    python bench/experiments.py --runs DIR [--seeds 0,1,2] [--only adult,sst2]

Needs the local data files and the extras [audit], [torch] and [text]. Every run has a folder of its own in DIR: a
stopped script goes on where it was. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rashomon_core.audit import run_audit
from rashomon_core.datasets import load_local
from rashomon_core.workers import parse_workers

FIVE = ["logistic", "tree", {"family": "forest", "depth": 12}, "hgb", "knn"]
HEADS = ["logistic", {"family": "logistic", "C": 0.1}, "mlp", {"family": "mlp", "hidden": [128]}, "knn"]
NETWORKS = [
    "image_logistic",
    "image_mlp",
    {"family": "cnn", "epochs": 15},
    {"family": "cnn", "channels": [8, 16], "hidden": [32], "epochs": 15},
]
WORDS = ["tfidf_logistic", {"family": "tfidf_logistic", "C": 10.0}, "tfidf_nb", "tfidf_mlp"]
FOUR_TIMES = {"retraining": {"seeds": 1, "bootstraps": 3}}
DROPOUT_CNN = {"base": {"family": "cnn", "epochs": 15}, "rates": [0.02, 0.05, 0.1, 0.2], "models": 5}
AWP_CNN = {"base": {"family": "cnn", "epochs": 15}, "samples": 3, "steps": 20}
#: Everything that is not a default; budgets are in answers, 30 % of them select.
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "adult": {"budget": [250, 1000, 4000], "surrogates": FIVE, "exploration": FOUR_TIMES, "epsilon": 0.01},
    "adult-free": {
        "budget": [250, 1000, 4000],
        "surrogates": FIVE,
        "exploration": FOUR_TIMES,
        "epsilon": 0.01,
        "selection": {"share": 1.0, "charged": False},
    },
    "compas": {"budget": [250, 1000], "groups": ["race"], "surrogates": FIVE, "exploration": FOUR_TIMES},
    "credit_default": {"budget": [250, 1000, 4000], "surrogates": FIVE, "exploration": FOUR_TIMES, "epsilon": 0.01},
    "hmda": {"budget": [250, 700], "groups": ["afam"], "surrogates": FIVE, "exploration": FOUR_TIMES},
    "pneumoniamnist": {
        "budget": [300, 1200],
        "target": {"family": "cnn", "epochs": 20},
        "surrogates": NETWORKS,
        "exploration": {**FOUR_TIMES, "dropout": DROPOUT_CNN, "weight_perturbation": AWP_CNN},
    },
    "breastmnist": {
        "budget": [80, 220],
        "target": {"family": "cnn", "epochs": 40},
        "surrogates": NETWORKS,
        "exploration": {**FOUR_TIMES, "dropout": DROPOUT_CNN, "weight_perturbation": AWP_CNN},
        "epsilon": 0.05,
    },
    "ham10000": {
        "budget": [500, 2000],
        "groups": ["sex"],
        "target": {"family": "cnn", "epochs": 10},
        "surrogates": [
            "image_mlp",
            {"family": "image_forest", "depth": 12},
            {"family": "cnn", "epochs": 10},
            {"family": "cnn", "channels": [8, 16], "hidden": [32], "epochs": 10},
        ],
        "exploration": {
            "retraining": {"seeds": 1, "bootstraps": 2},
            "dropout": {**DROPOUT_CNN, "base": {"family": "cnn", "epochs": 10}},
        },
    },
    "sst2": {"budget": [500, 2500], "surrogates": WORDS, "exploration": FOUR_TIMES},
    "sst2-embedded": {"budget": [250, 750], "target": "mlp", "surrogates": HEADS, "exploration": FOUR_TIMES},
    "bias_in_bios": {"budget": [1000, 4000], "groups": ["gender"], "surrogates": WORDS, "exploration": FOUR_TIMES},
    "bias_in_bios-embedded": {
        "budget": [400, 1100],
        "groups": ["gender"],
        "target": "mlp",
        "surrogates": HEADS,
        "exploration": FOUR_TIMES,
    },
}


def embedded(name: str, runs: Path, workers: int | None) -> Any:
    """Return a text data set whose rows are sentence embeddings, computed once and kept beside the runs.

    Embedding is slow: of both data sets it is the official validation and test parts.
    """
    from rashomon_core.audit import embeddings
    from rashomon_core.audit.folder import RunFolder
    from rashomon_core.extraction.embedding import embed

    data = load_local(name)
    part = data.official_split != "train"
    run = RunFolder(runs / f"{name}-embeddings", {})
    (run.path / "work").mkdir(parents=True, exist_ok=True)
    embeddings.prepare(run, data.X[part], parse_workers(workers))
    return dataclasses.replace(
        data,
        name=f"{name}-embedded",
        kind="tabular",
        X=embed(data.X[part]),
        y=data.y[part],
        groups=data.groups[part].reset_index(drop=True),
        official_split=data.official_split[part],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default=",".join(EXPERIMENTS))
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    seeds = [int(s) for s in options.seeds.split(",")]
    for name in options.only.split(","):
        documents = []
        for seed in seeds:
            started = time.perf_counter()
            text = name.removesuffix("-embedded")
            data = embedded(text, options.runs, options.workers) if text != name else None
            data = load_local(name.removesuffix("-free")) if data is None else data
            config = {"data": name, **EXPERIMENTS[name], "seed": seed}
            done = run_audit(config, data=data, folder=options.runs / f"{name}-{seed}", workers=options.workers)
            documents.append(done.document)
            print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        print(section(name, documents), flush=True)


def section(name: str, documents: Sequence[dict[str, Any]]) -> str:
    """Return one data set as Markdown: means over the seeds, with the smallest and the largest."""
    audit = documents[0]["audit"]
    rows, data = [], audit["data"]
    accuracy = over([d["audit"]["target"]["accuracy"] for d in documents])
    agreement = over([d["checkpoints"][0]["baselines"]["natural_agreement"].get("value") for d in documents])
    boots = over([d["checkpoints"][0]["baselines"]["natural_agreement"].get("bootstraps") for d in documents])
    majority = over([d["checkpoints"][-1]["baselines"]["majority_class"]["fidelity"] for d in documents])
    for k, budget in enumerate(audit["configuration"]["budget"]):
        entries = [d["checkpoints"][k] for d in documents]

        def each(get: Callable[[dict[str, Any]], Any], entries: list[dict[str, Any]] = entries) -> str:
            return over([get(e) for e in entries])

        rows.append(
            "| "
            + " | ".join(
                [
                    f"{budget:,}",
                    each(lambda e: e["results"]["set"]["size"]) + f" of {entries[0]['results']['set']['explored']}",
                    each(lambda e: e["results"]["set"]["noise"] and e["results"]["set"]["noise"]["paired"]),
                    each(lambda e: e["results"]["fidelity"].get("min")),
                    each(lambda e: e["results"]["fidelity"].get("max")),
                    each(lambda e: e["results"]["ambiguity"].get("value")),
                    each(lambda e: (e["results"]["ambiguity"].get("size_matched") or {}).get("value")),
                    each(lambda e: e["results"]["discrepancy"].get("value")),
                    each(lambda e: e["results"]["rashomon_capacity"].get("mean")),
                    each(lambda e: gap(e).get("min")),
                    each(lambda e: gap(e).get("max")),
                    each(lambda e: gap(e).get("target")),
                ]
            )
            + " |"
        )
    sizes = [
        (e["results"]["ambiguity"].get("size_matched") or {}).get("m") for d in documents for e in d["checkpoints"]
    ]
    matched = "/".join(sorted({str(m) for m in sizes if m}))
    groups = " x ".join(data["groups"]) or "no groups"
    return "\n".join(
        [
            f"### {name}",
            "",
            f"{data['rows']:,} rows, {len(data['class_names'])} classes, groups: {groups}. Target "
            f"`{audit['target']['name']}`, accuracy {accuracy}; two trainings of it agree on {agreement} ("
            f"bootstraps {boots}); majority class {majority}. Epsilon {audit['configuration']['epsilon']}.",
            "",
            "| budget | set | noise of epsilon | fidelity, least | most | ambiguity | "
            f"of {matched or 'm'} | discrepancy | capacity, bits | parity gap, least | most | target |",
            "| ---: " * 12 + "|",
            *rows,
            "",
        ]
    )


def gap(entry: dict[str, Any]) -> dict[str, Any]:
    fairness = entry["results"].get("fairness") or {}
    found: dict[str, Any] = fairness.get("demographic_parity_difference") or {}
    return found


def over(values: Sequence[Any]) -> str:
    """Return mean and range over the seeds; "-" where a seed has none."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    whole = all(isinstance(v, int) for v in known)
    low, high = (str(v) if whole else f"{v:.3f}" for v in (min(known), max(known)))
    mean = f"{float(np.mean(known)):.1f}" if whole else f"{float(np.mean(known)):.3f}"
    missing = "" if len(known) == len(values) else f", {len(values) - len(known)} without"
    return f"{mean} [{low}, {high}{missing}]"


if __name__ == "__main__":
    main()
