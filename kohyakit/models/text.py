"""CLIP's text model, with the two things that Stable Diffusion asks of it: early layers and the pooled state."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.dataset.captions.tokens import EOS
from kohyakit.errors import ConfigError, Problem


class TextEncoder(nn.Module):
    """CLIP's text model under the names that files and LoRAs use (`text_model.encoder.layers…`).

    transformers before 5 has that level, 5 has it no more; here it is there with both.
    projection: with the matrix behind the pooled state, as CLIPTextModelWithProjection has it.
    """

    def __init__(self, config: Any, *, projection: bool = False) -> None:
        super().__init__()
        from transformers import CLIPTextModel

        whole = CLIPTextModel(config)
        self.text_model = getattr(whole, "text_model", whole)
        self.config = config
        self._whole = (whole,)  # in a tuple, or it would be registered as a second submodule
        if projection:
            self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, input_ids: Tensor, clip_skip: int | None = None) -> Tensor:
        """input_ids: [batch, 77] -> states [batch, 77, dim], after the final layer norm.

        clip_skip n leaves the last n - 1 layers out, which is hidden state -n with the final norm applied.
        Raises ConfigError for a clip_skip beyond the layers.
        """
        return self._upto(clip_skip or 1)(input_ids=input_ids)[0]

    def hidden_states(self, input_ids: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Hidden state number `layer` (0 is the embedding) without the final norm, and the last one with it.

        input_ids: [batch, 77]. Returns two of [batch, 77, dim]. Raises ConfigError for too few layers.
        """
        count = len(self.text_model.encoder.layers)
        if not -count - 1 <= layer <= count:
            what = f"the text encoder has {count} layers, but this family takes the state after layer {layer}"
            raise ConfigError(Problem("pretrained_model_name_or_path", what, "give a model of this family"))
        found = self.text_model(input_ids=input_ids, output_hidden_states=True)
        return found.hidden_states[layer], found.last_hidden_state

    def pooled(self, last: Tensor, input_ids: Tensor) -> Tensor:
        """The projected state of each row's first end token, [batch, projection_dim].

        last: [batch, 77, dim], after the final norm. Without an end token the first position counts, as in sd-scripts.
        """
        ends = (input_ids == EOS).int().argmax(dim=1)
        rows = last[torch.arange(len(last), device=last.device), ends]
        return self.text_projection(rows.to(self.text_projection.weight.dtype)).to(last.dtype)

    def _upto(self, clip_skip: int) -> nn.Module:
        if clip_skip == 1:
            return self.text_model
        layers = self.text_model.encoder.layers
        if not 1 <= clip_skip <= len(layers):
            what = f"is {clip_skip}, but the text encoder has {len(layers)} layers"
            raise ConfigError(Problem("clip_skip", what, f"choose 1 to {len(layers)}; 2 is usual for anime models"))
        short = _view(self.text_model)
        short.encoder = _view(self.text_model.encoder)
        short.encoder.layers = layers[: len(layers) - clip_skip + 1]
        return short

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in `train()` mode; the inputs need no gradient."""
        whole = self._whole[0]
        name = "activation_checkpointing_enable"  # transformers 5; `gradient_checkpointing_enable` before
        enable = getattr(whole, name, None) or whole.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    @property
    def dtype(self) -> torch.dtype:
        return self.text_model.final_layer_norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.text_model.final_layer_norm.weight.device


def _view(module: nn.Module) -> nn.Module:
    """A module that shares every parameter and submodule, and whose submodules can be replaced alone."""
    view = copy.copy(module)
    view._modules = dict(module._modules)
    return view
