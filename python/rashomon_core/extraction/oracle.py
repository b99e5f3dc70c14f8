"""The gate: what is answered, how often, and at whose cost.

Strategies and surrogates never see the target, only what an oracle answered. The budget is hard: a batch that does
not fit is refused whole. Every answer is logged, so that "how many times was the model queried?" has one reply.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rashomon_core.errors import QueryBudgetExceeded, TargetError, UsageError

from .answers import Answers
from .defences import Defence, LabelOnly, Round, TopK, describe_defence, make_defence
from .ledger import Entry, Ledger
from .rows import as_rows, row_hashes, take
from .target import Target

__all__ = ["Oracle", "make_output"]

Array = npt.NDArray[Any]
CACHES = ("free", "charged", "off")


class Oracle:
    """Answers queries in the name of a target.

    Parameters
    ----------
    target : Target
        Not reachable through the oracle afterwards.
    output : "label", "proba", "topk:k", "round:d" or "logits"
        What an answer shows, after the defences. Logits are log-probabilities: logits up to a constant per input.
    defences : sequence
        Defences, or what :func:`~rashomon_core.extraction.defences.make_defence` takes; applied from left to right.
    budget : int, optional
        Charged answers that may be given in all; None: any number.
    cache : {"free", "charged", "off"}
        An input that was asked before is answered from memory for free, or at the price of a query, or is asked
        again. It counts by value (:func:`~rashomon_core.extraction.rows.row_hashes`).
    log : path, optional
        File of JSON lines for the ledger; the ledger of evaluations lies beside it with "-evaluation" in its name.
        Existing files are replayed: see :mod:`~rashomon_core.extraction.ledger`.
    seed : int
        Of defences with noise that state none.

    Attributes
    ----------
    ledger, evaluations : Ledger
        Answers to queries, and answers to the auditor.

    Examples
    --------
    >>> import numpy as np
    >>> from rashomon_core.extraction.oracle import Oracle
    >>> from rashomon_core.extraction.target import Target
    >>> oracle = Oracle(Target.from_callable(lambda X: X[:, 0], 2), budget=3)
    >>> oracle.query(np.array([[0.2], [0.9]])).labels.tolist(), oracle.remaining
    ([0, 1], 1)
    >>> oracle.query(np.array([[0.2], [0.2]])).labels.tolist(), oracle.remaining  # asked before: free
    ([0, 0], 1)
    """

    def __init__(
        self,
        target: Target,
        *,
        output: str = "label",
        defences: Sequence[str | Mapping[str, Any] | Defence] = (),
        budget: int | None = None,
        cache: str = "free",
        log: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        if budget is not None and (isinstance(budget, bool) or int(budget) != budget or budget < 1):
            raise UsageError(f"budget={budget!r}: at least one query, or None for any number")
        if cache not in CACHES:
            raise UsageError(f"cache={cache!r} is not one of {', '.join(CACHES)}")
        self.n_classes, self.class_names = target.n_classes, target.class_names
        self.output, self.budget, self.cache = output, None if budget is None else int(budget), cache
        # A stream for each place: the noise of two defences is not the same noise.
        self.defences = tuple(make_defence(spec, seed=seed + k) for k, spec in enumerate(defences))
        last = make_output(output)
        chain = self.defences if last is None else (*self.defences, last)

        def defended(X: Any) -> Array:
            proba = target.predict_proba(X)
            for defence in chain:
                proba = _transformed(defence, proba, X)
            return proba

        self._defended = defended
        self._plain = target.predict_proba
        header = {
            "classes": self.n_classes,
            "output": output,
            "defences": [describe_defence(d) for d in self.defences],
            "cache": cache,
        }
        beside = None
        if log is not None:
            stem, suffix = os.path.splitext(os.fspath(log))
            beside = f"{stem}-evaluation{suffix}"
        self.ledger = Ledger(log, header)
        self.evaluations = Ledger(beside, {"classes": self.n_classes, "output": "plain"})
        self._known: dict[str, Any] = {}
        self._spent = 0

    @property
    def spent(self) -> int:
        """Charged answers so far."""
        return self._spent

    @property
    def remaining(self) -> int | None:
        """Charged answers that are left; None without a budget."""
        return None if self.budget is None else self.budget - self._spent

    def query(
        self, X: Any, *, strategy: str = "", round: int = 0, purpose: str = "train", charge: bool = True
    ) -> Answers:
        """Answer inputs.

        Parameters
        ----------
        X : n rows of inputs
        strategy, round : str, int
            For the ledger.
        purpose : {"train", "select"}
            What the answers are for. Both are charged.
        charge : bool
            False: free by declaration (``purpose="select"`` only).

        Returns
        -------
        Answers

        Raises
        ------
        QueryBudgetExceeded
            The batch does not fit in what is left. Nothing was asked and nothing charged.
        TargetError
            The target raised or answered nonsense. Nothing was charged.
        """
        if purpose not in ("train", "select"):
            raise UsageError(f"purpose={purpose!r} is not train or select; the auditor's own answers are evaluate()'s")
        if not charge and purpose != "select":
            raise UsageError("only answers for selection can be declared free")
        rows = as_rows(X)
        hashes = row_hashes(rows)
        seen, fresh = set(self._known) if self.cache != "off" else set(), []
        for i, digest in enumerate(hashes):
            if self.cache == "off" or digest not in seen:
                fresh.append(i)
                seen.add(digest)
        price = (len(hashes) if self.cache == "charged" else len(fresh)) if charge else 0
        if self.budget is not None and price > self.budget - self._spent:
            raise QueryBudgetExceeded(
                f"{price} queries were asked for and {self.budget - self._spent} of the budget of {self.budget} are "
                "left; nothing was asked. Fix: ask for fewer, or state a larger budget"
            )
        answers = [entry.answer for entry in self.ledger.stored(hashes, purpose)]
        done = len(answers)
        asked = [i for i in fresh if i >= done]
        new: dict[int, Any] = {}
        if asked:
            raw = self._defended(take(rows, asked))
            new = dict(zip(asked, (self._written(row) for row in raw), strict=True))
        self.ledger.give(done)  # from here on nothing of the target's can fail
        self._known.update(zip(hashes[:done], answers, strict=True))
        is_fresh = set(fresh)
        entries: list[Entry] = []
        for i in range(done, len(hashes)):
            source = "target" if i in is_fresh else "cache"
            answer = new[i] if i in new else self._known[hashes[i]]
            self._known[hashes[i]] = answer
            charged = charge and (self.cache == "charged" or source == "target")
            index = len(self.ledger) + len(entries) + 1
            entries.append(Entry(index, hashes[i], purpose, strategy, int(round), charged, source, answer))
            answers.append(answer)
        self.ledger.add(entries)
        self._spent += price
        return self._answers(answers)

    def evaluate(self, X: Any, *, name: str = "evaluation") -> Array:
        """Return the target's own probabilities, (n, C) float64, before any defence: for the auditor, never charged.

        They are kept in a ledger of their own (``evaluations``).

        Raises
        ------
        TargetError
            When an earlier run of the same ledger was answered otherwise: it is another target.
        """
        rows = as_rows(X)
        hashes = row_hashes(rows)
        proba = self._plain(rows)
        labels = proba.argmax(axis=1).tolist()
        stored = self.evaluations.stored(hashes, "evaluate")
        for entry, label in zip(stored, labels, strict=False):
            if entry.answer != label:
                raise TargetError(
                    f"the target answers class {label} where it answered {entry.answer} in the earlier run of this "
                    "ledger: it is another target",
                    where=f"entry {entry.index} of {self.evaluations.path}",
                    fix="start in a new run folder",
                )
        self.evaluations.give(len(stored))
        first = len(self.evaluations) + 1
        rest = range(len(stored), len(hashes))
        self.evaluations.add(
            [Entry(first + k, hashes[i], "evaluate", name, 0, False, "target", labels[i]) for k, i in enumerate(rest)]
        )
        return proba

    def _written(self, row: Array) -> Any:
        """One answer as the ledger holds it."""
        if self.output == "label":
            return int(np.nan_to_num(row, nan=-1.0).argmax())
        if self.output == "logits":
            with np.errstate(divide="ignore"):
                row = np.log(row)
        # JSON has no NaN and no infinity: hidden is null, log 0 the text "-inf"
        return [None if v != v else "-inf" if v == -np.inf else v for v in row.tolist()]

    def _answers(self, written: list[Any]) -> Answers:
        C = self.n_classes
        if self.output == "label":
            return Answers.of_labels(written, C)
        raw = np.array([[np.nan if v is None else float(v) for v in row] for row in written], dtype=np.float64)
        raw = raw.reshape(len(written), C)
        hidden = np.isnan(raw)
        labels = np.where(hidden, -np.inf, raw).argmax(axis=1).astype(np.int64)
        if self.output == "logits":
            proba = np.exp(np.where(hidden, -np.inf, raw))
        else:
            proba = np.where(hidden, 0.0, raw)
            left = np.maximum(1.0 - proba.sum(axis=1), 0.0) / np.maximum(hidden.sum(axis=1), 1)
            least = np.where(hidden, np.inf, raw).min(axis=1)  # what is hidden is no larger than what is shown
            proba = np.where(hidden, np.minimum(left, least)[:, None], proba)
        sums = proba.sum(axis=1, keepdims=True)
        return Answers(labels, np.where(sums > 0, proba / np.where(sums > 0, sums, 1.0), 1.0 / C), raw, C)


def make_output(output: str) -> Defence | None:
    """Return what an output does behind the last defence, None for nothing; see :class:`Oracle`."""
    name, _, parameter = output.partition(":")
    if output in ("proba", "logits"):
        return None
    if output == "label":
        return LabelOnly()
    if name in ("topk", "round") and parameter.isdigit():
        return TopK(int(parameter)) if name == "topk" else Round(int(parameter))
    raise UsageError(f"output={output!r} is not label, proba, topk:k, round:d or logits")


def _transformed(defence: Defence, proba: Array, X: Any) -> Array:
    """Apply one defence and hold it to what it says of itself."""
    after = np.asarray(defence.transform(proba.copy(), X), dtype=np.float64)
    if after.shape != proba.shape:
        raise UsageError(f"defence {defence!r} turned shape {proba.shape} into {after.shape}")
    if np.isinf(after).any() or (after < 0).any() or np.isnan(after).all(axis=1).any():
        raise UsageError(f"defence {defence!r} made values that are infinite, negative or all hidden")
    if defence.keeps_argmax:
        moved = np.nan_to_num(proba, nan=-1.0).argmax(axis=1) != np.nan_to_num(after, nan=-1.0).argmax(axis=1)
        if moved.any():
            at = int(np.argmax(moved))
            raise UsageError(
                f"defence {defence!r} says that it keeps the argmax and does not, at input {at} of a batch: "
                f"{proba[at].tolist()} became {after[at].tolist()}"
            )
    return after
