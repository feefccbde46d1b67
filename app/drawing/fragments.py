"""Parts of a page that their own controls draw anew alone, while the rest stands still.

A control anywhere else makes Streamlit run the whole script and send every element of the page;
the browser takes them all anew, which is most of what a change costs.
"""

from collections.abc import Callable
from functools import wraps

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import failures, limits, links, spent


def part(draw: Callable, *args, key: str | None = None) -> None:
    """Draw a part of the page: a control inside it draws this part anew, and nothing else.

    What a control inside decides must not be shown outside, unless the control calls `draw_again`
    for the part around. `args` are those of the last time that what is around was drawn.

    Args:
        draw: a function of the arguments; what it returns is lost.
        *args: of `draw`.
        key: for `draw_again`.
    """

    @wraps(draw)  # Streamlit tells parts apart by name and place
    def drawn() -> None:
        with spent.shown(st.container) as alone, failures.shown(), links.notes():
            if alone:
                limits.count_run()
            draw(*args)

    st.fragment(drawn, key=key)()


def draw_again(key: str) -> None:
    """Draw the part of that key, and not only the smaller one inside it whose control this is.

    For `on_change` and its like.
    """
    ctx = get_script_run_ctx()
    if ctx is not None and ctx.fragment_ids_this_run:  # else all is drawn anyway
        st.rerun(key)
