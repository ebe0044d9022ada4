"""The U-Net and the text encoder, taught together: noise is told from latents of the made world, by its captions."""

from __future__ import annotations

import random
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.demo.world import SIDE, Scene, draw, scenes
from tools.tiny_base import together
from tools.tiny_base.vae import stacked
from tools.tiny_base.weights import Weights, dice, write_whole
from tools.tiny_base.words import LENGTH, Table, Vocabulary, whole_table

WIDTH, FACTOR = 40, 0.18215
UNET: dict[str, Any] = {
    "sample_size": SIDE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),  # words speak where a cell is 16 px wide
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,  # and on the way out, where a LoRA can reach what is drawn
}
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": WIDTH,
    "max_position_embeddings": LENGTH,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BATCH, RATE, GAMMA = 48, 1.2e-3, 5.0


@dataclass(frozen=True, slots=True)
class Pupils:
    """The two parts that learn together."""

    unet: Any
    text: Any
    vocabulary: Vocabulary


def new_pupils(seed: int, *, precision: torch.dtype = torch.bfloat16) -> Pupils:
    """Untaught: the U-Net in `precision`, the text encoder in float32 with a table of the world's words only."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: Any = UNet2DConditionModel(**UNET)
        text = CLIPTextModel._from_config(
            CLIPTextConfig(**(TEXT | {"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1})),
            attn_implementation="eager",
        )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    unet.set_attn_processor(AttnProcessor())  # on a CPU quicker backwards than the fused one
    vocabulary = Vocabulary(seed=seed)
    embeddings = embeddings_of(text)
    embeddings.token_embedding = Table(whole_table(seed, WIDTH), vocabulary)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.05, generator=dice(seed, 5))
    return Pupils(unet.to(precision), text, vocabulary)


def embeddings_of(text: Any) -> Any:
    """The module with the words and places, wherever this version of transformers keeps it."""
    return text.text_model.embeddings if hasattr(text, "text_model") else text.embeddings


def said(pupils: Pupils, rows: list[list[int]]) -> Tensor:
    """What the text encoder makes of captions: [batch, 77, width]."""
    states: Tensor = pupils.text(torch.tensor(rows)).last_hidden_state
    return states


class Noise:
    """How much of the picture and of the noise is left at each of 1000 steps."""

    def __init__(self) -> None:
        betas = torch.linspace(NOISE["beta_start"] ** 0.5, NOISE["beta_end"] ** 0.5, 1000) ** 2
        self.kept = torch.cumprod(1 - betas, dim=0)

    def add(self, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        kept = self.kept[steps][:, None, None, None]
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise

    def weight(self, steps: Tensor) -> Tensor:
        """Min-SNR: no step counts for more than where signal and noise stand 5 to 1."""
        snr = self.kept[steps] / (1 - self.kept[steps])
        return snr.clamp(max=GAMMA) / snr


@torch.no_grad()
def world_latents(folder: Path, vae: Any, *, seed: int, count: int) -> tuple[Tensor, list[Scene]]:
    """Latents of `count` pictures and what they show; each scene about equally often. Kept in the folder.

    Every seventh shows a thing without a name: so the U-Net learns to draw more than the world has, and a word that
    nobody taught stands for anything.
    """
    every = list(scenes())
    random.Random(seed).shuffle(every)
    shown = [every[i % len(every)] for i in range(count)]
    shown = [s if i % 7 else Scene("", "", s.place, s.ground, s.sky) for i, s in enumerate(shown)]
    place = folder / "latents.pt"
    if not place.exists() and together.rank() == 0:
        parts = []
        coder = deepcopy(vae).to(torch.bfloat16)
        for start in range(0, count, 48):
            drawn = [draw(scene, f"{seed}/{start + i}") for i, scene in enumerate(shown[start : start + 48])]
            pixels = (stacked(drawn).float() / 127.5 - 1).to(torch.bfloat16)
            parts.append((coder.quant_conv(coder.encoder(pixels))[:, :4].float() * FACTOR).half())
        write_whole(place, torch.cat(parts))
        print(f"{count} pictures coded", flush=True)
    together.wait()
    return torch.load(place, weights_only=True).float(), shown


def pupils_loss(pupils: Pupils, noise: Noise, latents: Tensor, rows: list[list[int]], where: torch.Generator) -> Tensor:
    """The weighted error of the noise told; steps spread evenly over the batch."""
    count = len(latents)
    offset = torch.rand(1, generator=where)
    steps = (((torch.arange(count) + torch.rand(count, generator=where)) / count + offset) % 1 * 1000).long()
    added = torch.randn(latents.shape, generator=where)
    noisy = noise.add(latents, added, steps).to(torch.bfloat16)
    told = pupils.unet(noisy, steps, said(pupils, rows).to(torch.bfloat16), return_dict=False)[0].float()
    return (noise.weight(steps) * ((told - added) ** 2).mean(dim=(1, 2, 3))).mean()


def train(folder: Path, vae: Any, *, seed: int, steps: int, drawn: int = 14_000, every: float = 120.0) -> Pupils:
    """Teach both, or go on from the folder's checkpoint; they are returned with the averaged weights.

    The rate stays level and falls over the last fifth, so that `steps` can be made more or fewer on the way.
    """
    pupils, noise = new_pupils(seed), Noise()
    weights = Weights([pupils.unet, pupils.text], lag=0.999)
    weights.resume(folder / "unet.pt")
    if weights.step < steps:
        latents, shown = world_latents(folder, vae, seed=seed, count=drawn)
        kept = began = time.monotonic()
        first, losses = weights.step, 0.0
        while weights.step < steps:
            where = dice(seed, 2, weights.step, together.rank())
            picked = torch.randint(len(latents), (BATCH // together.processes(),), generator=where)
            rows = [pupils.vocabulary.rows(shown[i], where) for i in picked.tolist()]
            loss = pupils_loss(pupils, noise, latents[picked], rows, where)
            loss.backward()
            weights.learn(together.mean(weights.gradient()), _rate(weights.step, steps))
            losses += loss.item()
            if together.rank() == 0:
                if weights.step % 100 == 0:
                    pace = (weights.step - first) * BATCH / (time.monotonic() - began)
                    print(f"unet {weights.step}/{steps} loss {losses / 100:.4f} {pace:.0f} samples/s", flush=True)
                    losses = 0.0
                if time.monotonic() - kept > every or weights.step == steps:
                    weights.keep(folder / "unet.pt")
                    kept = time.monotonic()
    weights.show(weights.average)
    return pupils


def _rate(step: int, steps: int) -> float:
    return RATE * min(1.0, (step + 1) / 100, 0.02 + (steps - step) / (steps / 5))


def averaged(folder: Path, seed: int) -> tuple[Pupils, int]:
    """The pupils as the folder's checkpoint has them, in float32, to be judged or saved; and the steps they learnt."""
    pupils = new_pupils(seed, precision=torch.float32)
    weights = Weights([pupils.unet, pupils.text])
    if not weights.resume(folder / "unet.pt"):
        raise FileNotFoundError(f"{folder / 'unet.pt'} is not there: teach the model first")
    weights.show(weights.average)
    return pupils, weights.step
