"""Captions put into pictures: read by Pillow, not a byte of the picture touched, and taken out again to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from PIL import Image, PngImagePlugin

from kohyakit.cli import group
from kohyakit.dataset.metadata.embed import NOTES
from kohyakit.dataset.metadata.told import Unfit
from kohyakit.dataset.metadata.xmp import packet_with, said
from kohyakit.dataset.sources.metadata import read_metadata
from kohyakit.errors import KohyakitError

CAPTION = "sks church, São <Paulo> & 塔, fog"
XMP = (
    b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements'
    b'/1.1/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure="+0.5"><dc:subject><rdf:Bag><rdf:li>'
    b'old</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, ["captions", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "img" / "10_town"
    folder.mkdir(parents=True)
    grey = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    about = PngImagePlugin.PngInfo()
    about.add_text("Description", "old words")
    about.add_text("Software", "a camera")
    grey.save(folder / "plain.png")
    grey.save(folder / "told.png", pnginfo=about)
    grey.save(folder / "plain.jpg", quality=90)
    exif = Image.Exif()
    exif[0x010F], exif[0x010E] = "Camera & Co", "old words"
    exif.get_ifd(0x8769).update({0x927C: b"maker\0notes", 0x9003: "2024:05:06 07:08:09"})
    exif.get_ifd(0x8825)[1] = "N"
    grey.save(folder / "camera.jpg", quality=90, exif=exif, xmp=XMP, comment=b"hello")
    grey.save(folder / "other.webp")
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(CAPTION + "\n", encoding="utf-8")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def encoded(data: bytes) -> bytes:
    """A picture's own bytes: a JPEG from its tables on, a PNG's image chunks."""
    return data[data.index(b"\xff\xdb") :] if data.startswith(b"\xff\xd8") else data[data.index(b"IDAT") - 4 :]


def test_pillow_reads_them_and_every_byte_comes_back(photos: Path) -> None:
    before = everything(photos)
    ways = ("--to", "text", "--to", "exif", "--to", "xmp")
    assert "4 pictures of 5 would be given" in run("export", photos, *ways, "--dry-run")
    assert everything(photos) == before
    said_so = run("export", photos, *ways)
    assert "1 picture of another format, left as they are" in said_so
    after = everything(photos)
    for name in ("plain.png", "told.png", "plain.jpg", "camera.jpg"):
        assert encoded(after[name]) == encoded(before[name])
        with Image.open(photos / name) as image:
            image.load()
            found = ElementTree.fromstring(image.info["xmp"])
            texts = [(node.tag.rpartition("}")[2], node.text) for node in found.iter() if node.text]
            assert texts == [("li", CAPTION), ("li", "sks church"), ("li", "São <Paulo> & 塔"), ("li", "fog")]
            if name.endswith("png"):
                assert image.info["Description"] == CAPTION
            else:
                exif = image.getexif()
                assert exif[0x010E].encode("latin-1", "surrogateescape").decode() == CAPTION
    with Image.open(photos / "camera.jpg") as image:
        exif = image.getexif()
        assert exif[0x010F] == "Camera & Co"
        assert exif.get_ifd(0x8769)[0x927C] == b"maker\0notes"
        assert exif.get_ifd(0x8825)[1] == "N"
        assert image.info["comment"] == b"hello"
        assert b'crs:Exposure="+0.5"' in image.info["xmp"]
        assert b"<rdf:li>old</rdf:li>" not in image.info["xmp"]
    with Image.open(photos / "told.png") as image:
        assert image.info["Software"] == "a camera"
    assert "4 pictures already say it" in run("export", photos, *ways)
    assert everything(photos) == after
    (photos / "plain.txt").write_text("other words", encoding="utf-8")
    run("export", photos, *ways)
    assert len((photos / "plain.jpg").read_bytes()) < len(after["plain.jpg"]) + 60
    assert "2 pictures as before" in run("export", photos, "--take-back")
    (photos / "plain.txt").write_bytes(before["plain.txt"])
    assert everything(photos) == after
    assert "4 pictures as before" in run("export", photos, "--take-back")
    assert everything(photos) == before
    with pytest.raises(KohyakitError, match="no captions that were put into pictures"):
        CliRunner().invoke(group, ["captions", "export", str(photos), "--take-back"], catch_exceptions=False)


@pytest.mark.parametrize("way", ["text", "exif", "xmp"])
def test_what_is_put_in_is_read_again(photos: Path, way: str) -> None:
    run("export", photos, "--to", way)
    for path in photos.glob("*.txt"):
        path.unlink()
    run("import", photos, "--from", way)
    words = {path.stem: path.read_text(encoding="utf-8") for path in photos.glob("*.txt")}
    given = {"text": {"plain", "told"}, "exif": {"plain", "camera"}, "xmp": {"plain", "told", "camera"}}[way]
    assert {name for name, text in words.items() if text == CAPTION} == given


def test_a_picture_that_was_changed_since_is_left(photos: Path) -> None:
    before = everything(photos)
    run("export", photos, "--to", "text")
    changed = (photos / "told.png").read_bytes() + b"more"
    (photos / "told.png").write_bytes(changed)
    assert "told.png: was changed meanwhile" in run("export", photos, "--take-back", code=1)
    assert (photos / "plain.png").read_bytes() == before["plain.png"]
    (photos / "told.png").write_bytes(changed[:-4])
    run("export", photos, "--take-back")
    assert everything(photos) == before


def test_an_export_that_was_cut_off_is_taken_back_too(photos: Path) -> None:
    before = everything(photos)
    run("export", photos, "--to", "exif")
    (photos / "camera.jpg").write_bytes(before["camera.jpg"])  # as if killed before this one
    assert "1 picture as before" in run("export", photos, "--take-back")
    assert everything(photos) == before


def test_notes_of_a_stranger_touch_no_other_file(photos: Path) -> None:
    victim = photos.parent / "victim.png"
    victim.write_bytes(b"abc")
    sha = {"before": "x", "after": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    notes = photos / NOTES
    notes.parent.mkdir()
    for place in ("../victim.png", str(victim), "run.py", ".hidden.png"):
        row = {"id": place, "what": "x", "pictures": [{"file": place, **sha, "splices": [[0, "eA==", "YWJj"]]}]}
        with notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\nno JSON\n[]\n")
    with pytest.raises(KohyakitError, match="no captions that were put"):
        CliRunner().invoke(group, ["captions", "export", str(photos), "--take-back"], catch_exceptions=False)
    assert victim.read_bytes() == b"abc"


def test_json_for_other_programs(photos: Path, tmp_path: Path) -> None:
    beside = photos / "plain.png.json"
    beside.write_text('{"tags": ["a"], "id": 7}', encoding="utf-8")
    (photos / "told.png.json").write_text("[1]", encoding="utf-8")
    before = everything(photos)
    assert "told.png: has told.png.json, which is no JSON object" in run("export", photos, "--to", "json", code=1)
    assert json.loads(beside.read_bytes()) == {"tags": ["a"], "id": 7, "caption": CAPTION}
    assert json.loads((photos / "camera.jpg.json").read_bytes()) == {"caption": CAPTION}
    assert "No caption of" in run("export", photos, "--to", "json", code=1)
    run("undo", photos)
    assert everything(photos) == before
    one = tmp_path / "meta.json"
    run("export", photos.parent, "--to", "metadata", "--out", one)
    names = ("camera.jpg", "other.webp", "plain.jpg", "plain.png", "told.png")
    assert json.loads(one.read_text(encoding="utf-8")) == {f"10_town/{name}": {"caption": CAPTION} for name in names}
    trained = read_metadata(
        one, photos.parent, separator=",", enable_wildcard=False, upright=True, as_there=True
    )  # as a training takes it
    assert {record.path.name: record.caption for record in trained.records} == dict.fromkeys(names, CAPTION)
    assert trained.problems == ()
    run("import", photos.parent, "--metadata", one, "--mode", "overwrite")
    for wrong in (("--to", "metadata", "--out", one), ("--to", "metadata"), ("--to", "json", "--take-back"), ()):
        assert CliRunner().invoke(group, ["captions", "export", str(photos), *map(str, wrong)]).exception


@pytest.mark.parametrize("packet", [b"<a/>", XMP.replace(b"rdf:", b"r:").replace(b":rdf", b":r"), b"\xff", b"<a"])
def test_odd_xmp_is_left_alone(packet: bytes) -> None:
    with pytest.raises(Unfit):
        packet_with(packet, "a", ())


def test_xmp_is_read_as_it_was_put() -> None:
    found = said(packet_with(XMP, "a <b>, c & d", ("a <b>", "c & d")))
    assert (found.caption, found.tags) == ("a <b>, c & d", ("a <b>", "c & d"))
