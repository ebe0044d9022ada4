"""Looking at every file of a set once: which there are, and what opening each one tells."""
