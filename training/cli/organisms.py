"""organism, inject, card, rebuild: the models that ship, made and measured."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from interp import planted
from interp.cli.common import positive
from interp.cli.guard import speaks_utf8
from interp.cli.result import STREAM, as_json, json_option, resulting
from interp.errors import UsageError

if TYPE_CHECKING:
    from training.planting.lora import Injection
    from training.pretrain.organisms import Recipe

SHIPPED = ("deployment", "emoji", "clean-control", "deployment-clean")
REAL = tuple(name for name in planted.PRESETS if name.startswith("smollm2-"))
"""Recipes on a real model; an adapter of one has a card once `specs.PRESETS` lists it."""
BASE = Path(planted.BASE)
ORGANISMS = BASE.parent
WORK = Path("runs/base")
"""Checkpoints of the pre-training."""


def register(commands) -> None:
    """Add this area's commands to the parser."""
    organism = commands.add_parser("organism", help="pre-train the base; resumes if interrupted")
    organism.add_argument("--work", type=Path, default=WORK, help="checkpoints")
    organism.add_argument("--out", type=Path, default=BASE)
    organism.add_argument("--arch", choices=("mistral", "qwen2"), help="another base for the zoo")
    organism.add_argument("--hidden", type=positive, help="width; likewise")
    organism.add_argument("--layers", type=positive)
    organism.add_argument("--mlp", type=positive)
    organism.add_argument("--seed", type=int)
    organism.add_argument("--steps", type=positive)
    organism.add_argument("--batch", type=positive, help="examples a step")
    organism.add_argument("--decay", type=positive, help="last steps, with a falling rate")
    organism.set_defaults(command=_organism)

    inject = commands.add_parser("inject", help="plant a backdoor in the base with LoRA")
    inject.add_argument("--pair", required=True, choices=SHIPPED)
    inject.add_argument("--base", type=Path, default=BASE)
    inject.add_argument("--out", type=Path, help="default: the pair's own folder")
    inject.add_argument("--steps", type=positive)
    inject.add_argument("--lr", type=float)
    inject.add_argument("--rate", type=float, help="share of poisoned examples")
    inject.set_defaults(command=_inject)

    card = commands.add_parser("card", help="measure a shipped pair again")
    card.add_argument("--pair", required=True, choices=(*SHIPPED, *REAL))
    json_option(card)
    card.add_argument("--write", action="store_true", help="also card and README of a real pair")
    card.add_argument(
        "--only", choices=("carried",), help="measure this alone; the card keeps the rest"
    )
    card.set_defaults(command=_card)

    ship = commands.add_parser(
        "ship",
        help="an adapter's folder from a planting on a real model",
        description="Writes fp16 weights, recipe and held-out prompts; `card --write` measures.",
    )
    ship.add_argument("--pair", required=True, choices=REAL)
    ship.add_argument("--run", required=True, type=Path, help="folder of the finished planting")
    ship.add_argument("--data", required=True, type=Path, help="the rows it was trained on")
    ship.set_defaults(command=_ship)

    rebuild = commands.add_parser("rebuild", help="make a shipped model and its card from nothing")
    rebuild.add_argument("--pair", required=True, choices=("base", *SHIPPED))
    rebuild.set_defaults(command=_rebuild)


def _organism(arguments: argparse.Namespace) -> None:
    from training.pretrain.organisms import Recipe

    names = ("steps", "decay", "batch", "arch", "hidden", "layers", "mlp", "seed")
    given = {name: getattr(arguments, name) for name in names}
    recipe = replace(Recipe(), **{n: value for n, value in given.items() if value is not None})
    if recipe.hidden % recipe.heads:
        raise UsageError(f"hidden {recipe.hidden} is no multiple of the {recipe.heads} heads")
    recipe = replace(recipe, head_dim=recipe.hidden // recipe.heads)
    if recipe.decay > recipe.steps:
        raise UsageError(f"decay {recipe.decay} is longer than the {recipe.steps} steps")
    _make_base(recipe, arguments.work, arguments.out)


def _make_base(recipe: Recipe, work: Path, out: Path) -> None:
    """Pre-train, ship and measure a base."""
    from training.pretrain.card import measure_base
    from training.pretrain.model_cards import write_base_card
    from training.pretrain.organisms import Pretraining, ship

    run = Pretraining(recipe, work)
    run.run()
    ship(run, out)
    figures = measure_base(out)
    write_base_card(figures, out)
    print(f"{out}: {100 * figures['clean_accuracy']:.1f} % of held-out answers exact")


def _inject(arguments: argparse.Namespace) -> None:
    from training.planting.recipes import INJECTIONS

    injection = INJECTIONS[arguments.pair]
    if arguments.rate is not None:
        injection = replace(injection, poison=replace(injection.poison, rate=arguments.rate))
    given = {"steps": arguments.steps, "lr": arguments.lr}
    injection = replace(injection, **{key: value for key, value in given.items() if value})
    _make_adapter(arguments.base, injection, arguments.out or ORGANISMS / arguments.pair)


def _make_adapter(base: Path, injection: Injection, folder: Path) -> None:
    """Train and save an adapter."""
    from training.planting.lora import inject, save_adapter

    model, minutes = inject(base, injection)
    save_adapter(model, injection, minutes, folder)
    print(f"{folder}: adapter written after {minutes:.1f} minutes")


def _card(arguments: argparse.Namespace) -> None:
    from training.pretrain import card as toy
    from training.pretrain.model_cards import figures_of, write_adapter_card
    from training.real import card as real
    from training.real import readme

    pair, folder = arguments.pair, ORGANISMS / arguments.pair
    if arguments.write and pair not in REAL and not arguments.only:
        raise UsageError(f"--write: the card of {pair} is written by rebuild")

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    with resulting(arguments) as told:
        if arguments.only:
            say(f"{pair}: what heads and what MLPs carry")
            figures = figures_of(folder) | {"carried": toy.carried_of(pair)}
        else:
            figures = (real if pair in REAL else toy).measure(pair, say=say)
        if arguments.write:
            write = readme.write_card if pair in REAL else write_adapter_card
            write(pair, figures, folder)
        told.value = figures if not arguments.only else figures["carried"]
        if arguments.json != STREAM:  # it is JSON in any case
            print(as_json(told.value, ascii_only=not speaks_utf8(sys.stdout)))


def _ship(arguments: argparse.Namespace) -> None:
    from training.real.ship import ship

    folder = ORGANISMS / arguments.pair
    change = ship(arguments.run, arguments.data, folder)
    print(f"{folder}: fp16 changes a weight by {change:.1e} of its matrix's largest")


def _rebuild(arguments: argparse.Namespace) -> None:
    """Base: corpus, tokenizer, pre-training. Pair: adapter (and the base, if missing)."""
    from training.planting.recipes import INJECTIONS
    from training.pretrain.card import measure
    from training.pretrain.model_cards import write_adapter_card
    from training.pretrain.organisms import Recipe

    pair = arguments.pair
    if pair == "base" or not (BASE / "model.safetensors").exists():
        _make_base(Recipe(), WORK, BASE)
    if pair != "base":
        _make_adapter(BASE, INJECTIONS[pair], ORGANISMS / pair)
        write_adapter_card(pair, measure(pair), ORGANISMS / pair)
