"""Text encoder outputs: each caption encoded in every step, or once and kept in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kohyakit.files import in_place_of, is_link
from kohyakit.models.conditioning import Conditioning
from kohyakit.train.step.npz_caches import SharedText

CACHE_FOLDER = ".kohyakit_text"

Encode = Callable[[Sequence[str]], Conditioning]


class TextOutputs:
    """Every caption's states (and pooled state, where the family has one), encoded once and kept on the CPU.

    encode: captions -> their conditioning. mark: what the numbers depend on beside the caption (encoders, length,
    weights, precision); with the caption it names the file on disk, so that no stale one is ever used. shared: what
    sd-scripts keeps on disk, where that is looked at.
    """

    def __init__(self, encode: Encode, mark: str, shared: SharedText | None = None) -> None:
        self._encode = encode
        self._shared = shared
        self._mark = mark
        self._kept: dict[str, dict[str, Tensor]] = {}

    def fill(self, captions: Mapping[str, Path | None], batch_size: int, progress: Callable[[], None]) -> None:
        """Encode what is not kept yet, batch_size captions at a time; progress() after each.

        captions: to the folder that holds its file, or None.
        """
        missing = []
        for caption, folder in captions.items():
            found = self._found(caption, folder) if folder else None
            if found is None:
                missing.append(caption)
            else:
                self._kept[caption] = found
                progress()
        for start in range(0, len(missing), batch_size):
            part = missing[start : start + batch_size]
            self._add(part)
            for caption in part:
                if folder := captions[caption]:
                    self._write(caption, folder)
                progress()

    def _found(self, caption: str, folder: Path) -> dict[str, Tensor] | None:
        own = _read(self._path(caption, folder))
        if own is not None or self._shared is None:
            return own
        return self._shared.find(caption, self._one)

    def _one(self, caption: str) -> dict[str, Tensor]:
        self._add([caption])
        return self._kept[caption]

    def _write(self, caption: str, folder: Path) -> None:
        if self._shared is not None and self._shared.write:
            self._shared.keep(caption, self._kept[caption])
        else:
            _write(self._path(caption, folder), self._kept[caption])

    @torch.no_grad()
    def _add(self, captions: Sequence[str]) -> None:
        told = self._encode(captions)
        for i, caption in enumerate(captions):
            self._kept[caption] = {"states": told.states[i].cpu().clone()}
            if told.pooled is not None:
                self._kept[caption]["pooled"] = told.pooled[i].cpu().clone()

    def __call__(self, captions: Sequence[str], sizes: Tensor | None) -> Conditioning:
        """The conditioning of a batch. A caption that nobody foresaw is encoded now."""
        if unforeseen := [caption for caption in dict.fromkeys(captions) if caption not in self._kept]:
            self._add(unforeseen)
        rows = [self._kept[caption] for caption in captions]
        pooled = torch.stack([row["pooled"] for row in rows]) if "pooled" in rows[0] else None
        return Conditioning(torch.stack([row["states"] for row in rows]), pooled, sizes)

    def _path(self, caption: str, folder: Path) -> Path:
        name = hashlib.blake2b(f"{self._mark}\0{caption}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return folder / CACHE_FOLDER / f"{name}.safetensors"


def weights_mark(modules: Iterable[nn.Module]) -> str:
    """A short name that changes with any weight of the modules."""
    digest = hashlib.blake2b(digest_size=10)
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name}{float(tensor.double().sum())}".encode())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    """The kept outputs; None where there is no such file, or one that is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (SafetensorError, OSError):
        return None
    return found if "states" in found else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    if is_link(path.parent):
        return  # not our folder then; it costs time only
    path.parent.mkdir(exist_ok=True)
    with in_place_of(path) as fresh:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh)
