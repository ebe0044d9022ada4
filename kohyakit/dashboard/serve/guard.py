"""Who may talk to the dashboard: a door in front of every page, file and socket of it."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode

COOKIE = "kohyakit_token"

# A name or an address, and a port: nothing else is a Host, whatever a parser may make of it.
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F]*:[0-9a-fA-F:.]{1,45})\]|(?P<name>[A-Za-z0-9_-][A-Za-z0-9._-]{0,253}))(?::\d{1,5})?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# No page of another origin may show one of ours in a frame, nor read what we serve.
_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
_FRAMES = b"frame-ancestors 'none'"

_REFUSED = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>kohyakit</title><style>body{font:16px/1.6 system-ui,sans-serif;max-width:34em;margin:18vh auto;padding:0 1.5em;
color:#333;background:#fff}@media(prefers-color-scheme:dark){body{color:#ddd;background:#141517}}code{font-size:.95em}</style>
<h1>This dashboard asks for its token</h1><p>Open the whole address that <code>kohyakit dashboard</code> printed when it
started; it ends in <code>?token=…</code>. The browser remembers it afterwards.</p>"""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware. With a token: every request carries it, in the address once, then in a cookie. Without one:
    only requests that name this machine are answered, so that a foreign page cannot reach in by a DNS name of its own.

    address: where the server listens. names: further ones under which a person opens it.
    """

    def __init__(self, app, *, token: str = "", port: int = 0, address: str = "", names: Iterable[str] = ()) -> None:
        self.app, self.token = app, token
        self.cookie = f"{COOKIE}_{port}"
        self.names = {"localhost", "127.0.0.1", "::1", *(name.strip("[]").lower() for name in (address, *names))}

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        send = _closed_to_others(send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == b"host"]
        if not self._is_ours(hosts):
            await _refuse(scope, receive, send, "This dashboard answers only to its own names.")
        elif not _same_origin(headers.get("origin"), hosts):
            await _refuse(scope, receive, send, "This dashboard answers only to its own pages.")
        elif self.token:
            await self._with_token(scope, receive, send, headers)
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, hosts: list[str]) -> bool:
        """Whether a request names this machine. With a token also by any address, or by our host name in any domain."""
        if not hosts:
            return bool(self.token)
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return False
        name = (found["six"] or found["name"]).lower()
        if name in self.names or not self.token:
            return name in self.names
        return _is_address(name) or name.split(".")[0] == socket.gethostname().split(".")[0].lower()

    async def _with_token(self, scope, receive, send, headers: dict[str, str]) -> None:
        given = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("token", "")
        if scope["type"] == "http" and scope["method"] == "GET" and self._right(given):
            if _CONTROL.search(scope["path"]):
                await _answer(send, 400, b"no such address", [(b"content-type", b"text/plain")])
            else:
                await self._remember(scope, send)
        elif self._right(_cookies(headers.get("cookie", "")).get(self.cookie, "")):
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, _REFUSED)

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    async def _remember(self, scope, send) -> None:
        """Put the token into a cookie and take it out of the address, where it would be copied and logged."""
        rest = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k != "token"]
        # One leading slash: "//host/…" would be read by the browser as another host.
        where = "/" + quote(scope["path"].lstrip("/\\")) + (f"?{urlencode(rest)}" if rest else "")
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        await _answer(
            send, 303, b"", [(b"location", where.encode("ascii", "ignore")), (b"set-cookie", cookie.encode())]
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(origin: str | None, hosts: list[str]) -> bool:
    """Whether a request comes from our own page, port included; browsers say so of sockets and of what is sent."""
    return origin is None or (bool(hosts) and origin.lower() in {f"{kind}://{hosts[0].lower()}" for kind in _SCHEMES})


_SCHEMES = ("http", "https")  # https where a proxy before us adds it


def _closed_to_others(send):
    """`send` that adds to every answer's head what keeps it out of the pages of others."""

    async def adding(message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            given = {key.lower() for key, _ in headers}
            headers += [pair for pair in _HEADERS if pair[0] not in given]
            policy = b"content-security-policy"
            if policy in given:
                headers = [(k, v + b"; " + _FRAMES if k.lower() == policy else v) for k, v in headers]
            else:
                headers.append((policy, _FRAMES))
            message = {**message, "headers": headers}
        await send(message)

    return adding


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs}


async def _refuse(scope, receive, send, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _answer(send, 403, text.encode(), [(b"content-type", b"text/html; charset=utf-8")])


async def _answer(send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [
        *headers,
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
