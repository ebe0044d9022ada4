"""Asking a server: a real HTTP server in this process that answers as Ollama and vLLM do, or fails as servers do."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("PIL")

from click.testing import CliRunner
from PIL import Image

from kohyakit.captioning.server import Server
from kohyakit.cli import group
from kohyakit.errors import ConfigError, RunError

PICTURE = Image.new("RGB", (2048, 512), (250, 10, 10))


class Answering(ThreadingHTTPServer):
    """status, body: what every chat is answered, or what `answer` makes of the request. asked: requests as read."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict, dict]] = []
        self.models: object = {"data": [{"id": "seeing-model"}, {"id": "other"}]}
        self.moved = ""  # where to it points instead of answering
        self.status, self.wait, self.body = 200, 0.0, {"choices": [{"message": {"content": "a red door"}}]}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers), {}))
        self._say(302 if self.server.moved else 200, self.server.models)

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), data))
        time.sleep(self.server.wait)
        self._say(self.server.status, self.server.body)

    def _say(self, status: int, body: object) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            if self.server.moved:
                self.send_header("Location", self.server.moved)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except OSError:
            return  # whoever asked has gone


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    monkeypatch.delenv("KOHYAKIT_API_KEY", raising=False)
    made = Answering()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_picture_is_sent_as_such_servers_want_it(server: Answering) -> None:
    captioner = Server("server", place=server.address + "/", prompt="What is it?", system="Be brief.", max_tokens=9)
    assert captioner.about == "seeing-model at 127.0.0.1"
    assert captioner.caption([PICTURE, PICTURE]) == ["a red door"] * 2
    assert [path for path, _, _ in server.asked] == ["/v1/models", "/v1/chat/completions", "/v1/chat/completions"]
    sent = server.asked[1][2]
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("seeing-model", 9, 0)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    words, picture = sent["messages"][1]["content"]
    assert words == {"type": "text", "text": "What is it?"}
    kind, _, data = picture["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as seen:
        assert (seen.format, seen.size) == ("JPEG", (1024, 256))
        assert all(abs(a - b) < 12 for a, b in zip(seen.getpixel((5, 5)), (250, 10, 10), strict=True))


def test_a_model_that_is_named_is_asked_and_none_listed(server: Answering) -> None:
    assert Server("server", place=server.address, model="mine").caption([PICTURE]) == ["a red door"]
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"]
    assert server.asked[0][2]["model"] == "mine"


def test_a_key_goes_from_the_environment_to_the_server_alone(server: Answering, monkeypatch) -> None:
    Server("server", place=server.address)
    assert "Authorization" not in server.asked[0][1]
    monkeypatch.setenv("KOHYAKIT_API_KEY", "geheim")
    captioner = Server("server", place=server.address)
    captioner.caption([PICTURE])
    assert [headers["Authorization"] for _, headers, _ in server.asked[1:]] == ["Bearer geheim"] * 2
    server.status, server.body = 401, b"no such key geheim"
    with pytest.raises(RunError, match=r"answered 401.*set KOHYAKIT_API_KEY") as told:
        captioner.caption([PICTURE])
    assert "geheim" not in str(told.value)


def test_a_key_does_not_follow_to_another_server(server: Answering, monkeypatch) -> None:
    other = Answering()
    threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("KOHYAKIT_API_KEY", "geheim")

    server.moved = other.address.replace("127.0.0.1", "localhost") + "/models"
    with pytest.raises(RunError, match="answered 302"):
        Server("server", place=server.address)
    assert other.asked == []
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (500, b"out of memory\nat line 1", "answered 500: out of memory at line 1"),
        (404, {"error": "model 'x' not found"}, "answered 404.*not found"),
        (200, b"<html>hello</html>", "cannot be asked|something else than a chat"),
        (200, {"error": "no"}, "something else than a chat"),
        (200, {"choices": []}, "something else than a chat"),
        (200, [1], "something else than a chat"),
        (200, {"choices": [{"message": {"content": {"a": 1}}}]}, "something else than a chat"),
    ],
)
def test_what_is_no_answer_is_a_sentence(server: Answering, status: int, body: object, told: str) -> None:
    captioner = Server("server", place=server.address)
    server.status, server.body = status, body
    with pytest.raises(RunError, match=told):
        captioner.caption([PICTURE])


@pytest.mark.parametrize("content", [None, "", "   "])
def test_no_words_are_an_empty_answer(server: Answering, content: str | None) -> None:
    server.body = {"choices": [{"message": {"content": content}}]}
    assert Server("server", place=server.address).caption([PICTURE])[0].strip() == ""


def test_answers_in_parts_are_put_together(server: Answering) -> None:
    parts = [{"type": "text", "text": "a red"}, {"type": "text", "text": " door"}]
    server.body = {"choices": [{"message": {"content": parts}}]}
    assert Server("server", place=server.address).caption([PICTURE]) == ["a red door"]


def test_a_server_that_does_not_answer_in_time(server: Answering) -> None:
    captioner = Server("server", place=server.address, timeout=0.2)
    server.wait = 1.0
    with pytest.raises(RunError, match=r"cannot be asked \(timed out\)"):
        captioner.caption([PICTURE])


@pytest.mark.parametrize("models", [{"data": []}, {}, {"data": None}])
def test_a_server_without_a_model(server: Answering, models: object) -> None:
    server.models = models
    with pytest.raises(ConfigError, match="lists no model"):
        Server("server", place=server.address)


@pytest.mark.parametrize("models", [b"x", [1], {"data": [{}]}, {"data": ["a"]}, {"data": 3}])
def test_a_list_of_models_that_is_none(server: Answering, models: object) -> None:
    server.models = models
    with pytest.raises((ConfigError, RunError), match=r"lists no model|cannot be asked|something else"):
        Server("server", place=server.address)


def test_no_server_and_no_address() -> None:
    with pytest.raises(RunError, match=r"cannot be asked .*ollama serve"):
        Server("server", place="http://127.0.0.1:9/v1", timeout=2)
    for wrong in ("file:///etc/passwd", "localhost:11434", "http://", "http://[::1", "http://a b/v1"):
        with pytest.raises(ConfigError, match="is no address"):
            Server("server", place=wrong)


def test_pictures_that_leave_this_machine_are_told() -> None:
    away = Server("server", place="http://example.invalid/v1", model="m")
    assert away.about == "m at example.invalid: the pictures leave this machine"
    assert Server("server", place="http://localhost:1/v1", model="m").about == "m at localhost"


def test_a_folder_is_captioned_and_an_error_keeps_what_is_done(server: Answering, tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    words = ["caption", str(tmp_path), "--with", "server", "--model", server.address]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.txt")} == {
        f"{name}.txt": "a red door" for name in "abc"
    }
    server.status = 500
    result = CliRunner().invoke(group, [*words, "--mode", "overwrite"])
    assert isinstance(result.exception, RunError)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a red door"
