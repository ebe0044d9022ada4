"""Captions that no training would find or read: mended by a repair, with every byte put back by its undo."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("numpy")
for _package in ("PIL", "pandas", "simplejpeg", "cv2"):
    pytest.importorskip(_package)
from PIL import Image

from kohyakit.audit.repair.journal import UNDO_FOLDER
from kohyakit.audit.repair.run import RepairOptions, repair_dataset, undo_repair

WORDS = "女の子, 赤いドレス、笑顔"
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "cp932", "euc_jp", "gb18030")


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and UNDO_FOLDER not in path.parts
    }


def picture(number: int) -> Image.Image:
    return Image.effect_noise((80, 64), 40 + number).convert("RGB")


def test_every_encoding_is_made_utf_8_and_put_back(save: Callable[..., Path], tmp_path: Path) -> None:
    for number, codec in enumerate(CODECS):
        save(f"5_girl/{codec}.png", picture(number))
        (tmp_path / f"5_girl/{codec}.txt").write_bytes((WORDS if codec != "gb18030" else "女孩, 长发").encode(codec))
    save("5_girl/latin.png", picture(20))
    (tmp_path / "5_girl/latin.txt").write_bytes("grün, café\r\n".encode("cp1252"))
    save("5_girl/nul.png", picture(21))
    (tmp_path / "5_girl/nul.txt").write_bytes(b"a girl\0\0")
    save("5_girl/sound.png", picture(22), caption=WORDS)
    before = snapshot(tmp_path)
    shown = repair_dataset(tmp_path, dry_run=True, workers=1)
    assert snapshot(tmp_path) == before
    assert any("Shift-JIS" in step.reason and WORDS in step.reason for step, _ in shown.done)
    done = repair_dataset(tmp_path, workers=1)
    assert {step.path.stem for step, _ in done.done} == {*CODECS, "latin", "nul"}
    assert done.problems == ()
    for codec in (*CODECS[:-1], "sound"):
        assert (tmp_path / f"5_girl/{codec}.txt").read_bytes() == WORDS.encode()
    assert (tmp_path / "5_girl/gb18030.txt").read_bytes() == "女孩, 长发".encode()
    assert (tmp_path / "5_girl/latin.txt").read_bytes() == "grün, café\r\n".encode()
    assert (tmp_path / "5_girl/nul.txt").read_bytes() == b"a girl"
    assert repair_dataset(tmp_path, workers=1).done == ()
    assert undo_repair(tmp_path).problems == ()
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows holds some of these names as one")
def test_captions_get_their_images_name_and_it_is_taken_back(save: Callable[..., Path], tmp_path: Path) -> None:
    nfd, nfc = (unicodedata.normalize(form, "müller") for form in ("NFD", "NFC"))
    pairs = {f"{nfd}.png": nfc, "Case.PNG": "case", "trail .png": "trail"}
    for number, (image, caption) in enumerate(pairs.items()):
        save(f"5_man/{image}", picture(number), format="PNG")
        (tmp_path / "5_man" / f"{caption}.txt").write_bytes(f"a man {number}".encode("utf-16"))
    save("5_man/Turned.jpg", picture(9), format="PNG")  # its name will be .png, its caption's Turned.txt
    (tmp_path / "5_man/turned.txt").write_text("a man 9", encoding="utf-8")
    before = snapshot(tmp_path)
    assert not repair_dataset(tmp_path, workers=1, options=RepairOptions(captions=False)).problems
    undo_repair(tmp_path)
    assert snapshot(tmp_path) == before
    done = repair_dataset(tmp_path, workers=1)
    assert done.problems == ()
    captions = {name: data for name, (data, _) in snapshot(tmp_path).items() if name.endswith(".txt")}
    assert captions == {
        f"5_man/{nfd}.txt": b"a man 0", "5_man/Case.txt": b"a man 1", "5_man/trail .txt": b"a man 2",
        "5_man/Turned.txt": b"a man 9",
    }  # fmt: skip
    assert undo_repair(tmp_path).problems == ()
    assert snapshot(tmp_path) == before


def test_what_cannot_be_told_is_left_with_both_readings(save: Callable[..., Path], tmp_path: Path) -> None:
    save("5_girl/a.png", picture(0))
    data = "güneş batarken kız".encode("cp1254")
    (tmp_path / "5_girl/a.txt").write_bytes(data)
    done = repair_dataset(tmp_path, workers=1)
    assert done.done == ()
    (problem,) = done.problems
    assert "güneş" in str(problem)
    assert "Windows-1254" in str(problem)
    assert (tmp_path / "5_girl/a.txt").read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_nothing_is_written_through_a_link(save: Callable[..., Path], tmp_path: Path) -> None:
    data = "café".encode("latin-1")
    for name in ("a", "b"):
        save(f"set/5_girl/{name}.png", picture(ord(name)))
        save(f"far/{name}.png", picture(ord(name) + 5))
        (tmp_path / f"far/{name}.txt").write_bytes(data)
    (tmp_path / "set/5_girl/a.txt").symlink_to(tmp_path / "far/a.txt")
    (tmp_path / "set/6_linked").symlink_to(tmp_path / "far")
    before = snapshot(tmp_path / "far")
    done = repair_dataset(tmp_path / "set", workers=1)
    assert sorted(problem.where for problem in done.problems) == ["5_girl/a.txt", "6_linked/a.txt", "6_linked/b.txt"]
    assert all("link" in str(problem) for problem in done.problems)
    assert snapshot(tmp_path / "far") == before
    assert (tmp_path / "set/5_girl/a.txt").is_symlink()
