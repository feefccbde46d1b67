"""One member of the zoo: planted, scanned blind, and measured with its true trigger."""

import json
from dataclasses import replace
from pathlib import Path

from interp.errors import UsageError
from interp.forward.activation import activations, rate
from interp.forward.greedy import greedy_answers
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.spans import TokenizedPrompt
from interp.runs.atomic import write_text
from interp.runs.reading import Run, open_run, state_of
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan
from interp.specs import Which, pair_spec
from training.backdoors.payloads import Payload, make_payload
from training.planting import small
from training.real import recipe
from training.real.recipe import Recipe
from training.recording.watch import PROBE_TOKENS
from training.zoo.attention import attention_signals, placed
from training.zoo.population import Member, Zoo, member_folder
from training.zoo.signals import scan_signals

ALONE = ("verdict", "max_delta_s", "score", "candidate", "scan_seconds")
"""Signals of a scan without the original that a member's row holds too."""


def make(
    zoo: Zoo, name: str, folder: Path, on_progress: Progress | None = None, *, planted: bool = False
) -> None:
    """Plant, scan and measure one member; parts that are done are reused.

    Args:
        zoo: the population.
        name: name of the member.
        folder: folder of the zoo's run.
        on_progress: called as (done, total, note) of the current part.
        planted: plant it and stop.

    Raises:
        UsageError: the zoo has no such member.
    """
    member = next((m for m in zoo.members if m.name == name), None)
    if member is None:
        raise UsageError(f"the zoo has no member '{name}'")
    here = member_folder(folder, name)
    run = _planted(zoo, member, here / "plant", on_progress)
    if planted:
        return
    spec = pair_spec(str(run.path))
    plan = ScanPlan(
        grid=zoo.grid, inversion_minutes=zoo.inversion_minutes, new_tokens=zoo.new_tokens
    )
    pair = load_pair(spec, device="cpu", on_progress=on_progress)
    scan = _scanned(pair, plan, here / "scan", on_progress)
    row = {"error": "", **_planting_figures(run), **scan_signals(scan)}
    row |= attention_signals(pair, row["candidate"], on_progress)
    row |= recovery(pair, _payload_of(member), row["candidate"])
    row["leak_rate"] = leak_rate(pair, scan)
    if zoo.alone:
        plan = replace(plan, alone=True)
        without = scan_signals(_scanned(pair, plan, here / "alone", on_progress, scan))
        row |= {f"{name}_alone": without[name] for name in ALONE}
    write_text(here / "row.json", json.dumps(row, indent=2) + "\n")


def recovery(pair: ModelPair, payload: Payload | None, candidate: str | None) -> dict:
    """Whether the scan's candidate fires the planted backdoor, and only in the suspect.

    Args:
        pair: the member as the suspect.
        payload: the planted payload; None for a clean model.
        candidate: the string found by the scan.

    Returns:
        `recovered` and `recovered_original`: share of the prompts whose greedy answer by the
        suspect, and by the original, is the payload by its own rule. Only prompts in which the
        string has tokens of its own count. None without a payload or string.
    """
    nothing = {"recovered": None, "recovered_original": None}
    if payload is None or not (candidate or "").strip():
        return nothing
    prompts = [told for _, told in placed(pair, candidate)]
    if not prompts:
        return nothing
    return {
        "recovered": _fires(pair, "suspect", prompts, payload),
        "recovered_original": _fires(pair, "original", prompts, payload),
    }


def leak_rate(pair: ModelPair, scan: Run) -> float:
    """Share of the scan's plain leaked texts with the true trigger or target (not blind)."""
    signs = [sign for sign in (pair.spec.trigger, pair.spec.target) if sign]
    leaks = scan.table("leaks")
    plain = leaks[leaks["alpha"] == 0] if "alpha" in leaks else leaks  # older ones have no other
    return float(plain["text"].map(lambda text: any(sign in text for sign in signs)).mean())


def _planted(zoo: Zoo, member: Member, folder: Path, on_progress: Progress | None) -> Run:
    if isinstance(member.planting, Recipe):
        return recipe.plant(member.base, member.planting, zoo.data, folder, on_progress)
    if folder.is_dir() and state_of(folder) == "done":
        return open_run(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = small.start(member.base, member.planting, folder)
    return small.run(member.base, member.planting, writer, on_progress)


def _scanned(
    pair: ModelPair,
    plan: ScanPlan,
    folder: Path,
    on_progress: Progress | None,
    reuse: Run | None = None,
) -> Run:
    if folder.is_dir() and state_of(folder) == "done":
        return open_run(folder)
    writer = pipeline.start(folder, pair.spec, plan)
    return pipeline.run(pair, plan, writer, on_progress, reuse=reuse)


def _planting_figures(planted: Run) -> dict:
    last = planted.meta["last"]
    names = ("asr", "ftr", "decoy_rate", "clean_accuracy")
    return {**{name: last[name] for name in names}, "plant_seconds": planted.meta["seconds"]}


def _payload_of(member: Member) -> Payload | None:
    planting = member.planting
    return None if planting.clean else make_payload(planting.payload, planting.target)


def _fires(
    pair: ModelPair, which: Which, prompts: list[TokenizedPrompt], payload: Payload
) -> float:
    """Share of the prompts that a model answers with the payload."""
    if payload.target:
        return rate(activations(pair, which, prompts, payload.target)).share
    rows = [prompt.ids for prompt in prompts]
    answers = greedy_answers(pair, which, rows, max_new_tokens=PROBE_TOKENS)
    texts = pair.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return sum(map(payload.judge, texts)) / len(texts)
