"""`kohyakit init` as a person uses it; the library's own tests are in tests/dataset/test_project.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.door import kohyakit as run

pytest.importorskip("PIL.Image")


def test_from_photos_to_a_config_that_check_accepts(picture, tmp_path: Path) -> None:
    for name in ("Strand 1.jpg", "Strand 2.jpg"):
        picture(f"Urlaub 2024/{name}", (120, 90))
    done = run("init", "Mein Hund", "--images", "Urlaub 2024", "--name", "sks Hund", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 images copied from Urlaub 2024" in done.stdout
    assert 'kohyakit check "' in done.stdout
    copies = (tmp_path / "Mein Hund/img/10_sks Hund").iterdir()
    assert sorted(path.name for path in copies) == ["Strand 1.jpg", "Strand 2.jpg"]
    assert len(list((tmp_path / "Urlaub 2024").iterdir())) == 2
    data = json.loads(run("check", "Mein Hund/config.toml", "--json", cwd=tmp_path).stdout)
    assert [row["name"] for row in data["findings"] if row["severity"] == "error"] == ["base_model_missing"]
    assert data["output_dir"] == (tmp_path / "Mein Hund/model").as_posix()


def test_as_data_and_regularisation(picture, tmp_path: Path) -> None:
    picture("photos/a.png")
    picture("dogs/r.png")
    done = run(
        "init", "p", "--images", "photos", "--reg", "dogs", "--name", "sks dog", "--repeats", 3, "--json", cwd=tmp_path
    )
    data = json.loads(done.stdout)
    assert data["copied"] == {"photos": 1, "dogs": 1}
    assert (tmp_path / "p/reg/1_dog/r.png").is_file()
    assert (tmp_path / "p/img/3_sks dog/a.png").is_file()


def test_wrong_use_says_everything_and_makes_nothing(tmp_path: Path) -> None:
    done = run("init", "p", "--images", "none", "--name", "a/b", cwd=tmp_path)
    assert done.returncode == 2
    assert "no such folder name" in done.stderr
    assert "none: the folder cannot be read" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_photos_it_says_what_to_do(tmp_path: Path) -> None:
    done = run("init", "p", cwd=tmp_path)
    assert done.returncode == 0
    assert "put photos into img/10_subject" in done.stdout
