"""``predict_all``: the predictions of a list of fitted models as one tensor."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInputError, OutputError, UsageError
from .predictions import Predictions
from .store import open_predictions, save_predictions

__all__ = ["predict_all"]

Array = npt.NDArray[Any]


def predict_all(
    models: Sequence[Any] | Mapping[str, Any], X: Any, *, out: str | os.PathLike[str] | None = None
) -> Predictions:
    """Predict ``X`` with every model and return one tensor.

    Parameters
    ----------
    models : sequence, or mapping of model id to model
        Fitted scikit-learn estimators or pipelines (``predict_proba``, else ``predict``), torch modules (their output
        is taken as logits, and turned into probabilities), or callables that return an array. All of one kind: scores
        of the same classes, or labels.
    X : whatever the models take
        For torch modules a tensor, or an array that becomes a float32 tensor.
    out : path, optional
        Write the tensor to this .npy (with its .json) and return a view of the file: nothing but one model's answers
        is ever in memory.

    Returns
    -------
    Predictions
        (M, N, C) float64 probabilities, or (M, N) int64 labels; class names from ``classes_`` where models have them.

    Raises
    ------
    InvalidInputError
        When models differ in classes, number of samples or kind of answer; the message names the model.

    Examples
    --------
    >>> import numpy as np, rashomon_core as rc
    >>> rc.predict_all({"a": lambda X: np.array([0, 1]), "b": lambda X: np.array([1, 1])}, X=None)
    <Predictions labels: 2 models x 2 samples, 2 classes, int64>
    """
    named = list(models.items()) if isinstance(models, Mapping) else [(str(k), m) for k, m in enumerate(models)]
    if not named:
        raise UsageError("no models were given")
    first, classes = _answer(named[0][1], X, named[0][0])
    with tempfile.TemporaryFile(prefix="rashomon-core-") as file:
        shape = (len(named), *first.shape)
        if out is None:
            tensor: Array = np.empty(shape, dtype=first.dtype)
        else:
            _check_folder(Path(out))
            file.truncate(int(np.prod(shape)) * first.dtype.itemsize)
            tensor = np.memmap(file, dtype=first.dtype, mode="r+", shape=shape)
        tensor[0] = first
        for k, (name, model) in enumerate(named[1:], start=1):
            answer, own = _answer(model, X, name)
            if own != classes or answer.shape != first.shape or answer.dtype.kind != first.dtype.kind:
                raise InvalidInputError(
                    f"model {name!r} answers {answer.shape} {answer.dtype} with classes {own}, the first model "
                    f"{first.shape} {first.dtype} with classes {classes}",
                    where=f"model {k} ({name!r})",
                    fix="give models of the same classes and the same kind of answer",
                )
            tensor[k] = answer
        view = Predictions.from_array(
            tensor,
            n_classes=None if classes is None else len(classes),
            model_ids=[name for name, _ in named],
            class_names=classes,
        )
        view.validate()
        if out is None:
            return view
        return open_predictions(save_predictions(view, Path(out)))


def _check_folder(out: Path) -> None:
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder. Fix: make it first")


def _answer(model: Any, X: Any, name: str) -> tuple[Array, tuple[str, ...] | None]:
    """Return one model's answers, (N, C) floats or (N,) integers, and its class names."""
    classes = getattr(model, "classes_", None)
    named = None if classes is None or isinstance(classes, list) else tuple(str(c) for c in classes)
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X), dtype=np.float64), named
    if hasattr(model, "predict"):
        return _codes(np.asarray(model.predict(X)), classes, name), named
    if hasattr(model, "parameters") and hasattr(model, "eval"):
        return _torch_answer(model, X), None
    if callable(model):
        answer = np.asarray(model(X))
        return (answer.astype(np.float64) if answer.dtype.kind == "f" else answer.astype(np.int64)), None
    raise UsageError(f"model {name!r} has neither predict_proba nor predict and cannot be called")


def _codes(labels: Array, classes: Any, name: str) -> Array:
    if classes is not None:
        known = np.asarray(classes)
        codes = np.searchsorted(known, labels)
        if (codes < len(known)).all() and (known[np.minimum(codes, len(known) - 1)] == labels).all():
            return codes.astype(np.int64)
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    raise InvalidInputError(f"model {name!r} predicts {labels.dtype} and has no classes_", fix="give classifiers")


def _torch_answer(module: Any, X: Any) -> Array:
    import torch

    batch = X if isinstance(X, torch.Tensor) else torch.as_tensor(np.asarray(X, dtype=np.float32))
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            logits = module(batch).to(torch.float64)
    finally:
        module.train(training)
    if logits.ndim == 1 or logits.shape[1] == 1:  # one logit: P(class 1)
        p = torch.sigmoid(logits.reshape(-1))
        logits = torch.stack([1 - p, p], dim=1)
        return np.asarray(logits.numpy())
    return np.asarray(torch.softmax(logits, dim=1).numpy())
