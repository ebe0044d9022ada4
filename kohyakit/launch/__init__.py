"""Starting a training in other processes: through accelerate, and with an existing sd-scripts checkout."""
