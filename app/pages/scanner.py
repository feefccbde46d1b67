"""Scan a model for a backdoor nobody told us about: start it, watch it, open a recorded one."""

import streamlit as st

from app import jobpanel, jobs, links, scanview, session, sidebar
from app.text import plain
from interp import runs
from interp.scanner.grid import load_grid
from interp.scanner.pipeline import ScanPlan

GRIDS = {name: f"{name} ({len(load_grid(name))} texts)" for name in ("quick", "full")}

st.title("Scanner")
st.markdown(
    "Is there a backdoor in a model nobody told us about? A scan is given the model and nothing "
    "else: it lets the model write the user's turn, cuts what keeps coming back into candidate "
    "triggers, and asks questions behind the best of them."
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
            1.0,
            0.5,
            help="Gradient search for a trigger where nothing leaks. 0 leaves it out.",
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


def version(name: str) -> tuple:
    """What there is to see of a scan under way."""
    return runs.version_of(jobs.folder_of(name), "leaks")


def watch(name: str, drawn: tuple) -> None:
    """The scan's progress; the whole page is drawn anew when there is more to see, or no more.

    Only the bar is drawn each second: figures would take the cores from the scan.
    """
    job = jobs.registry().get(name)
    if job is None or not job.live or version(name) != drawn:
        st.rerun()
    jobpanel.progress(job, "page")


if view.spec is None:
    st.caption("Choose a pair in the sidebar to scan one of its models.")
else:
    with st.expander(f"Scan a model of the pair {plain(view.spec.name)}", icon=":material/radar:"):
        start_form()

live = [job.name for job in jobs.registry().live("scan")]
left = jobs.left_over("scan")
recorded = session.recorded_scans()
names = [*dict.fromkeys((*live, *left, *recorded))]
of_pair = {
    name
    for name, run in recorded.items()
    if view.spec is not None and scanview.pair_of(run) == view.spec.name
}
names.sort(key=lambda name: name in recorded and name not in of_pair)
asked = st.session_state.get("scan")
if asked is not None and asked not in names:
    job = jobs.registry().get(asked)
    if job is not None and job.error:
        st.error(plain(f"Scan {asked}: {job.error}."), icon=":material/error:")
if not names:
    st.info("There are no recorded scans yet.", icon=":material/info:")
    st.stop()
name = links.bound(st.selectbox, "Scan", names, key="scan")
if name in live:
    jobpanel.watching(watch, name, version(name))
    scanview.under_way(runs.open_run(jobs.folder_of(name), unfinished=True))
elif name in left:
    reason = runs.read_meta(jobs.folder_of(name)).get("error") or "the app was stopped"
    st.warning(plain(f"This scan is {left[name]}: {reason}."), icon=":material/pause_circle:")
    jobpanel.resume_or_delete(name, "page")
    scanview.under_way(runs.open_run(jobs.folder_of(name), unfinished=True))
else:
    scanview.verdict(recorded[name])
    scanview.finished(recorded[name])
