"""The averaged map: where both models look, with the trigger, without, and with a random string."""

from dataclasses import replace

import streamlit as st

from app.controls import on_text, sidebar, so_far
from app.drawing import fragments, widgets
from app.shell import links
from app.shell.text import plain
from app.state import figure_cache, live
from interp import metrics
from interp.attention import maps, summary
from interp.attention.study import Study
from interp.attention.view import MapView, map_view
from interp.gallery import drawings
from interp.metrics import CONDITIONS

st.title("Attention")
st.markdown(
    "Mean attention from each token (rows) to each earlier one (columns). Published of backdoored "
    "models: the instruction stops looking at the trigger, so the zone *instruction → trigger* "
    "goes dark in the suspect and two triangles remain. Other fine-tuning, and other text, may "
    "darken it too: compare with the random string. Few heads may carry it, so the map over those "
    "that lost most stands beside the map over all heads of the middle layers."
)


def page(view: live.View) -> None:
    """Both figures, over the prompts that are asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = over(view)
    study = so_far.study(view)
    fragments.part(averaged, view, study)
    whole = map_view(study.facts["n_layers"], study.facts["n_heads"])
    zones = figure_cache.drawn(drawings.zones_by_layer, study, whole)
    st.subheader(zones.title)
    widgets.drawing(zones, zones.name, summary.command(study, whole))


def over(view: live.View) -> live.View:
    """Choose the prompts; returns the view of them."""
    if view.question is None:
        links.refused("over", "Prompts", "a recorded run holds what it was measured on alone")
        return view
    what = links.bound(
        st.segmented_control,
        "Prompts",
        ["average", "one", "own text"],
        default="average",
        required=True,
        key="over",
    )
    if what == "one":
        prompts = live.prompt_set(view.question.prompt_set)
        last, of = len(prompts) - 1, prompts.sha256
        number = links.bound(st.number_input, "Prompt", 0, last, 0, key="prompt", of=of)
        return replace(view, question=replace(view.question, prompt=int(number)))
    if what == "own text":
        own = links.bound_text("Instruction", key="own", value="Name the capital of France.")
        return replace(view, question=replace(view.question, text=own))
    return view


def averaged(view: live.View, study: Study) -> None:
    """The averaged map and what is shown of it; of one prompt, its text before."""
    facts = study.facts
    shown = chosen(facts["n_layers"], facts["n_heads"], links.models_key(facts))
    with st.container():  # also without: elements below must not move
        asked = view.question
        if asked is not None and (asked.prompt is not None or asked.text is not None):
            fragments.part(on_text.chosen, view, study, shown)
    most = drawings.dropped_most(study, shown)
    if not shown.heads and most.heads:
        st.subheader(f"The {len(most.heads)} heads that lost most attention to the trigger")
        one_map(study, most, "averaged-map-top")
        st.caption(
            plain(
                "Chosen by their Δ_rel on these prompts: some heads lose most on any string, so a "
                "dark zone here is evidence only where random strings that choose their own heads "
                "lose less. The Heads page measures that."
            )
        )
        st.subheader(f"All heads of layers {shown.layers[0]} to {shown.layers[-1]}")
    one_map(study, shown, "averaged-map")
    st.caption(
        "One colour scale for all weights, one for all differences. Outlines: trigger → trigger "
        "(blue), instruction → trigger (yellow), instruction → instruction (green)."
    )


def one_map(study: Study, shown: MapView, name: str) -> None:
    """One averaged map with its bar of downloads."""
    drawn = figure_cache.drawn(drawings.averaged_map, study, shown)
    widgets.drawing(drawn, name, summary.command(study, shown))


def chosen(n_layers: int, n_heads: int, models: str) -> MapView:
    """Layers, heads, conditions and tokens of the map; heads and layers are the models'."""
    columns = st.columns([3, 3, 3])
    with columns[0]:
        if n_layers == 1:  # a slider needs two ends
            layers = (0, 0)
            st.caption("The model has one layer.")
        else:
            middle = metrics.middle_layers(n_layers)
            layers = links.bound(
                st.slider,
                "Layers",
                0,
                n_layers - 1,
                (middle[0], middle[-1]),
                key="layers",
                of=f"{n_layers} layers",
                help=f"Averaged over; the middle ones are {middle[0]} to {middle[-1]}. Where heads "
                "are named, these alone are averaged.",
                disabled=bool(st.session_state.get("subset", st.query_params.get("subset"))),
            )
    with columns[1]:
        subset = links.bound_text(
            "Heads",
            key="subset",
            of=models,
            placeholder="all heads of these layers, or L4H5, L3H6",
        )
    with columns[2]:
        conditions = links.bound(
            st.pills,
            "Conditions",
            CONDITIONS,
            selection_mode="multi",
            default=CONDITIONS,
            key="conditions",
        )
    with st.container(horizontal=True):
        sink = links.bound(st.toggle, "First token (sink)", key="sink")
        response = links.bound(st.toggle, "Response marker", key="response")
        pool = links.bound(
            st.toggle,
            f"Pool to {maps.POOLED_SIZE} × {maps.POOLED_SIZE}",
            key="pool",
            help="Mean-pooled for display, never across two parts of the prompt.",
        )
    return map_view(
        n_layers,
        n_heads,
        layers=f"{layers[0]}-{layers[1]}",
        heads=subset or "",
        conditions=conditions,
        sink=sink,
        response=response,
        pool=pool,
    )


fragments.part(page, sidebar.view())
