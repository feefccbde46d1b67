"""Parts of a page that their own controls redraw alone, while the rest does not change.

Any other control makes Streamlit rerun the whole script and send every element of the page. The
browser then renders them all again, which is most of the cost of a change.
"""

from collections.abc import Callable
from functools import wraps

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import failures, limits, links, spent


def part(draw: Callable, *args, key: str | None = None) -> None:
    """Draw a part of the page; a control inside it redraws only this part.

    Nothing outside may depend on a control inside, unless the control calls `draw_again` for the
    part around it. `args` are those of the last time that the surroundings were drawn.

    Args:
        draw: a function of the arguments; its return value is dropped.
        *args: arguments of `draw`.
        key: key for `draw_again`.
    """

    @wraps(draw)  # Streamlit identifies parts by name and place
    def drawn() -> None:
        with spent.shown(st.container) as alone, failures.shown(), links.notes():
            if alone:
                limits.count_run()
            draw(*args)

    st.fragment(drawn, key=key)()


def draw_again(key: str) -> None:
    """Redraw the part with that key, not only the smaller part that holds the control.

    For callbacks such as `on_change`.
    """
    ctx = get_script_run_ctx()
    if ctx is not None and ctx.fragment_ids_this_run:  # else everything is drawn anyway
        st.rerun(key)
