"""Finds the files that ship with the package: templates/, dashboards/ and the CLIP vocabulary."""

from __future__ import annotations

from pathlib import Path

from kohyakit.errors import KohyakitError

_PACKAGE = Path(__file__).resolve().parent


def shared_dir(name: str) -> Path:
    """The folder `templates` or `dashboards`, in a wheel, an editable install or a checkout.

    Raises KohyakitError naming both places when neither exists.
    """
    places = (_PACKAGE / "_shared" / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise KohyakitError(f"{name}/ is in neither {places[0]} nor {places[1]}; install kohyakit again")


def clip_vocabulary() -> Path:
    """The folder with CLIP's `vocab.json` and `merges.txt` (OpenAI, MIT; the licence lies beside them)."""
    return _PACKAGE / "assets" / "clip"
