"""How well a LoRA trained here teaches, on a base that was truly taught (python -m tools.tiny_base).

    python benchmarks/quality.py BASE                      three things, strengths 0 (the base), 0.5 and 1, 50 seeds
    python benchmarks/quality.py BASE --part faults        what bad pictures among twelve cost, and repair wins back
    python benchmarks/quality.py BASE --part settings      rank, alpha, steps, repeats, regularisation pictures
    python benchmarks/quality.py BASE --part beside --sd-scripts CHECKOUT --python PYTHON
                                                           the same trainings by sd-scripts, PYTHON having its packages
    python benchmarks/quality.py BASE --out quality.json   goes on where it stopped; without it nothing is kept

A thing is shown where the judge (tools/tiny_base/judge.py) explains the picture best by its drawing. Prompts without
the trigger ask for known things; their score counts kind, colour and place all right. Ranges are Wilson's, 95 %.
The judge's own errors on drawn pictures, after the base's picture coder, are printed first.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from kohyakit.audit.repair.run import repair_dataset
from kohyakit.demo.project import LARGE, PICTURES, TRIGGER, preset_for, write_pictures
from kohyakit.demo.world import CONCEPTS, SIDE, asked_scenes, concept_scenes
from kohyakit.formats import load, train_toml
from kohyakit.lora.bake import bake
from kohyakit.lora.merge import Source
from kohyakit.train.start import train_network
from tools.tiny_base.figures import drawn_by, judge_errors, shares
from tools.tiny_base.judge import see


@dataclass(frozen=True, slots=True)
class Case:
    """One training: of what, with which settings, and what is wrong with its pictures.

    shrunk: the pictures are as large as they are trained, which sd-scripts asks of a set without buckets.
    by: another program, which is given the preset; kohyakit without it.
    """

    concept: str
    name: str = "as it stands"
    settings: dict[str, Any] = field(default_factory=dict)
    repeats: int = 10
    regularised: bool = True
    spoil: Callable[[Path], None] | None = None
    strengths: tuple[float, ...] = (1.0,)
    shrunk: bool = False
    by: Callable[[Path], None] | None = None


# --- the data set --------------------------------------------------------------------------------------------


def make_set(folder: Path, case: Case) -> None:
    """A dozen pictures of the thing in Kohya's folders, and 24 of known things for regularisation."""
    subset = folder / "img" / f"{case.repeats}_{TRIGGER} {case.concept}"
    write_pictures(subset, concept_scenes(case.concept, PICTURES, 7), TRIGGER)
    if case.spoil:
        case.spoil(subset)
    if case.regularised:
        write_pictures(folder / "reg" / "1_thing", asked_scenes(2 * PICTURES, 8))
    if case.shrunk:
        shrink(folder)


def shrink(folder: Path) -> None:
    """Every picture as large as it is trained, without loss from there on."""
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as picture:
            picture.resize((SIDE, SIDE), Image.Resampling.BOX).save(path.with_suffix(".png"))
        path.unlink()


def sideways(folder: Path) -> None:
    """Three pictures lie on their side, upright only by the tag that sd-scripts does not look at."""
    for path in sorted(folder.glob("*.jpg"))[:3]:
        with Image.open(path) as picture:
            turned = picture.transpose(Image.Transpose.ROTATE_90)
        tag = Image.Exif()
        tag[0x0112] = 6
        turned.save(path, quality=92, exif=tag)


def wrong_captions(folder: Path) -> None:
    """Three captions name another thing and not the trigger."""
    for path, scene in zip(sorted(folder.glob("*.txt"))[:3], asked_scenes(3, 9), strict=True):
        path.write_text(scene.caption(), encoding="utf-8")


def duplicates(folder: Path) -> None:
    """One picture lies there six times more."""
    first = min(folder.glob("*.jpg"))
    for i in range(6):
        copy = folder / f"{first.stem}_copy{i}.jpg"
        copy.write_bytes(first.read_bytes())
        copy.with_suffix(".txt").write_text(first.with_suffix(".txt").read_text(encoding="utf-8"), encoding="utf-8")


def blurred(folder: Path) -> None:
    """Three pictures are out of focus."""
    for path in sorted(folder.glob("*.jpg"))[:3]:
        with Image.open(path) as picture:
            soft = picture.filter(ImageFilter.GaussianBlur(LARGE / 40))
        soft.save(path, quality=92)


def then_repaired(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    """Spoil, then let `kohyakit repair` mend what it finds."""

    def both(folder: Path) -> None:
        spoil(folder)
        repair_dataset(folder.parent, progress=False)

    return both


# --- training and looking ------------------------------------------------------------------------------------

STEPS = 700  # as the demo's
_QUIET = {"sample_every_n_epochs": 0, "sample_at_first": False, "save_precision": "float", "output_name": "taught"}


def train(base: Path, folder: Path, case: Case) -> Path:
    """Make the set, train on it with the demo's preset, and return the LoRA's file."""
    make_set(folder, case)
    values = preset_for(folder, base, epochs=1) | {"save_every_n_epochs": 0}
    if not case.regularised:
        values["reg_data_dir"] = ""
    preset = folder / "preset.json"
    preset.write_text(json.dumps(values), encoding="utf-8")
    length = {"max_train_steps": STEPS, "max_train_epochs": 0}
    config = load(preset, overrides=_QUIET | length | case.settings)
    if case.by:
        given = folder / "config.toml"
        given.write_text(train_toml.dumps(config), encoding="utf-8")
        case.by(given)
    else:
        train_network(config, progress=False, echo=lambda line: None)
    return folder / "model" / "taught.safetensors"


def by_sd_scripts(checkout: Path, python: str) -> Callable[[Path], None]:
    """Let a checkout of sd-scripts train what a config file asks for."""
    started = [python, str(Path(__file__).with_name("sd_scripts.py")), str(checkout), "train_network.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def run(config: Path) -> None:
        done = subprocess.run(
            [*started, "--config_file", str(config)], cwd=checkout, env=environment, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"sd-scripts failed:\n{done.stdout[-3000:]}")

    return run


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is asked of every model: so many scenes with the trigger and so many without."""

    concept: str
    count: int

    def look(self, model: Path, before: list[Any] | None = None) -> tuple[dict[str, float], list[Any]]:
        """What the model shows; before: the base's pictures without the trigger, to tell how far they moved."""
        asked, others = concept_scenes(self.concept, self.count, 21), asked_scenes(self.count, 22)
        taught = drawn_by(model, [scene.caption(TRIGGER) for scene in asked], seed=500)
        plain = drawn_by(model, [scene.caption() for scene in others], seed=900)
        seen = [see(picture) for picture in plain]
        told = {
            "shown": _share([see(picture).kind == self.concept for picture in taught]),
            "leaked": _share([one.kind == self.concept for one in seen]),
            "score": shares(others, seen)["score"],
            "moved": round(float(np.mean([_apart(a, b) for a, b in zip(plain, before or plain, strict=True)])), 4),
        }
        return told, plain


@cache
def _before(base: Path, prompts: Prompts) -> tuple[dict[str, float], list[Any]]:
    return prompts.look(base)


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def _apart(a: Any, b: Any) -> float:
    """Mean difference of two pictures, of 0..1."""
    return float(np.abs(np.asarray(a, dtype=np.float32) - np.asarray(b, dtype=np.float32)).mean() / 255)


def measure(base: Path, case: Case, count: int) -> Iterator[dict[str, Any]]:
    """A row for the base and one for each strength."""
    prompts = Prompts(case.concept, count)
    told, before = _before(base, prompts)
    yield {"case": "before", "concept": case.concept, "strength": 0.0, "count": count} | told
    with tempfile.TemporaryDirectory() as place:
        lora = train(base, Path(place), case)
        for strength in case.strengths:
            baked = Path(place) / f"baked-{strength}"
            bake([Source(lora, strength)], base, baked)
            told, _ = prompts.look(baked, before)
            yield {"case": case.name, "concept": case.concept, "strength": strength, "count": count} | told


# --- what is asked -------------------------------------------------------------------------------------------


def strengths() -> list[Case]:
    return [Case(concept, strengths=(0.5, 1.0)) for concept in CONCEPTS]


def faults() -> list[Case]:
    start = Case("robot")
    as_stored = replace(start, settings={"exif_orientation": "ignore"})  # as sd-scripts trains them
    return [
        start,
        replace(as_stored, name="3 sideways, as stored", spoil=sideways),
        replace(as_stored, name="3 sideways, repaired", spoil=then_repaired(sideways)),
        replace(start, name="3 sideways, upright by EXIF", spoil=sideways),
        replace(start, name="3 wrong captions", spoil=wrong_captions),
        replace(start, name="6 duplicates", spoil=duplicates),
        replace(start, name="6 duplicates, repaired", spoil=then_repaired(duplicates)),
        replace(start, name="3 blurred", spoil=blurred),
    ]


def settings() -> list[Case]:
    start = Case("robot")
    ways: dict[str, dict[str, Any]] = {
        "rank 2": dict.fromkeys(("network_dim", "network_alpha", "conv_dim", "conv_alpha"), 2),
        "rank 32": dict.fromkeys(("network_dim", "network_alpha", "conv_dim", "conv_alpha"), 32),
        "alpha 1": {"network_alpha": 1, "conv_alpha": 1},
        "no convolutions": {"network_args": []},
        "200 steps": {"max_train_steps": 200},
        "1400 steps": {"max_train_steps": 1400},
        "a quarter of the rate": {"unet_lr": 1e-3, "learning_rate": 1e-3},
    }
    return [
        start,
        *(replace(start, name=name, settings=change) for name, change in ways.items()),
        replace(start, name="repeats 2", repeats=2),
        replace(start, name="no regularisation", regularised=False),
    ]


def beside(by: Callable[[Path], None]) -> list[Case]:
    """The same set and settings by both programs. The name is on each row, so both stand under one "before"."""
    ours = [Case(concept, name="by kohyakit", shrunk=True) for concept in CONCEPTS]
    return [case for one in ours for case in (one, replace(one, name="by sd-scripts", by=by))]


PARTS = {"strengths": strengths, "faults": faults, "settings": settings}


# --- the tables ----------------------------------------------------------------------------------------------


def wilson(share: float, count: int) -> tuple[float, float]:
    """The range that holds the true share in 95 of 100 cases."""
    z, z2 = 1.96, 1.96**2
    middle, spread = share + z2 / (2 * count), z * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, (middle - spread) / (1 + z2 / count)), min(1.0, (middle + spread) / (1 + z2 / count))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| training | thing | strength | shown with the trigger | shown without | score without | kept | moved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    own = {row["concept"]: row["score"] for row in rows if row["case"] == "before"}
    for row in rows:
        told = [f"{row[name]:.0%} ({low:.0%} to {high:.0%})" for name in ("shown", "leaked", "score")
                for low, high in [wilson(row[name], row["count"])]]  # fmt: skip
        kept = f"{row['score'] / own[row['concept']]:.0%}" if own[row["concept"]] else "-"
        cells = [row["case"], row["concept"], f"{row['strength']:g}", *told, kept, f"{row['moved']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="a folder that tools.tiny_base wrote")
    parser.add_argument("--part", choices=(*PARTS, "beside"), default="strengths")
    parser.add_argument("--sd-scripts", type=Path, metavar="CHECKOUT", help="for --part beside")
    parser.add_argument("--python", default=sys.executable, help="one that has the checkout's packages")
    parser.add_argument("--concept", choices=CONCEPTS, help="only this thing")
    parser.add_argument("--count", type=int, default=50, help="seeds for each share")
    parser.add_argument("--out", type=Path, help="rows are kept here, and what is there is not measured again")
    asked = parser.parse_args()
    if asked.part == "beside" and not asked.sd_scripts:
        parser.error("--part beside needs --sd-scripts CHECKOUT")
    _print_judge(asked.base, asked.count)
    kept: list[dict[str, Any]] = json.loads(asked.out.read_text("utf-8")) if asked.out and asked.out.exists() else []
    cases = PARTS[asked.part]() if asked.part in PARTS else beside(by_sd_scripts(asked.sd_scripts, asked.python))
    for case in cases:
        if asked.concept and case.concept != asked.concept:
            continue
        if any(row["case"] == case.name and row["concept"] == case.concept for row in kept):
            continue
        known = {(row["case"], row["concept"]) for row in kept}
        for row in measure(asked.base, case, asked.count):
            if (row["case"], row["concept"]) not in known:
                kept.append(row)
        if asked.out:
            asked.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(kept))


def _print_judge(base: Path, count: int) -> None:
    from diffusers import AutoencoderKL

    coder = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32, local_files_only=True)
    errors = judge_errors(coder, count=4 * count, seed=31)
    for name, told in errors.items():
        print(f"judge, {name}: " + ", ".join(f"{aspect} {share:.1%}" for aspect, share in told.items()))
    print()


if __name__ == "__main__":
    main()
