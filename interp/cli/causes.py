"""causal, surgery, dial, concentration: what carries the backdoor, and what is left without it."""

import argparse
from dataclasses import asdict
from pathlib import Path

from interp.cli.common import (
    PLACEMENT_HELP,
    named_spec,
    open_pair,
    pair_arguments,
    plan_named,
    run_at,
)
from interp.cli.progress import report
from interp.cli.result import (
    folder_of,
    json_option,
    out_option,
    resulting,
    told_of,
    write_text,
)
from interp.errors import UsageError
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's commands to the parser."""
    causes = commands.add_parser("causal", help="every head's part in the backdoor, measured")
    _common(causes, dialed=True)
    causes.add_argument(
        "--metric", default="", help="with commas; default all: delta_rel,patching_effect…"
    )
    causes.add_argument("--prompt", type=int, help="one conversation of the set (0-based)")
    causes.add_argument("--text", help="an instruction of your own instead of the set")
    causes.add_argument("--ablation", default="mean", help="mean, positions, zero or resample")
    causes.add_argument("--rows", default="user", help="of L_attn: user or instruction")
    causes.add_argument("--indirect", default="replace", help="causal indirect effect: or add")
    causes.set_defaults(command=_causal)

    surgery = commands.add_parser("surgery", help="the suspect without some of its heads")
    _common(surgery, dialed=True)
    surgery.add_argument("--heads", default="", help="to replace: L4H5,L3H6")
    surgery.add_argument(
        "--search", action="store_true", help="find the fewest heads instead, by several rankings"
    )
    surgery.add_argument("--method", default="mean", help="mean, positions, zero or patch")
    surgery.set_defaults(command=_surgery)

    dial = commands.add_parser("dial", help="the suspect's adapter at other strengths")
    _common(dial)
    dial.add_argument(
        "--strengths", help="with commas; 0 is the base, 1 the suspect; default: -1 to 2"
    )
    dial.set_defaults(command=_dial)

    spread = commands.add_parser(
        "concentration", help="how few heads and layers an effect sits in, over causal runs"
    )
    spread.add_argument("runs", nargs="+", type=Path, help="of several injections of one trigger")
    spread.add_argument("--metric", default="patching_effect,indirect", help="with commas")
    spread.add_argument("--csv", type=Path, help="write the table there")
    json_option(spread)
    spread.set_defaults(command=_concentration)


def _common(command: argparse.ArgumentParser, *, dialed: bool = False) -> None:
    pair_arguments(command, dialed=dialed)
    command.add_argument("--prompts", help="prompt set: organism, general, or a file")
    command.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    command.add_argument("--seed", type=int, default=0, help="of what is drawn")
    out_option(command)
    json_option(command)


def _asked(arguments: argparse.Namespace) -> tuple:
    """The pair's spec, and the fields that all questions of this area share."""
    from interp.prompts.sets import load_prompt_set

    spec = named_spec(arguments)
    name = arguments.prompts or spec.prompt_set
    load_prompt_set(name)
    return spec, {
        "trigger": spec.trigger or "",
        "target": spec.target or "",
        "prompt_set": name,
        "template": spec.template,
        "placement": arguments.placement,
        "seed": arguments.seed,
    }


def _causal(arguments: argparse.Namespace) -> None:
    from interp.causal.question import CausalQuestion
    from interp.metrics import measures_of

    spec, common = _asked(arguments)
    question = CausalQuestion(
        **common,
        prompt=arguments.prompt,
        text=arguments.text,
        ablation=arguments.ablation,
        rows=arguments.rows,
        indirect=arguments.indirect,
        measures=measures_of(arguments.metric),
    )
    from interp.causal import measure as causal_measure

    asked = {"pair": plain_of(spec), **asdict(question)}
    out = folder_of(arguments.out, causal_measure.KIND, spec.name)
    with resulting(arguments) as found:
        with run_at(out, causal_measure.KIND, asked) as writer:
            run = causal_measure.run(open_pair(arguments), question, writer, report)
        _print_heads(run, [name for name in arguments.metric.split(",") if name.strip()])
        print(f"heads of '{spec.name}' written to {out}")
        found.value = told_of(run, "baseline", "heads")


def _surgery(arguments: argparse.Namespace) -> None:
    from interp.metrics import format_heads, parse_heads
    from interp.surgery.run import KIND, SurgeryQuestion, operate
    from interp.surgery.search_run import SEARCH_KIND, SearchQuestion, search

    spec, common = _asked(arguments)
    if bool(arguments.heads.strip()) == arguments.search:
        raise UsageError("say which heads: either --heads L4H5,L3H6, or --search for the fewest")
    if arguments.search:
        question = SearchQuestion(**common, method=arguments.method)
        kind, run_it, tell, table = SEARCH_KIND, search, _print_search, "sets"
    else:
        config = plan_named(arguments).config  # check heads before weights are read
        heads = parse_heads(arguments.heads, config.num_hidden_layers, config.num_attention_heads)
        question = SurgeryQuestion(**common, heads=format_heads(heads), method=arguments.method)
        kind, run_it, tell, table = KIND, operate, _print_surgery, "summary"
    out = folder_of(arguments.out, kind, spec.name)
    with resulting(arguments) as found:
        with run_at(out, kind, {"pair": plain_of(spec), **asdict(question)}) as writer:
            run = run_it(open_pair(arguments), question, writer, report)
        tell(run)
        print(f"surgery on '{spec.name}' written to {out}")
        found.value = told_of(run, table)


def _dial(arguments: argparse.Namespace) -> None:
    from interp.surgery import dial

    spec, common = _asked(arguments)
    given = arguments.strengths
    try:
        strengths = tuple(map(float, given.split(","))) if given is not None else dial.STRENGTHS
    except ValueError:
        raise UsageError(f"strengths '{given}': give numbers with commas, as 0,0.5,1") from None
    question = dial.DialQuestion(**common, strengths=strengths)
    out = folder_of(arguments.out, dial.KIND, spec.name)
    with resulting(arguments) as found:
        with run_at(out, dial.KIND, {"pair": plain_of(spec), **asdict(question)}) as writer:
            run = dial.run(open_pair(arguments), question, writer, report)
        table = run.table("strengths")
        for quantity, label in dial.QUANTITIES.items():
            print(f"{label}:")
            for row in table[table["quantity"] == quantity].itertuples():
                print(f"  {row.strength:5g}  {row.mean:7.3f}  ({row.low:.3f} to {row.high:.3f})")
        print(f"strengths of '{spec.name}' written to {out}")
        found.value = told_of(run, "strengths")


def _concentration(arguments: argparse.Namespace) -> None:
    with resulting(arguments) as found:
        found.value = _spread(arguments)


def _spread(arguments: argparse.Namespace):
    """Print how concentrated the effects are; returns the table."""
    import pandas as pd

    from interp.causal.concentration import SPREADS, over_seeds
    from interp.metrics import CAUSAL_METRICS, PART_METRICS, WHOLE_METRICS, measures_of
    from interp.publish.csvtext import csv_text
    from interp.runs.reading import open_run

    opened = {run.path.name: run for run in map(open_run, arguments.runs)}
    names = [name.strip() for name in arguments.metric.split(",") if name.strip()]
    found = []
    if whole := [name for name in names if name in PART_METRICS | WHOLE_METRICS]:
        raise UsageError(f"metric '{whole[0]}' is of no head: choose one of single heads")
    for name in names:
        (measure,) = measures_of(name)
        table = over_seeds({key: run.table(measure) for key, run in opened.items()}, name)
        found.append(table.assign(metric=name))
        print(f"{CAUSAL_METRICS[name].label}:")
        for row in table.to_dict("records"):
            spread = f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            print(f"  {row['injection']:24} {spread:22} {SPREADS[row['quantity']]}")
    if not found:
        raise UsageError("--metric names no metric")
    whole = pd.concat(found)[["metric", *(name for name in found[0] if name != "metric")]]
    if arguments.csv:
        write_text(arguments.csv, csv_text(whole, float_format="%.4f"))
    return whole


def _print_heads(run, metrics: list[str]) -> None:
    """Print the first five heads of each metric, and the rates of the untouched suspect."""
    from interp.causal.measure import parts_of, whole_of
    from interp.causal.parts import part_sentences, whole_sentences
    from interp.metrics import CAUSAL_METRICS, head_name

    baseline, heads = run.table("baseline"), run.table("heads")
    print(
        f"{len(baseline)} conversations: the suspect says the target in "
        f"{baseline['said'].mean():.0%}; its loss {baseline['loss_suspect'].mean():.3f} nats per "
        f"token, the original's {baseline['loss_original'].mean():.3f}; KL(suspect ‖ original) "
        f"{baseline['kl'].mean():.1f} nats over the response"
    )
    for line in whole_sentences(whole_of(run)) + part_sentences(parts_of(run)):
        print(line)
    for name in metrics or CAUSAL_METRICS:
        if name not in heads:
            continue
        print(f"{CAUSAL_METRICS[name].label}:")
        for row in heads.nsmallest(5, f"{name}_rank").to_dict("records"):
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            spread = f"  ({low:.4f} to {high:.4f})" if low == low else ""
            print(f"  {head_name(row['layer'], row['head']):8}{row[name]:9.4f}{spread}")


def _print_surgery(run) -> None:
    from interp.surgery.run import OUTCOMES

    print(f"{run.meta['facts']['heads']}:")
    for row in run.table("summary").itertuples():
        spread = f"({row.after_low:.2f} to {row.after_high:.2f})" if row.n > 1 else ""
        if row.quantity == "kl_clean":
            spread = ""
        print(f"  {OUTCOMES[row.quantity]:52} {row.before:.3f} -> {row.after:.3f} {spread}")


def _print_search(run) -> None:
    facts, sets = run.meta["facts"], run.table("sets")
    all_heads = facts["n_layers"] * facts["n_heads"]
    print(f"clean accuracy of the unmodified suspect: {facts['goal_clean']:.1%}")
    if facts["chosen_on"] == facts["judged_on"]:
        print("too few prompts for two halves: sets are judged on the prompts that chose them")
    else:
        chosen, judged = len(facts["chosen_on"]), len(facts["judged_on"])
        print(f"chosen on {chosen} prompts, judged on the {judged} others:")
    if sets.empty:
        print("no set of heads was found that takes ASR under 5 % at this clean accuracy")
    for row in sets.to_dict("records"):
        print(
            f"  {row['n']:3} heads ({row['n'] / all_heads:.1%}) by {row['ranking']}: "
            f"ASR {row['said_asr']:.0%} ({row['said_asr_low']:.0%} to "
            f"{row['said_asr_high']:.0%}), target anywhere {row['said_asr_anywhere']:.0%}, clean "
            f"accuracy {row['said_clean_accuracy']:.1%}: {row['heads']}"
        )
    print(
        "published, with another intervention (heads' contributions subtracted at the last prompt "
        "token): 90 % less ASR by about 3 % of the heads (Backdoor Attribution)"
    )
