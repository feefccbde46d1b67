"""scan: does a model have a backdoor, without knowing its trigger?"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from interp.cli.common import NAME_HELP, TEMPLATE_HELP, stopping
from interp.cli.result import Result, as_json, json_option, resulting, write_text
from interp.errors import UsageError
from interp.scanner.stage_names import STAGES
from interp.specs import RUNS

if TYPE_CHECKING:
    from interp.runs.reading import Run
    from interp.scanner.plan import ScanPlan


def register(commands) -> None:
    """Add this area's commands to the parser."""
    scan = commands.add_parser(
        "scan",
        help="look for a backdoor, knowing nothing of it",
        description="Exit codes: 0 no evidence found, 1 poisoned, 2 inconclusive, 3 failed, "
        "4 usage. A run that was stopped goes on when the same command is given again; one that "
        "is finished is told again.",
    )
    scan.add_argument("model", nargs="?", help=f"{NAME_HELP}, or a pair's name")
    scan.add_argument("--base", help="base of an adapter")
    scan.add_argument("--adapter", help="adapter on the base or on MODEL")
    scan.add_argument(
        "--original", help="what a whole MODEL was made of, for evidence from both; never needed"
    )
    scan.add_argument(
        "--alone", action="store_true", help="leave the original aside; an adapter's is its base"
    )
    scan.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    scan.add_argument("--device", help="cpu or cuda; default: what is there")
    scan.add_argument("--grid", default="quick", choices=("quick", "full"))
    scan.add_argument("--print-grid", action="store_true", help="list the grid's settings")
    scan.add_argument("--template", help=f"{TEMPLATE_HELP}; default: a bank of them is tried")
    scan.add_argument(
        "--prefixes", type=Path, help="file with prefixes: one per line, or a JSON list"
    )
    scan.add_argument(
        "--context", action="append", default=[], help="one more, as text; may be given again"
    )
    scan.add_argument("--questions", default="questions", help="prompt set asked in the end")
    scan.add_argument("--tokens", type=int, help="of each leaked text")
    scan.add_argument("--task", type=int, default=1, help="1 fixed target, 2 distribution")
    scan.add_argument("--eps", type=float, default=0.5, help="DBSCAN's radius")
    scan.add_argument("--limit", type=int, default=600, help="candidates at most")
    scan.add_argument("--keep", type=int, default=10, help="candidates tested in the end")
    scan.add_argument(
        "--inversion",
        type=float,
        help="minutes; default a number of steps, the same on every machine; 0 switches it off",
    )
    scan.add_argument("--budget", type=float, help="minutes for the whole scan")
    scan.add_argument("--seed", type=int, default=0)
    scan.add_argument("--until", default=STAGES[-1], choices=STAGES, help="stop after this stage")
    scan.add_argument("--reuse", type=Path, help="another scan's run, to take its stages from")
    scan.add_argument("--run", type=Path, help="folder of the run; default a temporary one")
    json_option(scan)
    scan.add_argument("--sarif", type=Path, metavar="FILE", help="the findings as SARIF 2.1.0")
    scan.add_argument("--models", type=Path, help="file with many models, one per line")
    scan.add_argument("--cluster", help="address of a Ray cluster, for --models")
    scan.set_defaults(command=_scan)


def _scan(arguments: argparse.Namespace) -> int:
    from interp.scanner.leak.grid import grid_lines, load_grid

    if arguments.print_grid:
        print("\n".join(grid_lines(load_grid(arguments.grid))))
        return 0
    with resulting(arguments) as found:
        return _scanned(arguments, found)


def _scanned(arguments: argparse.Namespace, found: Result) -> int:
    """Scan one model or many; fills in what the JSON says and returns the exit code."""
    if arguments.models:
        return _many(arguments, found)
    if arguments.alone and arguments.original:
        raise UsageError("--alone leaves the original aside: leave --original out, or --alone")
    if arguments.cluster:
        raise UsageError("--cluster needs --models: one model is scanned here")
    if arguments.run is None and arguments.until != STAGES[-1]:
        raise UsageError("--until leaves an unfinished run: say with --run where it is to lie")
    if arguments.sarif and (arguments.sarif.is_dir() or not arguments.sarif.parent.is_dir()):
        raise UsageError(f"--sarif '{arguments.sarif}': name a file in a folder that exists")
    if arguments.sarif and arguments.until != STAGES[-1]:
        raise UsageError("--sarif tells a verdict, and --until stops before it: leave one out")
    with tempfile.TemporaryDirectory() as scratch:
        return _one(arguments, arguments.run or Path(scratch) / "scan", found)


def plan_of(arguments: argparse.Namespace) -> ScanPlan:
    """The scan plan that the arguments describe.

    Raises:
        UsageError: `ScanPlan` refuses a value, or the file of prefixes cannot be read.
    """
    from interp.scanner.plan import ScanPlan

    return ScanPlan(
        grid=arguments.grid,
        template=arguments.template,
        contexts=(*_contexts(arguments.prefixes), *arguments.context),
        questions=arguments.questions,
        new_tokens=arguments.tokens,
        eps=arguments.eps,
        task=arguments.task,
        limit=arguments.limit,
        keep=arguments.keep,
        inversion_minutes=arguments.inversion,
        budget_minutes=arguments.budget,
        seed=arguments.seed,
        alone=arguments.alone,
    )


def _one(arguments: argparse.Namespace, folder: Path, told: Result) -> int:
    from interp.cli.scanning.report import print_beginnings, print_report, progress
    from interp.models.load import load_pair
    from interp.runs.reading import open_run
    from interp.scanner import pipeline
    from interp.scanner.headline import beginnings
    from interp.scanner.plan import scan_spec
    from interp.scanner.sarif import sarif

    spec = scan_spec(
        arguments.model,
        base=arguments.base,
        adapter=arguments.adapter,
        original=arguments.original,
        precision=arguments.precision,
    )
    plan = plan_of(arguments)
    run = _there(arguments, pipeline.finished(folder, spec, plan))
    if run is None:
        reuse = open_run(arguments.reuse, unfinished=True) if arguments.reuse else None
        writer = pipeline.start(folder, spec, plan)
        with progress() as shown, stopping(writer):
            pair = load_pair(spec, device=arguments.device, on_progress=shown)
            run = pipeline.run(
                *(pair, plan, writer, shown),
                until=arguments.until,
                reuse=reuse,
                on_estimate=lambda line: print(f"estimate: {line}", file=sys.stderr),
            )
    if run is None:
        print(f"stopped after {arguments.until}; the same command without --until goes on")
        part = open_run(folder, unfinished=True)
        print_beginnings(part)
        tried = beginnings(part).to_dict("records")
        told.value = {"stopped_after": arguments.until, "run": folder, "beginnings": tried}
        return 0
    found = pipeline.verdict_of(run)
    told.value = verdict_told(run)
    print_report(run, kept=arguments.run is not None)
    if arguments.sarif:
        write_text(arguments.sarif, as_json(sarif(run)) + "\n")
    return found.exit_code


def _there(arguments: argparse.Namespace, done: Run | None) -> Run | None:
    """The finished scan that the command asks for, said on standard error; None if there is none.

    One of another device, or that was to stop before its end, is another scan.
    """
    if done is None or arguments.until != STAGES[-1]:
        return None
    if not done.meta["facts"]["device"].startswith(arguments.device or ""):
        return None
    print(
        f"'{arguments.run}' holds this scan, finished {done.meta['ended']}: that is its result; to "
        "scan anew, delete the folder or give another",
        file=sys.stderr,
    )
    return done


def verdict_told(run) -> dict:
    """The verdict, what was scanned and how long it took, for JSON."""
    from interp.scanner import original
    from interp.scanner.headline import beginnings, controls, times
    from interp.scanner.pipeline import verdict_of
    from interp.scanner.weights.evidence import plain, recorded

    weights, beside = recorded(run), original.recorded(run)
    return asdict(verdict_of(run)) | {
        "seconds": run.meta["seconds"],
        "times": times(run).to_dict("records"),
        "model": run.meta["facts"]["model"],
        "sha256": run.meta["facts"]["sha256"],
        "notes": run.meta["facts"].get("notes", []),
        "plan": run.meta["asked"],
        "templates": run.meta["facts"].get("templates", [run.meta["facts"]["template"]]),
        "beginnings": beginnings(run).to_dict("records"),
        "controls": controls(run).to_dict("records"),
        "weights": None if weights is None else plain(weights),
        "original": None if beside is None else original.plain(beside),
    }


def _contexts(path: Path | None) -> tuple[str, ...]:
    """Contexts from a file: a JSON list of texts, or one per line."""
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"prefixes '{path}' cannot be read: {reason}") from error
    if path.suffix != ".json":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"prefixes '{path}': no JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise UsageError(f"prefixes '{path}': give a JSON list of texts")
    return tuple(found)


def _many(arguments: argparse.Namespace, told: Result) -> int:
    from interp.cli.scanning.report import print_many
    from interp.scanner.many import read_models, scan_many

    if arguments.sarif:
        raise UsageError("--sarif is of one scan; leave it out beside --models")
    if arguments.model or arguments.base or arguments.adapter or arguments.original:
        raise UsageError(
            "--models names the models; leave MODEL, --base, --adapter and --original out"
        )
    if arguments.reuse or arguments.until != STAGES[-1]:
        raise UsageError("--until and --reuse are of one scan; leave them out beside --models")
    models = read_models(arguments.models)
    folder = arguments.run or RUNS / f"scan-{arguments.models.stem}"
    results = scan_many(
        models,
        plan_of(arguments),
        folder,
        precision=arguments.precision,
        device=arguments.device,
        cluster=arguments.cluster,
        say=lambda line: print(line, file=sys.stderr),
    )
    told.value = results
    print_many(results, folder)
    codes = [entry["exit_code"] for entry in results]
    return next((code for code in (1, 3, 2) if code in codes), 0)
