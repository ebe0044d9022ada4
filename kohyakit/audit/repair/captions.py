"""What a repair does to captions: their names made their image's, their text made plain UTF-8."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.dataset.editing.encoding import NAMES, decoded, encoding_of, fault_of
from kohyakit.errors import Problem

if TYPE_CHECKING:
    from kohyakit.audit.report.report import AuditReport

_SHOWN = 40  # signs of a caption that a plan shows


class NotMended(ValueError):
    """What is wrong, and what to do, in two parts."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what, cure)
        self.what, self.cure = what, cure


@dataclass(frozen=True, slots=True)
class CaptionMend:
    """One caption's repair. path: where it lies. target: where it belongs. recode: whether its bytes change, too."""

    path: Path
    target: Path
    recode: bool
    reason: str


def recodings(report: AuditReport, aside: Mapping[Path, Path]) -> Iterator[CaptionMend | Problem]:
    """Captions that are not plain UTF-8. aside: images that are moved away, which their captions follow as they are."""
    images = dict(zip(report.images["caption_path"], report.images["path"], strict=True))
    rows = report.issues[report.issues["issue"].isin(("caption_not_utf8", "caption_mark"))]
    for name in dict.fromkeys(rows["path"]):
        path = Path(name)
        if Path(images.get(name, "")) in aside:
            continue
        try:
            yield CaptionMend(path, path, True, _recoding(report.root, path))
        except NotMended as error:
            yield Problem(_name(report.root, path), error.what, error.cure, severity="warning")


def renamings(report: AuditReport, moved: Mapping[Path, Path]) -> Iterator[CaptionMend | Problem]:
    """Captions whose names differ from their image's unseen. moved: where images will lie by then."""
    if not (report.issues["issue"] == "caption_misspelt").any():
        return
    from kohyakit.dataset.captions.pairing import pair
    from kohyakit.dataset.walk import find_tree

    pairing = pair(find_tree(report.root), report.settings.caption_extension)
    for image, (name, why) in pairing.misspelt.items():
        path, place = Path(name), moved.get(Path(image), Path(image))
        target = place.with_suffix(pairing.extension)
        try:
            recode = bool(fault_of(_bytes(report.root, path)))
            if os.path.lexists(target) and not os.path.samefile(path, target):
                raise NotMended(f"belongs to {Path(image).name}, but there is a {target.name} too", "look at both")
            reason = f"{why}; {_recoding(report.root, path)}" if recode else why
            yield CaptionMend(path, target, recode, reason)
        except NotMended as error:
            yield Problem(_name(report.root, path), error.what, error.cure, severity="warning")


def recoded(data: bytes) -> bytes:
    """The caption as plain UTF-8: its text, without byte order mark and NUL signs. Raises NotMended."""
    found = encoding_of(data)
    if found is None or found.others:
        readings = "" if found is None else f": {_readings(data, (found.codec, *found.others))}"
        what = "is text in no encoding that is known here" if found is None else f"may be {found.name}{readings}"
        raise NotMended(what, "save it as UTF-8 with a text editor")
    return decoded(data, found.codec).replace("\0", "").encode("utf-8")


def _recoding(root: Path, path: Path) -> str:
    data = _bytes(root, path)
    text = recoded(data).decode("utf-8")
    fault = fault_of(data).partition(";")[0] or "begins with a byte order mark"
    return f"{fault}; saved as UTF-8 it reads {_quoted(text)}"


def _bytes(root: Path, path: Path) -> bytes:
    """Of a file that lies in the folder itself; nothing is written through a link. Raises NotMended."""
    if path.is_symlink() or not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
        raise NotMended("lies behind a link, so it is left as it is", "repair the folder that it lies in")
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotMended(f"cannot be read ({error.strerror or error})", "see to it by hand") from error


def _readings(data: bytes, codecs: tuple[str, ...]) -> str:
    return ", ".join(f"{_quoted(decoded(data, codec))} in {NAMES.get(codec, codec)}" for codec in codecs)


def _quoted(text: str) -> str:
    first = text.strip().partition("\n")[0].strip()
    return f"'{first[:_SHOWN]}{'…' if len(first) > _SHOWN else ''}'"


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
