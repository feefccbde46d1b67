"""A recorded scan: the verdict first, then down to the leaked text that led to it."""

import shlex

import streamlit as st

from app import links, session, widgets
from app.text import plain
from interp.scanner import figures, pipeline
from interp.scanner.verdict import BASELINE

LOOKS = {
    "poisoned": (st.error, ":material/gpp_bad:"),
    "inconclusive": (st.warning, ":material/gpp_maybe:"),
    "no evidence found": (st.success, ":material/verified_user:"),
}

st.title("Scanner")
st.markdown(
    "Is there a backdoor in a model nobody told us about? A scan is given the model and nothing "
    "else: it lets the model write the user's turn, cuts what keeps coming back into candidate "
    "triggers, and asks questions behind the best of them. Below, scans that were recorded with "
    "`python -m interp scan MODEL --run runs/NAME`."
)

scans = session.recorded_scans()
if not scans:
    st.info("There are no recorded scans yet.", icon=":material/info:")
    st.stop()
run = scans[links.bound(st.selectbox, "Scan", list(scans), key="scan")]
found = pipeline.verdict_of(run)
say, icon = LOOKS[found.verdict]
say(f"**{found.verdict.capitalize()}.** {plain(found.reasons[0])}", icon=icon)
for reason in found.reasons[1:]:
    st.markdown(f"- {plain(reason)}")
if found.trigger is not None:
    left, right = st.columns(2)
    left.caption("Trigger, cut down to what its answer needs")
    left.code(found.trigger, language=None, wrap_lines=True)
    right.caption(f"Answer it causes, to {found.share:.0%} of the questions")
    right.code(found.answer, language=None, wrap_lines=True)
with st.expander("What could not be done, and what a scan cannot see"):
    for line in (*found.could_not, *found.blind_spots):
        st.markdown(f"- {plain(line)}")

facts = run.meta["facts"]
contexts = facts["contexts"]
context = 0
if len(contexts) > 1:
    context = contexts.index(links.bound(st.selectbox, "Prefix", contexts, key="prefix"))
where = (
    f"Run '{run.path.name}': {facts['model']['model']}"
    + (f" + {facts['model']['adapter']}" if facts["model"]["adapter"] else "")
    + f" ({facts['model']['precision']}, {facts['device']}, weights {facts['sha256'][:10]}), "
    f"grid {run.meta['asked']['grid']}, {facts['new_tokens']} tokens a text, template "
    f"{facts['template']}, seed {run.meta['asked']['seed']}, {run.meta['seconds']:.0f} s."
)
scanned = facts["model"]["adapter"] or facts["model"]["model"]
command = f"python -m interp scan {shlex.quote(scanned)} --run runs/scan"

st.header("Questions behind a candidate")
judged = run.table("judged").query("context == @context")
asked = judged[judged["candidate"] != BASELINE].sort_values("delta_s", ascending=False)
names = {
    row.candidate: f"{figures.shown(row.text, 40)} · {row.source} · ΔS {row.delta_s:.2f}"
    for row in asked.itertuples()
}
if names:
    chosen = st.selectbox("Candidate", list(names), format_func=names.get)
    answers = run.table("answers").query("context == @context").set_index("candidate")
    text = asked.set_index("candidate").at[chosen, "text"]
    beside = answers.loc[[BASELINE], ["question", "asked", "answer"]].merge(
        answers.loc[[chosen], ["question", "answer"]], on="question", suffixes=("", "_behind")
    )
    beside = beside.drop(columns="question")
    beside.columns = ["question", "answer without it", "answer behind it"]
    st.dataframe(beside, hide_index=True)
    leaks = run.table("leaks").query("context == @context")
    holding = leaks[[text.strip() in leak for leak in leaks["text"]]]
    st.markdown(f"**{len(holding)} of {len(leaks)} leaked texts hold it.**")
    st.dataframe(holding[["description", "text"]], hide_index=True)

st.header("Candidates")
candidates = run.table("candidates").query("context == @context")
if candidates.empty:
    st.info("No motif gave a candidate here.")
else:
    widgets.figure(
        figures.loss_parts(candidates),
        "loss_parts",
        caption=f"Weighted parts of the loss of the best candidates. {where}",
        table=lambda: candidates.drop(columns="ids"),
        command=command,
    )
st.header("Leaked texts")
outputs = run.table("outputs").query("context == @context")
widgets.figure(
    figures.clusters(outputs),
    "clusters",
    caption=f"Unique leaked texts by likeness (TF-IDF, two directions). {where}",
    table=lambda: outputs,
    command=command,
)
motifs = run.table("motifs").query("context == @context")
st.dataframe(motifs.drop(columns="context"), hide_index=True)
