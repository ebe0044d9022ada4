"""One settings file -> the same settings in another format, with a note for every key and nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kohyakit import formats
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats.convert.conversion import (
    STDOUT,
    Conversion,
    Options,
    Work,
)
from kohyakit.formats.convert.to_args import to_args
from kohyakit.formats.convert.to_json import to_json
from kohyakit.formats.convert.to_toml import to_toml
from kohyakit.formats.shell import dialect
from kohyakit.formats.text import read_text, write_text

TARGETS = ("toml", "json", "args")
_ENDINGS = {".toml": "toml", ".json": "json", **dict.fromkeys(dialect.ENDINGS, "args")}

__all__ = ["STDOUT", "Conversion", "Options", "convert", "convert_folder"]


def convert(source: Path | str, target: Path | str, options: Options | None = None) -> Conversion:
    """Convert a file and write the result; a target of `-` writes nothing and leaves the text to the caller.

    Raises ConfigError with every problem at once, also where the target exists and options.force is not set.
    """
    source, target, options = Path(source), Path(target), options or Options()
    text = read_text(source)
    kind = formats.recognise(text, source.name)
    to = options.to or _ENDINGS.get(target.suffix.lower()) or ("args" if target == STDOUT else None)
    if to is None:
        cure = "give it the ending .toml, .json or .args, or say --to toml"
        raise ConfigError(Problem(str(target), "the name does not say which format is wanted", cure, name="no_format"))
    if to not in TARGETS:
        raise ConfigError(Problem("--to", f"is {to!r}, but one of {', '.join(TARGETS)} was wanted", name="bad_value"))
    if target != STDOUT and target.exists() and not options.force:
        raise ConfigError(
            Problem(str(target), "is there already", "use another name, or --force", name="target_exists")
        )
    work = Work(source, target, text, kind, to, options)
    if kind.startswith("dataset"):
        return _dataset(work)
    return {"toml": to_toml, "json": to_json, "args": to_args}[to](work)


def convert_folder(source: Path, target: Path, options: Options | None = None) -> Iterator[Conversion]:
    """Every preset, TOML and command line under a folder, one conversion each; a bad file does not stop the others."""
    options = options or Options()
    options = replace(options, to=options.to or "toml")
    taken: set[Path] = set()
    for path in sorted(
        path for path in source.rglob("*") if path.suffix.lower() in (".json", ".toml", ".args") and path.is_file()
    ):
        goal = (target / path.relative_to(source)).with_suffix(f".{options.to}")
        try:
            if goal in taken:
                raise ConfigError(
                    Problem(str(path), f"would become {goal.name}, as another file did", "rename one of them")
                )
            yield convert(path, goal, options)
            taken.add(goal)
        except KohyakitError as error:
            yield Conversion(path, goal, problems=error.problems)


def _dataset(work: Work) -> Conversion:
    from kohyakit.formats.convert import dataset as dataset_convert

    if work.to == "args" or work.options.overrides or work.options.as_gui:
        what = "is a dataset_config, which goes to TOML or JSON as it is"
        raise ConfigError(
            Problem(work.source.name, what, "take --set, --as-gui and --to args away", name="dataset_config")
        )
    text, problems = dataset_convert.convert(work.text, work.source.name, work.to)
    if work.target == STDOUT:
        return work.done(text, None, problems)
    write_text(work.target, text)
    return work.done(text, None, problems, written=(work.target,))
