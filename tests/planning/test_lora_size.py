"""LoRA files to the byte, against files that sd-scripts wrote and figures from the architectures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.formats.weights import safetensors_header
from kohyakit.planning.size.architecture import SD1, SDXL, UnknownArchitecture, read_architecture
from kohyakit.planning.size.lora import lora_layers, lora_size


def compact(metadata: dict[str, str]) -> int:
    return len(json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.shared
@pytest.mark.parametrize("case", ["basic", "adafactor", "locon", "samples_ddim"])
def test_golden_files_to_the_byte(goldens: Path, case: str) -> None:
    conv_dim = 4 if case == "locon" else None
    path = goldens / "training" / case / "output" / f"{case}.safetensors"
    header = safetensors_header.read(path)
    model = read_architecture(goldens / "training/sd15-tiny")
    layers = dict(lora_layers(model, convolutions=conv_dim is not None))
    ends = ("alpha", "lora_down.weight", "lora_up.weight")
    assert {f"{name}.{end}" for name in layers for end in ends} == set(header.tensors)
    size = lora_size(iter(layers.items()), 8, conv_dim)
    assert size.data_bytes == sum(tensor.bytes for tensor in header.tensors.values())
    assert size.file_bytes(compact(dict(header.metadata))) == path.stat().st_size


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "options", "tensors"),
    [
        ("full_r16_bf16", (16, None, "BF16"), 792),
        ("full_r128_fp16", (128, None, "F16"), 792),
        ("full_r16_locon", (16, 8, "BF16"), 1050),
    ],
)
def test_files_of_the_true_sd15_shape(goldens: Path, case: str, options: tuple, tensors: int) -> None:
    folder = goldens / "training" / case
    metadata = next(iter(json.loads((folder / "metadata.json").read_text(encoding="utf-8")).values()))
    told = int((folder / "output_files.txt").read_text(encoding="utf-8").split()[-1])
    size = lora_size(lora_layers(SD1, convolutions=options[1] is not None), *options)
    assert (size.tensors, size.file_bytes(compact(metadata))) == (tensors, told)


@pytest.mark.shared
def test_a_single_file_has_the_folders_shape(goldens: Path) -> None:
    folder = read_architecture(goldens / "training/sd15-tiny")
    single = read_architecture(goldens / "training/single/sd15-tiny.safetensors")
    assert single == folder
    assert folder.known


def test_modules_and_parameters_a_rank_of_the_published_shapes() -> None:
    """market.md, section 4: SD 1.5 192 + 72 modules, 423,936 + 165,888 a rank; SDXL 722, 72, 192."""

    def count(model, **parts: bool) -> tuple[int, int]:
        size = lora_size(lora_layers(model, **parts), 1)
        return size.modules, size.parameters

    assert count(SD1, text_encoder=False) == (192, 423_936)
    assert count(SD1, unet=False) == (72, 165_888)
    assert count(SDXL, text_encoder=False) == (722, 2_659_840)
    assert count(SDXL, unet=False) == (72 + 192, 165_888 + 737_280)
    assert lora_size(lora_layers(SD1), 128, dtype="F16").data_bytes == 150_994_944 + 264 * 2


def test_sdxl_names_are_kohyas() -> None:
    names = {name for name, _ in lora_layers(SDXL, convolutions=True)}
    for name in (
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
        "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k",
        "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj",
        "lora_unet_output_blocks_0_1_proj_in",
        "lora_unet_output_blocks_5_1_transformer_blocks_1_attn1_to_out_0",
        "lora_unet_input_blocks_1_0_in_layers_2",
        "lora_unet_input_blocks_3_0_op",
        "lora_unet_output_blocks_2_2_conv",
        "lora_unet_output_blocks_8_0_skip_connection",
        "lora_unet_middle_block_2_out_layers_3",
    ):
        assert name in names, name


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    import struct

    path = tmp_path / "lora.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(UnknownArchitecture, match="no model that is known here"):
        read_architecture(path)
