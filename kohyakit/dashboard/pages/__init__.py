"""The parts of the pages, in Streamlit's words; dashboards/views puts them together."""
