"""The command ``measure``: every metric of saved predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rashomon_core.errors import InvalidInputError, UsageError

from .common import (
    AxesOption,
    ChecksumOption,
    JsonOption,
    KeyOption,
    KeyPerModelOption,
    KindOption,
    NClassesOption,
    Notes,
    OutputOption,
    QuietOption,
    RenormalizeOption,
    ReportOption,
    check_certified,
    check_limits,
    check_output,
    command,
    finish,
    keep_inputs,
    print_human,
    tidy_end,
)

if TYPE_CHECKING:
    from rashomon_core.predictions import Kind


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
        typer.Option(metavar="FILE[:COLUMN,..]", help="Protected groups; several columns are crossed. Repeatable."),
    ] = None,
    skip_undefined: Annotated[
        bool, typer.Option("--skip-undefined", help="Take gaps over the groups where they are defined.")
    ] = False,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="Weight of each sample.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="WHAT", help="target, labels, a model id, or a FILE of decisions.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS",
            help="fidelity, zero_one, log_loss, cross_entropy, module:function (imported), or a FILE of one per model.",
        ),
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
    kind: KindOption = None,
    axes: AxesOption = None,
    key: KeyOption = None,
    key_per_model: KeyPerModelOption = False,
    n_classes: NClassesOption = None,
    renormalize: RenormalizeOption = False,
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
    bootstrap: Annotated[
        int | None,
        typer.Option(metavar="R", min=2, help="Intervals from R bootstrap replicates of the samples, such as 1000."),
    ] = None,
    interval: Annotated[float, typer.Option(metavar="LEVEL", help="Level of these intervals.")] = 0.95,
    curves: Annotated[
        bool,
        typer.Option("--curves", help="Add curves over epsilon and over the size of the set to the JSON document."),
    ] = False,
    threads: Annotated[int | None, typer.Option(metavar="T", min=1, help="Threads; all processors by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory budget, such as 2GB; a quarter of what is free by default."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Measure on a Dask cluster: tcp://host:port, local or local:WORKERS."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what is read in FOLDER, and go on from there after a kill."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of a drawn selection and of the bootstrap.")] = 0,
    checksum: ChecksumOption = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure how far the models of PREDS differ from one another and from a target.

    PREDS is a .npy, .npz, .csv, .parquet, .safetensors, .zarr, HDF5 or .pt file of (models, samples[,
    classes]), or a folder or quoted pattern of per-model files. Files of one value per sample are taken in
    the order of the predictions, tables with a sample_id column are aligned to it. FILE:COLUMN names a
    column of a table, or an array in a file that holds several.
    """
    with command(quiet) as notes:
        from rashomon_core.report.document import parse_threshold

        if example == (preds is not None):
            raise UsageError("give PREDS or --example" + (", not both" if example else "; see --help"))
        if missing not in ("refuse", "group"):
            raise UsageError(f"--missing {missing}: refuse or group")
        limits = [parse_threshold(text) for text in fail_above or ()]
        for file in (output, report):
            check_output(file)
        if report is not None:
            from rashomon_core.report.writing import check_libraries

            check_libraries()

        if scheduler is not None:
            _check_scheduler(scheduler, epsilon, relative, selection, loss, bootstrap, curves, report, threads, resume)

        from rashomon_core.profiling import profile
        from rashomon_core.report.document import build_document
        from rashomon_core.report.inputs import Inputs, parse_fairness, parse_positive
        from rashomon_core.store import Checkpoint, open_predictions
        from rashomon_core.tiles import parse_memory, show_progress

        fair = parse_fairness(fairness_threshold)
        if memory is not None:
            parse_memory(memory)
        if example and resume is not None:
            raise UsageError("--resume is for predictions of your own; --example takes a second")
        checkpoint = None if resume is None else Checkpoint(resume)
        carried: dict[str, Any] = {}
        description = None
        if example:
            preds, target, carried, description = _example(target, labels, groups, notes)
        assert preds is not None
        opening: dict[str, Any] = {
            "kind": cast("Kind | None", kind),
            "axes": axes,
            "key": key,
            "key_per_model": key_per_model,
            "n_classes": n_classes,
            "renormalize": renormalize,
        }
        view = open_predictions(preds, **opening)
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
        for file in (output, report):
            keep_inputs(file, inputs.files.values())
        index = parse_positive(positive, view)
        asked: dict[str, Any] = {
            "metrics": metrics if metrics in ("all", "pass") else [m.strip() for m in metrics.split(",")],
            "capacity_tol": capacity_tol,
            "threshold": threshold,
            "positive": index,
            "missing": missing,
            "fairness_threshold": fair,
            "skip_undefined": skip_undefined,
            "size": size,
            "seed": seed,
            "memory": memory,
            "keep_arrays": False,
        }
        measured = None
        try:
            with show_progress(False if quiet else None):
                if scheduler is not None:
                    from rashomon_core.distributed import profile_distributed

                    given = {name: value for name, value in given.items() if name not in ("loss", "selection")}
                    with tidy_end():
                        measured = profile_distributed(preds, scheduler=scheduler, **given, **asked, **opening)
                else:
                    measured = profile(
                        view,
                        **given,
                        **asked,
                        epsilon=epsilon,
                        relative=relative,
                        threads=threads,
                        bootstrap=bootstrap,
                        interval=interval,
                        curves=curves,
                        checkpoint=checkpoint,
                    )
        except InvalidInputError as error:
            raise inputs.blame(error) from None
        finally:
            if measured is None and checkpoint is not None and (kept := checkpoint.progress()):
                notes.say(kept)
        for text in measured.warnings:
            notes.warn(text)
        document = build_document(measured, inputs=inputs.entries, warnings=notes.warnings)
        if not (as_json or quiet):
            from rashomon_core.report.terminal import print_report

            name = view.class_names[index] if view.class_names and index < len(view.class_names) else None
            print_human(lambda page: print_report(document, page, description=description, positive=name))
        finish(document, output, as_json, notes)
        if report is not None:
            from rashomon_core.report.material import gather, make_source
            from rashomon_core.report.writing import write_report

            noun = "surrogate" if example else "model"
            with show_progress(False if quiet else None):
                source = make_source(view, document["parameters"], **given)
                material = gather(document, [source], noun=noun, threads=threads, memory=memory)
                write_report(material, page=report)
            notes.say(f"wrote {report}")
        if checkpoint is not None:
            checkpoint.remove()
        check_limits(limits, document["results"])
        if strict:
            check_certified(document["results"])


def _check_scheduler(scheduler: str, *asked: object) -> None:
    """Refuse, before anything is read, an address that is none and what a cluster does not measure."""
    from rashomon_core.cluster import parse_scheduler

    parse_scheduler(scheduler)
    names = ("epsilon", "relative", "selection", "loss", "bootstrap", "curves", "report", "threads", "resume")
    for name, value in zip(names, asked, strict=True):
        if value is not None and value is not False:
            fix = "say --scheduler local:N for N workers" if name == "threads" else "measure without --scheduler"
            raise UsageError(f"--{name} and --scheduler do not go together. Fix: drop it, or {fix}")


def _example(
    target: str | None, labels: str | None, groups: list[str] | None, notes: Notes
) -> tuple[str, str, dict[str, Any], str]:
    """Return path, target, what scikit-lego adds and the description of the data that the package carries."""
    from rashomon_core.datasets import load_example

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
