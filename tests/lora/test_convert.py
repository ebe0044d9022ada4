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


QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def of_one_layer(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    name = f"lora_unet_{QUERY}".replace(".", "_")
    save_file(
        {f"{name}.{ending}": tensor for ending, tensor in tensors.items()}, path, {"ss_network_module": "lycoris"}
    )
    return path


def the_update(path: Path) -> torch.Tensor:
    """up × down × alpha / rank of the one layer there is."""
    state = {key.partition(".")[2]: tensor.double() for key, tensor in load_file(path).items()}
    assert set(state) == {"lora_up.weight", "lora_down.weight", "alpha"}
    down = state["lora_down.weight"]
    return state["lora_up.weight"] @ down * float(state["alpha"]) / len(down)


def test_what_needs_the_base_becomes_plain_on_its_weights(base: Path, tmp_path: Path) -> None:
    """DoRA's formula by hand: the sum of weight and product, each row brought to its length; iA3's: rows scaled."""
    weight = load_file(base / "unet/diffusion_pytorch_model.safetensors")[f"{QUERY}.weight"].double()
    generator = torch.Generator().manual_seed(5)
    up, down = (torch.randn(*shape, generator=generator) * 0.1 for shape in ((32, 2), (2, 32)))
    lengths = torch.rand(32, 1, generator=generator) + 0.5
    dora = of_one_layer(tmp_path / "dora.safetensors", {
        "lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0), "dora_scale": lengths,
    })  # fmt: skip
    for to in ("comfy", "kohya"):
        convert(dora, tmp_path / "plain.safetensors", to, rank=32, base=base, dtype=torch.float32, overwrite=True)
        whole = weight + (up @ down).double()
        wanted = lengths * whole / whole.norm(dim=1, keepdim=True) - weight
        assert torch.allclose(the_update(tmp_path / "plain.safetensors"), wanted, atol=1e-5)
    sizes = torch.rand(32, generator=generator)
    ia3 = of_one_layer(tmp_path / "ia3.safetensors", {"weight": sizes, "on_input": torch.tensor(False)})
    (done,) = convert(ia3, tmp_path / "ia3-plain.safetensors", "comfy", rank=32, base=base, dtype=torch.float32)
    assert (done.method, done.rank) == ("ia3", 32)
    assert torch.allclose(the_update(tmp_path / "ia3-plain.safetensors"), sizes.double()[:, None] * weight, atol=1e-5)
    with pytest.raises(ConfigError, match="--base"):
        convert(ia3, tmp_path / "none.safetensors", "comfy")


def test_for_comfy_what_it_reads_stays_byte_for_byte(kohya: Path, tmp_path: Path) -> None:
    convert(kohya, tmp_path / "comfy.safetensors", "comfy")
    before, after = load_file(kohya), load_file(tmp_path / "comfy.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
