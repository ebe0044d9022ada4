"""What Stable Diffusion 1.x, 2.x and XL share: a U-Net that finds DDPM's noise, CLIP text encoders, a VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kohyakit.config.sections.model import ModelConfig
from kohyakit.models import folder, single_file
from kohyakit.models.base import Model, ModelSource
from kohyakit.models.conditioning import Conditioning, encode_prompts, encode_weighted, tokenize
from kohyakit.models.kinds import TextKind
from kohyakit.models.noise.process import Ddpm
from kohyakit.models.noise.samplers import build_sampler
from kohyakit.models.parts import Origin, meta_text, meta_unet, meta_vae
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import Architecture, Parameters, TextShape, unet_of_config
from kohyakit.planning.size.layers import Target
from kohyakit.registry.families import MODELS, LatentSpace


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """The family's behaviour, with one text encoder; another family says what differs.

    unet, vae: configurations of the true size, as diffusers spells them. heads: attention heads of the U-Net for its
    channels. drawn_when_built: see `Family`.
    """

    name: str
    texts: tuple[TextKind, ...]
    unet: dict[str, Any]
    vae: dict[str, Any]
    heads: Callable[[tuple[int, ...]], int | list[int]]
    drawn_when_built: bool = True

    @property
    def title(self) -> str:
        return MODELS[self.name].title

    @property
    def latent(self) -> LatentSpace:
        return MODELS[self.name].latent

    def process(self, asked: ModelConfig, device: torch.device) -> Ddpm:
        return Ddpm.of(asked, device)

    def load(
        self,
        source: ModelSource,
        *,
        v_parameterization: bool = False,
        dtype: torch.dtype | None = torch.float32,
        mmap: bool = True,
        as_sd_scripts: bool = False,
    ) -> Model:
        """From a diffusers folder or a single file. Raises ConfigError for a model of another kind, or a damaged one.

        as_sd_scripts: take a text projection out of a single file the wrong way round.
        """
        kind, place = self, source.path or Path(source.name)
        if as_sd_scripts:
            kind = replace(kind, texts=tuple(replace(text, origin=_not_transposed(text.origin)) for text in kind.texts))
        reader = folder if place.is_dir() else single_file
        unet, texts, own_vae = reader.read(place, kind, dtype=dtype, mmap=mmap, with_vae=source.vae is None)
        if source.vae is not None:
            vae_reader = folder if source.vae.is_dir() else single_file
            own_vae = vae_reader.read_vae(source.vae, self.vae, dtype=dtype, mmap=mmap)
        prediction = "v_prediction" if v_parameterization else "epsilon"
        return Model(kind, unet, texts, own_vae, source, prediction, notes=reader.notes(place, prediction))

    def build_meta(self) -> Model:
        """The model in its true size without memory or numbers: names and shapes only (meta device)."""
        texts = tuple(meta_text(text.config, projection=text.part.projection) for text in self.texts)
        return Model(self, meta_unet(self.unet), texts, meta_vae(self.vae), ModelSource(self.name))

    def condition(
        self, model: Model, captions: Sequence[str], asked: ModelConfig, sizes: Tensor | None
    ) -> Conditioning:
        encoder = model.text_encoder
        tokens = tokenize(
            captions, asked.max_token_length, weighted=asked.weighted_captions, pad_token_id=self.texts[0].pad_token_id
        )
        ids = tokens.input_ids.to(encoder.device)
        return Conditioning(encode_prompts(encoder, ids, clip_skip=asked.clip_skip, weights=tokens.weights))

    def condition_sample(
        self, model: Model, prompts: Sequence[str], asked: ModelConfig, size: tuple[int, int]
    ) -> Conditioning:
        return Conditioning(encode_weighted(model.text_encoder, prompts, asked.clip_skip))

    def sampler(self, name: str, model: Model, asked: ModelConfig) -> Any:
        to_noise_alone = asked.zero_terminal_snr and model.prediction_type == "v_prediction"
        return build_sampler(name, model.prediction_type, zero_terminal_snr=to_noise_alone)

    def predict(self, model: Model, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return model.unet(noisy, timesteps, conditioning.states).sample

    def targets(self, model: Model) -> Iterable[Target]:
        return layers.targets(architecture_of(model))


def architecture_of(model: Model) -> Architecture:
    """The shape of a model in memory."""
    texts = (encoder.config for encoder in model.text_encoders)
    shapes = tuple(TextShape(c.num_hidden_layers, c.hidden_size, c.intermediate_size) for c in texts)
    unet = unet_of_config(dict(cast(Any, model.unet.config)))
    return Architecture(model.family.name, unet, shapes, Parameters(0, 0, 0), known=True)


def _not_transposed(origin: Callable[[str], Origin]) -> Callable[[str], Origin]:
    return lambda name: replace(origin(name), transposed=False)
