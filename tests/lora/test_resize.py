"""Resizing: ranks and updates against sd-scripts' own results, shares and sizes against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kohyakit.demo.tiny_model import write_tiny_model
from kohyakit.errors import ConfigError
from kohyakit.lora.resize import Shrink, resize


def updates(path: Path) -> dict[str, tuple[int, torch.Tensor]]:
    """(rank, weight update) of each layer, by the formula and not by kohyakit's own."""
    state = load_file(path)
    found = {}
    for key in state:
        if not key.endswith(".lora_down.weight"):
            continue
        name = key.removesuffix(".lora_down.weight")
        down, up = state[key].double(), state[f"{name}.lora_up.weight"].double()
        alpha = float(state.get(f"{name}.alpha", torch.tensor(float(len(down)))))
        found[name] = (len(down), up.flatten(1) @ down.flatten(1) * alpha / len(down))
    return found


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("recorded", "options"),
    [
        ("resize4", {"rule": "rank", "amount": 4}),
        ("resize_fro", {"rule": "sv_fro", "amount": 0.9, "most": 8}),
    ],
)
def test_as_sd_scripts_resizes(goldens: Path, tmp_path: Path, recorded: str, options: dict) -> None:
    source, target = goldens / "training/basic/output/basic.safetensors", tmp_path / "out.safetensors"
    resize(source, target, Shrink(as_sd_scripts=True, **options), dtype=torch.float32)
    theirs, ours = updates(goldens / f"training2/tools/{recorded}.safetensors"), updates(target)
    assert {name: rank for name, (rank, _) in ours.items()} == {name: rank for name, (rank, _) in theirs.items()}
    for name, (_, update) in theirs.items():
        assert (ours[name][1] - update).norm() <= 1e-5 * update.norm(), name
    mine, wanted = metadata(target), metadata(goldens / f"training2/tools/{recorded}.safetensors")
    assert mine["ss_training_comment"] == wanted["ss_training_comment"]
    assert mine["ss_network_dim"] == wanted["ss_network_dim"]


def lora(path: Path, **layers: tuple[torch.Tensor, torch.Tensor, float]) -> Path:
    state = {}
    for name, (up, down, alpha) in layers.items():
        name = f"lora_unet_{name}"
        state |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": torch.tensor(alpha)}
    save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, path)
    return path


def of_values(values: list[float], out: int = 24, inputs: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """up and down whose product has these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(out, len(values), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(inputs, len(values), generator=generator))
    return left * torch.tensor(values), right.T.contiguous()


@pytest.mark.parametrize(
    ("rule", "amount", "rank"),
    [
        ("rank", 2, 2),
        ("sv_ratio", 5.0, 2),  # 8, 4, 1, 0.5: above 8 / 5 = 1.6 are two
        ("sv_ratio", 10.0, 3),
        ("sv_cumulative", 0.5, 1),  # 8 of 13.5 is 0.59
        ("sv_cumulative", 0.9, 3),  # 12 of 13.5 is 0.889, 13 is 0.963
        ("sv_fro", 0.9, 2),  # sqrt(64 / 81.25) is 0.888, sqrt(80 / 81.25) is 0.992
        ("sv_fro", 0.995, 3),
    ],
)
def test_each_rule_keeps_what_it_says(tmp_path: Path, rule: str, amount: float, rank: int) -> None:
    up, down = of_values([8.0, 4.0, 1.0, 0.5])
    source = lora(tmp_path / "a.safetensors", mid_block_attentions_0_proj_in=(up, down, 2.0))
    (done,) = resize(source, tmp_path / "b.safetensors", Shrink(amount, rule))
    assert (done.old_rank, done.new_rank) == (4, rank)
    values = [8.0, 4.0, 1.0, 0.5]
    assert done.kept == pytest.approx((sum(v * v for v in values[:rank]) / 81.25) ** 0.5)
    ((found, update),) = updates(tmp_path / "b.safetensors").values()
    assert found == rank
    assert torch.linalg.svdvals(update)[:rank].tolist() == pytest.approx([v / 2 for v in values[:rank]], rel=1e-5)


def test_a_files_size_is_met_and_the_strongest_directions_stay(tmp_path: Path) -> None:
    strong, weak = of_values([9.0, 8.0, 7.0, 6.0]), of_values([0.4, 0.3, 0.2, 0.1], seed=1)
    source = lora(tmp_path / "a.safetensors", a=(*strong, 4.0), b=(*weak, 4.0))
    one = (24 + 16) * 4
    done = resize(source, tmp_path / "b.safetensors", Shrink(5 * one, "size"))
    assert {layer.name: layer.new_rank for layer in done} == {"lora_unet_a": 4, "lora_unet_b": 1}


def test_directions_are_measured_by_the_base_models_weights(tmp_path: Path) -> None:
    """The same update beside a weight of norm 100 and one of norm 1: its directions are a hundredth as much there."""
    base = write_tiny_model(tmp_path / "tiny")
    place = "mid_block.attentions.0.transformer_blocks.0.attn1.to_"
    file = base / "unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for letter, norm in (("q", 100.0), ("k", 1.0)):
        key = f"{place}{letter}.weight"
        state[key] *= norm / state[key].norm()
    save_file(state, file, {"format": "pt"})
    names = {letter: f"lora_unet_{place}{letter}".replace(".", "_") for letter in "qk"}
    same = of_values([2.0, 0.5, 0.25, 0.125], 32, 32)
    source = lora(
        tmp_path / "a.safetensors", **{name.removeprefix("lora_unet_"): (*same, 4.0) for name in names.values()}
    )

    def ranks(**asked: Any) -> dict[str, int]:
        done = resize(source, tmp_path / "b.safetensors", Shrink(base=base, **asked), overwrite=True)
        return {letter: layer.new_rank for letter, name in names.items() for layer in done if layer.name == name}

    assert ranks(amount=0.2, rule="of_base") == {"q": 1, "k": 3}  # above 20 none but the first, above 0.2 three
    assert ranks(amount=5 * 64 * 4, rule="size") == {"q": 1, "k": 4}  # else they share
    stranger = lora(tmp_path / "c.safetensors", a=(*of_values([1.0]), 1.0))
    with pytest.raises(ConfigError, match="has no layer lora_unet_a"):
        resize(stranger, tmp_path / "d.safetensors", Shrink(0.1, "of_base", base=base))
    assert not (tmp_path / "d.safetensors").exists()


def test_convolutions_have_a_rank_of_their_own(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    up, down = torch.randn(8, 6, 1, 1, generator=generator), torch.randn(6, 4, 3, 3, generator=generator)
    source = lora(tmp_path / "a.safetensors", conv=(up, down, 6.0), line=(*of_values([3.0, 2.0, 1.0]), 3.0))
    done = resize(source, tmp_path / "b.safetensors", Shrink(2, conv_rank=3))
    assert {layer.name: layer.new_rank for layer in done} == {"lora_unet_conv": 3, "lora_unet_line": 2}
    state = load_file(tmp_path / "b.safetensors")
    assert state["lora_unet_conv.lora_down.weight"].shape == (3, 4, 3, 3)
    assert state["lora_unet_conv.lora_up.weight"].shape == (8, 3, 1, 1)


def test_loha_and_lokr_become_plain(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = {f"lora_unet_a.hada_w{n}_{side}": torch.randn(*shape, generator=generator)
               for n in (1, 2) for side, shape in (("a", (10, 2)), ("b", (2, 12)))}  # fmt: skip
    tensors |= {"lora_unet_a.alpha": torch.tensor(1.0)}
    tensors |= {"lora_unet_b.lokr_w1": torch.randn(2, 3, generator=generator),
                "lora_unet_b.lokr_w2": torch.randn(4, 5, generator=generator)}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    resize(tmp_path / "a.safetensors", tmp_path / "b.safetensors", Shrink(8))
    found = updates(tmp_path / "b.safetensors")
    w = {key.rpartition(".")[2]: tensor.double() for key, tensor in tensors.items()}
    hada = (w["hada_w1_a"] @ w["hada_w1_b"]) * (w["hada_w2_a"] @ w["hada_w2_b"]) / 2  # of rank 4 at most
    assert torch.allclose(found["lora_unet_a"][1], hada, atol=1e-5)
    assert torch.allclose(found["lora_unet_b"][1], torch.kron(w["lokr_w1"], w["lokr_w2"]), atol=1e-5)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = lora(tmp_path / "a.safetensors", a=(*of_values([2.0, 1.0]), 2.0))
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        resize(source, source, Shrink(1))
    assert source.read_bytes() == before
