"""Surrogates: models fitted to a target's answers.

A :class:`~rashomon_core.extraction.recipes.Recipe` says what the surrogate is, :func:`fit_surrogate` builds it from
answers. The recipes live in ``recipes``, the networks in ``networks``, what turns rows into matrices in ``encoders``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import AnswersError, InvalidInputError, MissingDependencyError, RashomonError, UsageError

from . import encoders
from .answers import Answers
from .networks import TorchSurrogate, cnn_factory, mlp_factory
from .recipes import FAMILIES, Family, Recipe, default_recipes, input_kind, make_recipe
from .rows import as_rows, count, is_frame, is_text, take

__all__ = [
    "FAMILIES",
    "Family",
    "Recipe",
    "Surrogate",
    "TorchSurrogate",
    "default_recipes",
    "expand",
    "fit_surrogate",
    "input_kind",
    "make_recipe",
]

Array = npt.NDArray[Any]
Params = Mapping[str, Any]


@dataclass(eq=False)
class Surrogate:
    """A fitted surrogate.

    Attributes
    ----------
    recipe : Recipe
    model : object
        The fitted scikit-learn estimator, or a :class:`TorchSurrogate`.
    n_classes : int
        Classes of the target, answered or not.
    classes : (k,) int64
        The classes that the model knows: those that were answered.
    notes : tuple of str
        What the recipe asked for and did not get, and what the model warned of while it was fitted.
    """

    recipe: Recipe
    model: Any = field(repr=False)
    n_classes: int
    classes: Array = field(repr=False)
    encoder: encoders.Encoder | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def predict_proba(self, X: Any) -> Array:
        """Return (n, C) float64 in the order of class indices; zeros for classes that were never answered.

        Parameters
        ----------
        X : container of rows, like the one that the surrogate was fitted on

        Raises
        ------
        InvalidInputError
            When rows are not like the fitted ones, or the model predicts NaN.
        """
        X = as_rows(X)
        out = np.zeros((count(X), self.n_classes))
        if not len(out):
            return out
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            p = _predict(self.model, X if self.encoder is None else self.encoder.transform(X), self.classes)
        if p.shape != (len(out), len(self.classes)) or not np.isfinite(p).all():
            raise InvalidInputError(
                f"surrogate {self.recipe.name!r} predicts {p.shape} scores for {len(out)} rows of "
                f"{len(self.classes)} classes, {int((~np.isfinite(p)).sum())} of them not finite"
            )
        total = p.sum(axis=1, keepdims=True)
        if np.abs(total - 1).max() > 1e-9:  # float32 models, and estimators that do not normalise
            p = p / np.where(total > 0, total, 1.0)
        out[:, self.classes] = p
        return out

    def differentiable(self, X: Any) -> bool:
        """Return whether :meth:`gradient` works on rows like these."""
        return isinstance(self.model, TorchSurrogate) and not is_frame(X) and not is_text(X)

    def gradient(self, X: Any, labels: Any) -> Array:
        """Return d log P(label) / dx for numeric rows, (n, ...) float64: networks only.

        Raises
        ------
        UsageError
            When the model is not a network, or rows are not numeric arrays.
        """
        X = as_rows(X)
        if not self.differentiable(X):
            raise UsageError("gradients are those of networks (torch_mlp, cnn, factory) with respect to numeric rows")
        assert isinstance(self.model, TorchSurrogate)
        if isinstance(self.encoder, encoders.Images):
            slope = self.model.gradient(self.encoder.transform(X), labels).astype(np.float64)
            return np.asarray((np.moveaxis(slope, 1, 3) / self.encoder.scale).reshape(X.shape))
        assert isinstance(self.encoder, encoders.Table)
        slope = self.model.gradient(self.encoder.transform(X), labels).astype(np.float64)
        width = len(self.encoder.scale)  # columns behind these say what is missing
        return np.asarray((slope[:, :width] / self.encoder.scale).reshape(X.shape))


def fit_surrogate(recipe: Recipe | str | Mapping[str, Any], X: Any, answers: Answers, *, seed: int) -> Surrogate:
    """Fit a surrogate to answers.

    Parameters
    ----------
    recipe : Recipe, or what :func:`make_recipe` takes
    X : container of n rows
        Frames (numbers scaled where the family needs it, missing ones replaced by the median and marked; anything
        else one-hot, missing as a category of its own; histogram boosting takes both as they are), numeric arrays,
        images (N, H, W[, channels]) or texts. An estimator that the user gave gets the rows as they are.
    answers : Answers, n of them
        Soft answers become weighted rows (see :func:`expand`), which is the exact cross-entropy with them. Where only
        labels were answered, or the estimator takes no sample weights, hard labels are used and ``notes`` says so.
    seed : int, 0 or more
        Decides everything random: the same seed gives the same bytes (with the same number of threads).

    Returns
    -------
    Surrogate

    Raises
    ------
    AnswersError
        When there are fewer answers than classes, or all answers are one class.
    InvalidInputError
        When rows and answers do not fit together, or the model refuses the rows.
    MissingDependencyError
        When scikit-learn, torch or another library of the family is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.answers import Answers
    >>> from rashomon_core.extraction.surrogates import fit_surrogate
    >>> X = np.arange(20.0)[:, None]
    >>> answers = Answers.of_labels(X[:, 0] > 9, n_classes=3)
    >>> fit_surrogate("tree", X, answers, seed=0).predict_proba([[3.0], [15.0]]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    recipe = make_recipe(recipe)
    X = as_rows(X)
    _check(recipe, X, answers, seed)
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            surrogate = _fit(recipe, X, answers, seed, notes)
        except (RashomonError, MemoryError):
            raise
        except Exception as error:  # whatever a library or the user's estimator makes of rows that it cannot take
            raise InvalidInputError(f"{recipe.name!r} cannot be fitted to these rows ({error})") from error
    heard = dict.fromkeys(f"{w.category.__name__}: {str(w.message).strip().splitlines()[0]}" for w in caught)
    surrogate.notes = (*notes, *heard)
    return surrogate


def expand(answers: Answers) -> tuple[Array, Array, Array]:
    """Return soft answers as weighted rows: (row, class, weight), weights of 0 left out.

    The weighted log loss of these rows is the cross-entropy with the answered probabilities, exactly.

    Returns
    -------
    rows : (k,) int64, the answer that each weighted row belongs to
    labels : (k,) int64
    weights : (k,) float64; those of one answer sum to 1

    Examples
    --------
    >>> from rashomon_core.extraction.answers import Answers
    >>> from rashomon_core.extraction.surrogates import expand
    >>> [part.tolist() for part in expand(Answers.of_proba([[0.25, 0.75], [1.0, 0.0]]))]
    [[0, 0, 1], [0, 1, 0], [0.25, 0.75, 1.0]]
    """
    p = answers.soft()
    rows, labels = np.nonzero(p > 0)
    return rows, labels, p[rows, labels]


def _check(recipe: Recipe, X: Any, answers: Answers, seed: int) -> None:
    n = count(X)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UsageError(f"seed is {seed!r} and must be a whole number of 0 or more")
    if n != len(answers):
        raise InvalidInputError(f"{n} inputs and {len(answers)} answers", fix="give one answer for each input")
    if n < answers.n_classes:
        raise AnswersError(f"{n} answers are fewer than the {answers.n_classes} classes. Fix: raise the budget")
    if len(np.unique(answers.labels)) < 2:
        raise AnswersError(
            f"all {n} answers are class {answers.labels[0]}: nothing to learn. Fix: query other inputs, or more"
        )
    if recipe.family in FAMILIES:
        family = FAMILIES[recipe.family]
        lacking = family.missing()
        if lacking is not None:
            raise MissingDependencyError(
                lacking, f"the family {recipe.family}", "torch" if lacking == "torch" else "text"
            )
        if family.kind == "image" and (is_frame(X) or is_text(X) or X.ndim not in (3, 4)):
            raise InvalidInputError(f"{recipe.family} takes images", fix="give (N, H, W) or (N, H, W, channels)")


def _fit(recipe: Recipe, X: Any, answers: Answers, seed: int, notes: list[str]) -> Surrogate:
    soft = recipe.answers == "soft"
    if soft and answers.proba is None:
        notes.append("only labels were answered: hard labels were used")
        soft = False
    if recipe.family in ("torch_mlp", "cnn", "embedding_network", "factory"):
        return _fit_network(recipe, X, answers, seed, soft)
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "fitting surrogates", "audit") from error
    given = recipe.family == "estimator"
    encoder = None if given else _encoder(recipe.family, recipe.params)
    if encoder is not None:
        encoder.fit(X)
    matrix = X if encoder is None else encoder.transform(X)
    states = np.random.SeedSequence(seed)
    model = _seeded(_clone(recipe.given), states) if given else _seeded(_build(recipe, encoder, count(X)), states)
    key = _weight_key(model)
    if soft and key is None:
        notes.append(f"{_title(model)} takes no sample weights: hard labels were used")
        soft = False
    if soft:
        assert key is not None
        rows, labels, weights = expand(answers)
        try:
            model.fit(take(matrix, rows) if given else matrix[rows], labels, **{key: weights})
        except (TypeError, ValueError) as error:
            if not given or "sample_weight" not in str(error):
                raise
            # It has the argument and hands it on to a model that has not.
            notes.append(f"{_title(model)} takes no sample weights: hard labels were used")
            model = _seeded(_clone(recipe.given), states)
            soft = False
    if not soft:
        model.fit(matrix, answers.labels)
    classes = np.asarray(getattr(model, "classes_", np.unique(answers.labels)), dtype=np.int64)
    if not hasattr(model, "predict_proba"):
        notes.append(f"{_title(model)} gives labels only: scores are 0 and 1")
    return Surrogate(recipe, model, answers.n_classes, classes, encoder)


def _fit_network(recipe: Recipe, X: Any, answers: Answers, seed: int, soft: bool) -> Surrogate:
    p = dict(recipe.params)
    encoder: encoders.Encoder
    if recipe.family == "torch_mlp":
        factory, encoder = mlp_factory(p["hidden"]), encoders.Table("scaled")
    elif recipe.family == "embedding_network":
        factory, encoder = mlp_factory(p["hidden"]), encoders.Embedding()
    elif recipe.family == "cnn":
        factory, encoder = cnn_factory(p["channels"], p["hidden"]), encoders.Images()
    else:
        kind = input_kind(X)
        factory = recipe.given
        table = encoders.Table("scaled" if p["scale"] else "plain")
        encoder = table if kind == "tabular" else encoders.Images() if kind == "image" else encoders.Embedding()
    encoder.fit(X)
    stated = p["loss"] if soft or p["loss"] == "ce" else None
    network = TorchSurrogate(
        factory,
        loss=stated or ("soft_ce" if soft else "ce"),
        seed=seed,
        **{k: p[k] for k in ("epochs", "lr", "batch", "optimizer", "momentum", "weight_decay")},
    ).fit(encoder.transform(X), answers)
    return Surrogate(recipe, network, answers.n_classes, np.arange(answers.n_classes), encoder)


def _predict(model: Any, matrix: Any, classes: Array) -> Array:
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(matrix), dtype=np.float64)
    labels = np.asarray(model.predict(matrix))
    return np.asarray(labels[:, None] == classes, dtype=np.float64)


def _clone(estimator: Any) -> Any:
    from sklearn.base import clone

    try:
        return clone(estimator)
    except (TypeError, RuntimeError) as error:
        raise UsageError(f"the given estimator cannot be cloned ({error})") from error


def _seeded(model: Any, states: np.random.SeedSequence) -> Any:
    """Set every random_state to a number of its own, and every stated n_jobs to 1."""
    params = model.get_params()
    keys = sorted(key for key in params if key.rpartition("__")[2] == "random_state")
    values: dict[str, Any] = dict(zip(keys, (int(s) >> 1 for s in states.generate_state(len(keys))), strict=True))
    values |= {k: 1 for k, v in params.items() if k.rpartition("__")[2] == "n_jobs" and v not in (None, 1)}
    return model.set_params(**values)


def _weight_key(model: Any) -> str | None:
    """Return the argument of fit that takes sample weights, or None."""
    from sklearn.utils.validation import has_fit_parameter

    path = ""
    while hasattr(model, "steps"):
        name, model = model.steps[-1]
        path += f"{name}__"
    return f"{path}sample_weight" if has_fit_parameter(model, "sample_weight") else None


def _title(model: Any) -> str:
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return "kNN" if type(model).__name__ == "KNeighborsClassifier" else type(model).__name__


# --- the families of scikit-learn ------------------------------------------------------------------------------

_MODES: dict[str, encoders.Mode] = {"tree": "plain", "forest": "plain", "extra_trees": "plain", "hgb": "native"}


def _encoder(family: str, p: Params) -> encoders.Encoder:
    if family.startswith("image_"):
        return encoders.Pixels()
    if family.startswith("tfidf_"):
        return encoders.Words(p["ngrams"], p["features"], p["min_count"])
    if family.startswith("embedding_"):
        return encoders.Embedding()
    if family == "naive_bayes":
        return encoders.Table("binned", p["bins"])
    return encoders.Table(_MODES.get(family, "scaled"))


def _build(recipe: Recipe, encoder: Any, n: int) -> Any:
    """Return the unfitted estimator that takes the encoder's matrix of n rows."""
    family, p = recipe.family, dict(recipe.params)
    for key in ("k", "components"):  # small budgets: no more neighbours or landmarks than answers
        if key in p:
            p[key] = min(p[key], n)
    if family == "hgb":
        return _boosting(p, encoder.categorical)
    return _BUILDERS[family.removeprefix("image_").removeprefix("tfidf_").removeprefix("embedding_")](p)


def _logistic(p: Params) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    model = LogisticRegression(C=p["C"], max_iter=p["max_iter"])
    if p.get("degree", 1) == 1:
        return model
    return make_pipeline(PolynomialFeatures(p["degree"], include_bias=False), model)


def _kernel(p: Params) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    return make_pipeline(Nystroem(gamma=p["gamma"], n_components=p["components"]), _logistic(p))


def _tree(p: Params) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=p["depth"], min_samples_leaf=p["min_leaf"])


def _forest(p: Params) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(p["trees"], max_depth=p["depth"], min_samples_leaf=p["min_leaf"], n_jobs=1)


def _extra_trees(p: Params) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(p["trees"], max_depth=p["depth"], min_samples_leaf=p["min_leaf"], n_jobs=1)


def _boosting(p: Params, categorical: Array) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=p["rounds"],
        max_depth=p["depth"],
        max_leaf_nodes=max(2, p["leaves"]),
        learning_rate=p["rate"],
        l2_regularization=p["l2"],
        min_samples_leaf=p["min_leaf"],
        class_weight="balanced" if p["balanced"] else None,
        categorical_features=categorical,
        early_stopping=False,
    )


def _neighbours(p: Params) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(p["k"], weights=p["weights"], n_jobs=1)


def _bayes(p: Params) -> Any:
    from sklearn.naive_bayes import BernoulliNB

    return BernoulliNB(alpha=p["alpha"], binarize=None)


def _word_bayes(p: Params) -> Any:
    from sklearn.naive_bayes import MultinomialNB

    return MultinomialNB(alpha=p["alpha"])


def _network(p: Params) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        tuple(p["hidden"]),
        max_iter=p["epochs"],
        alpha=p["alpha"],
        learning_rate_init=p["lr"],
        batch_size="auto" if p["batch"] is None else p["batch"],
    )


_BUILDERS: dict[str, Callable[[Params], Any]] = {
    "logistic": _logistic,
    "kernel": _kernel,
    "tree": _tree,
    "forest": _forest,
    "extra_trees": _extra_trees,
    "knn": _neighbours,
    "naive_bayes": _bayes,
    "nb": _word_bayes,
    "mlp": _network,
}
