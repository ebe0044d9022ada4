"""Finds the files that ship with the package, and where a process that we start may look for modules."""

from __future__ import annotations

import os
import sys
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


def base_model() -> Path:
    """The folder with the weights of the demo's base model and the figures that it reached."""
    return _PACKAGE / "assets" / "base"


def search_path() -> list[str]:
    """Where this process looks for modules, and this package's own place; never the folder one stands in."""
    places = [place for place in sys.path if place]
    return places if str(_PACKAGE.parent) in places else [*places, str(_PACKAGE.parent)]


def safe_environment(folder: Path | None = None) -> dict[str, str]:
    """What a Python that we start, and every one that it starts, is told so that it imports nothing from where it runs.

    folder: with modules of the program that is started; without it that program is of this package.
    """
    given = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]  # an empty one means here
    if folder is not None:
        given.insert(0, str(folder))
    elif str(_PACKAGE.parent) not in sys.path:
        given.append(str(_PACKAGE.parent))
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(given)}
