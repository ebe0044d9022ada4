"""sd-scripts' `--dataset_config`, TOML or JSON: `[general]` > `[[datasets]]` > `[[datasets.subsets]]`, inherited.

A subset's option goes before its data set's, that before `[general]`; what all leave open is None, for the training's
own options to fill. sd-scripts refuses unknown names and wrong types in this file; so does this, all of them at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kohyakit.errors import ConfigError, DatasetError, Problem
from kohyakit.formats.text import parse_json, parse_toml, read_text, shorten


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetTable:
    """A `[[datasets.subsets]]` with what it inherits. kind: dreambooth, finetuning (metadata_file) or controlnet."""

    kind: str = "dreambooth"
    image_dir: str | None = None
    metadata_file: str | None = None
    conditioning_data_dir: str | None = None
    is_reg: bool | None = None
    class_tokens: str | None = None
    caption_extension: str | None = None
    cache_info: bool | None = None
    alpha_mask: bool | None = None
    num_repeats: int | None = None
    shuffle_caption: bool | None = None
    caption_separator: str | None = None
    keep_tokens: int | None = None
    keep_tokens_separator: str | None = None
    secondary_separator: str | None = None
    enable_wildcard: bool | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    caption_dropout_rate: float | None = None
    caption_dropout_every_n_epochs: int | None = None
    caption_tag_dropout_rate: float | None = None
    token_warmup_min: int | None = None
    token_warmup_step: float | None = None
    color_aug: bool | None = None
    flip_aug: bool | None = None
    face_crop_aug_range: tuple[float, float] | None = None
    random_crop: bool | None = None
    custom_attributes: Mapping[str, Any] | None = None
    resize_interpolation: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetTable:
    """A `[[datasets]]` with what it inherits from `[general]`. resolution: (width, height) in pixels."""

    kind: str = "dreambooth"
    resolution: tuple[int, int] | None = None
    batch_size: int | None = None
    enable_bucket: bool | None = None
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    bucket_reso_steps: int | None = None
    bucket_no_upscale: bool | None = None
    validation_seed: int | None = None
    validation_split: float | None = None
    network_multiplier: float | None = None
    resize_interpolation: str | None = None
    subsets: tuple[SubsetTable, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetTree:
    """A dataset_config read. problems: warnings only; errors are raised."""

    path: Path | None
    datasets: tuple[DatasetTable, ...]
    problems: tuple[Problem, ...] = ()


# Names that a subset alone has, and those of them that a data set or [general] may not set for it.
_DISTINCT = {
    "dreambooth": {"image_dir", "is_reg", "alpha_mask"},
    "finetuning": {"image_dir", "metadata_file", "alpha_mask"},
    "controlnet": {"image_dir", "conditioning_data_dir"},
}
_REQUIRED = {
    "dreambooth": ("image_dir",),
    "finetuning": ("metadata_file",),
    "controlnet": ("image_dir", "conditioning_data_dir"),
}
_NOT_OF = {
    "dreambooth": {"metadata_file", "conditioning_data_dir"},
    "finetuning": {"conditioning_data_dir", "is_reg", "class_tokens", "caption_extension", "cache_info"},
    "controlnet": {"metadata_file", "is_reg", "class_tokens", "alpha_mask"},
}
_TYPES = {
    f.name: str(f.type).removesuffix(" | None")
    for table in (SubsetTable, DatasetTable)
    for f in fields(table)
    if f.name not in ("kind", "subsets")
}
_SUBSET = {f.name for f in fields(SubsetTable)} - {"kind"}
_DATASET = {f.name for f in fields(DatasetTable)} - {"kind", "subsets"}
# What people write here that belongs elsewhere or has another name.
_ELSEWHERE = {
    "train_batch_size": "write batch_size",
    "dataset_repeats": "write num_repeats",
    "repeats": "write num_repeats",
    "train_data_dir": "name each folder of images as image_dir in a [[datasets.subsets]]",
    "reg_data_dir": "write a [[datasets.subsets]] with is_reg = true",
    "caption_extention": "write caption_extension",
    "prior_loss_weight": "it stands in the config_file or on the command line",
    "max_token_length": "it stands in the config_file or on the command line",
    "debug_dataset": "it stands on the command line",
    "cache_latents": "it stands in the config_file or on the command line",
}


def read(path: Path | str) -> DatasetTree:
    """A dataset_config file. Raises DatasetError with every problem at once."""
    path = Path(path)
    try:
        tree = loads(read_text(path), path.name)
    except ConfigError as error:
        raise DatasetError(error.problems) from None
    return DatasetTree(path, tree.datasets, tree.problems)


def loads(text: str, where: str) -> DatasetTree:
    """As `read`, of text. where: the name that problems are told under. Raises ConfigError or DatasetError."""
    is_json = text.lstrip("\ufeff \t\r\n").startswith(("{", "[{"))
    values, problems = parse_json(text, where) if is_json else parse_toml(text, where)
    if not isinstance(values, dict):
        raise DatasetError(Problem(where, "holds no [general] and [[datasets]]", name="not_a_dataset_config"))
    return from_tables(values, where, problems)


def from_tables(values: Mapping[str, Any], where: str, problems: list[Problem] | None = None) -> DatasetTree:
    """Parsed tables -> the tree. Raises DatasetError with every problem at once."""
    problems = list(problems or [])
    for name in values.keys() - {"general", "datasets", "kohyakit"}:
        near = difflib.get_close_matches(name, ("general", "datasets"), n=1)
        cure = f"did you mean '{near[0]}'?" if near else "only [general] and [[datasets]] stand there"
        problems.append(Problem(where, f"unknown table or option '{name}' at the top", cure, name="unknown_parameter"))
    general = values.get("general", {})
    if not isinstance(general, dict):
        problems.append(Problem(where, f"general is {shorten(general)}, but a table was wanted", "write [general]"))
        general = {}
    inherited = _options(general, f"{where}: [general]", "general", problems)
    found = values.get("datasets")
    if not isinstance(found, list) or not found:
        problems.append(
            Problem(where, "names no data set", "write [[datasets]] and [[datasets.subsets]]", name="no_datasets")
        )
        found = []
    datasets = [
        _dataset(table, f"{where}: data set {place}", inherited, problems) for place, table in enumerate(found, 1)
    ]
    if any(problem.severity == "error" for problem in problems):
        raise DatasetError(problems)
    return DatasetTree(None, tuple(table for table in datasets if table), tuple(problems))


def _dataset(table: Any, where: str, inherited: Mapping[str, Any], problems: list[Problem]) -> DatasetTable | None:
    if not isinstance(table, dict):
        problems.append(Problem(where, f"is {shorten(table)}, but a table was wanted", "write [[datasets]]"))
        return None
    subsets = table.get("subsets")
    if not isinstance(subsets, list) or not subsets:
        problems.append(Problem(where, "has no subset", "write [[datasets.subsets]] with image_dir", name="no_subsets"))
        subsets = []
    kind = _kind([subset for subset in subsets if isinstance(subset, dict)], where, problems)
    options = {name: value for name, value in table.items() if name != "subsets"}
    own = {**inherited, **_options(options, where, "data set", problems)}
    inner = [
        _subset(subset, f"{where}, subset {place}", kind, own, problems) for place, subset in enumerate(subsets, 1)
    ]
    known = {name: value for name, value in own.items() if name in _DATASET}
    if not 0 <= (known.get("validation_split") or 0) <= 1:
        what = f"validation_split is {known['validation_split']:g}, but a share between 0 and 1 was wanted"
        problems.append(Problem(where, what, "write 0.1 to hold back a tenth", name="bad_value"))
    return DatasetTable(kind=kind, subsets=tuple(subset for subset in inner if subset), **known)


def _kind(subsets: list[dict[str, Any]], where: str, problems: list[Problem]) -> str:
    """What sd-scripts takes a data set for, by what its subsets name."""
    if subsets and all("conditioning_data_dir" in subset for subset in subsets):
        return "controlnet"
    with_metadata = sum("metadata_file" in subset for subset in subsets)
    if with_metadata and with_metadata < len(subsets):
        what = f"{with_metadata} of {len(subsets)} subsets have a metadata_file; sd-scripts does not mix both kinds"
        problems.append(Problem(where, what, "put them into two [[datasets]]", name="mixed_dataset"))
    return "finetuning" if with_metadata else "dreambooth"


def _subset(
    table: Any, where: str, kind: str, inherited: Mapping[str, Any], problems: list[Problem]
) -> SubsetTable | None:
    if not isinstance(table, dict):
        problems.append(Problem(where, f"is {shorten(table)}, but a table was wanted", "write [[datasets.subsets]]"))
        return None
    own = _options(table, where, "subset", problems)
    for name in sorted(own.keys() & _NOT_OF[kind]):
        what = f"{name} does not go with a {kind} subset"
        problems.append(Problem(where, what, "take it out", name="unknown_parameter"))
    for name in _REQUIRED[kind]:
        if not own.get(name) and name not in table:
            problems.append(
                Problem(where, f"{name} is missing", f"write {name} = 'the folder'", name="missing_parameter")
            )
    fitting = {name: value for name, value in inherited.items() if name in _SUBSET and name not in _NOT_OF[kind]}
    return SubsetTable(kind=kind, **{**fitting, **{name: own[name] for name in own.keys() - _NOT_OF[kind]}})


def _options(table: Mapping[str, Any], where: str, level: str, problems: list[Problem]) -> dict[str, Any]:
    """The options of one table, checked. level: general, data set or subset."""
    allowed = _SUBSET if level == "subset" else (_DATASET | _SUBSET) - set().union(*_DISTINCT.values())
    found = {}
    for name, value in table.items():
        if name not in allowed:
            problems.append(
                Problem(where, f"unknown option '{name}'", _cure(name, level, allowed), name="unknown_parameter")
            )
            continue
        try:
            found[name], loose = _value(_TYPES[name], value)
        except ValueError as wanted:
            problems.append(Problem(where, f"{name} is {shorten(value)}, but {wanted} was wanted", name="bad_value"))
            continue
        if loose:
            what = f"{name} is {shorten(value)}; sd-scripts refuses that and wants {loose}"
            problems.append(
                Problem(where, what, f"write {name} = {_shown(found[name])}", name="loose_value", severity="warning")
            )
    return found


def _cure(name: str, level: str, allowed: set[str]) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    if level != "subset" and name in _SUBSET:
        return "it belongs into [[datasets.subsets]]"
    if level == "subset" and name in _DATASET:
        return "it belongs into [[datasets]] or [general]"
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"did you mean '{near[0]}'?" if near else "take it out; sd-scripts refuses the file"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def _value(kind: str, value: Any) -> tuple[Any, str]:
    """A value in the option's type, and what sd-scripts wanted where it would refuse the way it is written."""
    if kind == "bool":
        if isinstance(value, bool):
            return value, ""
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true", "true or false without quotes"
        raise ValueError("true or false")
    if kind == "str":
        if isinstance(value, str):
            return value, ""
        raise ValueError("text")
    if kind in ("int", "float"):
        return _number(kind, value)
    if kind.startswith("tuple"):
        return _pair("int" if "int" in kind else "float", value)
    if isinstance(value, dict):
        return value, ""
    raise ValueError("a table")


def _number(kind: str, value: Any) -> tuple[int | float, str]:
    word = "a whole number" if kind == "int" else "a number"
    loose = ""
    if isinstance(value, str):
        loose = f"{word} without quotes"
        try:
            value = float(value) if kind == "float" or not value.strip().lstrip("+-").isdigit() else int(value)
        except ValueError:
            raise ValueError(word) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        raise ValueError(word)
    if kind == "float":
        return float(value), loose
    if value != int(value):
        raise ValueError(word)
    return int(value), loose or ("" if isinstance(value, int) else word)


def _pair(kind: str, value: Any) -> tuple[tuple[Any, Any], str]:
    """Two numbers; one stands for both, and text with a comma for a list."""
    wanted = "a size such as 768 or two such as [768, 512]" if kind == "int" else "two numbers such as [1.0, 2.0]"
    loose = ""
    if isinstance(value, str):
        loose, value = wanted, value.split(",")
    parts = value if isinstance(value, (list, tuple)) else [value]
    if len(parts) not in ((1, 2) if kind == "int" else (2,)):
        raise ValueError(wanted)
    try:
        numbers = [_number(kind, part) for part in parts]
    except ValueError:
        raise ValueError(wanted) from None
    if isinstance(value, list) and len(value) == 1:
        loose = wanted
    return (numbers[0][0], numbers[-1][0]), loose or next((text for _, text in numbers if text), "")
