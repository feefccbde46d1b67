"""The screen. Streamlit lives here and nowhere else; no maths."""
