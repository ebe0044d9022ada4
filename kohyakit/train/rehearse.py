"""What needs no model to be made is made once before a run's folder is, so that a refusal leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import nn
from torch.nn.utils import skip_init

from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.base import FOR_SAMPLES, lacking
from kohyakit.networks.methods.lora import LoraLayer, LoraNetwork, LoraSettings
from kohyakit.registry.families import MODELS
from kohyakit.train.assemble import make_optimizer, parameter_groups
from kohyakit.train.step.precision import precision_of


def rehearse(config: TrainConfig, steps: int, device: Any) -> None:
    """Precision, optimizer and schedule of this training take a step over a network of two small layers.

    Nothing is drawn at random. Raises ConfigError or MissingExtra as the training itself would.
    """
    training = config.training
    full = training.full_fp16 or training.full_bf16
    precision_of(training.mixed_precision, config.saving.save_precision, full=full, device=device)
    with contextlib.redirect_stdout(io.StringIO()):  # some greet; once is enough
        groups, _ = parameter_groups(config, _network(device))
        built, scheduler = make_optimizer(config, groups, steps)
        schedule = "lr_scheduler_type" if config.optimizer.lr_scheduler_type else "lr_scheduler_args"
        for where, name, part in (("optimizer_args", built.name, built.optimizer), (schedule, "it", scheduler)):
            try:
                part.step()
            except Exception as error:
                what = f"{name} stops at the first step ({(str(error) or type(error).__name__).splitlines()[0]})"
                raise ConfigError(Problem(where, what, "take another, or leave out what it cannot do here")) from error


def look_at_family(config: TrainConfig, *, draws: bool) -> None:
    """Raises ConfigError for a model family of one's own that lacks what this training asks of it.

    draws: whether sample pictures are wanted.
    """
    name = model_family(config.launch.script, v2=config.model.v2)
    if missing := lacking(MODELS.load(name), draws=draws):
        cure = f"write {'it' if len(missing) == 1 else 'them'} as kohyakit/models/sdxl.py does"
        if set(missing) <= set(FOR_SAMPLES):
            cure += ", or take sample_prompts out"
        raise ConfigError(Problem(f"model family {name}", f"it has no {' and no '.join(missing)}", cure))


def _network(device: Any) -> LoraNetwork:
    """Two layers of ones with gradients of ones."""
    settings = LoraSettings(dim=2)
    network = LoraNetwork(settings)
    for name, names in (("text_encoder", network.text_encoder_names), ("unet", network.unet_names)):
        network.add_module(name, LoraLayer(skip_init(nn.Linear, 2, 2), 2, 1.0, settings))
        names.append(name)
    network.to(device)
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.ones_like(parameter)
    return network
