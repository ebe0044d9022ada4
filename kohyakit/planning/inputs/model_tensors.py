"""Every tensor that a Stable Diffusion model must hold, by name and shape, from its shape alone.

So a model with something missing is told before anything is loaded. Names are diffusers', or those of a single file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice

from kohyakit.planning.inputs.original_names import unet_origin, vae_origin
from kohyakit.planning.size.architecture import TextShape, UNetShape, VaeShape
from kohyakit.planning.size.layers import Layer, text_layers, unet_layers

Shape = tuple[int, ...]
Wanted = Iterator[tuple[str, Shape | None]]  # (name, shape; None where the model's shape does not say)

_NORMS = {"conv1": "norm1", "conv2": "norm2", "proj_in": "norm"}
_BLOCK_NORMS = {"attn1.to_q": "norm1", "attn2.to_q": "norm2", "ff.net.0.proj": "norm3"}
_WITHOUT_BIAS = (".to_q", ".to_k", ".to_v")


def unet_tensors(shape: UNetShape) -> Wanted:
    """A U-Net's, under diffusers' names."""
    first = shape.channels[0]
    yield from _convolution("conv_in", shape.inputs, first)
    yield from _linear("time_embedding.linear_1", first, 4 * first)
    yield from _linear("time_embedding.linear_2", 4 * first, 4 * first)
    if shape.added:
        yield from _linear("add_embedding.linear_1", shape.added, 4 * first)
        yield from _linear("add_embedding.linear_2", 4 * first, 4 * first)
    for layer in unet_layers(shape, convolutions=True):
        yield from _norm_before(layer)
        make = _linear if not layer.kernel else partial(_convolution, side=layer.kernel)
        bare = layer.name.endswith(_WITHOUT_BIAS)
        yield from islice(make(layer.name, layer.inputs, layer.outputs), 1 if bare else 2)
    yield from _norm("conv_norm_out", first)
    yield from _convolution("conv_out", first, 4)


def _linear(name: str, inputs: int, outputs: int) -> Wanted:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _convolution(name: str, inputs: int, outputs: int, side: int = 3) -> Wanted:
    yield f"{name}.weight", (outputs, inputs, side, side)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Wanted:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _norm_before(layer: Layer) -> Wanted:
    """The norm that stands before a layer, where one does."""
    parent, _, leaf = layer.name.rpartition(".")
    if leaf in _NORMS:
        yield from _norm(f"{parent}.{_NORMS[leaf]}", layer.inputs)
    for end, norm in _BLOCK_NORMS.items():
        if layer.name.endswith(f".{end}"):
            yield from _norm(f"{layer.name.removesuffix(end)}{norm}", layer.inputs)


def text_tensors(shape: TextShape, *, projection: bool = False) -> Wanted:
    """A CLIP text encoder's, under transformers' names. projection: that of the pooled state too."""
    if projection:
        yield "text_projection.weight", None
    yield "text_model.embeddings.token_embedding.weight", None
    yield "text_model.embeddings.position_embedding.weight", None
    for layer in text_layers(shape):
        yield from _linear(layer.name, layer.inputs, layer.outputs)
    for number in range(shape.layers):
        for norm in ("layer_norm1", "layer_norm2"):
            yield from _norm(f"text_model.encoder.layers.{number}.{norm}", shape.hidden)
    yield from _norm("text_model.final_layer_norm", shape.hidden)


def open_clip_tensors(shape: TextShape, *, projection: bool = False) -> Wanted:
    """The same of OpenCLIP in a single file, where q, k and v are one matrix."""
    if projection:
        yield "text_projection", None
    hidden, inner = shape.hidden, shape.inner
    yield "token_embedding.weight", None
    yield "positional_embedding", None
    yield from _norm("ln_final", hidden)
    for number in range(shape.layers):
        block = f"transformer.resblocks.{number}"
        yield f"{block}.attn.in_proj_weight", (3 * hidden, hidden)
        yield f"{block}.attn.in_proj_bias", (3 * hidden,)
        yield from _linear(f"{block}.attn.out_proj", hidden, hidden)
        yield from _norm(f"{block}.ln_1", hidden)
        yield from _norm(f"{block}.ln_2", hidden)
        yield from _linear(f"{block}.mlp.c_fc", hidden, inner)
        yield from _linear(f"{block}.mlp.c_proj", inner, hidden)


def vae_tensors(shape: VaeShape) -> Wanted:
    """A VAE's, under diffusers' names."""
    widths, latent = shape.channels, shape.latent
    yield from _convolution("encoder.conv_in", 3, widths[0])
    yield from _side("encoder.down_blocks", widths, shape.layers, "downsamplers")
    yield from _middle("encoder", widths[-1])
    yield from _norm("encoder.conv_norm_out", widths[-1])
    yield from _convolution("encoder.conv_out", widths[-1], 2 * latent)
    yield from _convolution("quant_conv", 2 * latent, 2 * latent, side=1)
    yield from _convolution("post_quant_conv", latent, latent, side=1)
    yield from _convolution("decoder.conv_in", latent, widths[-1])
    yield from _middle("decoder", widths[-1])
    yield from _side("decoder.up_blocks", widths[::-1], shape.layers + 1, "upsamplers")
    yield from _norm("decoder.conv_norm_out", widths[0])
    yield from _convolution("decoder.conv_out", widths[0], 3)


def _side(name: str, widths: tuple[int, ...], layers: int, sampler: str) -> Wanted:
    for level, width in enumerate(widths):
        for place in range(layers):
            before = widths[max(0, level - 1)] if place == 0 else width
            yield from _resnet(f"{name}.{level}.resnets.{place}", before, width)
        if level < len(widths) - 1:
            yield from _convolution(f"{name}.{level}.{sampler}.0.conv", width, width)


def _middle(side: str, width: int) -> Wanted:
    for place in (0, 1):
        yield from _resnet(f"{side}.mid_block.resnets.{place}", width, width)
    yield from _norm(f"{side}.mid_block.attentions.0.group_norm", width)
    for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from _linear(f"{side}.mid_block.attentions.0.{leaf}", width, width)


def _resnet(name: str, inputs: int, outputs: int) -> Wanted:
    yield from _norm(f"{name}.norm1", inputs)
    yield from _convolution(f"{name}.conv1", inputs, outputs)
    yield from _norm(f"{name}.norm2", outputs)
    yield from _convolution(f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from _convolution(f"{name}.conv_shortcut", inputs, outputs, side=1)


def original_unet(shape: UNetShape) -> Wanted:
    """unet_tensors under the names of a single file, below its prefix."""
    ups = ("CrossAttnUpBlock2D" if blocks else "UpBlock2D" for blocks in reversed(shape.transformers))
    config = {"layers_per_block": shape.layers_per_block, "up_block_types": tuple(ups)}
    return ((unet_origin(name, config), wanted) for name, wanted in unet_tensors(shape))


def original_vae(shape: VaeShape) -> Wanted:
    """vae_tensors under the names of a single file, below its prefix."""
    return ((vae_origin(name, len(shape.channels)), wanted) for name, wanted in vae_tensors(shape))


def lacking(wanted: Wanted, held: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Which tensors are missing, and which hold another count of numbers. held: name -> numbers.

    Counts alone are compared: a 1x1 convolution may stand for a linear layer and the other way round.
    """
    missing, other = [], []
    for name, shape in wanted:
        if name not in held:
            missing.append(name)
        elif shape is not None and held[name] != math.prod(shape):
            other.append(name)
    return missing, other
