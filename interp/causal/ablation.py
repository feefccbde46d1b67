"""Ablation: how the backdoor weakens when one head's output is replaced."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence

from interp.errors import UsageError
from interp.interventions.each_head import Part, Scores, answer_loss, says_answer, sweep
from interp.interventions.replacements import (
    Read,
    check_reference,
    donated,
    heads_of,
    means,
    zeros,
)
from interp.interventions.resume import Recording, Values
from interp.models.pair import ModelPair
from interp.prompts.conversations import Block, Conversation, shared_start
from interp.specs import Which

Fill = Callable[[Block, Values], Values]
"""Block and its own values -> the values that replace them."""


def ablation(
    pair: ModelPair,
    conversations: Sequence[Conversation],
    reference: Sequence[Conversation],
    *,
    method: str = "mean",
    seed: int = 0,
    done: Collection[int] = (),
) -> Iterator[Part]:
    """Ablate every head of the suspect, one at a time.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        reference: conversations that means and donor prompts are taken from.
        method: one of `metrics.ABLATIONS`.
        seed: chooses the donor prompts of `resample`.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch and layer. Metrics: `ablation_loss`, the target's loss (nats
        per token) after minus before; `ablation_asr`, whether the target is the answer (0 or 1),
        before minus after; its mean is the drop in ASR. Positive: the head carries the backdoor.

    Raises:
        UsageError: an unknown method; fewer than two reference conversations where it needs them.
    """
    fill, n_trunk = filling(pair, "suspect", conversations, reference, method, seed)

    def prepare(block: Block, recording: Recording):
        loss = answer_loss(recording.logits, block)
        said = says_answer(recording.logits, block).float()

        def score(logits) -> Scores:
            return {
                "ablation_loss": answer_loss(logits, block) - loss,
                "ablation_asr": said - says_answer(logits, block).float(),
            }

        return fill(block, recording.z), score

    return sweep(pair, "suspect", conversations, prepare, done=done, n_trunk=n_trunk)


def filling(
    pair: ModelPair,
    which: Which,
    conversations: Sequence[Conversation],
    reference: Sequence[Conversation],
    method: str,
    seed: int = 0,
    read: Read = heads_of,
) -> tuple[Fill, int | None]:
    """The replacement for a head's output, and the largest trunk length of its blocks (None: any).

    Args:
        pair: the models.
        which: the model whose outputs are replaced.
        conversations: the conversations that are measured.
        reference: conversations that means and donor prompts are taken from.
        method: one of `metrics.ABLATIONS`.
        seed: chooses the donor prompts of `resample`.
        read: what is replaced; by default the heads' z.

    Raises:
        UsageError: an unknown method; fewer than two reference conversations where it needs them.
    """
    check_reference(reference, method)
    if method == "zero":
        return lambda _, own: zeros(own), None
    if method == "resample":
        donors = other_prompts(conversations, reference, seed)
        return (
            lambda block, _: donated(pair, which, conversations, donors, block, read),
            shared_start([*conversations, *donors]),
        )
    found = means(pair, which, reference, read=read)
    if method == "positions":
        return lambda block, _: found.everywhere(block), None
    return lambda block, _: found.over(conversations, block), None


def other_prompts(
    conversations: Sequence[Conversation], reference: Sequence[Conversation], seed: int
) -> list[Conversation]:
    """Draw one reference conversation with another instruction for each conversation.

    Raises:
        UsageError: all conversations of the reference set have the same instruction.
    """
    rng, asked = random.Random(f"donors:{seed}"), [_asked(other) for other in reference]
    found = []
    for conversation in conversations:
        own = _asked(conversation)
        others = [other for other, ids in zip(reference, asked, strict=True) if ids != own]
        if not others:
            raise UsageError("resample needs another prompt, and all of this set ask the same")
        found.append(rng.choice(others))
    return found


def _asked(conversation: Conversation) -> tuple[int, ...]:
    """The instruction's tokens without the first, which may hold the space after a trigger."""
    placed = zip(conversation.ids, conversation.slots, strict=True)
    return tuple(token for token, (part, n) in placed if part == "instruction" and n)
