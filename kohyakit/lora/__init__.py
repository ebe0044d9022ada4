"""Tools for LoRA files: looked at, judged, converted, merged, resized."""
