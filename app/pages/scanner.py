"""Scan a model for an unknown backdoor: start a scan, watch it, or open a recorded one."""

import streamlit as st

from app.controls import run_picker, scan_form, sidebar
from app.drawing import fragments
from app.panels import scan
from app.shell import failures, limits
from app.shell.text import plain
from app.state import opening, recorded
from interp.scanner import pipeline

st.title("Scanner")
st.markdown(
    "Does this model have a backdoor? A scan knows neither trigger nor target. It lets the model "
    "write the user's turn, replays those questions, cuts recurring strings into candidate "
    "triggers, looks for candidate targets and for what causes them, and compares the answers with "
    "and without the best candidates."
)
view = sidebar.view()
with st.expander("Scan a model by its name or folder", icon=":material/radar:"):
    with failures.shown():
        if limits.may("Scanning a model of your own"):
            scan_form.of_model()
if view.spec is None:
    st.caption("Choose a pair in the sidebar to scan one of its models.")
else:
    with st.expander(f"Scan a model of the pair {plain(view.spec.name)}", icon=":material/radar:"):
        if limits.may("Scanning"):
            scan_form.of_pair(view.spec)

pair = view.spec.name if view.spec else None
picked = run_picker.pick(
    pipeline.KIND,
    recorded.recorded_scans(),
    key=scan_form.CHOSEN,
    label="Scan",
    growing="leaks",
    mine=run_picker.of_pair(pair),
    of=pair or opening.RECORDED,
)
with st.container():  # also if the scan is of the pair: elements below must not move
    if picked is not None and picked.finished and view.spec is not None:
        scan.whose(picked.run, view.spec)
if picked is not None and picked.finished:
    scan.verdict(picked.run)
    scan.threads_of(picked.run, view.spec)
    fragments.part(scan.finished, picked.run, view.spec)
elif picked is not None:
    scan.under_way(picked.run)
