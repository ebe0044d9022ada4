"""A LoRA file's layers: their names, their factors, their updates."""
