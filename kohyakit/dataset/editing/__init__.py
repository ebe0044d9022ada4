"""Captions changed with a history and a way back."""
