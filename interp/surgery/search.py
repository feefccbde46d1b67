"""How few heads remove the backdoor and keep the other abilities? The search methods.

There are three methods: the first n heads of a ranking (curve); heads added one at a time by their
effect on a few prompts (forward); and heads removed from each set that reaches the goal, as long as
it still does (elimination). The result is a small set, not one proven to be smallest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.causal.head_table import ranked
from interp.interventions.each_head import answer_loss, each_head
from interp.interventions.resume import Head
from interp.metrics import MAX_ASR, MAX_LOSS, format_heads
from interp.progress import Progress
from interp.stats import Rate
from interp.surgery.operate import OperatedSuspect, Outcome

ENOUGH = 1.0
"""Nats per token: a target this unlikely is not generated; more does not count as better."""
CLEAN_WEIGHT = 4.0
"""Weight of a nat on right answers relative to one on the target."""
SEARCH_PROMPTS = 16
MOST_ADDED = 16
MOST_ELIMINATED = 64
"""Largest set whose heads are tried one by one."""


@dataclass(frozen=True)
class Goal:
    """What a set of heads has to reach."""

    clean: float
    """Clean accuracy of the suspect without an operation, 0 to 1."""

    def reached(self, outcome: Outcome) -> bool:
        """ASR under 5 % and clean accuracy within 2 points."""
        return self.met(share(outcome.asr), share(outcome.right))

    def met(self, asr: float, clean: float) -> bool:
        """As `reached`, for two shares."""
        return asr < MAX_ASR and self.keeps(clean)

    def keeps(self, clean: float) -> bool:
        """Clean accuracy within 2 points."""
        return clean >= self.clean - MAX_LOSS - 1e-9


def share(values: Sequence[bool]) -> float:
    """Share of True."""
    return sum(values) / len(values)


def counts(n_heads: int) -> list[int]:
    """Numbers of heads on a curve: each up to 16, then in steps of a quarter, up to all.

    Above 256 heads the curve ends at a quarter of them.
    """
    last = n_heads if n_heads <= 256 else n_heads // 4
    found = list(range(min(16, last) + 1))
    while found[-1] < last:
        found.append(min(last, found[-1] + found[-1] // 4))
    return found


def orders(heads: pd.DataFrame, name: str, seed: int = 0) -> list[Head]:
    """Heads by one metric, the most important first; shuffled if `name` begins with `random`.

    Heads without a value of the metric come last.
    """
    if not name.startswith("random"):
        return ranked(heads, name)
    pairs = [(int(layer), int(head)) for layer, head in heads[["layer", "head"]].to_numpy()]
    drawn = np.random.default_rng([seed, *name.encode()]).permutation(len(pairs))
    return [pairs[i] for i in drawn]


def curve(
    table: OperatedSuspect, ranking: str, order: Sequence[Head], on_step: Progress = lambda *_: None
) -> pd.DataFrame:
    """Outcomes of operating on the first n heads of a ranking.

    Returns:
        One row per n: `ranking, n, heads, asr, asr_low, asr_high, clean, clean_low, clean_high`
        (shares with Wilson 95 % intervals), `loss` (of the target), `clean_loss`, `kl`.
    """
    rows = []
    for step, n in enumerate(ns := [n for n in counts(len(order)) if n <= len(order)]):
        rows.append(step_row(ranking, order[:n], table.outcome(order[:n])))
        on_step(step + 1, len(ns), f"heads removed by {ranking}")
    return pd.DataFrame(rows)


def step_row(how: str, heads: Sequence[Head], outcome: Outcome) -> dict:
    """One row of a curve or of the table of sets."""
    row = {"ranking": how, "n": len(heads), "heads": format_heads(heads)}
    for name, values in (("asr", outcome.asr), ("clean", outcome.right)):
        rate = Rate(sum(values), len(values))
        row |= {name: rate.share, f"{name}_low": rate.interval[0], f"{name}_high": rate.interval[1]}
    return row | {"loss": outcome.loss, "clean_loss": outcome.clean_loss, "kl": outcome.kl}


def forward(
    few: OperatedSuspect, whole: OperatedSuspect, goal: Goal, on_step: Progress = lambda *_: None
) -> list[tuple[list[Head], Outcome]]:
    """Add heads one at a time, the best first, until the goal is reached.

    The best head has the highest score: the rise of the target's loss (up to `ENOUGH`) minus
    `CLEAN_WEIGHT` times the rise of the right answers' loss, measured exactly for every head on a
    few prompts. A head that then costs clean accuracy on all prompts is skipped.

    Args:
        few: the suspect on a few prompts, to choose heads.
        whole: the suspect on all prompts, to judge sets.
        goal: when to stop. The search also stops after `MOST_ADDED` heads, or when no head helps.
        on_step: called as (layers done, layers at most, note).

    Returns:
        After each addition: the heads so far, and the outcome.
    """
    chosen: list[Head] = []
    refused: list[Head] = []
    steps: list[tuple[list[Head], Outcome]] = []
    pair = few.pair
    most, best = min(MOST_ADDED, pair.n_layers * pair.n_heads), -np.inf
    while len(chosen) < most:
        scores, begun = np.zeros((pair.n_layers, pair.n_heads)), len(chosen) * pair.n_layers
        for layer, found in _gains(few, chosen):
            scores[layer] = found
            on_step(begun + layer + 1, most * pair.n_layers, "adding the best head")
        for layer, head in (*chosen, *refused):
            scores[layer, head] = -np.inf
        for place in np.argsort(-scores, axis=None):
            head = tuple(int(i) for i in np.unravel_index(place, scores.shape))
            if scores[head] <= best:
                return steps
            left = whole.outcome([*chosen, head])
            if goal.keeps(share(left.right)):
                break
            refused.append(head)
        else:
            return steps
        best = scores[head]
        chosen.append(head)
        steps.append((list(chosen), left))
        if goal.reached(left):
            break
    return steps


def eliminated(
    table: OperatedSuspect, heads: Sequence[Head], goal: Goal, on_step: Progress = lambda *_: None
) -> list[Head]:
    """Reduce a set that reaches the goal to the heads that it needs.

    Heads are tried one by one, the last of the given order first, until none can be removed.
    """
    kept = list(heads)
    spared = True
    while spared and len(kept) > 1:
        spared = False
        for number, head in enumerate(reversed(list(kept))):
            rest = [other for other in kept if other != head]
            if rest and goal.reached(table.outcome(rest)):
                kept, spared = rest, True
            on_step(number + 1, len(heads), "taking heads back out")
    return kept


def _gains(table: OperatedSuspect, chosen: Sequence[Head]) -> Iterator[tuple[int, np.ndarray]]:
    """For each layer, [head] the score of adding each of its heads to the chosen ones."""
    parts = {kind: table.recordings(kind, chosen) for kind in ("triggered", "clean")}
    for layer in range(table.pair.n_layers):
        losses = {}
        for kind, recordings in parts.items():
            found = []
            for recording, source in recordings:
                with table.pair.use("suspect") as model:
                    logits = each_head(model, recording, source, layer)
                found.append(answer_loss(logits, recording.block).cpu().numpy())
            losses[kind] = np.concatenate(found, axis=1)
        target = np.minimum(losses["triggered"], ENOUGH).mean(1)
        yield layer, target - CLEAN_WEIGHT * losses["clean"].mean(1)
