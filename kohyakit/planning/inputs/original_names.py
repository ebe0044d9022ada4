"""diffusers' names of a Stable Diffusion model's tensors -> those in a single file in the original (LDM) layout."""

from __future__ import annotations

import re
from typing import Any

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def unet_origin(key: str, config: dict[str, Any]) -> str:
    """diffusers' name of a U-Net tensor -> the original one.

    The original numbers the blocks through: with n layers a block, each down block takes n + 1 places after
    the first convolution (n layers and a downsampler), each up block n + 1 layers.
    """
    module, _, kind = key.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", module):
        part, number, inner = match.groups()
        place = "middle_block.1" if part == "attentions" else f"middle_block.{2 * int(number)}"
        return f"{place}.{_RESNET.get(inner, inner)}.{kind}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", module)
    if match is None:
        raise ValueError(f"{key} is no key of a U-Net")
    way, block, part, layer, inner = match.groups()
    layers, start = config["layers_per_block"], (config["layers_per_block"] + 1) * int(block)
    if part == "downsamplers":
        return f"input_blocks.{start + layers + 1}.0.op.{kind}"
    if part == "upsamplers":
        after = 2 if config["up_block_types"][int(block)].startswith("CrossAttn") else 1
        return f"output_blocks.{start + layers}.{after}.conv.{kind}"
    place = f"input_blocks.{start + int(layer) + 1}" if way == "down" else f"output_blocks.{start + int(layer)}"
    if part == "attentions":
        return f"{place}.1.{inner}.{kind}"
    return f"{place}.0.{_RESNET[inner]}.{kind}"


_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def vae_origin(key: str, blocks: int) -> str:
    """diffusers' name of a VAE tensor -> the original one, where the decoder's blocks count from the far end."""
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d)\.(.+)\.(weight|bias)", key):
        side, part, number, inner, kind = match.groups()
        if part == "attentions":
            return f"{side}.mid.attn_1.{_ATTENTION[inner]}.{kind}"
        place = f"{side}.mid.block_{int(number) + 1}.{inner}.{kind}"
    elif match := re.fullmatch(r"(encoder|decoder)\.(down|up)_blocks\.(\d+)\.(.+)", key):
        side, way, number, inner = match.groups()
        index = int(number) if way == "down" else blocks - 1 - int(number)
        inner = inner.replace("resnets.", "block.").replace(f"{way}samplers.0.", f"{way}sample.")
        place = f"{side}.{way}.{index}.{inner}"
    else:
        return key.replace("conv_norm_out", "norm_out")
    return place.replace("conv_shortcut", "nin_shortcut")
