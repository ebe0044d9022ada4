"""One look into an image file, and THE verdict on it that audit, check and train share.

`examine(path)` reads the bytes once and gives facts, a verdict and small pictures; `verdict(path)` is its short door.
Neither raises for a file, whatever it holds. No torch, no pandas; numpy, Pillow and simplejpeg load when called.
"""

from __future__ import annotations

from pathlib import Path

from kohyakit.dataset.decode.record import Examination, Pixels, Verdict, upright

__all__ = ["Examination", "Pixels", "Verdict", "examine", "upright", "verdict"]


def examine(path: Path | str) -> Examination:
    """Read the file once and say what it is, whether its pixels can be trusted, and what they look like, small.

    path: any path; a folder, a pipe, a loop of links, an unreadable or growing file give a verdict too.
    """
    from kohyakit.dataset.decode.look import look

    return look(Path(path))


def verdict(path: Path | str) -> Verdict:
    """Whether a training can trust this file: `examine(path).verdict`."""
    return examine(path).verdict
