"""Small LoRA files of every method, family and fault, made by hand and not by kohyakit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]

TEXT = ("self_attn_k_proj", "self_attn_v_proj", "self_attn_q_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")


@dataclass(frozen=True)
class Shape:
    """Widths of a model's U-Net block, of its text states and of its text encoders."""

    unet: int
    context: int
    texts: tuple[int, ...]


REAL = {"sd1": Shape(320, 768, (768,)), "sd2": Shape(320, 1024, (1024,)), "sdxl": Shape(640, 2048, (768, 1280))}
TINY = {"sd1": Shape(16, 32, (32,)), "sdxl": Shape(32, 56, (24, 32))}

ATTENTION = {
    "sd1": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0",
    "sd2": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0",
    "sdxl": "lora_unet_input_blocks_4_1_transformer_blocks_0",
}


def layers(family: str, shape: Shape) -> dict[str, tuple[int, int]]:
    """Name -> outputs and inputs: two layers of the U-Net, six of each text encoder."""
    base = ATTENTION[family]
    side = 4 * shape.unet if shape in TINY.values() else shape.unet
    found = {f"{base}_attn2_to_k": (shape.unet, shape.context), f"{base}_ff_net_2": (shape.unet, side)}
    for number, width in enumerate(shape.texts, start=1):
        prefix = f"lora_te{number if len(shape.texts) > 1 else ''}_text_model_encoder_layers_0"
        inner = 2 * width if shape in TINY.values() else width  # of real models it is four times as wide
        for name in TEXT:
            found[f"{prefix}_{name}"] = (
                (inner, width) if name == "mlp_fc1" else (width, inner) if name == "mlp_fc2" else (width, width)
            )
    return found


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + len(shape)))


def layer(method: str, out: int, inputs: int) -> State:
    """One layer's tensors by their endings, rank 2, alpha 1."""
    pair = {"lora_up.weight": random(out, 2), "lora_down.weight": random(2, inputs), "alpha": torch.tensor(1.0)}
    halves = {"alpha": torch.tensor(1.0)}
    for number in (1, 2):
        halves |= {f"hada_w{number}_a": random(out, 2), f"hada_w{number}_b": random(2, inputs)}
    makers: dict[str, Callable[[], State]] = {
        "lora": lambda: pair,
        "dora": lambda: pair | {"dora_scale": random(1, inputs)},
        "dora out": lambda: pair | {"dora_scale": random(out, 1)},
        "loha": lambda: halves,
        "lokr": lambda: {"lokr_w1": random(2, 2), "lokr_w2": random(out // 2, inputs // 2), "alpha": torch.tensor(2.0)},
        "lokr small": lambda: {"lokr_w1": random(2, 2), "lokr_w2_a": random(out // 2, 2),
                               "lokr_w2_b": random(2, inputs // 2), "alpha": torch.tensor(1.0)},
        "oft": lambda: {"oft_blocks": random(2, out // 2, out // 2) * 1e-6, "alpha": torch.tensor(0.5)},
        "oft free": lambda: {"oft_blocks": random(2, out // 2, out // 2), "alpha": torch.tensor(0.0)},
        "oft bound": lambda: {"oft_blocks": random(2, out // 2, out // 2), "alpha": torch.tensor(0.5)},
        "oft no alpha": lambda: {"oft_blocks": random(2, out // 2, out // 2)},
        "oft_diag": lambda: {"oft_diag": random(2, out // 2, out // 2)},
        "boft": lambda: {"oft_blocks": random(1, 2, out // 2, out // 2), "alpha": torch.tensor(0.0)},
        "glora": lambda: {"a1.weight": random(inputs, 2), "a2.weight": random(2, inputs), "b1.weight": random(out, 2),
                          "b2.weight": random(2, inputs), "alpha": torch.tensor(1.0)},
        "ia3": lambda: {"weight": random(inputs), "on_input": torch.tensor(True)},
        "full": lambda: {"diff": random(out, inputs)},
        "tlora": lambda: {"p_layer.weight": random(out, 2), "q_layer.weight": random(2, inputs),
                          "lambda_layer": random(1, 2), "alpha": torch.tensor(1.0)},
    }  # fmt: skip
    return makers[method]()


def made(family: str, method: str = "lora", *, shape: Shape | None = None) -> State:
    found = layers(family, shape or REAL[family])
    return {
        f"{name}.{ending}": tensor for name, size in found.items() for ending, tensor in layer(method, *size).items()
    }


def renamed(state: State, old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in state.items()}
