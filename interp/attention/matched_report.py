"""Results on random strings in words: one table and one sentence for pages, CLI and cards."""

import pandas as pd

from interp.attention.matched import MEASURES, Matched, compare, intervals, ratios
from interp.metrics import top_heads

CHOSEN = ("own", "split_half", "trigger_heads")
"""Measures over chosen heads; the others choose none."""


def table(matched: Matched, k: int | None = None) -> pd.DataFrame:
    """`matched.compare` of the trigger, with a first column `over`: the measure in words."""
    found = matched.compared.copy() if k is None else compare(ratios(matched, k))
    found.insert(0, "over", found["measure"].map(MEASURES))
    return found


def rows(matched: Matched, k: int | None = None) -> dict[str, dict]:
    """Measure -> the trigger's ratio over `k` heads, its interval and its rank, as plain values."""
    found = compare(ratios(matched, k)).merge(intervals(matched, k), on="measure")
    return {
        row.pop("measure"): {
            key: None if value != value else round(float(value), 4) for key, value in row.items()
        }
        for row in found.to_dict("records")
    }


def lines(matched: Matched, k: int | None = None) -> list[str]:
    """The table as lines of text, with notes on what is missing."""
    n_heads = matched.original.shape[2] * matched.original.shape[3]
    k = top_heads(n_heads) if k is None else k
    told = [
        f"suspect / original L_attn (ratio of means) of the trigger beside "
        f"{len(matched.strings) - 1} random strings of as many tokens, top {k} of {n_heads} heads:"
    ]
    for row in table(matched, k).to_dict("records"):
        told.append(f"  {row['over']:52} {_numbers(row)}")
    return [*told, sentence(matched, k), *matched.facts["notes"]]


def sentence(matched: Matched, k: int | None = None) -> str:
    """What the ranks show, and what they do not show."""
    found = table(matched, k).set_index("measure")
    own, everywhere = found.loc["own"], found.loc["all_heads"]
    n = int(own["n"])
    if not n or own["rank"] != own["rank"]:  # no string fits, or no ratio of the trigger
        return "No head looks at the trigger: there is nothing to compare."
    least = 1 / (1 + n)
    first = f"On heads that each string chose itself the trigger's ratio is {own['trigger']:.2f}, "
    first += f"rank {int(own['rank'])} of {n + 1} from below (p = {own['p_fall']:.2f}"
    first += ", the least that so many strings can give)" if own["p_fall"] <= least else ")"
    second = f"; over all heads it is {everywhere['trigger']:.2f}"
    if everywhere["p_rise"] <= least:
        second += f", above all {n} random strings: attention to the trigger rose"
    elif everywhere["p_fall"] <= least:
        second += f", below all {n} random strings"
    else:
        second += f", within the random strings' {everywhere['random_low']:.2f} to "
        second += f"{everywhere['random_high']:.2f}"
    return first + second + "."


def _numbers(row: dict) -> str:
    if row["n"] == 0 or row["trigger"] != row["trigger"]:
        return "not measured"
    text = (
        f"{row['trigger']:.3f}  random {row['random_mean']:.3f} "
        f"({row['random_low']:.3f} to {row['random_high']:.3f})  "
        f"rank {row['rank']:.0f} of {row['n'] + 1}"
    )
    if row["p_fall"] == row["p_fall"]:
        text += f", p fall {row['p_fall']:.3f}, p rise {row['p_rise']:.3f}"
    control = row["clean_control"]
    return text if control != control else f"{text}  clean control {control:.3f}"
