"""Thousands of broken presets and TOMLs: each ends in a config or in a clear error, quickly, never in a traceback."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import Any

import pytest

from kohyakit.errors import KohyakitError
from kohyakit.formats import dataset_toml, loads, text
from kohyakit.formats.gui_fields import TABS, fields
from kohyakit.formats.gui_launch import as_gui
from kohyakit.formats.gui_write import write

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 1e308, -1e-320, 10**30, -(10**400), float("nan"), float("inf"), "", " ", "0",
    "12.0", "abc", "1e999", "NaN", "\x00", "é\u2028", "x" * 5000, [], [1], [[[]]], {}, {"a": {"b": [1]}}, "true",
    "None", "--a 'b", "a=1  b=2", "\\",
)  # fmt: skip


def preset(chance: random.Random) -> dict[str, Any]:
    tab = chance.choice(TABS)
    known = list(fields(tab).values())
    made = {about.key: about.default for about in chance.sample(known, chance.randint(1, len(known)))}
    for _ in range(chance.randint(1, 6)):
        key = chance.choice(known).key
        how = chance.randrange(5)
        if how == 0:
            made[key[: chance.randrange(1, len(key) + 1)] + chance.choice(("", "x", "é", " ", "\x00"))] = chance.choice(
                JUNK
            )
        elif how == 1:
            nested: Any = chance.choice(JUNK)
            for _ in range(chance.randrange(1, 60)):
                nested = [nested] if chance.random() < 0.5 else {"a": nested}
            made[key] = nested
        else:
            made[key] = chance.choice(JUNK)
    return made


def as_json(chance: random.Random, values: dict[str, Any]) -> str:
    out = json.dumps(values, indent=chance.choice((None, 1, 2)), ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.2 and len(out) > 4:
        out = out[:-1] + ', "network_dim": 4, "network_dim": "5"}'
    return out


def as_toml(chance: random.Random, values: dict[str, Any]) -> str:
    simple = {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str, list))}
    lines = [f"{key} = {json.dumps(value)}" for key, value in simple.items()]
    if chance.random() < 0.3:
        lines.insert(
            chance.randrange(len(lines) + 1),
            chance.choice(("[a]", "[[datasets]]", "[a.b.c]", "[kohyakit]", "= 3", "x = {a = 1")),
        )
    return "\n".join(lines) + "\n"


def damaged(chance: random.Random, out: str) -> bytes:
    how = chance.randrange(8)
    if how == 0:
        out = out.replace("\n", "\r\n")
    elif how == 1:
        out = "\ufeff" + out
    elif how == 2 and out:
        place = chance.randrange(len(out))
        out = (
            out[:place]
            + chance.choice(("", "{", "}", '"', "[", ",", "\\", "#", "\x00", "="))
            + out[place + chance.randrange(3) :]
        )
    raw = out.encode("utf-8", "surrogatepass")
    if how == 3:
        place = chance.randrange(len(raw) + 1)
        raw = raw[:place] + bytes([chance.randrange(128, 256)]) + raw[place:]
    return raw


def one(seed: int) -> str:
    """Run one broken file through every reader; how it ended."""
    chance = random.Random(seed)
    values = preset(chance)
    name = chance.choice(("rose.json", "rose.toml", "rose"))
    out = as_json(chance, values) if name != "rose.toml" else as_toml(chance, values)
    tab = chance.choice((None, *TABS))
    try:
        decoded = text.decode(damaged(chance, out), name)
        as_gui(values, tab or "lora")
        try:
            config = loads(decoded, name, tab=tab, as_gui=chance.random() < 0.2)
        except KohyakitError:
            dataset_toml.loads(decoded, name)
            raise
        write(config)
    except KohyakitError as error:
        problems = error.problems
    else:
        return "read"
    assert problems
    for problem in problems:
        assert problem.what
        assert len(str(problem)) < 1500
    return "refused"


def run(seeds: range) -> None:
    ended: Counter[str] = Counter()
    slowest = 0.0
    for seed in seeds:
        start = time.process_time()
        try:
            ended[one(seed)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 1.0  # CPU seconds for one file: no hang
    assert min(ended["read"], ended["refused"]) > len(seeds) / 20


def test_broken_files_end_in_a_report() -> None:
    run(range(1500))


@pytest.mark.slow
def test_twenty_thousand_broken_files_end_in_a_report() -> None:
    run(range(1500, 20000))


@pytest.mark.parametrize("tab", TABS)
def test_no_value_of_any_type_in_any_field_makes_a_traceback(tab: str) -> None:
    for key in fields(tab):
        for value in JUNK:
            values = {"token_string": "x", key: value} if tab == "ti" else {key: value}
            assert as_gui(values, tab).tab == tab
            try:
                loads(json.dumps(values), "x.json", tab=tab)
            except KohyakitError as error:
                told = error.problems
                assert told
