"""Surrogates: recipes, soft answers, containers of rows, determinism; scipy and plain scikit-learn are the judges."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from rashomon_core.errors import AnswersError, InvalidInputError, UsageError
from rashomon_core.extraction import encoders
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.recipes import FAMILIES, Recipe, default_recipes, make_recipe
from rashomon_core.extraction.surrogates import expand, fit_surrogate

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

TABULAR = sorted(name for name, family in FAMILIES.items() if family.kind == "tabular" and not family.needs)
IMAGE = sorted(name for name, family in FAMILIES.items() if family.kind == "image" and not family.needs)
TEXT = sorted(name for name, family in FAMILIES.items() if family.kind == "text" and not family.needs)


def numbers(n=200, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    z = X @ rng.normal(size=(4, classes)) * 2
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return X, Answers.of_proba(p / p.sum(axis=1, keepdims=True))


def people(n=200, seed=0):
    """A frame with everything that frames have: gaps, texts, flags, categories, nullable integers."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "job": rng.choice(["clerk", "smith", "nurse"], n),
            "owns": rng.random(n) < 0.5,
            "size": pd.Categorical(rng.choice(["s", "m"], n)),
            "count": pd.array(rng.integers(0, 5, n), dtype="Int64"),
            "mixed": rng.choice(np.array(["a", 1, 1.0], dtype=object), n),
            "constant": 7,
            "gone": np.nan,
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[::9, "job"] = None
    frame.loc[::11, "count"] = pd.NA
    p = 1 / (1 + np.exp(-(frame["age"].fillna(50) - 50) / 10 - 2.0 * (frame["job"] == "nurse")))
    return frame, Answers.of_proba(np.column_stack([1 - p, p]))


def pictures(n=60, colours=True, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n, 28, 28, 3) if colours else (n, 28, 28)
    X = rng.integers(0, 100, shape, dtype=np.uint8)
    labels = np.arange(n) % 2
    X[labels == 1, 8:20, 8:20] += 100
    return X, Answers.of_labels(labels, 2)


def sentences(n=60):
    good, bad = ["a fine film", "truly great work", "lovely and fine"], ["a dull film", "truly bad work", "boring, bad"]
    X = np.array([(good if i % 2 else bad)[i % 3] + f" number {i % 5}" for i in range(n)], dtype=object)
    return X, Answers.of_labels(np.arange(n) % 2, 2)


# --- recipes


def test_recipes_are_plain_data():
    recipe = make_recipe({"family": "mlp", "hidden": (64, 32), "epochs": np.int64(50), "answers": "soft"})
    assert recipe.name == "mlp-hidden64x32-epochs50-soft"
    assert recipe.to_dict() == {
        "name": recipe.name,
        "family": "mlp",
        "hidden": [64, 32],
        "epochs": 50,
        "lr": 0.003,
        "batch": None,
        "alpha": 0.0001,
        "answers": "soft",
    }
    assert make_recipe(recipe.to_dict()) == recipe
    assert make_recipe(recipe) is recipe
    assert make_recipe("forest").params["trees"] == 100
    assert make_recipe({"family": "tree", "name": "my-tree_1"}).name == "my-tree_1"
    recipe.params["hidden"].append(1)  # a recipe owns its lists
    assert make_recipe({"family": "mlp"}).params["hidden"] == [32]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("forrest", "did you mean 'forest'"),
        ({"family": "forest", "dpth": 3}, "forest has no parameter 'dpth'; did you mean 'depth'"),
        ({"family": "forest", "depth": 0}, "depth of forest is 0 and must be a whole number from 1, or null"),
        ({"family": "forest", "trees": True}, "trees of forest is True"),
        ({"family": "logistic", "C": -1.0}, "must be a number above 0"),
        ({"family": "logistic", "C": float("nan")}, "must be a number above 0"),
        ({"family": "mlp", "hidden": 32}, "must be a list of whole numbers"),
        ({"family": "knn", "weights": "far"}, "one of distance, uniform"),
        ({"family": "torch_mlp", "loss": "kd"}, "must be 'ce', 'soft_ce', 'kd:T'"),
        ({"family": "torch_mlp", "loss": "ce", "answers": "soft"}, "learns hard answers"),
        ({"family": "tree", "answers": "both"}, "'hard' or 'soft'"),
        ({"family": "tree", "name": "../tree"}, "letters, digits"),
        ({"depth": 3}, "one of family, estimator and factory; here none"),
        ({"family": "tree", "factory": len}, "here family, factory"),
        ({"estimator": object()}, "object is not a scikit-learn estimator"),
        ({"estimator": dict}, "dict is not a scikit-learn estimator"),
        ({"factory": 3}, "cannot be called"),
        (3, "a name or a dictionary and not int"),
    ],
)
def test_bad_recipes(spec, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.").replace("(", r"\(")) as caught:
        make_recipe(spec)
    assert caught.value.exit_code == 2


def test_an_estimator_has_its_own_parameters():
    from sklearn.tree import DecisionTreeClassifier

    with pytest.raises(UsageError, match="depth cannot be set beside it"):
        make_recipe({"estimator": DecisionTreeClassifier(), "depth": 3})
    recipe = make_recipe({"estimator": DecisionTreeClassifier(max_depth=3)})
    assert recipe.name == "DecisionTreeClassifier-hard"
    assert recipe.to_dict()["estimator"] == "DecisionTreeClassifier(max_depth=3)"
    assert recipe.seeded


@pytest.mark.parametrize("kind", ["tabular", "image", "text"])
def test_default_pools(kind):
    pool = default_recipes(kind=kind)
    assert len({recipe.name for recipe in pool}) == len(pool) >= 3
    without_torch = kind == "image" and FAMILIES["cnn"].missing() is not None
    assert {recipe.answers for recipe in pool} == ({"hard"} if without_torch else {"hard", "soft"})
    assert all(FAMILIES[recipe.family].kind == kind for recipe in pool)
    assert all(make_recipe(recipe.to_dict()) == recipe for recipe in pool)


def test_the_kind_is_read_off_the_rows():
    assert default_recipes(numbers()[0]) == default_recipes(people()[0]) == default_recipes(kind="tabular")
    assert default_recipes(pictures()[0]) == default_recipes(kind="image")
    assert default_recipes(sentences()[0]) == default_recipes(kind="text")
    with pytest.raises(UsageError, match="did you mean 'image'"):
        default_recipes(kind="images")


# --- soft answers


def test_expanded_rows_are_the_cross_entropy():
    """Logistic regression on weighted rows against scipy's minimum of the soft cross-entropy itself."""
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    from sklearn.linear_model import LogisticRegression

    X, answers = numbers(n=120)
    p, C = answers.soft(), 0.7

    def objective(flat):
        W, b = flat[:12].reshape(3, 4), flat[12:]
        z = X @ W.T + b
        z = z - z.max(axis=1, keepdims=True)
        log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        slope = np.exp(log_q) - p
        value = -(p * log_q).sum() + (W**2).sum() / (2 * C)
        return value, np.concatenate([(slope.T @ X + W / C).ravel(), slope.sum(axis=0)])

    best = optimize.minimize(objective, np.zeros(15), jac=True, method="BFGS", options={"gtol": 1e-9})
    W, b = best.x[:12].reshape(3, 4), best.x[12:]
    z = X @ W.T + b
    q = np.exp(z - z.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    recipe = {"estimator": LogisticRegression(C=C, tol=1e-10, max_iter=5000), "answers": "soft"}
    surrogate = fit_surrogate(recipe, X, answers, seed=0)
    assert np.abs(surrogate.predict_proba(X) - q).max() < 1e-5
    assert surrogate.notes == ()


def test_expand_leaves_zeros_out_and_keeps_weight():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 50)
    p[::3, 1] = 0
    p /= p.sum(axis=1, keepdims=True)
    rows, labels, weights = expand(Answers.of_proba(p))
    assert len(rows) == (p > 0).sum()
    back = np.zeros_like(p)
    np.add.at(back, (rows, labels), weights)
    assert (back == p).all()
    one_hot = expand(Answers.of_labels([2, 0], 3))
    assert [part.tolist() for part in one_hot] == [[0, 1], [2, 0], [1.0, 1.0]]


def test_soft_is_hard_with_a_note_where_it_cannot_be():
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, answers = numbers()
    stack = StackingClassifier([("near", KNeighborsClassifier())], LogisticRegression(), cv=2)
    for spec in ({"family": "knn"}, {"estimator": make_pipeline(StandardScaler(), KNeighborsClassifier())},
                 {"estimator": stack}):  # fmt: skip
        soft = fit_surrogate({**spec, "answers": "soft"}, X, answers, seed=0)
        assert any("takes no sample weights: hard labels were used" in note for note in soft.notes)
        assert (soft.predict_proba(X) == fit_surrogate(spec, X, answers, seed=0).predict_proba(X)).all()
    only_labels = Answers.of_labels(answers.labels, 3)
    soft = fit_surrogate({"family": "tree", "answers": "soft"}, X, only_labels, seed=0)
    assert soft.notes == ("only labels were answered: hard labels were used",)


def test_soft_pipelines_get_weights_in_the_last_step():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    X, answers = numbers()
    inner = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=2000))
    surrogate = fit_surrogate({"estimator": make_pipeline(inner), "answers": "soft"}, X, answers, seed=0)
    rows, labels, weights = expand(answers)
    by_hand = LogisticRegression(max_iter=2000)
    by_hand.fit(PolynomialFeatures(2).fit_transform(X[rows]), labels, sample_weight=weights)
    expected = by_hand.predict_proba(PolynomialFeatures(2).fit_transform(X))
    assert np.abs(surrogate.predict_proba(X) - expected).max() < 1e-12
    assert not hasattr(inner, "n_features_in_")  # the user's object stays unfitted


# --- rows


@pytest.mark.parametrize("answers_kind", ["hard", "soft"])
@pytest.mark.parametrize("family", TABULAR)
def test_tabular_families(family, answers_kind):
    recipe = make_recipe({"family": family, "answers": answers_kind})
    for X, answers in (numbers(), people()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # silent
            surrogate = fit_surrogate(recipe, X, answers, seed=3)
            p = surrogate.predict_proba(X)
        assert p.shape == (200, answers.n_classes)
        assert p.dtype == np.float64
        assert np.abs(p.sum(axis=1) - 1).max() < 1e-9
        assert (p.argmax(axis=1) == answers.labels).mean() > (0.6 if family == "naive_bayes" else 0.75)
        again = fit_surrogate(recipe, X, answers, seed=3).predict_proba(X)
        assert again.tobytes() == p.tobytes()
        assert surrogate.predict_proba(X[:0]).shape == (0, answers.n_classes)


def test_unseen_categories_and_gaps_that_come_later():
    X, answers = people()
    later = X.head(4).copy()
    later["job"] = later["job"].astype(object)
    later.loc[0, "job"] = "pilot"
    later["age"] = np.nan
    later["constant"] = [np.nan, 8, 9, 10]
    for family in TABULAR:
        p = fit_surrogate(family, X, answers, seed=0).predict_proba(later)
        assert np.abs(p.sum(axis=1) - 1).max() < 1e-9


def test_frames_that_are_not_like_the_fitted_ones():
    X, answers = people()
    surrogate = fit_surrogate("logistic", X, answers, seed=0)
    with pytest.raises(InvalidInputError, match="columns job differ"):
        surrogate.predict_proba(X.drop(columns="job"))
    with pytest.raises(InvalidInputError, match="order of the columns"):
        surrogate.predict_proba(X[X.columns[::-1]])
    with pytest.raises(InvalidInputError, match="column age held numbers"):
        surrogate.predict_proba(X.assign(age="old"))
    with pytest.raises(InvalidInputError, match="infinite at row 1, column age"):
        surrogate.predict_proba(X.assign(age=[0.0, np.inf, *[1.0] * 198]))
    numeric = fit_surrogate("logistic", *numbers(), seed=0)
    with pytest.raises(InvalidInputError, match="5 columns and the surrogate was fitted on 4"):
        numeric.predict_proba(np.zeros((2, 5)))


def test_table_against_scikit_learn():
    """Medians, indicators, scales and one-hot columns are those of the transformers that do one thing each."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    X, _ = people()
    new, _ = people(seed=1)
    table = encoders.Table("scaled")
    table.fit(X)
    matrix = table.transform(new)
    names = ["age", "owns", "count", "constant"]
    fitted = X[names].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    wanted = new[names].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    fill = SimpleImputer(strategy="median").fit(fitted)
    scaled = StandardScaler().fit(fill.transform(fitted)).transform(fill.transform(wanted))
    assert np.abs(matrix[:, :4] - scaled).max() < 1e-12
    assert (matrix[:, 4] == 0).all()  # a column without a single value
    assert (matrix[:, 5:8] == new[["age", "count", "gone"]].isna().to_numpy()).all()
    texts = ["job", "size", "mixed"]
    hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    hot.fit(X[texts].astype(object).fillna("").astype(str).replace("1.0", "1"))
    expected = hot.transform(new[texts].astype(object).fillna("").astype(str).replace("1.0", "1"))
    assert matrix[:, 8:].sum() == expected.sum() == 3 * len(new)
    assert sorted(matrix[:, 8:].sum(axis=0)) == sorted(expected.sum(axis=0))


def test_native_and_binned_tables():
    X, _ = people()
    native = encoders.Table("native")
    native.fit(X)
    matrix = native.transform(X)
    assert matrix.shape == (200, 8)
    assert native.categorical.tolist() == [False] * 5 + [True] * 3
    assert (np.isnan(matrix[:, 0]) == X["age"].isna()).all()
    assert set(matrix[:, 5]) == {0.0, 1.0, 2.0, 3.0}  # three jobs and the missing one
    binned = encoders.Table("binned", bins=4)
    values = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    binned.fit(values)
    assert binned.transform(values).tolist() == [
        [1, 0, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


def test_many_categories_keep_the_most_frequent():
    names = [f"n{i:04d}" for i in range(600)] + ["often"] * 20
    table = encoders.Table("plain")
    table.fit(pd.DataFrame({"name": names}))
    assert table.transform(pd.DataFrame({"name": ["often", "n0599", "new"]})).sum(axis=1).tolist() == [1, 0, 0]
    assert len(table.tables[0]) == encoders.MAX_CATEGORIES
    labels = Answers.of_labels(np.arange(620) % 2, 2)
    for family in ("hgb", "logistic"):
        fit_surrogate(family, pd.DataFrame({"name": names}), labels, seed=0)


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("family", IMAGE)
def test_image_families(family, colours):
    X, answers = pictures(colours=colours)
    surrogate = fit_surrogate(family, X, answers, seed=0)
    assert (surrogate.predict_proba(X).argmax(axis=1) == answers.labels).mean() > 0.95
    with pytest.raises(InvalidInputError, match="fitted on"):
        surrogate.predict_proba(X[:, :20])
    with pytest.raises(InvalidInputError, match="takes images"):
        fit_surrogate(family, np.zeros((60, 5)), answers, seed=0)


@pytest.mark.parametrize("family", TEXT)
def test_text_families(family):
    X, answers = sentences()
    surrogate = fit_surrogate(family, X, answers, seed=0)
    assert (surrogate.predict_proba(X).argmax(axis=1) == answers.labels).mean() > 0.95
    assert surrogate.predict_proba(["never seen", ""]).shape == (2, 2)
    with pytest.raises(InvalidInputError, match="takes texts"):
        fit_surrogate(family, np.zeros((60, 5)), answers, seed=0)
    with pytest.raises(InvalidInputError, match="no vocabulary"):
        fit_surrogate(family, [""] * 60, answers, seed=0)
    with pytest.raises(InvalidInputError, match="cannot be read as a table"):
        fit_surrogate("tree", X, answers, seed=0)


def test_a_pipeline_of_the_user_gets_frames_as_they_are():
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier

    X, answers = people()
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["job"]), ("passthrough", ["age"])),
        DecisionTreeClassifier(),
    )
    for kind in ("hard", "soft"):
        surrogate = fit_surrogate({"estimator": pipeline, "answers": kind}, X, answers, seed=0)
        assert (surrogate.predict_proba(X).argmax(axis=1) == answers.labels).mean() > 0.9
    with pytest.raises(InvalidInputError, match="'DecisionTreeClassifier-hard' cannot be fitted"):
        fit_surrogate({"estimator": DecisionTreeClassifier()}, X, answers, seed=0)


def test_estimators_without_probabilities_and_with_seeds_inside():
    from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
    from sklearn.svm import LinearSVC

    X, answers = numbers()
    labels_only = fit_surrogate({"estimator": LinearSVC()}, X, answers, seed=0)
    assert set(np.unique(labels_only.predict_proba(X))) == {0.0, 1.0}
    assert "LinearSVC gives labels only: scores are 0 and 1" in labels_only.notes
    bag = BaggingClassifier(RandomForestClassifier(5, random_state=1), n_estimators=3, random_state=1, n_jobs=2)
    models = [fit_surrogate({"estimator": bag}, X, answers, seed=s) for s in (0, 0, 1)]
    p = [model.predict_proba(X).tobytes() for model in models]
    assert p[0] == p[1] != p[2]
    assert models[0].model.n_jobs == 1
    assert models[0].model.random_state != models[0].model.estimator.random_state
    assert bag.random_state == 1


# --- classes, errors


def test_classes_that_are_never_answered_are_zero_columns():
    X, _ = numbers()
    labels = np.where(X[:, 0] > 0, 4, 1)
    hard = Answers.of_labels(labels, 6)
    p = np.zeros((200, 6))
    p[:, [1, 4]] = 0.1
    p[np.arange(200), labels] = 0.9
    for answers in (hard, Answers.of_proba(p)):
        for family in TABULAR:
            got = fit_surrogate({"family": family, "answers": "soft"}, X, answers, seed=0).predict_proba(X)
            assert (got[:, [0, 2, 3, 5]] == 0).all()
            assert np.abs(got.sum(axis=1) - 1).max() < 1e-9


def test_answers_that_teach_nothing():
    X, answers = numbers()
    with pytest.raises(AnswersError, match="all 200 answers are class 2") as caught:
        fit_surrogate("tree", X, Answers.of_labels(np.full(200, 2), 3), seed=0)
    assert caught.value.exit_code == 5
    with pytest.raises(AnswersError, match="2 answers are fewer than the 3 classes"):
        fit_surrogate("tree", X[:2], answers.take([0, 1]), seed=0)
    with pytest.raises(InvalidInputError, match="199 inputs and 200 answers"):
        fit_surrogate("tree", X[:-1], answers, seed=0)
    with pytest.raises(UsageError, match="seed is -1"):
        fit_surrogate("tree", X, answers, seed=-1)


def test_few_answers_are_enough_for_every_family():
    X, answers = numbers(n=6, classes=2)
    assert len(set(answers.labels.tolist())) == 2
    for recipe in default_recipes(X):
        assert fit_surrogate(recipe, X, answers, seed=0).predict_proba(X).shape == (6, 2)


def test_a_model_that_predicts_nan_is_named():
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Broken(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, X):
            return np.full((len(X), len(self.classes_)), np.nan)

    X, answers = numbers()
    surrogate = fit_surrogate({"estimator": Broken(), "name": "broken"}, X, answers, seed=0)
    with pytest.raises(InvalidInputError, match=r"'broken' predicts .* 600 of them not finite"):
        surrogate.predict_proba(X)
    with pytest.raises(UsageError, match="gradients are those of networks"):
        surrogate.gradient(X, answers.labels)


# --- determinism

_CODE = """
import hashlib, numpy as np
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.surrogates import default_recipes, fit_surrogate
rng = np.random.default_rng(0)
X = rng.normal(size=(150, 3))
p = 1 / (1 + np.exp(-3 * X[:, 0]))
answers = Answers.of_proba(np.column_stack([1 - p, p]))
h = hashlib.sha256()
for recipe in default_recipes(X):
    h.update(fit_surrogate(recipe, X, answers, seed=12345678901).predict_proba(X).tobytes())
print(h.hexdigest())
"""


def test_the_same_bytes_in_two_processes():
    runs = [
        subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True, timeout=300)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) == 65
    assert runs[0].stderr == ""


def test_the_global_random_state_is_left_alone():
    X, answers = numbers()
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    for recipe in default_recipes(X):
        fit_surrogate(recipe, X, answers, seed=0)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_recipes_compare_by_value():
    assert make_recipe("tree") == Recipe("tree-hard", "tree", {"depth": 8, "min_leaf": 1})


def test_surrogates_travel_between_processes():
    X, answers = people(60)
    for recipe in default_recipes(X):
        surrogate = fit_surrogate(recipe, X, answers, seed=0)
        back = pickle.loads(pickle.dumps(surrogate))
        assert back.predict_proba(X).tobytes() == surrogate.predict_proba(X).tobytes()
        assert back.recipe == recipe


def test_surrogates_make_a_tensor():
    import rashomon_core as rc

    X, answers = people(60)
    models = {recipe.name: fit_surrogate(recipe, X, answers, seed=0) for recipe in default_recipes(X)[:4]}
    tensor = rc.predict_all(models, X)
    assert tensor.shape == (4, 60, 2)
    assert tensor.model_ids == tuple(models)
    assert rc.fidelity(rc.decide(tensor), answers.labels).min() > 0.8
