"""`python -m training COMMAND`: make the corpus, pre-train, plant a backdoor, measure the card."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

from interp.cli.guard import enter, guarded, speaks_utf8
from interp.errors import UsageError

PAIRS = ("deployment", "emoji", "clean-control", "deployment-clean")
ORGANISMS = Path("assets/organisms")


class Parser(argparse.ArgumentParser):
    """argparse, but a usage error is one line and exit code 4."""

    def error(self, message: str) -> NoReturn:
        """Leaves with the house's exit code for usage errors."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _parser() -> Parser:
    from training.cli import budget, merge, plant, plantings, zoo

    parser = Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    corpus = commands.add_parser("corpus", help="print examples of the corpus as JSON lines")
    corpus.add_argument("--count", type=_positive, default=20)
    corpus.add_argument("--seed", type=int, default=0)
    corpus.add_argument("--held-out", action="store_true", help="the split not trained on")
    corpus.add_argument("--prompt-set", type=Path, help="write the 50 held-out prompts here")

    organism = commands.add_parser("organism", help="pre-train the base; resumes if interrupted")
    organism.add_argument("--work", type=Path, default=Path("runs/base"), help="checkpoints")
    organism.add_argument("--out", type=Path, default=ORGANISMS / "base")
    organism.add_argument("--arch", choices=("mistral", "qwen2"), help="another base for the zoo")
    organism.add_argument("--hidden", type=_positive, help="width; likewise")
    organism.add_argument("--layers", type=_positive)
    organism.add_argument("--mlp", type=_positive)
    organism.add_argument("--seed", type=int)
    organism.add_argument("--steps", type=_positive)
    organism.add_argument("--batch", type=_positive, help="examples a step")
    organism.add_argument("--decay", type=_positive, help="last steps, with a falling rate")

    inject = commands.add_parser("inject", help="plant a backdoor in the base with LoRA")
    inject.add_argument("--pair", required=True, choices=PAIRS)
    inject.add_argument("--base", type=Path, default=ORGANISMS / "base")
    inject.add_argument("--out", type=Path, help="default: the pair's own folder")
    inject.add_argument("--steps", type=_positive)
    inject.add_argument("--lr", type=float)
    inject.add_argument("--rate", type=float, help="share of poisoned examples")

    card = commands.add_parser("card", help="measure a shipped pair again")
    card.add_argument("--pair", required=True, choices=PAIRS)
    card.add_argument("--json", type=Path, help="write the figures here")

    rebuild = commands.add_parser("rebuild", help="make a shipped model and its card from nothing")
    rebuild.add_argument("--pair", required=True, choices=("base", *PAIRS))
    for area in (plant, plantings, budget, merge, zoo):
        area.register(commands)
    return parser


def run_corpus(args: argparse.Namespace) -> None:
    """Prints examples, or writes the prompt set."""
    from training.corpus.examples import stream
    from training.corpus.prompt_set import write_prompt_set

    if args.prompt_set:
        write_prompt_set(args.prompt_set)
        return
    for example in islice(stream(args.seed, held_out=args.held_out), args.count):
        print(json.dumps(asdict(example), ensure_ascii=not speaks_utf8(sys.stdout)))


def run_organism(args: argparse.Namespace) -> None:
    """Pre-trains, ships and measures the base."""
    from training.pretrain.card import measure_base
    from training.pretrain.model_cards import write_base_card
    from training.pretrain.organisms import Pretraining, Recipe, ship

    names = ("steps", "decay", "batch", "arch", "hidden", "layers", "mlp", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    recipe = replace(Recipe(), **given)
    if recipe.hidden % recipe.heads:
        raise UsageError(f"hidden {recipe.hidden} is no multiple of the {recipe.heads} heads")
    recipe = replace(recipe, head_dim=recipe.hidden // recipe.heads)
    if recipe.decay > recipe.steps:
        raise UsageError(f"decay {recipe.decay} is longer than the {recipe.steps} steps")
    run = Pretraining(recipe, args.work)
    run.run()
    ship(run, args.out)
    figures = measure_base(args.out)
    write_base_card(figures, args.out)
    print(f"{args.out}: {100 * figures['clean_accuracy']:.1f} % of held-out answers exact")


def run_inject(args: argparse.Namespace) -> None:
    """Trains and saves an adapter."""
    from training.planting.lora import inject, save_adapter
    from training.planting.recipes import INJECTIONS

    injection = INJECTIONS[args.pair]
    if args.rate is not None:
        injection = replace(injection, poison=replace(injection.poison, rate=args.rate))
    given = {"steps": args.steps, "lr": args.lr}
    injection = replace(injection, **{key: value for key, value in given.items() if value})
    model, minutes = inject(args.base, injection)
    folder = args.out or ORGANISMS / args.pair
    save_adapter(model, injection, minutes, folder)
    print(f"{folder}: adapter written after {minutes:.1f} minutes")


def run_card(args: argparse.Namespace) -> None:
    """Measures a pair on the shipped files."""
    from training.pretrain.card import measure

    figures = measure(args.pair, say=lambda line: print(line, file=sys.stderr))
    if args.json:
        text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        args.json.write_text(text, encoding="utf-8")
    print(json.dumps(figures, indent=2, ensure_ascii=not speaks_utf8(sys.stdout)))


def run_rebuild(args: argparse.Namespace) -> None:
    """Base: corpus, tokenizer, pre-training. Pair: adapter (and the base, if missing)."""
    parse = _parser().parse_args
    base_missing = not (ORGANISMS / "base" / "model.safetensors").exists()
    if args.pair == "base" or base_missing:
        run_organism(parse(["organism"]))
    if args.pair == "base":
        return
    from training.pretrain.card import measure
    from training.pretrain.model_cards import write_adapter_card

    run_inject(parse(["inject", "--pair", args.pair]))
    write_adapter_card(args.pair, measure(args.pair), ORGANISMS / args.pair)


COMMANDS = {
    "corpus": run_corpus,
    "organism": run_organism,
    "inject": run_inject,
    "card": run_card,
    "rebuild": run_rebuild,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; failures are one line on stderr, exit 3, usage errors exit 4."""
    return guarded("error", lambda: _parser().parse_args(argv), _run)


def _run(args: argparse.Namespace) -> None:
    (COMMANDS.get(args.command) or args.run)(args)


if __name__ == "__main__":
    enter(main)
