"""`N_name` folders below train_data_dir and reg_data_dir, and the ways people get them wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kohyakit.dataset.images import FolderListing, list_folder, shown
from kohyakit.errors import Problem


@dataclass(frozen=True, slots=True)
class SubsetFolder:
    """A folder whose name starts with a repeat count; `name` is what follows the first underscore."""

    path: Path
    repeats: int
    name: str


def parse_folder_name(name: str) -> tuple[int, str] | None:
    """`10_sks dog` -> (10, "sks dog"), as sd-scripts splits it; None where no whole number stands in front."""
    count, _, rest = name.partition("_")
    try:
        return int(count), rest
    except ValueError:
        return None


_COUNT = re.compile(r"\s*([1-9]\d{0,2})[\s.x×-]*(?=[^\d\s])(.*)")


def with_repeats(name: str) -> str:
    """What a folder without a readable repeat count should be called: a number that stands there already is kept."""
    match = _COUNT.fullmatch(name)
    if match:
        return f"{match[1]}_{match[2].strip(' _-')}"
    return f"10_{name.strip(' _-') or 'subject'}"


def subset_folders(base: str | None, option: str, problems: list[Problem]) -> list[SubsetFolder]:
    """The subset folders below `base`, by name. What is wrong with them is added to `problems`."""
    if not base:
        if option == "train_data_dir":
            problems.append(
                Problem(option, "it is not set", "name the folder that holds your 10_subject folders", "no_folder")
            )
        return []
    root = Path(base)
    listing = _list(root, option, problems)
    if listing is None:
        return []
    found, unnamed = [], []
    for folder in listing.folders:
        parsed = parse_folder_name(folder.name)
        if parsed:
            found.append(SubsetFolder(folder, *parsed))
        elif not folder.name.startswith("."):
            unnamed.append(folder)
    if found:
        problems.extend(_beside(root, listing, unnamed))
    else:
        problems.append(_why_none(root, option, listing, unnamed))
    return found


def _list(root: Path, option: str, problems: list[Problem]) -> FolderListing | None:
    try:
        return list_folder(root)
    except FileNotFoundError:
        what = "the folder does not exist"
        if not root.is_absolute():
            what += f" in {Path.cwd()}"
    except NotADirectoryError:
        what = "it is a file; a folder was wanted"
    except (OSError, ValueError) as error:
        what = f"the folder cannot be read ({getattr(error, 'strerror', None) or error})"
    problems.append(Problem(shown(root), what, f"correct {option}", "folder_missing"))
    return None


def _beside(root: Path, listing: FolderListing, unnamed: list[Path]) -> list[Problem]:
    """What lies beside good subset folders and is ignored."""
    problems = []
    if listing.images:
        problems.append(
            Problem(
                shown(root),
                f"{_images(len(listing.images))} beside the subset folders: not trained",
                "move them into a folder such as 10_subject",
                "images_beside_folders",
                "warning",
            )
        )
    for folder in unnamed:
        count = _count_images(folder)
        if count:
            problems.append(_no_repeat_count(folder, count, "warning"))
    return problems


def _no_repeat_count(folder: Path, count: int, severity: str) -> Problem:
    return Problem(
        shown(folder),
        f"the folder name has no repeat count: {_images(count)} not trained",
        f"rename it to {with_repeats(folder.name)} (repeats, underscore, subject)",
        "no_repeat_count",
        severity,
    )


def _why_none(root: Path, option: str, listing: FolderListing, unnamed: list[Path]) -> Problem:
    """The likeliest reason why no subset folder was found."""
    if listing.images and parse_folder_name(root.name):
        return Problem(
            shown(root),
            f"this is a subset folder itself, and {option} must be the folder that holds it",
            f"set {option} to {shown(root.parent)}",
            "parent_of_folders",
        )
    if listing.images:
        return Problem(
            shown(root),
            f"it holds {_images(len(listing.images))} directly, but {option} must hold folders such as 10_subject",
            f"move the images into {shown(root / '10_subject')} (repeats, underscore, subject)",
            "parent_of_folders",
        )
    for folder in unnamed:
        if any(parse_folder_name(inner.name) for inner in _folders_in(folder)):
            return Problem(
                shown(root),
                f"the subset folders lie one level deeper, in {folder.name}",
                f"set {option} to {shown(folder)}",
                "parent_of_folders",
            )
    for folder in unnamed:
        count = _count_images(folder)
        if count:
            return _no_repeat_count(folder, count, "error")
    severity = "error" if option == "train_data_dir" else "warning"
    what = "there are no folders such as 10_subject in it"
    return Problem(shown(root), what, "make one and put the images in", "no_images", severity)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _count_images(folder: Path) -> int:
    try:
        return len(list_folder(folder).images)
    except OSError:
        return 0


def _folders_in(folder: Path) -> tuple[Path, ...]:
    try:
        return list_folder(folder).folders
    except OSError:
        return ()
