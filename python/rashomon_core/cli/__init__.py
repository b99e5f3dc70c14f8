"""The command ``rashomon-core``: audit, measure, report, inspect, convert.

Nothing is computed here: ``store`` opens files, numbers come from ``profiling`` and ``audit``, texts from
``report``. NumPy and the library are imported when a command runs, so that ``--help`` stays quick.

Exit codes: 0 done; 1 a threshold that the user stated failed; 2 usage; 3 invalid input, or output that cannot
be written; 4 not certified under ``--strict``; 5 a stage could not get the answers that it needs within the budget;
70 a defect of this program; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .audit import audit
from .common import EXIT_INTERRUPTED, say_error
from .files import convert, inspect_command
from .measure import measure
from .report import report

__all__ = ["app", "main"]

# Plain help and no completion options: rich and the latter's option types would triple the time of --help.
app = typer.Typer(
    name="rashomon-core",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(audit)
app.command()(measure)
app.command()(report)
app.command("inspect")(inspect_command)
app.command()(convert)


def _print_version(wanted: bool) -> None:
    if wanted:
        from rashomon_core import __version__

        print(f"rashomon-core {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the Rashomon set of a model's surrogates, and measure how far equally good models differ.

    \b
    rashomon-core audit
    rashomon-core measure PREDS --target T.npy --epsilon 0.01 --json
    rashomon-core report RUN

    \b
    Exit codes: 0 done, 1 a stated threshold failed, 2 usage, 3 invalid input or
    output that cannot be written, 4 not certified (--strict), 5 too few answers
    within the budget, 70 a defect of the program, 130 interrupted.
    """  # noqa: D301 (\b keeps the lines of help as they are)


def main() -> None:
    """Run the command: the console script ``rashomon-core``."""
    try:
        app(prog_name="rashomon-core")
    except KeyboardInterrupt:  # before or after a command's own handling
        say_error("interrupted")
        sys.exit(EXIT_INTERRUPTED)
