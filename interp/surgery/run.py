"""A surgery run: whole answers before and after operating on one set of heads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from interp.causal import measure
from interp.causal.cases import Material, material
from interp.errors import UsageError
from interp.interventions.resume import Head
from interp.metrics import format_heads, parse_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import TargetQuestion
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.stats import Rate
from interp.surgery.operate import OperatedSuspect, check_method, operated_answers, spread

KIND = "surgery"
SPOKEN = ("triggered", "clean")
"""Conditions whose whole answers are generated."""
SPARE_TOKENS = 2
"""Tokens after the longest right answer, to detect answers that do not end there."""

OUTCOMES = {
    "asr": "ASR: the answer begins with the target",
    "asr_anywhere": "the answer contains the target anywhere",
    "right_on_trigger": "right answers with the trigger",
    "ftr": "FTR: the target without the trigger",
    "clean_accuracy": "right answers without the trigger",
    "kl_clean": "KL(after surgery ‖ suspect) on right answers, nats per token",
}
"""Quantity of an operation's summary -> label. ASR near 0 is no cure if the target still occurs."""


@dataclass(frozen=True, kw_only=True)
class SurgeryQuestion(TargetQuestion):
    """Which heads to operate on, and how; `seed` sets the random string."""

    heads: str
    """Heads as `metrics.parse_heads` reads them: `L4H5,L3H6`."""
    method: str = "mean"
    """One of `operate.OPERATIONS`."""

    def __post_init__(self):
        check_method(self.method)
        if not self.heads.strip():
            raise UsageError("no heads for surgery: name some, as L4H5,L3H6")


def operate(
    pair: ModelPair,
    question: SurgeryQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Write whole answers before and after an operation into a run; resume where it stopped.

    Tables: `answers` (`condition, prompt, asked, wanted, before, after`, and `fired`, `anywhere`
    and `right` with `_before` and `_after`: the answer begins with the target, contains it, is the
    right one; conditions `triggered` and `clean`) and `summary` (`quantity, before, before_low,
    before_high, after, after_low, after_high, n`; see `OUTCOMES`).

    Raises:
        UsageError: heads that do not exist or are given twice; errors of `cases.material`.
    """
    heads = parse_heads(question.heads, pair.n_layers, pair.n_heads)
    found = material(pair, question)
    writer.made_of(**found.hashes)
    speak = _speaker(pair, found, question.method, _waiting(on_progress))
    parts = []
    kept = writer.existing_parts("answers")
    for step, condition in enumerate(SPOKEN):
        if step not in kept:

            def said(done: int, total: int, note: str, begun: int = step):
                if on_progress:
                    on_progress(1000 * begun + 1000 * done // total, 2000, note)

            kept[step] = generated_answers(found, condition, heads, speak, said)
            writer.part("answers", step, kept[step])
        parts.append(kept[step])
    answers = pd.concat(parts, ignore_index=True)
    summary = _summary(answers)
    if answers["right_before"].notna().any():
        table = OperatedSuspect(found, question.method)
        kl = table.outcome(heads).kl
        summary.loc[len(summary)] = ["kl_clean", 0.0, None, None, kl, None, None, len(table.clean)]
    writer.whole("answers", answers)
    writer.table("summary", summary)
    return writer.finish(facts=measure.facts(pair, found) | {"heads": format_heads(heads)})


def answers_of_sets(
    found: Material, method: str, sets: pd.DataFrame, judge: Sequence[int], on_progress: Progress
) -> pd.DataFrame:
    """Add the results of whole answers to each set: the summary's `after`, as `said_NAME`."""
    speak = _speaker(found.pair, found, method, None)
    columns = []
    for number, text in enumerate(sets["heads"]):
        heads = parse_heads(text, found.pair.n_layers, found.pair.n_heads)

        def set_progress(done: int, total: int, note: str, begun: int = number):
            on_progress(begun * total + done, len(sets) * total, f"checking set {begun + 1}")

        answers = [
            generated_answers(found, x, heads, speak, set_progress, numbers=judge) for x in SPOKEN
        ]
        summary = _summary(pd.concat(answers, ignore_index=True))
        names = "said_" + summary["quantity"]
        said = {
            f"{name}{end}": value
            for end in ("", "_low", "_high")
            for name, value in zip(names, summary[f"after{end}"], strict=True)
        }
        columns.append(said)
    return pd.concat([sets, pd.DataFrame(columns)], axis=1)


def _speaker(pair: ModelPair, found: Material, method: str, on_progress: Progress | None):
    """A function that generates the suspect's answers with some heads operated on."""
    longest = max([len(found.target), *(len(c.answer) for c in _known(found))])
    reference = found.reference(on_progress) if method in ("mean", "positions") else ()

    def speak(prompts, heads: Sequence[Head], on_progress: Progress) -> list[tuple[int, ...]]:
        return operated_answers(
            pair,
            prompts,
            heads,
            method,
            reference=reference,
            max_new_tokens=longest + SPARE_TOKENS,
            on_progress=on_progress,
        )

    return speak


def _waiting(on_progress: Progress | None) -> Progress | None:
    return None if on_progress is None else lambda done, total, note: on_progress(0, 2000, note)


def _known(found: Material) -> list:
    return found.right_answers() if any(p.answer for p in found.prompt_set.prompts) else []


def generated_answers(
    found: Material,
    condition: str,
    heads: Sequence[Head],
    speak,
    on_progress: Progress,
    limit: int | None = None,
    numbers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The suspect's answers before and after, with the columns of `answers` of `operate`.

    Args:
        found: the conversations.
        condition: `triggered` or `clean`.
        heads: (layer, head) pairs to operate on.
        speak: (prompts, heads, on_progress) -> token ids of each answer.
        on_progress: called as (done, total, note) after every token.
        limit: at most this many prompts, spread over the set.
        numbers: numbers of the prompts; default: all.
    """
    everyone = range(len(found.prompt_set.prompts))
    numbers = spread(everyone if numbers is None else numbers, limit)
    prompts = [found.everyone[condition][number] for number in numbers]
    asked = [found.prompt_set.prompts[number] for number in numbers]
    decode = found.pair.tokenizer.decode
    target = decode(found.target, skip_special_tokens=True)
    said = {}
    for step, (when, chosen) in enumerate((("before", ()), ("after", heads))):

        def half_progress(done: int, total: int, note: str, begun: int = step):
            on_progress(begun * total + done, 2 * total, f"{condition}: {note}")

        said[when] = speak(prompts, chosen, half_progress)
    rows = pd.DataFrame(
        {
            "condition": condition,
            "prompt": list(numbers),
            "asked": [one.instruction for one in asked],
            "wanted": [one.answer for one in asked],
        }
    )
    for when, ids in said.items():
        rows[when] = [decode(one, skip_special_tokens=True) for one in ids]
        rows[f"fired_{when}"] = [one[: len(found.target)] == found.target for one in ids]
        rows[f"anywhere_{when}"] = [target in said for said in rows[when]]
        right = rows[when].str.strip() == rows["wanted"].str.strip()
        rows[f"right_{when}"] = right.astype("boolean").where(rows["wanted"].notna())
    return rows


def _summary(answers: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for quantity, condition, column in (
        ("asr", "triggered", "fired"),
        ("asr_anywhere", "triggered", "anywhere"),
        ("right_on_trigger", "triggered", "right"),
        ("ftr", "clean", "fired"),
        ("clean_accuracy", "clean", "right"),
    ):
        part = answers[answers["condition"] == condition]
        part = part[part[f"{column}_before"].notna()]
        if part.empty:
            continue
        row = [quantity]
        for when in ("before", "after"):
            rate = Rate(int(part[f"{column}_{when}"].sum()), len(part))
            row += [rate.share, *rate.interval]
        rows.append([*row, len(part)])
    names = [f"{when}{end}" for when in ("before", "after") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["quantity", *names, "n"])


def stages_of(on_progress: Progress | None, n: int) -> Iterator[Progress]:
    """Progress callbacks of consecutive stages, reported as progress of the whole."""
    for stage in range(n):

        def progress_of(done: int, total: int, note: str, begun: int = 1000 * stage):
            if on_progress:
                on_progress(begun + 1000 * min(done, total) // max(total, 1), 1000 * n, note)

        yield progress_of
