"""Captions, folders, names, balance: each mistake is named once, where it is."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from kohyakit.audit.checks.balance import even_repeats
from kohyakit.audit.report.caption_statistics import co_occurrence, tag_table
from kohyakit.audit.run import audit_dataset

from .conftest import found

DOT = Image.new("RGB", (520, 520))


def quick(folder: Path, *checks: str, **asked: object):
    return audit_dataset(folder, quick=True, checks=checks or None, workers=0, **asked)


def test_caption_faults(save: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("good", "empty", "blank", "latin", "utf16", "second", "none", "other"):
        save(f"5_dog/{name}.png", DOT)
    folder = tmp_path / "5_dog"
    (folder / "good.txt").write_text("a dog", encoding="utf-8")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.txt").write_text(" \n", encoding="utf-8")
    (folder / "latin.txt").write_bytes("gr\xfcn".encode("latin-1"))
    (folder / "utf16.txt").write_text("dog", encoding="utf-16")
    (folder / "second.txt").write_text("\na dog\n", encoding="utf-8")
    (folder / "other.caption").write_text("a dog", encoding="utf-8")
    (folder / "left.txt").write_text("nobody's", encoding="utf-8")
    report = quick(tmp_path, "captions")
    assert found(report, "empty_caption") == {"empty.txt", "blank.txt", "second.txt"}
    assert found(report, "caption_not_utf8") == {"latin.txt", "utf16.txt"}
    assert found(report, "missing_caption") == {"none.png", "other.png"}
    assert found(report, "caption_wrong_extension") == {"other.caption"}
    assert found(report, "orphaned_caption") == {"left.txt"}
    assert not found(report, "caption_unreadable")
    severity = report.issues.drop_duplicates("issue").set_index("issue")["severity"]
    assert severity["caption_not_utf8"] == "error"
    assert severity["missing_caption"] == "warning"


def test_a_subset_without_any_caption_is_trained_by_its_name_which_is_a_hint(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    save("5_sks dog/a.png", DOT)
    report = quick(tmp_path, "captions")
    assert report.issues["severity"].tolist() == ["hint"]
    assert "sks dog" in report.issues["detail"].iloc[0]
    assert report.ok


def test_long_captions_by_what_the_config_trains(save: Callable[..., Path], tmp_path: Path) -> None:
    # "dog" is one token of CLIP's vocabulary, and so is ","
    for name, words in {"fits": 75, "over": 76, "much": 226}.items():
        save(f"{name}.png", DOT, caption=" ".join(["dog"] * words))
    report = quick(tmp_path, "caption_length")
    rows = report.issues.assign(name=[Path(p).stem for p in report.issues["path"]]).set_index("name")
    assert rows["severity"].to_dict() == {"over": "hint", "much": "warning"}
    config = tmp_path / "c.toml"
    config.write_text('max_token_length = "150"\nresolution = "512"\ncaption_extension = ".txt"\n', encoding="utf-8")
    report = quick(tmp_path, "caption_length", config=config)
    assert found(report, "long_caption") == {"much.txt"}
    assert "the last 76 are cut off" in report.issues["detail"].iloc[0]


def test_signs_that_look_like_commas(save: Callable[..., Path], tmp_path: Path) -> None:
    for number, text in enumerate(("狗，坐着、草地", "dog, sitting", "犬､ 芝生", "dog， sitting, grass")):
        save(f"5_dog/{number}.png", DOT).with_suffix(".txt").write_text(text, encoding="utf-8")
        save(f"5_cat/{number}.png", DOT).with_suffix(".txt").write_text("cat, sitting", encoding="utf-8")
    report = quick(tmp_path, "caption_content")
    assert found(report, "other_commas") == {"5_dog"}
    (detail,) = report.issues[report.issues["issue"] == "other_commas"]["detail"]
    assert detail.startswith("2 of 4 captions")


def test_the_same_caption_everywhere(save: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(6):
        save(f"5_dog/{number}.png", DOT, caption="photo of a dog")
        save(f"5_cat/{number}.png", DOT, caption=f"cat number {number}")
    assert found(quick(tmp_path, "caption_content"), "same_caption") == {"5_dog"}


def test_captions_against_their_folder(save: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(9):
        save(f"5_rex dog/{number}.png", DOT, caption=f"rex dog, pose {number}")
        save(f"5_mia cat/{number}.png", DOT, caption=f"mia cat, pose {number}")
        save(f"2_garden/{number}.png", DOT, caption=f"a meadow {number}")
    save("5_rex dog/wrong.png", DOT, caption="mia cat asleep")
    save("5_mia cat/silent.png", DOT, caption="asleep")
    report = quick(tmp_path, "caption_content")
    rows = report.issues.assign(name=[Path(p).name for p in report.issues["path"]]).set_index("name")
    assert rows["severity"].to_dict() == {"wrong.txt": "warning", "silent.txt": "hint", "2_garden": "hint"}


def test_layout_mistakes(save: Callable[..., Path], tmp_path: Path) -> None:
    save("img/10_dog/a.png", DOT)
    save("img/10_dog/more/b.png", DOT)
    save("img/loose.png", DOT)
    save("img/flowers/c.png", DOT)
    save("img/0_cat/d.png", DOT)
    save("img/3_/e.png", DOT)
    (tmp_path / "img" / "4_empty").mkdir()
    report = quick(tmp_path, "layout")
    names = dict(zip(report.issues["issue"], [Path(p).name for p in report.issues["path"]], strict=True))
    assert names == {
        "images_beside_subsets": "img",
        "no_repeat_count": "flowers",
        "nested_in_subset": "more",
        "empty_subset": "4_empty",
        "no_repeats": "0_cat",
        "no_subject": "3_",
    }
    assert report.images.set_index("path").loc[str(tmp_path / "img/flowers/c.png"), "repeats"] == 0


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    assert quick(tmp_path, "layout").issues["issue"].tolist() == ["no_images"]
    (tmp_path / "5_dog").mkdir()
    report = quick(tmp_path, "layout")
    assert set(report.issues["issue"]) == {"no_images", "empty_subset"}
    assert not report.ok


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot hold these names")
def test_names_that_another_system_refuses(save: Callable[..., Path], tmp_path: Path) -> None:
    for name in (
        "5_x/Photo.png",
        "5_x/photo.PNG",
        "5_x/con.png",
        "5_x/a:b.png",
        "5_x/end .png",
        "5_x/Mixed.Png",
        "5_x/e\u0301.png",
    ):
        save(name, DOT, format="PNG")
    save("5_x/\u00e9.png", DOT)
    save("5_x/twin.jpg", DOT)
    save("5_x/twin.png", DOT)
    report = quick(tmp_path, "names")
    assert found(report, "unsafe_name") == {"con.png", "a:b.png"}
    assert found(report, "name_collision") == {"photo.PNG", "\u00e9.png"}
    assert found(report, "same_stem") == {"twin.png"}
    assert found(report, "extension_case") == {"Mixed.Png"}


def test_balance_suggests_repeats(save: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(12):
        save(f"5_many/{number}.png", DOT)
    for number in range(3):
        save(f"5_few/{number}.png", DOT)
    report = quick(tmp_path, "balance")
    assert {Path(r.path).name: r.action for r in report.issues.itertuples()} == {
        "5_few": "repeats of 20 would even it: rename it to 20_few"  # 12 x 5 = 60 = 3 x 20
    }


def test_even_repeats() -> None:
    assert even_repeats([100, 50, 10], [1, 1, 1]) == [1, 2, 10]
    assert even_repeats([100, 50], [10, 10]) == [10, 20]
    assert even_repeats([1000, 3], [1, 1]) == [1, 333]


def test_tag_statistics(save: Callable[..., Path], tmp_path: Path) -> None:
    for name, text in {"a": "dog, park, sun", "b": "dog, park", "c": "dog, dog , sea", "d": "cat"}.items():
        save(f"{name}.png", DOT, caption=text)
    report = quick(tmp_path, "captions")
    table = tag_table(report.captions).set_index("tag")
    assert table["images"].to_dict() == {"dog": 3, "park": 2, "cat": 1, "sea": 1, "sun": 1}
    assert table.loc["dog", "share"] == 0.75
    together = co_occurrence(report.captions)
    assert together.loc["dog", "park"] == together.loc["park", "dog"] == 2
    assert together.loc["dog", "dog"] == 3
    assert together.loc["cat", "dog"] == 0
    lengths = report.caption_lengths().iloc[0]
    assert (lengths["captions"], lengths["different"], lengths["min_tags"], lengths["max_tags"]) == (4, 4, 1, 3)


def test_captions_that_say_nothing(save: Callable[..., Path], tmp_path: Path) -> None:
    said = {"commas": ", , ,", "unseen": "\u200b\ufeff\u2060", "dots": "...", "blank": " \n ", "later": ",\na cat"}
    for name, text in {**said, "good": "a cat", "face": ":3"}.items():
        save(f"5_dog/{name}.png", DOT, caption=text)
    report = quick(tmp_path, "captions")
    assert found(report, "empty_caption") == {f"{name}.txt" for name in said}


def test_what_is_not_plain_utf_8_is_named(save: Callable[..., Path], tmp_path: Path) -> None:
    said = {"mark": "utf-8-sig", "wide": "utf-16-le", "wider": "utf-32", "jis": "cp932", "gb": "gb18030", "ok": "utf-8"}
    for name, codec in said.items():
        save(f"5_dog/{name}.png", DOT)
        (tmp_path / "5_dog" / f"{name}.txt").write_bytes("女の子, 赤いドレス".encode(codec))
    save("5_dog/nul.png", DOT)
    (tmp_path / "5_dog" / "nul.txt").write_bytes(b"a cat\0\0")
    report = quick(tmp_path, "captions")
    assert found(report, "caption_mark") == {"mark.txt"}
    assert found(report, "caption_not_utf8") == {"wide.txt", "wider.txt", "jis.txt", "gb.txt", "nul.txt"}
    rows = report.issues.assign(name=[Path(path).name for path in report.issues["path"]]).set_index("name")["detail"]
    assert "UTF-16" in rows["wide.txt"]
    assert "UTF-32" in rows["wider.txt"]
    assert "Shift-JIS" in rows["jis.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows holds the two names as one")
def test_a_name_that_differs_unseen_is_one_finding_with_its_reason(save: Callable[..., Path], tmp_path: Path) -> None:
    nfd, nfc = (unicodedata.normalize(form, "müller") for form in ("NFD", "NFC"))
    for image, caption in {f"{nfd}.png": nfc, "Case.PNG": "case", "trail .png": "trail", "own.png": "own"}.items():
        save(f"5_dog/{image}", DOT, format="PNG")
        (tmp_path / "5_dog" / f"{caption}.txt").write_text("a man", encoding="utf-8")
    report = quick(tmp_path, "captions")
    assert found(report, "caption_misspelt") == {f"{nfd}.png", "Case.PNG", "trail .png"}
    assert set(report.issues["issue"]) == {"caption_misspelt"}
    rows = report.issues.assign(name=[Path(path).name for path in report.issues["path"]]).set_index("name")
    assert f"{nfc}.txt" in rows.loc[f"{nfd}.png", "detail"]
    assert "accents" in rows.loc[f"{nfd}.png", "detail"]
    assert f"{nfd}.txt" in rows.loc[f"{nfd}.png", "action"]


@pytest.mark.parametrize(("format", "name"), [("GIF", "a.png"), ("TIFF", "a.jpg"), ("JPEG2000", "a.jpg")])
def test_no_advice_leads_a_picture_out_of_the_training(
    save: Callable[..., Path], tmp_path: Path, format: str, name: str
) -> None:
    save(f"5_dog/{name}", DOT, format=format)
    report = audit_dataset(tmp_path, checks=("format",), workers=1)
    (action,) = report.issues[report.issues["issue"] == "extension_mismatch"]["action"]
    assert "it as PNG" in action
    assert "rename it" not in action


@pytest.mark.skipif(os.name == "nt", reason="Windows holds the two names as one")
def test_in_a_folder_of_regularisation_it_is_a_hint_and_not_passed_over(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    save("img/5_dog/a.png", DOT, caption="a dog")
    save("reg/1_dog/Case.png", DOT)
    (tmp_path / "reg/1_dog/case.txt").write_text("a dog", encoding="utf-8")
    save(f"reg/1_dog/{os.fsdecode(b'B' + bytes([0xE9]))}.png", DOT, format="PNG")
    (tmp_path / "reg/1_dog" / os.fsdecode(b"b\xe9.txt")).write_text("a dog", encoding="utf-8")
    report = quick(tmp_path, "captions")
    assert report.issues["issue"].tolist() == ["caption_misspelt"] * 2
    assert set(report.issues["severity"]) == {"hint"}
