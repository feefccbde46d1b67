"""The card of one head: its attention in both models, and all its metrics."""

import pandas as pd
import streamlit as st

from app.controls import on_text
from app.drawing import alike, fragments, widgets
from app.shell import links, threads
from app.shell.text import plain
from app.state import figure_cache, live
from interp.attention import summary
from interp.attention.study import Study
from interp.attention.view import HeadView
from interp.causal import measure
from interp.causal.head_table import from_study, head_card, no_effect
from interp.causal.parts import part_sentences, whole_sentences
from interp.gallery import drawings
from interp.metrics import CAUSAL_METRICS, head_name, top_heads
from interp.runs import provenance
from interp.runs.reading import Run
from interp.style.columns import MISSING, without_signed_zeros

AROUND = "causes"
"""Key of the part of the page Causes that holds the card."""


def draw(
    view: live.View, study: Study, head: tuple[int, int], run: Run | None, around: str
) -> None:
    """Maps of original, suspect and difference, and every metric with its rank.

    Args:
        view: the view chosen in the sidebar.
        study: the study of the view.
        head: (layer, head).
        run: a causal run of the same pair, or None.
        around: key of the page's part that holds the card and the choice of the head.
    """
    with st.container(border=True):
        st.subheader(f"Where {head_name(*head)} looks")
        _elsewhere(head, around)
        _maps(view, study, head)
        st.subheader(f"What {head_name(*head)} does")
        _numbers(study, head, run)
        st.subheader(f"Heads like {head_name(*head)}")
        fragments.part(alike.draw, study, head, around)


def _elsewhere(head: tuple[int, int], around: str) -> None:
    """The same head on the other pages that show it."""
    name = head_name(*head)
    with st.container(horizontal=True):
        threads.thread(
            f"{name} alone on Attention",
            "app/pages/attention.py",
            icon=":material/grid_on:",
            key="thread-attention",
            subset=name,
        )
        if around == AROUND:
            threads.thread(
                f"What {name} changed, on Heads",
                "app/pages/heads.py",
                icon=":material/leaderboard:",
                key="thread-heads",
                head=name,
            )
        else:
            threads.thread(
                f"What {name} causes, on Causes",
                "app/pages/causes.py",
                icon=":material/account_tree:",
                key="thread-causes",
                head=name,
            )


def _maps(view: live.View, study: Study, head: tuple[int, int]) -> None:
    shown, whole = HeadView(head=head), None
    if view.spec is None:
        links.refused("whole", "One prompt, every token", "a recorded run holds averages alone")
    elif links.bound(
        st.toggle,
        "One prompt, every token",
        key="whole",
        help="Whole patterns through TransformerBridge, instead of the average over the set.",
    ):
        prompt_set = live.prompt_set(view.question.prompt_set)
        prompts, of = prompt_set.prompts, prompt_set.sha256
        one, two = st.columns([1, 3], vertical_alignment="bottom")
        with one:
            last = len(prompts) - 1
            number = links.bound(st.number_input, "Prompt", 0, last, 0, key="one", of=of)
        answer = None
        if view.spec.target:
            with two:
                behind = links.bound(st.toggle, "With the target as its response", key="answer")
            answer = view.spec.target if behind else None
        st.text(prompts[int(number)].instruction)
        shown = HeadView(head=head, whole=int(number), answer=answer)
        fragments.part(on_text.of_head, view, study, int(number), head, answer)
        whole = live.full_panels(view, int(number), head, answer)
    maps = figure_cache.drawn(drawings.head_maps, study, shown, whole)
    widgets.drawing(maps, "head-maps", summary.command(study, shown))


def _hint(
    row: pd.Series, of: int, heads: pd.DataFrame, head: tuple[int, int], trigger: str
) -> None:
    """A note if a head changed strongly but was measured not to be a cause."""
    if not row["kept"] or row["rank"] > top_heads(of):
        return
    why = no_effect(heads, *head)
    if why is not None:
        name, rank = head_name(*head), f"{row['rank']} of {of}"
        changed = f"{name} is among the heads that changed most (Δ_rel rank {rank}). "
        told = plain(f"{changed}{why} Measured with the trigger {trigger}.")
        st.markdown(
            f":material/info: {told} The heads that changed most are not always the ones that "
            "cause the answer: see **Causes**."
        )


def _numbers(study: Study, head: tuple[int, int], run: Run | None) -> None:
    row = study.ranking.set_index(["layer", "head"]).loc[head]
    table = [head_card(from_study(study.ranking), *head)]
    heads = pd.DataFrame() if run is None else measure.partial_heads(run)
    if len(heads):
        table += [head_card(heads.drop(columns="delta_rel", errors="ignore"), *head)]
        _hint(row, len(study.ranking), heads, head, run.meta["asked"]["trigger"])
    numbers = pd.concat([part for part in table if len(part)] or table, ignore_index=True)
    left, right = st.columns([1, 4])
    with left:
        rank = f"rank {row['rank']} of {numbers['of'].iloc[0]}" if row["kept"] else "not ranked"
        value = f"{row['delta_rel']:.1%}" if row["kept"] else "–"
        st.metric("Δ_rel", value, rank, delta_color="off", delta_arrow="off")
        st.metric("L_attn original", f"{row['l_original']:.4f}")
        st.metric("L_attn suspect", f"{row['l_suspect']:.4f}")
    ranks = zip(numbers["rank"], numbers["of"], strict=True)
    shown = pd.DataFrame(
        {
            "metric": [CAUSAL_METRICS[name].label for name in numbers["metric"]],
            **{name: without_signed_zeros(numbers[name], 4) for name in ("value", "low", "high")},
            "rank": ["–" if pd.isna(rank) else f"{rank} of {of}" for rank, of in ranks],
        }
    )
    with right:
        number = st.column_config.NumberColumn(format="%.4f")
        st.dataframe(
            shown,
            height=35 * len(shown) + 40,  # fits all rows, so that no rank is hidden
            hide_index=True,
            alt="This head by every metric",
            column_config={"value": number, "low": number, "high": number},
            placeholder=MISSING,
        )
        what = "Rank 1 matters most. Low and high: 95 % bootstrap over prompts. "
        if run is None:
            dialed = study.facts.get("strength", 1.0) != 1
            what += (
                "Causes are measured with the adapter at its full strength."
                if dialed
                else "No causal measurement of this pair is there yet: **Causes** makes one."
            )
            st.caption(what)
        else:
            told = "Δ_rel belongs to the question in the sidebar. The rest was measured with:"
            st.caption(what + plain(f"{told} {provenance.sentence(run)}"))
            whole = whole_sentences(measure.whole_of(run))
            for line in (whole or part_sentences(measure.parts_of(run)))[:1]:
                st.caption(plain(f"A head is part of its layer's attention. {line}"))
