"""`kohyakit captions`: each change is shown, done, listed and taken back; the dashboard's history is the same one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from kohyakit.cli import group
from kohyakit.dataset.editing import captions as edit

CAPTIONS = {"10_dog/a": "sks dog, grass", "10_dog/b": "sks dog, Grass, grass", "3_town/c": "church,  sky"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "img"
    for name, text in CAPTIONS.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        Image.new("RGB", (64, 48), (ord(name[-1]), 9, 200)).save(path.with_suffix(".png"))
    return folder


def run(*arguments, code: int = 0) -> str:
    result = CliRunner().invoke(group, ["captions", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def words(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.txt")}
    return {name: path.read_bytes().decode("utf-8", "replace") for name, path in files.items()}


CHANGES = [
    (["replace", "grass", "lawn"], {"10_dog/a": "sks dog, lawn", "10_dog/b": "sks dog, Grass, lawn"}),
    (["replace", "grass", "lawn", "--tag"], {"10_dog/a": "sks dog, lawn", "10_dog/b": "sks dog, lawn, lawn"}),
    (["replace", r"(\w+) dog", r"dog \1", "--regex", "--file", "a.*"], {"10_dog/a": "dog sks, grass"}),
    (["add", "fog", "--where", "church & !trees"], {"3_town/c": "church, sky, fog"}),
    (["add", "fog", "--first", "--subset", "town"], {"3_town/c": "fog, church, sky"}),
    (["add", "fog", "--after", "church"], {"3_town/c": "church, fog, sky"}),
    (["remove", "gr*"], {"10_dog/a": "sks dog", "10_dog/b": "sks dog"}),
    (["remove", "--at", "1", "--subset", "3_town"], {"3_town/c": "sky"}),
    (["rename-tag", "SKY", "overcast sky"], {"3_town/c": "church, overcast sky"}),
    (["sort", "--by", "frequent"], {"10_dog/a": "grass, sks dog", "10_dog/b": "Grass, grass, sks dog"}),
    (["sort", "--keep-tokens", "1"], {}),
    (["dedupe"], {"10_dog/b": "sks dog, Grass"}),
    (["trim"], {"3_town/c": "church, sky"}),
    (["trim", "--tags", "1", "--file", "3_town/*"], {"3_town/c": "church"}),
    (["case", "lower"], {"10_dog/b": "sks dog, grass, grass"}),
    (["template", "{class}: {caption}", "--subset", "town"], {"3_town/c": "town: church,  sky"}),
    (["encode", "--bom", "--subset", "town"], {"3_town/c": "\ufeffchurch,  sky"}),
]


@pytest.mark.parametrize(("arguments", "changed"), CHANGES, ids=[" ".join(case[0]) for case in CHANGES])
def test_a_change_is_shown_done_and_taken_back(photos: Path, arguments: list[str], changed: dict[str, str]) -> None:
    command, *rest = arguments
    said = run(command, photos, *rest, "--dry-run")
    assert words(photos) == CAPTIONS
    assert (f"{len(changed)} caption" in said) if changed else ("No caption of" in said)
    run(command, photos, *rest)
    assert words(photos) == CAPTIONS | changed
    if changed:
        for name, after in changed.items():
            assert f"{name}.txt\n  - {CAPTIONS[name]}\n  + {after}".replace("\ufeff", "") in said.replace("\ufeff", "")
        run("undo", photos)
    assert words(photos) == CAPTIONS


def test_one_history_with_every_editor(photos: Path) -> None:
    edit.apply(photos, edit.proposed(edit.caption_files(photos), edit.add_tag("fog")), "tag 'fog' added")
    run("dedupe", photos)
    run("undo", photos, "1", code=1)  # b was changed since, so it is left and named
    assert words(photos) == CAPTIONS | {"10_dog/b": "sks dog, Grass, fog"}
    steps = json.loads(run("history", photos, "--json"))
    assert [(one["step"], one["what"], one["captions"], one["undoes"]) for one in steps] == [
        (1, "tag 'fog' added", 3, None), (2, "doubled tags removed", 1, None), (3, "undo: tag 'fog' added", 2, 1),
    ]  # fmt: skip
    assert [change.id for change in edit.history(photos)] == [one["id"] for one in steps]
    assert "takes back step 1" in run("history", photos)
    (one,) = json.loads(run("diff", photos, "2", "--json"))["edits"]
    assert (one["before"], one["after"]) == ("sks dog, Grass, grass, fog", "sks dog, Grass, fog")


def test_undo_can_be_seen_first_and_is_a_step_itself(photos: Path) -> None:
    run("add", photos, "fog")
    changed = words(photos)
    assert "  - sks dog, grass, fog\n  + sks dog, grass\n" in run("undo", photos, "--dry-run")
    assert words(photos) == changed
    run("undo", photos)
    assert words(photos) == CAPTIONS
    assert "taken back already" in run("undo", photos, "1")
    run("undo", photos, "2")
    assert words(photos) == changed


def test_what_cannot_be_edited_is_named_and_the_rest_done(photos: Path) -> None:
    (photos / "10_dog" / "a.txt").write_bytes("café über".encode("latin-1"))
    said = run("add", photos, "fog", code=1)
    assert "left as it is: a.txt: is Windows-1252, not UTF-8" in said
    assert "2 captions of 3 changed" in said
    run("encode", photos)
    assert words(photos)["10_dog/a"] == "café über"


def test_find(photos: Path) -> None:
    assert run("find", photos, "grass").splitlines() == [
        "10_dog/a.txt: sks dog, grass", "10_dog/b.txt: sks dog, Grass, grass", "2 captions",
    ]  # fmt: skip
    assert [one["image"] for one in json.loads(run("find", photos, "--where", "!grass", "--json"))] == ["3_town/c.png"]
    assert "1 caption" in run("find", photos, "^church", "--regex")
    assert "0 captions" in run("find", photos, "gras", "--tag")


def test_only_what_the_audit_names(photos: Path) -> None:
    pytest.importorskip("cv2")
    (photos / "3_town" / "d.png").write_bytes((photos / "3_town" / "c.png").read_bytes())
    (photos / "3_town" / "d.txt").write_text("copy", encoding="utf-8")
    assert run("find", photos, "--finding", "exact_duplicate").splitlines() == [
        "3_town/c.txt: church,  sky", "3_town/d.txt: copy", "2 captions",
    ]  # fmt: skip
    result = CliRunner().invoke(group, ["captions", "find", str(photos), "--finding", "exact_duplicat"])
    assert "did you mean 'exact_duplicate'" in str(result.exception)


def test_stats(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    said = run("stats", photos, "--csv", tmp_path / "t.csv", "--html", tmp_path / "t.html")
    assert "3 captions, 5 different tags" in said
    assert "sks dog" in (tmp_path / "t.html").read_text(encoding="utf-8")
    assert (tmp_path / "t-same.csv").is_file()
    assert json.loads(run("stats", photos, "--json", "--subset", "town"))["tags"][0]["weighted"] == 3
    result = CliRunner().invoke(group, ["captions", "stats", str(photos), "--html", str(tmp_path / "none" / "t.html")])
    assert "cannot be written" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [["stats", "none"], ["find", "none", "x"], ["add", "none", "x"], ["undo", "none"], ["diff", "."],
     ["add", "img", "x", "--where", "a &"], ["add", "img", "x", "--subset", "no"],
     ["replace", "img", "(", "x", "--regex"],
     ["template", "img", "{what}"], ["remove", "img"], ["encode", "img", "--from", "utf-9"], ["undo", "img", "3"]],
)  # fmt: skip
def test_wrong_use_is_a_sentence(photos: Path, monkeypatch, arguments: list[str]) -> None:
    monkeypatch.chdir(photos.parent)
    result = CliRunner().invoke(group, ["captions", *arguments])
    assert getattr(result.exception, "exit_code", None) == 2, result.output
    assert "; " in str(result.exception)
    assert words(photos) == CAPTIONS
