"""Sample prompts: `a cat --w 768 --h 640 --s 30 --d 42 --l 7.5 --n blurry`, from .txt, .toml and .json.

Read as sd-scripts reads them, save where it silently drops what a person plainly meant (`--w 768--h 640`): such a
repair is taken, said in `notes`, and written properly spaced by `to_line`. docs/prompts.md lists them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from kohyakit.config.train import SPECS
from kohyakit.errors import ConfigError, Problem
from kohyakit.files import read_text


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """One picture to draw while training. width, height in pixels as written; None is "not given".

    scale: classifier-free guidance (`--l`). guidance_scale (`--g`), flow_shift, cfg_trunc_ratio and renorm_cfg mean
    something to other model families only. network_multiplier: the strength of the LoRA being trained (`--am`, as in
    gen_img), 1 where it is not given. notes: what was repaired or dropped, in words.
    """

    prompt: str
    negative_prompt: str | None = None
    width: int = 512
    height: int = 512
    sample_steps: int = 30
    scale: float = 7.5
    seed: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    controlnet_image: str | None = None
    cfg_trunc_ratio: float | None = None
    renorm_cfg: float | None = None
    flow_shift: str | None = None
    network_multiplier: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as drawn: rounded down to multiples of 8, at least 64."""
        return max(64, self.width - self.width % 8), max(64, self.height - self.height % 8)


_INT, _FLOAT, _SIGNED, _TEXT = "int", "float", "signed", "text"
# option -> (field, kind), as sd-scripts names them.
_OPTIONS: dict[str, tuple[str, str]] = {
    "w": ("width", _INT),
    "h": ("height", _INT),
    "s": ("sample_steps", _INT),
    "d": ("seed", _INT),
    "l": ("scale", _FLOAT),
    "g": ("guidance_scale", _FLOAT),
    "n": ("negative_prompt", _TEXT),
    "ss": ("sampler", _TEXT),
    "cn": ("controlnet_image", _TEXT),
    "ctr": ("cfg_trunc_ratio", _FLOAT),
    "rcfg": ("renorm_cfg", _FLOAT),
    "fs": ("flow_shift", _TEXT),
    "am": ("network_multiplier", _SIGNED),
}
# a known kind of name, or whatever else stands behind a space and two dashes, where sd-scripts cuts the line
_START = re.compile(
    r"(?P<dash>--|—|–)(?P<name>[A-Za-z]+(?=\s|=|-?\d|$)|(?<= --)\w[^\s=]*)(?P<join>\s*=\s*|\s+|(?=-?\d)|$)"
)
# names that other programs have for these options
_OTHER_NAMES = {
    "negative_prompt": "n", "negative": "n", "neg": "n", "width": "w", "height": "h", "steps": "s", "sample_steps": "s",
    "seed": "d", "cfg": "l", "cfg_scale": "l", "scale": "l", "guidance": "l", "sampler": "ss", "sample_sampler": "ss",
    "guidance_scale": "l",
}  # fmt: skip
_NUMBER = {
    _INT: re.compile(r"\d+"),
    _FLOAT: re.compile(r"\d+,\d+(?![\d,])|[\d.]+"),
    _SIGNED: re.compile(r"-?(?:\d+,\d+(?![\d,])|[\d.]+)"),
}


def read(source: Path | str, default_sampler: str | None = None) -> tuple[SamplePrompt, ...]:
    """The prompts of a .txt, .toml or .json file, or of a text with one prompt a line.

    A str that ends in one of these extensions names a file. default_sampler fills prompts without one of their own.
    Raises ConfigError for a file that is missing or cannot be read.
    """
    path = _as_path(source)
    if path is None:
        prompts = tuple(_from_lines(str(source)))
    else:
        text = _text_of(path)
        try:
            prompts = tuple(_READERS.get(path.suffix.lower(), _from_lines)(text))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                Problem(str(path), f"the sample prompts cannot be read ({error})", "see docs/prompts.md", "bad_prompts")
            ) from None
    return tuple(_with_sampler(prompt, default_sampler) for prompt in prompts)


def _with_sampler(prompt: SamplePrompt, default: str | None) -> SamplePrompt:
    """The prompt with a sampler that there is; for an unknown one sd-scripts takes ddim."""
    if prompt.sampler is None:
        return replace(prompt, sampler=default)
    if prompt.sampler in SPECS()["sample_sampler"].about.choices:
        return prompt
    note = f"the sampler '{prompt.sampler}' is not known, so ddim draws"
    return replace(prompt, sampler="ddim", notes=(*prompt.notes, note))


def _as_path(source: Path | str) -> Path | None:
    if isinstance(source, Path):
        return source
    if "\n" not in source and source.strip().lower().endswith(tuple(_READERS)):
        return Path(source.strip())
    return None


def _text_of(path: Path) -> str:
    try:
        return read_text(path, encoding="utf-8-sig")
    except FileNotFoundError:
        what, cure = "the file of sample prompts does not exist", "correct sample_prompts"
    except UnicodeDecodeError:
        what, cure = "the sample prompts are not UTF-8", "save the file as UTF-8"
    except OSError as error:
        what, cure = f"the sample prompts cannot be read ({error.strerror or error})", "correct sample_prompts"
    raise ConfigError(Problem(str(path), what, cure, "bad_prompts"))


def _from_lines(text: str) -> Iterator[SamplePrompt]:
    for line in text.removeprefix("\ufeff").split("\n"):
        line = line.strip()
        if line and not line.startswith("#"):
            yield parse_line(line)


def _from_toml(text: str) -> Iterator[SamplePrompt]:
    """`[prompt]` with what all share, `[[prompt.subset]]` for each."""
    import tomllib

    table = tomllib.loads(text).get("prompt")
    if not isinstance(table, dict):
        raise ValueError("there is no [prompt] table")
    shared = {name: value for name, value in table.items() if name != "subset"}
    for subset in table.get("subset", [{}] if "prompt" in shared else []):
        yield _from_mapping({**shared, **subset})


def _from_json(text: str) -> Iterator[SamplePrompt]:
    """A list of prompt lines and of objects with `prompt`, `width` and so on."""
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("a list of prompts was wanted")
    for row in rows:
        yield parse_line(row) if isinstance(row, str) else _from_mapping(row)


_READERS = {".txt": _from_lines, ".toml": _from_toml, ".json": _from_json}
_KINDS = {name: kind for name, kind in _OPTIONS.values()}


def _from_mapping(row: Any) -> SamplePrompt:
    if not isinstance(row, Mapping):
        raise TypeError(f"{row!r} is no prompt")
    values: dict[str, Any] = {"prompt": str(row.get("prompt", ""))}
    notes = []
    for name, value in row.items():
        name = "sampler" if name == "sample_sampler" else name
        if name in ("prompt", "enum", "subset") or value is None:
            continue
        if name not in _KINDS:
            notes.append(f"'{name}' is not known and dropped")
            continue
        try:
            values[name] = {_INT: int, _FLOAT: float, _SIGNED: float, _TEXT: str}[_KINDS[name]](value)
        except (TypeError, ValueError):
            notes.append(f"{name} is {value!r}, not a number, and dropped")
    return _made(values, notes)


def _made(values: dict[str, Any], notes: list[str]) -> SamplePrompt:
    if "sample_steps" in values:
        values["sample_steps"] = max(1, min(1000, values["sample_steps"]))
    if values.get("seed", 0) < 0:
        del values["seed"]
    return SamplePrompt(**values, notes=tuple(notes))


def parse_line(line: str) -> SamplePrompt:
    """One prompt line. Names of options are matched without regard to case; the last of a name wins."""
    starts = list(_option_starts(line))
    prompt = line[: starts[0][0].start()] if starts else line
    values: dict[str, Any] = {"prompt": prompt.strip()}
    notes: list[str] = []
    if _reads_as_option(prompt):
        notes.append(f"the prompt starts with '{prompt.split()[0]}', which sd-scripts would take for an option")
    for place, (match, repair) in enumerate(starts):
        end = starts[place + 1][0].start() if place + 1 < len(starts) else len(line)
        if repair:
            notes.append(repair)
        _set(values, match["name"].lower(), line[match.end() : end].strip(), notes)
    return _made(values, notes)


def _option_starts(line: str) -> Iterator[tuple[re.Match[str], str]]:
    """Where options start, each with what had to be repaired to see it."""
    for match in _START.finditer(line):
        before = line[: match.start()]
        value = line[match.end() :]
        known = _OPTIONS.get(match["name"].lower())
        spaced = not before or before[-1].isspace()
        numeric = known is not None and known[1] != _TEXT
        fits = bool(re.match(r"-?\d", value)) if numeric else bool(known and match["join"])
        shown = match["dash"] + match["name"]
        if match["dash"] != "--":
            if spaced and fits:
                yield match, f"a long dash before '{match['name']}' was read as --{match['name']}"
        elif not spaced:
            if fits and (numeric or before[-1].isdigit()):
                yield match, f"there is no space before '{shown}', so sd-scripts would drop it"
        elif not before.strip():
            yield match, "the line has options but no prompt"
        elif before[-1] != " ":
            yield match, f"there is a tab before '{shown}', so sd-scripts would drop it"
        elif fits and not match["join"].isspace():
            yield match, f"'{shown}' is not followed by a space, so sd-scripts would drop it"
        else:
            yield match, ""


def _set(values: dict[str, Any], name: str, text: str, notes: list[str]) -> None:
    if name not in _OPTIONS:
        other = _OTHER_NAMES.get(name.replace("-", "_"))
        meant = f"; write --{other}" if other else ""
        dropped = f", so it is dropped with '{text}'" if text else ""
        notes.append(f"'--{name}' is not known{dropped}{meant}")
        return
    field, kind = _OPTIONS[name]
    if kind == _TEXT:
        if text:
            values[field] = text
        return
    match = _NUMBER[kind].match(text)
    if name == "d" and text.startswith("-"):
        values.pop(field, None)
        return
    try:
        if match is None:
            raise ValueError(text)
        number = match[0].replace(",", ".")
        values[field] = int(number) if kind == _INT else float(number)
    except ValueError:
        notes.append(f"--{name} has no number ('{text}'), so it is dropped")
        return
    if "," in match[0]:
        notes.append(f"--{name} {match[0]} was read as {number}; sd-scripts stops at the comma")
    rest = text[match.end() :].strip()
    if rest and not re.fullmatch(r"[.,;]\d*", rest):
        notes.append(f"'{rest}' after --{name} {match[0]} is no part of the prompt and dropped")


def _reads_as_option(prompt: str) -> bool:
    """Whether sd-scripts takes a prompt's first words for an option (`d 5 dogs` sets its seed)."""
    name, _, rest = prompt.partition(" ")
    known = _OPTIONS.get(name.lower())
    if known and known[1] == _SIGNED:
        return False  # gen_img's, which the trainer of sd-scripts does not know
    return bool(known and rest and (known[1] == _TEXT or re.match(r"[\d.]" if known[1] == _FLOAT else r"\d", rest)))


def to_line(prompt: SamplePrompt) -> str:
    """The prompt as one line that sd-scripts reads to the same effect; what is at its default is not written."""
    text = _one_line(prompt.prompt)
    if not text or text.startswith("#") or _reads_as_option(text):
        text = f", {text}".rstrip()  # sd-scripts would skip it or read it as an option
    parts = [text]
    standard = {field.name: field.default for field in fields(SamplePrompt)}
    for option, (name, kind) in _OPTIONS.items():
        value = getattr(prompt, name)
        if value is not None and value != standard[name]:
            parts.append(f"--{option} {_one_line(value) if kind == _TEXT else value}")
    return " ".join(parts)


def _one_line(text: str) -> str:
    return re.sub(r"\s-{2,}", " -", " ".join(text.split()))
