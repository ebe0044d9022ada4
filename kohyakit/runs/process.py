"""Whether the process that trains still lives: its id together with when it started, as ids are given out again."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a machine. `born` is the system's own mark of its start; "" where it cannot be had."""

    pid: int
    born: str
    host: str


def this_process() -> Process:
    """The process that calls."""
    pid = os.getpid()
    return Process(pid, birth(pid) or "", this_host())


def this_host() -> str:
    """The machine's name; on Linux with the process namespace, as containers share names but not process ids."""
    name = platform.node() or "unknown"
    try:
        return f"{name} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return name


def is_alive(process: Process) -> bool | None:
    """True or False for a process of this machine, None for one of another, which cannot be asked."""
    if process.host != this_host():
        return None
    born = birth(process.pid)
    return born is not None and ("" in (born, process.born) or born == process.born)


def birth(pid: int) -> str | None:
    """The system's mark of when a process started; None when there is no such (live) process."""
    if pid <= 0:
        return None
    if sys.platform == "win32":
        return _birth_windows(pid)
    if Path("/proc/self/stat").exists():
        return _birth_proc(pid)
    return _birth_ps(pid)


def _birth_proc(pid: int) -> str | None:
    """Linux: clock ticks since boot (field 22 of stat) with the boot's id. A zombie has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return None if state in "ZX" else f"{fields[18]} {boot}"


def _birth_ps(pid: int) -> str | None:
    """macOS and other systems without /proc."""
    import subprocess

    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    result = subprocess.run(
        ["ps", "-p", str(pid), "-o", "state=", "-o", "lstart="],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        check=False,
    )
    state, _, started = result.stdout.strip().partition(" ")
    return started.strip() if result.returncode == 0 and state and not state.startswith("Z") else None


def _birth_windows(pid: int) -> str | None:
    """Windows: the creation time. `os.kill(pid, 0)` must not be used there: it ends the process."""
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    query_limited_information, access_denied, still_active = 0x1000, 5, 259
    handle = kernel.OpenProcess(query_limited_information, False, pid)
    if not handle:
        return "" if ctypes.get_last_error() == access_denied else None  # type: ignore[attr-defined]
    try:
        code = wintypes.DWORD()
        if kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value != still_active:
            return None
        times = [wintypes.FILETIME() for _ in range(4)]  # created, ended, in the kernel, in user mode
        if not kernel.GetProcessTimes(handle, *[ctypes.byref(time) for time in times]):
            return ""
        return str((times[0].dwHighDateTime << 32) + times[0].dwLowDateTime)
    finally:
        kernel.CloseHandle(handle)
