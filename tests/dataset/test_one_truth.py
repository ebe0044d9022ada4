"""check and audit look at the same disk: what both can find they find at the same place, as bad, under one name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.audit.run import audit_dataset
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.planning.make import make_plan

Make = Callable[[Path], object]


def write(path: Path, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def shared_path(photo: Path, name: str) -> Path:
    """Another copy of the photo."""
    return write(photo.parent / name, photo.read_bytes())


# what is done to img/10_dog/a.png with a.txt, 64 x 64 -> what both must call it, where, how bad
CASES: dict[str, tuple[Make, str, str, str]] = {
    "loose": (lambda p: shared_path(p, "../loose.png"), "images_beside_subsets", "img", "warning"),
    "beside": (lambda p: shared_path(p, "../cats/c.png"), "no_repeat_count", "img/cats", "warning"),
    "deep": (lambda p: shared_path(p, "in/c.png"), "nested_in_subset", "img/10_dog/in", "warning"),
    "deeper": (lambda p: shared_path(p, "in/side/c.png"), "nested_in_subset", "img/10_dog/in/side", "warning"),
    "empty": (lambda p: (p.parent.parent / "4_empty").mkdir(), "empty_subset", "img/4_empty", "warning"),
    "no repeats": (lambda p: shared_path(p, "../0_cat/c.png"), "no_repeats", "img/0_cat", "warning"),
    "no subject": (lambda p: shared_path(p, "../3_/c.png"), "no_subject", "img/3_", "hint"),
    "a web page": (lambda p: write(p.with_name("b.jpg"), b"<html>"), "undecodable", "img/10_dog/b.jpg", "error"),
    "a folder": (lambda p: p.with_name("b.jpg").mkdir(), "not_a_file", "img/10_dog/b.jpg", "error"),
    "cut": (lambda p: write(p.with_name("b.png"), p.read_bytes()[:-20]), "damaged", "img/10_dog/b.png", "error"),
    "an empty caption": (lambda p: write(p.with_suffix(".txt")), "empty_caption", "img/10_dog/a.txt", "error"),
    "blanks": (lambda p: write(p.with_suffix(".txt"), b" \n"), "empty_caption", "img/10_dog/a.txt", "warning"),
    "a blank line": (lambda p: write(p.with_suffix(".txt"), b"\ndog"), "empty_caption", "img/10_dog/a.txt", "warning"),
    "commas": (lambda p: write(p.with_suffix(".txt"), b",,"), "empty_caption", "img/10_dog/a.txt", "warning"),
    "latin": (lambda p: write(p.with_suffix(".txt"), b"caf\xe9 noir"), "caption_not_utf8", "img/10_dog/a.txt", "error"),
    "no caption": (lambda p: shared_path(p, "b.png"), "missing_caption", "img/10_dog", "warning"),
    "capitals": (
        lambda p: (shared_path(p, "b.png"), write(p.with_name("B.txt"), b"dog")),
        "caption_misspelt", "img/10_dog/b.png", "warning",
    ),
    "another extension": (
        lambda p: (shared_path(p, "b.png"), write(p.with_name("b.caption"), b"dog")),
        "caption_wrong_extension", "img/10_dog", "warning",
    ),
    "behind the name": (
        lambda p: (shared_path(p, "b.png"), write(p.with_name("b.png.txt"), b"dog")),
        "caption_wrong_extension", "img/10_dog", "warning",
    ),
    "a TIFF": (lambda p: _saved(p, "b.tif", "TIFF"), "not_trained", "img/10_dog", "warning"),
    "no ending": (lambda p: _saved(p, "photo", "PNG"), "extension_mismatch", "img/10_dog", "warning"),
    "an untrained ending": (lambda p: _saved(p, "b.tif", "PNG"), "extension_mismatch", "img/10_dog", "warning"),
    "a lie": (lambda p: _saved(p, "b.png", "GIF"), "extension_mismatch", "img/10_dog", "warning"),
    "a little small": (lambda p: _saved(p, "b.png", "PNG", (50, 50)), "too_small", "", "hint"),
    "far too small": (lambda p: _saved(p, "b.png", "PNG", (40, 40)), "too_small", "", "warning"),
    "just large enough": (lambda p: _saved(p, "b.png", "PNG", (62, 62)), "", "", ""),
    "what repair took out": (lambda p: write(p.parent / "_quarantine/b.png", b"x"), "", "", ""),
}  # fmt: skip


def _saved(photo: Path, name: str, format: str, size: tuple[int, int] = (64, 64)) -> None:
    from PIL import Image

    with Image.open(photo) as image:
        image.resize(size).save(photo.with_name(name), format)
    photo.with_name(name).with_suffix(".txt").write_bytes(b"dog")


def both(root: Path, **values: object) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """(name, place below root, severity) of all that check and the audit say of the data set itself."""
    asked = {"train_data_dir": str(root / "img"), "resolution": "64,64", "caption_extension": ".txt"}
    config = TrainConfig().with_values(**asked, enable_bucket=True, bucket_reso_steps=8, min_bucket_reso=8, **values)
    report = audit_dataset(root / "img", config=config, quick=True, workers=0, checks=CHECKS)
    judged = {(p.name, _below(p, root), p.severity) for p in make_plan(config).findings}
    rows = report.issues[["issue", "path", "severity"]].itertuples(index=False)
    return judged, {(name, os.path.relpath(path, root).replace(os.sep, "/"), bad) for name, path, bad in rows}


CHECKS = ("decode", "format", "resolution", "captions", "layout")


def _below(problem: Problem, root: Path) -> str:
    return os.path.relpath(problem.where, root).replace(os.sep, "/") if os.path.isabs(problem.where) else problem.where


@pytest.mark.parametrize("case", CASES)
def test_one_fault_has_one_name(picture: Callable[..., Path], tmp_path: Path, case: str) -> None:
    photo = picture("img/10_dog/a.png", (64, 64))
    photo.with_suffix(".txt").write_bytes(b"dog")
    make, name, place, severity = CASES[case]
    make(photo)
    judged, audited = both(tmp_path)
    ours = {(found, bad) for found, _, bad in judged if found in AUDITED}
    theirs = {(found, bad) for found, _, bad in audited if found not in ONLY_OF_THE_AUDIT}
    if name == "caption_wrong_extension":  # of which the audit names the caption, and the image that lacks it
        theirs.remove(("missing_caption", "warning"))
    assert ours == theirs
    assert ((name, severity) in ours) == bool(name)
    if name and place:  # the audit names each file, check the folder of several
        assert {p for found, p, _ in judged if found == name} == {place}
        assert all(p == place or os.path.dirname(p) == place for found, p, _ in audited if found == name)
    if not name:
        assert (ours, theirs) == (set(), set())


def test_regularisation_images_need_no_captions(picture: Callable[..., Path], tmp_path: Path) -> None:
    """What is odd about those that are there is a hint for both; a long one is nothing to either."""
    picture("img/10_dog/a.png", (64, 64)).with_suffix(".txt").write_bytes(b"dog")
    for name, caption in (("a", b"a dog"), ("b", b""), ("c", b"dog " * 90)):
        photo = picture(f"reg/1_dog/{name}.png", (64, 64))
        if caption:
            photo.with_suffix(".txt").write_bytes(caption)
    write(picture("reg/1_dog/d.png", (64, 64)).with_name("D.txt"), b"dog")
    checks = ("captions", "caption_length", "layout")
    asked = {"resolution": "64,64", "caption_extension": ".txt", "enable_bucket": True, "min_bucket_reso": 64}
    config = TrainConfig().with_values(
        **asked, train_data_dir=str(tmp_path / "img"), reg_data_dir=str(tmp_path / "reg")
    )
    about = {"missing_caption", "caption_misspelt", "caption_wrong_extension", "long_caption"}
    found = [(p.name, p.severity) for p in make_plan(config).findings if p.name in about]
    report = audit_dataset(tmp_path, config=config, quick=True, workers=0, checks=checks)
    assert found == [("caption_misspelt", "hint")]
    assert report.issues[["issue", "severity"]].values.tolist() == [["caption_misspelt", "hint"]]


AUDITED = frozenset((
    "images_beside_subsets", "no_repeat_count", "nested_in_subset", "empty_subset", "no_repeats", "no_subject",
    "undecodable", "not_a_file", "damaged", "unreadable", "empty_caption", "caption_not_utf8", "caption_unreadable",
    "missing_caption", "caption_misspelt", "caption_wrong_extension", "not_trained", "extension_mismatch", "too_small",
    "no_bucket", "no_images",
))  # fmt: skip
ONLY_OF_THE_AUDIT = frozenset(("orphaned_caption", "lone_bucket", "caption_mark", "much_cropped"))
