"""Which numbers a training computes with, by sd-scripts' rules."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kohyakit.errors import ConfigError, Problem

_BY_NAME = {"no": torch.float32, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Precision:
    """weights: the frozen models and the latents. network: what is trained. vae: encoding. save: the file; None keeps.

    The text encoder stays in float32 on the CPU, as in sd-scripts.
    """

    weights: torch.dtype
    network: torch.dtype
    vae: torch.dtype
    save: torch.dtype | None
    text_encoder: torch.dtype


def precision_of(
    mixed_precision: str,
    save_precision: str | None,
    *,
    full: bool = False,
    no_half_vae: bool = False,
    device: torch.device,
) -> Precision:
    """The types in force. full: full_fp16 or full_bf16, which trains the network itself in half precision.

    Raises ConfigError for fp16 on a CPU, which torch cannot train with.
    """
    weights = _BY_NAME[mixed_precision]
    if weights is torch.float16 and device.type == "cpu":
        cure = "set mixed_precision to bf16 or no, or train on a GPU"
        raise ConfigError(Problem("mixed_precision", "fp16 needs a GPU and none was found", cure))
    return Precision(
        weights=weights,
        network=weights if full else torch.float32,
        vae=torch.float32 if no_half_vae else weights,
        save=_BY_NAME[save_precision] if save_precision else None,
        text_encoder=torch.float32 if device.type == "cpu" else weights,
    )
