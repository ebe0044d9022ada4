"""Repair: what it makes of each kind of photo, and that everything can be taken back, also after a kill."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
for _package in ("PIL", "pandas", "simplejpeg", "cv2"):
    pytest.importorskip(_package)
from click.testing import CliRunner
from PIL import Image, ImageCms, ImageOps

from kohyakit.audit.repair.journal import UNDO_FOLDER, runs
from kohyakit.audit.repair.plan import plan_repairs
from kohyakit.audit.repair.run import RepairOptions, repair_dataset, undo_repair
from kohyakit.errors import ConfigError, DatasetError


def photo(seed: int = 0, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Smooth ground with sharp shapes, so that turning it wrongly shows."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
    marks = np.asarray(ground).copy()
    marks[10:40, 10:90] = (250, 30, 20)
    marks[size[1] - 30 :, : size[0] // 3] = (10, 20, 240)
    return Image.fromarray(marks)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010F] = orientation, "Maker"
    found.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    return found


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of everything but the undo folder."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and UNDO_FOLDER not in path.relative_to(root).parts
    }


def names(root: Path) -> set[str]:
    return set(snapshot(root))


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder with one of each trouble, all with old times."""
    root = tmp_path / "10_dog"
    root.mkdir()
    photo(1).save(root / "fine.jpg", quality=92)
    photo(2).save(root / "turned.jpg", quality=90, exif=exif(6))
    photo(3, (321, 239)).save(root / "odd.jpg", quality=90, exif=exif(6))
    photo(4).save(root / "liar.jpg", format="PNG")
    photo(5).convert("CMYK").save(root / "print.jpg", quality=90)
    clear = photo(6).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(root / "clear.png")
    Image.fromarray(np.linspace(0, 65535, 240 * 320).astype(np.uint16).reshape(240, 320)).save(root / "deep.png")
    photo(7).quantize(32).save(root / "few.png")
    photo(8).save(root / "scan.tif")
    whole = io.BytesIO()
    photo(9).save(whole, "JPEG", quality=90)
    (root / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / "page.jpg").write_bytes(b"<!DOCTYPE html><html><body>403</body></html>")
    shutil.copy(root / "fine.jpg", root / "again.jpg")
    for path in list(root.iterdir()):
        path.with_suffix(".txt").write_text(f"caption of {path.stem}\r\n", encoding="utf-8", newline="")
    (root / "turned_0512x0512_sd.npz").write_bytes(b"latents of the picture on its side")
    for number, path in enumerate(sorted(root.iterdir())):
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    return tmp_path


def test_everything_is_mended_and_put_back(messy: Path) -> None:
    before = snapshot(messy)
    found = repair_dataset(messy, workers=1)
    assert found.problems == ()
    root = messy / "10_dog"
    assert {p.name for p in root.iterdir() if p.suffix not in (".txt", ".npz")} >= {"liar.png", "scan.png", "odd.jpg"}
    for name in ("page.jpg", "page.txt", "cut.jpg", "cut.txt"):
        assert (messy / "_quarantine" / "10_dog" / name).is_file(), name
        assert not (root / name).exists()
    kept = {"again", "fine"} - {p.stem for p in (messy / "_quarantine" / "10_dog").iterdir()}
    assert len(kept) == 1, "one of two copies stays"
    for path in root.glob("*.[jp][pn]g"):
        with Image.open(path) as image:
            image.load()
            assert image.mode in ("RGB", "L"), path.name
            assert image.getexif().get(0x0112, 1) == 1, path.name
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
        assert path.with_suffix(".txt").read_bytes() == f"caption of {path.stem}\r\n".encode()
    assert not (root / "turned_0512x0512_sd.npz").exists(), "latents of the picture on its side would be trained"
    assert repair_dataset(messy, workers=1).done == (), "a second run finds nothing to do"
    undone = undo_repair(messy)
    assert undone.problems == ()
    assert snapshot(messy) == before
    assert undo_repair(messy).folder is None


def test_a_dry_run_changes_nothing(messy: Path) -> None:
    before = snapshot(messy)
    found = repair_dataset(messy, dry_run=True, workers=1)
    assert {step.path.name for step, _ in found.done} == {
        "turned.jpg", "odd.jpg", "liar.jpg", "print.jpg", "clear.png", "deep.png", "few.png", "scan.tif", "cut.jpg",
        "page.jpg",
    } | ({"fine.jpg"} if any(step.path.name == "fine.jpg" for step, _ in found.done) else {"again.jpg"})  # fmt: skip
    assert snapshot(messy) == before
    assert not (messy / UNDO_FOLDER).exists()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_a_jpeg_is_turned_without_loss(tmp_path: Path, orientation: int, sampling: int) -> None:
    jpeglib = pytest.importorskip("jpeglib")
    path = tmp_path / "a.jpg"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo(orientation).save(path, quality=90, subsampling=sampling, exif=exif(orientation), icc_profile=profile)
    with Image.open(path) as image:
        meant = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    before = np.sort(np.abs(jpeglib.read_dct(os.fspath(path)).Y).ravel())
    found = repair_dataset(tmp_path, workers=1)
    assert found.done[0][1] == "turned without loss"
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert image.info["icc_profile"] == profile
    assert shown.shape == meant.shape
    assert np.abs(shown - meant).mean() < 0.5, "Pillow shows what it showed before, but for rounding"
    # the very same coefficients, in other places and with other signs
    assert np.array_equal(np.sort(np.abs(jpeglib.read_dct(os.fspath(path)).Y).ravel()), before)


@pytest.mark.parametrize("orientation", [2, 3, 6, 7, 8])
def test_a_jpeg_of_odd_size_is_saved_anew_with_its_tables(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    photo(orientation, (323, 237)).save(path, quality=88, exif=exif(orientation))
    with Image.open(path) as image:
        meant, tables = np.asarray(ImageOps.exif_transpose(image)).astype(int), image.quantization
    found = repair_dataset(tmp_path, workers=1)
    assert found.done[0][1].startswith("saved anew with its own quantisation tables")
    with Image.open(path) as image:
        assert image.quantization == tables
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "Maker"
        assert np.abs(np.asarray(image).astype(int) - meant).mean() < 2


@pytest.mark.parametrize(
    ("suffix", "options"), [(".png", {}), (".webp", {"lossless": True}), (".webp", {"quality": 90})]
)
def test_other_formats_are_turned(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    path = tmp_path / f"a{suffix}"
    photo(3).save(path, exif=exif(8), **options)
    with Image.open(path) as image:
        meant = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    repair_dataset(tmp_path, workers=1)
    with Image.open(path) as image:
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - meant).mean()
        assert image.getexif().get(0x0112, 1) == 1
    assert difference == 0 if "quality" not in options else difference < 3


def test_transparency_goes_on_the_background(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 255, 0, 255), (0, 0, 32, 64))
    image.save(tmp_path / "a.png")
    repair_dataset(tmp_path, options=RepairOptions(background="#0000ff"), workers=1)
    with Image.open(tmp_path / "a.png") as found:
        assert found.mode == "RGB"
        assert found.getpixel((5, 5)) == (0, 255, 0)
        assert found.getpixel((60, 5)) == (0, 0, 255)


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    values = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None], 64, axis=0)
    Image.fromarray(values).save(tmp_path / "a.png")
    repair_dataset(tmp_path, workers=1)
    with Image.open(tmp_path / "a.png") as found:
        assert np.abs(np.asarray(found.convert("L")).astype(int) - np.arange(256)).max() <= 1


def _still_or_not(frames: int) -> bytes:
    out = io.BytesIO()
    pictures = [photo(seed) for seed in range(frames)]
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:])
    return out.getvalue()


@pytest.mark.parametrize("modes", [True, False])
@pytest.mark.parametrize(("format", "ending"), [("GIF", ".gif"), ("TIFF", ".tif"), ("JPEG2000", ".jp2")])
def test_nothing_is_renamed_out_of_the_training(tmp_path: Path, format: str, ending: str, modes: bool) -> None:
    """Under a wrong name it is trained; under its right one it would not be."""
    from kohyakit.audit.run import audit_dataset
    from kohyakit.dataset.walk import list_folder

    photo(1).save(tmp_path / "a.png", format)
    issues = audit_dataset(tmp_path, checks=("format",), workers=0).issues
    (told,) = issues[issues["issue"] == "extension_mismatch"]["action"]
    assert told == f"save it as PNG, as kohyakit repair does; renamed to {ending} it would not be trained"
    found = repair_dataset(tmp_path, options=RepairOptions(modes=modes), workers=1)
    assert list_folder(tmp_path).taken() == ("a.png",)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == ("PNG" if modes else format)
    assert [problem.where for problem in found.problems] == ([] if modes else ["a.png"])


def test_an_animation_keeps_the_name_it_is_trained_under(tmp_path: Path) -> None:
    from kohyakit.audit.run import audit_dataset

    (tmp_path / "a.png").write_bytes(_still_or_not(3))
    issues = audit_dataset(tmp_path, checks=("format",), workers=0).issues
    (told,) = issues[issues["issue"] == "extension_mismatch"]["action"]
    assert told.startswith("save the frame you want as a PNG")
    found = repair_dataset(tmp_path, workers=1)
    assert found.done == ()
    assert names(tmp_path) == {"a.png"}
    assert "animated" in found.problems[0].what


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_tiff_that_lies_on_its_side_is_saved_upright(tmp_path: Path, orientation: int) -> None:
    photo(2).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    with Image.open(tmp_path / "a.tif") as image:
        meant = np.asarray(ImageOps.exif_transpose(image))
    repair_dataset(tmp_path, workers=1)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), meant)


def test_shrinking_is_asked_for(tmp_path: Path) -> None:
    photo(1, (800, 400)).save(tmp_path / "a.jpg", quality=90)
    assert repair_dataset(tmp_path, workers=1).done == ()
    repair_dataset(tmp_path, options=RepairOptions(shrink=200), workers=1)
    with Image.open(tmp_path / "a.jpg") as found:
        assert found.size == (200, 100)


def test_damage_is_saved_anew_on_request(messy: Path) -> None:
    repair_dataset(messy, options=RepairOptions(damaged="reencode"), workers=1)
    with Image.open(messy / "10_dog" / "cut.jpg") as found:
        found.load()
        assert found.size == (320, 240)


def test_a_caption_that_two_images_share_serves_both(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    photo(2).save(tmp_path / "a.jpg", format="PNG")
    (tmp_path / "a.txt").write_text("both", encoding="utf-8")
    repair_dataset(tmp_path, workers=1)
    assert names(tmp_path) == {"a.png", "a.txt", "a_2.png", "a_2.txt"}
    undo_repair(tmp_path)
    assert names(tmp_path) == {"a.png", "a.txt", "a.jpg"}


def test_a_shared_caption_stays_when_one_image_goes(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "a.txt").write_text("both", encoding="utf-8")
    repair_dataset(tmp_path, workers=1)
    assert names(tmp_path) == {"a.png", "a.txt", "_quarantine/a.jpg"}


def test_what_stands_in_the_way_is_told_and_not_lost(messy: Path) -> None:
    repair_dataset(messy, workers=1)
    (messy / "10_dog" / "cut.jpg").write_bytes(b"a new photo of the same name")
    undone = undo_repair(messy)
    assert [Path(problem.where).name for problem in undone.problems] == ["cut.jpg"]
    assert (messy / "10_dog" / "cut.jpg").read_bytes() == b"a new photo of the same name"
    (messy / "10_dog" / "cut.jpg").unlink()
    assert undo_repair(messy).problems == ()
    assert (messy / "10_dog" / "cut.jpg").stat().st_size > 1000


def test_an_edit_after_the_repair_is_kept_aside_and_told(messy: Path) -> None:
    before = snapshot(messy)
    repair_dataset(messy, workers=1)
    (messy / "10_dog" / "turned.jpg").write_bytes(b"edited since")
    undone = undo_repair(messy)
    assert undone.problems == ()
    assert snapshot(messy) == before
    (told,) = undone.edited
    assert Path(told.where) == messy / "10_dog" / "turned.jpg"
    (kept,) = [path for path in (messy / UNDO_FOLDER).rglob("*turned.jpg") if path.read_bytes() == b"edited since"]
    assert str(kept) in told.what


def test_the_command_tells_of_edits(tmp_path: Path) -> None:
    from kohyakit.cli.repair import repair

    photo(1).save(tmp_path / "a.jpg", quality=90, exif=exif(6))
    photo(2).save(tmp_path / "b.jpg", quality=90, exif=exif(6))
    repair_dataset(tmp_path, workers=1)
    (tmp_path / "a.jpg").write_bytes(b"edited since")
    undone = CliRunner().invoke(repair, [str(tmp_path), "--undo"])
    assert undone.exit_code == 0
    assert "a.jpg: was changed after the repair" in undone.stdout.replace("\n", " ")
    assert "b.jpg" not in undone.stdout


# Kills itself at the given rename, before it (even numbers) or after it (odd ones); 10000 + n tears journal line n.
_KILLED = """
import os, pickle, signal, sys
from kohyakit.audit.repair import journal, run as repair
plan, options, point = pickle.load(open(sys.argv[1], "rb"))
count = 0
rename, write = os.rename, journal.Journal._write
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def counted(source, target):
    global count
    if count == point: die()
    rename(source, target)
    count += 1
    if count == point: die()
    count += 1
def torn(self, record):
    global lines
    lines += 1
    if lines == point - 10000:
        with open(self.folder / "journal.jsonl", "ab") as stream:
            stream.write(b'{"event": "step", "moves": [{"sour'); stream.flush()
        die()
    write(self, record)
lines = 0
os.rename, journal.Journal._write = counted, torn
with repair._alone(plan.root):
    repair._carry_out(plan, options, None, False)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
@pytest.mark.parametrize("then", ["undo", "go on"])
@pytest.mark.parametrize("point", [0, 1, 2, 3, 4, 5, 8, 11, 14, 17, 20, 23, 10001, 10002, 10005])
def test_killed_anywhere_it_goes_on_or_is_undone(messy: Path, tmp_path_factory, point: int, then: str) -> None:
    from kohyakit.audit.repair.run import _audit

    before = snapshot(messy)
    options = RepairOptions()
    plan = plan_repairs(_audit(messy, options, 1, False), options)
    script = tmp_path_factory.mktemp("killed") / "run.py"
    script.write_text(_KILLED, encoding="utf-8")
    script.with_suffix(".pkl").write_bytes(pickle.dumps((plan, options, point)))
    ended = subprocess.run(
        [sys.executable, script, script.with_suffix(".pkl")], cwd=Path(__file__).parents[2], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    if then == "go on":
        repair_dataset(messy, workers=1)
        assert (messy / "10_dog" / "liar.png").is_file()
        assert (messy / "_quarantine" / "10_dog" / "page.jpg").is_file()
        assert repair_dataset(messy, workers=1).done == ()
    while undo_repair(messy).folder is not None:
        pass
    assert snapshot(messy) == before
    assert all(journal.state == "undone" for journal in runs(messy))


def test_two_repairs_at_once_are_refused(messy: Path) -> None:
    from kohyakit.audit.repair.run import _alone

    with _alone(messy), pytest.raises(DatasetError, match="another repair is at work"):
        repair_dataset(messy, workers=1)
    assert not (messy / UNDO_FOLDER).exists()


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RepairOptions(damaged="burn", duplicates="all", shrink=3, background="plaid")
    assert len(caught.value.problems) == 4


def test_the_command(messy: Path) -> None:
    from kohyakit.cli.repair import repair

    run = CliRunner().invoke
    before = snapshot(messy)
    planned = run(repair, [str(messy), "--dry-run", "--json", "--workers", "1"])
    assert planned.exit_code == 1
    assert {step["path"] for step in json.loads(planned.stdout)["steps"]} >= {"10_dog/turned.jpg", "10_dog/page.jpg"}
    made = run(repair, [str(messy), "--workers", "1"])
    assert made.exit_code == 0, made.output
    assert "10_dog/liar.jpg -> 10_dog/liar.png: is PNG inside, not .jpg" in made.stdout
    assert "--undo" in made.stdout
    assert run(repair, [str(messy), "--undo"]).exit_code == 0
    assert snapshot(messy) == before
    assert run(repair, [str(messy), "--undo"]).exit_code == 1
    assert run(repair, [str(messy), "--shrink", "x"]).exit_code == 2
