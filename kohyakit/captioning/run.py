"""A folder captioned: pictures read ahead, captions written as they come, stopped and gone on with at any time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.captioning.base import Captioner, tidy
from kohyakit.dataset.captions.compose import Rules, compose
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.editing.captions import CaptionFile, Edit
from kohyakit.errors import Problem
from kohyakit.files import is_link, open_regular, read_text, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

_UNFINISHED = Path(".kohyakit") / "captioning.json"
_EVERY = 20.0  # seconds after which what is done goes into the files


@dataclass(slots=True)
class Outcome:
    """written, left: captions. problems: pictures without one, each with the reason. stopped: by Ctrl-C."""

    written: int = 0
    left: int = 0
    problems: list[Problem] = field(default_factory=list)
    stopped: bool = False


def due(folder: Path, rules: Rules, extension: str | None = None) -> tuple[list[CaptionFile], list[CaptionFile]]:
    """(the pictures to caption, those that are left as they are). A picture whose caption cannot be read is left."""
    files = edit.caption_files(folder, extension)
    done = set(_done(folder, rules))
    asked: list[CaptionFile] = []
    left: list[CaptionFile] = []
    for file in files:
        has = bool(file.text.strip()) or bool(file.problem)
        skip = (has and rules.mode == "skip") or file.problem or _name(file, folder) in done
        (left if skip else asked).append(file)
    return asked, left


def caption_folder(
    folder: Path,
    captioner: Captioner,
    rules: Rules,
    *,
    extension: str | None = None,
    progress: Callable[[int], None] = lambda count: None,
    every: float = _EVERY,
) -> Outcome:
    """Caption every picture that is due, a batch at a time; what is done is written at least every `every` seconds.

    All of it stands in the caption history and can be undone. Ctrl-C writes what is done; the next call with the same
    rules goes on where it stopped. An empty answer, or a picture that does not open, leaves the file as it is.
    Raises DatasetError for a folder that cannot be read or, before the first picture, whose captions cannot be
    changed; RunError from a server that does not answer.
    """
    asked, left = due(folder, rules, extension)
    if asked:
        edit.ready(folder)
    outcome = Outcome(left=len(left))
    waiting: list[tuple[CaptionFile, Edit | None]] = []
    since = time.monotonic()
    try:
        for batch, pictures in _batches(asked, captioner.batch_size, outcome.problems):
            said = captioner.caption(pictures) if pictures else []
            for file, text in zip(batch, said, strict=True):
                waiting.append((file, _edited(file, tidy(text), rules, outcome.problems)))
            progress(min(captioner.batch_size, len(asked)))
            if time.monotonic() - since >= every:
                _write(folder, captioner.about, rules, waiting, outcome)
                since = time.monotonic()
    except KeyboardInterrupt:
        outcome.stopped = True
    finally:
        _write(folder, captioner.about, rules, waiting, outcome)
    if not outcome.stopped and not _is_linked(folder):
        (folder / _UNFINISHED).unlink(missing_ok=True)
    return outcome


def _batches(
    files: Sequence[CaptionFile], size: int, problems: list[Problem]
) -> Iterator[tuple[list[CaptionFile], list[Image]]]:
    """The files with their pictures, the next batch being opened while one is captioned."""
    groups = [files[start : start + size] for start in range(0, len(files), size)]
    with ThreadPoolExecutor(2, thread_name_prefix="pictures") as pool:
        ahead = [[pool.submit(_open, file.image) for file in group] for group in groups[:1]]
        for number, group in enumerate(groups):
            ahead += [[pool.submit(_open, file.image) for file in after] for after in groups[number + 1 : number + 2]]
            kept, pictures = [], []
            for file, future in zip(group, ahead.pop(0), strict=True):
                try:
                    pictures.append(future.result())
                    kept.append(file)
                except (OSError, ValueError, SyntaxError) as error:
                    what = f"does not open ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
                    problems.append(Problem(str(file.image), what, "see `kohyakit audit`", "undecodable", "warning"))
            yield kept, pictures


def _open(path: Path) -> Image:
    """Upright and RGB; what is transparent is white, as the taggers want it."""
    from PIL import Image, ImageOps

    with open_regular(path) as file, Image.open(file) as found:
        picture = ImageOps.exif_transpose(found)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(ground, picture)
        return picture.convert("RGB")


def _edited(file: CaptionFile, said: str, rules: Rules, problems: list[Problem]) -> Edit | None:
    if not said:
        what, cure = "the model said nothing about it", "caption it by hand, or with another model"
        problems.append(Problem(str(file.image), what, cure, "empty_answer", "warning"))
        return None
    return edit.rewritten(file, compose(file.text, said, rules))


def _write(
    folder: Path, about: str, rules: Rules, waiting: list[tuple[CaptionFile, Edit | None]], outcome: Outcome
) -> None:
    """Put what is waiting into the files and the history, and note how far it is."""
    edits = [change for _, change in waiting if change is not None]
    if edits:
        change, problems = edit.apply(folder, edits, f"captions by {about}")
        outcome.written += len(change.edits)
        outcome.problems += problems
    if rules.mode != "skip" and waiting:
        _note(folder, rules, [_name(file, folder) for file, _ in waiting])
    waiting.clear()


def _name(file: CaptionFile, folder: Path) -> str:
    return file.image.relative_to(folder).as_posix()


def _done(folder: Path, rules: Rules) -> Iterable[str]:
    """What an interrupted run with the same rules has done already. `skip` needs no note: the files tell."""
    if _is_linked(folder):
        return ()
    try:
        found = json.loads(read_text(folder / _UNFINISHED))
        return [name for name in found["done"] if isinstance(name, str)] if found["rules"] == repr(rules) else ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _is_linked(folder: Path) -> bool:
    """Whether the note or its folder is a link: it is neither read, written nor taken away then."""
    return is_link(folder / _UNFINISHED.parent) or is_link(folder / _UNFINISHED)


def _note(folder: Path, rules: Rules, names: list[str]) -> None:
    if _is_linked(folder):
        return
    path = folder / _UNFINISHED
    done = [*_done(folder, rules), *names]
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps({"rules": repr(rules), "done": done}, ensure_ascii=False), sync=False)
