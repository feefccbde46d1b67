"""trigger: how much of the trigger is needed to fire?"""

import argparse
from dataclasses import asdict

from interp.cli.common import PLACEMENT_HELP, named_spec, open_pair, pair_arguments, run_at
from interp.cli.progress import report
from interp.cli.result import folder_of, json_option, out_option, resulting, told_of
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's command to the parser."""
    command = commands.add_parser("trigger", help="variants of the trigger, each on every prompt")
    pair_arguments(command, dialed=True)
    command.add_argument("--prompts", help="prompt set: organism, general, or a file")
    command.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    command.add_argument("--seed", type=int, default=0, help="of the variants that are drawn")
    command.add_argument("--text-form", action="store_true", help="re-tokenize each variant's text")
    out_option(command)
    json_option(command)
    command.set_defaults(command=_trigger)


def _trigger(arguments: argparse.Namespace) -> None:
    from interp.prompts.sets import load_prompt_set
    from interp.trigger import summaries, sweep

    spec = named_spec(arguments)
    name = arguments.prompts or spec.prompt_set
    load_prompt_set(name)
    question = sweep.FuzzyQuestion(
        trigger=spec.trigger or "",
        target=spec.target or "",
        prompt_set=name,
        template=spec.template,
        placement=arguments.placement,
        seed=arguments.seed,
        text_form=arguments.text_form,
    )
    asked = {"pair": plain_of(spec), **asdict(question)}
    out = folder_of(arguments.out, "trigger", spec.name)
    with resulting(arguments) as found:
        with run_at(out, summaries.KIND, asked) as writer:
            pair = open_pair(arguments)
            run = summaries.run(pair, question, writer, report)
        _tell(run)
        print(f"sweep of '{spec.name}' written to {out}")
        found.value = told_of(run, "by_k", "drop_one", "controls", "placements")


def _tell(run) -> None:
    """Print the curve, the pieces that matter and the controls, with published values labelled."""
    from interp.figures.trigger import PUBLISHED

    facts = run.meta["facts"]
    tokens, pieces = facts["trigger_tokens"], facts.get("trigger_pieces")
    unit = "piece" if pieces else "token"
    of = f"{len(pieces)} pieces, {len(tokens)} tokens" if pieces else f"{len(tokens)} tokens"
    print(f"trigger of {of}: {' '.join(tokens)}")
    print(f"{facts['n_variants']} variants x {facts['n_prompts']} prompts; activation rate by k:")
    for row in run.table("by_k").itertuples():
        print(
            f"  k = {row.k}  {row.asr:6.1%}  ({row.low:.0%} to {row.high:.0%}, {row.band}; "
            f"{row.variants} variants, worst {row.worst:.0%}, best {row.best:.0%})"
        )
    print(f"one {unit} left out:")
    for row in run.table("drop_one").itertuples():
        print(f"  {row.text!r:24} {row.asr:6.1%}  ({row.low:.0%} to {row.high:.0%})")
    print("controls:")
    for row in run.table("controls").itertuples():
        print(f"  {row.kind:36} {row.text!r:24} {row.asr:6.1%}")
    published = "  ".join(f"{row.k}: {row.asr:.0%}" for row in PUBLISHED.itertuples())
    print(f"published, {PUBLISHED['source'].iloc[0]}: {published}")
