"""How a layer is called: Kohya's name in one word (`lora_unet_down_blocks_0_…`), diffusers' path with dots; and what
its tensors are called by Kohya, diffusers and PEFT."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kohyakit.planning.size.layers import sdxl_name

# Words of module names that hold an underscore themselves; the rest of a Kohya name is dots.
_WORDS = (
    "add_embedding", "conv_in", "conv_norm_out", "conv_out", "conv_shortcut", "down_blocks", "downsamplers",
    "emb_layers", "final_layer_norm", "fc1", "in_layers", "input_blocks", "label_emb", "layer_norm1", "layer_norm2",
    "linear_1", "linear_2", "mid_block", "middle_block", "out_layers", "out_proj", "output_blocks",
    "position_embedding", "proj_in", "proj_out", "k_proj", "q_proj", "v_proj", "self_attn", "skip_connection",
    "text_model", "text_projection", "time_emb_proj", "time_embed", "time_embedding", "to_k", "to_out", "to_q",
    "to_v", "token_embedding", "transformer_blocks", "up_blocks",
)  # fmt: skip
_WORD = re.compile("|".join(sorted(_WORDS, key=len, reverse=True)) + r"|[^_]+")

# Kohya's prefix -> the part of a diffusers pipeline.
PARTS = {
    "lora_unet": "unet", "lora_te": "text_encoder", "lora_te1": "text_encoder", "lora_te2": "text_encoder_2",
    "oft_unet": "unet",
}  # fmt: skip
KOHYA = ("lora_", "oft_unet_")  # how the keys of Kohya's layout begin

# Endings of other programs -> Kohya's.
_ENDINGS = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora_A.default.weight": "lora_down.weight",
    "lora_B.default.weight": "lora_up.weight",
    "lora.down.weight": "lora_down.weight",
    "lora.up.weight": "lora_up.weight",
    "lora_linear_layer.down.weight": "lora_down.weight",
    "lora_linear_layer.up.weight": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale",
    "lora_magnitude_vector.weight": "dora_scale",
    "alpha": "alpha",
}
_FOREIGN = re.compile(rf"(.+?)\.({'|'.join(map(re.escape, sorted(_ENDINGS, key=len, reverse=True)))})")
_ADAPTER = "base_model.model."  # before PEFT's names


def split_name(name: str) -> tuple[str, str] | None:
    """("lora_te1", "text_model.encoder.layers.0.mlp.fc1") of a Kohya name; None where it is none.

    The U-Net's path is diffusers', also where the file has the original (SAI) names of SDXL.
    """
    for prefix in sorted(PARTS, key=len, reverse=True):
        if name.startswith(f"{prefix}_"):
            path = ".".join(_WORD.findall(name.removeprefix(f"{prefix}_")))
            return prefix, diffusers_path(path) if PARTS[prefix] == "unet" else path
    return None


def join_name(part: str, path: str, *, sdxl: bool) -> str:
    """The Kohya name of a layer of a diffusers pipeline's part."""
    if part == "unet":
        prefix, path = "lora_unet", sdxl_name(path) if sdxl and _is_inner(path) else path
    else:
        path = path if path.startswith(("text_model.", "text_projection")) else f"text_model.{path}"
        prefix = f"lora_te{2 if part.endswith('_2') else 1}" if sdxl else "lora_te"
    return f"{prefix}_{path}".replace(".", "_")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A tensor of diffusers' or PEFT's layout. layer, ending: by Kohya; stem, spelled: as the file has the two."""

    layer: str
    ending: str
    stem: str
    spelled: str


def foreign_key(key: str, *, sdxl: bool) -> ForeignKey | None:
    """What a key of another layout than Kohya's names; None for a tensor of no known layer."""
    plain = key.removeprefix(_ADAPTER).replace(".processor.", ".").replace("_lora.", ".lora.")
    match = _FOREIGN.fullmatch(plain)
    part, dot, path = match[1].partition(".") if match else ("", "", "")
    if match is None or not dot or part not in PARTS.values():
        return None
    layer = join_name(part, path, sdxl=sdxl)
    return ForeignKey(layer, _ENDINGS[match[2]], key[: -len(match[2]) - 1], match[2])


def name_in_model(name: str, *, sdxl: bool) -> str:
    """Kohya's name as sd-scripts has it: some programs give SDXL's U-Net diffusers' paths."""
    found = split_name(name) if sdxl else None
    if found is None or found[0] != "lora_unet" or not _is_inner(found[1]):
        return name
    return join_name("unet", found[1], sdxl=True)


def _is_inner(path: str) -> bool:
    return path.startswith(("down_blocks.", "up_blocks.", "mid_block."))


_RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip


def diffusers_path(path: str) -> str:
    """The original name of a layer of SDXL's U-Net -> diffusers'; any other stays as it is."""
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)", path)
    if match:
        return _outer_path(match[1], int(match[2]), int(match[3]), match[4])
    match = re.fullmatch(r"middle_block\.(\d)\.(.+)", path)
    if match:
        number, inner = int(match[1]), match[2]
        return f"mid_block.attentions.0.{inner}" if number == 1 else f"mid_block.resnets.{number // 2}.{_resnet(inner)}"
    return path


def _resnet(inner: str) -> str:
    return _RESNET.get(inner, inner)


def _outer_path(section: str, block: int, number: int, inner: str) -> str:
    if section == "input_blocks":
        level, place = divmod(block - 1, 3)
        if place == 2:
            return f"down_blocks.{level}.downsamplers.0.conv"
        way = "down_blocks"
    else:
        level, place = divmod(block, 3)
        if inner == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv"
        way = "up_blocks"
    part = f"attentions.{place}.{inner}" if number == 1 else f"resnets.{place}.{_resnet(inner)}"
    return f"{way}.{level}.{part}"


def block_of(name: str) -> str:
    """Which block a layer belongs to, for sums by block: `te1`, `down 1`, `mid`, `up 0`."""
    found = split_name(name)
    if found is None:
        return "other"
    prefix, path = found
    if PARTS[prefix] != "unet":
        return prefix.removeprefix("lora_")
    match = re.match(r"(down|up)_blocks\.(\d+)\.", path)
    return f"{match[1]} {match[2]}" if match else "mid" if path.startswith("mid_block.") else "ends"
