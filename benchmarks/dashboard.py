"""Seconds until the dashboard's pages can be used, in a real Chromium, beside a Streamlit page that says hello.

    python benchmarks/dashboard.py            60 runs, 6 of them compared
    python benchmarks/dashboard.py --full     500 runs, 20 of them (50,000 steps and 5 tags each) compared

"Usable" is told by the page: the last row of the table stands there and a click on a row has been answered; the
chart stands that the page shows by itself, the loss.
Warm means that server and browser have seen the page before; the browser is started anew each time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from event_files import write_logs
from PIL import Image
from playwright.sync_api import Playwright, sync_playwright

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


# Told from inside the page, by the cheapest of looks: the test tool's own waiting reads all text again and again.
MARKS = """(() => {
  const seen = (window.marks = {}), rows = () => {
    for (const node of document.querySelectorAll('.stBidiComponent, [data-testid^=stBidi], [data-testid^=stBidi] *'))
      if (node.shadowRoot?.querySelector('.row')) return node.shadowRoot.querySelectorAll('.row');
    return [];
  };
  const tests = {
    title: () => document.querySelector('h1')?.textContent,
    rows: () => rows().length >= ROWS,
    answered: () => [...document.querySelectorAll('[data-testid=stCaptionContainer]')]
      .some((node) => node.textContent.startsWith('1 run picked')),
    charts: () => document.querySelectorAll('[data-testid=stEChartsChart] canvas').length >= CHARTS,
    read: () => rows().length && ![...rows()].some((row) => row.querySelector('.loss').textContent.includes('reading')),
  };
  window.place = () => { const box = rows()[0].getBoundingClientRect(); return [box.x + 200, box.y + box.height / 2]; };
  setInterval(() => {
    for (const [name, test] of Object.entries(tests))
      if (!(name in seen) && test()) seen[name] = performance.now() / 1000;
  }, 15);
})()"""


class Browser:
    """A Chromium with a folder of its own, as a person's has; what it keeps from earlier pages stays in it."""

    def __init__(self, playwright: Playwright, folder: Path, rows: int, charts: int) -> None:
        self.playwright, self.folder = playwright, folder
        self.script = MARKS.replace("ROWS", str(rows)).replace("CHARTS", str(charts))

    def seconds(self, url: str, *marks: str) -> float:
        """The browser started anew: from the address to the last of the marks. A row is clicked before `answered` is
        waited for; `link` clicks on Compare, and the time counts from there.
        """
        context = self.playwright.chromium.launch_persistent_context(
            self.folder, executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1360, "height": 900}
        )
        try:
            time.sleep(0.5)  # the browser's own start is not the page's
            page = context.new_page()
            page.add_init_script(self.script)
            page.goto(url, wait_until="commit")
            begun = 0.0
            for mark in marks:
                if mark == "link":
                    begun = page.evaluate("performance.now() / 1000")
                    page.evaluate("document.querySelector('a[href*=compare]').click()")
                    continue
                if mark == "answered":
                    page.mouse.click(*page.evaluate("place()"))
                found = page.wait_for_function(f"window.marks.{mark}", polling=30, timeout=180_000).json_value()
            return float(found) - begun
        finally:
            context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--root", type=Path, help="keep the project here and use it again")
    asked = parser.parse_args()
    runs, long, steps = (500, 20, 50_000) if asked.full else (60, 6, 5_000)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = asked.root or Path(folder) / "project"
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "versions.json").exists():
            (root / "versions.json").write_text(json.dumps(make_project(root, runs, long, steps)), encoding="utf-8")
        versions = json.loads((root / "versions.json").read_text(encoding="utf-8"))
        shown = (runs, 1)
        (Path(folder) / "hello").mkdir()
        hello = Path(folder) / "hello" / "hello.py"
        hello.write_text("import streamlit as st\nst.title('hello')\n", encoding="utf-8")
        options = ("headless=true", "address=127.0.0.1", "port=8599", "fileWatcherType=none")
        plain = [sys.executable, "-m", "streamlit", "run", str(hello), *(f"--server.{option}" for option in options)]
        ours = [sys.executable, "-m", "kohyakit", "dashboard", str(root), "--port", "0", "--no-browser"]
        os.environ["KOHYAKIT_CACHE"] = str(Path(folder) / "cache")  # nothing kept from an earlier time
        picked = ",".join(versions)
        with served(plain) as other, served(ours) as url:
            pages = {
                "Streamlit page that says hello": (other, "title"),
                f"Runs, {runs} of them, one picked": (url, "rows", "answered"),
                f"Compare, {long} runs, from the Runs page": (f"{url}?runs={picked}", "rows", "link", "charts"),
                f"Compare, {long} runs, by its address": (f"{url}compare?runs={picked}", "charts"),
            }
            cold = {
                "Runs, the server just started": (url, "rows"),
                "Runs, then every loss read": (url, "rows", "read"),
                "Compare, the logs not read yet": (f"{url}compare?runs={picked}", "charts"),
            }
            for name, page in cold.items():
                took = Browser(playwright, Path(folder) / name, *shown).seconds(*page)
                print(f"{name:<58} {took:6.2f} s", flush=True)
            firsts: dict[str, list[float]] = {name: [] for name in pages}
            warm: dict[str, list[float]] = {name: [] for name in pages}
            known = Browser(playwright, Path(folder) / "known", *shown)
            for turn in range(asked.times + 3):  # a browser keeps compiled scripts from the third visit on
                for name, page in pages.items():
                    if turn >= 3:
                        firsts[name].append(
                            Browser(playwright, Path(folder) / f"new {turn} {name}", *shown).seconds(*page)
                        )
                    took = known.seconds(*page)
                    warm[name] += [took] if turn >= 3 else []
    for title, found in (("a browser that was never here", firsts), ("a browser that was here before", warm)):
        base = statistics.median(next(iter(found.values())))
        for name, times in found.items():
            line = f"{name}, {title}"
            print(f"{line:<74} {statistics.median(times):5.2f} s ({min(times):.2f} to {max(times):.2f})"
                  f"  {statistics.median(times) / base:4.1f} x hello")  # fmt: skip
    slowest = max(statistics.median(times) for times in warm.values())
    return 0 if slowest < LIMIT or not asked.full else 1


if __name__ == "__main__":
    sys.exit(main())
