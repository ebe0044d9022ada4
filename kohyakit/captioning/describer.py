"""BLIP, BLIP-2 and GIT: one plain sentence about a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kohyakit.captioning.loaded import load

if TYPE_CHECKING:
    from PIL.Image import Image

REPOSITORIES = {
    "blip": "Salesforce/blip-image-captioning-large",
    "blip2": "Salesforce/blip2-opt-2.7b",
    "git": "microsoft/git-large-coco",
}
_KINDS = {"blip": ("blip",), "blip2": ("blip-2",), "git": ("git",)}


class Describer:
    """prompt: words that the sentence begins with (`a photo of`); BLIP and GIT go on from there."""

    def __init__(
        self, name: str, *, place: str | None = None, prompt: str = "", max_tokens: int = 75, beams: int = 1,
        batch_size: int = 4, download: bool = False, device: str = "auto",
    ) -> None:  # fmt: skip
        self._loaded = load(place, REPOSITORIES[name], download=download, device=device, kinds=_KINDS[name])
        self._name, self._prompt = name, prompt
        self._settings = {"max_new_tokens": max_tokens, "num_beams": beams, "do_sample": False}
        self.batch_size = batch_size
        self.about = f"{name} ({self._loaded.folder.name}) on {self._loaded.where}"

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        processor = self._loaded.processor
        text = {"text": [self._prompt] * len(pictures)} if self._prompt else {}
        inputs = self._open_ended(processor(images=list(pictures), return_tensors="pt", **text))
        ids = self._loaded.generate(inputs, **self._settings)
        return [said.strip() for said in processor.batch_decode(ids, skip_special_tokens=True)]

    def _open_ended(self, inputs: Any) -> Any:
        """Without the end that the tokenizer puts behind a prompt, where GIT would see the sentence closed; BLIP takes
        it off by itself, BLIP-2 has none.
        """
        inputs.pop("token_type_ids", None)  # of BERT's tokenizer; no model here takes them
        if self._name == "git" and "input_ids" in inputs:
            for name in ("input_ids", "attention_mask"):
                inputs[name] = inputs[name][:, :-1]
        return inputs
