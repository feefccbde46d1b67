"""Which heads were hijacked: Δ_rel of every head, one head's maps, the top-K curve."""

import streamlit as st

from app import session, sidebar, widgets
from interp import figures, heads, mapgrid, report

# Label, which is also what stands in the link -> column, and whether it is a difference.
METRICS = {
    "Δ_rel": ("delta_rel", True),
    "L_attn original − suspect": ("difference", True),
    "L_attn original": ("l_original", False),
    "L_attn suspect": ("l_suspect", False),
    "Δ_rel, random string": ("delta_rel_random_string", True),
}

st.title("Heads")
st.markdown(
    "Δ_rel is the share of its attention to the trigger that a head lost in the suspect. "
    "Click a head to see where it looks."
)

view = sidebar.view()
study = session.current_study(view)
n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
table = report.head_table(study)
command = report.command("heads", study)

label = st.segmented_control(
    "Metric", list(METRICS), default="Δ_rel", required=True, key="metric", bind="query-params"
)
metric, difference = METRICS[label]
names = [widgets.head_name(row.layer, row.head) for row in table.itertuples()]


def clicked() -> None:
    """Take the clicked cell as the chosen head."""
    points = st.session_state["head-matrix"].selection.points
    if points:
        st.session_state["head"] = widgets.head_name(int(points[0]["y"]), int(points[0]["x"]))


left, right = st.columns([3, 2])
with right:
    head = st.selectbox("Head, most hijacked first", names, key="head", bind="query-params")
    layer, number = widgets.parse_heads(head, n_layers, n_heads)[0]
    row = table[(table["layer"] == layer) & (table["head"] == number)].iloc[0]
    with st.container(horizontal=True):
        rank = f"rank {row['rank']} of {int(table['kept'].sum())}" if row["kept"] else "not ranked"
        shown = f"{row['delta_rel']:.1%}" if row["kept"] else "–"
        st.metric("Δ_rel", shown, rank, delta_color="off", delta_arrow="off")
        st.metric("L_attn original", f"{row['l_original']:.4f}")
        st.metric("L_attn suspect", f"{row['l_suspect']:.4f}")
    kept = int(table["kept"].sum())
    st.caption(
        f"{kept} of {len(table)} heads have an original L_attn above {heads.FLOOR:g}; the others "
        "are left out of the ranking."
    )
    st.dataframe(
        table,
        height=300,
        hide_index=True,
        column_order=["rank", "layer", "head", "delta_rel", "l_original", "l_suspect"],
        column_config={
            "delta_rel": st.column_config.NumberColumn("Δ_rel", format="%.3f"),
            "l_original": st.column_config.NumberColumn("original", format="%.4f"),
            "l_suspect": st.column_config.NumberColumn("suspect", format="%.4f"),
        },
    )
with left:
    widgets.figure(
        figures.head_matrix(
            table, metric, label=label, difference=difference, selected=(layer, number)
        ),
        "head-matrix",
        caption=report.caption(study, f"{label} of every head."),
        table=lambda: table,
        command=command,
        on_select=clicked,
    )

st.subheader(f"Where {head} looks")
whole = view.spec is not None and st.toggle(
    "One prompt, every token",
    key="whole",
    bind="query-params",
    help="Whole patterns through TransformerBridge, instead of the average over the set.",
)
if whole:
    prompts = session.prompt_set(view.question.prompt_set).prompts
    one = st.number_input("Prompt", 0, len(prompts) - 1, 0, key="one", bind="query-params")
    st.text(prompts[one].instruction)
    panels = session.whole_patterns(view, one, layer, number)
    what = f"Attention of {head} on prompt {one} alone, every token, through TransformerBridge; "
    what += "the set below belongs to the ranking."
else:
    rows = report.map_panels(
        study, layers=[layer], heads_chosen=[(layer, number)], conditions=["triggered"]
    )
    panels = [[row[0] for row in rows]]
    what = f"Mean attention of {head} on triggered prompts."
widgets.figure(
    mapgrid.map_grid(panels, side=440 if whole else 300),
    "head-maps",
    caption=report.caption(study, what),
    table=lambda: mapgrid.panel_table(panels),
    command=command,
)

st.subheader("How much attention the most hijacked heads lost")
curve = report.tables("heads", study)["top_k"]
for column, (name, figure, what) in zip(
    st.columns(2),
    (
        (
            "top-k-ratio",
            figures.ratio_curve(curve, n_layers * n_heads),
            "Suspect over original L_attn of the K heads of largest Δ_rel",
        ),
        (
            "top-k-levels",
            figures.level_curve(curve, n_layers * n_heads),
            "Mean L_attn of both models over the K heads of largest Δ_rel",
        ),
    ),
    strict=True,
):
    with column:
        widgets.figure(
            figure,
            name,
            caption=report.caption(
                study, f"{what}; bands: 95 % bootstrap over prompts, {heads.RESAMPLES:,} resamples."
            ),
            table=lambda: curve,
            command=command,
        )
