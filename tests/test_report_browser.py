"""The page in a real browser, opened from disk: charts, words, no errors, no requests, light, dark, phone, print.

Pictures are kept in $RASHOMON_CORE_ARTIFACTS, else in the test's own folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_data import SMALL, write_table
from browser import Browser, browser, why_no_browser
from report_data import drawn, hostile, measured

from rashomon_core.audit import run_audit, run_material
from rashomon_core.datasets import load_table
from rashomon_core.report.material import Material
from rashomon_core.report.page import render_page
from rashomon_core.report.terminal import sentences

pytest.importorskip("vl_convert", reason="the extra [report] is not installed")
WHY = why_no_browser()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))
DOTS = "return document.querySelectorAll('#fairness-0 .mark-symbol.role-mark path').length"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("RASHOMON_CORE_ARTIFACTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Material:
    place = tmp_path_factory.mktemp("browser")
    people = load_table(write_table(place / "people.csv"), "label", groups=["sex"])
    config: dict[str, Any] = {**SMALL, "epsilon": 0.2}
    return run_material(run_audit(config, data=people, folder=place / "run", workers=1).folder)


@pytest.fixture(scope="module")
def page(audited: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render_page(audited), encoding="utf-8")
    return file


def test_the_page_draws_its_charts_says_its_numbers_and_asks_for_nothing(
    chromium: Browser, page: Path, audited: Material, pictures: Path
) -> None:
    chromium.open(page)
    marks = chromium.marks()
    assert len(marks) > 15
    assert all(count > 1 for count in marks.values()), marks
    text = chromium.run("return document.body.innerText")
    for sentence in sentences(audited.results, "surrogate", audited.positive):
        assert sentence in text
    assert chromium.picture(pictures / "light.png").stat().st_size > 50_000
    assert chromium.said() == []
    assert chromium.requests() == [page.resolve().as_uri()]
    # nor could it ask: the policy forbids it
    chromium.run("window.failed = null; fetch('http://127.0.0.1:9/').catch(e => { window.failed = String(e) })")
    time.sleep(0.3)
    assert chromium.run("return window.failed") is not None
    assert any("Content Security Policy" in line for line in chromium.said())


def test_filters_and_the_pointer(chromium: Browser, page: Path, audited: Material) -> None:
    chromium.open(page)

    def choose(name: str, value: str) -> int:
        script = f"""
        const c = document.querySelector('[data-filter="{name}"]');
        if (c.type === 'checkbox') c.checked = true; else c.value = '{value}';
        c.dispatchEvent(new Event('change'));"""
        chromium.run(script)
        time.sleep(0.5)
        return int(chromium.run(DOTS)) - 1  # the target's diamond

    rows = [row for row in audited.models if row["budget"] == audited.budgets[-1]]
    assert int(chromium.run(DOTS)) - 1 == len(rows)
    labels = "return [...document.querySelectorAll('#fairness-0 .role-axis-label text')].map(t => t.textContent).join()"
    before = chromium.run(labels)
    assert choose("form", "ratio") == len(rows)
    assert chromium.run(labels) != before
    assert choose("family", "tree") == sum(row["family"] == "tree" for row in rows)
    assert choose("family", "") == len(rows)
    assert choose("members", "") == sum(row["member"] for row in rows)
    first = [row for row in audited.models if row["budget"] == audited.budgets[0] and row["member"]]
    assert choose("budget", audited.budgets[0]) == len(first)
    chromium.run("document.querySelector('#fairness-0').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y = chromium.run("""
        const box = document.querySelector('#fairness-0 .mark-symbol.role-mark path').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];""")
    for step in (3, 0):
        event = {"type": "mouseMoved", "x": x - step, "y": y}
        chromium.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    time.sleep(0.3)
    tip = chromium.run("return document.querySelector('#vg-tooltip-element').innerText")
    assert any(row["id"] in tip for row in first), tip
    assert "fidelity" in tip
    assert chromium.said() == []


def test_a_filter_that_is_used_while_charts_are_drawn_holds_for_all_of_them(
    chromium: Browser, page: Path, audited: Material
) -> None:
    script = """
        const mark = performance.mark.bind(performance);
        performance.mark = (name) => {
            if (name === 'first chart') {
                const members = document.querySelector('[data-filter="members"]');
                members.checked = true;
                members.dispatchEvent(new Event('change'));
            }
            return mark(name);
        };"""
    added = chromium.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        chromium.open(page)
    finally:
        chromium.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    members = sum(row["member"] for row in audited.models if row["budget"] == audited.budgets[-1])
    shown = chromium.run("""
        return [...document.querySelectorAll('[id^=fairness-]')].map(
            (chart) => chart.querySelectorAll('.mark-symbol.role-mark path').length - 1);""")
    assert len(shown) > 1
    assert set(shown) == {members}
    assert chromium.said() == []


def test_what_is_on_the_screen_is_drawn_first(chromium: Browser, page: Path) -> None:
    script = """
        window.drawn = [];
        addEventListener('DOMContentLoaded', () => {
            scrollTo({ top: document.body.scrollHeight, behavior: 'instant' });
            new MutationObserver(() => {
                for (const chart of document.querySelectorAll('.chart:has(svg)'))
                    if (!window.drawn.includes(chart.id)) window.drawn.push(chart.id);
            }).observe(document.body, { subtree: true, childList: true });
        });"""
    added = chromium.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        chromium.open(page)
    finally:
        chromium.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    order = chromium.run("return window.drawn")
    charts = chromium.run("return [...document.querySelectorAll('.chart')].map(c => c.id)")
    assert sorted(order) == sorted(charts)
    assert order[0] != charts[0]  # the page was at its end
    times = chromium.run("return performance.getEntriesByType('mark').map(m => m.name)")
    assert times == ["first chart", "charts on the screen", "all charts"]


def luminance(colour: str) -> float:
    red, green, blue = (float(part) / 255 for part in colour.split("(")[1].rstrip(")").split(",")[:3])
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def contrast(chromium: Browser, element: str) -> float:
    """Contrast of a text and the page behind it (WCAG 2)."""
    script = f"""
    const text = getComputedStyle(document.querySelector('{element}'));
    return [text.fill !== 'rgb(0, 0, 0)' && text.fill !== undefined ? text.fill : text.color,
            getComputedStyle(document.body).backgroundColor];"""
    one, other = sorted(map(luminance, chromium.run(script)))
    return (other + 0.05) / (one + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_the_light_and_in_the_dark(
    dark: bool, chromium: Browser, page: Path, pictures: Path
) -> None:
    chromium.open(page, dark=dark)
    back = luminance(chromium.run("return getComputedStyle(document.body).backgroundColor"))
    assert (back < 0.1) == dark
    for element in ("h1", ".said li", "summary", ".panel h3", "nav a", ".note"):
        assert contrast(chromium, element) > 4.5, element
    for element in ("#fairness-0 .role-axis-label text", "#fairness-0 .role-axis-title text"):
        assert contrast(chromium, element) > 4.5, element
    chromium.picture(pictures / ("dark.png" if dark else "light.png"))


def test_the_page_fits_a_phone(chromium: Browser, page: Path, pictures: Path) -> None:
    chromium.open(page, width=390, phone=True)
    assert chromium.run("return document.documentElement.scrollWidth") <= 390
    wide = (
        "return [...document.querySelectorAll('.chart svg')].filter(s => s.getBoundingClientRect().right > 391).length"
    )
    assert chromium.run(wide) == 0
    chromium.picture(pictures / "phone.png")
    assert chromium.said() == []


def test_the_page_prints_with_every_number(chromium: Browser, page: Path, pictures: Path) -> None:
    chromium.open(page, dark=True)
    opened = "document.querySelectorAll('.said details[open]').length"
    chromium.run(f"addEventListener('beforeprint', () => {{ window.opened = {opened} }})")
    assert chromium.printed(pictures / "print.pdf").read_bytes().startswith(b"%PDF")
    assert chromium.run("return window.opened") == chromium.run("return document.querySelectorAll('.said > li').length")
    assert chromium.run(f"return {opened}") == 0
    chromium.open(page, width=794, dark=True, medium="print")
    assert luminance(chromium.run("return getComputedStyle(document.body).backgroundColor")) > 0.9
    assert contrast(chromium, "#fairness-0 .role-axis-label text") > 4.5
    chromium.picture(pictures / "print.png")


def test_hostile_names_do_nothing(chromium: Browser, tmp_path: Path, pictures: Path) -> None:
    data = drawn(5, 10, 120)
    data["groups"] = np.array(hostile("group"))[np.arange(120) % 10]
    scores, ids = data.pop("scores"), [f"{name}-{k}" for k, name in enumerate(hostile("id"))]
    found = measured(tmp_path, scores, ids=ids, classes=hostile("class")[:2], epsilon=1.0, **data)
    file = tmp_path / "</title><script>window.hacked = 1<%2fscript>.html".replace("/", "_")
    file.write_text(render_page(found), encoding="utf-8")
    chromium.open(file)
    assert all(count > 1 for count in chromium.marks().values())
    chromium.run("document.querySelector('#disagreement-0').scrollIntoView({block: 'center', behavior: 'instant'})")
    boxes = chromium.run("""
        return [...document.querySelectorAll('#disagreement-0 .mark-rect.role-mark path')].slice(0, 10).map(p => {
            const box = p.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; });""")
    tips = []
    for x, y in boxes:
        chromium.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        time.sleep(0.1)
        tips.append(chromium.run("return document.querySelector('#vg-tooltip-element')?.innerText || ''"))
    assert any("window.hacked" in tip for tip in tips)
    assert chromium.run("return [typeof window.hacked, document.images.length]") == ["undefined", 0]
    assert chromium.run("return document.querySelectorAll('body script').length") == 3
    assert chromium.said() == []
    assert len(chromium.requests()) == 1
    chromium.picture(pictures / "hostile.png")
