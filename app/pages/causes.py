"""Which heads cause the target, and what happens when they are replaced."""

import streamlit as st

from app.controls import head_card, sidebar, so_far
from app.drawing import fragments
from app.drawing import widgets as bar
from app.panels import cause_runs, surgery
from app.panels.causes import baseline, matrix, parts, scatter, start_form, tokens, whole
from app.shell import failures, limits, links
from app.shell.text import plain
from app.state import figure_cache, live
from interp.attention import summary
from interp.attention.view import HeadView
from interp.causal import measure
from interp.causal.head_table import from_study, measured, ranked
from interp.gallery import drawings
from interp.metrics import CAUSAL_METRICS, METRICS_TOLD, Head, head_name, parse_heads
from interp.style.columns import MISSING, without_signed_zeros
from interp.surgery.removal import KIND as REMOVED
from interp.surgery.run import KIND
from interp.surgery.search_run import SEARCH_KIND

CAUSES = surgery.AROUND
OPENS, ADDS = "opens its card", "adds it to the surgery selection"
SCATTER, TOKENS, SURGERY, FEWEST = "Metric against metric", "Tokens", "Surgery", "Fewest heads"
PARTS, REMOVAL = "Attention and MLP", "Removal"

st.title("Causes")
st.markdown(
    "Which heads cause the triggered answer, and what does the model still do without them? Every "
    "head is ablated, patched and read. **Heads** shows which heads changed most, this page which "
    "ones matter. They need not be the same."
)
view = sidebar.view()
study = so_far.study(view)
n_layers, n_heads = study.facts["n_layers"], study.facts["n_heads"]
models = links.models_key(study.facts)


def to_surgery() -> None:
    """Show what is left without the heads on the table."""
    links.put("below", SURGERY)
    fragments.draw_again(CAUSES)


def clicked(key: str) -> None:
    """The clicked cell or point becomes the chosen head, or goes on the operating table."""
    points = st.session_state[key].selection.points
    if not points:
        return
    at = points[0].get("customdata") or (points[0]["y"], points[0]["x"])
    head = int(at[0]), int(at[1])
    if key == "causes-matrix" and st.session_state.get("click") == ADDS:
        surgery.toggle(head, n_layers, n_heads)
        links.put("below", SURGERY)
    else:
        links.put("head", head_name(*head))
    fragments.draw_again(CAUSES)


if view.spec is None:
    st.caption("Choose a pair in the sidebar to measure one.")
else:
    what = f"Measure the heads of the pair {plain(view.spec.name)}"
    with st.expander(what, icon=":material/biotech:"), failures.shown():
        if limits.may("Measuring"):
            fragments.part(start_form, view)


def without() -> str:
    """What a measurement would do, where none of the pair is there."""
    return (
        "Without one, only Δ_rel is shown. The form above runs the pair once and more for each "
        f"head: {live.takes(measure.KIND, view)} with every measure, less with fewer. It runs in "
        "the background, and heads appear as they are measured."
    )


picked = cause_runs.pick(
    measure.KIND,
    view,
    study,
    key="causal",
    label="Measurement",
    without=None if view.spec is None or limits.demo() else without,
)
run, heads, growing = None, from_study(study.ranking), False
if picked is not None:
    with failures.shown():
        cause_runs.check(picked.run, view, study)
        run = picked.run
        found = measure.partial_heads(run)
        growing = len(found) > 0
        heads = found if growing else heads
        baseline(run)


def causes() -> None:
    """Every head, the card of the chosen one, and what is made of all of them."""
    fragments.part(every_head)
    if "head" not in st.session_state:
        return  # it could not be drawn, and says why
    head = parse_heads(st.session_state["head"], n_layers, n_heads)[0]
    fragments.part(head_card.draw, view, study, head, run, CAUSES)
    fragments.part(below, head)


def every_head() -> None:
    """One metric of every head, as a matrix and as a table; one head is chosen."""
    order = [*METRICS_TOLD, *measured(heads)]
    labels = {CAUSAL_METRICS[n].label: n for n in sorted(measured(heads), key=order.index)}
    left, right = st.columns([3, 2])
    with right:
        first = list(labels.values()).index("patching_effect") if "patching_effect" in heads else 0
        metric = labels[
            links.bound(
                st.selectbox,
                "Metric",
                list(labels),
                first,
                key="cause",
                help="The most telling first. *Patching* puts one model's head into the other, "
                "*ablation* replaces it by its mean, *pattern* metrics compare where it looks.",
            )
        ]
        st.caption(METRICS_TOLD.get(metric, "How far the head's attention has changed."))
        names = [head_name(*head) for head in ranked(heads, metric)]
        links.follow("head", names[0], growing=study.unfinished)
        name = links.bound(
            st.selectbox,
            "Head, most important first",
            names,
            key="head",
            of=models,
            on_change=fragments.draw_again,
            args=(CAUSES,),
        )
        head = parse_heads(name, n_layers, n_heads)[0]
        links.bound(
            st.segmented_control,
            "A click on a head",
            [OPENS, ADDS],
            default=OPENS,
            required=True,
            key="click",
        )
        surgery.heads_field(models)
        by_rank(metric)
    with left:
        if not growing:
            shown = HeadView(head=head)
            bar.drawing(
                figure_cache.drawn(drawings.head_matrix, study, shown),
                "causes-matrix",
                summary.command(study, shown),
                on_select=lambda: clicked("causes-matrix"),
            )
        else:
            on_table = surgery.on_table(n_layers, n_heads)
            matrix(run, heads, metric, head, on_table, lambda: clicked("causes-matrix"))


def by_rank(metric: str) -> None:
    """The table of one metric."""
    columns = [f"{metric}_rank", "layer", "head", metric, f"{metric}_low", f"{metric}_high"]
    number, rows = st.column_config.NumberColumn, heads[columns].copy()
    for name in (metric, *columns[4:]):
        rows[name] = without_signed_zeros(rows[name], 4)
    st.dataframe(
        rows.sort_values(columns[0], na_position="last"),
        height=220,
        placeholder=MISSING,
        hide_index=True,
        alt="Heads by rank of the chosen metric",
        column_config={
            columns[0]: number("rank"),
            metric: number("value", format="%.4f"),
            columns[4]: number("low", format="%.4f"),
            columns[5]: number("high", format="%.4f"),
        },
    )


def below(head: Head) -> None:
    """Surgery, the fewest heads, ways of removal, whole parts, two metrics, or the tokens."""
    part = links.bound(
        st.segmented_control,
        "Below",
        [SURGERY, FEWEST, REMOVAL, PARTS, SCATTER, TOKENS],
        default=SURGERY,
        required=True,
        key="below",
    )
    if part == SCATTER and run is not None:
        scatter(run, heads, head, lambda: clicked("causes-scatter"))
    elif part == PARTS:
        whole(run, view.spec)
        if run is not None:
            parts(run)
        else:
            st.info("Layer by layer this needs a measurement.", icon=":material/info:")
    elif part == TOKENS and run is not None:
        tokens(run)
    elif part == FEWEST:
        if view.spec is not None and limits.may("Searching"):
            surgery.search_form(view)
        picked = cause_runs.pick(SEARCH_KIND, view, study, key="search", label="Search")
        if picked is not None:
            cause_runs.check(picked.run, view, study)
            surgery.search(picked, to_surgery)
    elif part == REMOVAL:
        removal()
    elif part == SURGERY and view.spec is not None:
        method = surgery.choose(heads)
        with failures.shown():
            surgery.operate(view, method, n_layers, n_heads)
        with st.expander("Surgery runs with full answers"):
            picked = cause_runs.pick(KIND, view, study, key="surgery", label="Surgery run")
            if picked is not None:
                cause_runs.check(picked.run, view, study)
                surgery.finished(picked.run)
    elif part == SURGERY:
        st.info("Surgery needs the models: choose a pair in the sidebar.", icon=":material/info:")
    else:
        st.info("This needs a measurement of the pair.", icon=":material/info:")


def removal() -> None:
    """A recorded comparison of ways of removal; the terminal makes one."""
    picked = cause_runs.pick(REMOVED, view, study, key="removal", label="Comparison of ways")
    if picked is not None:
        cause_runs.check(picked.run, view, study)
        surgery.removal(picked.run)
        return
    st.info(
        "No ways of removal were compared for this pair. It takes training, so the terminal does "
        "it: `python -m training removal --pair NAME`.",
        icon=":material/info:",
    )


fragments.part(causes, key=CAUSES)
