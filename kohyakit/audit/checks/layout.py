"""Folders that a Kohya training passes over or stops at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue
from kohyakit.dataset import faults
from kohyakit.errors import Problem

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Problem]:
    tree = survey.tree
    kohya = tree.kind != "free"
    for folder in tree.folders:
        if kohya or folder.fault:
            yield from faults.of_folder(folder)
        if kohya and folder.trained and not folder.fault:
            if folder.repeats < 1:
                yield faults.no_repeats(folder.path, folder.repeats)
            if folder.class_tokens == "":
                yield faults.no_subject(folder.path)
    if kohya and not any(folder.trained and not folder.is_reg and folder.images for folder in tree.folders):
        yield _no_images(survey, "no subset folder holds an image", "put photos into folders such as 10_subject")
    elif not kohya and not len(survey.images):
        yield _no_images(survey, "there is no image in it", "name the folder that holds your photos")


def _no_images(survey: Survey, what: str, cure: str) -> Issue:
    return Issue(str(survey.tree.root), "no_images", "error", what, cure)


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
