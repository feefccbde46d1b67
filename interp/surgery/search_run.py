"""The search for the fewest heads, as a run."""

from dataclasses import dataclass

import pandas as pd

from interp.causal import measure
from interp.causal.cases import material
from interp.causal.head_table import head_table
from interp.causal.question import CausalQuestion
from interp.errors import UsageError
from interp.metrics import ABLATIONS, CAUSAL_METRICS, MEASURES, parse_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import TargetQuestion
from interp.prompts.sets import halves
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.surgery.cumulative import cumulative
from interp.surgery.operate import OperatedSuspect, check_method
from interp.surgery.run import answers_of_sets, stages_of
from interp.surgery.search import (
    MOST_ELIMINATED,
    SEARCH_PROMPTS,
    Goal,
    curve,
    eliminated,
    forward,
    orders,
    share,
    step_row,
)

SEARCH_KIND = "head-search"


RANKINGS = (
    "delta_rel",
    "pattern_kl",
    "patching_effect",
    "ablation_loss",
    "indirect",
    "random",
)


@dataclass(frozen=True, kw_only=True)
class SearchQuestion(TargetQuestion):
    """How to search for the fewest heads; `seed` also sets the random order."""

    method: str = "mean"
    """One of `operate.OPERATIONS`."""
    rankings: tuple[str, ...] = RANKINGS

    def __post_init__(self):
        object.__setattr__(self, "rankings", tuple(self.rankings))
        check_method(self.method)
        unknown = [name for name in self.rankings if name not in (*CAUSAL_METRICS, "random")]
        if unknown or not self.rankings:
            what = f"ranking '{unknown[0]}' is not known" if unknown else "no ranking is chosen"
            raise UsageError(f"{what}: choose some of {', '.join([*CAUSAL_METRICS, 'random'])}")

    @property
    def causal(self) -> CausalQuestion:
        """The measures that the rankings are based on."""
        needed = {CAUSAL_METRICS[name].measure for name in self.rankings if name in CAUSAL_METRICS}
        needed |= {"patching", "pattern"}  # the orders of cumulative patching
        return CausalQuestion.of(
            self,
            ablation=self.method if self.method in ABLATIONS else "mean",
            measures=tuple(name for name in MEASURES if name in needed),
        )


def search(
    pair: ModelPair,
    question: SearchQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Write measures, curves of all rankings and the sets found; resume where the run stopped.

    Tables: one per measure and `heads` as in a causal run; `curve` (see `search.curve`);
    `cumulative` (see `cumulative.cumulative`); `forward` (one row per added head); `sets`: every
    set that reaches the goal, as rows of a curve, smallest first. There `ranking` states how the
    set was found, and `said_NAME` gives the results of whole answers (see `run.OUTCOMES`) with
    Wilson intervals (`said_NAME_low`, `said_NAME_high`). Heads are ranked and sets chosen on one
    half of the prompts, and judged on the other (`halves`; facts `chosen_on, judged_on`).

    Raises:
        UsageError: a prompt set without right answers; errors of `cases.material`.
    """
    stages = len(question.causal.measures) + len(question.rankings) + 5
    stage = stages_of(on_progress, stages)
    found = material(pair, question)
    writer.made_of(**found.hashes)
    for name in question.causal.measures:
        measure.measure(pair, question.causal, found, name, writer, next(stage))
    tables = {name: writer.existing_table(name) for name in question.causal.measures}
    writer.table("heads", head_table(tables, question.seed))
    choose, judge = halves(found.prompt_set, question.seed)
    heads = head_table(
        {name: part[part["prompt"].isin(choose)] for name, part in tables.items()}, question.seed
    )
    table = OperatedSuspect(found, question.method, keep=choose, on_progress=next(stage))
    goal = Goal(share(table.outcome([]).right))
    ranked = {name: orders(heads, name, question.seed) for name in question.rankings}
    kept = writer.existing_parts("curve")
    for number, (name, order) in enumerate(ranked.items()):
        step = next(stage)
        if number not in kept:
            kept[number] = curve(table, name, order, step)
            writer.part("curve", number, kept[number])
    curves = pd.concat([kept[n] for n in sorted(kept)], ignore_index=True)
    if writer.existing_table("sets") is None:
        few = OperatedSuspect(found, question.method, limit=SEARCH_PROMPTS, keep=choose)
        added, sets = _sets(few, table, goal, curves, next(stage), next(stage))
        writer.table("forward", added)
        writer.table("sets", answers_of_sets(found, question.method, sets, judge, next(stage)))
    if writer.existing_table("cumulative") is None:
        writer.table("cumulative", cumulative(pair, found.triggered_set, heads, next(stage)))
    writer.whole("curve", curves)
    more = {"goal_clean": goal.clean, "chosen_on": choose, "judged_on": judge}
    return writer.finish(facts=measure.facts(pair, found) | more)


def _sets(
    few: OperatedSuspect,
    table: OperatedSuspect,
    goal: Goal,
    curves: pd.DataFrame,
    on_add: Progress,
    on_spare: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of heads added one at a time, and the table of sets that reach the goal."""
    added = [step_row("forward", heads, left) for heads, left in forward(few, table, goal, on_add)]
    candidates = [row for row in (*added[-1:], *_first_that_do(curves, goal)) if _does(row, goal)]
    rows = list(candidates)
    for row in sorted(candidates, key=lambda row: row["n"])[:2]:
        if row["n"] <= MOST_ELIMINATED:
            pair = table.pair
            heads = parse_heads(row["heads"], pair.n_layers, pair.n_heads)
            fewer = eliminated(table, heads, goal, on_spare)
            rows.append(step_row(f"{row['ranking']}, eliminated", fewer, table.outcome(fewer)))
    sets = pd.DataFrame(rows, columns=curves.columns).sort_values("n", kind="stable")
    return pd.DataFrame(added, columns=curves.columns), sets.reset_index(drop=True)


def _first_that_do(curves: pd.DataFrame, goal: Goal) -> list[dict]:
    """For each ranking, the fewest first heads that reach the goal."""
    found = []
    for _, part in curves.groupby("ranking", sort=False):
        rows = [row for row in part.to_dict("records") if _does(row, goal)]
        found += rows[:1]
    return found


def _does(row: dict, goal: Goal) -> bool:
    return goal.met(row["asr"], row["clean"])
