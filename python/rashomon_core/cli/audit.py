"""The command ``audit``: extract, explore, measure, on a model of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rashomon_core.errors import UsageError

from .common import (
    JsonOption,
    OutputOption,
    QuietOption,
    ReportOption,
    check_certified,
    check_limits,
    check_output,
    command,
    finish,
    print_human,
)


def audit(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration, YAML or JSON; flags go before it.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="A data set by name (arrests), a table with --label, or a .npz of X, y."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the true labels of FILE.")] = None,
    groups: Annotated[
        str | None, typer.Option(metavar="COLUMN,..", help="Protected columns, alone and crossed.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="FAMILY|MODULE:OBJECT", help="The model under audit: a family to train, or your own."),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="WHAT", help="What an answer shows: label, proba, topk:k, round:d or logits.")
    ] = None,
    defence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:X]", help="round:2, topk:3, label, noise:.1, reverse_sigmoid. Repeatable."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="N[,N..]", help="Query budgets; each trains surrogates of its own.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help="How queries are chosen: natural, uniform, marginal, entropy, ..")
    ] = None,
    surrogates: Annotated[
        str | None, typer.Option(metavar="FAMILY,..", help="Families of surrogates; a default pool if not given.")
    ] = None,
    exploration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD[:KEY=X,..]",
            help="retraining:bootstraps=4, dropout, weight_perturbation, convex. Repeatable.",
        ),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(metavar="E", help="Members lose at most the best loss plus E.")
    ] = None,
    selection: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of each budget whose answers select the members.")
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(metavar="R", min=2, help="Intervals from R bootstrap replicates of the evaluation samples."),
    ] = None,
    interval: Annotated[float | None, typer.Option(metavar="LEVEL", help="Level of these intervals (.95).")] = None,
    curves: Annotated[
        bool, typer.Option("--curves", help="Add curves over epsilon and over the size of the set to the document.")
    ] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed of everything random.")] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Run folder; rashomon-runs/DATA-DIGEST if not given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="W", min=1, help="Processes that train; one per processor by default.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="T", min=1, help="Threads of the metrics.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory budget of the metrics.")] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=X", help="Exit with 1 if a result is above X or null. Repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 if a capacity is not certified.")] = False,
    report: ReportOption = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write RUN/report.html either.")] = False,
    as_json: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Query a target within a budget, train surrogates on its answers, and measure the set that fits.

    Without options: a gradient boosting target on the Arrests data, three budgets. The run folder keeps the
    ledger of every answer, the predictions, the result and a page to read, report.html; started again, a run
    that was stopped goes on, and a finished one is printed.
    """
    with command(quiet) as notes:
        from rashomon_core.report.document import parse_threshold

        limits = [parse_threshold(text) for text in fail_above or ()]
        for file in (output, report):
            check_output(file)
        if report is not None and no_report:
            raise UsageError("--report and --no-report exclude each other")
        from rashomon_core.report.writing import check_libraries, missing_library, write_report

        if report is not None:
            check_libraries()

        from rashomon_core.audit import default_folder, make_config, read_config, run_audit, run_material
        from rashomon_core.tiles import parse_memory, show_progress

        if memory is not None:
            parse_memory(memory)
        given: dict[str, Any] = {} if config is None else read_config(config)
        given |= _data(data, label, given)
        flags = {
            "groups": groups,
            "target": _target(target),
            "answer": answer,
            "defences": defence,
            "budget": budget,
            "strategy": strategy,
            "surrogates": None if surrogates is None else [name.strip() for name in surrogates.split(",")],
            "epsilon": epsilon,
            "selection": selection,
            "bootstrap": bootstrap,
            "interval": interval,
            "curves": curves or None,
            "seed": seed,
        }
        given |= {key: value for key, value in flags.items() if value is not None}
        if exploration:
            before = given.get("exploration") or {}
            if not isinstance(before, dict):
                raise UsageError(f"exploration in {config} is no mapping of methods to settings: {before!r}")
            given["exploration"] = {**before, **_exploration(exploration)}
        made = make_config(given)
        folder = default_folder(made) if run is None else run
        known = (folder / "result.json").exists()
        try:
            with show_progress(False if quiet else None):
                done = run_audit(made, folder=folder, workers=workers, threads=threads, memory=memory)
        except KeyboardInterrupt:
            notes.say(f"stopped; what is finished is kept in {folder}: the same command goes on from there")
            raise
        for entry in done.document["checkpoints"]:
            for text in entry["warnings"]:
                notes.warn(f"budget {entry['budget']}: {text}")
        told = {text for entry in done.document["checkpoints"] for text in entry["warnings"]}
        for text in done.document["warnings"]:
            if text not in told:
                notes.warn(text)
        if not (as_json or quiet):
            from rashomon_core.report.audits import print_audit

            print_human(lambda page: print_audit(done.document, page, folder=str(done.folder), known=known))
        finish(done.document, output, as_json, notes)
        page = done.folder / "report.html" if report is None else report
        lacking = missing_library()
        if report is None and lacking is not None and not no_report:
            notes.say(f"note: no report.html: {lacking}")
        elif not no_report and (report is not None or not known or not page.exists()):
            with show_progress(False if quiet else None):
                write_report(run_material(done.folder, threads=threads, memory=memory), page=page)
        if page.exists() and not no_report:
            notes.say(f"report: {page}")
        check_limits(limits, done.results)
        if strict:
            check_certified(done.results)


def _data(data: str | None, label: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the source of the data: a name as it is, a file with its label."""
    if data is None:
        if label is None:
            return {}
        source = given.get("data")
        if not isinstance(source, dict):
            raise UsageError("--label names a column of a table. Fix: give the table with --data FILE")
        return {"data": {**source, "label": label}}
    name = data.lower()
    if name.endswith(".npz"):
        return {"data": {"path": data}}
    if not name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")):
        return {"data": data}
    if label is None:
        raise UsageError(f"--data {data}: name the column of the label too, for example --label income")
    return {"data": {"path": data, "label": label}}


def _target(text: str | None) -> Any:
    return {"python": text} if text is not None and ":" in text else text


def _exploration(texts: list[str]) -> dict[str, Any]:
    """Read METHOD[:KEY=X,..]; further values of a key follow it without one: rates=.1,.2."""
    found: dict[str, Any] = {}
    for text in texts:
        name, _, rest = text.partition(":")
        settings: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if equals:
                last = key.strip()
                settings[last] = _value(value)
            elif settings:  # rates=.1,.2: the second of a list
                before = settings[last]
                settings[last] = [*(before if isinstance(before, list) else [before]), _value(part)]
            else:
                raise UsageError(f"--exploration {text}: write METHOD:key=value,key=value")
        found[name.strip()] = settings
    return found


def _value(text: str) -> Any:
    """Read a whole number, a number, true or false, or a text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    text = text.strip()
    return {"true": True, "false": False}.get(text.lower(), text)
