"""Taggers: an ONNX file that gives a probability to each of thousands of tags, and the list of the tags.

WD v3 (SmilingWolf): 448 px, BGR, 0 to 255, rows first; PixAI and CL: RGB or BGR, -1 to 1, channels first, and what
they give is not yet between 0 and 1. Each has its entry below. Source: the models' own cards; sd-scripts 0.10.1.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.captioning.place import find
from kohyakit.dataset.captions.compose import spelt as as_written
from kohyakit.errors import ConfigError, MissingExtra, Problem

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Kind:
    """How a tagger wants its pictures and how it answers.

    bgr: blue first. channels_first: [3, S, S] instead of [S, S, 3]. signed: -1 to 1 instead of 0 to 255.
    logits: a sigmoid is still to be applied. model, tags: names of the files.
    """

    repository: str
    bgr: bool = True
    channels_first: bool = False
    signed: bool = False
    logits: bool = False
    model: str = "model.onnx"
    tags: str = "selected_tags.csv"
    general: float = 0.35
    character: float = 0.85
    most: int = 0


KINDS: dict[str, Kind] = {
    "wd-eva02": Kind("SmilingWolf/wd-eva02-large-tagger-v3"),
    "wd-vit-large": Kind("SmilingWolf/wd-vit-large-tagger-v3"),
    "wd-swinv2": Kind("SmilingWolf/wd-swinv2-tagger-v3"),
    "wd-convnext": Kind("SmilingWolf/wd-convnext-tagger-v3"),
    "wd-vit": Kind("SmilingWolf/wd-vit-tagger-v3"),
    "pixai": Kind(
        "deepghs/pixai-tagger-v0.9-onnx", bgr=False, channels_first=True, signed=True, logits=True,
        general=0.30, character=0.75, most=128,
    ),
    "cl": Kind(
        "cella110n/cl_tagger", channels_first=True, signed=True, logits=True, model="model_optimized.onnx",
        tags="tag_mapping.json", general=0.55, character=0.60,
    ),
}  # fmt: skip

_CATEGORIES = {"0": "general", "4": "character", "9": "rating", "1": "artist", "3": "copyright", "5": "meta"}
RATING, CHARACTER = "rating", "character"


@dataclass(frozen=True, slots=True)
class TagRules:
    """Which tags are written. None takes the tagger's own threshold.

    rating: "", "first" or "last", whether the rating is written and where. characters_first: before all others.
    undesired: never written. replacements: old -> new. categories: beyond general and character.
    """

    general_threshold: float | None = None
    character_threshold: float | None = None
    rating: str = ""
    characters_first: bool = False
    keep_underscores: bool = False
    undesired: frozenset[str] = frozenset()
    replacements: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[str, ...] = ("general", "character")


@dataclass(frozen=True, slots=True)
class Tag:
    name: str
    category: str


def read_tags(path: Path) -> tuple[Tag, ...]:
    """The tags of a model in the order of its answers. Raises ConfigError for a list that is none."""
    try:
        text = path.read_text(encoding="utf-8")
        tags = _from_json(text) if path.suffix == ".json" else _from_csv(text)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        what = f"is no list of tags ({error})"
        raise ConfigError(Problem(str(path), what, "fetch the tagger's files again", "tags_unreadable")) from error
    if not tags:
        raise ConfigError(Problem(str(path), "lists no tags", "fetch the tagger's files again", "tags_unreadable"))
    return tags


def _from_csv(text: str) -> tuple[Tag, ...]:
    rows = csv.DictReader(text.splitlines())
    return tuple(Tag(row["name"], _CATEGORIES.get(row["category"], row["category"])) for row in rows)


def _from_json(text: str) -> tuple[Tag, ...]:
    found = {int(number): entry for number, entry in json.loads(text).items()}
    return tuple(Tag(found[i]["tag"], str(found[i]["category"]).lower()) for i in range(len(found)))


def prepare(picture: Image, size: int, kind: Kind) -> np.ndarray:
    """A picture as the model wants it: on a white square, `size` pixels wide, float32 in the model's layout."""
    import numpy as np
    from PIL import Image as Pillow

    side = max(picture.size)
    square = Pillow.new("RGB", (side, side), (255, 255, 255))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    if side != size:
        square = square.resize((size, size), Pillow.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.float32)
    if kind.bgr:
        pixels = pixels[:, :, ::-1]
    if kind.signed:
        pixels = pixels / 127.5 - 1.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if kind.channels_first else pixels)


def chosen(scores: Sequence[float], tags: Sequence[Tag], kind: Kind, rules: TagRules) -> list[str]:
    """The tags that are written, in the order of their score within their category.

    Raises ConfigError where the model answers for another number of tags than the list has.
    """
    if len(scores) != len(tags):
        what = f"gives {len(scores)} scores, but the list has {len(tags)} tags"
        raise ConfigError(Problem(kind.model, what, f"take {kind.tags} from where the model comes from", "tags_differ"))
    ratings: list[tuple[float, str]] = []
    others: dict[str, list[tuple[float, str]]] = {}
    for score, tag in zip(scores, tags, strict=True):
        score = float(score)
        if tag.category == RATING:
            ratings.append((score, tag.name))
        elif tag.category in rules.categories and score >= _threshold(tag.category, kind, rules):
            others.setdefault(tag.category, []).append((score, tag.name))
    order = sorted(others, key=lambda category: (category == CHARACTER) != rules.characters_first)
    names = [name for category in order for _, name in sorted(others[category], key=lambda pair: -pair[0])]
    names = names[: kind.most] if kind.most else names
    if rules.rating and ratings:
        best = max(ratings)[1]
        names = [best, *names] if rules.rating == "first" else [*names, best]
    return _written(names, rules)


def _threshold(category: str, kind: Kind, rules: TagRules) -> float:
    if category == CHARACTER:
        return kind.character if rules.character_threshold is None else rules.character_threshold
    return kind.general if rules.general_threshold is None else rules.general_threshold


def _written(names: Sequence[str], rules: TagRules) -> list[str]:
    spelt = [name if rules.keep_underscores else as_written(name) for name in names]
    unwanted = {name.lower() for name in rules.undesired} | {name.lower().replace("_", " ") for name in rules.undesired}
    return [rules.replacements.get(name, name) for name in spelt if name.lower() not in unwanted]


class Tagger:
    """A tagger that runs in onnxruntime."""

    def __init__(
        self, name: str, *, place: str | None = None, rules: TagRules | None = None, batch_size: int = 8,
        download: bool = False, device: str = "auto",
    ) -> None:  # fmt: skip
        """name: of KINDS. place: a folder or hub name instead of the usual one. device: auto or cpu.

        Raises MissingExtra without onnxruntime, ConfigError for files that are missing or do not fit.
        """
        self.kind = KINDS[name]
        self.rules = rules or TagRules()
        folder = find(
            place or self.kind.repository,
            given=bool(place),
            download=download,
            files=(f"*{self.kind.model}", f"*{self.kind.tags}"),
        )
        self._session = _session(_file(folder, self.kind.model), device)
        self.tags = read_tags(_file(folder, self.kind.tags))
        wanted = self._session.get_inputs()[0]
        self._input = wanted.name
        fixed = wanted.shape[0]
        self.batch_size = fixed if isinstance(fixed, int) and fixed > 0 else batch_size
        side = wanted.shape[2]
        self._size = side if isinstance(side, int) and side > 0 else 448
        self.about = f"{name} ({folder.name}) on {_provider(self._session)}"

    def scores(self, pictures: Sequence[Image]) -> np.ndarray:
        """The probability of every tag, [pictures, tags]."""
        import numpy as np

        batch = np.stack([prepare(picture, self._size, self.kind) for picture in pictures])
        missing = self.batch_size - len(batch)
        fixed = isinstance(self._session.get_inputs()[0].shape[0], int)
        if fixed and missing > 0:  # some exports take one number of pictures only
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        answers = self._answer(batch)[: len(pictures)]
        return 1.0 / (1.0 + np.exp(-answers)) if self.kind.logits else answers

    def _answer(self, batch: np.ndarray) -> Any:
        """The output with one number for each tag; some exports give features beside it."""
        outputs = self._session.run(None, {self._input: batch})
        fitting = [output for output in outputs if output.ndim == 2 and output.shape[1] == len(self.tags)]
        return fitting[-1] if fitting else outputs[0]

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        return [", ".join(chosen(row, self.tags, self.kind, self.rules)) for row in self.scores(pictures)]


def _file(folder: Path, name: str) -> Path:
    """A file of that name in a folder or one level below. Raises ConfigError."""
    found = [path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()]
    if not found:
        what = f"holds no {name}"
        raise ConfigError(
            Problem(str(folder), what, "fetch the tagger's files again, or give their folder", "model_missing")
        )
    return found[0]


def _session(path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingExtra("a tagger", "onnxruntime", "caption") from None
    there = onnxruntime.get_available_providers()
    fast = [
        name for name in ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider") if name in there
    ]
    wanted = [*([] if device == "cpu" else fast), "CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's own errors have no common class
        what = f"onnxruntime cannot open it ({str(error).splitlines()[0]})"
        raise ConfigError(Problem(str(path), what, "fetch the file again", "model_unreadable")) from error


def _provider(session: Any) -> str:
    """What computes, in words, and why it may be the slow one."""
    first = session.get_providers()[0].removesuffix("ExecutionProvider")
    if first == "CPU" and _twins():
        return "the CPU (onnxruntime and onnxruntime-gpu are both installed, and hide the GPU: keep one of them)"
    return {"CPU": "the CPU", "Dml": "the GPU (DirectML)"}.get(first, f"the GPU ({first})")


def _twins() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            version(name)
        except PackageNotFoundError:
            return False
    return True
