"""Presets of the kohya_ss GUI."""
