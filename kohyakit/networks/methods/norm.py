"""train_norm: what is added to the weight and the bias of a normalisation (`w_norm`, `b_norm`)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Beside


class NormLayer(Beside):
    """Beside a LayerNorm or a GroupNorm."""

    w_norm: Tensor
    b_norm: Tensor

    def draws(self) -> Iterator[Draw]:
        yield from (Draw(self.w_norm, "zero"), Draw(self.b_norm, "zero"))

    def forward(self, x: Tensor) -> Tensor | None:
        if self.left_out():
            return None
        weight, bias = self.w_norm * self.multiplier, self.b_norm * self.multiplier
        kept = self.kept_rows(weight.shape[0], x.device)
        if kept is not None:
            weight, bias = weight * kept, bias * kept
        layer = self.layer
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)

    def weight_update(self) -> Tensor:
        return self.w_norm

    def bias_update(self) -> Tensor | None:
        return self.b_norm
