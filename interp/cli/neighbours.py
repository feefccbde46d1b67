"""neighbours: the heads most like one head, with the median over all pairs of heads."""

import argparse
from pathlib import Path

from interp.cli.common import named_spec, not_negative, open_pair, pair_arguments, positive
from interp.cli.progress import report
from interp.cli.result import json_option, resulting
from interp.errors import UsageError


def register(commands) -> None:
    """Add this area's command to the parser."""
    like = commands.add_parser("neighbours", help="the heads that look and lose most like one")
    pair_arguments(like)
    like.add_argument("--head", required=True, help="as L2H3")
    like.add_argument(
        "--run",
        type=Path,
        help="a run of heads or attention to take the maps from, instead of a pair; a pair that "
        "is recorded is not measured again",
    )
    like.add_argument("--count", type=positive, default=4, help="heads for each likeness")
    like.add_argument("--prompts", help="prompt set: organism, general, or a file")
    like.add_argument("--seed", type=not_negative, default=0, help="of the random strings")
    json_option(like)
    like.set_defaults(command=_neighbours)


def _neighbours(arguments: argparse.Namespace) -> None:
    from interp.interface.results import heads_like
    from interp.metrics import head_name

    with resulting(arguments) as found:
        study, source = _study(arguments)
        table = heads_like(study, arguments.head, arguments.count)
        head = arguments.head.strip().upper()
        print(f"heads like {head} of '{study.facts['pair']}' ({source}):")
        for by, rows in table.groupby("by", sort=False):
            named = ", ".join(
                f"{head_name(row.layer, row.head)} {row.value:.3f}" for row in rows.itertuples()
            )
            print(f"  {by:18} {named}  (median over all pairs {rows['median'].iloc[0]:.3f})")
        print("  pattern: mean cosine, 1 is the same; delta_rel: mean distance, 0 is the same")
        found.value = {"pair": study.facts["pair"], "head": head, "from": source, "heads": table}


def _study(arguments: argparse.Namespace) -> tuple:
    """The study to compare heads in, and where it is from, in words."""
    from interp.attention import saved, study
    from interp.interface.results import load_run, recorded
    from interp.prompts.question import AttentionQuestion
    from interp.prompts.sets import load_prompt_set

    if arguments.run is not None:
        if any(getattr(arguments, name) for name in ("named", "pair", "original")):
            raise UsageError("a run and a pair are named: give --run or a pair, not both")
        run = load_run(arguments.run).run
        return saved.load(run), f"run {run.path.name}"
    spec = named_spec(arguments)
    name = arguments.prompts or spec.prompt_set
    prompts = load_prompt_set(name)
    question = AttentionQuestion(
        trigger=spec.trigger or "", prompt_set=name, template=spec.template, seed=arguments.seed
    )
    run = saved.matching(recorded().values(), spec, question, prompts)
    if run is not None:
        return saved.load(run), f"run {run.path.name}"
    pair = open_pair(arguments)
    return study.measure(pair, prompts, question, on_progress=report), "measured now, not kept"
