"""Florence-2: captions of three lengths, chosen by a task's name. The versions for transformers itself only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kohyakit.captioning.loaded import load

if TYPE_CHECKING:
    from PIL.Image import Image

REPOSITORY = "florence-community/Florence-2-large"
TASKS = {"short": "<CAPTION>", "long": "<DETAILED_CAPTION>", "longest": "<MORE_DETAILED_CAPTION>"}


class Florence:
    """prompt: short, long or longest, or a task of a fine-tune in angle brackets."""

    def __init__(
        self, name: str, *, place: str | None = None, prompt: str = "longest", max_tokens: int = 256, beams: int = 3,
        batch_size: int = 4, download: bool = False, device: str = "auto",
    ) -> None:  # fmt: skip
        self._loaded = load(place, REPOSITORY, download=download, device=device, kinds=("florence2",))
        self._task = TASKS.get(prompt or "longest", prompt)
        self._settings = {"max_new_tokens": max_tokens, "num_beams": beams, "do_sample": False}
        self.batch_size = batch_size
        self.about = f"{name} ({self._loaded.folder.name}) on {self._loaded.where}"

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        processor = self._loaded.processor
        inputs = processor(text=[self._task] * len(pictures), images=list(pictures), return_tensors="pt", padding=True)
        ids = self._loaded.generate(inputs, **self._settings)
        return [said.strip() for said in processor.batch_decode(ids, skip_special_tokens=True)]
