"""A folder captioned by a real tagger from the command line: modes, history, Ctrl-C, going on, what does not open."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from click.testing import CliRunner
from PIL import Image

from kohyakit.captioning.run import caption_folder, due
from kohyakit.captioning.tagger import Tagger
from kohyakit.cli import group
from kohyakit.dataset.captions.compose import Rules
from kohyakit.dataset.editing import captions as edit
from kohyakit.errors import DatasetError

_spec = importlib.util.spec_from_file_location("test_tagger", Path(__file__).with_name("test_tagger.py"))
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

BLUE, RED = "blue sky, ^_^, saint mary (statue)", "red door, ^_^, saint mary (statue)"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return made.write_model(tmp_path_factory.mktemp("tagger") / "m")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "img"
    (folder / "10_town").mkdir(parents=True)
    for number in range(6):
        colour = (20, 20, 250) if number % 2 else (250, 20, 20)
        Image.new("RGB", (40, 30), colour).save(folder / "10_town" / f"p{number}.png")
    (folder / "10_town" / "p0.txt").write_text("sks, old words", encoding="utf-8")
    return folder


def run(*arguments: str):
    return CliRunner().invoke(group, ["caption", *map(str, arguments)])


def words(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "10_town").glob("*.txt"))}


def test_captions_are_written_and_can_be_undone(photos: Path, model: Path) -> None:
    result = run(photos, "--with", "wd-eva02", "--model", model, "--trigger", "sks")
    assert result.exit_code == 0, result.output
    assert "5 pictures to caption, 1 left as they are" in result.output
    assert "on the CPU" in result.output.splitlines()[1]  # said before the first picture
    assert words(photos) == {
        "p0": "sks, old words", "p1": f"sks, {BLUE}", "p2": f"sks, {RED}", "p3": f"sks, {BLUE}", "p4": f"sks, {RED}",
        "p5": f"sks, {BLUE}",
    }  # fmt: skip
    (change,) = edit.undoable(photos)
    edit.undo(photos, change)
    assert words(photos) == {"p0": "sks, old words"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mode", "overwrite"], RED),
        (["--mode", "overwrite", "--keep-tokens", "1"], f"sks, {RED}"),
        (["--mode", "append"], f"sks, old words, {RED}"),
        (["--mode", "prepend"], f"{RED}, sks, old words"),
        (["--mode", "overwrite", "--prefix", "photo", "--suffix", "by day"], f"photo, {RED}, by day"),
        (["--mode=overwrite", "--threshold=0.99", "--character-threshold=0.99", "--rating=last"], "sensitive"),
        (["--mode", "overwrite", "--undesired", "^_^", "--replace", "red door=gate"], "gate, saint mary (statue)"),
        (["--mode", "overwrite", "--keep-underscores", "--characters-first"], "saint_mary_(statue), red_door, ^_^"),
    ],
)
def test_every_option_acts(photos: Path, model: Path, options: list[str], expected: str) -> None:
    result = run(photos, "--with", "wd-eva02", "--model", model, *options)
    assert result.exit_code == 0, result.output
    assert words(photos)["p0"] == expected


def test_a_dry_run_writes_nothing(photos: Path, model: Path) -> None:
    result = run(photos, "--with", "wd-eva02", "--model", model, "--dry-run")
    assert result.exit_code == 0
    assert list(words(photos)) == ["p0"]


def test_what_does_not_open_is_told_and_the_rest_captioned(photos: Path, model: Path) -> None:
    (photos / "10_town" / "p3.png").write_bytes(b"\x89PNG nothing")
    result = run(photos, "--with", "wd-eva02", "--model", model)
    assert result.exit_code == 1
    assert "p3.png" in result.output
    assert sorted(words(photos)) == ["p0", "p1", "p2", "p4", "p5"]


class Stopped:
    """A tagger whose person presses Ctrl-C after so many pictures."""

    def __init__(self, tagger: Tagger, after: int) -> None:
        self.about, self.batch_size = tagger.about, 1
        self.seen: list[tuple[int, int, int]] = []
        self._tagger, self._after = tagger, after

    def caption(self, pictures) -> list[str]:
        if len(self.seen) == self._after:
            raise KeyboardInterrupt
        self.seen.append(pictures[0].getpixel((0, 0)))
        return self._tagger.caption(pictures)


@pytest.mark.parametrize("mode", ["skip", "overwrite", "append"])
def test_ctrl_c_keeps_what_is_done_and_the_next_call_goes_on(photos: Path, model: Path, mode: str) -> None:
    tagger, rules = Tagger("wd-eva02", place=str(model)), Rules(mode)
    whole = len(due(photos, rules)[0])
    first = caption_folder(photos, Stopped(tagger, 2), rules)
    assert first.stopped
    assert first.written == 2
    again = Stopped(tagger, 99)
    second = caption_folder(photos, again, rules)
    assert not second.stopped
    assert len(again.seen) == whole - 2
    assert len(words(photos)) == 6
    assert len(due(photos, rules)[0]) == (0 if mode == "skip" else whole)  # finished: the next run is a new one


def test_an_empty_answer_leaves_the_caption(photos: Path) -> None:
    class Silent:
        about, batch_size = "silent", 4

        def caption(self, pictures) -> list[str]:
            return ["" for _ in pictures]

    outcome = caption_folder(photos, Silent(), Rules("overwrite"))
    assert {problem.name for problem in outcome.problems} == {"empty_answer"}
    assert words(photos) == {"p0": "sks, old words"}


def test_options_without_effect_are_refused_all_at_once(photos: Path) -> None:
    result = CliRunner().invoke(
        group, ["caption", str(photos), "--with", "server", "--rating", "first", "--threshold", "0.3"]
    )
    assert "--rating" in str(result.exception)
    assert "--threshold" in str(result.exception)
    result = CliRunner().invoke(group, ["caption", str(photos), "--with", "wd-eva2"])
    assert "did you mean 'wd-eva02'" in str(result.exception)


def test_pictures_are_upright_and_on_white(tmp_path: Path) -> None:
    from kohyakit.captioning.run import _open

    turned = Image.new("RGB", (40, 20), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert _open(tmp_path / "a.jpg").size == (20, 40)
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "b.png")
    assert _open(tmp_path / "b.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("linked", [".kohyakit", ".kohyakit/captioning.json"])
def test_a_note_behind_a_link_is_neither_read_nor_written_nor_taken_away(photos: Path, model: Path, tmp_path, linked):
    rules = Rules("overwrite")
    outside = tmp_path / "outside"
    outside.mkdir()
    note = outside / "captioning.json"
    text = json.dumps({"rules": repr(rules), "done": [f"10_town/p{number}.png" for number in range(6)]})
    note.write_text(text, encoding="utf-8")
    link = photos / linked
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside if linked == ".kohyakit" else note)

    tagger = Tagger("wd-eva02", place=str(model))
    if linked == ".kohyakit":  # the history would lie behind the link too, so no caption is changed
        with pytest.raises(DatasetError, match="its journal is a link"):
            caption_folder(photos, tagger, rules)
    else:
        assert caption_folder(photos, tagger, rules).written == 6

    assert note.read_text(encoding="utf-8") == text
    assert os.listdir(outside) == ["captioning.json"]
    assert link.is_symlink()


class Asked:
    """A captioner that counts the pictures it is asked about."""

    about, batch_size, pictures = "a counter", 1, 0

    def caption(self, pictures: list[Image.Image]) -> list[str]:
        self.pictures += len(pictures)
        return ["a town"] * len(pictures)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("linked", [".kohyakit", ".kohyakit/captions.jsonl"])
def test_a_linked_history_is_refused_before_the_first_picture(photos: Path, tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (photos / linked).parent.mkdir(exist_ok=True)
    (photos / linked).symlink_to(outside if linked == ".kohyakit" else outside / "history")
    counter = Asked()
    with pytest.raises(DatasetError, match="its journal is a link"):
        caption_folder(photos, counter, Rules("overwrite"))
    assert counter.pictures == 0
    result = run(photos, "--with", "wd-eva02", "--model", tmp_path / "no model is there")
    assert "its journal is a link" in str(result.exception)  # and not that there is no model: none was looked for yet
    assert os.listdir(outside) == []
