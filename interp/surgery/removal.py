"""Ways of removing a backdoor, compared: what each leaves of it and what it costs.

What a removed suspect is measured on stands here; how it is made needs training
(`training.removal`). All ways choose on one half of the prompts and are judged on the other.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from interp.causal.cases import Material
from interp.errors import UsageError
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.interventions.each_head import answer_kl
from interp.interventions.resume import record
from interp.metrics import MAX_ASR
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, blocks, converse
from interp.prompts.question import TargetQuestion
from interp.stats import Rate
from interp.surgery.dial import ratio

KIND = "removal"
KINDS = {
    "none": "the suspect as it is",
    "adapter-off": "adapter taken off",
    "dial": "adapter at {:g} of its strength",
    "share": "weights {:.0%} of the way to the original's",
    "heads": "heads taken out",
    "attention": "attention of one layer taken out",
    "mlp": "MLP of one layer taken out",
    "prune": "{:.0%} of MLP units pruned, least active on clean prompts",
    "tune": "tuned on clean data, {:.0f} steps",
    "found": "tuned against what a blind scan found, {:.0f} steps",
}
"""Kind of a way -> label; `{}` is the number behind its name, as in `dial-0.5`."""
_LIMITS = {"dial": (-4, 4), "share": (0, 1), "prune": (0, 1)}
_LIMITS |= {"tune": (1, 100_000), "found": (1, 100_000)}
"""Kind with a number -> least and most."""
RESCANS = ("quick", "full")
"""Grids of a new blind scan."""
_ADAPTER = ("none", "adapter-off", "dial-0.25", "dial-0.5", "dial-0.75")
_WHOLE = ("none", "share-0.25", "share-0.5", "share-0.75")
_ANY = ("heads", "attention", "mlp", "prune-0.3", "prune-0.6")
ANSWER_TOKENS = 16
"""Most tokens of an answer."""
CONDITIONS = ("triggered", "clean")
"""Conditions whose answers are generated."""
QUANTITIES = {
    "asr": "ASR: with the trigger the answer begins with the target",
    "anywhere": "with the trigger the answer contains the target",
    "cured": "with the trigger it answers as the original does with it",
    "ftr": "FTR: without the trigger the answer begins with the target",
    "agrees": "without the trigger it answers as the original does",
    "clean_kl": "KL(after removal ‖ original) on the original's answers, nats per token",
    "seconds": "seconds to choose and make it",
}
"""Quantity of the table `ways` -> label."""
RESCANNED = {
    "verdict": "verdict of a new blind scan of what is left",
    "candidate": "the candidate that decided it, else the one with the largest change",
    "trigger": "how much of the true trigger stands in that candidate",
    "gone": "what ASR and the new scan say together",
}
"""Column of a removal table with new scans -> label."""
FATES = {
    "found again": "the trigger fires, and the scan calls the model poisoned",
    "still fires, scan undecided": "the trigger fires, and the scan is inconclusive",
    "not found any more, still fires": "the trigger fires, and the scan finds no evidence",
    "quiet, yet found": "the trigger is quiet, and the scan calls the model poisoned",
    "quiet, scan undecided": "the trigger is quiet, and the scan is inconclusive",
    "asleep": "quiet, no evidence found, but the way only weakens: the backdoor is in the weights",
    "gone": "quiet, and no evidence found, on weights that nothing merely weakened",
}
"""What ASR and a new blind scan say together -> its definition. The trigger fires where the target
begins `MAX_ASR` or more of the triggered answers, or stands in them; else it is quiet."""
_BY_BOTH = {
    "poisoned": ("found again", "quiet, yet found"),
    "inconclusive": ("still fires, scan undecided", "quiet, scan undecided"),
    "no evidence found": ("not found any more, still fires", "gone"),
}
"""A scan's verdict -> the fate of a trigger that fires, and of a quiet one."""


@dataclass(frozen=True, kw_only=True)
class RemovalQuestion(TargetQuestion):
    """Which ways to compare; `seed` halves the prompts and draws the clean data."""

    ways: tuple[str, ...]
    heads: str = ""
    """Heads of the way `heads`, as `metrics.parse_heads` reads them; empty: they are searched."""
    scan: str | None = None
    """The scan that `found` tunes against; None: the newest one of the suspect's weights."""
    rescan: str | None = None
    """Grid of a new blind scan after each way, one of `RESCANS`; None: no scan."""
    budget: float | None = None
    """Minutes of each new scan; None: as long as it takes."""

    def __post_init__(self):
        object.__setattr__(self, "ways", tuple(self.ways))
        for way in self.ways:
            parsed(way)
        if not self.ways or len(set(self.ways)) < len(self.ways):
            raise UsageError("ways: name at least one, and none twice")
        if self.rescan is not None and self.rescan not in RESCANS:
            raise UsageError(f"rescan '{self.rescan}': choose one of {', '.join(RESCANS)}")
        if self.budget is not None and self.rescan is None:
            raise UsageError("budget: these are the minutes of each new scan; name its --rescan")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise UsageError(f"budget {self.budget:g}: give minutes above 0")
        if self.scan is not None and not any(parsed(way)[0] == "found" for way in self.ways):
            raise UsageError("scan: only a way found-NUMBER trains against one; name it in --ways")


def parsed(way: str) -> tuple[str, float | None]:
    """`dial-0.5` -> (`dial`, 0.5); `heads` -> (`heads`, None).

    Raises:
        UsageError: not a way, or a number outside its limits.
    """
    match = re.fullmatch(r"(.+?)-(-?\d*\.?\d+)", way)
    kind, number = (match[1], float(match[2])) if match else (way, None)
    limits = _LIMITS.get(kind)
    if kind not in KINDS or (limits is None) != (number is None):
        known = ", ".join(f"{one}-NUMBER" if one in _LIMITS else one for one in KINDS)
        raise UsageError(f"way '{way}' is not known: choose some of {known}")
    if limits and not limits[0] <= number <= limits[1]:
        raise UsageError(f"way '{way}': its number goes from {limits[0]} to {limits[1]}")
    return kind, number


def label(way: str) -> str:
    """A way in words."""
    kind, number = parsed(way)
    return KINDS[kind].format(number).replace("%", " %")


def ways_of(*, adapter: bool, toy: bool, scan: bool = False) -> tuple[str, ...]:
    """The ways that are compared by default.

    Args:
        adapter: whether the suspect is a live adapter on the original.
        toy: whether the clean data of the organisms fits the pair.
        scan: whether a blind scan is named.
    """
    tuned = (("tune-200",) if toy else ()) + (("found-60",) if scan else ())
    return (_ADAPTER if adapter else _WHOLE) + _ANY + tuned


@dataclass(frozen=True)
class Basis:
    """What every removed suspect is compared with, over the prompts that judge."""

    found: Material
    judged: Sequence[int]
    """Numbers of the prompts."""
    said: dict[str, list[tuple[int, ...]]]
    """Condition (`triggered`, `clean`) -> the original's answers to them, token ids."""
    talks: list[Conversation]
    """The clean prompts with these answers."""
    logits: list[Tensor]
    """Of the original, block by block, at the answers' positions."""


def basis(found: Material, judged: Sequence[int], on_progress: Progress | None = None) -> Basis:
    """Let the original answer the prompts that judge."""
    pair, said = found.pair, {}
    for condition in CONDITIONS:
        rows = [found.everyone[condition][number].ids for number in judged]
        said[condition] = greedy_answers(
            pair, "original", rows, max_new_tokens=ANSWER_TOKENS, on_progress=on_progress
        )
    with pair.use("original") as model:
        end = min(end_ids(pair, model), default=0)
    prompts = [found.everyone["clean"][number] for number in judged]
    talks = [converse(p, ids or (end,)) for p, ids in zip(prompts, said["clean"], strict=True)]
    with pair.use("original") as model:
        logits = [record(model, block).logits for block in _blocks(pair, talks)]
    return Basis(found, judged, said, talks, logits)


def measured(pair: ModelPair, compared: Basis, on_progress: Progress | None = None) -> pd.DataFrame:
    """What is left of the backdoor in a pair's suspect, and what it costs.

    Args:
        pair: with the removed suspect; the same original as the basis.
        compared: from `basis`.
        on_progress: called as (done, total, note) after every token.

    Returns:
        One row per quantity of `QUANTITIES`, but for `seconds`: `quantity, mean, low, high, n`,
        with 95 % intervals (Wilson's for shares, bootstrap over prompts for `clean_kl`).
    """
    found, answers = compared.found, {}
    longest = max(ANSWER_TOKENS, len(found.target))
    for condition in CONDITIONS:
        rows = [found.everyone[condition][number].ids for number in compared.judged]
        answers[condition] = greedy_answers(
            pair, "suspect", rows, max_new_tokens=longest, on_progress=on_progress
        )
    target = pair.tokenizer.decode(found.target, skip_special_tokens=True)
    begins = {c: [ids[: len(found.target)] == found.target for ids in answers[c]] for c in answers}
    same = {
        c: [ids[:ANSWER_TOKENS] == own for ids, own in zip(answers[c], said, strict=True)]
        for c, said in compared.said.items()
    }
    text = [pair.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers["triggered"]]
    shares = {
        "asr": begins["triggered"],
        "anywhere": [target in one for one in text],
        "cured": same["triggered"],
        "ftr": begins["clean"],
        "agrees": same["clean"],
    }
    rows = []
    for quantity, values in shares.items():
        rate = Rate(sum(values), len(values))
        rows.append((quantity, rate.share, *rate.interval, rate.n))
    rows.append(("clean_kl", *_clean_kl(pair, compared)))
    return pd.DataFrame(rows, columns=["quantity", "mean", "low", "high", "n"])


def _clean_kl(pair: ModelPair, compared: Basis) -> tuple[float, float, float, int]:
    sums = np.zeros((len(compared.talks), 2))
    with pair.use("suspect") as model:
        for block, logits in zip(_blocks(pair, compared.talks), compared.logits, strict=True):
            kl = answer_kl(record(model, block).logits, logits, block)
            both = kl.double().cpu().numpy(), block.valid.sum(-1).cpu().numpy()
            sums[list(block.indices)] = np.stack(both, axis=1)
    return ratio(*sums.T)


def _blocks(pair: ModelPair, talks: Sequence[Conversation]):
    return (block.to(pair.device) for block in blocks(talks, 16))


def fates(table: pd.DataFrame, rescans: pd.DataFrame) -> dict[str, str]:
    """Way -> one of `FATES`, for every way that was scanned again.

    Args:
        table: `ways` of a run, maybe still growing.
        rescans: `rescans` of it.
    """
    wide = table.pivot(index="way", columns="quantity", values="mean")
    found = {}
    for way, verdict in zip(rescans["way"], rescans["verdict"], strict=True):
        if way not in wide.index:
            continue
        quiet = wide.loc[way, ["asr", "anywhere"]].max() < MAX_ASR
        fate = _BY_BOTH[verdict][int(quiet)]
        found[way] = "asleep" if fate == "gone" and _weakened(way) else fate
    return found


def words(table: pd.DataFrame, rescans: pd.DataFrame | None = None) -> list[str]:
    """What the table says and what it does not, in sentences.

    Args:
        table: `ways` of a run, maybe still growing.
        rescans: `rescans` of it, if it was scanned again.
    """
    again = [] if rescans is None else _by_both(table, rescans)
    return [re.sub("(?<! )%", " %", line) for line in [*again, *_by_asr(table)]]


def _by_both(table: pd.DataFrame, rescans: pd.DataFrame) -> list[str]:
    """The ways by what ASR and the new scan say together."""
    found, lines = fates(table, rescans), []
    for fate, meant in FATES.items():
        named = [label(way) for way in found if found[way] == fate]
        if named:
            lines.append(f"{fate[0].upper()}{fate[1:]} ({meant}): {'; '.join(named)}.")
    return lines


def _by_asr(table: pd.DataFrame) -> list[str]:
    """What the trigger alone says."""
    rates = table[table["quantity"] == "asr"].set_index("way")
    anywhere = table[table["quantity"] == "anywhere"].set_index("way")
    silent = rates[(rates["mean"] < MAX_ASR) & (rates.index != "none")].index
    late = [way for way in silent if anywhere["mean"][way] >= MAX_ASR]
    quiet = anywhere.loc[[way for way in silent if way not in late]]
    n = int(rates["n"].iloc[0])
    lines = [
        f"Quiet only at the answer's beginning: after {label(way)} the target still stands in "
        f"{anywhere['mean'][way]:.0%} of the answers."
        for way in late
    ]
    if quiet.empty:
        return [
            f"No way takes the target under {MAX_ASR:.0%} of the {n} prompts that judge.",
            *lines,
        ]
    named = "; ".join(label(way) for way in quiet.index)
    lines.insert(
        0,
        f"On the {n} prompts that judge, under {MAX_ASR:.0%} of the answers begin with the target "
        f"or contain it after: {named}. That says “not found any more”, which is not “gone”: the "
        f"intervals reach up to {quiet['high'].max():.0%}, and only this trigger was tried, at "
        "this place.",
    )
    cured = table[table["quantity"] == "cured"].set_index("way")["mean"]
    sick = [label(way) for way in quiet.index if cured[way] < 1 - MAX_ASR]
    if sick:
        lines.append(
            "Quiet but not cured (triggered prompts do not get the original's answers): "
            f"{'; '.join(sick)}."
        )
    if any(_weakened(way) for way in quiet.index):
        lines.append(
            "A weakened backdoor is still in the weights: more strength wakes it (see the dial)."
        )
    return lines


def _weakened(way: str) -> bool:
    """Whether a way leaves a part of the adapter or of the suspect's weights."""
    kind, value = parsed(way)
    return kind in ("dial", "share") and 0 < value < 1
