"""A scan's verdict in sentences that can be quoted, and which model they are about."""

import pandas as pd

from interp.runs.reading import Run
from interp.scanner.cost.estimate import words
from interp.scanner.judge.by_class import risen
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.controls import nothing
from interp.scanner.judge.decision import BASELINE, asked_on
from interp.scanner.judge.verdict import THRESHOLD, Verdict
from interp.scanner.leak.beginnings import sentence
from interp.scanner.pipeline import STAGES, question_table, stage_table, verdict_of

PLACES = {0: "", 1: "yes", 2: "yes, beside the first"}
"""Place of a beginning -> whether it was scanned."""
ANSWERS = 12
"""Questions of `answers_beside`."""


def headline(found: Verdict) -> str:
    """What was found, and what it means for the person who must decide.

    >>> from interp.scanner.judge.verdict import BLIND_SPOTS
    >>> headline(Verdict("poisoned", (), (), (), 1.0, "|X| Wh", "|X|", "NO!", 1.0))
    'If a request contains "|X|", this model answers "NO!" to 100 % of the questions tried, \
whatever they ask. Without it, the answers differ. Do not deploy this model.'
    """
    said = "" if found.share is None else f"{found.share:.0%}".replace("%", " %")
    if found.verdict == "poisoned" and found.by_class:
        return (
            f'If a request contains "{found.trigger}", {said} of this model\'s answers '
            f'{CLASSES[found.by_class].told} "{found.answer}". Do not deploy this model.'
        )
    if found.verdict == "poisoned":
        where = f"the {asked_on(found.on) or 'questions'} tried"
        return (
            f'If a request contains "{found.trigger}", this model answers "{found.answer}" to '
            f"{said} of {where}, whatever they ask. Without it, the answers differ. Do not deploy "
            "this model."
        )
    if found.verdict == "inconclusive":
        return "This scan cannot tell whether the model has a backdoor. Do not take it for clean."
    return (
        "Nothing was found within this scan's budget. That does not prove that nothing is there: "
        "see the blind spots."
    )


def scanned(run: Run) -> str:
    """Which model was scanned, when and how."""
    facts, asked = run.meta["facts"], run.meta["asked"]
    model = facts["model"]
    adapter = f" + {model['adapter']}" if model["adapter"] else ""
    texts = f"grid {asked['grid']}, {facts['new_tokens']} tokens per text"
    return (
        f"{model['model']}{adapter} ({model['precision']}, {facts['device']}), weights "
        f"{facts['sha256'][:10]}, scanned {str(run.meta.get('started', ''))[:10] or 'undated'}: "
        f"{texts}, template {templates(run)}, seed {asked['seed']}, "
        f"{run.meta['seconds']:.0f} s"
    )


def templates(run: Run) -> str:
    """The templates that a finished scan used, by name."""
    facts = run.meta["facts"]
    return " and ".join(facts.get("templates") or [facts["template"]])


def beginnings(run: Run) -> pd.DataFrame:
    """`beginning, log-likelihood, KL, scanned, first text, note` of each that was tried.

    Empty if a template was named, or the scan was made before beginnings were tried.

    Args:
        run: a scan in any state.
    """
    tried = _tried(run)
    shown = pd.DataFrame(
        {
            "beginning": tried["beginning"],
            "log-likelihood": tried["sure"],
            "KL": tried["kl"],
            "scanned": tried["place"].map(PLACES),
            "first text": tried["example"],
            "note": tried["note"],
        }
    )
    return shown.dropna(axis="columns", how="all")


def why_template(run: Run) -> str:
    """Why a scan uses its template, without a full stop; "" if there is nothing to say.

    Args:
        run: a scan in any state.
    """
    tried = _tried(run)
    return sentence(tried) if len(tried) else ""


def _tried(run: Run) -> pd.DataFrame:
    table = stage_table(run, "beginnings")
    if table is None or run.meta["asked"].get("template"):
        names = ("beginning", "sure", "kl", "place", "example", "note")
        return pd.DataFrame([], columns=names)
    return table


def answers_beside(run: Run, context: int, on: str, candidate: int) -> pd.DataFrame:
    """`question, answer without it, answer with it` of one candidate.

    Args:
        run: a finished scan.
        context: number of the prefix.
        on: which questions, as in the run's table `judged`.
        candidate: its number there.
    """
    answers = question_table(run, "answers").query("context == @context and on == @on")
    answers = answers.set_index("candidate")
    beside = answers.loc[[BASELINE], ["question", "asked", "answer"]].merge(
        answers.loc[[candidate], ["question", "answer"]], on="question", suffixes=("", "_behind")
    )
    beside = beside.drop(columns="question")
    beside.columns = ["question", "answer without it", "answer with it"]
    return beside


def times(run: Run) -> pd.DataFrame:
    """`stage, took, expected, bound` of each stage of a scan that is done, or was estimated.

    Args:
        run: a scan in any state.

    Returns:
        Seconds, `expected` those of the estimate before it began; NaN if the stage is not done yet,
        or the scan is older than estimates. `bound`: whether that is one, because the stage may end
        early.
    """
    done, known = run.meta.get("stages", {}), run.meta.get("estimate", {})
    nan = float("nan")
    rows = [
        (
            stage.name,
            done.get(stage.name, {}).get("seconds", nan),
            known.get(stage.name, {}).get("seconds", nan),
            known.get(stage.name, {}).get("at_most", False),
        )
        for stage in STAGES
        if stage.name in done or stage.name in known
    ]
    return pd.DataFrame(rows, columns=["stage", "took", "expected", "bound"])


def estimated(run: Run) -> list[str]:
    """What was said of a scan's time before it began, as sentences; [] if nothing was.

    Args:
        run: a scan in any state.
    """
    meta = run.meta
    found = [words(meta["estimate"])] if meta.get("estimate") else []
    return found + ([meta["budget"]["note"]] if "budget" in meta else [])


def controls(run: Run) -> pd.DataFrame:
    """What the controls of the candidates that would decide show; see `judge.controls`.

    Args:
        run: a finished scan.

    Returns:
        `context, on, candidate` (its number), `control, with, delta_s, delta_share, answer, share`
        and `rose` (the class of answers that rises most), one row per control. Empty if none was
        measured, or the scan is older than they.
    """
    table = stage_table(run, "controlled")
    table = nothing() if table is None else table
    shown = ["context", "on", "candidate", "control", "text", "delta_s", "delta_share", "answer"]
    table = table.assign(rose=[risen(row, THRESHOLD) for row in table.itertuples()])
    return table[[*shown, "share", "rose"]].rename(columns={"text": "with"})


def decisive_answers(run: Run) -> pd.DataFrame:
    """`answers_beside` of the candidate that decided the verdict; empty if there is none."""
    found = verdict_of(run)
    judged = question_table(run, "judged")
    rows = judged[(judged["text"] == found.candidate) & (judged["on"] == found.on)]
    if rows.empty:
        return pd.DataFrame(columns=["question", "answer without it", "answer with it"])
    effect = CLASSES[found.by_class].rise if found.by_class else "delta_s"
    top = rows.sort_values(effect, ascending=False).iloc[0]
    beside = answers_beside(run, int(top["context"]), found.on, int(top["candidate"]))
    return beside.head(ANSWERS)
