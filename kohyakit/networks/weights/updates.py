"""What a layer of a LoRA file adds to its weight, from the tensors as the file has them: the networks' own formulas.

Sources: sd-scripts 0.10.1 `networks/lora.py`; LyCORIS 3.4 `modules/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kohyakit.networks.methods import boft, dora, glora, loha, lokr, oft, tlora

Tensors = Mapping[str, Tensor]
_ONE = torch.ones(())


@dataclass(frozen=True, slots=True)
class Factors:
    """An update as a product: up [out, rank] (with every scale in it) times down [rank, in × kernel].

    shape: of the weight that it is added to.
    """

    up: Tensor
    down: Tensor
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def matrix(self) -> Tensor:
        return (self.up @ self.down).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Method:
    """How one method's tensors are known and what they add. marks: endings that all must be there.

    update: the tensors -> what is added to the weight, in its shape, or None where the base weight is needed too.
    """

    name: str
    marks: tuple[str, ...]
    update: Callable[[Tensors], Tensor] | None


def scale_of(tensors: Tensors, rank: int) -> float:
    """alpha over rank; 1 without an alpha."""
    alpha = tensors.get("alpha")
    return 1.0 if alpha is None else float(alpha) / rank


def lora_factors(tensors: Tensors) -> Factors:
    """networks.lora and LoCon, with LyCORIS' core tensor (`lora_mid`) where there is one."""
    up, down = tensors["lora_up.weight"].float(), tensors["lora_down.weight"].float()
    rank = down.shape[0]
    if "lora_mid.weight" in tensors:
        middle = tensors["lora_mid.weight"].float()
        down = torch.einsum("mnkl,ni->mikl", middle, down.flatten(1))
    shape = (up.shape[0], *down.shape[1:])
    return Factors(up.flatten(1) * scale_of(tensors, rank), down.flatten(1), shape)


def _lora(tensors: Tensors) -> Tensor:
    return lora_factors(tensors).matrix()


def _loha(tensors: Tensors) -> Tensor:
    found = _floats(tensors)
    return loha.matrix(found) * scale_of(tensors, found["hada_w1_b"].shape[0])


def _lokr(tensors: Tensors) -> Tensor:
    found = _floats(tensors)
    rank = next((found[name].shape[0] for name in ("lokr_w1_b", "lokr_w2_b") if name in found), None)
    return lokr.matrix(found) * (1.0 if rank is None else scale_of(tensors, rank))


def _floats(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tensors.items()}


def _full(tensors: Tensors) -> Tensor:
    return tensors["diff"].float()


def input_width(name: str, tensors: Tensors) -> int:
    """How wide the layer's input is, by the shapes of its tensors; 0 where they do not tell.

    OFT knows only the output, which is as wide as the input in a text encoder's attention.
    """
    mixed = [tensors[end].shape[1] for end in ("a1.weight", "a2.weight") if end in tensors and tensors[end].ndim > 1]
    if mixed:  # GLoRA's, in either order; the other side is the rank
        return max(mixed)
    for ending in ("lora_down.weight", "hada_w1_b", "diff", "q_layer.weight"):
        if ending in tensors and tensors[ending].ndim > 1:
            return tensors[ending].shape[1]
    right = [next((tensors[end].shape[1] for end in (f"lokr_w{number}", f"lokr_w{number}_b")
                   if end in tensors and tensors[end].ndim > 1), 0) for number in (1, 2)]  # fmt: skip
    if all(right):
        return right[0] * right[1]
    if "_te" in name and "weight" in tensors:
        return len(tensors["weight"]) if tensors["weight"].ndim else 0
    blocks = next((tensors[end] for end in ("oft_blocks", "oft_diag") if end in tensors), None)
    return blocks.shape[-3] * blocks.shape[-1] if "_te" in name and blocks is not None and blocks.ndim > 2 else 0


# The order is that of looking: a mark that others share stands last.
METHODS = (
    Method("loha", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), _loha),
    Method("lokr", ("lokr_w1",), _lokr),
    Method("lokr", ("lokr_w1_a", "lokr_w1_b"), _lokr),
    Method("oft", ("oft_blocks",), None),
    Method("oft", ("oft_diag",), None),
    Method("glora", ("a1.weight", "a2.weight", "b1.weight", "b2.weight"), None),
    Method("ia3", ("weight", "on_input"), None),
    Method("tlora", ("p_layer.weight", "q_layer.weight", "lambda_layer"), None),
    Method("full", ("diff",), _full),
    Method("norm", ("w_norm",), None),
    Method("lora", ("lora_up.weight", "lora_down.weight"), _lora),
)


def method_of(tensors: Tensors) -> Method | None:
    """The method whose marks a layer bears; None for a broken or an unknown one."""
    return next((method for method in METHODS if all(mark in tensors for mark in method.marks)), None)


def is_plain(tensors: Tensors) -> bool:
    """Whether a layer is a low-rank pair, of networks.lora or LoCon."""
    method = method_of(tensors)
    return method is not None and method.name == "lora"


def update_of(tensors: Tensors) -> Tensor:
    """What a layer adds to its weight. Raises ValueError for one that needs the weight itself, or is no layer."""
    method = method_of(tensors)
    if method is None or method.update is None:
        raise ValueError("a layer whose update cannot be told from its tensors")
    return method.update(tensors)


# Methods that need the base weight: the axes that their tensors have.
_AXES = {"oft_blocks": (3, 4), "oft_diag": (3, 4), "a1.weight": (2, 4), "a2.weight": (2, 4), "b1.weight": (2, 4),
         "b2.weight": (2, 4), "weight": (1, 4)}  # fmt: skip


def update_size(tensors: Tensors) -> tuple[int, int] | None:
    """Outputs and inputs of what a layer adds, told from shapes alone; None where that needs the base weight.

    Raises ValueError for tensors that make no layer: none at all in one, sizes that do not fit, alphas of many numbers.
    """
    if any(tensor.numel() == 0 for tensor in tensors.values()) or tensors.get("alpha", _ONE).numel() != 1:
        raise ValueError("its tensors make no layer")
    method = method_of(tensors)
    if method is None:
        return None
    if method.update is None:
        if any(tensors[mark].ndim not in _AXES.get(mark, (tensors[mark].ndim,)) for mark in method.marks):
            raise ValueError("its tensors have other axes than their method")
        return None
    bare = {name: tensor if name == "alpha" else tensor.to("meta") for name, tensor in tensors.items()}
    try:
        shape = method.update(bare).shape
    except (RuntimeError, LookupError, TypeError) as error:
        raise ValueError("its tensors do not fit each other") from error
    if len(shape) < 2:
        raise ValueError("its tensors make no matrix")
    return shape[0], shape.numel() // shape[0]


def is_sound(tensors: Tensors) -> bool:
    """Whether a layer's tensors fit each other; one of an unknown kind is not judged."""
    try:
        update_size(tensors)
    except ValueError:
        return False
    return True


# --- what needs the weight that it is added to -----------------------------------------------------


def update_on(tensors: Tensors, base: Tensor, *, native: bool = False) -> Tensor:
    """What a layer adds to this weight [out, in, …], in its shape.

    native: of sd-scripts' own OFT. Raises ValueError where the tensors are for none of this size, or make no layer.
    """
    method = method_of(tensors)
    if method is None or not can_be_placed(tensors):
        raise ValueError("a layer whose update nobody knows")
    try:
        if method.update is None:
            return _ON_BASE[method.name](_floats(tensors), base, native).reshape(base.shape)
        update = method.update(tensors).reshape(base.shape)
        return _lengthened(tensors["dora_scale"].float(), base, update) if "dora_scale" in tensors else update
    except (RuntimeError, IndexError) as error:
        raise ValueError("a layer of another size") from error


def can_be_placed(tensors: Tensors) -> bool:
    """Whether `update_on` knows the layer's kind."""
    method = method_of(tensors)
    if method is None or "oft_diag" in tensors:
        return False
    return method.update is not None or method.name in _ON_BASE


def is_sum(tensors: Tensors) -> bool:
    """Whether the update can be told without the weight: not DoRA's, whose size depends on it, nor OFT's or iA3's."""
    method = method_of(tensors)
    return method is not None and method.update is not None and "dora_scale" not in tensors


def _lengthened(lengths: Tensor, base: Tensor, update: Tensor) -> Tensor:
    """DoRA: [out, 1, …], or [1, in, …], or a vector of the outputs."""
    on_output = lengths.ndim < 2 or lengths.shape[0] > 1
    side = [1] * (base.ndim - 2)
    lengths = lengths.reshape(-1, 1, *side) if on_output else lengths.reshape(1, -1, *side)
    return dora.update(base, update, lengths, 1.0, on_output=on_output)


def _oft(tensors: Tensors, base: Tensor, native: bool) -> Tensor:
    blocks = tensors["oft_blocks"]
    found = oft.rotation(blocks, float(tensors.get("alpha", 0.0)) * len(base), native=native)
    change = boft.turned(base, found) if blocks.ndim == 4 else oft.turned(base, found)
    if "rescale" not in tensors:
        return change
    return tensors["rescale"].reshape(-1, *[1] * (base.ndim - 1)) * (base + change) - base


def _glora(tensors: Tensors, base: Tensor, native: bool) -> Tensor:
    return glora.matrix(tensors, base) * scale_of(tensors, len(tensors["a2.weight"]))


def _tlora(tensors: Tensors, base: Tensor, native: bool) -> Tensor:
    return tlora.matrix(tensors, base) * scale_of(tensors, len(tensors["q_layer.weight"]))


def _ia3(tensors: Tensors, base: Tensor, native: bool) -> Tensor:
    axis = 1 if bool(tensors["on_input"]) else 0
    return base * tensors["weight"].reshape([-1 if place == axis else 1 for place in range(base.ndim)])


_ON_BASE: Mapping[str, Callable[[Tensors, Tensor, bool], Tensor]] = {
    "oft": _oft, "glora": _glora, "ia3": _ia3, "tlora": _tlora,
}  # fmt: skip
