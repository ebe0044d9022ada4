"""Which caption belongs to which image, and which captions belong to none."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from kohyakit.audit.look.tree import CAPTION_EXTENSIONS, Folder, Tree
from kohyakit.dataset.caption import caption_names, misspelt


@dataclass(frozen=True)
class Pairing:
    """extension: of the captions that count. captions: per folder, a path ("" where there is none) per image.

    elsewhere: image path -> caption path with another extension, for images without one. misspelt: image path ->
    (caption path, why it is not read) for names that differ unseen. orphans: caption paths without an image.
    """

    extension: str
    captions: tuple[tuple[str, ...], ...]
    elsewhere: dict[str, str]
    misspelt: dict[str, tuple[str, str]]
    orphans: tuple[str, ...]


def pair(tree: Tree, extension: str | None = None) -> Pairing:
    """Pair every image with its caption. extension: None takes the one that most images have."""
    chosen = _with_dot(extension) if extension else _commonest(tree)
    captions, elsewhere, odd, orphans = [], {}, {}, []
    for folder in tree.folders:
        texts, used, others = set(folder.texts), set(), set()
        found = []
        for image in folder.images:
            name = next((n for n in caption_names(image, chosen) if n in texts), "")
            used.add(name)
            found.append(os.path.join(folder.path, name) if name else "")
            other = _other(image, folder, texts)
            others.update(other)
            if not name and other:
                elsewhere[os.path.join(folder.path, image)] = os.path.join(folder.path, other[0])
        used |= others
        for image, (name, why) in misspelt(folder.images, texts - others, chosen).items():
            used.add(name)
            odd[os.path.join(folder.path, image)] = (os.path.join(folder.path, name), why)
        captions.append(tuple(found))
        if folder.images or folder.trained:
            orphans.extend(os.path.join(folder.path, text) for text in folder.texts if text not in used)
    return Pairing(chosen, tuple(captions), elsewhere, odd, tuple(orphans))


def _with_dot(extension: str) -> str:
    return extension if extension.startswith(".") else "." + extension


def _commonest(tree: Tree) -> str:
    counts: Counter[str] = Counter()
    for folder in tree.folders:
        stems = {os.path.splitext(image)[0] for image in folder.images}
        for text in folder.texts:
            stem, extension = os.path.splitext(text)
            if stem in stems and extension in CAPTION_EXTENSIONS:
                counts[extension] += 1
    return max(CAPTION_EXTENSIONS, key=lambda extension: counts[extension])


def _other(image: str, folder: Folder, texts: set[str]) -> list[str]:
    """Captions of this image under another name: another extension, its case, or behind the image's own."""
    if not texts:
        return []
    stem = os.path.splitext(image)[0]
    spellings = [s + e for e in CAPTION_EXTENSIONS for s in (stem, image)]
    spellings += [s + e.upper() for e in CAPTION_EXTENSIONS[:2] for s in (stem, image)]
    return [name for name in spellings if name in texts]
