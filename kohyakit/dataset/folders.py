"""`N_name` folders below train_data_dir and reg_data_dir, and the ways people get them wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.dataset import faults
from kohyakit.dataset.images import shown
from kohyakit.dataset.walk import Folder, kind_of, list_folder, parse_folder_name
from kohyakit.errors import Problem


@dataclass(frozen=True, slots=True)
class SubsetFolder:
    """A folder whose name starts with a repeat count; `name` is what follows the first underscore."""

    path: Path
    repeats: int
    name: str


def subset_folders(base: str | None, option: str, problems: list[Problem]) -> list[SubsetFolder]:
    """The subset folders below `base`, by name. What is wrong with them is added to `problems`."""
    if not base:
        if option == "train_data_dir":
            problems.append(
                Problem(option, "it is not set", "name the folder that holds your 10_subject folders", "no_folder")
            )
        return []
    root = Path(base)
    top = listed(root, f"correct {option}", problems)
    if top is None:
        return []
    found, outside = [], []
    for path in top.at(top.folders):
        parsed = parse_folder_name(path.name)
        if parsed:
            found.append(SubsetFolder(path, *parsed))
            if not parsed[1]:
                problems.append(as_shown(faults.no_subject(str(path))))
        elif beside := _list(path):
            outside.append(replace(beside, role="outside"))
    if found:
        for folder in (replace(top, role="parent"), *outside):
            problems.extend(as_shown(problem) for problem in faults.of_folder(folder))
    else:
        problems.append(_why_none(root, option, top, outside))
    return found


def as_shown(problem: Problem) -> Problem:
    """The same with its path as one printable line."""
    return replace(problem, where=shown(problem.where))


def listed(root: Path, cure: str, problems: list[Problem]) -> Folder | None:
    """A folder that a person named; None and a problem where it cannot be read."""
    name = "folder_missing"
    try:
        return list_folder(root)
    except FileNotFoundError:
        what = "the folder does not exist"
        if not root.is_absolute():
            what += f" in {Path.cwd()}"
    except NotADirectoryError:
        what = "it is a file; a folder was wanted"
    except ValueError as error:  # a NUL in its name
        what = f"the folder cannot be read ({error})"
    except OSError as error:
        what, name = f"the folder cannot be read ({error.strerror or error})", "unreadable_folder"
    problems.append(Problem(shown(root), what, cure, name))
    return None


def _why_none(root: Path, option: str, top: Folder, outside: list[Folder]) -> Problem:
    """The likeliest reason why no subset folder was found."""
    images = len(top.taken())
    if images and kind_of(root, top) == "subset":
        return Problem(
            shown(root),
            f"this is a subset folder itself, and {option} must be the folder that holds it",
            f"set {option} to {shown(root.parent)}",
            "parent_of_folders",
        )
    if images:
        count = f"{images} image{'' if images == 1 else 's'}"
        return Problem(
            shown(root),
            f"it holds {count} directly, but {option} must hold folders such as 10_subject",
            f"move the images into {shown(root / '10_subject')} (repeats, underscore, subject)",
            "parent_of_folders",
        )
    for folder in outside:
        if any(map(parse_folder_name, folder.folders)):
            return Problem(
                shown(root),
                f"the subset folders lie one level deeper, in {Path(folder.path).name}",
                f"set {option} to {shown(folder.path)}",
                "parent_of_folders",
            )
    for folder in outside:
        for problem in faults.of_folder(folder):
            return replace(as_shown(problem), severity="error")
    severity = "error" if option == "train_data_dir" else "warning"
    what = "there are no folders such as 10_subject in it"
    return Problem(shown(root), what, "make one and put the images in", "no_images", severity)


def _list(path: Path) -> Folder | None:
    """A folder beside the others, which need not be readable."""
    try:
        return list_folder(path)
    except (OSError, ValueError):
        return None
