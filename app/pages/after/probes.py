"""What linear probes read off the residual stream, and whether that is the backdoor."""

import streamlit as st

from app.controls import run_picker, sidebar
from app.drawing import fragments, widgets
from app.shell import failures, limits, links
from app.shell.text import plain
from app.state import jobs, live, recorded
from interp.causal import measure
from interp.gallery.after import guard as guard_gallery
from interp.gallery.after import probes as gallery
from interp.probes import judged
from interp.probes.question import FITS, GUARD_KIND, KIND, POSITIONS, PROBES, ProbeQuestion
from interp.runs import commands, provenance

st.title("Probes")
st.markdown(
    "Can a simple linear probe on the activations tell a triggered prompt from a clean one, if it "
    "was trained without this trigger? A high AUROC alone says little: a probe may read no more "
    "than the trigger's text, which the **original** sees too. The question is whether the suspect "
    "exceeds the original and the **clean control** under the same probe."
)
view = sidebar.view()
spec = view.spec


def curves() -> None:
    """AUROC by layer, at one position."""
    left, right = st.columns(2)
    with left:
        place = links.bound(
            st.selectbox, "Position", list(POSITIONS), format_func=POSITIONS.get, key="at"
        )
    with right:
        fitted = links.bound(st.selectbox, "Probe of", list(FITS), format_func=FITS.get, key="fit")
    shown = gallery.by_layer(run, place, fitted)
    widgets.of_run(run, shown, place, fitted, name="auroc-by-layer")


def along() -> None:
    """One probe along a typed prompt, by both models."""
    text = links.bound_text("Instruction", key="probe-text", value="What is 3 plus 4?")
    n_layers = run.meta["facts"]["n_layers"]
    columns = st.columns(4, vertical_alignment="bottom")
    with columns[0]:
        probe = links.bound(st.selectbox, "Probe", list(PROBES), 1, key="probe")
    with columns[1]:
        layers = [str(layer) for layer in range(n_layers)]
        first, whose = judged.middle(n_layers), links.run_key(run)
        layer = links.bound(st.selectbox, "Layer", layers, first, key="probe-layer", of=whose)
    with columns[2]:
        place = links.bound(
            st.selectbox, "Trained at", list(POSITIONS), format_func=POSITIONS.get, key="probe-at"
        )
    with columns[3]:
        triggered = links.bound(st.toggle, "With the trigger", value=True, key="probe-armed")
    measure.check_pair(run, spec)
    chosen = probe, int(layer), place
    found = live.along_probe(view, run, text, *chosen, triggered=triggered)
    widgets.of_results(
        (found,),
        gallery.along(found, *chosen),
        *chosen,
        triggered,
        provenance=provenance.sentence(run),
        about=provenance.about(run),
        command=commands.command(run),
        name="probe-along",
    )


if spec is not None and view.question.trigger:
    if limits.may("Training probes"):
        what = f"Train probes on {spec.name}, without {view.question.trigger}"
        if st.button(plain(what), icon=":material/sensors:", type="primary"):
            asked = ProbeQuestion.of(view.question, target=spec.target or "")
            st.session_state["probes"] = jobs.registry().start(KIND, spec, asked).name
            st.rerun()
elif spec is not None:
    st.info(
        "Probes are judged on prompts with the trigger: name it in the sidebar. The **Scanner** "
        "looks for it where nobody knows.",
        icon=":material/info:",
    )
picked = run_picker.pick(
    KIND,
    recorded.recorded_of(KIND),
    key="probes",
    label="Probe run",
    growing="scores",
    mine=run_picker.of_pair(spec.name if spec else None),
    others=spec is None,
)
if picked is not None and not picked.finished:
    st.caption("The figures appear when every model has been read.")
elif picked is not None:
    run = picked.run
    with failures.shown():
        for line in gallery.words(run):
            st.markdown(f"- {plain(line)}")
        fragments.part(curves)
    st.subheader("Along one prompt")
    if spec is None:
        st.info("This reads the models: choose a pair in the sidebar.", icon=":material/info:")
    else:
        fragments.part(along)


def guarded() -> None:
    """What an alarm on one direction would have caught."""
    st.header("A guard at run time")
    st.markdown(
        "Whoever must run the model anyway may watch one direction of its activations. Set to 1 % "
        "false alarms on ordinary prompts, what would the alarm have caught, and does the clean "
        "control raise it too? The command is `python -m interp guard --pair … --candidate …`, "
        "with the string that a blind scan has found."
    )

    def without() -> str:
        return (
            f"The command makes one for {spec.name} in {live.takes(GUARD_KIND, view)}; the string "
            "comes from a scan of the pair."
        )

    found = run_picker.pick(
        GUARD_KIND,
        recorded.recorded_of(GUARD_KIND),
        key="guard",
        label="Guard run",
        growing="caught",
        mine=run_picker.of_pair(spec.name if spec else None),
        others=spec is None,
        without=None if spec is None else without,
    )
    if found is None or not found.finished:
        return
    with failures.shown():
        for line in guard_gallery.words(found.run):
            st.markdown(f"- {plain(line)}")
        widgets.of_run(found.run, guard_gallery.by_layer(found.run), name="caught-by-layer")


guarded()
