"""The base model that ships with the package: a Stable Diffusion 1.x in miniature, taught by tools/tiny_base."""

from __future__ import annotations

import shutil
from pathlib import Path

from kohyakit.demo.tiny_model import name_as_published, write_frame
from kohyakit.resources import base_model

PARTS = ("unet", "vae", "text_encoder")


def write_base_model(folder: Path) -> Path:
    """Write the base as a diffusers folder, as its users have it."""
    for part in PARTS:
        shutil.copytree(base_model() / part, folder / part)
    write_frame(folder)
    name_as_published(folder / "text_encoder" / "model.safetensors")
    return folder
