"""What is added to the head of a page, and that nothing else is touched."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kohyakit.dashboard.serve.head import Head

PAGE = b"<!DOCTYPE html><html><head><title>t</title></head><body><p>a</p></body></html>"


def get(path: str, *, kind: str = "text/html; charset=utf-8", method: str = "GET") -> tuple[dict, bytes]:
    """Headers and body of an answer, and what the application was asked for: a page sent in two pieces."""
    asked: dict[str, Any] = {}
    sent: list[dict] = []

    async def app(scope: dict, receive: Any, send: Any) -> None:
        asked.update(scope)
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(PAGE)), (b"etag", b'"1"')]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE[:30], "more_body": True})
        await send({"type": "http.response.body", "body": PAGE[30:]})

    async def send(message: dict) -> None:
        sent.append(message)

    headers = [(b"Accept-Encoding", b"gzip"), (b"if-none-match", b'"1"'), (b"cookie", b"a=b")]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a loop running in this one
        thread.submit(asyncio.run, Head(app, pages=("/", "/compare"))(scope, None, send)).result()
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return {**found, "asked": [name for name, _ in asked["headers"]]}, b"".join(m.get("body", b"") for m in sent[1:])


@pytest.mark.parametrize("path", ["/", "/compare"])
def test_a_page_is_told_its_server(path: str) -> None:
    headers, body = get(path)
    assert int(headers["content-length"]) == len(body)
    assert "etag" not in headers
    assert headers["asked"] == [b"cookie"]  # neither packed nor "not changed"
    before, after = body.split(b"<script>", 1)
    assert before == PAGE.split(b"</head>")[0]
    assert after.endswith(b"</head>" + PAGE.split(b"</head>")[1])
    assert f'if (location.pathname === "{path}") window.__streamlit = '.encode() in after


@pytest.mark.parametrize(
    ("path", "kind", "method"),
    [
        ("/static/js/index.1.js", "text/javascript", "GET"),
        ("/", "application/json", "GET"),
        ("/compare", "text/html", "POST"),
        ("/picture", "text/html", "GET"),
        ("/_stcore/health", "text/html", "GET"),
    ],
)
def test_everything_else_goes_through_as_it_is(path: str, kind: str, method: str) -> None:
    headers, body = get(path, kind=kind, method=method)
    assert body == PAGE
    assert headers["etag"] == '"1"'
    assert int(headers["content-length"]) == len(PAGE)
