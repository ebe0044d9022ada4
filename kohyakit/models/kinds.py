"""What a model on disk is read as: a family's text encoders and true sizes; and refusals of what is no such model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights.model_kind import ModelKind
from kohyakit.models.parts import Origin
from kohyakit.models.weights import WeightFile
from kohyakit.registry.families import MODELS, FamilyEntry, TextPart, titles_here


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


class Kind(Protocol):
    """What reading a model asks of its family: see `StableDiffusion`."""

    @property
    def name(self) -> str: ...

    @property
    def texts(self) -> tuple[TextKind, ...]: ...

    @property
    def unet(self) -> dict[str, Any]: ...

    @property
    def vae(self) -> dict[str, Any]: ...

    @property
    def heads(self) -> Callable[[tuple[int, ...]], int | list[int]]: ...


def check_kind(path: Path, found: ModelKind, wanted: Kind) -> None:
    """Refuse what is no base model, or one of another family, saying what to set. Raises ConfigError."""
    usual = MODELS[wanted.name].latent.channels
    if found.refiner:
        what, cure = "is the refiner of Stable Diffusion XL", "give the base model, or one made from it"
    elif not found.family:
        what, cure = found.what, found.cure
    elif found.family != wanted.name:
        what, cure = _another_family(MODELS[found.family], MODELS[wanted.name])
    elif found.channels != usual:
        what = f"takes {found.channels} channels, as inpainting models do; training needs the usual {usual}"
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
