"""Reading TensorBoard event files: kohyakit beside TensorBoard's EventAccumulator and tbparse, in one run.

    python benchmarks/event_files.py            2 runs of 10,000 steps and 5 tags, every reader
    python benchmarks/event_files.py --full     20 runs of 50,000 steps and 5 tags; the slow readers read two of them

Each reader runs in a process of its own; CPU seconds and the peak of its memory are the system's own count.
The points of kohyakit and of EventAccumulator are compared, every one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TAGS = ("loss/current", "loss/average", "lr/textencoder", "lr/unet", "lr/group1")


def write_logs(folder: Path, runs: int, steps: int) -> None:
    """Event files as SummaryWriter and accelerate write them: one record a point, tag after tag in every step."""
    from kohyakit.runs.logs.crc32c import masked_rows

    for run in range(runs):
        place = folder / f"{run:02}" / "network_train"
        place.mkdir(parents=True)
        file = place / "events.out.tfevents.1700000000.benchmark.0"
        rng = np.random.default_rng(run)
        values = rng.normal(0.1, 0.02, (steps, len(TAGS))).astype("<f4")
        walls = (1.7e9 + np.arange(steps * len(TAGS)).reshape(steps, -1) * 0.01).astype("<f8")
        with file.open("ab") as out:
            pieces: list[list[bytes]] = [[] for _ in range(steps)]
            for width in range(5):
                low, high = (1 << 7 * (width - 1), 1 << 7 * width) if width else (0, 1)
                chosen = np.arange(low, min(high, steps))
                for number, tag in enumerate(TAGS if len(chosen) else ()):
                    value, wall = values[chosen, number], walls[chosen, number]
                    block = _records(tag.encode(), chosen, width, value, wall, masked_rows)
                    for step, row in zip(chosen, block, strict=True):
                        pieces[step].append(row.tobytes())
            out.write(b"".join(record for step in pieces for record in step))


def _records(tag: bytes, steps: np.ndarray, width: int, values: np.ndarray, walls: np.ndarray, crc) -> np.ndarray:
    count, head = len(steps), 9 if width == 0 else 10 + width
    length = head + 11 + len(tag)
    rows = np.zeros((count, length + 16), dtype=np.uint8)
    rows[:, 0:8] = np.frombuffer(length.to_bytes(8, "little"), dtype=np.uint8)
    rows[:, 8:12] = crc(rows[:1, :8].copy()).astype("<u4").view(np.uint8)
    data = rows[:, 12:-4]
    data[:, 0] = 0x09
    data[:, 1:9] = walls.copy().view(np.uint8).reshape(count, 8)
    if width:
        data[:, 9] = 0x10
        for position in range(width):
            more = 0x80 if position < width - 1 else 0
            data[:, 10 + position] = (steps >> 7 * position & 0x7F) | more
    fixed = bytes([0x2A, length - head - 2, 0x0A, length - head - 4, 0x0A, len(tag)]) + tag + b"\x15"
    data[:, head:-4] = np.frombuffer(fixed, dtype=np.uint8)
    data[:, -4:] = values.copy().view(np.uint8).reshape(count, 4)
    rows[:, -4:] = crc(np.ascontiguousarray(data)).astype("<u4").view(np.uint8).reshape(count, 4)
    return rows


READERS = {
    "kohyakit, cold": """
from kohyakit.runs.logs.metrics import read_scalars
frame = read_scalars(folder, cache=False)
points = len(frame)
""",
    "kohyakit, writing its cache": """
from kohyakit.runs.logs.metrics import read_scalars
points = len(read_scalars(folder))
""",
    "kohyakit, warm": """
from kohyakit.runs.logs.metrics import read_scalars
points = len(read_scalars(folder))
""",
    "EventAccumulator": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
points = 0
for place in sorted({file.parent for file in Path(folder).rglob("*tfevents*")})[:limit]:
    log = EventAccumulator(str(place), size_guidance={"scalars": 0})
    log.Reload()
    points += sum(len(log.Scalars(tag)) for tag in log.Tags()["scalars"])
""",
    "tbparse": """
from tbparse import SummaryReader
points = 0
for place in sorted({file.parent for file in Path(folder).rglob("*tfevents*")})[:limit]:
    points += len(SummaryReader(str(place)).scalars)
""",
}
_AROUND = """
import json, os, sys, time
from pathlib import Path
folder, limit = sys.argv[1], int(sys.argv[2])
wall = time.perf_counter()
{reader}
wall = time.perf_counter() - wall
try:  # the peak of this process alone; getrusage would count its parent's before exec
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
except (OSError, IndexError):
    peak = float("nan")
print(json.dumps([points, sum(os.times()[:2]), wall, peak]))
"""


def measure(name: str, folder: Path, limit: int, cache: Path) -> tuple[int, float, float, float] | str:
    """(points, CPU s, wall s, peak MiB) of one reader in its own process, imports included; or why it failed."""
    environment = {**os.environ, "KOHYAKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", _AROUND.format(reader=READERS[name]), str(folder), str(limit)],
        capture_output=True, text=True, encoding="utf-8", env=environment, check=False,
    )  # fmt: skip
    if result.returncode:
        return result.stderr.strip().splitlines()[-1]
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def differences(folder: Path) -> int:
    """How many points of the first run differ between kohyakit and EventAccumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from kohyakit.runs.logs.metrics import read_scalars

    place = sorted({file.parent for file in folder.rglob("*tfevents*")})[0]
    frame = read_scalars(place, cache=False)
    log = EventAccumulator(str(place), size_guidance={"scalars": 0})
    log.Reload()
    wrong = abs(len(frame) - sum(len(log.Scalars(tag)) for tag in log.Tags()["scalars"]))
    for tag in log.Tags()["scalars"]:
        ours = frame[frame["tag"] == tag][["wall_time", "step", "value"]].itertuples(index=False)
        theirs = [(event.wall_time, event.step, event.value) for event in log.Scalars(tag)]
        wrong += sum(tuple(a) != b for a, b in zip(ours, theirs, strict=False))
    return wrong


def refresh_milliseconds(folder: Path) -> float:
    """A run that grows by one step of five points: the median of the time until its frame is up to date."""
    import time

    from kohyakit.runs.logs.metrics import ScalarLog

    place = sorted({file.parent for file in folder.rglob("*tfevents*")})[0]
    (file,) = place.iterdir()
    whole = file.read_bytes()
    from kohyakit.runs.logs.crc32c import masked_rows

    log = ScalarLog(place, cache=False)
    log.refresh()
    times = []
    for step in range(10):
        with file.open("ab") as out:
            for tag in TAGS:
                one = np.array([1_000_000 + step])
                out.write(_records(tag.encode(), one, 3, np.ones(1, "<f4"), np.ones(1, "<f8"), masked_rows).tobytes())
        begun = time.perf_counter()
        log.refresh()
        log.frame()
        times.append(time.perf_counter() - begun)
    file.write_bytes(whole)
    return sorted(times)[len(times) // 2] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="20 runs of 50,000 steps: five million points")
    full = parser.parse_args().full
    runs, steps, limit = (20, 50_000, 2) if full else (2, 10_000, 2)
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "logs"), Path(temporary, "cache")
        write_logs(folder, runs, steps)
        size = sum(file.stat().st_size for file in folder.rglob("*tfevents*"))
        count = runs * steps * len(TAGS)
        print(f"{runs} runs, {steps} steps, {len(TAGS)} tags: {count:,} points, {size / 1e6:.0f} MB\n")
        print(f"{'reader':30} {'points':>10} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9} {'CPU µs a point':>15}")
        cost = {}
        for name in READERS:
            found = measure(name, folder, limit, cache)
            if isinstance(found, str):
                print(f"{name:30} {found}")
                continue
            points, cpu, wall, peak = found
            cost[name] = cpu / points
            print(f"{name:30} {points:10,} {cpu:8.2f} {wall:8.2f} {peak:9.0f} {cpu / points * 1e6:15.2f}")
        if "EventAccumulator" in cost:
            ratio = cost["EventAccumulator"] / cost["kohyakit, cold"]
            print(f"\nEventAccumulator takes {ratio:.0f} times as long a point")
        print(f"points that differ from EventAccumulator's: {differences(folder)}")
        print(f"a growing run is up to date again after {refresh_milliseconds(folder):.1f} ms")


if __name__ == "__main__":
    main()
