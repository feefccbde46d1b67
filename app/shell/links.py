"""Controls that live in the link: what a link asks for and is not there is said, not passed over.

Streamlit lets a bound control fall back to its default in silence; a view that is not the one a
colleague sent would then look like it. It also keeps a control's value for as long as something of
its key is drawn: number 3 of one run would become number 3 of the next.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from app.shell import limits
from app.shell.text import plain
from interp.metrics import MODELS
from interp.runs.reading import Run

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


def bound(control: Callable, label: str, *args, key: str, of: str | None = None, **options) -> Any:
    """A control whose value is in the link; draws it and returns its value.

    Args:
        control: `st.selectbox` and its like.
        label: of the control.
        *args: of the control.
        key: in the link and in the session.
        of: what its options belong to, such as `run_key`; a value that was chosen for another one
            is forgotten, in the session and in the link. None where every value means the same
            whatever is open.
        **options: of the control.
    """
    _forget_others(control, label, args, key, of, options)
    if f"{key}-put" in st.session_state:
        st.session_state[key] = st.session_state.pop(f"{key}-put")
    # Before it is drawn: drawing drops what it cannot take. A control that is there already was
    # set by the user or by a button, and the link follows it one run later.
    asked = [] if key in st.session_state else st.query_params.get_all(key)
    value = control(label, *args, key=key, bind="query-params", **options)
    _note(key, label, asked, _as_shown(value, options.get("format_func")))
    return value


def bound_text(label: str, *, key: str, of: str | None = None, **options) -> str:
    """A field for text in the link; see `bound`.

    Raises:
        UsageError: a text that is too long, in the field or in the link.
    """
    return limits.text(label, bound(st.text_input, label, key=key, of=of, **options))


def put(key: str, value) -> None:
    """Set a control of the link from a button or a click, wherever on the page that stands.

    The value is kept until the control is drawn. Streamlit tells the browser of a value that the
    script sets only if the control is drawn in the same run, and a part that is drawn again by
    `parts.draw_again` is drawn in the next.
    """
    st.session_state[f"{key}-put"] = value


def run_key(run: Run) -> str:
    """What a control belongs to whose options are a run's: its name and when it was begun.

    The name alone may be another run's tomorrow; what it holds grows while it is at work.
    """
    return f"{run.path.name} {run.meta['started']}"


def models_key(facts: dict) -> str:
    """What a control belongs to whose options are a pair's: the weights of both models."""
    return " ".join(facts["models"][which]["sha256"] for which in MODELS)


def pinned(label: str, options: list[str], *, key: str, of: str | None = None) -> str:
    """A choice that stands in the link even where it is the default.

    For runs: the newest is the default, and tomorrow that will be another one.

    Args:
        label: of the select box.
        options: at least one.
        key: in the link and in the session.
        of: see `bound`.
    """
    if _other(key, of):
        st.session_state.pop(key, None)
        st.query_params.pop(key, None)
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
    st.session_state[f"{key}-written"] = value
    if st.query_params.get_all(key) != [value]:
        st.query_params[key] = value


def _forget_others(
    control: Callable, label: str, args: tuple, key: str, of: str | None, options: dict
) -> None:
    """Set a control to its default if its value was chosen for something else.

    Set, not deleted: the browser is told of a value that is set, and keeps one that is deleted.
    """
    if not _other(key, of):
        return
    st.session_state.pop(f"{key}-put", None)
    given = inspect.signature(control).bind(label, *args, **options)
    given.apply_defaults()
    st.session_state[key] = _default(given.arguments)


def _other(key: str, of: str | None) -> bool:
    """Whether the control last belonged to something else; from now on it belongs to `of`."""
    if of is None:
        return False
    before, st.session_state[f"{key}-of"] = st.session_state.get(f"{key}-of", of), of
    if before != of:
        st.session_state.get(MISSED, {}).pop(key, None)
    return before != of


def _default(given: dict):
    """The value that a control has before anyone touches it, by its arguments."""
    if "index" in given:  # a select box
        options, index = list(given["options"]), given["index"]
        return options[index] if index is not None and options else None
    if "default" in given:  # pills and segments
        default = given["default"]
        return list(default or ()) if given["selection_mode"] == "multi" else default
    value = given["value"]
    return next(iter(given["options"])) if value is None and "options" in given else value


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


def unused(key: str, label: str, reason: str) -> None:
    """Take a choice out of the link that counts for nothing here; say it, if the reader gave it.

    Args:
        key: of a choice that `keep_in_link` writes.
        label: of the control.
        reason: why it does not count.
    """
    asked = st.query_params.get_all(key)
    if asked and asked == [st.session_state.get(f"{key}-written")]:
        st.query_params.pop(key)  # from before something else was chosen
    else:
        refused(key, label, reason)


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
