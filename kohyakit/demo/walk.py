"""The demo from end to end: make a project, check it, train it, say what there is to see."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.demo.project import DemoProject, make_project
from kohyakit.errors import MissingExtra
from kohyakit.formats import load
from kohyakit.planning.make import check_plan
from kohyakit.planning.plan import Plan
from kohyakit.runs.run import Run


def run_demo(
    folder: Path,
    *,
    show: Callable[[TrainConfig, Plan], None],
    echo: Callable[[str], None] = print,
    progress: bool = True,
) -> Run:
    """Make the project in `folder`, check it, train two epochs, and return the run. Nothing is fetched.

    show: prints a plan. Raises KohyakitError when the folder exists already, MissingExtra before anything is made.
    """
    for package in ("PIL", "torch", "diffusers", "transformers"):
        if find_spec(package) is None:
            raise MissingExtra("kohyakit demo", package, "all")
    from kohyakit.train.start import train_network

    began = time.monotonic()
    echo("1 Making a project: pictures drawn here, a tiny Stable Diffusion 1.x with random weights, a preset.\n")
    project = make_project(folder)
    echo(_what_was_made(project))
    echo(f"\n2 kohyakit check {project.preset}\n")
    config = load(project.preset)
    show(config, check_plan(config, decode=True))
    echo(f"\n3 kohyakit train {project.preset} --skip-bad-images\n")
    run = train_network(config, skip_bad_images=True, echo=echo, progress=progress, note="the demo")
    echo(f"\nDone in {time.monotonic() - began:.0f} seconds, without a network.\n")
    echo(_what_to_see(project))
    return run


def _what_was_made(project: DemoProject) -> str:
    lines = [f"  {project.folder}{os.sep}"]
    for path in sorted((project.folder / "img").iterdir()):
        lines.append(f"    img{os.sep}{path.name}  {len(list(path.glob('*.jpg')))} pictures with captions")
    lines += [
        "    tiny-sd15  the base model",
        "    preset.json  as the kohya_ss GUI saves it",
        "  Three pictures have a fault, on purpose:",
    ]
    lines += [f"    {path.name}: {fault}" for path, fault in project.faulty.items()]
    return "\n".join(lines)


def _what_to_see(project: DemoProject) -> str:
    folder = project.folder
    steps = (
        (f"kohyakit audit {folder / 'img'}", "what is wrong with the pictures, and why"),
        (f"kohyakit runs list {folder / 'model'}", "the training just made, with what it came to"),
        (f"kohyakit dashboard {folder}", "runs, curves, samples, photos and the preset in the browser"),
        (f"kohyakit convert {folder / 'preset.json'} -", "the same settings as sd-scripts takes them"),
        ("kohyakit templates list", "presets to start a real training from"),
    )
    width = max(len(command) for command, _ in steps)
    lines = [
        "What to look at next:",
        f"  {folder / 'model'}  demo.safetensors, demo-000001.safetensors, sample/, runs/1a/",
        "",
    ]
    lines += [f"  {command:<{width}}  {what}" for command, what in steps]
    return "\n".join(lines)
