"""How time and memory grow with the number of photos: start of a training, check, audit, fingerprints, duplicates.

    python benchmarks/growth.py WORK [--full] [--only NAME ...]

1,000 and 10,000 small photos are made below WORK (--full: 100,000 too) and removed again. Each measure runs in a
process of its own: CPU seconds (its own and its workers'), peak memory (its own, or its largest worker's), and the
exponent of a power of the number fitted to all sizes: 1 is as many times the work as photos, 2 its square. What this
version has not is passed over.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))
SIZES, FULL = (1_000, 10_000), 100_000


def make(folder: Path, count: int) -> None:
    """Photos of 96x64 with captions, each another picture."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 64), Image.BICUBIC)
        stream = io.BytesIO()
        coarse.save(stream, "JPEG", quality=80)
        (folder / f"{number:06d}.jpg").write_bytes(stream.getvalue())
        (folder / f"{number:06d}.txt").write_text(f"sks thing, number {number}, red, house", encoding="utf-8")


def _config(root: Path) -> Any:
    from kohyakit.config.train import TrainConfig

    named = {"train_data_dir": str(root / "img"), "resolution": "64,64", "caption_extension": ".txt",
             "pretrained_model_name_or_path": "none", "enable_bucket": True, "max_train_epochs": 1}  # fmt: skip
    return TrainConfig().with_values(**named, output_dir=str(root / "model"), output_name="growth")


def _planned(config: Any) -> Any:
    try:
        from kohyakit.planning.make import make_plan
    except ImportError:
        from kohyakit.planning.make import make_plan
    return make_plan(config)


def check(root: Path, count: int) -> Callable[[], object]:
    return lambda: _planned(_config(root))


def decode(root: Path, count: int) -> Callable[[], object]:
    """The verdict on every file, as before a training, in this process."""
    from kohyakit.dataset.decode import verdict

    return lambda: [verdict(path) for path in sorted((root / "img/1_sks").glob("*.jpg"))]


def audit(root: Path, count: int, *, quick: bool = False) -> Callable[[], object]:
    from kohyakit import audit_dataset

    return lambda: audit_dataset(root / "img", quick=quick)


def quick(root: Path, count: int) -> Callable[[], object]:
    return audit(root, count, quick=True)


def fingerprint(root: Path, count: int) -> Callable[[], object]:
    from kohyakit.dataset.fingerprint import fingerprint
    from kohyakit.dataset.layout import scan

    found = scan(_config(root))
    return lambda: fingerprint(found)


def other_photos(root: Path, count: int) -> Callable[[], object]:
    """The difference to a parent run that shares no file, by bytes or by name."""
    from kohyakit.dataset.fingerprint import ImageEntry, difference, from_entries

    def entries(of: str) -> list[ImageEntry]:
        return [ImageEntry("/p", f"1_sks/{of}{number:06d}.jpg", f"{of}{number:063x}", 1000) for number in range(count)]

    before, after = from_entries(entries("a")), from_entries(entries("b"))
    return lambda: difference(before, after)


def record(root: Path, count: int) -> Callable[[], object]:
    """What a training writes down before its first step: plan, fingerprint, run folder."""
    from kohyakit.runs import registry

    config = _config(root)
    return lambda: registry.start(config, plan=_planned(config))


def epoch(root: Path, count: int) -> Callable[[], object]:
    """The order and the draws of an epoch of ten repeats."""
    from types import SimpleNamespace

    from kohyakit.train.step.rng import KohyakitOrder

    order = KohyakitOrder(7)
    order.begin([SimpleNamespace(bucket_members=[list(range(count)) * 10], batch_size=4)])
    return lambda: sum(len(slot.images) for slot in order.batches(1))


def near_duplicates(root: Path, count: int) -> Callable[[], object]:
    import cv2
    import numpy as np

    from kohyakit.audit.alike.neighbours import same_picture_groups

    coarse = np.random.default_rng(0).integers(0, 255, (count, 8, 8), dtype=np.uint8)
    sketches = np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse])
    return lambda: same_picture_groups(sketches, 14, 0.75)


MEASURES = {
    "check": check, "verdicts (check --decode)": decode, "start of a training, recorded": record,
    "epoch's order": epoch, "audit": audit, "audit --quick": quick, "fingerprint": fingerprint,
    "difference to other photos": other_photos, "near duplicates": near_duplicates,
}  # fmt: skip


def _spent() -> float:
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(name: str, root: Path, count: int) -> dict[str, float] | str:
    """In this process: CPU and wall seconds, peak MB; or why it cannot be measured."""
    try:
        act = MEASURES[name](root, count)
        cpu, wall = _spent(), time.perf_counter()
        act()
    except Exception as error:  # another version may call it otherwise
        return f"{type(error).__name__}: {error}"
    found = {"cpu": _spent() - cpu, "wall": time.perf_counter() - wall}
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {**found, "memory": max(used.ru_maxrss for used in both) / (1e6 if sys.platform == "darwin" else 1e3)}


def exponent(points: list[tuple[int, float]]) -> float:
    """Of the power of the number that fits best (least squares of the logarithms)."""
    x, y = [math.log(count) for count, _ in points], [math.log(max(value, 1e-4)) for _, value in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a folder for what is made")
    parser.add_argument("--full", action="store_true", help="100,000 photos too")
    parser.add_argument("--only", nargs="*", default=list(MEASURES), choices=list(MEASURES), metavar="NAME")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print("RESULT" + json.dumps(measure(chosen.one[0], chosen.work, int(chosen.one[1]))))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    points: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in chosen.only}
    for count in (*SIZES, FULL) if chosen.full else SIZES:
        chosen.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=chosen.work) as folder:
            make(Path(folder) / "img/1_sks", count)
            print(f"{count:,} photos{'':22}{'CPU s':>9}{'wall s':>9}{'MB':>8}")
            for name in chosen.only:
                shutil.rmtree(Path(folder) / "model", ignore_errors=True)
                one = [sys.executable, str(HERE), folder, "--one", name, str(count)]
                said = subprocess.run(one, capture_output=True, text=True, check=False)
                lines = [line for line in said.stdout.splitlines() if line.startswith("RESULT")]
                found = json.loads(lines[-1][6:]) if lines else said.stderr.strip()[-100:]
                if isinstance(found, str):
                    print(f"  {name:32} not measured: {found}", flush=True)
                    continue
                print(f"  {name:32}{found['cpu']:9.2f}{found['wall']:9.2f}{found['memory']:8.0f}", flush=True)
                points[name].append((count, found))
    print(f"\n{'exponent of':34}{'CPU':>9}{'memory':>9}")
    for name, some in points.items():
        if len(some) > 1:
            fits = [exponent([(count, found[what]) for count, found in some]) for what in ("cpu", "memory")]
            print(f"  {name:32}{fits[0]:9.2f}{fits[1]:9.2f}")


if __name__ == "__main__":
    main()
