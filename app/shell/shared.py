"""What all sessions of a server share, each made once.

Not `st.cache_resource`: any browser can send Streamlit the message that clears its caches, before
the password too, and with them the limits, the jobs at work and the one place a pair is held.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P, T = ParamSpec("P"), TypeVar("T")

_forget: list[Callable[[], None]] = []


def for_all(make: Callable[P, T]) -> Callable[P, T]:
    """Of a function that makes something: make it once for each arguments, for all sessions.

    Args:
        make: called by one thread at a time; its arguments are hashable.
    """
    made, lock = {}, threading.Lock()

    @wraps(make)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        key = args, tuple(kwargs.items())
        with lock:
            if key not in made:
                made[key] = make(*args, **kwargs)
            return made[key]

    _forget.append(made.clear)
    return kept


def forget() -> None:
    """As a server that has just been started, for tests."""
    for clear in _forget:
        clear()
