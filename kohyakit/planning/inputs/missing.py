"""Files and folders that a config names and that are not there: where they may lie instead, said as the cure."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import Problem

MODEL = "pretrained_model_name_or_path"
_BESIDE_MODEL = ("vae", "network_weights", "resume")
# Options whose missing file or folder another part finds; here only the cure is made to name where it lies.
_FOUND_ELSEWHERE = (
    "train_data_dir", "reg_data_dir", "dataset_config", "sample_prompts", "in_json", "conditioning_data_dir",
)  # fmt: skip
_MISSING = ("folder_missing", "bad_prompts", "no_such_file")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".json", ".toml", ".txt")
# What people call the folder that they keep models in; nobody on the hub is called so.
_FOLDER_WORDS = frozenset((
    "model", "models", "base", "bases", "checkpoint", "checkpoints", "ckpt", "ckpts", "weights", "stable-diffusion",
    "lora", "loras", "vae", "vaes", "data", "dataset", "datasets", "train", "training", "output", "outputs", "out",
    "img", "images", "photos", "downloads", "home", "tmp", "project", "projects",
))  # fmt: skip


def looks_like_hub(name: str) -> bool:
    """`owner/name`, where that is no more likely a folder: none is called owner, and the name has no file's ending."""
    if not _HUB.fullmatch(name) or name.lower().endswith(_FILE_ENDINGS):
        return False
    owner = name.partition("/")[0]
    return owner.lower() not in _FOLDER_WORDS and not Path(owner).exists()


def in_hub_cache(name: str) -> Path | None:
    """The folder of a model that was downloaded from the hub before, found without the hub's package."""
    if not _HUB.fullmatch(name):
        return None
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    try:
        revision = (cache / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = cache / "snapshots" / revision
    return folder if revision and folder.is_dir() else None


def locate(name: str) -> Path | None:
    """Where a model lies on this machine: the path itself, or the hub's cache for a name on the hub."""
    try:
        path = Path(name).expanduser()
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError):
        return None
    return in_hub_cache(name) if looks_like_hub(name) else None


def model_missing(config: TrainConfig, name: str, backend: str) -> Problem:
    """What to do about a base model that is not there."""
    there = lies_in(config, name)
    if there is None and looks_like_hub(name):
        if backend == "sd-scripts":
            what = "is taken for a name on the Hugging Face hub: sd-scripts downloads it when it starts"
            return Problem(name, what, "", "model_from_hub", "hint")
        what = "this looks like a name on the Hugging Face hub, but training works offline"
        cure = f"train with --download, which fetches it once, or name the folder in {MODEL}"
        return Problem(name, what, cure, "model_missing")
    what = f"the base model does not exist{_looked_in(name)}"
    return Problem(shown(name), what, _cure(name, MODEL, there), "model_missing")


def files_beside_model(config: TrainConfig, backend: str) -> Iterator[Problem]:
    """vae, network_weights, base_weights and resume where they name what is not there."""
    named = [(option, config[option]) for option in (*_BESIDE_MODEL, "log_tracker_config")]
    for option, name in (*named, *(("base_weights", name) for name in config.network.base_weights or ())):
        if not name or exists(name) or (option == "resume" and config.saving.resume_from_huggingface):
            continue
        if option == "vae" and looks_like_hub(name) and (backend == "sd-scripts" or in_hub_cache(name)):
            continue
        what = f"there is no such file or folder{_looked_in(name)}"
        yield Problem(shown(name), what, _cure(name, option, lies_in(config, name)), "file_missing")


def exists(name: str) -> bool:
    """Is there a file or folder of this name? False for what can be none, too."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _looked_in(name: str) -> str:
    return "" if Path(name).is_absolute() or PureWindowsPath(name).drive else f" in {shown(Path.cwd())}"


def _cure(name: str, option: str, there: Path | None) -> str:
    if there is not None:
        return f"set {option} to {shown(there)}"
    near = similar(name)
    return f"did you mean {shown(near)}?" if near else f"correct {option}"


def lies_in(config: TrainConfig, name: str) -> Path | None:
    """The same path seen from the preset's folder or one folder up, or its last part beside the preset."""
    here = Path.cwd()
    preset = config.source.path.absolute().parent if config.source is not None and config.source.path else here
    last = PureWindowsPath(name).name
    places = [base / name for base in (preset, preset.parent, here.parent)] if not Path(name).is_absolute() else []
    places += [base / last for base in (preset, preset.parent, here, here.parent)] if last else []
    for place in places:
        try:
            found = Path(os.path.normpath(place))
            if found.exists() and found not in (here, here.parent, preset, preset.parent):
                return found
        except (OSError, ValueError):
            continue
    return None


def similar(name: str) -> Path | None:
    """A file or folder of nearly the same name in the same place."""
    path = Path(name)
    try:
        beside = {entry.name: entry for entry in path.parent.iterdir()}
    except (OSError, ValueError):
        return None
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
    return beside[near[0]] if near else None


def with_places(config: TrainConfig, problems: Iterable[Problem]) -> Iterator[Problem]:
    """The findings, those about a path that is missing with the place named where it does lie."""
    options = {shown(Path(config[option])): option for option in _FOUND_ELSEWHERE if isinstance(config[option], str)}
    for problem in problems:
        if problem.name in _MISSING and problem.where and not exists(problem.where):
            there = lies_in(config, problem.where)
            if there is not None:
                option = options.get(problem.where)
                cure = f"set {option} to {shown(there)}" if option else f"write {shown(there)}"
                problem = replace(problem, cure=cure)
        yield problem
