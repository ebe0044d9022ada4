"""Many captions at once: expressions, operations, encodings, and that any sequence of edits can be taken back."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dataset.captions import operations as op
from kohyakit.dataset.captions.bulk import find_change, preview, preview_encoding, preview_template
from kohyakit.dataset.captions.choose import Selection, chosen
from kohyakit.dataset.captions.expression import wanted
from kohyakit.dataset.editing import captions as edit
from kohyakit.errors import ConfigError, DatasetError, KohyakitError

CAPTIONS = {
    "10_dog/a.txt": b"sks dog, red ball, grass",
    "10_dog/b.txt": b"\xef\xbb\xbfsks dog,  Red Ball ,grass\r\n",
    "10_dog/sub_b.txt": b"sks dog, sofa (old), indoors\n\nanother line\n",
    "3_town/c.txt": b"church, trees, sky",
    "3_town/d.txt": b"church, sky",
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "img"
    for name, raw in CAPTIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        path.with_suffix(".png").write_bytes(b"")
    (folder / "3_town" / "e.png").write_bytes(b"")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.txt")}


def names(folder: Path, **chosen_by) -> list[str]:
    return [one.path.stem for one in chosen(folder, Selection(**chosen_by))]


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("church", "c d"),
        ("church & !trees", "d"),
        ("!church", "a b e sub_b"),
        ("trees | sofa (old)", "c sub_b"),
        ('"sofa (old)"', "sub_b"),
        ("RED BALL & (sofa* | gr?ss)", "a b"),
        ("tags > 2 & !sks dog", "c"),
        ("!(church | sks dog)", "e"),
        ("!!church", "c d"),
        ("tags = 0", "e"),
        ("characters<=11 & tags>0", "d"),
        ("red", ""),
    ],
)
def test_a_tag_expression_chooses(photos: Path, expression: str, fits: str) -> None:
    assert sorted(names(photos, where=expression)) == fits.split()


def test_tokens_are_compared(photos: Path) -> None:
    pytest.importorskip("tokenizers")
    assert names(photos, where="tokens=5 & sky") == ["c"]  # three words and two commas
    assert names(photos, where="tokens != 5 & sky & tokens<4") == ["d"]


@pytest.mark.parametrize("wrong", ["a &", "& a", "(a", "a)", "a | | b", "!", "()", "", "(" * 60 + "a" + ")" * 60, '"a'])
def test_an_expression_that_is_none_is_a_sentence(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"write it like: church & !trees"):
        wanted(wrong)


@given(st.text(alphabet='ab &|!()"*?\\[<>=1tokens', max_size=40))
def test_any_text_is_an_expression_or_a_sentence(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert wanted(text)("a, b") in (True, False)


def test_subsets_and_files_choose(photos: Path) -> None:
    assert names(photos, subsets=("10_dog",)) == names(photos, subsets=("dog",)) == ["a", "b", "sub_b"]
    assert names(photos, files=("*b.*",)) == ["b", "sub_b"]
    assert names(photos, files=("3_town/*",), where="trees") == ["c"]
    with pytest.raises(DatasetError, match="there are 10_dog, 3_town"):
        names(photos, subsets=("10_dog", "cat"))


def test_a_caption_that_two_pictures_share_counts_once(photos: Path) -> None:
    (photos / "3_town" / "c.jpg").write_bytes(b"")
    assert names(photos, subsets=("town",)) == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (op.substitute("red", "blue"), "red, Red", "blue, Red"),
        (op.substitute("red", "blue", ignore_case=True), "red, Red", "blue, blue"),
        (op.substitute(r"(\w+) ball", r"ball of \1", kind="regex"), "red ball", "ball of red"),
        (op.substitute("red", r"\1", ignore_case=True), "red", r"\1"),
        (op.substitute("Red", "blue", kind="tag"), "red, red ball", "blue, red ball"),
        (op.rename_tag("a", "b"), "a, b, c", "b, c"),
        (op.add(["x"]), "a,b", "a, b, x"),
        (op.add(["x", "b, y"], at=1), "a, b", "x, y, a, b"),
        (op.add(["x"], at=2), "a, b", "a, x, b"),
        (op.add(["x"], at=-2), "a, b", "a, x, b"),
        (op.add(["x"], at=9), "a, b", "a, b, x"),
        (op.add(["x"], before="B"), "a, b", "a, x, b"),
        (op.add(["x"], after="a"), "a, b", "a, x, b"),
        (op.add(["x"], after="z"), "a,  b", "a,  b"),
        (op.add(["x"]), "a\n\nb\n", "a, x\n\nb, x\n"),
        (op.remove(["B"]), "a, b, bb", "a, bb"),
        (op.remove(["b*"]), "a, b, bb", "a"),
        (op.remove(["[b]"]), "a, [b], b", "a, b"),
        (op.remove(["b+"], regex=True), "a, b, bb, bc", "a, bc"),
        (op.remove(at=1), "a, b, c", "b, c"),
        (op.remove(at=-1), "a, b, c", "a, b"),
        (op.remove(at=4), "a,b,c", "a,b,c"),
        (op.sort(), "b, C, a", "a, b, C"),
        (op.sort(keep=1), "b, c, a", "b, a, c"),
        (op.sort("frequent", counts={"c": 9, "a": 1, "b": 1}), "b, C, a", "C, a, b"),
        (op.dedupe(), "a, B, A, b, c", "a, B, c"),
        (op.trim(), "  a ,, b   c,\t\r\n", "a, b c\r\n"),
        (op.trim(tags=2), "a,b,c", "a, b"),
        (op.case("lower"), "SKS, Red Ball", "sks, red ball"),
        (op.case("lower", keep=1), "SKS, Red Ball", "SKS, red ball"),
        (op.case("title"), "red ball's, o", "Red Ball's, O"),
        (op.case("sentence"), "a Dog, there", "A Dog, there"),
        (op.case("upper"), "a", "A"),
    ],
)
def test_operations(operation, before: str, after: str) -> None:
    assert operation(before) == after


def test_trim_to_tokens_keeps_whole_tags() -> None:
    pytest.importorskip("tokenizers")
    assert op.trim(tokens=5)("red, blue, green, sky") == "red, blue, green"  # a word or a comma is one token
    assert op.trim(tokens=4)("red, blue, green, sky") == "red, blue"
    assert op.trim(tokens=1)("red church, blue") == "red church"  # never to nothing


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: op.matches(""), lambda: op.substitute("", "x"), lambda: op.add([" ,"]), lambda: op.add(["a"], at=0),
        lambda: op.add(["a"], at=1, before="b"), lambda: op.remove(), lambda: op.remove(["a"], at=1),
        lambda: op.remove(at=0), lambda: op.remove(["("], regex=True), lambda: op.substitute("(", "x", kind="regex"),
        lambda: op.substitute("a", r"\2", kind="regex"), lambda: op.rename_tag("a", " "), lambda: op.template("{x}"),
        lambda: op.template("{"), lambda: op.template(" "), lambda: op.matches("(", kind="regex"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_sentence(wrong) -> None:
    with pytest.raises(KohyakitError, match=r".+; .+"):
        wrong()


def test_a_template_fills_in_what_it_knows_of_a_picture(photos: Path) -> None:
    filled = op.template("photo of {class}, {first}; {rest}, {name} {n} in {subset} {{x}}")
    files = chosen(photos, Selection(subsets=("town",)))
    new = {one.path.stem: one.new.decode() for one in preview_template(photos, files, filled).edits}
    assert new == {
        "c": "photo of town, church; trees, sky, c 1 in 3_town {x}",
        "d": "photo of town, church; sky, d 2 in 3_town {x}",
        "e": "photo of town, ; e 3 in 3_town {x}",
    }
    assert op.template("{class}, {caption}")(op.Place("a", ".", "", 1))("a dog\r\n") == "a dog\r\n"
    assert op.template("photo, {caption}")(op.Place("a", ".", "", 1))("") == "photo"


def test_encode_saves_as_utf_8_and_nothing_else(photos: Path) -> None:
    words = "ein Café über dem Fluß, Straße"
    (photos / "3_town" / "c.txt").write_bytes(words.encode("cp1252"))
    (photos / "3_town" / "d.txt").write_bytes(words.encode("utf-16"))
    (photos / "3_town" / "e.txt").write_bytes(b"a\xff\x80b\x81")  # cp437: a, no-break space, Ç, b, ü
    seen = preview_encoding(photos, chosen(photos, Selection()))
    assert {one.path.stem: one.new for one in seen.edits} == {
        "b": CAPTIONS["10_dog/b.txt"][3:], "c": words.encode(), "d": words.encode(),
    }  # fmt: skip
    assert [one.where for one in seen.left] == ["e.txt"]
    asked = preview_encoding(photos, chosen(photos, Selection(files=("e.*", "a.*"))), source="cp437", mark=True)
    assert [one.new for one in asked.edits] == [b"\xef\xbb\xbf" + CAPTIONS["10_dog/a.txt"],
                                                b"\xef\xbb\xbf" + "a\xa0Çbü".encode()]  # fmt: skip
    ends = preview_encoding(photos, chosen(photos, Selection(files=("sub_b.*",))), newlines="crlf")
    assert [one.new for one in ends.edits] == [b"sks dog, sofa (old), indoors\r\n\r\nanother line\r\n"]
    with pytest.raises(ConfigError, match="no encoding"):
        preview_encoding(photos, [], source="utf-9")


def test_steps_of_the_history_are_found(photos: Path) -> None:
    with pytest.raises(DatasetError, match="no history"):
        find_change(photos)
    for tag in "xyz":
        edit.apply(photos, preview(chosen(photos, Selection()), op.add([tag])).edits, tag)
    assert find_change(photos)[1].what == "z"
    assert find_change(photos, "1")[1].what == "x"
    assert find_change(photos, edit.history(photos)[1].id)[0] == 2
    with pytest.raises(DatasetError, match="from 1 to 3"):
        find_change(photos, "4")
    edit.undo(photos, find_change(photos)[1])
    assert find_change(photos)[0] == 2


TAG = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
STEPS = st.one_of(
    st.builds(lambda tag, at: op.add([tag + "x"], at=at), TAG, st.sampled_from([1, 2, -1, -2, None])),
    st.builds(lambda tag: op.remove([tag]), st.sampled_from(["s*", "grass", "?", "*"])),
    st.builds(op.rename_tag, TAG, TAG.filter(str.strip)),
    st.builds(op.substitute, TAG, TAG),
    st.builds(op.trim, tags=st.integers(1, 4)),
    st.builds(op.case, st.sampled_from(sorted(op.CASES))),
    st.just(op.sort()),
    st.just(op.dedupe()),
    st.builds(lambda n: ("undo", n), st.integers(0, 5)),
)
RAW = st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=30).map(lambda text: text.encode("utf-8")))


@given(st.lists(RAW, min_size=1, max_size=4), st.lists(STEPS, min_size=1, max_size=6))
def test_any_sequence_of_edits_undone_gives_every_byte_back(tmp_path_factory, raws, steps) -> None:
    folder = tmp_path_factory.mktemp("photos")
    for number, raw in enumerate(raws):
        (folder / f"{number}.png").write_bytes(b"")
        if raw is not None:
            (folder / f"{number}.txt").write_bytes(raw)
    before = everything(folder)
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            standing = edit.undoable(folder)
            if step[1] < len(standing):
                edit.undo(folder, standing[step[1]])
        else:
            edit.apply(folder, preview(chosen(folder, Selection()), step).edits, str(number))
    for change in reversed(edit.history(folder)):
        _, problems = edit.undo(folder, change)
        assert problems == ()
    assert everything(folder) == before


def test_thousands_are_written_at_once_and_all_come_back(tmp_path: Path) -> None:
    """So many that several threads write; one of them cannot be written."""
    rng = random.Random(0)
    for number in range(600):
        (tmp_path / f"{number}.png").write_bytes(b"")
        (tmp_path / f"{number}.txt").write_bytes(bytes(rng.choices(b"abc, \r\n", k=30)))
    before = everything(tmp_path)
    edits = preview(chosen(tmp_path, Selection()), op.add(["fog"])).edits
    assert len(edits) == 600
    (tmp_path / "7.txt").unlink()
    (tmp_path / "7.txt").mkdir()
    change, problems = edit.apply(tmp_path, edits, "fog")
    assert [problem.where for problem in problems] == ["7.txt"]
    assert len(change.edits) == 599
    assert all(b"fog" in path.read_bytes() for path in tmp_path.glob("*.txt") if path.is_file())
    assert not list(tmp_path.glob(".kohyakit-*"))
    (tmp_path / "7.txt").rmdir()
    (tmp_path / "7.txt").write_bytes(before["7.txt"])
    assert edit.undo(tmp_path, change)[1] == ()
    assert everything(tmp_path) == before
