"""Folders: which are subsets, what lies where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kohyakit.dataset.captions.pairing import pair
from kohyakit.dataset.walk import find_tree, walk
from kohyakit.errors import DatasetError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def roles(root: Path) -> dict[str, tuple[str, int]]:
    return {folder.relative.replace(os.sep, "/"): (folder.role, folder.repeats) for folder in find_tree(root).folders}


def test_project_folder(tmp_path: Path) -> None:
    touch(tmp_path, "img/10_sks dog/a.jpg", "img/loose.jpg", "img/flowers/b.jpg", "img/10_sks dog/deep/c.jpg")
    touch(tmp_path, "reg/1_dog/r.jpg", "sample/s.png", "model/m.png")
    tree = find_tree(tmp_path)
    assert tree.kind == "project"
    assert roles(tmp_path) == {
        "img": ("parent", 1),
        "img/10_sks dog": ("subset", 10),
        "img/10_sks dog/deep": ("nested", 1),
        "img/flowers": ("outside", 1),
        "reg": ("parent", 1),
        "reg/1_dog": ("subset", 1),
    }
    assert [f.relative for f in tree.folders if f.is_reg] == ["reg", os.path.join("reg", "1_dog")]
    assert next(f for f in tree.folders if f.repeats == 10).class_tokens == "sks dog"


def test_img_folder_and_single_subset(tmp_path: Path) -> None:
    touch(tmp_path, "img/3_cat/a.jpg")
    assert find_tree(tmp_path / "img").kind == "kohya"
    tree = find_tree(tmp_path / "img" / "3_cat")
    assert (tree.kind, tree.folders[0].repeats, tree.folders[0].class_tokens) == ("subset", 3, "cat")


def test_any_nested_folder_is_a_subset_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "holiday/b.JPG", "holiday/sea/c.webp", "holiday/sea/notes.md")
    tree = find_tree(tmp_path)
    assert tree.kind == "free"
    assert {f.relative.replace(os.sep, "/"): f.images for f in tree.folders} == {
        "": ("a.jpg",),
        "holiday": ("b.JPG",),
        "holiday/sea": ("c.webp",),
    }


def test_what_is_passed_over_and_what_is_looked_into(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.jpg", "._a.jpg", "_quarantine/x.jpg", "a.json", "b.npz", "empty.xyz")
    (tmp_path / "photo").write_bytes(b"\xff\xd8\xff\xe0 a JPEG without an ending in its name")
    (tmp_path / "photo.heic").touch()
    assert find_tree(tmp_path).folders[0].images == ("photo", "photo.heic")


def test_regularisation_subsets_that_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "img/10_dog/a.jpg", "more/1_dog/r.jpg", "more/cats/c.jpg")
    tree = find_tree(tmp_path / "img", tmp_path / "more")
    assert [(f.relative.replace(os.sep, "/"), f.role, f.repeats) for f in tree.folders if f.is_reg] == [
        ("reg/", "parent", 1), ("reg/1_dog", "subset", 1), ("reg/cats", "outside", 1),
    ]  # fmt: skip
    (reg,) = [f for f in find_tree(tmp_path / "img", tmp_path / "more/1_dog").folders if f.is_reg]
    assert (reg.role, reg.images, reg.class_tokens) == ("subset", ("r.jpg",), "dog")


def test_a_walk_ends_where_it_is_told_to(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c/d/x.jpg")
    assert [folder.relative.replace(os.sep, "/") for folder in walk(str(tmp_path), depth=2)] == ["", "a", "a/b"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_loops_of_links_are_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/x.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    assert sum(len(folder.images) for folder in find_tree(tmp_path).folders) == 1


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        find_tree(tmp_path / "nowhere")
    (tmp_path / "file.jpg").touch()
    with pytest.raises(DatasetError, match="it is a file"):
        find_tree(tmp_path / "file.jpg")


def test_captions_are_paired_by_the_commonest_extension(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.txt", "b.jpg", "b.txt", "c.jpg", "c.caption", "d.jpg", "d.jpg.txt", "e.txt", "f.png")
    found = pair(find_tree(tmp_path))
    assert found.extension == ".txt"
    assert [Path(c).name for c in found.captions[0]] == ["a.txt", "b.txt", "", "", ""]
    assert {Path(k).name: Path(v).name for k, v in found.elsewhere.items()} == {
        "c.jpg": "c.caption",
        "d.jpg": "d.jpg.txt",
    }
    assert [Path(o).name for o in found.orphans] == ["e.txt"]


def test_a_given_extension_wins(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.txt", "b.jpg", "b.caption")
    found = pair(find_tree(tmp_path), "caption")
    assert (found.extension, [Path(c).name for c in found.captions[0]]) == (".caption", ["", "b.caption"])


def test_face_crops_share_the_caption_of_their_photo(tmp_path: Path) -> None:
    # sd-scripts' face cropper writes NAME_x_y_w_h, and the caption stays NAME.txt
    touch(tmp_path, "anna_10_20_300_400.png", "anna.txt")
    assert [Path(c).name for c in pair(find_tree(tmp_path)).captions[0]] == ["anna.txt"]
