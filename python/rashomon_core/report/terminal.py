"""Tables and sentences for people, made from the JSON document; 80 columns are enough.

Texts of users (file names, ids, class names) are printed as they are, never as markup, and with control
characters made visible.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["clean", "heading", "print_inspection", "print_report", "rows", "sentences"]

Results = Mapping[str, Any]
Row = tuple[str, str, str]
#: Wider text is harder to read, however wide the terminal.
MAX_WIDTH = 100


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


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def _words(name: str) -> str:
    return name.replace("_", " ")


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
        f"{_counted(shape['models'], 'model')}, {_counted(shape['samples'], 'sample')}, "
        f"{_counted(shape['classes'], 'class')}",
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


def _set_rows(metric: Results) -> list[Row]:
    epsilon = metric.get("epsilon")
    size, explored = metric.get("size"), metric.get("explored")
    if epsilon is None:
        note = "all models: no epsilon was given"
    else:
        base = "relative " if metric.get("relative") else ""
        note = f"{base}epsilon {number(epsilon)} on {_words(str(metric.get('loss')))} loss"
        if metric.get("split") == "selection":
            note += ", selected on other samples"
    if metric.get("status") not in (None, "ok"):
        note += f"; the set is {'empty' if metric['status'] == 'empty' else 'a single model'}"
    return [("Rashomon set", f"{number(size)} of {number(explored)}", note)]


def _share_rows(name: str, metric: Results) -> list[Row]:
    notes = []
    if metric.get("count") is not None:
        notes.append(_counted(metric["count"], "sample"))
    if metric.get("reference") is not None:
        notes.append(f"against {_than(metric['reference'])}")
    if metric.get("argmax") is not None:
        found = metric["argmax"]
        notes.append(found if isinstance(found, str) else " and ".join(map(str, found)))
    matched = metric.get("size_matched")
    if matched:
        notes.append(f"{percent(matched['value'])} at {matched['m']} models")
    return [(_words(name), percent(metric.get("value")), "; ".join(notes))]


def _fidelity_rows(metric: Results) -> list[Row]:
    note = f"median; {_between(metric, percent)}"
    if metric.get("argmax") is not None:
        note += f"; best {metric['argmax']}"
    return [("fidelity", percent(metric.get("median")), note)]


def _pairs_rows(metric: Results) -> list[Row]:
    note = f"mean; up to {percent(metric.get('max'))}"
    pair = metric.get("argmax")
    if pair:
        note += f": {pair[0]} and {pair[1]}"
    return [("pairwise disagreement", percent(metric.get("mean")), note)]


def _spread(metric: Results, show: Callable[[float | None], str] = number) -> str:
    median, high, top = (show(metric.get(key)) for key in ("p50", "p95", "max"))
    return f"mean; median {median}, p95 {high}, max {top}"


def _class_rows(name: str, metric: Results) -> list[Row]:
    """Rows of a metric per class: of the positive class where there is one, else of each of a few classes."""
    found: list[tuple[str, Results]] = []
    if metric.get("positive"):
        found.append(("positive class", metric["positive"]))
    else:
        found.extend((f"class {c}", m) for c, m in list(metric.get("classes", {}).items())[:10])
    if metric.get("true_class"):
        found.append(("true class", metric["true_class"]))
    if name == "score_variance" and len(metric.get("classes", {})) == 2:
        found = found[:1]  # both classes of two have the same variance
    rows_ = [(_words(name), number(m.get("mean")), f"{c}; {_spread(m)}") for c, m in found]
    hidden = len(metric.get("classes", {})) - 10
    if hidden > 0 and not metric.get("positive"):
        rows_.append(("", "", f"and {_counted(hidden, 'more class')} in the JSON document"))
    return rows_


def _loss_rows(metric: Results) -> list[Row]:
    rows_ = []
    for name, loss in metric.items():
        if not isinstance(loss, Mapping):
            continue
        missing = _absent(name, loss)
        if missing is not None:
            rows_.append(missing)
            continue
        note = f"median; {_between(loss, number)}"
        if loss.get("argmin") is not None:
            note += f"; best {loss['argmin']}"
        if loss.get("infinite"):
            note += f"; infinite for {_counted(loss['infinite'], 'model')}"
        rows_.append((_words(name), number(loss.get("median")), note))
    return rows_


def _limit_kept(gap: Results, whom: str, which: str) -> str:
    """Say how many break a limit that the target keeps, or meet one that it breaks."""
    limit = number(gap.get("threshold"))
    if gap.get("share_breaking") is not None:
        return f"; {percent(gap['share_breaking'])}{whom} break {limit}, {which} the target keeps"
    if gap.get("share_meeting") is not None:
        return f"; {percent(gap['share_meeting'])}{whom} meet {limit}, {which} the target breaks"
    return ""


def _fairness_rows(metric: Results) -> list[Row]:
    rows_ = []
    for name, gap in metric.items():
        if not isinstance(gap, Mapping):
            continue
        missing = _absent(name, gap)
        if missing is not None:
            rows_.append(missing)
            continue
        if gap.get("median") is None:
            rows_.append((_words(name), "-", str(gap.get("reason", "undefined"))))
            continue
        note = f"median; {_between(gap, number)}"
        if gap.get("target") is not None:
            note += f"; target {number(gap['target'])}"
        note += _limit_kept(gap, "", "which")
        rows_.append((_words(name), number(gap.get("median")), note))
    return rows_


#: Metrics in the order of the table, with what makes rows of them.
_ROWS: dict[str, Callable[[Results], list[Row]]] = {
    "set": _set_rows,
    "fidelity": _fidelity_rows,
    "ambiguity": lambda m: _share_rows("ambiguity", m),
    "discrepancy": lambda m: _share_rows("discrepancy", m),
    "pairwise_ambiguity": lambda m: _share_rows("pairwise_ambiguity", m),
    "pairwise_discrepancy": lambda m: _share_rows("pairwise_discrepancy", m),
    "pairwise_disagreement": _pairs_rows,
    "disagreement_rate": lambda m: [("disagreement rate", percent(m.get("mean")), _spread(m, percent))],
    "viable_prediction_range": lambda m: _class_rows("viable_prediction_range", m),
    "score_variance": lambda m: _class_rows("score_variance", m),
    "losses": _loss_rows,
    "fairness": _fairness_rows,
}


def rows(results: Results) -> list[Row]:
    """Return (metric, value, notes) for each number worth a line."""
    found: list[Row] = []
    for name, make in _ROWS.items():
        metric = results.get(name)
        if metric is None:
            continue
        missing = _absent(name, metric)
        found.extend(make(metric) if missing is None else [missing])
    return found


# --- sentences ----------------------------------------------------------------------------------------------


def sentences(results: Results, noun: str = "model", positive: str | None = None) -> list[str]:
    """Return one sentence for each headline metric that has a value.

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

    found: list[str] = []
    chosen = get("set")
    if chosen and chosen.get("epsilon") is not None:
        found.append(
            f"{number(chosen['size'])} of {number(chosen['explored'])} {noun}s are in the Rashomon set at "
            f"epsilon {number(chosen['epsilon'])}."
        )
    fidelity = get("fidelity")
    if fidelity:
        found.append(
            f"The {noun}s give the target's answer on {_between(fidelity, percent)} of the samples "
            f"(median {percent(fidelity['median'])})."
        )
    ambiguity = get("ambiguity")
    if ambiguity:
        found.append(
            f"{percent(ambiguity['value'])} of the samples get another answer from at least one {noun} than "
            f"from {_than(ambiguity.get('reference'))}."
        )
    discrepancy = get("discrepancy")
    if discrepancy:
        found.append(
            f"The {noun} that differs most from {_than(discrepancy.get('reference'))} does so on "
            f"{percent(discrepancy['value'])} of the samples."
        )
    pairs = get("pairwise_disagreement")
    if pairs:
        found.append(
            f"Two {noun}s give different answers on {percent(pairs['mean'])} of the samples on average, and "
            f"on up to {percent(pairs['max'])}."
        )
    ranges = get("viable_prediction_range")
    if ranges and ranges.get("positive"):
        what = "class 1" if positive is None else positive
        found.append(
            f"The largest and the smallest P({what}) of one sample lie {number(ranges['positive']['mean'])} "
            f"apart on average, up to {number(ranges['positive']['max'])}."
        )
    ratio = (get("fairness") or {}).get("demographic_parity_ratio")
    if ratio and ratio.get("median") is not None:
        text = f"Their demographic parity ratios run from {_between(ratio, number)}"
        text += f" (target {number(ratio['target'])})" if ratio.get("target") is not None else ""
        found.append(text + _limit_kept(ratio, f" of the {noun}s", "that") + ".")
    return found


# --- printing -----------------------------------------------------------------------------------------------


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    width = min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH)
    return Console(file=stream, width=max(width, 40), highlight=False, markup=False, emoji=False)


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), show_header=any(columns)
    )
    for i, title in enumerate(columns):
        table.add_column(
            title,
            justify="right" if i in numbers else "left",
            no_wrap=i in numbers,
            overflow="fold",
            style="bold" if i in numbers else "",
            ratio=None,
        )
    for line in lines:
        table.add_row(*(Text(clean(cell)) for cell in line))
    return table


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

    console = _console(stream)
    first, *others = heading(document)
    console.print(Text(clean(first), style="bold"))
    console.print(Text(clean("; ".join(others))))
    if description is not None:
        console.print(Text(clean(f"\n{description}.\n")))
        for sentence in sentences(document["results"], "surrogate", positive):
            console.print(Text(clean(sentence)))
    console.print()
    console.print(_table(("metric", "value", "notes"), rows(document["results"]), numbers=(1,)))
    resources = document["resources"]
    console.print()
    facts = [f"{number(resources['seconds'])} s"] if resources.get("seconds") is not None else []
    if resources.get("threads") is not None:
        facts.append(_counted(resources["threads"], "thread"))
    if resources.get("bytes_read") is not None:
        facts.append(f"{_size(resources['bytes_read'])} read")
    console.print(Text(clean(", ".join(facts)), style="dim"))


def print_inspection(document: Mapping[str, Any], stream: IO[str]) -> None:
    """Print what ``inspect`` found: facts, checks, suggestions."""
    from rich.text import Text

    console = _console(stream)
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
    console.print(_table(("", ""), lines))
    for suggestion in document["suggestions"]:
        console.print(Text(clean(f"suggestion: {suggestion}")))
