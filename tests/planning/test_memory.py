"""The memory estimate: what is counted is exact, and what is estimated moves the right way."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.layout import Dataset
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.plan import BucketCount
from kohyakit.planning.size.architecture import SD1, SDXL, Architecture
from kohyakit.planning.size.lora import lora_layers, lora_size
from kohyakit.planning.size.memory import MemoryEstimate, estimate


def of(
    model: Architecture = SD1, side: int = 512, batch: int = 1, samples: tuple[SamplePrompt, ...] = (),
    backend: str = "", **values: object,
) -> MemoryEstimate:  # fmt: skip
    config = TrainConfig().with_values(**{"mixed_precision": "fp16", "optimizer_type": "AdamW", **values})
    loads = [(Dataset((side, side), batch), (BucketCount(Bucket(side, side), 100, 100, 100),))]
    return estimate(config, model, lora_size(lora_layers(model), 16), loads, samples, backend=backend)


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
    unet, large = (of(side=side, network_train_unet_only=True).activations for side in (512, 1024))
    assert large == 4 * unet
    assert unet < one
    assert of(gradient_accumulation_steps=4).activations == one
    assert of(gradient_checkpointing=True, cache_latents=True).activations < one / 3
    assert of(SDXL).activations > one


def test_a_sample_picture_counts_where_it_takes_more_than_a_step() -> None:
    """Measured on an H200 with gradient checkpointing: a step took 0.35 GiB beyond the weights, a picture 0.71."""
    small, large = SamplePrompt("a cat", width=64, height=64), SamplePrompt("a cat", width=512, height=512)
    config = {"gradient_checkpointing": True, "cache_latents": True}
    assert of(samples=(small,), **config).total == of(**config).total
    vae = 2 * 83_653_863
    got = of(samples=(small, large), **config)
    assert (got.samples - vae) / 2**30 == pytest.approx(0.71, rel=0.02)
    gone = got.activations + got.allocator + got.gradients
    assert (got.highest, got.total) == ("sample", of(**config).total - gone + got.samples)
    assert of(samples=(large,)).total == of().total


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


@pytest.mark.parametrize(
    ("family", "checkpointing", "kib"),
    [("sd1", False, 224.0), ("sdxl", False, 406.9), ("sdxl", True, 34.3)],
)
def test_against_the_tensors_that_torch_keeps(family: str, checkpointing: bool, kib: float) -> None:
    """Counted by autograd's saved-tensor hooks over the true U-Nets without memory, bfloat16 under autocast, rank 16.

    KiB a latent pixel. With checkpointing the hooks see the blocks' inputs, and one block comes on top.
    """
    side = 1024 if family == "sdxl" else 512
    model = SDXL if family == "sdxl" else SD1
    got = of(model, side, mixed_precision="bf16", cache_latents=True, network_train_unet_only=True,
             gradient_checkpointing=checkpointing)  # fmt: skip
    kept = got.activations / (side // 8) ** 2 / 1024
    assert kept - (41 if checkpointing else 0) == pytest.approx(kib, rel=0.02)


@pytest.mark.parametrize(
    ("model", "side", "precision", "checkpointing", "gib"),
    [(SD1, 512, "no", False, 5.0), (SD1, 512, "no", True, 3.7), (SD1, 512, "bf16", False, 2.6),
     (SD1, 512, "bf16", True, 1.9), (SDXL, 1024, "no", False, 22.7), (SDXL, 1024, "no", True, 11.2)],
)  # fmt: skip
def test_against_a_count_of_all_tensors(
    model: Architecture, side: int, precision: str, checkpointing: bool, gib: float
) -> None:
    """The most of two steps over the true U-Nets without memory, rank 16, by benchmarks/train_memory.py.

    Attention as it is here: no matrix of all pixels with all pixels is kept.
    """
    got = of(model, side, mixed_precision=precision, cache_latents=True, cache_text_encoder_outputs=True,
             network_train_unet_only=True, gradient_checkpointing=checkpointing)  # fmt: skip
    assert (got.total - got.runtime - got.allocator) / 2**30 == pytest.approx(gib, rel=0.15)


def test_attention_that_keeps_its_matrices_is_that_of_sd_scripts_without_an_option() -> None:
    """SD 1.5 at 512: five blocks of 8 heads over 4096 pixels, five over 1024, five over 256, the middle's over 64; SDXL
    at 1024: five of 2 blocks with 10 heads over 4096, six of 10 with 20 over 1024, the middle among them. In single
    precision 4 bytes each, else 6.
    """
    there = {"backend": "sd-scripts", "cache_latents": True}
    numbers = 5 * 8 * (4096**2 + 1024**2 + 256**2) + 8 * 64**2
    for precision, width in (("no", 4), ("fp16", 6)):
        plain = of(mixed_precision=precision, **there).activations
        for option in ("sdpa", "xformers", "mem_eff_attn"):
            saving = of(mixed_precision=precision, **there, **{option: True}).activations
            assert plain - saving == width * numbers
        assert of(mixed_precision=precision, cache_latents=True, backend="kohyakit").activations == saving
    more = [of(SDXL, 1024, **there, sdpa=on, batch=2).activations for on in (False, True)]
    assert more[0] - more[1] == 2 * 6 * (10 * 10 * 4096**2 + 60 * 20 * 1024**2)
    one = [of(**there, gradient_checkpointing=True, sdpa=on).activations for on in (False, True)]
    assert one[0] - one[1] == 6 * 8 * 4096**2


def test_text_encoders_that_are_trained_keep_their_part() -> None:
    """Counted the same way, one caption of 77 tokens: 32.3 MiB by CLIP-L, 119.3 by bigG, whose last layer has none."""

    def kept(model: Architecture, **values: object) -> int:
        return of(model, cache_latents=True, **values).activations

    more = [kept(model) - kept(model, network_train_unet_only=True) for model in (SD1, SDXL)]
    assert more[0] / 2**20 == pytest.approx(32.3, rel=0.2)
    assert more[1] / 2**20 == pytest.approx(32.3 + 119.3, rel=0.15)


def test_what_caching_moves_out_of_the_card_and_what_highvram_keeps_there() -> None:
    """SDXL: 2,567,463,684 + 817,720,320 + 83,653,863 numbers in half precision."""
    cached = {"cache_latents": True, "cache_text_encoder_outputs": True, "network_train_unet_only": True}
    unet, text, vae = 2 * 2_567_463_684, 2 * 817_720_320, 2 * 83_653_863
    assert of(SDXL).weights == unet + text + vae
    assert of(SDXL, **cached).weights == unet
    assert of(SDXL, **cached, highvram=True).weights == unet + text + vae
    small = SamplePrompt("a cat", width=64, height=64)
    assert of(SDXL, **cached, samples=(small,)).samples == vae + text  # they come back for a moment each
    assert of(SDXL, **cached, lowram=True).caching > unet + text
    latents, states = 128 * 128 * 4, 77 * 2048 + 1280
    assert of(SDXL, side=1024, **cached).caches == 100 * 2 * (latents + states)


def test_a_base_in_8_bits() -> None:
    """The blocks' matrices are half as large; SDXL's embeddings (38,004,480 and 63,340,800) are not."""
    packed, unet_only = (of(SDXL, **{name: True}).weights for name in ("fp8_base", "fp8_base_unet"))
    vae, text, unet = (2 * number for number in (83_653_863, 817_720_320, 2_567_463_684))
    assert unet_only == pytest.approx(vae + text + unet / 2, rel=0.01)
    assert packed == pytest.approx(vae + (text + 2 * (38_004_480 + 63_340_800)) / 2 + unet / 2, rel=0.01)
    assert of(SDXL, fp8_base=True, fp8_base_unet=True).weights == unet_only  # as sd-scripts takes the two


def test_blocks_that_wait_in_main_memory() -> None:
    """SDXL has 60 blocks of 34,755,840 numbers and 10 of 10,005,120; SD 1.5 16 of 242,408,640 together."""
    plain = {"cache_latents": True, "gradient_checkpointing": True, "network_train_unet_only": True}
    large, all_of_them = 34_755_840, 60 * 34_755_840 + 10 * 10_005_120
    before, after = of(SDXL, **plain), of(SDXL, **plain, blocks_to_swap=70)
    assert after.waiting == 2 * all_of_them
    assert before.weights - after.weights == 2 * (all_of_them - 2 * large)
    assert before.total - after.total == before.weights - after.weights
    assert of(SDXL, **plain, fp8_base=True, blocks_to_swap=99).waiting == all_of_them
    assert of(**plain, blocks_to_swap=16).waiting == 2 * 242_408_640
    one = of(**plain, blocks_to_swap=1)
    assert one.weights == of(**plain).weights  # it takes the room that it leaves


@pytest.mark.parametrize(("at_once", "gib"), [(1, 1.5), (4, 3.1)])
def test_encoding_ahead_against_what_was_measured(at_once: int, gib: float) -> None:
    """An H200, 512x512, fp16: what caching latents took in all, with what torch's allocator held on to."""
    caching = of(cache_latents=True, vae_batch_size=at_once).phases["caching"]
    assert 0.8 * gib < caching / 2**30 < gib


@pytest.mark.parametrize(("batches", "gib"), [((1, 8), 9.4)])
def test_against_what_was_published(batches: tuple[int, int], gib: float) -> None:
    """A card with 24 GB, 512 px, xformers: 7.3 GB at batch 1, 16.7 GB at batch 8 (market.md, section 4)."""
    few, many = (of(batch=batch).total for batch in batches)
    assert (many - few) / 2**30 == pytest.approx(gib, rel=0.15)


@pytest.mark.shared
def test_parameters_are_read_from_the_weights(goldens: Path) -> None:
    from kohyakit.planning.size.architecture import read_architecture

    got = read_architecture(goldens / "training/sd15-tiny").parameters
    assert 4 * got.unet == pytest.approx(3_388_048, rel=0.03)  # its .safetensors, header included
    assert 4 * got.text == pytest.approx(6_442_736, rel=0.01)
