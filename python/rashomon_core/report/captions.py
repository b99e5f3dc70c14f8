"""The words of a report: titles and captions of its figures, and what its numbers do not mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .terminal import number

__all__ = ["CAPTIONS", "caveats", "flat", "looked_up", "title_of"]

#: Of each figure, in order: title, and two sentences. Metrics without a caption here are tables.
CAPTIONS: dict[str, tuple[str, str]] = {
    "budgets": (
        "What more queries buy",
        "Fidelity, ambiguity and the parity gap of the set at each query budget; bands run from the smallest to the "
        "largest member. Ambiguity is shown as it is and as expected of equally many members, because it grows with "
        "the size of the set.",
    ),
    "fairness": (
        "Fidelity and fairness",
        "Each dot is one {noun}: how often it gives the target's answer, and how unequally it treats the groups; "
        "filled dots are members of the set. The diamond and the dashed line are the target itself: dots at one "
        "fidelity that spread from top to bottom are equally good copies of different fairness.",
    ),
    "epsilon": (
        "How the set grows with epsilon",
        "The larger epsilon, the more {noun}s count as equally good, and the more samples they disagree on. "
        "The dashed line is the epsilon of this report.",
    ),
    "capacity": (
        "Rashomon Capacity of single samples",
        "The curve says on which share of the samples the choice among members carries at most so many bits: 0 is no "
        "choice at all, 1 bit two opposite certain answers. A curve that reaches the top at once would mean that it "
        "does not matter which member is used.",
    ),
    "disagreement": (
        "Who disagrees with whom",
        "Each cell is the share of samples on which two members give different answers; similar members are put side "
        "by side. Light blocks along the diagonal are members that are nearly the same model.",
    ),
    "rates": (
        "Ranges per group",
        "For each group, the bar runs from the smallest to the largest rate over the members, the tick is the median "
        "member and the diamond the target. Wide bars mean that the choice among equally good {noun}s decides how "
        "this group is treated.",
    ),
    "groups": (
        "Who is affected by the choice",
        "Ambiguity and mean disagreement inside each group. A group with longer bars gets more answers that depend on "
        "which member was picked.",
    ),
}


def title_of(name: str) -> str:
    """Return a metric's name as a title: "demographic_parity" becomes "Demographic parity"."""
    text = name.replace("_", " ")
    return {"tpr": "True positive rate", "fpr": "False positive rate"}.get(name, text[:1].upper() + text[1:])


def caveats(document: Mapping[str, Any], noun: str) -> list[str]:
    """Return what the numbers of a document do not mean."""
    results = document["results"]
    found = []
    if isinstance(results.get("fairness"), Mapping) and results["fairness"].get("groups"):
        found.append(
            f"A range of fairness describes these {noun}s. It is not an interval estimate of the target's value, and "
            "often misses it."
        )
    found.append(
        f"Ambiguity, discrepancy and every range grow with the number of {noun}s: another {noun} can only add to "
        "them. Two sets compare at one size only (size-matched values)."
    )
    found.append(
        f"The set holds the {noun}s that were explored, not all that exist: what it shows is a lower bound on how far "
        "equally good models differ."
    )
    if results.get("fidelity", {}).get("max") is not None:
        found.append(
            "High fidelity does not make a copy equivalent: it says how often answers agree, not on whom they differ, "
            "and nothing about being right."
        )
    noise = (results.get("set") or {}).get("noise")
    if noise:
        found.append(
            f"Members were chosen by a limited number of answers: the noise of a difference of losses is "
            f"{number(noise['paired'])} (epsilon {number(results['set']['epsilon'])})."
        )
    if document.get("status") == "selected_on_evaluation":
        found.append(
            "Members were selected on the samples that they are measured on: a lucky model is both more likely to be "
            "a member and measured where it was lucky."
        )
    return found


def looked_up(node: Any, path: str) -> Any:
    """Return what lies at a dotted path, or None."""
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def flat(node: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return (dotted name, value) of every plain value below a node; lists of plain values count as one."""
    if isinstance(node, Mapping):
        return [pair for key, value in node.items() for pair in flat(value, f"{name}.{key}" if name else str(key))]
    if isinstance(node, (list, tuple)):
        if any(isinstance(value, (Mapping, list, tuple)) for value in node):
            return [pair for k, value in enumerate(node) for pair in flat(value, f"{name}.{k}" if name else str(k))]
        return [(name, ", ".join(map(str, node)))]
    return [(name, node)]
