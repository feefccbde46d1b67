"""The dial: at which strength of the suspect's adapter a page asks or measures."""

from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shell import links
from app.state.live import View
from interp.specs import PairSpec, at_strength

KEY, LABEL = "strength", "Adapter's strength"


def slider(spec: PairSpec, place: DeltaGenerator | None = None) -> float:
    """Draw the dial and return its strength; 1 without a dial, for a suspect without an adapter.

    It keeps its strength from page to page, and in the link.

    Args:
        spec: the pair, at strength 1.
        place: where to draw it; default: here.
    """
    if not spec.suspect.adapter:
        links.unused(KEY, LABEL, "the suspect has no adapter of its own")
        return 1.0
    links.from_link(KEY, 1.0, links.within(-1.0, 2.0))
    strength = (place or st).slider(
        LABEL,
        -1.0,
        2.0,
        step=0.05,
        key=KEY,
        help="What the adapter adds to the weights is multiplied by this: 0 is its base, 1 the "
        "suspect. At which strength does the backdoor wake?",
        persist_state="session",
    )
    links.remember(KEY, LABEL, strength, 1.0)
    return strength


def turned(view: View, what: str, rest: str) -> View:
    """The view with its suspect at the strength of a dial, drawn here; a recorded run has none.

    Args:
        view: the view chosen in the sidebar.
        what: what on the page is measured at that strength, as the beginning of a sentence.
        rest: what is of strength 1 whatever the dial says, likewise.
    """
    if view.spec is None:
        links.unused(KEY, LABEL, "a recorded run is of one strength")
        return view
    left, right = st.columns([2, 3], vertical_alignment="center")
    strength = slider(view.spec, left)
    if strength == 1:
        return view
    right.caption(
        f"{what} is measured with the suspect's adapter at **{strength:g}** of its strength. "
        f"{rest} are of strength 1."
    )
    return replace(view, spec=at_strength(view.spec, strength))
