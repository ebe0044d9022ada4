"""Settings that hold settings: `network_args`, `optimizer_args` and names of code."""
