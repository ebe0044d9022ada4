"""A class by its dotted name: of a known package, or one of a person's own that was named in this call."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any

from kohyakit.config.arguments.named_code import is_known, must_be_named
from kohyakit.errors import ConfigError, Problem


def load_class(setting: str, name: str, home: str, allow_code: Collection[str]) -> Any:
    """What stands under the name, None where nothing does; it is imported and not called.

    home: the module of a name without dots. Raises ConfigError for a name that is not known and not in `allow_code`,
    and where code of one's own fails on import; ModuleNotFoundError where its module is not there.
    """
    must_be_named(setting, name, allow_code)
    module, _, leaf = name.rpartition(".")
    try:
        return getattr(import_module(module or home), leaf, None)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        if is_known(setting, name) and not isinstance(error, ImportError):
            raise
        what = f"'{name}' could not be imported ({type(error).__name__}: {error})"
        raise ConfigError(Problem(setting, what, "mend that module, or take it out")) from error
