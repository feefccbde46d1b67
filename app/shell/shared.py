"""Objects that all sessions of a server share, each created once.

This is not `st.cache_resource`, because any browser can make Streamlit clear its caches, even
before the password. That would drop the limits, the running jobs and the slot of the pair.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P, T = ParamSpec("P"), TypeVar("T")

_forget: list[Callable[[], None]] = []


def for_all(make: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that it is called once per set of arguments, for all sessions.

    Args:
        make: the function, called by one thread at a time; its arguments must be hashable.
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
    """Forget everything, as in a new server; for tests."""
    for clear in _forget:
        clear()
