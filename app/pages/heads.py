"""Which heads changed most: Δ_rel of every head, one head's maps, the top-K curve."""

import pandas as pd
import streamlit as st

from app.controls import head_card, sidebar, so_far
from app.controls.pairs import dial
from app.drawing import fragments, widgets
from app.panels import cause_runs, matched
from app.shell import links
from app.shell.text import plain
from app.state import figure_cache
from interp import metrics
from interp.attention import heads, summary
from interp.attention import view as attention_view
from interp.causal import measure
from interp.gallery import drawings

AROUND = "by-head"
CAUSES = "patching_effect_rank"
LABEL = "Head, largest loss of attention first"
# The link holds the label.
BY_LABEL = {metric.label: name for name, metric in metrics.ATTENTION_METRICS.items()}

st.title("Heads")
st.markdown(
    "Δ_rel is the share of its attention to the trigger that a head lost from the original to the "
    "suspect. Any fine-tuning, and any text, makes some heads lose: read it against the random "
    "string. Click a head to see where it looks and what it does."
)
CONTROL = (
    f"**{summary.CONTROL_MARK}** marks heads that lose as large a share to a random string in the "
    "trigger's place: their loss says nothing of this trigger."
)

view = dial.turned(sidebar.view(), "This page", "The fidelity badge and recorded runs")
study = so_far.study(view)
shape = study.facts["n_layers"], study.facts["n_heads"]


def clicked() -> None:
    """Take the clicked cell as the chosen head."""
    points = st.session_state["head-matrix"].selection.points
    if points:
        links.put("head", metrics.head_name(int(points[0]["y"]), int(points[0]["x"])))
        fragments.draw_again(AROUND)


def by_head() -> None:
    """Every head's number, and the card of the chosen one."""
    fragments.part(matrix)
    if "head" not in st.session_state:
        return  # it could not be drawn, and says why
    head = metrics.parse_heads(st.session_state["head"], *shape)[0]
    fragments.part(head_card.draw, view, study, head, cause_runs.latest(view, study), AROUND)


def with_causes(table: pd.DataFrame) -> pd.DataFrame:
    """The ranking with each head's rank as a cause behind it, if that was measured."""
    run = cause_runs.latest(view, study)
    found = pd.DataFrame() if run is None else measure.partial_heads(run)
    if CAUSES not in found:
        return table
    table = table.merge(found[["layer", "head", CAUSES]], on=["layer", "head"], how="left")
    table.insert(table.columns.get_loc("delta_rel") + 1, CAUSES, table.pop(CAUSES))
    return table


def matrix() -> None:
    """Every head's number, drawn and as a table; one head is chosen."""
    table = study.ranking
    label = links.bound(
        st.segmented_control, "Metric", list(BY_LABEL), default="Δ_rel", required=True, key="metric"
    )
    names = [metrics.head_name(row.layer, row.head) for row in table.itertuples()]
    left, right = st.columns([3, 2])
    links.follow("head", names[0], growing=study.unfinished)
    with right:
        name = links.bound(
            st.selectbox,
            LABEL,
            names,
            key="head",
            of=links.models_key(study.facts),
            on_change=fragments.draw_again,
            args=(AROUND,),
        )
        st.caption(
            f"{int(table['kept'].sum())} of {len(table)} heads have an original L_attn above "
            f"{heads.FLOOR:g}; the others are left out of the ranking. {CONTROL}"
        )
        st.dataframe(
            with_causes(summary.ranking_table(study)),
            height=300,
            hide_index=True,
            alt="Heads by rank",
            column_config={
                "delta_rel": st.column_config.NumberColumn("Δ_rel", format="%.3f"),
                "delta_rel_random_string": st.column_config.NumberColumn(
                    "random string", format="%.3f", help="Δ_rel with it in the trigger's place."
                ),
                CAUSES: st.column_config.NumberColumn(
                    "rank as a cause", help="By patching effect, of the newest causal run."
                ),
                "l_original": st.column_config.NumberColumn("original", format="%.4f"),
                "l_suspect": st.column_config.NumberColumn("suspect", format="%.4f"),
            },
        )
    shown = attention_view.HeadView(BY_LABEL[label], metrics.parse_heads(name, *shape)[0])
    with left:
        drawn = figure_cache.drawn(drawings.head_matrix, study, shown)
        widgets.drawing(drawn, "head-matrix", summary.command(study, shown), on_select=clicked)


def curves() -> None:
    """How much attention the first K heads lost."""
    shown = attention_view.HeadView()
    both = [
        figure_cache.drawn(draw, study, shown)
        for draw in (drawings.top_k_ratio, drawings.top_k_levels)
    ]
    st.subheader(both[0].title)
    for column, curve in zip(st.columns(2), both, strict=True):
        with column:
            widgets.drawing(curve, curve.name, summary.command(study, shown))
    st.markdown(
        "Ratio suspect / original, next to what selection alone and the random string give:"
    )
    ratios = summary.ratio_table(study)
    st.dataframe(
        ratios,
        hide_index=True,
        alt="Ratio of L_attn over the first K heads",
        column_config={
            "k": st.column_config.NumberColumn("K"),
            "heads": st.column_config.NumberColumn("of all heads", format="percent"),
        }
        | {name: st.column_config.NumberColumn(format="%.3f") for name in ratios.columns[2:]},
    )
    st.caption(plain(summary.selection_note(study)))


fragments.part(by_head, key=AROUND)
fragments.part(curves)
fragments.part(matched.draw, view, study)
