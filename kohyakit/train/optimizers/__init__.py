"""Optimizers by sd-scripts' names, or by the dotted name of any class, and the schedules of their rates."""
