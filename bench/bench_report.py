"""What a page costs: bytes, seconds to make it, seconds until a browser has drawn its charts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rashomon_core as rc
from rashomon_core.report.document import build_document, input_entry
from rashomon_core.report.material import gather, make_source
from rashomon_core.report.page import render_page
from rashomon_core.store import describe_input

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import browser, why_no_browser

MARK = "return performance.getEntriesByName('{}')[0].startTime"
#: What the page says of itself, in its order.
MARKS = ("first chart", "charts on the screen", "all charts")
MOST_BYTES, MOST_SECONDS = 5e6, 2.0


def make(folder: Path, models: int, samples: int) -> Any:
    """Return the material of a set of noisy copies of one target, in eight families and four groups."""
    rng = np.random.default_rng(5)
    truth = rng.normal(size=samples)
    family = np.arange(models) % 8
    noise = (
        rng.normal(size=(models, samples)) * (0.15 + 0.05 * family[:, None]) + rng.normal(size=(8, samples))[family] / 4
    )
    scores = (1 / (1 + np.exp(-2 * (truth + noise)))).astype(np.float32)
    ids = [f"family{f}-seed{k:04d}" for k, f in enumerate(family)]
    view = rc.Predictions.from_array(scores, model_ids=ids, class_names=["no", "yes"])
    path = rc.save_predictions(view, folder / "preds.npy")
    given: dict[str, Any] = {
        "target": (truth > 0).astype(int),
        "y": (truth + rng.normal(size=samples) > 0).astype(int),
        "groups": rng.choice(["a", "b", "c", "d"], samples, p=[0.5, 0.3, 0.15, 0.05]),
        "selection": 0.3,
    }
    measured = rc.profile(view, epsilon=0.05, **given)
    entry = input_entry("predictions", None, describe_input(str(path), checksum=False, predictions=view))
    document = build_document(measured, inputs=[entry])
    return document, make_source(view, document["parameters"], **given)


@pytest.mark.filterwarnings("ignore::UserWarning")
def bench_page(benchmark: Any, tmp_path: Path, size: Callable[[str], int], report: Callable[..., None]) -> None:
    models = size("REPORT_MODELS")
    document, source = make(tmp_path, models, size("REPORT_SAMPLES"))
    spent: dict[str, float] = {}
    file = tmp_path / "report.html"

    def work() -> None:
        started = time.perf_counter()
        material = gather(document, [source])
        spent["gather"] = time.perf_counter() - started
        render_page(material)  # the library of charts is put together once in a process
        started = time.perf_counter()
        file.write_text(render_page(material), encoding="utf-8")
        spent["page"] = time.perf_counter() - started

    benchmark.pedantic(work, rounds=1)
    name = f"page of {models:,} models"
    report(f"{name}: size", file.stat().st_size / 1e6, "MB", MOST_BYTES / 1e6, at_most=True)
    report(f"{name}: numbers gathered", spent["gather"], "s")
    report(f"{name}: made from them", spent["page"], "s")
    why = why_no_browser()
    if why is not None:
        pytest.skip(why)
    seen: dict[str, list[float]] = {name: [] for name in (*MARKS, "processor")}
    for _ in range(5):
        with browser() as chromium:
            chromium.open(file)
            for mark in MARKS:
                seen[mark].append(chromium.run(MARK.format(mark)) / 1e3)
            seen["processor"].append(chromium.processor_seconds())
    for key in MARKS:  # the page is open when what the screen shows is drawn; the rest follows from near to far
        limit = None if key == "all charts" else MOST_SECONDS
        report(f"{name}: {key} in Chromium", float(np.median(seen[key])), "s", limit, at_most=True)
    report("  all charts, processor time of the page's thread", float(np.median(seen["processor"])), "s")
