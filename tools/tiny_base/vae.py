"""The picture coder: 96 px to 12 x 12 latents and back, taught on the made world and on shapes of every kind."""

from __future__ import annotations

import json
import random
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kohyakit.demo.world import SIDE, Scene, draw, scenes
from tools.tiny_base import together
from tools.tiny_base.weights import Weights, cosine, dice, write_whole

SETTINGS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (16, 32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_size": SIDE,
    "scaling_factor": 0.18215,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
BATCH, CROP, RATE = 32, 48, 2e-3
_CARRIED = 8  # channels that pass colour and a constant through an untaught coder


def new_vae(seed: int) -> Any:
    """A coder that passes the mean colour before it has learnt anything: residuals start at nothing."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae: Any = AutoencoderKL(**SETTINGS)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith((".conv2", ".to_out.0")):
                module.weight.zero_()
                module.bias.zero_()
            elif name.endswith(("conv_shortcut", "upsamplers.0.conv", "downsamplers.0.conv")):
                _carry(module, shrink="down" in name.rsplit(".", 3)[1])
        _colours_in(vae.encoder.conv_in)
        _colours_in(vae.decoder.conv_in)
        _colours_out(vae.encoder.conv_out)
        _colours_out(vae.decoder.conv_out)
        vae.encoder.conv_out.bias[4:] = -6.0  # little noise at first
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.copy_(torch.eye(conv.weight.shape[0])[:, :, None, None])
            conv.bias.zero_()
    return vae


def _carry(conv: Any, *, shrink: bool) -> None:
    """The first channels go through as they are, or as the mean of four pixels."""
    conv.weight[:_CARRIED].zero_()
    conv.bias[:_CARRIED].zero_()
    middle = conv.weight.shape[-1] // 2
    for i in range(_CARRIED):
        if shrink:
            conv.weight[i, i, :2, :2] = 0.25
        else:
            conv.weight[i, i, middle, middle] = 1.0


def _colours_in(conv: Any) -> None:
    """Each colour and its negative, so that silu(x) - silu(-x) = x, and constants that steady the norm."""
    conv.weight[:_CARRIED].zero_()
    conv.bias[:_CARRIED] = torch.tensor([0.0] * 6 + [2.0, -2.0])
    for i in range(3):
        conv.weight[i, i, 1, 1], conv.weight[3 + i, i, 1, 1] = 1.0, -1.0


def _colours_out(conv: Any) -> None:
    conv.weight[:3].zero_()
    conv.weight[3:] *= 0.3
    conv.bias.zero_()
    for i in range(3):
        conv.weight[i, i, 1, 1], conv.weight[i, 3 + i, 1, 1] = 1.0, -1.0


def pictures(count: int, seed: int) -> Tensor:
    """Pictures of the world, [count, 3, 96, 96] of 0..255; each fourth with a thing that has no name."""
    rng = random.Random(seed)
    every = list(scenes())
    shown = [rng.choice(every) for _ in range(count)]
    shown = [s if i % 4 else Scene("", "", s.place, s.ground, s.sky) for i, s in enumerate(shown)]
    return stacked([draw(scene, f"{seed}/{i}") for i, scene in enumerate(shown)])


def stacked(images: list[Any]) -> Tensor:
    """PIL pictures of one size as [count, 3, height, width] of 0..255."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def shapes(count: int, seed: int) -> Tensor:
    """Shapes of random form and colour, so that the coder also shows what the world does not have."""
    from PIL import Image, ImageDraw

    rng = random.Random(f"shapes/{seed}")
    images = []
    for _ in range(count):
        image = Image.new("RGB", (SIDE * 3, SIDE * 3), _any_colour(rng))
        pen = ImageDraw.Draw(image)
        for _ in range(rng.randrange(6, 26)):
            wide, tall = rng.randrange(12, 120), rng.randrange(12, 120)
            x, y = rng.randrange(-20, SIDE * 3 - 10), rng.randrange(-20, SIDE * 3 - 10)
            edge = _any_colour(rng) if rng.random() < 0.5 else None
            form, fill = rng.randrange(4), _any_colour(rng)
            if form == 0:
                pen.ellipse((x, y, x + wide, y + tall), fill=fill, outline=edge, width=3)
            elif form == 1:
                pen.rectangle((x, y, x + wide, y + tall), fill=fill, outline=edge, width=3)
            elif form == 2:
                corners = [(x + rng.randrange(wide), y + rng.randrange(tall)) for _ in range(rng.randrange(3, 6))]
                pen.polygon(corners, fill=fill, outline=edge, width=3)
            else:
                for stripe in range(0, wide, 24):
                    pen.rectangle((x + stripe, y, x + stripe + 12, y + tall), fill=fill)
        images.append(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return stacked(images)


def _any_colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def batch_of(world: Tensor, other: Tensor, where: torch.Generator, *, count: int, crop: int) -> Tensor:
    """Cut-outs of -1..1: four fifths of the world, a fifth of shapes; a fifth with exchanged colours."""
    cuts = []
    for _ in range(count):
        a, b, c, d, e = (int(torch.randint(2**30, (1,), generator=where)) for _ in range(5))
        source = other if a % 5 == 0 else world
        x, y = (b % (SIDE - crop + 1), c % (SIDE - crop + 1))
        cut = source[d % len(source), :, y : y + crop, x : x + crop]
        if e % 5 == 0:
            cut = cut[torch.randperm(3, generator=where)]
        cuts.append(cut.flip(-1) if e % 2 else cut)
    return torch.stack(cuts).float() / 127.5 - 1


def coder_loss(vae: Any, wanted: Tensor, noise: torch.Generator) -> Tensor:
    """Colour, edges and squares, and a little pull towards a normal latent."""
    mean, spread = vae.quant_conv(vae.encoder(wanted)).float().chunk(2, dim=1)
    spread = spread.clamp(-30, 20)
    latent = mean + torch.randn(mean.shape, generator=noise) * (spread / 2).exp()
    shown = vae.decoder(vae.post_quant_conv(latent.to(wanted.dtype))).float()
    off = shown - wanted.float()
    edges = (off[..., 1:] - off[..., :-1]).abs().mean() + (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
    pull = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
    return off.abs().mean() + 0.5 * edges + 0.5 * (off**2).mean() + 2e-4 * pull


@dataclass(frozen=True, slots=True)
class Lessons:
    """One stretch of teaching: its checkpoint, its dice and length, from which step on pictures are whole."""

    place: Path
    seed: int
    dice: int
    steps: int
    whole: int
    rate: float
    drawn: int


def train(folder: Path, *, seed: int, steps: int, scenes_drawn: int = 6000, every: float = 120.0) -> Any:
    """Teach the coder, or go on from the folder's checkpoint; returns it with the averaged weights, float32."""
    vae = new_vae(seed).to(torch.bfloat16)
    vae.requires_grad_(True)
    weights = Weights([vae], lag=0.998)
    _teach(vae, weights, Lessons(folder / "vae.pt", seed, 1, steps, steps * 4 // 5, RATE, scenes_drawn), every)
    exact = new_vae(seed)
    Weights([exact]).show(weights.average)
    return exact.requires_grad_(False)


def sharpen(folder: Path, coder: Any, *, seed: int, steps: int, scenes_drawn: int = 6000, every: float = 120.0) -> None:
    """Teach the way back from latents once more, on whole pictures, or go on from the folder's checkpoint.

    The way in is held, so whatever was learnt on its latents stays true, and both can be taught side by side.
    """
    vae = deepcopy(coder).to(torch.bfloat16)
    weights = Weights(_way_back(vae), lag=0.998)
    _teach(vae, weights, Lessons(folder / "vae-sharp.pt", seed, 4, steps, 0, RATE / 2, scenes_drawn), every)


def sharpened(folder: Path, coder: Any) -> tuple[Any, int]:
    """The coder with the way back as the folder's checkpoint has it, in float32, and the steps that this learnt."""
    exact = deepcopy(coder)
    weights = Weights(_way_back(exact))
    weights.resume(folder / "vae-sharp.pt")
    weights.show(weights.average)
    return exact.requires_grad_(False), weights.step


def _way_back(vae: Any) -> list[Any]:
    """The parts from latents to pictures; they alone learn."""
    vae.requires_grad_(False)
    return [vae.decoder.requires_grad_(True), vae.post_quant_conv.requires_grad_(True)]


def _teach(vae: Any, weights: Weights, asked: Lessons, every: float) -> None:
    weights.resume(asked.place)
    if weights.step >= asked.steps:
        return
    world, other = pictures(asked.drawn, asked.seed), shapes(asked.drawn // 4, asked.seed)
    held = torch.cat([pictures(48, asked.seed + 1), shapes(16, asked.seed + 1)]).float() / 127.5 - 1
    kept = time.monotonic()
    while weights.step < asked.steps:
        step = weights.step
        where = dice(asked.seed, asked.dice, step, together.rank())
        crop, count = (SIDE, BATCH // 4) if step >= asked.whole else (CROP, BATCH)
        count //= together.processes()
        wanted = batch_of(world, other, where, count=count, crop=crop).to(torch.bfloat16)
        loss = coder_loss(vae, wanted, where)
        loss.backward()
        weights.learn(together.mean(weights.gradient()), cosine(step, asked.steps, asked.rate))
        if together.rank() == 0:
            if step % 100 == 0:
                told = _held(vae, weights, held)
                print(f"{asked.place.stem} {step}/{asked.steps} loss {loss.item():.4f} {told}", flush=True)
            if time.monotonic() - kept > every or weights.step == asked.steps:
                weights.keep(asked.place)
                kept = time.monotonic()


@torch.no_grad()
def _held(vae: Any, weights: Weights, held: Tensor) -> str:
    weights.show(weights.average)
    shown = rebuilt(vae, held.to(torch.bfloat16)).float()
    weights.show(weights.master.detach())
    world, other = (_decibel(shown[part], held[part]) for part in (slice(48), slice(48, None)))
    return f"world {world:.1f} dB shapes {other:.1f} dB"


def rebuilt(vae: Any, pixels: Tensor) -> Tensor:
    """Pictures of -1..1 through the coder and back."""
    return vae.decoder(vae.post_quant_conv(vae.quant_conv(vae.encoder(pixels))[:, :4]))


def _decibel(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(4 / ((a - b) ** 2).mean()))


@torch.no_grad()
def fold(vae: Any, pixels: Tensor) -> dict[str, list[float]]:
    """Bring each latent channel to mean 0 and spread 1 / 0.18215, within the two 1 x 1 layers; float32 weights."""
    means = torch.cat([vae.quant_conv(vae.encoder(part))[:, :4] for part in pixels.split(64)])
    shift, spread = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    gain = 1 / (SETTINGS["scaling_factor"] * spread)
    inside, outside = vae.quant_conv, vae.post_quant_conv
    outside.bias += (outside.weight[:, :, 0, 0] * shift).sum(dim=1)
    outside.weight /= gain[None, :, None, None]
    inside.bias[:4] = (inside.bias[:4] - shift) * gain
    inside.weight[:4] *= gain[:, None, None, None]
    inside.bias[4:] += 2 * gain.log()
    return {"shift": shift.tolist(), "spread": spread.tolist()}


def finished(folder: Path, *, seed: int, steps: int, scenes_drawn: int = 6000) -> Any:
    """The taught and folded coder; taught now where it is not there yet."""
    place = folder / "vae-done.pt"
    vae = new_vae(seed)
    if not place.exists():
        taught = train(folder, seed=seed, steps=steps, scenes_drawn=scenes_drawn)
        told = fold(taught, pictures(512, seed + 2).float() / 127.5 - 1)
        if together.rank() == 0:
            print("vae", json.dumps(told), flush=True)
            write_whole(place, taught.state_dict())
        together.wait()
    vae.load_state_dict(torch.load(place, weights_only=True))
    return vae.requires_grad_(False)
