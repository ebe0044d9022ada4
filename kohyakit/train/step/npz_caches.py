"""sd-scripts' own caches beside the images: NAME_0640x0480_sd.npz with latents, NAME_te_outputs.npz with text outputs.

sd-scripts trusts such a file by its name; here its shape must fit and it must be newer than what it was made from.
Which VAE, text encoders and caption settings made it no file says, so the first one of every folder is held against
what the model gives, and where the two differ none of that folder is used. Nothing in a file is unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.sizes import letterbox
from kohyakit.files import writing
from kohyakit.registry.families import group_of
from kohyakit.train.step.batches import TrainImage

_TEXT = ("hidden_state1", "hidden_state2", "pool2")
_DEVIATIONS = 8.0  # of the VAE's posterior, that no sample of it is away from its mean


def latents_path(image: TrainImage, family: str) -> Path:
    """Where sd-scripts keeps an image's latents."""
    width, height = image.record.size
    return image.record.path.with_name(f"{image.record.path.stem}_{width:04d}x{height:04d}_{group_of(family)}.npz")


def shareable(image: TrainImage) -> bool:
    """Whether sd-scripts would see the same pixels: it does not turn photos upright and needs buckets for its crops."""
    return image.bucketed and not (image.record.upright and image.record.orientation > 1)


def read_latents(image: TrainImage, family: str, *, flip: bool) -> Tensor | None:
    """The latents that sd-scripts kept of an image (unscaled, [4, h, w]) where they fit its bucket; else None."""
    path = latents_path(image, family)
    if not shareable(image) or not _newer(path, image.record.path):
        return None
    bucket = image.placement.bucket
    height, width = bucket.height // 8, bucket.width // 8
    name = "latents_flipped" if flip else "latents"
    found = _read(path, (name, f"{name}_{height}x{width}", "original_size", "crop_ltrb"))
    latents = found.get(f"{name}_{height}x{width}", found.get(name))
    size, crop = found.get("original_size"), found.get("crop_ltrb")
    if latents is None or tuple(latents.shape) != (4, height, width) or not torch.isfinite(latents).all():
        return None
    if size is not None and size.tolist() != list(image.record.size):
        return None
    fitted = torch.tensor(letterbox(image.record.size, bucket), dtype=torch.float64)
    if crop is not None and (crop.shape != fitted.shape or not torch.allclose(crop.double(), fitted)):
        return None
    return latents.float()


def read_mask(image: TrainImage, family: str, *, flip: bool) -> Tensor | None:
    """The mask that sd-scripts kept beside an image's latents, [H, W] of its bucket; None where none fits it."""
    bucket = image.placement.bucket
    height, width = bucket.height // 8, bucket.width // 8
    found = _read(latents_path(image, family), ("alpha_mask", f"alpha_mask_{height}x{width}"))
    mask = found.get(f"alpha_mask_{height}x{width}", found.get("alpha_mask"))
    if mask is None or tuple(mask.shape) != (bucket.height, bucket.width) or not ((mask >= 0) & (mask <= 1)).all():
        return None
    return mask.float().flip(1) if flip else mask.float()


def write_latents(
    image: TrainImage, family: str, latents: Tensor, flipped: Tensor | None, mask: Tensor | None = None
) -> None:
    """Keep latents, and the mask [H, W], as sd-scripts does, in place of a file of that name that did not fit."""
    arrays = {
        "latents": latents.float(),
        "original_size": torch.tensor(image.record.size),
        "crop_ltrb": torch.tensor(letterbox(image.record.size, image.placement.bucket), dtype=torch.float64),
    }
    if flipped is not None:
        arrays["latents_flipped"] = flipped.float()
    if mask is not None:
        arrays["alpha_mask"] = mask.float()
    _write(latents_path(image, family), arrays)


def is_sample_of(latents: Tensor, mean: Tensor, deviation: Tensor) -> bool:
    """Whether latents can be a sample of this posterior, all of the same shape."""
    away = (latents - mean.float()).abs()
    return bool((away <= _DEVIATIONS * deviation.float() + 0.05 * (1 + mean.float().abs())).all())


def text_path(record: ImageRecord) -> Path:
    """Where sd-scripts keeps the text outputs of an image's caption."""
    return record.path.with_name(f"{record.path.stem}_te_outputs.npz")


@dataclass(slots=True)
class SharedText:
    """The text outputs that sd-scripts kept of a training's captions, and those that it shall find.

    records: the images that have a caption. widths: of both encoders' states; tokens: how many states a caption has.
    write: whether what is missing or does not fit is written.
    """

    records: Mapping[str, Sequence[ImageRecord]]
    widths: tuple[int, int]
    tokens: int
    write: bool
    say: Callable[[str], None]
    _folders: dict[Path, bool] = field(default_factory=dict)

    def find(self, caption: str, encode: Callable[[str], Mapping[str, Tensor]]) -> dict[str, Tensor] | None:
        """What is kept of a caption, if it is still true. Emphasis and wildcards depend on settings: not looked for."""
        if any(sign in caption for sign in "([{"):
            return None
        for record in self.records.get(caption, ()):
            folder = record.path.parent
            if self._folders.get(folder) is False:
                continue
            found = read_text(record, self.widths, self.tokens)
            if found is None:
                continue
            if folder not in self._folders:
                true = encode(caption)
                self._folders[folder] = all(_near(found[name], true[name]) for name in ("states", "pooled"))
                if not self._folders[folder]:
                    self.say(OTHER.format("text outputs", folder, "models or caption settings"))
                    continue
            return found
        return None

    def keep(self, caption: str, outputs: Mapping[str, Tensor]) -> None:
        """Write a caption's outputs for every image that has it."""
        for record in self.records.get(caption, ()) if self.write else ():
            write_text(record, outputs, self.widths[0])


OTHER = "warning: the {} that sd-scripts kept in {} are of other {}, so they are made anew"


def _near(theirs: Tensor, ours: Tensor) -> bool:
    return bool((theirs.float() - ours.float()).norm() <= 0.02 * ours.float().norm())


def read_text(record: ImageRecord, widths: Sequence[int], tokens: int) -> dict[str, Tensor] | None:
    """The states and the pooled state of an image's caption where length and widths fit; else None.

    widths: of both encoders' states. An image without a caption file has nothing that says when its caption changed.
    """
    path = text_path(record)
    if record.caption_path is None or not _newer(path, record.path, record.caption_path):
        return None
    found = _read(path, _TEXT)
    wanted = dict(zip(_TEXT, ((tokens, widths[0]), (tokens, widths[1]), (widths[1],)), strict=True))
    if any(name not in found or tuple(found[name].shape) != shape for name, shape in wanted.items()):
        return None
    states = torch.cat([found["hidden_state1"], found["hidden_state2"]], dim=-1)
    return {"states": states, "pooled": found["pool2"]} if torch.isfinite(states).all() else None


def write_text(record: ImageRecord, outputs: Mapping[str, Tensor], width: int) -> None:
    """Keep text outputs as sd-scripts does. width: of the first encoder's states."""
    states = outputs["states"].float()
    parts = (states[:, :width], states[:, width:], outputs["pooled"].float())
    _write(text_path(record), dict(zip(_TEXT, parts, strict=True)))


def _newer(path: Path, *sources: Path) -> bool:
    try:
        made = path.stat().st_mtime_ns
        return path.is_file() and all(source.stat().st_mtime_ns <= made for source in sources)
    except OSError:
        return False


def _read(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These arrays of a file, as far as it has them and as they are numbers; nothing of a damaged one."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in file.files}
            return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "fiu"}
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, MemoryError):
        return {}


def _write(path: Path, arrays: Mapping[str, Tensor]) -> None:
    import numpy as np

    with writing(path, sync=False) as file:
        kept: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        np.savez(file, **kept)
