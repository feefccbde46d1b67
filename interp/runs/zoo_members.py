"""A zoo's members as they are read now, whichever definition they were measured by."""

import pandas as pd

from interp.runs.reading import Run
from interp.specs import ROWS

BEFORE = {"strings": 1, "prompts": 20, "rows": "instruction"}
"""How the attention of members was measured in runs that do not say."""
CALLED_BEFORE = {
    "ratio_true": "true_own",
    "ratio_candidate": "candidate_own",
    "ratio_random": "true_own_random_mean",
}
"""Column of such a run -> the one that stands in its place."""


def attention_of(run: Run) -> dict:
    """`strings, prompts, rows`: random strings beside a string, prompts, and `specs.ROWS`."""
    return run.meta.get("facts", {}).get("attention", BEFORE)


def members_of(run: Run) -> pd.DataFrame:
    """The table `members`, with the columns of today where an older one says the same.

    Returns:
        With `true_own, candidate_own, true_own_random_mean, true_own_n` at least; what was not
        measured then (rank and p, all heads, middle layers) is not there.
    """
    members = run.table("members").rename(columns=CALLED_BEFORE)
    for name in CALLED_BEFORE.values():
        if name not in members:
            members[name] = float("nan")
    if "true_own_n" not in members:
        members["true_own_n"] = members["true_own_random_mean"].notna().astype(float)
    return members


def definition(run: Run) -> str:
    """How the attention to a string was measured, in a sentence."""
    how = attention_of(run)
    told = f"L_attn ratios are of {how['prompts']} prompts, over {ROWS[how['rows']]}"
    if how["strings"] > 1:
        return (
            f"{told}; beside each string stand {how['strings']} random ones of as many tokens "
            "(fewer where no more fit), every string on the heads that it chose itself."
        )
    return (
        f"{told}; by the definition of before 2026-11-29: one random string, of as many tokens as "
        "the true trigger and on heads of its own, so neither ranks nor ratios over all heads or "
        "the middle layers were recorded."
    )
