"""An estimate of the GPU memory that training takes, part by part. Nothing is loaded or measured.

Weights, adapter, gradients and optimizer are counted. Activations are counted too, from the tensors that the true
SD 1.5 and SDXL U-Nets keep for the backward pass per latent pixel (with memory-saving attention, in half precision
under autocast) and those of the text encoders that are trained. What torch's allocator holds on to beside them is half
as much, by what a card said was in use. The built-in trainer's attention keeps no matrix of every pixel with every
other; that of sd-scripts does where none of sdpa, xformers and mem_eff_attn is set. Pictures that the VAE encodes or
decodes, and captions that are encoded ahead, take what they need for a while and give it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kohyakit.config.rules.reading import optimizer
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Dataset
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.plan import BucketCount, MemoryEstimate
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.blocks import PLACES, block_sizes, waiting
from kohyakit.planning.size.lora import LoraSize
from kohyakit.registry.families import MODELS
from kohyakit.registry.optimizers import optimizer_entry

Loads = list[tuple[Dataset, tuple[BucketCount, ...]]]

_HELD = 0.5  # of what is kept in half precision; an H200 had as many bytes more in single precision too
_HEADS = 8  # of SD 1.x at every width; the others' are _HEAD wide
_DECODING = 2900  # bytes a pixel that the VAE needs to decode a picture in half precision, measured
_ENCODING = 2200  # the same to encode one, measured
_HEAD = 64  # width of an attention head
_STATE = 8  # bytes of optimizer state a trained number, of a class that nobody knows


@dataclass(frozen=True, slots=True)
class _Widths:
    """Bytes a number: of the models in general, of the U-Net's and the text encoders' blocks, of the VAE."""

    half: bool
    model: int
    unet: int
    text: int
    vae: int


def _widths(config: TrainConfig) -> _Widths:
    training, model = config.training, config.model
    half = training.mixed_precision != "no" or training.full_fp16 or training.full_bf16
    width = 2 if half else 4
    packed = model.fp8_base or model.fp8_base_unet
    text_packed = model.fp8_base and not model.fp8_base_unet
    return _Widths(half, width, 1 if packed else width, 1 if text_packed else width, 4 if model.no_half_vae else width)


def _weights(model: Architecture, widths: _Widths) -> tuple[int, int]:
    """Bytes of U-Net and text encoders. In 8 bits are their blocks; what is before and after them stays as it was."""
    unet, time = model.unet, 4 * model.unet.channels[0]
    around = unet.channels[0] * time + time**2 + (unet.added * time + time**2 if unet.added else 0)
    blocks = sum(text.layers * (4 * text.hidden**2 + 2 * text.hidden * text.inner) for text in model.text_encoders)
    return (
        (model.parameters.unet - around) * widths.unet + around * widths.model,
        blocks * widths.text + (model.parameters.text - blocks) * widths.model,
    )


def _waiting(config: TrainConfig, model: Architecture, width: int) -> tuple[int, int]:
    """Bytes of the transformer blocks that wait in main memory, and of the places on the GPU where they take turns."""
    sizes = block_sizes(model.unet)
    asked = config.training.blocks_to_swap or 0
    away = [sizes[place] * width for place in waiting(asked, len(sizes))]
    return sum(away), max(away, default=0) * min(PLACES, len(away))


def _state_bytes(name: str) -> int:
    entry = optimizer_entry(name)
    return entry.state_bytes if entry else _STATE


def estimate(
    config: TrainConfig, model: Architecture, lora: LoraSize, loads: Loads, samples: Iterable[SamplePrompt] = (),
    *, backend: str = "",
) -> MemoryEstimate:  # fmt: skip
    """The estimate for the largest batch of the training and the largest sample that it draws."""
    training, widths, dataset = config.training, _widths(config), config.dataset
    latents_cached = dataset.cache_latents or dataset.cache_latents_to_disk
    text_cached = dataset.cache_text_encoder_outputs or dataset.cache_text_encoder_outputs_to_disk
    unet, text = _weights(model, widths)
    waits, places = _waiting(config, model, widths.unet)
    unet += places - waits
    vae = model.parameters.vae * widths.vae
    leave = not training.highvram  # the models that caching has made idle
    vae_away, text_away = vae * (latents_cached and leave), text * (text_cached and leave)
    encoding = _encoding(loads, dataset.vae_batch_size if latents_cached else 1) * widths.vae // 2
    pixels = max((prompt.size[0] * prompt.size[1] for prompt in samples), default=0)
    decoding = pixels * _DECODING * widths.vae // 2
    trained = lora.parameters * (2 if training.full_fp16 or training.full_bf16 else 4)
    kept = _kept(config, model, loads)
    activations, held = kept * (1 if widths.half else 2), int(kept * _HELD)
    if backend == "sd-scripts" and not (training.sdpa or training.xformers or training.mem_eff_attn):
        activations += _matrices(config, model, loads) * (6 if widths.half else 4)
    before = unet + text if training.lowram else 0
    return MemoryEstimate(
        weights=unet + text - text_away + vae - vae_away,
        adapter=trained,
        gradients=trained,
        optimizer=lora.parameters * _state_bytes(optimizer(config)),
        activations=activations if latents_cached else max(activations, encoding - held),
        samples=vae_away + max(text_away, decoding) if pixels else 0,
        caching=max((before + vae + encoding) * latents_cached, max(before, text + vae - vae_away) * text_cached),
        caches=_caches(model, loads, widths.model, latents=latents_cached, text=text_cached),
        waiting=waits,
        allocator=held,
    )


def _encoding(loads: Loads, at_once: int) -> int:
    """Bytes to encode the largest pictures, `at_once` of them, in half precision."""
    return max((row.bucket.area * min(row.files, at_once) for _, rows in loads for row in rows), default=0) * _ENCODING


def _kept(config: TrainConfig, model: Architecture, loads: Loads) -> int:
    """Bytes that are kept for the backward pass of the largest step, in half precision."""
    checkpointing = config.training.gradient_checkpointing
    family = MODELS[model.family]
    latent_pixels, batch = _largest(loads, family.latent.factor)
    kept = latent_pixels * batch * family.kept[checkpointing] * 1024 * (model.unet.channels[0] / 320)
    if not config.network.network_train_unet_only:
        captions = max((min(row.images, data.batch_size) for data, rows in loads for row in rows), default=0)
        kept += captions * _text_activations(model, config.model.tokens, checkpointing=checkpointing)
    return int(kept) * _passes(config)


def _largest(loads: Loads, side: int) -> tuple[int, int]:
    """Latent pixels of an image and images of the largest batch."""
    found = (
        (row.bucket.area // side**2, min(row.images, dataset.batch_size)) for dataset, rows in loads for row in rows
    )
    return max(found, key=math.prod, default=(0, 0))


def _passes(config: TrainConfig) -> int:
    """How many predictions are kept until the gradient of all of them."""
    return 2 if config.noise_loss.preservation_class else 1


def _matrices(config: TrainConfig, model: Architecture, loads: Loads) -> int:
    """Numbers in the matrices of the U-Net's self-attention: each pixel of a level with each other, for every head.

    With checkpointing those of one block, worked out anew. Under autocast they are kept in single precision for the
    softmax and once more in half precision.
    """
    pixels, batch = _largest(loads, MODELS[model.family].latent.factor)
    unet, per_level = model.unet, 2 * model.unet.layers_per_block + 1  # attentions, down and up
    blocks = [count * per_level for count in unet.transformers]
    blocks[-1] += unet.mid_transformers
    sizes = []
    for level, (width, count) in enumerate(zip(unet.channels, blocks, strict=True)):
        heads = _HEADS if model.family == "sd1" else max(1, width // _HEAD)
        sizes += [heads * (pixels // 4**level) ** 2] * count
    kept = max(sizes, default=0) if config.training.gradient_checkpointing else sum(sizes)
    return kept * batch * _passes(config)


def _text_activations(model: Architecture, tokens: int, *, checkpointing: bool) -> int:
    """Bytes that the text encoders keep of one caption, in half precision.

    A layer keeps 34 bytes of each number of its states and 5 of each number of its attention (Korthikanti et al. 2022,
    eq. 2); with checkpointing its input only, and one layer is worked out anew.
    """
    total = 0
    for shape in model.text_encoders:
        states = 77 * (tokens // 75) * shape.hidden
        attention = 77 * 77 * (tokens // 75) * max(1, shape.hidden // _HEAD)
        layer = 34 * states + 5 * attention
        total += 2 * states * shape.layers + layer if checkpointing else layer * shape.layers
    return total


def _caches(model: Architecture, loads: Loads, width: int, *, latents: bool, text: bool) -> int:
    """Bytes of main memory that kept latents and text outputs take, 77 states a caption."""
    family = MODELS[model.family]
    files = sum(row.files for _, rows in loads for row in rows)
    area = sum(row.files * row.bucket.area for _, rows in loads for row in rows)
    pooled = model.text_encoders[-1].hidden if family.texts[-1].projection else 0
    kept = area // family.latent.factor**2 * family.latent.channels
    return kept * width * latents + files * (77 * model.unet.context + pooled) * width * text
