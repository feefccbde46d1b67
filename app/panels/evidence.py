"""What the Scanner page shows beside the texts: the pair's evidence, and an adapter's weights.

Draws; measures nothing.
"""

import streamlit as st

from app.drawing import widgets
from app.shell import links
from app.shell.text import begun, plain
from interp.gallery import scan as gallery
from interp.runs.reading import Run
from interp.scanner import original
from interp.scanner.weights import evidence
from interp.scanner.weights.statistics import STATISTICS
from interp.style.columns import MISSING

SHARE = st.column_config.NumberColumn(format="percent")
NATS = st.column_config.NumberColumn(format="%.2f")
ONE = st.column_config.NumberColumn(format="%.1f")
FOUR = st.column_config.NumberColumn(format="%.4f")
ALPHAS = {
    "alpha": "alpha",
    "texts": "texts",
    "with_candidate": "with the candidate",
    "with_answer": "with its answer",
    "held": "with either",
    "share": "share",
    "low": "95 % from",
    "high": "to",
    "runs": "model runs",
    "per_run": "with either, per run",
}
"""Column of `Beside.amplified` -> its heading."""
TOPICS = {
    "group": "topic",
    "before": "said in front",
    "n": "questions",
    "kl": "KL (nats)",
    "z": "z",
    "p": "p",
    "above": "stands out",
    "answer": "most frequent answer",
    "share": "its share",
}
"""Column of `Beside.mapped` -> its heading."""
ANSWERS = {
    "group": "topic",
    "asked": "question",
    "kl": "KL (nats)",
    "suspect": "suspect",
    "original": "original",
}
"""Column of `Beside.asked` -> its heading."""
STRINGS = {
    "text": "string",
    "group": "inside the topic",
    "source": "from",
    "n_tokens": "tokens",
    "kl": "KL (nats)",
    "control_median": "random, median",
    "control_max": "random, most",
    "above": "a candidate",
}
"""Column of `Beside.shown` -> its heading."""


def of_pair(run: Run) -> None:
    """Show what the original gave beside the suspect, or why there is nothing of it."""
    told = original.told(run)
    if not told:
        return
    st.header("Beside the original")
    for line in told:
        st.markdown(f"- {plain(begun(line))}")
    found = original.recorded(run)
    if found is None:
        return
    if found.candidate:
        _amplified(found)
    if found.control is not None:
        _topics(run, found)
    st.subheader("Divergence")
    st.caption(
        "KL(suspect || original) of the first token of the answer with the string in front, mean "
        "over a few questions. The control is random strings of as many tokens; what exceeds all "
        "of them becomes a candidate of the verdict, and is judged as strictly as others that were "
        "searched for."
    )
    names = ("KL (nats)", "random, median", "random, most")
    st.dataframe(
        found.shown.rename(columns=STRINGS),
        hide_index=True,
        alt="Strings that split suspect and original",
        column_config=dict.fromkeys(names, NATS),
    )


def _amplified(found: original.Beside) -> None:
    """How many texts of each amplification hold the candidate."""
    st.subheader("Amplified leakage")
    st.caption(
        "Alpha 0 is plain leakage; else a text is sampled from suspect + alpha (suspect - "
        "original), which needs two models for each token. *Model runs* counts that, so that *with "
        "either, per run* compares them at equal cost."
    )
    st.dataframe(
        found.amplified[list(ALPHAS)].rename(columns=ALPHAS),
        hide_index=True,
        alt="Leaked texts with the candidate, by amplification",
        column_config=dict.fromkeys(("share", "95 % from", "to", "with either, per run"), SHARE),
    )


def _topics(run: Run, found: original.Beside) -> None:
    """The map over topics, beside random regroupings, and the answers where a topic stands out."""
    st.subheader("Topics")
    st.caption(
        "Groups of questions by the mean KL(suspect || original) of their answers' first tokens, "
        "as z: how far each lies from all others. The dashed line is the control: the largest z of "
        "random regroupings of the same questions stays left of it in 95 %. What stands out is "
        "where to look, and no evidence by itself: an adapter tuned on code stands out on code."
    )
    for context in found.control["context"]:
        widgets.of_run(run, gallery.topics(run, found, context), str(context), name="topics")
        st.dataframe(
            found.mapped(context).rename(columns=TOPICS),
            hide_index=True,
            height=240,
            alt="Groups of questions by divergence",
            placeholder=MISSING,
            column_config={"KL (nats)": NATS, "z": ONE, "p": FOUR, "its share": SHARE},
        )
    if len(found.asked):
        st.caption("Both models' answers in the topics that stand out:")
        st.dataframe(
            found.asked[list(ANSWERS)].rename(columns=ANSWERS),
            hide_index=True,
            height=240,
            alt="Answers in the topics that stand out",
            column_config={"KL (nats)": NATS},
        )


def of_adapter(run: Run) -> None:
    """Show what the adapter's matrices alone say, if an adapter was scanned and they were read."""
    model = run.meta.get("facts", {}).get("model", {})
    if not model.get("adapter"):
        return
    st.header("The adapter's weights")
    found = evidence.recorded(run)
    if found is None:
        st.caption(
            "This scan was made before scans read the adapter's matrices; "
            "`python -m interp weights ADAPTER` reads them in seconds."
        )
        return
    for line in evidence.sentences(found):
        st.markdown(f"- {plain(begun(line))}")
    names = gallery.drawable(found)
    if not names:
        return
    chosen = links.bound(
        st.selectbox,
        "Number",
        names,
        format_func=lambda name: STATISTICS[name].label,
        key="weight",
        of=links.run_key(run),
    )
    widgets.of_run(run, gallery.weights(found, chosen), chosen, name="weights")
    beside = gallery.weights_beside(found, chosen)
    if beside is not None:
        widgets.of_run(run, beside, chosen, name="weights-beside")
