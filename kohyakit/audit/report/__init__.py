"""An audit as frames, on a terminal, as a page and as files."""
