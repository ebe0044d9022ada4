"""The door: token or this machine only, for pages, files and sockets alike."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kohyakit.dashboard.serve.guard import Guard, is_loopback


async def app(scope: dict, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(
    guard: Guard, path: str = "/", query: str = "", kind: str = "http", method: str = "GET", **headers: str
) -> list[dict]:
    """What comes back for a request, message by message."""
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "websocket.connect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": kind, "path": path, "query_string": query.encode(), "method": method,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a loop running in this one
        thread.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent


@pytest.fixture
def closed() -> Guard:
    return Guard(app, token="s3cret", port=1234)


@pytest.mark.parametrize(
    "path", ["/", "/compare", "/picture", "/_stcore/health", "/_stcore/upload_file/x", "/static/js/a.js"]
)
@pytest.mark.parametrize("query", ["", "token=", "token=wrong", "token=S3CRET"])
def test_nothing_without_the_token(closed: Guard, path: str, query: str) -> None:
    answer = ask(closed, path, query, host="example.org")
    assert answer[0]["status"] == 403
    assert b"inside" not in answer[1]["body"]


def test_a_socket_without_the_token_is_closed(closed: Guard) -> None:
    assert ask(closed, "/_stcore/stream", kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(closed, "/_stcore/stream", "token=s3cret", kind="websocket")[0]["type"] == "websocket.close"


def test_the_right_token_becomes_a_cookie_and_leaves_the_address(closed: Guard) -> None:
    start = ask(closed, "/compare", "runs=1a%2C2b&token=s3cret&view=Settings")[0]
    headers = dict(start["headers"])
    assert start["status"] == 303
    assert headers[b"location"] == b"/compare?runs=1a%2C2b&view=Settings"
    assert headers[b"set-cookie"].startswith(b"kohyakit_token_1234=s3cret;")
    assert b"HttpOnly" in headers[b"set-cookie"]
    assert b"SameSite=Strict" in headers[b"set-cookie"]
    assert ask(closed, "/compare", cookie="a=b; kohyakit_token_1234=s3cret")[1]["body"] == b"inside"


def test_no_redirect_to_another_host(closed: Guard) -> None:
    for path in ("//evil.example/x", "/\\evil.example/x"):
        location = dict(ask(closed, path, "token=s3cret")[0]["headers"])[b"location"]
        assert location.startswith(b"/evil")


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "[::1]:8501", "127.0.0.1"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert ask(Guard(app), host=host)[1]["body"] == b"inside"


@pytest.mark.parametrize("host", ["evil.example:8501", "127.0.0.1.evil.example", "", "192.168.1.4:8501"])
def test_a_foreign_name_for_this_machine_is_refused(host: str) -> None:
    assert ask(Guard(app), host=host)[0]["status"] == 403


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
    ],
)
def test_loopback(address: str, here: bool) -> None:
    assert is_loopback(address) is here
