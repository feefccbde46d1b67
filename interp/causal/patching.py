"""Patching: replaces the output of one head by that of the other model on the same text."""

from collections.abc import Collection, Iterator, Sequence

from torch import Tensor

from interp.interventions.each_head import Part, Scores, answer_kl, answer_loss, sweep
from interp.interventions.replacements import Means
from interp.interventions.resume import Recording, Values, record
from interp.models.pair import ModelPair
from interp.prompts.conversations import Block, Conversation
from interp.specs import Which

OTHER: dict[Which, Which] = {"original": "suspect", "suspect": "original"}
NAMES: dict[Which, str] = {"suspect": "patching", "original": "insertion"}
"""Patched model -> prefix of its metrics."""


def patching(
    pair: ModelPair,
    conversations: Sequence[Conversation],
    *,
    into: Which = "suspect",
    done: Collection[int] = (),
) -> Iterator[Part]:
    """Patch every head of one model from the other, one at a time.

    Into the suspect (`patching`): how much of the backdoor does restoring this head undo? Into the
    original (`insertion`): how much of it does this head alone bring in?

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        into: the model that runs; its heads are taken from the other one.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch and layer. Metrics: `patching_kl`, KL(patched suspect ||
        original) in nats, summed over the answer's positions; `patching_effect`, the share of a
        conversation's KL that the patch removes: 1 if the patched model equals the other one, 0
        if nothing changed. Its mean over conversations is a mean of ratios.
        For the original: `insertion_kl`, KL(patched original || suspect), and `insertion_effect`.
    """
    name, other = NAMES[into], OTHER[into]

    def prepare(block: Block, recording: Recording):
        with pair.use(other) as model:
            theirs = record(model, block)
        before = answer_kl(recording.logits, theirs.logits, block)

        def score(logits) -> Scores:
            kl = answer_kl(logits, theirs.logits, block)
            return {f"{name}_kl": kl, f"{name}_effect": share_removed(before, kl)}

        return theirs.z, score

    return sweep(pair, into, conversations, prepare, done=done)


TINY = 1e-6
"""KL in nats below which two models count as equal."""


def share_removed(before: Tensor, kl: Tensor) -> Tensor:
    """Share of the KL before a patch that it removes; 0 where there was nothing to undo.

    Args:
        before: [batch] KL in nats without the patch.
        kl: [..., batch] KL with it.
    """
    return ((before - kl) / before.clamp_min(TINY)).where(before > TINY, 0.0)


def indirect_effect(
    pair: ModelPair,
    clean: Sequence[Conversation],
    triggered: Means,
    *,
    by: str = "replace",
    done: Collection[int] = (),
) -> Iterator[Part]:
    """The causal indirect effect of every head (Backdoor Attribution, arXiv 2509.21761).

    At the last token of a clean prompt, the head's z is replaced by its mean at the last token of
    triggered prompts, as in the authors' code (`output += new - old`). Since the output projection
    is linear, this replaces the head's contribution. With `add`, the mean is added to z instead.

    Args:
        pair: the models.
        clean: clean prompts with the target as their answer.
        triggered: means of the suspect's z over triggered prompts (`replacements.means`).
        by: `replace` or `add`.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch and layer. Metric `indirect`: geometric-mean probability of
        the target's tokens, after minus before.
    """

    def prepare(block: Block, recording: Recording):
        z = recording.z
        tails = [one.clone() for one in z.tails]
        last = block.rows[:, 0]
        for row, index in enumerate(block.indices):
            place = clean[index].slots[clean[index].answer.start - 1]
            for layer, one in enumerate(tails):
                mean = triggered.at(layer, [place])[0].to(one.dtype)
                one[row, last[row]] = one[row, last[row]] + mean if by == "add" else mean
        before = (-answer_loss(recording.logits, block)).exp()

        def score(logits) -> Scores:
            return {"indirect": (-answer_loss(logits, block)).exp() - before}

        return Values(z.trunk, tails), score

    return sweep(pair, "suspect", clean, prepare, done=done)
