"""D-Adaptation and Prodigy: they find the learning rate; the rate given is a factor on it and should be 1."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from kohyakit.train.optimizers.recipe import Recipe


def _adaptive(module: str, name: str, settings: dict[str, Any], learning_rate: float) -> Recipe:
    return Recipe(getattr(import_module(module), name), settings, learning_rate)


prodigy = partial(_adaptive, "prodigyopt", "Prodigy")
dadapt_adam_preprint = partial(_adaptive, "dadaptation.experimental", "DAdaptAdamPreprint")
dadapt_adagrad = partial(_adaptive, "dadaptation", "DAdaptAdaGrad")
dadapt_adam = partial(_adaptive, "dadaptation", "DAdaptAdam")
dadapt_adan = partial(_adaptive, "dadaptation", "DAdaptAdan")
dadapt_adan_ip = partial(_adaptive, "dadaptation.experimental", "DAdaptAdanIP")
dadapt_lion = partial(_adaptive, "dadaptation", "DAdaptLion")
dadapt_sgd = partial(_adaptive, "dadaptation", "DAdaptSGD")
