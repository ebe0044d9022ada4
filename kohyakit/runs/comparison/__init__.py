"""Runs beside each other: what differs, which was best, what the curves tell."""
