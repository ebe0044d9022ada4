"""LyCORIS' LoRA and LoCon: up times down, with a core tensor between them for convolutions (Tucker)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from kohyakit.networks.base import Draw
from kohyakit.networks.methods.lora import product
from kohyakit.networks.rebuilt import Rebuilt


class LoconLayer(Rebuilt):
    """up(down(x)); the whole matrix is made only where DoRA needs it."""

    folded = ("lora_up.weight",)
    lora_down: nn.Linear
    lora_mid: nn.Linear
    lora_up: nn.Linear

    def draws(self) -> Iterator[Draw]:
        down, up = self.lora_down.weight, self.lora_up.weight
        middle = [self.lora_mid.weight] if hasattr(self, "lora_mid") else []
        for weight in (down, *middle, up):
            yield Draw(weight, kept=False)
        yield Draw(down)
        yield from self.last(up)
        yield from map(Draw, middle)

    def matrix(self) -> Tensor:
        own = self.own()
        return product(own["lora_up.weight"], own["lora_down.weight"], own.get("lora_mid.weight"))

    def forward(self, x: Tensor) -> Tensor | None:
        if self.settings.dora and not self.settings.bypass:
            return super().forward(x)
        if self.left_out():
            return None
        if x.ndim == 4:
            low = self._low_convolved(x)
        else:
            low = F.linear(x, self.lora_down.weight)
        ranks, rows = self._dropped(x, low)
        if ranks is not None:
            low = low * ranks
        up = self.lora_up.weight
        high = F.conv2d(low, up) if x.ndim == 4 else F.linear(low, up)
        high = high * (self.scalar * (self.scale * self.multiplier))
        if rows is not None:
            high = high * rows
        return F.dropout(high, self.settings.dropout, self.training) if self.settings.dropout else high

    def _low_convolved(self, x: Tensor) -> Tensor:
        if hasattr(self, "lora_mid"):
            return self.operation(F.conv2d(x, self.lora_down.weight), self.lora_mid.weight)
        return self.operation(x, self.lora_down.weight)

    def _dropped(self, x: Tensor, low: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Rank dropout: of the ranks with bypass_mode, else of the layer's outputs; each shaped for its tensor."""
        count = self.lora_down.weight.shape[0] if self.settings.bypass else self.lora_up.weight.shape[0]
        kept = self.kept_rows(count, x.device)
        if kept is None:
            return None, None
        kept = kept.view(1, -1, 1, 1) if x.ndim == 4 else kept
        return (kept, None) if self.settings.bypass else (None, kept)
