"""A model family of somebody's own in one file: flow matching, latents of three channels, one text encoder of letters.

The model is one linear layer over the channels, the identity, and one from the caption, which is 0: it answers with
the noisy latents themselves.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import nn

from kohyakit.models import Model
from kohyakit.models.conditioning import Conditioning
from kohyakit.models.noise.process import sample_timesteps
from kohyakit.planning.size.layers import Layer, Target
from kohyakit.registry.families import MODELS

WIDTH = 8


class Flow:
    """x = (1 - s) latents + s noise at s = timestep / 1000; what is found is noise - latents."""

    v_prediction = True

    def __init__(self, device):
        self.strength = torch.arange(1000, device=device) / 1000
        signal, noise = (1 - self.strength) ** 2, self.strength**2
        self.alphas_cumprod, self.snr = signal / (signal + noise), signal / noise

    def timesteps(self, count, asked, stream):
        return sample_timesteps(count, asked, stream)

    def add_noise(self, latents, noise, timesteps):
        s = self.strength[timesteps].view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    def target(self, latents, noise, timesteps):
        return noise - latents


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels, self.caption = nn.Linear(3, 3, bias=False), nn.Linear(WIDTH, 3, bias=False)

    def forward(self, x, states):
        told = self.caption(states.mean(dim=1))[:, :, None, None]
        return self.channels(x.movedim(1, -1)).movedim(-1, 1) + told


class Averages(nn.Module):
    """A VAE that means each 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def encode(self, pixels):
        mean = nn.functional.avg_pool2d(pixels, 8)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=torch.zeros_like(mean)))


class TinyFlow:
    name = "tiny_flow"
    latent = MODELS["tiny_flow"].latent
    drawn_when_built = False

    def process(self, asked, device):
        return Flow(device)

    def load(self, source, *, v_parameterization, dtype, mmap, as_sd_scripts):
        weights = load_file(source.path)
        unet, letters = Mixer(), nn.Embedding(128, WIDTH)
        unet.load_state_dict({name: weights[name] for name in ("channels.weight", "caption.weight")})
        letters.weight.data = weights["letters"]
        return Model(self, unet, (letters,), Averages(), source)

    def condition(self, model, captions, asked, sizes):
        letters = torch.tensor([[ord(letter) % 128 for letter in f"{caption:77.77}"] for caption in captions])
        return Conditioning(model.text_encoder(letters.to(model.text_encoder.weight.device)))

    def predict(self, model, noisy, timesteps, conditioning):
        return model.unet(noisy, conditioning.states)

    def targets(self, model):
        for name, inputs in (("channels", 3), ("caption", WIDTH)):
            yield Target(f"lora_unet_{name}", 0, name, Layer(name, inputs, 3), "Transformer2DModel")


FAMILY = TinyFlow()
