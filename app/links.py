"""Controls that live in the link: what a link asks for and is not there is said, not passed over.

Streamlit lets a bound control fall back to its default in silence; a view that is not the one a
colleague sent would then look like it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from app import limits
from app.text import plain

NOTES, MISSED = "link-notes", "link-missed"
LONGEST = 120
"""Characters of what a link asks for that are repeated."""


@contextmanager
def notes() -> Iterator[None]:
    """Around a page, or a part of it: what is to be said of its link is said at its head.

    A part has a place of its own: drawn anew alone, it cannot write to the head of the page.
    """
    around, st.session_state[NOTES] = st.session_state.get(NOTES), st.container()
    try:
        yield
    finally:
        st.session_state[NOTES] = around


def bound(control: Callable, label: str, *args, key: str, **options):
    """A control whose value is in the link; draws it and returns its value.

    Args:
        control: `st.selectbox` and its like.
        label: of the control.
        *args: of the control.
        key: in the link and in the session.
        **options: of the control.
    """
    # Before it is drawn: drawing drops what it cannot take. A control that is there already was
    # set by the user or by a button, and the link follows it one run later.
    asked = [] if key in st.session_state else st.query_params.get_all(key)
    value = control(label, *args, key=key, bind="query-params", **options)
    _note(key, label, asked, _as_shown(value, options.get("format_func")))
    return value


def bound_text(label: str, *, key: str, **options) -> str:
    """A field for text in the link; see `bound`.

    Raises:
        UsageError: a text that is too long, in the field or in the link.
    """
    given = st.text_input(label, key=key, bind="query-params", **options)
    return limits.text(label, given)


def pinned(label: str, options: list[str], *, key: str) -> str:
    """A choice that stands in the link even where it is the default.

    For runs: the newest is the default, and tomorrow that will be another one.

    Args:
        label: of the select box.
        options: at least one.
        key: in the link and in the session.
    """
    asked = st.query_params.get_all(key)
    if key not in st.session_state and asked and asked[0] in options:
        st.session_state[key] = asked[0]
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    value = st.selectbox(label, options, key=key)
    _note(key, label, [] if asked and asked[0] in options else asked, value)
    keep_in_link(key, value)
    return value


def keep_in_link(key: str, value: str) -> None:
    """Write a value into the link, unless it stands there.

    Each write sends the browser the whole link as the script knows it, which would undo what the
    user has changed meanwhile.
    """
    if st.query_params.get_all(key) != [value]:
        st.query_params[key] = value


def _as_shown(value, shown: Callable | None):
    """A control's value as its options are shown: that is what the link holds of it."""
    if shown is None or value is None:
        return value
    return [shown(one) for one in value] if isinstance(value, list) else shown(value)


def _note(key: str, label: str, asked: list[str], value) -> None:
    """Say, until the user moves on, that the link asked for something else."""
    missed = st.session_state.setdefault(MISSED, {})
    if any(one not in _in_link(value) for one in asked):
        missed[key] = (asked, value)
    elif key in missed and missed[key][1] != value:
        del missed[key]
    if key in missed:
        asked, _ = missed[key]
        shown = ", ".join(_in_link(value)) or "nothing"
        _say(f"The link asks for {label} '{_short(asked)}', which is not there; {shown} is shown")


def refused(key: str, label: str, reason: str) -> None:
    """Say that a control that the link sets is not there at all in this view."""
    asked = st.query_params.get_all(key)
    if asked:
        _say(f"The link asks for {label} '{_short(asked)}', but {reason}")


def _short(asked: list[str]) -> str:
    text = ", ".join(asked)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _say(note: str) -> None:
    st.session_state[NOTES].warning(f"{plain(note)}.", icon=":material/link_off:")


def _in_link(value) -> list[str]:
    """A control's value as Streamlit writes it into the link."""
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _in_link(part)]
    return [] if value is None else [str(value)]
