"""Tokens, chunks, weights and text states against sd-scripts' recordings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from kohyakit.dataset.augment import ImageDraw
from kohyakit.dataset.buckets import Bucket
from kohyakit.errors import ConfigError
from kohyakit.models import Model, TextEncoder, load_model
from kohyakit.models.conditioning import encode_prompts, tokenize
from kohyakit.train.step.batches import Example, TrainImage


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Model:
    return load_model(tiny_model)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.shared
def test_every_recorded_tokenization(goldens: Path) -> None:
    rows = json.loads((goldens / "training/tokenizer/tokenize.json").read_text(encoding="utf-8"))
    assert len(rows) == 54
    for row in rows:
        plain = tokenize([row["text"]], row["max_token_length"])
        assert plain.input_ids.tolist() == row["input_ids"], row["text"]
        weighted = tokenize([row["text"]], row["max_token_length"], weighted=True)
        assert weighted.input_ids.tolist() == row["weighted_input_ids"], row["text"]
        assert weighted.weights.tolist() == row["weights"], row["text"]


@pytest.mark.shared
@pytest.mark.parametrize(("case", "length"), [("basic", None), ("adafactor", 225), ("locon", None)])
def test_every_recorded_caption(goldens: Path, case: str, length: int | None) -> None:
    for line in lines(goldens / f"training/{case}/steps.jsonl"):
        assert tokenize(line["captions"], length).input_ids.tolist() == line["input_ids"]
        if "weights" in line:
            tokens = tokenize(line["captions"], length, weighted=True)
            assert tokens.input_ids.tolist() == line["weighted_input_ids"]
            assert tokens.weights.tolist() == line["weights"]


def with_lora(text_encoder: TextEncoder, file: Path) -> None:
    """Add a LoRA of alpha 4 into the weights, by the formula and not by kohyakit's network."""
    lora = load_file(file)
    for name, layer in text_encoder.named_modules():
        key = "lora_te_" + name.replace(".", "_")
        if f"{key}.alpha" in lora:
            up, down = lora[f"{key}.lora_up.weight"], lora[f"{key}.lora_down.weight"]
            layer.weight.data += up @ down * (4 / len(down))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "clip_skip", "batch", "lora"),
    [
        ("basic", None, 1, None),
        ("basic", None, 3, "lora_after_batch2"),
        ("adafactor", 2, 1, None),
        ("adafactor", 2, 3, "lora_after_batch2"),
        ("locon", None, 1, None),
        ("locon", None, 3, "lora_after_batch2"),  # has weights other than 1
    ],
)
def test_recorded_text_states(goldens: Path, case: str, clip_skip: int | None, batch: int, lora: str | None) -> None:
    folder = goldens / "training" / case
    text_encoder = load_model(goldens / "training/sd15-tiny").text_encoder
    if lora:
        with_lora(text_encoder, folder / f"{lora}.safetensors")
    line = lines(folder / "steps.jsonl")[batch - 1]
    ids = torch.tensor(line.get("weighted_input_ids", line["input_ids"]))
    weights = torch.tensor(line["weights"]) if "weights" in line else None
    with torch.no_grad():
        ours = encode_prompts(text_encoder, ids, clip_skip=clip_skip, weights=weights)
    theirs = load_file(folder / f"tensors_batch{batch}.safetensors")["encoder_hidden_states"]
    assert ours.shape == theirs.shape
    # exactly equal without LoRA where torch uses the recording machine's kernels (ATEN_CPU_CAPABILITY=avx2)
    assert (ours - theirs).abs().max() < 3e-6


def test_gradients_flow_and_checkpointing_changes_nothing(tiny_model: Path) -> None:
    ids = tokenize(["a photo of a cat"], 150).input_ids
    grads = []
    for checkpointing in (False, True):
        text_encoder = load_model(tiny_model).text_encoder
        if checkpointing:
            text_encoder.enable_gradient_checkpointing()
        weight = text_encoder.text_model.encoder.layers[0].mlp.fc1.weight.requires_grad_()
        encode_prompts(text_encoder.train(), ids, clip_skip=2).square().sum().backward()
        grads.append(weight.grad)
        assert text_encoder.text_model.encoder.layers[2].mlp.fc1.weight.grad is None
    assert grads[0].abs().max() > 0
    assert torch.allclose(*grads)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_is_a_hidden_state_with_the_final_norm(tiny_model: Path, tiny: Model, clip_skip: int) -> None:
    from transformers import CLIPTextModel

    whole = CLIPTextModel.from_pretrained(tiny_model / "text_encoder", local_files_only=True)
    inner = getattr(whole, "text_model", whole)
    seen: list[torch.Tensor] = []
    layers = inner.encoder.layers
    layers[len(layers) - clip_skip].register_forward_hook(
        lambda layer, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    ids = tokenize(["a photo of a cat", ""]).input_ids
    with torch.no_grad():
        whole(ids[:, 0])
        assert torch.equal(encode_prompts(tiny.text_encoder, ids, clip_skip=clip_skip), inner.final_layer_norm(seen[0]))


def test_chunks_are_joined_between_the_first_start_and_the_last_end(tiny: Model) -> None:
    ids = tokenize(["cat " * 100], 150).input_ids
    weights = torch.rand(ids.shape)
    with torch.no_grad():
        first, second = tiny.text_encoder(ids[0])
        joined = encode_prompts(tiny.text_encoder, ids)
        weighted = encode_prompts(tiny.text_encoder, ids, weights=weights)
    assert torch.equal(joined[0], torch.cat([first[:76], second[1:]]))
    assert torch.equal(weighted[0, 80], second[5] * weights[0, 1, 5])


def test_clip_skip_beyond_the_layers(tiny: Model) -> None:
    with pytest.raises(ConfigError, match="clip_skip: is 4, but the text encoder has 3 layers; choose 1 to 3"):
        encode_prompts(tiny.text_encoder, tokenize(["a"]).input_ids, clip_skip=4)
    assert len(tiny.text_encoder.text_model.encoder.layers) == 3


def test_sizes_of_cached_latents_are_of_the_file_in_sd_scripts_order() -> None:
    """By hand: 900 x 700 fits into 512 x 512 as 512 x 398.2, so 56 are left above; sd-scripts asks for no buckets."""
    record: Any = SimpleNamespace(size=(900, 700))
    image = TrainImage(record, cast(Any, None), cast(Any, None), 1.0, bucketed=False)
    example = Example(0, image, ImageDraw(False, 0, 0), "")
    assert example.sizes(Bucket(512, 512), cached=True) == (700, 900, 56, 0, 512, 512)
    assert example.sizes(Bucket(512, 512)) == (512, 512, 0, 0, 512, 512)


def test_sd2_fills_up_with_zeros_and_marks_empty_chunks() -> None:
    ids = tokenize(["a photo of a cat"], 150, pad_token_id=0).input_ids[0].tolist()
    assert ids[0] == [49406, 320, 1125, 539, 320, 2368, 49407, *[0] * 70]
    assert ids[1] == [49406, 49407, *[0] * 75]
    full = tokenize(["cat " * 80], 75, pad_token_id=0).input_ids[0].tolist()
    assert full == [[49406, *[2368] * 75, 49407]]
