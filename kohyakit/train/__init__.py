"""Training in process."""
