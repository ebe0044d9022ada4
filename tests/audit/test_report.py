"""The page and the documents: everything escaped, nothing fetched, every check described; hostile files reported."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from kohyakit.audit.report.html import as_html
from kohyakit.audit.report.render import as_plain
from kohyakit.audit.report.table import as_text
from kohyakit.audit.run import audit_dataset
from kohyakit.registry import CHECKS

from .conftest import found, scene

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "audit.md"


class Page(HTMLParser):
    """Counts tags and collects what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.fetched += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot hold these names")
def test_the_page_escapes_every_text_and_fetches_nothing(save: Callable[..., Path], tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    save(f"5_dog/{evil}.jpg", scene(1), caption=f"{evil}, <b>tag</b>, \"&'")
    save("5_dog/small.jpg", scene(1).resize((300, 225)), caption="</style><script>alert(2)</script>")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(f"3_{evil}/turned.jpg", scene(2), exif=exif)
    report = audit_dataset(tmp_path, workers=0, what_if="512,768")
    page = Page(as_html(report))
    assert page.open == []
    assert page.fetched == []
    assert page.tags["script"] == 1
    assert page.tags["img"] >= 4  # the sideways photo twice, the two duplicates
    assert any(evil in text for text in page.texts)


def test_the_page_shows_a_sideways_photo_as_stored_and_as_meant(save: Callable[..., Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.jpg", scene(2), exif=exif)
    report = audit_dataset(tmp_path, checks=("exif_orientation",), workers=0)
    html = as_html(report)
    assert html.count(">as stored<") == html.count(">as meant<") == 1
    assert len(set(re.findall(r'src="(data:image/jpeg;base64,[^"]+)"', html))) == 2


def test_the_page_puts_duplicates_side_by_side(save: Callable[..., Path], tmp_path: Path) -> None:
    save("a.jpg", scene(2))
    save("b.jpg", ImageOps.mirror(scene(2)))
    html = as_html(audit_dataset(tmp_path, checks=("near_duplicate",), workers=0))
    (group,) = re.findall(r'<div class="panel group">(.*?)</section>', html, re.DOTALL)
    assert group.count("<img") == 2
    assert "mirrored" in group


def test_an_empty_folder_and_one_without_captions_have_a_page(save: Callable[..., Path], tmp_path: Path) -> None:
    assert "no images" in as_html(audit_dataset(tmp_path, workers=0)).lower()
    save("a.jpg", scene(2))
    assert Page(as_html(audit_dataset(tmp_path, workers=0))).open == []
    as_plain(audit_dataset(tmp_path, workers=0, quick=True))


def test_every_check_threshold_and_score_is_described() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in CHECKS:
        check = CHECKS.load(name)
        assert f"| `{name}` |" in text, name
        for threshold in check.thresholds:
            assert re.search(rf"`{threshold.name}` {threshold.default:g}\b", text), threshold.name
        for score in check.scores:
            assert f"`{score}`" in text, score


def test_issue_and_threshold_names_are_said_once() -> None:
    issues = [issue for name in CHECKS for issue in CHECKS.load(name).issues]
    thresholds = [t.name for name in CHECKS for t in CHECKS.load(name).thresholds]
    assert len(issues) == len(set(issues))
    assert len(thresholds) == len(set(thresholds))


# --- hostile files ---


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims width x height and holds one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def test_hostile_files_are_reported(save: Callable[..., Path], tmp_path: Path) -> None:
    save("good.jpg", scene(1, (800, 600)))
    save("zero.jpg", b"")
    save("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>")
    save("bomb.png", bomb(60_000, 60_000))
    whole = (tmp_path / "good.jpg").read_bytes()
    save("cut.jpg", whole[: len(whole) // 2])
    save("random.jpg", bytes(range(256)) * 40)
    (tmp_path / "folder.jpg").mkdir()
    save("\U0001f431 cat.jpg", scene(3))
    report = audit_dataset(tmp_path, workers=2)
    broken = set(report.images.loc[report.images["verdict_severity"] == "error", "path"].map(lambda p: Path(p).name))
    assert broken == {"zero.jpg", "page.jpg", "bomb.png", "cut.jpg", "random.jpg", "folder.jpg"}
    assert not report.ok
    as_html(report)


@pytest.mark.skipif(os.name == "nt", reason="POSIX names, links and pipes")
def test_hostile_names_links_and_pipes_are_reported(save: Callable[..., Path], tmp_path: Path) -> None:
    data = save("a.jpg", scene(1)).read_bytes()
    save("new\nline.jpg", data)
    save("x" * 251 + ".jpg", data)
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with contextlib.suppress(OSError):  # some file systems hold valid names only
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(data)
    report = audit_dataset(tmp_path, workers=1)
    bad = report.images[report.images["verdict_severity"] == "error"]["path"].map(lambda p: Path(p).name)
    assert set(bad) == {"dangling.jpg", "self.jpg", "pipe.jpg"}
    assert found(report, "unsafe_name") >= {"new\nline.jpg", "x" * 251 + ".jpg"}
    assert len(report.groups()) == 1
    assert all(line.isprintable() for line in str(report).splitlines())
    report.to_parquet(tmp_path / "report.parquet")
    as_html(report)


def test_the_table_counts_what_the_foot_counts(save: Callable[..., Path], tmp_path: Path) -> None:
    """Of a group of copies one is a hint and the others warnings; both lines count findings."""
    data = save("10_dog/a.png", scene(1)).read_bytes()
    for name in ("b", "c"):
        save(f"10_dog/{name}.png", data)
    report = audit_dataset(tmp_path, checks=("exact_duplicate", "captions"), workers=0)
    text = as_text(report)
    rows = re.findall(r"^(error|warning|hint) +(\d+)  (\w+)", text, re.MULTILINE)
    assert set(rows) == {
        ("warning", "2", "exact_duplicate"), ("hint", "1", "exact_duplicate"), ("hint", "3", "missing_caption"),
    }  # fmt: skip
    assert "2 warnings, 4 hints." in text
    counted = re.findall(r'<tr data-severity="(\w+)">.*?<td class="n">(\d+)</td>', as_html(report), re.DOTALL)
    assert sorted(counted) == [("hint", "1"), ("hint", "3"), ("warning", "2")]
