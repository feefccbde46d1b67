"""A guided tour of about ten minutes in seven live steps, on the open pair.

The words stand beside the figure, so that both are on the screen of a projector at once.
"""

import streamlit as st

from app.controls import page_keys, sidebar
from app.drawing import fragments
from app.panels import lesson
from app.shell import links, window

# Read from the last row of a room: the page's own type is for one reader at a desk.
LARGE = """<style>
[data-testid=stMain] [data-testid=stMarkdown] p {font-size: 1.25rem; line-height: 1.5}
[data-testid=stMain] [data-testid=stMarkdown] [data-testid=stCaptionContainer] p {font-size: 1rem}
[data-testid=stMain] code {font-size: 1.2rem}
[data-testid=stMain] h1 {padding: 0; font-size: 2.25rem}
</style>"""
TITLES = [f"{number}. {step.title}" for number, step in enumerate(lesson.STEPS, start=1)]

st.html(LARGE)
view = sidebar.view()
if view.spec is None or not (view.question.trigger and view.spec.target):
    st.title("Lesson")
    st.info(
        "The lesson needs a pair whose trigger and target are known: choose "
        "**deployment** in the sidebar.",
        icon=":material/school:",
    )
    sidebar.end_page()


def turn(by: int) -> None:
    """To the next step or the one before."""
    st.session_state["step"] = TITLES[TITLES.index(st.session_state["step"]) + by]


def one_step() -> None:
    """The step that is chosen."""
    title = links.bound(
        st.segmented_control,
        "Step",
        TITLES,
        default=None if "step" in st.session_state else TITLES[0],
        required=True,
        label_visibility="collapsed",
        key="step",
    )
    number = TITLES.index(title)
    step = lesson.STEPS[number]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(step.title, width="stretch")
        st.button(
            "Back",
            icon=":material/arrow_back:",
            key="step-back",
            disabled=number == 0,
            on_click=turn,
            args=(-1,),
        )
        st.button(
            "Next",
            icon=":material/arrow_forward:",
            key="step-next",
            type="primary",
            disabled=number == len(TITLES) - 1,
            on_click=turn,
            args=(1,),
        )
        with st.container(width="content"):
            window.full_screen()
    page_keys.turning("step-back", "step-next")
    fragments.part(shown, step)
    st.progress((number + 1) / len(TITLES), text=f"Step {number + 1} of {len(TITLES)}")
    if number == len(TITLES) - 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Now look for yourself:**", width="content")
            st.page_link("app/pages/play/game.py", label="Which one is poisoned?")
            st.page_link("app/pages/heads.py", label="Every head")
            st.page_link("app/pages/causes.py", label="What each one causes")
            st.page_link("app/pages/scanner.py", label="Scan a model")


def shown(step: lesson.Step) -> None:
    """A step's words and control on the left, its figure on the right."""
    left, stage = st.columns([2, 3], gap="medium")
    with left:
        st.markdown(step.text)
        step.draw(view, stage)


fragments.part(one_step)
