"""Controls whose values are in the link; a value that is not available is reported.

Streamlit silently resets a bound control to its default; the view would then look like the one that
a colleague sent, but differ. It also keeps a control's value while any element with its key is
drawn: number 3 of one run would become number 3 of the next.
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
PINNED = ("pair", "run", "planted", "precision")
"""Keys of the sidebar's controls that `pinned` or `keep_in_link` write into the link."""
BOUND = (
    *("original", "suspect", "adapter", "target", "template"),
    *("prompts", "trigger", "placement", "rows", "seed"),
)
"""Those that Streamlit writes itself, and that it lets nobody else write."""
LONGEST = 120
"""Most characters of a link's value that a note repeats."""


@contextmanager
def notes() -> Iterator[None]:
    """Collect notes about the link in the block, and show them at the head of the page or part.

    A part has its own place: when it is redrawn alone, it cannot write to the head of the page.
    """
    around, st.session_state[NOTES] = st.session_state.get(NOTES), st.container()
    try:
        yield
    finally:
        st.session_state[NOTES] = around


def bound(control: Callable, label: str, *args, key: str, of: str | None = None, **options) -> Any:
    """Draw a control whose value is in the link; returns the value.

    Args:
        control: a Streamlit control, such as `st.selectbox`.
        label: label of the control.
        *args: further arguments of the control.
        key: key in the link and in the session.
        of: what its options belong to, such as `run_key`. A value that was chosen for something
            else is dropped from session and link. None if values mean the same everywhere.
        **options: keyword arguments of the control.
    """
    _forget_others(control, label, args, key, of, options)
    take(key)
    # Read before drawing, which drops invalid values. A control that already exists was set by the
    # user or by a button, and the link follows one run later.
    asked = [] if key in st.session_state else st.query_params.get_all(key)
    value = control(label, *args, key=key, bind="query-params", **options)
    _note(key, label, asked, _as_shown(value, options.get("format_func")))
    return value


def bound_text(label: str, *, key: str, of: str | None = None, **options) -> str:
    """Draw a text field whose value is in the link, as `bound` does.

    Raises:
        UsageError: the text in the field or in the link is too long.
    """
    return limits.text(label, bound(st.text_input, label, key=key, of=of, **options))


def put(key: str, value) -> None:
    """Set a control of the link from a button or a click anywhere on the page.

    The value is kept until the control is drawn. Streamlit sends the browser a value that the
    script sets only if the control is drawn in the same run; `fragments.draw_again` draws a
    part in the next run.
    """
    st.session_state[f"{key}-put"] = value


def open_now() -> dict[str, str]:
    """What is open, for a link to another page, which starts with an empty one.

    The other controls of the sidebar stay as they are, and come into the link by themselves.
    """
    return {key: st.query_params[key] for key in PINNED if key in st.query_params}


def take(key: str) -> None:
    """Give a control that is drawn next the value that `put` has left for it, if any."""
    if f"{key}-put" in st.session_state:
        st.session_state[key] = st.session_state.pop(f"{key}-put")


def follow(key: str, first: str, *, growing: bool) -> None:
    """Keep a control that nobody has set on the first option, which changes as an answer grows.

    Args:
        key: key of the control, which is drawn next.
        first: its first option now.
        growing: whether the answer goes on.
    """
    before = st.session_state.pop(f"{key}-first", None)
    mine = st.session_state.get(key) == before  # None: it is drawn for the first time
    if before is not None and mine and before != first:
        put(key, first)
    if growing and mine and (before is not None or not st.query_params.get_all(key)):
        st.session_state[f"{key}-first"] = first


def run_key(run: Run) -> str:
    """What a control with the options of a run belongs to: the run's name and start time.

    A later run may reuse the name, and the content grows while the run is running.
    """
    return f"{run.path.name} {run.meta['started']}"


def models_key(facts: dict) -> str:
    """What a control with the options of a pair belongs to: the weights of both models."""
    return " ".join(facts["models"][which]["sha256"] for which in MODELS)


def pinned(
    label: str, options: list[str], *, key: str, of: str | None = None, help: str | None = None
) -> str:
    """Draw a choice that is in the link even if it is the default.

    For defaults that change over time or by machine: the newest run, the pair that opens first.

    Args:
        label: label of the select box.
        options: the options, at least one.
        key: key in the link and in the session.
        of: what the options belong to, as in `bound`.
        help: text behind the question mark.
    """
    if _other(key, of):
        st.session_state.pop(key, None)
        st.query_params.pop(key, None)
    take(key)
    asked = st.query_params.get_all(key)
    if key not in st.session_state and asked and asked[0] in options:
        st.session_state[key] = asked[0]
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = options[0]  # a browser keeps showing what is deleted from the state
    value = st.selectbox(label, options, key=key, help=help)
    _note(key, label, [] if asked and asked[0] in options else asked, value)
    keep_in_link(key, value)
    return value


def keep_in_link(key: str, value: str) -> None:
    """Write a value into the link, unless it is already there.

    Each write sends the whole link to the browser, which would undo changes that the user has made
    meanwhile.
    """
    st.session_state[f"{key}-written"] = value
    if st.query_params.get_all(key) != [value]:
        st.query_params[key] = value


def from_link(key: str, default: Any, read: Callable[[str], Any] = str) -> None:
    """Set a control that outlives its page from the link, before it is drawn the first time.

    For controls of a form, which must not write to the link before the form is sent; `remember`
    does that, and says if the link asked for what is not there.

    Args:
        key: key in the link and in the session.
        default: its value without a link.
        read: makes its value of the link's text.
    """
    asked = st.query_params.get(key)
    if key in st.session_state:
        return
    try:
        st.session_state[key] = default if asked is None else read(asked)
    except ValueError:
        st.session_state[key] = default
        st.session_state.setdefault(MISSED, {})[key] = ([asked], default)


def remember(key: str, label: str, value: Any, default: Any = None) -> None:
    """Write what a form was sent with into the link, unless it is the default.

    Args:
        key: key in the link.
        label: label of the control.
        value: its value.
        default: its value without a link.
    """
    _note(key, label, [], value)
    if value != default:
        keep_in_link(key, str(value))
    elif key in st.query_params:
        st.query_params.pop(key)


def within(low: float, high: float) -> Callable[[str], float]:
    """Reads a number of a link that lies between two ends; else `ValueError`."""

    def read(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return read


def _forget_others(
    control: Callable, label: str, args: tuple, key: str, of: str | None, options: dict
) -> None:
    """Set a control to its default if its value was chosen for something else.

    It is set, not deleted: Streamlit sends a set value to the browser, which keeps a deleted one.
    """
    if not _other(key, of):
        return
    st.session_state.pop(f"{key}-put", None)
    given = inspect.signature(control).bind(label, *args, **options)
    given.apply_defaults()
    st.session_state[key] = _default(given.arguments)


def _other(key: str, of: str | None) -> bool:
    """Whether the control last belonged to something else; records that it now belongs to `of`."""
    if of is None:
        return False
    before, st.session_state[f"{key}-of"] = st.session_state.get(f"{key}-of", of), of
    if before != of:
        st.session_state.get(MISSED, {}).pop(key, None)
    return before != of


def _default(given: dict):
    """The initial value of a control, from its arguments."""
    if "index" in given:  # a select box
        options, index = list(given["options"]), given["index"]
        return options[index] if index is not None and options else None
    if "default" in given:  # pills and segments
        default = given["default"]
        return list(default or ()) if given["selection_mode"] == "multi" else default
    value = given["value"]
    return next(iter(given["options"])) if value is None and "options" in given else value


def _as_shown(value, shown: Callable | None):
    """A control's value as its options are displayed, which is what the link holds."""
    if shown is None or value is None:
        return value
    return [shown(one) for one in value] if isinstance(value, list) else shown(value)


def _note(key: str, label: str, asked: list[str], value) -> None:
    """Show, until the user moves on, that the link asked for something else."""
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
    """Remove a choice without effect from the link; show a note if the user's link set it.

    Args:
        key: key of a choice that `keep_in_link` writes.
        label: label of the control.
        reason: why it has no effect.
    """
    asked = st.query_params.get_all(key)
    if asked and asked == [st.session_state.get(f"{key}-written")]:
        st.query_params.pop(key)  # from before something else was chosen
    else:
        refused(key, label, reason)


def refused(key: str, label: str, reason: str) -> None:
    """Show that this view lacks a control that the link sets."""
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
