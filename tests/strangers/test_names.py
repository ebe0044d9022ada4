"""What becomes part of a file's name is a name: check says it, and nothing is written anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.config.rules.file_names import PARTS_OF_NAMES
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.planning.make import make_plan

PATHS = (
    "../../.ssh/authorized_keys", "/etc/cron.d/x", "..", ".", "a/b", "..\\..\\x", "C:\\Windows\\x", "C:x",
    "\\\\server\\x", "a\nb", "a\0b", "a\rb", "x" * 201, "é" * 101,
)  # fmt: skip
NAMES = ("portrait", "last", "my lora v1.2", "..dots", "a..b", "größe", "猫", "x" * 200, ".txt", "-")


def told(**values: object) -> list[str]:
    plan = make_plan(TrainConfig().with_values(**values), Scan((), ()))
    return [problem.what.split()[0] for problem in plan.errors if problem.name == "name_is_a_path"]


@pytest.mark.parametrize("setting", PARTS_OF_NAMES)
@pytest.mark.parametrize("value", PATHS, ids=lambda value: ascii(value)[:20])
def test_a_path_is_refused(setting: str, value: str) -> None:
    assert told(**{setting: value}) == [setting]


@pytest.mark.parametrize("setting", PARTS_OF_NAMES)
@pytest.mark.parametrize("value", NAMES, ids=lambda value: ascii(value)[:20])
def test_a_name_passes(setting: str, value: str) -> None:
    assert told(**{setting: value}) == []


@pytest.mark.parametrize(
    "text", ["--output_name ../x", "--output_n=../x", "--log_prefix=/out/x", "--log_tracker_n ../x", "--caption_ext=/x"]
)
def test_free_text_is_no_way_around(text: str) -> None:
    plan = make_plan(TrainConfig().with_values(additional_parameters=text), Scan((), ()))
    assert [problem for problem in plan.errors if problem.name in ("name_is_a_path", "launch_word")]


def test_an_ending_in_a_dataset_toml(tmp_path: Path, picture: Callable[..., Path]) -> None:
    images = picture("dog/a.png").parent
    (tmp_path / "data.toml").write_text(
        f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{images}'\n"
        "caption_extension = '/../../../.ssh/id_rsa'\n", encoding="utf-8",
    )  # fmt: skip
    plan = make_plan(TrainConfig().with_values(dataset_config=str(tmp_path / "data.toml")))
    assert [p for p in plan.errors if p.name == "name_is_a_path" and "caption_extension" in p.what]


@pytest.mark.parametrize(("name", "refused"), [(".bashrc", True), ("a.log", False), ("new", False), ("link.log", True)])
def test_a_log_is_not_written_over_something_else(home: Path, name: str, refused: bool) -> None:
    (home / "a.log").write_text("an earlier log", encoding="utf-8")
    (home / "link.log").symlink_to(home / ".bashrc")
    plan = make_plan(TrainConfig().with_values(console_log_file=str(home / name)), Scan((), ()))
    assert any(problem.name == "log_file_written_over" for problem in plan.errors) is refused
