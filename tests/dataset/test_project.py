"""New projects: photos are copied, and nothing is left behind when it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from kohyakit.dataset.layout import scan
from kohyakit.dataset.project import Concept, make_project
from kohyakit.errors import DatasetError
from kohyakit.formats import load


@pytest.fixture
def photos(picture, tmp_path: Path) -> Path:
    for name in ("a.jpg", "b c.png", "犬.jpg"):
        picture(f"photos/{name}")
    (tmp_path / "photos/a.txt").write_text("a dog", encoding="utf-8")
    picture("photos/old.tif")
    return tmp_path / "photos"


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_project_that_trains(photos: Path, tmp_path: Path, picture) -> None:
    picture("more/r.png")
    before = tree(photos)
    target = tmp_path / "Mein Projekt 犬"
    project = make_project(
        target, [Concept(photos, "sks Hund 犬", 7)], [Concept(tmp_path / "more", "Hund", 1)], model="C:\\m.safetensors"
    )
    assert tree(photos) == before
    assert project.copied == {photos: 3, tmp_path / "more": 1}
    assert [path.name for path in project.left] == ["old.tif"]
    assert sorted(p.name for p in target.iterdir()) == ["config.toml", "img", "log", "model", "prompts.txt", "reg"]
    assert sorted(tree(target / "img")) == [f"7_sks Hund 犬/{n}" for n in ("a.jpg", "a.txt", "b c.png", "犬.jpg")]
    config = load(project.config)
    assert config.model.pretrained_model_name_or_path == "C:\\m.safetensors"
    assert [p for p in scan(config).problems if p.severity == "error"] == []
    assert [(s.num_repeats, s.is_reg, len(s.records)) for s in scan(config).subsets()] == [(7, False, 3), (1, True, 1)]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_empty_project_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    project = make_project(tmp_path / "p")
    assert (project.folder / "img").is_dir()
    load(project.config)


def test_captions_decide_their_extension(photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").rename(photos / "a.caption")
    assert load(make_project(tmp_path / "p", [Concept(photos, "x")]).config).dataset.caption_extension == ".caption"


@pytest.mark.parametrize(
    ("target", "name", "repeats", "told"),
    [
        ("photos", "x", 1, "same folder"),
        ("photos/sub", "x", 1, "one lies in the other"),
        ("photos/..", "x", 1, "not empty"),
        ("p", "a/b", 1, "no such folder name"),
        ("p", "a:b", 1, "no such folder name"),
        ("p", " ", 1, "cannot be called so"),
        ("p", "x.", 1, "cannot be called so"),
        ("p", "x", 0, "repeats are 0"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(
    photos: Path, tmp_path: Path, target: str, name: str, repeats: int, told: str
) -> None:
    before = tree(tmp_path)
    with pytest.raises(DatasetError, match=told):
        make_project(tmp_path / target, [Concept(photos, name, repeats)])
    assert tree(tmp_path) == before


def test_all_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError) as caught:
        make_project(tmp_path / "p", [Concept(tmp_path / "none", "a"), Concept(tmp_path / "empty", "A")])
    assert [p.name for p in caught.value.problems] == ["bad_name", "folder_missing", "no_images"]


def test_a_full_disk_leaves_nothing_behind(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []

    def full(source: Path, target: Path) -> None:
        copies.append(source)
        if len(copies) == 2:
            raise OSError(28, "No space left on device")
        shutil.copyfile(source, target)

    monkeypatch.setattr("kohyakit.dataset.project.shutil.copy2", full)
    with pytest.raises(DatasetError, match="No space left"):
        make_project(tmp_path / "p", [Concept(photos, "x")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


@pytest.mark.skipif(os.name == "nt", reason="Windows holds the two names as one")
def test_a_caption_whose_name_differs_unseen_comes_along_under_the_right_one(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for image, caption in (("Cat.png", "cat.txt"), ("u\u0308.png", "\u00fc.txt"), ("a.png", "a.txt")):
        Image.new("RGB", (8, 8)).save(photos / image)
        (photos / caption).write_text(image, encoding="utf-8")
    made = make_project(tmp_path / "new", [Concept(photos, "cat")])
    captions = {path.name: path.read_text(encoding="utf-8") for path in made.folder.rglob("10_cat/*.txt")}
    assert captions == {"Cat.txt": "Cat.png", "u\u0308.txt": "u\u0308.png", "a.txt": "a.png"}
