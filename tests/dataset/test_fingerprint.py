"""What makes other images, and what does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kohyakit.config.train import TrainConfig
from kohyakit.dataset import fingerprint as prints
from kohyakit.dataset import layout
from kohyakit.dataset.fingerprint import Fingerprint, difference, fingerprint, hash_files, in_words

ORIENTATION = 0x0112


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "img" / "3_cat"
    folder.mkdir(parents=True)
    for number in range(4):
        exif = Image.Exif()
        exif[ORIENTATION] = 1
        Image.new("RGB", (80, 48), (number * 50, 20, 90)).save(folder / f"cat{number}.jpg", exif=exif)
        (folder / f"cat{number}.txt").write_text(f"cat {number}", encoding="utf-8")
    return folder


def taken(folder: Path) -> Fingerprint:
    config = TrainConfig().with_values(train_data_dir=str(folder.parent), resolution="64", caption_extension=".txt")
    return fingerprint(layout.scan(config))


def test_a_new_photo_makes_other_images(folder: Path) -> None:
    before = taken(folder)
    Image.new("RGB", (50, 50), (1, 2, 3)).save(folder / "new.png")
    after = taken(folder)
    assert after.images != before.images
    assert in_words(difference(before, after)) == ("1 photo added",)


def test_a_photo_less_makes_other_images(folder: Path) -> None:
    before = taken(folder)
    (folder / "cat1.jpg").unlink()
    (folder / "cat2.jpg").unlink()
    after = taken(folder)
    assert after.images != before.images
    assert in_words(difference(before, after)) == ("2 photos removed",)


def test_fourteen_added_and_two_removed_read_as_one_would_say_it(folder: Path) -> None:
    before = taken(folder)
    for number in range(14):
        Image.new("RGB", (50, 50), (number, 0, 0)).save(folder / f"more{number:02}.png")
    (folder / "cat0.jpg").unlink()
    (folder / "cat3.jpg").unlink()
    assert in_words(difference(before, taken(folder))) == ("14 photos added", "2 removed")


def test_cropping_makes_other_images(folder: Path) -> None:
    before = taken(folder)
    with Image.open(folder / "cat0.jpg") as image:
        cropped = image.crop((0, 0, 40, 40))
    cropped.save(folder / "cat0.jpg")
    after = taken(folder)
    assert after.images != before.images
    assert in_words(difference(before, after)) == ("1 photo edited",)


def test_turning_the_pixels_makes_other_images(folder: Path) -> None:
    before = taken(folder)
    with Image.open(folder / "cat0.jpg") as image:
        turned = image.rotate(90, expand=True)
    turned.save(folder / "cat0.jpg")
    assert taken(folder).images != before.images


def test_the_orientation_tag_alone_makes_other_images(folder: Path) -> None:
    before = taken(folder)
    photo = folder / "cat0.jpg"
    data = photo.read_bytes()
    times = photo.stat()
    at = data.index(b"Exif\0\0") + 6
    entry = data.index(bytes([0x01, 0x12, 0x00, 0x03]), at) if data[at : at + 2] == b"MM" else data.index(
        bytes([0x12, 0x01, 0x03, 0x00]), at
    )  # fmt: skip
    value = entry + 8
    turned = bytearray(data)
    turned[value : value + 2] = b"\x00\x06" if data[at : at + 2] == b"MM" else b"\x06\x00"
    photo.write_bytes(turned)
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a tool that keeps the date would
    with Image.open(photo) as image:
        assert image.getexif()[ORIENTATION] == 6
    assert len(turned) == len(data)
    assert taken(folder).images != before.images


def test_renaming_and_reordering_keep_the_images(folder: Path) -> None:
    before = taken(folder)
    for old, new in (("cat0", "z_last"), ("cat3", "a_first")):
        (folder / f"{old}.jpg").rename(folder / f"{new}.jpg")
        (folder / f"{old}.txt").rename(folder / f"{new}.txt")
    after = taken(folder)
    assert (after.images, after.captions) == (before.images, before.captions)
    found = difference(before, after)
    assert {(old.file, new.file) for old, new in found.renamed} == {
        ("3_cat/cat0.jpg", "3_cat/z_last.jpg"),
        ("3_cat/cat3.jpg", "3_cat/a_first.jpg"),
    }
    assert not found.other_images


def test_two_names_swapped_are_two_renames(folder: Path) -> None:
    before = taken(folder)
    (folder / "cat0.jpg").rename(folder / "x.jpg")
    (folder / "cat1.jpg").rename(folder / "cat0.jpg")
    (folder / "x.jpg").rename(folder / "cat1.jpg")
    after = taken(folder)
    assert after.images == before.images
    assert after.captions != before.captions  # the captions stayed with the names
    assert len(difference(before, after).renamed) == 2


def test_a_second_copy_of_a_photo_counts(folder: Path) -> None:
    before = taken(folder)
    (folder / "copy.jpg").write_bytes((folder / "cat0.jpg").read_bytes())
    after = taken(folder)
    assert after.images != before.images
    assert [entry.file for entry in difference(before, after).added] == ["3_cat/copy.jpg"]


def test_captions_are_a_fingerprint_of_their_own(folder: Path) -> None:
    before = taken(folder)
    (folder / "cat1.txt").write_text("a grey cat", encoding="utf-8")
    after = taken(folder)
    assert after.images == before.images
    assert after.captions != before.captions
    ((old, new),) = difference(before, after).recaptioned
    assert (old.caption, new.caption) == ("cat 1", "a grey cat")


@pytest.mark.parametrize("text", ["cat 1\n", "cat 1\r\n", "\ufeffcat 1", "  cat 1"])
def test_line_ends_and_blanks_are_no_other_caption(folder: Path, text: str) -> None:
    before = taken(folder)
    (folder / "cat1.txt").write_bytes(text.encode())
    assert taken(folder).captions == before.captions


def test_repeats_are_no_matter_of_the_images(folder: Path) -> None:
    before = taken(folder)
    folder.rename(folder.with_name("20_cat"))
    after = taken(folder.with_name("20_cat"))
    assert after.images == before.images
    assert in_words(difference(before, after))[-1] == "repeats 3 → 20 of 20_cat"


def test_the_record_reads_back(folder: Path) -> None:
    before = taken(folder)
    assert Fingerprint.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_a_photo_that_becomes_unreadable_is_another(folder: Path) -> None:
    files = sorted(folder.glob("*.jpg"))
    gone = folder / "gone.jpg"
    found = hash_files([*files, gone])
    assert found[gone] == ("", 0)
    assert found[files[0]] == (hashlib.sha256(files[0].read_bytes()).hexdigest(), files[0].stat().st_size)


def test_the_cache_saves_reading_and_never_lies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "runs" / "fingerprints.json"
    monkeypatch.setattr(prints, "_RACY_SECONDS", -1.0)
    files = sorted(folder.glob("*.jpg"))
    before = hash_files(files, cache=cache)
    read: list[Path] = []
    real = prints._sha256
    monkeypatch.setattr(prints, "_sha256", lambda path: (read.append(path), real(path))[1])
    assert hash_files(files, cache=cache) == before
    assert read == []
    time.sleep(0.02)
    Image.new("RGB", (9, 9)).save(files[2])
    after = hash_files(files, cache=cache)
    assert read == [files[2]]
    assert after[files[2]] != before[files[2]]


def test_a_fresh_file_is_not_trusted_to_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "fingerprints.json"
    hash_files(sorted(folder.glob("*.jpg")), cache=cache)
    assert json.loads(cache.read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["x"]}', "null"])
def test_a_broken_cache_costs_only_time(folder: Path, tmp_path: Path, text: str) -> None:
    cache = tmp_path / "fingerprints.json"
    cache.write_text(text, encoding="utf-8")
    files = sorted(folder.glob("*.jpg"))
    assert hash_files(files, cache=cache) == hash_files(files)


def test_twenty_thousand_other_photos_are_told_apart_in_one_walk() -> None:
    """Sets that share no file, or only the names: each image is looked for, not compared with every other."""

    def photos(prefix: str, folder: str = "") -> Fingerprint:
        return prints.from_entries(
            prints.ImageEntry("/x", f"{folder}{number:05}.png", f"{prefix}{number}", 1) for number in range(20_000)
        )

    found = difference(photos("a"), photos("b", "new/"))
    assert (len(found.added), len(found.removed), found.changed, found.renamed) == (20_000, 20_000, (), ())
    found = difference(photos("a"), photos("b"))
    assert len(found.changed) == 20_000
    assert all(old.file == new.file for old, new in found.changed)
    same = prints.from_entries(prints.ImageEntry("/x", f"{number:05}.png", "one", 1) for number in range(20_000))
    other = prints.from_entries(prints.ImageEntry("/x", f"b{number:05}.png", "one", 1) for number in range(20_000))
    assert len(difference(same, other).renamed) == 20_000


@given(*[st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("1234"), st.booleans()), max_size=7)] * 2)
def test_the_pairs_are_those_of_a_plain_search(before: list, after: list) -> None:
    """The same pairs as looking through the whole list for each image, as it was written first."""

    def made(rows: list) -> Fingerprint:
        return prints.from_entries(prints.ImageEntry("/x", file, sha, 1, is_reg=reg) for file, sha, reg in rows)

    one, two = made(before), made(after)
    rest, kept, unpaired = list(two.entries), [], []
    for entry in one.entries:
        same = [e for e in rest if (e.is_reg, e.sha256, e.file) == (entry.is_reg, entry.sha256, entry.file)]
        unpaired += [] if same else [entry]
        for match in same[:1]:
            rest.remove(match)
    gone = []
    for entry in unpaired:
        same = [e for e in rest if (e.is_reg, e.sha256) == (entry.is_reg, entry.sha256)]
        gone += [] if same else [entry]
        for match in same[:1]:
            rest.remove(match)
            kept.append((entry, match))
    changed = []
    for entry in list(gone):
        for match in [e for e in rest if (e.is_reg, e.file) == (entry.is_reg, entry.file)][:1]:
            rest.remove(match)
            gone.remove(entry)
            changed.append((entry, match))
    found = difference(one, two)
    assert (found.added, found.removed) == (tuple(rest), tuple(gone))
    assert (found.renamed, found.changed) == (tuple(kept), tuple(changed))


def test_the_record_is_json_line_by_line(folder: Path) -> None:
    (folder / "cat0.txt").write_text("a\u2028b", encoding="utf-8")
    found = taken(folder)
    text = found.dumps()
    assert json.loads(text) == found.to_json() == json.loads(json.dumps(dataclasses.asdict(found)))
    assert Fingerprint.from_json(json.loads(text)) == found
    assert Fingerprint.from_json(json.loads(Fingerprint("", "").dumps())) == Fingerprint("", "")
