"""Captions by the ten thousand: how long a bulk edit, its undo and the statistics take, against plain file work.

    python benchmarks/captions.py WORK [--edits 20000] [--statistics 100000]

Captions are made below WORK and removed again; each measure runs in a process of its own. The yardstick of an edit
is to read, write anew and replace every file with no journal and nothing forced to disk; of the statistics, to read
every file. Seconds, CPU seconds, the ratio to the yardstick, peak memory above that of the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))
HOW = ("red", "blue", "old", "new", "stone", "tall", "dark", "small", "wide", "grey")
WHAT = ("church", "door", "tower", "tree", "house", "lamp", "archway", "canal", "gargoyle", "alley")
WORDS = [f"{how} {what}" for how in HOW for what in WHAT]


def make(folder: Path, count: int) -> None:
    """Pictures are empty files: nothing here opens one."""
    rng = random.Random(0)
    for subset in ("10_town", "3_dog"):
        (folder / subset).mkdir(parents=True)
    for number in range(count):
        place = folder / ("10_town" if number % 3 else "3_dog") / f"{number:06d}"
        place.with_suffix(".jpg").touch()
        text = ", ".join(["sks", *rng.sample(WORDS, rng.randint(8, 20))])
        place.with_suffix(".txt").write_text(text, encoding="utf-8")


def read(folder: Path) -> Callable[[], object]:
    return lambda: sum(len(path.read_bytes()) for path in folder.rglob("*.txt"))


def rewrite(folder: Path) -> Callable[[], object]:
    def act() -> None:
        for path in folder.rglob("*.txt"):
            draft = path.with_suffix(".part")
            draft.write_bytes(path.read_bytes() + b", haze")
            draft.replace(path)

    return act


def add(folder: Path) -> Callable[[], object]:
    from kohyakit.dataset.captions import bulk, choose, operations
    from kohyakit.dataset.editing import captions as edit

    operation = operations.add(["fog"])
    return lambda: edit.apply(folder, bulk.preview(choose.chosen(folder, choose.Selection()), operation).edits, "fog")


def undo(folder: Path) -> Callable[[], object]:
    from kohyakit.dataset.captions.bulk import find_change
    from kohyakit.dataset.editing import captions as edit

    return lambda: edit.undo(folder, find_change(folder)[1])


def stats(folder: Path) -> Callable[[], object]:
    import numpy  # noqa: F401
    import pandas  # noqa: F401

    from kohyakit.dataset.captions import choose, statistics

    statistics.count_tokens_of(["a"])  # loads the vocabulary
    return lambda: statistics.statistics(folder, choose.chosen(folder, choose.Selection()))


MEASURES = {"read": read, "rewrite": rewrite, "add": add, "undo": undo, "statistics": stats}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(name: str, folder: Path) -> dict[str, float]:
    act, before = MEASURES[name](folder), _peak()
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {**spent, "memory": _peak() - before}


def run(names: list[str], work: Path, count: int) -> None:
    with TemporaryDirectory(dir=work) as place:
        folder = Path(place) / "img"
        make(folder, count)
        os.sync()
        print(f"{count:,} captions{'':12}{'s':>8}{'CPU s':>8}{'ratio':>8}{'MB':>8}")
        yardstick = 0.0
        for name in names:
            one = [sys.executable, str(HERE), str(folder), "--one", name]
            found = json.loads(subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True).stdout)
            yardstick = yardstick or found["wall"]
            numbers = f"{found['wall']:8.2f}{found['cpu']:8.2f}{found['wall'] / yardstick:8.1f}{found['memory']:8.0f}"
            print(f"  {name:24}{numbers}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a folder for what is made")
    parser.add_argument("--edits", type=int, default=20_000)
    parser.add_argument("--statistics", type=int, default=100_000)
    parser.add_argument("--one", choices=list(MEASURES), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.work)))
        return
    chosen.work.mkdir(parents=True, exist_ok=True)
    run(["rewrite", "add", "undo"], chosen.work, chosen.edits)
    for count in (chosen.statistics // 10, chosen.statistics):
        run(["read", "statistics"], chosen.work, count)


if __name__ == "__main__":
    main()
