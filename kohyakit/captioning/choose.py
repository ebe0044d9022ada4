"""From the names of options to a captioner; what an option is for is told where it would do nothing."""

from __future__ import annotations

from typing import Any

from kohyakit.captioning.base import Captioner
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import CAPTIONERS

_ALL = sorted({option for entry in CAPTIONERS.values() for option in entry.arguments})
# What a tagger's rules are made of; the others go to the captioner as they are.
_RULES = ("threshold", "character_threshold", "rating", "characters_first", "keep_underscores", "undesired", "replace")


def choose(name: str, *, place: str | None = None, **asked: Any) -> Captioner:
    """The captioner of that name with its model loaded. asked: options by name, as `kohyakit caption` has them.

    Raises ConfigError for an unknown name and for options that it does not look at, all at once.
    """
    name = CAPTIONERS.canonical(name)
    looked_at = CAPTIONERS[name].arguments
    given = {option: asked[option] for option in _ALL if asked.get(option) not in (None, "", False, (), "auto")}
    useless = [option for option in given if option not in looked_at]
    if useless:
        raise ConfigError(
            Problem(
                f"--{option.replace('_', '-')}", f"has no effect with {name}", "take it out", "option_without_effect"
            )
            for option in useless
        )
    settings = {option: value for option, value in given.items() if option not in (*_RULES, "model_name")}
    if "threshold" in looked_at:
        settings["rules"] = _rules(given)
    if "model_name" in given:
        settings["model"] = given["model_name"]
    return CAPTIONERS.load(name)(name, place=place, **settings)


def _rules(given: dict[str, Any]) -> Any:
    from kohyakit.captioning.tagger import TagRules

    pairs = [text.partition("=") for text in given.get("replace", ())]
    wrong = ["".join(pair) for pair in pairs if not pair[1] or not pair[0]]
    if wrong:
        raise ConfigError(
            Problem("--replace", f"'{text}' is no OLD=NEW", "write old and new with = between") for text in wrong
        )
    return TagRules(
        general_threshold=given.get("threshold"),
        character_threshold=given.get("character_threshold"),
        rating=given.get("rating", ""),
        characters_first=given.get("characters_first", False),
        keep_underscores=given.get("keep_underscores", False),
        undesired=frozenset(given.get("undesired", ())),
        replacements={old: new for old, _, new in pairs},
    )
