"""What every page is made of: its beginning, the fields of a preset, the components that Streamlit has not."""
