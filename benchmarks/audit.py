"""The audit beside imagehash, imagededup and cleanvision: duplicates found, photos a second, memory.

    python benchmarks/audit.py pairs PHOTOS WORK [--peers PYTHON]     precision and recall on pairs made from photos
    python benchmarks/audit.py speed PHOTOS WORK [--count 1500] [--as-they-are] [--peers PYTHON]
    python benchmarks/audit.py quality PHOTOS WORK                    blurred, dark, bright, empty, bars, sideways
    python benchmarks/audit.py many WORK [--count 100000]             memory, --quick, and the whole audit

PHOTOS: a folder of real photos, one of each scene. WORK: a folder for what is made (removed again).
--peers: a Python that has imagehash, imagededup and cleanvision; without it only kohyakit is measured.
Truth is by construction; photos that all tools call equal are shown, so that the set can be cleaned.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))


def photos(folder: Path, longest: int | None = None) -> Iterator[tuple[Path, Image.Image]]:
    """The photos of a folder, upright, in RGB."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        try:
            image = Image.open(path)
            if longest:
                image.draft("RGB", (longest, longest))
            image = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
        if longest:
            image.thumbnail((longest, longest), Image.LANCZOS)
        yield path, image


# --- pairs -------------------------------------------------------------------------------------------------------


def _crop(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _half(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.BICUBIC)


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "resize": _half,
    "jpeg30": lambda image, rng: image,
    "mirror": lambda image, rng: ImageOps.mirror(image),
    "crop5": lambda image, rng: _crop(image, 0.05, rng),
    "crop10": lambda image, rng: _crop(image, 0.10, rng),
    "brightness": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice((0.6, 0.75, 1.3, 1.5))),
    "exif": lambda image, rng: image,
}


def _save(image: Image.Image, kind: str, target: Path) -> None:
    if kind == "exif":  # the same picture on screen, stored turned
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(target, "JPEG", quality=85, exif=exif)
    else:
        image.save(target, "JPEG", quality=30 if kind == "jpeg30" else 85)


def make_pairs(source: Path, work: Path, seed: int = 20261123) -> dict[str, dict[str, str]]:
    """A folder per kind with originals and one copy of every other photo. Returns kind -> copy -> original."""
    truth: dict[str, dict[str, str]] = defaultdict(dict)
    for number, (_, image) in enumerate(photos(source, 1280)):
        for kind, change in KINDS.items():
            folder = work / kind
            folder.mkdir(parents=True, exist_ok=True)
            rng = random.Random(f"{seed} {kind} {number}")
            image.save(folder / f"{number:04d}.jpg", "JPEG", quality=92)
            if number % 2 == 0:
                _save(change(image, rng), kind, folder / f"{number:04d}_copy.jpg")
                truth[kind][f"{number:04d}_copy.jpg"] = f"{number:04d}.jpg"
    return truth


def pairs_of(groups: list[list[str]]) -> set[tuple[str, str]]:
    return {tuple(sorted((a, b))) for group in groups for a in group for b in group if a < b}


def find_kohyakit(folder: Path) -> list[list[str]]:
    from kohyakit import audit_dataset

    report = audit_dataset(folder, checks=("exact_duplicate", "near_duplicate"))
    return [[Path(path).name for path in members] for members in report.groups().values()]


PEER = r"""
import json, os, sys, types
tool, folder = sys.argv[1:3]
groups = []
if tool == "imagehash":
    import imagehash, numpy as np
    from PIL import Image
    names = sorted(os.listdir(folder))
    found = np.array([np.packbits(imagehash.phash(Image.open(os.path.join(folder, n))).hash.ravel()) for n in names])
    bits = np.unpackbits(found, axis=1).astype(np.int16)
    apart = (bits[:, None] != bits[None]).sum(2) if len(names) < 1000 else np.full((len(names),) * 2, 64)
    groups = [[names[i], names[j]] for i, j in zip(*np.nonzero(apart <= 10)) if i < j]
elif tool == "imagededup":
    class Meta(type):
        def __getattr__(self, name):
            if name.startswith("__"): raise AttributeError(name)
            return Stub
    class Stub(metaclass=Meta):
        def __init__(self, *more, **named): pass
    def stub(name):
        if name.startswith("__"): raise AttributeError(name)
        return Stub
    for name in ("torch", "torch.nn", "torch.utils", "torch.utils.data", "torchvision",
                 "torchvision.transforms", "torchvision.models", "torchvision.models.vision_transformer",
                 "torchvision.models.efficientnet", "torchvision.models.mobilenetv3"):
        try: __import__(name)
        except ImportError:  # only its networks need them; the hashes measured here do not
            module = types.ModuleType(name); module.__path__ = []; module.__getattr__ = stub; sys.modules[name] = module
    from imagededup.methods import PHash
    if __name__ == "__main__":
        method = PHash(verbose=False)
        found = method.find_duplicates(
            image_dir=folder, max_distance_threshold=10, num_enc_workers=0, num_dist_workers=0)
        groups = [[a, b] for a, others in found.items() for b in others]
elif tool == "cleanvision":
    from cleanvision import Imagelab
    if __name__ == "__main__":
        lab = Imagelab(data_path=folder)
        lab.find_issues(verbose=False, n_jobs=int(sys.argv[3]) if len(sys.argv) > 3 else 1)
        for kind in ("exact_duplicates", "near_duplicates"):
            groups += [[os.path.basename(p) for p in s] for s in lab.info.get(kind, {}).get("sets", [])]
if __name__ == "__main__":
    print("RESULT" + json.dumps(groups))
"""


def find_peer(python: str, tool: str, folder: Path, *more: str) -> list[list[str]] | None:
    script = folder.parent / "peer.py"
    script.write_text(PEER, encoding="utf-8")
    done = subprocess.run([python, str(script), tool, str(folder), *more], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        print(f"{tool}: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(lines[-1][6:])


def run_pairs(arguments: argparse.Namespace) -> None:
    work = fresh(arguments.work / "pairs")
    truth = make_pairs(arguments.photos, work)
    tools: dict[str, Callable[[Path], list[list[str]] | None]] = {"kohyakit": find_kohyakit}
    if arguments.peers:
        for tool in ("imagehash", "imagededup", "cleanvision"):
            tools[tool] = lambda folder, tool=tool: find_peer(arguments.peers, tool, folder)
    print(f"{len(next(iter(truth.values())))} pairs a kind\n{'':12}" + "".join(f"{tool:>24}" for tool in tools))
    print(f"{'kind':12}" + f"{'precision':>13}{'recall':>11}" * len(tools))
    for kind in KINDS:
        wanted = {tuple(sorted(pair)) for pair in truth[kind].items()}
        row = f"{kind:12}"
        for tool, find in tools.items():
            groups = find(work / kind)
            found = pairs_of(groups or [])
            right = len(found & wanted)
            if arguments.show and tool == "kohyakit":
                print("false:", sorted(found - wanted)[:20], "missed:", sorted(wanted - found)[:20])
            row += (
                f"{right / max(1, len(found)):13.3f}{right / len(wanted):11.3f}" if groups is not None else f"{'-':>24}"
            )
        print(row, flush=True)
    shutil.rmtree(work)


# --- quality -----------------------------------------------------------------------------------------------------


def _bars(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", (image.width, round(image.height * 1.2)))
    ground.paste(image, (0, round(image.height * 0.1)))
    return ground


DEFECTS: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "blur, 8 px at 1280": ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(8))),
    "blur, 4 px at 1280": ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(4))),
    "blur, 2 px at 1280": ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(2))),
    "enlarged 4 times": (
        "blurred",
        lambda image: image.resize((image.width // 4, image.height // 4)).resize(image.size),
    ),
    "darkened to 15 %": ("too_dark", lambda image: ImageEnhance.Brightness(image).enhance(0.15)),
    "brightened 4 times": ("too_bright", lambda image: ImageEnhance.Brightness(image).enhance(4)),
    "washed out to 85 %": ("too_bright", lambda image: Image.blend(image, Image.new("RGB", image.size, "white"), 0.85)),
    "contrast 5 %": ("low_information", lambda image: ImageEnhance.Contrast(image).enhance(0.05)),
    "bars of 8 %": ("borders", _bars),
    "laid on its side": ("suspected_sideways", lambda image: image.transpose(Image.Transpose.ROTATE_90)),
}


def run_quality(arguments: argparse.Namespace) -> None:
    """Per defect: found among photos that have it, and named on the same photos without it."""
    from kohyakit import audit_dataset

    work = fresh(arguments.work / "quality")
    checks = ("sideways", "blur", "exposure", "information", "borders")
    pictures = list(photos(arguments.photos, 1280))
    for name, change in {"healthy": ("", lambda image: image), **DEFECTS}.items():
        folder = fresh(work / name.replace(" ", "_"))
        for number, (_, image) in enumerate(pictures):
            change[1](image).save(folder / f"{number:04d}.jpg", "JPEG", quality=90)
    healthy = set_of(audit_dataset(work / "healthy", checks=checks))
    print(f"{len(pictures)} photos\n{'defect':22}{'found':>8}{'named on the healthy ones':>28}")
    for name, (issue, _) in DEFECTS.items():
        found = set_of(audit_dataset(work / name.replace(" ", "_"), checks=checks))
        print(
            f"{name:22}{len(found[issue]) / len(pictures):8.1%}{len(healthy[issue]):28}  {sorted(healthy[issue])[:6]}"
        )
    shutil.rmtree(work)


def set_of(report: object) -> dict[str, set[str]]:
    rows = defaultdict(set)
    for path, issue in zip(report.issues["path"], report.issues["issue"], strict=True):
        rows[issue].add(Path(path).name)
    return rows


# --- speed -------------------------------------------------------------------------------------------------------


def make_photos(source: Path, folder: Path, count: int) -> None:
    """`count` different photos, a fifth of 12 megapixels, the others of 2, from the photos of `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [path for path, _ in photos(source, 64)]
    rng = random.Random(1)
    for number in range(count):
        image = Image.open(originals[number % len(originals)])
        image.draft("RGB", (4000, 3000))
        image = _crop(ImageOps.exif_transpose(image).convert("RGB"), rng.uniform(0.02, 0.2), rng)
        size = (4000, 3000) if number % 5 == 0 else (1632, 1224)
        size = size if image.width >= image.height else size[::-1]
        image.resize(size, Image.BICUBIC).save(folder / f"{number:05d}.jpg", "JPEG", quality=88)


def _decode(path: str) -> None:
    """The floor: read the file, decode it at the scale that the checks need, do nothing else."""
    import simplejpeg

    from kohyakit.dataset.decode.look import reduced_eighths, scaled

    data = Path(path).read_bytes()
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    simplejpeg.decode_jpeg(data, "RGB", strict=False, **scaled(width, height, reduced_eighths(width, height)))


def floor(folder: Path, workers: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(_decode, sorted(map(str, folder.iterdir()))))


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) seconds, children's included."""

    def cpu() -> float:
        return sum(
            u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    wall, before = time.perf_counter(), cpu()
    act()
    return time.perf_counter() - wall, cpu() - before


def run_speed(arguments: argparse.Namespace) -> None:
    from kohyakit import audit_dataset
    from kohyakit.audit.settings import default_workers

    work = arguments.work / "speed"
    if not arguments.as_they_are and not work.exists():
        make_photos(arguments.photos, work / "photos", arguments.count)
    folder, workers = arguments.photos if arguments.as_they_are else work / "photos", default_workers()
    for path in folder.iterdir():  # a warm cache for everybody
        path.read_bytes()
    count = len(list(folder.iterdir()))
    print(f"{count} photos\n{'':36}{'wall s':>9}{'CPU s':>9}{'images/s':>10}{'x floor':>9}")

    def show(name: str, wall: float, cpu: float, times: float = 1.0, cpu_times: float = 1.0) -> None:
        print(f"{name:36}{wall:9.1f}{cpu:9.1f}{count / wall:10.1f}{times:9.2f}  (CPU {cpu_times:.2f})", flush=True)

    # in turn, as the machine's speed changes from minute to minute; each audit beside the floors before and after
    floors, audits = [timed(lambda: floor(folder, workers))], []
    for _ in range(arguments.rounds):
        audits.append(timed(lambda: audit_dataset(folder)))
        floors.append(timed(lambda: floor(folder, workers)))
    beside = [tuple(mean(pair) for pair in zip(*two, strict=True)) for two in pairwise(floors)]
    ratios = [tuple(a / f for a, f in zip(*both, strict=True)) for both in zip(audits, beside, strict=True)]
    base = tuple(median(values) for values in zip(*floors, strict=True))
    show(f"floor: decode once, {workers} threads", *base)
    audit = (median(values) for values in zip(*audits, strict=True))
    show("kohyakit, all checks", *audit, *(median(values) for values in zip(*ratios, strict=True)))
    print("    each time:", ", ".join(f"{wall:.2f} (CPU {cpu:.2f})" for wall, cpu in ratios))
    for tool in ("imagehash", "imagededup", "cleanvision") if arguments.peers else ():
        wall, cpu = timed(lambda tool=tool: find_peer(arguments.peers, tool, folder, str(workers)))
        show(tool, wall, cpu, wall / base[0], cpu / base[1])
    shutil.rmtree(work, ignore_errors=True)


# --- many --------------------------------------------------------------------------------------------------------


def run_many(arguments: argparse.Namespace) -> None:
    """Very many small different images with captions: time of --quick and of all checks, and peak memory."""
    work = arguments.work / "many" / "1_thing"
    if not work.exists():
        make_many(work, arguments.count)
    for options in (("--quick",), ()):
        code = (
            "import sys, resource, time; sys.path.insert(0, sys.argv[1])\n"
            "if __name__ == '__main__':\n"
            "    from kohyakit import audit_dataset\n"
            "    start = time.perf_counter()\n"
            "    report = audit_dataset(sys.argv[2], quick='--quick' in sys.argv)\n"
            "    seconds = round(time.perf_counter() - start, 1)\n"
            "    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
            "    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024\n"
            "    print(len(report.images), 'images,', len(report.issues), 'issues,', seconds, 's')\n"
            "    print(own, 'MB here,', worker, 'MB in the largest worker')\n"
        )
        print(options or "all checks", flush=True)
        subprocess.run([sys.executable, "-c", code, str(HERE.parent.parent), str(work.parent), *options], check=True)
    shutil.rmtree(work.parent)


def make_many(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = ["red", "old", "tall", "house", "tree", "sky", "river", "stone", "light", "street"]
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 64), Image.BICUBIC)
        stream = io.BytesIO()
        coarse.save(stream, "JPEG", quality=80)
        (folder / f"{number:06d}.jpg").write_bytes(stream.getvalue())
        text = ", ".join(words[i] for i in rng.permutation(10)[:5])
        (folder / f"{number:06d}.txt").write_text(f"thing {number}, {text}", encoding="utf-8")


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pairs", "speed", "quality", "many"))
    parser.add_argument("folders", nargs="+", type=Path, help="PHOTOS WORK, or WORK alone for `many`")
    parser.add_argument("--peers", help="a Python with imagehash, imagededup and cleanvision")
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument(
        "--as-they-are", action="store_true", help="speed: of PHOTOS themselves, all JPEGs in one folder"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--show", action="store_true", help="name the false and missed pairs")
    arguments = parser.parse_args()
    arguments.photos, arguments.work = arguments.folders[0], arguments.folders[-1]
    arguments.count = arguments.count or (100_000 if arguments.what == "many" else 1500)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as where it is installed, nothing is compiled at each start
    {"pairs": run_pairs, "speed": run_speed, "quality": run_quality, "many": run_many}[arguments.what](arguments)


if __name__ == "__main__":
    main()
