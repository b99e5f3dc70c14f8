"""A report's files: the page, Markdown, CSV tables and figures, each complete or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

from rashomon_core.errors import MissingDependencyError, OutputError
from rashomon_core.store import write_bytes_atomic, write_text_atomic

from .material import Material

__all__ = ["check_libraries", "missing_library", "write_report"]

#: Optional libraries by what needs them: (module, distribution). All are in the extra [report].
_NUMBERS = (("scipy", "scipy"),)
_PAGE = (("jinja2", "jinja2"), ("vl_convert", "vl-convert-python"))
_FIGURES = (("matplotlib", "matplotlib"),)


def missing_library(*, page: bool = True, figures: bool = False) -> MissingDependencyError | None:
    """Return the error of the first library that is not installed, or None; none is imported."""
    from importlib.util import find_spec

    for module, name in (*_NUMBERS, *(_PAGE if page else ()), *(_FIGURES if figures else ())):
        if find_spec(module) is None:
            return MissingDependencyError(name, "a report", "report")
    return None


def check_libraries(*, page: bool = True, figures: bool = False) -> None:
    """Raise before the work when a library is missing that is needed after it."""
    error = missing_library(page=page, figures=figures)
    if error is not None:
        raise error


def write_report(
    material: Material,
    *,
    page: str | os.PathLike[str] | None = None,
    markdown: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write what is asked for and return the files, or folders, that were written.

    Parameters
    ----------
    material : Material
        From :func:`rashomon_core.report.material.gather`, or of a run: :func:`rashomon_core.audit.run_material`.
    page, markdown : path, optional
        One file each.
    csv, figures : path, optional
        Folders; made when they are missing.

    Raises
    ------
    MissingDependencyError
        A library of the extra ``[report]`` is not installed. Nothing is written then.
    OutputError
        A folder is missing or not writable.
    """
    files: dict[Path, str | bytes] = {}
    if page is not None:
        from .page import render_page

        files[Path(page)] = render_page(material)
    if markdown is not None:
        from .tabular import render_markdown

        files[Path(markdown)] = render_markdown(material)
    if csv is not None:
        from .tabular import csv_tables

        files |= {Path(csv, name): text for name, text in csv_tables(material).items()}
    if figures is not None:
        from .figures import draw_figures

        files |= {Path(figures, name): data for name, data in draw_figures(material).items()}
    folders = [Path(folder) for folder in (csv, figures) if folder is not None]
    for folder in folders:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            fix = "create the folder around it first, or choose another name"
            raise OutputError(f"{folder}: cannot be made ({error.strerror}). Fix: {fix}") from None
    for path, content in files.items():
        if isinstance(content, str):
            write_text_atomic(path, content)
        else:
            write_bytes_atomic(path, content)
    return [*(path for path in files if path.parent not in folders), *folders]
