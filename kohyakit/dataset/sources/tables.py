"""The tables of a `dataset_config` as a training takes them: options by name, and what of them does not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem

if TYPE_CHECKING:
    from kohyakit.formats.dataset_toml import DatasetTree

Values = Mapping[str, Any]

PRESERVED = "diff_output_preservation"  # the one custom attribute that is read, in sd-scripts too


@dataclass(frozen=True, slots=True)
class Tables:
    """A `[[datasets]]` with its subsets; each with what it inherits. kind: as DatasetTable has it."""

    where: str
    kind: str
    values: Values
    subsets: tuple[Values, ...]


def read_tables(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> tuple[Tables, ...]:
    """Every data set of the file. as_there: sd-scripts trains, or is repeated. What is wrong is added to problems."""
    from kohyakit.formats import dataset_toml

    named = config.dataset.dataset_config or ""
    for option in ("train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir"):
        if config[option]:
            what = "it is not used, because dataset_config is set"
            problems.append(Problem(option, what, "remove one of the two", "folder_beside_dataset_config", "warning"))
    try:
        tree = dataset_toml.read(named)
    except KohyakitError as error:
        problems.extend(error.problems)
        return ()
    problems.extend(tree.problems)
    found = tuple(_tables(tree, shown(named), as_there))
    for tables in found:
        problems.extend(_not_together(tables, config, as_there))
    masked = [
        t.kind == "controlnet" or any(s.get("alpha_mask", config.dataset.alpha_mask) for s in t.subsets) for t in found
    ]
    if config.noise_loss.masked_loss and not any(masked):
        what = "masked_loss is on, but no subset of it has masks, so the whole picture counts"
        cure = "name conditioning_data_dir in every subset of a data set, or set alpha_mask"
        problems.append(Problem(shown(named), what, cure, "mask_without_source", "warning"))
    return found


def _tables(tree: DatasetTree, named: str, as_there: bool) -> Iterator[Tables]:
    for place, table in enumerate(tree.datasets, start=1):
        values = _set(table)
        subsets = [{**values, **_set(inner)} for inner in table.subsets if inner.image_dir or inner.metadata_file]
        if table.kind == "controlnet":  # beside masks sd-scripts has neither of these
            without = {"alpha_mask": False, **({"custom_attributes": None} if as_there else {})}
            subsets = [{**subset, **without} for subset in subsets]
        yield Tables(f"{named}: data set {place}", table.kind, values, tuple(subsets))


def _set(table: Any) -> dict[str, Any]:
    """The options that a table sets."""
    found = {f.name: getattr(table, f.name) for f in fields(table)}
    return {name: value for name, value in found.items() if value is not None and name not in ("kind", "subsets")}


def _not_together(tables: Tables, config: TrainConfig, as_there: bool) -> Iterator[Problem]:
    """What does not act, or stops a training, for what else is set."""
    where, subsets = tables.where, tables.subsets
    if tables.kind == "controlnet" and not config.noise_loss.masked_loss:
        what = "conditioning_data_dir holds masks, which only masked_loss looks at"
        yield Problem(where, what, "set masked_loss to true", "masks_without_masked_loss")
    cut = any(subset.get("random_crop", config.dataset.random_crop) for subset in subsets)
    if tables.kind == "controlnet" and as_there and cut:
        what = "sd-scripts does not cut at random where conditioning_data_dir is set"
        yield Problem(where, what, "set random_crop to false", "masks_random_crop")
    if as_there and tables.values.get("network_multiplier", 1) != 1:
        what = "sd-scripts reads network_multiplier and does nothing with it: the LoRA is trained at its full strength"
        yield Problem(where, what, "take it out", "multiplier_not_read", "warning")
    yield from _caching(tables, config)
    unread = sorted({name for subset in subsets for name in subset.get("custom_attributes") or {}} - {PRESERVED})
    if unread:
        what = f"nothing reads {', '.join(map(shown, unread))} in custom_attributes; only {PRESERVED} is known"
        yield Problem(where, what, "take it out", "attribute_not_read", "hint")
    if not as_there and any(subset.get("cache_info") for subset in subsets):
        what = "cache_info can go: names, captions and sizes are read anew in each training, which takes a moment"
        yield Problem(where, what, "", "cache_info_not_needed", "hint")


# What changes pictures or captions each time, so that nothing of them can be kept.
_OF_PICTURES = ("color_aug", "random_crop")
_OF_CAPTIONS = ("shuffle_caption", "caption_dropout_rate", "token_warmup_step", "caption_tag_dropout_rate")


def _caching(tables: Tables, config: TrainConfig) -> Iterator[Problem]:
    data = config.dataset
    caches = {
        "cache_latents": (data.cache_latents or data.cache_latents_to_disk, "latents are", _OF_PICTURES),
        "cache_text_encoder_outputs": (
            data.cache_text_encoder_outputs or data.cache_text_encoder_outputs_to_disk,
            "text encoder outputs are", _OF_CAPTIONS,
        ),
    }  # fmt: skip
    for option, (on, what, names) in caches.items():
        named = [name for name in names if any(subset.get(name, config[name]) for subset in tables.subsets)]
        if on and named:
            text = f"{what} cached, but {' and '.join(named)} would change them each time"
            yield Problem(tables.where, text, f"switch {option} or {named[0]} off", "caching_excludes_changes")
