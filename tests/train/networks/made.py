"""LyCORIS' layers of random numbers beside a frozen layer, and configs that ask for them."""

from __future__ import annotations

import torch
from torch import nn

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.train import TrainConfig
from kohyakit.networks.base import Adapter
from kohyakit.planning.size.layers import Layer, Target
from kohyakit.registry.networks import ALGORITHMS

IN, OUT = 12, 24
PLACES = {
    "linear": (0, lambda: nn.Linear(IN, OUT), (2, 3, IN)),
    "conv 1x1": (1, lambda: nn.Conv2d(IN, OUT, 1), (2, IN, 5, 5)),
    "conv 3x3": (3, lambda: nn.Conv2d(IN, OUT, 3, stride=2, padding=1), (2, IN, 6, 6)),
}
KINDS = {
    "lora": {"algo": "lora"}, "lora tucker": {"algo": "lora", "tucker": True},
    "lora scalar": {"algo": "lora", "scalar": True}, "loha": {"algo": "loha"},
    "loha tucker": {"algo": "loha", "tucker": True}, "lokr": {"algo": "lokr"},
    "lokr factor": {"algo": "lokr", "factor": 2, "dim": 1},
    "lokr both": {"algo": "lokr", "decompose_both": True, "dim": 1, "factor": 3},
    "lokr full": {"algo": "lokr", "full_matrix": True},
    "lokr tucker": {"algo": "lokr", "tucker": True, "factor": 1, "dim": 3},
    "lora rs": {"algo": "lora", "rs_lora": True},
    "full": {"algo": "full"}, "ia3": {"algo": "ia3"}, "ia3 on inputs": {"algo": "ia3", "on_input": True},
    "dylora": {"algo": "dylora", "group": 1}, "glora": {"algo": "glora"},
    "glora scalar": {"algo": "glora", "scalar": True}, "dylora native": {"algo": "dylora", "group": 1, "native": True},
    "oft": {"algo": "diag-oft", "dim": 3}, "oft bound": {"algo": "diag-oft", "dim": 3, "constraint": 1e-2},
    "oft rescaled": {"algo": "diag-oft", "dim": 3, "rescaled": True, "constraint": 1e-2},
    "oft native": {"algo": "diag-oft", "dim": 3, "constraint": 1e-2, "native": True},
    "boft": {"algo": "boft", "dim": 6}, "boft rescaled": {"algo": "boft", "dim": 6, "rescaled": True},
    "boft bound": {"algo": "boft", "dim": 6, "constraint": 1e-2},
    "tlora": {"algo": "tlora"}, "tlora last": {"algo": "tlora", "vectors": "last"},
    "dora": {"algo": "lora", "dora": True}, "dora on inputs": {"algo": "loha", "dora": True, "dora_on_output": False},
}  # fmt: skip


def settings_of(**values) -> AdapterSettings:
    given = {"dim": 2, "alpha": 3.0, **values}
    return AdapterSettings(**given, conv_dim=given["dim"], conv_alpha=given["alpha"])


def made(kind: str, place: str, **more) -> tuple[Adapter, nn.Module, torch.Tensor]:
    """An adapter of random numbers beside a frozen layer, and an input."""
    torch.manual_seed(4)
    kernel, make, shape = PLACES[place]
    layer = make().requires_grad_(False)
    settings = settings_of(**{**KINDS[kind], **more})
    target = Target("lora_unet_a_to_out", 0, "a.to_out", Layer("a.to_out", IN, OUT, kernel))
    adapter = ALGORITHMS.load(settings.algo)(layer, target, settings)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, 0.5, 0.3)
    return adapter, layer, torch.randn(shape)


NEEDS = {"dylora": ("block_size=1",)}  # beside a rank of 2


def config_of(algo: str, *args: str, **values) -> TrainConfig:
    return TrainConfig().with_values(
        network_module="lycoris.kohya", network_dim=2, network_alpha=1.0, network_args=(f"algo={algo}", *args), **values
    )


def strong(name: str, layer: nn.Module) -> None:
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.1)
