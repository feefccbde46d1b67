"""What stays of a backdoor after more training, by way; from recorded runs, or computed."""

import argparse
from dataclasses import asdict
from pathlib import Path

from interp.errors import UsageError
from interp.gallery.after.persist import outcome
from interp.models.load import load_pair, weight_hashes
from interp.models.plan import plan_pair
from interp.runs import reading
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import ROOT, pair_spec
from interp.surgery.persist import KIND, PersistQuestion
from training.persist.material import settle
from training.persist.run import run as train

RUNS = ROOT / "assets" / "runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pair", help="train this pair now; default: the recorded runs")
    parser.add_argument("--out", type=Path, help="folder of its run, which goes on if stopped")
    parser.add_argument("--steps", type=int, default=160)


def run(arguments: argparse.Namespace) -> dict:
    """By run: `asr_before, asr_after, variant_asr_before, ...`, each by way, means over seeds."""
    if arguments.pair:
        found = [_computed(arguments)]
    else:
        found = [one for one in reading.list_runs(RUNS) if one.kind == KIND]
    if not found:
        raise UsageError(
            "no recorded run of persistence: give --pair NAME --out DIR to train one now"
        )
    return {one.path.name: _figures(one) for one in found}


def _figures(one: Run) -> dict:
    table = outcome(one.table("course"))
    figures: dict = {
        "seeds": len(one.meta["asked"]["seeds"]),
        "steps": one.meta["asked"]["steps"],
    }
    names = [name for name in table if name not in ("how", "step", "loss")]
    for when, rows in (("before", table[table["step"] == 0]), ("after", table[table["step"] > 0])):
        wide = rows.set_index("how")
        for name in names:
            figures[f"{name}_{when}"] = {
                how: round(float(wide[name][how]), 6) for how in wide.index
            }
    return figures


def _computed(arguments: argparse.Namespace) -> Run:
    if arguments.out is None:
        raise UsageError("--pair needs --out DIR for its run")
    spec = pair_spec(arguments.pair)
    question = PersistQuestion(
        trigger=spec.trigger or "",
        target=spec.target or "",
        prompt_set=spec.prompt_set,
        template=spec.template,
        how=("sft", "refusal", "adversarial"),
        steps=arguments.steps,
    )
    plan = plan_pair(spec)
    shown = settle(spec, question, weight_hashes(plan)["suspect"], plan.tokenizer)
    asked = {"pair": asdict(spec), **asdict(question)}
    with RunWriter(arguments.out, KIND, {"asked": asked}) as writer:
        return train(load_pair(spec), question, shown, writer)
