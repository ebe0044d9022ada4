"""A base model in memory, whatever it was read from: U-Net, text encoder, VAE and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.config.sections.model import ModelConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.conditioning import Conditioning, encode_prompts, encode_weighted, tokenize
from kohyakit.models.text import TextEncoder
from kohyakit.models.weights import WeightFile
from kohyakit.networks.keys import TEXT_ENCODER_PREFIX, text_encoder_layers, unet_layers
from kohyakit.planning.inputs.missing import locate, looks_like_hub, similar
from kohyakit.registry import MODELS


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one tensor of ours lies in a foreign file: its name there, and which third of it (q, k, v).

    transposed: the file has the matrix the other way round.
    """

    key: str
    third: int | None = None
    transposed: bool = False

    def take(self, weights: WeightFile) -> Tensor:
        found = weights.tensor(self.key)
        if self.third is not None:
            found = found.chunk(3)[self.third]
        return found.T if self.transposed else found


@dataclass(frozen=True, slots=True)
class TextKind:
    """One text encoder of a family: its true size, and where its tensors are called what.

    pad_token_id: what fills a prompt up to 77 tokens. folder: in a diffusers folder; prefix: in a single file, whose
    shapes `read_config` understands and whose names `origin` knows. lora: what its layers begin with in a LoRA.
    """

    config: dict[str, Any]
    pad_token_id: int
    prefix: str
    read_config: Callable[[WeightFile], dict[str, Any]]
    origin: Callable[[str], Origin]
    folder: str = "text_encoder"
    lora: str = TEXT_ENCODER_PREFIX
    projection: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What sets one model family apart: its parts, how a caption conditions it, which of its layers a LoRA takes.

    unet, vae: configurations of the true size, as diffusers spells them. heads: attention heads of the U-Net for its
    channels. The behaviour here is Stable Diffusion's own, with one text encoder; another family says what differs.
    """

    name: str
    title: str
    texts: tuple[TextKind, ...]
    unet: dict[str, Any]
    vae: dict[str, Any]
    heads: Callable[[tuple[int, ...]], int | list[int]]
    drawn_when_built: bool = True  # whether sd-scripts draws its U-Net's first weights, which then are replaced

    def condition(
        self, encoders: Sequence[TextEncoder], captions: Sequence[str], asked: ModelConfig, sizes: Tensor | None
    ) -> Conditioning:
        """What captions tell the U-Net while training. sizes: see `Conditioning`; only some families look at them."""
        (encoder,) = encoders
        tokens = tokenize(
            captions, asked.max_token_length, weighted=asked.weighted_captions, pad_token_id=self.texts[0].pad_token_id
        )
        ids = tokens.input_ids.to(encoder.device)
        return Conditioning(encode_prompts(encoder, ids, clip_skip=asked.clip_skip, weights=tokens.weights))

    def condition_sample(
        self, encoders: Sequence[TextEncoder], prompts: Sequence[str], asked: ModelConfig, size: tuple[int, int]
    ) -> Conditioning:
        """The same for pictures of size (width, height) drawn from sample prompts, whose weights always count."""
        return Conditioning(encode_weighted(encoders[0], prompts, asked.clip_skip))

    def predict(self, unet: nn.Module, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What the U-Net makes of noisy latents, [B, 4, H, W]."""
        return unet(noisy, timesteps, conditioning.states).sample

    def targets(self, unet: nn.Module, *, convolutions: bool) -> Iterable[tuple[str, nn.Module]]:
        """(Kohya name, layer) of the U-Net's layers that a LoRA takes, in Kohya's order."""
        return unet_layers(unet, convolutions=convolutions)


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

    prediction_type: "epsilon" or "v_prediction", what the U-Net was taught to predict.
    vae_scale: latents are the VAE's times this. The noise schedule is DDPM's `beta_schedule` from beta_start
    to beta_end over num_train_timesteps. notes: findings of loading, worth telling the person.
    """

    family: Family
    unet: nn.Module
    text_encoders: tuple[TextEncoder, ...]
    vae: nn.Module
    source: ModelSource
    prediction_type: str = "epsilon"
    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    notes: tuple[Problem, ...] = field(default=())

    @property
    def vae_scale(self) -> float:
        return self.family.vae["scaling_factor"]

    @property
    def text_encoder(self) -> TextEncoder:
        """The first text encoder, which most families have only."""
        return self.text_encoders[0]

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return (self.unet, *self.text_encoders, self.vae)

    def text_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """(Kohya name, layer) of every text encoder's layers that a LoRA takes, in Kohya's order."""
        for kind, encoder in zip(self.family.texts, self.text_encoders, strict=True):
            yield from text_encoder_layers(encoder, kind.lora)

    def unet_layers(self, *, convolutions: bool) -> Iterable[tuple[str, nn.Module]]:
        """The same of the U-Net. convolutions: those outside its transformers too."""
        return self.family.targets(self.unet, convolutions=convolutions)


def build_meta(family: str = "sd1") -> Model:
    """A family's model in its true size without memory or numbers: names and shapes only (meta device)."""
    kind: Family = MODELS.load(family)
    texts = tuple(meta_text(text.config, projection=text.projection) for text in kind.texts)
    return Model(kind, meta_unet(kind.unet), texts, meta_vae(kind.vae), ModelSource(family))


def meta_unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return _frozen(UNet2DConditionModel.from_config(config))


def meta_vae(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return _frozen(AutoencoderKL.from_config(config))


def meta_text(config: dict[str, Any], *, projection: bool = False) -> TextEncoder:
    from transformers import CLIPTextConfig

    with torch.device("meta"):
        return _frozen(TextEncoder(CLIPTextConfig.from_dict(config), projection=projection))


def _frozen(module: nn.Module) -> Any:
    return module.requires_grad_(False).eval()


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
    from kohyakit.models import folder, single_file

    kind: Family = MODELS.load(family)
    place, vae_place = _places(path, vae)
    reader = folder if place.is_dir() else single_file
    if as_sd_scripts:
        kind = replace(kind, texts=tuple(replace(text, origin=_not_transposed(text.origin)) for text in kind.texts))
    unet, text_encoders, own_vae = reader.read(place, kind, dtype=dtype, mmap=mmap, with_vae=vae_place is None)
    if vae_place is not None:
        vae_reader = folder if vae_place.is_dir() else single_file
        own_vae = vae_reader.read_vae(vae_place, kind, dtype=dtype, mmap=mmap)
    prediction = "v_prediction" if v_parameterization else "epsilon"
    return Model(
        kind,
        unet,
        text_encoders,
        own_vae,
        ModelSource(str(path), place, vae_place),
        prediction,
        notes=reader.notes(place, prediction),
    )


def _not_transposed(origin: Callable[[str], Origin]) -> Callable[[str], Origin]:
    return lambda name: replace(origin(name), transposed=False)


def check_family(path: Path, found: str, wanted: Family) -> None:
    """Refuse a model of another family, saying what to set. Raises ConfigError."""
    if found == wanted.name:
        return
    title = MODELS.load(found).title
    if "sdxl" in (found, wanted.name):
        script = "sdxl_train_network.py" if found == "sdxl" else "train_network.py"
        what, cure = f"is a {title} model, but {wanted.title} is to be trained", f"set script = {script}"
        cure += " and v2 = true" if found == "sd2" else ""
    else:
        what = f"is a {title} model, but v2 is {'on' if wanted.name == 'sd2' else 'off'}"
        cure = f"set v2 = {str(found == 'sd2').lower()}"
    raise ConfigError(Problem(str(path), what, cure, "wrong_model"))


def _places(path: str | Path, vae: str | Path | None) -> tuple[Path, Path | None]:
    """Both files or folders on disk. Raises ConfigError naming each that is missing."""
    found: list[Path | None] = []
    problems: list[Problem] = []
    for option, value in (("pretrained_model_name_or_path", path), ("vae", vae)):
        try:
            found.append(_find(value, option) if value else None)
        except ConfigError as error:
            problems += error.problems
    if not path:
        what, cure = "no base model is given", "give the path of a diffusers folder or a .safetensors file"
        problems.insert(0, Problem("pretrained_model_name_or_path", what, cure, "missing_model"))
    if problems:
        raise ConfigError(problems)
    return found[0], found[1]


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


def fill(module: nn.Module, tensors: Callable[[str], Tensor], dtype: torch.dtype | None) -> None:
    """Give a module built on the meta device its numbers, one tensor at a time.

    tensors: our name -> tensor; a 1x1 convolution may stand for a linear layer and the other way round.
    """
    state = {}
    for name, wanted in module.state_dict().items():
        tensor = tensors(name)
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        state[name] = tensor.reshape(wanted.shape).contiguous()
    module.load_state_dict(state, strict=True, assign=True)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:  # CLIP's position numbers, which no file needs to hold
            parent, _, leaf = name.rpartition(".")
            numbers = torch.arange(buffer.numel()).reshape(buffer.shape)
            module.get_submodule(parent).register_buffer(leaf, numbers, persistent=False)
    module.requires_grad_(False)
