"""How busy the graphics card is, where NVIDIA's own tool can be asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_ASK = "--query-gpu=utilization.gpu,memory.used,memory.total"
_KEPT_SECONDS = 1.5
_last: tuple[float, tuple[Load, ...]] = (0.0, ())


@dataclass(frozen=True)
class Load:
    """One card. busy: per cent of the time; used, total: bytes of its memory."""

    busy: int
    used: int
    total: int


def loads() -> tuple[Load, ...]:
    """Every card of this machine; () where there is none, or none that can be asked. Asked at most every 1.5 s."""
    global _last
    if time.monotonic() - _last[0] > _KEPT_SECONDS or not _last[0]:
        _last = (time.monotonic(), _asked())
    return _last[1]


def _asked() -> tuple[Load, ...]:
    tool = _tool()
    if tool is None:
        return ()
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW
    command = [str(tool), _ASK, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=2, creationflags=flags
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse(done.stdout) if done.returncode == 0 else ()


def _tool() -> Path | None:
    """The program by its whole path: the working folder, a stranger's perhaps, is not looked into."""
    if sys.platform == "win32":
        tool = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvidia-smi.exe"
        return tool if tool.is_file() else None
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    found = shutil.which("nvidia-smi", path=os.pathsep.join(folders)) if folders else None
    return Path(found) if found else None


def parse(text: str) -> tuple[Load, ...]:
    """`47, 10240, 81920` a line (per cent, MiB, MiB); a card that does not say is passed over."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and all(part.isdigit() for part in parts):
            busy, used, total = map(int, parts)
            found.append(Load(busy, used * 2**20, total * 2**20))
    return tuple(found)
