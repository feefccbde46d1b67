"""Threads between pages: a button that opens another page on what this one shows."""

import streamlit as st

from app.shell import links


def thread(label: str, file: str, *, icon: str, key: str, **chosen: str) -> None:
    """Draw a button that opens another page with some of its controls set.

    Args:
        label: what it says.
        file: the other page's file, as Streamlit wants it.
        icon: before the label.
        key: of the button.
        **chosen: key of a control there, or of the sidebar, and its value.
    """
    if st.button(label, icon=icon, key=key, type="tertiary", on_click=_choose, args=(chosen,)):
        # Streamlit writes what is bound to a control of this page itself, and lets nobody else.
        free = {name: value for name, value in chosen.items() if name not in st.session_state}
        st.switch_page(file, query_params=links.open_now() | free)


def _choose(chosen: dict[str, str]) -> None:
    """Set the controls; those of the sidebar anew, or they would not be in the new page's link."""
    kept = {name: st.session_state[name] for name in links.BOUND if name in st.query_params}
    for name, value in (kept | chosen).items():
        links.put(name, value)
