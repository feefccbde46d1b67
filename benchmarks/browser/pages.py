"""First paint and control latency of every page, in headless Chromium on a pair.

One session runs at a time. The pair is in memory, and earlier measurements are cached, except for
`fresh`: there each change needs a new measurement, and the time is that of its first picture.
`server` is the time that the app's debug corner shows for the same script runs. `hover` is the time
until attention on a text of 200 tokens, as a file, has lit up for another token, laid out;
`hover_heads` the same with 16 heads one by one. `..._cpu` is the processor's time of it, which
other work on the machine hardly changes.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from benchmarks.browser.browse import Control, change, chromium, quantile, server_ms, table, visit
from interp.attention.texts.on_text import MOST_APART, TextAttention
from interp.prompts.pieces import Span
from interp.publish import strip
from interp.runs.zoo import GROUPS
from tests.support.browser import running_app


@dataclass(frozen=True)
class Measured:
    """One page, and the actions on it."""

    path: str
    controls: tuple[Control, Control]
    """Used in turns."""
    fresh: Callable[[int], Control] | None = None
    """Number -> a control that needs a new measurement."""
    link: dict[str, str] = field(default_factory=dict)
    kept: bool = True
    """Whether what the controls ask for is kept after the first time; else they count as fresh."""


def seed(number: int, first: int = 1000) -> Control:
    """Another random string in the trigger's place: one of three conditions is measured again.

    Args:
        number: number of the string.
        first: seed of the page's first string; pages share a cache, so each needs its own.
    """
    return Control("[data-testid=stSidebar] [data-testid=stNumberInput] input", f"{first + number}")


def _labels(first: str, second: str) -> tuple[Control, Control]:
    return _choice(first), _choice(second)


def _choice(label: str) -> Control:
    """One of a segmented control; a figure may have the same words in it."""
    return Control(f"[data-testid=stButtonGroup] button:has(:text-is('{label}'))")


def _options(label: str) -> tuple[Control, Control]:
    box = f"input[aria-label='{label}']"
    return Control(box, option=1), Control(box, option=0)


SINK = Control("text=First token (sink)")
PAGES = (
    Measured("start", _options("Another instruction"), kept=False),
    Measured(
        "lesson",
        _labels("3. See the triangle", "4. Find the heads"),
        lambda n: Control("input[aria-label='Ask']", option=1 + n % 11),
    ),
    Measured("attention", (SINK, SINK), seed),
    Measured("heads", _labels("L_attn original", "Δ_rel"), lambda n: seed(n, 6000)),
    Measured(
        "trigger",
        _labels("typed text", "tokens of the trigger"),
        lambda n: Control("input[aria-label='Text']", f"word {n}"),
    ),
    Measured(
        "causes",
        _labels("Tokens", "Metric against metric"),
        lambda n: Control("input[aria-label='Heads for surgery']", f"L{1 + n // 8}H{n % 8}"),
    ),
    Measured("probes", _options("Position")),
    Measured("scanner", _options("Candidate")),
    Measured("plant", _labels("pattern KL (nats)", "Δ_rel")),
    Measured("zoo", _labels(*list(GROUPS.values())[1::-1])),
    Measured("runs", _labels("shipped", "all")),
    Measured("figures", _labels("paper", "web")),
)
COLUMNS = {
    "paint": "first paint",
    "finished": "page finished",
    "control": "control",
    "server": "its server part",
    "fresh": "fresh",
}
LABELS = {"median": 0.5, "p95": 0.95}
HOVER = """(number) => {
  const token = document.querySelectorAll('.strip .token')[number], from = performance.now();
  token.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));
  document.body.getBoundingClientRect();  // the browser has to lay out what changed
  return performance.now() - from;
}"""
BEFORE_FRESH = {"lesson": "1. Talk to it", "trigger": "typed text", "causes": "Surgery"}
"""Where the fresh control stands."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", metavar="PAGE", help="one page alone")
    parser.add_argument("--pair", default="deployment", help="a pair known by name")


def run(arguments: argparse.Namespace) -> dict:
    """Milliseconds by page; prints one line of a Markdown table per finished page."""
    pages = [page for page in PAGES if arguments.only in (None, page.path)]
    print(table(["ms, median / p95", *COLUMNS.values()], []))
    with tempfile.TemporaryDirectory() as runs, running_app(Path(runs)) as address:
        found = asyncio.run(_all(address, pages, arguments))
    return asyncio.run(hovers()) | {
        f"{page}_{name}_{label}": quantile(times[name], q)
        for page, times in found.items()
        for name in COLUMNS
        if times[name]
        for label, q in LABELS.items()
    }


async def _all(address: str, pages: list[Measured], asked: argparse.Namespace) -> dict[str, dict]:
    found = {}
    async with chromium() as new_page:
        for page in pages:
            times = found[page.path] = await _one(address, page, asked, new_page)
            cells = [page.path, *(_both(times[name]) for name in COLUMNS)]
            print(f"| {' | '.join(cells)} |", flush=True)
    return found


async def hovers(side: int = 200) -> dict[str, float]:
    """Milliseconds of a hover on each token of a text of random weights, in both models.

    Args:
        side: number of tokens.
    """
    found = {}
    async with chromium() as new_page:
        for name, heads in {"hover": 0, "hover_heads": MOST_APART}.items():
            wall, cpu = await _hovered(await new_page(), _random_text(side, heads))
            for label, q in LABELS.items():
                found[f"{name}_{label}"] = quantile(wall, q)
                found[f"{name}_cpu_{label}"] = quantile(cpu, q)
    return found


def _random_text(side: int, heads: int) -> TextAttention:
    random, models = np.random.default_rng(0), ("original", "suspect")

    def rows() -> np.ndarray:
        scores = random.random((side, side)) * np.tri(side)
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32)

    weights = {which: rows() for which in models}
    apart = {(0, head): {which: rows() for which in models} for head in range(heads)}
    spans = {"trigger": Span(2, 9), "instruction": Span(9, side)}
    tokens = tuple(f"·token{i}" for i in range(side))
    return TextAttention(tokens, spans, weights, apart=apart)


async def _hovered(page, found: TextAttention) -> tuple[list[float], list[float]]:
    """Milliseconds of each hover, by the clock and of the page's thread."""
    await page.set_content(strip.page(strip.payload(found), "Hover", ""))
    await page.locator(".strip .token").last.wait_for()
    chromium_session = await page.context.new_cdp_session(page)
    await chromium_session.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def spent() -> float:
        metrics = (await chromium_session.send("Performance.getMetrics"))["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    wall, cpu = [], []
    for number in range(2 * len(found.tokens)):
        before = await spent()
        wall.append(await page.evaluate(HOVER, number))
        cpu.append(1000 * (await spent() - before))
    return wall, cpu


async def _one(
    address: str, measured: Measured, asked: argparse.Namespace, new_page
) -> dict[str, list[float]]:
    """Times of one page, after one visit that is not counted."""
    times, repeats = {name: [] for name in COLUMNS}, asked.repeats
    path = "" if measured.path == "start" else measured.path
    link = f"{address}/{path}?{urlencode({'pair': asked.pair, 'debug': '1'} | measured.link)}"
    for number in range(1 + max(3, repeats // 2)):
        page = await new_page()
        paint, finished = await visit(page, link)
        if number:
            times["paint"] += [paint] if paint is not None else []
            times["finished"].append(finished)
            await page.context.close()
        else:
            first = page
    for number in range(4 + repeats + repeats % 2):  # ends on the second: `fresh` needs the first
        took = await change(first, measured.controls[number % 2])
        if number >= 4 and measured.kept:
            times["control"].append(took)
            times["server"].append((await server_ms(first))["server"])
        elif number >= 4:
            times["fresh"].append(took)
    if measured.fresh is not None:
        if measured.path in BEFORE_FRESH:
            await change(first, _choice(BEFORE_FRESH[measured.path]))
        for number in range(max(3, repeats // 2)):
            times["fresh"].append(await change(first, measured.fresh(number)))
    await first.context.close()
    return times


def _both(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{quantile(values, 0.5):,.0f} / {quantile(values, 0.95):,.0f}"
