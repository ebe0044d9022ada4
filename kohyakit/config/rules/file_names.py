"""Settings that become part of a file's or folder's name: names, never paths to somewhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem

PARTS_OF_NAMES = ("output_name", "log_prefix", "log_tracker_name", "caption_extension", "caption_extention")
_LONGEST = 200  # bytes; file systems take 255, and -step00000100-state.part comes behind
_ELSEWHERE = re.compile(r"[/\\]|^\.\.?$|^[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def names_not_paths(config: TrainConfig) -> Iterator[Problem]:
    """An error for each such setting that would lead out of its folder or make no file name."""
    for setting in PARTS_OF_NAMES:
        if config[setting]:
            yield from name_faults(setting, config[setting])


def name_faults(setting: str, value: str) -> Iterator[Problem]:
    """The finding for a value that is no part of a file name; none for one that is."""
    folder = {"output_name": "output_dir", "log_prefix": "logging_dir", "log_tracker_name": "logging_dir"}.get(setting)
    if _ELSEWHERE.search(value):
        cure = f"write a plain name, and the folder into {folder}" if folder else "write an ending, such as .txt"
        yield Problem("", f"{setting} is {value[:80]!r}, a path where a name belongs", cure, "name_is_a_path")
    elif _CONTROL.search(value):
        what = f"{setting} is {value[:80]!r}, which holds a sign that no file name has"
        yield Problem("", what, "write a plain name", "name_is_a_path")
    elif len(value.encode("utf-8", "surrogatepass")) > _LONGEST:
        what = f"{setting} has more than {_LONGEST} bytes, too many for a file name"
        yield Problem("", what, "write a shorter one", "name_is_a_path")
