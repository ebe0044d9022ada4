"""How long reading, checking and converting presets takes, against json.loads of the same files in the same run.

    python benchmarks/presets.py [FOLDER]

FOLDER: presets of your own (JSON); without one, presets of every tab are made up. Nothing is kept.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kohyakit.config.rules import check_rules
from kohyakit.formats import load
from kohyakit.formats.convert import convert_folder
from kohyakit.formats.differences import differences
from kohyakit.formats.gui.fields import TABS, fields

COUNT = 1000


def made_up(folder: Path, count: int) -> list[Path]:
    """Presets as the GUI saves them: every field of a tab, some of them changed."""
    chance = random.Random(1)
    paths = []
    for place in range(count):
        tab = TABS[place % len(TABS)]
        preset = {key: about.default for key, about in sorted(fields(tab).items())}
        preset |= {
            "learning_rate": chance.choice([1e-4, "0.0003", 1.0]),
            "epoch": str(chance.randint(1, 200)),
            "seed": "",
        }
        if tab == "ti":
            preset["token_string"] = "rose"
        path = folder / f"{place:04}.json"
        path.write_text(json.dumps(preset, indent=2), encoding="utf-8")
        paths.append(path)
    return paths


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name) / "in"
        source.mkdir(exist_ok=True)
        paths = sorted(source.rglob("*.json")) or made_up(source, COUNT)
        load(paths[0])  # imports and tables

        reference = seconds(lambda: [json.loads(path.read_text(encoding="utf-8")) for path in paths])
        read = seconds(lambda: [load(path) for path in paths])
        checked = seconds(lambda: [check_rules(load(path)) for path in paths])
        as_gui = seconds(lambda: [load(path, as_gui=True) for path in paths])
        compared = seconds(lambda: [differences(load(path), load(paths[0])) for path in paths[:100]])
        converted = seconds(lambda: list(convert_folder(source, Path(name) / "out")))

    print(f"{len(paths)} presets; json.loads takes {1000 * reference / len(paths):.2f} ms a file")
    rows = {
        "read": (read, len(paths)),
        "read and check": (checked, len(paths)),
        "read as the GUI does": (as_gui, len(paths)),
        "read two and diff": (compared, min(100, len(paths))),
        "convert to TOML": (converted, len(paths)),
    }
    for what, (spent, count) in rows.items():
        ratio = spent / count / (reference / len(paths))
        print(f"  {what:<22}{1000 * spent / count:8.2f} ms a file   x{ratio:.0f}")


if __name__ == "__main__":
    main()
