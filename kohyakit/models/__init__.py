"""Base models: reading them from a folder or a single file, and the names a LoRA gives to their layers."""

from kohyakit.models.base import Family, Model, ModelSource, build_meta, load_model
from kohyakit.models.text import TextEncoder

__all__ = ["Family", "Model", "ModelSource", "TextEncoder", "build_meta", "load_model"]
