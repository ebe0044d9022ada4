"""LoRAs of q, k and v that take their input in one product, held against the same ones by themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from diffusers.models.attention import BasicTransformerBlock
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from kohyakit.networks.joined import of_one_input
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.networks.methods.lora_fa import LoraFaNetwork
from kohyakit.train.start import train_network
from tests.train.observers import Losses

WIDTH, CONTEXT = 16, 12
RANKS = {"attn1.to_k": 2, "attn2.to_v": 6}  # of others 4


class Products(TorchDispatchMode):
    """How many products of matrices are made."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += call in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return call(*args, **(kwargs or {}))


class Steps:
    """A transformer block of diffusers in double precision, with LoRAs of random numbers beside all its matrices."""

    def __init__(self, kind: type[LoraNetwork] = LoraNetwork, **settings: Any) -> None:
        torch.manual_seed(0)
        self.block = BasicTransformerBlock(WIDTH, 2, 8, cross_attention_dim=CONTEXT).double().requires_grad_(False)
        self.network = kind(LoraSettings(**settings))
        for name, layer in self.block.named_modules():
            if isinstance(layer, nn.Linear):
                rank = RANKS.get(name, 4)
                own = kind.kind(layer, rank, rank / 2, self.network.settings)
                own.multiplier = 0.7
                self.network.add(f"lora_unet_{name.replace('.', '_')}", own, None)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.network.double().parameters():
            nn.init.normal_(parameter, generator=generator)
        self.network.train_only(self.network.parameter_groups(None, 1.0)[0][0]["params"])
        self.network.attach()

    def __call__(self, *, again: bool = False) -> tuple[Tensor, list[Tensor | None], int, int]:
        """One step: the output, the gradients of input and LoRAs, the products of each way.

        again: it is worked out once more for the way back (gradient checkpointing).
        """
        x, text = (torch.randn(2, 5, width, dtype=torch.float64) for width in (WIDTH, CONTEXT))
        x.requires_grad_()
        self.network.zero_grad(set_to_none=True)
        with Products() as there:
            out = checkpoint(self.block, x, None, text, use_reentrant=False) if again else self.block(x, None, text)
        with Products() as back:
            out.square().sum().backward()
        return out.detach(), [x.grad, *(p.grad for p in self.network.parameters())], there.count, back.count


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize(
    "settings",
    [
        {}, {"scale_low": True}, {"kind": LoraFaNetwork}, {"dropout": 0.3}, {"rank_dropout": 0.4},
        {"module_dropout": 0.5}, {"dropout": 0.2, "rank_dropout": 0.3, "module_dropout": 0.3},
    ],
    ids=lambda settings: " ".join(settings) or "plain",
)  # fmt: skip
def test_outputs_and_gradients_are_those_of_separate_products(settings: dict[str, Any], again: bool) -> None:
    """One that is left out of a step has no gradient, so that no optimizer moves it; the same draws drop the same."""
    plain, joined = Steps(**settings), Steps(**settings)
    assert joined.network.join() == 5
    for seed in range(4):
        found = []
        for steps in (plain, joined):
            torch.manual_seed(seed)
            found.append(steps(again=again))
        (out, grads, *_), (other, others, *_) = found
        assert torch.allclose(other, out, rtol=1e-12, atol=1e-12)
        for grad, own in zip(grads, others, strict=True):
            assert (grad is None) == (own is None)
            assert grad is None or own is None or torch.allclose(own, grad, rtol=1e-9, atol=1e-9 * float(grad.norm()))


def test_three_products_become_one_on_the_way_there_and_six_become_two_back() -> None:
    """And of k and v, whose text is no part of the training, two become one there and one back."""
    counts = []
    for joined in (False, True):
        steps = Steps()
        if joined:
            steps.network.join()
        counts.append(steps()[2:])
    (there, back), (fewer_there, fewer_back) = counts
    assert (there - fewer_there, back - fewer_back) == (2 + 1, 4 + 1)


def test_another_input_for_each_is_no_quicker_and_just_as_right() -> None:
    plain, joined = Steps(), Steps()
    joined.network.join()
    one, other = (torch.randn(1, 3, WIDTH, dtype=torch.float64) for _ in range(2))
    for given in ((one, other, one), (one, one, other), (other, one)):
        for name, x in zip(("to_q", "to_v", "to_k"), given, strict=False):
            expected, found = (steps.block.attn1.get_submodule(name)(x) for steps in (plain, joined))
            assert torch.allclose(found, expected, rtol=1e-12)


def test_who_is_given_the_same_is_told_by_its_name() -> None:
    unet, text = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0", "lora_te1_text_model_encoder_layers_3"
    q, k, v, out = (f"{unet}_attn1_to_{part}" for part in ("q", "k", "v", "out_0"))
    q2, k2, v2 = (f"{unet}_attn2_to_{part}" for part in "qkv")
    text_k, text_v, text_q = (f"{text}_self_attn_{part}_proj" for part in "kvq")
    names = [text_k, text_v, text_q, f"{text}_mlp_fc1", q, k, v, out, q2, k2, v2, "lora_unet_mid_block_attn1_to_q"]
    assert of_one_input(names) == [[text_k, text_v, text_q], [q, k, v], [k2, v2]]


def test_a_training_with_it_is_the_one_without(config_into: Any, tmp_path: Any) -> None:
    """Of U-Net and text encoder, with checkpointing, dropouts and two strengths of blocks."""
    arguments = ["rank_dropout=0.2", "module_dropout=0.2", "block_dims=" + ",".join(["4"] * 12 + ["2"] * 13)]
    common = {
        "max_train_epochs": None, "max_train_steps": 2, "network_dropout": 0.1, "network_args": arguments,
        "gradient_checkpointing": True, "optimizer_type": "SGD",
    }  # fmt: skip
    heard = []
    for name, joined in (("plain", False), ("joined", True)):
        (tmp_path / name).mkdir()
        losses = Losses()
        config = config_into(tmp_path / name, **common, joined_qkv=joined)
        train_network(config, progress=False, echo=lambda text: None, callbacks=[losses])
        heard.append((losses.heard, load_file(tmp_path / name / "out/tiny.safetensors")))
    (plain, theirs), (ours, own) = heard
    assert ours == pytest.approx(plain, rel=1e-6)
    assert own.keys() == theirs.keys()
    assert all(torch.allclose(own[key], theirs[key], rtol=1e-6, atol=1e-7) for key in theirs)
    (log,) = (tmp_path / "joined/out/runs").glob("1*/log.txt")
    assert "share the product with their input" in log.read_text(encoding="utf-8")


def test_it_can_be_compiled_as_a_whole() -> None:
    x, text = (torch.randn(2, 5, width, dtype=torch.float64) for width in (WIDTH, CONTEXT))
    found = []
    for compiled in (False, True):
        steps = Steps()
        block = torch.compile(steps.block, backend="aot_eager", fullgraph=True) if compiled else steps.block
        if compiled:
            steps.network.join()
        block(x, None, text).square().sum().backward()
        found.append([parameter.grad for parameter in steps.network.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_the_time_that_compiling_takes_is_told(config_into: Any, tmp_path: Any) -> None:
    """Once, as the second step has nothing to compile; the compiler is the one that changes no bits."""
    lines: list[str] = []
    values = {"max_train_epochs": None, "max_train_steps": 2, "network_train_unet_only": True, "network_dim": 1}
    config = config_into(tmp_path, **values, torch_compile=True, dynamo_backend="eager")
    train_network(config, progress=False, echo=lines.append)
    (told,) = [line for line in lines if "went into compiling" in line]
    assert re.fullmatch(r"torch_compile: .+ of step 1 went into compiling", told)
