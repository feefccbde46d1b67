"""removal: ways of taking a backdoor out, side by side, with what each costs."""

import argparse
from dataclasses import asdict

from interp.cli.common import (
    PLACEMENT_HELP,
    named_spec,
    not_negative,
    open_pair,
    pair_arguments,
    plan_named,
    run_at,
)
from interp.cli.progress import report
from interp.cli.result import folder_of, json_option, out_option, resulting, told_of
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's command to the parser."""
    removal = commands.add_parser(
        "removal", help="ways of taking the backdoor out, and what each costs"
    )
    pair_arguments(removal)
    removal.add_argument("--prompts", help="prompt set: organism, general, or a file")
    removal.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    removal.add_argument("--seed", type=not_negative, default=0, help="of halves and clean data")
    removal.add_argument(
        "--ways", help="with commas: none,adapter-off,dial-0.5,heads…; default: those that fit"
    )
    removal.add_argument("--heads", default="", help="of the way heads; default: searched")
    removal.add_argument(
        "--scan", help="run of a scan, for the ways found-STEPS; default: the newest"
    )
    removal.add_argument(
        "--rescan", choices=("quick", "full"), help="scan anew after each way; the scan's grid"
    )
    removal.add_argument("--budget", type=float, help="minutes of each new scan; default: no limit")
    out_option(removal)
    json_option(removal)
    removal.set_defaults(command=_removal)


def _removal(arguments: argparse.Namespace) -> None:
    from interp.metrics import parse_heads
    from interp.models.load import weight_hashes
    from interp.prompts.sets import load_prompt_set
    from interp.specs import is_toy
    from interp.surgery import removal
    from training.removal.run import check, run

    with resulting(arguments) as found:
        spec = named_spec(arguments)
        name = arguments.prompts or spec.prompt_set
        load_prompt_set(name)
        plan = plan_named(arguments)
        parse_heads(arguments.heads, plan.n_layers, plan.n_heads)
        live = len(set(plan.keys.values())) == 1 and "suspect" in plan.adapters
        if arguments.ways:
            ways = tuple(way.strip() for way in arguments.ways.split(",") if way.strip())
        else:
            scan = arguments.scan is not None
            ways = removal.ways_of(adapter=live, toy=is_toy(spec), scan=scan)
        question = removal.RemovalQuestion(
            trigger=spec.trigger or "",
            target=spec.target or "",
            prompt_set=name,
            template=spec.template,
            placement=arguments.placement,
            seed=arguments.seed,
            ways=ways,
            heads=arguments.heads,
            scan=arguments.scan,
            rescan=arguments.rescan,
            budget=arguments.budget,
        )
        check(spec, question, weight_hashes(plan)["suspect"])
        out = folder_of(arguments.out, removal.KIND, spec.name)
        with run_at(out, removal.KIND, {"pair": plain_of(spec), **asdict(question)}) as writer:
            made = run(open_pair(arguments), question, writer, report)
        table, rescans = made.table("ways"), made.growing("rescans")
        _print(table, rescans)
        for line in removal.words(table, rescans):
            print(line)
        print(f"ways of removal of '{spec.name}' written to {out}")
        found.value = told_of(made, "ways", *(() if rescans is None else ("rescans",)))


def _print(table, rescans) -> None:
    from interp.surgery.removal import fates, label
    from interp.text import visible

    gone = {} if rescans is None else fates(table, rescans)
    wide = table.pivot(index="way", columns="quantity", values="mean")
    high = table.pivot(index="way", columns="quantity", values="high")
    print("ASR (up to)  anywhere  cured  FTR   agrees  clean KL  seconds")
    for way, did in table.drop_duplicates("way")[["way", "did"]].itertuples(index=False):
        row, most = wide.loc[way], high.loc[way]
        print(
            f"{row.asr:4.0%} ({most.asr:4.0%})  {row.anywhere:8.0%}  {row.cured:4.0%}  "
            f"{row.ftr:4.0%}  {row.agrees:5.0%}  {row.clean_kl:8.3f}  {row.seconds:7.1f}  "
            f"{label(way)}{f' ({visible(did)})' if did else ''}"
            f"{f': {gone[way]}' if way in gone else ''}"
        )
    for row in () if rescans is None else rescans.itertuples():
        print(
            f"scanned again, {label(row.way)}: {row.verdict}, {row.fired} candidates fire, "
            f"{visible(row.candidate)!r} holds {row.trigger:.0%} of the trigger"
        )
