"""The dashboard's door, attacked as a foreign page, a foreign name or a foreign project would."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kohyakit.dashboard.serve.guard import Guard
from tests.strangers.conftest import ROOT


async def app(scope: dict, receive: Any, send: Any) -> None:
    own = [(b"content-security-policy", b"default-src 'none'")] if scope["path"] == "/picture" else []
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(guard: Guard, *headers: tuple[str, str], path: str = "/", kind: str = "http", query: str = "") -> list[dict]:
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "websocket.connect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": kind, "path": path, "query_string": query.encode(), "method": "GET",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a loop running in this one
        thread.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent


ODD = (
    "localhost:evil", "127.0.0.1:80:80", "[::1]evil.example", "[::1", "::1", "127.0.0.1.evil.example", "127.1",
    "localhost.", "user@localhost", "localhost/x", "localhost evil", "127.0.0.1#", "127.9.9.9", "evil.localhost",
    "0.0.0.0", "0", " localhost", "LOCALHOST.EVIL", "[127.0.0.1]", "localhost:999999", "", "[::ffff:127.0.0.1]",
)  # fmt: skip


@pytest.mark.parametrize("host", ODD)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_an_odd_or_foreign_host_is_refused(host: str, kind: str) -> None:
    answer = ask(Guard(app), ("host", host), kind=kind)
    assert answer[0].get("status", answer[0].get("code")) in (403, 1008)


def test_two_hosts_are_refused() -> None:
    assert ask(Guard(app), ("host", "localhost"), ("host", "evil.example"))[0]["status"] == 403
    assert ask(Guard(app), ("host", "evil.example"), ("Host", "localhost"))[0]["status"] == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.4:8501", 200), ("[fe80::1]:8501", 200), (socket.gethostname(), 200),
        (f"{socket.gethostname().split('.')[0]}.lan:8501", 200), ("photos.example:1", 200), ("evil.example", 403),
        ("photos.example.evil.example", 403),
    ],
)  # fmt: skip
def test_with_a_token_too_only_its_own_names(host: str, status: int) -> None:
    guard = Guard(app, token="s3cret", port=1, address="0.0.0.0", names=["photos.example"])
    assert ask(guard, ("host", host), ("cookie", "kohyakit_token_1=s3cret"))[0]["status"] == status


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("origin", "inside"),
    [
        ("http://localhost:8501", True), ("https://localhost:8501", True), ("http://localhost:9000", False),
        ("http://localhost", False), ("http://127.0.0.1:8501", False), ("http://evil.example:8501", False),
        ("http://evil.example/localhost:8501", False), ("null", False), ("", False), ("file://", False),
    ],
)  # fmt: skip
def test_the_origin_is_the_host_port_included(origin: str, inside: bool, kind: str) -> None:
    """Another program's page on this machine has the same name and another port."""
    answer = ask(Guard(app), ("host", "localhost:8501"), ("origin", origin), kind=kind)
    assert (answer[-1].get("body") == b"inside") is inside


@pytest.mark.parametrize("token", ["", "s3cret"])
@pytest.mark.parametrize("path", ["/", "/picture", "/refused"])
def test_nothing_may_be_framed_or_read_by_another_origin(token: str, path: str) -> None:
    cookie = () if path == "/refused" else (("cookie", "kohyakit_token_0=s3cret"),)
    start = ask(Guard(app, token=token), ("host", "localhost"), *cookie, path=path)[0]
    headers = dict(start["headers"])
    assert headers[b"x-frame-options"] == b"DENY"
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert headers[b"cross-origin-resource-policy"] == b"same-origin"
    if path == "/picture" and start["status"] == 200:
        assert headers[b"content-security-policy"].startswith(b"default-src 'none'; ")


@pytest.mark.parametrize("path", ["/a\r\nset-cookie: x=y", "/a\nb", "/a\rb", "/a\0b"])
def test_a_line_break_in_a_token_address_is_refused(path: str) -> None:
    assert ask(Guard(app, token="s3cret"), path=path, query="token=s3cret")[0]["status"] == 400


PLACES = (("/größe", b"/gr%C3%B6%C3%9Fe"), ("/a b", b"/a%20b"), ("/x?y", b"/x%3Fy"))


@pytest.mark.parametrize(("path", "location"), PLACES)
def test_other_signs_in_a_token_address_stay_the_address(path: str, location: bytes) -> None:
    start = ask(Guard(app, token="s3cret"), path=path, query="token=s3cret")[0]
    assert dict(start["headers"])[b"location"] == location


_STARTED = """
import json, os, sys, threading, time, urllib.request
from kohyakit.dashboard.serve import server
from kohyakit.dashboard.read.project import Project
listener = server._listen("127.0.0.1", 0)
where = server.Address("127.0.0.1", listener.getsockname()[1])
app = server.make_app(Project.open("."), where)
import streamlit, uvicorn
running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
thread.start()
while not running.started:
    time.sleep(0.05)
answer = urllib.request.urlopen(where.url)
print(json.dumps({
    "secret": os.environ.get("STRANGERS_SECRET"), "xsrf": streamlit.get_option("server.enableXsrfProtection"),
    "upload": streamlit.get_option("server.maxUploadSize"), "frames": answer.headers["x-frame-options"],
}))
running.should_exit = True
thread.join(10)
"""


def test_a_project_does_not_configure_the_server_nor_its_environment(set_: Path, home: Path) -> None:
    """Streamlit by itself reads both files where it is started, and puts the secrets into the environment."""
    pytest.importorskip("streamlit")
    (set_ / ".streamlit").mkdir()
    (set_ / ".streamlit" / "config.toml").write_text(
        "[server]\nenableXsrfProtection = false\nmaxUploadSize = 7\n", encoding="utf-8"
    )
    (set_ / ".streamlit" / "secrets.toml").write_text('STRANGERS_SECRET = "evil"\n', encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _STARTED], cwd=set_, env=env, capture_output=True, text=True, encoding="utf-8",
        timeout=60, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == {"secret": None, "xsrf": True, "upload": 200, "frames": "DENY"}
