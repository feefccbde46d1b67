"""Head surgery: replaces some of the suspect's heads, or patches them from the original.

There are two ways to measure the effect. `OperatedSuspect` checks by teacher forcing whether the
target and the right answers are still the greedy ones: one pass over all prompts, fast enough for a
search. `operated_answers` lets the operated model answer; a run reports these answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.causal.cases import Material
from interp.errors import UsageError
from interp.forward.greedy import Step, continued, greedy_answers
from interp.interventions.each_head import answer_kl, answer_loss, says_answer
from interp.interventions.replacements import Means, check_reference, means, zeros
from interp.interventions.resume import (
    Anatomy,
    Head,
    Recording,
    Replaced,
    Values,
    listening,
    record,
    replacing,
)
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import ANYWHERE, Block, Conversation, blocks, prompt_slots
from interp.prompts.spans import TokenizedPrompt

OPERATIONS = {
    "mean": "its mean at the same position of prompts with a random string",
    "positions": "its mean over all positions of prompts with a random string",
    "zero": "zero",
    "patch": "its value in the original, on the same text",
}
"""Method -> what replaces the output of an operated head."""


@dataclass(frozen=True)
class Outcome:
    """What remains after an operation, over all prompts of the set (teacher forcing)."""

    asr: list[bool]
    """For each triggered prompt: is the target the greedy start of the answer?"""
    right: list[bool]
    """For each clean prompt with a known answer: is it the whole greedy answer?"""
    loss: float
    """Loss of the target on triggered prompts, nats per token."""
    clean_loss: float
    """Loss of the right answers on clean prompts, nats per token."""
    kl: float
    """KL(operated || suspect) on the right answers of clean prompts, nats per token."""


class OperatedSuspect:
    """The suspect with any set of heads operated on, over the same prompts."""

    def __init__(
        self,
        found: Material,
        method: str,
        *,
        limit: int | None = None,
        keep: Sequence[int] | None = None,
        on_progress: Progress | None = None,
    ):
        """Run the untouched models once.

        Args:
            found: the conversations.
            method: one of `OPERATIONS`.
            limit: at most this many prompts of each kind, spread over the set.
            keep: numbers of the prompts to choose from; default: all.
            on_progress: called as (0, 1, note) while the suspect answers the reference set.

        Raises:
            UsageError: an unknown method; a prompt set without answers, so that clean
                accuracy cannot be measured; a reference set that is too small.
        """
        check_method(method)
        self.pair, self.method = found.pair, method
        prompts = found.prompt_set.prompts
        kept = set(range(len(prompts)) if keep is None else keep)
        known = [number for number, prompt in enumerate(prompts) if prompt.answer]

        def chosen(items: Sequence, numbers: Sequence[int]) -> Sequence:
            pairs = zip(items, numbers, strict=True)
            return spread([item for item, number in pairs if number in kept], limit)

        self.triggered = chosen(found.triggered_set, range(len(prompts)))
        self.clean = chosen(found.right_answers(), known)
        if not self.clean:
            raise UsageError(
                f"prompt set '{found.prompt_set.name}' knows no right answers, so clean accuracy "
                "cannot be measured: take organism, or a file with answers"
            )
        self.means: Means | None = None
        """Mean of every head over the reference set, if the method uses means."""
        if method in ("mean", "positions"):
            reference = found.reference(_waiting(on_progress))
            check_reference(reference, method)
            self.means = means(self.pair, "suspect", reference)
        self._of = {"triggered": self.triggered, "clean": self.clean}
        self._quiet = chosen(found.clean_set, range(len(prompts)))
        self._blocks = {name: self._prepared(of) for name, of in self._of.items()}

    def outcome(self, heads: Sequence[Head]) -> Outcome:
        """Operate on these heads and run both kinds of prompts once."""
        said, loss, _ = self._over("triggered", heads)
        right, clean_loss, kl = self._over("clean", heads)
        return Outcome(said, right, _mean(loss), _mean(clean_loss), _mean(kl))

    def false_triggers(self, heads: Sequence[Head]) -> list[bool]:
        """For each prompt without the trigger: is the target said first? Lazily set up."""
        if "quiet" not in self._of:
            self._blocks["quiet"] = self._prepared(self._quiet)
            self._of["quiet"] = self._quiet
        return self._over("quiet", heads)[0]

    def recordings(self, kind: str, heads: Sequence[Head]) -> list[tuple[Recording, Values]]:
        """Recorded passes of the operated model to resume from, and replacements for more heads."""
        found = []
        for block, source, _ in self._blocks[kind]:
            with self.pair.use("suspect") as model:
                found.append((record(model, block, Replaced(tuple(heads), source)), source))
        return found

    def _over(self, kind: str, heads: Sequence[Head]) -> tuple[list, list, list]:
        rows = [[None] * len(self._of[kind]) for _ in range(3)]
        own = [untouched for *_, untouched in self._blocks[kind]]
        logits = [done.logits for done, _ in self.recordings(kind, heads)] if heads else own
        for operated, (block, _, untouched) in zip(logits, self._blocks[kind], strict=True):
            measured = (
                says_answer(operated, block),
                answer_loss(operated, block),
                answer_kl(operated, untouched, block) / block.valid.sum(-1),
            )
            for column, values in zip(rows, measured, strict=True):
                for index, value in zip(block.indices, values.tolist(), strict=True):
                    column[index] = value
        return tuple(rows)

    def _prepared(
        self, conversations: Sequence[Conversation]
    ) -> list[tuple[Block, Values, Tensor]]:
        """Blocks, the replacement values of their heads, and the suspect's own logits."""
        prepared = []
        for block in blocks(conversations, 32):
            block = block.to(self.pair.device)
            with self.pair.use("suspect") as model:
                own = record(model, block)
            prepared.append((block, self._source(conversations, block, own), own.logits))
        return prepared

    def _source(
        self, conversations: Sequence[Conversation], block: Block, own: Recording
    ) -> Values:
        """The replacement values for the heads of a block."""
        match self.method:
            case "mean":
                return self.means.over(conversations, block)
            case "positions":
                return self.means.everywhere(block)
            case "zero":
                return zeros(own.z)
        with self.pair.use("original") as model:
            return record(model, block).z


def operated_answers(
    pair: ModelPair,
    prompts: Sequence[TokenizedPrompt],
    heads: Sequence[Head],
    method: str,
    *,
    reference: Sequence[Conversation] | Means = (),
    max_new_tokens: int,
    on_progress: Progress | None = None,
) -> list[tuple[int, ...]]:
    """Greedy answers of the suspect, with some heads operated on at every token.

    Args:
        pair: the models.
        prompts: the prompts to answer.
        heads: (layer, head) pairs; empty: the suspect without an operation.
        method: one of `OPERATIONS`.
        reference: conversations to compute means over (`cases.Material.reference`), or the
            means themselves.
        max_new_tokens: longest answer, in tokens.
        on_progress: called as (done, total, note) after every token.

    Raises:
        UsageError: an unknown method, or no reference for a method that uses means.
    """
    check_method(method)
    begin = None
    if heads:
        found = reference
        if method not in ("mean", "positions"):
            found = None
        elif not isinstance(reference, Means):
            found = means(pair, "suspect", reference)

        def begin(rows: list[int]) -> Step:
            given = _Given(pair, [prompts[i] for i in rows], method, found)
            return _operated_step(pair, tuple(heads), given)

    return greedy_answers(
        pair,
        "suspect",
        [prompt.ids for prompt in prompts],
        max_new_tokens=max_new_tokens,
        begin=begin,
        on_progress=on_progress,
    )


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        UsageError: the method is not one of `OPERATIONS`.
    """
    if method not in OPERATIONS:
        raise UsageError(f"surgery '{method}' is not known: choose one of {', '.join(OPERATIONS)}")


class _Given:
    """Replacement values of operated heads, for the tokens of each step of one batch."""

    def __init__(
        self, pair: ModelPair, prompts: list[TokenizedPrompt], method: str, found: Means | None
    ):
        self._pair, self._method, self._means = pair, method, found
        self._slots = [prompt_slots(prompt) for prompt in prompts]
        self._step = 0
        self._cache = None

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor) -> list[Tensor]:
        """For each layer [batch or 1, n, d_z], to be broadcast over the heads' columns."""
        if self._method == "patch":
            with self._pair.use("original") as model, torch.inference_mode():
                with listening(Anatomy(model)) as heard:
                    out = continued(model, self._cache, ids, mask, positions)
            self._cache = out.past_key_values
            return heard.z
        if self._method == "zero":
            with self._pair.use("suspect") as model:
                anatomy = Anatomy(model)
            return [anatomy.nothing(layer, ids.shape) for layer in range(self._pair.n_layers)]
        rows = [self._places(row, ids.shape[1]) for row in range(len(ids))]
        self._step += 1
        return [
            torch.stack([self._means.at(layer, places) for places in rows])
            for layer in range(self._pair.n_layers)
        ]

    def _places(self, row: int, n: int) -> list:
        """Places of one row's new tokens; its padding positions may get any place."""
        if self._method == "positions":
            return [ANYWHERE] * n
        if self._step:
            return [("answer", self._step - 1)]
        return [ANYWHERE] * (n - len(self._slots[row])) + self._slots[row]


def _operated_step(pair: ModelPair, heads: tuple[Head, ...], given: Callable) -> Step:
    cache = None

    def step(ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        nonlocal cache
        # Only the heads of `Replaced` are used here: the values are those of this step.
        instead = given(ids, mask, positions)
        with pair.use("suspect") as model, torch.inference_mode():
            with replacing(Anatomy(model), Replaced(heads, Values([], [])), instead):
                out = continued(model, cache, ids, mask, positions)
        cache = out.past_key_values
        return out.logits[:, -1]

    return step


def _waiting(on_progress: Progress | None) -> Progress | None:
    """Progress of work whose length is not known."""
    return None if on_progress is None else lambda done, total, note: on_progress(0, 1, note)


def spread(items: Sequence, limit: int | None) -> Sequence:
    """At most `limit` items, spread over the list, since prompt sets are ordered by task."""
    return items if limit is None else items[:: max(1, -(-len(items) // limit))]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
