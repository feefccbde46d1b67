"""The web app. Streamlit is used only here; nothing is computed here."""
