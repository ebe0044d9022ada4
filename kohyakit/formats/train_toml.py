"""sd-scripts' `--config_file` TOML: read as sd-scripts flattens it, written for sd-scripts and for a person.

Our own parameters stand in `[kohyakit]`; sd-scripts takes them in with everything else and reads none of them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.read import nearest, read_values
from kohyakit.config.scripts import FAMILIES, LORA_SCRIPTS, NO_SCRIPT_READS, ONLY_IN, SCRIPTS, reads
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.text import names, parse_toml, shorten, write_text
from kohyakit.registry.families import MODELS, group_of

OWN = "kohyakit"
_SECTIONS = {
    "model": "the base model",
    "dataset": "pictures, captions, caching",
    "bucket": "aspect-ratio buckets",
    "network": "the LoRA",
    "optimizer": "learning rates and their schedule",
    "training": "length, seed, precision, memory",
    "noise_loss": "noise and loss",
    "sampling": "sample pictures during training",
    "saving": "what is written, and where",
    "families": "Flux, SD3, Lumina, HunyuanImage, Anima",
    "finetune": "whole-model and embedding training",
    "launch": "how the processes talk to each other",
}
# Written even at their defaults: a reader of the file wants to see them.
_ESSENTIAL = frozenset(
    names("""pretrained_model_name_or_path resolution caption_extension train_batch_size network_module
        network_dim network_alpha optimizer_type learning_rate lr_scheduler max_train_steps
        mixed_precision save_precision output_dir output_name seed""")
)


@dataclass(slots=True)
class Flat:
    """A config_file as sd-scripts sees it: one flat set of names; `own` is the `[kohyakit]` table."""

    values: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def flatten(tables: Mapping[str, Any], where: str) -> Flat:
    """Tables -> names, in the order in which sd-scripts reads them: of a name in two tables the later one wins."""
    flat = Flat()
    origin: dict[str, str] = {}

    def put(name: str, value: Any, table: str) -> None:
        if name in origin:
            what = f"{name} stands in {origin[name]} and in {table}; the latter, {shorten(value)}, counts"
            flat.problems.append(Problem(where, what, "take one out", name="duplicate_key", severity="warning"))
        origin[name] = table
        flat.values[name] = value

    for name, value in tables.items():
        if not isinstance(value, dict):
            put(name, value, "the top of the file")
        elif name == OWN:
            flat.own = dict(value)
        else:
            for inner, item in value.items():
                put(inner, item, f"[{name}]")
    return flat


def read(text: str, where: str) -> tuple[TrainConfig, list[Note], list[Problem]]:
    """config_file text -> the config it gives sd-scripts, a note per key, and every problem of the file."""
    tables, problems = parse_toml(text, where)
    flat = flatten(tables, where)
    problems += flat.problems
    values, notes = prepare(flat, where, problems)
    if "script" not in values:
        values["script"] = script_for(values)
        notes.append(Note("script", "defaulted", f"{values['script']}, by the options and the model"))
    config, found = read_values(values, where)
    return config, notes + _unknown_notes(config, flat), problems + found


def prepare(flat: Flat, where: str, problems: list[Problem]) -> tuple[dict[str, Any], list[Note]]:
    """Values as read_values takes them: what sd-scripts reads otherwise than it looks, said and set right."""
    values: dict[str, Any] = {}
    notes: list[Note] = []
    for name, value in flat.values.items():
        spec = SPECS().get(name)
        if spec is not None and spec.about.own:
            problems += _own_at_the_top(name, flat, where)
            notes.append(Note(name, "dropped", "no sd-scripts program reads it"))
            continue
        if spec is not None and isinstance(value, str) and spec.kind != "str" and not spec.many:
            what = f"{name} is the text {shorten(value)}, which sd-scripts would not turn into a number or a switch"
            problems.append(Problem(where, what, "take the quotes out", name="quoted_number", severity="warning"))
        if name == "resolution" and isinstance(value, (int, float)) and not isinstance(value, bool):
            what = f"resolution is the number {value}, at which sd-scripts stops"
            problems.append(Problem(where, what, f'write "{value}"', name="unquoted_text", severity="warning"))
        if value == [] and spec is not None and spec.many and spec.default is None:
            notes.append(Note(name, "mapped", "empty, so not given"))
            continue
        if isinstance(value, dict):
            problems.append(
                Problem(
                    where,
                    f"{name} is a table inside a table, which sd-scripts does not take apart",
                    "move its keys up",
                    name="nested_table",
                    severity="warning",
                )
            )
        values[name] = value
        notes.append(Note(name, "mapped") if spec is not None else _stranger(name))
    for name, value in flat.own.items():
        spec = SPECS().get(name)
        if spec is None or not spec.about.own:
            problems.append(
                Problem(
                    where,
                    f"[{OWN}] has no parameter '{name}'",
                    "move it out of that table" if spec else "take it out",
                    name="unknown_parameter",
                    severity="warning",
                )
            )
            continue
        values[name] = value
        notes.append(Note(name, "mapped"))
    return values, notes


def _own_at_the_top(name: str, flat: Flat, where: str) -> list[Problem]:
    """The finding for a parameter of our own where sd-scripts' stand. Of `epoch`, which the GUI writes into every
    file, a rule says what it lacks, unless another length decides."""
    length = next((other for other in ("max_train_epochs", "max_train_steps") if flat.values.get(other)), "")
    if name != "epoch":
        what, cure = f"{name} at this place is read by no sd-scripts program", f"put it under [{OWN}]"
    elif length and flat.values[length] != SPECS()[length].default:
        what, cure = f"epoch has no effect: {length} {shorten(flat.values[length])} decides", ""
    else:
        return []
    return [Problem(where, what, cure, name="unread_parameter", severity="hint")]


def _stranger(name: str) -> Note:
    if name in NO_SCRIPT_READS:
        return Note(name, "dropped", NO_SCRIPT_READS[name])
    near = nearest(name)
    return Note(name, "unknown", f"kept; did you mean '{near}'?" if near else "kept; nothing reads it")


def script_for(values: Mapping[str, Any]) -> str:
    """The sd-scripts program that a config_file is for; the file itself does not say.

    A LoRA program or not, then the one that reads most of its options, then the one for the model's family.
    """
    from kohyakit.formats.gui.form import model_flags
    from kohyakit.formats.weights.model_kind import family_at

    flags = {key for key, on in model_flags(values.get("pretrained_model_name_or_path")).items() if on}
    family = next((entry.group for entry in MODELS.values() if flags & {"v2" if entry.v2 else "", *entry.boxes}), "")
    family = family or group_of(family_at(values.get("pretrained_model_name_or_path")))
    if not family and values.get("no_half_vae"):
        family = "sdxl"  # the other families' autoencoders stand half precision
    known = [name for name in values if name in ONLY_IN]
    whole = any(SPECS()[name].section == "finetune" for name in known) and "network_module" not in values

    def fits(script: str) -> tuple[bool, int, bool]:
        unread = sum(script not in ONLY_IN[name] for name in known)
        other_family = bool(family) and FAMILIES[script] != family
        return whole == (script in LORA_SCRIPTS), unread, other_family

    return min(SCRIPTS, key=fits)


def _unknown_notes(config: TrainConfig, flat: Flat) -> list[Note]:
    return [Note(name, "dropped", "the table goes with its own format") for name in flat.own if name in config.extras]


def dumps(config: TrainConfig, *, keep_secrets: bool = False, prompts_file: str = "", comments: bool = True) -> str:
    """The config as TOML: what differs from sd-scripts' defaults and the essentials, section by section.

    prompts_file: the path to write for sample prompts that the config holds as text (sd-scripts wants a file).
    Secrets are left out unless keep_secrets. The text reads back to the same values with the `toml` package.
    """
    blocks = []
    for section, about in _SECTIONS.items():
        lines = [line for spec in _of_section(section) for line in _lines(spec, config, keep_secrets, prompts_file)]
        if lines:
            blocks.append([f"[{section}]  # {about}" if comments else f"[{section}]", *lines])
    extras = [
        f"{_key(name)} = {literal(value)}" for name, value in config.extras.items() if name != OWN and _simple(value)
    ]
    if extras and (config.source is None or config.source.format != "gui-json"):
        blocks.append(
            [
                "[unknown]  # no sd-scripts program and no part of kohyakit reads these" if comments else "[unknown]",
                *extras,
            ]
        )
    own = [
        f"{spec.name} = {literal(config[spec.name])}"
        for spec in SPECS().values()
        if (spec.about.own and config[spec.name] not in (None, spec.default)) or spec.name == "script"
    ]
    blocks.append([f"[{OWN}]  # sd-scripts reads none of these" if comments else f"[{OWN}]", *own])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _of_section(section: str) -> Iterator[Spec]:
    return (spec for spec in SPECS().values() if spec.section == section and not spec.about.own)


def _lines(spec: Spec, config: TrainConfig, keep_secrets: bool, prompts_file: str) -> list[str]:
    value = config[spec.name]
    if spec.name == "sample_prompts" and is_prompt_text(value):
        value = prompts_file or None
    if value is None or (spec.about.secret and not keep_secrets):
        return []
    if spec.name == "max_train_steps" and config["max_train_epochs"]:
        return []
    same = value == spec.default and (spec.kind != "int_or_float" or type(value) is type(spec.default))
    wanted = spec.name in _ESSENTIAL and value != "" and reads(config.launch.script, spec.name)
    if (same and not wanted) or (value == () and spec.default is None):
        return []
    return [f"{spec.name} = {literal(value, spec.kind)}"]


def is_prompt_text(value: Any) -> bool:
    """Are sample prompts written out rather than the name of a prompt file?"""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and ("\n" in value.strip() or not value.strip().lower().endswith((".txt", ".toml", ".json")))
    )


def _simple(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return (
            all(_simple(item) and not isinstance(item, (list, tuple)) for item in value)
            and len({type(item) for item in value}) <= 1
        )
    return isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _key(name: str) -> str:
    plain = name.isascii() and bool(name) and all(character.isalnum() or character in "-_" for character in name)
    return name if plain else _basic(name)


def literal(value: Any, kind: str = "") -> str:
    """A value as TOML. Text with backslashes stands in single quotes where it can: a Windows path stays legible."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item, kind) for item in value) + "]"
    if isinstance(value, float) or (isinstance(value, int) and kind == "float"):
        return _float(float(value))
    if isinstance(value, int):
        return str(value)
    return _string(str(value))


def _float(value: float) -> str:
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _string(text: str) -> str:
    # sd-scripts' parser takes an escaped quote at the very start for the end of an empty text
    if ("\\" in text or text.startswith('""')) and "'" not in text and text.isprintable():
        return f"'{text}'"
    return _basic(text)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}


def _basic(text: str) -> str:
    escaped = (
        _ESCAPES.get(character)
        or (character if character >= " " and character != "\x7f" else f"\\u{ord(character):04x}")
        for character in text
    )
    return '"' + "".join(escaped) + '"'


def values_in(text: str, where: str) -> dict[str, Any]:
    """The names and values of TOML text that is about to be written. Raises ConfigError where it is none."""
    try:
        flat = flatten(tomllib.loads(text), where)
    except ValueError as error:
        raise ConfigError(Problem(where, f"what was to be written is no TOML ({error})", name="not_written")) from None
    return flat.values | flat.own


def check_with_toml(path: Path, expected: Mapping[str, Any] | None = None) -> None:
    """Read a file with the `toml` package, sd-scripts' own parser, and compare. Raises ConfigError."""
    import toml

    text = path.read_text(encoding="utf-8")
    try:
        back = toml.loads(text)
    except Exception as error:  # it raises more than its own error
        raise ConfigError(
            Problem(str(path), f"sd-scripts' parser cannot read what was written ({error})", name="not_written")
        ) from None
    if expected is None:
        return
    flat = flatten(back, str(path))
    wrong = [name for name, value in expected.items() if flat.values.get(name, flat.own.get(name)) != value]
    if wrong:
        what = f"sd-scripts' parser reads {', '.join(wrong[:3])} otherwise than it was meant"
        raise ConfigError(Problem(str(path), what, "take odd characters out of that value", name="not_written"))


def write(config: TrainConfig, path: Path | str, *, keep_secrets: bool = False) -> list[Path]:
    """Write the TOML, and beside it `<name>.prompts.txt` where the config holds prompts as text. Returns the files.

    The TOML is read back with sd-scripts' own parser before it is moved into place. Raises ConfigError.
    """
    path = Path(path)
    written = []
    prompts_file = ""
    if is_prompt_text(config["sample_prompts"]):
        prompts = path.with_name(f"{path.name.removesuffix('.toml')}.prompts.txt")
        write_text(prompts, config["sample_prompts"].rstrip("\n") + "\n")
        prompts_file = prompts.as_posix()
        written.append(prompts)
    text = dumps(config, keep_secrets=keep_secrets, prompts_file=prompts_file)
    expected = values_in(text, path.name)
    write_text(path, text, lambda temporary: check_with_toml(temporary, expected))
    return [path, *written]
