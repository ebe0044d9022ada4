"""What was taught, as a Stable Diffusion 1.x folder of diffusers in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kohyakit.demo.tiny_model import name_as_published, write_frame
from tools.tiny_base.unet import TEXT, WIDTH, Pupils, embeddings_of
from tools.tiny_base.words import whole_table


def write_base(folder: Path, vae: Any, pupils: Pupils, *, seed: int) -> int:
    """Write the folder; returns the bytes of its weights."""
    parts = {"vae": vae, "unet": pupils.unet, "text_encoder": whole_text_encoder(pupils, seed=seed)}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)
        part.float()
    write_frame(folder)
    name_as_published(folder / "text_encoder" / "model.safetensors")
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def whole_text_encoder(pupils: Pupils, *, seed: int) -> Any:
    """The text encoder with all 49,408 rows: taught ones where a word was taught."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(CLIPTextConfig(**TEXT))
    taught = embeddings_of(pupils.text).token_embedding.taught.detach()
    rows = whole_table(seed, WIDTH)
    rows[pupils.vocabulary.tokens[: pupils.vocabulary.taught]] = taught
    state = {name: value for name, value in pupils.text.state_dict().items() if "token_embedding" not in name}
    state |= {name: rows for name in text.state_dict() if name.endswith("token_embedding.weight")}
    text.load_state_dict(state)
    return text
