"""Predictions of real surrogates on a local data set, as files for ``rashomon-core measure``.

    python bench/real_predictions.py adult OUT_FOLDER [--models 200] [--seed 0]

A gradient boosting target is trained on a third of the rows. Surrogates of five scikit-learn families are fitted to its
answers (labels) on random draws of another third, and predict the last third (Adult: its own test file). Written:
preds.npy + preds.json, target.npy (P(class 1)), labels.npy, groups.csv (sample_id and the protected columns).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import rashomon_core as rc
from rashomon_core.datasets import load_local

FAMILIES = {
    "lr": lambda s: LogisticRegression(max_iter=300, C=[0.03, 0.3, 3.0][s % 3]),
    "tree": lambda s: DecisionTreeClassifier(max_depth=[6, 9, 12][s % 3], min_samples_leaf=5, random_state=s),
    "forest": lambda s: RandomForestClassifier(30, max_depth=[8, 14, None][s % 3], random_state=s),
    "extra": lambda s: ExtraTreesClassifier(30, max_depth=[10, 16, None][s % 3], random_state=s),
    "hgb": lambda s: HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=[7, 15, 31][s % 3], random_state=s),
}


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    data = load_local(options.dataset)
    n = len(data.y)
    held_out = np.arange(32_561, n) if options.dataset == "adult" else None
    order = rng.permutation(n if held_out is None else 32_561)
    if held_out is None:
        held_out = np.sort(order[: n // 3])
        order = order[n // 3 :]
    own, queries = np.array_split(order, 2)
    encode = make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", min_frequency=20)
            ),
            make_column_selector(dtype_exclude=np.number),
        ),
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include=np.number)),
        sparse_threshold=0,
    )
    X = encode.fit(data.X.iloc[own]).transform(data.X).astype(np.float32)
    target = HistGradientBoostingClassifier(random_state=options.seed).fit(X[own], data.y[own])
    answers = target.predict(X)
    models = {}
    for k in range(options.models):
        family = list(FAMILIES)[k % len(FAMILIES)]
        draw = rng.choice(queries, size=len(queries) // 2, replace=False)
        models[f"{family}-{k:03d}"] = FAMILIES[family](k // len(FAMILIES)).fit(X[draw], answers[draw])
    options.folder.mkdir(parents=True, exist_ok=True)
    predicted = rc.predict_all(models, X[held_out])
    scores = predicted.to_array().astype(np.float32)
    view = rc.Predictions.from_array(
        scores, model_ids=predicted.model_ids, sample_ids=held_out.tolist(), class_names=data.class_names
    )
    rc.save_predictions(view, options.folder / "preds.npy")
    np.save(options.folder / "target.npy", target.predict_proba(X[held_out])[:, 1])
    np.save(options.folder / "labels.npy", data.y[held_out])
    groups = pd.DataFrame(data.groups).iloc[held_out]
    groups.insert(0, "sample_id", held_out)
    groups.to_csv(options.folder / "groups.csv", index=False)
    print(view, "accuracy of the target", float((answers[held_out] == data.y[held_out]).mean()))


if __name__ == "__main__":
    main()
