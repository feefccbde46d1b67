"""Scan a model for a backdoor nobody told us about: start it, watch it, open a recorded one."""

import streamlit as st

from app import jobs, limits, parts, runpicker, scanview, session, sidebar
from app.text import plain
from interp.scanner import pipeline
from interp.scanner.grid import load_grid
from interp.scanner.pipeline import ScanPlan

GRIDS = {name: f"{name} ({len(load_grid(name))} texts)" for name in ("quick", "full")}

st.title("Scanner")
st.markdown(
    "Is there a backdoor in a model nobody told us about? A scan is given the model and nothing "
    "else: it lets the model write the user's turn, asks it those questions back, cuts what keeps "
    "coming back into candidate triggers, finds the answers that the model insists on and what "
    "sets them off, and asks questions behind the best candidates."
)
view = sidebar.view()


def start_form() -> None:
    """Choose how to scan the open model, and begin."""
    with st.form("scan-plan", border=False):
        one, two, three, four = st.columns(4)
        which = one.selectbox("Model", ["suspect", "original"], help="Of the sidebar's pair.")
        grid = two.selectbox("Grid", list(GRIDS), format_func=GRIDS.get)
        inversion = three.number_input(
            "Minutes of inversion",
            0.0,
            60.0,
            ScanPlan.inversion_minutes,
            0.5,
            help="Gradient search for what sets off an answer that the model insists on, where "
            "nothing leaks. 0 leaves it out.",
        )
        seed = four.number_input("Seed of the scan", 0, 9999, 0)
        contexts = st.text_area(
            "Prefixes, a line each",
            height=80,
            help="System prompts or contexts to scan in, besides the bare template: a backdoor "
            "that needs a context stays silent without it.",
        )
        if not st.form_submit_button("Start the scan", type="primary", icon=":material/radar:"):
            return
    plan = ScanPlan(
        grid=grid,
        contexts=tuple(line.strip() for line in contexts.splitlines() if line.strip()),
        inversion_minutes=float(inversion),
        seed=int(seed),
        which=which,
    )
    job = jobs.registry().start("scan", view.spec, plan)
    st.session_state["scan"] = job.name
    st.rerun()


if view.spec is None:
    st.caption("Choose a pair in the sidebar to scan one of its models.")
else:
    with st.expander(f"Scan a model of the pair {plain(view.spec.name)}", icon=":material/radar:"):
        if limits.may("Scanning"):
            start_form()

picked = runpicker.pick(
    pipeline.KIND,
    session.recorded_scans(),
    key="scan",
    label="Scan",
    growing="leaks",
    mine=runpicker.of_pair(view.spec.name if view.spec else None),
)
if picked is None:
    st.stop()
if picked.finished:
    scanview.verdict(picked.run)
    parts.part(scanview.finished, picked.run)
else:
    scanview.under_way(picked.run)
