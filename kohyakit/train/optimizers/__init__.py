"""Optimizers by sd-scripts' names, or by the dotted name of any class."""

from kohyakit.train.optimizers.build import BuiltOptimizer, build_optimizer, chosen_type
from kohyakit.train.optimizers.recipe import Recipe

__all__ = ["BuiltOptimizer", "Recipe", "build_optimizer", "chosen_type"]
