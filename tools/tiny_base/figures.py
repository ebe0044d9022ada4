"""How well the base shows what it is asked for, beside how well the judge reads pictures that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kohyakit.demo.world import CONCEPTS, SIDE, Scene, asked_scenes, concept_scenes, draw
from tools.tiny_base.judge import Seen, see
from tools.tiny_base.vae import rebuilt, stacked

ASPECTS = ("kind", "colour", "place", "ground", "sky")
GUIDANCE, STEPS = 3.0, 20


def drawn_by(folder: Path, captions: list[str], *, seed: int, guidance: float = GUIDANCE) -> list[Any]:
    """Pictures by the written base, one a caption, with DDIM in 20 steps."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    images: list[Any] = []
    for start in range(0, len(captions), 16):
        part = captions[start : start + 16]
        dice = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        images += pipe(
            part, height=SIDE, width=SIDE, num_inference_steps=STEPS, guidance_scale=guidance, generator=dice
        ).images
    return images


def shares(wanted: list[Scene], seen: list[Seen]) -> dict[str, float]:
    """For each aspect how often what is seen is what was wanted; "score" is all of kind, colour and place."""
    told = {a: _share([getattr(w, a) == getattr(s, a) for w, s in zip(wanted, seen, strict=True)]) for a in ASPECTS}
    three = [all(getattr(w, a) == getattr(s, a) for a in ASPECTS[:3]) for w, s in zip(wanted, seen, strict=True)]
    return told | {"score": _share(three)}


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4)


@torch.no_grad()
def through(vae: Any, images: list[Any]) -> list[Any]:
    """Pictures as the coder gives them back."""
    from PIL import Image

    pixels = rebuilt(vae, stacked(images).float() / 127.5 - 1)
    back = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in back]


def judge_errors(vae: Any, *, count: int, seed: int) -> dict[str, dict[str, float]]:
    """What the judge reads in pictures that were drawn, and in the same after the coder."""
    wanted = asked_scenes(count, seed)
    drawn = [draw(scene, f"judge/{seed}/{i}") for i, scene in enumerate(wanted)]
    told = {"drawn": shares(wanted, [see(p) for p in drawn])}
    coded = [see(p) for p in through(vae, drawn)]
    told["coded"] = shares(wanted, coded)
    for concept in CONCEPTS:
        asked = concept_scenes(concept, count // 4, seed)
        pictures = through(vae, [draw(scene, f"judge/{seed}/{i}") for i, scene in enumerate(asked)])
        told[concept] = {
            "found": _share([see(p).kind == concept for p in pictures]),
            "false": _share([s.kind == concept for s in coded]),
        }
    return told


def figures(folder: Path, vae: Any, *, count: int, seed: int) -> dict[str, Any]:
    """All figures of a written base, to lie beside it."""
    wanted = asked_scenes(count, seed)
    told: dict[str, Any] = {"pictures": count, "guidance": GUIDANCE, "ddim_steps": STEPS}
    told["judge"] = judge_errors(vae, count=count, seed=seed)
    told["base"] = shares(wanted, [see(p) for p in drawn_by(folder, [s.caption() for s in wanted], seed=seed)])
    return told


def contact_sheet(folder: Path, path: Path, *, seed: int, columns: int = 12, rows: int = 8) -> None:
    """A picture of pictures: each row one kind, with its captions drawn from all others."""
    from PIL import Image

    wanted = sorted(asked_scenes(columns * rows, seed), key=lambda scene: scene.kind)
    images = drawn_by(folder, [scene.caption() for scene in wanted], seed=seed)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * SIDE, i // columns * SIDE))
    sheet.save(path)
