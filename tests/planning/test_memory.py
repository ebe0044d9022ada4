"""The memory estimate: what is counted is exact, and what is estimated moves the right way."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.layout import Dataset
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.architecture import SD1, SDXL, Architecture
from kohyakit.planning.lengths import BucketCount
from kohyakit.planning.lora_size import lora_layers, lora_size
from kohyakit.planning.memory import MemoryEstimate, estimate


def of(
    model: Architecture = SD1, side: int = 512, batch: int = 1, samples: tuple[SamplePrompt, ...] = (), **values: object
) -> MemoryEstimate:
    config = TrainConfig().with_values(**{"mixed_precision": "fp16", "optimizer_type": "AdamW", **values})
    loads = [(Dataset((side, side), batch), (BucketCount(Bucket(side, side), 100, 100, 100),))]
    return estimate(config, model, lora_size(lora_layers(model), 16), loads, samples)


def test_what_is_counted_is_exact() -> None:
    """SD 1.5: U-Net 859,520,964 numbers, CLIP 123,060,480, VAE 83,653,863; rank 16 trains 9,437,184."""
    got = of()
    assert got.weights == 2 * (859_520_964 + 123_060_480 + 83_653_863)
    assert (got.adapter, got.gradients, got.optimizer) == (4 * 9_437_184, 4 * 9_437_184, 8 * 9_437_184)
    assert of(cache_latents=True).weights == 2 * (859_520_964 + 123_060_480)
    assert of(mixed_precision="no").weights == 2 * got.weights
    assert of(optimizer_type="AdamW8bit").optimizer == 2 * 9_437_184


def test_what_is_estimated_moves_the_right_way() -> None:
    one = of().activations
    assert of(batch=4).activations == 4 * one
    assert of(side=1024).activations == 4 * one
    assert of(gradient_accumulation_steps=4).activations == one
    assert of(gradient_checkpointing=True).activations < one / 3
    assert of(SDXL).activations > one


def test_a_sample_picture_counts_where_it_takes_more_than_a_step() -> None:
    """Measured on an H200 with gradient checkpointing: a step took 0.35 GiB beyond the weights, a picture 0.71."""
    small, large = SamplePrompt("a cat", width=64, height=64), SamplePrompt("a cat", width=512, height=512)
    config = {"gradient_checkpointing": True, "cache_latents": True}
    assert of(samples=(small,), **config) == of(**config)
    vae = 2 * 83_653_863
    assert (of(samples=(small, large), **config).activations - vae) / 2**30 == pytest.approx(0.71, rel=0.02)
    assert of(samples=(large,)) == of()


@pytest.mark.parametrize(
    ("values", "gib"),
    [
        ({}, 4.07), ({"gradient_checkpointing": True}, 3.13), ({"batch": 4}, 7.81), ({"side": 768}, 5.69),
        ({"batch": 4, "gradient_checkpointing": True}, 4.05), ({"mixed_precision": "no"}, 6.72),
        ({"mixed_precision": "no", "gradient_checkpointing": True}, 5.38),
    ],
    ids=str,
)  # fmt: skip
def test_against_what_was_measured(values: dict[str, object], gib: float) -> None:
    """What the card's own count said (an H200, torch 2.11, SD 1.5's true size, latents cached, rank 16)."""
    assert of(cache_latents=True, **values).total / 2**30 == pytest.approx(gib, rel=0.1)


@pytest.mark.parametrize(("batches", "gib"), [((1, 8), 9.4)])
def test_against_what_was_published(batches: tuple[int, int], gib: float) -> None:
    """A card with 24 GB, 512 px, xformers: 7.3 GB at batch 1, 16.7 GB at batch 8 (market.md, section 4)."""
    few, many = (of(batch=batch).total for batch in batches)
    assert (many - few) / 2**30 == pytest.approx(gib, rel=0.15)


@pytest.mark.shared
def test_parameters_are_read_from_the_weights(goldens: Path) -> None:
    from kohyakit.planning.architecture import read_architecture

    got = read_architecture(goldens / "training/sd15-tiny").parameters
    assert 4 * got.unet == pytest.approx(3_388_048, rel=0.03)  # its .safetensors, header included
    assert 4 * got.text == pytest.approx(6_442_736, rel=0.01)
