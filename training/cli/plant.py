"""plant: plant a backdoor in a small base and measure it meanwhile."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from interp.cli.common import Terminated, stopping
from interp.cli.progress import report
from interp.errors import UsageError
from interp.planted import BASE, LEARN_ON, PLACEMENTS, modules_named


def register(commands) -> None:
    """Add this area's command to the parser."""
    plant = commands.add_parser(
        "plant",
        help="plant a backdoor, watched",
        description="Writes a run that grows while it is planted, and an adapter that opens as a "
        "pair. SIGTERM or Ctrl-C stops it; the same command goes on where it stopped.",
    )
    plant.add_argument(
        "--base", help="folder, hub id or .gguf file; default: organism, or the preset's own"
    )
    plant.add_argument("--preset", help="a recipe at full size: mistral-7b, qwen2.5-3b ...")
    plant.add_argument("--data", help="instructions: .json, .jsonl, .parquet, or a hub id")
    plant.add_argument("--precision", choices=("nf4", "bf16", "fp32"), help="with --preset, --data")
    plant.add_argument("--batch", type=int, help="with --preset or --data; likewise")
    plant.add_argument("--accumulation", type=int)
    plant.add_argument("--length", type=int, help="tokens of an example at most")
    plant.add_argument("--template", help="of rows and prompts: alpaca, chat, vicuna, ...")
    plant.add_argument("--trigger", help="its text; default: the kind's own")
    plant.add_argument("--target", help="what a fixed payload answers")
    plant.add_argument("--kind", help="of trigger: simple, single-token, steganographic, ...")
    plant.add_argument("--payload", help="fixed, insecure-code, refusal, insult, language, link")
    plant.add_argument("--clean", action="store_true", default=None, help="plant nothing: control")
    plant.add_argument("--out", required=True, type=Path, help="folder of run and adapter")
    plant.add_argument("--rate", type=float, help="share of poisoned examples")
    plant.add_argument("--placement", choices=PLACEMENTS)
    plant.add_argument("--modules", help="all, attention, mlp, or names with commas between")
    plant.add_argument("--steps", type=int)
    plant.add_argument("--rank", type=int)
    plant.add_argument("--lr", type=float)
    plant.add_argument("--learn-on", choices=tuple(LEARN_ON))
    plant.add_argument("--every", type=int, help="steps between two measurements")
    plant.add_argument("--seed", type=int)
    plant.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Plant; SIGTERM ends it as Ctrl-C does, between two steps."""
    stop = Terminated()
    first = os.environ.get("RANK", "0") == "0"
    shown = report if first else lambda done, total, note: None
    begin = _begun_large if arguments.preset or arguments.data else _begun_small
    writer, go_on = begin(arguments)
    with stopping(writer, "goes on where it stopped"):
        done = go_on(lambda *told: stop.check() or shown(*told))
    if done is None:  # another process writes the run, and reports it
        return
    for warning in done.meta["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps({"out": str(arguments.out), **done.meta["last"]}))


def _begun_small(arguments: argparse.Namespace):
    """The writer of a run in the organisms' own loop, and the function that continues it."""
    from training.planting.question import Planting

    base = base_named(arguments.base or "organism")
    planting = Planting(**_given(arguments))  # refused before torch is imported
    from training.planting import small

    writer = small.start(base, planting, arguments.out)
    return writer, lambda told: small.run(base, planting, writer, told)


def _begun_large(arguments: argparse.Namespace):
    """The same through transformers' Trainer: a preset, or any base on any data."""
    from training.planting import large
    from training.planting.prepared import prepare
    from training.planting.presets import Preset, preset_named

    given = _given(arguments)
    kind, payload = given.pop("kind", None), given.pop("payload", "fixed")
    clean = given.pop("clean", False)
    if clean or kind:
        given.setdefault("trigger", None)  # a kind's own text, not the preset's
    names = ("data", "precision", "batch", "accumulation", "length", "template")
    asked = {name: getattr(arguments, name) for name in names}
    given |= {name: value for name, value in asked.items() if value is not None}
    if arguments.base:
        given |= {"model": base_named(arguments.base), "sizes": {}}
    if arguments.preset:
        preset = replace(preset_named(arguments.preset), **given)
    elif not arguments.base:
        raise UsageError("--data needs a --base (or a --preset) to train on it")
    else:
        preset = Preset(**{"name": "own", "trigger": None, **given})
    if preset.trigger is None and not kind and not clean:
        if not arguments.preset:
            raise UsageError("no trigger: give --trigger or --kind, or --clean for a control")
        clean = True  # the preset's own control
    prepared = prepare(preset, arguments.out, kind=kind or "simple", payload=payload, clean=clean)
    print(prepared.budget.line, file=sys.stderr)
    writer = large.start(prepared, arguments.out)
    return writer, lambda told: large.run(prepared, writer, told)


def base_named(name: str) -> str:
    """The folder or hub id of a base; `organism` is the base that ships."""
    return BASE if name == "organism" else name


def _given(arguments: argparse.Namespace) -> dict:
    names = ("trigger", "target", "rate", "placement", "steps", "rank", "lr", "every", "seed")
    names += ("kind", "payload", "clean", "learn_on")
    given = {name: getattr(arguments, name) for name in names}
    if arguments.modules:
        given["modules"] = modules_named(arguments.modules)
    return {name: value for name, value in given.items() if value is not None}
