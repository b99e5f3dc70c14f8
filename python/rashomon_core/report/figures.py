"""The figures of a report as SVG and PNG for papers and slides, drawn by Matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from rashomon_core.errors import MissingDependencyError

from .captions import title_of
from .charts import LABELLED, LINES, PALETTE, colours
from .material import Material

__all__ = ["draw_figures"]

#: Letters of a name in a figure.
LABEL = 30
_SETTINGS: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.hashsalt": "rashomon-core",  # the same bytes each time
    "svg.fonttype": "none",
    "savefig.dpi": 160,
}
_FORMS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"metadata": {"Software": None}}}


def draw_figures(material: Material) -> dict[str, bytes]:
    """Return file name -> SVG or PNG of every figure that has data.

    Raises
    ------
    MissingDependencyError
        Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "figures as SVG and PNG", "report") from error
    found: dict[str, bytes] = {}
    with matplotlib.rc_context(_SETTINGS):
        for name, (panels, draw) in _plans(material).items():
            columns = min(len(panels), 3)
            rows = -(-len(panels) // columns)
            height = 0.9 + 0.3 * len({row["group"] for row in material.rates}) if name in ("rates", "groups") else 2.6
            size = (3.2 * columns, height * rows) if columns > 1 else (5.2, 4.2)
            figure = Figure(figsize=size, layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False).ravel()
            for one, panel in zip(axes, panels, strict=False):
                draw(one, panel)
                one.set_title(panel)
            for spare in axes[len(panels) :]:
                spare.set_axis_off()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both forms
            for form, options in _FORMS.items():
                stream = io.BytesIO()
                figure.savefig(stream, format=form, **options)
                found[f"{name}.{form}"] = stream.getvalue()
    return found


def _plans(material: Material) -> dict[str, tuple[list[str], Callable[[Any, str], None]]]:
    """Return the panels of each figure that has data, and what draws one."""
    plans: dict[str, tuple[list[str], Callable[[Any, str], None]]] = {}
    if len(material.budget_rows) > 1:
        plans["budgets"] = (["Ambiguity", "Fidelity", "Demographic parity gap"], lambda a, p: _budget(a, p, material))
    if material.fairness and any(row.get("fidelity") is not None for row in material.models):
        by_title = {title_of(metric): metric for metric in material.fairness}
        plans["fairness"] = (list(by_title), lambda a, p: _dots(a, by_title[p], material))
    if len({row["size"] for row in material.curve}) > 1:
        panels = ["Multiplicity", "Size of the set"]
        panels += [f"{title_of(m)}: smallest to largest" for m in material.fairness[:1]]
        plans["epsilon"] = (panels, lambda a, p: _epsilon(a, p, material))
    if material.capacity:
        plans["capacity"] = (["Rashomon Capacity of single samples"], lambda a, _: _capacity(a, material))
    if material.heat is not None:
        plans["disagreement"] = (["Share of samples on which two members differ"], lambda a, _: _heat(a, material))
    if material.rates:
        by_rate = {title_of(row["rate"]): row["rate"] for row in material.rates}
        plans["rates"] = (list(by_rate), lambda a, p: _rates(a, by_rate[p], material))
    if material.groups:
        fields = {"Ambiguity": "ambiguity", "Mean disagreement rate": "disagreement"}
        fields = {t: f for t, f in fields.items() if any(row[f] is not None for row in material.groups)}
        plans["groups"] = (list(fields), lambda a, p: _groups(a, fields[p], material))
    return {name: plan for name, plan in plans.items() if plan[0]}


def _label(name: str) -> str:
    """Return a name that leaves room for what it names."""
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def _float(value: float | None) -> float:
    return np.nan if value is None else value


def _dots(axes: Any, metric: str, material: Material) -> None:
    name, last = f"{metric}_difference", material.budgets[-1]
    for family, colour in colours(material).items():
        for member in (False, True):
            rows = [
                row
                for row in material.models
                if row["family"] == family and row["member"] == member and row["budget"] == last
            ]
            x, y = ([_float(row[key]) for row in rows] for key in ("fidelity", name))
            label = _label(family) if member else None
            axes.scatter(x, y, s=12, edgecolors=colour, facecolors=colour if member else "none", lw=0.8, label=label)
    own = material.target.get(name)
    if own is not None:
        axes.axhline(own, color="black", lw=0.8, ls="--")
        axes.plot([1.0], [own], "kD", ms=5)
    axes.set_xlabel("fidelity")
    if metric == material.fairness[0]:
        axes.legend(fontsize=6, ncols=2, handletextpad=0.1)


def _epsilon(axes: Any, panel: str, material: Material) -> None:
    epsilon = [row["epsilon"] for row in material.curve]
    if panel == "Multiplicity":
        for (key, label), colour in zip(LINES.items(), PALETTE, strict=False):
            axes.step(epsilon, [_float(row[key]) for row in material.curve], where="post", color=colour, label=label)
        axes.legend(fontsize=6)
    elif panel == "Size of the set":
        axes.step(epsilon, [row["size"] for row in material.curve], where="post", color=PALETTE[0])
    else:
        name = f"{material.fairness[0]}_difference"
        low, high = ([_float(row[f"{name}_{end}"]) for row in material.curve] for end in ("min", "max"))
        axes.fill_between(epsilon, low, high, step="post", color=PALETTE[0], alpha=0.35, lw=0)
        if name in material.target:
            axes.axhline(material.target[name], color="black", lw=1)
    axes.axvline(material.document["parameters"]["epsilon"], color="black", lw=0.8, ls="--")
    axes.set_xlabel("epsilon")


def _capacity(axes: Any, material: Material) -> None:
    for name, colour in zip(material.budgets, PALETTE, strict=False):
        rows = [row for row in material.capacity if row["budget"] == name]
        bits, share = ([row[key] for row in rows] for key in ("bits", "share"))
        axes.step(bits, share, where="post", color=colour, label=f"budget {name}" if name else None)
    axes.set_xlabel("bits")
    axes.set_ylabel("share of samples at or below")
    if len(material.budgets) > 1:
        axes.legend()


def _heat(axes: Any, material: Material) -> None:
    assert material.heat is not None
    image = axes.imshow(material.heat.cells, cmap="viridis_r", vmin=0, aspect="auto")
    axes.grid(False)
    axes.set_xticks([])
    n = len(material.heat.names)
    named = [_label(name) for name in material.heat.names] if n <= LABELLED else []
    axes.set_yticks(range(len(named)), named, fontsize=6)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _rates(axes: Any, rate: str, material: Material) -> None:
    rows = [row for row in material.rates if row["rate"] == rate]
    for k, row in enumerate(rows):
        axes.plot([row["min"], row["max"]], [k, k], color=PALETTE[0], lw=6, alpha=0.45, solid_capstyle="butt")
        axes.plot([row["median"]], [k], "|", color=PALETTE[0], ms=10, mew=2)
        if row["target"] is not None:
            axes.plot([row["target"]], [k], "kD", ms=5)
    axes.set_yticks(range(len(rows)), [_label(row["group"]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _groups(axes: Any, field: str, material: Material) -> None:
    values = [_float(row[field]) for row in material.groups]
    axes.barh(range(len(values)), values, color=PALETTE[0], alpha=0.75, height=0.6)
    axes.set_yticks(range(len(values)), [_label(row["group"]) for row in material.groups])
    axes.invert_yaxis()
    axes.set_xlabel("share of samples")


def _budget(axes: Any, panel: str, material: Material) -> None:
    rows = material.budget_rows
    x = [row["budget"] for row in rows]
    if panel == "Ambiguity":
        for key, label, colour in (("ambiguity", "as it is", PALETTE[0]), ("matched", "size-matched", PALETTE[1])):
            axes.plot(x, [_float(row[key]) for row in rows], "o-", color=colour, ms=4, label=label)
        axes.legend(fontsize=6)
    else:
        name = "fidelity" if panel == "Fidelity" else "demographic_parity_difference"
        low, middle, high = ([_float(row.get(f"{name}_{key}")) for row in rows] for key in ("min", "median", "max"))
        axes.fill_between(x, low, high, color=PALETTE[0], alpha=0.25, lw=0)
        axes.plot(x, middle, "o-", color=PALETTE[0], ms=4)
        if panel != "Fidelity":
            axes.plot(x, [_float(row.get(f"{name}_target")) for row in rows], "kD--", ms=4, lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{value:,}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel("query budget")
