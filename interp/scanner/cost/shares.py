"""How a budget is divided among the stages that are still to come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

KEPT = 0.05
"""Share of a budget that is planned for nothing, since no speed is measured exactly."""


@dataclass(frozen=True)
class Need:
    """What a stage takes, in seconds."""

    least: float
    """Without which its result would be none."""
    whole: float
    """Without a budget; at least `least`."""
    weight: float
    """Its part of what all stages compete for, relative to the others'."""


def divided(seconds: float, needs: Sequence[Need]) -> list[float]:
    """Seconds for each stage: the least of all first, then by weight up to what each takes.

    Args:
        seconds: to divide; where they do not hold the least of all, each gets its least.
        needs: of the stages.

    Returns:
        Their sum is at most `seconds`, or the sum of the least if that is more.

    >>> [round(one, 2) for one in divided(10, [Need(1, 2, 1), Need(1, 20, 1), Need(2, 20, 3)])]
    [2, 2.25, 5.75]
    """
    given = [need.least for need in needs]
    left = seconds - sum(given)
    while left > 1e-9:
        short = [n for n, need in enumerate(needs) if need.whole - given[n] > 1e-9]
        weights = sum(needs[n].weight for n in short)
        if not weights:
            break
        for n in short:
            given[n] += min(needs[n].whole - given[n], left * needs[n].weight / weights)
        left = seconds - sum(given)
    return given


def most_that(fits: Callable[[int], bool], most: int, least: int) -> int:
    """The largest number from `least` to `most` that fits; `least` if none does.

    Args:
        fits: whether a number does; if one does, so do all smaller ones.
        most: tried first.
        least: what is taken anyway.
    """
    if most <= least or fits(most):
        return max(most, least)
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
