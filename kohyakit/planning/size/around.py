"""The modules around a layer, as sd-scripts' own models have them; without torch."""

from __future__ import annotations

from collections.abc import Iterator

# Class of each module in a list of this name, and of a module of this name.
_NUMBERED = {
    "attentions": "Transformer2DModel", "transformer_blocks": "BasicTransformerBlock", "resnets": "ResnetBlock2D",
    "downsamplers": "Downsample2D", "upsamplers": "Upsample2D", "net": "GEGLU", "layers": "CLIPEncoderLayer",
}  # fmt: skip
_SINGLE = {
    "attn1": "CrossAttention", "attn2": "CrossAttention", "ff": "FeedForward", "self_attn": "CLIPAttention",
    "mlp": "CLIPMLP", "mid_block": "UNetMidBlock2DCrossAttn", "text_model": "CLIPTextTransformer",
    "encoder": "CLIPEncoder",
}  # fmt: skip
_DEPTH = {"input_blocks": 3, "output_blocks": 3, "middle_block": 2}  # where SDXL's original names have the same blocks


def around(path: str, name: str, own: str) -> Iterator[tuple[str, str]]:
    """(name, class) of each module around a layer, the outermost first, and of the layer itself.

    path: the layer's name in sd-scripts' model. name: in diffusers' terms. own: its class.
    """
    words = path.split(".")
    depth = _DEPTH.get(words[0], 0)
    for end in range(max(1, depth), len(words)):
        outer, word = ".".join(words[:end]), words[end - 1]
        if end == depth:
            yield outer, next(_NUMBERED[word] for word in name.split(".") if word in _NUMBERED)
        elif word.isdigit() and words[end - 2] in _NUMBERED:
            yield outer, _NUMBERED[words[end - 2]]
        elif word in _SINGLE:
            yield outer, _SINGLE[word]
    yield path, own
