"""A base model in memory, whatever it was read from: U-Net, text encoder, VAE and where they came from."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import MODELS
from kohyakit.train.models.weights import ENDINGS


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one tensor of ours lies in a foreign file: its name there, and which third of it (q, k, v)."""

    key: str
    third: int | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """What sets one model family apart.

    unet, text, vae: configurations of the true size, as diffusers and transformers spell them.
    pad_token_id: what fills a prompt up to 77 tokens. heads: attention heads of the U-Net for its channels.
    text_config, text_origin: read the text encoder out of a single file in the original layout.
    """

    name: str
    title: str
    pad_token_id: int
    unet: dict[str, Any]
    text: dict[str, Any]
    vae: dict[str, Any]
    heads: Callable[[tuple[int, ...]], int | list[int]]
    text_prefix: str
    text_config: Callable[[Any], dict[str, Any]]
    text_origin: Callable[[str], Origin]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model was read from: as written by the person, as found on disk, and the separate VAE if any."""

    name: str
    path: Path | None = None
    vae: Path | None = None

    @property
    def is_dir(self) -> bool:
        return self.path is not None and self.path.is_dir()


class TextEncoder(nn.Module):
    """CLIP's text model under the names that files and LoRAs use (`text_model.encoder.layers…`).

    transformers before 5 has that level, 5 has it no more; here it is there with both.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers import CLIPTextModel

        whole = CLIPTextModel(config)
        self.text_model = getattr(whole, "text_model", whole)
        self.config = config
        self._whole = (whole,)  # in a tuple, or it would be registered as a second submodule

    def forward(self, input_ids: Tensor, clip_skip: int | None = None) -> Tensor:
        """input_ids: [batch, 77] -> states [batch, 77, dim], after the final layer norm.

        clip_skip n leaves the last n - 1 layers out, which is hidden state -n with the final norm applied.
        Raises ConfigError for a clip_skip beyond the layers.
        """
        return self._upto(clip_skip or 1)(input_ids=input_ids)[0]

    def _upto(self, clip_skip: int) -> nn.Module:
        if clip_skip == 1:
            return self.text_model
        layers = self.text_model.encoder.layers
        if not 1 <= clip_skip <= len(layers):
            what = f"is {clip_skip}, but the text encoder has {len(layers)} layers"
            raise ConfigError(Problem("clip_skip", what, f"choose 1 to {len(layers)}; 2 is usual for anime models"))
        short = _view(self.text_model)
        short.encoder = _view(self.text_model.encoder)
        short.encoder.layers = layers[: len(layers) - clip_skip + 1]
        return short

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in `train()` mode; the inputs need no gradient."""
        whole = self._whole[0]
        name = "activation_checkpointing_enable"  # transformers 5; `gradient_checkpointing_enable` before
        enable = getattr(whole, name, None) or whole.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    @property
    def dtype(self) -> torch.dtype:
        return self.text_model.final_layer_norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.text_model.final_layer_norm.weight.device


def _view(module: nn.Module) -> nn.Module:
    """A module that shares every parameter and submodule, and whose submodules can be replaced alone."""
    view = copy.copy(module)
    view._modules = dict(module._modules)
    return view


@dataclass(slots=True)
class Model:
    """A base model, frozen and in eval mode. Everything is on the CPU until the trainer moves it.

    prediction_type: "epsilon" or "v_prediction", what the U-Net was taught to predict.
    vae_scale: latents are the VAE's times this. The noise schedule is DDPM's `beta_schedule` from beta_start
    to beta_end over num_train_timesteps. notes: findings of loading, worth telling the person.
    """

    family: Family
    unet: nn.Module
    text_encoder: TextEncoder
    vae: nn.Module
    source: ModelSource
    prediction_type: str = "epsilon"
    vae_scale: float = 0.18215
    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    notes: tuple[Problem, ...] = field(default=())


def build_meta(family: str = "sd1") -> Model:
    """A family's model in its true size without memory or numbers: names and shapes only (meta device)."""
    kind: Family = MODELS.load(family)
    return Model(kind, meta_unet(kind.unet), meta_text(kind.text), meta_vae(kind.vae), ModelSource(family))


def meta_unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return _frozen(UNet2DConditionModel.from_config(config))


def meta_vae(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return _frozen(AutoencoderKL.from_config(config))


def meta_text(config: dict[str, Any]) -> TextEncoder:
    from transformers import CLIPTextConfig

    with torch.device("meta"):
        return _frozen(TextEncoder(CLIPTextConfig.from_dict(config)))


def _frozen(module: nn.Module) -> Any:
    return module.requires_grad_(False).eval()


def load_model(
    path: str | Path,
    *,
    vae: str | Path | None = None,
    v2: bool = False,
    v_parameterization: bool = False,
    dtype: torch.dtype | None = torch.float32,
    mmap: bool = True,
) -> Model:
    """Read a base model from a diffusers folder or a single file; nothing is downloaded or drawn at random.

    path: a folder, a .safetensors or .ckpt file, or a Hugging Face name that is in the local cache already.
    vae: a folder or file that replaces the model's own VAE. v2: the model is a Stable Diffusion 2.x.
    dtype: of all weights; None keeps the file's own, which is quickest when they are converted later anyway.
    mmap: off reads files whole (quicker from network drives).
    Raises ConfigError with one sentence for a missing, incomplete, damaged or foreign file.
    """
    from kohyakit.train.models import folder, single_file

    family: Family = MODELS.load("sd2" if v2 else "sd1")
    place, vae_place = _places(path, vae)
    reader = folder if place.is_dir() else single_file
    unet, text_encoder, own_vae = reader.read(place, family, dtype=dtype, mmap=mmap, with_vae=vae_place is None)
    if vae_place is not None:
        vae_reader = folder if vae_place.is_dir() else single_file
        own_vae = vae_reader.read_vae(vae_place, family, dtype=dtype, mmap=mmap)
    prediction = "v_prediction" if v_parameterization else "epsilon"
    return Model(
        family,
        unet,
        text_encoder,
        own_vae,
        ModelSource(str(path), place, vae_place),
        prediction,
        notes=reader.notes(place, prediction),
    )


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
    place = Path(path).expanduser()
    if place.exists():
        return place
    name = str(path)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not name.lower().endswith(ENDINGS):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            cure = f"download it once with `hf download {name}`, or give the path of a folder or .safetensors file"
            what = f"'{name}' is neither here on disk nor in the Hugging Face cache"
            raise ConfigError(Problem(option, what, cure, "missing_model")) from None
    beside = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
    near = difflib.get_close_matches(place.name, beside, n=1)
    cure = f"did you mean '{place.with_name(near[0])}'?" if near else "give the path of a diffusers folder or a file"
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
