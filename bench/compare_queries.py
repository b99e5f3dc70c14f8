"""Fidelity against budget for every source of queries on scikit-learn's digits, beside the recorded figures.

    OMP_NUM_THREADS=1 python bench/compare_queries.py [--seeds 5] [--workers 2]

Target: a random forest of 300 trees trained on half of the digits (898; pixels / 16), answering labels only. Pool: 359
other digits. Natural test points: the 540 that are left; uniform ones: 2,000 from the pool's box. Surrogate: logistic
regression (C = 10), trained anew at each budget on all answers so far. A seed draws the split, the target and the
queries. Values are means over the seeds, with the smallest and the largest in brackets.

What the recorded figures leave open (split, size of the forest, surrogate) was chosen here among a few settings, so a
row compares sources with one another first, and with the record second.
"""

from __future__ import annotations

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.queries import Collector, FeatureSpace

Array = npt.NDArray[Any]

SOURCES: dict[str, Any] = {
    "uniform box": "uniform",
    "Gaussian": "gaussian",
    "independent marginals": "marginal",
    "mixup of the pool": "mixup",
    "mixup of 50 seeds": {"name": "mixup", "seeds": 50},
    "Jacobian augmentation": "jacobian",
    "natural pool": "natural",
}
BUDGETS = (300, 1000, 4000)
RECORDED = {
    "uniform box": (0.498, 0.750, 0.793),
    "Gaussian": (0.652, 0.816, 0.870),
    "independent marginals": (0.801, 0.904, 0.929),
    "natural pool": (0.929, None, None),
}
ACTIVE: dict[str, Any] = {
    "random": "natural",
    "entropy": "entropy",
    "margin": "margin",
    "least confidence": "least_confidence",
    "committee, vote entropy": "committee",
    "committee, KL": {"name": "committee", "measure": "kl"},
    "k-center, one scale for all pixels": {"name": "k_center", "scale": "common"},
    "k-center, each pixel standardised": {"name": "k_center", "scale": "column"},
    "knockoff adaptive": "knockoff",
}
ACTIVE_BUDGETS = (100, 200, 300)
ACTIVE_RECORDED = {
    "random": (0.856, 0.910, 0.929),
    "entropy": (0.892, 0.923, 0.932),
    "margin": (0.905, 0.931, 0.933),
    "k-center, one scale for all pixels": (0.902, 0.931, 0.934),
}


class Surrogate:
    """Logistic regression with one column for each class, answered or not."""

    def __init__(self, X: Array, labels: Array) -> None:
        from sklearn.linear_model import LogisticRegression

        self.model = LogisticRegression(C=10, max_iter=300).fit(X, labels)

    def predict_proba(self, X: Array) -> Array:
        p = np.zeros((len(X), 10))
        p[:, self.model.classes_] = self.model.predict_proba(X)
        return p

    def gradient(self, X: Array, labels: Array) -> Array:
        """d p_label / d x, for the Jacobian."""
        w = np.zeros((10, X.shape[1]))
        w[self.model.classes_] = self.model.coef_
        p = self.predict_proba(X)
        return np.asarray(p[np.arange(len(X)), labels][:, None] * (w[labels] - p @ w))


def one_seed(seed: int) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Return (table, source, budget) -> fidelity on natural and on uniform points."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    warnings.simplefilter("ignore")  # a solver that stops at 300 steps is good enough here
    X, y = load_digits(return_X_y=True)
    X = X / 16
    order = np.random.default_rng(seed).permutation(len(X))
    train, pool, test = order[:898], order[898:1257], order[1257:]
    target = RandomForestClassifier(300, random_state=seed).fit(X[train], y[train])
    uniform = FeatureSpace.from_pool(X[pool]).box(2000, np.random.default_rng(seed))
    natural_said, uniform_said = target.predict(X[test]), target.predict(uniform)

    def ask(rows: Array, round: int) -> Answers:
        return Answers.of_labels(target.predict(rows), 10)

    def committee(members: int, rows: Array, answers: Answers, rng: np.random.Generator) -> list[Surrogate]:
        if members == 1:
            return [Surrogate(rows, answers.labels)]
        draws = [rng.integers(0, len(rows), len(rows)) for _ in range(members)]
        return [Surrogate(rows[d], answers.labels[d]) for d in draws]

    found = {}
    for table, sources, budgets in (("source", SOURCES, BUDGETS), ("active", ACTIVE, ACTIVE_BUDGETS)):
        for name, spec in sources.items():
            members = 5 if name.startswith("committee") else 1
            c = Collector(
                spec, ask, n_classes=10, pool=X[pool], seed=seed, committee=partial(committee, members), initial=20
            )
            for budget in budgets:
                if spec == "natural" and budget > len(pool):
                    continue
                c.collect(budget - len(c))
                assert c.answers is not None
                model = Surrogate(c.X, c.answers.labels)
                own = model.predict_proba(X[test]).argmax(axis=1), model.predict_proba(uniform).argmax(axis=1)
                found[table, name, budget] = (
                    float((own[0] == natural_said).mean()),
                    float((own[1] == uniform_said).mean()),
                )
    return found


def cell(runs: list[dict[tuple[str, str, int], tuple[float, float]]], key: tuple[str, str, int], points: int) -> str:
    """Return mean (smallest-largest)."""
    values = [run[key][points] for run in runs if key in run]
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else "-"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as workers:
        runs = list(workers.map(one_seed, range(options.seeds)))
    for table, sources, budgets, recorded in (
        ("source", SOURCES, BUDGETS, RECORDED),
        ("active", ACTIVE, ACTIVE_BUDGETS, ACTIVE_RECORDED),
    ):
        shown = (("natural", 0), ("uniform", 1)) if table == "source" else (("natural", 0),)
        head = [f"{kind} {b}" for kind, _ in shown for b in budgets]
        print(f"\n| queries | {' | '.join(head)} | recorded (natural) |\n" + "|---" * (len(head) + 2) + "|")
        for name in sources:
            cells = [cell(runs, (table, name, b), points) for _, points in shown for b in budgets]
            known = recorded.get(name)
            text = "-" if known is None else " / ".join("-" if v is None else f"{v:.3f}" for v in known)
            print(f"| {name} | {' | '.join(cells)} | {text} |")
    print(f"\n{options.seeds} seeds, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
