"""attention, heads, check, say, pairs: what the pages Start, Attention and Heads show."""

import argparse
import time
from pathlib import Path

from interp.cli.common import asked, open_pair, pair_arguments, report
from interp.errors import UsageError


def register(commands) -> None:
    """Add this area's commands to the parser."""
    for name, help_text in (
        ("attention", "averaged attention maps, clean and triggered, and their differences"),
        ("heads", "Δ_rel of every head and the top-K curve"),
    ):
        command = commands.add_parser(name, help=help_text)
        pair_arguments(command)
        command.add_argument("--prompts", help="prompt set: organism, general, or a file")
        command.add_argument("--prompt", type=int, help="one prompt of the set (0-based)")
        command.add_argument("--text", help="an instruction of your own instead of the set")
        command.add_argument("--placement", default="prefix", help="prefix, suffix, glued, after")
        command.add_argument("--seed", type=int, default=0, help="of the random string")
        command.add_argument("--layers", help="layers to average, such as 2-3 (attention only)")
        command.add_argument("--out", required=True, type=Path, help="folder of the run")
        command.set_defaults(command=_study, kind=name)

    check = commands.add_parser("check", help="activation rates of both models (fidelity badge)")
    pair_arguments(check)
    check.add_argument("--prompts", help="prompt set: organism, general, or a file")
    check.set_defaults(command=_check)

    say = commands.add_parser("say", help="answers of both models to one instruction")
    pair_arguments(say)
    say.add_argument("instruction")
    say.add_argument("--tokens", type=int, default=60, help="at most so many new tokens")
    say.set_defaults(command=_say)

    listing = commands.add_parser("pairs", help="list the pairs that are known by name")
    listing.set_defaults(command=_pairs)


def _study(arguments: argparse.Namespace) -> None:
    from interp import study
    from interp.prompts import load_prompt_set
    from interp.runs import RunWriter

    pair = open_pair(arguments)
    prompt_set = load_prompt_set(arguments.prompts or pair.spec.prompt_set)
    question = study.Question(
        trigger=pair.spec.trigger or "",
        prompt_set=prompt_set.name,
        prompt=arguments.prompt,
        text=arguments.text,
        template=pair.spec.template,
        placement=arguments.placement,
        seed=arguments.seed,
    )
    layers = _layers(arguments.layers, pair.n_layers)
    writer = RunWriter(arguments.out, arguments.kind, {"asked": asked(arguments)})
    started = time.perf_counter()
    result = study.measure(pair, prompt_set, question, on_progress=report)
    study.save(result, writer)
    _write_report(writer, arguments.kind, result, layers)
    run = writer.finish(facts=result.facts, seconds=round(time.perf_counter() - started, 2))
    print(f"{run.kind} run of '{pair.spec.name}' written to {arguments.out}")


def _write_report(writer, kind: str, result, layers) -> None:
    """The page's figures and tables, and the numbers on the terminal."""
    from plotly.offline import get_plotlyjs

    from interp import report as told

    for name, table in told.tables(kind, result).items():
        writer.table(name, table)
        writer.text(f"{name}.csv", table.to_csv(index=False))
    for name, figure in told.build_figures(kind, result, layers).items():
        writer.text(f"{name}.html", told.figure_html(figure))
    writer.text("plotly.min.js", get_plotlyjs())
    print(told.summary(kind, result, layers))


def _check(arguments: argparse.Namespace) -> None:
    from interp.activation import fidelity
    from interp.prompts import load_prompt_set

    pair = open_pair(arguments)
    prompt_set = load_prompt_set(arguments.prompts or pair.spec.prompt_set)
    print(fidelity(pair, prompt_set, n_prompts=len(prompt_set.prompts)))


def _say(arguments: argparse.Namespace) -> None:
    from interp.answers import stream_answer
    from interp.prompts import build_prompt

    pair = open_pair(arguments)
    for trigger in (None, pair.spec.trigger):
        prompt = build_prompt(
            pair.tokenizer,
            arguments.instruction,
            template=pair.spec.template,
            trigger=trigger,
            max_length=pair.max_length,
        )
        print(f"with {trigger}:" if trigger else "without the trigger:")
        for which in ("original", "suspect"):
            answers = list(stream_answer(pair, which, prompt, max_new_tokens=arguments.tokens))
            print(f"  {which:8}  {answers[-1] if answers else ''!r}")


def _pairs(_: argparse.Namespace) -> None:
    from interp.specs import PRESETS

    for name, spec in PRESETS.items():
        print(f"{name:14} trigger {spec.trigger!r}, target {spec.target!r}, {spec.prompt_set}")


def _layers(text: str | None, n_layers: int):
    """`2-3` or `1,4` -> layers, default the middle ones."""
    from interp.attention import check_layers, middle_layers

    if not text:
        return middle_layers(n_layers)
    try:
        chosen = []
        for piece in text.split(","):
            first, _, last = piece.partition("-")
            chosen += range(int(first), int(last or first) + 1)
    except ValueError:
        raise UsageError(f"layers '{text}' is no range: write 2-3 or 1,4") from None
    return check_layers(chosen, n_layers)
