"""Frozen weights in 8 bits and blocks that wait in main memory: held against the same numbers, plainly computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from kohyakit.config.train import TrainConfig
from kohyakit.models import Model, build_meta, load_model
from kohyakit.models.base import ModelSource
from kohyakit.models.frozen.eight_bits import keep_in_8_bits
from kohyakit.models.frozen.waiting import let_wait, transformer_blocks
from kohyakit.models.sdxl import SDXL as SDXL_FAMILY
from kohyakit.networks.methods.lora import LoraLayer, LoraSettings
from kohyakit.planning.size.architecture import SD1, SD2, SDXL
from kohyakit.planning.size.blocks import block_sizes
from kohyakit.planning.size.lora import lora_layers, lora_size
from kohyakit.planning.size.memory import estimate
from kohyakit.train.step.placing import Frozen
from kohyakit.train.step.precision import Precision
from tests.train.tiny_sdxl import TINY_UNET

pytestmark = pytest.mark.slow

HALF = torch.bfloat16
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """SDXL's in miniature, with eleven transformer blocks: 1 and 2 on the way down, 2 in the middle, 4 and 2 up."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**TINY_UNET | {"layers_per_block": 1}).requires_grad_(False)


def rounded(name: str, weight: Tensor, scaled: bool) -> Tensor:
    """What float8_e4m3fn keeps of a tensor, by the formula: 3 bits behind the first, and 2^-9 as the least step.

    scaled: rows of matrices within blocks, each by the least power of two with which 448 is not exceeded.
    """
    numbers = weight.double()
    scale = torch.ones(())
    if scaled:
        if weight.ndim < 2 or not re.search(r"\.\d+\.", name):
            return weight
        largest = numbers.flatten(1).abs().amax(dim=1).clamp(min=2.0**-60)
        scale = 2 ** (largest / 448).log2().ceil().clamp(min=-24).view(-1, *[1] * (weight.ndim - 1))
    numbers = numbers / scale
    step = 2 ** (numbers.abs().clamp(min=2.0**-6).log2().floor() - 3)
    return ((numbers / step).round() * step * scale).to(weight.dtype)


def by_hand(module: nn.Module, scaled: bool) -> nn.Module:
    """A copy with rounded weights in half precision."""
    made = deepcopy(module)
    for name, parameter in made.named_parameters():
        parameter.data = rounded(name, parameter.data, scaled)
    return made.to(HALF)


def packed(module: nn.Module, scaled: bool = True) -> nn.Module:
    made = deepcopy(module)
    keep_in_8_bits(made, HALF, scaled=scaled)
    return made


def forward_and_back(unet: nn.Module) -> list[Tensor]:
    """The prediction, and the gradient of what went in."""
    generator = torch.Generator().manual_seed(1)
    noisy, states, pooled = (torch.randn(*s, generator=generator) for s in ((1, 4, 8, 8), (1, 77, 56), (1, 32)))
    noisy.requires_grad_()
    added = {"text_embeds": pooled.to(HALF), "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]])}
    with torch.autocast("cpu", HALF):
        found = unet(noisy, torch.tensor([500]), states.to(HALF), added_cond_kwargs=added).sample
    found.float().square().mean().backward()
    return [found.detach(), noisy.grad]


@pytest.mark.parametrize("scaled", [True, False])
def test_a_unet_in_8_bits_computes_with_rounded_weights(unet: nn.Module, scaled: bool) -> None:
    ours, theirs = packed(unet, scaled), by_hand(unet, scaled)
    for one, other in zip(forward_and_back(ours), forward_and_back(theirs), strict=True):
        assert torch.equal(one, other)
    for (name, layer), (_, plain) in zip(ours.named_modules(), theirs.named_modules(), strict=True):
        if isinstance(plain, (nn.Linear, nn.Conv2d)):
            assert torch.equal(layer.weight, plain.weight), name


def test_a_scale_for_each_row_loses_less(unet: nn.Module) -> None:
    true = deepcopy(unet)
    for parameter in true.parameters():
        parameter.data *= 0.05  # as small as those of large models are
    errors = []
    for scaled in (True, False):
        pairs = zip(packed(true, scaled).modules(), true.modules(), strict=True)
        errors.append(sum(float((a.weight - b.weight).square().sum()) for a, b in pairs if isinstance(b, nn.Linear)))
    assert errors[0] < 0.7 * errors[1]


def kept_bytes(unet: nn.Module) -> tuple[int, int]:
    """Bytes of the model, and of what autograd keeps of a step."""
    own = {tensor.data_ptr(): tensor.nbytes for tensor in (*unet.parameters(), *unet.buffers())}
    kept = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward_and_back(unet)
    return sum(own.values()), sum(kept.values())


def test_half_of_the_bytes_and_no_unpacked_weights_are_kept_for_the_backward_pass(unet: nn.Module) -> None:
    half, plain = kept_bytes(deepcopy(unet).to(HALF))
    eight, keeps = kept_bytes(packed(unet))
    matrices = [weight for name, weight in unet.named_parameters() if weight.ndim > 1 and re.search(r"\.\d+\.", name)]
    assert eight == half - sum(
        weight.numel() - 2 * len(weight) for weight in matrices
    )  # a byte less, and a scale a row
    assert keeps < plain + 0.1 * eight


def test_packed_layers_stay_packed_in_another_precision_(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    encoder = packed(model.text_encoder)
    bits = {name: buffer.clone() for name, buffer in encoder.named_buffers() if name.endswith("packed")}
    assert bits
    assert not any("embeddings" in name or "final" in name for name in bits)
    encoder.to(torch.float16)
    assert all(torch.equal(dict(encoder.named_buffers())[name], kept) for name, kept in bits.items())
    assert all(parameter.dtype == torch.float16 for parameter in encoder.parameters())


def test_sizes_are_those_of_the_true_models() -> None:
    """Every tensor of the true sizes, on the meta device: of blocks, and what `check` says of a base in 8 bits."""
    for shape in (SD1, SD2, SDXL):
        true = build_meta(shape.family)
        blocks = transformer_blocks(true.unet)
        assert block_sizes(shape.unet) == tuple(sum(p.numel() for p in block.parameters()) for block in blocks)
        tensors = [pair for part in true.parts[:-1] for pair in part.named_parameters()]
        matrices = [p for name, p in tensors if p.ndim > 1 and re.search(r"\.\d+\.", name)]
        size = sum(2 * p.numel() for _, p in tensors) - sum(p.numel() - 2 * len(p) for p in matrices)
        asked = TrainConfig().with_values(mixed_precision="bf16", optimizer_type="AdamW", fp8_base=True)
        told = estimate(asked, shape, lora_size(lora_layers(shape), 4), []).weights - 2 * shape.parameters.vae
        assert told == pytest.approx(size, rel=0.005)


@pytest.mark.parametrize("prepared", [packed, lambda unet: deepcopy(unet).to(HALF)], ids=["8 bits", "half"])
def test_blocks_that_wait_compute_as_if_they_did_not(
    unet: nn.Module, prepared: Callable[[nn.Module], nn.Module]
) -> None:
    expected = forward_and_back(ready(prepared(unet)))
    for count in (1, 4, 100):
        made = prepared(unet)
        assert len(let_wait(made, count, CPU)) == min(count, 11)
        ready(made)
        for one, other in zip(forward_and_back(made), expected, strict=True):
            assert torch.equal(one, other)
    for one, other in zip(forward_and_back(made), expected, strict=True):
        assert torch.equal(one, other)
    for part in made.modules():  # wherever it waits, a weight can be read
        assert not hasattr(part, "weight") or part.weight is None or torch.isfinite(part.weight).all()


def ready(unet: nn.Module) -> nn.Module:
    unet.requires_grad_(False).train().enable_gradient_checkpointing()
    return unet


def test_one_block_computes_and_the_next_is_there_already(unet: nn.Module) -> None:
    """Four of eleven, first forward and then back; and round and round while a picture is drawn."""
    made = deepcopy(unet).to(HALF)
    blocks = transformer_blocks(made)
    waiting = let_wait(made, 4, CPU)
    seen: list[tuple[int, ...]] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda block, inputs: seen.append(waiting.resident))
    forward_and_back(ready(made))
    chosen = (0, 2, 5, 8)  # 11 / 4 = 2.75 apart
    back = list(reversed(seen[len(blocks) :]))
    assert [seen[place] for place in chosen] == [(0, 1), (1, 2), (2, 3), (2, 3)]
    assert [back[place] for place in chosen] == [(0, 1), (0, 1), (1, 2), (2, 3)]
    seen.clear()
    with torch.no_grad():
        forward(made)
        forward(made)
    assert [seen[place] for place in chosen] == [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert seen[len(blocks)] == (0, 1)


def forward(unet: nn.Module) -> None:
    added = {"text_embeds": torch.zeros(1, 32, dtype=HALF), "time_ids": torch.zeros(1, 6)}
    unet(torch.zeros(1, 4, 8, 8, dtype=HALF), 1, torch.zeros(1, 77, 56, dtype=HALF), added_cond_kwargs=added)


def with_lora(unet: nn.Module) -> list[nn.Parameter]:
    """A LoRA beside every linear layer of the blocks; its parameters."""
    layers = [layer for block in transformer_blocks(unet) for layer in block.modules() if isinstance(layer, nn.Linear)]
    found = []
    torch.manual_seed(2)
    for layer in layers:
        adapter = LoraLayer(layer, 2, 1.0, LoraSettings(2))
        nn.init.normal_(adapter.lora_down.weight)
        nn.init.normal_(adapter.lora_up.weight)
        adapter.attach()
        found += adapter.parameters()
    return found


def test_compiled_blocks_that_wait_in_8_bits_give_the_loras_gradients(unet: nn.Module) -> None:
    """By the compiler that changes no bits; eleven blocks of two widths share what is compiled."""
    plain, made = packed(unet), deepcopy(unet)
    expected = with_lora(plain)
    forward_and_back(ready(plain))
    got = with_lora(made)
    asked = {"torch_compile": True, "dynamo_backend": "eager", "blocks_to_swap": 4, "fp8_base": True,
             "gradient_checkpointing": True}  # fmt: skip
    said: list[str] = []
    frozen = Frozen(TrainConfig().with_values(**asked), Precision(HALF, HALF, HALF, None, HALF), CPU,
                    as_sd_scripts=False, train_text_encoder=False)  # fmt: skip
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    frozen.place_unet(Model(SDXL_FAMILY, made, (), nn.Identity(), ModelSource("tiny")), said.append)
    forward_and_back(made)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2
    assert len(got) == len(expected) > 100
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(got, expected, strict=True))
    assert [line[:26] for line in said] == ["4 transformer blocks of 11", "torch_compile: 11 transfor"]
