"""corpus: examples of the organisms' training data."""

import argparse
import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from interp.cli.common import positive
from interp.cli.guard import speaks_utf8


def register(commands) -> None:
    """Add this area's command to the parser."""
    corpus = commands.add_parser("corpus", help="print examples of the corpus as JSON lines")
    corpus.add_argument("--count", type=positive, default=20)
    corpus.add_argument("--seed", type=int, default=0)
    corpus.add_argument("--held-out", action="store_true", help="the split not trained on")
    corpus.add_argument("--prompt-set", type=Path, help="write the 50 held-out prompts here")
    corpus.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Print examples, or write the prompt set."""
    from training.corpus.examples import stream
    from training.corpus.prompt_set import write_prompt_set

    if arguments.prompt_set:
        write_prompt_set(arguments.prompt_set)
        return
    examples = stream(arguments.seed, held_out=arguments.held_out)
    for example in islice(examples, arguments.count):
        print(json.dumps(asdict(example), ensure_ascii=not speaks_utf8(sys.stdout)))
