"""A model of transformers with its processor, from a folder or the hub's cache; code that lies beside it never runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from kohyakit.captioning.place import find
from kohyakit.errors import ConfigError, Problem


@dataclass(slots=True)
class Loaded:
    """folder: where it was read from. device, dtype: where and in what it computes."""

    model: Any
    processor: Any
    folder: Path
    device: torch.device
    dtype: torch.dtype

    @property
    def where(self) -> str:
        """What computes, in words."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} ({str(self.dtype).removeprefix('torch.')})"
        return {"cpu": "the CPU", "mps": "the Mac's GPU"}.get(self.device.type, self.device.type)

    def generate(self, inputs: Any, **settings: Any) -> torch.Tensor:
        """New token ids; the same for the same picture, as nothing is drawn at random unless the settings say so."""
        inputs = inputs.to(self.device)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                inputs[name] = value.to(self.dtype)
        with torch.no_grad():
            return self.model.generate(**inputs, **settings)


def load(
    place: str | None, usual: str, *, download: bool = False, device: str = "auto", kinds: tuple[str, ...] = ()
) -> Loaded:
    """Load a model that says what is on pictures.

    place: a folder or a hub name that the person gave; usual: the hub name without one.
    device: auto, cpu, cuda, mps. kinds: the model_types that are expected; () for any.
    Raises ConfigError for one that is missing, of another kind, damaged, or that would need code of its own.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = find(place or usual, given=bool(place), download=download)
    _check(folder, kinds)
    computes = _device(device)
    dtype = torch.float32 if computes.type == "cpu" else torch.bfloat16
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, torch_dtype=dtype, use_safetensors=_safe(folder)
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        what = f"cannot be loaded ({str(error).strip().splitlines()[0]})"
        cure = "take a model that transformers knows by itself, complete with its processor"
        raise ConfigError(Problem(str(folder), what, cure, "model_unreadable")) from error
    cast(Any, model).to(computes)
    return Loaded(model.eval(), processor, folder, computes, dtype)


def _check(folder: Path, kinds: tuple[str, ...]) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what, cure = "holds no model of transformers (no readable config.json)", "give the folder of a whole model"
        raise ConfigError(Problem(str(folder), what, cure, "model_unreadable")) from error
    if kinds and kind not in kinds:
        what = f"is a model of the kind {kind}, not {' or '.join(kinds)}"
        raise ConfigError(
            Problem(str(folder), what, "use --with chat for it, or give another model", "model_of_another_kind")
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if kind not in CONFIG_MAPPING_NAMES:
        what = f"is a model of the kind {kind}, which needs code of its own, and that is never run"
        cure = "take a version of it for transformers itself, such as those of florence-community"
        raise ConfigError(Problem(str(folder), what, cure, "model_with_code"))


def _safe(folder: Path) -> bool | None:
    """Only safetensors where there are any; else transformers' own weights-only loading of pickles."""
    return True if any(folder.glob("*.safetensors")) else None


def _device(asked: str) -> torch.device:
    if asked != "auto":
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
