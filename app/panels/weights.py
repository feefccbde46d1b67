"""What the Scanner page shows of an adapter's weights, by layer and module. Measures nothing."""

import streamlit as st

from app.drawing import widgets
from app.shell import links
from app.shell.text import plain
from interp.gallery import scan as gallery
from interp.runs.reading import Run
from interp.scanner.weights import evidence
from interp.scanner.weights.statistics import STATISTICS


def of_adapter(run: Run) -> None:
    """Show what the adapter's matrices alone say, if an adapter was scanned and they were read."""
    model = run.meta.get("facts", {}).get("model", {})
    if not model.get("adapter"):
        return
    st.header("The adapter's weights")
    found = evidence.recorded(run)
    if found is None:
        st.caption(
            "This scan was made before scans read the adapter's matrices; "
            "`python -m interp weights ADAPTER` reads them in seconds."
        )
        return
    for line in evidence.sentences(found):
        st.markdown(f"- {plain(line)}")
    names = gallery.drawable(found)
    if not names:
        return
    chosen = links.bound(
        st.selectbox,
        "Number",
        names,
        format_func=lambda name: STATISTICS[name].label,
        key="weight",
        of=links.run_key(run),
    )
    widgets.of_run(run, gallery.weights(found, chosen), chosen, name="weights")
