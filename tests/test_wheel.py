"""What ships: a wheel, and a wheel built from the sdist, installed where nothing else of the project lies.

Each Python that is promised and at hand gets a fresh environment with the wheel and its three dependencies. With
KOHYAKIT_DEMO_OF_THE_WHEEL=1 it also gets `pip install WHEEL[all]`, which asks the package index, and runs the whole
demo: some minutes and 2 GB for each.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("click", "toml", "tomlkit")


def build(source: Path, target: str, into: Path) -> Path:
    """Build `source` as wheel or sdist without a network: with the hatchling that is installed here."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return next(into.glob("*.whl" if target == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def tracked(*folders: str) -> set[str]:
    """Files of the checkout below `folders`, with / on every system."""
    files = {p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()}
    return {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}


def test_the_wheel_holds_the_package_templates_dashboards_and_licences(wheel):
    inside = names(wheel)
    assert tracked("kohyakit") <= inside
    assert {f"kohyakit/_shared/{name}" for name in tracked("templates", "dashboards")} <= inside
    assert "kohyakit/py.typed" in inside
    licences = {name.partition("/licenses/")[2] for name in inside if "/licenses/" in name}
    assert licences == {"LICENSE", "kohyakit/assets/clip/LICENSE", "kohyakit/assets/clip/LICENSE-OPENAI"}


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kohyakit"}
    assert not [name for name in names(wheel) if name.endswith((".pyc", ".orig", "~"))]


def test_a_wheel_built_from_the_sdist_is_the_same(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py", "docs/training.md"):
        assert (folder / name).is_file(), f"{name} is missing in the sdist"
    for name in (".git", ".ci", "benchmarks", "kohyakit-demo", "tests/tools", "tools"):
        assert not (folder / name).exists(), f"{name} does not belong into the sdist"
    assert names(build(folder, "wheel", tmp_path / "again")) == names(wheel)


def fresh_environment(base: str, folder: Path, *, pip: bool = False) -> Path:
    """The Python of a new environment in `folder`, made by the Python `base`."""
    made = subprocess.run([base, "-m", "venv", *([] if pip else ["--without-pip"]), str(folder)], capture_output=True)
    assert made.returncode == 0, made.stderr
    scripts, exe = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return folder / scripts / exe


def put_in(wheel: Path, python: Path) -> None:
    """The wheel and its three dependencies, plain Python all of them, into an environment."""
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in DEPENDENCIES:
        origin = importlib.util.find_spec(name).origin
        shutil.copytree(Path(origin).parent, site / name)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a fresh environment that holds the wheel and its three dependencies, and nothing else."""
    python = fresh_environment(sys.executable, tmp_path_factory.mktemp("installed") / "v")
    put_in(wheel, python)
    return python


def at_hand(version: str) -> str:
    """A Python of this version: this one, one of the PATH, of Windows' launcher or of pyenv; "" where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    commands = [[sys.executable], [f"python{version}"], ["py", f"-{version}"]]
    commands += [[str(path)] for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    asked = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for command in commands:
        with contextlib.suppress(FileNotFoundError):
            said = subprocess.run([*command, "-c", asked], capture_output=True, text=True).stdout.split(maxsplit=1)
            if said[:1] == [version]:
                return said[1].strip()
    return ""


PROMISED = ("3.11", "3.12", "3.13")


@pytest.mark.parametrize("version", PROMISED)
def test_presets_check_and_captions_work_on_every_python_that_is_promised(wheel, version, picture, tmp_path):
    base = at_hand(version)
    if not base:
        pytest.skip(f"no Python {version} at hand")
    python = fresh_environment(base, tmp_path / "v")
    put_in(wheel, python)
    for i in range(3):
        picture(f"img/2_sks dog/{i}.png", (512, 512)).with_suffix(".txt").write_text("sks dog", encoding="utf-8")
    copied = kohyakit(python, tmp_path, "templates", "copy", "sd15-subject")
    assert copied.returncode == 0, copied.stderr
    checked = kohyakit(python, tmp_path, "check", "sd15-subject.toml", "--set", "train_data_dir=img")
    assert "3 images x 2" in checked.stdout, checked.stdout + checked.stderr
    assert "the base model does not exist" in checked.stdout or "model_missing" in checked.stdout
    assert checked.returncode == 1
    changed = kohyakit(python, tmp_path, "captions", "add", "img", "grass")
    assert (changed.returncode, changed.stderr) == (0, "")
    assert (tmp_path / "img/2_sks dog/0.txt").read_text(encoding="utf-8") == "sks dog, grass"
    assert kohyakit(python, tmp_path, "captions", "undo", "img").returncode == 0
    assert (tmp_path / "img/2_sks dog/0.txt").read_text(encoding="utf-8") == "sks dog"


@pytest.mark.skipif("KOHYAKIT_DEMO_OF_THE_WHEEL" not in os.environ, reason="asks the package index; see above")
@pytest.mark.parametrize("version", PROMISED)
def test_the_demo_of_the_wheel_on_every_python_that_is_promised(wheel, version, tmp_path):
    base = at_hand(version)
    if not base:
        pytest.skip(f"no Python {version} at hand")
    python = fresh_environment(base, tmp_path / "v", pip=True)
    asked = subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[all]"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    done = kohyakit(python, tmp_path, "demo", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done in" in done.stdout


def kohyakit(python: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(python), "-m", "kohyakit", *args], cwd=cwd, env=clean, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["--help"], "dashboard"),
        (["--version"], "kohyakit 0."),
        (["templates", "list"], "sd15-subject"),
        (["templates", "show", "sd15-subject"], "network_dim"),
        (["explain", "network_alpha"], "network_alpha"),
        (["schema"], '"network_dim"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_work_with_the_three_dependencies_alone(installed, tmp_path, args, shown):
    done = kohyakit(installed, tmp_path, *args)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize(
    ("args", "extra"),
    [(["audit", "img"], "audit"), (["dashboard"], "dashboard"),
     (["demo"], "all"), (["repair", "img"], "audit")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_needs_an_extra_names_it(installed, picture, tmp_path, args, extra):
    picture("img/2_sks dog/a.png", (512, 512))
    for part in ("unet", "text_encoder"):
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text("{}", encoding="utf-8")
    settings = "train_data_dir = 'img'\npretrained_model_name_or_path = 'base'\nnetwork_module = 'networks.lora'\n"
    settings += "resolution = '512,512'\noutput_dir = 'out'\nnetwork_dim = 8\nnetwork_alpha = 4\n"
    (tmp_path / "ready.toml").write_text(settings, encoding="utf-8")
    done = kohyakit(installed, tmp_path, *args)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(rf'needs the package \w+.*pip install "kohyakit\[({extra})\]"', done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"img", "base", "ready.toml"}, "what cannot go on leaves nothing behind"
