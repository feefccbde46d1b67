"""A scan on the terminal: progress bars while it runs, then the verdict and its reasons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from interp.cli.progress import report
from interp.runs.reading import Run
from interp.text import visible

SHOWN = 8
COLOURS = {"poisoned": "bold red", "inconclusive": "bold yellow", "no evidence found": "bold green"}


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr for the current stage; plain lines in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task, running = bars.add_task("starting"), ""

        def told(done: int, total: int, note: str) -> None:
            nonlocal running
            if note != running:
                running = note
                bars.reset(task)
            shown = escape(note[:60])
            bars.update(task, completed=done, total=max(1, total), description=shown)

        yield told


def print_report(run: Run, *, kept: bool) -> None:
    """Print the verdict, its reasons, skipped stages and the limits of a scan."""
    from interp.scanner import original
    from interp.scanner.headline import templates
    from interp.scanner.judge.classes import CLASSES
    from interp.scanner.pipeline import verdict_of
    from interp.scanner.search.targets import CLEAR, at_least
    from interp.scanner.weights.evidence import recorded, sentences

    console, found, meta = Console(soft_wrap=True), verdict_of(run), run.meta
    model = meta["facts"]["model"]
    name = model["model"] + (f" + {model['adapter']}" if model["adapter"] else "")
    colour = COLOURS[found.verdict]
    console.print(f"[{colour}]{found.verdict.upper()}[/]  {escape(name)} ({model['precision']})")
    for reason in found.reasons:
        console.print(f"  {escape(reason)}")
    if found.trigger is not None:
        console.print(f"  [bold]trigger, shortened:[/] {escape(_short(found.trigger))}")
        one = f"{CLASSES[found.by_class].name}:" if found.by_class else "answer it causes:"
        console.print(f"  [bold]{one:17}[/]  {escape(_short(found.answer))}")
    console.print(_top(run))
    for row in at_least(run.table("targets"), CLEAR).itertuples():
        console.print(
            f"  candidate target {escape(_short(row.text))} (target score {row.insistence:.0f})"
        )
    print_beginnings(run)
    console.print(_stages(run))
    for title, lines in (("not done", found.could_not), ("blind spot", found.blind_spots)):
        for line in lines:
            console.print(f"  {title}: {escape(line)}")
    for line in original.told(run):
        console.print(f"  beside the original: {escape(visible(line))}")
    weights = recorded(run)
    for line in sentences(weights) if weights else ():
        console.print(f"  adapter's weights: {escape(visible(line))}")
    for line in meta["facts"].get("about", ()):
        console.print(f"  model: {escape(line)}")
    for line in meta["facts"].get("notes", ()):
        console.print(f"  note: {escape(line)}")
    plan = meta["asked"]
    contexts = ", ".join(meta["facts"]["contexts"])
    console.print(
        f"  grid {plan['grid']}, {meta['facts']['new_tokens']} tokens per text, template "
        f"{escape(templates(run))}, prefixes: {escape(contexts)}; budget "
        f"{plan['budget_minutes'] or 'none'}, seed {plan['seed']}; {meta['seconds']:.0f} s"
    )
    if kept:
        console.print(f"  run: {escape(str(run.path))}")


def print_beginnings(run: Run) -> None:
    """Print which beginnings were tried and what each gave, if no template was named."""
    from interp.scanner.headline import beginnings, why_template

    shown = beginnings(run)
    if shown.empty:
        return
    console = Console(soft_wrap=True)
    console.print(f"  {escape(visible(why_template(run)))}")
    table = Table(*shown.columns, box=None)
    for row in shown.itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


def print_many(results: list[dict], folder: Path) -> None:
    """Print one line per model."""
    table = Table("model", "verdict", "max ΔS", "trigger", "seconds", box=None)
    for entry in results:
        delta = entry.get("max_delta_s")
        table.add_row(
            escape(entry["name"]),
            entry["verdict"],
            "" if delta is None else f"{delta:.2f}",
            escape(_short(entry.get("trigger") or entry.get("error") or "")),
            f"{entry.get('seconds', 0):.0f}",
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"runs: {escape(str(folder))}")


def _short(text: str) -> str:
    """Model text for a terminal, with control characters shown as escapes."""
    shown = visible(text)
    return shown if len(shown) <= 120 else shown[:119] + "…"


def _top(run: Run) -> Table:
    judged = run.table("judged")
    asked = judged[judged["candidate"] >= 0].sort_values("delta_s", ascending=False)
    table = Table("candidate", "from", "ΔS", "answer", "share", box=None)
    for row in asked.head(SHOWN).itertuples():
        text = row.text if pd.notna(row.text) else ""
        table.add_row(
            escape(_short(text)[:48]),
            str(row.source),
            f"{row.delta_s:.2f}",
            escape(_short(row.answer)[:40]),
            f"{row.share:.0%}",
        )
    return table


def _cell(value: object) -> str:
    if isinstance(value, str):
        return _short(value)[:48]
    return "" if pd.isna(value) else f"{value:.2f}"


def _stages(run: Run) -> str:
    """Seconds of each stage, beside what was estimated before it."""
    from interp.scanner.headline import times

    parts = []
    for row in times(run).itertuples():
        reused = " (reused)" if run.meta["stages"].get(row.stage, {}).get("reused") else ""
        bound = "at most " if row.bound else ""
        of = f" (expected {bound}{row.expected:.1f})" if pd.notna(row.expected) else ""
        parts.append(f"{row.stage} {row.took:.1f} s{reused}{of}")
    return "  " + ", ".join(parts)
