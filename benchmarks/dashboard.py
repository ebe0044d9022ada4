"""Seconds until the dashboard's pages can be used, in a real Chromium, beside a Streamlit page that says hello.

    python benchmarks/dashboard.py            60 runs, 6 of them compared
    python benchmarks/dashboard.py --full     500 runs, 20 of them (50,000 steps and 5 tags each) compared

"Usable" is told by the page: the last row of the table stands there and a click on a row has been answered; every
chart asked for has drawn. Warm means that the server has seen the page before; the browser is a fresh one each time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from event_files import write_logs
from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMIT = 2.0


def make_project(root: Path, runs: int, long: int, steps: int) -> list[str]:
    """A project of many short runs and some long ones. Returns the versions of the long ones."""
    write_logs(root / "short", runs - long, 300)
    write_logs(root / "long", long, steps)
    logs = sorted((root / "short").iterdir()) + sorted((root / "long").iterdir(), key=lambda path: path.name)
    Image.effect_noise((512, 512), 80).convert("RGB").save(root / "sample.png")
    sample = (root / "sample.png").read_bytes()
    (root / "sample").mkdir()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    versions, lines = [], []
    for number, log in enumerate(logs):
        version = f"{number // 10 + 1}{'abcdefghij'[number % 10]}"
        versions.append(version)
        folder = root / "runs" / version
        folder.mkdir(parents=True)
        begun = (start + timedelta(hours=number)).isoformat(timespec="seconds")
        record = {
            "version": version, "status": "finished", "parent": versions[-2] if number else "", "started": begun,
            "ended": begun, "seconds": 3000 + number, "image_count": 40 + number % 9, "output_name": f"cat-{number}",
            "changes": [f"network_dim {8 + number % 4} → 16"], "logs": [(log / "network_train").as_posix()],
            "samples": "sample",
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        settings = {
            "network_dim": 8 + number % 5,
            "learning_rate": 1e-4,
            "train_batch_size": 2,
            "optimizer_type": "AdamW",
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "plan.json").write_text(
            json.dumps({"steps": 300, "epochs": 6, "steps_per_epoch": 50}), encoding="utf-8"
        )
        name = f"{version}_000300_00_20260101000000.png"
        (root / "sample" / name).write_bytes(sample)
        lines.append(json.dumps({"file": name, "step": 300, "epoch": 6, "index": 0, "prompt": "a", "run": version}))
    (root / "sample" / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return versions[-long:]


@contextmanager
def served(command: list[str]) -> Iterator[str]:
    """A server and the address that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/?", line):
                yield found.group()
                return
    finally:
        process.terminate()
        process.wait(20)


def seconds(url: str, ready: Callable[[Page], None], times: int = 1) -> list[float]:
    """Seconds from the request to what `ready` waits for, each in a browser with an empty cache."""
    found = []
    with sync_playwright() as playwright:
        for _ in range(times):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page(viewport={"width": 1360, "height": 900})
            page.set_default_timeout(180_000)
            began = time.perf_counter()
            page.goto(url, wait_until="commit")
            ready(page)
            found.append(time.perf_counter() - began)
            browser.close()
    return found


def table_usable(count: int) -> Callable[[Page], None]:
    """Every row is there, and a click on one has reached the server and come back."""

    def ready(page: Page) -> None:
        page.locator(".row").nth(count - 1).wait_for(state="attached")
        page.locator(".row").first.click()
        page.get_by_text("1 run picked").wait_for()

    return ready


def charts_drawn(count: int) -> Callable[[Page], None]:
    def ready(page: Page) -> None:
        page.locator("[data-testid=stEChartsChart] canvas, [data-testid=stEChartsChart] svg").nth(count - 1).wait_for()
        page.get_by_text("What the curves tell").wait_for()

    return ready


def summaries_read(page: Page) -> None:
    page.locator(".row").first.wait_for()
    page.wait_for_function(
        "() => { const seen = []; const walk = (n) => { for (const e of n.querySelectorAll('*')) {"
        " if (e.shadowRoot) walk(e.shadowRoot);"
        " if (e.matches('.loss')) seen.push(e.textContent); } }; walk(document);"
        " return seen.length && !seen.some((t) => t.includes('reading')); }"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--root", type=Path, help="keep the project here and use it again")
    asked = parser.parse_args()
    runs, long, steps = (500, 20, 50_000) if asked.full else (60, 6, 5_000)
    with tempfile.TemporaryDirectory() as folder:
        root = asked.root or Path(folder) / "project"
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "versions.json").exists():
            (root / "versions.json").write_text(json.dumps(make_project(root, runs, long, steps)), encoding="utf-8")
        versions = json.loads((root / "versions.json").read_text(encoding="utf-8"))
        hello = Path(folder) / "hello.py"
        hello.write_text("import streamlit as st\nst.title('hello')\n", encoding="utf-8")
        options = ("headless=true", "address=127.0.0.1", "port=8599")
        plain = [sys.executable, "-m", "streamlit", "run", str(hello), *(f"--server.{option}" for option in options)]
        with served(plain) as url:
            base = seconds(url, lambda page: page.get_by_text("hello").wait_for(), asked.times + 1)[1:]
        with served([sys.executable, "-m", "kohyakit", "dashboard", str(root), "--port", "0", "--no-browser"]) as url:
            compare = f"{url}compare?runs={','.join(versions)}"
            shown = {
                f"Runs, {runs} of them, cold: table stands": seconds(url, table_usable(runs)),
                "Runs, cold: then every loss read": seconds(url, summaries_read),
                f"Runs, {runs} of them, warm": seconds(url, table_usable(runs), asked.times),
                f"Compare, {long} runs, cold": seconds(compare, charts_drawn(3)),
                f"Compare, {long} runs, warm": seconds(compare, charts_drawn(3), asked.times),
            }
    middle = statistics.median(base)
    print(f"{'Streamlit page that says hello':<46} {middle:6.2f} s")
    for name, times in shown.items():
        value = statistics.median(times)
        print(f"{name:<46} {value:6.2f} s   {value / middle:4.1f} × hello")
    warm = [statistics.median(times) for name, times in shown.items() if name.endswith("warm")]
    return 0 if max(warm) < LIMIT or not asked.full else 1


if __name__ == "__main__":
    sys.exit(main())
