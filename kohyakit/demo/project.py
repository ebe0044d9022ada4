"""The demo's project: folders of pictures with captions and three faults, a tiny model, a kohya_ss preset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kohyakit.demo.pictures import draw
from kohyakit.errors import KohyakitError, Problem

_FOLDERS = {"2_oldtown city": "town", "2_mary statue": "statue", "1_gothic church": "church"}
_SIZES = ((640, 480), (480, 640), (720, 480), (512, 512), (640, 400), (480, 600))
_CAPTIONS = {
    "town": (
        "oldtown city, {light}, gabled houses, cobbled street",
        ("morning light", "evening sky", "clouds", "blue sky"),
    ),
    "statue": ("mary statue, {light}, robe, halo, stone wall", ("side light", "niche", "pedestal", "soft shadow")),
    "church": ("gothic church, interior, {light}, rose window, candles", ("nave", "altar", "aisle", "red carpet")),
}
PROMPTS = """# one prompt a line; kohyakit draws each of them after every epoch
oldtown city, evening sky, gabled houses --w 128 --h 128 --s 8 --d 1 --n blurry
gothic church, interior, rose window --w 128 --h 192 --s 8 --d 2
"""


@dataclass(frozen=True, slots=True)
class DemoProject:
    """Where everything of the demo lies; faulty: file -> what is wrong with it."""

    folder: Path
    preset: Path
    model: Path
    faulty: dict[Path, str]


def make_project(folder: Path) -> DemoProject:
    """Draw the pictures, write the model and the preset. Raises KohyakitError when the folder is there already."""
    from kohyakit.demo.tiny_model import write_tiny_model

    if folder.exists():
        cure = "move it away or name another one: kohyakit demo --dir NAME"
        raise KohyakitError(
            Problem(str(folder), "there is such a folder already, and nothing in it is overwritten", cure)
        )
    for name in ("img", "reg", "log", "model"):
        (folder / name).mkdir(parents=True)
    for subset, scene in _FOLDERS.items():
        _draw_subset(folder / "img" / subset, scene)
    faulty = _spoil(folder / "img")
    model = write_tiny_model(folder / "tiny-sd15")
    (folder / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    preset = folder / "preset.json"
    preset.write_text(json.dumps(preset_for(folder, model), indent=2), encoding="utf-8")
    return DemoProject(folder, preset, model, faulty)


def _draw_subset(folder: Path, scene: str) -> None:
    folder.mkdir()
    pattern, lights = _CAPTIONS[scene]
    for i, size in enumerate(_SIZES):
        picture = draw(scene, size, i)
        path = folder / f"{scene}_{i + 1}.jpg"
        picture.save(path, quality=88)
        path.with_suffix(".txt").write_text(pattern.format(light=lights[i % len(lights)]), encoding="utf-8")


def _spoil(images: Path) -> dict[Path, str]:
    """Three faults that real photo sets have."""
    from PIL import Image

    cut = images / "2_oldtown city" / "town_6.jpg"
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])

    sideways = images / "2_mary statue" / "statue_2.jpg"
    with Image.open(sideways) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise": upright for whoever looks at the tag, sideways for who does not
    turned.save(sideways, quality=88, exif=exif)

    tiny = images / "1_gothic church" / "church_6.jpg"
    draw("church", (96, 72), 99).save(tiny, quality=88)
    return {cut: "cut off in the middle", sideways: "upright only by its EXIF tag", tiny: "only 96x72 pixels"}


def preset_for(folder: Path, model: Path) -> dict[str, object]:
    """A preset as the kohya_ss GUI saves it: the GUI's own key names and types, whole paths, so that it means the same
    wherever it is opened.
    """
    folder, model = folder.absolute(), model.absolute()
    return {
        "LoRA_type": "Standard",
        "pretrained_model_name_or_path": str(model),
        "train_data_dir": str(folder / "img"),
        "reg_data_dir": "",
        "output_dir": str(folder / "model"),
        "logging_dir": str(folder / "log"),
        "output_name": "demo",
        "max_resolution": "128,128",
        "enable_bucket": True,
        "bucket_no_upscale": True,
        "bucket_reso_steps": 64,
        "min_bucket_reso": 64,
        "max_bucket_reso": 256,
        "caption_extension": ".txt",
        "shuffle_caption": True,
        "keep_tokens": 1,
        "train_batch_size": 2,
        "epoch": 2,
        "max_train_steps": 0,
        "save_every_n_epochs": 1,
        "learning_rate": 0.001,
        "text_encoder_lr": 0.0005,
        "unet_lr": 0.001,
        "lr_scheduler": "cosine",
        "lr_warmup": 10,
        "optimizer": "AdamW",
        "optimizer_args": "",
        "mixed_precision": "no",
        "save_precision": "fp16",
        "network_dim": 8,
        "network_alpha": 4,
        "cache_latents": True,
        "clip_skip": 1,
        "seed": 1234,
        "xformers": "none",
        "sample_every_n_epochs": 1,
        "sample_sampler": "euler_a",
        "sample_prompts": PROMPTS,
        "sdxl": False,
        "v2": False,
    }
