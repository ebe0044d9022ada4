"""A dataset_config from TOML to JSON and back: the same tables, and the same file after both ways."""

from __future__ import annotations

import json
from typing import Any

from kohyakit.errors import Problem
from kohyakit.formats import dataset_toml
from kohyakit.formats.convert import carry
from kohyakit.formats.convert.carry import KEY, Carried
from kohyakit.formats.text import BOM, parse_json, parse_toml

_KIND = {"toml": "dataset-toml", "json": "dataset-json"}


def convert(text: str, where: str, to: str) -> tuple[str, list[Problem]]:
    """A dataset_config's text in the other format (or as it is), and warnings. Raises DatasetError."""
    tree = dataset_toml.loads(text, where)
    problems = list(tree.problems)
    is_json = text.removeprefix(BOM).lstrip().startswith("{")
    if is_json == (to == "json"):
        return text, problems
    return (_to_toml if is_json else _to_json)(text, where), problems


def _to_toml(text: str, where: str) -> str:
    tables, _ = parse_json(text, where)
    carried = _take(tables)
    if carried is not None and parse_toml(carried, where)[0] == tables:
        return carried
    import tomlkit

    return carry.into_comments(tomlkit.dumps(tables), Carried(_KIND["json"], text))


def _to_json(text: str, where: str) -> str:
    body, carried = carry.from_comments(text)
    tables, _ = parse_toml(body, where)
    if carried is not None and carried.format == _KIND["json"] and parse_json(carried.text, where)[0] == tables:
        return carried.text
    # sd-scripts refuses unknown names in this file; custom_attributes is the one place for anything
    general = tables.setdefault("general", {})
    general.setdefault("custom_attributes", {})[KEY] = {"format": _KIND["toml"], "text": text}
    return json.dumps(tables, indent=2, ensure_ascii=False) + "\n"


def _take(tables: dict[str, Any]) -> str | None:
    """The TOML that a JSON carries, taken out of the tables."""
    general = tables.get("general")
    attributes = general.get("custom_attributes") if isinstance(general, dict) else None
    source = attributes.pop(KEY, None) if isinstance(attributes, dict) else None
    if not isinstance(source, dict):
        return None
    if not attributes and general:
        del general["custom_attributes"]
    text = source.get("text")
    if isinstance(text, str) and not general and "[general]" not in text:
        del tables["general"]
    return text if isinstance(text, str) else None
