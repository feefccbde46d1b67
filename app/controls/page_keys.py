"""Keys that turn pages, wherever the focus is: arrows and the keys of a presenter's remote.

A button's own shortcut does not work while a control has the focus, and a clicked control keeps the
focus. Text fields and open lists keep the arrows, long texts keep the page keys.
"""

from pathlib import Path

import streamlit as st

_MOUNT = st.components.v2.component(
    "sleeperscope-pagekeys",
    html="",
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)


def turning(back: str, forward: str) -> None:
    """Make Left and Page Up press one button of this page, and Right and Page Down another.

    Args:
        back: key of the `st.button` that goes back.
        forward: key of the `st.button` that goes forward.
    """
    _MOUNT(data={"back": back, "next": forward}, key="pagekeys")
