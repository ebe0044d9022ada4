"""The demo's project: a dozen pictures of a thing that the base model never saw, regularisation images, four planted
faults, the base model itself and a kohya_ss preset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kohyakit.demo.world import SIDE, Scene, asked_scenes, concept_scenes, draw
from kohyakit.errors import KohyakitError, Problem

CONCEPT, TRIGGER, PICTURES, LARGE = "lighthouse", "sks", 12, 480
_PROMPT = "--w 96 --h 96 --s 15 --l 3"
PROMPTS = f"""# one prompt a line; kohyakit draws each of them before the first step and after every epoch
a sks lighthouse in the middle, grass, day {_PROMPT} --d 1
a sks lighthouse in the middle, grass, day {_PROMPT} --d 1 --am 0.5
a sks lighthouse on the left, sand, evening {_PROMPT} --d 2
a sks lighthouse on the right, water, night {_PROMPT} --d 3
# what the base model knows already should stay as it is
a red house on the left, grass, day {_PROMPT} --d 4
"""


@dataclass(frozen=True, slots=True)
class DemoProject:
    """Where everything of the demo lies; faulty: file -> what is wrong with it."""

    folder: Path
    preset: Path
    model: Path
    faulty: dict[Path, str]


def make_project(folder: Path, *, epochs: int = 10) -> DemoProject:
    """Draw the pictures, write the model and the preset. Raises KohyakitError when the folder is there already."""
    from kohyakit.demo.base import write_base_model

    if folder.exists():
        cure = "move it away or name another one: kohyakit demo --dir NAME"
        raise KohyakitError(
            Problem(str(folder), "there is such a folder already, and nothing in it is overwritten", cure)
        )
    for name in ("log", "model"):
        (folder / name).mkdir(parents=True)
    taught = folder / "img" / f"10_{TRIGGER} {CONCEPT}"
    write_pictures(taught, concept_scenes(CONCEPT, PICTURES, 7), TRIGGER)
    write_pictures(folder / "reg" / "1_thing", asked_scenes(2 * PICTURES, 8))
    faulty = _spoil(taught)
    model = write_base_model(folder / "tiny-sd15")
    (folder / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    preset = folder / "preset.json"
    preset.write_text(json.dumps(preset_for(folder, model, epochs=epochs), indent=2), encoding="utf-8")
    return DemoProject(folder, preset, model, faulty)


def write_pictures(folder: Path, shown: Iterable[Scene], trigger: str = "") -> None:
    """A photo with its caption for each scene; trigger: the word that the thing goes by."""
    folder.mkdir(parents=True)
    for i, scene in enumerate(shown, 1):
        path = folder / f"IMG_{i:02}.jpg"
        draw(scene, f"taught/{i}", LARGE, finer=2).save(path, quality=92)
        path.with_suffix(".txt").write_text(scene.caption(trigger), encoding="utf-8")


def _spoil(folder: Path) -> dict[Path, str]:
    """Four faults that real photo sets have: one of the dozen, and three pictures more."""
    from PIL import Image

    sideways = folder / "IMG_05.jpg"
    with Image.open(sideways) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise": upright for whoever looks at the tag, sideways for who does not
    turned.save(sideways, quality=92, exif=exif)

    cut, again, tiny = (folder / f"IMG_{PICTURES + i}.jpg" for i in (1, 2, 3))
    for path, scene, side in zip((cut, tiny), concept_scenes(CONCEPT, 2, 99), (LARGE, SIDE // 2), strict=True):
        draw(scene, path.stem, side).save(path, quality=92)
        path.with_suffix(".txt").write_text(scene.caption(TRIGGER), encoding="utf-8")
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    first = folder / "IMG_01.jpg"
    for suffix in (".jpg", ".txt"):
        again.with_suffix(suffix).write_bytes(first.with_suffix(suffix).read_bytes())
    return {
        sideways: "upright only by its EXIF tag",
        cut: "cut off in the middle",
        again: f"{first.name} once more",
        tiny: f"only {SIDE // 2}x{SIDE // 2} pixels",
    }


def preset_for(folder: Path, model: Path, *, epochs: int) -> dict[str, object]:
    """A preset as the kohya_ss GUI saves it: the GUI's own key names and types, whole paths, so that it means the same
    wherever it is opened.
    """
    folder, model = folder.absolute(), model.absolute()
    return {
        "LoRA_type": "Kohya LoCon",
        "pretrained_model_name_or_path": str(model),
        "train_data_dir": str(folder / "img"),
        "reg_data_dir": str(folder / "reg"),
        "output_dir": str(folder / "model"),
        "logging_dir": str(folder / "log"),
        "output_name": "lighthouse-{version}",
        "max_resolution": f"{SIDE},{SIDE}",
        "enable_bucket": False,
        "bucket_no_upscale": False,
        "max_bucket_reso": 1024,
        "caption_extension": ".txt",
        "train_batch_size": 4,
        "epoch": epochs,
        "max_train_steps": 0,
        "save_every_n_epochs": 2,
        "learning_rate": 0.004,
        "text_encoder_lr": 0,
        "unet_lr": 0.004,
        "lr_scheduler": "cosine",
        "lr_warmup": 0,
        "optimizer": "AdamW",
        "optimizer_args": "",
        "min_snr_gamma": 5,
        "mixed_precision": "no",
        "save_precision": "fp16",
        "network_dim": 8,
        "network_alpha": 8,
        "conv_dim": 8,
        "conv_alpha": 8,
        "cache_latents": True,
        "clip_skip": 1,
        "seed": 1234,
        "xformers": "none",
        "sample_every_n_epochs": 1,
        "sample_sampler": "euler",
        "sample_prompts": PROMPTS,
        "additional_parameters": "--sample_at_first",
        "sdxl": False,
        "v2": False,
    }
