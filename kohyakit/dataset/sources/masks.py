"""Pictures that say how much each place of a photo counts in the loss: those of its own name in another folder.

White counts, black does not, by the red channel. sd-scripts takes them for the control pictures of a ControlNet data
set, and stops at a photo without one, at one without a photo, and at one of another size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kohyakit.dataset.folders import listed
from kohyakit.dataset.images import BadImage, ImageRecord, read_record, shown
from kohyakit.errors import Problem
from kohyakit.words import count

_NAMED = 3  # files that one sentence names


def with_masks(
    records: Sequence[ImageRecord],
    folder: Path,
    problems: list[Problem],
    *,
    upright: bool,
    odd_case: bool,
    any_size: bool,
) -> tuple[ImageRecord, ...]:
    """The images with the headers of their masks; what is wrong with these is added to problems.

    upright, odd_case: see images. any_size: a mask of another size than its image is scaled to it.
    """
    by_stem = _by_stem(folder, odd_case, problems)
    if by_stem is None:
        return tuple(records)
    found, missing = [], []
    for record in records:
        name = by_stem.get(record.path.stem)
        if name is None:
            missing.append(record.path.name)
            continue
        mask, wrong = _read(record, folder / name, upright, any_size)
        problems += [wrong] if wrong else []
        found.append(replace(record, mask=mask))
    if missing:
        what = f"{len(missing)} of {len(records)} images have no mask in it: {_named(missing)}"
        cure = "a mask has the name of its image, with any extension that is trained; paint it white where all counts"
        problems.append(Problem(shown(folder), what, cure, "mask_missing"))
    return tuple(found)


def folder_of(masks: str, subset: str) -> Path:
    """Where a subset's masks are: in a folder of its name where there is one, else all together."""
    own = Path(masks, subset)
    return own if own.is_dir() else Path(masks)


def without_image(folder: Path, images: Iterable[Path], *, odd_case: bool, stops: bool) -> Iterator[Problem]:
    """Masks to which there is no image. stops: as in sd-scripts, which refuses them."""
    used = {path.stem for path in images}
    extra = [name for stem, name in (_by_stem(folder, odd_case, []) or {}).items() if stem not in used]
    if extra:
        what = f"{count(len(extra), 'mask')} in it without an image: {_named(extra)}"
        severity = "error" if stops else "warning"
        yield Problem(shown(folder), what, "take them out, or give them their image's name", "mask_unused", severity)


def _by_stem(folder: Path, odd_case: bool, problems: list[Problem]) -> dict[str, str] | None:
    """The mask of each name, the first by code points where there are several; None for no folder."""
    told: list[Problem] = []
    listing = listed(folder, "correct conditioning_data_dir", told)
    problems += [problem for problem in told if problem not in problems]  # several subsets may share it
    if listing is None:
        return None
    return {Path(name).stem: name for name in reversed(listing.taken(odd_case=odd_case))}


def _read(record: ImageRecord, path: Path, upright: bool, any_size: bool) -> tuple[ImageRecord | None, Problem | None]:
    where, cure = shown(record.path), "save it at the size of its image"
    try:
        mask = read_record(path, upright=upright)
    except BadImage as error:
        return None, Problem(where, f"its mask {shown(path)} does not read: {error}", "make it anew", "bad_mask")
    if mask.fault:
        return mask, Problem(where, f"its mask {shown(path)} is damaged: {mask.fault}", "make it anew", "bad_mask")
    if mask.size != record.size and not any_size:
        sizes = [f"{width}x{height}" for width, height in (mask.size, record.size)]
        what = f"its mask {shown(path)} is {sizes[0]} pixels and the image {sizes[1]}"
        return mask, Problem(where, what, cure, "mask_size")
    return mask, None


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more
