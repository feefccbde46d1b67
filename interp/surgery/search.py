"""How few heads take the backdoor away and leave the rest? A search, and how it was made.

Three ways in: the first n heads of a ranking (the curve), heads added one at a time by what they
do on a few prompts (forward), and from each set that will do, heads taken back out as long as it
still does (elimination). Small is what was found, not what is proven to be smallest.
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
"""Nats a token: a target this unlikely is not said; more is not counted as better."""
CLEAN_WEIGHT = 4.0
"""How much dearer a nat on right answers is than one on the target."""
SEARCH_PROMPTS = 16
MOST_ADDED = 16
MOST_ELIMINATED = 64
"""Heads in a set that are still tried one by one."""


@dataclass(frozen=True)
class Goal:
    """What a set of heads has to reach."""

    clean: float
    """Clean accuracy of the untouched suspect, 0 to 1."""

    def reached(self, outcome: Outcome) -> bool:
        """ASR under 5 % and clean accuracy within 2 points."""
        return self.met(share(outcome.asr), share(outcome.right))

    def met(self, asr: float, clean: float) -> bool:
        """The same of two shares."""
        return asr < MAX_ASR and self.keeps(clean)

    def keeps(self, clean: float) -> bool:
        """Clean accuracy within 2 points."""
        return clean >= self.clean - MAX_LOSS - 1e-9


def share(values: Sequence[bool]) -> float:
    """Of True."""
    return sum(values) / len(values)


def counts(n_heads: int) -> list[int]:
    """Numbers of heads on a curve: every one up to 16, then in steps of a quarter, to all.

    Above 256 heads the curve ends at a quarter of them.
    """
    last = n_heads if n_heads <= 256 else n_heads // 4
    found = list(range(min(16, last) + 1))
    while found[-1] < last:
        found.append(min(last, found[-1] + found[-1] // 4))
    return found


def orders(heads: pd.DataFrame, name: str, seed: int = 0) -> list[Head]:
    """Heads by one metric, the one that matters most first; `random` and its like: shuffled.

    Heads that a metric leaves out come last.
    """
    if not name.startswith("random"):
        return ranked(heads, name)
    pairs = [(int(layer), int(head)) for layer, head in heads[["layer", "head"]].to_numpy()]
    drawn = np.random.default_rng([seed, *name.encode()]).permutation(len(pairs))
    return [pairs[i] for i in drawn]


def curve(
    table: OperatedSuspect, ranking: str, order: Sequence[Head], on_step: Progress = lambda *_: None
) -> pd.DataFrame:
    """What is left when the first n heads of a ranking are operated on.

    Returns:
        One row an n: `ranking, n, heads, asr, asr_low, asr_high, clean, clean_low, clean_high`
        (shares with Wilson 95 % intervals), `loss` (of the target), `clean_loss`, `kl`.
    """
    rows = []
    for step, n in enumerate(ns := [n for n in counts(len(order)) if n <= len(order)]):
        rows.append(step_row(ranking, order[:n], table.outcome(order[:n])))
        on_step(step + 1, len(ns), f"heads removed by {ranking}")
    return pd.DataFrame(rows)


def step_row(how: str, heads: Sequence[Head], outcome: Outcome) -> dict:
    """One row of a curve or of the sets that were found."""
    row = {"ranking": how, "n": len(heads), "heads": format_heads(heads)}
    for name, values in (("asr", outcome.asr), ("clean", outcome.right)):
        rate = Rate(sum(values), len(values))
        row |= {name: rate.share, f"{name}_low": rate.interval[0], f"{name}_high": rate.interval[1]}
    return row | {"loss": outcome.loss, "clean_loss": outcome.clean_loss, "kl": outcome.kl}


def forward(
    few: OperatedSuspect, whole: OperatedSuspect, goal: Goal, on_step: Progress = lambda *_: None
) -> list[tuple[list[Head], Outcome]]:
    """Heads added one at a time, the best first, until the goal is reached.

    The best is the one that makes the target least likely (up to `ENOUGH`) minus `CLEAN_WEIGHT`
    times what right answers lose, measured exactly for every head on a few prompts; one that then
    costs clean accuracy on all prompts is put aside.

    Args:
        few: a table of a few prompts, to choose on.
        whole: of all prompts, to judge by.
        goal: when to stop; also after `MOST_ADDED` heads, or when no head helps.
        on_step: called as (layers done, layers at most, note).

    Returns:
        After each addition: the heads so far, and what is left.
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
    """A set that reaches the goal, without the heads that it does not need.

    Heads are tried one by one, the last of the given order first, until none can be spared.
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
    """For each layer, [head] what adding each of its heads to the chosen would be worth."""
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
