"""What the trainer asks of a model family, and a base model in memory, whatever it was read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kohyakit.config.arguments.presets import Preset, lora_preset
from kohyakit.config.sections.model import ModelConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.conditioning import Conditioning
from kohyakit.models.noise.process import Process
from kohyakit.models.text import TextEncoder
from kohyakit.planning.inputs.missing import locate, looks_like_hub, similar
from kohyakit.planning.size.layers import Target, adapted
from kohyakit.registry.families import MODELS, LatentSpace


class Family(Protocol):
    """A model family's behaviour; its names and other facts are its entry in MODELS.

    drawn_when_built: whether sd-scripts draws its U-Net's first weights, which then are replaced.
    """

    @property
    def name(self) -> str: ...

    @property
    def latent(self) -> LatentSpace: ...

    @property
    def drawn_when_built(self) -> bool: ...

    def process(self, asked: ModelConfig, device: torch.device) -> Process:
        """What is done with noise while training."""

    def load(
        self,
        source: ModelSource,
        *,
        v_parameterization: bool,
        dtype: torch.dtype | None,
        mmap: bool,
        as_sd_scripts: bool,
    ) -> Model:
        """A model from disk; see `load_model`. Raises ConfigError for one that is damaged or of another family."""

    def condition(
        self, model: Model, captions: Sequence[str], asked: ModelConfig, sizes: Tensor | None
    ) -> Conditioning:
        """What captions tell the model while training. sizes: see `Conditioning`; only some families look at them."""

    def condition_sample(
        self, model: Model, prompts: Sequence[str], asked: ModelConfig, size: tuple[int, int]
    ) -> Conditioning:
        """The same for pictures of size (width, height) drawn from sample prompts, whose weights always count."""

    def sampler(self, name: str, model: Model, asked: ModelConfig) -> Any:
        """What denoises sample pictures, as diffusers' schedulers do it. Raises ConfigError for an unknown name."""

    def predict(self, model: Model, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What the model makes of noisy latents, [B, C, H, W]."""

    def targets(self, model: Model) -> Iterable[Target]:
        """Every layer that a network may adapt, text encoders first, in sd-scripts' order of creation."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model was read from: as written by the person, as found on disk, and the separate VAE if any."""

    name: str
    path: Path | None = None
    vae: Path | None = None

    @property
    def is_dir(self) -> bool:
        return self.path is not None and self.path.is_dir()


@dataclass(slots=True)
class Model:
    """A base model, frozen and in eval mode. Everything is on the CPU until the trainer moves it.

    unet: what predicts; for a family without a U-Net whatever it has in its place. prediction_type: "epsilon" or
    "v_prediction", what it was taught to predict. notes: findings of loading, worth telling the person.
    """

    family: Family
    unet: nn.Module
    text_encoders: tuple[TextEncoder, ...]
    vae: nn.Module
    source: ModelSource
    prediction_type: str = "epsilon"
    notes: tuple[Problem, ...] = field(default=())

    @property
    def vae_scale(self) -> float:
        """Latents are the VAE's times this."""
        return self.family.latent.scale

    @property
    def text_encoder(self) -> TextEncoder:
        """The first text encoder, which most families have only."""
        return self.text_encoders[0]

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return (self.unet, *self.text_encoders, self.vae)

    def module(self, target: Target) -> nn.Module:
        """The layer that a target names."""
        part = self.text_encoders[target.part - 1] if target.part else self.unet
        return part.get_submodule(target.layer.name)

    def layers(self, preset: Preset) -> Iterator[tuple[Target, nn.Module]]:
        """The layers that a network of this preset adapts, in the order in which it makes its own."""
        for target in adapted(self.family.targets(self), preset):
            yield target, self.module(target)

    def text_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """(Kohya name, layer) of every text encoder's layers that a LoRA takes."""
        return ((target.name, layer) for target, layer in self.layers(lora_preset()) if target.part)

    def unet_layers(self, *, convolutions: bool) -> Iterator[tuple[str, nn.Module]]:
        """The same of the U-Net. convolutions: those outside its transformers too."""
        found = self.layers(lora_preset(convolutions=convolutions))
        return ((target.name, layer) for target, layer in found if not target.part)


def build_meta(family: str = "sd1") -> Model:
    """A family's model in its true size without memory or numbers: names and shapes only (meta device)."""
    return MODELS.load(family).build_meta()


FOR_SAMPLES = ("condition_sample", "sampler")


def lacking(kind: object, *, draws: bool) -> list[str]:
    """What a family does not have of `Family`. draws: whether sample pictures are wanted of it."""
    wanted = [name for name in vars(Family) if not name.startswith("_") and (draws or name not in FOR_SAMPLES)]
    return [name for name in wanted if not hasattr(kind, name)]


def load_model(
    path: str | Path,
    *,
    vae: str | Path | None = None,
    family: str = "sd1",
    v_parameterization: bool = False,
    dtype: torch.dtype | None = torch.float32,
    mmap: bool = True,
    as_sd_scripts: bool = False,
) -> Model:
    """Read a base model from a diffusers folder or a single file; nothing is downloaded or drawn at random.

    path: a folder, a .safetensors or .ckpt file, or a Hugging Face name that is in the local cache already.
    vae: a folder or file that replaces the model's own VAE. family: its name in MODELS.
    dtype: of all weights; None keeps the file's own, which is quickest when they are converted later anyway.
    mmap: off reads files whole (quicker from network drives).
    as_sd_scripts: take SDXL's text projection out of a single file the wrong way round, as sd-scripts does.
    Raises ConfigError with one sentence for a missing, incomplete, damaged or foreign file.
    """
    kind: Family = MODELS.load(family)
    place, vae_place = _places(path, vae)
    return kind.load(
        ModelSource(str(path), place, vae_place),
        v_parameterization=v_parameterization,
        dtype=dtype,
        mmap=mmap,
        as_sd_scripts=as_sd_scripts,
    )


def _places(path: str | Path, vae: str | Path | None) -> tuple[Path, Path | None]:
    """Both files or folders on disk. Raises ConfigError naming each that is missing."""
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for option, value in (("pretrained_model_name_or_path", path), ("vae", vae)):
        try:
            found |= {option: _find(value, option)} if value else {}
        except ConfigError as error:
            problems += error.problems
    if not path:
        what, cure = "no base model is given", "give the path of a diffusers folder or a .safetensors file"
        problems.insert(0, Problem("pretrained_model_name_or_path", what, cure, "missing_model"))
    if problems:
        raise ConfigError(problems)
    return found["pretrained_model_name_or_path"], found.get("vae")


def _find(path: str | Path, option: str) -> Path:
    """The file or folder meant by a path or by a name in the Hugging Face cache. Raises ConfigError."""
    name = str(path)
    place = locate(name)
    if place is not None:
        return place
    if looks_like_hub(name):
        cure = f"download it once with `hf download {name}`, or give the path of a folder or .safetensors file"
        what = f"'{name}' is neither here on disk nor in the Hugging Face cache"
        raise ConfigError(Problem(option, what, cure, "missing_model"))
    near = similar(name)
    cure = f"did you mean '{near}'?" if near else "give the path of a diffusers folder or a file"
    raise ConfigError(Problem(option, f"there is no file or folder '{name}'", cure, "missing_model"))
