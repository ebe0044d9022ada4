"""Which pictures of a set show the same."""
