"""An audit for people: what was asked, what came out at each budget, and what it means. 80 columns are enough."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, Any

from .terminal import Table, clean, console_of, counted, number, percent, sentences, show, tables

__all__ = ["baselines", "budgets", "gate", "heading", "print_audit", "remarks"]

Results = Mapping[str, Any]


def print_audit(document: Mapping[str, Any], stream: IO[str], *, folder: str, known: bool = False) -> None:
    """Print a finished audit.

    Parameters
    ----------
    document : dict
        What ``rashomon_core.audit.run_audit`` returns.
    folder : str
        The run folder.
    known : bool
        It was finished before: nothing was worked out now.
    """
    from rich.text import Text

    console = console_of(stream)
    audit, entries = document["audit"], document["checkpoints"]
    console.print(Text(clean(heading(audit)), style="bold"))
    console.print(Text(clean(gate(audit))))
    console.print()
    said = sentences(document["results"], "surrogate", _positive(document))
    for sentence in [*said, *(text for _, text in remarks(entries[-1]))]:
        lines = textwrap.wrap(clean(sentence), console.width, initial_indent="- ", subsequent_indent="  ")
        console.print(Text("\n".join(lines)))
    console.print()
    show(console, budgets(entries))
    console.print()
    show(console, baselines(entries[-1], audit))
    for table in tables(document["results"])[1:]:
        console.print()
        show(console, table)
    console.print()
    text = f"run folder: {folder}" + (" (finished before: nothing was done again)" if known else "")
    console.print(Text(clean(text), style="dim"))


def _positive(document: Mapping[str, Any]) -> str:
    names = document["audit"]["data"]["class_names"]
    return str(names[document["parameters"]["positive"]])


def heading(audit: Mapping[str, Any]) -> str:
    """Say what was audited: data, target, accuracy."""
    data, target = audit["data"], audit["target"]
    return (
        f"{data['name']}: {data['rows']:,} rows, {counted(len(data['class_names']), 'class')}; target "
        f"{target['name']}, accuracy {percent(target['accuracy'])} on {data['evaluation_rows']:,} held-out samples"
    )


def gate(audit: Mapping[str, Any]) -> str:
    """Say what the target gave away, and how it was asked."""
    config, queries = audit["configuration"], audit["queries"]
    defences = ", ".join(str(d) for d in config["defences"]) or "none"
    strategy = config["strategy"]
    name = strategy if isinstance(strategy, str) else strategy.get("name")
    return (
        f"answers: {config['answer']}; defences: {defences}; strategy: {name}; "
        f"charged queries: {queries['charged']:,}, asked of the target: {queries['asked_of_target']:,}"
    )


def remarks(entry: Results) -> list[tuple[str, str]]:
    """Say what a fidelity has to be held against, and what the range of fairness is not; paths are in ``entry``."""
    held, results = entry["baselines"], entry["results"]
    found = []
    methods = entry["surrogates"]["by_method"]
    if len(methods) > 1:
        parts = [f"{name.replace('_', ' ')} {m['members']} of {m['explored']}" for name, m in methods.items()]
        found.append(("surrogates.by_method", f"Members by method: {', '.join(parts)}."))
    fidelity, agreement = results.get("fidelity") or {}, held["natural_agreement"]
    if agreement.get("value") is not None and fidelity.get("max") is not None:
        text = (
            f"Two trainings of the target's own recipe on bootstraps of its own data agree on "
            f"{percent(agreement['bootstraps'])} of the samples (two seeds on the same data: "
            f"{percent(agreement['value'])}); always answering {held['majority_class']['class']!r} has a fidelity "
            f"of {percent(held['majority_class']['fidelity'])}."
        )
        found.append(("baselines", text))
    if any(isinstance(gap, Mapping) and gap.get("target") is not None for gap in _gaps(results)):
        text = "Ranges of fairness are of the surrogates: they are no interval estimate of the target's value."
        found.append(("results.fairness", text))
    return found


def _gaps(results: Results) -> Sequence[Any]:
    fairness = results.get("fairness") or {}
    return list(fairness.values())


def budgets(entries: Sequence[Results]) -> Table:
    """Return one line for each budget: the set, raw and size-matched ambiguity, what goes with it."""
    rows = []
    under = []
    size = None
    for entry in entries:
        results = entry["results"]
        chosen = results["set"]
        ambiguity, fidelity = results.get("ambiguity") or {}, results.get("fidelity") or {}
        capacity = results.get("rashomon_capacity") or {}
        matched = ambiguity.get("size_matched") or {}
        size = matched.get("m", size)
        ratio = (results.get("fairness") or {}).get("demographic_parity_difference") or {}
        rows.append(
            (
                f"{entry['budget']:,}",
                f"{chosen['size']}/{chosen['explored']}",
                _span(fidelity.get("min"), fidelity.get("max")),
                percent(ambiguity.get("value")),
                percent(matched.get("value")),
                number(capacity.get("mean")),
                _gap(ratio),
            )
        )
        if chosen["status"] != "ok":
            under.append(f"budget {entry['budget']:,}: the set is {chosen['status'].replace('singleton', 'one model')}")
    columns = ("budget", "set", "fidelity", "ambiguity", f"of {size or 'm'}", "bits", "parity gap (target)")
    return Table(columns, rows, numbers=(0, 1, 2, 3, 4, 5, 6), under=under)


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f}-{high:.3f}"


def _gap(gap: Results) -> str:
    if gap.get("min") is None:
        return "-"
    target = gap.get("target")
    return _span(gap["min"], gap["max"]) + (f" ({target:.3f})" if target is not None else "")


def baselines(entry: Results, audit: Mapping[str, Any]) -> Table:
    """Return what the fidelities have to be compared with."""
    held = entry["baselines"]
    majority, agreement = held["majority_class"], held["natural_agreement"]
    rows = [
        ("target's accuracy", percent(audit["target"]["accuracy"]), ""),
        ("majority class", percent(majority["fidelity"]), f"fidelity of always answering {majority['class']!r}"),
        ("natural agreement", percent(agreement.get("value")), str(agreement.get("of") or agreement.get("reason"))),
    ]
    if agreement.get("bootstraps") is not None:
        rows.append(("natural agreement, bootstraps", percent(agreement["bootstraps"]), ""))
    for key, title in (
        ("fidelity_natural", "fidelity, natural points"),
        ("fidelity_unasked", "fidelity, inputs not asked"),
        ("fidelity_synthetic", "fidelity, uniform points"),
        ("correct_fidelity", "correct fidelity"),
    ):
        found = held.get(key) or {}
        if key == "fidelity_unasked" and not entry["queries"]["evaluation_inputs_asked"]:
            continue
        note = f"{_span(found.get('min'), found.get('max'))}" if found.get("min") is not None else found.get("reason")
        if key == "fidelity_unasked":
            note = f"{note}; {entry['queries']['evaluation_inputs_asked']:,} samples left out"
        rows.append((title, percent(found.get("median")), str(note or "")))
    return Table(("baseline", "value", "notes"), rows, numbers=(1,))
