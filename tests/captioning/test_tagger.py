"""Taggers: pixels and tags against references stated here, on a real ONNX model made in the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kohyakit.captioning.tagger import KINDS, Tag, Tagger, TagRules, chosen, prepare
from kohyakit.errors import ConfigError

TAGS = [("general", "9"), ("sensitive", "9"), ("questionable", "9"), ("explicit", "9"), ("blue_sky", "0"), ("^_^", "0"),
        ("red_door", "0"), ("saint_mary_(statue)", "4")]  # fmt: skip


def write_model(folder: Path, *, channels_first: bool = False, logits: bool = False, batch: object = "N") -> Path:
    """A model that answers each tag with a weighted mean of the channels, and the list of its tags."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = [batch, 3, 448, 448] if channels_first else [batch, 448, 448, 3]
    axes = [2, 3] if channels_first else [1, 2]
    weights = np.zeros((3, len(TAGS)), np.float32)
    weights[0, 4] = weights[2, 6] = 1 / 255.0  # the first channel is blue sky, the third a red door
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]
    bias = np.array([0.1, 0.7, 0.1, 0.1, 0, 0.5, 0, 0.9], np.float32)
    graph = helper.make_graph(
        nodes, "tagger", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, len(TAGS)])],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes"), numpy_helper.from_array(weights, "w"),
         numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / ("model_optimized.onnx" if logits else "model.onnx"))
    rows = ["tag_id,name,category,count", *(f"{i},{name},{category},1" for i, (name, category) in enumerate(TAGS))]
    (folder / "selected_tags.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_pixels_are_bgr_on_white_and_of_the_models_size() -> None:
    """A red picture twice as wide as high: white above and below, red last of three."""
    pixels = prepare(Image.new("RGB", (448, 224), (255, 0, 0)), 448, KINDS["wd-eva02"])
    assert pixels.shape == (448, 448, 3)
    assert pixels.dtype == np.float32
    assert (pixels[:112] == 255).all()
    assert (pixels[336:] == 255).all()
    assert (pixels[112:336] == [0, 0, 255]).all()


def test_pixels_against_the_reference_of_the_models_author() -> None:
    """SmilingWolf's own steps, written down: white square, bicubic, RGB to BGR, float32."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 517, 3), dtype=np.uint8)
    square = np.full((517, 517, 3), 255, np.uint8)
    square[108:408] = noise
    wanted = np.asarray(Image.fromarray(square).resize((448, 448), Image.Resampling.BICUBIC))[:, :, ::-1]
    assert (prepare(Image.fromarray(noise), 448, KINDS["wd-eva02"]) == wanted).all()


def test_channels_first_and_signed() -> None:
    pixels = prepare(Image.new("RGB", (448, 448), (255, 0, 51)), 448, KINDS["pixai"])
    assert pixels.shape == (3, 448, 448)
    assert pixels[:, 0, 0].tolist() == pytest.approx([1.0, -1.0, -0.6])
    assert prepare(Image.new("RGB", (8, 8), (255, 0, 51)), 448, KINDS["cl"])[:, 0, 0].tolist() == pytest.approx(
        [-0.6, -1.0, 1.0]
    )


def test_a_real_model_names_what_it_sees(tmp_path: Path) -> None:
    tagger = Tagger("wd-eva02", place=str(write_model(tmp_path / "m")))
    blue, red = Image.new("RGB", (64, 64), (20, 20, 250)), Image.new("RGB", (64, 64), (250, 20, 20))
    assert tagger.caption([blue, red]) == ["blue sky, ^_^, saint mary (statue)", "red door, ^_^, saint mary (statue)"]
    assert tagger.about.endswith("on the CPU")


@pytest.mark.parametrize("batch", [1, 4])
def test_an_export_of_a_fixed_batch(tmp_path: Path, batch: int) -> None:
    tagger = Tagger("wd-eva02", place=str(write_model(tmp_path / "m", batch=batch)))
    assert tagger.batch_size == batch
    (said,) = tagger.caption([Image.new("RGB", (64, 64), (20, 20, 250))])
    assert said.startswith("blue sky")


def test_logits_become_probabilities(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", channels_first=True, logits=True)
    mapping = {str(i): {"tag": name, "category": {"9": "Rating", "0": "General", "4": "Character"}[kind]}
               for i, (name, kind) in enumerate(TAGS)}  # fmt: skip
    (folder / "tag_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    tagger = Tagger("cl", place=str(folder))
    (row,) = tagger.scores([Image.new("RGB", (448, 448), (0, 0, 0))])
    # black is -1 in each channel: -1/255 + bias, through 1 / (1 + exp(-x))
    assert row[4] == pytest.approx(1 / (1 + np.exp(1 / 255)), rel=1e-5)
    assert row[7] == pytest.approx(1 / (1 + np.exp(-0.9)), rel=1e-5)


SCORES = [0.1, 0.8, 0.05, 0.05, 0.5, 0.36, 0.4, 0.9]
LIST = tuple(Tag(name, {"9": "rating", "0": "general", "4": "character"}[kind]) for name, kind in TAGS)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (TagRules(), "blue sky, red door, ^_^, saint mary (statue)"),
        (TagRules(general_threshold=0.45), "blue sky, saint mary (statue)"),
        (TagRules(character_threshold=0.95), "blue sky, red door, ^_^"),
        (TagRules(rating="first"), "sensitive, blue sky, red door, ^_^, saint mary (statue)"),
        (TagRules(rating="last"), "blue sky, red door, ^_^, saint mary (statue), sensitive"),
        (TagRules(characters_first=True), "saint mary (statue), blue sky, red door, ^_^"),
        (TagRules(keep_underscores=True), "blue_sky, red_door, ^_^, saint_mary_(statue)"),
        (TagRules(undesired=frozenset({"blue_sky", "RED DOOR"})), "^_^, saint mary (statue)"),
        (TagRules(replacements={"blue sky": "sky"}), "sky, red door, ^_^, saint mary (statue)"),
        (TagRules(categories=("general",)), "blue sky, red door, ^_^"),
    ],
)
def test_every_rule_acts(rules: TagRules, expected: str) -> None:
    assert ", ".join(chosen(SCORES, LIST, KINDS["wd-eva02"], rules)) == expected


def test_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "selected_tags.csv").write_text("tag_id,name,category\n1,a,0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="gives 8 scores, but the list has 1 tags"):
        Tagger("wd-eva02", place=str(folder)).caption([Image.new("RGB", (8, 8))])
    (folder / "selected_tags.csv").write_text("something else", encoding="utf-8")
    with pytest.raises(ConfigError, match="no tags"):
        Tagger("wd-eva02", place=str(folder))
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="onnxruntime cannot open it"):
        Tagger("wd-eva02", place=str(folder))
    (folder / "model.onnx").unlink()
    with pytest.raises(ConfigError, match=r"holds no model\.onnx"):
        Tagger("wd-eva02", place=str(folder))
    with pytest.raises(ConfigError, match=r"not in the local cache.*--download"):
        Tagger("wd-eva02")
