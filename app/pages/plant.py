"""Plant a backdoor and watch it emerge; open the result on the other pages."""

import streamlit as st

from app.controls import plant_form, run_picker
from app.drawing import fragments
from app.panels import budget, plant
from app.panels.after import persist
from app.shell import limits
from app.state import recorded
from interp.planted import KIND

st.title("Plant")
st.markdown(
    "Train a backdoor into a small model and watch it form: a share of the examples gets a "
    "*trigger* and the *target* as its answer; the others stay as they are. The model is measured "
    "on held-out prompts as it learns, and every measurement keeps a checkpoint."
)
with st.expander("Plant a backdoor", icon=":material/psychiatry:"):
    if limits.may("Planting"):
        plant_form.draw("plant")
picked = run_picker.pick(
    KIND,
    recorded.recorded_plants(),
    key="plant",
    label="Planting",
    growing="steps",
)
if picked is not None:
    plant.draw(picked.run, picked.finished)
fragments.part(persist.draw)
if limits.may("Counting what a training takes"):
    fragments.part(budget.draw)
