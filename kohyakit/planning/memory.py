"""An estimate of the GPU memory that training takes, part by part. Nothing is loaded or measured.

Weights, adapter, gradients and optimizer are counted. Activations are counted too, from the tensors that the true
SD 1.5 and SDXL U-Nets keep for the backward pass per latent pixel (with memory-saving attention, in half precision);
a half more is added for what autocast keeps in single precision. Drawing a sample picture takes what the VAE needs
to decode it, and may be the larger (with gradient checkpointing it is). The allocator's own waste is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kohyakit.config.rules.reading import optimizer
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Dataset
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.architecture import Architecture
from kohyakit.planning.lengths import BucketCount
from kohyakit.planning.lora_size import LoraSize
from kohyakit.registry import OPTIMIZERS

# KiB a latent pixel (1/64 of an image pixel) that the U-Net keeps for the backward pass; with gradient
# checkpointing the inputs of its blocks only, and the largest block once more.
_KEPT = {"sd1": 221, "sd2": 221, "sdxl": 406}
_KEPT_WITH_CHECKPOINTING = {"sd1": 37 + 28, "sd2": 37 + 28, "sdxl": 34 + 41}
_AUTOCAST = 1.5
_DECODING = 2900  # bytes a pixel that the VAE needs to decode a picture in half precision, measured
_RUNTIME = 600 * 2**20  # CUDA context and libraries

# Bytes of optimizer state a trained number, of classes that the registry does not have.
_OTHER_OPTIMIZERS = {"sgd": 0, "prodigyplus.prodigyplusschedulefree": 12}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the GPU at the highest, an estimate. activations: of the largest step or the largest sample picture."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    runtime: int = _RUNTIME

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.runtime


def _state_bytes(name: str) -> int:
    return OPTIMIZERS[name].state_bytes if name in OPTIMIZERS else _OTHER_OPTIMIZERS.get(name, 8)


def estimate(
    config: TrainConfig,
    model: Architecture,
    lora: LoraSize,
    loads: list[tuple[Dataset, tuple[BucketCount, ...]]],
    samples: Iterable[SamplePrompt] = (),
) -> MemoryEstimate:
    """The estimate for the largest batch of the training and the largest sample that it draws."""
    training = config.training
    half = training.mixed_precision != "no" or training.full_fp16 or training.full_bf16
    width = 2 if half else 4
    unet_width = 1 if config.model.fp8_base or config.model.fp8_base_unet else width
    cached = config.dataset.cache_latents or config.dataset.cache_latents_to_disk
    vae_width = 4 if config.model.no_half_vae else width
    vae = model.parameters.vae * vae_width
    pixels = max((prompt.size[0] * prompt.size[1] for prompt in samples), default=0)
    drawing = pixels * _DECODING * vae_width // 2 + (vae if cached else 0) if pixels else 0
    trained = 2 if training.full_fp16 or training.full_bf16 else 4
    return MemoryEstimate(
        weights=model.parameters.unet * unet_width + model.parameters.text * width + (0 if cached else vae),
        adapter=lora.parameters * trained,
        gradients=lora.parameters * trained,
        optimizer=lora.parameters * _state_bytes(optimizer(config)),
        activations=max(_activations(config, model, loads, half=half), drawing),
    )


def _activations(
    config: TrainConfig, model: Architecture, loads: list[tuple[Dataset, tuple[BucketCount, ...]]], *, half: bool
) -> int:
    table = _KEPT_WITH_CHECKPOINTING if config.training.gradient_checkpointing else _KEPT
    latent_pixels = max(
        (row.bucket.area // 64 * min(row.images, dataset.batch_size) for dataset, rows in loads for row in rows),
        default=0,
    )
    width = model.unet.channels[0] / 320
    return int(latent_pixels * table[model.family] * 1024 * width * (_AUTOCAST if half else 2))
