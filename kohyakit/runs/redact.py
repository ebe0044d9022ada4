"""Keys and tokens out of whatever is written about a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kohyakit.config.train import SPECS, TrainConfig

BLOT = "REDACTED"

# Names that hold a key in a file of somebody else's, or in an unknown parameter.
_SECRET_NAME = re.compile(r"(?:^|_)(?:api_?key|token|password|passwd|secret)$", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(?:^|_)(?:class|keep|max)_?token", re.IGNORECASE)
_QUOTED = r'"""(?:.|\n)*?"""|' + r"'''(?:.|\n)*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'"
_ASSIGNMENT = re.compile(rf"""((?:^|[{{,])\s*["']?(\w+)["']?\s*[:=]\s*)({_QUOTED})""", re.MULTILINE)
_OPTION = re.compile(r"""(--(\w+)(?:=|\s+))(?!-)[^\s"'\\]+""")
_LONG_ENOUGH = 8  # a shorter value may be a word that stands elsewhere, too


def secret_names() -> frozenset[str]:
    """The declared secret parameters, under sd-scripts' names and the GUI's."""
    return frozenset(name for spec in SPECS().values() if spec.about.secret for name in (spec.name, *spec.about.gui))


def is_secret(name: str) -> bool:
    """Whether a name holds a key: as declared, or for a name that nobody declared, as it sounds."""
    if name in SPECS():
        return SPECS()[name].about.secret
    return name in secret_names() or bool(_SECRET_NAME.search(name) and not _NOT_SECRET.search(name))


def without_secrets(config: TrainConfig) -> TrainConfig:
    """The config with every secret parameter empty, and every text that quotes one blotted out."""
    from dataclasses import replace
    from types import MappingProxyType

    values = secret_values(config)
    named = {name: None for name in SPECS() if is_secret(name) and SPECS()[name].about.secret}
    texts = {
        name: _blot_value(value, values)
        for name, value in config.items()
        if name not in named and isinstance(value, (str, tuple))
    }
    extras = MappingProxyType(_blot_value(config.extras, values))
    return replace(config.with_values(**named, **texts), extras=extras, source=None)


def secret_values(config: TrainConfig) -> tuple[str, ...]:
    """The secrets that a config holds, the longest first."""
    found = {str(value) for name, value in [*config.items(), *config.extras.items()] if is_secret(name) and value}
    return tuple(sorted(found, key=len, reverse=True))


def blot(text: str, values: Iterable[str] = ()) -> str:
    """A JSON, TOML or command-line text with the values of secret names, and the given values, blotted out."""
    text = _ASSIGNMENT.sub(_blot_assignment, text)
    text = _OPTION.sub(lambda match: f"{match[1]}{BLOT}" if is_secret(match[2]) else match[0], text)
    for secret in values:
        if len(secret) >= _LONG_ENOUGH:
            text = text.replace(secret, BLOT)
    return text


def _blot_assignment(match: re.Match[str]) -> str:
    quoted = match[3]
    mark = quoted[:3] if quoted[:3] in ('"""', "'''") else quoted[0]
    if not is_secret(match[2]) or not quoted.strip(mark[0]):
        return match[0]
    return f"{match[1]}{mark}{BLOT}{mark}"


def _blot_value(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return blot(value, secrets)
    if isinstance(value, (list, tuple)):
        return type(value)(_blot_value(item, secrets) for item in value)
    if isinstance(value, Mapping):
        return {
            key: BLOT if is_secret(str(key)) and item else _blot_value(item, secrets) for key, item in value.items()
        }
    return value
