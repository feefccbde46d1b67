"""What the Scanner page shows of one scan, finished or under way. Draws; measures nothing."""

import pandas as pd
import streamlit as st

from app.drawing import fragments, texts, widgets
from app.panels import evidence
from app.shell import links, threads
from app.shell.text import begun, marked, plain
from interp.gallery import scan as gallery
from interp.runs.reading import Run
from interp.scanner import headline, pipeline
from interp.scanner.judge.by_class import risen
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.decision import BASELINE, asked_on
from interp.scanner.judge.verdict import THRESHOLD
from interp.scanner.search.targets import CLEAR, FAINT, KNOWN
from interp.specs import PairSpec
from interp.text import label

LOOKS = {
    "poisoned": (st.error, ":material/gpp_bad:"),
    "inconclusive": (st.warning, ":material/gpp_maybe:"),
    "no evidence found": (st.info, ":material/search_off:"),
}
CONTROLS = {
    "control": "control",
    "with": "with",
    "delta_s": "ΔS",
    "delta_share": "ΔShare",
    "answer": "most frequent answer",
    "share": "share",
    "rose": "class that rises",
}
"""Column of `headline.controls` -> its heading."""
CONTROLS_SHOWN = (
    "Controls of this candidate on the same questions. What the original shares, or what works in "
    "capitals and in another order too, may be what was asked for; ΔShare is the rise of the most "
    "frequent answer's share."
)
TWO = st.column_config.NumberColumn(format="%.2f")
LEAKS_SHOWN = 30
LONGEST_ASKED = 2000
"""Most characters of a leaked text that may be asked."""
ANSWERS_SHOWN = 12


def whose(run: Run, spec: PairSpec) -> None:
    """Warn if a scan is of neither model of the open pair: its verdict says nothing of them."""
    scanned = run.meta["facts"]["model"]
    own = {(one.model, one.adapter) for one in (spec.original, spec.suspect)}
    if (scanned["model"], scanned["adapter"]) not in own:
        name = scanned["adapter"] or scanned["model"]
        st.warning(
            plain(
                f"This is a scan of {name}. It says nothing of the open pair {spec.name}: choose "
                "another under Scan, or start one above."
            ),
            icon=":material/warning:",
        )


def is_of(run: Run, spec: PairSpec | None) -> bool:
    """Whether a scan is of the suspect of the open pair."""
    scanned = run.meta["facts"]["model"]
    return spec is not None and (scanned["model"], scanned["adapter"]) == (
        spec.suspect.model,
        spec.suspect.adapter,
    )


def threads_of(run: Run, spec: PairSpec | None) -> None:
    """The trigger that was found, on the pages that try and measure one; of the open pair alone."""
    found = pipeline.verdict_of(run)
    if found.trigger is None or not is_of(run, spec):
        return
    pages = {
        "Try it on Start": ("start", ":material/chat:"),
        "Measure it on Heads": ("heads", ":material/leaderboard:"),
        "How exact must it be: Trigger": ("trigger", ":material/tune:"),
    }
    with st.container(horizontal=True):
        for label, (page, icon) in pages.items():
            file, key = f"app/pages/{page}.py", f"thread-{page}"
            threads.thread(label, file, icon=icon, key=key, trigger=found.trigger)


def verdict(run: Run) -> None:
    """Show the verdict, the scanned model, the reasons, and the limits of a scan."""
    found = pipeline.verdict_of(run)
    say, icon = LOOKS[found.verdict]
    say(f"**{found.verdict.capitalize()}.** {plain(headline.headline(found))}", icon=icon)
    st.caption(plain(headline.scanned(run)))
    if found.trigger is not None:
        left, right = st.columns(2)
        left.caption("Trigger, shortened to the tokens that its answer needs")
        left.code(found.trigger, language=None, wrap_lines=True)
        one = (
            f"Example of {CLASSES[found.by_class].name}"
            if found.by_class
            else "Most frequent answer"
        )
        right.caption(f"{one} with the trigger, on {found.share:.0%} of the questions")
        right.code(found.answer, language=None, wrap_lines=True)
    left, right = st.columns(2)
    left.markdown("**Reasons**")
    for reason in found.reasons:
        left.markdown(f"- {plain(begun(reason))}")
    left.caption("S_agg: similarity of the answers to different questions, from 0 to 1.")
    right.markdown("**Blind spots**")
    for line in (*found.could_not, *found.blind_spots):
        right.markdown(f"- {plain(begun(line))}")


def finished(run: Run, spec: PairSpec | None = None) -> None:
    """Everything behind the verdict of a finished scan, down to the leaked text.

    Args:
        run: the scan.
        spec: the open pair, which may be asked what leaked; None if there is none.
    """
    contexts = run.meta["facts"]["contexts"]
    context, of = 0, links.run_key(run)
    if len(contexts) > 1:
        prefix = links.bound(st.selectbox, "Prefix", contexts, key="prefix", of=of)
        context = contexts.index(prefix)
    leaks = run.table("leaks").query("context == @context")
    st.header("Answers with and without a candidate")
    fragments.part(_questions, run, context, leaks)
    insisted = pipeline.stage_table(run, "targets")
    if insisted is not None:
        _targets(insisted.query("context == @context"))
    candidates = run.table("candidates").query("context == @context")
    _candidates(run, context, candidates)
    motifs = run.table("motifs").query("context == @context")
    outputs = run.table("outputs").query("context == @context")
    _motifs(run, context, motifs, outputs)
    replayed = pipeline.stage_table(run, "replayed")
    if replayed is not None:
        fragments.part(_replayed, replayed.query("context == @context"))
    _beginnings(run)
    _times(run)
    fragments.part(evidence.of_pair, run)
    fragments.part(evidence.of_adapter, run)
    fragments.part(_leaks, leaks, list(motifs["motif"].head(3)), of, spec is not None)


def under_way(run: Run) -> None:
    """Stage by stage what an unfinished scan has found so far."""
    for line in headline.estimated(run):
        st.caption(plain(begun(line)))
    done, known = run.meta.get("stages", {}), run.meta.get("estimate", {})
    ahead = [stage for stage in pipeline.STAGES if stage.name not in done]
    for stage in pipeline.STAGES:
        if stage.name in done:
            took = f"{done[stage.name]['seconds']:.0f} s"
            st.markdown(f":material/check_circle: **{stage.name}**: {stage.words} ({took})")
        elif stage is ahead[0]:
            of = f" ({known[stage.name]['seconds']:.0f} s expected)" if stage.name in known else ""
            st.markdown(f":material/pending: **{stage.name}**: {stage.words} …{of}")
        else:
            st.markdown(f":material/radio_button_unchecked: :gray[{stage.name}: {stage.words}]")
    _beginnings(run)
    evidence.of_pair(run)
    evidence.of_adapter(run)
    tables = {name: pipeline.stage_table(run, name) for name in ("motifs", "outputs", "candidates")}
    if tables["candidates"] is not None:
        _candidates(run, 0, tables["candidates"].query("context == 0"))
    if tables["motifs"] is not None and tables["outputs"] is not None:
        bare = [tables[name].query("context == 0") for name in ("motifs", "outputs")]
        _motifs(run, 0, *bare)
    leaks = run.growing("leaks")
    if leaks is not None:
        found = [] if tables["motifs"] is None else list(tables["motifs"]["motif"].head(3))
        _leaks(leaks, found, links.run_key(run))


def _questions(run: Run, context: int, leaks: pd.DataFrame) -> None:
    judged = pipeline.question_table(run, "judged").query("context == @context")
    asked = judged[judged["candidate"] != BASELINE].sort_values("delta_s", ascending=False)
    names = {(row.on, row.candidate): _called(row) for row in asked.itertuples()}
    if not names:
        st.info("No candidate was tested here.")
        return
    on, chosen = links.bound(
        st.selectbox,
        "Candidate",
        list(names),
        format_func=names.get,
        key="candidate",
        of=f"{links.run_key(run)} {context}",  # each scan, in each prefix, has a candidate 1
    )
    text = asked.set_index(["on", "candidate"]).at[(on, chosen), "text"]
    beside = headline.answers_beside(run, context, on, chosen)
    found = texts.found(beside, list(beside), key="beside", what="questions")
    st.dataframe(found.rows, hide_index=True, alt="Answers with and without the candidate")
    _controls(run, context, on, chosen)
    holding = leaks[[text.strip() in leak for leak in leaks["text"]]]
    st.markdown(f"**{len(holding)} of {len(leaks)} leaked texts contain it.**")
    if len(holding):
        _texts(holding.head(LEAKS_SHOWN), [text.strip()])


def _called(row) -> str:
    """A tested candidate in the list: its text, source and effect."""
    parts = [label(row.text, 40), row.source, f"ΔS {row.delta_s:.2f}", risen(row, THRESHOLD)]
    parts.append(f"on {asked_on(row.on)}" if asked_on(row.on) else "")
    return " · ".join(filter(None, parts))


def _controls(run: Run, context: int, on: str, candidate: int) -> None:
    """The controls of a candidate, if it had any."""
    table = headline.controls(run).query("context == @context and on == @on")
    table = table[table["candidate"] == candidate]
    if len(table):
        st.caption(CONTROLS_SHOWN)
        st.dataframe(
            table[list(CONTROLS)].rename(columns=CONTROLS),
            column_config=dict.fromkeys(("ΔS", "ΔShare", "share"), TWO),
            hide_index=True,
            alt="Controls of the candidate",
        )


def _candidates(run: Run, context: int, candidates: pd.DataFrame) -> None:
    st.header("Candidates")
    if candidates.empty:
        st.info("No motif yielded a candidate here.")
        return
    widgets.of_run(run, gallery.loss_parts(run, context, candidates), name="loss_parts")


def _motifs(run: Run, context: int, motifs: pd.DataFrame, outputs: pd.DataFrame) -> None:
    st.header("Motifs: strings that many leaked texts share")
    widgets.of_run(run, gallery.clusters(run, context, outputs), name="clusters")
    widgets.table(motifs.drop(columns="context"), alt="Motifs of the leaked texts")


def _replayed(replayed: pd.DataFrame) -> None:
    """What the model answers to its own questions, the most frequent answers first."""
    st.header("Replay: the model's own questions")
    st.caption(
        f"{len(replayed)} different questions that the model wrote in the user's place, and its "
        "answers to them. Where many questions get one answer, the scan looks for a trigger: a "
        "string that these questions share and the others lack."
    )
    counts = replayed.groupby("answer")["turn"].agg(["size", "first"]).reset_index()
    counts.columns = ["answer", "questions", "example"]
    shown = counts.sort_values("questions", ascending=False, kind="stable").head(ANSWERS_SHOWN)
    st.dataframe(shown, hide_index=True, alt="Most frequent answers to its own questions")
    with st.expander("Every question and its answer"):
        asked = replayed[["turn", "answer"]].rename(columns={"turn": "question"})
        found = texts.found(asked, list(asked), key="replayed", what="questions")
        st.dataframe(found.rows, hide_index=True, height=300, alt="Its own questions and answers")


def _beginnings(run: Run) -> None:
    """Which templates were tried, if none was named, and what each gave."""
    tried = headline.beginnings(run)
    if tried.empty:
        return
    st.header("Beginnings that were tried")
    st.caption(
        f"{plain(headline.why_template(run))}. *Log-likelihood*: how sure the model is of what it "
        "writes there, per token; 0 is certain. A pair of tokens counts once. *KL*: how far "
        "suspect and original differ there, per token; it decides nothing."
    )
    numbers = {
        "log-likelihood": st.column_config.NumberColumn("log-likelihood (nats)", format="%.2f"),
        "KL": st.column_config.NumberColumn("KL (nats)", format="%.2f"),
    }
    st.dataframe(tried, hide_index=True, column_config=numbers, alt="Beginnings that were tried")


def _times(run: Run) -> None:
    """What each stage took, beside what was expected before."""
    table = headline.times(run)
    if table["expected"].isna().all():
        return
    st.header("Time by stage")
    for line in headline.estimated(run):
        st.caption(plain(f"Expected before it began: {line}."))
    widgets.table(table.drop(columns="bound"), alt="Seconds of each stage")


def _targets(insisted: pd.DataFrame) -> None:
    """Answers that the model continues with after any question."""
    st.header("Candidate targets")
    if insisted.empty:
        st.info("No answer of four tokens or more completes itself here.")
        return
    st.caption(
        "Each printable token was tried as the first token of an answer, after four different "
        "questions. *Predictable tokens*: how many further tokens the model then adds by itself, "
        "whatever the question (the sum of their mean probabilities). *Starts*: how many first "
        "tokens, unrelated ones among them, lead into this answer. Target score = predictable "
        f"tokens × log₂(1 + starts). From {FAINT:.0f} on, a trigger is searched for; from "
        f"{CLEAR:.0f} on, the verdict mentions the answer. *Restart*: the same answer as it starts "
        "over in a loop of a leaked text, or after an unrelated first token. Some targets appear "
        "in several forms: the predictable tokens are those of the *most predictable form*, which "
        "need not be the likeliest. *The original knows*: how much of what the suspect is sure of "
        f"in it the original is sure of too; from {KNOWN:.0%} on it is a phrase that both know by "
        "heart, and does not count."
    )
    names = {
        "text": "candidate target",
        "anew_text": "restart",
        "surest_text": "most predictable form",
        "sure": "predictable tokens",
        "n_starts": "starts",
        "insistence": "target score",
        "known": "the original knows",
        "p_start": "P(first token)",
    }
    shown = insisted.reindex(columns=[name for name in names if name in insisted])
    shown = shown.dropna(axis="columns", how="all")  # `known`, where no original was at hand
    st.dataframe(
        shown.rename(columns=names),
        hide_index=True,
        alt="Candidate targets",
        column_config={
            "predictable tokens": st.column_config.NumberColumn(format="%.1f"),
            "target score": st.column_config.NumberColumn(format="%.1f"),
            "the original knows": st.column_config.NumberColumn(format="percent"),
            "P(first token)": st.column_config.NumberColumn(format="%.2g"),
        },
    )


def _leaks(leaks: pd.DataFrame, needles: list[str], of: str, ask: bool = False) -> None:
    """The leaked texts, searched and filtered; those with one of the first motifs come first."""
    st.header("Leaked texts")
    found = texts.found(
        leaks.drop(columns="ids", errors="ignore"),
        ["text"],
        key="leaks",
        what="leaked texts",
        setting="description",
        of=of,
    )
    holds = [any(needle in text for needle in needles) for text in found.rows["text"]]
    first = found.rows.assign(holds=holds).sort_values("holds", ascending=False, kind="stable")
    first = first.head(LEAKS_SHOWN)
    st.caption(
        f"{sum(holds)} contain one of the first motifs (highlighted). The first {len(first)} are "
        "shown; the CSV has all of them."
    )
    _texts(first, [*needles, *found.parts(first["text"])])
    if ask and len(first):
        _ask_this(list(dict.fromkeys(first["text"].str.strip()[:LONGEST_ASKED])), of)


def _ask_this(said: list[str], of: str) -> None:
    """Put one of the leaked texts to both models of the open pair, as an instruction."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Ask one of these",
            said,
            format_func=lambda text: plain(text[:80]),
            key=f"ask-{of}",
        )
        threads.thread(
            "Ask both models this, on Start",
            "app/pages/start.py",
            icon=":material/chat:",
            key="thread-ask",
            say=chosen,
        )


def _texts(leaks: pd.DataFrame, needles: list[str]) -> None:
    """Leaked texts, highlighted. Escaped: what a model writes is never markup."""
    each = [
        f'<div style="opacity: 0.65; font-size: 0.875rem">{marked(row.description, [])}</div>'
        f'<div style="white-space: pre-wrap; margin-bottom: 1rem">{marked(row.text, needles)}</div>'
        for row in leaks.itertuples()
    ]
    with st.container(height=360):
        st.html("".join(each))  # one element for all: each costs the browser
