"""Going on from a state: whether it still fits what is asked for, in words, before anything is loaded.

A training that goes on equals one that was never stopped only where everything that decides its numbers is as it
was. What decides is kept with the state (`made_with`) and compared with what is asked for now:

- free: length, saves, samples, logs, names, what is about speed and memory only;
- data: photos, captions, their options, seed, batches. Refused, or taken with `resume_with_changes`; the epoch then
  begins anew, as its order is another one;
- settings: rates, schedule, noise, loss, dropout … Refused, or taken with `resume_with_changes`, and then in force;
- shape: what the state's tensors belong to. Refused: there is nothing to go on from.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.config.rules.reading import optimizer
from kohyakit.config.sections.network import NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.dataset.fingerprint import fingerprint, hash_files
from kohyakit.dataset.images import shown
from kohyakit.dataset.layout import Dataset, Scan, Subset
from kohyakit.errors import Problem, RunError
from kohyakit.formats.weights import state_folder
from kohyakit.formats.weights.state_folder import Position, StateFolder
from kohyakit.planning.lengths import learning_rates
from kohyakit.planning.plan import Length, Start
from kohyakit.runs.comparison.compare import show
from kohyakit.runs.registry import HASH_CACHE
from kohyakit.runs.run import RUNS_DIR

SHAPE, DATA, SETTINGS = "shape", "data", "settings"

# The sections whose parameters decide numbers; dataset and bucket are seen as the scan made of them.
_SECTIONS = ("model", "network", "optimizer", "noise_loss", "training")
# Of these sections, what may change without a word: nothing that is trained comes out differently.
FREE = frozenset(
    (
        "tokenizer_cache_dir", "disable_mmap_load_safetensors", "network_weights", "use_8bit_adam",
        "use_lion_optimizer", "fused_backward_pass", "resume", "resume_as", "resume_with_changes", "mem_eff_attn",
        "torch_compile", "dynamo_backend", "xformers", "sdpa", "max_train_steps", "max_train_epochs", "epoch",
        "max_data_loader_n_workers", "persistent_data_loader_workers", "gradient_checkpointing", "lowram", "highvram",
        "cpu_offload_checkpointing", "training_comment", "skip_until_initial_step", "initial_epoch", "initial_step",
        "validate_every_n_steps", "validate_every_n_epochs", "max_validation_steps", "blocks_to_swap",
        "fixed_noises", "early_stop_patience", "joined_qkv",
    )
)  # fmt: skip
_FILES = ("pretrained_model_name_or_path", "vae")
_SHAPES = (
    "v2", "optimizer_type", "network_module", "network_dim", "network_train_unet_only",
    "network_train_text_encoder_only", "dim_from_weights", "rng_order",
)  # fmt: skip
_DATA_SETTINGS = ("seed", "gradient_accumulation_steps")
# What moves sd-scripts' one stream of random numbers, and nothing in an order of our own.
_MOVE_ITS_STREAM = (
    "max_data_loader_n_workers", "persistent_data_loader_workers", "cache_latents", "cache_latents_to_disk",
    "vae_batch_size",
)  # fmt: skip
_MOST_NAMED = 6
_MISSING = "not there"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not as the state was made with. kind: SHAPE, DATA or SETTINGS."""

    kind: str
    text: str


def made_with(
    config: TrainConfig, datasets: Sequence[Dataset], *, images: str, captions: str, seed: int | None = None
) -> dict[str, Any]:
    """What decides the numbers of a training, as plain data. images, captions: the data set's fingerprints."""
    settings = {name: config[name] for name, spec in SPECS().items() if spec.section in _SECTIONS and name not in FREE}
    settings |= {name: _file(config[name]) for name in _FILES}
    settings |= {"base_weights": [_file(name) for name in config.network.base_weights or ()] or None}
    settings |= {"optimizer_type": optimizer(config), "network_dim": config.network.rank}
    settings |= {"network_module": config.network.module, "script": config.launch.script}
    settings |= {"seed": config.training.seed if seed is None else seed}
    if config.training.rng_order == "sd-scripts":
        settings |= {name: config[name] for name in _MOVE_ITS_STREAM}
    data = {
        "images": images,
        "captions": captions,
        "order": _order(datasets),
        "resize_interpolation": config.dataset.resize_interpolation,
        "datasets": [_dataset(dataset) for dataset in datasets],
    }
    found = {"settings": settings, "groups": _groups(config), "data": data}
    return json.loads(json.dumps(found, default=str))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What differs between two `made_with`, the weightiest first; nothing where the first does not tell."""
    if not before:
        return []
    found = [*_changed_settings(before.get("settings"), now["settings"])]
    if before.get("groups") != now["groups"] and not any(change.kind == SHAPE for change in found):
        found.append(Change(SHAPE, f"trained parts {_listed(before.get('groups'))} → {_listed(now['groups'])}"))
    found += _changed_data(before.get("data"), now["data"])
    counts = before.get("processes"), now.get("processes")
    if None not in counts and counts[0] != counts[1]:
        found.append(Change(DATA, f"processes {counts[0]} → {counts[1]}"))
    return sorted(found, key=lambda change: (SHAPE, DATA, SETTINGS).index(change.kind))


def group_settings(*made: Mapping[str, Any]) -> set[str]:
    """The settings of an optimizer's groups that a person can name: the rate and whatever is in optimizer_args."""
    arguments = (one.get("settings", {}).get("optimizer_args") or () for one in made)
    return {"lr", "initial_lr", *(text.partition("=")[0].strip() for texts in arguments for text in texts)}


def refusal(where: str, found: Iterable[Change], *, with_changes: bool) -> Problem | None:
    """Why a state cannot be gone on from, or None where nothing stands against it."""
    found = list(found)
    shape = [change for change in found if change.kind == SHAPE]
    if shape:
        cure = "set it back, or start from the state's LoRA with network_weights instead of resume"
        return Problem(where, f"the state belongs to another training: {_named(shape)}", cure, "state_of_another")
    if found and not with_changes:
        cure = "set it back, or take it as it is now with --set resume_with_changes=true"
        return Problem(where, f"the state was made with other settings: {_named(found)}", cure, "state_changed")
    return None


def going_on(
    config: TrainConfig, scan: Scan, processes: int | None = None, *, length: Length | None = None
) -> tuple[Start, tuple[Problem, ...]]:
    """Where a training begins that goes on from the state named by `resume`, and what has changed since it was made.

    processes: how many really train, where that is known. length: of the whole training, which a state of sd-scripts
    needs. That it is no state at all is told elsewhere.
    """
    name = config.training.resume
    try:
        state = state_folder.read(Path(name)) if name else None
    except RunError:
        state = None
    if state is None or state.position.rng_order not in ("", config.training.rng_order):
        return Start(), ()
    if state.by_sd_scripts:
        return _from_sd_scripts(config, state, length)
    found = changes(state.made_with, made_with_of(config, scan, state.folder, processes))
    return start_of(config, state.position, found), tuple(_since(config, state, found))


def _from_sd_scripts(
    config: TrainConfig, state: StateFolder, length: Length | None
) -> tuple[Start, tuple[Problem, ...]]:
    """A state of theirs: the epoch and the batch follow from its steps; it holds no order of an epoch that is begun."""
    per_epoch, accumulation = (length.steps_per_epoch, length.accumulation) if length else (0, 1)
    epochs, rest = divmod(state.position.current_step, per_epoch) if per_epoch else (0, 0)
    position = replace(state.position, current_epoch=epochs + 1, batches_done=rest * accumulation)
    start = start_of(config, position, ())
    taken, order = "weights, optimizer, schedule and step", ", and photos and noise come in kohyakit's own order"
    if config.training.rng_order == "sd-scripts":
        taken, order = "weights, optimizer, schedule, step and random numbers", ""
        if rest and not start.as_sd_scripts:
            start = replace(start, batches_done=0, anew=True)
            order = ", and the epoch that was begun does too"
    what = (
        f"it is a state of sd-scripts: its {taken} are taken up; it does not tell its settings, photos and losses, so "
        f"keep them as they were; the average of losses begins anew{order}"
    )
    told = Problem(shown(config.training.resume or ""), what, "", "state_of_sd_scripts", "hint")
    return start, (told, *_order_wanted(config))


def _order_wanted(config: TrainConfig) -> Iterator[Problem]:
    if config.training.resume_as == "sd-scripts" and config.training.rng_order != "sd-scripts":
        what = "it goes on as sd-scripts only in sd-scripts' order of random numbers"
        yield Problem("resume_as", what, "set rng_order to sd-scripts, or leave resume_as out", "resume_as")


def start_of(config: TrainConfig, position: Position, found: Iterable[Change]) -> Start:
    """The first step, epoch and batch after a state; `found` is what has changed since.

    Where the data did, the epoch begins anew. As sd-scripts goes on, so it always does and steps count from 0;
    skip_until_initial_step then drops as many batches as were done.
    """
    kinds = {change.kind for change in found}
    step, epoch, done = position.current_step, position.current_epoch, position.batches_done
    done = 0 if DATA in kinds else done
    as_there = config.training.resume_as == "sd-scripts"
    if as_there:
        done = done if config.training.skip_until_initial_step else 0
        step, epoch = done, config.training.initial_epoch or epoch
    return Start(step, epoch, done, changed=bool(kinds), anew=DATA in kinds, as_sd_scripts=as_there)


def _since(config: TrainConfig, state: StateFolder, found: list[Change]) -> Iterator[Problem]:
    where = shown(config.training.resume or "")
    problem = refusal(where, found, with_changes=config.training.resume_with_changes)
    if problem:
        yield problem
    elif found:
        yield Problem(where, f"goes on with changes: {_named(found)}", "", "resume_with_changes", "warning")
    yield from _order_wanted(config)
    if not state.made_with:
        what = "the state does not tell what it was made with, so keep all settings as they were"
        yield Problem(where, what, "", "state_without_settings", "hint")


def made_with_of(config: TrainConfig, scan: Scan, folder: Path, processes: int | None = None) -> dict[str, Any]:
    """made_with before a training: the photos' hashes come from the cache of the runs beside the state."""
    cache = folder.absolute().parent / RUNS_DIR / HASH_CACHE
    found = fingerprint(scan, cache=cache, keep=False)
    return {
        **made_with(config, scan.datasets, images=found.images, captions=found.captions),
        **({"processes": processes} if processes else {}),
    }


def _changed_settings(before: Any, now: Mapping[str, Any]) -> Iterator[Change]:
    before = before if isinstance(before, dict) else {}
    for name, value in now.items():
        old = before.get(name, SPECS()[name].default if name in SPECS() else value)
        if name == "seed" and value is None:  # then the state's own is taken
            continue
        if _plain(old) == _plain(value) or value == _MISSING:
            continue
        if name == "network_args":
            yield from _changed_arguments(old, value)
            continue
        kind = SHAPE if name in _SHAPES or name == "script" else DATA if name in _DATA_SETTINGS else SETTINGS
        yield Change(kind, f"{name} {show(old)} → {show(value)}")


def _changed_arguments(old: Any, new: Any) -> Iterator[Change]:
    """network_args one by one, as some of them give the network another shape."""
    before, now = (parse_network_args(tuple(value or ())) for value in (old, new))
    for name in NETWORK_ARG_SPECS():
        earlier, value = getattr(before, name), getattr(now, name)
        if value != earlier:
            shape = name.endswith(("_dim", "_dims"))
            yield Change(SHAPE if shape else SETTINGS, f"{name} {show(earlier)} → {show(value)}")


def _changed_data(before: Any, now: Mapping[str, Any]) -> Iterator[Change]:
    if not isinstance(before, dict):
        return
    if before.get("images") != now["images"]:
        yield Change(DATA, "other photos")
    elif before.get("captions") != now["captions"]:
        yield Change(DATA, "other captions")
    texts = list(_changed_datasets(before.get("datasets"), now["datasets"]))
    texts += [
        f"{name} {show(before.get(name))} → {show(now[name])}"
        for name in ("resize_interpolation",)
        if before.get(name) != now[name]
    ]
    if not texts and before.get("images") == now["images"] and before.get("order") != now["order"]:
        texts = ["other names or another order of the photos"]
    for text in dict.fromkeys(texts):
        yield Change(DATA, text)


def _changed_datasets(before: Any, now: list[dict[str, Any]]) -> Iterator[str]:
    if not isinstance(before, list) or len(before) != len(now):
        yield f"data sets {len(before) if isinstance(before, list) else '?'} → {len(now)}"
        return
    for old, new in zip(before, now, strict=True):
        folders = [[subset.get("folder") for subset in one.get("subsets", [])] for one in (old, new)]
        if folders[0] != folders[1]:
            yield f"folders {_listed(folders[0])} → {_listed(folders[1])}"
            continue
        pairs = [(old, new), *zip(old["subsets"], new["subsets"], strict=True)]
        for left, right in pairs:
            for name, value in right.items():
                if name != "subsets" and name in left and left[name] != value:
                    yield f"{name} {show(left[name])} → {show(value)}"


def _dataset(dataset: Dataset) -> dict[str, Any]:
    width, height = dataset.resolution
    facts = {"resolution": f"{width}x{height}", "train_batch_size": dataset.batch_size}
    facts |= {"enable_bucket": dataset.enable_bucket, "network_multiplier": dataset.network_multiplier}
    if dataset.enable_bucket:
        facts |= {name: getattr(dataset, name) for name in
                  ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")}  # fmt: skip
    return {**facts, "subsets": [_subset(subset) for subset in dataset.subsets]}


def _subset(subset: Subset) -> dict[str, Any]:
    facts = {
        "folder": subset.name,
        "num_repeats": subset.num_repeats,
        "is_reg": subset.is_reg,
        "alpha_mask": subset.alpha_mask,
        "masks": _masks(subset),
        "diff_output_preservation": subset.preserved,
        "face_crop_aug_range": list(subset.face_crop_aug_range or ()),
    }
    return {**facts, "class_tokens": subset.class_tokens, **asdict(subset.captions), **asdict(subset.augment)}


def _masks(subset: Subset) -> str:
    """Pictures that are masks, by their bytes."""
    paths = [record.mask.path for record in subset.records if record.mask]
    hashes = hash_files(paths)
    digest = hashlib.blake2b("\n".join(hashes[path][0] for path in paths).encode(), digest_size=6)
    return f"{len(paths)} ({digest.hexdigest()})" if paths else "none"


def _order(datasets: Iterable[Dataset]) -> str:
    """The photos by name, in their order, with their size as trained: what the order of an epoch hangs on."""
    digest = hashlib.blake2b(digest_size=12)
    for dataset in datasets:
        for entry in dataset.registered():
            record = entry.record
            digest.update(f"{entry.subset.name}/{record.path.name} {record.size} {entry.repeats}\n".encode())
    return digest.hexdigest()


def _file(name: str | None) -> str | None:
    """A model by its name and its size in bytes, so that it may have been moved; a folder by its weights' size."""
    if not name:
        return None
    place = Path(name)
    try:
        inside = place.glob("*/*") if os.path.isdir(place) else ()
        weights = [file for file in inside if file.suffix in (".safetensors", ".bin")] or [place]
        return f"{place.name} ({sum(file.stat().st_size for file in weights)} bytes)"
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return _MISSING  # which is told elsewhere


def _groups(config: TrainConfig) -> list[str]:
    """The optimizer's groups, on which its state hangs."""
    rates, arguments = learning_rates(config), parse_network_args(config.network.network_args)
    halves = (
        ("text encoder", rates.text_encoder[0] if rates.text_encoder else 0, config.network.network_train_unet_only,
         arguments.loraplus_text_encoder_lr_ratio or arguments.loraplus_lr_ratio),
        ("U-Net", rates.unet, config.network.network_train_text_encoder_only,
         arguments.loraplus_unet_lr_ratio or arguments.loraplus_lr_ratio),
    )  # fmt: skip
    return [f"{name} (LoRA+)" if ratio else name for name, rate, left_out, ratio in halves if rate and not left_out]


def _plain(value: Any) -> Any:
    """Values that mean the same made equal: not given is off, and names are read in any case."""
    if value is False or value == "" or value == []:
        return None
    return value.strip().lower() if isinstance(value, str) else value


def _named(found: list[Change]) -> str:
    more = len(found) - _MOST_NAMED
    return ", ".join(change.text for change in found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _listed(names: Any) -> str:
    return " + ".join(map(str, names)) if isinstance(names, list) and names else "none"
