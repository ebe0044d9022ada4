"""Curves, colours, words and the exported page; nothing of Streamlit."""
