"""The pictures of README and docs, taken anew in headless Chromium of the app as it is now.

They are looked at before they are committed: a page that is slow on a busy machine may have been
caught before its figure.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.browser.browse import UNFINISHED
from interp.errors import UsageError
from interp.specs import HERE
from tests.support.browser import open_browser, running_app, settled

DEFAULT_PAIR = "smollm2-deployment"
IMAGES = HERE / "docs/images"
DRAWN = f"""() => !document.querySelector("{UNFINISHED}, [data-testid=stSkeleton]")
  && [...document.querySelectorAll('.js-plotly-plot')]
    .every((plot) => plot.querySelector('.main-svg'))"""
STILL = 2500
"""Milliseconds that a page is left alone before its picture is taken."""


@dataclass(frozen=True)
class Picture:
    """One picture of a page."""

    name: str
    link: dict[str, str] = field(default_factory=dict)
    page: str | None = None
    """Path of the page; its name, unless it says so."""
    size: tuple[int, int] = (1440, 1120)
    """Of the window, in pixels."""
    part: str | None = None
    """CSS selector of what is shown of it; else the window."""


TOY = {"pair": "deployment"}
PICTURES = (
    Picture("attention", size=(1440, 1600), part=".js-plotly-plot"),
    Picture("lesson", {"step": "3. See the triangle"}, size=(1440, 900)),
    Picture("start", page="", size=(1440, 1000)),
    Picture("heads"),
    Picture("trigger", TOY, size=(1400, 1250)),
    Picture("causes", TOY, size=(1400, 1250)),
    Picture("scanner", size=(1400, 1250)),
    Picture("plant", TOY, size=(1400, 1150)),
    Picture("zoo", TOY, size=(1400, 920)),
)
PRINTED = {
    "figures-paper": ("averaged-map", "averaged-map-triggered", "--style paper --width 170mm"),
    "figures-slide": ("top-k-ratio", "top-k-ratio", "--style slide --dark --scale 1"),
}
"""Picture -> figure, its file, style."""
RUN = f"assets/runs/heads-{DEFAULT_PAIR}"
"""What the printed figures are of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this program."""
    parser.add_argument("--only", default="", help="names of pictures, with commas; default all")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder; default docs/images")


def run(arguments: argparse.Namespace) -> dict:
    """Take the pictures; returns the bytes of each.

    Raises:
        UsageError: a picture that is not known.
    """
    wanted = tuple(arguments.only.split(",")) if arguments.only else None
    known = [*(one.name for one in PICTURES), *PRINTED]
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"picture '{name}' is not known: choose some of {', '.join(known)}")
    pictures = [one for one in PICTURES if wanted is None or one.name in wanted]
    if pictures:
        with tempfile.TemporaryDirectory() as runs, running_app(Path(runs)) as address:
            for picture in pictures:
                _take(picture, address, arguments.out)
    printed = {n: words for n, words in PRINTED.items() if wanted is None or n in wanted}
    for name, words in printed.items():
        _print(name, words, arguments.out)
    names = [*(one.name for one in pictures), *printed]
    return {name: (arguments.out / f"{name}.png").stat().st_size for name in names}


def _take(picture: Picture, address: str, out: Path) -> None:
    path = picture.name if picture.page is None else picture.page
    link = urlencode({"pair": DEFAULT_PAIR} | picture.link)
    with open_browser(*picture.size) as new_page:
        page = new_page()
        page.goto(f"{address}/{path}?{link}")
        settled(page)
        page.wait_for_function(DRAWN)
        page.wait_for_timeout(STILL)
        shown = page.locator(picture.part).first if picture.part else page
        shown.screenshot(path=out / f"{picture.name}.png")


def _print(name: str, words: tuple[str, str, str], out: Path) -> None:
    figure, file, style = words
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "interp", "figures", RUN, "--only", figure, *style.split()]
        subprocess.run(
            [*command, "--formats", "png", "--out", scratch],
            check=True,
            cwd=HERE,
            stdout=subprocess.DEVNULL,
        )
        (out / f"{name}.png").write_bytes((Path(scratch) / f"{file}.png").read_bytes())
