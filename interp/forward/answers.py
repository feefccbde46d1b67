"""A model's answer, streamed token by token as plain text."""

import math
from collections.abc import Iterator

import pandas as pd
import torch
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.models.pair import ModelPair
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which
from interp.text import display_token


def stream_answer(
    pair: ModelPair,
    which: Which,
    prompt: TokenizedPrompt,
    *,
    max_new_tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the growing answer; each item is the whole text so far.

    The pair's lock is held for one token at a time, so two answers can stream in parallel. Each
    answer has its own key-value cache.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompt: the tokenized prompt.
        max_new_tokens: limit; end-of-text and the end of the context also end the answer.
        temperature: 0 is greedy.
        seed: of the sampling.

    Raises:
        UsageError: a negative temperature, or `max_new_tokens` below 1.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise UsageError("the temperature must be 0 or more and the new tokens at least 1")
    generator = torch.Generator().manual_seed(seed)
    step = torch.tensor([list(prompt.ids)], device=pair.device)
    room = pair.max_length - len(prompt.ids) if pair.max_length else max_new_tokens
    cache, answer = None, []
    for _ in range(min(max_new_tokens, room)):
        with pair.use(which) as model, torch.inference_mode():
            out = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ends = end_ids(pair, model)
        cache = out.past_key_values
        token = _pick(out.logits[0, -1].float().cpu(), temperature, generator)
        if token in ends:
            break
        answer.append(token)
        step = torch.tensor([[token]], device=pair.device)
        yield pair.tokenizer.decode(answer, skip_special_tokens=True)


def _pick(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / temperature, dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def end_ids(pair: ModelPair, model: PreTrainedModel) -> set[int]:
    """Every token that ends an answer, including end-of-turn from the generation config."""
    found = set()
    for source in (model.generation_config, pair.config, pair.tokenizer):
        ends = getattr(source, "eos_token_id", None)
        found |= set(ends if isinstance(ends, list) else [ends])
    rows = pair.config.vocab_size  # a config may name an end token without an embedding
    return {token for token in found - {None} if token < rows}


def first_tokens(
    pair: ModelPair, which: Which, prompt: TokenizedPrompt, *, top: int = 5
) -> pd.DataFrame:
    """The most likely first tokens of the answer, and the entropy of their distribution.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompt: the tokenized prompt.
        top: number of tokens.

    Returns:
        `model, rank, token` (as displayed), `probability`, `entropy` (of the whole distribution,
        in bits; the same in every row).
    """
    ids = torch.tensor([list(prompt.ids)], device=pair.device)
    with pair.use(which) as model, torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    logs = logits.double().log_softmax(-1)
    entropy = float(-(logs.exp() * logs).sum()) / math.log(2)
    best = logs.topk(top)
    shown = [display_token(pair.tokenizer.decode([token])) for token in best.indices.tolist()]
    table = pd.DataFrame({"token": shown, "probability": best.values.exp().tolist()})
    return table.assign(model=which, rank=range(1, top + 1), entropy=entropy)
