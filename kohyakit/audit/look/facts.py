"""What one opening of a file is asked and tells, as plain values that travel between processes."""

from __future__ import annotations

from typing import Any, NamedTuple

# The facts of a row, in order; the scores of the checks follow.
FACTS = (
    "format", "mode", "bits", "width", "height", "orientation", "alpha", "animated", "frames", "icc", "icc_name",
    "extension_ok", "extension_wanted", "taken", "file_size", "digest",
    "verdict", "verdict_severity", "verdict_detail", "caption", "caption_fault",
)  # fmt: skip

MARKED = "begins with a byte order mark"


class Task(NamedTuple):
    """number: the row. caption_path: "" where there is none."""

    number: int
    path: str
    caption_path: str


class Opened(NamedTuple):
    """facts: as FACTS. scores: by column name. sketch: 1024 bytes, see likeness; empty where nothing decoded.

    close: a closer look at what is drawn, see drawings; empty for most photos.
    """

    number: int
    facts: tuple[Any, ...]
    scores: dict[str, float]
    sketch: bytes
    close: bytes = b""
