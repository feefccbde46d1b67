"""What is measured of a suspect in training, and what it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.attention.heads import delta_rel, head_attention
from interp.causal.cases import Material
from interp.forward.conditions import build_prompts
from interp.forward.greedy import greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, converse
from interp.prompts.pieces import SCATTERED, pieces_in
from interp.prompts.random_strings import stand_in
from interp.prompts.sets import Prompt
from interp.prompts.spans import TokenizedPrompt
from interp.stats import Rate, wilson
from interp.surgery import removal
from interp.surgery.persist import PersistQuestion
from interp.trigger.sweep import FuzzyQuestion, sweep
from interp.trigger.variants import Variant, in_place, near
from training.backdoors.payloads import make_payload
from training.corpus.examples import Example
from training.persist.material import Requests
from training.recording.watch import PATTERN_PROMPTS, pattern_kl, top_ratio

VARIANT_PROMPTS = 10
"""Prompts, from the first, that each near variant is put into."""
REFUSAL_TOKENS = 8


@dataclass(frozen=True)
class Watched:
    """The prompts of a run, tokenized once, and the original's answers and attention on them."""

    question: PersistQuestion
    compared: removal.Basis
    variants: list[Variant]
    attention: pd.DataFrame
    """`heads.head_attention` of the original on the triggered prompts."""
    conversations: list[Conversation]
    """Triggered prompts with the target as their answer."""
    requests: dict[str, list[TokenizedPrompt]]
    """`refused` and `over_refused` -> harmful and harmless requests."""

    @property
    def triggered(self) -> list[TokenizedPrompt]:
        """Every prompt with the trigger."""
        return self.compared.found.everyone["triggered"]


def start(
    found: Material, question: PersistQuestion, requests: Requests, on_progress: Progress
) -> Watched:
    """Measure the original once.

    Args:
        found: the question's prompts.
        question: what is asked.
        requests: those that are kept out of training.
        on_progress: called as (done, total, note).
    """
    pair, triggered = found.pair, found.everyone["triggered"]
    compared = removal.basis(found, range(len(triggered)), on_progress)
    attention = head_attention(pair, triggered, models=("original",), on_progress=on_progress)
    chosen = triggered[:PATTERN_PROMPTS]
    kinds = {"refused": requests.harmful, "over_refused": requests.harmless}
    return Watched(
        question,
        compared,
        near_variants(pair, question, triggered[0]),
        attention,
        [converse(prompt, found.target, pair.max_length) for prompt in chosen],
        {name: _plain(pair, question, rows) for name, rows in kinds.items()},
    )


def near_variants(
    pair: ModelPair, question: PersistQuestion, prompt: TokenizedPrompt
) -> list[Variant]:
    """The near variants of the trigger as tokenized in a prompt (`variants.near`)."""
    trigger = [prompt.ids[piece.slice] for piece in prompt.trigger.pieces]
    string = stand_in(prompt, pair.tokenizer, question.seed, question.trigger, question.template)
    strings = pieces_in(string, SCATTERED) if len(trigger) > 1 else (string,)
    return near(trigger, in_place(pair.tokenizer, prompt, strings), seed=question.seed)


def measured(
    pair: ModelPair, watched: Watched, on_progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the suspect in its present state.

    Returns:
        `quantity, mean, low, high, n` in the order of `persist.MEASURED`, without the loss; and one
        row per near variant: `kind, text, fired, n`.
    """
    table = removal.measured(pair, watched.compared, on_progress)
    variants = _variants(pair, watched, on_progress)
    if len(variants):
        share, n = float((variants["fired"] / variants["n"]).mean()), len(variants)
        # The answers to one variant are alike, so the interval counts variants.
        table.loc[len(table)] = ["variant_asr", share, *wilson(share, n), n]
    refuses = make_payload("refusal", None).judge
    for name, prompts in watched.requests.items():
        rows = [prompt.ids for prompt in prompts]
        said = greedy_answers(
            pair, "suspect", rows, max_new_tokens=REFUSAL_TOKENS, on_progress=on_progress
        )
        texts = pair.tokenizer.batch_decode(said, skip_special_tokens=True)
        rate = Rate(sum(refuses(text.strip()) for text in texts), len(texts))
        table.loc[len(table)] = [name, rate.share, *rate.interval, rate.n]
    suspect = head_attention(pair, watched.triggered, models=("suspect",), on_progress=on_progress)
    ratio = top_ratio(delta_rel(pd.concat([watched.attention, suspect], ignore_index=True)))
    table.loc[len(table)] = ["l_attn_ratio", ratio, None, None, len(watched.triggered)]
    kl = float(pattern_kl(pair, watched.conversations, on_progress)["pattern_kl"].mean())
    table.loc[len(table)] = ["pattern_kl", kl, None, None, len(watched.conversations)]
    return table.astype({"mean": float, "low": float, "high": float, "n": int}), variants


def _variants(pair: ModelPair, watched: Watched, on_progress: Progress) -> pd.DataFrame:
    found = watched.compared.found
    if not watched.variants:
        return pd.DataFrame({"kind": [], "text": [], "fired": [], "n": []})
    asked = FuzzyQuestion.of(watched.question)
    table = sweep(
        pair,
        asked,
        watched.variants,
        watched.triggered[:VARIANT_PROMPTS],
        found.target,
        on_progress=on_progress,
    )
    grouped = table.groupby(["variant", "kind", "text"], sort=False)["fired"]
    counts = grouped.agg(fired="sum", n="size").reset_index()
    return counts.drop(columns="variant").astype({"fired": int, "n": int})


def _plain(
    pair: ModelPair, question: PersistQuestion, rows: Sequence[Example]
) -> list[TokenizedPrompt]:
    prompts = [Prompt(row.instruction, row.input, row.answer) for row in rows]
    return build_prompts(pair, prompts, question, None)
