"""JSON Schemas (draft 4, which TOML editors read) of a config_file TOML, a GUI preset and a dataset_config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.scripts import NO_SCRIPT_READS
from kohyakit.config.sections.network import NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS
from kohyakit.describe.dataset_words import DATASET_WORDS
from kohyakit.describe.gui_words import GUI_WORDS
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.dataset_toml import DatasetTable, SubsetTable
from kohyakit.formats.gui.fields import TABS, Field, fields

DIALECT = "http://json-schema.org/draft-04/schema#"
KINDS = ("toml", "gui-json", "dataset")
FILE_NAME = "kohyakit.schema.json"  # what the `#:schema` line of a template names

_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "int_or_float": "number"}
# A batch size and a number of repeats have other names in a dataset_config.
_DATASET_NAMES = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}
# Sliders that the GUI itself widens for some LoRA types.
_WIDENED = ("network_dim", "conv_dim")
_OLD_KEYS = {
    "use_8bit_adam": "optimizer holds it now",
    "use_wandb": "log_with holds it now",
    "lora_network_weights": "network_weights holds it now",
    "conv_dims": "conv_block_dims holds it now",
    "conv_alphas": "conv_block_alphas holds it now",
    "save_as_bool": "nothing reads it",
    "stop_text_encoder_training_pct": "stop_text_encoder_training holds it now",
    "generate_caption_database": "create_caption holds it now",
    "generate_image_buckets": "create_buckets holds it now",
}


def schema(kind: str = "toml") -> dict[str, Any]:
    """The schema of one kind of file: toml, gui-json or dataset. Raises ConfigError for another kind."""
    try:
        return {"toml": _toml, "gui-json": _gui_json, "dataset": _dataset}[kind]()
    except KeyError:
        what = f"there is no schema for '{kind}'"
        raise ConfigError(Problem("", what, f"choose one of {', '.join(KINDS)}")) from None


def _described(text: str, tip: str) -> str:
    return f"{text}\n\nTry: {tip}" if tip else text


def _value(spec: Spec) -> dict[str, Any]:
    """One parameter as it stands in a TOML."""
    about = spec.about
    one: dict[str, Any] = {"type": _TYPES[spec.kind]}
    if about.choices:
        blanks = [blank for blank in about.blank if isinstance(blank, type(about.choices[0]))]
        one = {"enum": [*about.choices, *blanks]}
    if about.ge is not None:
        one["minimum"] = min([about.ge, *(b for b in about.blank if isinstance(b, (int, float)))])
    if about.gt is not None:
        one |= {"minimum": about.gt, "exclusiveMinimum": True}
    if about.le is not None:
        one["maximum"] = about.le
    found: dict[str, Any] = one
    if spec.many:
        lists: dict[str, Any] = {"type": "array", "items": one}
        found = lists if spec.kind == "str" else {"anyOf": [lists, one]}
    found |= {"description": _described(about.help, about.tip)}
    if spec.default is not None and spec.default != "":
        found["default"] = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    if about.deprecated:
        found["description"] = f"Old. {found['description']}"
    return found


def _refs(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/definitions/{name}"} for name in names}


def _toml() -> dict[str, Any]:
    own = [name for name, spec in SPECS().items() if spec.about.own]
    theirs = [name for name, spec in SPECS().items() if not spec.about.own]
    unread = {name: {"description": f"Has no effect: {why}."} for name, why in NO_SCRIPT_READS.items()}
    unread["epoch"] = {"description": "No sd-scripts program reads it; write max_train_epochs."}
    return {
        "$schema": DIALECT,
        "title": "config_file of sd-scripts and kohyakit",
        "description": "Settings of a LoRA training; table headers such as [network] are for the reader only.",
        "type": "object",
        "properties": {
            "kohyakit": {
                "type": "object",
                "description": "Settings of kohyakit itself; sd-scripts reads none of them.",
                "properties": _refs(own),
                "additionalProperties": False,
            },
            **_refs(theirs),
            **unread,
        },
        "additionalProperties": {
            "type": "object",
            "description": "A table: its name does not matter, its keys do.",
            "properties": {**_refs(theirs), **unread},
            "additionalProperties": False,
        },
        "definitions": {name: _value(spec) for name, spec in SPECS().items()},
    }


def _gui_json() -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {alias: spec for spec in SPECS().values() for alias in (*spec.about.gui, spec.name)}
    for tab in TABS:
        for key, about in fields(tab).items():
            found.setdefault(key, _gui_value(key, about, names))
    return {
        "$schema": DIALECT,
        "title": "Preset of the kohya_ss GUI",
        "type": "object",
        "properties": {
            "kohyakit": {"description": "A remark; the GUI drops it."},
            **found,
            **{key: {"description": f"A key of older presets: {text}."} for key, text in _OLD_KEYS.items()},
        },
        "additionalProperties": False,
    }


def _gui_value(key: str, about: Field, names: Mapping[str, Spec]) -> dict[str, Any]:
    kinds = {"check": ["boolean"], "number": ["number", "string"], "slider": ["number", "string"]}
    one: dict[str, Any] = {"type": kinds.get(about.kind, ["string", "number"])}
    if about.kind == "slider" and key not in _WIDENED:
        limits = (("minimum", about.minimum), ("maximum", about.maximum))
        one |= {name: bound for name, bound in limits if bound is not None}
    if about.choices:
        texts = [str(choice) for choice in about.choices if isinstance(choice, (int, float))]
        one = {"enum": [*about.choices, *texts]}  # older presets hold these numbers as text
    spec = names.get(key) or NETWORK_ARG_SPECS().get(key)
    words = GUI_WORDS.get(key)
    if words is not None:
        one["description"] = _described(words.help, words.tip)
    elif spec is not None:
        one["description"] = _described(spec.about.help, spec.about.tip)
    if about.default is not None:
        one["default"] = about.default
    return one


def _dataset() -> dict[str, Any]:
    subset = {f.name: _dataset_value(f.name, str(f.type)) for f in dataclass_fields(SubsetTable) if f.name != "kind"}
    data = {
        f.name: _dataset_value(f.name, str(f.type))
        for f in dataclass_fields(DatasetTable)
        if f.name not in ("kind", "subsets")
    }
    distinct = ("image_dir", "metadata_file", "is_reg", "class_tokens", "conditioning_data_dir")
    inherited = {name: value for name, value in subset.items() if name not in distinct}
    subsets = {"type": "array", "items": {"type": "object", "properties": subset, "additionalProperties": False}}
    table = {"type": "object", "properties": {**data, **inherited, "subsets": subsets}, "additionalProperties": False}
    return {
        "$schema": DIALECT,
        "title": "dataset_config of sd-scripts",
        "description": "What a subset leaves open comes from its data set, and then from [general].",
        "type": "object",
        "properties": {
            "general": {"type": "object", "properties": {**data, **inherited}, "additionalProperties": False},
            "datasets": {"type": "array", "items": table},
        },
        "required": ["datasets"],
        "additionalProperties": False,
    }


def _dataset_value(name: str, annotation: str) -> dict[str, Any]:
    kind = annotation.removesuffix(" | None")
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    if kind.startswith("tuple"):
        single = {"type": "integer"} if "int" in kind else {"type": "string"}
        one: dict[str, Any] = {"anyOf": [single, numbers]}
    else:
        plain = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
        one = {"type": plain.get(kind, "object")}
    spec = SPECS().get(_DATASET_NAMES.get(name, name))
    if spec is not None and spec.about.choices:
        one = {"enum": list(spec.about.choices)}
    if spec is not None and spec.about.ge is not None:
        one["minimum"] = spec.about.ge
    words = DATASET_WORDS.get(name)
    text = _described(*words) if words else _described(spec.about.help, spec.about.tip) if spec is not None else ""
    return {**one, "description": text} if text else one
