"""Make the example: 240 surrogates of one target, trained on the Arrests data.

Run as ``python -m rashomon_core.example.make --output DIR`` (needs the ``[audit]`` extra; about a minute).

How the data are made
---------------------
1. The Arrests table of scikit-lego (``sklego.datasets.load_arrests``, 5,226 arrests in Toronto) is split
   once, at random, into three disjoint parts: 1,600 rows that the target learns from, 1,826 rows that the
   surrogates may query, and 1,800 held-out rows. Rows are arrests: two may have the same features.
2. The target is a gradient boosting model (100 trees of depth 3) of ``released`` on its own 1,600 rows, with
   balanced class weights: five of six arrested people were released, and an unweighted model would answer
   "Yes" to nearly everybody. It sees all seven features, ``colour`` and ``sex`` among them.
3. Ten draws of 1,200 of the 1,826 query rows are taken. The target answers "Yes" or "No" to each row.
4. 24 configurations out of eight families are fitted to these answers on each of the ten draws: 240
   surrogates. True labels are not used after step 2. A configuration and a draw name a model:
   ``hgb-depth3-draw007``; models that share a draw saw the same queries.
5. Every surrogate predicts P(Yes) on the 1,800 held-out rows, and so does the target.

One ``numpy.random.Generator`` seeded with ``SEED`` decides the split, the draws and the seed of each model,
and all models run on one thread: with the same library versions on the same processor a second run gives the
same bytes. Other versions of scikit-learn may grow other trees.

Probabilities are stored as float16, which is enough for an example (steps of 0.0005 below 1) and keeps the
folder under one megabyte. Rounding never changes a decision: what lies above 0.5 is stored above 0.5. The
surrogates learned answers and not probabilities, so their P(Yes) is more extreme than the target's, and some
trees and nearest neighbours say exactly 0 or 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rashomon_core.errors import MissingDependencyError, OutputError, RashomonError

__all__ = ["CONFIGURATIONS", "SEED", "main", "make_example"]

SEED = 20260
N_TARGET, N_QUERIES, N_HELD_OUT = 1_600, 1_826, 1_800
N_DRAWS, DRAW_SIZE = 10, 1_200
FEATURES = ("colour", "year", "age", "sex", "employed", "citizen", "checks")
# The value of each two-valued column that is coded as 1.
CODED_AS_ONE = {"colour": "White", "sex": "Male", "employed": "Yes", "citizen": "Yes"}
CLASS_NAMES = ("No", "Yes")


def _logistic(seed: int, C: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    # The target splits on products of features (checks x age): a plain linear model cannot follow it.
    return make_pipeline(
        StandardScaler(),
        PolynomialFeatures(3, include_bias=False),
        LogisticRegression(C=C, max_iter=2_000, random_state=seed),
    )


def _tree(seed: int, max_depth: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf=5, random_state=seed)


def _forest(seed: int, max_depth: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(50, max_depth=max_depth, random_state=seed, n_jobs=1)


def _extra(seed: int, max_depth: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(50, max_depth=max_depth, random_state=seed, n_jobs=1)


def _boosting(seed: int, max_depth: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=60, max_depth=max_depth, early_stopping=False, random_state=seed)


def _neighbours(seed: int, n_neighbors: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), KNeighborsClassifier(n_neighbors, weights="distance", algorithm="kd_tree", n_jobs=1)
    )


def _bayes(seed: int, n_bins: int) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.naive_bayes import BernoulliNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer

    numeric = [FEATURES.index(name) for name in ("year", "age", "checks")]
    # Bins of equal width: quantiles of whole years and counts coincide.
    bins = KBinsDiscretizer(n_bins, encode="onehot-dense", strategy="uniform")
    return make_pipeline(make_column_transformer((bins, numeric), remainder="passthrough"), BernoulliNB(binarize=None))


def _network(seed: int, width: int) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), MLPClassifier((width,), alpha=1e-3, max_iter=300, random_state=seed))


# (name, recipe, its hyper-parameters): 24 configurations of 8 families.
CONFIGURATIONS: tuple[tuple[str, Callable[..., Any], dict[str, Any]], ...] = (
    ("logreg-c0.1", _logistic, {"C": 0.1}),
    ("logreg-c1", _logistic, {"C": 1.0}),
    ("logreg-c10", _logistic, {"C": 10.0}),
    ("tree-depth6", _tree, {"max_depth": 6}),
    ("tree-depth8", _tree, {"max_depth": 8}),
    ("tree-depth12", _tree, {"max_depth": 12}),
    ("forest-depth6", _forest, {"max_depth": 6}),
    ("forest-depth8", _forest, {"max_depth": 8}),
    ("forest-depth12", _forest, {"max_depth": 12}),
    ("extra-depth8", _extra, {"max_depth": 8}),
    ("extra-depth12", _extra, {"max_depth": 12}),
    ("extra-depth16", _extra, {"max_depth": 16}),
    ("hgb-depth2", _boosting, {"max_depth": 2}),
    ("hgb-depth3", _boosting, {"max_depth": 3}),
    ("hgb-depth5", _boosting, {"max_depth": 5}),
    ("knn-k5", _neighbours, {"n_neighbors": 5}),
    ("knn-k9", _neighbours, {"n_neighbors": 9}),
    ("knn-k15", _neighbours, {"n_neighbors": 15}),
    ("bayes-bins5", _bayes, {"n_bins": 5}),
    ("bayes-bins8", _bayes, {"n_bins": 8}),
    ("bayes-bins12", _bayes, {"n_bins": 12}),
    ("mlp-8", _network, {"width": 8}),
    ("mlp-16", _network, {"width": 16}),
    ("mlp-32", _network, {"width": 32}),
)


def _load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features (5226, 7), two-valued columns coded 0/1, and ``released`` as 0/1 (5226,)."""
    try:
        import sklearn  # noqa: F401
        from sklego.datasets import load_arrests
    except ImportError as error:
        library = "scikit-learn" if error.name == "sklearn" else "scikit-lego"
        raise MissingDependencyError(library, "making the example", "audit") from error
    frame = load_arrests(as_frame=True)
    columns = [
        np.asarray(frame[name] == CODED_AS_ONE[name] if name in CODED_AS_ONE else frame[name], np.float64)
        for name in FEATURES
    ]
    return np.column_stack(columns), np.asarray(frame["released"] == "Yes", np.int64)


def _as_float16(p: NDArray[np.float64]) -> NDArray[np.float16]:
    """Round P(class 1) to float16 and keep what lies above 0.5 above it: the decision stays the model's."""
    rounded = p.astype(np.float16)
    above_half = np.nextafter(np.float16(0.5), np.float16(1))
    return np.where((p > 0.5) & (rounded <= 0.5), above_half, rounded)


def make_example(
    seed: int = SEED, *, progress: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.float16], list[str], list[str]]:
    """Train the target and its surrogates and predict the held-out rows.

    Parameters
    ----------
    seed : int
        Seed of the one generator that decides the split, the draws and every model's own seed.
    progress : bool
        Report each finished draw on stderr.

    Returns
    -------
    scores : (240, 1800) float16
        P(released) of each surrogate.
    target : (1800,) float16
        P(released) of the target; its answers are the values above 0.5.
    model_ids, sample_ids : list of str
        Names in the order of the axes; a sample id is the row number in the Arrests table, counted from 0.

    Raises
    ------
    MissingDependencyError
        When scikit-learn or scikit-lego is missing.
    """
    X, y = _load()
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    own, queries, held_out = np.split(order, [N_TARGET, N_TARGET + N_QUERIES])
    held_out = np.sort(held_out)
    assert len(held_out) == N_HELD_OUT

    scores = np.empty((len(CONFIGURATIONS) * N_DRAWS, N_HELD_OUT), np.float16)
    model_ids = [f"{name}-draw{draw:03d}" for name, _, _ in CONFIGURATIONS for draw in range(N_DRAWS)]
    with threadpool_limits(1), warnings.catch_warnings():
        # A network that stops at its round limit is a surrogate like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        target = HistGradientBoostingClassifier(
            max_iter=100,
            max_depth=3,
            class_weight="balanced",
            early_stopping=False,
            random_state=int(rng.integers(2**31)),
        ).fit(X[own], y[own])
        answers = (target.predict_proba(X)[:, 1] > 0.5).astype(np.int64)
        for draw in range(N_DRAWS):
            rows = rng.choice(queries, DRAW_SIZE, replace=False)
            for index, (_, recipe, parameters) in enumerate(CONFIGURATIONS):
                model = recipe(int(rng.integers(2**31)), **parameters).fit(X[rows], answers[rows])
                p = model.predict_proba(X[held_out])[:, 1]
                scores[index * N_DRAWS + draw] = _as_float16(p)
            if progress:
                print(f"draw {draw + 1} of {N_DRAWS}", file=sys.stderr)
        target_scores = _as_float16(target.predict_proba(X[held_out])[:, 1])
    return scores, target_scores, model_ids, [str(row) for row in held_out]


def _replace(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it: never half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} could not be written ({error}). Fix: choose another --output") from error


def _npy(array: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write ``preds.npy``, ``preds.json`` and ``target.npy`` into a folder; return the exit code.

    The pair is written here and not by ``store``, so that the example can be made from a checkout whose
    kernels are not built yet.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rashomon_core.example.make", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the generator (default: %(default)s)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{options.output} cannot be made ({error}). Fix: choose another --output") from error
        scores, target, model_ids, sample_ids = make_example(options.seed, progress=True)
        description = {
            "format": "rashomon-core predictions",
            "format_version": 1,
            "axes": ["models", "samples"],
            "kind": "proba",
            "n_classes": 2,
            "class_names": list(CLASS_NAMES),
            "model_ids": model_ids,
            "sample_ids": sample_ids,
        }
        # The description first: an array without it would be read by its dtype alone, under other names.
        _replace(options.output / "preds.json", (json.dumps(description) + "\n").encode())
        _replace(options.output / "preds.npy", _npy(scores))
        _replace(options.output / "target.npy", _npy(target))
    except RashomonError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    fidelity = ((scores > 0.5) == (target > 0.5)).mean(axis=1)
    print(
        f"{options.output}: {scores.shape[0]} models x {scores.shape[1]} samples, fidelity "
        f"{fidelity.min():.3f} to {fidelity.max():.3f}, {time.perf_counter() - start:.0f} s",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
