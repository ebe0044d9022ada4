"""A card that is too small for a training: what is said to make it fit does, and is the best that does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.layout import Dataset
from kohyakit.formats.prompt_lines import SamplePrompt
from kohyakit.planning.plan import BucketCount
from kohyakit.planning.size.architecture import SDXL
from kohyakit.planning.size.fitting import Asked, parse_memory, too_small
from kohyakit.planning.size.lora import lora_layers, lora_size
from kohyakit.planning.size.memory import MemoryEstimate, estimate

GIB = 2**30
SDXL_LORA = {"script": "sdxl_train_network.py", "mixed_precision": "bf16", "optimizer_type": "AdamW"}


def asked(
    side: int = 1024, batch: int = 1, samples: tuple[SamplePrompt, ...] = (), blocks: int = 0, **values: Any
) -> Asked:
    config = TrainConfig().with_values(**{**SDXL_LORA, **values})
    rows = (BucketCount(Bucket(side, side), 100, 100, 100),)
    return Asked(config, [(Dataset((side, side), batch), rows)], samples, blocks)


def need(wanted: Asked) -> MemoryEstimate:
    lora = lora_size(lora_layers(SDXL, text_encoder=not wanted.config.network.network_train_unet_only), 32)
    return estimate(wanted.config, SDXL, lora, wanted.loads, wanted.samples)


def cure(wanted: Asked, gib: float, refused: tuple[str, ...] = ()) -> str:
    """What is said for a card of so much memory; settings named in `refused` are not allowed."""
    problem = too_small(wanted, int(gib * GIB), need, lambda config: not any(config[name] for name in refused))
    return problem.cure if problem else ""


def after(wanted: Asked, said: str) -> float:
    """GiB with the settings that a cure names, set here by hand."""
    found = dict(re.findall(r"(\w+) = (\w+)", said))
    values = {
        name: True if value == "true" else int(value) if value.isdecimal() else value
        for name, value in found.items()
        if name != "resolution"
    }
    return need(replace(wanted, config=wanted.config.with_values(**values))).total / GIB


def test_a_card_that_is_large_enough_is_not_spoken_of() -> None:
    assert cure(asked(), 24) == ""
    assert too_small(asked(), 24 * GIB, lambda _: None, lambda _: True) is None


@pytest.mark.parametrize(
    ("wanted", "gib", "first"),
    [
        (asked(), 14, "gradient_checkpointing"),
        (asked(gradient_checkpointing=True, network_train_unet_only=True), 9.5, "cache_text_encoder_outputs"),
        (asked(gradient_checkpointing=True, cache_text_encoder_outputs=True, network_train_unet_only=True), 9.0,
         "cache_latents"),
        (asked(gradient_checkpointing=True, cache_latents=True), 10.5, "optimizer_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_first_change_that_is_enough_is_named_alone(wanted: Asked, gib: float, first: str) -> None:
    said = cure(wanted, gib, ("fp8_base",))
    assert re.findall(r"(\w+) = ", said) == [first]
    assert after(wanted, said) <= 0.95 * gib
    assert f"about {after(wanted, said):.1f} GiB" in said


def test_where_one_is_not_enough_the_fewest_are_named_in_their_order() -> None:
    wanted = asked(network_train_unet_only=True)
    said = cure(wanted, 9.0, ("fp8_base",))
    names = re.findall(r"(\w+) = ", said)
    assert names == ["gradient_checkpointing", "cache_text_encoder_outputs", "cache_latents"]
    assert after(wanted, said) <= 0.95 * 9.0
    for name in names:  # none of them is named for nothing
        assert after(wanted, said.replace(name, "bucket_no_upscale")) > 0.95 * 9.0


def test_blocks_wait_where_all_else_is_not_enough_and_no_more_of_them_than_needed() -> None:
    few = {"gradient_checkpointing": True, "cache_latents": True, "network_train_unet_only": True,
           "cache_text_encoder_outputs": True, "optimizer_type": "AdamW8bit", "fp8_base": True}  # fmt: skip
    wanted = asked(blocks=70, **few)
    assert re.findall(r"\w+ = \w+", cure(wanted, 5.4)) == ["blocks_to_swap = 18"]
    said = cure(wanted, 4.4)
    (count,) = re.findall(r"blocks_to_swap = (\d+)", said)
    assert count == "53"
    with_them, with_fewer = (after(wanted, f"blocks_to_swap = {n}") for n in (count, "35"))
    assert with_them <= 0.95 * 4.4 < with_fewer
    assert "blocks_to_swap" not in cure(asked(**few), 4.4)  # another program trains it
    assert cure(asked(blocks=70, **few | {"fp8_base": False}), 6.0).startswith("set fp8_base = true (")


def test_what_a_training_refuses_is_not_proposed() -> None:
    wanted = asked(gradient_checkpointing=True, network_train_unet_only=True)
    assert "fp8_base" in cure(wanted, 6.5)
    assert "fp8_base" not in cure(wanted, 6.5, ("fp8_base",))
    assert "cache_latents" not in cure(wanted, 6.5, ("cache_latents",))


def test_a_sample_that_is_too_large_and_a_card_that_nothing_helps() -> None:
    few = {"gradient_checkpointing": True, "cache_latents": True, "network_train_unet_only": True}
    large = asked(samples=(SamplePrompt("a cat", width=1536, height=1536),), **few, cache_text_encoder_outputs=True)
    problem = too_small(large, 10 * GIB, need, lambda config: True)
    assert "drawing a sample needs about" in problem.what
    assert "--w 512 --h 512" in problem.cure
    assert cure(asked(), 4).startswith("take a smaller model or another card")


@pytest.mark.parametrize(
    ("text", "size"), [("8", 8 * GIB), ("8GB", 8 * GIB), ("12288 MiB", 12 * GIB), ("7.5 g", int(7.5 * GIB))]
)
def test_memory_is_read_as_cards_are_sold(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "0", "much", "8 TBX", "-8"])
def test_what_is_no_amount_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_memory(text)


def test_what_sd_scripts_keeps_of_its_attention_is_the_first_to_go() -> None:
    lora = lora_size(lora_layers(SDXL, text_encoder=False), 32)
    settings = {"gradient_checkpointing": True, "cache_latents": True, "network_train_unet_only": True}
    wanted = asked(batch=8, **settings, cache_text_encoder_outputs=True)
    problem = too_small(
        wanted, 24 * GIB, lambda it: estimate(it.config, SDXL, lora, it.loads, backend="sd-scripts"), lambda _: True
    )
    assert problem
    assert re.findall(r"(\w+) = ", problem.cure) == ["sdpa"]


def test_check_says_it_for_the_card_that_is_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "img/1_cat").mkdir(parents=True)
    Image.new("RGB", (1024, 1024)).save(tmp_path / "img/1_cat/a.png")
    config = tmp_path / "c.toml"
    config.write_text(
        'pretrained_model_name_or_path = "none.safetensors"\ntrain_data_dir = "img"\noutput_dir = "out"\n'
        'output_name = "x"\nnetwork_module = "networks.lora"\nresolution = "1024"\nmixed_precision = "bf16"\n'
        'max_train_epochs = 1\n[kohyakit]\nscript = "sdxl_train_network.py"\n',
        encoding="utf-8",
    )
    small, large, wrong = (
        subprocess.run([sys.executable, "-m", "kohyakit", "check", str(config), "--vram", size], cwd=tmp_path,
                       capture_output=True, text=True, encoding="utf-8")
        for size in ("12GB", "48GB", "lots")
    )  # fmt: skip
    assert "[memory_too_small]" in small.stdout
    assert "gradient_checkpointing = true" in small.stdout
    assert "[memory_too_small]" not in large.stdout
    assert wrong.returncode == 2
    assert "no amount of memory" in wrong.stderr
