"""The whole training, part after part, from where a folder stands; and the writing of what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tools.tiny_base import together, unet, vae


@dataclass(frozen=True, slots=True)
class Asked:
    """folder: where checkpoints lie. sharp_steps: of the way back from latents, once the rest is done. drawn: pictures
    that the U-Net learns from.
    """

    folder: Path
    seed: int
    vae_steps: int
    unet_steps: int
    sharp_steps: int
    drawn: int = 14_000


def teach(asked: Asked) -> None:
    """Teach the picture coder, then the U-Net with the text encoder, then the coder's way back once more."""
    coder = vae.finished(asked.folder, seed=asked.seed, steps=asked.vae_steps)
    unet.train(asked.folder, coder, seed=asked.seed, steps=asked.unet_steps, drawn=asked.drawn)
    vae.sharpen(asked.folder, coder, seed=asked.seed, steps=asked.sharp_steps)
    if together.rank() == 0:
        write(asked, asked.folder / "base", count=200)


def write(asked: Asked, place: Path, *, count: int) -> None:
    """The base as it stands, its figures over `count` pictures and a contact sheet."""
    from tools.tiny_base.export import write_base
    from tools.tiny_base.figures import contact_sheet, figures

    coder = vae.finished(asked.folder, seed=asked.seed, steps=asked.vae_steps)
    coder, sharp_steps = vae.sharpened(asked.folder, coder)
    pupils, steps = unet.averaged(asked.folder, asked.seed)
    size = write_base(place, coder, pupils, seed=asked.seed)
    told = {"seed": asked.seed, "vae_steps": asked.vae_steps, "unet_steps": steps}
    told |= {"sharp_steps": sharp_steps, "bytes": size}
    told |= figures(place, coder, count=count, seed=1000)
    (place / "figures.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(told["base"]), flush=True)
    contact_sheet(place, place / "sheet.png", seed=2000)
