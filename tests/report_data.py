"""What the tests of the report share: a measured set as material, names that want out of every context, a reader."""

from __future__ import annotations

import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

import rashomon_core as rc
from rashomon_core.report.document import build_document, input_entry
from rashomon_core.report.material import Material, gather, make_source
from rashomon_core.store import describe_input

#: Ends scripts, comments, attributes, templates, formulas, tables and lines, wherever it is printed.
HOSTILE = (
    '</script><script>window.hacked = "{}"</script>',
    "<img src=x onerror=window.hacked='{}'>",
    "\"'><svg onload=window.hacked='{}'>",
    "{{ 7 * 7 }}{{% raw %}} {}",
    "line\u2028separator\u2029 {}",
    "=HYPERLINK(\"http://x.example\",'{}')",
    "pipe | and $dollar$ {}",
    "<!-- {} --> ]]>",
    "http://x.example/{}.png",
    "'; window.hacked = '{}'; //",
)


def hostile(what: str) -> list[str]:
    """Return ten hostile names."""
    return [text.replace("{{", "\0").replace("{}", what).replace("\0", "{{") for text in HOSTILE]


def measured(
    folder: Path, scores: Any, *, ids: list[str] | None = None, classes: list[str] | None = None, **given: Any
) -> Material:
    """Return the material of predictions, measured as the command does it."""
    own = {"threshold": None, "positive": 1, "epsilon": None, "relative": False, "metrics": "all", "size": None}
    options = {key: given.pop(key, value) for key, value in own.items()}
    view = rc.Predictions.from_array(scores, model_ids=ids, class_names=classes)
    path = rc.save_predictions(view, folder / "preds.npy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = rc.profile(view, **options, **given)
    described = describe_input(str(path), checksum=False, predictions=view)
    document = build_document(profile, inputs=[input_entry("predictions", None, described)])
    return gather(document, [make_source(view, document["parameters"], **given)])


def drawn(seed: int, models: int, samples: int, classes: int = 2) -> dict[str, Any]:
    """Return scores of models that resemble one target, the target, labels and groups."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(samples, classes))
    logits = truth + rng.normal(size=(models, samples, classes)) * 0.6
    scores = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return {
        "scores": scores if classes > 2 else scores[:, :, 1],
        "target": truth.argmax(axis=1),
        "y": (truth + rng.normal(size=(samples, classes))).argmax(axis=1),
        "groups": rng.choice(["b", "a", "c"], samples, p=[0.5, 0.3, 0.2]),
    }


class Reader(HTMLParser):
    """Elements, their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.text += data
