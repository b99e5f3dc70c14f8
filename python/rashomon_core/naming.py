"""Objects of the user's own modules, named as ``module:object``: the one place where such a module is imported."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from .errors import UsageError, suggestion

__all__ = ["find_object"]


def find_object(name: str, said: str) -> Any:
    """Return the object that ``module:object`` names (dots in both are fine).

    The module is imported, which runs its code: from the current directory, as ``python -m`` does, or from where Python
    finds modules. So nothing is imported that the user did not name.

    Parameters
    ----------
    said : str
        How messages begin: "loss 'mylosses:focal'".

    Raises
    ------
    UsageError
        A name of another form, no such module, a module that fails (with its file and line), or no such object in it.
    """
    home, colon, attribute = name.partition(":")
    if not colon or not home or not attribute:
        raise UsageError(f"{said}: write module:object, for example mymodule:name")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(home)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{home}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{said} cannot be imported: there is no module {error.name!r} in {os.getcwd()} or among the installed "
                "ones. Fix: run it where the file is, or add its folder to PYTHONPATH"
            ) from None
        text = str(error).split("\n", 1)[0]
        raise UsageError(
            f"{said} cannot be imported: {home} fails with {type(error).__name__}: {text}{_line(error)}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__name__", home)
            inside = getattr(found, "__dict__", {}).items()
            known = [key for key, value in inside if getattr(value, "__module__", None) == home]
            raise UsageError(f"{said} cannot be imported: {where} has no {part!r}{suggestion(part, known)}")
        found = getattr(found, part)
    return found


def _line(error: Exception) -> str:
    """Return " (file:line)" of the last line of the user's code that ran, or of a line that cannot be read."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    place, frame = "", error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith("<") and file not in (__file__, importlib.__file__):
            place = f" ({file}:{frame.tb_lineno})"
        frame = frame.tb_next
    return place
