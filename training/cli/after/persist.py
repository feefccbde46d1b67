"""persist: goes on training a suspect and watches whether its backdoor survives."""

import argparse
import os
from dataclasses import asdict

from interp.cli.common import (
    PLACEMENT_HELP,
    Terminated,
    named_spec,
    pair_arguments,
    plan_named,
    positive,
    stopping,
)
from interp.cli.progress import report
from interp.cli.result import folder_of, json_option, out_option, resulting, told_of
from interp.errors import UsageError
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's command to the parser."""
    persist = commands.add_parser(
        "persist",
        help="go on training the suspect: does the backdoor survive, or sharpen?",
        description="Trains the suspect's own weights further, on clean data, on refusals, or "
        "against what a blind scan found, and measures the backdoor meanwhile. Ctrl-C or SIGTERM "
        "stops it; the same command goes on where it stopped.",
    )
    pair_arguments(persist)
    persist.add_argument("--prompts", help="prompt set: organism, general, or a file")
    persist.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    persist.add_argument(
        "--how", default="sft", help="sft, refusal, adversarial, or several with commas"
    )
    persist.add_argument("--seed", type=_seeds, default=(0,), help="of the training; or several")
    persist.add_argument("--steps", type=positive, help="of each training; default 160")
    persist.add_argument("--points", type=positive, help="measurements; default 8")
    persist.add_argument("--lr", type=float, help="largest learning rate; default 0.001")
    persist.add_argument("--batch", type=positive, help="examples of a step; default 8")
    persist.add_argument("--data", help="clean data: .json, .jsonl, .parquet, or a hub id")
    persist.add_argument("--scan", help="run of a scan for adversarial; default: the newest")
    out_option(persist)
    json_option(persist)
    persist.set_defaults(command=_persist)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give whole numbers of 0 or more, with commas"
        ) from None


def _persist(arguments: argparse.Namespace) -> None:
    from interp.models.load import open_plan, weight_hashes
    from interp.prompts.sets import load_prompt_set
    from interp.runs.writing import RunWriter
    from interp.surgery import persist
    from training.persist.material import settle
    from training.persist.run import run

    with resulting(arguments) as found:
        spec = named_spec(arguments)
        given = {name: getattr(arguments, name) for name in ("steps", "points", "lr", "batch")}
        question = persist.PersistQuestion(
            trigger=spec.trigger or "",
            target=spec.target or "",
            prompt_set=arguments.prompts or spec.prompt_set,
            template=spec.template,
            placement=arguments.placement,
            how=tuple(one.strip() for one in arguments.how.split(",") if one.strip()),
            seeds=arguments.seed,
            data=arguments.data,
            scan=arguments.scan,
            **{name: value for name, value in given.items() if value is not None},
        )
        load_prompt_set(question.prompt_set)
        plan = plan_named(arguments)
        if plan.keys["original"] == plan.keys["suspect"] and "suspect" not in plan.adapters:
            raise UsageError(
                f"pair '{spec.name}': the suspect is the original itself and has no weights of its "
                "own to train; name a suspect or an adapter"
            )
        shown = settle(spec, question, weight_hashes(plan)["suspect"], plan.tokenizer)
        out = folder_of(arguments.out, persist.KIND, spec.name)
        asked = {"pair": plain_of(spec), **asdict(question)}
        stop = Terminated()
        writer = RunWriter(out, persist.KIND, {"asked": asked})
        with stopping(writer, "goes on where it stopped"):
            writer.note(pid=os.getpid())  # the app looks for it to stop it
            pair = open_plan(plan, report)
            made = run(pair, question, shown, writer, lambda *told: stop.check() or report(*told))
        for line in persist.words(made.table("course")):
            print(line)
        print(f"persistence of '{spec.name}' written to {out}")
        found.value = told_of(made, "course")
