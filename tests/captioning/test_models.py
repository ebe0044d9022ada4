"""BLIP, BLIP-2, GIT, LLaVA, Florence-2: small models of their own classes, saved and loaded as a person's are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from PIL import Image

from kohyakit.captioning.chat import Chat
from kohyakit.captioning.choose import choose
from kohyakit.captioning.describer import Describer
from kohyakit.captioning.florence import Florence
from kohyakit.errors import ConfigError

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location("tiny_captioners", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

PICTURES = [Image.new("RGB", (40, 30), (255, 0, 0)), Image.new("RGB", (20, 50), (0, 0, 255))]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    made = {name: getattr(tiny, name)(place / name) for name in ("blip", "git", "blip2", "llava")}
    return {name.replace("llava", "chat"): folder for name, folder in made.items()}


@pytest.fixture(scope="module")
def florence(tmp_path_factory) -> Path:
    pytest.importorskip("transformers.models.florence2")  # of transformers 5
    return tiny.florence(tmp_path_factory.mktemp("models") / "florence")


@pytest.mark.parametrize("name", ["blip", "blip2", "git"])
def test_each_picture_gets_a_sentence_of_so_many_words(models: dict[str, Path], name: str) -> None:
    captioner = Describer(name, place=str(models[name]), max_tokens=5)
    assert captioner.about == f"{name} ({name}) on the CPU"
    assert captioner.caption(PICTURES) == ["church church church church church"] * 2
    assert captioner.caption(PICTURES[:1]) == ["church church church church church"]


@pytest.mark.parametrize("name", ["blip", "blip2", "git"])
def test_a_sentence_goes_on_from_its_beginning(models: dict[str, Path], name: str) -> None:
    captioner = Describer(name, place=str(models[name]), prompt="a photo of", max_tokens=3)
    assert captioner.caption(PICTURES) == ["a photo of church church church"] * 2


def test_a_chat_answers_with_its_words_alone(models: dict[str, Path]) -> None:
    captioner = Chat("chat", place=str(models["chat"]), prompt="what is this", system="be brief")
    assert captioner.caption(PICTURES) == ["a red door"] * 2
    assert Chat("chat", place=str(models["chat"]), max_tokens=2).caption(PICTURES[:1]) == ["a red"]


def test_a_chat_is_asked_what_was_written(models: dict[str, Path]) -> None:
    """The template of the model itself puts it together: system first, then the picture, then the question."""
    captioner = Chat("chat", place=str(models["chat"]), prompt="what is this", system="be brief")
    asked = []
    whole = captioner._loaded.model.generate
    captioner._loaded.model.generate = lambda **inputs: asked.append(inputs) or whole(**inputs)
    captioner.caption(PICTURES[:1])
    ids = [tiny.CHAT[number] for number in asked[0]["input_ids"][0]]
    assert [word for word in ids if word != "<image>"] == [
        "system", "be", "brief", "user", "what", "is", "this", "assistant",
    ]  # fmt: skip
    assert ids.count("<image>") == 4  # 32 pixels in patches of 16


@pytest.mark.parametrize("options", [{"prompt": "a photo of"}, {"max_tokens": 2}, {"batch_size": 1}])
def test_the_command_gives_its_options_on(models: dict[str, Path], options) -> None:
    for name, folder in models.items():
        captioner = choose(name, place=str(folder), **options)
        assert captioner.caption(PICTURES[:1])[0]
        assert captioner.batch_size == options.get("batch_size", captioner.batch_size)


def test_a_model_of_another_kind_is_named(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"of the kind git, not blip.*--with chat"):
        Describer("blip", place=str(models["git"]))


def test_a_chat_without_a_template_is_refused(tmp_path: Path) -> None:
    folder = tiny.llava(tmp_path / "bare", template=None)
    with pytest.raises(ConfigError, match="has no chat template"):
        Chat("chat", place=str(folder))
    with pytest.raises(ConfigError, match="is not given"):
        Chat("chat")


def _config(folder: Path, **changed) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changed}), encoding="utf-8")


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    folder = tiny.blip(tmp_path / "blip")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Describer("blip", place=str(folder))
    weights.unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Describer("blip", place=str(folder))
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no readable config\.json"):
        Describer("blip", place=str(folder))


def test_code_beside_a_model_never_runs(tmp_path: Path) -> None:
    folder = tiny.llava(tmp_path / "own")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass M: pass\n", encoding="utf-8")
    _config(folder, auto_map={"AutoModelForImageTextToText": "evil.M", "AutoConfig": "evil.M"})
    assert Chat("chat", place=str(folder)).caption(PICTURES[:1]) == ["a red door"]  # transformers' own class
    _config(folder, model_type="mymodel")
    with pytest.raises(ConfigError, match="never run"):
        Chat("chat", place=str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("short", 5), ("long", 9), ("", 10), ("longest", 10), ("<CAPTION>", 5), ("what is this", 3)],
)
def test_florence_is_asked_by_the_length_that_is_wanted(florence: Path, prompt: str, words: int) -> None:
    """Its questions are of 5, 9 and 10 words: `What does the image describe?` for the shortest."""
    captioner = Florence("florence2", place=str(florence), prompt=prompt, max_tokens=4)
    assert captioner.about == "florence2 (florence) on the CPU"
    asked = []
    whole = captioner._loaded.model.generate
    captioner._loaded.model.generate = lambda **inputs: asked.append(inputs) or whole(**inputs)
    assert captioner.caption(PICTURES) == ["church church church church"] * 2
    assert asked[0]["input_ids"].shape == (2, 5 + 1 + words + 1)  # the picture, start, question, end
    assert choose("florence2", place=str(florence), prompt=prompt, max_tokens=1).caption(PICTURES[:1]) == ["church"]


def test_florence_takes_no_other_kind(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="of the kind blip, not florence2"):
        Florence("florence2", place=str(models["blip"]))
