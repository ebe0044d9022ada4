"""Shared fixtures: the recordings of the real tools, where the sibling folder is there."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    import hypothesis
except ImportError:
    hypothesis = None  # type: ignore[assignment]  # its tests are skipped by name

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("KOHYAKIT_SHARED", ROOT.parent / "shared"))
MOST_WORKERS = 8  # each loads torch: about a gigabyte

# Read by torch when it is loaded, here and in the processes that tests start: with a worker on each core, threads of
# its own would only be in the others' way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of the processes that tests start would compile us anew
os.environ.pop("COLUMNS", None)  # a worker has 80, a shell may have anything: what is printed is printed as to a file

if hypothesis:
    # A busy machine is no reason to fail. CI takes five times as many examples, and the same ones each time.
    _PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("quick", **_PATIENT, max_examples=20)
    hypothesis.settings.register_profile(
        "full", **_PATIENT, max_examples=100, derandomize=True, database=None, print_blob=True
    )
    hypothesis.settings.load_profile("full" if os.environ.get("CI") else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite, and a round that -m or -k chooses from it, is shared by a worker on each core.

    What is named by its folder, file or name runs in this process, where a worker's start would take longer than it
    saves; `-n 4` and `-n 0` decide it otherwise.
    """
    options = config.option
    if "PYTEST_XDIST_WORKER" in os.environ or config.args_source is pytest.Config.ArgsSource.ARGS:
        return  # neither a worker nor what it starts has workers of its own
    if config.pluginmanager.hasplugin("xdist") and options.numprocesses is None:
        options.numprocesses, options.maxprocesses = "logical", options.maxprocesses or MOST_WORKERS
        options.dist = "worksteal"


def pytest_configure() -> None:
    """CI may not leave out what needs ../shared.

    A shell that starts tests in the background lets them ignore Ctrl-C, and nohup a terminal that hangs up; the tests
    of both need them heard, here and in the processes that they start.
    """
    if os.environ.get("CI") and not (SHARED / "goldens").is_dir():
        raise pytest.UsageError(f"CI needs the recordings in {SHARED}")
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without ../shared its tests are skipped by name."""
    if (SHARED / "goldens").is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason=f"needs the recordings in {SHARED}"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference/ and goldens/ (mark the test with `shared`)."""
    return SHARED


@pytest.fixture(scope="session")
def goldens(shared: Path) -> Path:
    """What the real tools did."""
    return shared / "goldens"


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """picture("img/10_dog/a.jpg", (64, 48), orientation=6): draws and saves an image below tmp_path."""
    image = pytest.importorskip("PIL.Image")

    def draw(name: str, size: tuple[int, int] = (64, 48), orientation: int = 1, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = image.Exif()
        if orientation != 1:
            exif[0x0112] = orientation
        canvas = image.frombytes("RGB", size, random.Random(0).randbytes(size[0] * size[1] * 3))
        canvas.save(path, exif=exif, **options)
        return path

    return draw
