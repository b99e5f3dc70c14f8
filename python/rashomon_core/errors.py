"""The one exception tree.

Every error of the library derives from :class:`RashomonError` and carries the exit code of the command line, so
that Python users and shell users see the same classes of failure. Messages say what was wrong, where (file,
model, sample, value) and how to fix it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AnswersError",
    "InvalidInputError",
    "LabelTypeError",
    "MissingDependencyError",
    "OutputError",
    "QueryBudgetExceeded",
    "RashomonError",
    "SelectedOnEvaluationWarning",
    "TargetError",
    "UncertifiedError",
    "UncertifiedWarning",
    "UsageError",
    "WorkerError",
    "suggestion",
]


def suggestion(word: object, known: Iterable[object]) -> str:
    """Return the end of a message about an unknown word: the nearest known one, or all of them.

    Examples
    --------
    >>> from rashomon_core.errors import suggestion
    >>> suggestion("entrpy", ["natural", "entropy"]), suggestion("zzz", ["natural", "entropy"])
    ("; did you mean 'entropy'?", '; known are natural, entropy')
    """
    import difflib

    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(word), names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if names else "; there are none"


class RashomonError(Exception):
    """Base of every error that rashomon-core raises on purpose."""

    exit_code = 3


class UsageError(RashomonError, ValueError):
    """The call itself makes no sense: options that exclude each other, an epsilon without a loss."""

    exit_code = 2


class MissingDependencyError(RashomonError, ImportError):
    """An optional library is needed for this and is not installed."""

    exit_code = 2

    def __init__(self, library: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library!r}, which is not installed. "
            f"Fix: pip install 'rashomon-core[{extra}]'"
        )
        self.library = library

    def __reduce__(self) -> tuple[Any, ...]:
        """Come back from a worker as what it was."""
        return _again, (type(self), self.args, self.__dict__)


def _again(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Return an exception with these arguments, whatever its constructor takes."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class OutputError(RashomonError, OSError):
    """A result could not be written. Nothing partial is left behind."""

    exit_code = 3


class InvalidInputError(RashomonError, ValueError):
    """Data that cannot be what it was declared to be.

    Parameters
    ----------
    what : str
        What is wrong, in one clause.
    file : str, optional
        The file, when the data came from one.
    where : str, optional
        The place: "model 3 ('m3'), sample 17, class 0".
    value : object, optional
        The offending value.
    fix : str, optional
        What the user can do about it.
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        file: str | None = None,
        where: str | None = None,
        value: object = None,
        fix: str | None = None,
    ) -> None:
        text = what if file is None else f"{file}: {what}"
        if where is not None:
            text += f" at {where}"
        if value is not None:
            text += f": value {value}"
        if fix is not None:
            text += f". Fix: {fix}"
        super().__init__(text)
        self.what, self.file, self.where, self.value, self.fix = what, file, where, value, fix


class LabelTypeError(InvalidInputError, TypeError):
    """Scores were given where decisions are needed."""


class TargetError(InvalidInputError):
    """The target under audit raised, or answered something that is not what a classifier answers."""


class AnswersError(RashomonError):
    """A stage cannot get the answers that it needs: one class only, or fewer answers than classes."""

    exit_code = 5


class QueryBudgetExceeded(AnswersError):
    """More queries were asked for than the budget has left. Nothing was asked and nothing was charged."""


class WorkerError(RashomonError):
    """A worker process ended without an answer (killed, or out of memory), or its answer cannot be read."""

    exit_code = 70


class UncertifiedError(RashomonError):
    """Samples whose capacity bounds are farther apart than the tolerance, where certainty was asked for."""

    exit_code = 4


class UncertifiedWarning(UserWarning):
    """Some capacity bounds are farther apart than the tolerance."""


class SelectedOnEvaluationWarning(UserWarning):
    """Members of the set were selected on the samples that the metrics are taken on."""
