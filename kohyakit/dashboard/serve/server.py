"""One process that serves the pages and the project's pictures, on this machine unless asked otherwise."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import traceback
import webbrowser
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.read import pictures
from kohyakit.dashboard.read.project import PROJECT_VARIABLE, Outside, Project
from kohyakit.dashboard.serve.guard import Guard, is_loopback
from kohyakit.dashboard.serve.head import Head
from kohyakit.errors import KohyakitError, MissingExtra, Problem
from kohyakit.resources import shared_dir

LOCAL = "127.0.0.1"

STREAMLIT_OPTIONS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    "runner.magicEnabled": False,
    "runner.postScriptGC": False,
    "secrets.files": [],
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.showEmailPrompt": False,
}
"""Nothing is sent anywhere, nothing is watched, no traceback is shown to a person; Python collects its garbage itself,
which Streamlit would have it do in full after every click. No file of secrets is read: Streamlit would put what stands
in it into the environment, also of the trainings that are started here."""


@dataclass(frozen=True)
class Address:
    """Where the dashboard listens. `token` is empty on this machine alone. names: others that it answers to."""

    host: str
    port: int
    token: str = ""
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def serve(
    project: Path | str,
    *,
    address: str = LOCAL,
    port: int = 8501,
    names: Iterable[str] = (),
    browser: bool = True,
    ready: Callable[[Address], None] = lambda address: None,
) -> None:
    """Serve until interrupted. port 0 takes a free one; `ready` is told the address once it answers.

    names: DNS names, beside this machine's own, under which the dashboard is opened.

    Raises KohyakitError for a folder or a port that cannot be used, MissingExtra without streamlit.
    """
    opened = Project.open(project)
    listener = _listen(address, port)
    token = "" if is_loopback(address) and not names else secrets.token_urlsafe(24)
    where = Address(address, listener.getsockname()[1], token, tuple(names))
    application = make_app(opened, where)

    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            if self.started:
                ready(where)
                if browser:
                    threading.Thread(target=webbrowser.open, args=(where.url,), daemon=True).start()

    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        use_colors=False,
        ws_max_size=64 * 1024 * 1024,
        ws_per_message_deflate=False,
    )
    config.timeout_graceful_shutdown = 2
    Server(config).run(sockets=[listener])


def make_app(project: Project, where: Address):
    """The ASGI application: Streamlit's pages and our pictures behind one guard. One a process (Streamlit's rule)."""
    try:
        import streamlit as st
        from streamlit.web import bootstrap
    except ModuleNotFoundError as error:
        raise MissingExtra("the dashboard", "streamlit", "dashboard") from error
    from starlette.middleware import Middleware
    from starlette.routing import Route

    os.environ[PROJECT_VARIABLE] = str(project.root)
    script = shared_dir("dashboards") / "app.py"
    options = {**STREAMLIT_OPTIONS, **theme.streamlit_options()}
    with contextlib.chdir(script.parent):  # or a .streamlit/config.toml where the person stands would count too
        bootstrap.load_config_options({**options, "server.address": where.host, "server.port": where.port})
    return st.App(
        script,
        routes=[Route(pictures.ROUTE, _picture_endpoint(project), methods=["GET"])],
        middleware=[
            Middleware(Guard, token=where.token, port=where.port, address=where.host, names=where.names),
            Middleware(Head, pages=("/", *(f"/{view.stem}" for view in script.parent.glob("views/*.py")))),
        ],
        on_script_error=_page_failed,
    )


def _page_failed(error: Exception) -> bool:
    """A person sees a sentence, the terminal the traceback. True keeps Streamlit's own red box away."""
    import streamlit as st

    from kohyakit.dashboard.pages.parts.page import show_error

    if isinstance(error, KohyakitError):
        show_error(error)
        return True
    traceback.print_exception(error)
    st.error(
        f"This page broke on something it did not expect ({type(error).__name__}). Your files are untouched. "
        "The terminal that runs the dashboard has the details; reload the page to try again."
    )
    return True


def _picture_endpoint(project: Project):
    from starlette.responses import Response

    def picture(request):
        query = request.query_params
        try:
            width = int(query["w"]) if "w" in query else None
            found = pictures.read(project, query.get("path", ""), width, upright="stored" not in query)
        except (Outside, ValueError):
            return Response("not in this project", 404, media_type="text/plain")
        return Response(
            found.body,
            media_type=found.media_type,
            headers={
                "cache-control": "no-store" if found.note else "private, max-age=31536000, immutable",
                "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
                "x-content-type-options": "nosniff",
            },
        )

    return picture


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket, so that the port is ours before anything is printed."""
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        return listener
    except (OSError, OverflowError) as error:
        cure = "another program uses it; name another with --port, or --port 0 for any free one"
        if isinstance(error, socket.gaierror):
            cure = "name an address of this machine with --address"
        raise KohyakitError(Problem(f"{address}:{port}", "cannot be listened on", cure)) from error
