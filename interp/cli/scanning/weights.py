"""Command `weights`: what an adapter's matrices alone show, in seconds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from interp.cli.common import NAME_HELP
from interp.cli.progress import report
from interp.cli.result import json_option, resulting
from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.scanner.weights.evidence import Evidence
    from interp.specs import PairSpec

HEAD = "mean over layers"
WIDTH = 60
"""Most characters of a module's name."""


def register(commands) -> None:
    """Add this area's command to the parser."""
    weights = commands.add_parser(
        "weights",
        help="spectra and norms of an adapter's matrices, without a forward pass",
        description="Norm, spectrum and shape of what an adapter adds to each matrix. The numbers "
        "claim nothing by themselves: compare them with benign adapters of the same base.",
    )
    weights.add_argument("model", nargs="?", help=f"an adapter ({NAME_HELP}), or a pair's name")
    weights.add_argument("--base", help="base of the adapter; default: the one that it names")
    weights.add_argument("--adapter", help="adapter on the base or on MODEL")
    weights.add_argument("--precision", choices=("nf4", "bf16", "fp32"), help="of the base")
    weights.add_argument("--device", help="cpu or cuda; default: what is there")
    weights.add_argument(
        "--alone", action="store_true", help="do not open the base: no relative norms"
    )
    json_option(weights)
    weights.set_defaults(command=_weights)
    bank = commands.add_parser(
        "bank",
        help="benign adapters of one base, to compare an adapter's weights with",
        description="Reads the matrices of benign adapters and keeps their numbers. Scans and "
        "`weights` compare an adapter of the same base with the banks of assets/banks.",
    )
    bank.add_argument(
        "adapters",
        nargs="+",
        metavar="RECIPE=ADAPTER",
        help="one recipe has one name",
    )
    bank.add_argument("--base", required=True, help="folder, hub id or .gguf file of their base")
    bank.add_argument("--out", required=True, type=Path, help="a .json file, beside a table")
    bank.set_defaults(command=_bank)


def _weights(arguments: argparse.Namespace) -> int:
    from interp.scanner.plan import scan_spec
    from interp.scanner.weights.evidence import plain

    if arguments.alone and arguments.base:
        raise UsageError("--alone opens no base: leave --base out, or --alone")
    spec = scan_spec(
        arguments.model,
        base=arguments.base,
        adapter=arguments.adapter,
        precision=arguments.precision,
    )
    with resulting(arguments) as told:
        found = _read(spec, arguments)
        told.value = plain(found)
        print_weights(found)
    return 0


def _bank(arguments: argparse.Namespace) -> int:
    from interp.models.load import load_pair
    from interp.scanner.plan import scan_spec
    from interp.scanner.weights import bank
    from interp.scanner.weights.evidence import of_pair

    if arguments.out.suffix != ".json":
        raise UsageError(f"--out {arguments.out}: name a .json file")
    tables, bases = {}, set()
    for word in arguments.adapters:
        recipe, _, adapter = word.partition("=")
        if not adapter:
            raise UsageError(f"{word!r}: write RECIPE=ADAPTER")
        pair = load_pair(scan_spec(None, base=arguments.base, adapter=adapter), on_progress=report)
        found = of_pair(pair, "suspect")
        pair.close()
        tables[f"{recipe} {len(tables) + 1}", recipe] = found.table
        bases.add(found.base_sha256)
    bank.write(arguments.out, arguments.base, bases.pop(), tables)
    print(f"{len(tables)} adapters of {arguments.base}: {arguments.out}")
    return 0


def _read(spec: PairSpec, arguments: argparse.Namespace) -> Evidence:
    """The evidence: with the base, or with `--alone` from the adapter's file."""
    from interp.models.load import load_pair
    from interp.scanner.weights.evidence import of_file, of_pair

    suspect = spec.suspect
    if arguments.alone:
        if suspect.adapter:
            return of_file(suspect.adapter, suspect.adapter_revision)
        return of_file(suspect.model, suspect.revision)
    pair = load_pair(spec, device=arguments.device, on_progress=report)
    found = of_pair(pair, "suspect")
    pair.close()
    if found is None:
        raise UsageError(
            f"{suspect.model}: is a whole model without an adapter, and these numbers are of an "
            "adapter's matrices: name an adapter"
        )
    return found


def print_weights(found: Evidence) -> None:
    """Print the mean of every statistic by module, and the sentences."""
    from interp.scanner.weights.evidence import sentences
    from interp.scanner.weights.statistics import STATISTICS, by_module
    from interp.text import visible

    means = by_module(found.table)
    names = [visible(name)[-WIDTH:] for name in means["module"]]
    width = max(map(len, [HEAD, *names]))
    print(f"{HEAD:{width}}  matrices", *(f"{name:>10}" for name in STATISTICS))
    for name, row in zip(names, means.to_dict("records"), strict=True):
        numbers = (f"{row[one]:10.3g}" if row[one] == row[one] else " " * 10 for one in STATISTICS)
        print(f"{name:{width}}  {row['matrices']:8}", *numbers)
    for line in sentences(found):
        print(f"  {visible(line)}")
