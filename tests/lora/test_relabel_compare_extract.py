"""Metadata changed with weights untouched; two files beside each other; the difference of two models."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.errors import ConfigError
from kohyakit.lora.compare import compare
from kohyakit.lora.extract import Kept, extract
from kohyakit.lora.inspect import inspect
from kohyakit.lora.relabel import set_metadata, strip
from kohyakit.networks.file import save_lora

NAME = "lora_unet_down_blocks_0_attentions_0_proj_in"


def write(path: Path, up: torch.Tensor, down: torch.Tensor, name: str = NAME, **metadata: str) -> Path:
    alpha = torch.tensor(float(len(down)))
    state = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": alpha}
    save_lora(path, state, None, {"ss_network_dim": str(len(down)), **metadata})
    return path


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    return write(
        tmp_path / "a.safetensors", torch.randn(600, 8, generator=generator), torch.randn(8, 600, generator=generator),
        ss_dataset_dirs=json.dumps({"10_secret dog": {"n_repeats": 10}}), ss_output_name="/home/me/dog",
    )  # fmt: skip


def data(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + int.from_bytes(raw[:8], "little") :]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def test_strip_takes_the_words_and_leaves_the_weights(lora: Path, tmp_path: Path) -> None:
    assert inspect(lora).gives_away
    gone = strip(lora, tmp_path / "b.safetensors")
    assert set(gone) == {"ss_dataset_dirs", "ss_output_name"}
    assert data(tmp_path / "b.safetensors") == data(lora)
    assert set(metadata(tmp_path / "b.safetensors")) == {"ss_network_dim", "sshs_model_hash", "sshs_legacy_hash"}
    assert inspect(tmp_path / "b.safetensors").gives_away == ()
    assert not inspect(tmp_path / "b.safetensors").findings
    strip(lora, tmp_path / "c.safetensors", everything=True)
    assert metadata(tmp_path / "c.safetensors") == {}


def test_hashes_are_kohyas(lora: Path, tmp_path: Path) -> None:
    """As save_lora writes them, which recorded files prove; and by their definition."""
    set_metadata(lora, tmp_path / "b.safetensors", {})
    assert metadata(tmp_path / "b.safetensors") == metadata(lora)
    assert metadata(lora)["sshs_model_hash"] == hashlib.sha256(data(lora)).hexdigest()


@pytest.mark.shared
def test_hashes_of_a_recorded_file_stay(goldens: Path, tmp_path: Path) -> None:
    source = goldens / "training2/sdxl_basic/output/sdxl_basic.safetensors"
    set_metadata(source, tmp_path / "b.safetensors", {})
    assert metadata(tmp_path / "b.safetensors")["sshs_model_hash"] == metadata(source)["sshs_model_hash"]
    assert not [problem for problem in inspect(source).findings if problem.name == "hash_untrue"]


def test_set_changes_adds_and_removes(lora: Path, tmp_path: Path) -> None:
    found = set_metadata(lora, tmp_path / "b.safetensors", {"modelspec.title": "Größe ☕", "ss_output_name": None})
    assert found["modelspec.title"] == "Größe ☕"
    assert metadata(tmp_path / "b.safetensors")["modelspec.title"] == "Größe ☕"
    assert "ss_output_name" not in metadata(tmp_path / "b.safetensors")
    assert data(tmp_path / "b.safetensors") == data(lora)
    with pytest.raises(ConfigError, match="is there already"):
        set_metadata(lora, lora, {})


def test_an_untrue_hash_is_told(lora: Path, tmp_path: Path) -> None:
    raw = bytearray(lora.read_bytes())
    raw[-1] ^= 1
    (tmp_path / "b.safetensors").write_bytes(raw)
    assert "hash_untrue" in {problem.name for problem in inspect(tmp_path / "b.safetensors").findings}


def test_compare_measures_by_definition(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    one = [torch.randn(*shape, generator=generator) for shape in ((20, 3), (3, 30))]
    two = [torch.randn(*shape, generator=generator) for shape in ((20, 2), (2, 30))]
    first = write(tmp_path / "a.safetensors", *one, ss_seed="1")
    second = write(tmp_path / "b.safetensors", *two, ss_seed="2")
    found = compare(first, second)
    a, b = one[0] @ one[1], two[0] @ two[1]
    assert found.whole.first == pytest.approx(float(a.norm()), rel=1e-5)
    assert found.whole.second == pytest.approx(float(b.norm()), rel=1e-5)
    assert found.whole.cosine == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-5)
    assert [block.block for block in found.blocks] == ["down 0", "all"]
    assert found.settings == {"ss_network_dim": ("3", "2"), "ss_seed": ("1", "2")}


def test_the_same_and_the_opposite(tmp_path: Path) -> None:
    up, down = torch.randn(20, 3, generator=torch.Generator().manual_seed(2)), torch.randn(3, 30)
    first = write(tmp_path / "a.safetensors", up, down)
    same, opposite = write(tmp_path / "b.safetensors", up, down), write(tmp_path / "c.safetensors", -up, down)
    apart = write(tmp_path / "d.safetensors", up, torch.linalg.svd(down, full_matrices=True)[2][10:13].contiguous())
    assert compare(first, same).whole.cosine == pytest.approx(1, abs=1e-6)
    assert compare(first, same).whole.shared == pytest.approx(1, abs=1e-6)
    assert compare(first, same).strength_where_they_fight() == pytest.approx(0.5, abs=1e-4)
    assert compare(first, opposite).whole.cosine == pytest.approx(-1, abs=1e-6)
    assert compare(first, opposite).strength_where_they_fight() is None
    assert compare(first, apart).whole.shared == pytest.approx(0, abs=1e-6)
    other = write(tmp_path / "e.safetensors", up, down, name="lora_unet_mid_block_x")
    with pytest.raises(ConfigError, match="no layer in common"):
        compare(first, other)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def test_what_a_lora_added_is_found_again(base: Path, tmp_path: Path) -> None:
    """A model with a known update of rank 2 in one layer: the LoRA of the difference is that update."""
    tuned = tmp_path / "tuned"
    shutil.copytree(base, tuned)
    file = tuned / "unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    generator = torch.Generator().manual_seed(4)
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    update = torch.randn(32, 2, generator=generator) @ torch.randn(2, 32, generator=generator) * 0.1
    save_file(state | {key: state[key] + update}, file, {"format": "pt"})
    (layer,) = extract(tuned, base, tmp_path / "lora.safetensors", Kept(rank=2), dtype=torch.float32)
    assert layer.name == "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert layer.kept == pytest.approx(1.0, abs=1e-4)
    found = load_file(tmp_path / "lora.safetensors")
    product = found[f"{layer.name}.lora_up.weight"] @ found[f"{layer.name}.lora_down.weight"]
    assert torch.allclose(product, update, atol=1e-5)
    (half,) = extract(tuned, base, tmp_path / "one.safetensors", Kept(rank=1), dtype=torch.float32)
    values = torch.linalg.svdvals(update)
    assert half.kept == pytest.approx(float(values[0] / values.norm()), rel=1e-3)
    with pytest.raises(ConfigError, match="does not differ"):
        extract(base, base, tmp_path / "none.safetensors")
