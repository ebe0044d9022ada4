"""The whole audit: frames, files, exit codes, workers that die, hang or are interrupted, hostile files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from kohyakit.audit.check import Check, Issue, Picture, Threshold
from kohyakit.audit.look.facts import Task
from kohyakit.audit.look.pool import open_all
from kohyakit.audit.run import audit_dataset
from kohyakit.cli.audit import audit
from kohyakit.errors import ConfigError
from kohyakit.registry import CHECKS

from .conftest import found, scene

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = tuple(CHECKS)


@pytest.fixture
def project(save: Callable[..., Path], tmp_path: Path) -> Path:
    """A project with a pair of each kind of duplicate, and a set of captions."""
    for number in range(4):
        save(f"img/10_sks dog/{number}.jpg", scene(number), caption=f"sks dog, number {number}")
    save("img/10_sks dog/copy of 1.jpg", (tmp_path / "img/10_sks dog/1.jpg").read_bytes())
    save("img/2_cat/small.jpg", scene(2).resize((320, 240)), caption="cat")
    save("img/2_cat/mirror.jpg", ImageOps.mirror(scene(3)), caption="cat", quality=30)
    exif = Image.Exif()
    exif[0x0112] = 8
    save("img/2_cat/turned.png", scene(0).transpose(Image.Transpose.ROTATE_270), caption="cat", exif=exif)
    save("reg/1_dog/r.jpg", scene(1))
    save("reg/1_dog/other.jpg", scene(99))
    return tmp_path


def test_frames_that_a_stranger_can_use(project: Path) -> None:
    report = audit_dataset(project, workers=0)
    assert len(report.images) == 10
    row = report.images.set_index("path").loc[str(project / "img/2_cat/turned.png")]
    assert (row["subset"], row["repeats"], row["format"], row["mode"]) == ("img/2_cat", 2, "PNG", "RGB")
    assert (row["width"], row["height"], row["shown_width"], row["shown_height"]) == (480, 640, 640, 480)
    assert row["orientation"] == 8
    assert row["tokens"] == 1
    assert list(report.issues.columns) == ["path", "issue", "severity", "detail", "action", "group"]
    ranks = report.issues["severity"].map({"error": 0, "warning": 1, "hint": 2})
    assert ranks.is_monotonic_increasing
    assert report.summary.set_index("issue").loc["exact_duplicate", "count"] == 3
    table = report.subsets.set_index("subset")
    assert table["samples"].to_dict() == {"img/10_sks dog": 50, "img/2_cat": 6, "reg/1_dog": 2}
    assert table.loc["reg/1_dog", "is_reg"]
    assert (report.captions["caption"] == "cat").sum() == 3


def test_duplicates_by_kind_and_across_subsets(project: Path) -> None:
    report = audit_dataset(project, checks=("exact_duplicate", "near_duplicate"), workers=0)
    groups = {frozenset(Path(path).name for path in members) for members in report.groups().values()}
    assert groups == {
        frozenset({"1.jpg", "copy of 1.jpg", "r.jpg"}),
        frozenset({"0.jpg", "turned.png"}),
        frozenset({"2.jpg", "small.jpg"}),
        frozenset({"3.jpg", "mirror.jpg"}),
    }
    assert found(report, "duplicate_in_regularisation") == {"r.jpg"}
    assert found(report, "duplicate_across_subsets") == {"small.jpg", "mirror.jpg", "turned.png"}
    details = {Path(r.path).name: r.detail for r in report.issues.itertuples() if r.issue == "near_duplicate"}
    assert "mirrored" in details["mirror.jpg"]
    assert "320x240" in details["small.jpg"]
    kept = report.issues[(report.issues["issue"] == "near_duplicate") & (report.issues["severity"] == "hint")]
    assert len(kept) == report.issues.loc[report.issues["issue"] == "near_duplicate", "group"].nunique()


def faded(picture: Image.Image, by: float) -> Image.Image:
    """As of a print that lay in the sun: every grey level nearer to a light one."""
    return Image.blend(picture, Image.new("RGB", picture.size, (205, 205, 200)), by)


@pytest.mark.parametrize("checks", [("near_duplicate",), None])
def test_the_worse_copy_is_not_the_one_to_keep(save: Callable[..., Path], checks: tuple[str, ...] | None) -> None:
    """Of each pair the first is the picture as it was; its copy is spoiled, and often the larger file."""
    pictures = [scene(seed) for seed in range(5)]
    for number, picture in enumerate(pictures):
        save(f"{number}_good.jpg", picture, quality=85)
    save("0_bad.jpg", faded(pictures[0], 0.45), quality=100)
    save("1_bad.jpg", pictures[1].convert("L"), quality=100)
    save("2_bad.jpg", pictures[2].resize((320, 240)), quality=100)
    save("3_bad.jpg", faded(pictures[3].resize((800, 600), Image.BICUBIC), 0.4), quality=100)
    whole = save("4_bad.jpg", pictures[4], quality=99)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 4 // 5])
    report = audit_dataset(whole.parent, **({"checks": checks} if checks else {}), workers=0)
    kept = {Path(members[0]).name for name, members in report.groups().items() if name.startswith("near")}
    assert kept == {f"{number}_good.jpg" for number in range(5)}


def test_a_copy_of_twice_the_size_is_kept_though_paler(save: Callable[..., Path]) -> None:
    large = scene(3, (1200, 900))
    save("small.jpg", large.resize((400, 300)), quality=95)
    path = save("large.jpg", faded(large, 0.3), quality=90)
    report = audit_dataset(path.parent, checks=("near_duplicate",), workers=0)
    assert [Path(member).name for member in report.groups()["near-1"]] == ["large.jpg", "small.jpg"]


def test_flat_pictures_are_no_near_duplicates_of_each_other(save: Callable[..., Path]) -> None:
    for number, colour in enumerate(("black", "white", "grey", "navy")):
        path = save(f"{number}.png", Image.new("RGB", (500, 400), colour))
    assert audit_dataset(path.parent, checks=("near_duplicate",), workers=0).issues.empty


def test_a_burst_that_dominates_a_subset(save: Callable[..., Path], tmp_path: Path) -> None:
    base = np.asarray(scene(50), float)
    for number in range(6):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2024:06:01 10:00:{number:02d}"
        moved = np.roll(base, number * 12, axis=1)
        save(f"5_dog/shot{number}.jpg", Image.fromarray(moved.astype(np.uint8)), exif=exif)
        save(f"5_dog/other{number}.jpg", scene(60 + number))
    report = audit_dataset(tmp_path, checks=("burst",), workers=0)
    assert found(report, "burst") == {f"shot{number}.jpg" for number in range(6)}
    assert report.issues["group"].nunique() == 1
    assert report.issues["severity"].unique().tolist() == ["warning"]  # 6 of 12


def test_workers_find_the_same_as_one_process(project: Path) -> None:
    here = audit_dataset(project, workers=0)
    there = audit_dataset(project, workers=2)
    pd.testing.assert_frame_equal(here.images, there.images)
    pd.testing.assert_frame_equal(here.issues, there.issues)


def test_quick_opens_no_pixels_but_knows_sizes_and_captions(project: Path) -> None:
    full, quick = audit_dataset(project, workers=0), audit_dataset(project, workers=0, quick=True)
    for column in ("path", "format", "width", "height", "orientation", "bucket", "caption", "tokens", "cropped"):
        assert quick.images[column].tolist() == full.images[column].tolist(), column
    assert not {"near_duplicate", "exact_duplicate", "blurred"} & set(quick.issues["issue"])


def test_progress_is_told_to_a_callback(project: Path) -> None:
    steps: list[tuple[int, int]] = []
    audit_dataset(project, workers=0, checks=("layout",), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 10) for n in range(1, 11)]


def measure_colour(picture: Picture) -> Mapping[str, float]:
    return {"redness": float(picture.rgb[..., 0].mean() - picture.rgb[..., 1:].mean())}


def test_a_check_of_ones_own(save: Callable[..., Path]) -> None:
    save("red.png", Image.new("RGB", (64, 64), "red"))
    folder = save("blue.png", Image.new("RGB", (64, 64), "blue")).parent
    mine = Check(
        issues={"too_red": "too red"},
        measure=measure_colour,
        scores={"redness": "red over green and blue"},
        thresholds=(Threshold("most_red", 100, "redness above which it is too red"),),
        judge=lambda survey: [
            Issue(row.path, "too_red", "hint", f"{row.redness:.0f}", "less red")
            for row in survey.images.itertuples()
            if row.redness > survey.limit("most_red")
        ],
    )
    report = audit_dataset(folder, checks=["layout", mine], workers=0)
    assert found(report, "too_red") == {"red.png"}
    assert report.images.set_index("path")["redness"].round().tolist() == [-128, 255]


def test_wrong_names_are_all_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        audit_dataset(tmp_path, checks=("blur",), thresholds={"blur_sharpnes": 1, "blur_sharpness": "x", "zzz": 2})
    assert caught.value.problems[0].cure == "did you mean 'blur_sharpness'?"
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="did you mean 'near_duplicate'"):
        audit_dataset(tmp_path, checks=("near_duplicates",))


# --- workers ---


def dies_on_three(picture: Picture) -> Mapping[str, float]:
    if picture.rgb.shape[0] == 3:
        os._exit(11)
    return {"height": float(picture.rgb.shape[0])}


def sleeps_on_three(picture: Picture) -> Mapping[str, float]:
    if picture.rgb.shape[0] == 3:
        time.sleep(60)
    return {"height": float(picture.rgb.shape[0])}


@pytest.fixture
def importable(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that workers can import, with the two measures above."""
    folder = tmp_path_factory.mktemp("module")
    source = Path(__file__).read_text(encoding="utf-8")
    start, end = source.index("def dies_on_three"), source.index("@pytest.fixture\ndef importable")
    head = "import os, time\nfrom collections.abc import Mapping\nPicture = object\n"
    (folder / "naughty_measures.py").write_text(head + source[start:end], encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def tasks(save: Callable[..., Path], heights: list[int]) -> list[Task]:
    return [Task(n, str(save(f"{n}.png", Image.new("RGB", (5, h)))), "") for n, h in enumerate(heights)]


def test_a_file_that_kills_the_decoder_is_named_and_the_others_are_opened(
    save: Callable[..., Path], importable: Path
) -> None:
    import naughty_measures

    some = tasks(save, [1, 2, 3, 4, 3, 5, 6, 7, 8, 9])
    rows = {o.number: o for o in open_all(some, [naughty_measures.dies_on_three], workers=2)}
    assert sorted(rows) == list(range(10))
    assert [n for n, o in sorted(rows.items()) if not o.scores] == [2, 4]
    assert "makes the decoder crash" in rows[2].facts


def test_a_file_that_hangs_is_given_up(save: Callable[..., Path], importable: Path) -> None:
    """The files before fill a batch, so that the worker has answered: before its first answer it has a minute more."""
    import naughty_measures

    some = tasks(save, [1] * 8 + [1, 3, 4])
    rows = {o.number: o for o in open_all(some, [naughty_measures.sleeps_on_three], workers=1, deadline=2)}
    assert [n for n, o in sorted(rows.items()) if not o.scores] == [9]
    assert any("took longer than" in str(fact) for fact in rows[9].facts)


def test_a_measure_that_fails_is_a_row_not_a_traceback(save: Callable[..., Path]) -> None:
    def fails(picture: Picture) -> Mapping[str, float]:
        raise ValueError("no such colour")

    (row,) = open_all(tasks(save, [4]), [fails], workers=0)
    assert "could not be examined (ValueError: no such colour)" in row.facts


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_ends_at_once_and_leaves_no_process(save: Callable[..., Path], importable: Path) -> None:
    for number in range(6):
        save(f"{number}.png", Image.new("RGB", (5, 3)))
        path = save(f"{number}b.png", Image.new("RGB", (5, 4)))
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import naughty_measures as m\n"
        "from pathlib import Path\n"
        "from kohyakit.audit.look.pool import open_all; from kohyakit.audit.look.facts import Task\n"
        "some = [Task(n, str(p), '') for n, p in enumerate(sorted(Path(sys.argv[3]).glob('*.png')))]\n"
        "print('go', flush=True)\n"
        "for opened in open_all(some, [m.sleeps_on_three], workers=2): print(opened.number, flush=True)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), str(importable), str(path.parent)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert started.stdout.readline() == b"go\n"
    time.sleep(2)
    begun = time.monotonic()
    os.kill(started.pid, signal.SIGINT)
    _, complaint = started.communicate(timeout=20)
    assert time.monotonic() - begun < 10
    assert b"KeyboardInterrupt" in complaint
    with pytest.raises(ProcessLookupError):  # the group is empty: no worker is left
        os.killpg(started.pid, 0)


def test_a_script_without_a_main_guard_works(project: Path) -> None:
    script = project / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport kohyakit\n"
        f"report = kohyakit.audit_dataset({str(project / 'img')!r}, checks=('near_duplicate',), workers=2)\n"
        "print(len(report.images))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr


# --- the command ---


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(audit, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


def test_exit_codes(save: Callable[..., Path], tmp_path: Path) -> None:
    folder = save("clean/a.png", scene(1, (800, 640))).parent
    assert run(folder, "--workers", 0, "--check", "blur")[0] == 0
    assert run(folder, "--workers", 0, "--check", "blur", "--threshold", "blur_sharpness=99")[0] == 1


def test_json_is_one_object(project: Path) -> None:
    code, out = run(project, "--json", "--workers", 0, "--what-if", "512,768", *checks_of(OURS))
    data = json.loads(out)
    assert set(data) == {"images", "issues", "summary"}
    assert code == 1
    assert len(data["images"]) == data["summary"]["images"] == 10
    assert {"path", "issue", "severity", "detail", "action"} <= set(data["issues"][0])
    assert all(row["group"] for row in data["issues"] if row["issue"].endswith("duplicate"))
    assert [row["resolution"] for row in data["summary"]["what_if"]] == ["512x512", "768x768"]
    assert data["summary"]["ok"] is False


def test_csv_and_parquet_hold_the_frames(project: Path, tmp_path: Path) -> None:
    run(project, "--csv", tmp_path / "t.csv", "--parquet", tmp_path / "t.parquet", "--workers", 0, *checks_of(OURS))
    images, issues = pd.read_parquet(tmp_path / "t.parquet"), pd.read_parquet(tmp_path / "t.issues.parquet")
    assert len(images) == 10
    assert len(issues) == len(pd.read_csv(tmp_path / "t.issues.csv"))
    assert pd.read_csv(tmp_path / "t.csv")["path"].tolist() == images["path"].tolist()


def checks_of(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--check", name)]


def test_the_terminal_table_fits_80_columns_worst_first(project: Path) -> None:
    (project / "img/2_cat/small.txt").write_bytes(b"\xff\xfe")
    _, out = run(project, "--workers", 0, "--all", *checks_of(OURS))
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert out.index("caption_not_utf8") < out.index("near_duplicate")
    assert lines[-1].startswith("1 error, ")


def test_files_that_cannot_be_written_are_told_before_anything_is_opened(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kohyakit.audit import run as audit_run
    from kohyakit.errors import ConfigError

    monkeypatch.setattr(audit_run, "find_tree", lambda *_: pytest.fail("the pictures were looked at"))
    with pytest.raises(ConfigError) as refused:
        run(project, "--html", tmp_path / "nowhere" / "r.html", "--csv", tmp_path)
    assert [problem.what for problem in refused.value.problems] == [
        "its folder does not exist",
        "is a folder, but a file is to be written",
    ]


def test_a_file_that_cannot_be_written_after_all_is_one_sentence(project: Path, tmp_path: Path) -> None:
    from kohyakit.errors import KohyakitError

    with pytest.raises(KohyakitError, match="cannot be written"):
        run(project, "--html", tmp_path / ("x" * 300 + ".html"), "--workers", 0, "--check", "layout")


def test_list_checks_names_every_threshold() -> None:
    code, out = run("--list-checks")
    assert code == 0
    for name in CHECKS:
        for threshold in CHECKS.load(name).thresholds:
            assert f"{threshold.name}={threshold.default:g}" in out


def test_thresholds_from_a_file_and_above_it(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text("blur_sharpness = 99\n", encoding="utf-8")
    code, _ = run(project, "--thresholds", file, "--check", "blur", "--workers", 0)
    assert code == 1
    code, _ = run(project, "--thresholds", file, "--threshold", "blur_sharpness=0", "--check", "blur", "--workers", 0)
    assert code == 0
