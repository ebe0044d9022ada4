"""An offline walk through everything: made pictures, a tiny base model, a preset, a check, a training."""
