"""An sd-scripts command line: built from a config, read back into values.

An `.args` file holds such a line, over several lines if you like: `#` starts a comment, a backslash at the end of a
line goes on, quotes hold words together.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kohyakit.config.arguments.key_values import KEY_VALUES, split_key_values
from kohyakit.config.param import Spec
from kohyakit.config.read import nearest
from kohyakit.config.scripts import reads
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.text import shorten

# accelerate launch's options that are parameters of ours, those without a value marked by False
ACCELERATE = {
    "dynamo_backend": True,
    "dynamo_mode": True,
    "dynamo_use_fullgraph": False,
    "dynamo_use_dynamic": False,
    "gpu_ids": True,
    "main_process_port": True,
    "mixed_precision": True,
    "multi_gpu": False,
    "num_processes": True,
    "num_machines": True,
    "num_cpu_threads_per_process": True,
}


@dataclass(slots=True)
class Arguments:
    """A command line read: the script's name ("" without one), values by sd-scripts name, words nobody knows."""

    script: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def split(text: str) -> list[str]:
    """Command-line text as words. Raises ValueError for an open quote.

    A backslash is an escape only before a blank, a quote, a backslash or a line end, so that Windows paths survive.
    """
    lexer = shlex.shlex(_joined(text), posix=True, punctuation_chars="")
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    return list(lexer)


def _joined(text: str) -> str:
    """Comment lines out, continued lines (backslash, caret or backtick at the end) joined.

    Here a sign that touches a word belongs to it; a command file is read by `shell.command_file`."""
    lines = [line.rstrip() for line in text.lstrip("\ufeff").splitlines() if not line.lstrip().startswith("#")]
    return " ".join(
        line[:-1] if line.endswith(("\\", "^", "`")) and (len(line) == 1 or line[-2].isspace()) else line
        for line in lines
    )


_STARTS_TRAINING = re.compile(
    r"(?m)^(?![ \t]*(?:#|rem\b|::)).*\b(?:accelerate(?:\.exe)?[ \t]+launch|accelerate\.commands\.launch|"
    r"\w*(?:train_network|train_db|fine_tune|train_textual_inversion)\.py)\b"
)


def looks_like_command(text: str) -> bool:
    """Does text begin like a command line (accelerate, python, a script, an option), or start a training further on?"""
    if _STARTS_TRAINING.search(text[:100_000]):
        return True
    first = _joined(text[:4096]).split()
    return bool(first) and (
        first[0].startswith("--")
        or first[0].rsplit("/", 1)[-1].rsplit("\\", 1)[-1].removesuffix(".exe") in ("accelerate", "python", "python3")
        or first[0].endswith(".py")
    )


def parse(words: Sequence[str], where: str = "command line", start: int | None = None) -> Arguments:
    """Words of a command line, with or without `accelerate launch … script.py`, as values by name.

    start: where the script stands, if its name does not say so.
    """
    found = Arguments()
    named = next((i for i, word in enumerate(words) if word.lower().endswith(".py")), None)
    start = named if start is None else start
    if start is not None:
        found.script = words[start].replace("\\", "/").rsplit("/", 1)[-1] if start == named else ""
        _launcher(words[:start], found)
        words = words[start + 1 :]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--") or word == "--":
            found.unknown.append(word)
            found.problems += _stray(word, where)
            continue
        name, equals, value = word[2:].partition("=")
        following = _values_after(words, position)
        spec = _spec(name)
        if spec is None:
            found.unknown += [word, *following]
            found.problems.append(
                Problem(where, f"unknown option --{name}", _near(name), name="unknown_parameter", severity="warning")
            )
            position += len(following)
            continue
        position += _take(spec, equals, value, following, where, found)
    return found


def _take(spec: Spec, equals: str, value: str, following: list[str], where: str, found: Arguments) -> int:
    """Take an option's value; how many of the words behind it belong to it."""
    given = [value] if equals else following
    if spec.kind == "bool" and not spec.many:
        found.values[spec.name] = True
        if equals:
            what = f"--{spec.name} takes no value, but {value!r} stands there"
            found.problems.append(Problem(where, what, f"write --{spec.name} or leave it out", name="bad_value"))
        return 0
    if spec.many:
        found.values[spec.name] = _arguments(spec, given)
    elif given:
        found.values[spec.name] = _share(spec, given[0])
    else:
        what = f"--{spec.name} needs a value"
        found.problems.append(Problem(where, what, f"write --{spec.name} VALUE", name="bad_value"))
    return 0 if equals else len(following) if spec.many else min(len(following), 1)


def _arguments(spec: Spec, items: list[str]) -> list[str]:
    """A list's items; name=value pairs that one pair of quotes holds together are several."""
    if spec.name not in KEY_VALUES:
        return items
    return [part for item in items for part in (split_key_values(item) if " " in item.strip() else [item])]


def _stray(word: str, where: str) -> list[Problem]:
    """A word that no option takes. A dash that a page made long is named; the rest is kept, as unknown options are."""
    if word[:1] in ("–", "—") and word[1:2].isalpha():
        what = f"{word.partition('=')[0]} begins with a long dash, so it is no option"
        return [Problem(where, what, f"write --{word[1:].partition('=')[0]}", name="bad_args")]
    return []


def _launcher(words: Sequence[str], found: Arguments) -> None:
    """What stands before the script: accelerate's options are kept apart, the rest is how it was started."""
    heads = [word.replace("\\", "/").rsplit("/", 1)[-1].lower().removesuffix(".exe") for word in words]
    for place, head in enumerate(heads):
        if head == "accelerate.commands.launch" or (head == "launch" and place and heads[place - 1] == "accelerate"):
            _accelerate(words[place + 1 :], found)
            return
        if head == "torchrun":
            told = parse_options(words[place + 1 :])
            if processes := told.get("nproc_per_node") or told.get("nproc-per-node"):
                found.values["num_processes"] = processes
            return
    if words and words[0].startswith("--"):
        _accelerate(words, found)


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` as they stand."""
    told: dict[str, str] = {}
    for place, word in enumerate(words):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            told[name] = value if equals else words[place + 1] if place + 1 < len(words) else ""
    return told


def _accelerate(words: Sequence[str], found: Arguments) -> None:
    position, extra = 0, []
    while position < len(words):
        word = words[position]
        position += 1
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in ACCELERATE:
            extra.append(word)
        elif ACCELERATE[name] and not equals and position < len(words):
            found.values[name] = words[position]
            position += 1
        else:
            found.values[name] = value if equals else True
    if found.values.get("dynamo_backend") == "no":
        del found.values["dynamo_backend"]
    if extra:
        found.values["extra_accelerate_launch_args"] = join(extra)


def _values_after(words: Sequence[str], position: int) -> list[str]:
    end = position
    while end < len(words) and (not words[end].startswith("-") or _is_number(words[end])):
        end += 1
    return list(words[position:end])


def _share(spec: Spec, value: str) -> Any:
    """`10%` of the steps is 0.1, as sd-scripts reads it."""
    if spec.kind == "int_or_float" and value.endswith("%") and _is_number(value[:-1]):
        return float(value[:-1]) / 100
    return value


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _spec(name: str) -> Spec | None:
    """The parameter of an option; a beginning that only one parameter has is enough, as for argparse."""
    known = SPECS()
    if name in known:
        return None if known[name].about.own and name not in ACCELERATE else known[name]
    fitting = (
        [spec for spec in known.values() if spec.name.startswith(name) and not spec.about.own] if len(name) > 2 else []
    )
    return fitting[0] if len(fitting) == 1 else None


def _near(name: str) -> str:
    near = nearest(name)
    return f"did you mean --{near}?" if near else "it is kept as it is"


def script_arguments(config: TrainConfig, *, keep_secrets: bool = False) -> list[str]:
    """What differs from sd-scripts' defaults, as options of the script; what the script does not know is left out."""
    words: list[str] = []
    for name, spec in SPECS().items():
        value = config[name]
        if spec.about.own or value == spec.default or value is None or (spec.about.secret and not keep_secrets):
            continue
        idle = (name == "dynamo_backend" and value == "no") or (
            name == "max_train_steps" and config["max_train_epochs"]
        )
        if not idle and reads(config.launch.script, name):
            words += option(spec, value)
    return words + _free_words("additional_parameters", config.launch.additional_parameters)


def _free_words(name: str, text: str) -> list[str]:
    """The words of a free text. Raises ConfigError for an open quote."""
    problem = open_quote(name, text)
    if problem:
        raise ConfigError(problem)
    return split(text)


def open_quote(name: str, text: str, where: str = "") -> Problem | None:
    """What is wrong with a free text that cannot be split into words."""
    try:
        split(text)
    except ValueError as error:
        what = f"{name} is {shorten(text)}, but there is {str(error).lower()}"
        return Problem(where, what, "close the quote", name="bad_value")
    return None


def unread(config: TrainConfig) -> list[str]:
    """What the config sets and its script would not take on the command line."""
    script = config.launch.script
    return [
        n
        for n, s in SPECS().items()
        if not s.about.own and config[n] not in (None, s.default, ()) and not reads(script, n)
    ]


def option(spec: Spec, value: Any, *, equals: bool = False) -> list[str]:
    """One parameter as words. equals: `--name=value` rather than two words."""
    if spec.kind == "bool":
        return [spec.flag] if value else []
    if spec.many:
        return [spec.flag, *(_text(item) for item in value)]
    text = _text(value)
    if spec.kind == "int_or_float" and isinstance(value, float) and value >= 1:
        text = f"{value * 100:g}%"  # sd-scripts takes a text from 1 on for whole steps
    return [f"{spec.flag}={text}"] if equals or text.startswith("-") else [spec.flag, text]


def _text(value: Any) -> str:
    """A number as sd-scripts' argparse reads it back: a warm-up of 1.0 is 1.0, 1e-05 stays."""
    return repr(value) if isinstance(value, float) else str(value)


def accelerate_arguments(config: TrainConfig) -> list[str]:
    """`accelerate launch` and its options, in the GUI's order, without those at their defaults."""
    words = ["accelerate", "launch"]
    for name, has_value in ACCELERATE.items():
        value, default = config[name], SPECS()[name].default
        if name == "dynamo_backend" and not config["torch_compile"]:
            continue
        if value in (None, False, "") or (
            value == default and name not in ("mixed_precision", "num_processes", "num_cpu_threads_per_process")
        ):
            continue
        words += [f"--{name}", str(value)] if has_value else [f"--{name}"]
    return words + _free_words("extra_accelerate_launch_args", config.launch.extra_accelerate_launch_args)


def build(
    config: TrainConfig, *, sd_scripts: str = "sd-scripts", config_file: str = "", keep_secrets: bool = False
) -> list[str]:
    """The whole command: accelerate launch, the script, and either `--config_file` or every option."""
    rest = ["--config_file", config_file] if config_file else script_arguments(config, keep_secrets=keep_secrets)
    return [*accelerate_arguments(config), f"{sd_scripts.rstrip('/')}/{config.launch.script}", *rest]


def join(words: Iterable[str]) -> str:
    """Words as text that `split` reads back, and that sh, cmd and PowerShell take where no word holds a quote."""
    return " ".join(_quoted(word) for word in words)


_EXPANDS = re.compile(r"[$`]|%\w+%")  # what sh and PowerShell, or cmd, take for a variable within double quotes


def _quoted(word: str) -> str:
    special = any(character.isspace() or character in "\"'#&|<>^`$;()*?!%" for character in word)
    if word and not special and not word.endswith("\\"):
        return word
    if _EXPANDS.search(word) and "'" not in word:
        return f"'{word}'"
    if '"' not in word:
        return f'"{word}"'
    return f"'{word}'" if "'" not in word else '"' + word.replace('"', '"' + "'\"'" + '"') + '"'


def as_text(words: Sequence[str]) -> str:
    """A command as `.args` text: one option a line, continued with a backslash."""
    lines, current = [], [words[0]] if words else []
    for word in words[1:]:
        if word.startswith("--") or word.endswith(".py"):
            lines.append(join(current))
            current = [word]
        else:
            current.append(word)
    lines.append(join(current))
    return " \\\n  ".join(line for line in lines if line) + "\n"
