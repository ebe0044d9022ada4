"""What the weights of a part of a diffusers folder are called, the better form first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_STEMS = {"text_encoder": "model", "text_encoder_2": "model"}
_OTHER = "diffusion_pytorch_model"
_ENDINGS = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")


class Form(NamedTuple):
    """A file that may lie in a part's folder. is_index: it names the files that hold the weights, in shards."""

    name: str
    is_index: bool = False


def stem(part: str) -> str:
    """What a part's weight file is called, without its ending."""
    return _STEMS.get(part, _OTHER)


def forms(part: str) -> Iterator[Form]:
    """Safetensors before pickles, full before half precision, whole before shards."""
    own = stem(part)
    names = (own, "pytorch_model") if own == "model" else (own,)
    for ending in _ENDINGS:
        yield from (Form(f"{name}{ending}") for name in names)
        yield Form(f"{own}{ending}.index.json", is_index=True)
