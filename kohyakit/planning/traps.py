"""The classic traps: settings and pictures that train, but not what the person thinks. Each is a small function.

A trap sees the config, what lies on disk and the plan made of both, and yields findings. Traps that config alone
decides are in config/rules/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.config.rules.file_names import name_faults
from kohyakit.config.scripts import BUCKET_STEPS
from kohyakit.config.train import TrainConfig
from kohyakit.dataset import faults
from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem
from kohyakit.files import is_link
from kohyakit.planning.effects import EFFECTS
from kohyakit.planning.launch_words import launch_words
from kohyakit.planning.lengths import gui_steps
from kohyakit.planning.unread import not_read_by
from kohyakit.planning.validation import findings as held_back

if TYPE_CHECKING:
    from kohyakit.planning.plan import Plan

Trap = Callable[[TrainConfig, Scan, "Plan"], Iterable[Problem]]


def unwritable_folders(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """The first save would fail, after the first epoch, or the first line of the log."""
    for option in ("output_dir", "logging_dir"):
        wanted = Path(config[option] or "")
        what = _unwritable(wanted) if config[option] else ""
        if what:
            name = "output_dir_unusable" if option == "output_dir" else "logging_dir_unusable"
            yield Problem(shown(wanted), what, f"choose another {option}", name)
        elif option == "output_dir" and config[option]:
            runs = wanted / "runs"
            if is_link(runs) or (runs.exists() and not runs.is_dir()):
                what = f"is {'a link' if is_link(runs) else 'a file'}, and each training keeps a folder in its place"
                yield Problem(shown(runs), what, "move it away, or choose another output_dir", "output_dir_unusable")


def _unwritable(wanted: Path) -> str:
    """Why nothing can be saved in a folder, which need not be there yet; empty where something can."""
    try:
        there = next((folder for folder in (wanted, *wanted.parents) if folder.exists()), None)
    except (OSError, ValueError) as error:
        return f"no folder can be called so ({getattr(error, 'strerror', None) or error})"
    if there is None:
        return "there is no such drive"
    if not there.is_dir():
        return f"nothing can be saved there, as {shown(there)} is a file"
    if not os.access(there, os.W_OK):
        return f"nothing can be saved there, as {shown(there)} may not be written to"
    return ""


def images_without_bucket(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Where sd-scripts divides by zero or makes a bucket with a side of 0."""
    for record, why in plan.misfits:
        what, _, cure = why.partition("; ")
        yield Problem(shown(record.path), what, cure, "no_bucket")


def bucket_step(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    needed = BUCKET_STEPS.get(config.launch.script, 64)
    for dataset in scan.datasets:
        if dataset.enable_bucket and dataset.bucket_reso_steps % needed:
            yield Problem(
                "bucket_reso_steps",
                f"it is {dataset.bucket_reso_steps}, but must divide by {needed} for this trainer",
                f"set it to {needed}",
                "bucket_reso_steps",
            )
            return


def default_length(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """max_train_steps decides, and nobody chose it or it overrides the epochs asked for."""
    training = config.training
    if not plan.steps_per_epoch:
        return
    where = "max_train_steps"
    if plan.length.decided_by != "max_train_steps":
        if _gui_takes_1600(config):
            yield Problem(
                where,
                f"the preset has none, so the GUI would train its default of 1600 steps, not {_epochs(plan)} epochs",
                "",
                "default_steps",
                "hint",
            )
    elif not plan.steps:
        yield Problem(where, "it is 0, so nothing would be trained", "set max_train_epochs", "no_steps")
    elif training.epoch:
        yield Problem(
            where,
            f"{plan.steps} steps go before epoch {training.epoch}: that is {_epochs(plan)} epochs",
            f"set max_train_epochs to {training.epoch}",
            "steps_override_epochs",
            "warning",
        )
    elif training.max_train_steps == 1600 and not _says(config, "max_train_steps"):
        yield Problem(
            where,
            f"no length is set, so the default of 1600 steps is in force: that is {_epochs(plan)} epochs",
            "set max_train_epochs",
            "default_steps",
            "warning",
        )


def _says(config: TrainConfig, name: str) -> bool:
    return config.source is not None and name in config.source.text


def _gui_takes_1600(config: TrainConfig) -> bool:
    """A preset without max_train_steps: the GUI fills in 1600, whatever its epoch says."""
    source = config.source
    if source is None or source.format != "gui-json" or config.dataset.dataset_config:
        return False
    return any(note.key == "max_train_steps" and note.action == "defaulted" for note in source.notes)


def _epochs(plan: Plan) -> str:
    return f"{plan.steps / plan.steps_per_epoch:.1f}".removesuffix(".0")


def gui_arithmetic(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """The GUI divides once for all buckets and doubles for regularisation, so its epochs are not the trainer's."""
    wanted = config.training.max_train_epochs or config.training.epoch
    if not wanted or not plan.steps_per_epoch or config.dataset.dataset_config or _gui_takes_1600(config):
        return
    theirs, ours = gui_steps(config, scan.datasets, wanted), wanted * plan.steps_per_epoch
    if theirs != ours:
        yield Problem(
            "steps",
            f"for {wanted} epoch{'s' if wanted > 1 else ''} the GUI counts {theirs:,} steps, the trainer {ours:,} "
            f"({plan.steps_per_epoch:,} an epoch, as every bucket rounds up)",
            "",
            "gui_step_arithmetic",
            "hint",
        )


def regularisation(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    reg = [(dataset, [s for s in dataset.subsets if s.is_reg]) for dataset in scan.datasets]
    images = sum(dataset.train_images for dataset, subsets in reg if subsets)
    files = sum(len(s.records) for _, subsets in reg for s in subsets)
    if not images or not files:
        return
    used = f"{files} regularisation images" + (f" repeated to {images}" if files < images else "")
    yield Problem(
        "reg_data_dir",
        f"{used} stand beside {images} training images, so an epoch has about twice the steps",
        "set the length in epochs, or halve the epochs you had in mind",
        "regularisation_doubles",
        "hint",
    )
    if files > images:
        yield Problem(
            "reg_data_dir",
            f"{files - images} of {files} regularisation images are never used",
            "raise the training repeats to use them all",
            "regularisation_unused",
            "hint",
        )


_SIDED = re.compile(r"\b(left|right|text|letters?|words?|logo|sign|writing|watermark|asymmetric\w*)\b", re.IGNORECASE)


def flip_with_sides(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    words: dict[str, int] = {}
    for subset in scan.subsets():
        if subset.augment.flip_aug:
            for record in subset.records:
                for word in {match.lower() for match in _SIDED.findall(record.caption)}:
                    words[word] = words.get(word, 0) + 1
    if words:
        told = ", ".join(f"'{word}' in {count}" for word, count in sorted(words.items(), key=lambda i: -i[1])[:3])
        yield Problem(
            "flip_aug",
            f"half of the images are mirrored, but captions name what has sides ({told})",
            "set flip_aug to false unless the subject is symmetric",
            "flip_asymmetric",
            "hint",
        )


def small_images(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    for dataset in scan.datasets:
        records = [r for s in dataset.subsets for r in s.records]
        if not (dataset.enable_bucket or dataset.scales):  # else they are refused
            continue
        enlarged = not (dataset.enable_bucket and dataset.bucket_no_upscale)
        how = [faults.too_small(faults.enlargement(r.size, dataset.resolution), enlarged=enlarged) for r in records]
        small = [record for record, severity in zip(records, how, strict=True) if severity]
        if not small:
            continue
        fate = "enlarged and blurred" if enlarged else "trained in small buckets of their own size"
        size = f"{dataset.resolution[0]}x{dataset.resolution[1]}"
        yield Problem(
            "resolution",
            f"{len(small)} of {len(records)} images have fewer pixels than {size}: {fate}{_such_as(small)}",
            "replace them with larger ones" if enlarged else "",
            "too_small",
            "warning" if "warning" in how else "hint",
        )


def scaled_without_buckets(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Where the default here is not sd-scripts': it would stop at such images, or cut them as they are."""
    dataset_config = config.dataset
    if dataset_config.cache_latents or dataset_config.cache_latents_to_disk:
        return  # then sd-scripts scales too
    for dataset in scan.datasets:
        records = [r for s in dataset.subsets for r in s.records]
        other = [r for r in records if r.size != dataset.resolution]
        if dataset.enable_bucket or not dataset.scales or not other:
            continue
        size = f"{dataset.resolution[0]}x{dataset.resolution[1]}"
        yield Problem(
            "enable_bucket",
            f"{len(other)} of {len(records)} images are not {size}{_such_as(other)}: without buckets they are scaled "
            "to cover it and cut, where sd-scripts scales nothing and stops (or cuts larger ones with random_crop)",
            "set enable_bucket to true to keep the whole pictures",
            "scaled_without_buckets",
            "hint",
        )


def _such_as(records: list[ImageRecord]) -> str:
    names = ", ".join(f"{shown(r.path.name)} {r.size[0]}x{r.size[1]}" for r in records[:2])
    return f" ({names}" + (", …)" if len(records) > 2 else ")")


def exif_rotation(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Said once for all photos that are upright only by their EXIF tag."""
    turned = [record for record in scan.records() if record.orientation > 1]
    if not turned:
        return
    count = f"{len(turned)} photo{'s' if len(turned) > 1 else ''}"
    names = ", ".join(shown(record.path.name) for record in turned[:3]) + (", …" if len(turned) > 3 else "")
    if config.dataset.exif_orientation == "apply":
        yield Problem(
            "exif_orientation",
            f"{count} upright only by EXIF ({names}): trained upright, where sd-scripts trains what is stored",
            "--set exif_orientation=ignore does as sd-scripts",
            "exif_orientation",
            "hint",
        )
    else:
        yield Problem(
            "exif_orientation",
            f"{count} upright only by EXIF ({names}): trained sideways or mirrored, as sd-scripts does",
            "--set exif_orientation=apply trains them upright",
            "exif_orientation",
            "warning",
        )


def lone_buckets(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Buckets that never fill a batch: their few images weigh as much as a whole batch does."""
    lone = [row for d in plan.datasets for row in d.buckets if d.dataset.batch_size > 1 and row.images == 1]
    if lone:
        names = ", ".join(str(row.bucket) for row in lone[:4]) + (", …" if len(lone) > 4 else "")
        yield Problem(
            "buckets",
            f"{len(lone)} bucket{'s hold' if len(lone) > 1 else ' holds'} one image each ({names}), "
            "which then makes a step of its own",
            "crop those images to a common shape, or raise their repeats",
            "lone_bucket",
            "hint",
        )


def long_captions(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    room = config.model.tokens
    records = [record for subset in scan.subsets() if not subset.is_reg for record in subset.records]
    too_long = [(count, record) for record in records if (count := _tokens(record.caption, room)) > room]
    if too_long:
        count, record = max(too_long, key=lambda pair: pair[0])
        wider = next((r for r in (150, 225) if r >= count), 225)
        yield Problem(
            "max_token_length",
            f"{len(too_long)} caption{'s have' if len(too_long) > 1 else ' has'} more than {room} tokens; the rest is "
            f"cut off ({shown(record.path.name)}: {count})",
            f"set max_token_length to {wider}" if room < 225 else "shorten them",
            "long_caption",
            "warning",
        )


_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+")


def _tokens(caption: str, room: int) -> int:
    """How many tokens a caption has; only a caption near the limit is worth the tokenizer."""
    caption = caption.split("\n")[0]
    at_least = len(_PIECES.findall(caption))
    if len(caption.encode("utf-8", "replace")) <= room or at_least * 2 <= room:
        return at_least
    from kohyakit.dataset.captions.tokens import count_tokens
    from kohyakit.errors import MissingExtra

    try:
        return count_tokens(caption)
    except MissingExtra:
        return at_least


def repaired_prompts(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    for place, prompt in enumerate(plan.samples, start=1):
        for note in prompt.notes:
            yield Problem(f"sample prompt {place}", note, "", "prompt_repaired", "hint")


def dangerous_words(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """Options in free text that would start something else (see launch_words)."""
    return launch_words(config)


def subset_endings(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """A dataset TOML says them once more, for each of its subsets."""
    for ending in dict.fromkeys(subset.caption_extension for subset in scan.subsets()):
        if ending not in (config.dataset.caption_extension, config.dataset.caption_extention):
            yield from name_faults("caption_extension", ending)


def log_file(config: TrainConfig, scan: Scan, plan: Plan) -> Iterator[Problem]:
    """sd-scripts empties the file that it is told to write its messages to."""
    name = config.saving.console_log_file
    real = os.path.realpath(name) if name and "\0" not in name else ""
    if real and os.path.lexists(real) and not real.lower().endswith((".log", ".txt")):
        what = f"console_log_file would be written over: {shown(real)} is there and is no log"
        yield Problem("console_log_file", what, "name a new file that ends in .log", "log_file_written_over")


TRAPS: tuple[Trap, ...] = (
    log_file,
    dangerous_words,
    subset_endings,
    *EFFECTS,
    not_read_by,
    unwritable_folders,
    images_without_bucket,
    bucket_step,
    default_length,
    gui_arithmetic,
    regularisation,
    flip_with_sides,
    small_images,
    scaled_without_buckets,
    exif_rotation,
    lone_buckets,
    held_back,
    long_captions,
    repaired_prompts,
)
