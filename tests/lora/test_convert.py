"""Round trips byte for byte, and the same picture in diffusers from each layout."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.errors import ConfigError
from kohyakit.lora.convert import convert
from kohyakit.models import Model, load_model
from kohyakit.networks.file import save_lora
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    return load_model(base)


def random(name: str, layer: torch.nn.Module) -> None:
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.1)


@pytest.fixture
def kohya(model: Model, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = LoraNetwork.over(model, LoraSettings(dim=4, alpha=3.0, conv_dim=2, conv_alpha=1.0), random)
    save_lora(tmp_path / "kohya.safetensors", network.state_dict(), torch.float16, {"ss_network_dim": "4"})
    return tmp_path / "kohya.safetensors"


@pytest.mark.parametrize("layout", ["diffusers", "peft"])
def test_there_and_back_is_the_same_file_tensor_for_tensor(kohya: Path, tmp_path: Path, layout: str) -> None:
    there, back = tmp_path / ("there" if layout == "peft" else "there.safetensors"), tmp_path / "back.safetensors"
    convert(kohya, there, layout)
    convert(there, back, "kohya")
    before, after = load_file(kohya), load_file(back)
    assert set(after) == set(before)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name


def drawn(base: Path, lora: Path) -> torch.Tensor:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True, model_max_length=77)
    pipeline = StableDiffusionPipeline.from_pretrained(
        base, local_files_only=True, safety_checker=None, tokenizer=tokenizer
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, local_files_only=True)
    torch.manual_seed(3)
    asked = {"width": 64, "height": 64, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    return pipeline("a cat", **asked).images


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fold", [False, True])
def test_diffusers_draws_the_same(base: Path, kohya: Path, tmp_path: Path, fold: bool) -> None:
    whole = tmp_path / "whole.safetensors"
    save_file({name: tensor.float() for name, tensor in load_file(kohya).items()}, whole)
    convert(whole, tmp_path / "there.safetensors", "diffusers", fold_alpha=fold)
    assert (drawn(base, tmp_path / "there.safetensors") - drawn(base, whole)).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_peft_adds_the_same_update(base: Path, kohya: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    convert(kohya, tmp_path / "there", "peft")
    state = load_file(kohya)
    plain = load_model(base).unet
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    merged = PeftModel.from_pretrained(plain, tmp_path / "there/unet").merge_and_unload().state_dict()
    seen = 0
    for name, tensor in merged.items():
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{key}.lora_down.weight" not in state:
            continue
        down, up = (state[f"{key}.lora_{side}.weight"].float() for side in ("down", "up"))
        update = (up.flatten(1) @ down.flatten(1)) * float(state[f"{key}.alpha"]) / len(down)
        assert torch.allclose(tensor - before[name], update.reshape(tensor.shape), atol=1e-4), name
        seen += 1
    assert seen > 100


def test_loha_becomes_plain_with_its_error_told(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {f"{name}.hada_w{n}_{side}": torch.randn(*shape, generator=generator)
               for n in (1, 2) for side, shape in (("a", (10, 2)), ("b", (2, 12)))}  # fmt: skip
    save_file(tensors, tmp_path / "loha.safetensors")
    (exact,) = convert(tmp_path / "loha.safetensors", tmp_path / "4.safetensors", "diffusers", rank=4)
    assert exact.error < 1e-3
    (rough,) = convert(tmp_path / "loha.safetensors", tmp_path / "2.safetensors", "diffusers", rank=2)
    update = (tensors[f"{name}.hada_w1_a"] @ tensors[f"{name}.hada_w1_b"]) * (
        tensors[f"{name}.hada_w2_a"] @ tensors[f"{name}.hada_w2_b"]
    )
    values = torch.linalg.svdvals(update)
    assert rough.error == pytest.approx(float(values[2:].norm() / values.norm()), rel=1e-3)


def test_what_needs_the_base_model_is_refused(tmp_path: Path) -> None:
    save_file({"lora_unet_mid_block_attentions_0_proj_in.oft_blocks": torch.randn(2, 4, 4)}, tmp_path / "o.safetensors")
    with pytest.raises(ConfigError, match="without the base model"):
        convert(tmp_path / "o.safetensors", tmp_path / "x.safetensors", "diffusers")
    assert not (tmp_path / "x.safetensors").exists()
