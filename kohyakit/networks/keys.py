"""Which layers of a model Kohya's networks adapt, under which names, in which order."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from kohyakit.planning.size.lora import sdxl_name

TEXT_ENCODER_PREFIX = "lora_te"
UNET_PREFIX = "lora_unet"

_TRANSFORMER = ("Transformer2DModel",)
_CONVOLUTIONAL = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
_TEXT = ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP")

# sd-scripts' own U-Net registers a transformer block's parts as attn1, ff, attn2, and the mid block last.
_UNET_ORDER = {"down_blocks": 0, "up_blocks": 1, "mid_block": 2, "attn1": 0, "ff": 1, "attn2": 2}
_TEXT_ORDER = {"k_proj": 0, "v_proj": 1, "q_proj": 2, "out_proj": 3, "fc1": 0, "fc2": 1}


def text_encoder_layers(text_encoder: nn.Module, prefix: str = TEXT_ENCODER_PREFIX) -> Iterator[tuple[str, nn.Module]]:
    """(Kohya name, layer) of a CLIP text encoder: per layer k, v, q, out, fc1, fc2."""
    for path, layer in _layers(text_encoder, _TEXT, _TEXT_ORDER):
        path = path.removeprefix("text_model.")  # transformers before 5 nests the encoder, later ones do not
        yield _name(prefix, f"text_model.{path}"), layer


def unet_layers(unet: nn.Module, *, convolutions: bool, prefix: str = UNET_PREFIX) -> Iterator[tuple[str, nn.Module]]:
    """(Kohya name, layer) of a U-Net: every Linear and 1x1 convolution of its transformers.

    convolutions: also the 3x3 convolutions and the rest of the residual blocks and the down- and upsamplers.
    """
    for path, layer in _unet_paths(unet, convolutions):
        yield _name(prefix, path), layer


def _unet_paths(unet: nn.Module, convolutions: bool) -> Iterator[tuple[str, nn.Module]]:
    return _layers(unet, _TRANSFORMER + _CONVOLUTIONAL if convolutions else _TRANSFORMER, _UNET_ORDER)


def sdxl_unet_layers(unet: nn.Module, *, convolutions: bool) -> Iterator[tuple[str, nn.Module]]:
    """The same for Stable Diffusion XL, under the original U-Net's names and in its order: down, middle, up."""
    found = [(sdxl_name(path), layer) for path, layer in _unet_paths(unet, convolutions)]
    for path, layer in sorted(found, key=lambda one: _sdxl_place(one[0])):
        yield _name(UNET_PREFIX, path), layer


def _sdxl_place(path: str) -> tuple[int, tuple[int, ...]]:
    """Where a part stands in the original U-Net: its section, then the numbers of its block and of the part in it."""
    section, *rest = path.split(".")
    numbers = tuple(int(number) for number in rest[: 1 if section == "middle_block" else 2])
    return ("input_blocks", "middle_block", "output_blocks").index(section), numbers


def _name(prefix: str, path: str) -> str:
    return f"{prefix}.{path}".replace(".", "_")


def _layers(
    module: nn.Module, owners: tuple[str, ...], order: dict[str, int], path: str = "", *, owned: bool = False
) -> Iterator[tuple[str, nn.Module]]:
    if owned and isinstance(module, (nn.Linear, nn.Conv2d)):
        yield path, module
    owned = owned or type(module).__name__ in owners
    children = sorted(module.named_children(), key=lambda child: order.get(child[0], len(order)))
    # sorted is stable: siblings that the order does not name keep the order of their registration
    for name, child in children:
        yield from _layers(child, owners, order, f"{path}.{name}" if path else name, owned=owned)
