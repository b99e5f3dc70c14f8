"""The model under audit, in the owner's own process: one checked way to its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import InvalidInputError, TargetError, UsageError
from rashomon_core.predictions import Predictions

from .rows import as_rows, take

__all__ = ["Target"]

Array = npt.NDArray[Any]
#: Inputs that a torch module is given at a time.
BATCH = 1024


class Target:
    """A model that is audited.

    Make one with :meth:`from_estimator`, :meth:`from_torch` or :meth:`from_callable`. What it answers is checked on
    every call: shape, NaN, range and row sums (1e-3 for float16 and float32, 1e-6 for float64); what passes is
    divided by its row sums in float64.

    Attributes
    ----------
    n_classes : int
    class_names : tuple of str, or None
    name : str
        For reports.
    """

    def __init__(
        self,
        answer: Callable[[Any], Any],
        n_classes: int,
        *,
        class_names: Sequence[object] | None = None,
        name: str = "target",
    ) -> None:
        if isinstance(n_classes, bool) or int(n_classes) != n_classes or n_classes < 2:
            raise UsageError(f"n_classes={n_classes!r}: a target tells at least 2 classes apart")
        if class_names is not None and len(class_names) != n_classes:
            raise UsageError(f"{len(class_names)} class names for {n_classes} classes")
        self._answer = answer
        self.n_classes = int(n_classes)
        self.class_names = None if class_names is None else tuple(str(c) for c in class_names)
        self.name = name

    def __repr__(self) -> str:
        return f"<Target {self.name}: {self.n_classes} classes>"

    @classmethod
    def from_estimator(cls, estimator: Any, *, n_classes: int | None = None, name: str | None = None) -> Target:
        """Take a fitted scikit-learn classifier or pipeline.

        Parameters
        ----------
        estimator : fitted classifier
            With ``predict_proba``, else ``predict`` (decisions are then its probabilities).
        n_classes : int, optional
            Number of classes when the estimator may have seen fewer: its ``classes_`` are then class indices.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.tree import DecisionTreeClassifier
        >>> from rashomon_core.extraction.target import Target
        >>> tree = DecisionTreeClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> Target.from_estimator(tree).predict_proba(np.array([[0.2], [0.9]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        classes = getattr(estimator, "classes_", None)
        if classes is None and hasattr(estimator, "n_classes") and hasattr(estimator, "predict_proba"):
            return cls(estimator.predict_proba, estimator.n_classes, name=name or type(estimator).__name__)
        if classes is None or isinstance(classes, list):
            raise UsageError(
                f"{type(estimator).__name__} has no classes_: it is not a fitted classifier of one output. "
                "Fix: fit it first, or use Target.from_callable"
            )
        known = np.asarray(classes)
        C = len(known) if n_classes is None else n_classes
        columns = np.arange(len(known))
        if len(known) != C:
            if known.dtype.kind not in "iu" or known.min() < 0 or known.max() >= C:
                raise UsageError(f"n_classes={C}, but the estimator's classes are {known.tolist()}")
            columns = known.astype(np.int64)
        scores = hasattr(estimator, "predict_proba")
        if not scores and not hasattr(estimator, "predict"):
            raise UsageError(f"{type(estimator).__name__} has neither predict_proba nor predict")

        def answer(X: Any) -> Array:
            if scores:
                own = np.asarray(estimator.predict_proba(X))
            else:
                own = (np.asarray(estimator.predict(X))[:, None] == known[None, :]).astype(np.float64)
            if own.ndim != 2 or own.shape[1] != len(columns) or len(columns) == C:
                return own
            full = np.zeros((len(own), C), dtype=own.dtype)
            full[:, columns] = own
            return full

        names = known.tolist() if len(known) == C and known.dtype.kind in "OUST" else None
        return cls(answer, C, class_names=names, name=name or type(estimator).__name__)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        transform: Callable[[Any], Any] | None = None,
        *,
        n_classes: int | None = None,
        batch: int = BATCH,
        name: str | None = None,
    ) -> Target:
        """Take a trained torch module whose output is logits, (n, C), or one logit of class 1, (n, 1) or (n,).

        Parameters
        ----------
        transform : callable, optional
            Turns rows of inputs into what the module takes; default a float32 tensor.
        n_classes : int, optional
            Default: the width of the last layer that has one; 2 for a single logit.
        batch : int
            Inputs at a time.
        """
        if n_classes is None:
            widths = [getattr(part, "out_features", None) for part in module.modules()]
            known = [w for w in widths if w is not None]
            if not known:
                raise UsageError("the number of classes cannot be read from the module. Fix: give n_classes")
            n_classes = max(2, known[-1])

        def answer(X: Any) -> Array:
            import torch

            training = module.training
            module.eval()
            parts = []
            try:
                with torch.inference_mode():
                    for start in range(0, max(1, len(X)), batch):
                        rows = take(X, slice(start, start + batch))
                        given = transform(rows) if transform else torch.as_tensor(np.asarray(rows, dtype=np.float32))
                        logits = module(given).to(torch.float64)
                        if logits.ndim == 1 or logits.shape[1] == 1:
                            one = torch.sigmoid(logits.reshape(-1))
                            parts.append(torch.stack([1 - one, one], dim=1).numpy())
                        else:
                            parts.append(torch.softmax(logits, dim=1).numpy())
            finally:
                module.train(training)
            return np.concatenate(parts)

        return cls(answer, n_classes, name=name or type(module).__name__)

    @classmethod
    def from_callable(
        cls,
        function: Callable[[Any], Any],
        n_classes: int,
        *,
        class_names: Sequence[object] | None = None,
        name: str | None = None,
    ) -> Target:
        """Take any function from rows of inputs to answers.

        Parameters
        ----------
        function : callable
            Returns (n, C) probabilities; or (n,) floats P(class 1) when there are two classes; or (n,) integer class
            indices.
        n_classes : int

        Examples
        --------
        >>> import numpy as np
        >>> from rashomon_core.extraction.target import Target
        >>> target = Target.from_callable(lambda X: X[:, 0] > 0, 2)
        >>> target.predict_proba(np.array([[-1.0], [2.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        if not callable(function):
            raise UsageError(f"{function!r} cannot be called")
        called = name or str(getattr(function, "__name__", "callable"))
        return cls(function, n_classes, class_names=class_names, name=called)

    def predict_proba(self, X: Any) -> Array:
        """Return checked probabilities, (n, C) float64.

        Raises
        ------
        TargetError
            When the model raises, or its answer has a wrong shape, NaN, values outside [0, 1], or rows that do not
            sum to 1.
        """
        rows = as_rows(X)
        try:
            own = self._answer(rows)
        except TargetError:
            raise
        except Exception as error:
            raise TargetError(
                f"the target {self.name!r} raised {type(error).__name__}: {error}", where=f"a batch of {len(rows)}"
            ) from error
        return self._checked(np.asarray(own), len(rows))

    def _checked(self, own: Array, n: int) -> Array:
        C, fix = self.n_classes, f"return ({n}, {self.n_classes}) probabilities"
        if own.ndim == 1 and own.dtype.kind in "biu" and own.shape == (n,):
            if n and (own.min() < 0 or own.max() >= C):
                at = int(np.argmax((own < 0) | (own >= C)))
                raise TargetError(
                    f"the target {self.name!r} answered a class that is none of 0..{C - 1}",
                    where=f"sample {at}",
                    value=own[at],
                )
            return np.eye(C)[own.astype(np.int64)]
        if own.dtype.kind != "f":
            raise TargetError(f"the target {self.name!r} answered {own.dtype} of shape {own.shape}", fix=fix)
        if own.ndim == 1 and C == 2:
            own = np.stack([1 - own, own], axis=1)
        if own.shape != (n, C):
            raise TargetError(
                f"the target {self.name!r} answered shape {own.shape} for {n} inputs and {C} classes", fix=fix
            )
        if n == 0:
            return own.astype(np.float64)
        try:
            Predictions.from_array(np.ascontiguousarray(own)[None], kind="proba", model_ids=[self.name]).validate()
        except InvalidInputError as error:
            raise TargetError(f"the target's answer is not a probability for every class: {error}") from None
        p = own.astype(np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))
