"""The command ``report``: a finished run as a page, Markdown, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rashomon_core.errors import OutputError

from .common import QuietOption, check_output, command


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a finished audit.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; RUN/report.html if nothing is asked for."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Words and tables as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", help="What the figures show, as CSV files.")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="The figures as SVG and PNG.")] = None,
    threads: Annotated[int | None, typer.Option(metavar="T", min=1, help="Threads; all processors by default.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory budget of the metrics.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Show a finished audit: one HTML page that needs no network, with charts to hover and filter.

    The page opens in any browser, on a phone, and prints. What each figure says: docs/report.md.
    """
    with command(quiet) as notes:
        if output is None and markdown is None and csv is None and figures is None:
            output = run / "report.html" if run.is_dir() else None
        for file in (output, markdown):
            check_output(file)
        for folder in (csv, figures):
            if folder is not None and folder.exists() and not folder.is_dir():
                raise OutputError(f"{folder}: a file has this name. Fix: choose another folder")
            if folder is not None:
                check_output(folder / "x" if folder.is_dir() else folder)

        from rashomon_core.audit import run_material
        from rashomon_core.report.writing import check_libraries, write_report
        from rashomon_core.tiles import parse_memory, show_progress

        if memory is not None:
            parse_memory(memory)
        check_libraries(page=output is not None, figures=figures is not None)
        with show_progress(False if quiet else None):
            material = run_material(run, threads=threads, memory=memory)
        for path in write_report(material, page=output, markdown=markdown, csv=csv, figures=figures):
            notes.say(f"wrote {path}")
