"""Which caption belongs to which image, and which captions belong to none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kohyakit.dataset.captions.caption import caption_names, misspelt
from kohyakit.dataset.walk import CAPTION_EXTENSIONS, Folder, Tree


@dataclass(frozen=True)
class Paired:
    """The images and captions of one folder, by name. captions: image -> the caption that counts, where there is one.

    elsewhere: image -> its caption under another name (another extension, its case, behind the image's own), for images
    without one that counts. misspelt: image -> (caption, why it is not read) for names that differ unseen.
    orphans: captions without an image.
    """

    captions: dict[str, str]
    elsewhere: dict[str, str]
    misspelt: dict[str, tuple[str, str]]
    orphans: tuple[str, ...]


def pair_folder(folder: Folder, extension: str) -> Paired:
    """Pair the images of a folder with their captions. extension: of those that count, with its dot."""
    files = set(folder.names).difference(folder.folders)
    captions: dict[str, str] = {}
    for image in folder.images:
        name = next((n for n in caption_names(image, extension) if n in files), "")
        if name:
            captions[image] = name
    free = set(folder.texts).difference(captions.values())
    others = {image: found for image in folder.images if (found := _other(image, free))} if free else {}
    known = {name for found in others.values() for name in found}
    odd = misspelt(folder.images, files - known, extension) if len(captions) < len(folder.images) else {}
    known |= {name for name, _ in odd.values()}
    elsewhere = {image: found[0] for image, found in others.items() if image not in captions}
    return Paired(captions, elsewhere, odd, tuple(text for text in folder.texts if text in free and text not in known))


@dataclass(frozen=True)
class Pairing:
    """extension: of the captions that count. captions: per folder, a path ("" where there is none) per image.

    elsewhere, misspelt, orphans: of all folders (see Paired), with paths for names.
    """

    extension: str
    captions: tuple[tuple[str, ...], ...]
    elsewhere: dict[str, str]
    misspelt: dict[str, tuple[str, str]]
    orphans: tuple[str, ...]


def pair(tree: Tree, extension: str | None = None) -> Pairing:
    """Pair every image with its caption. extension: None takes the one that most images have."""
    chosen = _with_dot(extension) if extension else commonest(tree.folders)
    captions: list[tuple[str, ...]] = []
    elsewhere: dict[str, str] = {}
    odd: dict[str, tuple[str, str]] = {}
    orphans: list[str] = []
    for folder in tree.folders:
        found = pair_folder(folder, chosen)

        def at(name: str, place: str = folder.path) -> str:
            return os.path.join(place, name)

        captions.append(tuple(at(found.captions[i]) if i in found.captions else "" for i in folder.images))
        elsewhere |= {at(image): at(name) for image, name in found.elsewhere.items()}
        odd |= {at(image): (at(name), why) for image, (name, why) in found.misspelt.items()}
        if folder.images or folder.trained:
            orphans.extend(map(at, found.orphans))
    return Pairing(chosen, tuple(captions), elsewhere, odd, tuple(orphans))


def commonest(folders: Iterable[Folder], among: Collection[str] = CAPTION_EXTENSIONS) -> str:
    """The extension that most images have a caption of; the first where none has any."""
    counts: Counter[str] = Counter()
    for folder in folders:
        stems = {os.path.splitext(image)[0] for image in folder.images}
        for text in folder.texts:
            stem, extension = os.path.splitext(text)
            if stem in stems and extension in among:
                counts[extension] += 1
    return max(among, key=lambda extension: counts[extension])


def _with_dot(extension: str) -> str:
    return extension if extension.startswith(".") else "." + extension


def _other(image: str, texts: set[str]) -> list[str]:
    """Captions of this image under another name: another extension, its case, or behind the image's own."""
    stem = os.path.splitext(image)[0]
    spellings = [s + e for e in CAPTION_EXTENSIONS for s in (stem, image)]
    spellings += [s + e.upper() for e in CAPTION_EXTENSIONS[:2] for s in (stem, image)]
    return [name for name in spellings if name in texts]
