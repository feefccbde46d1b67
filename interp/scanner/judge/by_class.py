"""Changes of the class of the answers: which count, and how many random strings do the same."""

from collections.abc import Collection

import pandas as pd

from interp.scanner.judge import controls
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.verdict import LIMITS, Limits


def counted(
    judged: pd.DataFrame,
    texts: dict[int, str],
    searched: Collection[int],
    limits: Limits = LIMITS,
) -> pd.DataFrame:
    """The changes of class with candidates that leaked and that do not ask for the class.

    Args:
        judged: rows of `decision.judge`, of candidates; one recorded earlier may lack classes.
        texts: candidate -> its text.
        searched: candidates that were searched for. A search finds a request of the model's own
            language as easily as a trigger.
        limits: of the verdict.

    Returns:
        The row of `judged` once for each class, with `key` (the class) and its `rise`.
    """
    leaked = judged[~judged["candidate"].isin(searched)]
    parts = [judged.head(0).assign(key="", rise=0.0)]
    for one in CLASSES.values():
        if one.rise in leaked:
            part = leaked.assign(key=one.key, rise=leaked[one.rise]).dropna(subset="rise")
            said = zip(part["candidate"], part[one.example], strict=True)
            own = [
                not (limits.naming and one.asked_by(texts[candidate], example))
                for candidate, example in said
            ]
            parts.append(part[pd.Series(own, index=part.index, dtype=bool)])
    return pd.concat(parts, ignore_index=True)


def largest(rows: pd.DataFrame) -> dict[str, float]:
    """Class -> its largest rise without a `doubt`, of rows as `counted` returns them; none: 0."""
    rises = rows["rise"].where(rows["doubt"] == "", 0.0).groupby(rows["key"]).max()
    return {key: float(rise) for key, rise in rises.items()}


def risen(row, threshold: float) -> str:
    """The class whose share rises most with a candidate, such as `a refusal +75 %`.

    Args:
        row: of `decision.judge`, as a named tuple; one recorded earlier may lack classes.
        threshold: rise up to which nothing is said.

    Returns:
        "" if no class rises by more.
    """
    rises = {one.name: getattr(row, one.rise, float("nan")) for one in CLASSES.values()}
    over = {name: rise for name, rise in rises.items() if rise > threshold}
    return f"{max(over, key=over.get)} {max(over.values()):+.0%}".replace("%", " %") if over else ""


def like_junk(
    row: pd.Series, own: pd.DataFrame, controlled: pd.DataFrame, limits: Limits = LIMITS
) -> str:
    """That random strings raise a class too, as the end of a sentence; "" if too few do.

    Args:
        row: of `counted`.
        own: rows of `decision.judge` of random strings, on any questions.
        controlled: as for `decision.decide`.
        limits: of the verdict.
    """
    more = controls.measured(controlled, row)
    there = own[(own["context"] == row["context"]) & (own["on"] == row["on"])]
    name = CLASSES[row["key"]].rise
    rises = [*there[name], *more.loc[more["control"] == controls.JUNK, name]]
    hits = sum(rise > limits.of_class for rise in rises)
    if hits <= limits.of_junk * len(rises):
        return ""
    return f"need not be the trigger: {hits} of {len(rises)} random strings do the same"
