"""A server that speaks the OpenAI way of chatting: Ollama, llama.cpp, vLLM, LM Studio; on this machine by default."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kohyakit.captioning.chat import PROMPT
from kohyakit.errors import ConfigError, Problem, RunError

if TYPE_CHECKING:
    from PIL.Image import Image

ADDRESS = "http://127.0.0.1:11434/v1"  # Ollama's
_KEY = "KOHYAKIT_API_KEY"
_SIDE = 1024  # pixels; larger pictures cost time and say no more


class Server:
    """address: up to and with /v1. model: as the server calls it; "" takes the first that it lists.

    A key, where a server wants one, is read from the environment variable KOHYAKIT_API_KEY, never from a file.
    """

    def __init__(
        self, name: str, *, place: str | None = None, model: str = "", prompt: str = "", system: str = "",
        max_tokens: int = 256, batch_size: int = 1, timeout: float = 300.0,
    ) -> None:  # fmt: skip
        self._address = (place or ADDRESS).rstrip("/")
        parts = urlsplit(self._address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(Problem("--model", f"'{self._address}' is no address", f"write it like {ADDRESS}"))
        self._timeout, self._prompt, self._system, self._max_tokens = timeout, prompt or PROMPT, system, max_tokens
        self._model = model or self._first_model()
        self.batch_size = batch_size
        away = "" if parts.hostname in ("127.0.0.1", "localhost", "::1") else ": the pictures leave this machine"
        self.about = f"{self._model} at {parts.hostname}{away}"

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        return [self._ask(picture) for picture in pictures]

    def _first_model(self) -> str:
        models = self._call("/models", None).get("data") or []
        if not models:
            raise ConfigError(Problem(self._address, "lists no model", "load one there, or name it with --model-name"))
        return str(models[0]["id"])

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
            return str(answer["choices"][0]["message"]["content"] or "")
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
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read(300).decode("utf-8", "replace").strip().replace("\n", " ")
            cure = f"set {_KEY}" if error.code in (401, 403) else "look at the server's own output"
            raise RunError(Problem(self._address, f"answered {error.code}: {said}", cure, "server_refused")) from None
        except (urllib.error.URLError, OSError, ValueError) as error:
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
