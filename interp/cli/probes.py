"""probes: linear probes on the residual stream, trained without the pair's trigger."""

import argparse
from dataclasses import asdict

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


def register(commands) -> None:
    """Add this area's command to the parser."""
    probes = commands.add_parser(
        "probes", help="linear probes trained without the trigger: do they see it, and in whom"
    )
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
    probes.set_defaults(command=_probes)


def _probes(arguments: argparse.Namespace) -> None:
    from interp.probes.question import KIND, ProbeQuestion
    from interp.probes.sets import load_contrasts, load_others
    from interp.prompts.sets import load_prompt_set

    spec = named_spec(arguments)
    name = arguments.prompts or spec.prompt_set
    load_prompt_set(name)
    question = ProbeQuestion(
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
    from interp.gallery.after.probes import words
    from interp.models.load import open_plan
    from interp.probes import measure
    from interp.probes.material import material

    out = folder_of(arguments.out, KIND, spec.name)
    plan = plan_named(arguments)
    material(plan, question)
    measure.control_of(plan, question)
    with resulting(arguments) as found:
        with run_at(out, KIND, {"pair": asdict(spec), **asdict(question)}) as writer:
            run = measure.run(open_plan(plan, report), question, writer, report)
        for line in words(run):
            print(line)
        print(f"probes of '{spec.name}' written to {out}")
        found.value = told_of(run, "auroc", "excess", "band") | {"words": words(run)}
