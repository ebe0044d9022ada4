"""Chat models that see (Qwen-VL, LLaVA and so JoyCaption, SmolVLM …): a prompt of one's own, their own template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kohyakit.captioning.loaded import load
from kohyakit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image

REPOSITORIES = {
    "qwen-vl": "Qwen/Qwen3-VL-4B-Instruct",
    "joycaption": "fancyfeast/llama-joycaption-beta-one-hf-llava",
}
PROMPT = "Describe this picture in one plain sentence for someone who cannot see it. Name what is there, nothing else."


class Chat:
    """Any image-text chat model that transformers loads natively. system: what it is told before the picture."""

    def __init__(
        self, name: str, *, place: str | None = None, prompt: str = "", system: str = "", max_tokens: int = 256,
        batch_size: int = 1, download: bool = False, device: str = "auto",
    ) -> None:  # fmt: skip
        where = place or REPOSITORIES.get(name, "")
        if not where:
            raise ConfigError(Problem("--model", "is not given", "name the folder or the hub name of a chat model"))
        self._loaded = load(place, where, download=download, device=device)
        if not getattr(self._loaded.processor, "chat_template", None):
            what, cure = "has no chat template", "take a model that follows instructions (`Instruct`, `it`, `chat`)"
            raise ConfigError(Problem(str(self._loaded.folder), what, cure, "no_chat_template"))
        self._prompt, self._system = prompt or PROMPT, system
        self._settings = {"max_new_tokens": max_tokens, "do_sample": False}
        self.batch_size = batch_size
        self.about = f"{name} ({self._loaded.folder.name}) on {self._loaded.where}"

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        """One picture after the other within a batch where the processor cannot pad; the answers are the same."""
        processor = self._loaded.processor
        text = processor.apply_chat_template(self._conversation(), add_generation_prompt=True, tokenize=False)
        answers = []
        for picture in pictures:
            inputs = processor(text=[text], images=[picture], return_tensors="pt")
            ids = self._loaded.generate(inputs, **self._settings)
            fresh = ids[:, inputs["input_ids"].shape[1] :]
            answers += processor.batch_decode(fresh, skip_special_tokens=True)
        return answers

    def _conversation(self) -> list[dict[str, Any]]:
        asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self._prompt}]}
        if not self._system:
            return [asked]
        return [{"role": "system", "content": [{"type": "text", "text": self._system}]}, asked]
