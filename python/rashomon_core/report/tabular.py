"""A report's numbers as tables for other programs (CSV), and as one Markdown text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .captions import CAPTIONS, caveats, flat
from .material import Material
from .page import all_tables, provenance, said, sample_table, tiles_of, title, warnings_of
from .terminal import Table, clean

__all__ = ["csv_tables", "defused", "render_markdown", "to_csv"]

Rows = Sequence[Mapping[str, Any]]


# --- CSV ------------------------------------------------------------------------------------------------------


def defused(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: those that begin like one get an apostrophe in front.

    Examples
    --------
    >>> from rashomon_core.report.tabular import defused
    >>> defused("=1+1"), defused("forest-1"), defused("-depth")
    ("'=1+1", 'forest-1', "'-depth")
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV (RFC 4180); numbers in full, None as nothing, texts defused."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([defused(name) for name in columns])
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return defused(value) if isinstance(value, str) else value


def csv_tables(material: Material) -> dict[str, str]:
    """Return file name -> CSV of everything that the figures show, and of every number of the document."""
    results = [(name, value) for name, value in flat(material.results) if not isinstance(value, dict)]
    found = {"results.csv": to_csv(("name", "value"), results)}
    sets: dict[str, Rows] = {
        "models.csv": material.models,
        "epsilon.csv": material.curve,
        "capacity.csv": material.capacity,
        "rates.csv": material.rates,
        "groups.csv": material.groups,
        "budgets.csv": material.budget_rows,
        "samples.csv": [_sample(row) for row in material.samples],
    }
    for name, rows in sets.items():
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            found[name] = to_csv(columns, ([row.get(key) for key in columns] for row in rows))
    if material.heat is not None:
        cells = material.heat.cells.tolist()
        named = ([name, *row] for name, row in zip(material.heat.names, cells, strict=True))
        found["disagreement.csv"] = to_csv(("model", *material.heat.names), named)
    return found


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: row[key] for key in ("sample", "group", "label", "target", "disagreement", "low", "high", "bits")},
        "answers": "; ".join(f"{name}: {count}" for name, count in row["answers"].items()),
        "support": "; ".join(f"{name}: {weight:.6g}" for name, weight in row["support"]),
    }


# --- Markdown -------------------------------------------------------------------------------------------------


def render_markdown(material: Material) -> str:
    """Return the report without its figures: sentences, caveats, every table, provenance."""
    document = material.document
    lines = [f"# {_escaped(title(document))}", ""]
    for name, value, note in tiles_of(material):
        lines.append(f"- {name}: **{_escaped(value)}**" + (f" ({_escaped(note)})" if note else ""))
    lines += ["", "## In words", ""]
    for text, pairs in said(material):
        lines.append(f"- {_escaped(text)}")
        lines.append("  " + "; ".join(f"{_escaped(name)} {_escaped(value)}" for name, value in pairs))
    lines += ["", "## What these numbers do not mean", ""]
    lines += [f"- {_escaped(text)}" for text in caveats(document, material.noun)]
    warned = warnings_of(document)
    if warned:
        lines += ["", "## Warnings of this run", "", *(f"- {_escaped(clean(text))}" for text in warned)]
    if material.groups:
        heading, caption = CAPTIONS["groups"]
        lines += ["", f"## {heading}", "", caption, ""]
        columns = tuple(material.groups[0])
        rows = [tuple("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
                for row in material.groups]  # fmt: skip
        lines += _table(Table(columns, rows))
    samples = sample_table(material)
    if samples.rows:
        lines += ["", "## Most ambiguous samples", "", *_table(samples)]
    lines += ["", "## All numbers"]
    for table in all_tables(document):
        lines += ["", *_table(table), *(f"\n{_escaped(text)}" for text in table.under)]
    lines += ["", "## Provenance"]
    for name, table in provenance(document):
        lines += ["", f"### {name}", "", *_table(table)]
    lines += ["", *(f"{_escaped(clean(text))}.\n" for text in material.notes)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(table: Table) -> list[str]:
    rule = ["---:" if k in table.numbers else "---" for k in range(len(table.columns))]
    return [_row([_escaped(c) for c in table.columns]), _row(rule), *(_row(map(_escaped, row)) for row in table.rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    for mark in "\\`*_[]<>|#~$":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(clean(text).splitlines()).replace("&", "&amp;")
