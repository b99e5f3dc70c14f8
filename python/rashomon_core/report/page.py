"""One self-contained HTML page from a report's material: words, charts, tables, provenance.

Names that come from data are escaped by the template, inside the JSON of the charts too; a content security policy
forbids every request and every script but the two that the page carries.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import Any, cast

from rashomon_core.errors import MissingDependencyError

from .audits import baselines, budgets, gate, remarks
from .audits import heading as audit_heading
from .captions import CAPTIONS, caveats, flat, looked_up, title_of
from .charts import charts, colours, datasets
from .material import Material
from .terminal import Table, clean, heading, number, percent, statements, tables

__all__ = ["all_tables", "provenance", "render_page", "said", "sample_table", "tiles_of", "title", "warnings_of"]


@functools.cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, as vl-convert carries them."""
    try:
        import vl_convert
    except ImportError as error:
        raise MissingDependencyError("vl-convert-python", "a report", "report") from error
    bundle: str = cast(Any, vl_convert).javascript_bundle()
    return _script(bundle)


def _compiled(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chart as Vega draws it: compiled here once, it opens in half the time, and errors show here."""
    import vl_convert

    compiled: dict[str, Any] = vl_convert.vegalite_to_vega(dict(spec))
    compiled.pop("$schema", None)
    return compiled


def _script(text: str) -> str:
    """Return JavaScript that cannot end its element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _asset(name: str) -> str:
    return files("rashomon_core.report").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def render_page(material: Material) -> str:
    """Return the page.

    Parameters
    ----------
    material : Material
        From :func:`rashomon_core.report.material.gather`.

    Returns
    -------
    str
        HTML. The same material gives the same bytes: there are no dates in it.

    Raises
    ------
    MissingDependencyError
        Jinja2 or vl-convert is not installed (extra ``[report]``).
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("jinja2", "a report", "report") from error
    document = material.document
    library, script = _library(), _script(_asset("page.js"))
    drawn = charts(material)
    figures, specs = [], {}
    for name, panels in drawn.items():
        heading_, caption = CAPTIONS[name]
        shown = []
        for k, (panel, spec) in enumerate(panels.items()):
            specs[f"{name}-{k}"] = _compiled(spec)
            shown.append((f"{name}-{k}", panel, clean(f"{heading_}: {panel}" if panel else heading_)))
        figures.append(
            {
                "name": name,
                "title": heading_,
                "caption": caption.format(noun=material.noun),
                "panels": shown,
                "table": _figure_table(name, material),
            }
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    policy = f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; style-src 'unsafe-inline'; "
    policy += "img-src data: blob:; base-uri 'none'; form-action 'none'"
    text: str = environment.from_string(_asset("page.html.jinja")).render(
        policy=policy,
        css=_asset("page.css"),
        library=library,
        script=script,
        title=title(document),
        lead=_lead(document),
        software=f"rashomon-core {document['software']['version']}",
        tiles=tiles_of(material),
        said=said(material),
        caveats=caveats(document, material.noun),
        warnings=[clean(text) for text in warnings_of(document)],
        figures=figures,
        budgets=[(name, name) for name in material.budgets],
        families=[[name, clean(name)] for name in material.families],
        methods=[[name, name] for name in material.methods],
        metrics=[(name, title_of(name)) for name in material.fairness],
        legend=list(colours(material).items()),
        samples=sample_table(material),
        tables=all_tables(document),
        provenance=provenance(document),
        notes=[clean(text) for text in material.notes],
        data={"specs": specs, "datasets": datasets(material)},
    )
    return text


# --- pieces, shared with Markdown -----------------------------------------------------------------------------


def title(document: Mapping[str, Any]) -> str:
    """Return what the report is about."""
    if "audit" in document:
        return clean(f"Rashomon audit of {document['audit']['target']['name']} on {document['audit']['data']['name']}")
    return clean(f"Rashomon set of {PurePath(document['inputs'][0]['path']).name}")


def _lead(document: Mapping[str, Any]) -> list[str]:
    if "audit" in document:
        audit = document["audit"]
        return [clean(audit_heading(audit)) + ".", clean(gate(audit)) + "."]
    return [clean("; ".join(heading(document)[1:])) + "."]


def tiles_of(material: Material) -> list[tuple[str, str, str]]:
    """Return name, value and remark of the few numbers that say most."""
    results = material.results
    chosen, found = results["set"], []
    note = "all: no epsilon was given" if chosen["epsilon"] is None else f"of {chosen['explored']:,} explored"
    found.append(("members of the set", number(chosen["size"]), note))
    fidelity, ambiguity = results.get("fidelity") or {}, results.get("ambiguity") or {}
    if fidelity.get("median") is not None:
        note = f"{percent(fidelity['min'])} to {percent(fidelity['max'])}"
        found.append(("median fidelity", percent(fidelity["median"]), note))
    if ambiguity.get("value") is not None:
        found.append(
            ("ambiguity", percent(ambiguity["value"]), f"{ambiguity['count']:,} samples{_interval(ambiguity)}")
        )
    pairs = results.get("pairwise_disagreement") or {}
    if pairs.get("mean") is not None:
        note = "" if pairs.get("max") is None else f"up to {percent(pairs['max'])}"
        found.append(("two members differ on", percent(pairs["mean"]), note))
    capacity = results.get("rashomon_capacity") or {}
    if capacity.get("mean") is not None:
        note = f"bits on average; 95 % of samples below {number(capacity['p95'])}"
        found.append(("Rashomon Capacity", number(capacity["mean"]), note))
    gap = looked_up(results, "fairness.demographic_parity_difference") or {}
    if gap.get("median") is not None:
        own = "" if gap.get("target") is None else f"target {gap['target']:.2f}"
        found.append(("demographic parity gap", f"{gap['min']:.2f} to {gap['max']:.2f}", own))
    return found


def _interval(metric: Mapping[str, Any]) -> str:
    """Return the interval of a number, when the document has one: {low, high} or a pair."""
    found = metric.get("interval")
    if isinstance(found, Mapping):
        found = [found.get("low", found.get("lower")), found.get("high", found.get("upper"))]
    if not isinstance(found, (list, tuple)) or len(found) < 2 or None in found[:2]:
        return ""
    return f"; interval {percent(found[0])} to {percent(found[1])}"


def said(material: Material) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each sentence of the summary with the numbers behind it."""
    document = material.document
    found = []
    for path, text in statements(material.results, material.noun, material.positive):
        found.append((clean(text), _numbers(path, looked_up(material.results, path))))
    if "checkpoints" in document:
        entry = document["checkpoints"][-1]
        for path, text in remarks(entry):
            if path != "results.fairness":  # among the caveats
                found.append((clean(text), _numbers(path, looked_up(entry, path))))
    return found


def _numbers(path: str, node: Any) -> list[tuple[str, str]]:
    return [(clean(name), _exact(value)) for name, value in flat(node, path) if not isinstance(value, dict)]


def _exact(value: Any) -> str:
    """Return a value for people who check: six digits, names as they are."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value)


def warnings_of(document: Mapping[str, Any]) -> list[str]:
    """Return the warnings of all checkpoints and of the document, each once."""
    found = []
    for entry in document.get("checkpoints", ()):
        found += [f"budget {entry['budget']:,}: {text}" for text in entry["warnings"]]
    told = {text for entry in document.get("checkpoints", ()) for text in entry["warnings"]}
    return [*found, *(text for text in document["warnings"] if text not in told)]


def sample_table(material: Material) -> Table:
    """Return the most ambiguous samples; columns without any value are left out."""
    columns = ("sample", "group", "true label", "target", "answers", f"P({material.positive})", "bits", "carried by")
    rows = []
    for row in material.samples:
        support = ", ".join(f"{name} ({weight:.2f})" for name, weight in row["support"])
        rows.append(
            (
                row["sample"],
                row["group"] or "",
                row["label"] or "",
                row["target"] or "",
                ", ".join(f"{name} {count}" for name, count in row["answers"].items()),
                "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
                "" if row["bits"] is None else f"{row['bits']:.3f}",
                support + (f" and {row['more']} more" if row["more"] else ""),
            )
        )
    kept = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    return _cleaned(Table(tuple(columns[k] for k in kept), [tuple(row[k] for k in kept) for row in rows]))


def all_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the terminal: budgets and baselines of an audit, then the measurement."""
    found = []
    if "checkpoints" in document:
        entries = document["checkpoints"]
        found += [budgets(entries), baselines(entries[-1], document["audit"])]
    return [_cleaned(table) for table in [*found, *tables(document["results"])]]


def _figure_table(name: str, material: Material) -> Table | None:
    """Return the numbers of a figure that has few."""
    if name != "groups":
        return None
    rows = [
        (
            row["group"],
            f"{row['samples']:,}",
            *(percent(row[key]) for key in ("ambiguity", "pairwise_ambiguity", "disagreement")),
        )
        for row in material.groups
    ]
    columns = ("group", "samples", "ambiguity", "pairwise", "disagreement")
    return _cleaned(Table(columns, rows, numbers=(1, 2, 3, 4)))


def provenance(document: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return what the numbers come from: inputs with hashes, settings, software, machine, ledger."""
    inputs = [
        (
            entry["role"],
            str(entry["path"]) + (f":{entry['select']}" if entry.get("select") else ""),
            " x ".join(f"{n:,}" for n in entry["shape"] or ()),
            str(entry.get("kind") or ""),
            str(entry.get("sha256") or "not computed (--checksum)"),
        )
        for entry in document["inputs"]
    ]
    found = [("Inputs", Table(("role", "path", "shape", "kind", "sha256"), inputs))]
    if "audit" in document:
        audit = document["audit"]
        found.append(("Queries", _pairs({"whole run": audit["queries"], **_queries(document)})))
        found.append(("Audit", _pairs({**audit["configuration"], "data rows": audit["data"]})))
    found.append(("Parameters", _pairs(document["parameters"])))
    machine = {**document["software"], **document["environment"], "status": document["status"]}
    if "value" not in document["resources"]:
        machine |= document["resources"]
    found.append(("Software and machine", _pairs({**machine, **document.get("versions", {})})))
    return [(name, _cleaned(table)) for name, table in found]


def _queries(document: Mapping[str, Any]) -> dict[str, Any]:
    return {f"budget {entry['budget']:,}": entry["queries"] for entry in document["checkpoints"]}


def _pairs(node: Mapping[str, Any]) -> Table:
    return Table(("", ""), [(name, _exact(value)) for name, value in flat(node)])


def _cleaned(table: Table) -> Table:
    rows: Sequence[tuple[str, ...]] = [tuple(clean(cell) for cell in row) for row in table.rows]
    return Table(tuple(clean(c) for c in table.columns), rows, table.numbers, [clean(t) for t in table.under])
