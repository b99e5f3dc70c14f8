"""Sentence embeddings of an audit: computed once, by all workers, kept in the run folder, looked up by every task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.extraction import embedding
from rashomon_core.extraction.recipes import Recipe
from rashomon_core.workers import run_tasks

from .folder import RunFolder, commit

__all__ = ["Texts", "needed", "prepare", "recall"]

Array = npt.NDArray[Any]
#: Texts of a task: some seconds of work, so that little is lost with a process.
CHUNK = 256
_recalled: set[str] = set()


@dataclass(frozen=True)
class Texts:
    """All texts of an audit, each once, and the folder whose files hold their vectors."""

    folder: str
    texts: tuple[str, ...]

    def file(self, k: int) -> Path:
        """Return the file of a chunk."""
        return Path(self.folder) / "work" / f"embedding-{k:05d}.npy"

    def chunk(self, k: int) -> tuple[str, ...]:
        """Return the texts of a chunk."""
        return self.texts[k * CHUNK : (k + 1) * CHUNK]

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-len(self.texts) // CHUNK)


def needed(recipes: Iterable[Recipe]) -> bool:
    """Return whether a recipe learns from sentence embeddings."""
    return any(recipe.family.startswith("embedding") for recipe in recipes)


def prepare(run: RunFolder, X: Any, workers: int) -> Texts:
    """Compute the vectors of all texts that the folder does not hold, and recall them here."""
    texts = Texts(str(run.path), tuple(dict.fromkeys(str(text) for text in X)))
    left = [k for k in range(texts.chunks) if not texts.file(k).exists()]
    run_tasks(work, texts, left, workers=workers, label="embedding texts")
    recall(texts)
    return texts


def work(texts: Texts, k: int) -> int:
    """Embed one chunk and commit it."""
    import torch  # before inner threads are pinned

    torch.set_num_threads(1)
    vectors = embedding.embed(texts.chunk(k))
    commit(texts.file(k), np.asarray(vectors), {"texts": len(vectors)})
    return k


def recall(texts: Texts | None) -> None:
    """Put the vectors of a folder where surrogates look them up; once in a process."""
    if texts is None or texts.folder in _recalled:
        return
    for k in range(texts.chunks):
        embedding.remember(texts.chunk(k), np.load(texts.file(k), allow_pickle=False))
    _recalled.add(texts.folder)
