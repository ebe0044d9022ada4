"""YAML, in which ai-toolkit's jobs are written. Read with the safe loader alone: it makes texts, numbers, lists and
tables and runs nothing. The package comes with accelerate and transformers; without it a sentence says so."""

from __future__ import annotations

from typing import Any

from kohyakit.errors import ConfigError, MissingExtra, Problem

LARGEST, _MOST = 100_000, 20_000  # characters; values, so that names that stand for each other cannot grow
ENDINGS = (".yaml", ".yml")


def parse(text: str, where: str) -> Any:
    """YAML text -> values. Raises ConfigError with line and column, MissingExtra without the package."""
    if len(text) > LARGEST:
        raise ConfigError(Problem(where, f"has {len(text):,} characters; that is no job", name="too_large"))
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingExtra(f"{where} is YAML, reading which", "pyyaml", "yaml") from None
    try:
        values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = f"{at}is not valid YAML ({getattr(error, 'problem', None) or str(error).splitlines()[0]})"
        cure = "tabs cannot indent in YAML; write blanks" if "\\t" in what else "mend that place"
        raise ConfigError(Problem(where, what[:400], cure, name="bad_yaml")) from None
    except (ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        raise ConfigError(Problem(where, f"is not valid YAML ({error})"[:400], name="bad_yaml")) from None
    return _plain(values, where, [0], 0)


def _plain(values: Any, where: str, count: list[int], depth: int) -> Any:
    """The values with text keys. Raises ConfigError where names that stand for each other make too much of them."""
    count[0] += 1
    if count[0] > _MOST or depth > 40:
        raise ConfigError(Problem(where, "holds too much, or itself; that is no job", name="too_deep"))
    if isinstance(values, dict):
        return {str(key): _plain(value, where, count, depth + 1) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_plain(value, where, count, depth + 1) for value in values]
    return values if isinstance(values, (str, int, float, bool, type(None))) else str(values)
