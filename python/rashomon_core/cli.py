"""The command ``rashomon-core``: measure, inspect, convert.

Nothing is computed here: ``store`` opens files, numbers come from ``profiling``, texts from ``report``. NumPy
and the library are imported when a command runs, so that ``--help`` stays quick.

Exit codes: 0 done; 1 a threshold that the user stated failed; 2 usage; 3 invalid input, or output that cannot
be written; 70 a defect of this program; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from .errors import InvalidInputError, OutputError, RashomonError, UsageError

if TYPE_CHECKING:
    from .predictions import Kind
    from .report.document import Threshold

__all__ = ["app", "main"]

EXIT_THRESHOLD, EXIT_INPUT, EXIT_UNCERTIFIED, EXIT_DEFECT, EXIT_INTERRUPTED = 1, 3, 4, 70, 130

# Plain help and no completion options: rich and the latter's option types would triple the time of --help.
app = typer.Typer(
    name="rashomon-core",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- options ------------------------------------------------------------------------------------------------

_Kind = Annotated[
    str | None,
    typer.Option(metavar="KIND", help="labels, proba, log_proba or logits; by the dtype if not given."),
]
_Axes = Annotated[
    str | None,
    typer.Option(metavar="A,B,..", help="Axes in the order of the array, such as models,samples,classes."),
]
_Key = Annotated[str | None, typer.Option(metavar="NAME", help="Array to read from a file that holds several.")]
_KeyPerModel = Annotated[bool, typer.Option("--key-per-model", help="Each array of the file is one model.")]
_NClasses = Annotated[int | None, typer.Option(metavar="C", min=1, help="Number of classes of labels.")]
_Renormalize = Annotated[
    bool,
    typer.Option("--renormalize", help="Divide rows by their sum instead of refusing those that are not 1."),
]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the JSON document to FILE too.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
_Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only (and the document, with --json); no progress bar."),
]
_Checksum = Annotated[bool, typer.Option("--checksum", help="Take the SHA-256 of files of 64 MB and more too.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(f"rashomon-core {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure how far equally good models differ from one another, on saved predictions.

    \b
    rashomon-core measure --example
    rashomon-core measure PREDS --target T.npy --epsilon 0.01 --json

    \b
    Exit codes: 0 done, 1 a stated threshold failed, 2 usage, 3 invalid input or
    output that cannot be written, 70 a defect of the program, 130 interrupted.
    """  # noqa: D301 (\b keeps the lines of help as they are)


# --- what is around every command ---------------------------------------------------------------------------


class _Notes:
    """Lines on stderr: each warning once, nothing but errors when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            self.say(f"warning: {text}")

    def say(self, text: str) -> None:
        if not self.quiet:
            _stderr(text)

    def show(self, message: Warning | str, *_: object, **__: object) -> None:
        """Stand in for ``warnings.showwarning``."""
        self.warn(str(message))


def _stderr(text: str) -> None:
    from .report.terminal import clean

    with contextlib.suppress(OSError):  # nobody reads it
        print(clean(text), file=sys.stderr, flush=True)


def _print_text(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error, and the exit code stays what it is."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _command(quiet: bool) -> Iterator[_Notes]:
    """Turn warnings into lines and errors into a line and an exit code."""
    notes = _Notes(quiet)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("default", RuntimeWarning)
            warnings.showwarning = notes.show
            yield notes
    except KeyboardInterrupt:
        _stderr("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RashomonError as error:
        _stderr(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except MemoryError:
        _stderr("error: out of memory. Fix: state a smaller budget with --memory, for example --memory 500MB")
        raise typer.Exit(EXIT_DEFECT) from None
    except OSError as error:
        _stderr(f"error: {error}")
        raise typer.Exit(EXIT_INPUT) from None
    except Exception as error:
        import traceback

        traceback.print_exc()
        _stderr(f"error: this is a defect of rashomon-core, please report it: {type(error).__name__}: {error}")
        raise typer.Exit(EXIT_DEFECT) from None


def _check_output(path: Path | None) -> None:
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


def _keep_inputs(path: Path | None, files: Iterable[str]) -> None:
    """Refuse an output that would replace an input, or the .json that describes one."""
    if path is None:
        return
    for file in files:
        same = os.path.exists(path) and os.path.exists(file) and os.path.samefile(path, file)
        beside = os.path.abspath(path) == os.path.abspath(os.path.splitext(file)[0] + ".json")
        if same or (beside and file.lower().endswith(".npy")):
            what = "is an input" if same else f"is the name of the description of {file}"
            raise UsageError(f"{path}: {what}. Fix: choose another name for --output")


def _finish(document: Mapping[str, Any], output: Path | None, as_json: bool, notes: _Notes) -> None:
    """Write and print a document; the terminal text, if any, has been printed before."""
    from .report.document import to_text
    from .store import write_text_atomic

    text = to_text(document)
    if output is not None:
        write_text_atomic(output, text + "\n")
        notes.say(f"wrote {output}")
    if as_json:
        _print_text(text)


def _print_human(make: Callable[[IO[str]], None]) -> None:
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
    _print_text(text.encode(page.encoding, "replace").decode(page.encoding))


# --- measure ------------------------------------------------------------------------------------------------


@app.command()
def measure(
    preds: Annotated[
        str | None,
        typer.Argument(metavar="PREDS", help="File, folder or pattern of per-model files.", show_default=False),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Measure the data that the package carries.")] = False,
    target: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Answers of the target: decisions, P(class 1) or all scores."),
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="FILE", help="True labels.")] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:COLUMN,..]", help="Protected groups; several are crossed. Repeatable."),
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="Weight of each sample.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="WHAT", help="target, labels, a model id, or a FILE of decisions.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar="LOSS", help="fidelity, zero_one, log_loss, cross_entropy, or a FILE of one per model."),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(metavar="E", help="Keep the models with a loss of at most the best plus E."),
    ] = None,
    relative: Annotated[bool, typer.Option("--relative", help="Take epsilon as a share of the best loss.")] = False,
    selection: Annotated[
        str | None,
        typer.Option(metavar="FILE|SHARE", help="Samples that select the set; the others are measured."),
    ] = None,
    metrics: Annotated[
        str, typer.Option(metavar="NAMES", help="all, pass (one pass over the scores), or names with commas.")
    ] = "all",
    kind: _Kind = None,
    axes: _Axes = None,
    key: _Key = None,
    key_per_model: _KeyPerModel = False,
    n_classes: _NClasses = None,
    renormalize: _Renormalize = False,
    threshold: Annotated[
        float | None, typer.Option(metavar="T", help="Decide 1 where P(1) >= T instead of > 0.5.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Positive class: a name or an index (1).")
    ] = None,
    missing: Annotated[
        str,
        typer.Option(metavar="refuse|group", help="Missing group values: refuse, or a group of their own."),
    ] = "refuse",
    fairness_threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]X", help="Limit of fairness, such as demographic_parity_ratio=.8. Repeatable."),
    ] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=X",
            help="Exit with 1 if a result is above X or null, such as ambiguity.value=.2. Repeatable.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="M", min=1, help="Also give ambiguity and discrepancy as expected of M models."),
    ] = None,
    capacity_tol: Annotated[
        float, typer.Option(metavar="BITS", min=0, help="Tolerance of the bounds of Rashomon Capacity.")
    ] = 1e-6,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if a capacity is not certified within the tolerance.")
    ] = False,
    threads: Annotated[int | None, typer.Option(metavar="T", min=1, help="Threads; all processors by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory budget, such as 2GB; a quarter of what is free by default."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of a drawn selection.")] = 0,
    checksum: _Checksum = False,
    as_json: _Json = False,
    output: _Output = None,
    quiet: _Quiet = False,
) -> None:
    """Measure how far the models of PREDS differ from one another and from a target.

    PREDS is a .npy, .npz, .csv, .parquet, .safetensors, .zarr, HDF5 or .pt file of (models, samples[,
    classes]), or a folder or quoted pattern of per-model files. Files of one value per sample are taken in
    the order of the predictions, tables with a sample_id column are aligned to it. FILE:COLUMN names a
    column of a table, or an array in a file that holds several.
    """
    with _command(quiet) as notes:
        from .report.document import parse_threshold

        if example == (preds is not None):
            raise UsageError("give PREDS or --example" + (", not both" if example else "; see --help"))
        if missing not in ("refuse", "group"):
            raise UsageError(f"--missing {missing}: refuse or group")
        limits = [parse_threshold(text) for text in fail_above or ()]
        _check_output(output)

        from .profiling import profile
        from .report.document import build_document
        from .report.inputs import Inputs, parse_fairness, parse_positive
        from .store import open_predictions
        from .tiles import parse_memory, show_progress

        fair = parse_fairness(fairness_threshold)
        if memory is not None:
            parse_memory(memory)
        carried: dict[str, Any] = {}
        description = None
        if example:
            preds, target, carried, description = _example(target, labels, groups, notes)
        assert preds is not None
        view = open_predictions(
            preds,
            kind=cast("Kind | None", kind),
            axes=axes,
            key=key,
            key_per_model=key_per_model,
            n_classes=n_classes,
            renormalize=renormalize,
        )
        inputs = Inputs(preds, view, checksum)
        given = {
            "target": inputs.vector("target", target),
            "y": inputs.vector("labels", labels),
            "groups": inputs.groups(groups),
            "sample_weight": inputs.vector("weights", weights),
            "reference": inputs.reference(reference),
            "loss": inputs.loss(loss),
            "selection": inputs.selection(selection),
            **carried,
        }
        _keep_inputs(output, inputs.files.values())
        index = parse_positive(positive, view)
        try:
            with show_progress(False if quiet else None):
                measured = profile(
                    view,
                    **given,
                    epsilon=epsilon,
                    relative=relative,
                    metrics=metrics if metrics in ("all", "pass") else [m.strip() for m in metrics.split(",")],
                    size=size,
                    capacity_tol=capacity_tol,
                    seed=seed,
                    threshold=threshold,
                    positive=index,
                    missing=missing,
                    fairness_threshold=fair,
                    threads=threads,
                    memory=memory,
                    keep_arrays=False,
                )
        except InvalidInputError as error:
            raise inputs.blame(error) from None
        for text in measured.warnings:
            notes.warn(text)
        document = build_document(measured, inputs=inputs.entries, warnings=notes.warnings)
        if not (as_json or quiet):
            from .report.terminal import print_report

            name = view.class_names[index] if view.class_names and index < len(view.class_names) else None
            _print_human(lambda page: print_report(document, page, description=description, positive=name))
        _finish(document, output, as_json, notes)
        _check_limits(limits, document["results"])
        if strict:
            _check_certified(document["results"])


def _example(
    target: str | None, labels: str | None, groups: list[str] | None, notes: _Notes
) -> tuple[str, str, dict[str, Any], str]:
    """Return path, target, what scikit-lego adds and the description of the data that the package carries."""
    from .datasets import load_example

    data = load_example()
    carried: dict[str, Any] = {}
    reasons: list[str] = []
    for name, given, get in (("y", labels, data.labels), ("groups", groups, data.groups)):
        if given:
            continue
        try:
            values, reason = get()
        except InvalidInputError as error:  # another release of the table: the example works without it
            values, reason = None, str(error)
        if values is None:
            reasons.append(str(reason))
        elif name == "groups":
            carried[name] = dict(zip(data.group_names, values.T, strict=True))
        else:
            carried[name] = values
    for reason in dict.fromkeys(reasons):
        notes.say(f"note: measured without labels and groups: {reason}")
    return str(data.path), target or str(data.target_path), carried, data.description


def _check_limits(limits: list[Threshold], results: Mapping[str, Any]) -> None:
    """Check every stated limit on a result; the document has been printed and written by now."""
    failed = [text for limit in limits if (text := limit.check(results)) is not None]
    for text in failed:
        _stderr(f"failed: {text}")
    if failed:
        raise typer.Exit(EXIT_THRESHOLD)


def _check_certified(results: dict[str, Any]) -> None:
    """Leave with 4 when a capacity was measured and is not certified everywhere."""
    counts = (results.get("rashomon_capacity") or {}).get("status_counts")
    if counts is None:
        return
    left = {name: n for name, n in counts.items() if n and name != "certified"}
    if left:
        _stderr(f"not certified: {', '.join(f'{n} samples at {name}' for name, n in left.items())}")
        raise typer.Exit(EXIT_UNCERTIFIED)


# --- inspect and convert ------------------------------------------------------------------------------------


@app.command("inspect")
def inspect_command(
    preds: Annotated[str, typer.Argument(metavar="PREDS", help="File, folder or pattern of per-model files.")],
    kind: _Kind = None,
    axes: _Axes = None,
    key: _Key = None,
    key_per_model: _KeyPerModel = False,
    n_classes: _NClasses = None,
    renormalize: _Renormalize = False,
    checksum: _Checksum = False,
    as_json: _Json = False,
    output: _Output = None,
    quiet: _Quiet = False,
) -> None:
    """Say what PREDS holds, check every value, and suggest what to do next. Exit code 3 if a value is bad."""
    with _command(quiet) as notes:
        _check_output(output)

        from .report.document import inspection_document
        from .report.inputs import Inputs
        from .report.terminal import print_inspection
        from .store import open_predictions

        _keep_inputs(output, [preds])
        view = open_predictions(
            preds,
            kind=cast("Kind | None", kind),
            axes=axes,
            key=key,
            key_per_model=key_per_model,
            n_classes=n_classes,
            renormalize=renormalize,
        )
        inputs = Inputs(preds, view, checksum)
        problem: InvalidInputError | None = None
        try:
            view.validate()
        except InvalidInputError as error:
            problem = error
        document = inspection_document(view, inputs.entries[0], None if problem is None else str(problem))
        if not (as_json or quiet):
            _print_human(lambda page: print_inspection(document, page))
        _finish(document, output, as_json, notes)
        if problem is not None:
            raise problem


@app.command()
def convert(
    preds: Annotated[str, typer.Argument(metavar="PREDS", help="File, folder or pattern of per-model files.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.npy", help="The array; its description is written beside it.")],
    kind: _Kind = None,
    axes: _Axes = None,
    key: _Key = None,
    key_per_model: _KeyPerModel = False,
    n_classes: _NClasses = None,
    renormalize: _Renormalize = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files of that name.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Check PREDS and write it as OUT.npy and OUT.json: axes, kind and ids stay with the array."""
    with _command(quiet):
        if out.suffix != ".npy":
            raise UsageError(f"{out}: predictions are written as .npy with a .json beside it. Fix: name it so")
        beside = out.with_suffix(".json")
        for file in (out, beside):
            _check_output(file)
            if file.exists() and not force:
                raise OutputError(f"{file}: exists already. Fix: choose another name, or replace it with --force")

        from .store import open_predictions, save_predictions

        view = open_predictions(
            preds,
            kind=cast("Kind | None", kind),
            axes=axes,
            key=key,
            key_per_model=key_per_model,
            n_classes=n_classes,
            renormalize=renormalize,
        ).validate()
        path = save_predictions(view, out, overwrite=force)
        if not quiet:
            shape = " x ".join(f"{n:,}" for n in view.shape)
            _print_text(f"wrote {path} and {path.with_suffix('.json').name}: {view.kind}, {shape}, {view.dtype}")


# --- entry --------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the command: the console script ``rashomon-core``."""
    try:
        app(prog_name="rashomon-core")
    except KeyboardInterrupt:  # before or after a command's own handling
        _stderr("interrupted")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
