"""The figures of a report as Vega-Lite specifications: data, marks and encodings, which Vega draws in the browser.

A chart names its data ("models", "curve" ...), and the page carries each of them once. The page's filters choose rows
of "models" and set the parameters ``form`` and ``metric``. No text of users goes into an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .captions import title_of
from .material import Material

__all__ = ["LABELLED", "LINES", "PALETTE", "charts", "colours", "datasets"]

Spec = dict[str, Any]
#: Colours that can be told apart in print, on dark pages and by people with colour-blind eyes (Tableau 10's order).
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#d6a900", "#ff9da6", "#9d755d", "#8c8c8c")
#: Names take at most a part of a chart: a phone has little room.
_NARROW = {"expr": "containerSize()[0] * 0.36"}
#: Heat maps with at most so many rows name them.
LABELLED = 32
_ACCENT = PALETTE[0]
_HOVER: Spec = {"tooltip": {"content": "data"}}  # the page shows a chart's tips of what is under the pointer
_INK = "currentColor"  # what the page's text has: charts follow light, dark and print by themselves
LINES = {
    "ambiguity": "ambiguity",
    "pairwise_ambiguity": "ambiguity, pairwise",
    "discrepancy": "discrepancy",
    "pairwise_discrepancy": "discrepancy, pairwise",
}
_SMALL = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
_CONFIG: Spec = {
    "aria": False,  # a thousand dots that are read out one by one help nobody: each chart has one description
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{f"{part}Color": _INK for part in ("label", "title", "domain", "tick", "grid")},
        "gridOpacity": 0.13,
        "domainOpacity": 0.5,
        "labelFlush": False,
        **_SMALL,
    },
    "legend": {
        **{f"{part}Color": _INK for part in ("label", "title")},
        **_SMALL,
        "orient": "bottom",
        "columns": 2,
        "symbolStrokeWidth": 3,
        "labelLimit": 220,
    },
}


def colours(material: Material) -> dict[str, str]:
    """Return the colour of each family."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(material.families)}


def datasets(material: Material) -> dict[str, list[Any]]:
    """Return the rows that charts name, each set once, numbers with six digits."""
    found: dict[str, list[Any]] = {
        "models": material.models,
        "curve": material.curve,
        "capacity": material.capacity,
        "rates": material.rates,
        "groups": material.groups,
        "budgets": material.budget_rows,
        "heat": [] if material.heat is None else material.heat.cells.ravel().tolist(),
    }
    return {name: [_short(row) for row in rows] for name, rows in found.items() if rows}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def charts(material: Material) -> dict[str, dict[str, Spec]]:
    """Return the specification of every panel with data: figure -> title of the panel -> Vega-Lite."""
    made = {
        "budgets": _budgets(material),
        "fairness": _fairness(material),
        "epsilon": _epsilon(material),
        "capacity": _capacity(material),
        "disagreement": _disagreement(material),
        "rates": _rates(material),
        "groups": _groups(material),
    }
    return {figure: panels for figure, panels in made.items() if panels}


# --- pieces ---------------------------------------------------------------------------------------------------


def _chart(data: str, layers: Sequence[Spec], height: int, tips: Sequence[tuple[str, str, str]], **more: Any) -> Spec:
    """Return a chart as wide as its place; ``tips`` are (field, title, kind) of what the pointer shows."""
    fit = {"type": "fit-x", "contains": "padding"}
    return {
        "config": _CONFIG,
        "data": {"name": data},
        "width": "container",
        "height": height,
        "autosize": fit,
        "usermeta": {"tips": [list(tip) for tip in tips]},
        **more,
        "layer": list(layers),
    }


def _mark(kind: str, encoding: Mapping[str, Any], **more: Any) -> Spec:
    look = {key: value for key, value in more.items() if key not in ("data", "transform")}
    part = {key: value for key, value in more.items() if key in ("data", "transform")}
    return {**part, "mark": {"type": kind, **look}, "encoding": dict(encoding)}


def _q(field: str, title: str | None = None, format: str | None = None, *, zero: bool = False, **more: Any) -> Spec:
    """Return a quantitative axis."""
    axis = {"tickCount": 6, **({"format": format} if format else {}), **more.pop("axis", {})}
    scale = {"zero": zero, **more.pop("scale", {})}
    return {"field": field, "type": "quantitative", "title": title, "axis": axis, "scale": scale, **more}


def _colour(field: str, names: Mapping[str, str], *, title: str | None = None, legend: bool = True) -> Spec:
    scale = {"domain": list(names), "range": list(names.values())}
    shown = {} if legend else {"legend": None}
    return {"field": field, "type": "nominal", "title": title, "scale": scale, **shown}


def _dashed(encoding: Mapping[str, Any], **more: Any) -> Spec:
    return _mark("rule", encoding, strokeDash=[4, 3], color=_INK, opacity=0.7, **_HOVER, **more)


def _diamond(encoding: Mapping[str, Any], **more: Any) -> Spec:
    return _mark("point", encoding, shape="diamond", filled=True, size=110, color=_INK, opacity=1, **_HOVER, **more)


def _params(**values: Any) -> list[Spec]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _calculate(**fields: str) -> list[Spec]:
    return [{"calculate": expression, "as": name} for name, expression in fields.items()]


# --- one figure each ------------------------------------------------------------------------------------------

_MODEL_TIPS = (
    ("id", "model", ""),
    ("member", "set", "member"),
    ("budget", "budget", ""),
    ("method", "method", ""),
    ("fidelity", "fidelity", "percent"),
)


def _fairness(material: Material) -> dict[str, Spec]:
    """Return fidelity against every fairness metric, one dot for each model."""
    if not any(row.get("fidelity") is not None for row in material.models):
        return {}
    colour = _colour("family", colours(material), legend=False)
    x, y = (
        _q("fidelity", "fidelity", "~%", axis={"tickCount": 5}),
        _q("gap", axis={"tickCount": 5}, scale={"padding": 6}),
    )
    found = {}
    for metric in material.fairness:
        dots = _mark(
            "point",
            {
                "x": x,
                "y": y,
                "color": colour,
                "stroke": colour,
                "fillOpacity": {"condition": {"test": "datum.member", "value": 0.8}, "value": 0},
            },
            filled=True,
            size=42,
            strokeWidth=1.2,
            strokeOpacity=0.9,
            **_HOVER,
            transform=[
                *_calculate(gap=f"form == 'ratio' ? datum.{metric}_ratio : datum.{metric}_difference"),
                {"filter": "isValid(datum.gap)"},
            ],
        )
        layers = [dots]
        own = {form: material.target.get(f"{metric}_{form}") for form in ("difference", "ratio")}
        if own["difference"] is not None:
            target = {
                "data": {"values": [{**own, "id": "target", "fidelity": 1.0}]},
                "transform": [
                    *_calculate(gap="form == 'ratio' ? datum.ratio : datum.difference"),
                    {"filter": "isValid(datum.gap)"},
                ],
            }
            layers += [
                _dashed({"y": y}, **target),
                _diamond({"x": x, "y": y}, **target),
            ]
        tips = (*_MODEL_TIPS, ("gap", metric.replace("_", " "), "number"))
        found[title_of(metric)] = _chart("models", layers, 210, tips, params=_params(form="difference"))
    return found


def _epsilon(material: Material) -> dict[str, Spec]:
    """Return multiplicity, size and fairness of the set against epsilon."""
    if len({row["size"] for row in material.curve}) < 2:
        return {}
    x = _q("epsilon", "epsilon", zero=True)
    stated = {"data": {"values": [{"epsilon": material.document["parameters"]["epsilon"]}]}}
    rule = _dashed({"x": x}, **stated)
    kept = [name for name in LINES if any(row[name] is not None for row in material.curve)]
    label = " : ".join([*(f"datum.name == '{name}' ? '{LINES[name]}'" for name in kept), "''"])
    lines = {
        "x": x,
        "y": _q("share", "share of samples", "~%", zero=True),
        "color": _colour("label", dict(zip([LINES[name] for name in kept], PALETTE, strict=False))),
    }
    tips = (
        ("label", "metric", ""),
        ("epsilon", "epsilon", "short"),
        ("size", "models", "count"),
        ("share", "share", "percent"),
    )
    multiplicity = [
        _mark("line", lines, interpolate="step-after", strokeWidth=2),
        _mark("point", lines, filled=True, size=26, opacity=0.9, **_HOVER),
        rule,
    ]
    size = {"x": x, "y": _q("size", f"{material.noun}s in the set", zero=True)}
    sizes = [
        _mark("line", size, interpolate="step-after", strokeWidth=2, color=_ACCENT),
        _mark("point", size, filled=True, size=26, color=_ACCENT, opacity=0.9, **_HOVER),
        rule,
    ]
    folded = [{"fold": kept, "as": ["name", "share"]}, *_calculate(label=label)]
    # The rule has data of its own: what is folded here concerns the layers above it only.
    for layer in multiplicity[:2]:
        layer["transform"] = folded
    found = {
        "Multiplicity": _chart("curve", multiplicity, 240, [*tips, ("share", "share", "percent")]),
        "Size of the set": _chart("curve", sizes, 240, tips[1:]),
    }
    if material.fairness:
        found["Fairness over the set"] = _epsilon_fairness(material, x, rule)
    return found


def _epsilon_fairness(material: Material, x: Spec, rule: Spec) -> Spec:
    forms = ("difference", "ratio")
    own = [{"name": m, **{form: material.target.get(f"{m}_{form}") for form in forms}} for m in material.fairness]
    title = "smallest to largest member"
    y = _q("low", title)
    band = _calculate(low="datum[metric + '_' + form + '_min']", high="datum[metric + '_' + form + '_max']")
    ends = {"x": x, "y": y, "y2": {"field": "high"}}
    tips = (
        ("epsilon", "epsilon", "short"),
        ("size", "models", "count"),
        ("low", "smallest", "number"),
        ("high", "largest", "number"),
        ("own", "target", "number"),
    )
    target = {
        "data": {"values": own},
        "transform": [
            {"filter": "datum.name == metric"},
            *_calculate(own="form == 'ratio' ? datum.ratio : datum.difference"),
            {"filter": "isValid(datum.own)"},
        ],
    }
    layers = [
        _mark("area", ends, interpolate="step-after", color=_ACCENT, opacity=0.25, transform=band),
        *(
            _mark(
                "line",
                {"x": x, "y": _q(end, title)},
                interpolate="step-after",
                color=_ACCENT,
                strokeWidth=1.5,
                transform=band,
            )
            for end in ("low", "high")
        ),
        _mark("rule", ends, color=_ACCENT, opacity=0, strokeWidth=8, transform=band, **_HOVER),
        _mark("rule", {"y": _q("own", title)}, color=_INK, **_HOVER, **target),
        rule,
    ]
    return _chart("curve", layers, 240, tips, params=_params(metric=material.fairness[0], form="difference"))


def _capacity(material: Material) -> dict[str, Spec]:
    if not material.capacity:
        return {}
    shown = [name for name in material.budgets if any(row["budget"] == name for row in material.capacity)]
    encoding: Spec = {
        "x": _q("bits", "Rashomon Capacity, bits", zero=True),
        "y": _q("share", "share of samples at or below", "~%", zero=True),
        "color": {"value": _ACCENT},
    }
    tips = [("bits", "bits", "number"), ("share", "samples at or below", "percent")]
    if len(shown) > 1:
        encoding["color"] = _colour("budget", dict(zip(shown, PALETTE, strict=False)), title="query budget")
        encoding["color"] |= {"sort": None, "legend": {"columns": 4}}
        tips.insert(0, ("budget", "budget", ""))
    layers = [
        _mark("line", encoding, interpolate="step-after", strokeWidth=2),
        _mark("point", encoding, filled=True, size=60, opacity=0, **_HOVER),
    ]
    return {"": _chart("capacity", layers, 280, tips)}


def _disagreement(material: Material) -> dict[str, Spec]:
    heat = material.heat
    if heat is None:
        return {}
    n = len(heat.names)
    bare: Spec = {"title": None, "labels": False, "ticks": False, "domain": False}
    named = {**bare, "labels": True, "labelExpr": "names[datum.value]", "labelLimit": _NARROW}
    cell = _mark(
        "rect",
        {
            "x": {"field": "column", "type": "ordinal", "axis": bare},
            "y": {"field": "row", "type": "ordinal", "axis": named if n <= LABELLED else bare},
            "color": {
                "field": "data",
                "type": "quantitative",
                "title": "differ on",
                "scale": {"scheme": "viridis", "reverse": True, "domainMin": 0},
                "legend": {"format": "~%", "gradientLength": 140, "tickCount": 3},
            },
        },
        **_HOVER,
    )
    tips = (("one", "model", ""), ("other", "and", ""), ("data", "differ on", "percent"))
    rows = [
        {"window": [{"op": "row_number", "as": "n"}]},
        *_calculate(row=f"floor((datum.n - 1) / {n})", column=f"(datum.n - 1) % {n}"),
        *_calculate(one="names[datum.row]", other="names[datum.column]"),
    ]
    return {
        "": _chart("heat", [cell], max(min(n * 22, 520), 120), tips, transform=rows, params=_params(names=heat.names))
    }


def _group_axis() -> Spec:
    axis = {"labelLimit": _NARROW, "domain": False, "ticks": False}
    return {"field": "group", "type": "nominal", "title": None, "sort": None, "axis": axis}


def _rates(material: Material) -> dict[str, Spec]:
    found = {}
    y, ends = _group_axis(), ("min", "median", "max", "target")
    tips = (("group", "group", ""), *((key, key, "percent") for key in ends))
    groups = len({row["group"] for row in material.rates})
    for rate in dict.fromkeys(row["rate"] for row in material.rates):
        name = f"{title_of(rate)}: {material.positive}" if rate == "selection_rate" else title_of(rate)
        at = {key: {"y": y, "x": _q(key, None, "~%", axis={"tickCount": 5})} for key in ends}
        layers = [
            _mark("bar", {**at["min"], "x2": {"field": "max"}}, height=12, color=_ACCENT, opacity=0.45, **_HOVER),
            _mark("tick", at["median"], color=_ACCENT, thickness=3, size=16, opacity=1, **_HOVER),
            _diamond(at["target"], transform=[{"filter": "isValid(datum.target)"}]),
        ]
        found[name] = _chart("rates", layers, 26 * groups, tips, transform=[{"filter": f"datum.rate == '{rate}'"}])
    return found


def _groups(material: Material) -> dict[str, Spec]:
    found = {}
    for field, title in (("ambiguity", "Ambiguity"), ("disagreement", "Mean disagreement rate")):
        if not any(row[field] is not None for row in material.groups):
            continue
        bar = {
            "y": _group_axis(),
            "x": _q(field, "share of samples", "~%", zero=True, axis={"tickCount": 5}),
        }
        tips = (("group", "group", ""), ("samples", "samples", "count"), (field, title.lower(), "percent"))
        layers = [_mark("bar", bar, color=_ACCENT, opacity=0.75, height=14, **_HOVER)]
        found[title] = _chart("groups", layers, 26 * len(material.groups), tips)
    return found


def _budgets(material: Material) -> dict[str, Spec]:
    rows = material.budget_rows
    if len(rows) < 2:
        return {}
    values = [row["budget"] for row in rows]
    axis = {"values": values, "format": ",", "labelOverlap": True}
    x = {
        "field": "budget",
        "type": "quantitative",
        "title": "query budget",
        "axis": axis,
        "scale": {"type": "log", "nice": False, "domain": [values[0] / 1.15, values[-1] * 1.15]},
    }
    found = {}
    if any(row["fidelity_median"] is not None for row in rows):
        found["Fidelity"] = _band(x, "fidelity of the members", "fidelity", "~%")
    if any(row["ambiguity"] is not None for row in rows):
        size = next((row["matched_size"] for row in reversed(rows) if row["matched_size"]), None)
        fields = {"ambiguity": "as it is", "matched": f"as of {size} members"}
        fields = fields if size else {"ambiguity": "as it is"}
        label = f"datum.name == 'matched' ? '{fields.get('matched')}' : 'as it is'"
        lines = {
            "x": x,
            "y": _q("share", "ambiguity", "~%", zero=True),
            "color": _colour("label", dict(zip(fields.values(), PALETTE, strict=False))),
        }
        tips = (("budget", "budget", "count"), ("size", "members", "count"), ("share", "ambiguity", "percent"))
        layers = [
            _mark("line", lines, strokeWidth=2),
            _mark("point", lines, filled=True, size=50, opacity=1, **_HOVER),
        ]
        folded = [{"fold": list(fields), "as": ["name", "share"]}, {"filter": "isValid(datum.share)"}]
        found["Ambiguity"] = _chart("budgets", layers, 240, tips, transform=[*folded, *_calculate(label=label)])
    name = "demographic_parity_difference"
    if any(row.get(f"{name}_median") is not None for row in rows):
        found["Demographic parity gap"] = _band(x, "gap of selection rates", name, None, f"{name}_target")
    return found


def _band(x: Spec, title: str, field: str, format: str | None, target: str | None = None) -> Spec:
    """Return a band from smallest to largest with the median, by budget."""
    zero = target is not None
    ends = {"x": x, "y": _q(f"{field}_min", title, format, zero=zero), "y2": {"field": f"{field}_max"}}
    median = {"x": x, "y": _q(f"{field}_median", title, format, zero=zero)}
    shown = [(f"{field}_{key}", key, "number") for key in ("min", "median", "max")]
    tips = [("budget", "budget", "count"), *shown, *([] if target is None else [(target, "target", "number")])]
    known = [{"filter": f"isValid(datum.{field}_median)"}]
    layers = [
        _mark("area", ends, color=_ACCENT, opacity=0.25, transform=known),
        _mark("rule", ends, color=_ACCENT, opacity=0.6, strokeWidth=2, transform=known, **_HOVER),
        _mark("line", median, color=_ACCENT, strokeWidth=2, transform=known),
        _mark("point", median, color=_ACCENT, filled=True, size=50, opacity=1, transform=known, **_HOVER),
    ]
    if target is not None:
        own = {"x": x, "y": _q(target, title, zero=zero)}
        valid = [{"filter": f"isValid(datum.{target})"}]
        layers.append(_mark("line", own, color=_INK, strokeDash=[4, 3], opacity=0.8, transform=valid))
        layers.append(_diamond(own, transform=valid))
    return _chart("budgets", layers, 240, tips)
