"""The commands ``inspect`` and ``convert``: what a file holds, and the file in the native format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rashomon_core.errors import InvalidInputError, OutputError, UsageError

from .common import (
    AxesOption,
    ChecksumOption,
    JsonOption,
    KeyOption,
    KeyPerModelOption,
    KindOption,
    NClassesOption,
    OutputOption,
    QuietOption,
    RenormalizeOption,
    check_output,
    command,
    finish,
    keep_inputs,
    print_human,
    print_text,
)

if TYPE_CHECKING:
    from rashomon_core.predictions import Kind


def inspect_command(
    preds: Annotated[str, typer.Argument(metavar="PREDS", help="File, folder or pattern of per-model files.")],
    kind: KindOption = None,
    axes: AxesOption = None,
    key: KeyOption = None,
    key_per_model: KeyPerModelOption = False,
    n_classes: NClassesOption = None,
    renormalize: RenormalizeOption = False,
    checksum: ChecksumOption = False,
    as_json: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what PREDS holds, check every value, and suggest what to do next. Exit code 3 if a value is bad."""
    with command(quiet) as notes:
        check_output(output)

        from rashomon_core.report.document import inspection_document
        from rashomon_core.report.inputs import Inputs
        from rashomon_core.report.terminal import print_inspection
        from rashomon_core.store import open_predictions

        keep_inputs(output, [preds])
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
            print_human(lambda page: print_inspection(document, page))
        finish(document, output, as_json, notes)
        if problem is not None:
            raise problem


def convert(
    preds: Annotated[str, typer.Argument(metavar="PREDS", help="File, folder or pattern of per-model files.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.npy", help="The array; its description is written beside it.")],
    kind: KindOption = None,
    axes: AxesOption = None,
    key: KeyOption = None,
    key_per_model: KeyPerModelOption = False,
    n_classes: NClassesOption = None,
    renormalize: RenormalizeOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files of that name.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Check PREDS and write it as OUT.npy and OUT.json: axes, kind and ids stay with the array."""
    with command(quiet):
        if out.suffix != ".npy":
            raise UsageError(f"{out}: predictions are written as .npy with a .json beside it. Fix: name it so")
        beside = out.with_suffix(".json")
        for file in (out, beside):
            check_output(file)
            if file.exists() and not force:
                raise OutputError(f"{file}: exists already. Fix: choose another name, or replace it with --force")

        from rashomon_core.store import open_predictions, save_predictions

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
            print_text(f"wrote {path} and {path.with_suffix('.json').name}: {view.kind}, {shape}, {view.dtype}")
