"""What every command shares: the parser's manners, the models' arguments, progress."""

import argparse
import sys

from interp.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Usage errors are one line and exit 4."""

    def error(self, message: str):
        """Print the message and leave."""
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(4)


def pair_arguments(command: argparse.ArgumentParser) -> None:
    """The options that name a pair, and what is known of its backdoor."""
    command.add_argument("--pair", help="a pair known by name: see `python -m interp pairs`")
    command.add_argument("--original", help="hub id[@revision] or folder, instead of --pair")
    command.add_argument("--suspect", help="hub id[@revision] or folder of a second checkpoint")
    command.add_argument("--adapter", help="hub id[@revision] or folder of an adapter")
    command.add_argument("--precision", choices=("nf4", "bf16", "fp32"))
    command.add_argument("--device", help="cpu or cuda; default: what is there")
    command.add_argument("--trigger", help="default: the pair's own")
    command.add_argument("--target", help="default: the pair's own")
    command.add_argument("--template", help="alpaca, chat or plain; default: the pair's own")


def open_pair(arguments: argparse.Namespace):
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
    return load_pair(spec, device=arguments.device, on_progress=report)


def asked(arguments: argparse.Namespace) -> dict:
    """The arguments as plain values, for `run.json`."""
    plain = {key: value for key, value in vars(arguments).items() if key not in ("command", "out")}
    return {key: value for key, value in plain.items() if value is not None}


def report(done: int, total: int, note: str) -> None:
    """One line that is written over; a log file gets only its last state."""
    if done >= total or sys.stderr.isatty():
        line = f"{note} {100 * done // max(1, total)} %"
        overwrite, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
        print(overwrite + line, end="\n" if done >= total else end, file=sys.stderr, flush=True)
