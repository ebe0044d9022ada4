"""How much damage the decoding verdict finds, kind by kind, beside what other readings of the same files find.

    python benchmarks/audit_damage.py LABELLED [LABELLED ...] [--healthy FOLDER ...] [--misses]

LABELLED: a folder with files/ and labels.json, as a damage maker writes them: for each file `family`, `kind`,
`visible` (its pixels changed visibly, or nothing decodes) and `corrupt`. --healthy: further photos that nobody
damaged, for false alarms. Found means `undecodable`, `damaged` or `too_many_pixels` as an error or a warning.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

READERS = ("Pillow load", "simplejpeg strict", "kohyakit")
FOUND = ("undecodable", "damaged", "too_many_pixels")


def pillow_refuses(path: Path) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            image.load()
    except Exception:
        return True
    return False


def simplejpeg_refuses(path: Path) -> bool:
    """Files that are no JPEG go to Pillow, as a careful script would do it."""
    import simplejpeg

    data = path.read_bytes()
    if not data.startswith(b"\xff\xd8"):
        return pillow_refuses(path)
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, "CMYK" if colours in ("CMYK", "YCCK") else "GRAY", min_factor=8)
    except Exception:
        return True
    return False


def read(path: Path) -> tuple[bool, bool, bool, str]:
    """What each of READERS says, and kohyakit's reason."""
    from kohyakit.dataset.decode import verdict

    found = verdict(path)
    alarm = found.issue in FOUND and found.severity in ("error", "warning")
    return pillow_refuses(path), simplejpeg_refuses(path), alarm, found.detail


def read_all(paths: list[Path]) -> list[tuple[bool, bool, bool, str]]:
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(read, paths, chunksize=16))


def labelled(folder: Path) -> Iterator[tuple[Path, dict]]:
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["files"]
    for name, label in labels.items():
        yield folder / "files" / name, label


def share(found: int, count: int) -> str:
    return f"{found}/{count}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labelled", type=Path, nargs="+")
    parser.add_argument("--healthy", type=Path, nargs="*", default=[])
    parser.add_argument("--misses", action="store_true", help="name every file that was missed")
    chosen = parser.parse_args()
    files = [pair for folder in chosen.labelled for pair in labelled(folder)]
    kinds: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    healthy: list[tuple[Path, tuple]] = []
    for (path, label), said in zip(files, read_all([path for path, _ in files]), strict=True):
        if label["visible"]:
            row = kinds[label["family"], label["kind"]]
            for number in range(3):
                row[number] += said[number]
            row[3] += 1
            if chosen.misses and not said[2]:
                print(f"missed: {path} ({label['damage']:.3f} of the picture differs)")
        elif not label["corrupt"]:
            healthy.append((path, said))
    photos = [path for folder in chosen.healthy for path in sorted(folder.rglob("*")) if path.is_file()]
    originals = list(zip(photos, read_all(photos), strict=True))
    print(f"| damage | {' | '.join(READERS)} |\n|---|---|---|---|")
    for (family, kind), row in kinds.items():
        print(f"| {family}: {kind} | {' | '.join(share(row[n], row[3]) for n in range(3))} |")
    count = sum(row[3] for row in kinds.values())
    totals = [sum(row[n] for row in kinds.values()) for n in range(3)]
    print(f"| **all visible** | {' | '.join(f'{share(n, count)} ({n / count:.1%})' for n in totals)} |")
    for name, group in (("undamaged, as made", healthy), ("undamaged originals", originals)):
        if group:
            alarms = [sum(said[n] for _, said in group) for n in range(3)]
            print(f"| false alarms, {name} | {' | '.join(share(n, len(group)) for n in alarms)} |")
    for path, said in healthy + originals:
        if said[2]:
            print(f"false alarm: {path}: {said[3]}")


if __name__ == "__main__":
    main()
