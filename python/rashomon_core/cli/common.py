"""What every command has: options, exit codes, warnings as lines, errors as a line and a code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from rashomon_core.errors import OutputError, RashomonError, UsageError

if TYPE_CHECKING:
    from rashomon_core.report.document import Threshold

EXIT_THRESHOLD, EXIT_INPUT, EXIT_UNCERTIFIED, EXIT_DEFECT, EXIT_INTERRUPTED = 1, 3, 4, 70, 130
EXIT_TERMINATED = 128 + 15

# --- options ------------------------------------------------------------------------------------------------

KindOption = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="labels, proba, log_proba or logits; by the dtype if not given."),
]
AxesOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,..", help="Axes in the order of the array, such as models,samples,classes."),
]
KeyOption = Annotated[str | None, typer.Option(metavar="NAME", help="Array to read from a file that holds several.")]
KeyPerModelOption = Annotated[bool, typer.Option("--key-per-model", help="Each array of the file is one model.")]
NClassesOption = Annotated[int | None, typer.Option(metavar="C", min=1, help="Number of classes of labels.")]
RenormalizeOption = Annotated[
    bool,
    typer.Option("--renormalize", help="Divide rows by their sum instead of refusing those that are not 1."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the JSON document to FILE too.")
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write one HTML page with charts that needs no network.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only (and the document, with --json); no progress bar."),
]
ChecksumOption = Annotated[bool, typer.Option("--checksum", help="Take the SHA-256 of files of 64 MB and more too.")]


# --- what is around every command ---------------------------------------------------------------------------


class Notes:
    """Lines on stderr: each warning once, nothing but errors when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Say a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.say(f"warning: {text}")

    def say(self, text: str) -> None:
        """Say a line, unless quiet."""
        if not self.quiet:
            say_error(text)

    def show(self, message: Warning | str, *_: object, **__: object) -> None:
        """Stand in for ``warnings.showwarning``."""
        self.warn(str(message))


def say_error(text: str) -> None:
    """Print a line on stderr."""
    from rashomon_core.report.terminal import clean

    with contextlib.suppress(OSError):  # nobody reads it
        print(clean(text), file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error, and the exit code stays what it is."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def command(quiet: bool) -> Iterator[Notes]:
    """Turn warnings into lines and errors into a line and an exit code."""
    notes = Notes(quiet)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("default", RuntimeWarning)
            warnings.showwarning = notes.show
            yield notes
    except KeyboardInterrupt:
        say_error("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RashomonError as error:
        say_error(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except MemoryError:
        say_error("error: out of memory. Fix: state a smaller budget with --memory, for example --memory 500MB")
        raise typer.Exit(EXIT_DEFECT) from None
    except OSError as error:
        say_error(f"error: {error}")
        raise typer.Exit(EXIT_INPUT) from None
    except Exception as error:
        import traceback

        traceback.print_exc()
        say_error(f"error: this is a defect of rashomon-core, please report it: {type(error).__name__}: {error}")
        raise typer.Exit(EXIT_DEFECT) from None


@contextlib.contextmanager
def tidy_end() -> Iterator[None]:
    """End by SIGTERM as by Ctrl-C: processes are ended and folders removed first."""

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say_error("terminated")
        raise SystemExit(EXIT_TERMINATED)

    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_output(path: Path | None) -> None:
    """Find out before the work whether the result can be written after it."""
    import tempfile

    if path is None:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: the folder {folder!r} does not exist. Fix: create it first")
    if os.path.isdir(path):
        raise OutputError(f"{path}: a folder has this name. Fix: choose another name")
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be replaced, not written to
        raise OutputError(f"{path}: is not a regular file. Fix: choose another name, or use --json")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written, the folder {folder!r} is not writable ({error.strerror}). "
            "Fix: check its permissions, or choose another folder"
        ) from None


def keep_inputs(path: Path | None, files: Iterable[str]) -> None:
    """Refuse an output that would replace an input, or the .json that describes one."""
    if path is None:
        return
    for file in files:
        same = os.path.exists(path) and os.path.exists(file) and os.path.samefile(path, file)
        beside = os.path.abspath(path) == os.path.abspath(os.path.splitext(file)[0] + ".json")
        if same or (beside and file.lower().endswith(".npy")):
            what = "is an input" if same else f"is the name of the description of {file}"
            raise UsageError(f"{path}: {what}. Fix: choose another name for --output")


def finish(document: Mapping[str, Any], output: Path | None, as_json: bool, notes: Notes) -> None:
    """Write and print a document; the terminal text, if any, has been printed before."""
    from rashomon_core.report.document import to_text
    from rashomon_core.store import write_text_atomic

    text = to_text(document)
    if output is not None:
        write_text_atomic(output, text + "\n")
        notes.say(f"wrote {output}")
    if as_json:
        print_text(text)


def print_human(make: Callable[[IO[str]], None]) -> None:
    """Collect what ``make`` prints and print it at once, so that a gone reader is met in one place."""
    import io

    class Page(io.StringIO):
        """Text that is coloured if stdout is a terminal."""

        encoding = sys.stdout.encoding or "utf-8"

        def isatty(self) -> bool:
            return sys.stdout.isatty()

    page = Page()
    make(page)
    text = page.getvalue().rstrip("\n")
    print_text(text.encode(page.encoding, "replace").decode(page.encoding))


def check_limits(limits: list[Threshold], results: Mapping[str, Any]) -> None:
    """Check every stated limit on a result; the document has been printed and written by now."""
    failed = [text for limit in limits if (text := limit.check(results)) is not None]
    for text in failed:
        say_error(f"failed: {text}")
    if failed:
        raise typer.Exit(EXIT_THRESHOLD)


def check_certified(results: dict[str, Any]) -> None:
    """Leave with 4 when a capacity was measured and is not certified everywhere."""
    counts = (results.get("rashomon_capacity") or {}).get("status_counts")
    if counts is None:
        return
    left = {name: n for name, n in counts.items() if n and name != "certified"}
    if left:
        say_error(f"not certified: {', '.join(f'{n} samples at {name}' for name, n in left.items())}")
        raise typer.Exit(EXIT_UNCERTIFIED)
