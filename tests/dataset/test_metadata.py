"""Captions in JSON and in pictures: written by Pillow or laid out by hand after the specifications, read by us."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from kohyakit.cli import group
from kohyakit.dataset.metadata import exif, iptc, xmp
from kohyakit.dataset.metadata.blocks import read_blocks
from kohyakit.dataset.metadata.sidecars import Reading, told_by
from kohyakit.dataset.metadata.told import Unfit, prompt_in
from kohyakit.errors import DatasetError

# what A1111 writes; of it the prompt alone is a caption
A1111 = (
    "photo of a church, (old stone:1.2), <lora:town:0.8>, foggy\nalley\n"
    "Negative prompt: blurry, cars\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
)
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}, "6": {"class_type": "CLIPTextEncode"}})
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmp:Rating="4"><dc:description><rdf:Alt><rdf:li xml:lang="de">Kirche</rdf:li>'
    '<rdf:li xml:lang="x-default">A church &amp; a canal</rdf:li></rdf:Alt></dc:description>'
    "<dc:subject><rdf:Bag><rdf:li>church</rdf:li><rdf:li>São Paulo</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(group, ["captions", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def picture(path: Path, **saved: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (9, 90, 200)).save(path, **saved)
    return path


def with_text(path: Path, **texts: str) -> Path:
    about = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        about.add_text(key, value)
    return picture(path, pnginfo=about)


def captions(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One picture for every place that a caption can stand in."""
    folder = tmp_path / "img" / "10_town"
    with_text(folder / "a1111.png", parameters=A1111)
    with_text(folder / "described.png", Description="a canal, é", Comment=json.dumps({"steps": 28, "scale": 11}))
    with_text(folder / "comfy.png", prompt=GRAPH, workflow=json.dumps({"nodes": [], "links": []}))
    camera = Image.Exif()
    camera[0x010E] = "OLYMPUS DIGITAL CAMERA"
    camera.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    picture(folder / "camera.jpg", exif=camera)
    windows = Image.Exif()
    windows[0x9C9C] = "a gargoyle".encode("utf-16-le") + b"\0\0"
    windows[0x9C9E] = "stone;café".encode("utf-16-le") + b"\0\0"
    picture(folder / "windows.webp", exif=windows)
    picture(folder / "lightroom.jpg", xmp=PACKET)
    picture(folder / "darktable.jpg").with_name("darktable.jpg.xmp").write_bytes(PACKET)
    picture(folder / "booru.jpg").with_name("booru.jpg.json").write_text(
        json.dumps({"id": 7, "tags": ["long_hair", "1girl", "^_^"], "rating": "s", "description": "<p>buy me</p>"})
    )
    picture(folder / "taggui.png").with_suffix(".json").write_text('{"version": 1, "markings": []}')
    picture(folder / "nothing.jpg")
    return folder.parent


FOUND = {
    "a1111": "photo of a church, (old stone:1.2), foggy alley",
    "booru": "long hair, 1girl, ^_^",
    "camera": "photo of a church, (old stone:1.2), foggy alley",
    "darktable": "A church & a canal, church, São Paulo",
    "described": "a canal, é",
    "lightroom": "A church & a canal, church, São Paulo",
    "windows": "a gargoyle, stone, café",
}


def test_each_place_is_read_and_what_is_no_caption_is_named(photos: Path) -> None:
    said = run("import", photos, "--dry-run", code=1)
    assert captions(photos) == {}
    assert "7 captions found: 2 from exif, 2 from text, 2 from xmp, 1 from json" in said
    assert "comfy.png: holds a ComfyUI workflow" in said
    assert "taggui.png: its taggui.json holds taggui's crop and markings, no caption" in said
    assert "1 picture of which nothing is said" in said
    run("import", photos, code=1)
    assert captions(photos) == FOUND
    assert "imported from json, xmp, iptc, exif, text" in run("history", photos)
    run("undo", photos)
    assert captions(photos) == {}


def test_captions_that_are_there_stay_or_are_added_to(photos: Path) -> None:
    path = photos / "10_town" / "booru.txt"
    path.write_text("sks, 1girl", encoding="utf-8")
    chosen = (photos, "--from", "json", "--file", "booru.*")
    assert "there already, and left: 1 caption" in run("import", *chosen)
    for mode, expected in (("append", "sks, 1girl, long hair, ^_^"), ("prepend", "long hair, 1girl, ^_^, sks"),
                           ("overwrite", "long hair, 1girl, ^_^")):  # fmt: skip
        run("import", *chosen, "--mode", mode)
        assert path.read_text(encoding="utf-8") == expected
        run("undo", photos)
    run("import", *chosen, "--mode", "overwrite", "--keep-underscores")
    assert path.read_text(encoding="utf-8") == "long_hair, 1girl, ^_^"
    assert "named" not in run("import", *chosen, "--mode", "overwrite", "--key", "rating")
    assert path.read_text(encoding="utf-8") == "s"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("whole paths of another machine", {"/content/img/10_town/a.png": {"caption": "one", "tags": "1, 2"},
                                            "D:\\img\\3_dog\\a.png": {"tags": "two, 2"}}),
        ("stems, as sd-scripts writes them", {"10_town/a": {"caption": "one", "tags": "1, 2", "train_resolution": [1]},
                                              "3_dog/a": {"caption": "two, 2"}}),
        ("a list of objects", [{"file_name": "10_town/a.png", "text": "one, 1, 2"},
                               {"image": "3_dog/a.png", "tags": ["two", "2"]}]),
        ("JSON lines", '{"file_name": "10_town/a.png", "text": "one, 1, 2"}\n'
                       '{"path": "3_dog/a.png", "caption": "two, 2"}\n'),
    ],
)  # fmt: skip
def test_one_file_for_all(tmp_path: Path, name: str, written: object) -> None:
    for subset in ("10_town", "3_dog"):
        picture(tmp_path / "img" / subset / "a.png")
    one = tmp_path / ("meta.jsonl" if isinstance(written, str) else "meta.json")
    one.write_text(written if isinstance(written, str) else json.dumps(written), encoding="utf-8")
    run("import", tmp_path / "img", "--metadata", one)
    words = {place.parent.name: place.read_text(encoding="utf-8") for place in tmp_path.rglob("*.txt")}
    assert words == {"10_town": "one, 1, 2", "3_dog": "two, 2"}


def test_a_name_that_fits_two_ways_or_none_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "img" / "10_town" / "a.png")
    one = tmp_path / "meta.json"
    one.write_text(json.dumps({"a.png": {"caption": "x"}, "a": {"caption": "y"}, "b": {"caption": "z"}}))
    said = run("import", tmp_path / "img", "--metadata", one, code=1)
    assert "a.png: has 2 entries in meta.json, such as a.png and a" in said
    assert "3 names in the file that no picture was asked for" in said
    one.write_text(json.dumps({"/data/20_cat/a.png": {"caption": "another's"}}))
    assert "0 captions found" in run("import", tmp_path / "img", "--metadata", one)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"tag_string": "1girl solo", "tag_string_artist": "someone"}, "1girl, solo"),
        ({"tags": {"general": ["red_door"], "species": ["dog"], "meta": ["hi_res"]}}, "red door, dog"),
        ({"tags": [{"name": "風景"}, {"name": "sky"}]}, "風景, sky"),
        ({"tags": "church, red door"}, "church, red door"),
        ({"caption": "a dog", "tags": "dog"}, "a dog"),
        (["a", "b"], "a, b"),
    ],
)
def test_json_of_other_programs(data: object, expected: str) -> None:
    assert told_by(data, Reading()).text == expected


def test_prompts_of_other_programs() -> None:
    assert prompt_in("{{masterpiece}}, [old] church") == "{{masterpiece}}, [old] church"
    assert prompt_in(json.dumps({"sui_image_params": {"prompt": "a dog", "steps": 2}})) == "a dog"
    assert prompt_in(json.dumps({"positive_prompt": "a cat", "negative_prompt": "b"})) == "a cat"
    with pytest.raises(Unfit, match="settings, no caption"):
        prompt_in(json.dumps({"steps": 28, "uc": "blurry"}))


def test_iptc_by_its_specification() -> None:
    def dataset(record: int, number: int, data: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, record, number, len(data)) + data

    def resources(*datasets: bytes) -> bytes:
        body = b"".join(datasets)
        other = b"8BIM" + struct.pack(">H", 0x03ED) + b"\3abc" + struct.pack(">I", 3) + b"xyz\0"
        return other + b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(body)) + body

    utf_8 = dataset(1, 90, b"\x1b%G")
    said = iptc.said(resources(utf_8, dataset(2, 25, "Tür".encode()), dataset(2, 25, b"sky"), dataset(2, 120, b"Door")))
    assert (said.caption, said.tags) == ("Door", ("Tür", "sky"))
    assert iptc.said(resources(dataset(2, 25, "Türen und Höfe".encode("latin-1")))).tags == ("Türen und Höfe",)
    with pytest.raises(Unfit, match="says UTF-8 and is not"):
        iptc.said(resources(utf_8, dataset(2, 120, b"T\xfcr")))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def in_png(path: Path, *chunks: bytes) -> Path:
    data = picture(path).read_bytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


HOSTILE = {
    "a bomb": chunk(b"zTXt", b"Description\0\0" + zlib.compress(b"a" * (64 << 20))),
    "a bomb as XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<a>" * (8 << 20))),
    "a long text": chunk(b"tEXt", b"Description\0" + b"word " * 900_000),
    "a long text of a few kB": chunk(b"tEXt", b"Description\0" + b"word " * 4_000),
    "no UTF-8": chunk(b"iTXt", b"Description\0\0\0\0\0\xff\xfe\xfa"),
    "half a packed text": chunk(b"zTXt", b"Description\0\0" + zlib.compress(b"abc" * 99)[:-6]),
    "no packed text": chunk(b"zTXt", b"Description\0\0" + b"\xff" * 20),
    "deep JSON": chunk(b"tEXt", b"Description\0" + b"[" * 200_000),
    "definitions in XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
    "damaged XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x:xmpmeta><rdf:RDF>"),
    "signs that are no text": chunk(b"tEXt", b"Description\0a\x07b"),
    "half a character in EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x9c\x9c\x01\0\x04\0\0\0\0\xd8\0\xd8\0\0\0\0"),
    "EXIF that goes round": chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0")
    + chunk(b"tEXt", b"Description\0\1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_are_a_sentence(tmp_path: Path, name: str) -> None:
    in_png(tmp_path / "a.png", HOSTILE[name])
    with_text(tmp_path / "b.png", Description="whole")
    said = run("import", tmp_path, code=1)
    assert captions(tmp_path) == {"b": "whole"}
    (left,) = (line for line in said.splitlines() if line.startswith("left as it is"))
    assert left.startswith("left as it is: a.png: ")


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"{", "is no JSON"), (b"[" * 100_000, "is JSON that is nested too deep"), (b"3", "holds no caption"),
     (b'{"caption": "\xff"}', "is not UTF-8"), (b'{"caption": "\\ud800"}', "holds signs that are no text"),
     (b'{"a": ' + b"9" * 9000 + b"}", "is JSON with a number that is too long"),
     (b'{"id": 1}', "has no caption or tags"), (GRAPH.encode(), "holds a ComfyUI workflow")],
)  # fmt: skip
def test_hostile_json_is_a_sentence(tmp_path: Path, raw: bytes, said: str) -> None:
    picture(tmp_path / "a.png").with_suffix(".json").write_bytes(raw)
    assert f"a.png: its a.json {said}" in run("import", tmp_path, code=1)
    assert captions(tmp_path) == {}


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"{", "is no JSON"), (b"[1]", "an entry without a picture"), (b"3", "no captions by picture"),
     (GRAPH.encode(), "no captions by picture"), (b"\xff", "not UTF-8")],
)  # fmt: skip
def test_a_metadata_file_that_is_none_is_a_sentence(tmp_path: Path, raw: bytes, said: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "meta.json").write_bytes(raw)
    result = CliRunner().invoke(group, ["captions", "import", str(tmp_path), "--metadata", str(tmp_path / "meta.json")])
    assert isinstance(result.exception, DatasetError)
    assert said in str(result.exception)


def test_a_sidecar_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes in folders here")
    os.mkfifo(picture(tmp_path / "a.png").with_suffix(".json"))
    assert "it is a pipe or a device" in run("import", tmp_path, code=1)


@given(st.binary(max_size=400))
def test_any_bytes_are_told_or_unfit(data: bytes) -> None:
    for said in (exif.said, iptc.said, xmp.said):
        for body in (data, b"II*\0\x08\0\0\0" + data, b"8BIM\x04\x04\0\0\0\0\1\0\x1c\2" + data):
            with contextlib.suppress(Unfit):
                assert "\n" not in said(body).text


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"]))
def test_any_file_has_blocks_or_is_unfit(tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(head + data)
    with contextlib.suppress(Unfit):
        read_blocks(path)
