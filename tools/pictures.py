"""The README's pictures, taken from the demo's project by a headless Chromium, in light and in dark.

    kohyakit demo && python -m tools.pictures kohyakit-demo docs/pictures

Nothing in them is drawn by hand: the report of `kohyakit audit --html`, the dashboard's pages and the demo's own sheet
of samples, as the demo left them.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from kohyakit.demo.sheet import write_sheet
from kohyakit.runs.registry import list_runs

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
QUALITY = 78
SHARPNESS = 1.25  # pixels of a picture for one of the page
# name -> address below the dashboard's, what must stand there before the picture is taken, width and height
PAGES = {
    "curves": ("compare?runs=1a,1b", "[data-testid=stEChartsChart] canvas", (1240, 850)),
    "samples": ("samples?runs=1a,1b", "[data-testid=stMain] img", (790, 840)),
}
BUSY = "[data-testid=stSkeleton], [data-testid=stStatusWidget], [data-stale=true]"


@contextmanager
def dashboard(project: Path) -> Iterator[str]:
    """The address of a dashboard on the project."""
    command = [sys.executable, "-m", "kohyakit", "dashboard", str(project), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if not found:
            raise SystemExit("the dashboard did not start")
        try:
            yield found.group()
        finally:
            process.terminate()


def take(page: Any, address: str, awaited: str, path: Path) -> None:
    """Wait until the page stands still for three seconds, then keep what is seen of it."""
    page.goto(address)
    page.locator(awaited).first.wait_for()
    before, same = b"", 0
    for _ in range(120):
        page.wait_for_timeout(1000)
        seen: bytes = page.screenshot()
        same = same + 1 if seen == before and not page.locator(BUSY).count() else 0
        before = seen
        if same == 3:
            break
    with Image.open(io.BytesIO(seen)) as picture:
        picture.convert("RGB").save(path, quality=QUALITY, method=6)


def take_all(browser: Any, project: Path, place: Path) -> None:
    """Every page and the audit's report, in light and in dark."""
    with tempfile.TemporaryDirectory() as folder, dashboard(project) as url:
        report = Path(folder) / "report.html"
        audit = [sys.executable, "-m", "kohyakit", "audit", f"{project.name}/img", "--html", str(report)]
        subprocess.run([*audit, "--config", f"{project.name}/preset.json"], cwd=project.parent, check=False)
        pages = {name: (url + below, awaited, size) for name, (below, awaited, size) in PAGES.items()}
        pages["report"] = (report.as_uri(), "img", (1240, 1010))
        for scheme in ("light", "dark"):
            for name, (address, awaited, (wide, tall)) in pages.items():
                context = browser.new_context(
                    viewport={"width": wide, "height": tall}, color_scheme=scheme, device_scale_factor=SHARPNESS
                )
                page = context.new_page()
                page.set_default_timeout(120_000)
                take(page, address, awaited, place / f"{name}-{scheme}.webp")
                context.close()


def first_runs_sheet(project: Path) -> bytes:
    """Every sample of the first run, from before the first step to the last epoch."""
    kept = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        sheet = write_sheet(list_runs(project / "model")[:1], Path(folder) / "sheet.png")
        with Image.open(sheet) as picture:
            picture.save(kept, "WEBP", quality=QUALITY, method=6)
    return kept.getvalue()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="a folder that kohyakit demo made")
    parser.add_argument("place", type=Path, help="where the pictures are written")
    asked = parser.parse_args()
    asked.place.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=list(FLAGS))
        take_all(browser, asked.project.absolute(), asked.place)
        browser.close()
    (asked.place / "learnt.webp").write_bytes(first_runs_sheet(asked.project))
    for path in sorted(asked.place.glob("*.webp")):
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
