"""Statistics of captions against numbers worked out by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pandas")
pytest.importorskip("tokenizers")

from kohyakit.dataset.captions.alike import look_alike
from kohyakit.dataset.captions.choose import Selection, chosen
from kohyakit.dataset.captions.report import as_html, as_text, write_csv
from kohyakit.dataset.captions.statistics import Statistics, facts, statistics
from kohyakit.dataset.captions.tokens import count_tokens, count_tokens_of, cut_off
from kohyakit.dataset.editing.captions import CaptionFile

LONG = ", ".join(["sks", *(f"red house {number % 10}" for number in range(30))])  # 1 + 30 * 4 tokens


def write(folder: Path, captions: dict[str, str | bytes | None]) -> Path:
    for name, text in captions.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").write_bytes(b"")
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Statistics:
    folder = write(
        tmp_path_factory.mktemp("set"),
        {
            "10_dog/a.txt": "sks, dog, grass", "10_dog/b.txt": "sks, dog, grass\r\nsecond line", "10_dog/c.txt": LONG,
            "3_town/d.txt": "sks, church, sky", "3_town/e.txt": "sks, churches", "3_town/f.txt": None,
            "3_town/g.txt": " ,\n", "3_town/h.txt": "café".encode("latin-1"),
        },
    )  # fmt: skip
    return statistics(folder, chosen(folder, Selection()))


def row(frame, **where) -> dict:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    (found,) = frame.to_dict("records")
    return found


def test_tags_are_counted_and_weighed_by_repeats(found: Statistics) -> None:
    assert found.tags["tag"].iloc[0] == "sks"
    assert row(found.tags, tag="sks") == {
        "tag": "sks", "images": 5, "weighted": 36, "share": 1.0, "first": 5, "subsets": 2, "only_in": "",
    }  # fmt: skip
    assert row(found.tags, tag="dog") == {
        "tag": "dog", "images": 2, "weighted": 20, "share": 0.4, "first": 0, "subsets": 1, "only_in": "10_dog",
    }  # fmt: skip
    assert row(found.tags, tag="red house 3")["images"] == 1  # three times in one caption
    assert (found.without, found.unreadable) == (2, 1)


def test_lengths_are_held_against_what_fits(found: Statistics) -> None:
    long = row(found.captions, path="10_dog/c.txt")
    assert long["tokens"] == 121
    assert long["cut"] == "house 8, " + ", ".join(LONG.split(", ")[20:])  # 1 + 18 * 4 + `, red` are 75
    assert row(found.captions, path="10_dog/b.txt")["lines"] == 2
    town = row(found.subsets, subset="3_town")
    assert (town["class"], town["captions"], town["without"], town["median_tokens"]) == ("town", 2, 2, 4.0)
    dog = row(found.subsets, subset="10_dog")
    assert (dog["most_tokens"], dog["above_75"], dog["above_150"], dog["above_225"]) == (121, 1, 0, 0)


def test_what_stands_together(found: Statistics) -> None:
    assert row(found.pairs, a="sks", b="dog") == {"a": "sks", "b": "dog", "images": 2, "share": 1.0}
    assert row(found.pairs, a="dog", b="grass")["images"] == 2
    assert found.together.loc["sks", "sks"] == 5
    assert found.together.loc["dog", "sky"] == 0


def test_captions_that_equal_each_other(found: Statistics) -> None:
    assert found.same.to_dict("records") == [
        {"caption": "sks, dog, grass", "images": 2, "subsets": 1, "paths": ["10_dog/a.txt", "10_dog/b.txt"]}
    ]


def test_thousands_are_counted_as_one_by_one(tmp_path: Path) -> None:
    texts = [f"sks, tag {number % 7}, odd {number}" for number in (at % 3001 for at in range(5000))]
    places = [tmp_path / ("3_town" if at % 3 else "10_dog") / f"{at:04d}" for at in range(5000)]
    files = [
        CaptionFile(place.with_suffix(".png"), place.with_suffix(".txt"), text.encode())
        for place, text in zip(places, texts, strict=True)
    ]
    found = statistics(tmp_path, files)
    repeats = [3 if at % 3 else 10 for at in range(5000)]
    images = Counter(tag for text in texts for tag in text.split(", "))
    weighted = Counter()
    for text, times in zip(texts, repeats, strict=True):
        weighted.update(dict.fromkeys(text.split(", "), times))
    assert dict(zip(found.tags["tag"], found.tags["images"], strict=True)) == images
    assert dict(zip(found.tags["tag"], found.tags["weighted"], strict=True)) == weighted
    assert row(found.tags, tag="sks")["subsets"] == 2
    assert row(found.tags, tag="odd 2500")["only_in"] == "3_town"
    assert found.together.loc["sks", "tag 6"] == images["tag 6"]
    assert len(found.same) == 5000 - 3001
    assert found.same["paths"].iloc[0] == ["10_dog/0000.txt", "3_town/3001.txt"]
    assert found.same["subsets"].iloc[0] == 2


def test_tags_that_may_be_the_same(found: Statistics) -> None:
    assert row(found.alike, how="form") == {
        "tag": "churches", "images": 1, "other": "church", "other_images": 1, "how": "form",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("red door", "Red Door", "case"), ("blue_sky", "blue sky", "form"), ("tree", "trees", "form"),
        ("the sea", "sea", "form"), ("door red", "red door", "order"), ("chruch", "church", "spelling"),
        ("gargoyl", "gargoyle", "spelling"), ("stone archwey", "stone archway", "spelling"),
        ("cat", "car", ""), ("red car", "red cat", ""), ("1girls", "2girls", ""), ("number 1", "number 2", ""),
        ("tower", "church", ""), ("archway", "arcway in fog", ""),
    ],
)  # fmt: skip
def test_alike(one: str, other: str, how: str) -> None:
    assert look_alike({one: 1, other: 10}) == ([(one, other, how)] if how else [])
    assert [pair[2] for pair in look_alike({one: 9, other: 10})] == ([how] if how not in ("", "spelling") else [])


def test_facts_say_what_a_training_makes_of_it(found: Statistics) -> None:
    said = "\n".join(facts(found))
    assert "Every caption begins with 'sks'. With shuffle_caption, keep_tokens = 1" in said
    assert "10_dog: every picture has a caption, so 'dog' of the folder's name is not trained." in said
    assert "2 of 3 captions say it themselves." in said
    assert "shuffle_caption changes the order of what stands behind it in 4 of 5 captions; the others" in said
    assert "In 1 of them, longer than 75 tokens, it also changes each time what is cut off." in said
    assert "3_town: 2 of 4 pictures are trained as 'town'." in said
    assert "1 captions have more than one line" in said
    assert "1 above 75, 0 above 150, 0 above 225" in said


def test_facts_of_sentences(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"5_city/a.txt": "a view of the Old city", "5_city/b.txt": "the alley, of a city", "2_dog/c.txt": None},
    )
    said = facts(found := statistics(tmp_path, chosen(tmp_path, Selection())))
    assert found.words == ("a", "of", "the", "city")
    assert "Every caption says: a, of, the, city. What all share is learnt as the thing itself." in said
    assert (
        "Captions do not begin alike: 1 of 2 with 'a view of the Old city'. keep_tokens = 1 keeps in front what each "
        "begins with."
    ) in said
    assert "shuffle_caption changes the order of what stands between commas in 1 of 2 captions; the others" in said[1]
    assert "2_dog: all pictures are trained as 'dog'." in said
    assert said[-1].endswith("'city' of the folder's name is not trained. 2 of 2 captions say it themselves.")
    (tmp_path / "5_city/b.txt").write_text("the alley of a city")
    said = facts(statistics(tmp_path, chosen(tmp_path, Selection())))
    assert "shuffle_caption would change nothing: no caption has two parts of what stands between commas." in said


def test_pages_and_files(found: Statistics, tmp_path: Path) -> None:
    text = as_text(found, rows=3)
    assert "May be the same" in text
    assert max(map(len, text.split("\n\n", 2)[2].splitlines())) <= 140
    data = json.loads(json.dumps(found.to_dict()))
    assert data["tags"][0]["tag"] == "sks"
    assert [path.name for path in write_csv(found, tmp_path / "c.csv")] == [
        "c.csv", "c-pairs.csv", "c-alike.csv", "c-same.csv", "c-subsets.csv", "c-captions.csv",
    ]  # fmt: skip
    assert (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()[1] == "sks,5,36,1.0,5,2,"


def test_the_page_runs_nothing_of_a_caption(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>, \x1b[31mred"
    write(tmp_path, {"1_a/a.txt": evil, "1_a/b.txt": evil})
    found = statistics(tmp_path, chosen(tmp_path, Selection()))
    assert "<script>" not in as_html(found, "<b>")
    assert "\x1b" not in as_text(found)


@pytest.mark.parametrize("captions", [{}, {"1_a/a.txt": None}, {"1_a/a.txt": " , "}, {"a.txt": "a"}])
def test_hardly_anything_is_no_error(tmp_path: Path, captions) -> None:
    write(tmp_path, captions)
    found = statistics(tmp_path, chosen(tmp_path, Selection()))
    assert as_text(found)
    assert as_html(found, "x")
    json.dumps(found.to_dict())
    write_csv(found, tmp_path / "c.csv")


def test_a_folder_may_say_any_number_of_repeats(tmp_path: Path) -> None:
    write(tmp_path, {"3000000000_a/a.txt": "dog", f"{10**30}_b/b.txt": "dog", "2_c/c.txt": "dog"})
    found = statistics(tmp_path, chosen(tmp_path, Selection()))
    assert found.captions["repeats"].tolist() == [2**31 - 1, 2, 2**31 - 1]
    assert found.tags["weighted"].tolist() == [2**32]


def test_many_at_once_are_counted_as_one_by_one() -> None:
    texts = ["a dog", "", "“quoted” &amp; more", "été, 東京, \u200b", "x" * 300, "a's, it'll <|endoftext|>"]
    assert count_tokens_of(texts) == [count_tokens(text) for text in texts]
    assert cut_off("a dog, a cat", 3) == "a cat"
    assert cut_off("a dog", 2) == ""


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(st.text(st.characters(max_codepoint=0x17F), max_size=30), max_size=5))
def test_so_are_any_texts(texts: list[str]) -> None:
    assert count_tokens_of(texts) == [count_tokens(text) for text in texts]
