"""The demo from end to end: make a project, look at its photos, train a LoRA twice, show what it learnt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.demo.project import CONCEPT, DemoProject, make_project
from kohyakit.errors import MissingExtra
from kohyakit.formats import load
from kohyakit.planning.make import check_plan
from kohyakit.planning.plan import Plan
from kohyakit.runs.comparison.compare import changes
from kohyakit.runs.run import INTERRUPTED, Run

Echo = Callable[[str], None]
SECOND = {"network_dim": 2, "network_alpha": 2, "conv_dim": 2, "conv_alpha": 2}


@dataclass(frozen=True, slots=True)
class Teller:
    """How the demo speaks. plan: prints a plan; echo: takes lines; progress: whether bars are drawn."""

    plan: Callable[[TrainConfig, Plan], None]
    echo: Echo = print
    progress: bool = True


def run_demo(folder: Path, teller: Teller, *, steps: int | None = None) -> tuple[Run, Run]:
    """Make the project in `folder`, check it, train 1a and 1b, and return the runs. Nothing is fetched.

    steps: of each training, where the preset's epochs are not wanted.
    Raises KohyakitError when the folder exists already, MissingExtra before anything is made, KeyboardInterrupt
    where a training was interrupted, after it was saved.
    """
    for package in ("PIL", "pandas", "torch", "diffusers", "transformers"):
        if find_spec(package) is None:
            raise MissingExtra("kohyakit demo", package, "all")
    from kohyakit.demo.sheet import write_sheet

    began, echo = time.monotonic(), teller.echo
    echo(f"1 Making a project: pictures of a {CONCEPT}, and a small Stable Diffusion 1.x that never saw one.\n")
    project = make_project(folder)
    echo(_what_was_made(project))
    _audit(project, echo)
    echo(f"\n3 kohyakit check {project.preset}\n")
    config = load(project.preset)
    teller.plan(config, check_plan(config, decode=True))
    first = _train(project, teller, {}, steps, "the demo")
    second = _train(project, teller, SECOND, steps, "a smaller rank")
    echo(f"\n6 1a -> 1b: {'; '.join(changes(first, second))}\n")
    sheet = write_sheet((first, second), folder / "learnt.png")
    echo(f"  {sheet}  every sample of both, from before the first step to the end")
    echo(f"\nDone in {time.monotonic() - began:.0f} seconds, without a network.\n")
    echo(_what_to_see(project))
    return first, second


def _what_was_made(project: DemoProject) -> str:
    lines = [f"  {project.folder}{os.sep}"]
    for path in sorted(project.folder.glob("[ir]*g/*")):
        pictures = len(list(path.glob("*.jpg")))
        lines.append(f"    {path.parent.name}{os.sep}{path.name}  {pictures} pictures with captions")
    lines += [
        "    tiny-sd15  the base model",
        "    preset.json  as the kohya_ss GUI saves it",
        "  Four pictures have a fault, on purpose:",
    ]
    lines += [f"    {path.name}: {fault}" for path, fault in project.faulty.items()]
    return "\n".join(lines)


def _audit(project: DemoProject, echo: Echo) -> None:
    from kohyakit.audit.report.table import as_text
    from kohyakit.audit.run import audit_dataset

    images = project.folder / "img"
    echo(f"\n2 kohyakit audit {images} --config {project.preset}\n")
    echo(as_text(audit_dataset(images, config=project.preset, progress=False), rows=1))
    echo("\nThe near duplicates are no fault of these pictures: one thing, drawn in three places, looks alike.")


def _train(project: DemoProject, teller: Teller, changed: dict[str, int], steps: int | None, note: str) -> Run:
    from kohyakit.train.start import train_network

    words = ["kohyakit train", str(project.preset), *(f"--set {name}={value}" for name, value in changed.items())]
    teller.echo(f"\n{5 if changed else 4} {' '.join(words)} --skip-bad-images\n")
    short = {} if steps is None else {"max_train_steps": steps, "max_train_epochs": 0, "sample_at_first": False}
    config = load(project.preset, overrides=changed | short)
    run = train_network(config, skip_bad_images=True, echo=teller.echo, progress=teller.progress, note=note)
    if run.status == INTERRUPTED:
        raise KeyboardInterrupt
    return run


def _what_to_see(project: DemoProject) -> str:
    folder = project.folder
    steps = (
        (f"kohyakit repair {folder / 'img'} --dry-run", "what would be mended in the pictures"),
        (f"kohyakit runs diff 1a 1b -p {folder / 'model'}", "what differs between the two trainings"),
        (f"kohyakit runs best -p {folder / 'model'}", "which was better, and how sure that is"),
        (f"kohyakit convert {folder / 'preset.json'} -", "the same settings as sd-scripts takes them"),
        ("kohyakit templates list", "presets to start a real training from"),
        (f"kohyakit dashboard {folder}", "all of it in the browser: runs, curves, samples, photos"),
    )
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}  {what}" for command, what in steps]
    return "\n".join(["What to look at next:", *lines])
