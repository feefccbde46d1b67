"""figures, compare: figures of a run for a write-up; comparison of two runs."""

import argparse
from pathlib import Path

from interp.cli.progress import report
from interp.cli.result import json_option, resulting


def register(commands) -> None:
    """Add this area's commands to the parser."""
    figures = commands.add_parser(
        "figures",
        help="a run's figures for paper, slides or web, its tables, captions and report",
        description="Writes each figure as SVG, PDF and PNG with its data (CSV) and caption, and "
        "the tables as Markdown and LaTeX. Images are drawn by an installed Chrome or Chromium.",
    )
    figures.add_argument("run", type=Path, help="folder of the run")
    figures.add_argument("--out", type=Path, help="folder to write to")
    _style_arguments(figures)
    figures.add_argument("--formats", default="svg,pdf,png", help="with commas; none writes none")
    figures.add_argument("--scale", type=int, default=2, help="of PNGs, 1 to 4")
    figures.add_argument("--only", default="", help="these figures alone, names with commas")
    figures.add_argument("--report", type=Path, help="also one HTML file that opens offline")
    json_option(figures)
    figures.set_defaults(command=_figures)

    compare = commands.add_parser(
        "compare",
        help="two runs of one kind: figures on shared scales, a table of differences",
    )
    compare.add_argument("first", type=Path, help="folder of a run")
    compare.add_argument("second", type=Path, help="folder of another run of its kind")
    compare.add_argument("--out", required=True, type=Path, help="folder to write to")
    _style_arguments(compare)
    compare.add_argument("--formats", default="svg,pdf,png", help="with commas; none writes none")
    compare.add_argument("--scale", type=int, default=2, help="of PNGs, 1 to 4")
    json_option(compare)
    compare.set_defaults(command=_compare)


def _style_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--style", default="paper", help="paper, slide or web; default paper")
    command.add_argument("--width", help="such as 85mm or 170mm; default the style's own")
    command.add_argument("--dark", action="store_true", help="on a dark ground")


def _figures(arguments: argparse.Namespace) -> None:
    from interp.errors import UsageError
    from interp.publish import folder
    from interp.runs.reading import open_run
    from interp.style.presets import style_of

    if arguments.out is None and arguments.report is None:
        raise UsageError("say where to write: --out DIR for files, --report FILE.html, or both")
    style = style_of(arguments.style, arguments.width, dark=arguments.dark)
    formats = folder.parse_formats(arguments.formats, arguments.scale)
    run = open_run(arguments.run)
    with resulting(arguments) as found:
        count = 0
        if arguments.report is not None:  # first: it needs no browser
            folder.write_report(run, arguments.report, style)
            print(f"report of run '{run.path.name}' written to {arguments.report}")
        if arguments.out is not None:
            only = tuple(name.strip() for name in arguments.only.split(",") if name.strip())
            count = folder.write(
                run,
                arguments.out,
                style,
                formats=formats,
                scale=arguments.scale,
                only=only,
                on_progress=report,
            )
            print(f"{count} files of run '{run.path.name}' written to {arguments.out}")
        found.value = {"run": run.path, "report": arguments.report}
        found.value |= {"out": arguments.out, "files": count}


def _compare(arguments: argparse.Namespace) -> None:
    from interp.publish import folder
    from interp.publish.compare import compared
    from interp.runs.reading import open_run
    from interp.style.presets import style_of

    style = style_of(arguments.style, arguments.width, dark=arguments.dark)
    formats = folder.parse_formats(arguments.formats, arguments.scale)
    both = compared(open_run(arguments.first), open_run(arguments.second))
    with resulting(arguments) as found:
        count = folder.write_comparison(
            both, arguments.out, style, formats=formats, scale=arguments.scale, on_progress=report
        )
        for line in both.notes:
            print(line)
        print(f"{count} files written to {arguments.out}")
        found.value = {"notes": both.notes, "files": count, "out": arguments.out}
