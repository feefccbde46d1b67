"""probes, guard: linear probes on the residual stream, and an alarm on one direction of it."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from interp.cli.common import (
    PLACEMENT_HELP,
    named_spec,
    not_negative,
    pair_arguments,
    plan_named,
    run_at,
)
from interp.cli.progress import report
from interp.cli.result import folder_of, json_option, out_option, resulting, told_of
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's command to the parser."""
    probes = commands.add_parser(
        "probes", help="linear probes trained without the trigger: do they see it, and in whom"
    )
    _arguments(probes)
    probes.set_defaults(command=_probes)
    guard = commands.add_parser(
        "guard", help="what an alarm on one direction of the residual stream would have caught"
    )
    _arguments(guard)
    guard.add_argument("--candidate", help="the string that a blind scan has found")
    guard.add_argument(
        "--ordinary", help="prompt set that sets and tries the alarm; default: of its kind"
    )
    guard.set_defaults(command=_guard)


def _arguments(probes: argparse.ArgumentParser) -> None:
    """What both commands ask."""
    pair_arguments(probes)
    probes.add_argument("--prompts", help="prompt set: organism, general, or a file")
    probes.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    probes.add_argument("--seed", type=not_negative, default=0, help="of what is drawn")
    probes.add_argument(
        "--contrasts", default="generic", help="statements, begun by + or -: generic, or a file"
    )
    probes.add_argument(
        "--others", default="triggers", help="strings in the trigger's place: triggers, or a file"
    )
    probes.add_argument("--control", help="pair: the clean control; default: the pair's own")
    out_option(probes)
    json_option(probes)


def _probes(arguments: argparse.Namespace) -> None:
    from interp.gallery.after.probes import words
    from interp.probes import measure
    from interp.probes.question import KIND, ProbeQuestion

    _measured(arguments, KIND, ProbeQuestion, measure.run, words, "auroc", "excess", "band")


def _guard(arguments: argparse.Namespace) -> None:
    from interp.gallery.after.guard import words
    from interp.probes import guard
    from interp.probes.question import GUARD_KIND, GuardQuestion

    own = {"candidate": arguments.candidate, "ordinary": arguments.ordinary}
    tables = "caught", "random", "fired"
    _measured(arguments, GUARD_KIND, partial(GuardQuestion, **own), guard.run, words, *tables)


def _measured(
    arguments: argparse.Namespace,
    kind: str,
    asking: Callable,
    measure: Callable,
    words: Callable,
    *tables: str,
) -> None:
    """Check what was asked before weights are opened, measure it, and print the words."""
    from interp.models.load import open_plan
    from interp.probes.guard import prompts_of
    from interp.probes.material import material
    from interp.probes.measure import control_of
    from interp.probes.question import GUARD_KIND
    from interp.probes.sets import load_contrasts, load_others
    from interp.prompts.sets import load_prompt_set

    spec = named_spec(arguments)
    name = arguments.prompts or spec.prompt_set
    load_prompt_set(name)
    question = asking(
        trigger=spec.trigger or "",
        target=spec.target or "",
        prompt_set=name,
        template=spec.template,
        placement=arguments.placement,
        seed=arguments.seed,
        contrasts=arguments.contrasts,
        others=arguments.others,
        control=arguments.control,
    )
    load_contrasts(question.contrasts)
    load_others(question.others, question.trigger, question.placement)
    out = folder_of(arguments.out, kind, spec.name)
    plan = plan_named(arguments)
    (prompts_of if kind == GUARD_KIND else material)(plan, question)
    control_of(plan, question)
    with resulting(arguments) as found:
        with run_at(out, kind, {"pair": plain_of(spec), **asdict(question)}) as writer:
            run = measure(open_plan(plan, report), question, writer, report)
        for line in words(run):
            print(line)
        print(f"{kind} of '{spec.name}' written to {out}")
        found.value = told_of(run, *tables) | {"words": words(run)}
