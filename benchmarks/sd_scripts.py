"""Run a training program of an sd-scripts checkout on a model of any size.

    PYTHON benchmarks/sd_scripts.py CHECKOUT train_network.py --config_file FILE

PYTHON is one that has sd-scripts' packages; kohyakit is not asked for. sd-scripts builds its U-Net from constants, the
sizes of Stable Diffusion 1.5 or of SDXL. Here they are set from the model's own unet/config.json before the program
starts, and nothing else of it is changed: a model in miniature is trained by sd-scripts' own code. The tokenizer is
the model's too, found where `tokenizer_cache_dir` would have it.
"""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

TOKENIZERS = (
    "openai_clip-vit-large-patch14",
    "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "stabilityai_stable-diffusion-2",
)


def main() -> None:
    checkout, script, *words = sys.argv[1:]
    sys.path[0] = str(Path(checkout).absolute())
    model = Path(_value(words, "pretrained_model_name_or_path"))
    sizes = json.loads((model / "unet" / "config.json").read_text(encoding="utf-8"))
    if sizes.get("addition_embed_type") == "text_time":
        as_wide_as_sdxl(importlib.import_module("library.sdxl_original_unet"), sizes)
    else:
        as_wide_as(importlib.import_module("library.original_unet"), sizes)
    with tempfile.TemporaryDirectory() as place:
        for name in TOKENIZERS:
            shutil.copytree(model / "tokenizer", Path(place) / name)
        sys.argv = [script, *words, "--tokenizer_cache_dir", place]
        runpy.run_path(str(Path(checkout) / script), run_name="__main__")


def _value(words: list[str], name: str) -> str:
    """An argument, from the command line or from the config file that it names."""
    if f"--{name}" in words:
        return words[words.index(f"--{name}") + 1]
    given = tomllib.loads(Path(words[words.index("--config_file") + 1]).read_text(encoding="utf-8"))
    sections = [section for section in given.values() if isinstance(section, dict)]
    return next(str(section[name]) for section in (given, *sections) if name in section)


def as_wide_as(unet: Any, sizes: dict[str, Any]) -> None:
    """The constants of `library.original_unet`, for SD 1.x and 2.x."""
    widths, layers = tuple(sizes["block_out_channels"]), sizes["layers_per_block"]
    unet.BLOCK_OUT_CHANNELS, unet.TIMESTEP_INPUT_DIM, unet.TIME_EMBED_DIM = widths, widths[0], 4 * widths[0]
    unet.LAYERS_PER_BLOCK, unet.LAYERS_PER_BLOCK_UP = layers, layers + 1
    unet.NORM_GROUPS = unet.TRANSFORMER_NORM_NUM_GROUPS = sizes["norm_num_groups"]
    unet.DOWN_BLOCK_TYPES, unet.UP_BLOCK_TYPES = sizes["down_block_types"], sizes["up_block_types"]
    plain, modules = unet.DownBlock2D, unet.nn.ModuleList

    class DownBlock2D(plain):  # type: ignore[misc, valid-type]
        """In the true shapes it is the last, and what makes it smaller is kept where torch does not see it."""

        def __init__(self, **asked: Any) -> None:
            super().__init__(**asked)
            if self.downsamplers:
                self.downsamplers = modules(self.downsamplers)

    unet.DownBlock2D = DownBlock2D


def as_wide_as_sdxl(unet: Any, sizes: dict[str, Any]) -> None:
    """The constants of `library.sdxl_original_unet`, and those that stand in its text."""
    widths = sizes["block_out_channels"]
    unet.MODEL_CHANNELS, unet.TIME_EMBED_DIM = widths[0], 4 * widths[0]
    unet.ADM_IN_CHANNELS, unet.CONTEXT_DIM = (
        sizes["projection_class_embeddings_input_dim"],
        sizes["cross_attention_dim"],
    )
    heads = dict(zip(widths, sizes["attention_head_dim"], strict=True))
    depths = dict(zip(widths, sizes["transformer_layers_per_block"], strict=True))
    group_norm, transformer, plain = unet.GroupNorm32, unet.Transformer2DModel, unet.torch.nn.GroupNorm

    class GroupNorm32(group_norm):  # type: ignore[misc, valid-type]
        def __init__(self, groups: int, channels: int) -> None:
            super().__init__(sizes["norm_num_groups"], channels)

    class Transformer2DModel(transformer):  # type: ignore[misc, valid-type]
        def __init__(self, in_channels: int, **asked: Any) -> None:
            asked |= {
                "num_attention_heads": heads[in_channels], "attention_head_dim": in_channels // heads[in_channels],
                "num_transformer_layers": depths[in_channels], "cross_attention_dim": sizes["cross_attention_dim"],
            }  # fmt: skip
            super().__init__(in_channels=in_channels, **asked)
            self.norm = plain(sizes["norm_num_groups"], in_channels, eps=1e-6, affine=True)

    unet.GroupNorm32, unet.Transformer2DModel = GroupNorm32, Transformer2DModel


if __name__ == "__main__":
    main()
