"""A headless Chromium that opens a page from disk and tells what happened: errors, requests, charts, pictures."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What a page of charts has at least.
MARKS = (
    "return [...document.querySelectorAll('.chart')].map(c => [c.id, c.querySelectorAll('svg path, svg rect').length])"
)


def why_no_browser() -> str | None:
    """Say what is missing, or None."""
    if _program("chromium", "chromium-browser", "google-chrome") is None:
        return "no Chromium: apt-get install chromium chromium-driver"
    if _program("chromedriver") is None:
        return "no chromedriver: apt-get install chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium"
    return None


def _program(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One browser; ``open`` may be called again."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self, file: Path, *, width: int = 1200, dark: bool = False, phone: bool = False, medium: str = "screen"
    ) -> None:
        """Open a file and wait until every chart is drawn."""
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(file.resolve().as_uri())
        limit = time.monotonic() + 60
        while self.run("return document.documentElement.dataset.ready") is None:
            assert time.monotonic() < limit, f"no charts: {self.said()}"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """Run JavaScript and return what it returns."""
        return self.driver.execute_script(script)

    def said(self) -> list[str]:
        """Return the console's lines since the page was opened."""
        return [f"{line['level']} {line['message']}" for line in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return every address that was asked for since the page was opened."""
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def marks(self) -> dict[str, int]:
        """Return how many shapes each chart has."""
        return dict(self.run(MARKS))

    def processor_seconds(self) -> float:
        """Return the processor time of the page's thread so far, which other work on the machine does not stretch much.

        For the first page of a browser.
        """
        found = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return float(next(metric["value"] for metric in found if metric["name"] == "TaskDuration"))

    def picture(self, file: Path) -> Path:
        """Keep a picture of the whole page."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        asked = {"captureBeyondViewport": True, "clip": clip}
        file.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]))
        return file

    def printed(self, file: Path) -> Path:
        """Keep the page as it is printed, a PDF."""
        found = self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        file.write_bytes(base64.b64decode(found["data"]))
        return file


@contextlib.contextmanager
def browser(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Start a browser and end it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(_program("chromium", "chromium-browser", "google-chrome"))
    quiet = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars")
    offline = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    alone = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    for argument in (*quiet, *offline, *alone, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(_program("chromedriver"))))
    try:
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        yield Browser(driver)
    finally:
        driver.quit()
