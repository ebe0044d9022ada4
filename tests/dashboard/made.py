"""Projects for the tests: real run folders, real event files, real pictures, made small and quickly."""

from __future__ import annotations

import colorsys
import json
import math
import random
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def masked_crc(data: bytes) -> int:
    """TensorBoard's own checksum, so that the files are whole for every reader."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return masked_crc32c(data)


def write_events(
    folder: Path, scalars: dict[str, list[tuple[int, float]]], *, start: datetime = START, seconds: float = 2.0
) -> Path:
    """One event file as a training leaves it: an event a point, in order of steps."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{int(start.timestamp())}.host.1.0"
    points = sorted((step, tag, value) for tag, series in scalars.items() for step, value in series)
    with path.open("wb") as file:
        records = [Event(wall_time=start.timestamp(), file_version="brain.Event:2").SerializeToString()]
        for step, tag, value in points:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            records.append(
                Event(wall_time=start.timestamp() + step * seconds, step=step, summary=summary).SerializeToString()
            )
        for record in records:
            head = struct.pack("<Q", len(record))
            file.write(head + struct.pack("<I", masked_crc(head)) + record + struct.pack("<I", masked_crc(record)))
    return path


def loss_curves(
    steps: int, *, seed: int = 0, low: float = 0.08, overfit: float = 0.0, every: int = 1
) -> dict[str, list[tuple[int, float]]]:
    """A plausible training: falling noisy loss, its average, learning rates, a validation loss that may rise again."""
    rng = random.Random(seed)
    current, average, kept = [], [], []
    for step in range(1, steps + 1, every):
        done = step / steps
        level = low + 0.07 * math.exp(-5 * done)
        value = level * (1 + rng.gauss(0, 0.28)) ** 2
        kept.append(value)
        current.append((step, value))
        average.append((step, sum(kept[-60:]) / len(kept[-60:])))
    rates = [(step, 1e-4 * 0.5 * (1 + math.cos(math.pi * step / steps))) for step in range(1, steps + 1, every)]
    validation = [
        (step, low * 1.1 + 0.05 * math.exp(-6 * step / steps) + overfit * (step / steps) ** 2 + rng.gauss(0, 0.0007))
        for step in range(max(1, steps // 20), steps + 1, max(1, steps // 20))
    ]
    return {
        "loss/current": current, "loss/average": average, "lr/unet": rates,
        "lr/textencoder": [(step, rate / 2) for step, rate in rates], "loss/validation/step_average": validation,
    }  # fmt: skip


def picture(
    path: Path, size: tuple[int, int] = (256, 256), *, seed: int = 0, clear: float = 1.0, text: str = ""
) -> Path:
    """A little landscape; `clear` from 0 (noise) to 1, as samples of an early and a late step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    hue = rng.random()
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    width, height = size
    for y in range(height):
        colour = colorsys.hsv_to_rgb(hue, 0.35, 0.95 - 0.35 * y / height)
        draw.line([(0, y), (width, y)], fill=tuple(int(255 * c) for c in colour))
    draw.ellipse([width * 0.62, height * 0.14, width * 0.8, height * 0.14 + width * 0.18], fill=(255, 240, 210))
    for layer in range(3):
        base = height * (0.55 + 0.13 * layer)
        ridge = [
            (x, base - height * 0.1 * math.sin(x / width * 5 + rng.random() * 6 + layer))
            for x in range(0, width + 16, 16)
        ]
        shade = tuple(int(255 * c) for c in colorsys.hsv_to_rgb((hue + 0.45) % 1, 0.4, 0.62 - 0.17 * layer))
        draw.polygon([(0, height), *ridge, (width, height)], fill=shade)
    if text:
        draw.text((8, height - 18), text, fill=(255, 255, 255))
    if clear < 1:
        noise = Image.effect_noise(size, 90).convert("RGB")
        image = Image.blend(image, noise, 1 - clear)
    options: dict[str, Any] = {}
    if path.suffix in (".jpg", ".jpeg"):
        options["quality"] = 85
    image.save(path, **options)
    return path


def write_run(
    project: Path,
    version: str,
    *,
    parent: str = "",
    status: str = "finished",
    settings: dict[str, Any] | None = None,
    steps: int = 300,
    epochs: int = 6,
    day: float = 0,
    scalars: dict[str, list[tuple[int, float]]] | None = None,
    **record: Any,
) -> Path:
    """A run's folder under <project>/runs as kohyakit.runs.run describes it, with its log beside."""
    folder = project / "runs" / version
    folder.mkdir(parents=True, exist_ok=True)
    started = START + timedelta(days=day)
    log = project / "logs" / version / "network_train"
    if scalars is not None:
        write_events(log, scalars, start=started)
    seconds = steps * 2.0
    written = {
        "format": 1, "version": version, "status": status, "parent": parent, "output_name": "lighthouse",
        "steps": steps, "epochs": epochs, "created": started.isoformat(timespec="seconds"),
        "started": started.isoformat(timespec="seconds"), "image_count": 42, "images": f"images-{version[0]}",
        "logs": [log.relative_to(project).as_posix()] if scalars is not None else [], "samples": "sample",
        **({"seconds": seconds, "ended": (started + timedelta(seconds=seconds)).isoformat(timespec="seconds")}
           if status in ("finished", "stopped", "failed", "interrupted") else {}),
        **record,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(written), encoding="utf-8")
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "plan.json").write_text(
        json.dumps({"steps": steps, "epochs": epochs, "steps_per_epoch": steps / epochs}), encoding="utf-8"
    )
    return folder


def write_samples(
    project: Path,
    version: str,
    prompts: list[str],
    *,
    steps: list[int],
    per_epoch: int,
    seed: int = 0,
    index: bool = True,
) -> list[Path]:
    """Samples with Kohya's names under <project>/sample and their lines in samples.jsonl."""
    folder = project / "sample"
    folder.mkdir(parents=True, exist_ok=True)
    made, lines = [], []
    for number, step in enumerate(steps):
        for place, prompt in enumerate(prompts):
            stamp = (START + timedelta(seconds=step * 2)).astimezone().strftime("%Y%m%d%H%M%S")
            name = f"{version}_{step:06d}_{place:02d}_{stamp}_{1000 + place}.png"
            made.append(
                picture(
                    folder / name,
                    seed=seed * 7 + place,
                    clear=0.25 + 0.75 * (number + 1) / len(steps),
                    text=f"{version} {step}",
                )
            )
            lines.append(json.dumps({
                "file": name, "epoch": step // per_epoch, "step": step, "index": place, "prompt": prompt,
                "negative_prompt": "blurry", "width": 256, "height": 256,
                "sample_steps": 20, "scale": 7.5, "seed": 1000 + place,
                "sampler": "ddim", "time": stamp, "run": version,
            }))  # fmt: skip
    if index:
        with (folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
    return made


SETTINGS = {
    "network_dim": 16, "network_alpha": 8.0, "learning_rate": 1e-4, "optimizer_type": "AdamW8bit",
    "lr_scheduler": "cosine", "train_batch_size": 2, "max_train_epochs": 6,
    "resolution": "512,512", "caption_extension": ".txt", "seed": 42,
}  # fmt: skip


def entries(project: Path, names: list[str], *, changed: dict[str, str] | None = None) -> dict[str, Any]:
    """dataset.json over pictures of img/10_sks lighthouse, sha from the name."""
    folder = project / "img" / "10_sks lighthouse"
    made = []
    for number, name in enumerate(names):
        path = folder / name
        if not path.exists():
            picture(path, (240, 180) if number % 3 else (180, 240), seed=number + 50)
        caption = (changed or {}).get(name, f"sks lighthouse, {Path(name).stem}, sea")
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        made.append(
            {
                "root": str(folder),
                "file": name,
                "sha256": f"{name}-hash",
                "bytes": path.stat().st_size,
                "caption": caption,
                "is_reg": False,
            }
        )
    return {"images": "x", "captions": "y", "entries": made, "subsets": []}


def small_project(root: Path) -> Path:
    """Seven runs of one project: a family with a branch, two sets of photos, a failed, a lost and a damaged one."""
    project = root / "lighthouse"
    project.mkdir(parents=True)
    photos = [f"beach-{number:02d}.jpg" for number in range(12)]
    first, second = (
        entries(project, photos[:9]),
        entries(project, photos[2:], changed={"beach-04.jpg": "sks lighthouse at night, long exposure"}),
    )
    prompts = ["sks lighthouse on a cliff, evening light, 35mm photo", "sks lighthouse in a storm, waves, oil painting"]
    runs = [
        ("1a", "", {}, "finished", 0.0, first, []),
        (
            "1b",
            "1a",
            {"network_dim": 32, "network_alpha": 16.0},
            "finished",
            0.0,
            first,
            ["network_dim 16 → 32", "network_alpha 8 → 16"],
        ),
        ("1c", "1a", {"learning_rate": 4e-4}, "failed", 0.0, first, ["learning_rate 0.0001 → 0.0004"]),
        (
            "2a",
            "1b",
            {"network_dim": 32, "network_alpha": 16.0},
            "finished",
            0.05,
            second,
            ["3 photos added", "2 photos removed", "1 caption changed"],
        ),
        (
            "2b",
            "2a",
            {"network_dim": 32, "network_alpha": 16.0, "lr_scheduler": "constant"},
            "stopped",
            0.0,
            second,
            ["lr_scheduler cosine → constant"],
        ),
    ]
    for number, (version, parent, other, status, overfit, data, changes) in enumerate(runs):
        steps = 120 if status in ("failed", "stopped") else 300
        scalars = loss_curves(steps, seed=number, low=0.085 - 0.006 * number, overfit=overfit)
        folder = write_run(
            project, version, parent=parent, status=status, settings={**SETTINGS, **other}, steps=steps,
            day=number, scalars=scalars, changes=changes, image_count=len(data["entries"]),
            outcome="CUDA out of memory at step 120" if status == "failed" else "",
        )  # fmt: skip
        (folder / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
        write_samples(project, version, prompts, steps=list(range(50, steps + 1, 50)), per_epoch=50, seed=number)
    (project / "runs" / "2c").mkdir()
    (project / "runs" / "2c" / "run.json").write_text('{"version": "2c", "status": "runn', encoding="utf-8")
    return project
