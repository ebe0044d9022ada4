"""One opening of one image file and its caption: a row of facts and scores, and a sketch for the duplicates.

This runs in a worker; it returns plain values and never raises for a file, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kohyakit.audit.check import Picture
from kohyakit.audit.look.facts import FACTS, MARKED, Opened, Task

Measure = Callable[[Picture], Mapping[str, float]]


def open_safely(task: Task, measures: Sequence[Measure], quick: bool) -> Opened:
    """open_one, with a row that says so where even that fails (memory used up, a bug in a decoder)."""
    try:
        return open_one(task, measures, quick)
    except Exception as error:
        return crashed(task, f"could not be examined ({type(error).__name__}: {error})")


def open_one(task: Task, measures: Sequence[Measure], quick: bool) -> Opened:
    """Open the image (quick: its header only) and its caption once, and measure everything."""
    text, caption_fault = read_text(task.caption_path)
    if quick:
        return Opened(task.number, (*_header_facts(task.path), text, caption_fault), {}, b"")
    from kohyakit.dataset.decode import examine

    found = examine(task.path)
    facts = (
        found.format, found.mode, found.bits, found.width, found.height, found.orientation, found.alpha,
        found.animated, found.n_frames, found.icc, found.icc_name, found.extension_ok, found.extension_wanted,
        found.taken, found.file_size, found.digest,
        found.verdict.issue, found.verdict.severity, found.verdict.detail, text, caption_fault,
    )  # fmt: skip
    if found.pixels is None:
        return Opened(task.number, facts, {}, b"")
    from kohyakit.audit.alike.drawings import closer
    from kohyakit.audit.alike.likeness import sketch

    picture = Picture(found.pixels.rgb, found.pixels.scale, found.orientation)
    scores: dict[str, float] = {}
    for measure in measures:
        scores.update(measure(picture))
    return Opened(task.number, facts, scores, sketch(picture.small).tobytes(), closer(picture))


def crashed(task: Task, why: str) -> Opened:
    """The row of a file on which the decoder died or hung."""
    text, caption_fault = read_text(task.caption_path)
    known = {"orientation": 1, "verdict": "undecodable", "verdict_severity": "error", "verdict_detail": why,
             "extension_ok": True, "caption": text, "caption_fault": caption_fault}  # fmt: skip
    return Opened(task.number, tuple(known.get(name) for name in FACTS), {}, b"")


def read_text(path: str) -> tuple[str | None, str]:
    """A caption's whole text and what is wrong with the file ("" if nothing); None where there is no text.

    A text with MARKED is sound but for its byte order mark, which is not in it.
    """
    if not path:
        return None, ""
    from pathlib import Path

    from kohyakit.dataset.captions.caption import BadCaption, read_lines

    try:
        text = "\n".join(read_lines(Path(path)))
        with open(path, "rb") as stream:
            return text, MARKED if stream.read(3) == b"\xef\xbb\xbf" else ""
    except BadCaption as error:
        return None, str(error)
    except OSError as error:
        return None, f"the caption cannot be read ({error.strerror or error})"


def _header_facts(path: str) -> tuple[Any, ...]:
    from pathlib import Path

    from kohyakit.dataset.decode.headers import BadImage
    from kohyakit.dataset.decode.signature import EXTENSIONS, extension_ok
    from kohyakit.dataset.images import read_header

    known: dict[str, Any] = {"orientation": 1, "extension_ok": True}
    try:
        header = read_header(Path(path))
    except BadImage as error:
        known |= {"verdict": error.fault, "verdict_severity": "error", "verdict_detail": str(error)}
        return tuple(known.get(name) for name in FACTS[:-2])
    format = header.format.upper()
    known |= {"format": format, "width": header.width, "height": header.height}
    known |= {"orientation": header.orientation, "extension_ok": extension_ok(Path(path), format)}
    known["extension_wanted"] = EXTENSIONS.get(format, ("",))[0]
    if header.fault:
        known |= {"verdict": "damaged", "verdict_severity": "error", "verdict_detail": header.fault}
    return tuple(known.get(name) for name in FACTS[:-2])
