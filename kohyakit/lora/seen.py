"""A LoRA file as a program that loads it meets it: its layers' names, kinds and numbers, before any rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import is_sound, method_of
from kohyakit.planning.size.lora_names import split_name

_LAYER = r"encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])"
_TEXT = re.compile(rf"text_model\.{_LAYER}")
_LOOSE_TEXT = re.compile(_LAYER)
_INSIDE = (
    r"attentions\.\d\.(?:norm|proj_in|proj_out|transformer_blocks\.\d+\."
    r"(?:norm[123]|attn[12]\.(?:to_[qkv]|to_out\.0)|ff\.net\.(?:0\.proj|2)))"
    r"|resnets\.\d\.(?:norm[12]|conv[12]|time_emb_proj|conv_shortcut)"
)
_BLOCK = re.compile(rf"(?:(?:down|up)_blocks\.\d|mid_block)\.(?:{_INSIDE}|(?:down|up)samplers\.0\.conv)")
_ENDS = re.compile(
    r"conv_in|conv_out|conv_norm_out|(?:time|add)_embedding\.linear_[12]"
    r"|time_embed\.[02]|label_emb\.0\.[02]|input_blocks\.0\.0|out\.[02]"
)
_ORIGINAL = re.compile(r"(?:lora|oft)_unet_(?:input_blocks|middle_block|output_blocks)_")
_ADAPTER = "base_model.model."


@dataclass(frozen=True)
class Seen:
    """One layer. name: Kohya's, prefix and path its two halves (the U-Net's path as diffusers has it).

    stem, ending: as the file spells them where its names have dots. alpha_aside: alpha is not beside the tensors.
    """

    name: str
    prefix: str
    path: str
    method: str
    tensors: Mapping[str, Tensor]
    stem: str = ""
    ending: str = ""
    alpha_aside: bool = False

    @property
    def in_text(self) -> bool:
        return self.prefix.startswith("lora_te") and bool(_TEXT.fullmatch(self.path))

    @property
    def loose_text(self) -> bool:
        """A text encoder's layer without the level `text_model`, as LyCORIS names it under transformers 5."""
        return self.prefix.startswith("lora_te") and bool(_LOOSE_TEXT.fullmatch(self.path))

    @property
    def in_block(self) -> bool:
        """A layer of the U-Net's blocks, which networks.lora adapts too; norms are none."""
        return bool(_BLOCK.fullmatch(self.path)) and not re.search(r"norm[123]?$", self.path)

    @property
    def in_unet(self) -> bool:
        return bool(_BLOCK.fullmatch(self.path) or _ENDS.fullmatch(self.path))

    @property
    def original(self) -> bool:
        return bool(_ORIGINAL.match(self.name))

    @property
    def half(self) -> str:
        """The one matrix that is there where its partner is missing: up or down; "" for a whole pair."""
        up, down = ("lora_up.weight" in self.tensors, "lora_down.weight" in self.tensors)
        return "" if up == down else "up" if up else "down"

    @property
    def rank(self) -> int:
        down = self.tensors.get("lora_down.weight")
        return max(1, len(down)) if down is not None and down.ndim else 1

    @property
    def alpha(self) -> float:
        """Its own, or its rank where it has none."""
        alpha = self.tensors.get("alpha")
        return float(alpha) if alpha is not None and alpha.numel() == 1 else float(self.rank)

    @property
    def aside_scale(self) -> float:
        return self.alpha / self.rank

    @property
    def dora(self) -> str:
        """Which way DoRA's sizes lie: input, output, vector (peft's own name for them), or "" without any."""
        scale = self.tensors.get("dora_scale")
        if scale is None:
            return ""
        if self.stem:
            return "vector"
        return "output" if scale.ndim > 1 and scale.shape[0] > 1 else "input"

    @property
    def old_glora(self) -> bool:
        """Whether its matrices stand the other way round; of a layer as wide as it is deep only the rank tells."""
        a1, a2, b1, b2 = (self.tensors[f"{end}.weight"] for end in ("a1", "a2", "b1", "b2"))
        if b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]:
            return False
        return b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]

    @property
    def turns_beyond_alpha(self) -> bool:
        """Whether an OFT layer's turn is larger than its alpha, which is meant as a share of the layer's width."""
        blocks = self.tensors["oft_blocks"].float()
        return self.alpha > 0 and float((blocks - blocks.transpose(-1, -2)).norm()) > self.alpha


@dataclass(frozen=True)
class Whole:
    """A file. layout: kohya, dotted (diffusers' names of either age), adapter (PEFT's own). rest: names of no layer.

    untold: alpha over rank that the metadata tell, None where they do not.
    """

    layout: str
    family: str
    layers: tuple[Seen, ...]
    rest: tuple[str, ...]
    untold: float | None

    @cached_property
    def mixed(self) -> bool:
        """Whether original and diffusers' names of the U-Net's blocks stand side by side."""
        inner = [seen.original for seen in self.layers if seen.prefix == "lora_unet" and seen.in_block]
        return len(set(inner)) > 1

    @cached_property
    def deep(self) -> bool:
        """Three transformer blocks in a row are SDXL's alone."""
        found = (re.search(r"transformer_blocks_(\d+)_", seen.name) for seen in self.layers)
        return any(match and int(match[1]) >= 2 for match in found)

    @cached_property
    def _common(self) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for seen in self.layers:
            if "alpha" in seen.tensors:
                parts.setdefault(_part(seen), []).append(seen.alpha)
        return {part: Counter(alphas).most_common(1)[0][0] for part, alphas in parts.items()}

    def common_alpha(self, seen: Seen) -> float | None:
        """The commonest alpha of the layer's part of the model; None where no layer of it has one."""
        return self._common.get(_part(seen))

    def text_parts(self) -> dict[str, list[Seen]]:
        parts: dict[str, list[Seen]] = {}
        for seen in self.layers:
            if seen.prefix.startswith("lora_te"):
                parts.setdefault(_part(seen), []).append(seen)
        return parts

    def has_attention(self, seen: Seen) -> bool:
        """Whether all four projections of the layer's attention are there."""
        stem = seen.name.rpartition("self_attn_")[0]
        names = {other.name for other in self.layers}
        return all(f"{stem}self_attn_{side}_proj" in names for side in ("q", "k", "v", "out"))

    def invoke_width(self) -> int | None:
        """The width of the text states by the first layer that tells it, as InvokeAI looks for it."""
        one = two = None
        for seen in self.layers:
            if re.search(r"_attn2_to_[kv]$|time_emb_proj$", seen.name) and seen.prefix == "lora_unet":
                width = _told_width(seen)
            elif seen.prefix.startswith("lora_te") and "_self_attn_" in seen.name:
                own = _told_width(seen)
                one, two = (own, two) if seen.prefix == "lora_te1" else (one, own if seen.prefix == "lora_te2" else two)
                width = own if seen.prefix == "lora_te" else one + two if one and two else None
            else:
                continue
            if width is not None:
                return width
        return None


def _part(seen: Seen) -> str:
    """As diffusers calls it; lora_te and lora_te1 are one."""
    return {"lora_te": "text_encoder", "lora_te1": "text_encoder", "lora_te2": "text_encoder_2"}.get(
        seen.prefix, "unet"
    )


def _told_width(seen: Seen) -> int | None:
    tensors = seen.tensors
    if "time_emb_proj" in seen.name and "lora_down.weight" not in tensors:
        return None
    for ending in ("lora_down.weight", "hada_w1_b", "diff"):
        if ending in tensors:
            return tensors[ending].shape[1]
    if "lokr_w1" in tensors and "lokr_w2" in tensors:
        return tensors["lokr_w1"].shape[1] * tensors["lokr_w2"].shape[1]
    return len(tensors["weight"]) if "weight" in tensors and seen.prefix != "lora_unet" else None


def look(found: LoraFile, family: str) -> Whole:
    layers = tuple(_seen(name, tensors, found) for name, tensors in found.layers.items())
    return Whole(_layout(found), family, layers, tuple(found.rest), _untold(found.metadata))


def _layout(found: LoraFile) -> str:
    if found.layout == "kohya":
        return "kohya"
    adapter = any(stem.startswith(_ADAPTER) for stem, _ in found.spelled.values())
    return "adapter" if adapter or found.is_adapter else "dotted"


def _seen(name: str, tensors: Mapping[str, Tensor], found: LoraFile) -> Seen:
    prefix, path = split_name(name) or ("", "")
    method = method_of(tensors)
    kind = method.name if method and is_sound(tensors) else ""
    if kind == "oft" and any(tensors[end].ndim == 4 for end in ("oft_blocks", "oft_diag") if end in tensors):
        kind = "boft"
    stem, ending = found.spelled.get(name, ("", ""))
    return Seen(name, prefix, path, kind, tensors, stem, ending, name in found.alphas_aside)


def _untold(metadata: Mapping[str, str]) -> float | None:
    try:
        dim, alpha = float(metadata["ss_network_dim"]), float(metadata["ss_network_alpha"])
    except (KeyError, ValueError):
        return None
    return alpha / dim if dim > 0 else None
