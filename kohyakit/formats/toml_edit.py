"""Values changed inside TOML text, with every comment and blank line left where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.config.train import SPECS
from kohyakit.formats.text import BOM


def set_in_toml(text: str, changes: Mapping[str, Any]) -> str:
    """A config_file's text with options set, or taken out where the value is None.

    An option changes where it stands (the place that counts for sd-scripts); a new one goes into the table of its
    kind, or to the top of a file without tables. Raises ValueError where the text cannot be edited.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text.removeprefix(BOM))
    except (TOMLKitError, RecursionError) as error:
        raise ValueError(str(error)) from None
    tables = [name for name, value in document.items() if isinstance(value, dict)]
    for name, value in changes.items():
        places = ([None] if name in document else []) + [table for table in tables if name in document[table]]
        if value is None:
            for table in places:
                del (document if table is None else document[table])[name]
        elif places:
            (document if places[-1] is None else document[places[-1]])[name] = _item(value)
        else:
            _add(document, tables, name, _item(value))
    edited = tomlkit.dumps(document)
    return BOM + edited if text.startswith(BOM) else edited


def _add(document: Any, tables: list[str], name: str, value: Any) -> None:
    import tomlkit

    spec = SPECS()[name]
    section = "kohyakit" if spec.about.own else spec.section
    if not tables and not spec.about.own:
        document.add(name, value)
        return
    if section not in document:
        document.add(section, tomlkit.table())
        tables.append(section)
    document[section].add(name, value)


def _item(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
