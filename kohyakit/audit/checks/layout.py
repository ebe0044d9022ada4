"""Folders that a Kohya training passes over or stops at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue
from kohyakit.audit.look.tree import Folder
from kohyakit.dataset.folders import with_repeats
from kohyakit.dataset.images import EXTENSIONS

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    tree = survey.tree
    for folder in tree.folders:
        if folder.fault:
            yield Issue(
                folder.path, "unreadable_folder", "error", f"cannot be listed: {folder.fault}", "allow reading it"
            )
    if tree.kind != "free":
        for folder in tree.folders:
            yield from _kohya(folder)
        if not any(folder.trained and not folder.is_reg and folder.images for folder in tree.folders):
            yield Issue(
                str(tree.root),
                "no_images",
                "error",
                "no subset folder holds an image",
                "put photos into folders such as 10_subject",
            )
    elif not len(survey.images):
        yield Issue(
            str(tree.root), "no_images", "error", "there is no image in it", "name the folder that holds your photos"
        )


def _kohya(folder: Folder) -> Iterator[Issue]:
    count = f"{len(folder.images)} image{'' if len(folder.images) == 1 else 's'}"
    name = os.path.basename(folder.path)
    if folder.role == "parent" and folder.images:
        yield Issue(
            folder.path, "images_beside_subsets", "warning", f"not trained, because beside the subset folders: {count}",
            "move them into a folder such as 10_subject",
        )  # fmt: skip
    if folder.role == "outside" and folder.images:
        yield Issue(
            folder.path, "no_repeat_count", "warning", f"the name has no repeat count, so it is not trained ({count})",
            f"rename it to {with_repeats(name)} (repeats, underscore, subject)",
        )  # fmt: skip
    if folder.role == "nested" and folder.images:
        yield Issue(
            folder.path, "nested_in_subset", "warning", f"a folder inside a subset folder is not trained ({count})",
            "move them up into the subset folder",
        )  # fmt: skip
    if not folder.trained or folder.fault:
        return
    readable = any(os.path.splitext(image)[1].lower() in EXTENSIONS for image in folder.images)
    if not readable:
        yield Issue(
            folder.path, "empty_subset", "warning", "there is no image in it that a training reads",
            "put photos in (png, jpg, jpeg, webp, bmp), or remove the folder",
        )  # fmt: skip
    if folder.repeats < 1:
        yield Issue(folder.path, "no_repeats", "warning", "its repeat count is below 1, so it is not trained",
                    "write 1 or more in front of the underscore")  # fmt: skip
    if folder.class_tokens == "":
        yield Issue(folder.path, "no_subject", "hint", "the name ends after the repeat count, so pictures without "
                    "captions are trained without words", "write what it shows, such as 10_sks dog")  # fmt: skip


CHECK = Check(
    issues={
        "no_images": "no images",
        "unreadable_folder": "folder cannot be read",
        "no_repeat_count": "folder without a repeat count",
        "images_beside_subsets": "images beside the subset folders",
        "nested_in_subset": "images too deep in a subset folder",
        "empty_subset": "empty subset folder",
        "no_repeats": "repeat count below 1",
        "no_subject": "folder without a subject",
    },
    judge=judge,
    quick=True,
)
