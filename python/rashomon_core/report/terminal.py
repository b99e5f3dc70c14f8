"""Tables and sentences for people, made from the JSON document; 80 columns are enough.

Texts of users (file names, ids, class names) are printed as they are, never as markup, and with control
characters made visible.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["clean", "heading", "print_inspection", "print_report", "sentences", "statements", "tables"]

Results = Mapping[str, Any]
Row = tuple[str, ...]
#: Wider text is harder to read, however wide the terminal.
MAX_WIDTH = 100
#: Classes of a table.
MAX_CLASSES = 10
#: Groups of a table, and of those named in a line.
MAX_GROUPS = 20
MAX_NAMED = 3
_EXTREMES = ("min", "median", "max")
_QUANTILES = ("min", "p5", "median", "p95", "max")
#: Worst of two rates that have gaps of their own.
_COMBINED = ("equalized_odds", "conditional_use")
_LOSS_TITLES = {
    "zero_one": "0-1 loss",
    "correct_fidelity": "correct fidelity",
    "log_loss": "log loss (nats)",
    "cross_entropy": "cross-entropy (nats)",
    "kl_divergence": "KL from target (bits)",
}


@dataclass(frozen=True)
class Table:
    """Columns, rows, which columns are numbers, and lines below."""

    columns: tuple[str, ...]
    rows: Sequence[Row]
    numbers: tuple[int, ...] = ()
    under: Sequence[str] = ()


# --- pieces of text -----------------------------------------------------------------------------------------


def clean(text: object) -> str:
    """Return text without control characters: a file name must not move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal; what is not 0 or 1 is never shown as 0 or 100 %."""
    if share is None:
        return "-"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Return a number with three significant digits, integers in full."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, what: str) -> str:
    """Return a count and its noun, in the plural where it is one."""
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def _words(name: str) -> str:
    return name if ":" in name else name.replace("_", " ")  # module:function


def _than(reference: str | None) -> str:
    if reference in (None, "array"):
        return "the reference"
    return {"target": "the target", "labels": "the true labels"}.get(str(reference), f"model {reference}")


# --- the table ----------------------------------------------------------------------------------------------


def heading(document: Mapping[str, Any]) -> list[str]:
    """Return what was measured: file, models, samples, classes, reference, set."""
    results, parameters = document["results"], document["parameters"]
    shape, first = results["shape"], document["inputs"][0]
    kind = ", ".join(str(first[key]) for key in ("kind", "dtype") if first.get(key))
    lines = [
        f"{first['path']}" + (f" ({kind})" if kind else ""),
        f"{counted(shape['models'], 'model')}, {counted(shape['samples'], 'sample')}, "
        f"{counted(shape['classes'], 'class')}",
    ]
    reference = parameters.get("reference")
    lines.append(f"reference: {_than(reference)}" if reference is not None else "reference: none")
    return lines


def _absent(name: str, metric: Results) -> Row | None:
    """Return the row of a metric that has no value, or None when it has one."""
    if "reason" in metric and metric.get("value", 0) is None:
        return (_words(name), "-", str(metric["reason"]))
    return None


def _between(metric: Results, show: Callable[[float | None], str]) -> str:
    return f"{show(metric.get('min'))} to {show(metric.get('max'))}"


def _set_row(metric: Results) -> Row:
    epsilon = metric.get("epsilon")
    if epsilon is None:
        note = "all models: no epsilon was given"
    else:
        base = "relative " if metric.get("relative") else ""
        note = f"{base}epsilon {number(epsilon)}, loss {_words(str(metric.get('loss')))}"
        if metric.get("split") == "selection":
            note += ", selected on other samples"
    if metric.get("status") not in (None, "ok"):
        note += f"; the set is {'empty' if metric['status'] == 'empty' else 'a single model'}"
    return ("Rashomon set", f"{number(metric.get('size'))} of {number(metric.get('explored'))}", note)


def _within(interval: Results | None, show: Callable[[float | None], str]) -> str:
    """Say an interval: "95 %: 12.1 % to 13.4 %"."""
    if not interval or interval.get("low") is None or interval.get("high") is None:
        return ""
    return f"{100 * interval['level']:.6g} %: {show(interval['low'])} to {show(interval['high'])}"


def _interval(metric: Results, name: str) -> Results | None:
    found: Results | None = (metric.get("intervals") or {}).get(name)
    return found


def _share_row(name: str, metric: Results) -> Row:
    notes = []
    if within := _within(metric.get("interval"), percent):
        notes.append(within)
    if metric.get("count") is not None:
        notes.append(counted(metric["count"], "sample"))
    if metric.get("reference") is not None:
        notes.append(f"against {_than(metric['reference'])}")
    if metric.get("argmax") is not None:
        found = metric["argmax"]
        notes.append(found if isinstance(found, str) else " and ".join(map(str, found)))
    matched = metric.get("size_matched")
    if matched:
        notes.append(f"{percent(matched['value'])} expected of {counted(matched['m'], 'model')}")
    return (_words(name), percent(metric.get("value")), "; ".join(notes))


def _fidelity_row(metric: Results) -> Row:
    within = _within(_interval(metric, "median"), percent)
    note = "median" + (f" ({within})" if within else "") + f"; {_between(metric, percent)}"
    if metric.get("argmax") is not None:
        note += f"; best {metric['argmax']}"
    return ("fidelity", percent(metric.get("median")), note)


def _pairs_row(metric: Results) -> Row:
    most = metric.get("max")
    within = _within(_interval(metric, "mean"), percent)
    return (
        "pairwise disagreement",
        percent(metric.get("mean")),
        "mean" + (f" ({within})" if within else "") + (f"; up to {percent(most)}" if most else ""),
    )


_HEADLINES: dict[str, Callable[[Results], Row]] = {
    "set": _set_row,
    "fidelity": _fidelity_row,
    "ambiguity": lambda m: _share_row("ambiguity", m),
    "discrepancy": lambda m: _share_row("discrepancy", m),
    "pairwise_ambiguity": lambda m: _share_row("pairwise_ambiguity", m),
    "pairwise_discrepancy": lambda m: _share_row("pairwise_discrepancy", m),
    "pairwise_disagreement": _pairs_row,
}


def _headline_table(results: Results) -> Table:
    """Return one line for each number of the whole set, and for each metric that has none."""
    found: list[Row] = []
    others = (n for n in results if n not in _HEADLINES and n not in ("shape", "epsilon_curves", "size_curves"))
    for name in (*_HEADLINES, *others):
        metric = results.get(name)
        if metric is None:
            continue
        missing = _absent(name, metric)
        if missing is not None:
            if name != "groups" or metric != results.get("fairness"):  # what fairness says already
                found.append(missing)
        elif name in _HEADLINES:
            found.append(_HEADLINES[name](metric))
    return Table(("metric", "value", "notes"), found, numbers=(1,))


def _sample_table(results: Results) -> Table:
    """Return mean and quantiles over the samples."""
    found: list[Row] = []
    under: list[str] = []

    def add(name: str, metric: Results, show: Callable[[float | None], str]) -> None:
        found.append((name, *(show(metric.get(key)) for key in ("mean", "p50", "p95", "max"))))
        if within := _within(_interval(metric, "mean"), show):
            under.append(f"{name}: mean, {within}")

    rate = results.get("disagreement_rate")
    if rate and _absent("", rate) is None:
        add("disagreement rate", rate, percent)
    capacity = results.get("rashomon_capacity")
    if capacity and _absent("", capacity) is None:
        add("Rashomon capacity, bits", capacity, number)
        add("Rashomon capacity, 2^bits", capacity["effective"], number)
    for name in ("viable_prediction_range", "score_variance"):
        metric = results.get(name)
        if not metric or _absent("", metric) is not None:
            continue
        title, classes = _words(name), list(metric.get("classes", {}).items())
        if metric.get("positive"):
            add(f"{title}, positive class", metric["positive"], number)
        elif len(classes) == 2:
            add(title, classes[1][1], number)  # the variances of two classes are the same
        else:
            for c, entry in classes[:MAX_CLASSES]:
                add(f"{title}, class {c}", entry, number)
            if len(classes) > MAX_CLASSES:
                found.append((f"... {counted(len(classes) - MAX_CLASSES, 'more class')}: --json", "", "", "", ""))
        if metric.get("true_class"):
            add(f"{title}, true class", metric["true_class"], number)
    under += [_certificate(capacity)] if capacity and _absent("", capacity) is None else []
    return Table(("per sample", "mean", "median", "p95", "max"), found, numbers=(1, 2, 3, 4), under=under)


def _certificate(capacity: Results) -> str:
    """Say what the bounds of the capacities are worth."""
    counts = capacity["status_counts"]
    samples, sure = sum(counts.values()), counts["certified"]
    text = f"Rashomon capacity: bounds at most {capacity['max_gap']:.2g} bits apart"
    if sure == samples:
        return f"{text}, all {samples:,} certified within {capacity['tol']:.2g}"
    left = ", ".join(f"{n:,} at {_words(name)}" for name, n in counts.items() if n and name != "certified")
    return f"{text}, {sure:,} of {samples:,} certified within {capacity['tol']:.2g}; {left}"


def _loss_table(results: Results) -> Table:
    """Return smallest, middle and largest loss over the models."""
    found: list[Row] = []
    under: list[str] = []
    for name, loss in results.get("losses", {}).items():
        if not isinstance(loss, Mapping):
            continue

        def show(value: float | None, loss: Results = loss) -> str:
            return "inf" if value is None and loss.get("infinite") else number(value)

        best = loss.get("argmin") or loss.get("argmax") or ""
        found.append((_LOSS_TITLES.get(name, _words(name)), *(show(loss.get(k)) for k in _EXTREMES), str(best)))
        if within := _within(_interval(loss, "median"), number):
            under.append(f"{_LOSS_TITLES.get(name, _words(name))}: median, {within}")
    return Table(("loss", *_EXTREMES, "best model"), found, numbers=(1, 2, 3), under=under)


def _fairness_tables(results: Results) -> list[Table]:
    """Return quantiles over the models and the target's value, and who makes the gaps; each column first if asked."""
    fairness = results.get("fairness", {})
    alone = fairness.get("by_column", {})
    named = [(f"fairness, {name}", part) for name, part in alone.items()]
    named.append(("fairness, crossed" if alone else "fairness", fairness))
    return [table for title, part in named for table in (_gap_table(title, part), _pair_table(title, part))]


def _gap_table(title: str, fairness: Results) -> Table:
    found: list[Row] = []
    under: list[str] = []
    for name, gap in fairness.items():
        if not isinstance(gap, Mapping) or "median" not in gap:
            continue
        short = _words(name).replace("accuracy equality", "accuracy").replace("difference", "diff.")
        found.append((short, *(number(gap.get(key)) for key in (*_QUANTILES, "target"))))
        if gap.get("median") is None:
            under.append(f"{_words(name)}: {gap.get('reason', 'undefined')}{_where(gap)}")
        elif gap.get("undefined"):
            under.append(f"{_words(name)}: undefined in {counted(gap['undefined'], 'model')}{_where(gap)}")
        kept = _limit_kept(gap, "models")
        if kept:
            under.append(f"{_words(name)}: {kept}")
    return Table((title, *_QUANTILES, "target"), found, numbers=(1, 2, 3, 4, 5, 6), under=under)


def _where(gap: Results) -> str:
    groups = gap.get("undefined_groups", [])
    more = ", ..." if len(groups) > MAX_NAMED else ""
    return f" ({'; '.join(groups[:MAX_NAMED])}{more})" if groups else ""


def _pair_table(title: str, fairness: Results) -> Table:
    """Return the groups with the smallest and the largest rate, of the target and of the model with the widest gap."""
    found: list[Row] = []
    for name, gap in fairness.items():
        if not name.endswith("_difference") or name.startswith(_COMBINED):
            continue
        for whom, pair in (("target", gap["pairs"]["target"]), (gap.get("argmax"), gap["pairs"]["argmax"])):
            if pair is not None:
                ends = (f"{pair[end]['group']} {number(pair[end]['value'])}" for end in ("smallest", "largest"))
                found.append((_words(pair["rate"]), str(whom), *ends))
    _, comma, column = title.partition(", ")
    return Table((f"widest gaps{comma}{column}", "model", "smallest", "largest"), found)


def _inside_tables(results: Results) -> list[Table]:
    """Return multiplicity inside the groups, one table for each column."""
    return [_inside_table(name, part) for name, part in results.get("groups", {}).items() if isinstance(part, Mapping)]


def _inside_table(name: str, part: Results) -> Table:
    groups, gaps = part["groups"], part["gaps"]
    first = "ambiguity" if gaps["ambiguity"]["largest"] is not None else "pairwise_ambiguity"
    shown = {
        first: ("ambiguity", percent),
        "disagreement_rate": ("disagreement", percent),
        "viable_prediction_range": ("range", number),
        "rashomon_capacity": ("bits", number),
    }
    shown = {key: x for key, x in shown.items() if gaps[key]["largest"] is not None or key == first}
    found: list[Row] = []
    for group, entry in list(groups.items())[:MAX_GROUPS]:
        cells = (show(entry[key].get("value", entry[key].get("mean"))) for key, (_, show) in shown.items())
        found.append((group, number(entry["n"]), *cells))
    under = ["ambiguity: pairwise, for there is no reference"] if first != "ambiguity" else []
    if len(groups) > MAX_GROUPS:
        found.append((f"... {counted(len(groups) - MAX_GROUPS, 'more group')}: --json", *[""] * (len(shown) + 1)))
        ends = ((title, gaps[key]) for key, (title, _) in shown.items())
        under += [f"{title}: most in {gap['largest']}, least in {gap['smallest']}" for title, gap in ends]
    found.append(("largest - smallest", "", *(show(gaps[key]["difference"]) for key, (_, show) in shown.items())))
    found.append(("smallest / largest", "", *(number(gaps[key]["ratio"]) for key in shown)))
    columns = (f"inside groups, {name}" if name != "groups" else "inside groups", "samples")
    numbers = tuple(range(1, len(shown) + 2))
    return Table((*columns, *(title for title, _ in shown.values())), found, numbers=numbers, under=under)


def _limit_kept(gap: Results, whom: str) -> str:
    """Say how many break a limit that the target keeps, or meet one that it breaks."""
    limit = number(gap.get("threshold"))
    for key, verb, other in (("share_breaking", "break", "keeps"), ("share_meeting", "meet", "breaks")):
        share = gap.get(key)
        if share is not None:
            who = {0: "none", 1: "all"}.get(share, percent(share))
            return f"{who} of the {whom} {verb} {limit}, which the target {other}"
    return ""


def tables(results: Results) -> list[Table]:
    """Return the tables of a measurement: headlines, then per sample, losses, fairness and groups where known."""
    found = [_headline_table(results), _sample_table(results), _loss_table(results)]
    found += [*_fairness_tables(results), *_inside_tables(results)]
    return [table for table in found if table.rows]


# --- sentences ----------------------------------------------------------------------------------------------


def sentences(results: Results, noun: str = "model", positive: str | None = None) -> list[str]:
    """Return one sentence for each headline metric that has a value; see :func:`statements`."""
    return [text for _, text in statements(results, noun, positive)]


def statements(results: Results, noun: str = "model", positive: str | None = None) -> list[tuple[str, str]]:
    """Return (path of the numbers in ``results``, sentence) for each headline metric that has a value.

    Parameters
    ----------
    results : dict
        ``results`` of the document.
    noun : str
        What a model is here: "surrogate".
    positive : str, optional
        Name of the positive class.
    """

    def get(name: str) -> Results | None:
        metric = results.get(name)
        return None if metric is None or _absent(name, metric) is not None else metric

    found: list[tuple[str, str]] = []
    chosen = get("set")
    if chosen and chosen.get("epsilon") is not None:
        text = (
            f"{number(chosen['size'])} of {number(chosen['explored'])} {noun}s are in the Rashomon set at "
            f"epsilon {number(chosen['epsilon'])}."
        )
        found.append(("set", text))
    fidelity = get("fidelity")
    if fidelity:
        text = (
            f"The {noun}s give the target's answer on {_between(fidelity, percent)} of the samples "
            f"(median {percent(fidelity['median'])})."
        )
        found.append(("fidelity", text))
    ambiguity = get("ambiguity")
    if ambiguity:
        text = (
            f"{percent(ambiguity['value'])} of the samples get another answer from at least one {noun} than "
            f"from {_than(ambiguity.get('reference'))}."
        )
        found.append(("ambiguity", text))
    discrepancy = get("discrepancy")
    if discrepancy:
        text = (
            f"The {noun} that differs most from {_than(discrepancy.get('reference'))} does so on "
            f"{percent(discrepancy['value'])} of the samples."
        )
        found.append(("discrepancy", text))
    pairs = get("pairwise_disagreement")
    if pairs:
        text = (
            f"Two {noun}s give different answers on {percent(pairs['mean'])} of the samples on average, and "
            f"on up to {percent(pairs['max'])}."
        )
        found.append(("pairwise_disagreement", text))
    ranges = get("viable_prediction_range")
    if ranges and ranges.get("positive"):
        what = "class 1" if positive is None else positive
        text = (
            f"The largest and the smallest P({what}) of one sample lie {number(ranges['positive']['mean'])} "
            f"apart on average, up to {number(ranges['positive']['max'])}."
        )
        found.append(("viable_prediction_range.positive", text))
    ratio = (get("fairness") or {}).get("demographic_parity_ratio")
    if ratio and ratio.get("median") is not None:
        text = f"Their demographic parity ratios run from {_between(ratio, number)}"
        text += f" (target {number(ratio['target'])})" if ratio.get("target") is not None else ""
        kept = _limit_kept(ratio, f"{noun}s")
        found.append(("fairness.demographic_parity_ratio", text + (f"; {kept}" if kept else "") + "."))
    for name, column in list((get("groups") or {}).items())[-1:]:  # the finest
        gap, rates = column["gaps"]["disagreement_rate"], column["groups"]
        if gap["difference"]:
            most, least = (f"{gap[k]} ({percent(_inside(rates[gap[k]]))})" for k in ("largest", "smallest"))
            text = f"The mean disagreement rate is largest within {most} and smallest within {least}."
            found.append((f"groups.{name}.gaps.disagreement_rate", text))
    return found


def _inside(entry: Results) -> float | None:
    value: float | None = entry["disagreement_rate"].get("mean")
    return value


# --- printing -----------------------------------------------------------------------------------------------


def console_of(stream: IO[str]) -> Console:
    """Return a console of the terminal's width, at most ``MAX_WIDTH``."""
    from rich.console import Console

    width = min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH)
    return Console(
        file=stream,
        width=max(width, 40),
        highlight=False,
        markup=False,
        emoji=False,
        # rich would drop colours only and keep bold: NO_COLOR here means plain text
        force_terminal=False if os.environ.get("NO_COLOR") else None,
    )


def show(console: Console, table: Table) -> None:
    """Print a table."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), show_header=any(table.columns)
    )
    for i, title in enumerate(table.columns):
        right = i in table.numbers
        drawn.add_column(title, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    console.print(drawn)
    for line in table.under:
        console.print(Text(clean(line)))


def print_report(
    document: Mapping[str, Any],
    stream: IO[str],
    *,
    description: str | None = None,
    positive: str | None = None,
) -> None:
    """Print a measurement: heading, sentences (with a ``description`` of the example), table.

    Parameters
    ----------
    document : dict
        From :func:`rashomon_core.report.document.build_document`.
    stream : text stream
        Usually ``sys.stdout``. Colours only on a terminal, and not with NO_COLOR.
    description : str, optional
        What the data are; headline metrics are then said in words too.
    positive : str, optional
        Name of the positive class, for the words.
    """
    from rich.text import Text

    console = console_of(stream)
    first, *others = heading(document)
    console.print(Text(clean(first), style="bold"))
    console.print(Text(clean("; ".join(others))))
    if description is not None:
        console.print(Text(clean(f"\n{description}.\n")))
        for sentence in sentences(document["results"], "surrogate", positive):
            lines = textwrap.wrap(clean(sentence), console.width, initial_indent="- ", subsequent_indent="  ")
            console.print(Text("\n".join(lines)))
    for table in tables(document["results"]):
        console.print()
        show(console, table)
    resources = document["resources"]
    console.print()
    facts = [f"{number(resources['seconds'])} s"] if resources.get("seconds") is not None else []
    if resources.get("threads") is not None:
        facts.append(counted(resources["threads"], "thread"))
    if resources.get("bytes_read") is not None:
        facts.append(f"{_size(resources['bytes_read'])} read")
    console.print(Text(clean(", ".join(facts)), style="dim"))


def print_inspection(document: Mapping[str, Any], stream: IO[str]) -> None:
    """Print what ``inspect`` found: facts, checks, suggestions."""
    from rich.text import Text

    console = console_of(stream)
    facts, entry = document["predictions"], document["input"]

    def ids(found: Mapping[str, Any] | None) -> str:
        if found is None:
            return "none: matched by position"
        more = ", ..." if found["count"] > len(found["first"]) else ""
        return ", ".join(found["first"]) + more

    classes = facts["classes"]
    lines = [
        ("kind", facts["kind"]),
        ("axes", ", ".join(facts["axes"])),
        ("shape", " x ".join(f"{n:,}" for n in facts["shape"])),
        ("dtype", facts["dtype"]),
        ("models", f"{facts['models']:,}"),
        ("samples", f"{facts['samples']:,}"),
        ("classes", "unknown" if classes is None else f"{classes:,}"),
        ("class names", ", ".join(facts["class_names"]) if facts["class_names"] else "none"),
        ("model ids", ids(facts["model_ids"])),
        ("sample ids", ids(facts["sample_ids"])),
        ("size", f"{_size(facts['bytes'])} as an array, {_size(entry['size'])} on disk"),
        ("sha256", entry["sha256"] or "not computed (--checksum)"),
        ("values", "all checked: good" if document["checks"]["ok"] else document["checks"]["problem"]),
    ]
    console.print(Text(clean(entry["path"]), style="bold"))
    show(console, Table(("", ""), lines))
    for suggestion in document["suggestions"]:
        console.print(Text(clean(f"suggestion: {suggestion}")))
