"""A server that speaks the OpenAI way of chatting: Ollama, llama.cpp, vLLM, LM Studio; on this machine by default."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kohyakit.captioning.chat import PROMPT
from kohyakit.errors import ConfigError, Problem, RunError

if TYPE_CHECKING:
    from PIL.Image import Image

ADDRESS = "http://127.0.0.1:11434/v1"  # Ollama's
_KEY = "KOHYAKIT_API_KEY"
_SIDE = 1024  # pixels; larger pictures cost time and say no more


class _NoOtherPlace(urllib.request.HTTPRedirectHandler):
    """Neither key nor pictures follow a server that points to another; its answer is told as it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoOtherPlace)


class Server:
    """address: up to and with /v1. model: as the server calls it; "" takes the first that it lists.

    A key, where a server wants one, is read from the environment variable KOHYAKIT_API_KEY, never from a file.
    """

    def __init__(
        self, name: str, *, place: str | None = None, model: str = "", prompt: str = "", system: str = "",
        max_tokens: int = 256, batch_size: int = 1, timeout: float = 300.0,
    ) -> None:  # fmt: skip
        self._address = (place or ADDRESS).rstrip("/")
        host = _host(self._address)
        if not host:
            raise ConfigError(Problem("--model", f"'{self._address}' is no address", f"write it like {ADDRESS}"))
        self._timeout, self._prompt, self._system, self._max_tokens = timeout, prompt or PROMPT, system, max_tokens
        self._model = model or self._first_model()
        self.batch_size = batch_size
        away = "" if host in ("127.0.0.1", "localhost", "::1") else ": the pictures leave this machine"
        self.about = f"{self._model} at {host}{away}"

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        return [self._ask(picture) for picture in pictures]

    def _first_model(self) -> str:
        models = self._call("/models", None).get("data")
        listed = models if isinstance(models, list) else []
        names = [one["id"] for one in listed if isinstance(one, dict) and "id" in one]
        if not names:
            raise ConfigError(Problem(self._address, "lists no model", "load one there, or name it with --model-name"))
        return str(names[0])

    def _ask(self, picture: Image) -> str:
        content = [
            {"type": "text", "text": self._prompt},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_jpeg(picture)}"}},
        ]
        system = [{"role": "system", "content": self._system}] if self._system else []
        request = {
            "model": self._model,
            "messages": [*system, {"role": "user", "content": content}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        answer = self._call("/chat/completions", request)
        try:
            return _words(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            what = f"answered something else than a chat ({json.dumps(answer)[:120]})"
            raise RunError(Problem(self._address, what, "is it the address of an OpenAI-compatible server?")) from error

    def _call(self, path: str, data: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {key}"
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self._address + path, body, headers)
        try:
            with _OPENER.open(request, timeout=self._timeout) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            said = _shown(error.read(300), key)
            cure = f"set {_KEY}" if error.code in (401, 403) else "look at the server's own output"
            raise RunError(Problem(self._address, f"answered {error.code}: {said}", cure, "server_refused")) from None
        except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            cure = "start it (`ollama serve`), or give its address with --model"
            raise RunError(Problem(self._address, f"cannot be asked ({reason})", cure, "server_unreachable")) from None
        return found if isinstance(found, dict) else {}


def _jpeg(picture: Image) -> str:
    """The picture, made smaller where it is large, as base64."""
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=92)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _host(address: str) -> str:
    """ "" for what is no address of a server."""
    try:
        parts = urlsplit(address)
        port_is_one = parts.port != 0  # raises for a port that is no number
    except ValueError:
        return ""
    plain = address.isprintable() and " " not in address
    return (parts.hostname or "") if plain and port_is_one and parts.scheme in ("http", "https") else ""


def _words(content: Any) -> str:
    """An answer's text, also where it comes in parts. Raises TypeError or KeyError for anything else."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError("an answer that is no text")
    return content or ""


def _shown(said: bytes, key: str | None) -> str:
    """What a server said to an error, as one line without the key."""
    text = " ".join(said.decode("utf-8", "replace").split())
    return text.replace(key, "…") if key else text
