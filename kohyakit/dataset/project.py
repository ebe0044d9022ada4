"""A new project: img/ reg/ log/ model/, photos copied in, a config to start from.

Photos are copied, never moved and never deleted. Everything is made in a folder beside the target and renamed at the
end, so that a full disk or Ctrl-C leaves nothing half made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from kohyakit.dataset.captions.pairing import commonest, pair_folder
from kohyakit.dataset.images import shown
from kohyakit.dataset.walk import Folder, list_folder
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import draft_for, folder_in_place_of

IMG, REG, LOG, MODEL = "img", "reg", "log", "model"
CONFIG_FILE, PROMPTS_FILE = "config.toml", "prompts.txt"
_CAPTIONS = (".txt", ".caption")
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Concept:
    """Images of one thing. images: the folder to copy from. name: the folder's name after the repeats, the caption
    of an image without one (`sks dog`)."""

    images: Path
    name: str
    repeats: int = 10


@dataclass(frozen=True, slots=True)
class Project:
    """What was made. copied: files, by the folder that they came from. left: pictures that were not copied, since no
    trainer reads their format."""

    folder: Path
    config: Path
    copied: dict[Path, int]
    left: tuple[Path, ...] = ()


def make_project(
    target: Path, concepts: Iterable[Concept] = (), reg: Iterable[Concept] = (), *, model: str = ""
) -> Project:
    """Make a project folder. target must not exist, or be an empty folder.

    model: the base model for the config. Raises DatasetError with everything that is wrong, and then makes nothing.
    """
    concepts, reg = tuple(concepts), tuple(reg)
    target = Path(os.path.abspath(target))
    listings = _listings((concepts, reg), target)
    try:
        with folder_in_place_of(target, draft_for(target)) as staging:
            for name in (IMG, REG, LOG, MODEL):
                (staging / name).mkdir(parents=True)
            copied: dict[Path, int] = {}
            for kind, group in ((IMG, concepts), (REG, reg)):
                for concept in group:
                    into = staging / kind / f"{concept.repeats}_{concept.name}"
                    into.mkdir(exist_ok=True)
                    copied[concept.images] = _copy(listings[concept.images], into)
            extension = commonest((listings[concept.images] for concept in concepts), _CAPTIONS)
            _write(staging / PROMPTS_FILE, "".join(f"{c.name} --w 512 --h 512 --s 25 --d 42\n" for c in concepts[:4]))
            _write(staging / CONFIG_FILE, _config(target, concepts, bool(reg), _whole(model), extension))
            if target.is_dir():
                target.rmdir()
    except OSError as error:
        raise DatasetError(
            Problem(shown(target), f"the project cannot be made ({error.strerror or error})", "nothing was left behind")
        ) from None
    left = tuple(path for listing in listings.values() for path in listing.at(listing.left()))
    return Project(target, target / CONFIG_FILE, copied, left)


def _listings(groups: tuple[tuple[Concept, ...], ...], target: Path) -> dict[Path, Folder]:
    """What lies in the source folders. Raises DatasetError with every problem of sources, names and target."""
    problems = list(_target_problems(target))
    for group in groups:
        counts = Counter(concept.name.casefold() for concept in group)
        problems += [
            Problem(f"'{name}'", "two folders would have this name", "choose another", "bad_name")
            for name, count in counts.items()
            if count > 1
        ]
    listings = {}
    for concept in (concept for group in groups for concept in group):
        where = shown(concept.images)
        problems += _name_problems(concept)
        source = Path(os.path.realpath(concept.images))
        goal = Path(os.path.realpath(target))
        if source == goal or source in goal.parents or goal in source.parents:
            what = "source and project are the same folder or one lies in the other"
            problems.append(Problem(where, what, "make the project somewhere else", "nested_folders"))
            continue
        try:
            listings[concept.images] = listing = list_folder(concept.images)
        except (OSError, ValueError) as error:
            what = f"the folder cannot be read ({getattr(error, 'strerror', None) or error})"
            problems.append(Problem(where, what, "correct its name", "folder_missing"))
            continue
        if not listing.taken():
            cure = "name the folder that holds the photos themselves (png, jpg, jpeg, webp, bmp)"
            problems.append(Problem(where, "there are no images directly in it", cure, "no_images"))
    if problems:
        raise DatasetError(problems)
    return listings


def _target_problems(target: Path) -> Iterable[Problem]:
    try:
        if target.is_dir() and any(target.iterdir()):
            yield Problem(shown(target), "the folder is not empty", "name a new one", "target_not_empty")
        elif target.exists() and not target.is_dir():
            yield Problem(shown(target), "this is a file", "name a new folder", "target_not_empty")
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        yield Problem(shown(target), what, "name another", "target_not_empty")


def _name_problems(concept: Concept) -> Iterable[Problem]:
    if not concept.name.strip() or concept.name != concept.name.strip() or concept.name.endswith("."):
        yield Problem(f"'{concept.name}'", "a folder cannot be called so", "write a name such as 'sks dog'", "bad_name")
    elif _NOT_IN_NAMES.search(concept.name):
        cure = 'leave out < > : " / \\ | ? *'
        yield Problem(f"'{shown(concept.name)}'", "Windows allows no such folder name", cure, "bad_name")
    if concept.repeats < 1:
        yield Problem(f"'{concept.name}'", f"repeats are {concept.repeats}", "write 1 or more", "no_repeats")


def _copy(listing: Folder, into: Path) -> int:
    """Copy images with the captions beside them, which get their image's very name; the number of images."""
    images = listing.at(listing.taken())
    for path in images:
        shutil.copy2(path, into / path.name)
    for extension in _CAPTIONS:
        paired = pair_folder(listing, extension)
        for path in images:
            odd, _ = paired.misspelt.get(path.name, ("", ""))
            name = odd or path.stem + extension
            if odd or name in listing.texts:
                shutil.copy2(path.with_name(name), into / (path.stem + extension))
    return len(images)


def _whole(model: str) -> str:
    """A path in full, like the others in the config; a name on the Hugging Face hub stays as it is."""
    path = Path(model).expanduser() if model else Path()
    hub = model.count("/") == 1 and not path.suffix and not path.parent.exists()
    if not model or hub or PureWindowsPath(model).is_absolute():  # another computer's path stays as it is
        return model
    return Path(os.path.abspath(path)).as_posix()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


_STARTER = """\
# What will happen:  kohyakit check {this}
# Train:             kohyakit train {this}

pretrained_model_name_or_path = {model}  # a diffusers folder or a .safetensors checkpoint (SD 1.x)
train_data_dir = {img}
{reg}output_dir = {out}
logging_dir = {log}
output_name = {name}

caption_extension = {extension}
resolution = "512,512"
enable_bucket = true
bucket_no_upscale = true
cache_latents = true

network_module = "networks.lora"
network_dim = 16
network_alpha = 8

optimizer_type = "AdamW"
unet_lr = 1e-4
text_encoder_lr = [5e-5]
lr_scheduler = "cosine"
lr_warmup_steps = 0.05  # a float is a fraction of all steps

train_batch_size = 2
max_train_epochs = 10
mixed_precision = "fp16"
gradient_checkpointing = true
max_data_loader_n_workers = 0
seed = 42

save_precision = "fp16"
save_every_n_epochs = 1
sample_prompts = {prompts}
sample_every_n_epochs = 1
"""


def _config(target: Path, concepts: tuple[Concept, ...], with_reg: bool, model: str, extension: str) -> str:
    def text(value: Path | str) -> str:
        return json.dumps(value.as_posix() if isinstance(value, Path) else value, ensure_ascii=False)

    name = re.sub(r"[\s.]+", "_", concepts[0].name) if concepts else target.name
    return _STARTER.format(
        this=shown(CONFIG_FILE),
        model=text(model),
        img=text(target / IMG),
        reg=f"reg_data_dir = {text(target / REG)}\n" if with_reg else "",
        out=text(target / MODEL),
        log=text(target / LOG),
        name=text(name),
        extension=text(extension),
        prompts=text(target / PROMPTS_FILE),
    )
