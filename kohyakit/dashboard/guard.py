"""Who may talk to the dashboard: a door in front of every page, file and socket of it."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import parse_qsl, urlencode

COOKIE = "kohyakit_token"

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
    """

    def __init__(self, app, *, token: str = "", port: int = 0) -> None:
        self.app, self.token = app, token
        self.cookie = f"{COOKIE}_{port}"

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if self.token:
            given = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("token", "")
            if scope["type"] == "http" and scope["method"] == "GET" and self._right(given):
                await self._remember(scope, send)
            elif self._right(_cookies(headers.get("cookie", "")).get(self.cookie, "")):
                await self.app(scope, receive, send)
            else:
                await _refuse(scope, receive, send, _REFUSED)
        elif is_loopback(_host(headers.get("host", ""))):
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, "This dashboard answers only to this machine's own name.")

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    async def _remember(self, scope, send) -> None:
        """Put the token into a cookie and take it out of the address, where it would be copied and logged."""
        rest = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k != "token"]
        # One leading slash: "//host/…" would be read by the browser as another host.
        where = "/" + scope["path"].lstrip("/\\") + (f"?{urlencode(rest)}" if rest else "")
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        await _answer(
            send, 303, b"", [(b"location", where.encode("ascii", "ignore")), (b"set-cookie", cookie.encode())]
        )


def _host(value: str) -> str:
    return value.rsplit("]", 1)[0].lstrip("[") if value.startswith("[") else value.rsplit(":", 1)[0]


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
