"""What Stable Diffusion 1.x, 2.x and XL share: a U-Net that finds DDPM's noise, CLIP text encoders, a VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kohyakit.config.families import MODELS, FamilyEntry, LatentSpace, TextPart, titles_here
from kohyakit.config.sections.model import ModelConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights.model_kind import ModelKind
from kohyakit.models.base import Model, ModelSource
from kohyakit.models.conditioning import Conditioning, encode_prompts, encode_weighted, tokenize
from kohyakit.models.noise.process import Ddpm
from kohyakit.models.noise.samplers import build_sampler
from kohyakit.models.parts import Origin, meta_text, meta_unet, meta_vae
from kohyakit.models.weights import WeightFile
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import Architecture, Parameters, TextShape, unet_of_config
from kohyakit.planning.size.layers import Target


@dataclass(frozen=True, slots=True)
class TextKind:
    """One text encoder of a family: its true size, and where its tensors are called what.

    pad_token_id: what fills a prompt up to 77 tokens. read_config understands its shapes in a single file, origin
    its names there.
    """

    part: TextPart
    config: dict[str, Any]
    pad_token_id: int
    read_config: Callable[[WeightFile], dict[str, Any]]
    origin: Callable[[str], Origin]


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
        from kohyakit.models import folder, single_file

        kind, place = self, source.path or Path(source.name)
        if as_sd_scripts:
            kind = replace(kind, texts=tuple(replace(text, origin=_not_transposed(text.origin)) for text in kind.texts))
        reader = folder if place.is_dir() else single_file
        unet, texts, own_vae = reader.read(place, kind, dtype=dtype, mmap=mmap, with_vae=source.vae is None)
        if source.vae is not None:
            vae_reader = folder if source.vae.is_dir() else single_file
            own_vae = vae_reader.read_vae(source.vae, dtype=dtype, mmap=mmap)
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


def check_kind(path: Path, kind: ModelKind, wanted: StableDiffusion) -> None:
    """Refuse what is no base model, or one of another family, saying what to set. Raises ConfigError."""
    if kind.refiner:
        what, cure = "is the refiner of Stable Diffusion XL", "give the base model, or one made from it"
    elif not kind.family:
        what, cure = kind.what, kind.cure
    elif kind.family != wanted.name:
        what, cure = _another_family(MODELS[kind.family], MODELS[wanted.name])
    elif kind.channels != wanted.latent.channels:
        usual = wanted.latent.channels
        what = f"takes {kind.channels} channels, as inpainting models do; training needs the usual {usual}"
        cure = "give the model that makes whole pictures"
    else:
        return
    raise ConfigError(Problem(str(path), what, cure, "wrong_model"))


def _another_family(found: FamilyEntry, wanted: FamilyEntry) -> tuple[str, str]:
    """What to say of a model of another family, and what to do."""
    if not found.target:
        cure = f"the built-in trainer takes {titles_here()}; train it with --backend sd-scripts"
        return f"is {found.a_model}", cure
    if found.group != wanted.group:
        cure = f"set script = {found.scripts['lora']}" + (" and v2 = true" if found.v2 else "")
        return f"is {found.a_model}, but {wanted.title} is to be trained", cure
    return f"is {found.a_model}, but v2 is {'off' if found.v2 else 'on'}", f"set v2 = {str(found.v2).lower()}"
