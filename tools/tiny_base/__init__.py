"""Trains a tiny Stable Diffusion: `python -m tools.tiny_base FOLDER`, a few hours on two cores."""
