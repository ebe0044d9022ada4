"""Everything that an audit saw: what the checks judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kohyakit.audit.alike.likeness import SIDE
from kohyakit.audit.look.facts import FACTS, Opened
from kohyakit.audit.report import caption_statistics as caption_facts
from kohyakit.audit.resolution import placements
from kohyakit.audit.settings import AuditSettings
from kohyakit.dataset.captions.pairing import Pairing
from kohyakit.dataset.walk import Folder, Tree

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 4096
# As stored and as shown; the trainer's view is trained_width and trained_height (EXIF applied, or not).
_NUMBERS = ("bits", "width", "height", "frames", "file_size", "tokens")
_TEXTS = (
    "mode", "icc", "icc_name", "extension_wanted", "taken", "digest", "verdict", "verdict_severity", "verdict_detail",
    "caption_fault",
)  # fmt: skip
_FLAGS = {"alpha": False, "animated": False, "extension_ok": True}


@dataclass(frozen=True)
class Survey:
    """images: one row a file, in the order of the walk (see docs/audit.md for the columns). captions: see
    caption_statistics.caption_frame. sketches: uint8 [n, 32, 32], a row an image, zeros where nothing decoded (None
    when quick). close: a closer look at those that are drawn, by row, see drawings.
    """

    tree: Tree
    pairing: Pairing
    settings: AuditSettings
    images: pd.DataFrame
    captions: pd.DataFrame
    sketches: np.ndarray | None
    close: Mapping[int, bytes] = field(default_factory=dict)

    def limit(self, name: str) -> float:
        """A threshold's value."""
        return self.settings.thresholds[name]

    @property
    def trained(self) -> pd.DataFrame:
        """The images of subsets, as far as they can be read."""
        return self.images[(self.images["repeats"] > 0) & (self.images["verdict_severity"] != "error")]

    def subset_folders(self) -> list[Folder]:
        return [
            folder for folder in self.tree.folders if folder.trained and (folder.images or self.tree.kind != "free")
        ]


class Rows:
    """Collects what workers found, in compact chunks, so that memory stays flat."""

    def __init__(self, total: int, score_names: Iterable[str], quick: bool) -> None:
        self._scores = tuple(score_names)
        self._columns = ("number", *FACTS, *self._scores)
        self._pending: list[tuple[Any, ...]] = []
        self._chunks: list[pd.DataFrame] = []
        self.sketches = None if quick else np.zeros((total, SIDE * SIDE), np.uint8)
        self.close: dict[int, bytes] = {}

    def add(self, opened: Opened) -> None:
        scores = (opened.scores.get(name, np.nan) for name in self._scores)
        self._pending.append((opened.number, *opened.facts, *scores))
        if opened.sketch and self.sketches is not None:
            self.sketches[opened.number] = np.frombuffer(opened.sketch, np.uint8)
            if opened.close:
                self.close[opened.number] = opened.close
        if len(self._pending) >= _CHUNK:
            self._pack()

    def _pack(self) -> None:
        import pandas as pd

        frame = pd.DataFrame.from_records(self._pending, columns=list(self._columns))
        for name in _NUMBERS:
            if name in frame:
                frame[name] = frame[name].astype("Int64")
        for name, default in _FLAGS.items():
            frame[name] = frame[name].map(lambda value, d=default: d if value is None else bool(value)).astype(bool)
        for name in self._scores:
            frame[name] = frame[name].astype("float32")
        for name in _TEXTS:
            frame[name] = frame[name].fillna("").astype(str)
        frame["bits"] = frame["bits"].fillna(0)
        frame["orientation"] = frame["orientation"].fillna(1).astype("int8")
        self._chunks.append(frame)
        self._pending = []

    def frame(self) -> pd.DataFrame:
        """All rows in the order of their numbers."""
        import pandas as pd

        if self._pending or not self._chunks:
            self._pack()
        whole = pd.concat(self._chunks, ignore_index=True).sort_values("number", ignore_index=True)
        self._chunks = []
        return whole.drop(columns="number")


def make_survey(tree: Tree, pairing: Pairing, settings: AuditSettings, rows: Rows) -> Survey:
    """Join what the walk knows with what the openings found, and place every picture in its bucket."""
    import pandas as pd

    found = rows.frame()
    sketches = None if rows.sketches is None else rows.sketches.reshape(-1, SIDE, SIDE)
    images = pd.concat([_places(tree, pairing), found], axis=1)
    turned = images["orientation"] >= 5
    for side, other in (("width", "height"), ("height", "width")):
        images[f"shown_{side}"] = images[side].where(~turned, images[other])
        images[f"trained_{side}"] = images[f"shown_{side}"] if settings.upright else images[side]
    usable = images["verdict_severity"] != "error"
    sizes = images.loc[usable, ["trained_width", "trained_height"]].set_axis(["width", "height"], axis=1)
    images = images.join(placements(sizes, settings.buckets).reindex(images.index))
    images["tokens"] = pd.array(caption_facts.count_tokens_of(_plain(images["caption"])), dtype="Int64")
    images = images[_order(images.columns)]
    return Survey(tree, pairing, settings, images, caption_facts.caption_frame(images), sketches, rows.close)


def _plain(texts: pd.Series) -> list[str | None]:
    return [text if isinstance(text, str) else None for text in texts]


def _places(tree: Tree, pairing: Pairing) -> pd.DataFrame:
    """path, subset, repeats, is_reg, caption_path of every image, in the order of the walk."""
    import os

    import pandas as pd

    rows = [
        (
            printable(os.path.join(folder.path, name)),
            printable(folder.relative.replace(os.sep, "/")) or ".",
            folder.repeats if folder.trained else 0,
            folder.is_reg,
            printable(caption),
        )
        for folder, captions in zip(tree.folders, pairing.captions, strict=True)
        for name, caption in zip(folder.images, captions, strict=True)
    ]
    return pd.DataFrame(rows, columns=["path", "subset", "repeats", "is_reg", "caption_path"])


def printable(path: str) -> str:
    """A path as valid Unicode: bytes that are none (old disks, other systems) stand as escapes."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return path


_FIRST = (
    "path", "subset", "repeats", "is_reg", "format", "mode", "bits", "width", "height", "orientation",
    "shown_width", "shown_height", "trained_width", "trained_height", "bucket", "scale", "cropped",
    "cut_left", "cut_top", "cut_right", "cut_bottom",
)  # fmt: skip


def _order(columns: Iterable[str]) -> list[str]:
    return [*_FIRST, *(name for name in columns if name not in _FIRST)]
