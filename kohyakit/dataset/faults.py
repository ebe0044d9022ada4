"""What is wrong with folders, images and captions: the rules that check, audit and dashboard share, each written once.

`where` is the path as it is, for the caller to show. check says one sentence for all files of a kind, the audit one a
file; what a fault is called and how bad it is stands here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from kohyakit.dataset.captions.caption import EMPTY, UNREADABLE, has_words
from kohyakit.dataset.walk import Folder
from kohyakit.errors import Problem

# Faults of single files, after which a training stops.
IMAGE_FAULTS = frozenset((
    "undecodable", "damaged", "too_many_pixels", "unreadable", "not_a_file", "unsupported", "no_bucket",
))  # fmt: skip
CAPTION_FAULTS = frozenset(("empty_caption", "caption_not_utf8", "caption_unreadable"))

# Enlargement from which a picture is too small for a resolution, and from which that spoils it.
SMALL, SEVERE = 1.05, 1.5

_COUNT = re.compile(r"\s*([1-9]\d{0,2})[\s.x×-]*(?=[^\d\s])(.*)")


def with_repeats(name: str) -> str:
    """What a folder without a readable repeat count should be called: a number that stands there already is kept."""
    match = _COUNT.fullmatch(name)
    if match:
        return f"{match[1]}_{match[2].strip(' _-')}"
    return f"10_{name.strip(' _-') or 'subject'}"


def of_folder(folder: Folder, *, odd_case: bool = True) -> Iterator[Problem]:
    """What is wrong with a folder that a training is given, by its role. odd_case: see images.takes."""
    if folder.fault:
        what = f"the folder cannot be read ({folder.fault})"
        yield Problem(folder.path, what, "allow reading it, or take it away", "unreadable_folder")
        return
    count = len(folder.taken(odd_case=odd_case))
    if not folder.trained:
        if count:
            yield _not_trained(folder, f"{count} image{'' if count == 1 else 's'}")
        return
    if not count:
        yield Problem(
            folder.path, "there is no image directly in it that a training reads, so it is ignored",
            "put photos in (png, jpg, jpeg, webp, bmp), or remove the folder", "empty_subset", "warning",
        )  # fmt: skip


def _not_trained(folder: Folder, images: str) -> Problem:
    """Images in a place where no training looks."""
    if folder.role == "outside":
        cure = f"rename it to {with_repeats(os.path.basename(folder.path))} (repeats, underscore, subject)"
        what = f"the folder name has no repeat count: {images} not trained"
        return Problem(folder.path, what, cure, "no_repeat_count", "warning")
    if folder.role == "nested":
        what = f"{images} in a folder inside a subset folder: not trained"
        return Problem(folder.path, what, "move them up into the subset folder", "nested_in_subset", "warning")
    what = f"{images} beside the subset folders: not trained"
    return Problem(folder.path, what, "move them into a folder such as 10_subject", "images_beside_subsets", "warning")


_IMAGE_CURES = {
    "undecodable": "get it anew; kohyakit repair moves it out of the way",
    "damaged": "look at it and get it anew; kohyakit repair moves it out of the way",
    "too_many_pixels": "shrink it",
    "unreadable": "make it readable, or leave it out",
    "not_a_file": "move it out of the folder",
    "unsupported": "convert it to JPEG or PNG; kohyakit repair does where it can be read",
}


def of_image(path: str, fault: str, what: str, severity: str = "error") -> Problem:
    """What a look into an image gave. fault: as decode.Verdict and BadImage call it."""
    cure = _IMAGE_CURES.get(fault, "look at it")
    if fault == "damaged" and severity == "warning":
        cure = "look at it: this is a guess from the picture; get it anew if it is spoiled"
    elif severity == "hint":
        cure = "nothing: the picture is whole"
    return Problem(path, what, cure, fault, severity)


def before_training(problem: Problem) -> Problem:
    """The same where a training waits for its image."""
    cure = "" if problem.severity == "hint" else "replace it, or leave it out with --skip-bad-images"
    return replace(problem, cure=cure)


def no_repeats(path: str, repeats: int) -> Problem:
    what = f"its repeats are {repeats}, so the folder is ignored"
    cure = "write 1 or more: in front of the underscore, or as num_repeats"
    return Problem(path, what, cure, "no_repeats", "warning")


def no_subject(path: str) -> Problem:
    what = "the name ends after the repeat count, so pictures without captions are trained without words"
    return Problem(path, what, "write what it shows, such as 10_sks dog", "no_subject", "hint")


def of_caption(path: str, fault: str) -> Problem:
    """What a BadCaption's text says of the file. sd-scripts stops at such a caption, or trains other signs."""
    what, _, cure = fault.partition("; ")
    if what.startswith(EMPTY):
        return Problem(path, what, cure, "empty_caption")
    if what.startswith(UNREADABLE):
        return Problem(path, what, cure or "make it readable", "caption_unreadable")
    return Problem(path, what, cure, "caption_not_utf8")


def of_text(path: str, text: str, *, all_lines: bool = False) -> Problem | None:
    """A caption that says nothing. all_lines: with wildcards every line counts, else only the first is trained."""
    first, _, rest = text.partition("\n")
    if has_words(text if all_lines else first):
        return None
    if has_words(rest):
        what, cure = "its first line says nothing, and only the first line is trained", "move the caption up"
    elif not text.strip():
        what, cure = "it holds only blanks, so the image is trained with no caption", "write one, or delete the file"
    else:
        seen = any(map(str.isprintable, text.strip()))
        what = f"it holds no words, only {'separators or dots' if seen else 'signs that cannot be seen'}"
        cure = "write one, or delete the file"
    return Problem(path, what, cure, "empty_caption", "warning")


def missing_caption(class_tokens: str | None, *, others: bool) -> tuple[str, str]:
    """(severity, what is trained) of an image without a caption. others: some of its folder have one.

    Where none has, the folder's name is meant to be the caption.
    """
    instead = f"trained with the caption '{class_tokens}'" if class_tokens else "trained with no caption at all"
    return ("warning" if others or not class_tokens else "hint"), instead


def too_small(factor: float, *, enlarged: bool, small: float = SMALL, severe: float = SEVERE) -> str | None:
    """How bad it is that the resolution is `factor` times as large as a picture, by area; None where it is not.

    enlarged: whether it is scaled up, which blurs, or trained in a bucket of its own size.
    """
    if factor <= small:
        return None
    return "warning" if enlarged and factor > severe else "hint"


def enlargement(size: tuple[float, float], resolution: tuple[int, int]) -> float:
    """How many times as large as a picture the resolution is, by area, as buckets count."""
    return (resolution[0] * resolution[1] / (size[0] * size[1])) ** 0.5
