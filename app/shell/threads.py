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
        st.switch_page(file, query_params=links.open_now())  # the controls write the rest


def _choose(chosen: dict[str, str]) -> None:
    for name, value in chosen.items():
        links.put(name, value)
