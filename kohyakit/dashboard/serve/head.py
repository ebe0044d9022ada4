"""What stands in the head of every page beside Streamlit's own: where its server is, that the menu of a narrow
screen closes once a page was chosen from it, and that what was typed is told to the server before another page is
asked for: Streamlit tells it a moment after its field was left, and would come back to the old page.

Streamlit's page looks for its server at every level of the address, one after the other, before it asks for anything.
Told at once it has a tenth of its start less to wait; without it, it works all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

# Behind a proxy that puts something before the path, Streamlit goes on looking for itself.
_HEAD = """<script>
if (location.pathname === %s) window.__streamlit = {...window.__streamlit, BACKEND_BASE_URL: location.origin}
addEventListener("click", (event) => {
  const menu = "[data-testid=stSidebarNav], [data-testid=stSidebarNavItems]";
  if (innerWidth > 768 || !event.target.closest?.("a")?.closest(menu)) return;
  const close = () => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click();
  setTimeout(close, 50);
});
{
let left = -1e9;
addEventListener("focusout", (event) => {
  if (event.target.matches("textarea, input")) left = performance.now();
}, true);
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || link.target || performance.now() - left > 100) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  setTimeout(() => link.click(), 120);
}, true);
addEventListener("beforeunload", () => document.activeElement?.blur());
}
</script>
</head>"""


class Head:
    """ASGI middleware that adds to the head of the pages. pages: their paths, such as /compare."""

    def __init__(self, app, *, pages: Iterable[str]) -> None:
        self.app, self.pages = app, frozenset(pages)

    async def __call__(self, scope, receive, send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or path not in self.pages:
            await self.app(scope, receive, send)
            return
        # whole and plain, so that it can be written into
        unwanted = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in unwanted]}
        await self.app(scope, receive, _Page(send, (_HEAD % json.dumps(path)).encode()))


class _Page:
    """Holds an answer back until it is whole, and sends it with the addition; what is no page goes through as it is."""

    def __init__(self, send, addition: bytes) -> None:
        self.send, self.addition, self.start, self.body = send, addition, None, b""

    async def __call__(self, message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self.start = message
        elif self.start is None or message["type"] != "http.response.body":
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                body = self.body.replace(b"</head>", self.addition, 1)
                headers = [pair for pair in self.start["headers"] if pair[0] not in (b"content-length", b"etag")]
                await self.send({**self.start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
                await self.send({**message, "body": body})


def _is_page(start) -> bool:
    return dict(start["headers"]).get(b"content-type", b"").startswith(b"text/html")
