"""Formats, modes and profiles that do not mean to the trainer what they mean to a viewer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from kohyakit.audit.check import Check, Issue
from kohyakit.dataset.images import EXTENSIONS, PLUGIN_EXTENSIONS

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_CONVERT = "kohyakit repair converts it"
_LOOKED_AT = [
    "path", "format", "extension_ok", "extension_wanted", "verdict_severity", "animated", "frames", "alpha", "mode",
    "bits", "icc", "icc_name",
]  # fmt: skip


def judge(survey: Survey) -> Iterable[Issue]:
    for row in survey.images.loc[survey.images["format"].notna(), _LOOKED_AT].itertuples():
        yield from _name(row)
        if row.verdict_severity != "error":
            yield from _frames(row)
            yield from _channels(row)


def _name(row: Any) -> Iterable[Issue]:
    suffix = PurePath(row.path).suffix
    if not row.extension_ok:
        detail = f"is {row.format} inside, though its name ends in '{suffix}'"
        yield Issue(row.path, "extension_mismatch", "warning", detail, _right_name(row))
    elif suffix.lower() not in EXTENSIONS:
        plugin = PLUGIN_EXTENSIONS.get(suffix.lower())
        needs = f"only with the package {' or '.join(plugin)}" if plugin else "never"
        detail = f"the trainer takes files ending in {suffix} {needs}: it would be left out without a word"
        yield Issue(row.path, "not_trained", "warning", detail, f"save it as JPEG or PNG; {_CONVERT}")


def _right_name(row: Any) -> str:
    """What to do: a name that no trainer takes would leave the picture out."""
    if row.extension_wanted in EXTENSIONS:
        return f"rename it to {row.extension_wanted}; kohyakit repair does, caption and all"
    if row.verdict_severity == "error":
        how = "get it as JPEG or PNG"
    elif row.animated:
        how = "save the frame you want as a PNG"
    else:
        how = "save it as PNG, as kohyakit repair does"
    return f"{how}; renamed to {row.extension_wanted} it would not be trained"


def _frames(row: Any) -> Iterable[Issue]:
    if row.animated:
        detail = f"has {row.frames} frames; only the first is trained"
        yield Issue(row.path, "animated", "warning", detail, "keep the frame you want as a PNG, or leave it out")


def _channels(row: Any) -> Iterable[Issue]:
    mode = row.mode or ""
    if row.alpha:
        detail = "has transparency; without alpha_mask it is dropped, and what lies hidden under it is trained"
        yield Issue(row.path, "alpha", "warning", detail, "put it on a background of your choice: kohyakit repair")
    if mode in ("CMYK", "YCCK", "LAB", "HSV"):
        detail = f"holds {mode} colours for print; the trainer turns them into RGB without the profile, and they shift"
        yield Issue(row.path, "cmyk", "warning", detail, f"convert it to RGB; {_CONVERT}")
    elif mode in ("P", "PA"):
        yield Issue(row.path, "palette", "hint", "has at most 256 colours", f"fine for drawings; {_CONVERT} to RGB")
    if row.bits and row.bits > 8:
        detail = f"has {row.bits} bits a channel; read as 8 bits by sd-scripts, greys come out white"
        yield Issue(row.path, "deep_colour", "warning", detail, f"convert it to 8 bits; {_CONVERT}")
    if row.icc == "other":
        detail = f"has the colour profile '{row.icc_name}'; the trainer ignores it, so colours shift a little"
        yield Issue(row.path, "icc_profile", "hint", detail, f"convert it to sRGB if colours matter; {_CONVERT}")


CHECK = Check(
    issues={
        "extension_mismatch": "its name lies about its format",
        "not_trained": "left out because of its extension",
        "animated": "animated: only the first frame counts",
        "alpha": "has transparency",
        "palette": "has a palette",
        "cmyk": "colours for print",
        "deep_colour": "more than 8 bits a channel",
        "icc_profile": "a colour profile other than sRGB",
    },
    judge=judge,
    quick=True,
)
