"""Controls that live in the link: what a link asks for and is not there is said, not passed over.

Streamlit lets a bound control fall back to its default in silence; a view that is not the one a
colleague sent would then look like it.
"""

from collections.abc import Callable

import streamlit as st

from app.text import plain

NOTES, MISSED = "link-notes", "link-missed"


def begin() -> None:
    """Make room at the head of the page for what is to be said of its link."""
    st.session_state[NOTES] = st.container()


def bound(control: Callable, label: str, *args, key: str, **options):
    """A control whose value is in the link; draws it and returns its value.

    Args:
        control: `st.selectbox` and its like.
        label: of the control.
        *args: of the control.
        key: in the link and in the session.
        **options: of the control.
    """
    asked = st.query_params.get_all(key)  # before it is drawn: drawing drops what it cannot take
    value = control(label, *args, key=key, bind="query-params", **options)
    missed = st.session_state.setdefault(MISSED, {})
    if any(one not in _in_link(value) for one in asked):
        missed[key] = (asked, value)
    elif key in missed and missed[key][1] != value:
        del missed[key]  # the user has moved on
    if key in missed:
        asked, _ = missed[key]
        shown = ", ".join(_in_link(value)) or "nothing"
        _say(
            f"The link asks for {label} '{', '.join(asked)}', which is not there; {shown} is shown"
        )
    return value


def refused(key: str, label: str, reason: str) -> None:
    """Say that a control that the link sets is not there at all in this view."""
    asked = st.query_params.get_all(key)
    if asked:
        _say(f"The link asks for {label} '{', '.join(asked)}', but {reason}")


def _say(note: str) -> None:
    st.session_state[NOTES].warning(f"{plain(note)}.", icon=":material/link_off:")


def _in_link(value) -> list[str]:
    """A control's value as Streamlit writes it into the link."""
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _in_link(part)]
    return [] if value is None else [str(value)]
